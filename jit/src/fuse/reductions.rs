//! The order of a reduction, and the division of long ones.
//!
//! **The order in which a reduction adds depends on the shape of its operand and on the reduced axes alone.** Where at
//! least [`COLUMNS`] elements lie behind the last reduced axis, each of these columns adds in ascending order. Elsewhere
//! there are [`PARTIALS`] partial results, by the position along the last reduced axis, each of which adds in ascending
//! order; then they are combined. `loops` obeys this whatever else a kernel computes.
//!
//! So the error of a sum would grow with its length. A long reduction is several short ones: of the elements of each of
//! its pieces, then of what these gave, and so on. A large reduction is divided too, so that threads share it by chunks.
//! In both the shape decides.

use super::kernel::Dim;
use super::normalise::Emit;
use crate::graph::{BinaryOp, Op, ReduceOp, ValueId};
use crate::types::{Axes, product};

/// How many partial results an interleaved reduction keeps.
pub const PARTIALS: usize = 16;

/// From so many elements behind the last reduced axis on they are columns.
const COLUMNS: usize = 4;

/// A shorter last axis would leave most of the partial results unused: it is joined with the axis before it.
const SHORT: usize = PARTIALS / 2;

/// The most elements that one partial result adds up. Rows of so many are not divided, so that what comes before and
/// after stays in their kernel. Where there is one result alone, or what is added up are results of pieces, it is less.
const LONGEST: usize = 512;
const LONGEST_ALONE: usize = 64;

/// How much one partial result of a piece adds up. Of ten million equal numbers a sum is right to five units in the last
/// place so (128 and 512 in place of these two: to fifty).
const CUT: usize = 32;

/// A reduction is divided between threads if it takes so many elements in all and for each result; and if it has one
/// result, from so many on.
const ELEMENTS: usize = 1 << 13;
const PER_RESULT: usize = 128;
const ONE_RESULT: usize = 1 << 11;

/// Into so many chunks, at least and at most: as few of these as can be, or as many where there are many elements.
const CHUNKS: std::ops::RangeInclusive<usize> = 8..=64;
const FEW_CHUNKS: usize = 16;
const MANY_ELEMENTS: usize = 1 << 15;

/// How a reduction adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each result in ascending order.
    Ascending,
    /// In [`PARTIALS`] partial results, by the position along this dimension modulo their number.
    Interleaved(usize),
}

impl Order {
    /// The order over dimensions (outermost first) of which some are reduced. It is the same with or without unit
    /// dimensions, and whether or not neighbours that are not reduced count as one.
    pub fn of(dims: &[Dim]) -> Order {
        let last = dims.iter().rposition(|d| d.reduced && d.extent != 1);
        let last = last.or(dims.iter().rposition(|d| d.reduced)).unwrap_or(0);
        let behind = product(dims.iter().skip(last + 1).map(|d| d.extent));
        if behind >= COLUMNS { Order::Ascending } else { Order::Interleaved(last) }
    }

    /// May the reduced dimension `d` and the reduced one behind it, of this extent, count as one?
    pub fn may_join(self, d: usize, extent: usize) -> bool {
        self != Order::Interleaved(d + 1) || extent.is_multiple_of(PARTIALS)
    }
}

impl Emit<'_> {
    /// A reduction, as one or several.
    pub(super) fn reduce(&mut self, op: ReduceOp, axes: &[usize], x: ValueId) -> ValueId {
        let ty = self.ty(x);
        let kept: Axes = (0..ty.rank()).filter(|axis| !axes.contains(axis)).map(|axis| ty.shape[axis]).collect();
        if axes.iter().any(|&axis| ty.shape[axis] == 0) {
            return self.full(op.identity(ty.dtype), &kept);
        }
        let shape = Shape::new(&ty.shape, axes);
        // Unit axes are in the way of nothing, but of reading this.
        let plain = self.reshape(x, &shape.extents());
        let result = self.reduce_plain(op, plain, shape, LONGEST);
        self.reshape(result, &kept)
    }

    /// A reduction whose operand has the axes of `shape`, of which one partial result adds up at most `longest`.
    fn reduce_plain(&mut self, op: ReduceOp, x: ValueId, shape: Shape, longest: usize) -> ValueId {
        let shape = shape.joined();
        let longest = if shape.is_whole() { longest.min(LONGEST_ALONE) } else { longest };
        let x = self.reshape(x, &shape.extents());
        if shape.axes().is_empty() {
            return x;
        }
        if let Some((axis, chunks)) = shape.chunks() {
            return self.in_chunks(op, x, &shape, axis, (chunks, shape.0[axis].extent / chunks), longest);
        }
        if shape.adds() <= longest {
            return self.push(Op::Reduce(op, shape.axes()), &[x]);
        }
        let (axis, within) = shape.cut();
        let extent = shape.0[axis].extent;
        let (chunks, rest) = (extent / within, extent % within);
        if rest == 0 {
            return self.in_chunks(op, x, &shape, axis, (chunks, within), longest);
        }
        let mut part = |range: std::ops::Range<usize>| {
            let mut dims = shape.0.clone();
            dims[axis].extent = range.len();
            let shape = Shape::of(dims);
            let x = self.slice(x, axis, range);
            let x = self.reshape(x, &shape.extents());
            self.reduce_plain(op, x, shape, longest)
        };
        let results = [part(0..extent - rest), part(extent - rest..extent)];
        self.push(Op::Binary(both(op)), &results)
    }

    /// First within each of the chunks of `axis` (and over the reduced axes behind), then over the chunks (and the
    /// reduced axes before).
    fn in_chunks(
        &mut self,
        op: ReduceOp,
        x: ValueId,
        shape: &Shape,
        axis: usize,
        (chunks, within): (usize, usize),
        longest: usize,
    ) -> ValueId {
        let (mut first, mut second) = (shape.0.clone(), Vec::new());
        for (a, dim) in shape.0.iter().enumerate() {
            if a < axis {
                first[a].reduced = false;
                second.push(*dim);
            } else if a == axis {
                second.push(Dim { extent: chunks, reduced: true });
            } else if !dim.reduced {
                second.push(*dim);
            }
        }
        first.splice(axis..=axis, [Dim { extent: chunks, reduced: false }, Dim { extent: within, reduced: true }]);
        let first = Shape::of(first);
        let x = self.reshape(x, &first.extents());
        let partial = if first.adds() <= longest {
            self.push(Op::Reduce(op, first.axes()), &[x])
        } else {
            self.reduce_plain(op, x, first, longest)
        };
        let second = Shape::of(second);
        let partial = self.reshape(partial, &second.extents());
        self.reduce_plain(op, partial, second, LONGEST_ALONE)
    }
}

/// The op that a step of a reduction is.
fn both(op: ReduceOp) -> BinaryOp {
    match op {
        ReduceOp::Sum => BinaryOp::Add,
        ReduceOp::Prod => BinaryOp::Mul,
        ReduceOp::Max => BinaryOp::Max,
        ReduceOp::Min => BinaryOp::Min,
        ReduceOp::And => BinaryOp::And,
        ReduceOp::Or => BinaryOp::Or,
    }
}

/// The axes of an operand, without those of extent 1, and which of them are reduced.
#[derive(Clone, Debug)]
struct Shape(Vec<Dim>);

impl Shape {
    fn new(extents: &[usize], axes: &[usize]) -> Shape {
        let dim = |(axis, &extent): (usize, &usize)| Dim { extent, reduced: axes.contains(&axis) };
        Shape::of(extents.iter().enumerate().map(dim).collect())
    }

    fn of(mut dims: Vec<Dim>) -> Shape {
        dims.retain(|d| d.extent != 1);
        Shape(dims)
    }

    fn extents(&self) -> Axes {
        self.0.iter().map(|d| d.extent).collect()
    }

    fn axes(&self) -> Axes {
        (0..self.0.len()).filter(|&axis| self.0[axis].reduced).collect()
    }

    /// The product of the extents of those axes.
    fn product(&self, which: impl Fn(usize, &Dim) -> bool) -> usize {
        product(self.0.iter().enumerate().filter(|(axis, d)| which(*axis, d)).map(|(_, d)| d.extent))
    }

    /// Is there nothing but one result?
    fn is_whole(&self) -> bool {
        self.0.iter().all(|d| d.reduced)
    }

    /// With the last reduced axes as one, where a partial result for each position along the last would not do: it is
    /// short, or everything is reduced to one result. (Where the last axis is a multiple of their number, it makes no
    /// difference.)
    fn joined(mut self) -> Shape {
        while let Order::Interleaved(last) = Order::of(&self.0)
            && last > 0
            && self.0[last - 1].reduced
            && self.0[last].reduced
            && !self.0[last].extent.is_multiple_of(PARTIALS)
            && (self.0[last].extent < SHORT || self.is_whole())
        {
            self.0[last - 1].extent *= self.0[last].extent;
            self.0.remove(last);
        }
        self
    }

    /// How many elements go into one partial result, of those in axis `first` and behind.
    fn adds_from(&self, first: usize) -> usize {
        let order = Order::of(&self.0);
        let adds = |(axis, d): (usize, &Dim)| match order {
            Order::Interleaved(last) if axis == last => d.extent.div_ceil(PARTIALS),
            Order::Interleaved(_) | Order::Ascending => d.extent,
        };
        product(self.0.iter().enumerate().filter(|(axis, d)| *axis >= first && d.reduced).map(adds))
    }

    fn adds(&self) -> usize {
        self.adds_from(0)
    }

    /// The chunks in which threads share the reduction: an axis, and into how many chunks it is divided; each position
    /// along the reduced axes before it is a chunk of its own.
    fn chunks(&self) -> Option<(usize, usize)> {
        let (elements, per_result) = (self.product(|_, _| true), self.product(|_, d| d.reduced));
        let large = match Order::of(&self.0) {
            _ if self.is_whole() => elements >= ONE_RESULT,
            Order::Ascending => elements >= ELEMENTS && per_result >= PER_RESULT,
            Order::Interleaved(_) => false,
        };
        if !large || self.adds() > LONGEST * CHUNKS.end() {
            return None;
        }
        let mut before = 1;
        for axis in self.axes() {
            let extent = self.0[axis].extent;
            let fits = |chunks: &usize| extent.is_multiple_of(*chunks) && CHUNKS.contains(&(before * chunks));
            let chunks = if elements >= MANY_ELEMENTS {
                (1..=CHUNKS.end() / before).rev().find(fits)
            } else {
                (1..=CHUNKS.end() / before).find(|chunks| fits(chunks) && before * chunks >= FEW_CHUNKS)
            };
            if let Some(chunks) = chunks
                && before * chunks < per_result
            {
                return Some((axis, chunks));
            }
            before *= extent;
            if before > *CHUNKS.end() {
                return None;
            }
        }
        None
    }

    /// Where to cut a reduction that is too long: the axis, and how much of it goes into one chunk.
    fn cut(&self) -> (usize, usize) {
        let axes = self.axes();
        // The innermost axis of which a chunk cannot take all.
        let axis = axes.iter().copied().rev().find(|&axis| self.adds_from(axis) > CUT).expect("it adds up too much");
        let inner = self.adds_from(axis + 1);
        let most = match Order::of(&self.0) {
            Order::Interleaved(last) if axis == last => CUT * PARTIALS,
            Order::Interleaved(_) | Order::Ascending => (CUT / inner).max(1),
        };
        let extent = self.0[axis].extent;
        let even = (most.div_ceil(2)..=most).rev().find(|within| extent.is_multiple_of(*within));
        (axis, even.unwrap_or(most))
    }
}

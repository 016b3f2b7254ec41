//! The order of a reduction, and the split of long ones.
//!
//! **The order in which a reduction adds depends on the shape of its operand and on the reduced axes alone.** If there
//! are at least [`COLUMNS`] elements behind the last reduced axis, each of these columns adds in ascending order.
//! Otherwise there are [`PARTIALS`] accumulators, by the position along the last reduced axis; each adds in ascending
//! order, and then they are combined. The order is a field of a kernel ([`Order`]), which every schedule obeys.
//!
//! The error of a sum grows with the length of the chain of additions. So a long reduction is split: it reduces each
//! piece, then the results of the pieces, and so on. A large reduction is split too, so that it is parallel over
//! chunks. Both splits depend on the shape alone.

use super::kernel::{Dim, Order, PARTIALS};
use super::normalise::Emit;
use crate::graph::{BinaryOp, Op, ReduceOp, ValueId};
use crate::types::{Axes, product};

/// The fewest elements behind the last reduced axis that are columns.
const COLUMNS: usize = 4;

/// A shorter last axis would leave most accumulators unused: it is merged with the axis before it.
const SHORT: usize = PARTIALS / 2;

/// The most elements that one accumulator adds. Rows of at most so many are not split, so they fuse with producers and
/// consumers. The second bound is for a reduction to one result and for the reduction of the results of pieces.
const LONGEST: usize = 512;
const LONGEST_ALONE: usize = 64;

/// The elements that one accumulator of a piece adds. A sum of ten million equal numbers is then right to five units in
/// the last place (to fifty with 128 here and 512 for [`LONGEST_ALONE`]).
const CUT: usize = 32;

/// A reduction is parallel if it has this many elements in all and per result; or this many for one result.
const ELEMENTS: usize = 1 << 13;
const PER_RESULT: usize = 128;
const ONE_RESULT: usize = 1 << 11;

/// The number of chunks: at least this many and as few as possible, or as many as possible if there are many elements.
const CHUNKS: std::ops::RangeInclusive<usize> = 8..=64;
const FEW_CHUNKS: usize = 16;
const MANY_ELEMENTS: usize = 1 << 15;

impl Order {
    /// The order for the dimensions of the operand, outermost first; `None` if none is reduced. Unit dimensions do not
    /// change it.
    pub(super) fn of(dims: &[Dim]) -> Option<Order> {
        let last = dims.iter().rposition(|d| d.reduced && d.extent != 1);
        let last = last.or(dims.iter().rposition(|d| d.reduced))?;
        let behind = product(dims.iter().skip(last + 1).map(|d| d.extent));
        Some(if behind >= COLUMNS { Order::Ascending } else { Order::Interleaved })
    }
}

impl Emit<'_> {
    /// A reduction as one or several.
    pub(super) fn reduce(&mut self, op: ReduceOp, axes: &[usize], x: ValueId) -> ValueId {
        let ty = self.ty(x);
        let result_shape: Axes =
            (0..ty.rank()).filter(|axis| !axes.contains(axis)).map(|axis| ty.shape[axis]).collect();
        if axes.iter().any(|&axis| ty.shape[axis] == 0) {
            return self.full(op.identity(ty.dtype), &result_shape);
        }
        let shape = ReductionShape::new(&ty.shape, axes);
        // Unit axes do not matter to the result; without them the rules below are shorter.
        let plain = self.reshape(x, &shape.extents());
        let result = self.reduce_plain(op, plain, shape, LONGEST);
        self.reshape(result, &result_shape)
    }

    /// A reduction whose operand has the axes of `shape`, and whose accumulators add at most `longest` elements.
    fn reduce_plain(&mut self, op: ReduceOp, x: ValueId, shape: ReductionShape, longest: usize) -> ValueId {
        let shape = shape.merged();
        let longest = if shape.is_full() { longest.min(LONGEST_ALONE) } else { longest };
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
            let shape = ReductionShape::of(dims);
            let x = self.slice(x, axis, range);
            let x = self.reshape(x, &shape.extents());
            self.reduce_plain(op, x, shape, longest)
        };
        let results = [part(0..extent - rest), part(extent - rest..extent)];
        self.push(Op::Binary(combiner(op)), &results)
    }

    /// First within each of the chunks of `axis` (and over the reduced axes behind it), then over the chunks (and the
    /// reduced axes before it).
    fn in_chunks(
        &mut self,
        op: ReduceOp,
        x: ValueId,
        shape: &ReductionShape,
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
        let first = ReductionShape::of(first);
        let x = self.reshape(x, &first.extents());
        let partial = if first.adds() <= longest {
            self.push(Op::Reduce(op, first.axes()), &[x])
        } else {
            self.reduce_plain(op, x, first, longest)
        };
        let second = ReductionShape::of(second);
        let partial = self.reshape(partial, &second.extents());
        self.reduce_plain(op, partial, second, LONGEST_ALONE)
    }
}

/// The op of one step of a reduction.
fn combiner(op: ReduceOp) -> BinaryOp {
    match op {
        ReduceOp::Sum => BinaryOp::Add,
        ReduceOp::Prod => BinaryOp::Mul,
        ReduceOp::Max => BinaryOp::Max,
        ReduceOp::Min => BinaryOp::Min,
        ReduceOp::And => BinaryOp::And,
        ReduceOp::Or => BinaryOp::Or,
    }
}

/// The axes of the operand of a reduction, without those of extent 1.
#[derive(Clone, Debug)]
struct ReductionShape(Vec<Dim>);

impl ReductionShape {
    fn new(extents: &[usize], axes: &[usize]) -> ReductionShape {
        let dim = |(axis, &extent): (usize, &usize)| Dim { extent, reduced: axes.contains(&axis) };
        ReductionShape::of(extents.iter().enumerate().map(dim).collect())
    }

    fn of(mut dims: Vec<Dim>) -> ReductionShape {
        dims.retain(|d| d.extent != 1);
        ReductionShape(dims)
    }

    fn extents(&self) -> Axes {
        self.0.iter().map(|d| d.extent).collect()
    }

    fn axes(&self) -> Axes {
        (0..self.0.len()).filter(|&axis| self.0[axis].reduced).collect()
    }

    /// The product of the extents of some axes.
    fn product(&self, which: impl Fn(usize, &Dim) -> bool) -> usize {
        product(self.0.iter().enumerate().filter(|(axis, d)| which(*axis, d)).map(|(_, d)| d.extent))
    }

    /// Whether there is one result.
    fn is_full(&self) -> bool {
        self.0.iter().all(|d| d.reduced)
    }

    /// The axis by whose positions the accumulators are numbered, if there are several.
    fn interleaved(&self) -> Option<usize> {
        let last = self.0.iter().rposition(|d| d.reduced);
        last.filter(|_| Order::of(&self.0) == Some(Order::Interleaved))
    }

    /// With the last reduced axes merged, if an accumulator for each position along the last is not enough: the axis is
    /// short, or there is one result. (A last axis that is a multiple of [`PARTIALS`] gives the same order either way.)
    fn merged(mut self) -> ReductionShape {
        while let Some(last) = self.interleaved()
            && last > 0
            && self.0[last - 1].reduced
            && !self.0[last].extent.is_multiple_of(PARTIALS)
            && (self.0[last].extent < SHORT || self.is_full())
        {
            self.0[last - 1].extent *= self.0[last].extent;
            self.0.remove(last);
        }
        self
    }

    /// How many elements one accumulator adds, over axis `first` and those behind it.
    fn adds_from(&self, first: usize) -> usize {
        let interleaved = self.interleaved();
        let adds = |(axis, d): (usize, &Dim)| {
            if interleaved == Some(axis) { d.extent.div_ceil(PARTIALS) } else { d.extent }
        };
        product(self.0.iter().enumerate().filter(|(axis, d)| *axis >= first && d.reduced).map(adds))
    }

    fn adds(&self) -> usize {
        self.adds_from(0)
    }

    /// The chunks of a parallel reduction: an axis, and the number of chunks along it. Each position along the reduced
    /// axes before it is a chunk too.
    fn chunks(&self) -> Option<(usize, usize)> {
        let (elements, per_result) = (self.product(|_, _| true), self.product(|_, d| d.reduced));
        let large = if self.is_full() {
            elements >= ONE_RESULT
        } else {
            self.interleaved().is_none() && elements >= ELEMENTS && per_result >= PER_RESULT
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

    /// The split of a reduction that is too long: an axis, and the extent of one chunk.
    fn cut(&self) -> (usize, usize) {
        let axes = self.axes();
        // The innermost axis that does not fit into a chunk.
        let axis =
            axes.iter().copied().rev().find(|&axis| self.adds_from(axis) > CUT).expect("the reduction is too long");
        let inner = self.adds_from(axis + 1);
        let most = if self.interleaved() == Some(axis) { CUT * PARTIALS } else { (CUT / inner).max(1) };
        let extent = self.0[axis].extent;
        let even = (most.div_ceil(2)..=most).rev().find(|within| extent.is_multiple_of(*within));
        (axis, even.unwrap_or(most))
    }
}

//! Draws an op and its operands. What does not fit together is not added.
//!
//! Which op it is comes from the table of ops, so that a new one has to be given its parameters here.

use std::mem::discriminant;
use std::sync::LazyLock;

use smallvec::smallvec;

use super::program::Maker;
use crate::front::random::Key;
use crate::front::{Tensor, log_softmax, softmax};
use crate::graph::{ArgOp, BinaryOp, CompareOp, CumulativeOp, DotAxes, Literal, Op, ReduceOp, UnaryOp, ValueId, kinds};
use crate::types::{Axes, DType, Shape, TensorType};

/// What is drawn: one op, or several that go together.
#[derive(Clone)]
enum Kind {
    /// An op of this kind, with any parameters.
    One(Box<Op>),
    /// An op like that of the value.
    Again,
    /// See [`Maker::rows`].
    Rows,
    /// See [`Maker::strided`].
    Strided,
    /// See [`Maker::composed`].
    Composed,
    /// See [`Maker::drawn`].
    Drawn,
    /// See [`Maker::unrolled`].
    Unrolled,
}

/// How often ops of this kind are drawn.
fn weight(kind: &Op) -> usize {
    match kind {
        // Inputs come first. A projection is drawn with its op.
        Op::Param(_) | Op::Result(_) => 0,
        Op::Literal(_) | Op::Constant(_) | Op::Iota { .. } | Op::StopGradient | Op::Threefry => 1,
        Op::Unary(_) => 24,
        Op::Binary(_) => 24,
        Op::Compare(_) | Op::Convert(_) | Op::Bitcast(_) | Op::ArgReduce(..) => 4,
        Op::Select | Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast { .. } | Op::Concat(_) | Op::Dot(..) => 8,
        Op::Conv(..) => 6,
        Op::Slice { .. } | Op::Pad { .. } | Op::Rev(_) => 6,
        Op::Reduce(..) => 12,
        Op::Gather { .. } | Op::Scatter { .. } | Op::Sort { .. } => 6,
        Op::DynamicSlice { .. } | Op::DynamicUpdateSlice | Op::Cholesky | Op::TriangularSolve(_) => 4,
        Op::Fft { .. } => 2,
        Op::Lu | Op::Solve { .. } | Op::Qr { .. } | Op::Eigh | Op::Svd { .. } => 2,
        Op::Scan { .. } => 8,
        Op::Cumulative(..) | Op::Shear { .. } | Op::Unshear { .. } => 4,
        Op::While { .. } | Op::Cond { .. } => 4,
    }
}

/// Each kind, as often as it is drawn. Families count as one op.
static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let mut ops: Vec<Op> = Vec::new();
    for kind in kinds() {
        if ops.iter().all(|op| discriminant(op) != discriminant(&kind)) {
            ops.push(kind);
        }
    }
    let ops = ops.into_iter().map(|op| (weight(&op), Kind::One(Box::new(op))));
    let several = [
        (20, Kind::Again),
        (12, Kind::Rows),
        (12, Kind::Strided),
        (10, Kind::Composed),
        (2, Kind::Drawn),
        (3, Kind::Unrolled),
    ];
    ops.chain(several).flat_map(|(weight, kind)| std::iter::repeat_n(kind, weight)).collect()
});

impl Maker {
    /// Some op on some values.
    pub(super) fn op(&mut self) -> Option<ValueId> {
        let x = self.value();
        match &KINDS[self.random.below(KINDS.len())] {
            Kind::One(kind) => self.one(kind, x),
            Kind::Again => match self.graph.node(x).op.clone() {
                op @ (Op::Unary(_) | Op::StopGradient) => self.push(op, &[x]),
                kind => self.one(&kind, x),
            },
            Kind::Rows => self.rows(x),
            Kind::Strided => self.strided(x),
            Kind::Composed => self.composed(x),
            Kind::Drawn => self.drawn(x),
            Kind::Unrolled => self.unrolled(x),
        }
    }

    /// An op of this kind.
    fn one(&mut self, kind: &Op, x: ValueId) -> Option<ValueId> {
        let ty = self.of(x);
        let (shape, rank) = (ty.shape.clone(), ty.rank());
        match kind {
            Op::Param(_) | Op::Result(_) => None,
            Op::Literal(_) => {
                let value = self.random.below(9) as f64 / 2.0 - 2.0;
                self.push(Op::Literal(Literal::new(ty.dtype, value)), &[])
            }
            Op::Constant(_) => self.constant(&ty),
            Op::Iota { .. } => {
                let axis = self.random.below(rank + 1);
                self.push(Op::Iota { dtype: ty.dtype, shape, axis }, &[])
            }
            Op::Unary(_) => {
                use UnaryOp::{Abs, Ceil, Floor, IsFinite, Neg, Not, Round, Sign, Sqrt};
                // Of these more, whose results can be compared whatever their operand is.
                let exact = [Neg, Neg, Not, Not, Abs, Abs, Sign, Floor, Ceil, Round, IsFinite, Sqrt];
                if self.random.one_in(2) {
                    let op = self.random.one_of(&exact);
                    return self.push(Op::Unary(op), &[x]);
                }
                let fitting = UnaryOp::ALL.iter().copied().filter(|op| op.class().contains(ty.dtype));
                let op = self.random.one_of(&fitting.collect::<Vec<_>>());
                let x = if self.random.one_in(3) { x } else { self.clamped(x, op.range())? };
                self.push(Op::Unary(op), &[x])
            }
            Op::Binary(_) if self.random.one_in(4) => {
                // Divisors, exponents, factors and distances that rules know.
                let value = self.random.one_of(&[2.0, -0.5, 1.0, 0.5, 3.0, -1.0, 4.0, 0.0]);
                let fitting = BinaryOp::ALL.iter().copied().filter(|op| op.class().contains(ty.dtype));
                let (op, y) = (self.random.one_of(&fitting.collect::<Vec<_>>()), self.splat(value, &ty)?);
                self.push(Op::Binary(op), &[x, y])
            }
            Op::Binary(_) => {
                let y = self.like(&ty)?;
                self.binary(x, y)
            }
            Op::Compare(_) => {
                let (op, y) = (self.random.one_of(CompareOp::ALL), self.like(&ty)?);
                self.push(Op::Compare(op), &[x, y])
            }
            Op::Select if self.random.one_in(4) => {
                let pred = self.like(&ty.with_dtype(DType::Bool))?;
                let ty = if self.random.one_in(2) { ty.with_dtype(DType::Bool) } else { ty };
                let (yes, no) = (self.random.below(2), self.random.below(2));
                let operands = [pred, self.splat(yes as f64, &ty)?, self.splat(no as f64, &ty)?];
                self.push(Op::Select, &operands)
            }
            Op::Select => {
                let (pred, y) = (self.like(&ty.with_dtype(DType::Bool))?, self.like(&ty)?);
                self.push(Op::Select, &[pred, x, y])
            }
            Op::Convert(_) => {
                let to = self.random.one_of(&self.dtypes);
                self.push(Op::Convert(to), &[x])
            }
            Op::Bitcast(_) => {
                let fits = |to: &DType| to.size() == ty.dtype.size();
                let to = self.random.one_of(&self.dtypes.iter().copied().filter(fits).collect::<Vec<_>>());
                self.push(Op::Bitcast(to), &[x])
            }
            Op::StopGradient => self.push(Op::StopGradient, &[x]),
            Op::Threefry => {
                let ty = ty.with_dtype(DType::U32);
                let words = [self.like(&ty)?, self.like(&ty)?, self.like(&ty)?, self.like(&ty)?];
                let words = self.push(Op::Threefry, &words)?;
                let word = self.random.below(2) as u32;
                self.push(Op::Result(word), &[words])
            }
            Op::Reshape(_) => {
                let to = self.reshaped(shape);
                self.push(Op::Reshape(to), &[x])
            }
            Op::Transpose(_) => {
                let perm = self.random.shuffled(0..rank).into();
                self.push(Op::Transpose(perm), &[x])
            }
            Op::Broadcast { .. } => {
                let mut to: Shape = shape.iter().map(|&n| if n == 1 { self.extent() } else { n }).collect();
                let mut dims: Axes = (0..rank).collect();
                for _ in 0..self.random.below(3) {
                    let place = self.random.below(to.len() + 1);
                    to.insert(place, self.extent());
                    dims.iter_mut().filter(|dim| **dim >= place).for_each(|dim| *dim += 1);
                }
                self.push(Op::Broadcast { shape: to, dims }, &[x])
            }
            Op::Slice { .. } => {
                let start: Shape = shape.iter().map(|&n| self.random.below(n / 2 + 1)).collect();
                let limit =
                    shape.iter().zip(&start).map(|(&n, &s)| (n - self.random.below(n / 3 + 1)).max(s)).collect();
                let stride = shape.iter().map(|_| 1 + self.random.below(3)).collect();
                self.push(Op::Slice { start, limit, stride }, &[x])
            }
            Op::Pad { .. } => {
                let value = self.like(&TensorType::scalar(ty.dtype))?;
                let low = (0..rank).map(|_| self.random.below(5) as isize - 2).collect();
                let high = (0..rank).map(|_| self.random.below(5) as isize - 2).collect();
                let interior = (0..rank).map(|_| self.random.below(3).saturating_sub(1)).collect();
                self.push(Op::Pad { low, high, interior }, &[x, value])
            }
            Op::Concat(_) => {
                let axis = self.random.below(rank + 1);
                let mut operands = vec![x];
                for _ in 0..self.random.below(3) {
                    let mut ty = ty.clone();
                    if let Some(extent) = ty.shape.get_mut(axis) {
                        *extent = self.extent();
                    }
                    operands.push(self.like(&ty)?);
                }
                self.push(Op::Concat(axis), &operands)
            }
            Op::Rev(_) => {
                let axes = (0..rank).filter(|_| self.random.one_in(2)).collect();
                self.push(Op::Rev(axes), &[x])
            }
            Op::Reduce(..) => {
                let (op, axes) = self.reduction(&ty)?;
                self.push(Op::Reduce(op, axes), &[x])
            }
            Op::ArgReduce(..) => {
                let (op, axis) = (self.random.one_of(ArgOp::ALL), self.random.below(rank + 1));
                self.push(Op::ArgReduce(op, axis), &[x])
            }
            Op::Cumulative(..) => {
                let fitting = CumulativeOp::ALL.iter().copied().filter(|op| op.class().contains(ty.dtype));
                let fitting: Vec<CumulativeOp> = fitting.collect();
                if fitting.is_empty() {
                    return None;
                }
                let op = self.random.one_of(&fitting);
                let (axis, reverse) = (self.random.below(rank + 1), self.random.one_in(2));
                self.push(Op::Cumulative(op, axis, reverse), &[x])
            }
            Op::Shear { .. } | Op::Unshear { .. } => self.shear(kind, x),
            Op::Dot(..) => self.dot(x),
            Op::Conv(..) => self.conv(x),
            Op::Gather { .. } => self.gather(x),
            Op::Scatter { .. } => self.scatter(x),
            Op::DynamicSlice { .. } => self.dynamic_slice(x),
            Op::DynamicUpdateSlice => self.dynamic_update_slice(x),
            Op::Sort { .. } => self.sort(x),
            Op::Cholesky => self.cholesky(x),
            Op::TriangularSolve(_) => self.triangular_solve(x),
            Op::Fft { .. } => {
                let y = self.like(&ty)?;
                let (inverse, part) = (self.random.one_in(2), self.random.below(2) as u32);
                let first = self.push(Op::Fft { inverse }, &[x, y])?;
                self.push(Op::Result(part), &[first])
            }
            Op::Solve { .. } => self.solve(x),
            Op::Lu | Op::Qr { .. } | Op::Eigh | Op::Svd { .. } => self.decomposition(kind, x),
            Op::Scan { .. } => self.scan(x),
            Op::While { .. } => self.while_loop(x),
            Op::Cond { .. } => self.cond(x),
        }
    }

    /// The windows of `x` along an axis, or `x` as the windows of another array.
    fn shear(&mut self, kind: &Op, x: ValueId) -> Option<ValueId> {
        let shape = self.of(x).shape;
        let [axis, by] = [0, 1].map(|_| self.random.below(shape.len().max(1)));
        if axis == by {
            return None;
        }
        let (stride, step) = (1 + self.random.below(3), self.random.below(3));
        let reach = step * shape[by].saturating_sub(1);
        if let Op::Shear { .. } = kind {
            let extent = shape[axis].checked_sub(reach + 1).map_or(0, |last| last / stride + 1);
            return self.push(Op::Shear { axis, by, stride, step, extent }, &[x]);
        }
        let extent = stride * shape[axis].saturating_sub(1) + reach + 1 + self.random.below(3);
        self.push(Op::Unshear { axis, by, stride, step, extent }, &[x])
    }

    fn binary(&mut self, x: ValueId, y: ValueId) -> Option<ValueId> {
        let dtype = self.of(x).dtype;
        let fitting: Vec<BinaryOp> = BinaryOp::ALL.iter().copied().filter(|op| op.class().contains(dtype)).collect();
        let mut operands = if self.random.one_in(2) { [x, y] } else { [y, x] };
        let op = self.random.one_of(&fitting);
        if op.range().0 > 0.0 && self.random.one_in(2) {
            operands = [self.clamped(x, op.range())?, self.clamped(y, op.range())?];
        }
        self.push(Op::Binary(op), &operands)
    }

    /// Floats within the range in which something can be said of an op.
    fn clamped(&mut self, x: ValueId, (low, high): (f64, f64)) -> Option<ValueId> {
        let ty = self.of(x);
        if !ty.dtype.is_float() {
            return Some(x);
        }
        let (low, high) = (self.splat(low, &ty)?, self.splat(high, &ty)?);
        let x = self.push(Op::Binary(BinaryOp::Max), &[x, low])?;
        self.push(Op::Binary(BinaryOp::Min), &[x, high])
    }

    /// A reduction, and the axes that it is over.
    fn reduction(&mut self, ty: &TensorType) -> Option<(ReduceOp, Axes)> {
        let fitting: Vec<ReduceOp> = ReduceOp::ALL.iter().copied().filter(|op| op.class().contains(ty.dtype)).collect();
        let mut axes: Axes = (0..ty.rank()).filter(|_| self.random.one_in(2)).collect();
        if axes.is_empty() {
            axes.push(self.random.below(ty.rank().max(1)));
        }
        Some((self.random.one_of(&fitting), axes))
    }

    /// Something of each row of `x`, combined with `x` again, as a softmax does.
    fn rows(&mut self, x: ValueId) -> Option<ValueId> {
        let ty = self.of(x);
        let (op, axes) = self.reduction(&ty)?;
        let dims = (0..ty.rank()).filter(|axis| !axes.contains(axis)).collect();
        let row = self.push(Op::Reduce(op, axes), &[x])?;
        let row = self.push(Op::Broadcast { shape: ty.shape.clone(), dims }, &[row])?;
        self.binary(x, row)
    }

    /// Two axes are transposed, so the lanes of each read are strided: `pack` copies the array first.
    fn strided(&mut self, x: ValueId) -> Option<ValueId> {
        let (a, b) = (self.random.below(self.of(x).rank().max(1)), self.random.below(self.of(x).rank().max(1)));
        let mut x = x;
        if self.random.one_in(2) {
            // An axis that is read again and again, as by a broadcast row.
            let mut to = self.of(x).shape;
            let dims = (0..to.len()).collect();
            to.iter_mut().filter(|extent| **extent == 1).for_each(|extent| *extent = 4 + self.random.below(61));
            x = self.push(Op::Broadcast { shape: to, dims }, &[x])?;
        }
        let mut perm: Axes = (0..self.of(x).rank()).collect();
        if a == b || b >= perm.len() {
            return None;
        }
        perm.swap(a, b);
        let x = self.push(Op::Transpose(perm), &[x])?;
        let ty = self.of(x);
        match self.random.below(4) {
            0 => Some(x),
            1 => {
                let y = self.like(&ty)?;
                self.binary(x, y)
            }
            2 => self.rows(x),
            _ => {
                let (op, _) = self.reduction(&ty)?;
                let axis = self.random.one_of(&[a, b]);
                self.push(Op::Reduce(op, smallvec![axis]), &[x])
            }
        }
    }

    /// A function of `front` that is several ops.
    fn composed(&mut self, x: ValueId) -> Option<ValueId> {
        let ty = self.of(x);
        let axis = self.random.below(ty.rank().max(1));
        let extent = ty.shape.get(axis).copied().unwrap_or(1);
        let along = axis as isize;
        let results = match self.random.below(8) {
            0 => self.call(&[x], |x| vec![x[0].argsort(along)]),
            1 => {
                let last = ty.shape.last().copied().unwrap_or(1);
                let k = self.random.below(last + 1);
                self.call(&[x], |x| <[Tensor; 2]>::from(x[0].top_k(k)).to_vec())
            }
            2 => {
                // In the order of something else, as its `argsort` has it.
                let key = self.like(&ty)?;
                self.call(&[x, key], |x| vec![x[0].take_along_axis(&x[1].argsort(along), along)])
            }
            3 => self
                .call(&[x], |x| vec![if along % 2 == 0 { softmax(&x[0], along) } else { log_softmax(&x[0], along) }]),
            4 => {
                let indices = self.random.indices(&ty.shape, extent);
                let (indices, mode) = (self.held(indices)?, self.mode());
                self.call(&[x, indices], |x| vec![x[0].take_along_axis_with(&x[1], along, mode)])
            }
            5 => {
                let shape: Shape = (0..self.random.below(3)).map(|_| self.extent()).collect();
                let (indices, mode) = (self.places(&shape, extent)?, self.mode());
                self.call(&[x, indices], |x| vec![x[0].take_with(&x[1], along, mode)])
            }
            which => {
                let n = self.extent();
                let first = ty.shape.first().copied().unwrap_or(1);
                let (indices, mode) = (self.places(&[n], first)?, self.mode());
                let mut rows = ty.clone();
                if let Some(extent) = rows.shape.first_mut() {
                    *extent = n;
                }
                let y = self.like(&rows)?;
                self.call(&[x, indices, y], |x| {
                    let at = x[0].at(&x[1]).mode(mode);
                    vec![if which == 6 { at.set(&x[2]) } else { at.add(&x[2]) }]
                })
            }
        };
        self.any(results?)
    }

    /// Random numbers of a key.
    fn drawn(&mut self, x: ValueId) -> Option<ValueId> {
        let shape = self.of(x).shape;
        let key = self.like(&TensorType::new(DType::U32, &[2]))?;
        let which = self.random.below(6);
        let n = self.extent();
        let results = self.call(&[key], |key| {
            let key = Key::wrap_key_data(key[0].clone());
            vec![match which {
                0 => key.bits(&shape),
                1 => key.uniform(&shape, 0.0, 1.0),
                2 => key.randint(&shape, -5, 6),
                3 => key.bernoulli(&shape, 0.25),
                4 => key.permutation(n),
                _ => key.split_n(n),
            }]
        });
        self.any(results?)
    }

    /// The same ops again and again, as a loop does that is unrolled.
    fn unrolled(&mut self, x: ValueId) -> Option<ValueId> {
        let ty = self.of(x);
        let mut values = vec![x];
        if self.random.one_in(2) {
            values.push(self.like(&ty)?);
        }
        let carried = values.len();
        values.extend((0..self.random.below(3)).map(|_| self.value()));
        if values.iter().any(|&x| self.has_several(x)) {
            return None;
        }
        let inputs = values.iter().map(|&x| self.given(x)).collect();
        let body = self.body(inputs, &vec![ty; carried])?;
        for _ in 0..1 + self.random.below(3) {
            let results = self.inline(&body, &values)?;
            values[..carried].copy_from_slice(&results);
        }
        self.any(values[..carried].to_vec())
    }

    /// One of the values.
    pub(super) fn any(&mut self, values: Vec<ValueId>) -> Option<ValueId> {
        (!values.is_empty()).then(|| self.random.one_of(&values))
    }

    /// Another shape of as many elements.
    fn reshaped(&mut self, shape: Shape) -> Shape {
        let mut to = shape.clone();
        match self.random.below(6) {
            0 => to = smallvec![shape.iter().product()],
            1 => to.retain(|extent| *extent != 1),
            2 => to.reverse(),
            3 => to.insert(self.random.below(to.len() + 1), 1),
            4 if to.len() > 1 => {
                let axis = self.random.below(to.len() - 1);
                let next = to.remove(axis + 1);
                to[axis] *= next;
            }
            _ => {
                // One axis becomes two.
                let axis = self.random.below(to.len().max(1));
                let divisors = |n: usize| (2..n).filter(move |d| n.is_multiple_of(*d));
                if let Some(extent) = to.get(axis).copied()
                    && let divisors = divisors(extent).collect::<Vec<_>>()
                    && !divisors.is_empty()
                {
                    let first = self.random.one_of(&divisors);
                    to[axis] = first;
                    to.insert(axis + 1, extent / first);
                }
            }
        }
        to
    }

    /// A contraction of `x` with anything, over some of the axes that fit.
    fn dot(&mut self, x: ValueId) -> Option<ValueId> {
        let ty = self.of(x);
        let floats: Vec<ValueId> = self.graph.ids().filter(|&id| self.graph.ty(id).dtype == ty.dtype).collect();
        let y = if self.random.one_in(4) { self.like(&ty)? } else { self.random.one_of(&floats) };
        let other = self.of(y);
        let mut axes = DotAxes::default();
        let mut free: Vec<usize> = (0..other.rank()).collect();
        for (a, extent) in ty.shape.iter().enumerate() {
            let fitting: Vec<usize> = (0..free.len()).filter(|&i| other.shape[free[i]] == *extent).collect();
            if fitting.is_empty() || self.random.one_in(3) {
                continue;
            }
            let b = free.remove(self.random.one_of(&fitting));
            if self.random.one_in(3) { axes.batch.push((a, b)) } else { axes.contract.push((a, b)) }
        }
        self.push(Op::Dot(axes, None), &[x, y])
    }
}

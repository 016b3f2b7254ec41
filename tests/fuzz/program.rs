//! Makes random programs: a graph and its inputs from a seed.
//!
//! Every value is interpreted as soon as it is made, so that a program stays among numbers of which something can be
//! said: a value that [`bound`] knows nothing about is not taken.

use fulgurite::compiler::graph::{
    ArgOp, BinaryOp, CompareOp, Constant, DotAxes, Graph, Literal, Node, Op, ReduceOp, Sample, UnaryOp, ValueId,
};
use fulgurite::compiler::interp::interpret;
use fulgurite::compiler::types::{Axes, Shape};
use fulgurite::{Array, DType, TensorType};

use crate::bound::bound;

/// No value has more elements, or more axes.
const ELEMENTS: usize = 4096;
/// Nor in the few programs of large ones, whose products are blocked and whose work is worth sharing.
const LARGE: usize = 1_000_000;
const RANK: usize = 8;
/// The interpreter computes every product of a contraction on its own.
const PRODUCTS: usize = 3_000_000;

/// The program of `seed`.
pub(crate) fn program(seed: u64) -> (Graph, Vec<Array>) {
    let mut maker = Maker { random: Random(seed), ..Maker::default() };
    maker.make();
    let inputs = maker.graph.params.iter().map(|id| maker.values[id.index()].clone()).collect();
    (maker.graph, inputs)
}

/// SplitMix64 (Steele, Lea & Flood 2014).
#[derive(Default)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (((self.next() >> 32) * n as u64) >> 32) as usize
    }

    /// True in one of `n` cases.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    pub(crate) fn array(&mut self, ty: &TensorType, wild: bool) -> Array {
        let small = self.below(3) > 0;
        let n = ty.elements();
        // Multiples of 1/4 up to 4, whose sums and products are exact; wild ones are what rules and code trip over.
        let float = |random: &mut Random| match wild && random.one_in(4) {
            true => random.one_of(&[f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -0.0]),
            false => (random.below(33) as f64 - 16.0) / 4.0,
        };
        let int = |random: &mut Random| match (small, random.below(8)) {
            (true, _) => random.below(19) as i32 - 9,
            (false, 0) => random.one_of(&[i32::MIN, i32::MAX, 0, -1]),
            (false, _) => random.next() as i32,
        };
        match ty.dtype {
            DType::F32 => Array::from_vec(&ty.shape, (0..n).map(|_| float(self) as f32).collect()),
            DType::F64 => Array::from_vec(&ty.shape, (0..n).map(|_| float(self)).collect()),
            DType::I32 => Array::from_vec(&ty.shape, (0..n).map(|_| int(self)).collect()),
            DType::U32 => Array::from_vec(&ty.shape, (0..n).map(|_| int(self) as u32).collect()),
            DType::Bool => Array::from_vec(&ty.shape, (0..n).map(|_| self.one_in(2)).collect()),
        }
        .expect("as many elements as the type has")
    }
}

#[derive(Default)]
struct Maker {
    random: Random,
    graph: Graph,
    /// Of each value: what it is, and how far a compiled result may be from it.
    values: Vec<Array>,
    bounds: Vec<f64>,
    /// The extents that shapes are made of, so that values meet.
    extents: [usize; 4],
    dtypes: Vec<DType>,
    /// Are there infinities and NaNs among the inputs?
    wild: bool,
    /// The most elements that a value of this program has.
    elements: usize,
}

impl Maker {
    fn make(&mut self) {
        let large = self.random.one_in(24);
        self.elements = if large { LARGE } else { ELEMENTS };
        let most = if large {
            self.random.one_of(&[64, 130, 300])
        } else if self.random.one_in(16) {
            self.random.one_of(&[33, 64, 100, 257])
        } else {
            20
        };
        self.extents = std::array::from_fn(|_| 1 + self.random.below(most));
        // Arrays without elements, in one program of eight: they make all that is computed from them empty.
        if self.random.one_in(8) {
            self.extents[0] = 0;
        }
        self.wild = self.random.one_in(16);
        self.dtypes = match self.random.below(4) {
            // Programs of one type of float keep more of their values together in a kernel.
            0 => vec![DType::F32, DType::F32, DType::F32, DType::I32, DType::U32, DType::Bool],
            1 => vec![DType::F64, DType::F64, DType::F64, DType::I32, DType::U32, DType::Bool],
            _ => vec![DType::F32, DType::F64, DType::I32, DType::U32, DType::Bool],
        };
        for i in 0..1 + self.random.below(4) {
            let mut ty = self.ty();
            // A program of large values begins with one.
            for _ in 0..100 {
                if large && i == 0 && ty.elements() <= ELEMENTS {
                    ty = self.ty();
                }
            }
            self.param(ty);
        }
        if self.random.one_in(12) {
            self.product();
        }
        let size = self.graph.nodes.len() + if large { 2 + self.random.below(6) } else { 5 + self.random.below(36) };
        for _ in 0..400 {
            if self.graph.nodes.len() >= size {
                break;
            }
            self.op();
        }
        self.outputs();
    }

    fn param(&mut self, ty: TensorType) -> ValueId {
        self.values.push(self.random.array(&ty, self.wild));
        self.bounds.push(0.0);
        self.graph.param(ty)
    }

    /// A product that is computed in blocks: of two matrices, or of several pairs, with their axes in any order.
    fn product(&mut self) -> Option<ValueId> {
        self.elements = LARGE;
        let dtype = self.random.one_of(&[DType::F32, DType::F32, DType::F64]);
        let pairs = self.random.one_of(&[1, 1, 1, 2, 3]);
        let [mut m, mut n, mut k] = std::array::from_fn(|_| self.random.one_of(&[1, 5, 16, 31, 64, 97, 128, 200]));
        while pairs * m * n * k > PRODUCTS {
            (m, n, k) = (m.div_ceil(2), n.div_ceil(2), k.div_ceil(2));
        }
        // The extents of the pairs, of what is free and of what is summed over, in an order of their own.
        let mut operand = |free: usize| {
            let mut order = [0, 1, 2];
            (0..3).for_each(|i| order.swap(i, self.random.below(i + 1)));
            let shape: Shape = order.iter().map(|&i| [pairs, free, k][i]).collect();
            let place = |what: usize| order.iter().position(|&i| i == what).expect("one of three");
            (self.param(TensorType::new(dtype, &shape)), place(0), place(2))
        };
        let ((x, x_batch, x_sum), (y, y_batch, y_sum)) = (operand(m), operand(n));
        let axes = DotAxes {
            batch: [(x_batch, y_batch)].into_iter().collect(),
            contract: [(x_sum, y_sum)].into_iter().collect(),
        };
        self.push(Op::Dot(axes), &[x, y])
    }

    /// What nobody uses, the last value, and any others: repeated ones, inputs, constants.
    fn outputs(&mut self) {
        let uses = self.graph.uses();
        let unused = self.graph.ids().filter(|id| uses[id.index()] == 0 && !self.has_several(*id));
        let mut outputs: Vec<ValueId> = unused.collect();
        let extra = self.random.below(3);
        outputs.extend((0..extra).map(|_| self.value()));
        if self.random.one_in(4) {
            outputs.push(outputs[0]);
        }
        if self.random.one_in(6) {
            outputs.push(self.graph.params[0]);
        }
        for i in (1..outputs.len()).rev() {
            outputs.swap(i, self.random.below(i + 1));
        }
        outputs.retain(|&id| !self.has_several(id));
        self.graph.outputs = outputs;
    }

    /// Is it an op with several results, of which only projections are used?
    fn has_several(&self, id: ValueId) -> bool {
        self.graph.node(id).results() > 1
    }

    fn of(&self, id: ValueId) -> TensorType {
        self.graph.ty(id).clone()
    }

    fn extent(&mut self) -> usize {
        match self.random.below(4) {
            0 => 1,
            _ => self.random.one_of(&self.extents.clone()),
        }
    }

    fn ty(&mut self) -> TensorType {
        let dtype = self.random.one_of(&self.dtypes.clone());
        loop {
            // Ranks above 4 are rare: their extents are 1 mostly.
            let most = if self.random.one_in(8) { RANK + 1 } else { 5 };
            let shape: Shape = (0..self.random.below(most)).map(|_| self.extent()).collect();
            if shape.iter().product::<usize>() <= self.elements {
                return TensorType::new(dtype, &shape);
            }
        }
    }

    /// A value, more often a late one.
    fn value(&mut self) -> ValueId {
        let n = self.graph.nodes.len();
        ValueId(self.random.below(n).max(self.random.below(n)) as u32)
    }

    /// Adds a value if it can be computed and something can be said of it.
    fn push(&mut self, op: Op, operands: &[ValueId]) -> Option<ValueId> {
        if operands.iter().any(|&x| self.has_several(x)) && !matches!(op, Op::Result(_)) {
            return None;
        }
        let types: Vec<TensorType> = operands.iter().map(|&x| self.of(x)).collect();
        let ty = self.graph.infer(&op, operands).ok()?;
        if ty.elements() > self.elements || ty.rank() > RANK {
            return None;
        }
        if let Op::Dot(axes) = &op
            && ty.elements() * axes.contract.iter().map(|&(a, _)| types[0].shape[a]).product::<usize>() > PRODUCTS
        {
            return None;
        }
        let arrays: Vec<Array> = operands.iter().map(|x| self.values[x.index()].clone()).collect();
        let result = match op {
            Op::Result(index) => {
                let of = self.graph.node(operands[0]);
                let arrays: Vec<Array> = of.operands.iter().map(|x| self.values[x.index()].clone()).collect();
                interpret(&one(&of.op, &arrays), &arrays).ok()?.remove(index as usize)
            }
            _ => interpret(&one(&op, &arrays), &arrays).ok()?.remove(0),
        };
        let bounds: Vec<f64> = operands.iter().map(|x| self.bounds[x.index()]).collect();
        let bound = bound(&op, &arrays, &bounds, &result)?;
        self.values.push(result);
        self.bounds.push(bound);
        Some(self.graph.push(Node { op, operands: operands.into(), ty, location: None }))
    }

    fn constant(&mut self, ty: &TensorType) -> Option<ValueId> {
        if ty.rank() == 0 || self.random.one_in(2) {
            let value = self.random.one_of(&[0.0, 0.0, 1.0, 1.0, -1.0, 2.0, 0.5, 3.0]);
            let x = self.push(Op::Literal(Literal::new(ty.dtype, value)), &[])?;
            return match ty.rank() {
                0 => Some(x),
                _ => self.push(Op::Broadcast { shape: ty.shape.clone(), dims: Axes::new() }, &[x]),
            };
        }
        let array = self.random.array(ty, self.wild);
        self.push(Op::Constant(Constant(array)), &[])
    }

    /// A value of this type: one there is, one that is broadcast, one that is converted, or a constant.
    fn like(&mut self, ty: &TensorType) -> Option<ValueId> {
        let fits = |from: &TensorType| {
            let skip = ty.rank().checked_sub(from.rank());
            skip.is_some_and(|skip| from.shape.iter().zip(&ty.shape[skip..]).all(|(&a, &b)| a == b || a == 1))
        };
        let all = || self.graph.ids().map(|id| (id, self.graph.ty(id)));
        let same: Vec<ValueId> = all().filter(|(_, x)| *x == ty).map(|(id, _)| id).collect();
        let wider: Vec<ValueId> = all().filter(|(_, x)| x.dtype == ty.dtype && fits(x)).map(|(id, _)| id).collect();
        let other: Vec<ValueId> = all().filter(|(_, x)| x.shape == ty.shape).map(|(id, _)| id).collect();
        match self.random.below(8) {
            0..=3 if !same.is_empty() => Some(self.random.one_of(&same)),
            4 | 5 if !wider.is_empty() => {
                let x = self.random.one_of(&wider);
                let rank = self.of(x).rank();
                let dims = (ty.rank() - rank..ty.rank()).collect();
                self.push(Op::Broadcast { shape: ty.shape.clone(), dims }, &[x])
            }
            6 if !other.is_empty() => {
                let x = self.random.one_of(&other);
                self.push(Op::Convert(ty.dtype), &[x])
            }
            _ => self.constant(ty),
        }
    }

    /// Some op on some values; what does not fit together is not added.
    fn op(&mut self) -> Option<ValueId> {
        let x = self.value();
        let ty = self.of(x);
        let (shape, rank) = (ty.shape.clone(), ty.rank());
        let axes = |maker: &mut Self| -> Axes { (0..rank).filter(|_| maker.random.one_in(2)).collect() };
        match self.random.below(39) {
            0 | 1 => {
                use UnaryOp::{Abs, Ceil, Floor, IsFinite, Neg, Not, Round, Sign, Sqrt};
                let op = self.random.one_of(&[Neg, Neg, Not, Not, Abs, Abs, Sign, Floor, Ceil, Round, IsFinite, Sqrt]);
                self.push(Op::Unary(op), &[x])
            }
            2 | 3 => {
                let op = self.random.one_of(UnaryOp::ALL);
                self.push(Op::Unary(op), &[x])
            }
            4..=9 => {
                let y = self.like(&ty)?;
                self.binary(x, y)
            }
            10 | 34 | 35 => self.rows(x),
            11 => {
                let (op, y) = (self.random.one_of(CompareOp::ALL), self.like(&ty)?);
                self.push(Op::Compare(op), &[x, y])
            }
            12 | 13 => {
                let (pred, y) = (self.like(&ty.with_dtype(DType::Bool))?, self.like(&ty)?);
                self.push(Op::Select, &[pred, x, y])
            }
            14 => {
                let to = self.random.one_of(&self.dtypes.clone());
                if to == ty.dtype { None } else { self.push(Op::Convert(to), &[x]) }
            }
            15 => {
                let to = self.random.one_of(&self.dtypes.clone());
                self.push(Op::Bitcast(to), &[x])
            }
            16 | 17 => {
                let to = self.reshaped(shape);
                self.push(Op::Reshape(to), &[x])
            }
            18 | 19 => {
                let mut perm: Axes = (0..rank).collect();
                (0..rank).for_each(|i| perm.swap(i, self.random.below(i + 1)));
                self.push(Op::Transpose(perm), &[x])
            }
            20 | 21 => {
                let mut to: Shape = shape.iter().map(|&n| if n == 1 { self.extent() } else { n }).collect();
                let mut dims: Axes = (0..rank).collect();
                for _ in 0..self.random.below(3) {
                    let place = self.random.below(to.len() + 1);
                    to.insert(place, self.extent());
                    dims.iter_mut().filter(|dim| **dim >= place).for_each(|dim| *dim += 1);
                }
                self.push(Op::Broadcast { shape: to, dims }, &[x])
            }
            22 => {
                let start: Shape = shape.iter().map(|&n| self.random.below(n / 2 + 1)).collect();
                let limit =
                    shape.iter().zip(&start).map(|(&n, &s)| (n - self.random.below(n / 3 + 1)).max(s)).collect();
                let stride = shape.iter().map(|_| 1 + self.random.below(3)).collect();
                self.push(Op::Slice { start, limit, stride }, &[x])
            }
            23 => {
                let value = self.like(&TensorType::scalar(ty.dtype))?;
                let low = (0..rank).map(|_| self.random.below(5) as isize - 2).collect();
                let high = (0..rank).map(|_| self.random.below(5) as isize - 2).collect();
                let interior = (0..rank).map(|_| self.random.below(3).saturating_sub(1)).collect();
                self.push(Op::Pad { low, high, interior }, &[x, value])
            }
            24 | 25 => {
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
            26 => {
                let axes = axes(self);
                self.push(Op::Rev(axes), &[x])
            }
            27..=29 => {
                let (op, axes) = self.reduction(&ty)?;
                self.push(Op::Reduce(op, axes), &[x])
            }
            30 => {
                let (op, axis) = (self.random.one_of(&[ArgOp::Max, ArgOp::Min]), self.random.below(rank + 1));
                self.push(Op::ArgReduce(op, axis), &[x])
            }
            31 | 32 => self.dot(x),
            33 => match self.random.below(4) {
                0 => self.push(Op::StopGradient, &[x]),
                1 => self.constant(&ty),
                2 => {
                    let axis = self.random.below(rank + 1);
                    self.push(Op::Iota { dtype: ty.dtype, shape, axis }, &[])
                }
                _ => {
                    let ty = ty.with_dtype(DType::U32);
                    let words = [self.like(&ty)?, self.like(&ty)?, self.like(&ty)?, self.like(&ty)?];
                    let words = self.push(Op::Threefry, &words)?;
                    let word = self.random.below(2) as u32;
                    self.push(Op::Result(word), &[words])
                }
            },
            36..=38 => self.crossed(x),
            _ => unreachable!("39 cases"),
        }
    }

    fn binary(&mut self, x: ValueId, y: ValueId) -> Option<ValueId> {
        let dtype = self.of(x).dtype;
        let fitting: Vec<BinaryOp> = BinaryOp::ALL.iter().copied().filter(|op| op.class().contains(dtype)).collect();
        let operands = if self.random.one_in(2) { [x, y] } else { [y, x] };
        let op = self.random.one_of(&fitting);
        self.push(Op::Binary(op), &operands)
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

    /// Something of each row of `x`, put together with `x` again, as a softmax does.
    fn rows(&mut self, x: ValueId) -> Option<ValueId> {
        let ty = self.of(x);
        let (op, axes) = self.reduction(&ty)?;
        let dims = (0..ty.rank()).filter(|axis| !axes.contains(axis)).collect();
        let row = self.push(Op::Reduce(op, axes), &[x])?;
        let row = self.push(Op::Broadcast { shape: ty.shape.clone(), dims }, &[row])?;
        self.binary(x, row)
    }

    /// Two axes are transposed, so the lanes of each read are strided: `pack` copies the array first.
    fn crossed(&mut self, x: ValueId) -> Option<ValueId> {
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
                self.push(Op::Reduce(op, Axes::from_slice(&[axis])), &[x])
            }
        }
    }

    /// Another shape of as many elements.
    fn reshaped(&mut self, shape: Shape) -> Shape {
        let mut to = shape.clone();
        match self.random.below(6) {
            0 => to = Shape::from_slice(&[shape.iter().product()]),
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
        self.push(Op::Dot(axes), &[x, y])
    }
}

/// The graph of one op, with all of its results.
fn one(op: &Op, operands: &[Array]) -> Graph {
    let operands = operands.iter().map(|x| x.ty().clone()).collect();
    Sample { op: op.clone(), operands, range: (0.0, 0.0) }.graph()
}

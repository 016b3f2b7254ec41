//! Samples of every op, from which the conformance tests draw: interpreter against compiled code, tangents against
//! finite differences, transposes against tangents, batching against a loop, text against its parse.

use std::sync::Arc;

use smallvec::smallvec;

use super::dims::{GatherDims, ScatterOp};
use super::family::{ArgOp, BinaryOp, Class, CompareOp, CumulativeOp, ReduceOp, UnaryOp};
use super::literal::{Constant, Literal};
use super::op::{DotAxes, Op, Sample, Triangular};
use super::precision::Precision;
use super::{Graph, Node, Operands, parse, results};
use crate::array::Array;
use crate::types::{DType, TensorType, row_major_strides};

/// One op of each kind, so that the `match` in [`of`] is asked for every variant.
pub(crate) fn kinds() -> Vec<Op> {
    let mut ops = vec![
        Op::Param(0),
        Op::Literal(Literal::new(DType::F32, 2.5)),
        Op::Constant(constant(&Array::from_vec(&[2], vec![0.0f32; 2]).expect("two elements"))),
        Op::Iota { dtype: DType::I32, shape: smallvec![3, 4], axis: 1 },
        Op::Select,
        Op::Convert(DType::F32),
        Op::Bitcast(DType::U32),
        Op::StopGradient,
        Op::Threefry,
        Op::Sort { axis: 0, keys: 1 },
        Op::Cholesky,
        Op::TriangularSolve(Triangular::default()),
        Op::Fft { inverse: false },
        Op::Lu,
        Op::Solve { transpose_a: false },
        Op::Qr { full_matrices: false },
        Op::Eigh,
        Op::Svd { full_matrices: false },
        Op::Result(0),
        Op::Reshape(smallvec![6]),
        Op::Transpose(smallvec![1, 0]),
        Op::Broadcast { shape: smallvec![2, 3], dims: smallvec![1] },
        Op::Slice { start: smallvec![0], limit: smallvec![1], stride: smallvec![1] },
        Op::Pad { low: smallvec![0], high: smallvec![0], interior: smallvec![0] },
        Op::Concat(0),
        Op::Rev(smallvec![0]),
        Op::Shear { axis: 0, by: 1, stride: 1, step: 1, extent: 1 },
        Op::Unshear { axis: 0, by: 1, stride: 1, step: 1, extent: 1 },
        Op::Dot(DotAxes::default(), None),
        Op::Conv(Box::default(), None),
        Op::Gather { dims: Box::default(), sizes: smallvec![] },
        Op::DynamicSlice { sizes: smallvec![] },
        Op::DynamicUpdateSlice,
        Op::Scan { body: Arc::default(), num_consts: 0, num_carry: 0, length: 0, reverse: false },
        Op::While { body: Arc::default(), num_consts: 0 },
        Op::Cond { branches: vec![] },
    ];
    ops.extend(ScatterOp::ALL.map(|combine| Op::Scatter { dims: Box::default(), combine }));
    ops.extend(UnaryOp::ALL.iter().map(|&op| Op::Unary(op)));
    ops.extend(BinaryOp::ALL.iter().map(|&op| Op::Binary(op)));
    ops.extend(CompareOp::ALL.iter().map(|&op| Op::Compare(op)));
    ops.extend(ReduceOp::ALL.iter().map(|&op| Op::Reduce(op, smallvec![0])));
    ops.extend(ArgOp::ALL.iter().map(|&op| Op::ArgReduce(op, 0)));
    ops.extend(CumulativeOp::ALL.iter().map(|&op| Op::Cumulative(op, 0, false)));
    ops
}

impl Sample {
    /// Operand number `i` of the sample, where `x` is drawn from the range: matrices that are decomposed or divided by
    /// get a large diagonal, so that they are positive definite and well conditioned, and one of distinct elements
    /// where their eigenvalues are asked for. `x` may have a further axis, of a batch.
    ///
    /// # Panics
    /// If `x` is not of the type of the operand.
    pub fn conditioned(&self, i: usize, x: Array, batch: Option<usize>) -> Array {
        let is_distinct = matches!(self.op, Op::Eigh | Op::Svd { .. });
        let is_dominant = matches!(
            self.op,
            Op::Cholesky
                | Op::TriangularSolve(_)
                | Op::Lu
                | Op::Solve { .. }
                | Op::Qr { .. }
                | Op::Eigh
                | Op::Svd { .. }
        );
        if !is_dominant || i > 0 {
            return x;
        }
        let ty = x.ty().clone();
        let axes: Vec<usize> = (0..ty.rank()).filter(|&axis| Some(axis) != batch).collect();
        let [.., row, column] = axes[..] else { panic!("{ty} is no matrix") };
        let diagonal = ty.shape[row] as f64 * self.range.1 + 1.0;
        let strides = row_major_strides(&ty.shape);
        let at = |k: usize, axis: usize| k / strides[axis] % ty.shape[axis];
        let element = |(k, &bits): (usize, &u64)| match at(k, row) == at(k, column) {
            true => {
                let times = if is_distinct { at(k, row) as f64 + 1.0 } else { 1.0 };
                ty.dtype.bits(ty.dtype.value(bits).to_f64() + times * diagonal)
            }
            false => bits,
        };
        let bits: Vec<u64> = x.to_bits().expect("a sample is on the host").iter().enumerate().map(element).collect();
        Array::from_bits(&ty, &bits).expect("as many elements as before")
    }

    /// The op applied to inputs; its results are the graph's.
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        let params: Operands = self.operands.iter().map(|ty| graph.param(ty.clone())).collect();
        let types: Vec<&TensorType> = self.operands.iter().collect();
        let types = results(&self.op, &types).expect("samples can be applied");
        let count = types.len();
        let of = Node { op: self.op.clone(), operands: params, ty: types[0].clone(), location: None };
        let of = graph.push(of);
        graph.outputs = if count == 1 { vec![of] } else { graph.project(of, types) };
        graph
    }
}

/// Samples of every op.
pub fn samples() -> Vec<Sample> {
    kinds().iter().flat_map(of).collect()
}

/// The element types of a class that samples use.
fn dtypes(class: Class) -> Vec<DType> {
    DType::ALL.into_iter().filter(|&d| class.contains(d)).collect()
}

/// Single elements of a vector.
fn elements() -> GatherDims {
    GatherDims { collapsed_slice_dims: smallvec![0], start_index_map: smallvec![0], ..GatherDims::default() }
}

/// Windows at places along both axes, whose own axes lie around those of the indices.
fn windows() -> GatherDims {
    GatherDims { offset_dims: smallvec![0, 2], start_index_map: smallvec![1, 0], ..GatherDims::default() }
}

/// Rows of a matrix, at a vector of indices.
fn rows() -> GatherDims {
    GatherDims { offset_dims: smallvec![1], ..elements() }
}

/// For each row of a matrix elements of it.
fn along_axis() -> GatherDims {
    GatherDims {
        collapsed_slice_dims: smallvec![1],
        start_index_map: smallvec![1],
        operand_batching_dims: smallvec![0],
        start_indices_batching_dims: smallvec![0],
        ..GatherDims::default()
    }
}

/// Loops: a recurrence, sums of both directions that are results too, a swap, a nested loop, no trip, no carry.
fn scans() -> Vec<Sample> {
    use DType::{F32, F64, I32};
    let t = |dtype: DType, shape: &[usize]| TensorType::new(dtype, shape);
    let scan = |body: &str, [num_consts, num_carry, length]: [usize; 3], reverse, operands: Vec<TensorType>| {
        let body = Arc::new(parse(body).expect("a body"));
        Sample { op: Op::Scan { body, num_consts, num_carry, length, reverse }, operands, range: (-1.0, 1.0) }
    };
    let recurrence = "fn f(%w: f32[3,3], %h: f32[3], %x: f32[3]) -> (f32[3], f32[3]) {
        %a: f32[3] = dot_general %w, %h [batch=, contract=1:0]
        %b: f32[3] = add %a, %x
        %n: f32[3] = tanh %b
        %y: f32[3] = mul %n, %x
        return %n, %y
    }";
    let sum = "fn f(%s: f64[], %x: f64[]) -> (f64[], f64[]) {
        %n: f64[] = add %s, %x
        return %n, %n
    }";
    let swap = "fn f(%a: f32[5], %b: f32[5], %i: i32[]) -> (f32[5], f32[5], i32[]) {
        return %b, %a, %i
    }";
    let map = "fn f(%c: f32[], %x: f32[2,3]) -> (f32[2,3]) {
        %b: f32[2,3] = broadcast_in_dim %c [shape=2,3, dims=]
        %y: f32[2,3] = mul %x, %b
        return %y
    }";
    let nested = "fn f(%h: f32[4], %xs: f32[3,4]) -> (f32[4], f32[4]) {
        %r: f32[4] = scan %h, %xs [body=@g, num_consts=0, num_carry=1, length=3, reverse=true]
        %y: f32[4] = sin %r
        return %r, %y
    }
    fn g(%h: f32[4], %x: f32[4]) -> (f32[4]) {
        %a: f32[4] = mul %h, %x
        %n: f32[4] = add %a, %x
        return %n
    }";
    vec![
        scan(recurrence, [1, 1, 4], false, vec![t(F32, &[3, 3]), t(F32, &[3]), t(F32, &[4, 3])]),
        scan(sum, [0, 1, 5], true, vec![t(F64, &[]), t(F64, &[5])]),
        scan(swap, [0, 2, 3], false, vec![t(F32, &[5]), t(F32, &[5]), t(I32, &[3])]),
        scan(map, [1, 0, 2], true, vec![t(F32, &[]), t(F32, &[2, 2, 3])]),
        scan(nested, [0, 1, 2], false, vec![t(F32, &[4]), t(F32, &[2, 3, 4])]),
        scan(sum, [0, 1, 0], false, vec![t(F64, &[]), t(F64, &[0])]),
        scan(sum, [0, 1, 1], false, vec![t(F64, &[]), t(F64, &[1])]),
    ]
}

/// Loops that end: a recurrence, a carry that is swapped, one without elements, nested loops. Each counts down.
fn whiles() -> Vec<Sample> {
    use DType::{Bool, F32, F64, I32};
    let t = |dtype: DType, shape: &[usize]| TensorType::new(dtype, shape);
    let sample = |body: &str, num_consts, operands: Vec<TensorType>| {
        let body = Arc::new(parse(body).expect("a body"));
        Sample { op: Op::While { body, num_consts }, operands, range: (0.0, 4.0) }
    };
    let recurrence = "fn f(%w: f32[3,3], %p: bool[], %i: i32[], %h: f32[3]) -> (bool[], i32[], f32[3]) {
        %a: f32[3] = dot_general %w, %h [batch=, contract=1:0]
        %n: f32[3] = tanh %a
        %one: i32[] = literal 1
        %j: i32[] = sub %i, %one
        %zero: i32[] = literal 0
        %q: bool[] = gt %j, %zero
        return %q, %j, %n
    }";
    let swap = "fn f(%p: bool[], %i: i32[], %a: f64[5], %b: f64[5], %e: f32[0]) ->
        (bool[], i32[], f64[5], f64[5], f32[0]) {
        %one: i32[] = literal 1
        %j: i32[] = sub %i, %one
        %zero: i32[] = literal 0
        %q: bool[] = gt %j, %zero
        return %q, %j, %b, %a, %e
    }"
    .replace(
        "->
        ",
        "-> ",
    );
    let nested = "fn f(%p: bool[], %i: i32[], %x: f32[4]) -> (bool[], i32[], f32[4]) {
        %one: i32[] = literal 1
        %j: i32[] = sub %i, %one
        %zero: i32[] = literal 0
        %q: bool[] = gt %j, %zero
        %all: bool[] = while %q, %j, %x [body=@g, num_consts=0]
        %y: f32[4] = result %all [index=2]
        return %q, %j, %y
    }
    fn g(%p: bool[], %i: i32[], %x: f32[4]) -> (bool[], i32[], f32[4]) {
        %y: f32[4] = sin %x
        %one: i32[] = literal 1
        %j: i32[] = sub %i, %one
        %zero: i32[] = literal 0
        %q: bool[] = gt %j, %zero
        return %q, %j, %y
    }";
    let never = "fn f(%p: bool[]) -> (bool[]) {
        %q: bool[] = not %p
        return %q
    }";
    vec![
        sample(recurrence, 1, vec![t(F32, &[3, 3]), t(Bool, &[]), t(I32, &[]), t(F32, &[3])]),
        sample(&swap, 0, vec![t(Bool, &[]), t(I32, &[]), t(F64, &[5]), t(F64, &[5]), t(F32, &[0])]),
        sample(nested, 0, vec![t(Bool, &[]), t(I32, &[]), t(F32, &[4])]),
        sample(never, 0, vec![t(Bool, &[])]),
    ]
}

/// Two branches of which one ignores its operands, three with two results, one.
fn conds() -> Vec<Sample> {
    use DType::{F32, F64, I32};
    let t = |dtype: DType, shape: &[usize]| TensorType::new(dtype, shape);
    let sample = |branches: &[&str], operands: Vec<TensorType>| {
        let branches = branches.iter().map(|text| Arc::new(parse(text).expect("a branch"))).collect();
        Sample { op: Op::Cond { branches }, operands, range: (-1.0, 3.0) }
    };
    let sine = "fn f(%x: f32[4]) -> (f32[4]) {
        %y: f32[4] = sin %x
        return %y
    }";
    let zeros = "fn f(%x: f32[4]) -> (f32[4]) {
        %a: f32[] = literal 0.0
        %y: f32[4] = broadcast_in_dim %a [shape=4, dims=]
        return %y
    }";
    let swap = "fn f(%x: f64[2], %y: f64[2], %w: f64[2,2]) -> (f64[2], f64[2]) {
        return %y, %x
    }";
    let product = "fn f(%x: f64[2], %y: f64[2], %w: f64[2,2]) -> (f64[2], f64[2]) {
        %z: f64[2] = dot_general %w, %y [batch=, contract=1:0]
        %a: f64[2] = mul %x, %y
        return %z, %a
    }";
    let same = "fn f(%x: f64[2], %y: f64[2], %w: f64[2,2]) -> (f64[2], f64[2]) {
        %a: f64[2] = mul %x, %x
        return %a, %a
    }";
    let three = || vec![t(I32, &[]), t(F64, &[2]), t(F64, &[2]), t(F64, &[2, 2])];
    vec![
        sample(&[sine, zeros], vec![t(I32, &[]), t(F32, &[4])]),
        sample(&[swap, product, same], three()),
        sample(&[product], three()),
    ]
}

/// Samples of one op; the parameters of `op` itself are ignored.
fn of(op: &Op) -> Vec<Sample> {
    use DType::{Bool, F32, F64, I32, U32};
    let t = |dtype: DType, shape: &[usize]| TensorType::new(dtype, shape);
    let one = |op: Op, operands: Vec<TensorType>| Sample { op, operands, range: (-2.0, 2.0) };
    match op {
        Op::Sort { .. } => vec![
            one(Op::Sort { axis: 0, keys: 1 }, vec![t(F32, &[21])]),
            one(Op::Sort { axis: 1, keys: 1 }, vec![t(F32, &[3, 17]), t(F32, &[3, 17])]),
            one(Op::Sort { axis: 0, keys: 2 }, vec![t(Bool, &[19, 2]), t(I32, &[19, 2]), t(F64, &[19, 2])]),
            one(Op::Sort { axis: 1, keys: 1 }, vec![t(U32, &[2, 9, 3]), t(F32, &[2, 9, 3])]),
            one(Op::Sort { axis: 0, keys: 1 }, vec![t(F64, &[6])]),
        ],
        Op::Cholesky => {
            [t(F32, &[5, 5]), t(F64, &[9, 3, 3]), t(F32, &[3, 13, 13]), t(F64, &[1, 1]), t(F32, &[2, 0, 0])]
                .map(|a| one(Op::Cholesky, vec![a]))
                .to_vec()
        }
        Op::TriangularSolve(_) => {
            let solve = |bits: usize, a: TensorType, b: TensorType| {
                let [left_side, lower, transpose_a, unit_diagonal] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
                let how = Triangular { left_side, lower, transpose_a, unit_diagonal };
                Sample { op: Op::TriangularSolve(how), operands: vec![a, b], range: (-0.5, 0.5) }
            };
            let mut all = vec![
                solve(1, t(F64, &[2, 6, 6]), t(F64, &[2, 6, 19])),
                solve(6, t(F32, &[2, 3, 3]), t(F32, &[2, 9, 3])),
                solve(2, t(F32, &[9, 3, 3]), t(F32, &[9, 2, 3])),
                solve(5, t(F64, &[8, 2, 2]), t(F64, &[8, 2, 1])),
                solve(3, t(F32, &[1, 1]), t(F32, &[1, 1])),
                solve(3, t(F32, &[2, 2]), t(F32, &[2, 0])),
                solve(0, t(F32, &[0, 0]), t(F32, &[2, 0])),
            ];
            all.extend((0..16).map(|bits| {
                let b = if bits & 1 == 1 { [5, 3] } else { [3, 5] };
                solve(bits, t(F32, &[5, 5]), t(F32, &b))
            }));
            all
        }
        Op::Lu => [t(F64, &[4, 4]), t(F32, &[5, 3]), t(F64, &[2, 3, 6]), t(F32, &[19, 3, 3]), t(F32, &[0, 3, 3])]
            .into_iter()
            .chain([t(F32, &[1, 1]), t(F64, &[3, 0]), t(F32, &[17, 17]), t(F64, &[18, 20])])
            .map(|a| Sample { op: Op::Lu, operands: vec![a], range: (-0.5, 0.5) })
            .collect(),
        Op::Solve { .. } => {
            let solve = |transpose_a: bool, a: TensorType, b: TensorType| Sample {
                op: Op::Solve { transpose_a },
                operands: vec![a, b],
                range: (-0.5, 0.5),
            };
            vec![
                solve(false, t(F64, &[4, 4]), t(F64, &[4, 2])),
                solve(true, t(F64, &[2, 3, 3]), t(F64, &[2, 3, 1])),
                solve(true, t(F32, &[11, 11]), t(F32, &[11, 3])),
                solve(false, t(F32, &[18, 3, 3]), t(F32, &[18, 3, 2])),
                solve(false, t(F32, &[1, 1]), t(F32, &[1, 0])),
                solve(true, t(F32, &[2, 0, 0]), t(F32, &[2, 0, 3])),
            ]
        }
        Op::Qr { .. } => {
            let qr = |full_matrices: bool, a: TensorType| Sample {
                op: Op::Qr { full_matrices },
                operands: vec![a],
                range: (-0.5, 0.5),
            };
            vec![
                qr(false, t(F64, &[4, 4])),
                qr(false, t(F32, &[2, 5, 3])),
                qr(false, t(F64, &[2, 4])),
                qr(true, t(F64, &[3, 3])),
                qr(true, t(F32, &[2, 4])),
                qr(false, t(F32, &[17, 4, 2])),
                qr(false, t(F32, &[12, 10])),
                qr(false, t(F32, &[1, 1])),
                qr(false, t(F32, &[0, 3])),
            ]
        }
        Op::Eigh => [t(F64, &[4, 4]), t(F32, &[2, 3, 3]), t(F32, &[17, 3, 3]), t(F64, &[1, 1]), t(F32, &[2, 0, 0])]
            .into_iter()
            .chain([t(F64, &[12, 12])])
            .map(|a| Sample { op: Op::Eigh, operands: vec![a], range: (-0.5, 0.5) })
            .collect(),
        Op::Svd { .. } => {
            let svd = |full_matrices: bool, a: TensorType| Sample {
                op: Op::Svd { full_matrices },
                operands: vec![a],
                range: (-0.5, 0.5),
            };
            vec![
                svd(false, t(F64, &[4, 4])),
                svd(false, t(F32, &[2, 5, 3])),
                svd(true, t(F64, &[3, 3])),
                svd(false, t(F32, &[17, 3, 2])),
                svd(false, t(F64, &[12, 9])),
                svd(false, t(F32, &[1, 1])),
                svd(false, t(F32, &[3, 0])),
            ]
        }
        // A projection belongs to the samples of its op.
        Op::Param(_) | Op::Result(_) => vec![],
        Op::Literal(_) => [F32, F64, I32, U32, Bool].map(|d| one(Op::Literal(Literal::new(d, 1.0)), vec![])).to_vec(),
        Op::Constant(_) => {
            let array =
                Array::from_vec(&[2, 3], vec![1.0f32, -2.0, 0.5, f32::INFINITY, 0.0, 4.0]).expect("six elements");
            vec![one(Op::Constant(constant(&array)), vec![])]
        }
        Op::Iota { .. } => [(F32, 0), (I32, 1), (U32, 1), (F64, 0)]
            .map(|(dtype, axis)| one(Op::Iota { dtype, shape: smallvec![3, 5], axis }, vec![]))
            .to_vec(),
        Op::Unary(op) => dtypes(op.class())
            .into_iter()
            .flat_map(|d| {
                [t(d, &[3, 7]), t(d, &[])].map(|ty| Sample {
                    op: Op::Unary(*op),
                    operands: vec![ty],
                    range: op.range(),
                })
            })
            .collect(),
        Op::Binary(op) => dtypes(op.class())
            .into_iter()
            .map(|d| Sample { op: Op::Binary(*op), operands: vec![t(d, &[5, 6]), t(d, &[5, 6])], range: op.range() })
            .collect(),
        Op::Compare(op) => dtypes(op.class())
            .into_iter()
            .map(|d| Sample { op: Op::Compare(*op), operands: vec![t(d, &[23]), t(d, &[23])], range: op.range() })
            .collect(),
        Op::Select => {
            DType::ALL.map(|d| one(Op::Select, vec![t(Bool, &[4, 5]), t(d, &[4, 5]), t(d, &[4, 5])])).to_vec()
        }
        Op::Convert(_) => DType::ALL
            .iter()
            .flat_map(|&from| {
                DType::ALL.map(|to| Sample { op: Op::Convert(to), operands: vec![t(from, &[19])], range: (-9.0, 9.0) })
            })
            .collect(),
        Op::Bitcast(_) => {
            // One of them is an integer: between floats its tangent, 0, does not follow from its values.
            let of_size = |from: DType, to: DType| {
                from != to && from.size() == to.size() && from != Bool && to != Bool && (from.is_int() || to.is_int())
            };
            let pairs = DType::ALL.iter().flat_map(|&from| DType::ALL.map(|to| (from, to)));
            pairs
                .filter(|&(from, to)| of_size(from, to))
                .map(|(from, to)| one(Op::Bitcast(to), vec![t(from, &[3, 3])]))
                .collect()
        }
        Op::StopGradient => vec![one(Op::StopGradient, vec![t(F32, &[4])])],
        Op::Threefry => vec![Sample { op: Op::Threefry, operands: vec![t(U32, &[21]); 4], range: (0.0, 4e9) }],
        Op::Reshape(_) => vec![
            one(Op::Reshape(smallvec![6, 4]), vec![t(F32, &[2, 3, 4])]),
            one(Op::Reshape(smallvec![2, 2, 6]), vec![t(F32, &[4, 6])]),
            one(Op::Reshape(smallvec![]), vec![t(F32, &[1, 1])]),
            one(Op::Reshape(smallvec![3, 8]), vec![t(I32, &[6, 4])]),
        ],
        Op::Transpose(_) => vec![
            one(Op::Transpose(smallvec![1, 0]), vec![t(F32, &[5, 7])]),
            one(Op::Transpose(smallvec![2, 0, 1]), vec![t(F32, &[2, 3, 4])]),
            one(Op::Transpose(smallvec![0, 2, 1]), vec![t(I32, &[2, 3, 4])]),
        ],
        Op::Broadcast { .. } => vec![
            one(Op::Broadcast { shape: smallvec![3, 4, 2], dims: smallvec![1] }, vec![t(F32, &[4])]),
            one(Op::Broadcast { shape: smallvec![3, 4], dims: smallvec![0, 1] }, vec![t(F32, &[3, 1])]),
            one(Op::Broadcast { shape: smallvec![17], dims: smallvec![] }, vec![t(Bool, &[])]),
        ],
        Op::Slice { .. } => vec![
            one(
                Op::Slice { start: smallvec![1, 0, 2], limit: smallvec![7, 5, 9], stride: smallvec![2, 1, 3] },
                vec![t(F32, &[8, 6, 10])],
            ),
            one(Op::Slice { start: smallvec![3], limit: smallvec![20], stride: smallvec![1] }, vec![t(F32, &[25])]),
        ],
        Op::Pad { .. } => vec![
            one(
                Op::Pad { low: smallvec![1, 0, 3], high: smallvec![2, 1, 0], interior: smallvec![0, 2, 1] },
                vec![t(F32, &[2, 3, 4]), t(F32, &[])],
            ),
            one(
                Op::Pad { low: smallvec![-1, 1], high: smallvec![2, -1], interior: smallvec![0, 1] },
                vec![t(F32, &[5, 6]), t(F32, &[])],
            ),
        ],
        Op::Concat(_) => vec![
            one(Op::Concat(1), vec![t(F32, &[2, 2, 3]), t(F32, &[2, 1, 3]), t(F32, &[2, 4, 3])]),
            one(Op::Concat(0), vec![t(U32, &[5]), t(U32, &[19])]),
        ],
        Op::Rev(_) => vec![
            one(Op::Rev(smallvec![0, 2]), vec![t(F32, &[2, 3, 4])]),
            one(Op::Rev(smallvec![0]), vec![t(F32, &[21])]),
        ],
        Op::Reduce(op, _) => dtypes(op.class())
            .into_iter()
            .flat_map(|d| {
                [smallvec![0], smallvec![1], smallvec![2], smallvec![0, 2], smallvec![0, 1, 2]].map(|axes| Sample {
                    op: Op::Reduce(*op, axes),
                    operands: vec![t(d, &[3, 4, 19])],
                    range: op.range(),
                })
            })
            .collect(),
        Op::ArgReduce(op, _) => [(F32, 0), (F32, 1), (I32, 1), (U32, 0)]
            .map(|(d, axis)| Sample { op: Op::ArgReduce(*op, axis), operands: vec![t(d, &[6, 21])], range: op.range() })
            .to_vec(),
        Op::Cumulative(op, ..) => {
            let sample = |d: DType, shape: &[usize], axis: usize, reverse: bool| Sample {
                op: Op::Cumulative(*op, axis, reverse),
                operands: vec![t(d, shape)],
                range: op.range(),
            };
            let mut all: Vec<Sample> = dtypes(op.class()).into_iter().map(|d| sample(d, &[3, 7, 5], 1, true)).collect();
            all.extend([
                sample(F32, &[21], 0, false),
                sample(F32, &[9], 0, true),
                sample(F64, &[4, 6], 1, false),
                sample(F32, &[6, 19], 1, true),
                sample(F32, &[6, 37], 0, false),
                sample(F32, &[2, 0, 3], 1, false),
                sample(F32, &[1, 3], 0, true),
            ]);
            all
        }
        Op::Shear { .. } => {
            let shear = |axis: usize, by: usize, [stride, step, extent]: [usize; 3], x: TensorType| {
                one(Op::Shear { axis, by, stride, step, extent }, vec![x])
            };
            vec![
                shear(1, 0, [2, 1, 4], t(F32, &[3, 9])),
                shear(0, 2, [1, 2, 17], t(F64, &[21, 2, 3])),
                shear(2, 0, [3, 0, 3], t(I32, &[2, 4, 8])),
                shear(1, 0, [1, 1, 0], t(F32, &[3, 2])),
                shear(1, 0, [1, 1, 1], t(Bool, &[1, 1])),
            ]
        }
        Op::Unshear { .. } => {
            let unshear = |axis: usize, by: usize, [stride, step, extent]: [usize; 3], x: TensorType| {
                one(Op::Unshear { axis, by, stride, step, extent }, vec![x])
            };
            vec![
                unshear(1, 0, [2, 1, 9], t(F32, &[3, 4])),
                unshear(1, 0, [1, 1, 37], t(F32, &[3, 35])),
                unshear(0, 2, [1, 2, 21], t(F64, &[17, 2, 3])),
                unshear(2, 0, [3, 0, 9], t(I32, &[2, 4, 3])),
                unshear(1, 0, [1, 1, 4], t(F32, &[3, 0])),
                unshear(1, 0, [4, 3, 5], t(F32, &[1, 1])),
            ]
        }
        Op::Dot(..) => {
            let dot = |batch: &[(usize, usize)], contract: &[(usize, usize)], x: TensorType, y: TensorType| {
                one(Op::Dot(DotAxes { batch: batch.into(), contract: contract.into() }, None), vec![x, y])
            };
            let matrices = DotAxes { batch: smallvec![], contract: smallvec![(1, 0)] };
            vec![
                dot(&[], &[(1, 0)], t(F32, &[2, 3]), t(F32, &[3, 4])),
                dot(&[], &[(1, 0)], t(F64, &[5, 3]), t(F64, &[3, 20])),
                dot(&[(0, 0)], &[(2, 2)], t(F32, &[3, 17, 5]), t(F32, &[3, 9, 5])),
                dot(&[(0, 1)], &[(1, 0)], t(F32, &[2, 5, 3]), t(F32, &[5, 2, 4])),
                dot(&[], &[(0, 0)], t(F32, &[6]), t(F32, &[6])),
                dot(&[], &[], t(F32, &[4]), t(F32, &[5])),
                dot(&[], &[(0, 1), (2, 0)], t(F32, &[2, 3, 4]), t(F32, &[4, 2, 5])),
                one(Op::Dot(matrices, Some(Precision::Bf16)), vec![t(F32, &[9, 5]), t(F32, &[5, 8])]),
            ]
        }
        Op::Conv(..) => super::conv_samples::samples(),
        Op::Fft { .. } => {
            let fft = |inverse, ty: TensorType| one(Op::Fft { inverse }, vec![ty.clone(), ty]);
            let mut all = vec![fft(true, t(F32, &[2, 12])), fft(true, t(F64, &[3, 67])), fft(false, t(F32, &[2, 0]))];
            // Each radix, several passes, a factor that is a product, a convolution.
            all.extend([1, 2, 3, 4, 5, 7, 8, 11, 13, 16, 32, 17, 34, 64, 67].map(|n| fft(false, t(F32, &[2, n]))));
            all.extend([1, 6, 48, 128].map(|n| fft(false, t(F64, &[2, 3, n]))));
            all
        }
        Op::Gather { .. } => {
            let gather = |dims: GatherDims, sizes: &[usize], x: TensorType, indices: &[usize]| Sample {
                op: Op::Gather { dims: dims.into(), sizes: sizes.into() },
                operands: vec![x, t(I32, indices)],
                range: (-3.0, 9.0),
            };
            let mut all = vec![
                // Windows along both axes, at pairs of indices.
                gather(windows(), &[2, 3], t(F32, &[5, 7]), &[4, 2]),
                gather(along_axis(), &[1, 1], t(F32, &[3, 20]), &[3, 2, 1]),
            ];
            all.extend([F32, F64, I32, U32, Bool].map(|d| gather(rows(), &[1, 19], t(d, &[6, 19]), &[4, 1])));
            all.extend([F32, F64, Bool].map(|d| gather(elements(), &[1], t(d, &[6]), &[3, 21, 1])));
            all
        }
        Op::Scatter { combine, .. } => {
            let scatter = |dims: GatherDims, x: TensorType, indices: &[usize], updates: &[usize]| Sample {
                operands: vec![x.clone(), t(I32, indices), t(x.dtype, updates)],
                op: Op::Scatter { dims: dims.into(), combine: *combine },
                range: (-3.0, 9.0),
            };
            let mut all = vec![
                scatter(windows(), t(F32, &[5, 7]), &[4, 2], &[2, 4, 3]),
                scatter(along_axis(), t(F32, &[3, 20]), &[3, 2, 1], &[3, 2]),
                // One update for each row.
                scatter(along_axis(), t(F32, &[3, 20]), &[3, 1, 1], &[3, 1]),
            ];
            all.extend([F32, F64, I32].map(|d| scatter(rows(), t(d, &[6, 19]), &[4, 1], &[4, 19])));
            all.extend([F32, F64, U32].map(|d| scatter(elements(), t(d, &[6]), &[21, 1], &[21])));
            all.extend([
                // One window of each.
                scatter(windows(), t(F32, &[5, 7]), &[1, 2], &[2, 1, 3]),
                scatter(along_axis(), t(F32, &[3, 20]), &[3, 1, 1], &[3, 1]),
            ]);
            all.extend([F32, F64, I32].map(|d| scatter(rows(), t(d, &[6, 19]), &[1, 1], &[1, 19])));
            all.extend([F32, F64, U32].map(|d| scatter(elements(), t(d, &[6]), &[1, 1], &[1])));
            all
        }
        Op::DynamicSlice { .. } => {
            let slice = |sizes: &[usize], x: TensorType| Sample {
                operands: std::iter::once(x.clone()).chain(x.shape.iter().map(|_| t(I32, &[]))).collect(),
                op: Op::DynamicSlice { sizes: sizes.into() },
                range: (-3.0, 9.0),
            };
            vec![
                slice(&[2, 5], t(F32, &[6, 7])),
                slice(&[6, 1], t(F64, &[6, 7])),
                slice(&[19], t(I32, &[40])),
                slice(&[3], t(Bool, &[5])),
                slice(&[], t(F32, &[])),
            ]
        }
        Op::Scan { .. } => scans(),
        Op::While { .. } => whiles(),
        Op::Cond { .. } => conds(),
        Op::DynamicUpdateSlice => {
            let update = |x: TensorType, sizes: &[usize]| {
                let starts = x.shape.iter().map(|_| t(I32, &[]));
                Sample {
                    operands: [x.clone(), t(x.dtype, sizes)].into_iter().chain(starts).collect(),
                    op: Op::DynamicUpdateSlice,
                    range: (-3.0, 9.0),
                }
            };
            vec![
                update(t(F32, &[6, 7]), &[2, 5]),
                update(t(F64, &[6, 7]), &[1, 7]),
                update(t(I32, &[40]), &[19]),
                update(t(F32, &[4]), &[4]),
                update(t(F32, &[4, 3]), &[0, 2]),
                update(t(F32, &[]), &[]),
            ]
        }
    }
}

fn constant(array: &Array) -> Constant {
    Constant::new(array).expect("a sample is on the host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_kind() {
        let kinds = kinds();
        for name in Op::NAMES {
            assert!(kinds.iter().any(|op| op.name() == *name), "{name} is not in `kinds`, so it has no samples");
        }
    }
}

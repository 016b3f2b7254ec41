//! A graph as StableHLO, in MLIR's generic form: text that JAX's compiler loads.
//!
//! Comes in: a verified graph. Goes out: a module with one function, `main`. One match over all ops; the regions of ops
//! that take a function are in `regions`, lines of text in `writer`. Reading StableHLO is not done here. The meaning of
//! each op is in the specification of StableHLO (openxla.org/stablehlo/spec); functions that it lacks are ops of
//! `chlo`, which JAX expands. Op by op the results are those of this library but for the rounding of floats, and the
//! bits of NaN.

use hashbrown::HashMap;

use super::writer::{Value, Writer, array, list, tensor};
use crate::graph::{
    ArgOp, BinaryOp, CompareOp, ConvDims, CumulativeOp, DotAxes, GatherDims, Graph, Literal, Node, Op, Operands,
    Precision, ReduceOp, ScatterOp, Triangular, UnaryOp, ValueId, results,
};
use crate::types::{Axes, DType, TensorType, join};

/// The module: `func.func @main` with the inputs and results of `graph`.
pub fn stablehlo(graph: &Graph) -> String {
    let mut writer = Writer::default();
    let inputs: Vec<Value> = graph.param_types().into_iter().map(|ty| writer.fresh(ty)).collect();
    let outputs = writer.inline(graph, &inputs);
    let types = |values: &[Value]| values.iter().map(|v| tensor(&v.ty)).collect::<Vec<_>>().join(", ");
    let names = |values: &[Value]| values.iter().map(|v| v.name.clone()).collect::<Vec<_>>().join(", ");
    let arguments: Vec<String> = inputs.iter().map(|v| format!("{}: {}", v.name, tensor(&v.ty))).collect();
    let header = if arguments.is_empty() { String::new() } else { format!("^bb0({}):\n", arguments.join(", ")) };
    let signature = format!("({}) -> ({})", types(&inputs), types(&outputs));
    format!(
        "\"builtin.module\"() <{{sym_name = \"main\"}}> ({{\n\"func.func\"() <{{function_type = {signature}, \
         sym_name = \"main\", sym_visibility = \"public\"}}> ({{\n{header}{}\"func.return\"({}) : ({}) -> ()\n}}) : () \
         -> ()\n}}) : () -> ()\n",
        writer.text,
        names(&outputs),
        types(&outputs),
    )
}

impl Writer {
    /// Writes the ops of a graph on these inputs; gives its results.
    fn inline(&mut self, graph: &Graph, inputs: &[Value]) -> Vec<Value> {
        let mut known: HashMap<ValueId, Vec<Value>> = HashMap::new();
        for id in graph.ids() {
            let node = graph.node(id);
            let results = match &node.op {
                Op::Param(i) => vec![inputs[*i].clone()],
                Op::Result(i) => vec![known[&node.operands[0]][*i as usize].clone()],
                _ => {
                    let operands: Vec<Value> = node.operands.iter().map(|x| known[x][0].clone()).collect();
                    self.node(node, &operands.iter().collect::<Vec<_>>())
                }
            };
            known.insert(id, results);
        }
        graph.outputs.iter().map(|x| known[x][0].clone()).collect()
    }

    /// The results of one op.
    fn node(&mut self, node: &Node, x: &[&Value]) -> Vec<Value> {
        let ty = &node.ty;
        let one = |value: Value| vec![value];
        match &node.op {
            Op::Param(_) | Op::Result(_) => unreachable!("{} is handled before", node.op.name()),
            Op::Literal(literal) => one(self.splat(literal.bits, ty)),
            Op::Constant(constant) => one(self.constant(ty, constant.bytes())),
            Op::Iota { axis, .. } => {
                one(self.op("stablehlo.iota", x, &format!("iota_dimension = {axis} : i64"), ty.clone()))
            }
            Op::Unary(op) => one(self.unary(*op, x[0], ty)),
            Op::Binary(op) => one(self.op(binary(*op), x, "", ty.clone())),
            Op::Compare(op) => one(self.compare(direction(*op), x[0], x[1])),
            Op::Select => one(self.op("stablehlo.select", x, "", ty.clone())),
            Op::Convert(_) => one(self.op("stablehlo.convert", x, "", ty.clone())),
            Op::Bitcast(_) => one(self.op("stablehlo.bitcast_convert", x, "", ty.clone())),
            Op::StopGradient => one(x[0].clone()),
            Op::Threefry => self.threefry(x),
            Op::Reshape(_) => one(self.op("stablehlo.reshape", x, "", ty.clone())),
            Op::Transpose(perm) => one(self.op("stablehlo.transpose", x, &array("permutation", perm), ty.clone())),
            Op::Broadcast { dims, .. } => {
                one(self.op("stablehlo.broadcast_in_dim", x, &array("broadcast_dimensions", dims), ty.clone()))
            }
            Op::Slice { start, limit, stride } => {
                let attributes =
                    [array("start_indices", start), array("limit_indices", limit), array("strides", stride)];
                one(self.op("stablehlo.slice", x, &attributes.join(", "), ty.clone()))
            }
            Op::Pad { low, high, interior } => {
                let attributes = [
                    array("edge_padding_low", low),
                    array("edge_padding_high", high),
                    array("interior_padding", interior),
                ];
                one(self.op("stablehlo.pad", x, &attributes.join(", "), ty.clone()))
            }
            Op::Concat(axis) => {
                one(self.op("stablehlo.concatenate", x, &format!("dimension = {axis} : i64"), ty.clone()))
            }
            Op::Rev(axes) => one(self.op("stablehlo.reverse", x, &array("dimensions", axes), ty.clone())),
            Op::Reduce(ReduceOp::Sum | ReduceOp::Prod, _) | Op::Cumulative(..) | Op::Dot(..)
                if ty.dtype.is_narrow_float() =>
            {
                self.in_f32(node, x)
            }
            Op::Reduce(op, axes) => {
                let identity = op.identity(ty.dtype);
                let init = self.splat(identity.bits, &TensorType::scalar(ty.dtype));
                let region = self.combine(reduction(*op), ty.dtype);
                let attributes = array("dimensions", axes);
                self.several("stablehlo.reduce", &[x[0], &init], &attributes, &region, vec![ty.clone()])
            }
            Op::Cumulative(op, axis, reverse) => one(self.cumulative(*op, *axis, *reverse, x[0])),
            Op::Shear { axis, by, stride, step, .. } => one(self.shear([*axis, *by], [*stride, *step], x[0], ty)),
            Op::Unshear { axis, by, stride, step, .. } => one(self.unshear([*axis, *by], [*stride, *step], x[0], ty)),
            Op::ArgReduce(op, axis) => one(self.arg_reduce(*op, *axis, x[0], ty)),
            Op::Dot(axes, precision) => one(self.op("stablehlo.dot_general", x, &dot(axes, *precision), ty.clone())),
            // A window without elements is none there.
            Op::Conv(dims, _) if dims.terms(&x[1].ty) == 0 => one(self.splat(0, ty)),
            Op::Conv(dims, precision) => {
                one(self.op("stablehlo.convolution", x, &convolution(dims, *precision), ty.clone()))
            }
            Op::Gather { dims, sizes } => {
                let attributes = format!(
                    "dimension_numbers = #stablehlo.gather<{}>, {}, indices_are_sorted = false",
                    gather(dims, x[1].ty.rank() - 1, &NAMES_OF_GATHER),
                    array("slice_sizes", sizes)
                );
                one(self.op("stablehlo.gather", x, &attributes, ty.clone()))
            }
            Op::Scatter { dims, combine } if dims.start_index_map.is_empty() => {
                one(self.scatter_at_zero(dims, *combine, x))
            }
            Op::Scatter { dims, combine } => {
                let region = match combine {
                    ScatterOp::Set => {
                        let scalar = || TensorType::scalar(ty.dtype);
                        self.region(vec![scalar(), scalar()], |_, x| vec![x[1].clone()])
                    }
                    ScatterOp::Add => self.combine("stablehlo.add", ty.dtype),
                    ScatterOp::Mul => self.combine("stablehlo.multiply", ty.dtype),
                    ScatterOp::Min => self.combine("stablehlo.minimum", ty.dtype),
                    ScatterOp::Max => self.combine("stablehlo.maximum", ty.dtype),
                };
                let attributes = format!(
                    "scatter_dimension_numbers = #stablehlo.scatter<{}>, indices_are_sorted = false, unique_indices = \
                     false",
                    gather(dims, x[1].ty.rank() - 1, &NAMES_OF_SCATTER),
                );
                self.several("stablehlo.scatter", x, &attributes, &region, vec![ty.clone()])
            }
            Op::DynamicSlice { sizes } => {
                one(self.op("stablehlo.dynamic_slice", x, &array("slice_sizes", sizes), ty.clone()))
            }
            Op::DynamicUpdateSlice => one(self.op("stablehlo.dynamic_update_slice", x, "", ty.clone())),
            Op::Sort { axis, keys } => {
                let types: Vec<TensorType> = x.iter().map(|x| x.ty.clone()).collect();
                let dtypes: Vec<DType> = types.iter().map(|ty| ty.dtype).collect();
                let region = self.comparator(&dtypes, *keys);
                let attributes = format!("dimension = {axis} : i64, is_stable = true");
                self.several("stablehlo.sort", x, &attributes, &region, types)
            }
            Op::Scan { body, num_consts, num_carry, length, reverse } => {
                self.scan(node, body, x, [*num_consts, *num_carry], *length, *reverse)
            }
            Op::While { body, num_consts } => {
                let types: Vec<TensorType> = x.iter().map(|x| x.ty.clone()).collect();
                let condition = self.region(types.clone(), |_, state| vec![state[*num_consts].clone()]);
                let trip = self.region(types.clone(), |w, state| {
                    let carry = w.inline(body, state);
                    state[..*num_consts].iter().cloned().chain(carry).collect()
                });
                self.several("stablehlo.while", x, "", &format!("{condition}, {trip}"), types).split_off(*num_consts)
            }
            Op::Cond { branches } => {
                // Out of range, `case` takes the last branch.
                let scalar = TensorType::scalar(DType::I32);
                let (first, last) = (self.splat(0, &scalar), self.splat(branches.len() as u64 - 1, &scalar));
                let index = self.op("stablehlo.clamp", &[&first, x[0], &last], "", scalar);
                let operands: Vec<Value> = x[1..].iter().map(|&x| x.clone()).collect();
                let regions: Vec<String> =
                    (branches.iter()).map(|branch| self.region(vec![], |w, _| w.inline(branch, &operands))).collect();
                let types: Vec<&TensorType> = x.iter().map(|x| &x.ty).collect();
                let types = results(&node.op, &types).expect("a verified graph").to_vec();
                self.several("stablehlo.case", &[&index], "", &regions.join(", "), types)
            }
            Op::Cholesky => {
                let factor = self.op("stablehlo.cholesky", x, "lower = true", ty.clone());
                // What is above the diagonal is not specified.
                one(self.lower_triangle(&factor))
            }
            Op::TriangularSolve(how) => {
                let Triangular { left_side, lower, transpose_a, unit_diagonal } = how;
                let transpose = if *transpose_a { "TRANSPOSE" } else { "NO_TRANSPOSE" };
                let attributes = format!(
                    "left_side = {left_side}, lower = {lower}, transpose_a = #stablehlo<transpose {transpose}>, \
                     unit_diagonal = {unit_diagonal}"
                );
                one(self.op("stablehlo.triangular_solve", x, &attributes, ty.clone()))
            }
            Op::Fft { inverse } => self.fft(*inverse, x, ty),
            Op::Lu => self.custom(node, x, "LuDecomposition"),
            Op::Eigh => self.custom(node, x, "Eigh"),
            Op::Qr { .. } => self.custom(node, x, "Qr"),
            Op::Svd { .. } => self.custom(node, x, "Svd"),
            Op::Solve { .. } => self.custom(node, x, "Solve"),
        }
    }

    fn unary(&mut self, op: UnaryOp, x: &Value, ty: &TensorType) -> Value {
        let name = match op {
            UnaryOp::Neg => "stablehlo.negate",
            UnaryOp::Abs => "stablehlo.abs",
            UnaryOp::Sign => "stablehlo.sign",
            UnaryOp::Not => "stablehlo.not",
            UnaryOp::Floor => "stablehlo.floor",
            UnaryOp::Ceil => "stablehlo.ceil",
            UnaryOp::Round => "stablehlo.round_nearest_even",
            UnaryOp::IsFinite => "stablehlo.is_finite",
            UnaryOp::Exp => "stablehlo.exponential",
            UnaryOp::Expm1 => "stablehlo.exponential_minus_one",
            UnaryOp::Log => "stablehlo.log",
            UnaryOp::Log1p => "stablehlo.log_plus_one",
            UnaryOp::Sin => "stablehlo.sine",
            UnaryOp::Cos => "stablehlo.cosine",
            UnaryOp::Tan => "stablehlo.tan",
            UnaryOp::Asin => "chlo.asin",
            UnaryOp::Acos => "chlo.acos",
            UnaryOp::Atan => "chlo.atan",
            UnaryOp::Sinh => "chlo.sinh",
            UnaryOp::Cosh => "chlo.cosh",
            UnaryOp::Tanh => "stablehlo.tanh",
            UnaryOp::Asinh => "chlo.asinh",
            UnaryOp::Acosh => "chlo.acosh",
            UnaryOp::Atanh => "chlo.atanh",
            UnaryOp::Sigmoid => "stablehlo.logistic",
            UnaryOp::Sqrt => "stablehlo.sqrt",
            UnaryOp::Rsqrt => "stablehlo.rsqrt",
            UnaryOp::Cbrt => "stablehlo.cbrt",
            UnaryOp::Erf => "chlo.erf",
            UnaryOp::Erfc => "chlo.erfc",
            UnaryOp::ErfInv => "chlo.erf_inv",
            UnaryOp::Lgamma => "chlo.lgamma",
            UnaryOp::Digamma => "chlo.digamma",
            UnaryOp::BesselI1e => "chlo.bessel_i1e",
            // chlo has none.
            UnaryOp::BesselI0e => {
                let target = "call_target_name = \"fulgurite.BesselI0e\", api_version = 4 : i32";
                return self.op("stablehlo.custom_call", &[x], target, ty.clone());
            }
            // 2^x.
            UnaryOp::Exp2 => {
                let two = self.splat(Literal::new(ty.dtype, 2.0).bits, ty);
                return self.op("stablehlo.power", &[&two, x], "", ty.clone());
            }
            // max(x, 0) + log(1 + e^-|x|).
            UnaryOp::Softplus => {
                let zero = self.splat(Literal::new(ty.dtype, 0.0).bits, ty);
                let positive = self.op("stablehlo.maximum", &[x, &zero], "", ty.clone());
                let size = self.op("stablehlo.abs", &[x], "", ty.clone());
                let negative = self.op("stablehlo.negate", &[&size], "", ty.clone());
                let exponential = self.op("stablehlo.exponential", &[&negative], "", ty.clone());
                let log = self.op("stablehlo.log_plus_one", &[&exponential], "", ty.clone());
                return self.op("stablehlo.add", &[&positive, &log], "", ty.clone());
            }
        };
        self.op(name, &[x], "", ty.clone())
    }

    /// See `lower/lane/math/random.rs`.
    fn threefry(&mut self, x: &[&Value]) -> Vec<Value> {
        const ROTATIONS: [[u64; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
        let ty = x[0].ty.clone();
        let apply =
            |w: &mut Writer, op: &str, x: &Value, y: &Value| w.op(&format!("stablehlo.{op}"), &[x, y], "", ty.clone());
        let parity = self.splat(0x1bd1_1bda, &ty);
        let mixed = apply(self, "xor", x[0], x[1]);
        let keys = [x[0].clone(), x[1].clone(), apply(self, "xor", &mixed, &parity)];
        let (mut a, mut b) = (apply(self, "add", x[2], x[0]), apply(self, "add", x[3], x[1]));
        for group in 0..5 {
            for by in ROTATIONS[group % 2] {
                a = apply(self, "add", &a, &b);
                let (left, right) = (self.splat(by, &ty), self.splat(32 - by, &ty));
                let high = apply(self, "shift_left", &b, &left);
                let low = apply(self, "shift_right_logical", &b, &right);
                let turned = apply(self, "or", &high, &low);
                b = apply(self, "xor", &a, &turned);
            }
            let count = self.splat(group as u64 + 1, &ty);
            a = apply(self, "add", &a, &keys[(group + 1) % 3]);
            let key = apply(self, "add", &keys[(group + 2) % 3], &count);
            b = apply(self, "add", &b, &key);
        }
        vec![a, b]
    }

    /// A reduction of windows that reach from the first element to each (or from each to the last).
    fn cumulative(&mut self, op: CumulativeOp, axis: usize, reverse: bool, x: &Value) -> Value {
        let (dtype, rank, n) = (x.ty.dtype, x.ty.rank(), x.ty.shape[axis]);
        if x.ty.elements() == 0 {
            return x.clone();
        }
        let scalar = || TensorType::scalar(dtype);
        let (name, identity) = match op {
            CumulativeOp::Sum => ("stablehlo.add", Literal::new(dtype, 0)),
            CumulativeOp::Prod => ("stablehlo.multiply", Literal::new(dtype, 1)),
            CumulativeOp::Max => ("stablehlo.maximum", Literal::least(dtype)),
            CumulativeOp::Min => ("stablehlo.minimum", Literal::greatest(dtype)),
            CumulativeOp::LogSumExp => ("", Literal::least(dtype)),
        };
        let region = if op == CumulativeOp::LogSumExp {
            // max + log(1 + e^-|a - b|), and the maximum where the difference is not a number.
            self.region(vec![scalar(), scalar()], |w, x| {
                let mut apply = |op: &str, x: &[&Value]| w.op(&format!("stablehlo.{op}"), x, "", scalar());
                let most = apply("maximum", &[&x[0], &x[1]]);
                let apart = apply("subtract", &[&x[0], &x[1]]);
                let size = apply("abs", &[&apart]);
                let negative = apply("negate", &[&size]);
                let exponential = apply("exponential", &[&negative]);
                let log = apply("log_plus_one", &[&exponential]);
                let sum = apply("add", &[&most, &log]);
                let is_number = w.compare("EQ", &apart, &apart);
                vec![w.op("stablehlo.select", &[&is_number, &sum, &most], "", scalar())]
            })
        } else {
            self.combine(name, dtype)
        };
        let init = self.splat(identity.bits, &scalar());
        let ones = vec![1; rank];
        let window: Vec<usize> = (0..rank).map(|a| if a == axis { n } else { 1 }).collect();
        let edges = |a: usize| match a == axis {
            true if reverse => format!("[0, {}]", n - 1),
            true => format!("[{}, 0]", n - 1),
            false => "[0, 0]".into(),
        };
        let padding: Vec<String> = (0..rank).map(edges).collect();
        let attributes = [
            array("window_dimensions", &window),
            array("window_strides", &ones),
            array("base_dilations", &ones),
            array("window_dilations", &ones),
            format!("padding = dense<[{}]> : tensor<{rank}x2xi64>", padding.join(", ")),
        ];
        self.several("stablehlo.reduce_window", &[x, &init], &attributes.join(", "), &region, vec![x.ty.clone()])
            .swap_remove(0)
    }

    /// For each position along `by` a strided slice along `axis`.
    fn shear(&mut self, [axis, by]: [usize; 2], [stride, step]: [usize; 2], x: &Value, ty: &TensorType) -> Value {
        if ty.elements() == 0 {
            return self.splat(0, ty);
        }
        let mut part = ty.clone();
        part.shape[by] = 1;
        let parts: Vec<Value> = (0..ty.shape[by])
            .map(|w| {
                let (mut start, mut limit, mut strides) = (vec![0; ty.rank()], x.ty.shape.to_vec(), vec![1; ty.rank()]);
                (start[by], limit[by]) = (w, w + 1);
                (start[axis], strides[axis]) = (step * w, stride);
                limit[axis] = step * w + stride * (ty.shape[axis] - 1) + 1;
                let attributes =
                    [array("start_indices", &start), array("limit_indices", &limit), array("strides", &strides)];
                self.op("stablehlo.slice", &[x], &attributes.join(", "), part.clone())
            })
            .collect();
        let attributes = format!("dimension = {by} : i64");
        self.op("stablehlo.concatenate", &parts.iter().collect::<Vec<_>>(), &attributes, ty.clone())
    }

    /// For each position along `by` the elements with zeros around and between them.
    fn unshear(&mut self, [axis, by]: [usize; 2], [stride, step]: [usize; 2], x: &Value, ty: &TensorType) -> Value {
        if ty.elements() == 0 || x.ty.elements() == 0 {
            return self.splat(0, ty);
        }
        let zero = self.splat(0, &TensorType::scalar(ty.dtype));
        let (mut part, mut padded) = (x.ty.clone(), ty.clone());
        (part.shape[by], padded.shape[by]) = (1, 1);
        let zeros = vec![0isize; ty.rank()];
        let parts: Vec<Value> = (0..ty.shape[by])
            .map(|w| {
                let (mut start, mut limit) = (vec![0; ty.rank()], x.ty.shape.to_vec());
                (start[by], limit[by]) = (w, w + 1);
                let attributes = [
                    array("start_indices", &start),
                    array("limit_indices", &limit),
                    array("strides", &vec![1; ty.rank()]),
                ];
                let slice = self.op("stablehlo.slice", &[x], &attributes.join(", "), part.clone());
                let (mut low, mut high, mut interior) = (zeros.clone(), zeros.clone(), zeros.clone());
                (low[axis], interior[axis]) = ((step * w) as isize, stride as isize - 1);
                let reach = step * w + stride * (x.ty.shape[axis] - 1) + 1;
                high[axis] = ty.shape[axis] as isize - reach as isize;
                let attributes = [
                    array("edge_padding_low", &low),
                    array("edge_padding_high", &high),
                    array("interior_padding", &interior),
                ];
                self.op("stablehlo.pad", &[&slice, &zero], &attributes.join(", "), padded.clone())
            })
            .collect();
        let attributes = format!("dimension = {by} : i64");
        self.op("stablehlo.concatenate", &parts.iter().collect::<Vec<_>>(), &attributes, ty.clone())
    }

    fn arg_reduce(&mut self, op: ArgOp, axis: usize, x: &Value, ty: &TensorType) -> Value {
        let dtype = x.ty.dtype;
        let (direction, identity) = match op {
            ArgOp::Max => ("GT", Literal::least(dtype)),
            ArgOp::Min => ("LT", Literal::greatest(dtype)),
        };
        let attributes = format!("iota_dimension = {axis} : i64");
        let positions = self.op("stablehlo.iota", &[], &attributes, x.ty.with_dtype(DType::I32));
        let init = self.splat(identity.bits, &TensorType::scalar(dtype));
        let zero = self.splat(0, &TensorType::scalar(DType::I32));
        let region = self.extreme(direction, dtype);
        let types = vec![ty.with_dtype(dtype), ty.clone()];
        let operands = [x, &positions, &init, &zero];
        self.several("stablehlo.reduce", &operands, &array("dimensions", &[axis]), &region, types).swap_remove(1)
    }

    /// A scatter without positions, as one at position 0 along a unit axis: XLA rewrites the other wrongly.
    fn scatter_at_zero(&mut self, dims: &GatherDims, combine: ScatterOp, x: &[&Value]) -> Value {
        let mut wide = x[0].ty.clone();
        wide.shape.insert(0, 1);
        let operand = self.op("stablehlo.reshape", &[x[0]], "", wide.clone());
        let mut indices = x[1].ty.clone();
        *indices.shape.last_mut().expect("index vectors have an axis") = 1;
        let indices = self.splat(0, &indices);
        let behind = |axes: &Axes| -> Axes { axes.iter().map(|axis| axis + 1).collect() };
        let dims = GatherDims {
            collapsed_slice_dims: std::iter::once(0).chain(behind(&dims.collapsed_slice_dims)).collect(),
            start_index_map: std::iter::once(0).collect(),
            operand_batching_dims: behind(&dims.operand_batching_dims),
            ..dims.clone()
        };
        let node = Node {
            op: Op::Scatter { dims: Box::new(dims), combine },
            operands: Operands::new(),
            ty: wide,
            location: None,
        };
        let result = self.node(&node, &[&operand, &indices, x[2]]).swap_remove(0);
        self.op("stablehlo.reshape", &[&result], "", x[0].ty.clone())
    }

    /// The results of an op on operands as f32, rounded once: the order and the precision of a sum of floats of 16 bits
    /// are left to the implementation there.
    fn in_f32(&mut self, node: &Node, x: &[&Value]) -> Vec<Value> {
        let wide = |ty: &TensorType| ty.with_dtype(DType::F32);
        let operands: Vec<Value> = x.iter().map(|x| self.op("stablehlo.convert", &[x], "", wide(&x.ty))).collect();
        let node = Node { ty: wide(&node.ty), ..node.clone() };
        let results = self.node(&node, &operands.iter().collect::<Vec<_>>());
        let narrow = x[0].ty.dtype;
        results.iter().map(|y| self.op("stablehlo.convert", &[y], "", y.ty.with_dtype(narrow))).collect()
    }

    /// A `while` whose state is the number of the trip, all operands, and the elements so far.
    fn scan(
        &mut self,
        node: &Node,
        body: &Graph,
        x: &[&Value],
        [num_consts, num_carry]: [usize; 2],
        length: usize,
        reverse: bool,
    ) -> Vec<Value> {
        let operand_types: Vec<&TensorType> = x.iter().map(|x| &x.ty).collect();
        let types = results(&node.op, &operand_types).expect("a verified graph");
        let counter = TensorType::scalar(DType::I32);
        let start = self.splat(0, &counter);
        let ys: Vec<Value> =
            types[num_carry..].iter().map(|ty| self.splat(Literal::new(ty.dtype, 0).bits, ty)).collect();
        let state: Vec<&Value> = std::iter::once(&start).chain(x.iter().copied()).chain(&ys).collect();
        let state_types: Vec<TensorType> = state.iter().map(|v| v.ty.clone()).collect();
        let carry = 1 + num_consts..1 + num_consts + num_carry;
        let first_y = 1 + x.len();
        if length == 0 {
            // Its trip would slice rows of arrays that have none.
            return x[num_consts..num_consts + num_carry].iter().map(|&x| x.clone()).chain(ys).collect();
        }
        let condition = self.region(state_types.clone(), |w, state| {
            let end = w.splat(length as u64, &counter);
            vec![w.compare("LT", &state[0], &end)]
        });
        let trip = self.region(state_types.clone(), |w, state| {
            let at = if reverse {
                let last = w.splat(length as u64 - 1, &counter);
                w.op("stablehlo.subtract", &[&last, &state[0]], "", counter.clone())
            } else {
                state[0].clone()
            };
            let zero = w.splat(0, &counter);
            let place =
                |rank: usize| -> Vec<&Value> { (0..rank).map(|axis| if axis == 0 { &at } else { &zero }).collect() };
            let mut inputs: Vec<Value> = state[1..carry.end].to_vec();
            for xs in &state[carry.end..first_y] {
                let mut row = xs.ty.clone();
                row.shape[0] = 1;
                let operands: Vec<&Value> = std::iter::once(xs).chain(place(row.rank())).collect();
                let attributes = array("slice_sizes", &row.shape);
                let slice = w.op("stablehlo.dynamic_slice", &operands, &attributes, row.clone());
                let element = TensorType::new(row.dtype, &row.shape[1..]);
                inputs.push(w.op("stablehlo.reshape", &[&slice], "", element));
            }
            let results = w.inline(body, &inputs);
            let one = w.splat(1, &counter);
            let mut next = vec![w.op("stablehlo.add", &[&state[0], &one], "", counter.clone())];
            next.extend_from_slice(&state[1..carry.start]);
            next.extend_from_slice(&results[..num_carry]);
            next.extend_from_slice(&state[carry.end..first_y]);
            for (y, all) in results[num_carry..].iter().zip(&state[first_y..]) {
                let mut row = y.ty.clone();
                row.shape.insert(0, 1);
                let rank = row.rank();
                let row = w.op("stablehlo.reshape", &[y], "", row);
                let operands: Vec<&Value> = [all, &row].into_iter().chain(place(rank)).collect();
                next.push(w.op("stablehlo.dynamic_update_slice", &operands, "", all.ty.clone()));
            }
            next
        });
        let end = self.several("stablehlo.while", &state, "", &format!("{condition}, {trip}"), state_types);
        end[carry].iter().chain(&end[first_y..]).cloned().collect()
    }

    /// Zeros above the diagonal.
    fn lower_triangle(&mut self, x: &Value) -> Value {
        let rank = x.ty.rank();
        let [row, column] = [rank - 2, rank - 1].map(|axis| {
            let attributes = format!("iota_dimension = {axis} : i64");
            self.op("stablehlo.iota", &[], &attributes, x.ty.with_dtype(DType::I32))
        });
        let below = self.compare("GE", &row, &column);
        let zero = self.splat(0, &x.ty);
        self.op("stablehlo.select", &[&below, x, &zero], "", x.ty.clone())
    }

    /// Complex numbers for as long as the transform takes. The inverse of StableHLO is scaled.
    fn fft(&mut self, inverse: bool, x: &[&Value], ty: &TensorType) -> Vec<Value> {
        let n = ty.shape.last().copied().unwrap_or(1);
        let element = if ty.dtype == DType::F64 { "f64" } else { "f32" };
        let complex = tensor(ty).replace(element, &format!("complex<{element}>"));
        let real = tensor(ty);
        let [before, after] = [0, 1].map(|_| self.fresh(ty.clone()).name);
        self.line(&format!(
            "{before} = \"stablehlo.complex\"({}, {}) : ({real}, {real}) -> {complex}",
            x[0].name, x[1].name
        ));
        let kind = if inverse { "IFFT" } else { "FFT" };
        self.line(&format!(
            "{after} = \"stablehlo.fft\"({before}) <{{fft_type = #stablehlo<fft_type {kind}>, fft_length = array<i64: \
             {n}>}}> : ({complex}) -> {complex}"
        ));
        ["real", "imag"]
            .map(|part| {
                let result = self.fresh(ty.clone());
                self.line(&format!("{} = \"stablehlo.{part}\"({after}) : ({complex}) -> {real}", result.name));
                if !inverse {
                    return result;
                }
                let scale = self.splat(Literal::new(ty.dtype, n as f64).bits, ty);
                self.op("stablehlo.multiply", &[&result, &scale], "", ty.clone())
            })
            .to_vec()
    }

    /// A decomposition of matrices: a call of ours, which JAX has to be told.
    fn custom(&mut self, node: &Node, x: &[&Value], target: &str) -> Vec<Value> {
        let operands: Vec<&TensorType> = x.iter().map(|x| &x.ty).collect();
        let types = results(&node.op, &operands).expect("a verified graph");
        let attributes = format!("call_target_name = \"fulgurite.{target}\", api_version = 4 : i32");
        self.several("stablehlo.custom_call", x, &attributes, "", types.to_vec())
    }
}

fn binary(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "stablehlo.add",
        BinaryOp::Sub => "stablehlo.subtract",
        BinaryOp::Mul => "stablehlo.multiply",
        BinaryOp::Div => "stablehlo.divide",
        BinaryOp::Rem => "stablehlo.remainder",
        BinaryOp::Max => "stablehlo.maximum",
        BinaryOp::Min => "stablehlo.minimum",
        BinaryOp::Pow => "stablehlo.power",
        BinaryOp::Atan2 => "stablehlo.atan2",
        BinaryOp::And => "stablehlo.and",
        BinaryOp::Or => "stablehlo.or",
        BinaryOp::Xor => "stablehlo.xor",
        BinaryOp::Shl => "stablehlo.shift_left",
        BinaryOp::Shr => "stablehlo.shift_right_logical",
        BinaryOp::Sar => "stablehlo.shift_right_arithmetic",
    }
}

fn direction(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Eq => "EQ",
        CompareOp::Ne => "NE",
        CompareOp::Lt => "LT",
        CompareOp::Le => "LE",
        CompareOp::Gt => "GT",
        CompareOp::Ge => "GE",
    }
}

fn reduction(op: ReduceOp) -> &'static str {
    match op {
        ReduceOp::Sum => "stablehlo.add",
        ReduceOp::Prod => "stablehlo.multiply",
        ReduceOp::Max => "stablehlo.maximum",
        ReduceOp::Min => "stablehlo.minimum",
        ReduceOp::And => "stablehlo.and",
        ReduceOp::Or => "stablehlo.or",
    }
}

fn precision_config(precision: Option<Precision>) -> String {
    let name = match precision {
        None | Some(Precision::Highest) => "HIGHEST",
        Some(Precision::Tf32) => "HIGH",
        Some(Precision::Bf16 | Precision::F16) => "DEFAULT",
    };
    format!("precision_config = [#stablehlo<precision {name}>, #stablehlo<precision {name}>]")
}

fn dot(axes: &DotAxes, precision: Option<Precision>) -> String {
    let side = |pairs: &[(usize, usize)], left: bool| -> Vec<usize> {
        pairs.iter().map(|pair| if left { pair.0 } else { pair.1 }).collect()
    };
    let dims = [
        list("lhs_batching_dimensions", &side(&axes.batch, true)),
        list("rhs_batching_dimensions", &side(&axes.batch, false)),
        list("lhs_contracting_dimensions", &side(&axes.contract, true)),
        list("rhs_contracting_dimensions", &side(&axes.contract, false)),
    ];
    format!("dot_dimension_numbers = #stablehlo.dot<{}>, {}", dims.join(", "), precision_config(precision))
}

fn convolution(dims: &ConvDims, precision: Option<Precision>) -> String {
    let spatial = dims.strides.len();
    // The spec of an operand as a list: letters, and numbers of spatial axes.
    let spec = |axes: &[usize], letters: [&str; 2]| {
        let name = |axis: usize| match axes.iter().position(|&a| a == axis) {
            Some(place @ 0..2) => letters[place].to_string(),
            Some(place) => (place - 2).to_string(),
            None => unreachable!("a verified graph"),
        };
        format!("[{}]", (0..axes.len()).map(name).collect::<Vec<_>>().join(", "))
    };
    let numbers = format!(
        "{}x{}->{}",
        spec(&dims.lhs_spec, ["b", "f"]),
        spec(&dims.rhs_spec, ["o", "i"]),
        spec(&dims.out_spec, ["b", "f"])
    );
    let padding: Vec<String> = dims.low.iter().zip(&dims.high).map(|(low, high)| format!("[{low}, {high}]")).collect();
    let padding = if spatial == 0 {
        "padding = dense<> : tensor<0x2xi64>".to_string()
    } else {
        format!("padding = dense<[{}]> : tensor<{spatial}x2xi64>", padding.join(", "))
    };
    let reversal: Vec<&str> = vec!["false"; spatial];
    let colon = if spatial == 0 { "" } else { ": " };
    [
        format!("dimension_numbers = #stablehlo.conv<{numbers}>"),
        array("window_strides", &dims.strides),
        padding,
        array("lhs_dilation", &dims.lhs_dilation),
        array("rhs_dilation", &dims.rhs_dilation),
        format!("window_reversal = array<i1{colon}{}>", join(&reversal, ", ")),
        format!("feature_group_count = {} : i64", dims.feature_groups),
        format!("batch_group_count = {} : i64", dims.batch_groups),
        precision_config(precision),
    ]
    .join(", ")
}

const NAMES_OF_GATHER: [&str; 5] =
    ["offset_dims", "collapsed_slice_dims", "operand_batching_dims", "start_indices_batching_dims", "start_index_map"];
const NAMES_OF_SCATTER: [&str; 5] = [
    "update_window_dims",
    "inserted_window_dims",
    "input_batching_dims",
    "scatter_indices_batching_dims",
    "scatter_dims_to_operand_dims",
];

fn gather(dims: &GatherDims, index_vector_dim: usize, names: &[&str; 5]) -> String {
    let axes = [
        &dims.offset_dims,
        &dims.collapsed_slice_dims,
        &dims.operand_batching_dims,
        &dims.start_indices_batching_dims,
        &dims.start_index_map,
    ];
    let lists: Vec<String> = names
        .iter()
        .zip(axes)
        .filter(|(name, axes)| !axes.is_empty() || !name.contains("batching"))
        .map(|(name, axes)| list(name, axes))
        .collect();
    format!("{}, index_vector_dim = {index_vector_dim}", lists.join(", "))
}

//! Every op of the table, from its samples: compiled code against the reference interpreter.

use fulgurite_jit::cpu::{Isa, Parallelism, Target};
use fulgurite_jit::graph::{Graph, Op, ReduceOp, Sample, UnaryOp, samples};
use fulgurite_jit::interp::interpret;
use fulgurite_jit::{Array, DType, Element, TensorType};
use fulgurite_runtime::Program;

/// A small generator (xorshift).
pub struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn array(&mut self, ty: &TensorType, (low, high): (f64, f64)) -> Array {
        let mut draw = || low + (high - low) * self.next();
        let mut bits = || match draw() {
            x if ty.dtype.is_float() => ty.dtype.bits(x),
            x if ty.dtype.is_signed_int() => ty.dtype.bits(x.round()),
            x if ty.dtype.is_int() => ty.dtype.bits(x.round().abs()),
            x => ty.dtype.bits(x > (low + high) / 2.0),
        };
        let bits: Vec<u64> = (0..ty.elements()).map(|_| bits()).collect();
        Array::from_bits(ty, &bits).expect("as many elements as the type has")
    }
}

fn check(name: &str, graph: &Graph, inputs: &[Array], rtol: f64, atol: f64) {
    let want = interpret(graph, inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
    let run = |isa: Isa, threads: usize| {
        let target = Target { isa, threads, parallelism: Parallelism::Always };
        let program = Program::compile_for(name, graph, &vec![false; inputs.len()], target);
        let program = program.unwrap_or_else(|e| panic!("{name}: {e}"));
        (program.run(inputs.to_vec()).unwrap_or_else(|e| panic!("{name}: {e}")), program)
    };
    let (got, program) = run(Isa::detect(), 1);
    // All vector widths and numbers of threads give the same bits (except those of a NaN).
    let others = Isa::available().iter().flat_map(|&isa| [(isa, 1), (isa, 3)]);
    for (isa, threads) in others.chain([(Isa::detect(), 2), (Isa::detect(), 7)]) {
        for (first, other) in got.iter().zip(run(isa, threads).0) {
            for (i, (x, y)) in first.to_f64_vec().unwrap().iter().zip(other.to_f64_vec().unwrap()).enumerate() {
                let same = x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
                let what = || format!("{name}: element {i} is {x}, but {y} with {isa:?}, {threads} threads");
                assert!(same, "{}\n{}", what(), program.kernels());
            }
        }
    }
    // The error of a sum of products is relative to the sum of their magnitudes, not to a result that has cancelled.
    let magnitudes: Option<Vec<Array>> = matches!(graph.nodes.last(), Some(node) if matches!(node.op, Op::Dot(..)))
        .then(|| interpret(graph, &inputs.iter().map(magnitude).collect::<Vec<_>>()).expect("the same graph"));
    for (o, (got, want)) in got.iter().zip(&want).enumerate() {
        assert_eq!(got.ty(), want.ty(), "{name}");
        let magnitudes = magnitudes.as_ref().map(|all| all[o].to_f64_vec().unwrap());
        for (i, (g, w)) in got.to_f64_vec().unwrap().iter().zip(want.to_f64_vec().unwrap()).enumerate() {
            let bound = atol * magnitudes.as_ref().map_or(1.0, |all| all[i]) + rtol * w.abs();
            let close = (g - w).abs() <= bound || g == &w || (g.is_nan() && w.is_nan());
            assert!(close, "{name}: element {i} is {g}, not {w}\n{graph}{}", program.kernels());
        }
    }
}

/// The absolute values of floats.
fn magnitude(x: &Array) -> Array {
    let bits: Vec<u64> = x.to_f64_vec().unwrap().into_iter().map(|value| x.ty().dtype.bits(value.abs())).collect();
    Array::from_bits(x.ty(), &bits).expect("as many elements as before")
}

#[test]
fn compiled_ops_agree_with_the_interpreter() {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    for sample in samples() {
        let graph = sample.graph();
        let operand = |(i, ty): (usize, &TensorType)| sample.conditioned(i, numbers.array(ty, sample.range), None);
        let inputs: Vec<Array> = (0..).zip(&sample.operands).map(operand).collect();
        let exact = sample.operands.iter().all(|ty| !ty.dtype.is_float());
        // Errors of factors and of transforms are relative to the largest element.
        let is_factor = matches!(sample.op, Op::Qr { .. } | Op::Eigh | Op::Svd { .. } | Op::Fft { .. });
        let (rtol, atol) = if exact { (0.0, 0.0) } else { (2e-6, if is_factor { 2e-5 } else { 2e-7 }) };
        check(sample.op.name(), &graph, &inputs, rtol, atol);
    }
}

#[test]
fn edge_values_agree_with_the_interpreter() {
    let edge = vec![
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        1.2e-38,
        1e-30,
        3.4e38,
        -3.4e38,
        88.0,
        -88.0,
        104.0,
        -104.0,
        0.5,
        2.5,
        -0.5,
        1.5,
    ];
    let double: Vec<f64> = edge.iter().map(|&x: &f32| f64::from(x)).collect();
    edge_values(edge, (2e-6, 1e-37));
    let large = [2_147_483_647.5, 2_147_483_648.0, -2_147_483_648.9, 3e9, 4_294_967_295.9, 5e9, -5e9, 1e300];
    edge_values(double.into_iter().chain(large).collect(), (1e-13, 1e-300));
}

/// The ops of one operand, conversions and reductions of these.
fn edge_values<T: Element>(edge: Vec<T>, (rtol, atol): (f64, f64)) {
    let ty = TensorType::new(T::DTYPE, &[edge.len()]);
    let input = Array::from_vec(&[edge.len()], edge).expect("one axis");
    for &op in UnaryOp::ALL {
        if !op.class().contains(T::DTYPE) || matches!(op, UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Tan) {
            continue;
        }
        let sample = Sample { op: Op::Unary(op), operands: vec![ty.clone()], range: (0.0, 1.0) };
        check(op.name(), &sample.graph(), std::slice::from_ref(&input), rtol, atol);
    }
    conversions(input.clone());
    for &op in ReduceOp::ALL {
        if op.class().contains(T::DTYPE) {
            let sample =
                Sample { op: Op::Reduce(op, smallvec::smallvec![0]), operands: vec![ty.clone()], range: (0.0, 1.0) };
            check(op.name(), &sample.graph(), std::slice::from_ref(&input), rtol / 2.0, 0.0);
        }
    }
}

fn conversions(input: Array) {
    for to in DType::ALL {
        let sample = Sample { op: Op::Convert(to), operands: vec![input.ty().clone()], range: (0.0, 1.0) };
        check("convert", &sample.graph(), std::slice::from_ref(&input), 0.0, 0.0);
    }
}

/// Numbers on both sides of what a float and the other integer represent exactly; more than one vector of them.
#[test]
fn large_integers_are_converted_exactly() {
    let numbers = [0, 1, 2, 0x00ff_ffff, 0x0100_0001, 0x0100_0003, 0x7fff_ffbf, 0x7fff_ffff, 0x8000_0000, 0x8000_0081];
    let unsigned: Vec<u32> = numbers.into_iter().chain((0..32).map(|bit| u32::MAX - (1 << bit))).collect();
    let signed: Vec<i32> = unsigned.iter().map(|&x| x as i32).collect();
    conversions(Array::from_vec(&[unsigned.len()], unsigned).expect("one axis"));
    conversions(Array::from_vec(&[signed.len()], signed).expect("one axis"));
}

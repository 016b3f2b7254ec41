//! Where compiled code rounds, and where it does not.

use fulgurite::compiler::graph::parse;
use fulgurite::compiler::graph::{BinaryOp, Class, UnaryOp};
use fulgurite::compiler::interp::interpret;
use fulgurite::prelude::*;
use fulgurite::runtime::Program;
use fulgurite::{Array, TensorType};

/// The sum that a random program came upon, and its inputs: `b c` has more digits than an f32.
const TEXT: &str = "fn main(%0: f32[3], %1: f32[3], %2: f32[3]) -> (f32[3]) {
  %3: f32[3] = mul %1, %0
  %4: f32[3] = add %2, %3
  return %4
}";
const A: [f32; 3] = [0.1, -7.7, 1e-3];
const B: [f32; 3] = [1.1, 2.3, 3.7];
const C: [f32; 3] = [0.7, 3.3, 1.3];

fn array(x: &[f32; 3]) -> Array {
    Array::from_vec(&[3], x.to_vec()).expect("three elements")
}

/// The interpreter rounds the product and then the sum, as two ops do; one kernel rounds once. Both are right, and a
/// bound between them has to allow for the product's rounding.
#[test]
fn a_sum_takes_the_product_of_its_kernel_unrounded() -> Result<()> {
    let (graph, inputs) = (parse(TEXT)?, [array(&B), array(&C), array(&A)]);
    let elements = A.iter().zip(&B).zip(&C);
    let twice: Vec<f32> = elements.clone().map(|((a, b), c)| c * b + a).collect();
    let once: Vec<f32> = elements.map(|((a, b), c)| c.mul_add(*b, *a)).collect();
    assert_ne!(once, twice, "the example shows nothing");
    assert_eq!(interpret(&graph, &inputs)?[0].as_slice::<f32>()?, twice);
    let program = Program::compile("main", &graph, &[false; 3])?;
    assert_eq!(program.run(inputs.to_vec())?[0].as_slice::<f32>()?, once);
    Ok(())
}

/// A constant of a step is computed when the step is compiled, and to the same bits as an op outside of it.
#[test]
fn constants_are_what_the_same_ops_give_outside_of_a_step() -> Result<()> {
    const EDGES: [f64; 12] =
        [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-3, 1e4, 1e30, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    let vector = |dtype: DType, (low, high): (f64, f64)| {
        let range = (0..20).map(|i| low + (high - low) * f64::from(i) * 0.0509);
        let x: Vec<f64> = EDGES.into_iter().chain(range).collect();
        match dtype {
            DType::F32 => Tensor::from_vec(&[x.len()], x.into_iter().map(|x| x as f32).collect()),
            _ => Tensor::from_vec(&[x.len()], x),
        }
    };
    let same = |name: &str, op: &(dyn Fn() -> Tensor + Send + Sync), outside: Tensor| -> Result<()> {
        let traced = fulgurite::compiler::trace::trace(&[TensorType::scalar(DType::F32)], |_| vec![op()])?;
        let within = Program::compile("constant", &traced.graph, &[false])?.run(vec![Array::scalar(0.0f32)])?;
        let within = Tensor::from(within[0].clone());
        assert_eq!(within.ty(), outside.ty(), "{name}");
        let bits = |x: &Tensor| {
            x.array().map(|x| x.to_f64_vec().unwrap().iter().map(|x| (x.to_bits(), x.is_nan())).collect::<Vec<_>>())
        };
        let alike =
            bits(&within)?.into_iter().zip(bits(&outside)?).all(|((x, nan), (y, other))| x == y || nan && other);
        assert!(alike, "{name}: {within} within, {outside} outside");
        Ok(())
    };
    for dtype in [DType::F32, DType::F64] {
        for &op in UnaryOp::ALL.iter().filter(|op| op.class().contains(dtype)) {
            let x = vector(dtype, op.range())?;
            same(op.name(), &|| x.unary(op), x.unary(op))?;
        }
        for &op in BinaryOp::ALL.iter().filter(|op| matches!(op.class(), Class::Float | Class::Number)) {
            let (x, y) = (vector(dtype, op.range())?, vector(dtype, (op.range().1, op.range().0))?);
            same(op.name(), &|| x.binary(op, &y), x.binary(op, &y))?;
        }
        let x = vector(dtype, (0.0, 1.0))?.slice_in_dim(0, 12..32);
        same("sum", &|| x.sum(), x.sum())?;
        same("prod", &|| x.prod(), x.prod())?;
        same("dot", &|| x.matmul(&x), x.matmul(&x))?;
        same("softmax", &|| fulgurite::softmax(&x, 0), fulgurite::softmax(&x, 0))?;
    }
    Ok(())
}

//! Where compiled code rounds, and where it does not.

use fulgurite::Array;
use fulgurite::compiler::graph::parse;
use fulgurite::compiler::interp::interpret;
use fulgurite::prelude::*;
use fulgurite::runtime::Program;

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
    assert_eq!(program.run(inputs.to_vec())[0].as_slice::<f32>()?, once);
    Ok(())
}

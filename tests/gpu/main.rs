//! The GPU back end without a GPU: modules run by the SIMT interpreter, which checks every access, against the bits of
//! the CPU; and assembled by `ptxas`, where there is one (`FULGURITE_PTXAS`).

mod run;

use fulgurite::compiler::graph::{Sample, samples};
use fulgurite::compiler::ptx::simt::Options;
use fulgurite::{Array, TensorType};

/// A small generator (xorshift).
struct Numbers(u64);

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

    fn inputs(&mut self, sample: &Sample) -> Vec<Array> {
        let operand = |(i, ty)| sample.conditioned(i, self.array(ty, sample.range), None);
        (0..).zip(&sample.operands).map(operand).collect()
    }
}

#[test]
fn every_op_has_the_bits_of_the_cpu() {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let mut faults = Vec::new();
    for sample in samples() {
        let inputs = numbers.inputs(&sample);
        let graph = sample.graph();
        if let Err(fault) = run::compare(&graph, &inputs, &Options::default()) {
            faults.push(format!("{fault}\n{graph}"));
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

//! What the tests share: running a traced function in the reference interpreter, drawing numbers, comparing arrays.

// Each test file uses some of these.
#![allow(dead_code)]

use fulgurite_jit::graph::verify;
use fulgurite_jit::interp::interpret;
use fulgurite_jit::trace::trace;
use fulgurite_jit::{Array, DType, Result, Tensor, TensorType};

/// Traces `f` and runs it in the interpreter.
pub(crate) fn try_run(inputs: &[Array], f: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> Result<Vec<Array>> {
    let types: Vec<TensorType> = inputs.iter().map(|x| x.ty().clone()).collect();
    let traced = trace(&types, f)?;
    assert!(traced.captures.is_empty(), "there is no trace around this one");
    verify(&traced.graph, "a test")?;
    interpret(&traced.graph, inputs)
}

/// As [`try_run`], for functions without errors.
#[track_caller]
pub(crate) fn run(inputs: &[Array], f: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> Vec<Array> {
    match try_run(inputs, f) {
        Ok(results) => results,
        Err(error) => panic!("{error}"),
    }
}

/// The one result of [`run`], as f64.
#[track_caller]
pub(crate) fn run1(inputs: &[Array], f: impl FnOnce(&[Tensor]) -> Tensor) -> Vec<f64> {
    run(inputs, |xs| vec![f(xs)])[0].to_f64_vec().unwrap()
}

/// The message of the error of `f`.
#[track_caller]
pub(crate) fn error_of(inputs: &[Array], f: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> String {
    match try_run(inputs, f) {
        Ok(_) => panic!("no error"),
        Err(error) => error.to_string(),
    }
}

/// An f64 array.
pub(crate) fn f64s(shape: &[usize], data: &[f64]) -> Array {
    Array::from_vec(shape, data.to_vec()).expect("as many elements as the shape has")
}

/// An f32 array.
pub(crate) fn f32s(shape: &[usize], data: &[f32]) -> Array {
    Array::from_vec(shape, data.to_vec()).expect("as many elements as the shape has")
}

/// Random numbers for tests: SplitMix64.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An array of `ty` with elements in the range, whole ones for integers.
    pub(crate) fn array(&mut self, ty: &TensorType, (low, high): (f64, f64)) -> Array {
        let n = ty.elements();
        let floats = |draw: &mut Self| (0..n).map(|_| low + (high - low) * draw.unit()).collect::<Vec<f64>>();
        let whole = |draw: &mut Self, lowest: f64| {
            let (low, high) = (low.max(lowest).ceil(), high.floor());
            (0..n).map(|_| (low + (draw.unit() * (high - low + 1.0)).floor()).min(high)).collect::<Vec<f64>>()
        };
        let values = match ty.dtype {
            dtype if dtype.is_float() => floats(self),
            dtype if dtype.is_signed_int() => whole(self, -2e9),
            dtype if dtype.is_int() => whole(self, 0.0),
            _ => (0..n).map(|_| f64::from(self.unit() < 0.5)).collect(),
        };
        let bits: Vec<u64> = values.into_iter().map(|x| ty.dtype.bits(x)).collect();
        Array::from_bits(ty, &bits).expect("as many elements as the type has")
    }
}

/// `x + h v` for float arrays; `x` for others.
pub(crate) fn shifted(x: &Array, v: &Array, h: f64) -> Array {
    if x.ty().dtype != DType::F64 {
        return x.clone();
    }
    let data = x.to_f64_vec().unwrap().iter().zip(v.to_f64_vec().unwrap()).map(|(x, v)| x + h * v).collect();
    Array::from_vec(&x.ty().shape, data).expect("as many elements as before")
}

/// The inner product of two lists of arrays.
pub(crate) fn inner(xs: &[Array], ys: &[Array]) -> f64 {
    let one = |(x, y): (&Array, &Array)| {
        x.to_f64_vec().unwrap().iter().zip(y.to_f64_vec().unwrap()).map(|(x, y)| x * y).sum::<f64>()
    };
    xs.iter().zip(ys).map(one).sum()
}

/// Are these equal up to `tolerance`, relative to the larger of the number and 1? NaN equals NaN.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: as many elements");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let same = got == want || (got.is_nan() && want.is_nan());
        let close = (got - want).abs() <= tolerance * want.abs().max(1.0);
        assert!(same || close, "{what}: element {i} is {got}, not {want}");
    }
}

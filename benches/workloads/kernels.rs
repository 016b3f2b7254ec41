//! Single kernels of any size, for GPUs: products, elementwise functions, functions of rows.
//!
//! Comes in: a name and a size. Goes out: a [`OfSize`] workload. Whole steps are in `mod.rs`.

use fulgurite::prelude::*;

/// A step and its state: each call runs it once.
pub type Run = Box<dyn FnMut() -> Result<()>>;

/// A workload of a chosen size.
pub struct OfSize {
    /// Runs it once.
    pub run: Run,
    /// Floating point operations of a run, counted as those of the workloads.
    pub flops: f64,
    /// Bytes that a run must move at least.
    pub bytes: f64,
}

/// The columns of functions of rows.
const COLUMNS: usize = 1024;

/// The values on the device that programs of this thread run on; where that fails, as they are, and the first program
/// that takes them says why.
pub(crate) fn here<T: Tree + Clone + Send + Sync + 'static>(values: T) -> T {
    Jit::with_borrowed("here", |(), values: T| values).call_with((), values.clone()).unwrap_or(values)
}

/// A function that is called with the same arguments each time.
pub(crate) fn repeated<T, R>(name: &str, args: T, f: impl Fn(T) -> R + Send + Sync + 'static) -> Run
where
    T: Tree + Clone + Send + Sync + 'static,
    R: Tree + 'static,
{
    let f = Jit::with_borrowed(name, move |(), args: T| f(args));
    let args = here(args);
    Box::new(move || f.call_with((), args.clone()).map(drop))
}

/// The kernel `name` of this size, if there is one: `product` of matrices with so many rows and columns, `axpy`
/// (`2 x + y`) and `tanh` of so many elements, `row_sum`, `softmax` and `layer_norm` of so many rows of 1,024 elements,
/// `column_sum` of so many rows.
pub(crate) fn kernel(name: &str, size: usize) -> Option<OfSize> {
    let normal = |seed: u64, shape: &[usize]| Key::new(seed).normal(shape);
    let rows = || normal(0, &[size, COLUMNS]);
    let n = size as f64;
    let elements = n * COLUMNS as f64;
    let (run, flops, bytes) = match name {
        "product" => {
            let args = (normal(0, &[size, size]), normal(1, &[size, size]));
            (repeated(name, args, |(x, y): (Tensor, Tensor)| x.matmul(&y)), 2.0 * n * n * n, 12.0 * n * n)
        }
        "axpy" => {
            let args = (normal(0, &[size]), normal(1, &[size]));
            (repeated(name, args, |(x, y): (Tensor, Tensor)| x * 2.0 + y), 2.0 * n, 12.0 * n)
        }
        "tanh" => (repeated(name, normal(0, &[size]), |x: Tensor| x.tanh()), 20.0 * n, 8.0 * n),
        "row_sum" => (repeated(name, rows(), |x: Tensor| x.sum_axes(-1)), elements, 4.0 * (elements + n)),
        "column_sum" => (repeated(name, rows(), |x: Tensor| x.sum_axes(0)), elements, 4.0 * elements),
        "softmax" => (repeated(name, rows(), |x: Tensor| softmax(&x, -1)), 25.0 * elements, 8.0 * elements),
        "layer_norm" => {
            let args = (rows(), Tensor::ones(&[COLUMNS]), Tensor::zeros(&[COLUMNS]));
            let layer_norm = |(x, g, b): (Tensor, Tensor, Tensor)| {
                let (mean, variance) = (x.mean_keep(-1), x.var_keep(-1));
                (x - mean) * (variance + 1e-5).rsqrt() * g + b
            };
            (repeated(name, args, layer_norm), 9.0 * elements, 8.0 * elements)
        }
        _ => return None,
    };
    Some(OfSize { run, flops, bytes })
}

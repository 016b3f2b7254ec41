//! Running totals along an axis, as in `jax.lax` and `jax.numpy`: sums, products, extremes; and totals of any
//! associative function.
//!
//! Comes in: a tensor and an axis, or a tree of tensors and a function. Goes out: the totals. Those of sums, products
//! and extremes are one op; those of other functions are a tree of ops, as many levels as the logarithm of the extent.

use std::panic::Location;

use super::operand::{reject, resolve};
use super::tensor::Tensor;
use super::trace::apply;
use super::tree::{Tree, leaves, unflatten};
use super::x64::default_int;
use crate::error::Error;
use crate::graph::{CumulativeOp, Op};
use crate::types::DType;

/// The totals of the elements up to each, along `axis`, of an associative function `f`: element 0, `f` of elements 0
/// and 1, and so on; from the last element on, if `reverse`: `jax.lax.associative_scan`, with the same tree of
/// applications.
///
/// `elems` is a tensor or a tree of tensors, whose leaves have one extent along `axis`; `f` takes and gives such trees
/// of any other extent. A linear recurrence `h[t] = a[t] h[t-1] + b[t]`:
///
/// ```
/// use fulgurite_jit::{Tensor, associative_scan};
///
/// fn recurrence(a: &Tensor, b: &Tensor) -> Tensor {
///     let after = |p: &(Tensor, Tensor), q: &(Tensor, Tensor)| (&p.0 * &q.0, &q.0 * &p.1 + &q.1);
///     associative_scan(after, &(a.clone(), b.clone()), false, 0).1
/// }
/// # let ty = fulgurite_jit::TensorType::new(fulgurite_jit::DType::F32, &[3]);
/// # fulgurite_jit::trace::trace(&[ty.clone(), ty], |x| vec![recurrence(&x[0], &x[1])]).unwrap();
/// ```
///
/// # Errors
/// The results stand for an error if a leaf has no such axis, or extents along it differ, and if `f` gives tensors of
/// other shapes or types.
#[track_caller]
pub fn associative_scan<T: Tree>(f: impl Fn(&T, &T) -> T, elems: &T, reverse: bool, axis: isize) -> T {
    let location = Location::caller();
    let xs = leaves(elems);
    let fail = |why: String| {
        let error = Error::op("associative_scan", why, location);
        unflatten(elems, xs.iter().map(|x| reject(&[x], error.clone())))
    };
    let Some(first) = xs.first() else { return unflatten(elems, []) };
    if let Some(x) = xs.iter().find(|x| resolve(axis, x.rank()).is_none()) {
        return fail(format!("{} has no axis {axis}", x.ty()));
    }
    let extent = |x: &Tensor| resolve(axis, x.rank()).map_or(0, |axis| x.shape()[axis]);
    let count = extent(first);
    if let Some(x) = xs.iter().find(|x| extent(x) != count) {
        return fail(format!("{} and {} differ in the extent of axis {axis}", first.ty(), x.ty()));
    }
    let combine = |x: &[Tensor], y: &[Tensor]| {
        let z = leaves(&f(&unflatten(elems, x.iter().cloned()), &unflatten(elems, y.iter().cloned())));
        let fits = z.len() == x.len() && z.iter().zip(x).all(|(z, x)| z.ty() == x.ty() || z.error().is_some());
        if fits { Ok(z) } else { Err("the function must give tensors of the types that it takes".to_string()) }
    };
    let turned =
        |xs: &[Tensor]| -> Vec<Tensor> { xs.iter().map(|x| if reverse { x.flip(axis) } else { x.clone() }).collect() };
    match totals(&combine, &turned(&xs), count, axis) {
        Ok(totals) => unflatten(elems, turned(&totals)),
        Err(why) => fail(why),
    }
}

/// How two lists of tensors are combined.
type Combine<'a> = dyn Fn(&[Tensor], &[Tensor]) -> Result<Vec<Tensor>, String> + 'a;

/// Totals of pairs, of which those are the totals of every second element; the others are one application away.
#[track_caller]
fn totals(combine: &Combine<'_>, xs: &[Tensor], count: usize, axis: isize) -> Result<Vec<Tensor>, String> {
    if count < 2 {
        return Ok(xs.to_vec());
    }
    let every_second = |from: usize, to: usize| {
        let mut parts = Vec::with_capacity(xs.len());
        for x in xs {
            let along = resolve(axis, x.rank()).unwrap_or(0);
            let (mut start, mut limit, mut stride) = (vec![0; x.rank()], x.shape().to_vec(), vec![1; x.rank()]);
            (start[along], limit[along], stride[along]) = (from, to, 2);
            parts.push(x.slice(&start, &limit, &stride));
        }
        parts
    };
    let pairs = combine(&every_second(0, count - 1), &every_second(1, count))?;
    let odd = totals(combine, &pairs, count / 2, axis)?;
    let before: Vec<Tensor> = match count % 2 {
        0 => odd.iter().map(|x| x.slice_in_dim(axis, 0..count / 2 - 1)).collect(),
        _ => odd.clone(),
    };
    // With two elements there is none left, and nothing to combine.
    let even = if count > 2 { Some(combine(&before, &every_second(2, count))?) } else { None };
    let mut results = Vec::with_capacity(xs.len());
    for (i, x) in xs.iter().enumerate() {
        let first = x.slice_in_dim(axis, 0..1);
        let even = match &even {
            Some(even) => Tensor::concat(&[&first, &even[i]], axis),
            None => first,
        };
        results.push(interleaved(&even, &odd[i], axis));
    }
    Ok(results)
}

/// `even[0], odd[0], even[1], …`; there may be one more of the even ones.
#[track_caller]
fn interleaved(even: &Tensor, odd: &Tensor, axis: isize) -> Tensor {
    let along = resolve(axis, even.rank()).unwrap_or(0);
    let (count, pairs) = (even.shape()[along] + odd.shape()[along], odd.shape()[along]);
    let both = Tensor::stack(&[&even.slice_in_dim(axis, 0..pairs), odd], along as isize + 1);
    let mut shape = odd.shape().to_vec();
    shape[along] = 2 * pairs;
    let both = both.reshape(&shape);
    if count == 2 * pairs { both } else { Tensor::concat(&[&both, &even.slice_in_dim(axis, pairs..pairs + 1)], axis) }
}

impl Tensor {
    /// The running totals along an axis; from the last element on, if `reverse`: `jax.lax.cumsum` and its like. A
    /// negative axis counts from the end.
    ///
    /// The result has the shape and the type of the operand: integers wrap, and bools have no totals. The derivative of
    /// products and of extremes is that of [`associative_scan`].
    ///
    /// # Errors
    /// The result stands for an error if there is no such axis, or no such total of the element type.
    #[track_caller]
    pub fn cumulative(&self, op: CumulativeOp, axis: isize, reverse: bool) -> Self {
        match resolve(axis, self.rank()) {
            Some(axis) => apply(Op::Cumulative(op, axis, reverse), &[self], Location::caller()),
            None => self.no_axis(op.name(), axis, Location::caller()),
        }
    }

    /// As [`Tensor::cumulative`], of a tensor whose bools are i32, as in `jax.numpy`.
    #[track_caller]
    fn running(&self, op: CumulativeOp, axis: isize) -> Self {
        if self.dtype() == DType::Bool {
            return self.convert(default_int()).cumulative(op, axis, false);
        }
        self.cumulative(op, axis, false)
    }

    /// With NaN replaced by `value`.
    #[track_caller]
    fn nan_replaced(&self, value: f64) -> Self {
        if self.dtype().is_float() { self.not_equal(self).select(value, self) } else { self.clone() }
    }

    /// The sums of the elements up to each, along an axis: `jax.numpy.cumsum`. Those of bools are i32.
    ///
    /// ```
    /// # use fulgurite_jit::Tensor;
    /// # fulgurite_jit::trace::trace(&[], |_| {
    /// let x = Tensor::from_vec(&[4], vec![1.0f32, 2.0, 3.0, 4.0]).unwrap();
    /// let sums = x.cumsum(0); // [1, 3, 6, 10]
    /// # vec![sums]
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn cumsum(&self, axis: isize) -> Self {
        self.running(CumulativeOp::Sum, axis)
    }

    /// The products of the elements up to each, along an axis: `jax.numpy.cumprod`. Those of bools are i32.
    #[track_caller]
    pub fn cumprod(&self, axis: isize) -> Self {
        self.running(CumulativeOp::Prod, axis)
    }

    /// The largest of the elements up to each, along an axis: `jax.lax.cummax`. NaN stays once it is met.
    #[track_caller]
    pub fn cummax(&self, axis: isize) -> Self {
        self.cumulative(CumulativeOp::Max, axis, false)
    }

    /// The smallest of the elements up to each, along an axis: `jax.lax.cummin`. NaN stays once it is met.
    #[track_caller]
    pub fn cummin(&self, axis: isize) -> Self {
        self.cumulative(CumulativeOp::Min, axis, false)
    }

    /// The logarithms of the sums of exponentials of the elements up to each, along an axis: `jax.lax.cumlogsumexp`.
    #[track_caller]
    pub fn cumlogsumexp(&self, axis: isize) -> Self {
        self.cumulative(CumulativeOp::LogSumExp, axis, false)
    }

    /// As [`Tensor::cumsum`], with 0 for NaN: `jax.numpy.nancumsum`.
    #[track_caller]
    pub fn nancumsum(&self, axis: isize) -> Self {
        self.nan_replaced(0.0).cumsum(axis)
    }

    /// As [`Tensor::cumprod`], with 1 for NaN: `jax.numpy.nancumprod`.
    #[track_caller]
    pub fn nancumprod(&self, axis: isize) -> Self {
        self.nan_replaced(1.0).cumprod(axis)
    }

    /// As [`Tensor::cumsum`], and with a 0 before the first sum if `include_initial`: `jax.numpy.cumulative_sum`.
    #[track_caller]
    pub fn cumulative_sum(&self, axis: isize, include_initial: bool) -> Self {
        self.with_initial(self.cumsum(axis), axis, 0.0, include_initial)
    }

    /// As [`Tensor::cumprod`], and with a 1 before the first product if `include_initial`:
    /// `jax.numpy.cumulative_prod`.
    #[track_caller]
    pub fn cumulative_prod(&self, axis: isize, include_initial: bool) -> Self {
        self.with_initial(self.cumprod(axis), axis, 1.0, include_initial)
    }

    #[track_caller]
    fn with_initial(&self, totals: Self, axis: isize, value: f64, include_initial: bool) -> Self {
        match resolve(axis, self.rank()) {
            Some(along) if include_initial => {
                let (mut low, none) = (vec![0; self.rank()], vec![0; self.rank()]);
                low[along] = 1;
                totals.pad(value, &low, &none, &vec![0; self.rank()])
            }
            _ => totals,
        }
    }
}

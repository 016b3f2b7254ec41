//! Order statistics, sorting by several keys, and random orders.
//!
//! Definitions are those of `jax.numpy` and `jax.random.permutation`. NaN is larger than any number; a quantile of
//! elements with a NaN is NaN, those with `nan` in their name leave it out.

use std::panic::Location;

use crate::error::Error;
use crate::front::indexing::IndexMode;
use crate::front::numpy::find::is_nan;
use crate::front::operand::{Arg, IntoAxes, Operand, reject, resolve};
use crate::front::random::Key;
use crate::front::sort;
use crate::front::tensor::Tensor;
use crate::types::{Axes, DType, Shape};

/// What a quantile is that lies between two elements: `method` of `jax.numpy.quantile`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quantile {
    /// Between them, in proportion.
    #[default]
    Linear,
    /// The smaller one.
    Lower,
    /// The larger one.
    Higher,
    /// Their mean.
    Midpoint,
    /// The nearer one; the smaller one where they are equally near.
    Nearest,
    /// The least element that at least this share of the elements does not exceed.
    InvertedCdf,
}

impl Quantile {
    /// The quantile, from the elements below and above it, and how much weight the latter has.
    #[track_caller]
    fn between(self, low: &Tensor, high: &Tensor, weight: &Tensor) -> Tensor {
        match self {
            Quantile::Linear => low * (1.0 - weight) + high * weight,
            Quantile::Lower | Quantile::InvertedCdf => low.clone(),
            Quantile::Higher => high.clone(),
            Quantile::Midpoint => (low + high) * 0.5,
            Quantile::Nearest => {
                let weight = weight.broadcast_to(low.shape());
                weight.less_equal(0.5).select(low, high)
            }
        }
    }

    /// Where the quantile lies among `n` sorted elements: the positions below and above it, and the weight of the
    /// latter.
    #[track_caller]
    fn place(self, q: &Tensor, n: &Tensor) -> [Tensor; 3] {
        let last = n - 1.0;
        let bounded = |at: &Tensor| at.minimum(&last).maximum(0.0).convert(DType::I32);
        if self == Quantile::InvertedCdf {
            let at = bounded(&((q * n).ceil() - 1.0));
            return [at.clone(), at, (q * n).zeros_like()];
        }
        let at = q * &last;
        let low = at.floor();
        [bounded(&low), bounded(&at.ceil()), at - low]
    }
}

impl Tensor {
    /// The axes in one, which is the last, after the others.
    #[track_caller]
    fn joined(&self, op: &str, axes: impl IntoAxes) -> Result<Tensor, Tensor> {
        let axes = axes
            .into_axes(self.rank())
            .map_err(|why| self.reject(op, format!("{} {why}", self.ty()), Location::caller()))?;
        if let Some(error) = self.error() {
            return Err(Tensor::failed(self.ty().clone(), error.clone()));
        }
        let kept: Axes = (0..self.rank()).filter(|axis| !axes.contains(axis)).collect();
        let mut shape: Shape = kept.iter().map(|&axis| self.shape()[axis]).collect();
        shape.push(axes.iter().map(|&axis| self.shape()[axis]).product());
        let perm: Axes = kept.iter().chain(&axes).copied().collect();
        Ok(self.transpose(&perm).reshape(&shape))
    }

    /// The elements below which shares `q` of the elements along `axes` lie: `jax.numpy.quantile`. The axes are
    /// removed; a vector of shares gives a first axis. Integers are converted to f32.
    ///
    /// ```
    /// use fulgurite_jit::{Quantile, Tensor};
    ///
    /// // The middle half of each row.
    /// fn quartiles(x: &Tensor) -> [Tensor; 2] {
    ///     [x.quantile(0.25, -1, Quantile::Linear), x.quantile(0.75, -1, Quantile::Linear)]
    /// }
    /// # let _ = quartiles;
    /// ```
    ///
    /// # Errors
    /// The result stands for an error if there is no such axis or no element, and if `q` is of more than one axis.
    #[track_caller]
    pub fn quantile(&self, q: impl Operand, axes: impl IntoAxes, method: Quantile) -> Self {
        let rows = match self.inexact().joined("quantile", axes) {
            Ok(rows) => rows,
            Err(bad) => return bad,
        };
        let n = rows.shape()[rows.rank() - 1];
        if n == 0 {
            return self.reject(
                "quantile",
                format!("takes a quantile of no elements of {}", self.ty()),
                Location::caller(),
            );
        }
        let has_nan = is_nan(&rows).any_keep(-1);
        let sorted = has_nan.select(f64::NAN, &rows).sort(-1);
        let dtype = rows.dtype();
        let q = match q.operand() {
            // Elements at known positions are read by slices.
            Arg::Weak(share) => {
                let at = share.to_f64() * (n - 1) as f64;
                // As with a tensor of one share, which is rounded.
                let at = if dtype == DType::F64 { at } else { f64::from(share.to_f64() as f32 * (n - 1) as f32) };
                let (mut low, mut high) = (at.floor(), at.ceil());
                if method == Quantile::InvertedCdf {
                    low = (share.to_f64() * n as f64).ceil() - 1.0;
                    high = low;
                }
                let element = |at: f64| sorted.index_in_dim(at.clamp(0.0, (n - 1) as f64) as usize, -1);
                let weight = Tensor::literal(at - at.floor(), dtype);
                return method.between(&element(low), &element(high), &weight);
            }
            Arg::Tensor(q) => q.convert(dtype),
        };
        if q.rank() > 1 {
            let why = format!("takes one share or a vector of them, not {}", q.ty());
            return reject(&[self, &q], Error::op("quantile", why, Location::caller()));
        }
        let [low, high, weight] = method.place(&q, &Tensor::literal(n, dtype));
        let read = |at: &Tensor| sorted.take_with(at, -1, IndexMode::Clip);
        shares_first(&method.between(&read(&low), &read(&high), &weight), &q)
    }

    /// [`Tensor::quantile`] of the elements that are not NaN; NaN if there is none: `jax.numpy.nanquantile`.
    ///
    /// # Errors
    /// As [`Tensor::quantile`].
    #[track_caller]
    pub fn nanquantile(&self, q: impl Operand, axes: impl IntoAxes, method: Quantile) -> Self {
        let rows = match self.inexact().joined("nanquantile", axes) {
            Ok(rows) => rows,
            Err(bad) => return bad,
        };
        let dtype = rows.dtype();
        let q = q.operand().into_tensor(dtype).convert(dtype);
        if q.rank() > 1 || rows.shape()[rows.rank() - 1] == 0 {
            let why = format!("takes a quantile {} of elements of {}", q.ty(), self.ty());
            return reject(&[self, &q], Error::op("nanquantile", why, Location::caller()));
        }
        let count = is_nan(&rows).logical_not().convert(dtype).sum_keep(-1);
        let sorted = rows.sort(-1);
        let shares = q.ravel();
        let [low, high, weight] = method.place(&shares, &count);
        let read = |at: &Tensor| sorted.take_along_axis_with(at, -1, IndexMode::Clip);
        let value = method.between(&read(&low), &read(&high), &weight);
        if q.rank() == 0 { value.squeeze(-1) } else { shares_first(&value, &q) }
    }

    /// [`Tensor::quantile`] in percent: `jax.numpy.percentile`.
    #[track_caller]
    pub fn percentile(&self, q: impl Operand, axes: impl IntoAxes, method: Quantile) -> Self {
        match q.operand() {
            Arg::Weak(q) => self.quantile(q.to_f64() / 100.0, axes, method),
            Arg::Tensor(q) => self.quantile(q.inexact() / 100.0, axes, method),
        }
    }

    /// [`Tensor::nanquantile`] in percent: `jax.numpy.nanpercentile`.
    #[track_caller]
    pub fn nanpercentile(&self, q: impl Operand, axes: impl IntoAxes, method: Quantile) -> Self {
        match q.operand() {
            Arg::Weak(q) => self.nanquantile(q.to_f64() / 100.0, axes, method),
            Arg::Tensor(q) => self.nanquantile(q.inexact() / 100.0, axes, method),
        }
    }

    /// The median over `axes`, which are removed; of an even number of elements the mean of the two in the middle:
    /// `jax.numpy.median`.
    #[track_caller]
    pub fn median(&self, axes: impl IntoAxes) -> Self {
        self.quantile(0.5, axes, Quantile::Midpoint)
    }

    /// The median of the elements that are not NaN; NaN if there is none: `jax.numpy.nanmedian`.
    #[track_caller]
    pub fn nanmedian(&self, axes: impl IntoAxes) -> Self {
        self.nanquantile(0.5, axes, Quantile::Midpoint)
    }

    /// In descending order along an axis, NaN first: `jax.numpy.sort(x, axis, descending=True)`.
    #[track_caller]
    pub fn sort_descending(&self, axis: isize) -> Self {
        self.sort(axis).flip(axis)
    }

    /// The indices that sort in descending order along an axis, i32; equal elements stay in order:
    /// `jax.numpy.argsort(x, axis, descending=True)`.
    #[track_caller]
    pub fn argsort_descending(&self, axis: isize) -> Self {
        match resolve(axis, self.rank()) {
            // Reversed before and after, so that the order of equal elements is not.
            Some(along) => {
                let n = self.shape()[along] as i32;
                (n - 1) - self.flip(axis).argsort(axis).flip(axis)
            }
            None => self.no_axis("argsort", axis, Location::caller()),
        }
    }

    /// The elements along an axis with the one of rank `kth` in its place, those before it not larger, those after it
    /// not smaller: `jax.numpy.partition`. They are sorted, which is such an order.
    #[track_caller]
    pub fn partition(&self, kth: isize, axis: isize) -> Self {
        self.ranked("partition", kth, axis, |x| x.sort(axis))
    }

    /// The indices of [`Tensor::partition`], i32: `jax.numpy.argpartition`.
    #[track_caller]
    pub fn argpartition(&self, kth: isize, axis: isize) -> Self {
        self.ranked("argpartition", kth, axis, |x| x.argsort(axis))
    }

    #[track_caller]
    fn ranked(&self, op: &str, kth: isize, axis: isize, f: impl Fn(&Tensor) -> Tensor) -> Self {
        let Some(along) = resolve(axis, self.rank()) else { return self.no_axis(op, axis, Location::caller()) };
        match resolve(kth, self.shape()[along]) {
            Some(_) => f(self),
            None => self.reject(op, format!("axis {along} of {} has no {kth}", self.ty()), Location::caller()),
        }
    }

    /// The index of the first maximum in row-major order, i32: `jax.numpy.argmax(x)`.
    #[track_caller]
    pub fn argmax_flat(&self) -> Self {
        self.ravel().argmax(0)
    }

    /// The index of the first minimum in row-major order, i32: `jax.numpy.argmin(x)`.
    #[track_caller]
    pub fn argmin_flat(&self) -> Self {
        self.ravel().argmin(0)
    }

    /// [`Tensor::argmax`] with the axis kept, of extent 1 (`keepdims=True`).
    #[track_caller]
    pub fn argmax_keep(&self, axis: isize) -> Self {
        self.kept(axis, self.argmax(axis))
    }

    /// [`Tensor::argmin`] with the axis kept, of extent 1 (`keepdims=True`).
    #[track_caller]
    pub fn argmin_keep(&self, axis: isize) -> Self {
        self.kept(axis, self.argmin(axis))
    }

    #[track_caller]
    fn kept(&self, axis: isize, reduced: Tensor) -> Self {
        match resolve(axis, self.rank()) {
            Some(axis) => reduced.expand_dims(axis as isize),
            None => reduced,
        }
    }
}

/// The axis of a vector of shares, which is the last, as the first.
#[track_caller]
fn shares_first(value: &Tensor, q: &Tensor) -> Tensor {
    if q.rank() == 0 { value.clone() } else { value.moveaxis(-1, 0) }
}

/// The indices, i32, that sort by the last of the keys along an axis, of equal ones by the one before it, and so on:
/// `jax.numpy.lexsort`.
///
/// # Errors
/// The result stands for an error if there is no key or no such axis, and if shapes differ.
#[track_caller]
pub fn lexsort(keys: &[&Tensor], axis: isize) -> Tensor {
    let Some(first) = keys.first() else {
        let error = Error::op("lexsort", "takes at least one key".to_string(), Location::caller());
        return Tensor::failed(crate::types::TensorType::scalar(DType::I32), error);
    };
    let Some(along) = resolve(axis, first.rank()) else { return first.no_axis("lexsort", axis, Location::caller()) };
    let positions = Tensor::iota(DType::I32, first.shape(), along);
    let keys: Vec<Tensor> = keys.iter().rev().map(|key| key.stop_gradient()).collect();
    let operands: Vec<&Tensor> = keys.iter().chain([&positions]).collect();
    sort(&operands, axis, keys.len()).swap_remove(keys.len())
}

impl Key {
    /// The elements along an axis in a random order: the same one for all, or one for each line if `independent`:
    /// `jax.random.permutation(key, x, axis, independent)`.
    ///
    /// ```
    /// use fulgurite_jit::{Key, Tensor};
    ///
    /// // Rows of features and their labels, shuffled together.
    /// fn shuffled(key: &Key, x: &Tensor, labels: &Tensor) -> (Tensor, Tensor) {
    ///     (key.permutation_of(x, 0, false), key.permutation_of(labels, 0, false))
    /// }
    /// # let _ = shuffled;
    /// ```
    ///
    /// # Errors
    /// The result stands for an error if there is no such axis.
    #[track_caller]
    pub fn permutation_of(&self, x: &Tensor, axis: isize, independent: bool) -> Tensor {
        let Some(along) = resolve(axis, x.rank()) else { return x.no_axis("permutation", axis, Location::caller()) };
        if !independent {
            // A vector is sorted as its positions are.
            let order = self.permutation(x.shape()[along]);
            return x.take_with(&order, axis, IndexMode::Clip);
        }
        let rounds = (3.0 * (x.size().max(1) as f64).ln() / f64::from(u32::MAX).ln()).ceil() as usize;
        let (mut key, mut x) = (self.clone(), x.clone());
        for _ in 0..rounds {
            let [next, draw] = key.split();
            x = sort(&[&draw.bits(x.shape()), &x], axis, 1).swap_remove(1);
            key = next;
        }
        x
    }
}

//! Where elements are: positions of those that are not 0, places in sorted arrays, membership, distinct elements.
//!
//! How many there are depends on the data, and shapes do not: such functions have a `size`, as JAX's have under `jit`.
//! Definitions are those of `jax.numpy`.

use std::panic::Location;

use crate::error::Error;
use crate::front::operand::{IntoAxes, Operand, reject};
use crate::front::tensor::Tensor;
use crate::front::{sort, where_};
use crate::types::{DType, row_major_strides};

/// The place among equal elements that [`Tensor::searchsorted`] gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// Before them.
    #[default]
    Left,
    /// After them.
    Right,
}

/// Up to so many elements are compared one by one, not searched.
const FEW: usize = 64;

impl Tensor {
    /// Whether elements are not 0, of any element type.
    #[track_caller]
    pub(crate) fn is_nonzero(&self) -> Self {
        if self.dtype() == DType::Bool { self.clone() } else { self.not_equal(0) }
    }

    /// The positions of the first `size` elements that are not 0, row-major, i32; -1 where there are fewer.
    #[track_caller]
    pub(in crate::front) fn flat_nonzero(&self, size: usize) -> Self {
        let n = self.elements();
        let flat = self.is_nonzero().reshape(&[n]);
        // Positions sort before what stands for none.
        let places = flat.select(Tensor::arange(DType::I32, n), Tensor::literal(n, DType::I32)).sort(0);
        let most = size.min(n);
        let found = places.slice_in_dim(0, 0..most);
        let found = found.greater_equal(Tensor::literal(n, DType::I32)).select(-1, &found);
        found.pad(-1, &[0], &[(size - most) as isize], &[0])
    }

    /// The indices of the first `size` elements that are not 0, in row-major order, an i32 tensor for each axis;
    /// `fill_value` where there are fewer: `jax.numpy.nonzero(x, size=…, fill_value=…)`, and `where` of one argument.
    ///
    /// ```
    /// use fulgurite_jit::Tensor;
    ///
    /// // The values that are not 0, up to eight, with 0 for the rest.
    /// fn values(x: &Tensor) -> Tensor {
    ///     let [index] = &x.nonzero(8, x.size() as i32)[..] else { panic!("a vector") };
    ///     x.at(index).mode(fulgurite_jit::IndexMode::FillWith(0.0)).get()
    /// }
    /// # let _ = values;
    /// ```
    #[track_caller]
    pub fn nonzero(&self, size: usize, fill_value: i32) -> Vec<Self> {
        let flat = self.flat_nonzero(size);
        let (shape, strides) = (self.shape(), row_major_strides(self.shape()));
        let along = |axis: usize| {
            let (stride, extent) = (strides[axis].max(1) as i32, shape[axis].max(1) as i32);
            flat.less(0).select(fill_value, &flat / stride % extent)
        };
        (0..self.rank()).map(along).collect()
    }

    /// The indices of [`Tensor::nonzero`] as rows, `[size, rank]`: `jax.numpy.argwhere`.
    #[track_caller]
    pub fn argwhere(&self, size: usize, fill_value: i32) -> Self {
        let columns = self.nonzero(size, fill_value);
        match columns.is_empty() {
            true => Tensor::full(&[size, 0], 0, DType::I32),
            false => Tensor::stack(&columns.iter().collect::<Vec<_>>(), -1),
        }
    }

    /// The positions of the first `size` elements that are not 0 in the flat tensor, i32; `fill_value` where there are
    /// fewer: `jax.numpy.flatnonzero`.
    #[track_caller]
    pub fn flatnonzero(&self, size: usize, fill_value: i32) -> Self {
        let flat = self.flat_nonzero(size);
        flat.less(0).select(fill_value, &flat)
    }

    /// The number of elements along `axes` that are not 0, i32: `jax.numpy.count_nonzero`.
    #[track_caller]
    pub fn count_nonzero(&self, axes: impl IntoAxes) -> Self {
        self.is_nonzero().convert(DType::I32).sum_axes(axes)
    }

    /// For each of `values` the place, i32, in this sorted vector at which it can be inserted: before equal elements or
    /// after them. NaN is larger than any number: `jax.numpy.searchsorted(self, values, side)`.
    ///
    /// ```
    /// use fulgurite_jit::{Side, Tensor};
    ///
    /// // The number of the bin of each value.
    /// fn bins(edges: &Tensor, x: &Tensor) -> Tensor {
    ///     edges.searchsorted(x, Side::Right)
    /// }
    /// # let _ = bins;
    /// ```
    ///
    /// # Errors
    /// The result stands for an error if this is not a vector.
    #[track_caller]
    pub fn searchsorted(&self, values: &Tensor, side: Side) -> Self {
        if self.rank() != 1 {
            let why = format!("takes a sorted vector, not {}", self.ty());
            return reject(&[self, values], Error::op("searchsorted", why, Location::caller()));
        }
        let (sorted, values) = self.promoted(values);
        let n = sorted.size();
        // Whether an element comes before the place of a value.
        let before = |x: &Tensor, value: &Tensor| match side {
            Side::Left => precedes(x, value),
            Side::Right => precedes(value, x).logical_not(),
        };
        if n <= FEW {
            return before(&sorted, &values.expand_dims(-1)).convert(DType::I32).sum_axes(-1);
        }
        // So many elements are known to come before: each step of half the size may be taken or not.
        let mut known = Tensor::full(values.shape(), 0, DType::I32);
        for bit in (0..usize::BITS - n.leading_zeros()).rev() {
            let more = &known + (1i32 << bit);
            let taken = more.less_equal(n).and(before(&sorted.i(&more - 1), &values));
            known = taken.select(&more, &known);
        }
        known
    }

    /// For each element the number of its bin among the `bins` with these edges, which ascend or descend:
    /// `jax.numpy.digitize`. An edge belongs to the bin above it, or below it if `right`.
    #[track_caller]
    pub fn digitize(&self, bins: &Tensor, right: bool) -> Self {
        let n = bins.size();
        if n == 0 {
            return Tensor::full(self.shape(), 0, DType::I32);
        }
        let side = if right { Side::Left } else { Side::Right };
        let (up, down) = (bins.searchsorted(self, side), bins.flip(..).searchsorted(self, side));
        if up.error().is_some() {
            return up;
        }
        bins.i(-1).greater_equal(bins.i(0)).select(up, n as i32 - down)
    }

    /// Whether each element is one of `test`; `jax.numpy.isin`. NaN is not.
    #[track_caller]
    pub fn isin(&self, test: &Tensor) -> Self {
        let (x, test) = self.promoted(test);
        let test = test.ravel();
        let n = test.size();
        if n <= FEW {
            return x.expand_dims(-1).equal(&test).any_axes(-1);
        }
        let sorted = test.sort(0);
        let at = sorted.searchsorted(&x, Side::Left);
        sorted.i(at.minimum(n - 1)).equal(&x)
    }

    /// The first `size` distinct elements in ascending order; `fill_value` where there are fewer, or the first:
    /// `jax.numpy.unique(x, size=…, fill_value=…)`. NaN is equal to NaN, and zeros of either sign are equal.
    /// [`Tensor::unique_all`] has the indices and counts too.
    #[track_caller]
    pub fn unique(&self, size: usize, fill_value: Option<f64>) -> Self {
        self.unique_all(size, fill_value).values
    }

    /// The distinct elements of [`Tensor::unique`], and where and how often they occur.
    ///
    /// ```
    /// use fulgurite_jit::Tensor;
    ///
    /// // How many elements are equal to each.
    /// fn multiplicity(x: &Tensor) -> Tensor {
    ///     let unique = x.unique_all(x.size(), None);
    ///     unique.counts.i(&unique.inverse)
    /// }
    /// # let _ = multiplicity;
    /// ```
    ///
    /// # Errors
    /// The results stand for an error if there are no elements, and there is no `fill_value`.
    #[track_caller]
    pub fn unique_all(&self, size: usize, fill_value: Option<f64>) -> Unique {
        let n = self.size();
        if n == 0 {
            let empty = |n: usize| Tensor::full(&[n], 0, DType::I32);
            let values = match fill_value {
                Some(fill) => Tensor::full(&[size], fill, self.dtype()),
                None if size == 0 => Tensor::full(&[0], 0, self.dtype()),
                None => self.reject("unique", "has no elements, and no fill_value".into(), Location::caller()),
            };
            return Unique { values, index: empty(size), inverse: empty(0), counts: empty(size) };
        }
        let sorted = sort(&[&self.ravel(), &Tensor::arange(DType::I32, n)], 0, 1);
        let (values, permutation) = (&sorted[0], &sorted[1]);
        let (left, right) = (values.slice_in_dim(0, 0..n - 1), values.slice_in_dim(0, 1..n));
        let differs = right.not_equal(&left).and(is_nan(&right).and(is_nan(&left)).logical_not());
        let is_first = Tensor::concat(&[&Tensor::full(&[1], true, DType::Bool), &differs], 0);
        // Where each distinct element begins; after the last the end.
        let begins = is_first.flatnonzero(size + 1, n as i32);
        let (begin, end) = (begins.slice_in_dim(0, 0..size), begins.slice_in_dim(0, 1..size + 1));
        let found = begin.less(n);
        let at = found.select(&begin, 0);
        let filled = match fill_value {
            Some(fill) => found.select(values.i(&at), Tensor::literal(fill, self.dtype())),
            None => values.i(&at),
        };
        // The number of the distinct element at each place, by which of them begin before it.
        let all = is_first.flatnonzero(n, n as i32);
        let number = all.searchsorted(&Tensor::arange(DType::I32, n), Side::Right) - 1;
        let inverse = Tensor::full(&[n], 0, DType::I32).at(permutation).set(&number).reshape(self.shape());
        Unique { values: filled, index: permutation.i(&at), inverse, counts: end - begin }
    }
}

/// The distinct elements of a tensor: the result of [`Tensor::unique_all`].
#[derive(Clone, Debug)]
pub struct Unique {
    /// The elements, ascending.
    pub values: Tensor,
    /// The position of each one's first occurrence in the flat tensor, i32.
    pub index: Tensor,
    /// For each element of the tensor which of these it is, i32.
    pub inverse: Tensor,
    /// How often each occurs, i32; 0 for those that fill.
    pub counts: Tensor,
}

/// Selects `x` where `condition` is not 0 and `y` elsewhere, from several conditions: the first that is true decides,
/// `default` where none is: `jax.numpy.select`.
///
/// # Errors
/// The result stands for an error if there are not as many choices as conditions, or none.
#[track_caller]
pub fn select_first(conditions: &[&Tensor], choices: &[&Tensor], default: impl Operand + Clone) -> Tensor {
    if conditions.len() != choices.len() || conditions.is_empty() {
        let why = format!("takes as many choices as conditions, not {} and {}", choices.len(), conditions.len());
        return Tensor::failed(
            crate::types::TensorType::scalar(DType::F32),
            Error::op("select_first", why, Location::caller()),
        );
    }
    let mut pairs = conditions.iter().zip(choices).rev();
    let (condition, choice) = pairs.next().expect("a condition");
    pairs.fold(where_(condition, *choice, default), |rest, (condition, choice)| where_(condition, *choice, rest))
}

/// For each element of `which` that element of the case with its number: `jax.lax.select_n`. A number below 0 is the
/// first case, one above the last the last.
///
/// # Errors
/// The result stands for an error if there is no case.
#[track_caller]
pub fn select_n(which: &Tensor, cases: &[&Tensor]) -> Tensor {
    let Some((last, rest)) = cases.split_last() else {
        return which.reject("select_n", "takes at least one case".into(), Location::caller());
    };
    let which = if which.dtype() == DType::Bool { which.convert(DType::I32) } else { which.clone() };
    let number = |i: usize| Tensor::literal(i, which.dtype());
    let cases = rest.iter().enumerate().rev();
    cases.fold((*last).clone(), |chosen, (i, case)| which.less_equal(number(i)).select(*case, &chosen))
}

/// Whether elements are NaN; no integer is.
#[track_caller]
pub(super) fn is_nan(x: &Tensor) -> Tensor {
    x.not_equal(x)
}

/// Whether elements sort before others, NaN being the largest.
#[track_caller]
fn precedes(x: &Tensor, y: &Tensor) -> Tensor {
    let less = x.less(y);
    if x.dtype().is_float() { less.or(is_nan(y).and(x.equal(x))) } else { less }
}

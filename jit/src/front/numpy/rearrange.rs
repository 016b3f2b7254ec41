//! Elements in another order or number: rolled, repeated, tiled, turned, inserted, deleted, joined and split.
//!
//! Definitions are those of `jax.numpy`. Negative axes count from the end.

use std::panic::Location;

use smallvec::SmallVec;

use crate::error::Error;
use crate::front::indexing::IndexMode;
use crate::front::numpy::find::Side;
use crate::front::operand::{IntoAxes, Operand, reject, resolve};
use crate::front::tensor::Tensor;
use crate::types::{Axes, DType, Shape};

impl Tensor {
    /// The elements as a vector, row-major: `jax.numpy.ravel`.
    #[track_caller]
    pub fn ravel(&self) -> Self {
        self.reshape(&[self.size()])
    }

    /// With two axes exchanged: `jax.numpy.swapaxes`.
    #[track_caller]
    pub fn swapaxes(&self, axis1: isize, axis2: isize) -> Self {
        match (resolve(axis1, self.rank()), resolve(axis2, self.rank())) {
            (Some(a), Some(b)) => {
                let mut perm: Axes = (0..self.rank()).collect();
                perm.swap(a, b);
                self.transpose(&perm)
            }
            (None, _) => self.no_axis("swapaxes", axis1, Location::caller()),
            (_, None) => self.no_axis("swapaxes", axis2, Location::caller()),
        }
    }

    /// Without any of its axes of extent 1: `jax.numpy.squeeze(x)`.
    #[track_caller]
    pub fn squeeze_all(&self) -> Self {
        self.reshape(&self.shape().iter().copied().filter(|&extent| extent != 1).collect::<Shape>())
    }

    /// Shifts the elements by `shifts[i]` positions along `axes[i]`, cyclically; an axis may be named more than once:
    /// `jax.numpy.roll(x, shifts, axes)`. [`Tensor::roll`] is along one axis.
    ///
    /// # Errors
    /// The result stands for an error if there is no such axis, or not a shift for each.
    #[track_caller]
    pub fn roll_axes(&self, shifts: &[isize], axes: &[isize]) -> Self {
        if shifts.len() != axes.len() {
            let why = format!("takes a shift for each of {} axes, not {}", axes.len(), shifts.len());
            return self.reject("roll", why, Location::caller());
        }
        shifts.iter().zip(axes).fold(self.clone(), |x, (&shift, &axis)| x.roll(shift, axis))
    }

    /// Shifts the elements in row-major order by `shift` positions, cyclically: `jax.numpy.roll(x, shift)`.
    #[track_caller]
    pub fn roll_flat(&self, shift: isize) -> Self {
        self.ravel().roll(shift, 0).reshape(self.shape())
    }

    /// [`Tensor::roll`] by a number that is computed.
    #[track_caller]
    pub fn roll_dynamic(&self, shift: &Tensor, axis: isize) -> Self {
        let Some(along) = resolve(axis, self.rank()) else { return self.no_axis("roll", axis, Location::caller()) };
        let Some(shift) = shift.as_indices().filter(|shift| shift.rank() == 0) else {
            let why = format!("takes a shift that is an integer, not {}", shift.ty());
            return reject(&[self, shift], Error::op("roll", why, Location::caller()));
        };
        let n = self.shape()[along];
        if n == 0 {
            return self.clone();
        }
        // The remainder first: a difference from the shift itself may wrap.
        let shift = shift.remainder(n);
        self.take_with(&(Tensor::arange(DType::I32, n) - shift), axis, IndexMode::Wrap)
    }

    /// Each element along an axis so many times: `jax.numpy.repeat(x, repeats, axis)`. Without an axis that is
    /// `x.ravel().repeat(repeats, 0)`.
    #[track_caller]
    pub fn repeat(&self, repeats: usize, axis: isize) -> Self {
        let Some(axis) = resolve(axis, self.rank()) else { return self.no_axis("repeat", axis, Location::caller()) };
        let mut shape = Shape::from_slice(self.shape());
        let mut copies = shape.clone();
        copies.insert(axis + 1, repeats);
        shape[axis] = shape[axis].saturating_mul(repeats);
        let dims: Axes = (0..copies.len()).filter(|&dim| dim != axis + 1).collect();
        self.broadcast_in_dim(&copies, &dims).reshape(&shape)
    }

    /// Element `i` along an axis `repeats[i]` times, and `total` elements in all: what is more is cut off, what is less
    /// is copies of the last: `jax.numpy.repeat(x, repeats, axis, total_repeat_length=total)`.
    ///
    /// # Errors
    /// The result stands for an error if there is no such axis, or not a number for each element along it.
    #[track_caller]
    pub fn repeat_each(&self, repeats: &Tensor, axis: isize, total: usize) -> Self {
        let Some(along) = resolve(axis, self.rank()) else { return self.no_axis("repeat", axis, Location::caller()) };
        let n = self.shape()[along];
        let Some(repeats) = repeats.as_indices().filter(|repeats| repeats.shape() == [n]) else {
            let why = format!("takes {n} numbers of repeats, integers, not {}", repeats.ty());
            return reject(&[self, repeats], Error::op("repeat", why, Location::caller()));
        };
        if n == 0 || total == 0 {
            let mut shape = Shape::from_slice(self.shape());
            shape[along] = 0;
            let none = Tensor::full(&shape, 0, self.dtype());
            if total == 0 {
                return none;
            }
            return self.reject("repeat", format!("{} has no element to repeat", self.ty()), Location::caller());
        }
        // Where the elements end. Each place is in the first element that ends after it.
        let ends = running_sum(&repeats);
        let source = ends.searchsorted(&Tensor::arange(DType::I32, total), Side::Right).minimum(n - 1);
        self.take_with(&source, axis, IndexMode::Clip)
    }

    /// The tensor so many times along each axis; with axes in front of those that it has where there are more numbers:
    /// `jax.numpy.tile`.
    #[track_caller]
    pub fn tile(&self, reps: &[usize]) -> Self {
        let rank = self.rank().max(reps.len());
        let fill = |list: &[usize]| -> Shape {
            std::iter::repeat_n(1, rank - list.len()).chain(list.iter().copied()).collect()
        };
        let (shape, times) = (fill(self.shape()), fill(reps));
        // An axis for the copies before each axis.
        let pairs: Shape = times.iter().zip(&shape).flat_map(|(&times, &n)| [times, n]).collect();
        let places: Axes = (0..rank).map(|axis| 2 * axis + 1).collect();
        let all: Shape = times.iter().zip(&shape).map(|(times, n)| times.saturating_mul(*n)).collect();
        self.reshape(&shape).broadcast_in_dim(&pairs, &places).reshape(&all)
    }

    /// Turned by `k` times 90° in the plane of two axes, from the first towards the second: `jax.numpy.rot90`.
    #[track_caller]
    pub fn rot90(&self, k: isize, axes: [isize; 2]) -> Self {
        let location = Location::caller();
        let [a, b] = match axes.into_axes(self.rank()) {
            Ok(_) => axes.map(|axis| resolve(axis, self.rank()).unwrap_or(0)),
            Err(why) => return self.reject("rot90", format!("{} {why}", self.ty()), location),
        };
        let swapped = |x: &Tensor| x.swapaxes(a as isize, b as isize);
        match k.rem_euclid(4) {
            0 => self.clone(),
            1 => swapped(&self.rev(&[b])),
            2 => self.rev(&[a.min(b), a.max(b)]),
            _ => swapped(&self.rev(&[a])),
        }
    }

    /// Splits an axis before each of these positions, which ascend: `jax.numpy.split(x, indices, axis)`.
    #[track_caller]
    pub fn split_at(&self, indices: &[usize], axis: isize) -> Vec<Self> {
        let Some(along) = resolve(axis, self.rank()) else {
            return vec![self.no_axis("split", axis, Location::caller()); indices.len() + 1];
        };
        let n = self.shape()[along];
        let starts = std::iter::once(0).chain(indices.iter().map(|&at| at.min(n)));
        let ends = indices.iter().map(|&at| at.min(n)).chain([n]);
        starts.zip(ends).map(|(start, end)| self.slice_in_dim(axis, start..end.max(start))).collect()
    }

    /// Splits an axis into so many parts, the first of which have an element more where it does not divide:
    /// `jax.numpy.array_split`.
    #[track_caller]
    pub fn array_split(&self, parts: usize, axis: isize) -> Vec<Self> {
        let Some(along) = resolve(axis, self.rank()) else {
            return vec![self.no_axis("array_split", axis, Location::caller())];
        };
        if parts == 0 {
            return vec![self.reject("array_split", "takes at least one part".into(), Location::caller())];
        }
        let (each, longer) = (self.shape()[along] / parts, self.shape()[along] % parts);
        let at: Vec<usize> = (1..parts).map(|i| i * each + i.min(longer)).collect();
        self.split_at(&at, axis)
    }

    /// The elements along an axis, which is removed: `jax.numpy.unstack`.
    #[track_caller]
    pub fn unstack(&self, axis: isize) -> Vec<Self> {
        match resolve(axis, self.rank()) {
            Some(along) => (0..self.shape()[along]).map(|i| self.index_in_dim(i, axis)).collect(),
            None => vec![self.no_axis("unstack", axis, Location::caller())],
        }
    }
}

/// The sums of the elements up to each, of an integer vector. So many steps as the extent has bits.
#[track_caller]
fn running_sum(x: &Tensor) -> Tensor {
    let n = x.size();
    let mut sum = x.clone();
    let mut reach = 1;
    while reach < n {
        let shifted =
            sum.slice_in_dim(0, 0..n - reach).pad(Tensor::literal(0, x.dtype()), &[reach as isize], &[0], &[0]);
        sum = sum + shifted;
        reach *= 2;
    }
    sum
}

/// `x` with `values` inserted before the elements at these positions of an axis; the values broadcast to the shape of
/// `x` with an element for each position: `jax.numpy.insert`. Positions are those in `x`; negative ones count from its
/// end.
///
/// # Errors
/// The result stands for an error if there is no such axis or position, or if the values do not broadcast.
#[track_caller]
pub fn insert(x: &Tensor, at: &[isize], values: impl Operand, axis: isize) -> Tensor {
    let location = Location::caller();
    let Some(along) = resolve(axis, x.rank()) else { return x.no_axis("insert", axis, location) };
    let n = x.shape()[along];
    let mut places: SmallVec<[(usize, usize); 4]> = SmallVec::new();
    for (i, &place) in at.iter().enumerate() {
        let counted = if place < 0 { place + n as isize } else { place };
        match usize::try_from(counted).ok().filter(|&counted| counted <= n) {
            Some(place) => places.push((place, i)),
            None => return x.reject("insert", format!("axis {along} of {} has no position {place}", x.ty()), location),
        }
    }
    // Values for one position go there in their order.
    places.sort();
    let mut shape = Shape::from_slice(x.shape());
    shape[along] = at.len();
    let values = values.operand().into_tensor(x.dtype()).convert(x.dtype()).broadcast_to(&shape);
    if values.error().is_some() {
        return values;
    }
    let (mut pieces, mut from) = (Vec::new(), 0);
    for &(place, i) in &places {
        pieces.push(x.slice_in_dim(axis, from..place));
        pieces.push(values.slice_in_dim(axis, i..i + 1));
        from = place;
    }
    pieces.push(x.slice_in_dim(axis, from..n));
    Tensor::concat(&pieces.iter().collect::<Vec<_>>(), axis)
}

/// `x` without the elements at these positions of an axis: `jax.numpy.delete`. Negative ones count from the end.
///
/// # Errors
/// The result stands for an error if there is no such axis or position.
#[track_caller]
pub fn delete(x: &Tensor, at: &[isize], axis: isize) -> Tensor {
    let location = Location::caller();
    let Some(along) = resolve(axis, x.rank()) else { return x.no_axis("delete", axis, location) };
    let n = x.shape()[along];
    let mut places = Vec::new();
    for &place in at {
        match resolve(place, n) {
            Some(place) => places.push(place),
            None => return x.reject("delete", format!("axis {along} of {} has no position {place}", x.ty()), location),
        }
    }
    places.sort_unstable();
    places.dedup();
    let starts = std::iter::once(0).chain(places.iter().map(|place| place + 1));
    let pieces: Vec<Tensor> =
        starts.zip(places.iter().copied().chain([n])).map(|(from, to)| x.slice_in_dim(axis, from..to)).collect();
    Tensor::concat(&pieces.iter().collect::<Vec<_>>(), axis)
}

/// `values` after the elements of `x` along an axis, or of both as vectors if there is none: `jax.numpy.append`.
#[track_caller]
pub fn append(x: &Tensor, values: &Tensor, axis: Option<isize>) -> Tensor {
    match axis {
        Some(axis) => Tensor::concatenate(&[x, values], axis),
        None => Tensor::concatenate(&[&x.ravel(), &values.ravel()], 0),
    }
}

/// Blocks as one matrix, row by row; all have two axes or fewer: `jax.numpy.block`.
#[track_caller]
pub fn block(rows: &[&[&Tensor]]) -> Tensor {
    let row = |row: &&[&Tensor]| {
        let parts: Vec<Tensor> = row.iter().map(|x| atleast_2d(x)).collect();
        Tensor::concatenate(&parts.iter().collect::<Vec<_>>(), -1)
    };
    let rows: Vec<Tensor> = rows.iter().map(row).collect();
    Tensor::concatenate(&rows.iter().collect::<Vec<_>>(), 0)
}

/// A scalar as a vector; others as they are: `jax.numpy.atleast_1d`.
#[track_caller]
pub fn atleast_1d(x: &Tensor) -> Tensor {
    if x.rank() == 0 { x.reshape(&[1]) } else { x.clone() }
}

/// A scalar as a matrix, a vector as a row; others as they are: `jax.numpy.atleast_2d`.
#[track_caller]
pub fn atleast_2d(x: &Tensor) -> Tensor {
    let x = atleast_1d(x);
    if x.rank() == 1 { x.expand_dims(0) } else { x }
}

/// With three axes at least: a vector along the second, a matrix along the first two: `jax.numpy.atleast_3d`.
#[track_caller]
pub fn atleast_3d(x: &Tensor) -> Tensor {
    let x = atleast_2d(x);
    if x.rank() == 2 { x.expand_dims(2) } else { x }
}

/// Tensors one below the other: vectors become rows. `jax.numpy.vstack`.
#[track_caller]
pub fn vstack(tensors: &[&Tensor]) -> Tensor {
    joined(tensors, atleast_2d, 0)
}

/// Tensors one beside the other: vectors are concatenated. `jax.numpy.hstack`.
#[track_caller]
pub fn hstack(tensors: &[&Tensor]) -> Tensor {
    let is_flat = tensors.first().is_some_and(|x| x.rank() <= 1);
    joined(tensors, atleast_1d, if is_flat { 0 } else { 1 })
}

/// Tensors one behind the other, along the third axis: `jax.numpy.dstack`.
#[track_caller]
pub fn dstack(tensors: &[&Tensor]) -> Tensor {
    joined(tensors, atleast_3d, 2)
}

/// Vectors as the columns of a matrix, and the columns of matrices: `jax.numpy.column_stack`.
#[track_caller]
pub fn column_stack(tensors: &[&Tensor]) -> Tensor {
    joined(tensors, |x| if x.rank() < 2 { x.reshape(&[x.size(), 1]) } else { x.clone() }, 1)
}

#[track_caller]
fn joined(tensors: &[&Tensor], each: impl Fn(&Tensor) -> Tensor, axis: isize) -> Tensor {
    let parts: Vec<Tensor> = tensors.iter().map(|x| each(x)).collect();
    Tensor::concatenate(&parts.iter().collect::<Vec<_>>(), axis)
}

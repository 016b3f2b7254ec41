//! Interpolation: of a function of one variable, and of an array at coordinates between its elements.
//!
//! Definitions are those of `jax.numpy.interp` and `jax.scipy.ndimage.map_coordinates`.

use std::panic::Location;

use crate::error::Error;
use crate::front::indexing::Part;
use crate::front::numpy::find::Side;
use crate::front::operand::reject;
use crate::front::sort;
use crate::front::tensor::Tensor;
use crate::types::DType;

/// What [`interp`] gives for an argument beyond the first or the last point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Beyond {
    /// The value at that point.
    #[default]
    Edge,
    /// This.
    Value(f64),
    /// A straight line through that point and its neighbour.
    Extrapolate,
}

/// The options of [`interp`].
///
/// ```
/// use fulgurite_jit::{Interp, Tensor};
///
/// // A periodic function of an angle in degrees.
/// fn around(x: &Tensor, angles: &Tensor, values: &Tensor) -> Tensor {
///     Interp { period: Some(360.0), ..Interp::default() }.run(x, angles, values)
/// }
/// # let _ = around;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Interp {
    /// Below the first point.
    pub left: Beyond,
    /// Above the last point.
    pub right: Beyond,
    /// The function is periodic with this period, and has no ends.
    pub period: Option<f64>,
}

/// The values at `x` of the function that is linear between the points `(xp, fp)`, of which `xp` ascends:
/// `jax.numpy.interp`. Beyond them it is constant.
///
/// # Errors
/// The result stands for an error if `xp` and `fp` are not vectors of one length, at least 1.
#[track_caller]
pub fn interp(x: &Tensor, xp: &Tensor, fp: &Tensor) -> Tensor {
    Interp::default().run(x, xp, fp)
}

impl Interp {
    /// [`interp`] with these options.
    ///
    /// # Errors
    /// As [`interp`].
    #[track_caller]
    pub fn run(self, x: &Tensor, xp: &Tensor, fp: &Tensor) -> Tensor {
        if xp.rank() != 1 || xp.shape() != fp.shape() || xp.size() == 0 {
            let why = format!("takes two vectors of points, of one length, not {} and {}", xp.ty(), fp.ty());
            return reject(&[x, xp, fp], Error::op("interp", why, Location::caller()));
        }
        let (mut x, mut xp) = x.inexact().promoted(&xp.inexact());
        let mut fp = fp.inexact();
        if let Some(period) = self.period {
            let period = period.abs();
            (x, xp) = (x.remainder(period), xp.remainder(period));
            let sorted = sort(&[&xp, &fp], 0, 1);
            let end = |x: &Tensor, last: bool| if last { x.i(-1..) } else { x.i(..1) };
            xp =
                Tensor::concat(&[&(end(&sorted[0], true) - period), &sorted[0], &(end(&sorted[0], false) + period)], 0);
            fp = Tensor::concat(&[&end(&sorted[1], true), &sorted[1], &end(&sorted[1], false)], 0);
        }
        let n = xp.size();
        let i = xp.searchsorted(&x, Side::Right).minimum(n - 1).maximum(1);
        let (x0, y0) = (xp.i(&i - 1), fp.i(&i - 1));
        let (width, rise) = (xp.i(&i) - &x0, fp.i(&i) - &y0);
        // The distance to the next number after the distance from 1 to the next: JAX's limit.
        let epsilon = if xp.dtype() == DType::F64 { f64::EPSILON.powi(2) } else { f64::from(f32::EPSILON).powi(2) };
        let is_narrow = width.abs().less_equal(epsilon);
        let slope = (&x - x0) / is_narrow.select(1.0, &width) * rise;
        let mut y = is_narrow.select(&y0, &y0 + slope);
        if self.period.is_none() {
            let value = |beyond: Beyond, edge: Tensor| match beyond {
                Beyond::Edge => Some(edge),
                Beyond::Value(value) => Some(Tensor::literal(value, fp.dtype())),
                Beyond::Extrapolate => None,
            };
            if let Some(left) = value(self.left, fp.i(0)) {
                y = x.less(xp.i(0)).select(left, &y);
            }
            if let Some(right) = value(self.right, fp.i(-1)) {
                y = x.greater(xp.i(-1)).select(right, &y);
            }
        }
        y
    }
}

/// How [`map_coordinates`] interpolates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The nearest element (`order=0`).
    Nearest,
    /// Linear along each axis (`order=1`).
    #[default]
    Linear,
}

/// What [`map_coordinates`] takes for elements beyond the array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Border {
    /// This number.
    Constant(f64),
    /// The element at the edge.
    Nearest,
    /// The elements from the other end on.
    Wrap,
    /// The elements mirrored at the one at the edge, which is not repeated.
    Mirror,
    /// The elements mirrored at the edge.
    Reflect,
}

impl Border {
    /// The index of the element that stands for the one at `index`.
    #[track_caller]
    fn index(self, index: &Tensor, extent: usize) -> Tensor {
        let mirror = |index: &Tensor, extent: usize| {
            let half = extent as i32 - 1;
            ((index + half).remainder(2 * half) - half).abs()
        };
        match self {
            Border::Constant(_) => index.clone(),
            Border::Nearest => index.maximum(0).minimum(extent.saturating_sub(1)),
            Border::Wrap => index.remainder(extent),
            Border::Mirror => mirror(index, extent),
            Border::Reflect => (mirror(&(index * 2 + 1), 2 * extent + 1) - 1).floor_divide(2),
        }
    }
}

/// The elements of an array at coordinates, one tensor for each axis, all of one shape:
/// `jax.scipy.ndimage.map_coordinates`. Of integers the result is rounded, halves away from zero.
///
/// # Errors
/// The result stands for an error if there is not a tensor for each axis, or no axis, or if an axis is empty.
#[track_caller]
pub fn map_coordinates(x: &Tensor, coordinates: &[&Tensor], order: Order, border: Border) -> Tensor {
    if coordinates.len() != x.rank() || x.rank() == 0 || x.size() == 0 {
        let why = format!("takes a coordinate for each axis of {}, not {}", x.ty(), coordinates.len());
        let all: Vec<&Tensor> = std::iter::once(x).chain(coordinates.iter().copied()).collect();
        return reject(&all, Error::op("map_coordinates", why, Location::caller()));
    }
    // For each axis the elements around the coordinate, and their weights.
    let around = |coordinate: &Tensor| match order {
        Order::Nearest => vec![(coordinate.inexact().round_away_from_zero().convert(DType::I32), None)],
        Order::Linear => {
            let coordinate = coordinate.inexact();
            let lower = coordinate.floor();
            let (upper, index) = (&coordinate - &lower, lower.convert(DType::I32));
            vec![(index.clone(), Some(1.0 - &upper)), (index + 1, Some(upper))]
        }
    };
    let axes: Vec<Vec<(Tensor, Option<Tensor>)>> = coordinates.iter().map(|coordinate| around(coordinate)).collect();
    let corners: usize = axes.iter().map(Vec::len).product();
    let mut total: Option<Tensor> = None;
    for corner in 0..corners {
        let (mut rest, mut parts, mut inside, mut weight) = (corner, Vec::new(), None::<Tensor>, None::<Tensor>);
        // The last axis varies fastest.
        let mut chosen: Vec<usize> = axes
            .iter()
            .rev()
            .map(|axis| {
                let which = rest % axis.len();
                rest /= axis.len();
                which
            })
            .collect();
        chosen.reverse();
        for (axis, which) in chosen.into_iter().enumerate() {
            let (index, share) = &axes[axis][which];
            let extent = x.shape()[axis];
            parts.push(Part::Tensor(border.index(index, extent)));
            if let Border::Constant(_) = border {
                let here = index.greater_equal(0).and(index.less(extent));
                inside = Some(inside.map_or_else(|| here.clone(), |inside| inside.and(&here)));
            }
            if let Some(share) = share {
                weight = Some(weight.map_or_else(|| share.clone(), |weight| weight * share));
            }
        }
        let mut value = x.i(parts);
        if let (Border::Constant(outside), Some(inside)) = (border, inside) {
            value = inside.select(&value, Tensor::literal(outside, x.dtype()));
        }
        let value = weight.map_or_else(|| value.clone(), |weight| weight * &value);
        total = Some(total.map_or_else(|| value.clone(), |total| total + &value));
    }
    let total = total.expect("a corner");
    let is_rounded = !x.dtype().is_float() && total.dtype().is_float();
    if is_rounded { total.round_away_from_zero().convert(x.dtype()) } else { total.convert(x.dtype()) }
}

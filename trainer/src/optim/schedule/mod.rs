//! Learning rates as functions of the step count, with the definitions of Optax 0.2.8.
//!
//! A schedule maps the traced count (i32, 0 in the first step) to a traced scalar of the parameters' type. It is part
//! of the program, and the count one of its inputs: no step is compiled again when the rate changes.

use std::fmt;
use std::sync::Arc;

use fulgurite_jit::{DType, Tensor, Tree};

use super::moments::Scalar;

mod cosine;
mod decay;
mod interpolate;
mod join;

pub use cosine::{
    cosine_decay, cosine_decay_power, cosine_decay_to, one_cycle, sgdr, warmup_cosine, warmup_cosine_power,
};
pub use decay::{constant, exponential_decay, exponential_staircase, linear, piecewise_constant, polynomial};
pub use interpolate::{Interpolation, OneCycle, piecewise_interpolate};
pub use join::{join_schedules, warmup, warmup_constant};

/// A value for every step. A number converts to a constant one.
///
/// ```
/// use fulgurite_trainer::optim::{schedule::Schedule, sgd};
/// let halving = Schedule::typed(|count, dtype| 0.1 / (count.convert(dtype) + 1.0));
/// let optimizer = sgd(halving);
/// ```
#[derive(Clone)]
pub struct Schedule(Arc<Value>);

/// The value at a step count, in an element type.
type Value = dyn Fn(&Tensor, DType) -> Tensor + Send + Sync;

impl Schedule {
    /// The schedule that computes `f` of the step count, an i32 scalar. The rounding of what `f` computes in f32 stays
    /// where it is the rate of an f64 parameter: see [`Schedule::typed`].
    pub fn new(f: impl Fn(&Tensor) -> Tensor + Send + Sync + 'static) -> Self {
        Schedule::typed(move |count, dtype| f(count).convert(dtype))
    }

    /// The schedule that computes `f` of the step count, an i32 scalar, in the given type: f64 for the rate of f64
    /// parameters.
    pub fn typed(f: impl Fn(&Tensor, DType) -> Tensor + Send + Sync + 'static) -> Self {
        Schedule(Arc::new(f))
    }

    /// The value at step `count` (i32 scalar), an f32 scalar.
    pub fn at(&self, count: &Tensor) -> Tensor {
        self.at_as(count, DType::F32)
    }

    /// The value at step `count` (i32 scalar), computed in `dtype` (f32 or f64).
    pub fn at_as(&self, count: &Tensor, dtype: DType) -> Tensor {
        (self.0)(count, dtype)
    }

    /// The value at its count 0 for `steps` steps, then the schedule: `transition_begin` of Optax's schedules.
    ///
    /// ```
    /// use fulgurite_trainer::optim::{schedule::linear, sgd};
    /// let optimizer = sgd(linear(0.1, 0.01, 1_000).after(500));
    /// ```
    #[must_use]
    pub fn after(self, steps: usize) -> Self {
        Schedule::typed(move |count, dtype| self.at_as(&(count - steps).maximum(0), dtype))
    }

    /// Values below `least` become `least`: `end_value` of an `optax.exponential_decay` that falls.
    #[must_use]
    pub fn at_least(self, least: f64) -> Self {
        Schedule::typed(move |count, dtype| self.at_as(count, dtype).maximum(least))
    }

    /// Values above `most` become `most`: `end_value` of an `optax.exponential_decay` that rises.
    #[must_use]
    pub fn at_most(self, most: f64) -> Self {
        Schedule::typed(move |count, dtype| self.at_as(count, dtype).minimum(most))
    }

    /// The value at step `count`, for the leaves of `tree`.
    pub(super) fn scalar<P: Tree>(&self, count: &Tensor, tree: &P) -> Scalar {
        let (schedule, count) = (self.clone(), count.clone());
        Scalar::new(tree, move |dtype| schedule.at_as(&count, dtype))
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schedule(..)")
    }
}

impl From<f64> for Schedule {
    fn from(value: f64) -> Self {
        constant(value)
    }
}

impl From<f32> for Schedule {
    fn from(value: f32) -> Self {
        constant(value.into())
    }
}

//! Loops that end by what they compute: `while_loop`, and `fori_loop` between two numbers.
//!
//! The graph's loop has one function, and whether there is another trip as the first value of its carry. The predicate
//! is traced twice: of the carry before the loop, and of the carry behind a trip.

use std::panic::Location;
use std::sync::Arc;

use super::control::{Scan, carry_error, reorder_params};
use super::tensor::Tensor;
use super::trace::{Traced, apply_all, poison, trace};
use super::tree::{Tree, leaves, unflatten};
use crate::error::Error;
use crate::graph::{CompareOp, Op};
use crate::types::{DType, TensorType};

/// A loop for as long as `cond_fun` of the carry is true: `jax.lax.while_loop`.
///
/// `cond_fun` gives a scalar bool, and is asked before the first trip. `body_fun` takes the carry and gives the next
/// one, of the same types. Both are traced, `cond_fun` twice, however many trips there are. Tensors that they capture
/// are the same in each trip. Under `vmap` the loop runs until all examples have ended; those that have are left alone.
///
/// The loop has derivatives in forward mode (`jvp`). Reverse mode would need the values of an unknown number of trips:
/// see [`scan`](crate::scan), and [`fori_loop`] between numbers that are known when it is traced.
///
/// ```
/// use fulgurite_jit::{Tensor, while_loop};
/// # fulgurite_jit::trace::trace(&[], |_| {
/// // The first power of 2 that is not below 100: 128.
/// let power = while_loop(|x: &Tensor| x.less(100.0), |x| x * 2.0, Tensor::scalar(1.0f32));
/// # vec![power]
/// # }).unwrap();
/// ```
///
/// # Errors
/// The results stand for an error of the functions; if `cond_fun` does not give a scalar bool; and if the carry that
/// `body_fun` gives is of another structure, type or shape than the one that it takes.
#[track_caller]
pub fn while_loop<C: Tree>(cond_fun: impl Fn(&C) -> Tensor, body_fun: impl FnOnce(C) -> C, init: C) -> C {
    while_as("while_loop", Location::caller(), cond_fun, body_fun, init)
}

/// As [`while_loop`], for the function of this name at this line.
fn while_as<C: Tree>(
    name: &str,
    location: &'static Location<'static>,
    cond_fun: impl Fn(&C) -> Tensor,
    body_fun: impl FnOnce(C) -> C,
    init: C,
) -> C {
    let inits = leaves(&init);
    let first = cond_fun(&init);
    let predicate = TensorType::scalar(DType::Bool);
    let mut why = predicate_error(&first);
    let types: Vec<TensorType> =
        std::iter::once(predicate.clone()).chain(inits.iter().map(|x| x.ty().clone())).collect();
    let traced = trace(&types, |params| {
        let carry = body_fun(unflatten(&init, params[1..].iter().cloned()));
        why = carry_error(name, &init, &carry).or(why.take());
        if why.is_some() {
            return Vec::new();
        }
        let more = cond_fun(&carry);
        why = predicate_error(&more);
        std::iter::once(more).chain(leaves(&carry)).collect()
    });
    let results = match (why, traced) {
        // An error of the functions comes before what it leads to.
        (_, Err(error)) => Err(error),
        (Some(why), Ok(_)) => Err(Error::op(name, why, location)),
        (None, Ok(traced)) => {
            let carry: Vec<Tensor> = std::iter::once(first).chain(inits.iter().cloned()).collect();
            Ok(record_while(traced, &carry, location).split_off(1))
        }
    };
    let results = results.unwrap_or_else(|error| inits.iter().map(|x| poison(x.ty().clone(), error.clone())).collect());
    unflatten(&init, results)
}

/// Why a value does not say whether there is another trip.
fn predicate_error(x: &Tensor) -> Option<String> {
    let is_predicate = *x.ty() == TensorType::scalar(DType::Bool);
    (!is_predicate).then(|| format!("cond_fun gives {}, not a scalar bool", x.ty()))
}

/// Records the loop of a traced body. Its inputs are the carry, then what it captures, which are the constants of the
/// loop. Its results are the next carry. The first value of the carry, a scalar bool, says whether there is a trip.
pub fn record_while(traced: Traced, carry: &[Tensor], location: &'static Location<'static>) -> Vec<Tensor> {
    let Traced { graph, captures } = traced;
    let order: Vec<usize> = (carry.len()..carry.len() + captures.len()).chain(0..carry.len()).collect();
    let op = Op::While { body: Arc::new(reorder_params(&graph, &order)), num_consts: captures.len() };
    let operands: Vec<&Tensor> = captures.iter().chain(carry).collect();
    apply_all(op, &operands, location).into_vec()
}

/// A bound of [`fori_loop`]: a number that is known when the loop is traced, or a tensor.
#[derive(Clone, Debug)]
pub enum LoopBound {
    /// A number, which an i32 holds.
    Static(i64),
    /// A scalar integer.
    Dynamic(Tensor),
}

impl From<i32> for LoopBound {
    fn from(bound: i32) -> Self {
        LoopBound::Static(bound.into())
    }
}

impl From<usize> for LoopBound {
    fn from(bound: usize) -> Self {
        LoopBound::Static(i64::try_from(bound).unwrap_or(i64::MAX))
    }
}

impl From<Tensor> for LoopBound {
    fn from(bound: Tensor) -> Self {
        LoopBound::Dynamic(bound)
    }
}

impl From<&Tensor> for LoopBound {
    fn from(bound: &Tensor) -> Self {
        LoopBound::Dynamic(bound.clone())
    }
}

/// A loop from `lower` up to and without `upper`: `jax.lax.fori_loop`. `body_fun` takes the number of the trip and the
/// carry, and gives the next carry. Without a trip, where `upper` is not above `lower`, the result is `init`.
///
/// The number is of the type of the bounds that are tensors, else an i32. Between numbers it is a
/// [`scan`](crate::scan), which has derivatives in both modes; with a tensor it is a [`while_loop`].
///
/// ```
/// use fulgurite_jit::{Tensor, fori_loop};
/// # fulgurite_jit::trace::trace(&[], |_| {
/// // 0 + 1 + 2 + 3
/// let sum = fori_loop(0, 4, |i, sum: Tensor| sum + i, Tensor::scalar(0i32));
/// # vec![sum]
/// # }).unwrap();
/// ```
///
/// # Errors
/// The results stand for an error of `body_fun`; if a bound is not a scalar integer, or the bounds are tensors of
/// different types, or a number is not an i32; and if the carry that `body_fun` gives is of another structure, type or
/// shape than the one that it takes.
#[track_caller]
pub fn fori_loop<C: Tree>(
    lower: impl Into<LoopBound>,
    upper: impl Into<LoopBound>,
    body_fun: impl FnOnce(Tensor, C) -> C,
    init: C,
) -> C {
    let (name, location) = ("fori_loop", Location::caller());
    let bounds = [lower.into(), upper.into()];
    let dtype = match counter(&bounds) {
        Ok(dtype) => dtype,
        Err(why) => {
            let error = Error::op(name, why, location);
            let results: Vec<Tensor> = leaves(&init).iter().map(|x| poison(x.ty().clone(), error.clone())).collect();
            return unflatten(&init, results);
        }
    };
    let trip = |i: &Tensor| i + Tensor::literal(1, dtype);
    if let [LoopBound::Static(lower), LoopBound::Static(upper)] = bounds {
        let trips = Scan { length: Some(usize::try_from(upper - lower).unwrap_or(0)), reverse: false };
        let body = |(i, carry): (Tensor, C), ()| ((trip(&i), body_fun(i, carry)), ());
        return trips.run_as(name, location, body, (Tensor::literal(lower, dtype), init), ()).0.1;
    }
    let [lower, upper] = bounds.map(|bound| match bound {
        LoopBound::Static(bound) => Tensor::literal(bound, dtype),
        LoopBound::Dynamic(bound) => bound,
    });
    let more = |(i, _): &(Tensor, C)| apply_all(Op::Compare(CompareOp::Lt), &[i, &upper], location).swap_remove(0);
    let body = |(i, carry): (Tensor, C)| (trip(&i), body_fun(i, carry));
    while_as(name, location, more, body, (lower, init)).1
}

/// The type of the number of the trip.
fn counter(bounds: &[LoopBound; 2]) -> Result<DType, String> {
    let mut dtype = None;
    for bound in bounds {
        match bound {
            LoopBound::Static(bound) if i32::try_from(*bound).is_err() => {
                return Err(format!("the bound {bound} is not an i32"));
            }
            LoopBound::Static(_) => {}
            LoopBound::Dynamic(bound) => {
                let ty = bound.ty();
                if ty.rank() > 0 || !ty.dtype.is_int() {
                    return Err(format!("a bound is {ty}, not a scalar integer"));
                }
                if dtype.is_some_and(|dtype| dtype != ty.dtype) {
                    return Err(format!("the bounds are {} and {}", bounds_type(bounds, 0), bounds_type(bounds, 1)));
                }
                dtype = Some(ty.dtype);
            }
        }
    }
    Ok(dtype.unwrap_or(DType::I32))
}

fn bounds_type(bounds: &[LoopBound; 2], i: usize) -> String {
    match &bounds[i] {
        LoopBound::Static(bound) => bound.to_string(),
        LoopBound::Dynamic(bound) => bound.ty().to_string(),
    }
}

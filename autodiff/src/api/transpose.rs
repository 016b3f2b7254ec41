//! The public transpose of a linear function.
//!
//! Comes in: a function on trees, and the types of its argument. Goes out: its transpose, as a function. No tangent is
//! taken: the function itself is run backward, so it has to be linear op by op.

use std::panic::Location;

use fulgurite_jit::graph::Env;
use fulgurite_jit::panics::guarded;
use fulgurite_jit::trace::as_one_program;
use fulgurite_jit::{Error, Tensor, Tree, leaves, named_leaves, unflatten};

use super::grad::{mismatch, or_zeros};
use crate::flat::{copy, failed, flat, linear_part, live, replay, residuals, trace_flat, types};
use crate::rules::transpose::backward;

/// The transpose of a linear function `f`, as a function: from a cotangent of the result to the cotangent of `x`:
/// `jax.linear_transpose`. Of `x` the structure and the types are used, not the values. It is
/// [`vjp`](crate::vjp) without a value and without residuals.
///
/// ```
/// use fulgurite_autodiff::linear_transpose;
/// use fulgurite_jit::Tensor;
///
/// /// Bᵀ y, with B given as the function that applies it.
/// fn transposed(y: &Tensor) -> Tensor {
///     let differences = |x: &Tensor| x.slice_in_dim(0, 1..4) - x.slice_in_dim(0, 0..3);
///     linear_transpose(differences, &Tensor::zeros(&[4]))(y)
/// }
/// # let ty = fulgurite_jit::TensorType::new(fulgurite_jit::DType::F32, &[3]);
/// # fulgurite_jit::trace::trace(&[ty], |y| vec![transposed(&y[0])]).unwrap();
/// ```
///
/// # Errors
/// When an op of `f` is not linear in what depends on `x`, or the type of a cotangent is not that of its result, the
/// results are poisoned with the error.
#[track_caller]
pub fn linear_transpose<T: Tree, O: Tree, F: Fn(&T) -> O>(f: F, x: &T) -> impl Fn(&O) -> T + use<T, O, F> {
    let location = Location::caller();
    let mut structure = None;
    let inputs = types(&leaves(x));
    let traced = trace_flat(&inputs, &mut flat(|x: T| f(&x), x, &mut structure));
    // Of its leaves the types are used.
    let like: O = structure.expect("the function has run");
    let x = copy(x);
    move |ct: &O| {
        let cts = leaves(ct);
        let traced = match &traced {
            Ok(traced) => traced,
            Err(reason) => return unflatten(&x, failed(&reason.error, &inputs)),
        };
        if let Some(error) = mismatch("linear_transpose", "cotangent", &named_leaves(&like), &cts, location) {
            return unflatten(&x, failed(&error, &inputs));
        }
        let graph = &traced.graph;
        let mut seeds = vec![false; graph.nodes.len()];
        for (param, ty) in graph.params.iter().zip(&inputs) {
            seeds[param.index()] = ty.dtype.is_float();
        }
        let linear = linear_part(graph, seeds, &graph.outputs);
        let all = [&traced.captures[..], &cts].concat();
        let results = as_one_program(&all, |all| {
            let (captures, cts) = all.split_at(traced.captures.len());
            let transposed = guarded("differentiating", || {
                let mut values: Env<Tensor> = Env::new(graph);
                for (&param, x) in graph.params[inputs.len()..].iter().zip(captures) {
                    values.set(param, x.clone());
                }
                replay(graph, &live(graph, residuals(graph, &linear)), &mut values);
                let cts = graph.outputs.iter().copied().zip(cts.iter().cloned());
                let totals = backward(graph, &linear, &values, cts.filter(|(id, _)| linear[id.index()]))?;
                let of = |param: &fulgurite_jit::graph::ValueId| totals[param.index()].first().cloned().flatten();
                Ok(graph.params[..inputs.len()].iter().map(of).collect::<Vec<_>>())
            });
            match transposed {
                Ok(cts) => or_zeros(cts, &inputs),
                Err(error) => failed(&Error::op("linear_transpose", reason(&error), location), &inputs),
            }
        });
        unflatten(&x, results)
    }
}

/// What a user is told of an op that has no transpose: here the function is to blame, not the compiler.
fn reason(error: &Error) -> String {
    let why = error.message().strip_prefix("compiler error after linearize: ");
    let why = why.and_then(|why| why.strip_suffix(" (this is a bug of fulgurite)"));
    why.map_or_else(|| error.message().into(), |why| format!("the function is not linear: {why}"))
}

//! The public derivatives: `grad`, `value_and_grad`, `jvp`, `vjp`, `linearize`.
//!
//! Comes in: a function on trees. Goes out: its derivatives, as trees, or poisoned tensors for a user error. The rules
//! are not here: see `linearize` and `rules`.

use std::panic::Location;

use fulgurite_jit::panics::guarded;
use fulgurite_jit::trace::as_one_program;
use fulgurite_jit::{Error, Result, Tensor, TensorType, Tree, leaves, named_leaves, unflatten};

use crate::flat::{FlatFn, copy, failed, flat, trace_flat, types, unflat};
use crate::linearize::{LinearMap, LinearMapAt, Linearized, linearize_as_one_program};
use crate::rules::dual::Dual;

/// The gradient of `f`, which returns a float scalar: for each leaf of the argument the derivative by that leaf, of the
/// leaf's type. It is zero for leaves that are not floats.
///
/// ```no_run
/// use fulgurite_autodiff::grad;
/// use fulgurite_jit::Tensor;
///
/// let slope = grad(|x: &Tensor| x.sin())(&Tensor::scalar(0.0f32)); // cos 0 = 1
/// let curvature = grad(grad(|x: &Tensor| x.sin()))(&Tensor::scalar(0.0f32)); // -sin 0 = 0
/// ```
///
/// # Errors
/// When `f` returns anything but a float scalar, or fails, the results are poisoned with the error.
#[track_caller]
pub fn grad<T: Tree>(f: impl Fn(&T) -> Tensor) -> impl Fn(&T) -> T {
    let location = Location::caller();
    move |x: &T| loss_and_gradients("grad", location, |x: T| (f(&x), ()), x).1
}

/// As [`grad`], with the value of `f`: `(f(x), gradient)`.
#[track_caller]
pub fn value_and_grad<T: Tree>(f: impl Fn(&T) -> Tensor) -> impl Fn(&T) -> (Tensor, T) {
    let location = Location::caller();
    move |x: &T| {
        let ((loss, ()), gradients) = loss_and_gradients("value_and_grad", location, |x: T| (f(&x), ()), x);
        (loss, gradients)
    }
}

/// As [`value_and_grad`] for a function that returns auxiliary data with its value:
/// `((value, aux), gradient)`.
#[track_caller]
pub fn value_and_grad_aux<T: Tree, A: Tree>(f: impl Fn(&T) -> (Tensor, A)) -> impl Fn(&T) -> ((Tensor, A), T) {
    let location = Location::caller();
    move |x: &T| loss_and_gradients("value_and_grad_aux", location, |x: T| f(&x), x)
}

/// The value of `f` and its derivative in the direction of `tangents`, forward: costs about two evaluations of `f`.
///
/// `tangents` has the structure and types of `primals`; its leaves that are not floats are ignored. Results that are
/// not floats have zeros of their type as tangents.
///
/// ```no_run
/// use fulgurite_autodiff::jvp;
/// use fulgurite_jit::Tensor;
///
/// let (x, dx) = (Tensor::scalar(3.0f32), Tensor::scalar(1.0f32));
/// let (y, dy) = jvp(|x: &Tensor| x.square(), &x, &dx); // 9, 6
/// ```
///
/// # Errors
/// When the type of a tangent is not that of its primal, the results are poisoned with the error.
#[track_caller]
pub fn jvp<T: Tree, O: Tree>(f: impl Fn(&T) -> O, primals: &T, tangents: &T) -> (O, O) {
    let location = Location::caller();
    let mut structure = None;
    let mut flat_f = flat(|x: T| f(&x), primals, &mut structure);
    let mismatch = mismatch("jvp", "tangent", &named_leaves(primals), &leaves(tangents), location);
    let mut inputs = leaves(primals);
    let count = inputs.len();
    inputs.extend(leaves(tangents));
    let mut results = as_one_program(&inputs, |inputs| {
        let (xs, dxs) = inputs.split_at(count);
        jvp_flat(xs, dxs, mismatch, &mut flat_f)
    });
    drop(flat_f);
    let tangents = results.split_off(results.len() / 2);
    let structure = structure.expect("the function has run");
    (unflatten(&structure, results), unflatten(&structure, tangents))
}

/// The value of `f` at `x`, and its derivative there as a function: from a tangent of `x` to the tangent of the result.
/// What depends on `x` alone is computed once.
///
/// # Errors
/// As [`jvp`].
#[track_caller]
pub fn linearize<T: Tree, O: Tree, F: Fn(&T) -> O>(f: F, x: &T) -> (O, impl Fn(&T) -> O + use<T, O, F>) {
    let location = Location::caller();
    let mut structure = None;
    let (results, linear) = linearize_as_one_program(&leaves(x), &mut flat(|x: T| f(&x), x, &mut structure));
    let y: O = unflat(structure, results);
    let (like, x) = (copy(&y), copy(x));
    let pushforward = move |dx: &T| {
        let mismatch = mismatch("linearize", "tangent", &named_leaves(&x), &leaves(dx), location);
        let types = types(&leaves(&like));
        unflatten(&like, run_linear(&linear, mismatch, &leaves(dx), &types, LinearMap::forward))
    };
    (y, pushforward)
}

/// The value of `f` at `x`, and its derivative there backwards as a function: from a cotangent of the result to the
/// cotangent of `x` (a vector-Jacobian product). What depends on `x` alone is computed once.
///
/// The cotangent has the structure and types of the result; its leaves that are not floats are ignored. The
/// cotangent of a leaf of `x` that is not a float is zero.
///
/// ```no_run
/// use fulgurite_autodiff::vjp;
/// use fulgurite_jit::Tensor;
///
/// let (y, pullback) = vjp(|x: &Tensor| x.square(), &Tensor::scalar(3.0f32)); // y = 9
/// let ct = pullback(&Tensor::scalar(1.0f32)); // 6
/// ```
///
/// # Errors
/// When the type of a cotangent is not that of its result, the results are poisoned with the error.
#[track_caller]
pub fn vjp<T: Tree, O: Tree, F: Fn(&T) -> O>(f: F, x: &T) -> (O, impl Fn(&O) -> T + use<T, O, F>) {
    let location = Location::caller();
    let mut structure = None;
    let (results, linear) = linearize_as_one_program(&leaves(x), &mut flat(|x: T| f(&x), x, &mut structure));
    let y: O = unflat(structure, results);
    let (like, x) = (copy(&y), copy(x));
    let pullback = move |ct: &O| {
        let mismatch = mismatch("vjp", "cotangent", &named_leaves(&like), &leaves(ct), location);
        let types = types(&leaves(&x));
        unflatten(&x, run_linear(&linear, mismatch, &leaves(ct), &types, LinearMap::backward))
    };
    (y, pullback)
}

/// `f(x)`, that is the loss and auxiliary data, and the gradients of the loss by the leaves of `x`.
fn loss_and_gradients<T: Tree, A: Tree>(
    name: &str,
    location: &'static Location<'static>,
    f: impl Fn(T) -> (Tensor, A),
    x: &T,
) -> ((Tensor, A), T) {
    let xs = leaves(x);
    let mut structure = None;
    let mut flat_f = flat(f, x, &mut structure);
    let mut results = as_one_program(&xs, |xs| gradients_flat(name, location, xs, &mut flat_f));
    drop(flat_f);
    let gradients = results.split_off(results.len() - xs.len());
    (unflat(structure, results), unflatten(x, gradients))
}

/// The results of `f`, the first of which is the loss, then its gradients by `xs`.
fn gradients_flat(name: &str, location: &'static Location<'static>, xs: &[Tensor], f: &mut FlatFn<'_>) -> Vec<Tensor> {
    let fail = |error: &Error, results: &[TensorType]| failed(error, results.iter().chain(&types(xs)));
    let Linearized { mut results, linear, residuals } = match crate::linearize::linearize(xs, f) {
        Ok(linearized) => linearized,
        Err(reason) => return fail(&reason.error, &reason.types),
    };
    let loss = results[0].ty();
    if loss.rank() > 0 || !loss.dtype.is_float() {
        let reason = format!("the function must give a float scalar, not {loss}");
        return fail(&Error::op(name, reason, location), &types(&results));
    }
    let mut cts = vec![None; results.len()];
    cts[0] = Some(results[0].ones_like());
    match linear.transpose(&residuals, &cts) {
        Ok(gradients) => results.extend(or_zeros(gradients, &types(xs))),
        Err(error) => return fail(&error, &types(&results)),
    }
    results
}

/// The results of `f` at `xs`, then their tangents.
fn jvp_flat(xs: &[Tensor], dxs: &[Tensor], mismatch: Option<Error>, f: &mut FlatFn<'_>) -> Vec<Tensor> {
    let twice = |types: &[TensorType]| [types, types].concat();
    let traced = match trace_flat(&types(xs), f) {
        Ok(traced) => traced,
        Err(reason) => return failed(&reason.error, &twice(&reason.types)),
    };
    if let Some(error) = mismatch {
        return failed(&error, &twice(&traced.graph.output_types()));
    }
    let dual = |(x, dx): (&Tensor, &Tensor)| Dual { x: x.clone(), dx: x.dtype().is_float().then(|| dx.clone()) };
    let mut inputs: Vec<Dual> = xs.iter().zip(dxs).map(dual).collect();
    inputs.extend(traced.captures.into_iter().map(|x| Dual { x, dx: None }));
    let duals = match guarded("differentiating", || Ok(crate::rules::jvp::jvp(&traced.graph, &inputs))) {
        Ok(duals) => duals,
        Err(error) => return failed(&error, &twice(&traced.graph.output_types())),
    };
    let (ys, dys): (Vec<Tensor>, Vec<_>) = duals.into_iter().map(|y| (y.x, y.dx)).unzip();
    let dys = or_zeros(dys, &types(&ys));
    [ys, dys].concat()
}

/// Runs a linear map on `inputs`, outside of a trace as one program; its results have these types.
fn run_linear(
    linear: &Result<LinearMapAt>,
    mismatch: Option<Error>,
    inputs: &[Tensor],
    types: &[TensorType],
    run: impl Fn(&LinearMap, &[Tensor], &[Tensor]) -> Result<Vec<Option<Tensor>>>,
) -> Vec<Tensor> {
    let (linear, residuals) = match (linear, mismatch) {
        (Ok((linear, residuals)), None) => (linear, residuals),
        (Err(error), _) => return failed(error, types),
        (_, Some(error)) => return failed(&error, types),
    };
    as_one_program(&[residuals, inputs].concat(), |inputs| {
        let (residuals, inputs) = inputs.split_at(residuals.len());
        match run(linear, residuals, inputs) {
            Ok(results) => or_zeros(results, types),
            Err(error) => failed(&error, types),
        }
    })
}

impl LinearMap {
    fn forward(&self, residuals: &[Tensor], dxs: &[Tensor]) -> Result<Vec<Option<Tensor>>> {
        guarded("differentiating", || Ok(self.apply(residuals, dxs)))
    }

    fn backward(&self, residuals: &[Tensor], cts: &[Tensor]) -> Result<Vec<Option<Tensor>>> {
        self.transpose(residuals, &cts.iter().map(|ct| Some(ct.clone())).collect::<Vec<_>>())
    }
}

/// The tensors, with zeros of these types for `None`.
pub(super) fn or_zeros(tensors: Vec<Option<Tensor>>, types: &[TensorType]) -> Vec<Tensor> {
    let zeros = |ty: &TensorType| Tensor::full(&ty.shape, 0.0, ty.dtype);
    tensors.into_iter().zip(types).map(|(x, ty)| x.unwrap_or_else(|| zeros(ty))).collect()
}

/// The error if the types of (co)tangents do not match these tensors.
pub(super) fn mismatch(
    name: &str,
    kind: &str,
    of: &[(String, Tensor)],
    tangents: &[Tensor],
    location: &'static Location<'static>,
) -> Option<Error> {
    if of.len() != tangents.len() {
        let reason = format!("{} {kind}s for {} tensors", tangents.len(), of.len());
        return Some(Error::op(name, reason, location));
    }
    let wrong = |((path, x), dx): &(&(String, Tensor), &Tensor)| {
        (x.dtype().is_float() && x.ty() != dx.ty() && x.error().is_none() && dx.error().is_none()).then(|| {
            let at = if path.is_empty() { String::new() } else { format!(" {path}") };
            let reason = format!("the {kind} of{at} {} must have its type, not {}", x.ty(), dx.ty());
            Error::op(name, reason, location)
        })
    };
    of.iter().zip(tangents).find_map(|pair| wrong(&pair))
}

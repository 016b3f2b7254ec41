//! Branches: `cond` and `switch`.

use std::panic::Location;
use std::sync::Arc;

use super::control::with_params;
use super::tensor::Tensor;
use super::trace::{Traced, apply_all, poison, trace};
use super::tree::{Structure, Tree, leaves, named_leaves, unflatten};
use crate::error::Error;
use crate::graph::Op;
use crate::types::{DType, TensorType};

/// `true_fun` or `false_fun` of the operands, as `pred` says: `jax.lax.cond`. One of them runs.
///
/// `pred` is a scalar; a number is true if it is not 0. Both functions are traced, and their results are of the same
/// structure and types. They may capture tensors. Derivatives are those of the function that runs. Under `vmap` with
/// one `pred` for all examples one function runs; with a `pred` for each both run, and their results are selected.
///
/// ```
/// use fulgurite_jit::{Tensor, cond};
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let x = Tensor::scalar(-4.0f32);
/// // 0; the derivative of the root of a negative number is never asked for.
/// let root = cond(&x.greater(0.0), |x: Tensor| x.sqrt(), |x| x * 0.0, x);
/// # vec![root]
/// # }).unwrap();
/// ```
///
/// # Errors
/// The results stand for an error of the functions; if `pred` is not a scalar; and if the results of the functions are
/// of different structures or types.
#[track_caller]
pub fn cond<O: Tree, R: Tree>(
    pred: &Tensor,
    true_fun: impl FnOnce(O) -> R,
    false_fun: impl FnOnce(O) -> R,
    operands: O,
) -> R {
    let index = match pred.dtype() {
        DType::Bool => pred.clone(),
        dtype => pred.not_equal(Tensor::literal(0, dtype)),
    };
    let mut of_false = Some(false_fun);
    let mut of_true = Some(true_fun);
    let branch = |number: usize, operands: O| match number {
        0 => of_false.take().expect("each runs once")(operands),
        _ => of_true.take().expect("each runs once")(operands),
    };
    branches("cond", Location::caller(), pred, &index, 2, branch, &operands, &["false_fun", "true_fun"])
}

/// The branch with number `index` of the operands: `jax.lax.switch`. One of them runs. An index below 0 is that of the
/// first branch, one that is too large that of the last.
///
/// As [`cond`] else. The branches are closures behind references.
///
/// ```
/// use fulgurite_jit::{Tensor, switch};
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let x = Tensor::scalar(3.0f32);
/// // 9
/// let y = switch(&Tensor::scalar(1i32), [&|x: Tensor| x, &|x: Tensor| &x * &x, &|x: Tensor| x.exp()], x);
/// # vec![y]
/// # }).unwrap();
/// ```
///
/// # Errors
/// As [`cond`]; and if `index` is not an integer.
#[track_caller]
pub fn switch<O: Tree, R: Tree, const N: usize>(index: &Tensor, branches: [&dyn Fn(O) -> R; N], operands: O) -> R {
    const { assert!(N > 0, "there are no branches") };
    let names: Vec<String> = (0..N).map(|i| format!("branch {i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let branch = |number: usize, operands: O| branches[number](operands);
    self::branches("switch", Location::caller(), index, index, N, branch, &operands, &names)
}

/// Traces so many branches and records them. `given` is what the user gave for the index.
#[expect(clippy::too_many_arguments, reason = "what the two functions have in common")]
fn branches<O: Tree, R: Tree>(
    name: &str,
    location: &'static Location<'static>,
    given: &Tensor,
    index: &Tensor,
    count: usize,
    mut branch: impl FnMut(usize, O) -> R,
    operands: &O,
    names: &[&str],
) -> R {
    let inputs = leaves(operands);
    let types: Vec<TensorType> = inputs.iter().map(|x| x.ty().clone()).collect();
    let mut why = index_error(name, given);
    let (mut first, mut failed, mut all) = (None, None, Vec::with_capacity(count));
    for number in 0..count {
        let traced = trace(&types, |params| {
            let results = branch(number, unflatten(operands, params.iter().cloned()));
            let outputs = leaves(&results);
            match &first {
                None => first = Some(results),
                Some(first) => why = why.take().or_else(|| results_error(first, &results, names[0], names[number])),
            }
            outputs
        });
        match traced {
            Ok(traced) => all.push(traced),
            // An error of a function comes before what it leads to.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let like = first.expect("the first function has run");
    let failed = failed.or_else(|| why.map(|why| Error::op(name, why, location)));
    let results = match failed {
        Some(error) => leaves(&like).iter().map(|x| poison(x.ty().clone(), error.clone())).collect(),
        None => record_cond(all, &index.convert(DType::I32), &inputs, location),
    };
    unflatten(&like, results)
}

/// Records branches. Their inputs are the operands, then what each captures.
pub fn record_cond(
    branches: Vec<Traced>,
    index: &Tensor,
    inputs: &[Tensor],
    location: &'static Location<'static>,
) -> Vec<Tensor> {
    if branches.iter().all(|branch| branch.graph.outputs.is_empty()) {
        return Vec::new();
    }
    let mut operands: Vec<Tensor> = inputs.to_vec();
    operands.extend(branches.iter().flat_map(|branch| branch.captures.iter().cloned()));
    let types: Vec<TensorType> = operands.iter().map(|x| x.ty().clone()).collect();
    let mut next = inputs.len();
    let branches = branches.iter().map(|Traced { graph, captures }| {
        let places: Vec<usize> = (0..inputs.len()).chain(next..next + captures.len()).collect();
        next += captures.len();
        Arc::new(with_params(graph, &types, &places))
    });
    let op = Op::Cond { branches: branches.collect() };
    let operands: Vec<&Tensor> = std::iter::once(index).chain(&operands).collect();
    apply_all(op, &operands, location).into_vec()
}

/// Why a value does not say which branch runs.
fn index_error(name: &str, given: &Tensor) -> Option<String> {
    let ty = given.ty();
    if ty.rank() > 0 {
        return Some(format!("what to run is {ty}, not a scalar"));
    }
    (name == "switch" && !ty.dtype.is_int()).then(|| format!("the index is {ty}, not an integer"))
}

/// Why the results of two functions do not go together.
fn results_error(x: &impl Tree, y: &impl Tree, of_x: &str, of_y: &str) -> Option<String> {
    if Structure::of(x) != Structure::of(y) {
        return Some(format!("{of_x} and {of_y} give results of different structures"));
    }
    let differs = |((path, x), (_, y)): ((String, Tensor), (String, Tensor))| {
        let name = if path.is_empty() { "the result".into() } else { format!("{path} of the result") };
        (x.ty() != y.ty()).then(|| format!("{name} is {} in {of_x} and {} in {of_y}", x.ty(), y.ty()))
    };
    named_leaves(x).into_iter().zip(named_leaves(y)).find_map(differs)
}

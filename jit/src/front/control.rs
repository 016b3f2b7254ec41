//! Loops over arrays: `scan` and `map`. Loops that end by what they compute are in `loops`.

use std::panic::Location;
use std::sync::Arc;

use super::tensor::Tensor;
use super::trace::{Traced, apply_all, poison, trace};
use super::tree::{Structure, Tree, leaves, named_leaves, unflatten};
use crate::error::Error;
use crate::graph::{Graph, Node, Op, ValueId};
use crate::types::TensorType;

/// A loop over the first axis of `xs`, with a carry: `jax.lax.scan`.
///
/// `f` takes the carry and an element of `xs`, and gives the next carry, of the same types, and a result. The loop
/// gives the last carry, and the results along a new first axis. `f` is traced once, however many trips there are. The
/// leaves of `xs` have one extent along their first axis; [`Scan`] has loops without `xs`, and from the last element to
/// the first. Tensors that `f` captures are the same in each trip.
///
/// ```
/// use fulgurite_jit::{Tensor, scan};
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let xs = Tensor::from_vec(&[4], vec![1.0f32, 2.0, 3.0, 4.0]).unwrap();
/// // 10, and the sums up to each element: [1, 3, 6, 10].
/// let (sum, sums) = scan(|sum: Tensor, x: Tensor| (&sum + &x, &sum + &x), Tensor::scalar(0.0f32), xs);
/// # vec![sum, sums]
/// # }).unwrap();
/// ```
///
/// # Errors
/// The results stand for an error of `f`; if the extents differ or `xs` has no leaves; and if the carry that `f` gives
/// is of another structure, type or shape than the one that it takes.
#[track_caller]
pub fn scan<C: Tree, X: Tree, Y: Tree>(f: impl FnOnce(C, X) -> (C, Y), init: C, xs: X) -> (C, Y) {
    Scan::default().run(f, init, xs)
}

/// `f` of each element along the first axis of `xs`, one after the other: `jax.lax.map`. The results are along a new
/// first axis. To compute all of them at once, see `vmap`.
///
/// ```
/// use fulgurite_jit::{Tensor, map};
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let xs = Tensor::from_vec(&[2, 2], vec![1.0f32, 2.0, 3.0, 4.0]).unwrap();
/// // [3, 7]
/// let sums = map(|row: Tensor| row.sum(), xs);
/// # vec![sums]
/// # }).unwrap();
/// ```
///
/// # Errors
/// As [`scan`].
#[track_caller]
pub fn map<X: Tree, Y: Tree>(f: impl FnOnce(X) -> Y, xs: X) -> Y {
    Scan::default().run_as("map", Location::caller(), |(), x| ((), f(x)), (), xs).1
}

/// A [`scan`] with the options of `jax.lax.scan`.
///
/// ```
/// use fulgurite_jit::{Scan, Tensor};
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let squared = |x: Tensor, ()| (&x * &x, ());
/// // 2 to the power of 8.
/// let (x, ()) = Scan { length: Some(3), ..Scan::default() }.run(squared, Tensor::scalar(2.0f32), ());
/// # vec![x]
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The number of trips, which `xs` without leaves does not say.
    pub length: Option<usize>,
    /// From the last element to the first.
    pub reverse: bool,
}

impl Scan {
    /// Runs the loop: see [`scan`].
    ///
    /// # Errors
    /// As [`scan`]; and if `length` is not the extent of `xs`.
    #[track_caller]
    pub fn run<C: Tree, X: Tree, Y: Tree>(self, f: impl FnOnce(C, X) -> (C, Y), init: C, xs: X) -> (C, Y) {
        self.run_as("scan", Location::caller(), f, init, xs)
    }

    /// As [`Scan::run`], for the function of this name at this line.
    pub(super) fn run_as<C: Tree, X: Tree, Y: Tree>(
        self,
        name: &str,
        location: &'static Location<'static>,
        f: impl FnOnce(C, X) -> (C, Y),
        init: C,
        xs: X,
    ) -> (C, Y) {
        let (inits, elements) = (leaves(&init), leaves(&xs));
        let length = self.length_of(&xs);
        let mut after = None;
        let traced = trace(&body_types(&inits, &elements), |params| {
            let (carry, elements) = params.split_at(inits.len());
            let (carry, y) = f(unflatten(&init, carry.iter().cloned()), unflatten(&xs, elements.iter().cloned()));
            let (carries, ys) = (leaves(&carry), leaves(&y));
            let error = carry_error(name, &init, &carry);
            after = Some((y, error));
            [carries, ys].concat()
        });
        let (y, error) = after.expect("the function has run");
        let trips = length.clone().unwrap_or(0);
        let results = match (length, error, traced) {
            // An error of the function comes before what it leads to.
            (_, _, Err(error)) => Err(error),
            (Err(why), ..) | (_, Some(why), _) => Err(Error::op(name, why, location)),
            (Ok(length), None, Ok(traced)) => {
                let trips = Scan { length: Some(length), ..self };
                Ok(record_scan(traced, &inits, &elements, trips, location))
            }
        };
        let mut results = match results {
            Ok(results) => results,
            Err(error) => {
                let of_ys = leaves(&y).into_iter().map(|y| {
                    let mut ty = y.ty().clone();
                    ty.shape.insert(0, trips);
                    ty
                });
                let types = inits.iter().map(|x| x.ty().clone()).chain(of_ys);
                types.map(|ty| poison(ty, error.clone())).collect()
            }
        };
        let ys = results.split_off(inits.len());
        (unflatten(&init, results), unflatten(&y, ys))
    }

    fn length_of(self, xs: &impl Tree) -> Result<usize, String> {
        let mut length = self.length.map(|length| (length, "the length is".to_string()));
        for (path, x) in named_leaves(xs) {
            let name = if path.is_empty() { "xs".into() } else { format!("xs.{path}") };
            let Some(&extent) = x.shape().first() else {
                return Err(format!("{name} is {}, which has no axis to loop over", x.ty()));
            };
            match &length {
                Some((known, what)) if *known != extent => {
                    return Err(format!("{name} is {}, of {extent} elements, but {what} {known}", x.ty()));
                }
                Some(_) => {}
                None => length = Some((extent, format!("{name} is {}, of", x.ty()))),
            }
        }
        length.map(|(length, _)| length).ok_or_else(|| "xs has no tensors, and there is no length".into())
    }
}

/// Records the loop of a traced body. Its inputs are the carry and an element of each of `xs`, then what it captures,
/// which are the constants of the loop. Its results are the next carry and an element of each further result.
pub fn record_scan(
    traced: Traced,
    carry: &[Tensor],
    xs: &[Tensor],
    Scan { length, reverse }: Scan,
    location: &'static Location<'static>,
) -> Vec<Tensor> {
    let Traced { graph, captures } = traced;
    if graph.outputs.is_empty() {
        return Vec::new();
    }
    let args = carry.len() + xs.len();
    let order: Vec<usize> = (args..args + captures.len()).chain(0..args).collect();
    let body = Arc::new(reorder_params(&graph, &order));
    let (num_consts, num_carry) = (captures.len(), carry.len());
    let op = Op::Scan { body, num_consts, num_carry, length: length.unwrap_or(0), reverse };
    let operands: Vec<&Tensor> = captures.iter().chain(carry).chain(xs).collect();
    apply_all(op, &operands, location).into_vec()
}

/// The graph with input `order[i]` as input `i`, and its inputs first, as they are printed.
pub(super) fn reorder_params(graph: &Graph, order: &[usize]) -> Graph {
    let types: Vec<TensorType> = order.iter().map(|&i| graph.ty(graph.params[i]).clone()).collect();
    let mut places = vec![0; order.len()];
    order.iter().enumerate().for_each(|(to, &from)| places[from] = to);
    with_params(graph, &types, &places)
}

/// The graph with inputs of these types, of which number `places[i]` is what is its input `i`.
pub(super) fn with_params(graph: &Graph, types: &[TensorType], places: &[usize]) -> Graph {
    let mut new = Graph::new();
    let params: Vec<ValueId> = types.iter().map(|ty| new.param(ty.clone())).collect();
    let mut map = vec![ValueId(0); graph.nodes.len()];
    for (param, &place) in graph.params.iter().zip(places) {
        map[param.index()] = params[place];
    }
    for (id, node) in graph.ids().zip(&graph.nodes).filter(|(_, node)| !matches!(node.op, Op::Param(_))) {
        let operands = node.operands.iter().map(|x| map[x.index()]).collect();
        map[id.index()] = new.push(Node { operands, ..node.clone() });
    }
    new.outputs = graph.outputs.iter().map(|x| map[x.index()]).collect();
    new
}

/// The types of the inputs of a loop's body: those of the carry, and of an element of each of `xs`.
pub fn body_types(carry: &[Tensor], xs: &[Tensor]) -> Vec<TensorType> {
    carry.iter().map(|x| x.ty().clone()).chain(xs.iter().map(|x| element(x.ty()))).collect()
}

/// The type of an element along the first axis.
fn element(ty: &TensorType) -> TensorType {
    TensorType::new(ty.dtype, ty.shape.get(1..).unwrap_or_default())
}

/// Why the carry after a trip is not of the kind that it is before.
pub(super) fn carry_error(op: &str, before: &impl Tree, after: &impl Tree) -> Option<String> {
    if Structure::of(before) != Structure::of(after) {
        return Some("the carry has another structure after a trip than before".into());
    }
    let differs = |((path, x), (_, y)): ((String, Tensor), (String, Tensor))| {
        // The carry of the user comes after the number of the trip.
        let path =
            if op == "fori_loop" { path.strip_prefix('1').unwrap_or(&path).trim_start_matches('.') } else { &path[..] };
        let name = if path.is_empty() { "the carry".into() } else { format!("{path} of the carry") };
        (x.ty() != y.ty()).then(|| format!("{name} is {} before a trip and {} after it", x.ty(), y.ty()))
    };
    named_leaves(before).into_iter().zip(named_leaves(after)).find_map(differs)
}

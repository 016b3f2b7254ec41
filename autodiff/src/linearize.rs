//! Linearisation: a function at a point, split into its value and a linear map. Reverse mode is built on it.
//!
//! Comes in: a function on leaves, and a point. It is traced, then traced again with the tangent rules of `jvp`, the
//! tangents of its float inputs being further inputs. In the resulting graph
//!
//! ```text
//! (x, dx) → (y, dy)
//! ```
//!
//! the values that depend on dx are the linear part: linear in dx, since every tangent rule is. All others depend on x
//! alone; they are recorded in the current trace, and those that the linear part uses, the *residuals*, are kept.
//!
//! Goes out: y, and the linear part as a [`LinearMap`], which runs forward on a dx or backward on a cotangent of y, any
//! number of times. Values that no result depends on are left out of both. The rules of ops are in `rules`.
//!
//! `FULGURITE_DUMP=grad` prints the graph (x, dx) → (y, dy), and the transpose of its linear part.

use fulgurite_jit::dump::{Stage, dump, wants};
use fulgurite_jit::graph::{Env, Graph, ValueId};
use fulgurite_jit::panics::guarded;
use fulgurite_jit::trace::{Traced, as_one_program, trace};
use fulgurite_jit::{Error, Tensor};

use crate::flat::{Failed, FlatFn, linear_part, live, replay, residuals, trace_flat, types};
use crate::partial::split_scans;
use crate::rules::dual::Dual;
use crate::rules::jvp::jvp;
use crate::rules::transpose::backward;

/// The linear map from tangents of the inputs to tangents of the results, as a function of the residuals.
pub(crate) struct LinearMap {
    /// The whole graph (x, dx) → (y, dy).
    graph: Graph,
    /// Per input the value of its tangent; only floats have one.
    inputs: Vec<Option<ValueId>>,
    /// Per result the value that is its tangent; `None` where that is zero.
    outputs: Vec<Option<ValueId>>,
    /// Per value: it depends on dx, and dy depends on it.
    linear: Vec<bool>,
    /// Nonlinear values that the linear ones use.
    residuals: Vec<ValueId>,
}

/// A linear map and its residuals at a point.
pub(crate) type LinearMapAt = (LinearMap, Vec<Tensor>);

/// A function's results and its linear map with the residuals.
pub(crate) struct Linearized {
    pub(crate) results: Vec<Tensor>,
    pub(crate) linear: LinearMap,
    pub(crate) residuals: Vec<Tensor>,
}

/// Linearises `f` at `xs`, in the current trace.
pub(crate) fn linearize(xs: &[Tensor], f: &mut FlatFn<'_>) -> Result<Linearized, Failed> {
    let traced = trace_flat(&types(xs), f)?;
    let results = traced.graph.output_types();
    guarded("differentiating", || linearize_traced(xs, traced)).map_err(|error| Failed { error, types: results })
}

/// [`linearize`] of a function that has been traced.
fn linearize_traced(xs: &[Tensor], Traced { graph: primal, captures }: Traced) -> Result<Linearized, Error> {
    let inputs = types(xs);
    let floats: Vec<usize> = (0..inputs.len()).filter(|&i| inputs[i].dtype.is_float()).collect();
    let mut params = primal.param_types();
    let primal_params = params.len();
    params.extend(floats.iter().map(|&i| inputs[i].clone()));

    let mut has_tangent = Vec::new();
    let traced = trace(&params, |params| {
        let (xs, dxs) = params.split_at(primal_params);
        let mut duals: Vec<Dual> = xs.iter().map(|x| Dual { x: x.clone(), dx: None }).collect();
        for (&i, dx) in floats.iter().zip(dxs) {
            duals[i].dx = Some(dx.clone());
        }
        let results = jvp(&primal, &duals);
        has_tangent = results.iter().map(|result| result.dx.is_some()).collect();
        let tangents = results.iter().filter_map(|result| result.dx.clone());
        results.iter().map(|result| result.x.clone()).chain(tangents).collect()
    });
    let is_tangent = |i: usize| i >= primal_params;
    let graph = split_scans(traced?.graph, &is_tangent)?;

    dump(Stage::Grad, "linearised: (x, dx) to (y, dy)", &graph);

    let tangent_params = &graph.params[primal_params..];
    let mut tangents = vec![None; inputs.len()];
    for (&i, &param) in floats.iter().zip(tangent_params) {
        tangents[i] = Some(param);
    }
    let (results, result_tangents) = graph.outputs.split_at(has_tangent.len());
    let mut result_tangents = result_tangents.iter().copied();
    let outputs: Vec<Option<ValueId>> =
        has_tangent.iter().map(|&has| if has { result_tangents.next() } else { None }).collect();
    let mut seeds = vec![false; graph.nodes.len()];
    tangent_params.iter().for_each(|param| seeds[param.index()] = true);
    let linear = linear_part(&graph, seeds, outputs.iter().flatten());
    let residuals = residuals(&graph, &linear);

    let mut values = Env::new(&graph);
    for (&param, x) in graph.params.iter().zip(xs.iter().chain(&captures)) {
        values.set(param, x.clone());
    }
    replay(&graph, &live(&graph, results.iter().chain(&residuals).copied()), &mut values);
    let pick = |ids: &[ValueId]| ids.iter().map(|&id| values.get(id).clone()).collect();
    Ok(Linearized {
        results: pick(results),
        residuals: pick(&residuals),
        linear: LinearMap { inputs: tangents, outputs, linear, residuals, graph },
    })
}

/// [`linearize`] outside of a trace as one program. On an error the results are poisoned.
pub(crate) fn linearize_as_one_program(xs: &[Tensor], f: &mut FlatFn<'_>) -> (Vec<Tensor>, Result<LinearMapAt, Error>) {
    let mut linear = None;
    let mut count = 0;
    let mut results = as_one_program(xs, |xs| match linearize(xs, f) {
        Ok(mut linearized) => {
            count = linearized.results.len();
            linear = Some(Ok(linearized.linear));
            linearized.results.append(&mut linearized.residuals);
            linearized.results
        }
        Err(failed) => {
            count = failed.types.len();
            linear = Some(Err(failed.error.clone()));
            failed.results()
        }
    });
    let residuals = results.split_off(count);
    let linear = linear.expect("the function has run");
    (results, linear.map(|linear| (linear, residuals)))
}

impl LinearMap {
    /// Forward: the tangents of the results. `dxs` has one tensor per input; those of non-float inputs are
    /// ignored. `None` is zero.
    pub(crate) fn apply(&self, residuals: &[Tensor], dxs: &[Tensor]) -> Vec<Option<Tensor>> {
        let mut values = self.values(residuals);
        for (id, dx) in self.inputs.iter().zip(dxs) {
            if let Some(id) = id {
                values.set(*id, dx.clone());
            }
        }
        replay(&self.graph, &self.linear, &mut values);
        self.outputs.iter().map(|id| id.map(|id| values.get(id).clone())).collect()
    }

    /// Backward: the cotangents of the inputs, from those of the results. `None` is zero, both ways.
    ///
    /// # Errors
    /// A compiler error when the linear part is not linear.
    pub(crate) fn transpose(&self, residuals: &[Tensor], cts: &[Option<Tensor>]) -> Result<Vec<Option<Tensor>>, Error> {
        if wants(Stage::Grad) {
            self.dump_transposed(residuals, cts);
        }
        guarded("differentiating", || self.run_backward(residuals, cts))
    }

    fn run_backward(&self, residuals: &[Tensor], cts: &[Option<Tensor>]) -> Result<Vec<Option<Tensor>>, Error> {
        let values = self.values(residuals);
        let cts = self.outputs.iter().zip(cts).filter_map(|(id, ct)| Some(((*id)?, ct.clone()?)));
        let totals = backward(&self.graph, &self.linear, &values, cts)?;
        Ok(self.inputs.iter().map(|id| id.and_then(|id| totals[id.index()].first().cloned().flatten())).collect())
    }

    /// Transposes again into a separate graph, to print it.
    fn dump_transposed(&self, residuals: &[Tensor], cts: &[Option<Tensor>]) {
        let given: Vec<Tensor> = cts.iter().flatten().cloned().collect();
        let traced = trace(&types(&[residuals, &given].concat()), |params| {
            let (residuals, given) = params.split_at(residuals.len());
            let mut given = given.iter().cloned();
            let cts: Vec<Option<Tensor>> = cts.iter().map(|ct| ct.as_ref().and_then(|_| given.next())).collect();
            self.run_backward(residuals, &cts).into_iter().flatten().flatten().collect()
        });
        if let Ok(traced) = traced {
            dump(Stage::Grad, "transposed: (residuals, cotangents of y) to cotangents of x", &traced.graph);
        }
    }

    fn values(&self, residuals: &[Tensor]) -> Env<Tensor> {
        let mut values = Env::new(&self.graph);
        for (&id, x) in self.residuals.iter().zip(residuals) {
            values.set(id, x.clone());
        }
        values
    }
}

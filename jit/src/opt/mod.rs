//! Graph optimisation: passes that rewrite a graph to an equivalent, cheaper one, until a fixed point.
//!
//! A graph from tracing and autodiff comes in, one with the same inputs and results goes out. Each pass is a pure
//! function in its own file; this file is the pass manager. Passes are independent of the target. Not done here:
//! materialisation and fusion. Results are bit-identical, with three exceptions, which are documented at their rules:
//! the sign of a zero, a power with a constant exponent, and the order of sums.

mod cond;
mod cse;
mod dce;
mod fold;
#[cfg(test)]
mod fuzz;
mod rebuild;
mod scan;
mod simplify;

use std::borrow::Cow;
use std::time::{Duration, Instant};

pub use cond::cond;
pub use cse::cse;
pub use dce::dce;
pub use fold::fold;
pub use scan::scan;
pub use simplify::simplify;

use crate::error::Result;
use crate::graph::{Graph, verify};

/// A pass, from a graph to an equivalent one; `None` if there is nothing that it looks at.
type Pass = fn(&Graph) -> Option<Graph>;

/// The passes by name, in the order of a round. Simplification comes first, since it exposes constants.
const PASSES: [(&str, Pass); 6] = [
    ("simplify", |graph| Some(simplify(graph))),
    ("fold", |graph| Some(fold(graph))),
    ("cse", |graph| Some(cse(graph))),
    ("scan", scan),
    ("cond", cond),
    ("dce", |graph| Some(dce(graph))),
];

/// The limit on rounds. Most graphs reach the fixed point after three; the limit guards against rules that undo each
/// other.
const MAX_ROUNDS: usize = 16;

/// Optimises a graph.
///
/// # Errors
/// If `graph` does not verify. In debug builds the result of every pass is verified too.
pub fn optimise(graph: &Graph) -> Result<Graph> {
    optimise_with(graph, &mut |_, _, _, _| {})
}

/// As [`optimise`], and calls `observe` after every pass with its name, the new graph, the time it took, and whether it
/// changed the graph.
///
/// # Errors
/// As [`optimise`].
pub fn optimise_with(graph: &Graph, observe: &mut dyn FnMut(&'static str, &Graph, Duration, bool)) -> Result<Graph> {
    // Later stages assume a verified graph, and this one may come from the user.
    verify(graph, "building the graph to optimise")?;
    let mut error = Ok(());
    let graph = fixpoint(graph, &mut |name, next, took, changed| {
        observe(name, next, took, changed);
        if cfg!(debug_assertions) && error.is_ok() {
            error = verify(next, name);
        }
    });
    error.map(|()| graph)
}

/// Applies the passes until none changes the graph.
fn fixpoint(graph: &Graph, observe: &mut dyn FnMut(&'static str, &Graph, Duration, bool)) -> Graph {
    let mut graph = Cow::Borrowed(graph);
    // The number of consecutive passes without a change.
    let mut quiet = 0;
    for (name, pass) in PASSES.iter().cycle().take(MAX_ROUNDS * PASSES.len()) {
        if quiet == PASSES.len() {
            break;
        }
        let start = Instant::now();
        let next = pass(&graph);
        let changed = next.as_ref().is_some_and(|next| *graph != *next);
        observe(name, next.as_ref().unwrap_or(&graph), start.elapsed(), changed);
        quiet = if changed { 0 } else { quiet + 1 };
        if let Some(next) = next {
            graph = Cow::Owned(next);
        }
    }
    graph.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::graph::{parse, samples};
    use crate::interp::interpret;

    #[test]
    fn samples_keep_their_results() {
        for sample in samples() {
            let graph = sample.graph();
            let inputs: Vec<Array> = (0..).zip(&sample.operands).map(|(i, ty)| simplify::random(ty, i)).collect();
            let optimised = optimise(&graph).unwrap();
            assert_eq!(
                interpret(&graph, &inputs).unwrap(),
                interpret(&optimised, &inputs).unwrap(),
                "{graph}{optimised}"
            );
        }
    }

    #[test]
    fn passes_work_together() {
        // (x * (2 + 3) + x * 5) reshaped back and forth: folding exposes equal products, which takes several rounds.
        let text = "fn f(%0: f32[4]) -> (f32[2,2]) {
            %1: f32[] = literal 2.0
            %2: f32[] = literal 3.0
            %3: f32[4] = broadcast_in_dim %1 [shape=4, dims=]
            %4: f32[4] = broadcast_in_dim %2 [shape=4, dims=]
            %5: f32[4] = add %3, %4
            %6: f32[4] = mul %5, %0
            %7: f32[] = literal 5.0
            %8: f32[4] = broadcast_in_dim %7 [shape=4, dims=]
            %9: f32[4] = mul %0, %8
            %10: f32[4] = add %6, %9
            %11: f32[1,4] = reshape %10 [shape=1,4]
            %12: f32[2,2] = reshape %11 [shape=2,2]
            return %12
        }";
        let expected = "fn main(%0: f32[4]) -> (f32[2,2]) {
  %1: f32[] = literal 5.0
  %2: f32[4] = broadcast_in_dim %1 [shape=4, dims=]
  %3: f32[4] = mul %0, %2
  %4: f32[4] = add %3, %3
  %5: f32[2,2] = reshape %4 [shape=2,2]
  return %5
}
";
        let mut changes = Vec::new();
        let mut observe = |pass, _: &Graph, _, changed| changes.push((pass, changed));
        let optimised = optimise_with(&parse(text).unwrap(), &mut observe).unwrap();
        assert_eq!(optimised.to_string(), expected);
        assert_eq!(changes[0], ("simplify", true));
        assert!(changes.len() < 4 * MAX_ROUNDS, "it ends by itself");
        assert!(changes[changes.len() - 4..].iter().all(|(_, changed)| !changed));
    }
}

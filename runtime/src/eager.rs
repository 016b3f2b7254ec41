//! Ops outside of a traced function.
//!
//! Comes in: a graph and arrays. Goes out: the results of its program, which is compiled once and cached. Recording of
//! the graph is in `fulgurite-jit`.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use fulgurite_jit::graph::{Graph, Op};
use fulgurite_jit::panics::guarded;
use fulgurite_jit::{Array, Result};

use crate::cache::Cache;
use crate::device::select::of_operands;
use crate::program::Program;

/// What identifies a program: the identity of its device, and its graph.
type GraphKey = Arc<(u64, Graph)>;

/// Bytes of cached programs: 4096 of one op, fewer with constants.
const CACHE_BYTES: usize = 4096 * PROGRAM_BYTES;

/// The assumed bytes of a program of one op.
const PROGRAM_BYTES: usize = 1 << 16;

/// The assumed bytes of each node of a larger program.
const NODE_BYTES: usize = 1 << 12;

static PROGRAMS: LazyLock<Mutex<Cache<GraphKey, Arc<Program>>>> = LazyLock::new(|| Mutex::new(Cache::new(CACHE_BYTES)));

/// Registers the evaluator with `fulgurite-jit`, before `main`.
#[ctor::ctor]
fn install() {
    fulgurite_jit::trace::set_evaluator(evaluate);
}

/// Compiles (or finds) the program of `graph` and runs it.
fn evaluate(graph: &Graph, inputs: &[Array]) -> Result<Vec<Array>> {
    guarded("evaluating an op", || {
        let device = of_operands(inputs)?;
        let key = Arc::new((device.id(), graph.clone()));
        // A panic cannot leave the cache inconsistent.
        let programs = || PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = programs().get(&key).cloned();
        let program = match cached {
            Some(program) => program,
            None => {
                let program = Arc::new(Program::compile_tuned("op", graph, &vec![false; inputs.len()], &device)?);
                let evicted = programs().insert(key, program.clone(), weight(graph));
                drop(evicted);
                program
            }
        };
        program.run(inputs.to_vec())
    })
}

/// Bytes that a program keeps alive.
fn weight(graph: &Graph) -> usize {
    let constant = |op: &Op| if let Op::Constant(constant) = op { constant.bytes().len() } else { 0 };
    let inner = |op: &Op| op.graphs().iter().map(|graph| weight(graph)).sum::<usize>();
    PROGRAM_BYTES
        + NODE_BYTES * graph.nodes.len()
        + graph.nodes.iter().map(|node| constant(&node.op) + inner(&node.op)).sum::<usize>()
}

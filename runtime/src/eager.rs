//! Ops outside of a traced function: each graph is compiled once and kept.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use fulgurite_jit::graph::{Graph, Op, Operands, ValueId};
use fulgurite_jit::panics::guarded;
use fulgurite_jit::{Array, Result, TensorType};

use crate::cache::Cache;
use crate::program::Program;

/// What makes two graphs the same.
type Key = Arc<(Vec<(Op, Operands, TensorType)>, Vec<ValueId>)>;

/// Bytes that the programs may take: 4096 of one op, fewer where they hold constants. Those go that were not used for
/// the longest time.
const KEPT: usize = 4096 * PROGRAM;

/// What a program of one op is taken to weigh, in bytes.
const PROGRAM: usize = 1 << 16;

static PROGRAMS: LazyLock<Mutex<Cache<Key, Arc<Program>>>> = LazyLock::new(|| Mutex::new(Cache::new(KEPT)));

/// Makes the runtime known to the compiler's `Tensor`, before `main`.
#[ctor::ctor]
fn install() {
    fulgurite_jit::trace::set_evaluator(evaluate);
}

/// Compiles (or finds) the program of `graph` and runs it.
fn evaluate(graph: &Graph, inputs: &[Array]) -> Result<Vec<Array>> {
    guarded("evaluating an op", || {
        let nodes = graph.nodes.iter().map(|n| (n.op.clone(), n.operands.clone(), n.ty.clone())).collect();
        let key = Arc::new((nodes, graph.outputs.clone()));
        // No panic leaves the cache half changed.
        let programs = || PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
        let known = programs().get(&key).cloned();
        let program = match known {
            Some(program) => program,
            None => {
                let program = Arc::new(Program::compile_paced("op", graph, &vec![false; inputs.len()])?);
                let gone = programs().insert(key, program.clone(), weight(graph));
                drop(gone);
                program
            }
        };
        program.run(inputs.to_vec())
    })
}

/// What a program keeps alive, in bytes.
fn weight(graph: &Graph) -> usize {
    let constant = |op: &Op| if let Op::Constant(constant) = op { constant.0.bytes().len() } else { 0 };
    PROGRAM + graph.nodes.iter().map(|node| constant(&node.op)).sum::<usize>()
}

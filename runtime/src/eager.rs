//! Ops outside of a traced function: each graph is compiled once and kept.

use std::sync::{Arc, LazyLock, Mutex};

use fulgurite_jit::graph::{Graph, Op, Operands, ValueId};
use fulgurite_jit::{Array, Result, TensorType};
use hashbrown::HashMap;

use crate::program::Program;

/// What makes two graphs the same.
type Key = (Vec<(Op, Operands, TensorType)>, Vec<ValueId>);

/// Programs kept at most; when there are more, all are dropped.
const KEPT: usize = 4096;

static PROGRAMS: LazyLock<Mutex<HashMap<Key, Arc<Program>>>> = LazyLock::new(Mutex::default);

/// Makes the runtime known to the compiler's `Tensor`, before `main`.
#[ctor::ctor]
fn install() {
    fulgurite_jit::trace::set_evaluator(evaluate);
}

/// Compiles (or finds) the program of `graph` and runs it.
fn evaluate(graph: &Graph, inputs: &[Array]) -> Result<Vec<Array>> {
    let nodes = graph.nodes.iter().map(|n| (n.op.clone(), n.operands.clone(), n.ty.clone())).collect();
    let key = (nodes, graph.outputs.clone());
    let known = PROGRAMS.lock().ok().and_then(|programs| programs.get(&key).cloned());
    let program = match known {
        Some(program) => program,
        None => {
            let program = Arc::new(Program::compile("op", graph, &vec![false; inputs.len()])?);
            if let Ok(mut programs) = PROGRAMS.lock() {
                if programs.len() >= KEPT {
                    programs.clear();
                }
                programs.insert(key, program.clone());
            }
            program
        }
    };
    Ok(program.run(inputs.to_vec()))
}

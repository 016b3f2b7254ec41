//! Tracing: running a function on stand-ins and recording what it does as a [`Graph`].
//!
//! Traces nest: a function under `grad` or `vmap` is traced inside the trace of the function around it, and may use
//! its tensors, which become inputs of the inner graph ([`Traced::captures`]). An op is always recorded in the
//! innermost trace. Outside of any trace an op is evaluated at once, by the runtime.
//!
//! The first error of a trace is kept and returned by [`trace`]; the tensor in its place is poisoned and silently
//! poisons whatever is made of it, so that a user sees one error, at the line where it happened.

use std::cell::RefCell;
use std::panic::Location;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::HashMap;

use crate::array::Array;
use crate::error::{Error, Result};
use crate::graph::{Constant, Graph, Literal, Node, Op, ValueId, infer};
use crate::tensor::{Repr, Tensor};
use crate::types::{DType, TensorType};

/// Which trace a tensor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(u64);

/// What a trace gives: the graph, and the tensors from around it that it used.
#[derive(Debug)]
pub struct Traced {
    /// The graph. Its inputs are the arguments in order, then one for each capture.
    pub graph: Graph,
    /// The tensors of traces around this one that stand for the last inputs.
    pub captures: Vec<Tensor>,
}

struct Trace {
    id: TraceId,
    graph: Graph,
    captures: Vec<Tensor>,
    captured: HashMap<(TraceId, ValueId), ValueId>,
    constants: HashMap<usize, ValueId>,
    error: Option<Error>,
}

thread_local! {
    static TRACES: RefCell<Vec<Trace>> = const { RefCell::new(Vec::new()) };
}

/// Removes the trace again when the traced function panics.
struct Guard {
    depth: usize,
}

impl Drop for Guard {
    fn drop(&mut self) {
        TRACES.with_borrow_mut(|traces| traces.truncate(self.depth));
    }
}

/// Runs `f` on stand-ins of these types and records what it does.
///
/// # Errors
/// The first error that an op met inside, or that a result is a leaked tensor of a trace that has ended.
pub fn trace(inputs: &[TensorType], f: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> Result<Traced> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = TraceId(NEXT.fetch_add(1, Relaxed));
    let mut graph = Graph::new();
    let params: Vec<Tensor> = inputs.iter().map(|ty| Tensor::traced(id, graph.param(ty.clone()), ty.clone())).collect();
    let depth = TRACES.with_borrow_mut(|traces| {
        traces.push(Trace {
            id,
            graph,
            captures: Vec::new(),
            captured: HashMap::new(),
            constants: HashMap::new(),
            error: None,
        });
        traces.len() - 1
    });
    let guard = Guard { depth };
    let results = f(&params);
    let outputs: Result<Vec<ValueId>> = results.iter().map(lift_here).collect();
    let trace = TRACES.with_borrow_mut(|traces| traces.pop()).expect("the trace that was pushed above");
    std::mem::forget(guard);
    if let Some(error) = trace.error {
        return Err(error);
    }
    let mut graph = trace.graph;
    graph.outputs = outputs?;
    Ok(Traced { graph, captures: trace.captures })
}

/// Is a function being traced on this thread?
pub fn tracing() -> bool {
    TRACES.with_borrow(|traces| !traces.is_empty())
}

/// Keeps `error` as the current trace's (if it is its first) and gives a poisoned tensor in place of the result.
pub fn poison(ty: TensorType, error: Error) -> Tensor {
    TRACES.with_borrow_mut(|traces| {
        if let Some(trace) = traces.last_mut() {
            trace.error.get_or_insert_with(|| error.clone());
        }
    });
    Tensor::poisoned(ty, error)
}

/// Runs `f` on `inputs`: as it is while a function is being traced; outside of any trace as one program, rather than
/// op by op. This is how the transformations behave well when they are called on concrete tensors.
pub fn staged(inputs: &[Tensor], f: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> Vec<Tensor> {
    if tracing() {
        return f(inputs);
    }
    let types: Vec<TensorType> = inputs.iter().map(|x| x.ty().clone()).collect();
    // Should there be an error, the results are still as many as `f` gave.
    let mut guesses = Vec::new();
    let result = trace(&types, |params| {
        let outputs = f(params);
        guesses = outputs.iter().map(|x| x.ty().clone()).collect();
        outputs
    });
    let arrays: Result<Vec<Array>> = inputs.iter().map(|x| x.array().cloned()).collect();
    match result.and_then(|traced| evaluate(&traced.graph, &arrays?)) {
        Ok(arrays) => arrays.into_iter().map(Tensor::from).collect(),
        Err(error) => guesses.into_iter().map(|ty| Tensor::poisoned(ty, error.clone())).collect(),
    }
}

/// Applies a recorded op of `graph` to other operands.
pub fn reapply(node: &Node, operands: &[&Tensor]) -> Tensor {
    apply(node.op.clone(), operands, node.location.unwrap_or_else(|| Location::caller()))
}

/// Records the values of `graph` here, with `inputs` in place of its inputs; gives its results.
pub fn inline(graph: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    let mut values: Vec<Tensor> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let value = match &node.op {
            Op::Param(i) => inputs[*i].clone(),
            _ => reapply(node, &node.operands.iter().map(|x| &values[x.index()]).collect::<Vec<_>>()),
        };
        values.push(value);
    }
    graph.outputs.iter().map(|x| values[x.index()].clone()).collect()
}

/// How ops outside are evaluated: the runtime compiles and runs the one-op graph.
pub type Evaluator = fn(&Graph, &[Array]) -> Result<Vec<Array>>;

static EVALUATOR: OnceLock<Evaluator> = OnceLock::new();

/// Installs the evaluator of ops outside of a trace. The runtime does so when the program is loaded; the first wins.
pub fn set_evaluator(evaluator: Evaluator) {
    EVALUATOR.get_or_init(|| evaluator);
}

/// Evaluates a graph with the installed evaluator.
pub fn evaluate(graph: &Graph, inputs: &[Array]) -> Result<Vec<Array>> {
    match EVALUATOR.get() {
        Some(evaluator) => evaluator(graph, inputs),
        None => Err(Error::new("no runtime is linked in to evaluate ops outside of a traced function")),
    }
}

/// Applies `op`: records it in the innermost trace, or evaluates it where there is none. `guess` is the result's type
/// should there be an error.
pub fn apply(op: Op, operands: &[&Tensor], location: &'static Location<'static>) -> Tensor {
    if let Some(poisoned) = operands.iter().find_map(|x| x.error()) {
        return poison(operands[0].ty().clone(), poisoned.clone());
    }
    let types: smallvec::SmallVec<[&TensorType; 4]> = operands.iter().map(|x| x.ty()).collect();
    let ty = match infer(&op, &types) {
        Ok(ty) => ty,
        Err(why) => {
            let guess = types.first().map_or(TensorType::scalar(DType::F32), |ty| (*ty).clone());
            return poison(guess, Error::op(op.name(), why, location));
        }
    };
    if !tracing() {
        return evaluate_op(op, operands, ty, location);
    }
    let mut values = crate::graph::Operands::new();
    for x in operands {
        match lift_here(x) {
            Ok(value) => values.push(value),
            Err(error) => return poison(ty, Error::op(op.name(), error, location)),
        }
    }
    TRACES.with_borrow_mut(|traces| {
        let trace = traces.last_mut().expect("a trace, since `tracing()`");
        let value = trace.graph.push(Node { op, operands: values, ty: ty.clone(), location: Some(location) });
        Tensor::traced(trace.id, value, ty)
    })
}

fn evaluate_op(op: Op, operands: &[&Tensor], ty: TensorType, location: &'static Location<'static>) -> Tensor {
    let mut arrays = Vec::new();
    for x in operands {
        match x.array() {
            Ok(array) => arrays.push(array.clone()),
            Err(error) => return Tensor::poisoned(ty, Error::op(op.name(), error, location)),
        }
    }
    let mut graph = Graph::new();
    let params = arrays.iter().map(|a| graph.param(a.ty().clone())).collect();
    let result = graph.push(Node { op, operands: params, ty: ty.clone(), location: Some(location) });
    graph.outputs.push(result);
    match evaluate(&graph, &arrays) {
        Ok(mut results) => Tensor::from(results.remove(0)),
        Err(error) => Tensor::poisoned(ty, error),
    }
}

/// The value of the innermost trace that stands for `x`.
fn lift_here(x: &Tensor) -> Result<ValueId> {
    TRACES.with_borrow_mut(|traces| lift(x, traces))
}

fn lift(x: &Tensor, traces: &mut [Trace]) -> Result<ValueId> {
    let Some((trace, around)) = traces.split_last_mut() else {
        return Err(Error::new("a tensor of a traced function was used after the trace had ended"));
    };
    match x.repr() {
        Repr::Poisoned { error, .. } => Err((**error).clone()),
        Repr::Concrete(array) => Ok(trace.constant(array)),
        Repr::Traced { trace: id, value, ty } => {
            if *id == trace.id {
                return Ok(*value);
            }
            if let Some(&param) = trace.captured.get(&(*id, *value)) {
                return Ok(param);
            }
            // It must be known around here, or it is a leak.
            lift(x, around)?;
            let param = trace.graph.param(TensorType::clone(ty));
            trace.captured.insert((*id, *value), param);
            trace.captures.push(x.clone());
            Ok(param)
        }
    }
}

impl Trace {
    fn constant(&mut self, array: &Array) -> ValueId {
        if let Some(literal) = Literal::of(array) {
            let ty = array.ty().clone();
            return self.graph.push(Node {
                op: Op::Literal(literal),
                operands: Default::default(),
                ty,
                location: None,
            });
        }
        // The graph's constant keeps the buffer alive, so its address stays its own.
        let key = std::sync::Arc::as_ptr(array.buffer()) as usize;
        if let Some(&value) = self.constants.get(&key)
            && self.graph.ty(value) == array.ty()
        {
            return value;
        }
        let ty = array.ty().clone();
        let op = Op::Constant(Constant(array.clone()));
        let value = self.graph.push(Node { op, operands: Default::default(), ty, location: None });
        self.constants.insert(key, value);
        value
    }
}

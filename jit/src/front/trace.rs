//! Tracing: running a function on stand-ins and recording what it does as a [`Graph`].
//!
//! Traces nest: a function under `grad` or `vmap` is traced inside the trace of the function around it, and may use
//! its tensors, which become inputs of the inner graph ([`Traced::captures`]). An op is always recorded in the
//! innermost trace. Outside of any trace an op is evaluated at once, by the runtime.
//!
//! The first error of a trace is kept and returned by [`trace`]; the tensor in its place is poisoned and silently
//! poisons whatever is made of it, so that a user sees one error, at the line where it happened. To read a value that
//! is not there yet is such an error too: whatever the function makes of the refusal, its call returns it.

use std::cell::RefCell;
use std::panic::Location;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::HashMap;

use super::panics::{self, Panic};
use super::tensor::{Repr, Tensor, TraceId};
use crate::array::Array;
use crate::error::{Error, Result};
use crate::graph::{Constant, Graph, Literal, Node, Op, ValueId, infer};
use crate::types::{DType, TensorType};

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
    mistakes: Option<Mistakes>,
}

/// The errors of a trace.
struct Mistakes {
    /// The first, which is the trace's.
    first: Error,
    /// The latest: what an `unwrap` panics with.
    last: Error,
}

impl Mistakes {
    fn add(all: &mut Option<Mistakes>, error: &Error) {
        match all {
            Some(mistakes) => mistakes.last = error.clone(),
            None => *all = Some(Mistakes { first: error.clone(), last: error.clone() }),
        }
    }
}

thread_local! {
    static TRACES: RefCell<Vec<Trace>> = const { RefCell::new(Vec::new()) };
}

/// A panic out of a traced function, and the mistakes that were made before.
struct Unwound {
    panic: Panic,
    mistakes: Option<Mistakes>,
}

/// Runs `f` on stand-ins of these types and records what it does. A panic passes through.
///
/// # Errors
/// The first error that an op met inside, or that a result is a leaked tensor of a trace that has ended.
pub fn trace(inputs: &[TensorType], f: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> Result<Traced> {
    match record(inputs, |params| Ok(f(params))) {
        Ok(traced) => traced,
        Err(Unwound { panic, mistakes }) => {
            // What the function around makes of the panic, it does after a mistake: see `trace_call`.
            if let Some(Mistakes { first, last }) = mistakes {
                keep(&first);
                keep(&last);
            }
            panic.resume()
        }
    }
}

/// As [`trace`], of a function that may fail, for a call that returns its error.
///
/// # Errors
/// As [`trace`]; where no op met an error, that of `f`; in place of a panic that is a bug of ours, a fault of the
/// compiler. Where `f` panics with the error of an op, of a read, or of a poisoned tensor, as `unwrap` does, the first
/// of these is what the call returns. All other panics pass through.
pub fn trace_call(inputs: &[TensorType], f: impl FnOnce(&[Tensor]) -> Result<Vec<Tensor>>) -> Result<Traced> {
    match record(inputs, f) {
        Ok(traced) => traced,
        Err(Unwound { panic, mistakes }) => match mistakes {
            Some(Mistakes { first, last }) if panic.is_ours() || panic.is_of(&first) || panic.is_of(&last) => {
                Err(first)
            }
            None if panic.is_ours() => Err(panic.error("tracing")),
            _ => panic.resume(),
        },
    }
}

fn record(
    inputs: &[TensorType],
    f: impl FnOnce(&[Tensor]) -> Result<Vec<Tensor>>,
) -> std::result::Result<Result<Traced>, Unwound> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    panics::watch();
    if let Some(why) = inputs.iter().find_map(|ty| ty.check_size().err()) {
        return Ok(Err(Error::new(format!("trace: the argument {why}"))));
    }
    let id = TraceId::new(NEXT.fetch_add(1, Relaxed));
    let mut graph = Graph::new();
    let params: Vec<Tensor> = inputs.iter().map(|ty| Tensor::traced(id, graph.param(ty.clone()), ty.clone())).collect();
    let depth = TRACES.with_borrow_mut(|traces| {
        traces.push(Trace {
            id,
            graph,
            captures: Vec::new(),
            captured: HashMap::new(),
            constants: HashMap::new(),
            mistakes: None,
        });
        traces.len() - 1
    });
    let outputs: std::result::Result<Result<Vec<ValueId>>, _> =
        panics::catch(|| f(&params)?.iter().map(lift_here).collect());
    let trace = TRACES.with_borrow_mut(|traces| traces.drain(depth..).next()).expect("the trace that was pushed above");
    let outputs = match outputs {
        Ok(outputs) => outputs,
        Err(panic) => return Err(Unwound { panic, mistakes: trace.mistakes }),
    };
    Ok(match trace.mistakes {
        Some(mistakes) => Err(mistakes.first),
        None => outputs.map(|outputs| Traced { graph: Graph { outputs, ..trace.graph }, captures: trace.captures }),
    })
}

/// Is a function being traced on this thread?
pub fn tracing() -> bool {
    TRACES.with_borrow(|traces| !traces.is_empty())
}

/// Keeps `error` as the current trace's, if there is one and it is its first.
pub fn keep(error: &Error) {
    TRACES.with_borrow_mut(|traces| {
        if let Some(trace) = traces.last_mut() {
            Mistakes::add(&mut trace.mistakes, error);
        }
    });
}

/// [Keeps](keep) `error` and gives a poisoned tensor in place of the result.
pub fn poison(ty: TensorType, error: Error) -> Tensor {
    keep(&error);
    Tensor::poisoned(ty, error)
}

/// Is this one of the traces that are going on, on this thread?
pub(crate) fn goes_on(id: TraceId) -> bool {
    TRACES.with_borrow(|traces| traces.iter().any(|trace| trace.id == id))
}

/// What is wrong with a tensor whose trace is none of those that are going on.
pub(crate) const ENDED: &str = "a tensor of a traced function was used after the trace had ended, or on another thread";

impl Tensor {
    /// Why [`Tensor::concrete`] gives nothing.
    #[cold]
    pub fn no_data(&self) -> Error {
        match self.repr() {
            Repr::Poisoned { error, .. } => (**error).clone(),
            Repr::Traced { trace, .. } if !goes_on(*trace) => Error::new(ENDED),
            Repr::Traced { ty, .. } => Error::new(format!(
                "a traced {ty} has no data yet: return it from the compiled function, and read it there; to choose by \
                 its value inside, use `select`"
            )),
            Repr::Concrete(array) => Error::new(format!("{} has data", array.ty())),
        }
    }
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
    let arrays: Result<Vec<Array>> = inputs.iter().map(|x| x.concrete().cloned().ok_or_else(|| x.no_data())).collect();
    match result.and_then(|traced| evaluate(&traced.graph, &arrays?)) {
        Ok(arrays) => arrays.into_iter().map(Tensor::from).collect(),
        Err(error) => guesses.into_iter().map(|ty| Tensor::poisoned(ty, error.clone())).collect(),
    }
}

/// Where the op was called that gave this value of a program being traced.
pub fn location(x: &Tensor) -> Option<&'static Location<'static>> {
    let Repr::Traced { trace: id, value, .. } = x.repr() else { return None };
    TRACES.with_borrow(|traces| traces.iter().find(|trace| trace.id == *id)?.graph.node(*value).location)
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

/// The type of a result that could not be had. Its element type is the one asked for: whoever converts, then looks
/// whether to convert, would do so for ever.
fn guess(op: &Op, first: Option<&TensorType>) -> TensorType {
    let ty = first.cloned().unwrap_or(TensorType::scalar(DType::F32));
    match op {
        Op::Convert(dtype) | Op::Bitcast(dtype) => ty.with_dtype(*dtype),
        Op::Compare(_) => ty.with_dtype(DType::Bool),
        _ => ty,
    }
}

/// Applies `op`: records it in the innermost trace, or evaluates it where there is none.
pub fn apply(op: Op, operands: &[&Tensor], location: &'static Location<'static>) -> Tensor {
    if let Some(poisoned) = operands.iter().find_map(|x| x.error()) {
        return poison(guess(&op, Some(operands[0].ty())), poisoned.clone());
    }
    let types: smallvec::SmallVec<[&TensorType; 4]> = operands.iter().map(|x| x.ty()).collect();
    let inferred = panics::catch(|| infer(&op, &types).map_err(|why| Error::op(op.name(), why, location)));
    let ty = match inferred.unwrap_or_else(|panic| Err(panic.error(op.name()))) {
        Ok(ty) => ty,
        Err(error) => {
            return poison(guess(&op, types.first().copied()), error);
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
        match x.concrete() {
            Some(array) => arrays.push(array.clone()),
            None => return Tensor::poisoned(ty, Error::op(op.name(), x.no_data(), location)),
        }
    }
    let mut graph = Graph::new();
    let params = arrays.iter().map(|a| graph.param(a.ty().clone())).collect();
    let name = op.name();
    let result = graph.push(Node { op, operands: params, ty: ty.clone(), location: Some(location) });
    graph.outputs.push(result);
    match evaluate(&graph, &arrays) {
        Ok(mut results) => Tensor::from(results.remove(0)),
        Err(error) => Tensor::poisoned(ty, Error::op(name, error.message(), location)),
    }
}

/// The value of the innermost trace that stands for `x`.
fn lift_here(x: &Tensor) -> Result<ValueId> {
    TRACES.with_borrow_mut(|traces| lift(x, traces))
}

fn lift(x: &Tensor, traces: &mut [Trace]) -> Result<ValueId> {
    let Some((trace, around)) = traces.split_last_mut() else {
        return Err(Error::new(ENDED));
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
        let key = std::ptr::from_ref(&**array.buffer()) as usize;
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

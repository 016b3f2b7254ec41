//! Tracing: a function runs on tracers, and its ops are recorded as a [`Graph`].
//!
//! Traces nest. A function under `grad` or `vmap` is traced inside the trace of the enclosing function and may use its
//! tensors, which become inputs of the inner graph ([`Traced::captures`]). An op is recorded in the innermost trace.
//! Outside of any trace the runtime evaluates it immediately.
//!
//! [`trace`] returns the first error of a trace. The result of the failed op is poisoned, and so is every result
//! computed from it, without another message: the user sees one error, at the line that caused it. Reading the data of
//! a tracer is such an error too: the call returns it, whatever the function does with the `Err`.

use std::cell::RefCell;
use std::panic::Location;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::HashMap;
use smallvec::{SmallVec, smallvec};

use super::panics::{self, Panic};
use super::tensor::{Repr, Tensor, TraceId};
use crate::array::{Array, Shared};
use crate::error::{Error, Result};
use crate::graph::{Constant, Env, Graph, Literal, Node, Op, Operands, Results, ValueId, results};
use crate::types::{DType, TensorType};

/// The result of a trace: the graph, and the tensors of enclosing traces that it uses.
#[derive(Debug)]
pub struct Traced {
    /// The graph. Its inputs are the arguments in order, followed by one for each capture.
    pub graph: Graph,
    /// The tensors of enclosing traces that are passed as the last inputs.
    pub captures: Vec<Tensor>,
}

struct Trace {
    id: TraceId,
    graph: Graph,
    captures: Vec<Tensor>,
    captured: HashMap<(TraceId, ValueId), ValueId>,
    constants: HashMap<usize, (ValueId, Shared)>,
    errors: Option<Errors>,
}

/// The errors of a trace.
struct Errors {
    /// The first one, which `trace` returns.
    first: Error,
    /// The latest one, which an `unwrap` panics with.
    last: Error,
}

impl Errors {
    fn add(all: &mut Option<Errors>, error: &Error) {
        match all {
            Some(errors) => errors.last = error.clone(),
            None => *all = Some(Errors { first: error.clone(), last: error.clone() }),
        }
    }
}

thread_local! {
    static TRACES: RefCell<Vec<Trace>> = const { RefCell::new(Vec::new()) };
}

/// A panic of a traced function, and the errors recorded before it.
struct Unwound {
    panic: Panic,
    errors: Option<Errors>,
}

/// Runs `f` on tracers of these types and records its ops. A panic is propagated.
///
/// # Errors
/// The first error recorded in the trace; a result that is a leaked tensor of a trace that has ended.
pub fn trace(inputs: &[TensorType], f: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> Result<Traced> {
    match record(inputs, |params| Ok(f(params))) {
        Ok(traced) => traced,
        Err(Unwound { panic, errors }) => {
            // The enclosing trace takes over the errors, for `trace_call` to match the panic against.
            if let Some(Errors { first, last }) = errors {
                record_error(&first);
                record_error(&last);
            }
            panic.resume()
        }
    }
}

/// As [`trace`], for a function that returns a `Result`.
///
/// # Errors
/// As [`trace`]; the error of `f`, if no op failed; a compiler error for an internal panic. If `f` panics with a
/// recorded error, as `unwrap` does, the first recorded error is returned. Other panics are propagated.
pub fn trace_call(inputs: &[TensorType], f: impl FnOnce(&[Tensor]) -> Result<Vec<Tensor>>) -> Result<Traced> {
    match record(inputs, f) {
        Ok(traced) => traced,
        Err(Unwound { panic, errors }) => match errors {
            Some(Errors { first, last }) if panic.is_internal() || panic.is_of(&first) || panic.is_of(&last) => {
                Err(first)
            }
            None if panic.is_internal() => Err(panic.error("tracing")),
            _ => panic.resume(),
        },
    }
}

fn record(
    inputs: &[TensorType],
    f: impl FnOnce(&[Tensor]) -> Result<Vec<Tensor>>,
) -> std::result::Result<Result<Traced>, Unwound> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    panics::install_hook();
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
            errors: None,
        });
        traces.len() - 1
    });
    let outputs: std::result::Result<Result<Vec<ValueId>>, _> =
        panics::catch(|| f(&params)?.iter().map(capture).collect());
    let trace = TRACES.with_borrow_mut(|traces| traces.drain(depth..).next()).expect("the trace that was pushed above");
    let outputs = match outputs {
        Ok(outputs) => outputs,
        Err(panic) => return Err(Unwound { panic, errors: trace.errors }),
    };
    Ok(match trace.errors {
        Some(errors) => Err(errors.first),
        None => outputs.map(|outputs| Traced { graph: Graph { outputs, ..trace.graph }, captures: trace.captures }),
    })
}

/// Whether a trace is active on this thread.
pub fn tracing() -> bool {
    TRACES.with_borrow(|traces| !traces.is_empty())
}

/// Records `error` in the innermost trace, if there is one.
pub fn record_error(error: &Error) {
    TRACES.with_borrow_mut(|traces| {
        if let Some(trace) = traces.last_mut() {
            Errors::add(&mut trace.errors, error);
        }
    });
}

/// [Records](record_error) `error` and returns a poisoned tensor as the result.
pub fn poison(ty: TensorType, error: Error) -> Tensor {
    record_error(&error);
    Tensor::poisoned(ty, error)
}

/// Whether this trace is active on this thread.
pub(crate) fn is_active(id: TraceId) -> bool {
    TRACES.with_borrow(|traces| traces.iter().any(|trace| trace.id == id))
}

/// The message for a tensor whose trace is not active.
pub(crate) const TRACE_ENDED: &str =
    "a tensor of a traced function was used after the trace had ended, or on another thread";

impl Tensor {
    /// The reason that [`Tensor::concrete`] is `None`.
    #[cold]
    pub fn no_data(&self) -> Error {
        match self.repr() {
            Repr::Poisoned { error, .. } => (**error).clone(),
            Repr::Traced { trace, .. } if !is_active(*trace) => Error::new(TRACE_ENDED),
            Repr::Traced { ty, .. } => Error::new(format!(
                "a traced {ty} has no data yet: return it from the compiled function, and read it there; to choose by \
                 its value inside, use `select`"
            )),
            Repr::Concrete(array) => Error::new(format!("{} has data", array.ty())),
        }
    }
}

/// Runs `f` on `inputs`. Inside a trace `f` is called directly. Outside of one it is traced, compiled and run as one
/// program, rather than op by op. The transformations use this for calls on concrete tensors.
pub fn as_one_program(inputs: &[Tensor], f: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> Vec<Tensor> {
    if tracing() {
        return f(inputs);
    }
    let types: Vec<TensorType> = inputs.iter().map(|x| x.ty().clone()).collect();
    // After an error the number of results is still that of `f`.
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

/// The source location of the op that computed this traced value.
pub fn location(x: &Tensor) -> Option<&'static Location<'static>> {
    let Repr::Traced { trace: id, value, .. } = x.repr() else { return None };
    TRACES.with_borrow(|traces| traces.iter().find(|trace| trace.id == *id)?.graph.node(*value).location)
}

/// Whether both are the same value of the same trace.
pub fn is_same_value(x: &Tensor, y: &Tensor) -> bool {
    match (x.repr(), y.repr()) {
        (Repr::Traced { trace: a, value: x, .. }, Repr::Traced { trace: b, value: y, .. }) => a == b && x == y,
        _ => false,
    }
}

/// Applies a recorded op to other operands; its results.
pub fn reapply(node: &Node, operands: &[&Tensor]) -> SmallVec<[Tensor; 1]> {
    apply_all(node.op.clone(), operands, node.location_or_caller())
}

/// Inlines `graph` into the innermost trace, with `inputs` for its inputs. Returns its results.
pub fn inline(graph: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    let mut env: Env<Tensor> = Env::new(graph);
    for id in graph.ids() {
        env.compute(graph, id, inputs, reapply);
    }
    graph.outputs.iter().map(|&x| env.get(x).clone()).collect()
}

/// Evaluates a graph outside of any trace. The runtime compiles and runs it.
pub type Evaluator = fn(&Graph, &[Array]) -> Result<Vec<Array>>;

static EVALUATOR: OnceLock<Evaluator> = OnceLock::new();

/// Installs the evaluator of ops outside of a trace. The runtime calls this when the program is loaded. The first call
/// takes effect.
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

/// The type of the poisoned result of `op`. The element type of a conversion is the requested one: code that converts
/// until the types are equal must terminate.
fn guess_type(op: &Op, first: Option<&TensorType>) -> TensorType {
    let ty = first.cloned().unwrap_or(TensorType::scalar(DType::F32));
    match op {
        Op::Convert(dtype) | Op::Bitcast(dtype) => ty.with_dtype(*dtype),
        Op::Compare(_) => ty.with_dtype(DType::Bool),
        _ => ty,
    }
}

/// Applies `op`, which has one result: records it in the innermost trace, or evaluates it where there is none.
pub fn apply(op: Op, operands: &[&Tensor], location: &'static Location<'static>) -> Tensor {
    apply_all(op, operands, location).swap_remove(0)
}

/// Applies `op`: records it in the innermost trace, or evaluates it where there is none. Gives its results.
pub fn apply_all(op: Op, operands: &[&Tensor], location: &'static Location<'static>) -> SmallVec<[Tensor; 1]> {
    let count = op.results(operands.len());
    let poisoned = |ty: TensorType, error: Error| (0..count).map(|_| poison(ty.clone(), error.clone())).collect();
    if let Some(error) = operands.iter().find_map(|x| x.error()) {
        return poisoned(guess_type(&op, Some(operands[0].ty())), error.clone());
    }
    let operand_types: SmallVec<[&TensorType; 4]> = operands.iter().map(|x| x.ty()).collect();
    let inferred = panics::catch(|| results(&op, &operand_types).map_err(|why| Error::op(op.name(), why, location)));
    let types = match inferred.unwrap_or_else(|panic| Err(panic.error(op.name()))) {
        Ok(types) => types,
        Err(error) => {
            return poisoned(guess_type(&op, operand_types.first().copied()), error);
        }
    };
    if !tracing() {
        return evaluate_op(op, operands, types, location);
    }
    let mut values = Operands::new();
    for x in operands {
        match capture(x) {
            Ok(value) => values.push(value),
            Err(error) => return poisoned(types[0].clone(), Error::op(op.name(), error, location)),
        }
    }
    TRACES.with_borrow_mut(|traces| {
        let trace = traces.last_mut().expect("a trace, since `tracing()`");
        let values = push(&mut trace.graph, op, values, &types, location);
        values.into_iter().zip(types).map(|(value, ty)| Tensor::traced(trace.id, value, ty)).collect()
    })
}

/// Adds an op whose results have these types; gives the results.
fn push(
    graph: &mut Graph,
    op: Op,
    operands: Operands,
    types: &Results,
    location: &'static Location<'static>,
) -> SmallVec<[ValueId; 1]> {
    let id = graph.push(Node { op, operands, ty: types[0].clone(), location: Some(location) });
    if types.len() == 1 { smallvec![id] } else { graph.project(id, types.clone()).into() }
}

fn evaluate_op(
    op: Op,
    operands: &[&Tensor],
    types: Results,
    location: &'static Location<'static>,
) -> SmallVec<[Tensor; 1]> {
    let poisoned = |types: Results, error: Error| -> SmallVec<[Tensor; 1]> {
        types.into_iter().map(|ty| Tensor::poisoned(ty, error.clone())).collect()
    };
    let mut arrays = Vec::new();
    for x in operands {
        match x.concrete() {
            Some(array) => arrays.push(array.clone()),
            None => return poisoned(types, Error::op(op.name(), x.no_data(), location)),
        }
    }
    let mut graph = Graph::new();
    let params = arrays.iter().map(|a| graph.param(a.ty().clone())).collect();
    let name = op.name();
    graph.outputs = push(&mut graph, op, params, &types, location).into_vec();
    match evaluate(&graph, &arrays) {
        Ok(results) => results.into_iter().map(Tensor::from).collect(),
        Err(error) => poisoned(types, Error::op(name, error.message(), location)),
    }
}

/// The value of `x` in the innermost trace, captured from an enclosing one if necessary.
fn capture(x: &Tensor) -> Result<ValueId> {
    if let Some(array) = x.concrete() {
        // The code of a device may use tensors, so it runs before the traces are borrowed.
        array.bytes()?;
    }
    TRACES.with_borrow_mut(|traces| capture_in(x, traces))
}

fn capture_in(x: &Tensor, traces: &mut [Trace]) -> Result<ValueId> {
    let Some((trace, around)) = traces.split_last_mut() else {
        return Err(Error::new(TRACE_ENDED));
    };
    match x.repr() {
        Repr::Poisoned { error, .. } => Err((**error).clone()),
        Repr::Concrete(array) => trace.constant(array),
        Repr::Traced { trace: id, value, ty } => {
            if *id == trace.id {
                return Ok(*value);
            }
            if let Some(&param) = trace.captured.get(&(*id, *value)) {
                return Ok(param);
            }
            // An enclosing trace must have the value; otherwise it is leaked.
            capture_in(x, around)?;
            let param = trace.graph.param(TensorType::clone(ty));
            trace.captured.insert((*id, *value), param);
            trace.captures.push(x.clone());
            Ok(param)
        }
    }
}

impl Trace {
    fn constant(&mut self, array: &Array) -> Result<ValueId> {
        // The map keeps the buffer alive, so no other buffer gets its address.
        let key = std::ptr::from_ref(&**array.buffer()) as usize;
        if let Some(&(value, _)) = self.constants.get(&key)
            && self.graph.ty(value) == array.ty()
        {
            return Ok(value);
        }
        let constant = Constant::new(array)?;
        let ty = array.ty().clone();
        let push = |op| self.graph.push(Node { op, operands: Default::default(), ty, location: None });
        let value = push(match Literal::of(&constant) {
            Some(literal) => Op::Literal(literal),
            None => Op::Constant(constant),
        });
        self.constants.insert(key, (value, array.buffer().clone()));
        Ok(value)
    }
}

//! Loops: their bodies are optimised, and what a trip does not need is taken out of them.
//!
//! - Results that nothing uses are dropped, and values of the carry that no result depends on.
//! - A value of the carry that no trip changes is a constant, and so are elements that are all the same.
//! - Literals and splats of them are known inside of the body.
//! - What depends on constants alone is computed once before the loop, unless that takes more memory than they do, or
//!   may not end.
//! - A loop without a first trip is what it begins with.
//! - Constants and elements that are not used, or are there twice, are dropped.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::smallvec;

use super::fixpoint;
use crate::graph::{Graph, Node, Op, OpClass, Operands, ValueId, results};
use crate::types::{Axes, Shape};

/// Stands for a value that is not live.
const NONE: ValueId = ValueId(u32::MAX);

/// Optimises the loops of a graph; `None` if there are none.
pub fn scan(graph: &Graph) -> Option<Graph> {
    graph.nodes.iter().find(|node| is_loop(&node.op))?;
    let live = reached(graph, graph.outputs.iter().copied(), |_| false);
    let used = used_results(graph, &live, is_loop);
    let mut new = Graph::new();
    let mut map: Vec<ValueId> = Vec::with_capacity(graph.nodes.len());
    let mut loops: HashMap<ValueId, Vec<Option<ValueId>>> = HashMap::new();
    for id in graph.ids() {
        let node = graph.node(id);
        let value = match &node.op {
            // Nothing refers to it.
            op if !live[id.index()] && !matches!(op, Op::Param(_)) => NONE,
            op if is_loop(op) => {
                let results = Loop::of(&new, node, &map).optimised(&mut new, &used[&id]);
                let first = results.iter().flatten().next().copied();
                loops.insert(id, results);
                // Of several results, the projections below stand for the node.
                first.unwrap_or(NONE)
            }
            Op::Result(index) if loops.contains_key(&node.operands[0]) => {
                loops[&node.operands[0]][*index as usize].unwrap_or(NONE)
            }
            _ => new.push(Node { operands: node.operands.iter().map(|x| map[x.index()]).collect(), ..node.clone() }),
        };
        map.push(value);
    }
    new.params = graph.params.iter().map(|x| map[x.index()]).collect();
    new.outputs = graph.outputs.iter().map(|x| map[x.index()]).collect();
    Some(new)
}

fn is_loop(op: &Op) -> bool {
    matches!(op, Op::Scan { .. } | Op::While { .. })
}

/// Whether it may never end, so that it is not computed where it may not have been.
fn may_not_end(op: &Op) -> bool {
    let inside = |graph: &Arc<Graph>| graph.nodes.iter().any(|node| may_not_end(&node.op));
    matches!(op, Op::While { .. }) || op.graphs().iter().any(inside)
}

/// For each op `of` a kind, which of its results live values use.
pub(super) fn used_results(graph: &Graph, live: &[bool], of: fn(&Op) -> bool) -> HashMap<ValueId, Vec<bool>> {
    let mut used: HashMap<ValueId, Vec<bool>> = HashMap::new();
    for id in graph.ids() {
        let node = graph.node(id);
        if of(&node.op) {
            used.insert(id, vec![node.results() == 1 && live[id.index()]; node.results()]);
        }
        if let (Op::Result(index), true) = (&node.op, live[id.index()])
            && let Some(used) = used.get_mut(&node.operands[0])
        {
            used[*index as usize] = true;
        }
    }
    used
}

/// The values that `roots` depend on, not looking behind those where `stop`.
pub(super) fn reached(
    graph: &Graph,
    roots: impl IntoIterator<Item = ValueId>,
    stop: impl Fn(ValueId) -> bool,
) -> Vec<bool> {
    let mut reached = vec![false; graph.nodes.len()];
    roots.into_iter().for_each(|x| reached[x.index()] = true);
    for id in graph.ids().rev() {
        if reached[id.index()] && !stop(id) {
            graph.node(id).operands.iter().for_each(|x| reached[x.index()] = true);
        }
    }
    reached
}

/// What an input of the body is in each trip.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Input {
    /// A value of the graph around the loop.
    Const(ValueId),
    /// A literal of the graph around the loop, or a splat of one, as this shape.
    Splat(ValueId),
    /// This value of the carry.
    Carry(usize),
    /// An element of this value of the graph around the loop.
    Element(ValueId),
    /// An element of a broadcast along the first axis, of this value of the graph around the loop.
    Broadcast(ValueId),
}

/// A loop whose operands are values of the new graph.
struct Loop<'a> {
    node: &'a Node,
    body: Graph,
    operands: Vec<ValueId>,
    num_consts: usize,
    num_carry: usize,
    inputs: Vec<Input>,
}

impl<'a> Loop<'a> {
    fn of(new: &Graph, node: &'a Node, map: &[ValueId]) -> Self {
        // In each trip but the last, that there is another one is what it was before: it is never a constant.
        let (body, num_consts, num_carry, first) = match &node.op {
            &Op::Scan { ref body, num_consts, num_carry, .. } => (body, num_consts, num_carry, 0),
            &Op::While { ref body, num_consts } => (body, num_consts, node.operands.len() - num_consts, 1),
            op => unreachable!("{} is no loop", op.name()),
        };
        let body = fixpoint(body, &mut |_, _, _, _| {});
        let operands: Vec<ValueId> = node.operands.iter().map(|x| map[x.index()]).collect();
        let known = |x: ValueId| match &new.node(x).op {
            Op::Literal(_) => true,
            Op::Broadcast { .. } => matches!(new.node(new.node(x).operands[0]).op, Op::Literal(_)),
            _ => false,
        };
        let constant = |x: ValueId| if known(x) { Input::Splat(x) } else { Input::Const(x) };
        let input = |(i, &x): (usize, &ValueId)| {
            if i < num_consts {
                constant(x)
            } else if i < num_consts + num_carry {
                let c = i - num_consts;
                let is_constant = c >= first && body.outputs[c] == body.params[i];
                if is_constant { constant(x) } else { Input::Carry(c) }
            } else if is_repeated(new, x) {
                Input::Broadcast(x)
            } else {
                Input::Element(x)
            }
        };
        let inputs = operands.iter().enumerate().map(input).collect();
        Loop { node, body, operands, num_consts, num_carry, inputs }
    }

    /// Adds the optimised loop to the graph around it. Gives its results; `None` where one is not used.
    fn optimised(self, new: &mut Graph, used: &[bool]) -> Vec<Option<ValueId>> {
        let Loop { node, body, operands, num_consts, num_carry, inputs } = self;
        let is_while = matches!(node.op, Op::While { .. });
        let has_trip = |first: ValueId| !matches!(&new.node(first).op, Op::Literal(literal) if literal.bits == 0);
        if is_while && !has_trip(operands[num_consts]) {
            return operands[num_consts..].iter().map(|&x| Some(x)).collect();
        }
        let is_carry = |c: usize| c < num_carry && inputs[num_consts + c] == Input::Carry(c);
        let is_constant = |c: usize| c < num_carry && !is_carry(c);

        let invariants = Invariants::of(&body, &inputs);
        let mut live: Vec<bool> = (0..used.len()).map(|o| used[o] && !is_constant(o)).collect();
        if is_while && live.contains(&true) {
            live[0] = true;
        }
        let needed = loop {
            let roots = (0..live.len()).filter(|&o| live[o]).map(|o| body.outputs[o]);
            let needed = reached(&body, roots, |id| invariants.is_hoisted(id));
            let more = |c: &usize| is_carry(*c) && !live[*c] && needed[body.params[num_consts + c].index()];
            let more: Vec<usize> = (0..num_carry).filter(more).collect();
            if more.is_empty() {
                break needed;
            }
            more.into_iter().for_each(|c| live[c] = true);
        };

        // The inputs of the new body, by kind.
        let is_needed = |i: usize| needed[body.params[i].index()];
        let (mut consts, mut elements): (Vec<(ValueId, Input)>, _) = (Vec::new(), Vec::new());
        let mut carries: Vec<usize> = Vec::new();
        let add = |list: &mut Vec<(ValueId, Input)>, value: ValueId, input: Input| {
            if !list.iter().any(|(_, known)| *known == input) {
                list.push((value, input));
            }
        };
        for (i, &input) in inputs.iter().enumerate() {
            match input {
                Input::Carry(c) if live[c] => carries.push(c),
                Input::Const(x) if is_needed(i) => add(&mut consts, x, input),
                Input::Broadcast(x) if is_needed(i) => {
                    let x = new.node(x).operands[0];
                    add(&mut consts, element_of_repeated(new, x, operands[i]), input);
                }
                Input::Element(x) if is_needed(i) => add(&mut elements, x, input),
                _ => {}
            }
        }
        let hoisted: Vec<ValueId> = body.ids().filter(|id| needed[id.index()] && invariants.is_hoisted(*id)).collect();
        let mut outside = Outside { body: &body, inputs: &inputs, operands: &operands, known: HashMap::new() };
        let hoisted: Vec<(ValueId, ValueId)> =
            hoisted.into_iter().filter_map(|id| Some((id, outside.value(new, id)?))).collect();

        let mut inner = Graph::new();
        let mut map: Vec<Option<ValueId>> = vec![None; body.nodes.len()];
        let mut of_input: HashMap<Input, ValueId> = HashMap::new();
        for (value, input) in &consts {
            of_input.insert(*input, inner.param(new.ty(*value).clone()));
        }
        for (id, _) in &hoisted {
            map[id.index()] = Some(inner.param(body.ty(*id).clone()));
        }
        for &c in &carries {
            of_input.insert(Input::Carry(c), inner.param(body.ty(body.params[num_consts + c]).clone()));
        }
        for (_, input) in &elements {
            let i = inputs.iter().position(|known| known == input).expect("an input of the loop");
            of_input.insert(*input, inner.param(body.ty(body.params[i]).clone()));
        }
        for (i, input) in inputs.iter().enumerate().filter(|(i, _)| is_needed(*i)) {
            let ty = body.ty(body.params[i]).clone();
            map[body.params[i].index()] = Some(match input {
                Input::Splat(x) => splat(&mut inner, new, *x),
                Input::Broadcast(x) => {
                    let Op::Broadcast { dims, .. } = &new.node(*x).op else { unreachable!("a broadcast") };
                    let source = of_input[input];
                    // The source has no axis along the loop any more.
                    let dims: Axes = dims.iter().filter(|&&dim| dim > 0).map(|&dim| dim - 1).collect();
                    let op = Op::Broadcast { shape: ty.shape.clone(), dims };
                    inner.push(Node { op, operands: smallvec![source], ty, location: node.location })
                }
                Input::Const(_) | Input::Carry(_) | Input::Element(_) => of_input[input],
            });
        }
        for id in body.ids() {
            let old = body.node(id);
            if map[id.index()].is_some() || !needed[id.index()] || matches!(old.op, Op::Param(_)) {
                continue;
            }
            let operands: Option<Operands> = old.operands.iter().map(|x| map[x.index()]).collect();
            let operands = operands.expect("what a needed value depends on is needed");
            map[id.index()] = Some(inner.push(Node { operands, ..old.clone() }));
        }
        let outputs: Vec<usize> = (0..live.len()).filter(|&o| live[o]).collect();
        inner.outputs = outputs.iter().filter_map(|&o| map[body.outputs[o].index()]).collect();

        let mut all: Vec<Option<ValueId>> = vec![None; used.len()];
        for c in (0..num_carry).filter(|&c| is_constant(c)) {
            all[c] = Some(operands[num_consts + c]);
        }
        if outputs.is_empty() {
            return all;
        }
        let (constants, carry) = (consts.len() + hoisted.len(), carries.len());
        let values = consts.iter().map(|(x, _)| *x).chain(hoisted.iter().map(|(_, x)| *x));
        let values = values.chain(carries.iter().map(|&c| operands[num_consts + c]));
        let values: Operands = values.chain(elements.iter().map(|(x, _)| *x)).collect();
        let body = Arc::new(inner);
        let op = match node.op {
            Op::Scan { length, reverse, .. } => {
                Op::Scan { body, num_consts: constants, num_carry: carry, length, reverse }
            }
            _ => Op::While { body, num_consts: constants },
        };
        let types: Vec<_> = values.iter().map(|&x| new.ty(x)).collect();
        let types = results(&op, &types).expect("the loop has the types that it had");
        let (ty, location) = (types[0].clone(), node.location);
        let id = new.push(Node { op, operands: values, ty, location });
        for (i, (&o, ty)) in (0..).zip(outputs.iter().zip(&types)) {
            // A value of the carry may be there for others only.
            all[o] = match outputs.len() {
                1 => Some(id),
                _ if !used[o] => None,
                _ => Some(new.push(Node { op: Op::Result(i), operands: smallvec![id], ty: ty.clone(), location })),
            };
        }
        all
    }
}

/// Whether all elements of `x` along the first axis are the same, by its op.
fn is_repeated(graph: &Graph, x: ValueId) -> bool {
    let node = graph.node(x);
    let Op::Broadcast { dims, .. } = &node.op else { return false };
    dims.first().is_none_or(|&first| first > 0 || graph.ty(node.operands[0]).shape[0] == 1)
}

/// The operand of the broadcast `repeated`, `x`, without an axis along the loop.
fn element_of_repeated(graph: &mut Graph, x: ValueId, repeated: ValueId) -> ValueId {
    let Op::Broadcast { dims, .. } = &graph.node(repeated).op else { unreachable!("a broadcast") };
    if dims.first() != Some(&0) {
        return x;
    }
    let location = graph.node(repeated).location;
    let mut ty = graph.ty(x).clone();
    ty.shape.remove(0);
    let shape: Shape = ty.shape.clone();
    graph.push(Node { op: Op::Reshape(shape), operands: smallvec![x], ty, location })
}

/// A copy in `inner` of the literal or the splat `x` of `outer`.
fn splat(inner: &mut Graph, outer: &Graph, x: ValueId) -> ValueId {
    let node = outer.node(x);
    let operands = node.operands.iter().map(|&y| splat(inner, outer, y)).collect();
    inner.push(Node { operands, ..node.clone() })
}

/// What of a body is the same in all trips.
struct Invariants {
    hoisted: Vec<bool>,
}

impl Invariants {
    fn of(body: &Graph, inputs: &[Input]) -> Self {
        let count = body.nodes.len();
        // Per value: whether it varies, and the elements of the largest constant that it depends on.
        let (mut varies, mut largest) = (vec![false; count], vec![0; count]);
        let mut hoisted = vec![false; count];
        for id in body.ids() {
            let (node, i) = (body.node(id), id.index());
            if let Op::Param(input) = node.op {
                match inputs[input] {
                    Input::Const(_) => largest[i] = node.ty.elements(),
                    Input::Splat(_) | Input::Broadcast(_) => {}
                    Input::Carry(_) | Input::Element(_) => varies[i] = true,
                }
                // A broadcast becomes a constant in the next round.
                varies[i] |= matches!(inputs[input], Input::Broadcast(_));
                continue;
            }
            varies[i] = node.operands.iter().any(|x| varies[x.index()]);
            largest[i] = node.operands.iter().map(|x| largest[x.index()]).max().unwrap_or(0);
            let is_computed = match node.op.class() {
                OpClass::Leaf | OpClass::Movement => false,
                OpClass::Projection => !may_not_end(&body.node(node.operands[0]).op),
                _ => node.results() == 1 && !may_not_end(&node.op),
            };
            hoisted[i] = is_computed && !varies[i] && largest[i] > 0 && node.ty.elements() <= largest[i];
        }
        Invariants { hoisted }
    }

    /// Whether the value is computed before the loop.
    fn is_hoisted(&self, id: ValueId) -> bool {
        self.hoisted[id.index()]
    }
}

/// Values of a body that do not vary, as values of the graph around the loop.
struct Outside<'a> {
    body: &'a Graph,
    inputs: &'a [Input],
    operands: &'a [ValueId],
    known: HashMap<ValueId, ValueId>,
}

impl Outside<'_> {
    fn value(&mut self, new: &mut Graph, id: ValueId) -> Option<ValueId> {
        if let Some(&known) = self.known.get(&id) {
            return Some(known);
        }
        let node = self.body.node(id);
        let value = match node.op {
            Op::Param(i) => match self.inputs[i] {
                Input::Const(x) | Input::Splat(x) => x,
                Input::Carry(_) | Input::Element(_) | Input::Broadcast(_) => {
                    debug_assert!(false, "operand {} varies", self.operands[i]);
                    return None;
                }
            },
            _ => {
                let operands: Option<Operands> = node.operands.iter().map(|&x| self.value(new, x)).collect();
                new.push(Node { operands: operands?, ..node.clone() })
            }
        };
        self.known.insert(id, value);
        Some(value)
    }
}

//! The order of axes in memory of what convolutions compute, and of what is computed from it.
//!
//! A convolution computes its features adjacent to each other, wherever they are in the graph (`convolution`). What is
//! elementwise in its result, moved, or reduced of it, stays in that order of axes, so that a step of convolutions
//! reads and writes memory in order. In: a node of the graph, some of whose operands are transposes of such values.
//! Out: the node of those values, and its transpose. Transposes are views: one that is not read is nothing.
//!
//! Values that no convolution computes keep their order, and so do all other ops.

use super::normalise::{Emit, Stored};
use crate::graph::{Op, OpClass, ReduceOp, ValueId};
use crate::types::Axes;

/// The permutation that undoes `perm`.
pub(super) fn inverse(perm: &[usize]) -> Axes {
    let mut inverse = Axes::from_elem(0, perm.len());
    for (i, &axis) in perm.iter().enumerate() {
        inverse[axis] = i;
    }
    inverse
}

/// What belongs to the axes of the graph's value, in the order of memory.
fn in_memory<T: Copy + Default>(all: &[T], perm: &[usize]) -> Vec<T> {
    let mut result = vec![T::default(); all.len()];
    all.iter().zip(perm).for_each(|(&x, &place)| result[place] = x);
    result
}

impl Emit<'_> {
    /// What stands for the value in memory: itself, unless it is in another order.
    pub(super) fn stored(&self, x: ValueId) -> Stored {
        let rank = self.graph.ty(x).rank();
        self.layouts.get(&x).cloned().unwrap_or_else(|| Stored { value: x, perm: (0..rank).collect() })
    }

    /// The value in the order of the graph; what is computed from it keeps the order that it is stored in.
    pub(super) fn ordered(&mut self, stored: Stored) -> ValueId {
        let x = self.transpose(stored.value, stored.perm.clone());
        if x != stored.value {
            self.layouts.insert(x, stored);
        }
        x
    }

    /// An elementwise op in the order of an operand that has another one; `None` if there is none.
    pub(super) fn elementwise(&mut self, operands: &[ValueId]) -> Option<ValueId> {
        if self.node.op.class() != OpClass::Elementwise || self.node.results() != 1 {
            return None;
        }
        let perm = operands.iter().find_map(|x| self.layouts.get(x)).map(|stored| stored.perm.clone())?;
        let mut in_order = Vec::with_capacity(operands.len());
        for &x in operands {
            let stored = self.stored(x);
            in_order.push(if stored.perm == perm { stored.value } else { self.transpose(x, inverse(&perm)) });
        }
        let value = self.push(self.node.op.clone(), &in_order);
        Some(self.ordered(Stored { value, perm }))
    }

    /// A movement of values in another order, which keeps that; `None` if they are in none, or it cannot.
    pub(super) fn moved(&mut self, operands: &[ValueId]) -> Option<ValueId> {
        let Stored { value, perm } = operands.first().and_then(|x| self.layouts.get(x)).cloned()?;
        let placed = |of: &[usize]| -> Axes { of.iter().map(|&axis| perm[axis]).collect() };
        match &self.node.op {
            Op::Transpose(order) => Some(self.ordered(Stored { value, perm: placed(order) })),
            Op::Reshape(shape) => {
                let stored = self.units(shape, operands[0])?;
                Some(self.ordered(stored))
            }
            Op::Slice { start, limit, stride } => {
                let [start, limit, stride] = [start, limit, stride].map(|all| in_memory(all, &perm).into());
                let value = self.push(Op::Slice { start, limit, stride }, &[value]);
                Some(self.ordered(Stored { value, perm }))
            }
            Op::Pad { low, high, interior } => {
                let [low, high] = [low, high].map(|all| in_memory(all, &perm).into());
                let op = Op::Pad { low, high, interior: in_memory(interior, &perm).into() };
                let value = self.push(op, &[value, operands[1]]);
                Some(self.ordered(Stored { value, perm }))
            }
            Op::Rev(axes) => {
                let value = self.push(Op::Rev(placed(axes)), &[value]);
                Some(self.ordered(Stored { value, perm }))
            }
            Op::Concat(axis) => {
                let all: Vec<Stored> = operands.iter().map(|&x| self.stored(x)).collect();
                if all.iter().any(|other| other.perm != perm) {
                    return None;
                }
                let values: Vec<ValueId> = all.iter().map(|stored| stored.value).collect();
                let value = self.push(Op::Concat(perm[*axis]), &values);
                Some(self.ordered(Stored { value, perm }))
            }
            _ => None,
        }
    }

    /// A reshape that adds and removes axes of extent 1 only, which are the first in memory; `None` for any other.
    fn units(&mut self, shape: &[usize], x: ValueId) -> Option<Stored> {
        let Stored { value, perm } = self.layouts.get(&x).cloned()?;
        let from = self.ty(x).shape;
        let longer = |shape: &[usize]| -> Axes { (0..shape.len()).filter(|&axis| shape[axis] != 1).collect() };
        let (old, new) = (longer(&from), longer(shape));
        if old.len() != new.len() || old.iter().zip(&new).any(|(&a, &b)| from[a] != shape[b]) {
            return None;
        }
        let units = shape.len() - new.len();
        let mut places: Axes = old.iter().map(|&axis| perm[axis]).collect();
        let mut sorted = places.clone();
        sorted.sort_unstable();
        places.iter_mut().for_each(|place| *place = units + sorted.iter().take_while(|other| *other < place).count());
        let mut in_memory = vec![1; shape.len()];
        places.iter().zip(&new).for_each(|(&place, &axis)| in_memory[place] = shape[axis]);
        let (mut unit, mut places) = (0..units, places.into_iter());
        let place = |&extent: &usize| if extent == 1 { unit.next() } else { places.next() };
        let perm = shape.iter().map(place).collect::<Option<Axes>>()?;
        Some(Stored { value: self.reshape(value, &in_memory), perm })
    }

    /// A reduction of a value in another order; `None` if it is in none.
    pub(super) fn reduce_stored(&mut self, op: ReduceOp, axes: &[usize], x: ValueId) -> Option<ValueId> {
        let Stored { value, perm } = self.layouts.get(&x).cloned()?;
        let mut reduced: Axes = axes.iter().map(|&axis| perm[axis]).collect();
        reduced.sort_unstable();
        let value = self.reduce(op, &reduced, value);
        // The places of those that are kept, among each other.
        let kept: Axes = (0..perm.len()).filter(|axis| !axes.contains(axis)).map(|axis| perm[axis]).collect();
        let place = |axis: &usize| kept.iter().filter(|&other| other < axis).count();
        let perm = kept.iter().map(place).collect();
        Some(self.ordered(Stored { value, perm }))
    }
}

//! Draws loops and branches: what they run on are values of the program, bodies are programs in it.

use std::sync::Arc;

use super::program::Maker;
use crate::array::Array;
use crate::graph::{BinaryOp, CompareOp, Graph, Literal, Node, Op, Operands, ValueId};
use crate::types::{DType, TensorType};

/// The most elements of what a loop reads and carries.
const ELEMENTS: usize = 1024;

impl Maker {
    /// A loop whose carry begins with `x`.
    pub(super) fn scan(&mut self, x: ValueId) -> Option<ValueId> {
        let length = self.random.one_of(&[0, 1, 2, 2, 3, 5]);
        let mut values = Vec::new();
        let num_consts = self.random.below(3);
        values.extend((0..num_consts).map(|_| self.value()));
        let num_carry = self.random.below(3);
        values.extend((0..num_carry).map(|i| if i == 0 { x } else { self.value() }));
        if values.iter().any(|&x| self.has_several(x)) {
            return None;
        }
        let carry: Vec<TensorType> = values[num_consts..].iter().map(|&x| self.of(x)).collect();
        let mut inputs: Vec<(Array, f64)> = values.iter().map(|&x| self.given(x)).collect();
        for _ in 0..self.random.below(3) {
            let element = self.value();
            if self.has_several(element) {
                return None;
            }
            let element = self.of(element);
            let mut ty = element.clone();
            ty.shape.insert(0, length);
            let xs = self.like(&ty)?;
            let (array, bound) = self.given(xs);
            inputs.push(match length {
                0 => (self.random.array(&element, false), 0.0),
                _ => (Array::from_bits(&element, &array.to_bits().ok()?[..element.elements()]).ok()?, bound),
            });
            values.push(xs);
        }
        if values.iter().any(|&x| self.of(x).elements() > ELEMENTS) {
            return None;
        }
        let mut results = carry;
        for _ in 0..self.random.below(3) {
            let y = self.value();
            results.push(self.of(y));
        }
        if results.is_empty() || results.iter().any(|ty| ty.elements() > ELEMENTS) {
            return None;
        }
        let body = self.body(inputs, &results)?;
        let reverse = self.random.one_in(2);
        let op = Op::Scan { body: Arc::new(body), num_consts, num_carry, length, reverse };
        let all = self.push(op, &values)?;
        if results.len() == 1 {
            return Some(all);
        }
        let projections: Option<Vec<ValueId>> =
            (0..results.len()).map(|i| self.push(Op::Result(i as u32), &[all])).collect();
        self.any(projections?)
    }

    /// Values for a loop or a branch: `x`, and others.
    fn several(&mut self, x: ValueId, more: usize) -> Option<Vec<ValueId>> {
        let mut values = vec![x];
        values.extend((0..self.random.below(more)).map(|_| self.value()));
        let is_fine = |&x: &ValueId| !self.has_several(x) && self.of(x).elements() <= ELEMENTS;
        values.iter().all(is_fine).then_some(values)
    }

    /// All results of a loop or of a branch; one of them.
    fn projected(&mut self, op: Op, values: &[ValueId], count: usize) -> Option<ValueId> {
        let all = self.push(op, values)?;
        if count == 1 {
            return Some(all);
        }
        let projections: Option<Vec<ValueId>> = (0..count).map(|i| self.push(Op::Result(i as u32), &[all])).collect();
        self.any(projections?)
    }

    /// A loop that counts down a value of its carry, which else begins with `x`.
    pub(super) fn while_loop(&mut self, x: ValueId) -> Option<ValueId> {
        let scalar = TensorType::scalar;
        let mut values = self.several(x, 3)?;
        let num_consts = self.random.below(values.len() + 1);
        let trips = self.random.one_of(&[0, 1, 2, 2, 3, 5]);
        let count = self.splat(trips as f64, &scalar(DType::I32))?;
        let zero = self.splat(0.0, &scalar(DType::I32))?;
        let more = self.push(Op::Compare(CompareOp::Gt), &[count, zero])?;
        let carry: Vec<TensorType> = values[num_consts..].iter().map(|&x| self.of(x)).collect();
        values.splice(num_consts..num_consts, [more, count]);
        let inputs = values.iter().map(|&x| self.given(x)).collect();
        let mut body = self.body(inputs, &carry)?;
        let add = |body: &mut Graph, op: Op, operands: &[ValueId], ty: TensorType| {
            body.push(Node { op, operands: operands.iter().copied().collect::<Operands>(), ty, location: None })
        };
        let i32 = scalar(DType::I32);
        let [one, zero] =
            [1.0, 0.0].map(|x| add(&mut body, Op::Literal(Literal::new(DType::I32, x)), &[], i32.clone()));
        let count = body.params[num_consts + 1];
        let count = add(&mut body, Op::Binary(BinaryOp::Sub), &[count, one], i32);
        let more = add(&mut body, Op::Compare(CompareOp::Gt), &[count, zero], scalar(DType::Bool));
        body.outputs.splice(0..0, [more, count]);
        let results = body.outputs.len();
        self.projected(Op::While { body: Arc::new(body), num_consts }, &values, results)
    }

    /// One of some branches, on `x` and others.
    pub(super) fn cond(&mut self, x: ValueId) -> Option<ValueId> {
        let mut values = self.several(x, 3)?;
        let count = 1 + self.random.below(3);
        let mut results = Vec::new();
        for _ in 0..1 + self.random.below(2) {
            let like = self.value();
            results.push(self.of(like));
        }
        if results.iter().any(|ty| ty.elements() > ELEMENTS) {
            return None;
        }
        let inputs: Vec<(Array, f64)> = values.iter().map(|&x| self.given(x)).collect();
        let branches: Option<Vec<Arc<Graph>>> =
            (0..count).map(|_| Some(Arc::new(self.body(inputs.clone(), &results)?))).collect();
        let index = self.like(&TensorType::scalar(DType::I32))?;
        values.insert(0, index);
        self.projected(Op::Cond { branches: branches? }, &values, results.len())
    }
}

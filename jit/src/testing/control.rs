//! Draws a loop: its carry, constants and elements are values of the program, its body is a program in it.

use std::sync::Arc;

use super::program::Maker;
use crate::array::Array;
use crate::graph::{Op, ValueId};
use crate::types::TensorType;

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
}

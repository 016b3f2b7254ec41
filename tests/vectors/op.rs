//! What an op of the vectors is here: a function of the inputs and the parameters of a case.

use fulgurite::{Key, Result, Tensor, with_x64};

use crate::case::Params;

/// What computes an op: a function of the inputs, which is compiled as a whole.
#[derive(Clone, Copy)]
pub(crate) enum Op {
    /// Of one operand, without parameters.
    Unary(fn(&Tensor) -> Tensor),
    /// Of two operands, without parameters.
    Binary(fn(&Tensor, &Tensor) -> Tensor),
    /// With one result.
    One(fn(&Params, &[Tensor]) -> Tensor),
    /// With any number of results.
    Many(fn(&Params, &[Tensor]) -> Vec<Tensor>),
    /// Calls a compiled step in a loop, as a training does.
    Loop(fn(&Params, &[Tensor]) -> Result<Vec<Tensor>>),
}

impl Op {
    /// The results for these inputs.
    pub(crate) fn apply(self, params: &Params, xs: &[Tensor]) -> Vec<Tensor> {
        with_x64(params.flag("x64"), || match self {
            Op::Unary(f) => vec![f(&xs[0])],
            Op::Binary(f) => vec![f(&xs[0], &xs[1])],
            Op::One(f) => vec![f(params, xs)],
            Op::Many(f) => f(params, xs),
            Op::Loop(_) => panic!("a loop of steps has no derivative and no batch"),
        })
    }
}

/// The first input as a random key.
pub(crate) fn key(x: &[Tensor]) -> Key {
    Key::wrap_key_data(x[0].clone())
}

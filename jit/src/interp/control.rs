//! Loops that end by what they compute, and branches.

use smallvec::SmallVec;

use super::evaluate;
use crate::array::Array;
use crate::error::Result;
use crate::graph::Op;

/// The results of a loop or of a branch.
pub(super) fn control(op: &Op, operands: &[&Array]) -> Result<SmallVec<[Array; 1]>> {
    let mut inputs: Vec<Array> = operands.iter().map(|&x| x.clone()).collect();
    match op {
        Op::While { body, num_consts } => {
            while inputs[*num_consts].to_bits()?[0] != 0 {
                let carry = evaluate(body, &inputs, &mut |_, _| Ok(()))?;
                inputs.truncate(*num_consts);
                inputs.extend(carry);
            }
            Ok(inputs.into_iter().skip(*num_consts).collect())
        }
        Op::Cond { branches } => {
            let index = inputs.remove(0).to_bits()?[0] as u32 as i32;
            let last = branches.len() - 1;
            let branch = &branches[usize::try_from(index).unwrap_or(0).min(last)];
            Ok(evaluate(branch, &inputs, &mut |_, _| Ok(()))?.into())
        }
        _ => unreachable!("{} is no loop and no branch", op.name()),
    }
}

//! The types of control flow.

use std::sync::Arc;

use super::{Inferred, Results, check};
use crate::graph::Graph;
use crate::types::{DType, TensorType};

/// The type of the first result of a scan, whose operands must be those that its body asks for.
pub(super) fn scan(
    body: &Graph,
    num_consts: usize,
    num_carry: usize,
    length: usize,
    operands: &[&TensorType],
) -> Inferred {
    let (params, outputs) = (body.param_types(), body.output_types());
    check(params.len() == operands.len(), || format!("the body takes {}, not {}", params.len(), operands.len()))?;
    check(num_consts.saturating_add(num_carry) <= params.len(), || {
        format!("{num_consts} constants and a carry of {num_carry} are more than the {} operands", params.len())
    })?;
    check(num_carry <= outputs.len() && !outputs.is_empty(), || {
        format!("the body gives {} results; it needs one at least, and the carry of {num_carry}", outputs.len())
    })?;
    for (i, (operand, param)) in operands.iter().zip(&params).enumerate() {
        if i < num_consts + num_carry {
            check(*operand == param, || format!("operand {i} is {operand}, but the body takes {param}"))?;
            continue;
        }
        let element = operand.shape.split_first().filter(|(first, _)| **first == length);
        let is_element = element.is_some_and(|(_, rest)| operand.dtype == param.dtype && *rest == param.shape[..]);
        check(is_element, || format!("operand {i} is {operand}, not {length} elements of {param}"))?;
    }
    for (i, (output, param)) in outputs[..num_carry].iter().zip(&params[num_consts..]).enumerate() {
        check(output == param, || format!("value {i} of the carry is {param} before a trip and {output} after it"))?;
    }
    Ok(scan_results(body, num_carry, length)?.swap_remove(0))
}

/// The types of the results of a scan, of any size.
pub fn scan_types(body: &Graph, num_carry: usize, length: usize) -> Results {
    let mut types: Results = body.output_types().into();
    types.iter_mut().skip(num_carry).for_each(|ty| ty.shape.insert(0, length));
    types
}

/// The types of the results of a scan.
pub(super) fn scan_results(body: &Graph, num_carry: usize, length: usize) -> Result<Results, String> {
    let types = scan_types(body, num_carry, length);
    types.iter().try_for_each(|ty| ty.check_size())?;
    Ok(types)
}

/// The type of the first result of a loop whose carry begins with whether there is a trip.
pub(super) fn while_loop(body: &Graph, num_consts: usize, operands: &[&TensorType]) -> Inferred {
    let (params, outputs) = (body.param_types(), body.output_types());
    check(params.len() == operands.len(), || format!("the body takes {}, not {}", params.len(), operands.len()))?;
    check(num_consts < params.len(), || format!("{num_consts} of {} operands are constants", params.len()))?;
    for (i, (operand, param)) in operands.iter().zip(&params).enumerate() {
        check(*operand == param, || format!("operand {i} is {operand}, but the body takes {param}"))?;
    }
    let carry = &params[num_consts..];
    check(outputs.len() == carry.len(), || format!("a carry of {} is {} after a trip", carry.len(), outputs.len()))?;
    for (i, (output, param)) in outputs.iter().zip(carry).enumerate() {
        check(output == param, || format!("value {i} of the carry is {param} before a trip and {output} after it"))?;
    }
    let is_predicate = carry[0] == TensorType::scalar(DType::Bool);
    check(is_predicate, || format!("whether there is a trip is {}, not bool[]", carry[0]))?;
    Ok(carry[0].clone())
}

/// The type of the first result of one of several graphs.
pub(super) fn cond(branches: &[Arc<Graph>], operands: &[&TensorType]) -> Inferred {
    let Some((index, inputs)) = operands.split_first() else { return Err("takes an index".into()) };
    check(**index == TensorType::scalar(DType::I32), || format!("the index is {index}, not i32[]"))?;
    let Some(first) = branches.first() else { return Err("has no branches".into()) };
    let results = first.output_types();
    check(!results.is_empty(), || "the branches give no results".into())?;
    for (b, branch) in branches.iter().enumerate() {
        let (params, outputs) = (branch.param_types(), branch.output_types());
        check(params.len() == inputs.len(), || format!("branch {b} takes {}, not {}", params.len(), inputs.len()))?;
        for (i, (input, param)) in inputs.iter().zip(&params).enumerate() {
            check(*input == param, || format!("operand {} is {input}, but branch {b} takes {param}", i + 1))?;
        }
        check(outputs.len() == results.len(), || {
            format!("branch 0 gives {} results, branch {b} {}", results.len(), outputs.len())
        })?;
        for (i, (result, output)) in results.iter().zip(&outputs).enumerate() {
            check(result == output, || format!("result {i} is {result} in branch 0 and {output} in branch {b}"))?;
        }
    }
    Ok(results[0].clone())
}

//! The types of control flow.

use super::{Inferred, Results, check};
use crate::graph::Graph;
use crate::types::TensorType;

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

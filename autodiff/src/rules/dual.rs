//! Tensors with tangents, and lists of them as lists of tensors.

use fulgurite_jit::Tensor;

/// A tensor and its tangent.
#[derive(Clone, Debug)]
pub(crate) struct Dual {
    pub(crate) x: Tensor,
    pub(crate) dx: Option<Tensor>,
}

impl Dual {
    pub(super) fn tangent(&self) -> Tensor {
        self.dx.clone().unwrap_or_else(|| self.x.zeros_like())
    }
}

/// Which of them have tangents.
pub(super) fn tangents(duals: &[&Dual]) -> Vec<bool> {
    duals.iter().map(|dual| dual.dx.is_some()).collect()
}

/// Values, then the tangents of those that have one.
pub(super) fn flattened(duals: &[&Dual], has: &[bool]) -> Vec<Tensor> {
    let tangents = duals.iter().zip(has).filter(|(_, has)| **has).map(|(dual, _)| dual.tangent());
    duals.iter().map(|dual| dual.x.clone()).chain(tangents).collect()
}

/// The inverse of [`flattened`].
pub(super) fn duals(flat: &[Tensor], has: &[bool]) -> Vec<Dual> {
    let (xs, tangents) = flat.split_at(has.len());
    let mut tangents = tangents.iter().cloned();
    xs.iter().zip(has).map(|(x, &has)| Dual { x: x.clone(), dx: if has { tangents.next() } else { None } }).collect()
}

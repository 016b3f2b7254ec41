//! The precision of contractions.

use crate::types::DType;

/// What the operands of a contraction of f32 are rounded to; products are then exact, and sums f32. A GPU with tensor
/// cores for it does so. Others and CPUs compute with all bits, and so does a contraction of f64 everywhere. JAX:
/// `jax.lax.DotAlgorithmPreset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// The type of the operands.
    Highest,
    /// tf32: the operands have 10 bits of fraction.
    Tf32,
    /// bf16: the operands have 7 bits of fraction.
    Bf16,
    /// f16: the operands have 10 bits of fraction, and a magnitude of at most 65,504.
    F16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Precision; 4] = [Precision::Highest, Precision::Tf32, Precision::Bf16, Precision::F16];

    /// The name in the graph's text.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Highest => "highest",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }

    /// That which rounds no element of a float of 16 bits.
    pub fn exact(dtype: DType) -> Option<Precision> {
        match dtype {
            DType::BF16 => Some(Precision::Bf16),
            DType::F16 => Some(Precision::F16),
            _ => None,
        }
    }

    /// The one of this name.
    pub(super) fn parse(text: &str) -> Option<Precision> {
        Self::ALL.into_iter().find(|precision| precision.name() == text)
    }
}

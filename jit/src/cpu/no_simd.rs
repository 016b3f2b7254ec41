//! What stands in for `simd` without the feature of that name: there is no width, so Cranelift makes all code.

use std::convert::Infallible;

use super::symbol::Symbol;
use crate::lower::loops::Loops;
use crate::lower::machine::Isa;

/// No vectors.
#[derive(Clone, Copy, Debug)]
pub(super) enum Width {}

impl Width {
    pub(super) fn of(_: Isa) -> Option<Width> {
        None
    }

    pub(super) fn widest(_: Isa) -> Option<Width> {
        None
    }
}

/// A function's code, of which there is none.
#[derive(Debug)]
#[allow(dead_code, reason = "what reads it is the same with and without the feature")]
pub(super) struct Emission {
    pub(super) code: Vec<u8>,
    pub(super) symbols: Vec<(u32, Symbol)>,
}

pub(super) fn emit(_: &Loops, width: Width) -> Result<Option<Emission>, Infallible> {
    match width {}
}

pub(super) fn disassemble(_: &[u8]) -> String {
    String::new()
}

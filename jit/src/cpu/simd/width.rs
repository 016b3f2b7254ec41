//! The two vector widths, and macros that emit an instruction for either.

use iced_x86::code_asm::*;

use crate::lower::machine::Isa;

/// A vector width and its register file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu) enum Width {
    /// 32 registers of 512 bits; bools are bits of mask registers (AVX-512).
    Zmm,
    /// 16 registers of 256 bits; bools are lane masks, all ones or all zeros (AVX2, FMA).
    Ymm,
}

impl Width {
    /// The maximum width that this machine has and `isa` allows. None for the portable ISA and on platforms without the
    /// System V calling convention of x86-64.
    pub(in crate::cpu) fn of(isa: Isa) -> Option<Width> {
        #[cfg(all(target_arch = "x86_64", unix))]
        {
            let masks = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            match Width::widest(isa) {
                Some(Width::Zmm) if masks => return Some(Width::Zmm),
                Some(_) if Isa::available().contains(&Isa::Avx2) => return Some(Width::Ymm),
                _ => {}
            }
        }
        let _ = isa;
        None
    }

    /// The maximum width of `isa`.
    pub(in crate::cpu) fn widest(isa: Isa) -> Option<Width> {
        match isa {
            Isa::Avx512 => Some(Width::Zmm),
            Isa::Avx2 => Some(Width::Ymm),
            Isa::Portable => None,
        }
    }

    /// Bytes of a vector register.
    pub(super) fn bytes(self) -> usize {
        match self {
            Width::Zmm => 64,
            Width::Ymm => 32,
        }
    }

    /// The number of allocatable registers, including those of accumulators. The next two are scratch registers.
    pub(super) fn pool(self) -> usize {
        match self {
            Width::Zmm => 30,
            Width::Ymm => 14,
        }
    }

    /// The maximum number of registers for accumulators, at the upper end of the pool. Further accumulators lie in the
    /// frame.
    pub(super) fn accumulators(self) -> usize {
        match self {
            Width::Zmm => 8,
            Width::Ymm => 4,
        }
    }
}

/// A vector operand.
#[derive(Clone, Copy)]
pub(super) enum VectorOperand {
    /// A register, by number.
    Register(usize),
    /// Memory: a vector, or a broadcast element.
    Memory(AsmMemoryOperand),
}

/// An instruction of vector registers, given by number.
macro_rules! simd {
    ($e:expr, $name:ident, $($register:expr),+ $(; $imm:expr)?) => {
        match $e.width {
            Width::Zmm => $e.assembler.$name($(ZMM[$register]),+ $(, $imm)?)?,
            Width::Ymm => $e.assembler.$name($(YMM[$register]),+ $(, $imm)?)?,
        }
    };
}

/// An instruction whose last operand may be in memory.
macro_rules! with {
    ($e:expr, $name:ident, $($register:expr),*; $last:expr $(; $imm:expr)?) => {
        match ($e.width, $last) {
            (Width::Zmm, VectorOperand::Register(last)) => $e.assembler.$name($(ZMM[$register],)* ZMM[last] $(, $imm)?)?,
            (Width::Zmm, VectorOperand::Memory(last)) => $e.assembler.$name($(ZMM[$register],)* last $(, $imm)?)?,
            (Width::Ymm, VectorOperand::Register(last)) => $e.assembler.$name($(YMM[$register],)* YMM[last] $(, $imm)?)?,
            (Width::Ymm, VectorOperand::Memory(last)) => $e.assembler.$name($(YMM[$register],)* last $(, $imm)?)?,
        }
    };
}

pub(super) use {simd, with};

pub(super) const ZMM: [AsmRegisterZmm; 32] = [
    zmm0, zmm1, zmm2, zmm3, zmm4, zmm5, zmm6, zmm7, zmm8, zmm9, zmm10, zmm11, zmm12, zmm13, zmm14, zmm15, zmm16, zmm17,
    zmm18, zmm19, zmm20, zmm21, zmm22, zmm23, zmm24, zmm25, zmm26, zmm27, zmm28, zmm29, zmm30, zmm31,
];

pub(super) const YMM: [AsmRegisterYmm; 32] = [
    ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11, ymm12, ymm13, ymm14, ymm15, ymm16, ymm17,
    ymm18, ymm19, ymm20, ymm21, ymm22, ymm23, ymm24, ymm25, ymm26, ymm27, ymm28, ymm29, ymm30, ymm31,
];

pub(super) const XMM: [AsmRegisterXmm; 32] = [
    xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15, xmm16, xmm17,
    xmm18, xmm19, xmm20, xmm21, xmm22, xmm23, xmm24, xmm25, xmm26, xmm27, xmm28, xmm29, xmm30, xmm31,
];

pub(super) const MASK: [AsmRegisterK; 8] = [k0, k1, k2, k3, k4, k5, k6, k7];

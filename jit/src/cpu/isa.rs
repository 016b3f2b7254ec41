//! The instruction sets that code is compiled for, and their detection.

use std::sync::OnceLock;

/// An instruction set that code is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// 512-bit vectors and masks (AVX-512F).
    Avx512,
    /// 256-bit vectors and fused multiply-add (AVX2, FMA).
    Avx2,
    /// The baseline of the target.
    Portable,
}

impl Isa {
    /// The best instruction set of this machine, or the one that the environment variable `FULGURITE_ISA` names if this
    /// machine has it.
    pub fn detect() -> Isa {
        static CHOSEN: OnceLock<Isa> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let all = Isa::available();
            let Ok(text) = std::env::var("FULGURITE_ISA") else { return all[0] };
            all.iter().copied().find(|isa| isa.name() == text.trim()).unwrap_or_else(|| {
                let names: Vec<&str> = all.iter().map(|isa| isa.name()).collect();
                eprintln!("FULGURITE_ISA: {text:?} is none that this machine has: {}", names.join(", "));
                all[0]
            })
        })
    }

    /// The name in `FULGURITE_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        }
    }

    /// The instruction sets of this machine, the best first.
    pub fn available() -> &'static [Isa] {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
            if avx2 && std::arch::is_x86_feature_detected!("avx512f") {
                return &[Isa::Avx512, Isa::Avx2, Isa::Portable];
            }
            if avx2 {
                return &[Isa::Avx2, Isa::Portable];
            }
        }
        &[Isa::Portable]
    }

    /// Bytes of a vector register.
    pub(super) fn vector_bytes(self) -> usize {
        match self {
            Isa::Avx512 => 64,
            Isa::Avx2 => 32,
            Isa::Portable => 16,
        }
    }
}

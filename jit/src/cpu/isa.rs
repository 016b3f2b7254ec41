//! Which instruction sets this machine has.

use std::sync::OnceLock;

use crate::lower::machine::{Isa, Parallelism, Target};

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
}

impl Target {
    /// One thread on this machine.
    pub fn one_thread() -> Self {
        Target { isa: Isa::detect(), threads: 1, parallelism: Parallelism::Auto }
    }
}

//! Flushing of denormals to zero while a program runs, as in XLA on a CPU (`ScopedFlushDenormal` in its
//! `CpuExecutable`). Arithmetic on denormals is many times slower, and converged training runs produce many. The mode
//! is per thread: it is set around each run and restored.
//!
//! Rust assumes the default mode. Between the two switches, neither of which is inlined, run generated code, the
//! microkernels of products, which are intrinsics, and calls of `lane::Rare` functions, to which a flushed denormal is
//! an ordinary argument. No other code there computes with floats of a user.

/// A guard: while it lives, this thread flushes denormal results and operands to zero.
pub(crate) struct Flush(imp::Word);

impl Flush {
    /// Switches to flushing.
    pub(crate) fn on() -> Self {
        let before = imp::get();
        if before & imp::FLUSH != imp::FLUSH {
            imp::set(before | imp::FLUSH);
        }
        Flush(before)
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        if self.0 & imp::FLUSH != imp::FLUSH {
            imp::set(self.0);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod imp {
    use std::arch::asm;

    pub(super) type Word = u32;

    /// Flush to zero (bit 15) and denormals are zero (bit 6) of MXCSR.
    pub(super) const FLUSH: Word = 1 << 15 | 1 << 6;

    pub(super) fn get() -> Word {
        let mut word: Word = 0;
        // SAFETY: stores the register to `word`.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
        word
    }

    #[inline(never)]
    pub(super) fn set(word: Word) {
        // SAFETY: the word is one that was read from the register, with two bits that every x86-64 has. The module's
        // documentation has its effect on Rust code.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, readonly)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod imp {
    use std::arch::asm;

    pub(super) type Word = u64;

    /// Flush to zero (bit 24) of FPCR: operands too.
    pub(super) const FLUSH: Word = 1 << 24;

    pub(super) fn get() -> Word {
        let word: Word;
        // SAFETY: reads the register.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }

    #[inline(never)]
    pub(super) fn set(word: Word) {
        // SAFETY: the word is one that was read from the register, with one bit that every AArch64 has. The module's
        // documentation has its effect on Rust code.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod imp {
    pub(super) type Word = u32;
    pub(super) const FLUSH: Word = 0;
    pub(super) fn get() -> Word {
        0
    }
    pub(super) fn set(_: Word) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn denormals_are_zero_within_and_not_after() {
        let half = || black_box(f32::MIN_POSITIVE) * black_box(0.5);
        {
            let _flush = Flush::on();
            assert_eq!(half(), 0.0);
            {
                let _inner = Flush::on();
            }
            assert_eq!(half(), 0.0);
        }
        assert!(half() > 0.0);
    }
}

//! The precompiled functions that emitted code calls. Code refers to them by relocation, not by address, so the code is
//! the same in every process and can be stored and compared.
//!
//! [`Symbol::ALL`] is declared in a module before any other function, so the index of a symbol is the index of its
//! function.

use cranelift_codegen::binemit::Reloc;
use cranelift_module::{FuncId, ModuleReloc, ModuleRelocTarget};

use crate::lower::lane::{Double, LaneType, Rare, Single};

/// A precompiled function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symbol {
    /// The scalar function of this lane type.
    Rare(Rare, LaneType),
    /// The loop that calls a scalar function for each lane of a mask.
    Each(LaneType),
}

impl Symbol {
    /// All symbols, in declaration order.
    pub(super) const ALL: [Symbol; 10] = [
        Symbol::Rare(Rare::Sin, LaneType::F32),
        Symbol::Rare(Rare::Cos, LaneType::F32),
        Symbol::Rare(Rare::Tan, LaneType::F32),
        Symbol::Rare(Rare::Rem, LaneType::F32),
        Symbol::Rare(Rare::Sin, LaneType::F64),
        Symbol::Rare(Rare::Cos, LaneType::F64),
        Symbol::Rare(Rare::Tan, LaneType::F64),
        Symbol::Rare(Rare::Rem, LaneType::F64),
        Symbol::Each(LaneType::F32),
        Symbol::Each(LaneType::F64),
    ];

    /// The linker name.
    pub(super) fn name(self) -> String {
        match self {
            Symbol::Rare(function, ty) => format!("{function:?}.{ty:?}"),
            Symbol::Each(ty) => format!("each.{ty:?}"),
        }
    }

    /// The address in this process.
    pub(super) fn address(self) -> *const u8 {
        match self {
            Symbol::Rare(function, LaneType::F64) => function.double() as *const u8,
            Symbol::Rare(function, _) => function.single() as *const u8,
            Symbol::Each(LaneType::F64) => each_double as *const u8,
            Symbol::Each(_) => each_single as *const u8,
        }
    }

    /// The function id, the same in every module.
    pub(super) fn id(self) -> FuncId {
        let number = Symbol::ALL.iter().position(|&symbol| symbol == self).expect("all symbols are listed");
        FuncId::from_u32(number as u32)
    }

    /// An absolute 64-bit relocation at `offset`.
    pub(super) fn reloc(self, offset: u32) -> ModuleReloc {
        let name = ModuleRelocTarget::user(0, self.id().as_u32());
        ModuleReloc { offset, kind: Reloc::Abs8, name, addend: 0 }
    }
}

/// `function` of the lanes whose bits are set.
///
/// # Safety
/// `x` and `y` point to a float for each lane up to the last whose bit is set, `result` to as many that nobody else holds.
unsafe extern "C" fn each_single(function: Single, x: *const f32, y: *const f32, result: *mut f32, lanes: u32) {
    for lane in (0..16).filter(|lane| lanes >> lane & 1 == 1) {
        // SAFETY: the caller's promise.
        unsafe { *result.add(lane) = function(*x.add(lane), *y.add(lane)) };
    }
}

/// The same of f64.
///
/// # Safety
/// As [`each_single`].
unsafe extern "C" fn each_double(function: Double, x: *const f64, y: *const f64, result: *mut f64, lanes: u32) {
    for lane in (0..16).filter(|lane| lanes >> lane & 1 == 1) {
        // SAFETY: the caller's promise.
        unsafe { *result.add(lane) = function(*x.add(lane), *y.add(lane)) };
    }
}

//! A kernel in the form that is run: operands are rows of a warp's registers, constants have rows as well, branches
//! have indices, and arithmetic is a function of 32 lanes.

use super::alu::{Compare, Map1, Map2, Map3};
use super::convert::Conversion;
use super::name;
use crate::ptx::inst::{Atomic, MmaShape, Reg, RegClass, Shuffle, Space, Type, Vote};

/// Where shared memory lies in its space. Not at 0, so that an address that misses its base is found.
pub(super) const SHARED: u64 = 0x400;
/// Where local memory lies in its space.
pub(super) const LOCAL: u64 = 0x0100_0000;

/// A kernel.
#[derive(Debug)]
pub(super) struct Code {
    /// The instructions. The last one is a `ret`.
    pub(super) steps: Vec<Step>,
    /// What rows from the registers' on hold.
    pub(super) constants: Vec<Constant>,
    /// How many registers there are of each class but predicates, in the order of rows.
    pub(super) registers: [u32; 6],
}

/// An instruction.
#[derive(Debug)]
pub(super) struct Step {
    /// A predicate, and the value that it must have.
    pub(super) guard: Option<(u32, bool)>,
    /// What it does.
    pub(super) op: Op,
    /// Where it is in the entry's body.
    pub(super) at: usize,
}

/// What a row holds that is no register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the special registers")]
pub(super) enum Constant {
    /// These bits.
    Bits(u64),
    Tid,
    Ntid,
    Ctaid,
    Nctaid,
    Laneid,
    /// A parameter, extended from a type to these bits.
    Param(u32, Type, u32),
}

/// The address of an access: the value of a row and an offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The row.
    pub(super) row: u32,
    /// The bytes to add.
    pub(super) offset: i64,
}

/// An access of memory by a load or store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    /// Which memory.
    pub(super) space: Space,
    /// `.volatile`.
    pub(super) volatile: bool,
    /// `.nc`.
    pub(super) non_coherent: bool,
    /// Where.
    pub(super) place: Place,
    /// Bytes of an element.
    pub(super) size: usize,
    /// How many elements.
    pub(super) count: usize,
    /// The rows of the elements.
    pub(super) rows: [u32; 4],
    /// Of a load: elements are extended by their sign to this many bits, or by zeros if it is 0.
    pub(super) sign_to: u32,
}

/// How predicates are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub(super) enum Logic {
    And,
    Or,
    Xor,
}

/// What an instruction does. `d` and `e` are results, `a`, `b` and `c` operands, as rows or numbers of predicates.
#[derive(Debug)]
#[allow(missing_docs, reason = "named as the instructions")]
pub(super) enum Op {
    Copy {
        d: u32,
        a: u32,
    },
    CopyPredicate {
        d: u32,
        a: u32,
    },
    SetPredicate {
        d: u32,
        value: bool,
    },
    NotPredicate {
        d: u32,
        a: u32,
    },
    Predicates {
        logic: Logic,
        d: u32,
        a: u32,
        b: u32,
    },
    Pack {
        d: u32,
        a: u32,
        b: u32,
    },
    Unpack {
        d: u32,
        e: u32,
        a: u32,
    },
    Map1 {
        f: Map1,
        d: u32,
        a: u32,
    },
    Map2 {
        f: Map2,
        d: u32,
        a: u32,
        b: u32,
    },
    Map3 {
        f: Map3,
        d: u32,
        a: u32,
        b: u32,
        c: u32,
    },
    /// Of integers: of so many bits, signed or not.
    Divide {
        f: Map2,
        bits: u32,
        signed: bool,
        d: u32,
        a: u32,
        b: u32,
    },
    Convert {
        conversion: Conversion,
        d: u32,
        a: u32,
    },
    Compare {
        f: Compare,
        d: u32,
        a: u32,
        b: u32,
    },
    Select {
        d: u32,
        a: u32,
        b: u32,
        p: u32,
    },
    Load(Access),
    Store(Access),
    Atom {
        op: Atomic,
        shared: bool,
        ty: Type,
        size: usize,
        place: Place,
        d: u32,
        b: u32,
        c: Option<u32>,
    },
    Branch {
        target: u32,
    },
    Barrier,
    BarrierOfWarp {
        mask: u32,
    },
    Fence,
    Shuffle {
        mode: Shuffle,
        d: u32,
        a: u32,
        b: u32,
        c: u32,
        mask: u32,
    },
    Vote {
        mode: Vote,
        d: u32,
        p: u32,
        negate: bool,
        mask: u32,
    },
    BeginCopy {
        bytes: usize,
        to: Place,
        from: Place,
        kept: Option<u32>,
    },
    CommitCopies,
    WaitCopies {
        groups: u32,
    },
    LoadMatrix {
        transposed: bool,
        count: usize,
        rows: [u32; 4],
        place: Place,
    },
    Mma {
        shape: MmaShape,
        ty: Type,
        d: [u32; 4],
        a: [u32; 4],
        b: [u32; 2],
        c: [u32; 4],
    },
    Exit,
}

/// The classes in the order of their rows.
pub(super) const CLASSES: [RegClass; 5] = [RegClass::B16, RegClass::B32, RegClass::B64, RegClass::F32, RegClass::F64];

impl Code {
    /// How many rows registers have.
    pub(super) fn register_rows(&self) -> usize {
        CLASSES.iter().map(|&class| self.registers[class as usize] as usize).sum()
    }

    /// The register of a row.
    pub(super) fn register(&self, row: u32) -> String {
        let mut id = row;
        for class in CLASSES {
            let n = self.registers[class as usize];
            if id < n {
                return name::register(Reg { class, id });
            }
            id -= n;
        }
        "a constant".to_owned()
    }
}

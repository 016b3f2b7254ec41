//! All names of instructions, each with an instruction that has it.
//!
//! Each instruction has the types that it has in PTX 7.0 (`cvt.f32.bf16`: 7.1), as far as the emitter may use them.
//! The parser finds an instruction by its name here and fills in the operands; the tests give all of them to `ptxas`.

use std::sync::LazyLock;

use hashbrown::HashMap;

use crate::ptx::inst::{
    Address, Atomic, BinaryOp, Cache, Cmp, InstOp, Label, MmaShape, Operand, Reg, RegClass, Rounding, Shuffle, Space,
    TernaryOp, Type, UnaryOp, Vote,
};
use crate::ptx::names::Kind;
use crate::ptx::print::mnemonic;

use Type::{B8, B16, B32, B64, Bf16, Bf16x2, F16, F16x2, F32, F64, Pred, S8, S16, S32, S64, Tf32, U8, U16, U32, U64};

/// Integers of all widths that arithmetic has.
const INTEGERS: &[Type] = &[U16, S16, U32, S32, U64, S64];
/// Integers that have twice their width.
const HALF_INTEGERS: &[Type] = &[U16, S16, U32, S32];
/// Floats that are added and multiplied.
const FLOATS: &[Type] = &[F16, F16x2, F32, F64];
/// Floats that have a minimum, a sign and a fused multiplication.
const ALL_FLOATS: &[Type] = &[F16, F16x2, Bf16, Bf16x2, F32, F64];
/// Floats with division and roots.
const LARGE_FLOATS: &[Type] = &[F32, F64];
/// Bits of all widths that registers have.
const BITS: &[Type] = &[B16, B32, B64];
/// What `mov` and `selp` take.
const REGISTERS: &[Type] = &[B16, U16, S16, B32, U32, S32, F32, B64, U64, S64, F64];
/// What memory holds.
const STORED: &[Type] = &[B8, U8, S8, B16, U16, S16, B32, U32, S32, F32, B64, U64, S64, F64];

/// The instruction of each name. Of `mov.b64` it is the plain one.
pub(super) static BY_NAME: LazyLock<HashMap<String, InstOp>> = LazyLock::new(|| {
    let mut by_name = HashMap::new();
    for op in instructions() {
        by_name.entry(mnemonic(&op)).or_insert(op);
    }
    by_name
});

/// Can a parameter or a variable have this type?
pub(super) fn is_stored(ty: Type) -> bool {
    STORED.contains(&ty)
}

/// The first register of the class that holds values of a type.
fn register(ty: Type) -> Reg {
    let class = match ty {
        Pred => RegClass::Pred,
        B16 | U16 | S16 | F16 | Bf16 => RegClass::B16,
        B8 | U8 | S8 | B32 | U32 | S32 | F16x2 | Bf16x2 | Tf32 => RegClass::B32,
        B64 | U64 | S64 => RegClass::B64,
        F32 => RegClass::F32,
        F64 => RegClass::F64,
    };
    Reg { class, id: 0 }
}

fn operand(ty: Type) -> Operand {
    Operand::Reg(register(ty))
}

/// An instruction of every name, with the first register of the right class as each operand.
pub(in crate::ptx) fn instructions() -> Vec<InstOp> {
    let mut all = Vec::new();
    moves(&mut all);
    arithmetic(&mut all);
    conversions(&mut all);
    memory(&mut all);
    asynchronous(&mut all);
    matrices(&mut all);
    let (d, a, b, mask) = (register(B32), operand(B32), operand(B32), Operand::Imm(0xffff_ffff));
    for &mode in Shuffle::ALL {
        all.push(InstOp::Shfl { mode, d, a, b, c: Operand::Imm(31), mask });
    }
    for &mode in Vote::ALL {
        let d = register(if mode == Vote::Ballot { B32 } else { Pred });
        all.push(InstOp::Vote { mode, d, p: register(Pred), negate: false, mask });
    }
    all.extend([InstOp::Bar, InstOp::BarWarp { mask }, InstOp::MembarGl, InstOp::Ret]);
    all.extend([InstOp::Bra { target: Label(0) }, InstOp::NoUnroll]);
    all
}

fn moves(all: &mut Vec<InstOp>) {
    for &ty in [Pred].iter().chain(REGISTERS) {
        all.push(InstOp::Mov { ty, d: register(ty), a: operand(ty) });
    }
    all.push(InstOp::Pack { d: register(B64), a: register(B32), b: register(B32) });
    all.push(InstOp::Unpack { d: register(B32), e: register(B32), a: register(B64) });
    for &ty in REGISTERS {
        all.push(InstOp::Selp { ty, d: register(ty), a: operand(ty), b: operand(ty), p: register(Pred) });
    }
    all.push(InstOp::ToGlobal { d: register(U64), a: register(U64) });
}

/// Without `.ftz`, and of f32 with it.
fn flushes(ty: Type) -> &'static [bool] {
    if ty == F32 { &[false, true] } else { &[false] }
}

fn arithmetic(all: &mut Vec<InstOp>) {
    for &op in UnaryOp::ALL {
        let types: &[&[Type]] = match op {
            UnaryOp::Neg | UnaryOp::Abs => &[&[S16, S32, S64], ALL_FLOATS],
            UnaryOp::Not => &[&[Pred], BITS],
            UnaryOp::Sqrt | UnaryOp::Rcp => &[LARGE_FLOATS],
            UnaryOp::Clz | UnaryOp::Popc | UnaryOp::Brev => &[&[B32, B64]],
        };
        for &ty in types.iter().copied().flatten() {
            let d = register(op.result(ty));
            for &flush in flushes(ty) {
                all.push(InstOp::Unary { op, ty, flush, d, a: operand(ty) });
            }
        }
    }
    for &op in BinaryOp::ALL {
        let types: &[&[Type]] = match op {
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul => &[INTEGERS, FLOATS],
            BinaryOp::MulHi | BinaryOp::Rem => &[INTEGERS],
            BinaryOp::MulWide => &[HALF_INTEGERS],
            BinaryOp::Div => &[INTEGERS, LARGE_FLOATS],
            BinaryOp::Min | BinaryOp::Max => &[INTEGERS, ALL_FLOATS],
            BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => &[&[Pred], BITS],
            BinaryOp::Shl => &[BITS],
            BinaryOp::Shr => &[BITS, INTEGERS],
        };
        for &ty in types.iter().copied().flatten() {
            let d = register(op.result(ty));
            for &flush in flushes(ty) {
                all.push(InstOp::Binary { op, ty, flush, d, a: operand(ty), b: operand(op.second(ty)) });
            }
        }
    }
    for &op in TernaryOp::ALL {
        let types = match op {
            TernaryOp::Fma => ALL_FLOATS,
            TernaryOp::Mad => INTEGERS,
            TernaryOp::MadWide => HALF_INTEGERS,
        };
        for &ty in types {
            let third = op.third(ty);
            for &flush in flushes(ty) {
                let (d, c) = (register(third), operand(third));
                all.push(InstOp::Ternary { op, ty, flush, d, a: operand(ty), b: operand(ty), c });
            }
        }
    }
    for &cmp in Cmp::ALL {
        let types: &[&[Type]] = match cmp {
            Cmp::Eq | Cmp::Ne => &[BITS, INTEGERS, &[F16, F32, F64]],
            Cmp::Lt | Cmp::Le | Cmp::Gt | Cmp::Ge => &[INTEGERS, &[F16, F32, F64]],
            Cmp::Equ | Cmp::Neu | Cmp::Ltu | Cmp::Leu | Cmp::Gtu | Cmp::Geu => &[&[F16, F32, F64]],
            Cmp::Num | Cmp::Nan => &[&[F16, F32, F64]],
        };
        for &ty in types.iter().copied().flatten() {
            for &flush in flushes(ty) {
                all.push(InstOp::Setp { cmp, ty, flush, d: register(Pred), a: operand(ty), b: operand(ty) });
            }
        }
    }
}

fn conversions(all: &mut Vec<InstOp>) {
    let types = || [U8, S8, U16, S16, U32, S32, U64, S64, F16, Bf16, F32, F64].into_iter();
    for (to, from) in types().flat_map(|to| types().map(move |from| (to, from))) {
        for &rounding in roundings(to, from) {
            let f32_if_any = if to == F32 { to } else { from };
            for &flush in flushes(f32_if_any) {
                all.push(InstOp::Cvt { to, from, rounding, flush, d: register(to), a: register(from) });
            }
        }
    }
    let (d, a) = (register(Tf32), register(F32));
    all.push(InstOp::Cvt { to: Tf32, from: F32, rounding: Rounding::Rna, flush: false, d, a });
    all.extend([F16x2, Bf16x2].map(|to| InstOp::CvtPair { to, d: register(to), a, b: a }));
}

/// The roundings of a conversion; none if there is no such conversion.
fn roundings(to: Type, from: Type) -> &'static [Rounding] {
    const TO_INTEGER: &[Rounding] = &[Rounding::Rni, Rounding::Rzi, Rounding::Rmi, Rounding::Rpi];
    const TO_FLOAT: &[Rounding] = &[Rounding::Rn, Rounding::Rz];
    const IN_PLACE: &[Rounding] = &[Rounding::None, Rounding::Rni, Rounding::Rzi, Rounding::Rmi, Rounding::Rpi];
    if to == Bf16 {
        return if from == F32 { TO_FLOAT } else { &[] };
    }
    if from == Bf16 {
        return if to == F32 { &[Rounding::None] } else { &[] };
    }
    match (to.kind() == Kind::Float, from.kind() == Kind::Float) {
        (false, false) => &[Rounding::None],
        (false, true) => TO_INTEGER,
        (true, false) => TO_FLOAT,
        (true, true) if to.bits() < from.bits() => TO_FLOAT,
        (true, true) if to.bits() > from.bits() => &[Rounding::None],
        (true, true) => IN_PLACE,
    }
}

/// An address of a space.
fn address(space: Space) -> Address {
    match space {
        Space::Global => Address::Reg(register(U64), 0),
        Space::Shared => Address::Shared(0),
        Space::Local => Address::Local(0),
        Space::Param => Address::Param(0),
    }
}

fn memory(all: &mut Vec<InstOp>) {
    for &space in Space::ALL {
        let (loads, stores): (&[Cache], &[Cache]) = match space {
            Space::Global => {
                (&[Cache::Default, Cache::NonCoherent, Cache::Volatile], &[Cache::Default, Cache::Volatile])
            }
            Space::Shared => (&[Cache::Default, Cache::Volatile], &[Cache::Default, Cache::Volatile]),
            Space::Local => (&[Cache::Default], &[Cache::Default]),
            Space::Param => (&[Cache::Default], &[]),
        };
        for (&ty, len) in STORED.iter().flat_map(|ty| [1, 2, 4].map(|len| (ty, len))) {
            if ty.bits() as usize * len > 128 {
                continue;
            }
            for &cache in loads {
                let d = (0..len as u32).map(|id| Reg { id, ..register(ty) }).collect();
                all.push(InstOp::Ld { space, cache, ty, d, address: address(space) });
            }
            for &cache in stores {
                all.push(InstOp::St { space, cache, ty, address: address(space), a: vec![operand(ty); len] });
            }
        }
    }
    for (space, &op) in
        [Space::Global, Space::Shared].into_iter().flat_map(|s| Atomic::ALL.iter().map(move |op| (s, op)))
    {
        let types: &[Type] = match op {
            Atomic::Add => &[U32, S32, U64, F32, F64],
            Atomic::Min | Atomic::Max => &[U32, S32, U64, S64],
            Atomic::And | Atomic::Or | Atomic::Xor | Atomic::Exch => &[B32, B64],
            Atomic::Cas => BITS,
        };
        for &ty in types {
            let c = if op == Atomic::Cas { Some(operand(ty)) } else { None };
            all.push(InstOp::Atom { op, space, ty, d: register(ty), address: address(space), b: operand(ty), c });
        }
    }
}

fn asynchronous(all: &mut Vec<InstOp>) {
    let (d, a) = (address(Space::Shared), address(Space::Global));
    for bytes in [4, 8, 16] {
        all.push(InstOp::CpAsync { bytes, d, a, from: None });
        all.push(InstOp::CpAsync { bytes, d, a, from: Some(Operand::Imm(0)) });
    }
    all.extend([InstOp::CpAsyncCommit, InstOp::CpAsyncWait { groups: 0 }]);
}

fn matrices(all: &mut Vec<InstOp>) {
    let r = |id| Reg { id, ..register(B32) };
    for (transposed, len) in [false, true].into_iter().flat_map(|t| [1, 2, 4].map(|len| (t, len))) {
        all.push(InstOp::LdMatrix { transposed, d: (0..len).map(r).collect(), address: address(Space::Shared) });
    }
    for &shape in MmaShape::ALL {
        let types: &[Type] = match shape {
            MmaShape::M16N8K8 => &[Tf32],
            MmaShape::M16N8K16 => &[F16, Bf16],
        };
        for &ty in types {
            let d = [0, 1, 2, 3].map(|id| Reg { id, ..register(F32) });
            all.push(InstOp::Mma { shape, ty, d, a: [0, 1, 2, 3].map(r), b: [0, 1].map(r), c: d });
        }
    }
}

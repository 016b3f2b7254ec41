//! An entry becomes [`Code`]; what does not fit together, such as types and registers, is an error.

use std::collections::HashMap;

use super::alu;
use super::code::{Access, CLASSES, Code, Constant, LOCAL, Logic, Op, Place, SHARED, Step};
use super::convert::Conversion;
use super::name;
use crate::ptx::inst::{
    Address, Atomic, BinaryOp, Cache, Entry, Inst, InstOp, Label, MmaShape, Operand, Reg, RegClass, Space, Special,
    TernaryOp, Type, UnaryOp, Vote,
};
use crate::{Error, Result};

/// Bytes of a type; a predicate has none.
fn size(ty: Type) -> usize {
    match ty {
        Type::Pred => 0,
        Type::B8 | Type::U8 | Type::S8 => 1,
        Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::Bf16 => 2,
        Type::B32 | Type::U32 | Type::S32 | Type::F32 | Type::F16x2 | Type::Bf16x2 | Type::Tf32 => 4,
        Type::B64 | Type::U64 | Type::S64 | Type::F64 => 8,
    }
}

/// Bits of a register.
fn width(class: RegClass) -> u32 {
    match class {
        RegClass::Pred => 1,
        RegClass::B16 => 16,
        RegClass::B32 | RegClass::F32 => 32,
        RegClass::B64 | RegClass::F64 => 64,
    }
}

/// Whether an instruction of the type takes a register of the class.
fn fits(ty: Type, class: RegClass) -> bool {
    class.holds(ty, false)
}

/// Whether `ld`, `st` and `cvt` of the type take a register of the class: one of bits may be wider.
fn fits_wider(ty: Type, class: RegClass) -> bool {
    class.holds(ty, true)
}

fn is_integer(ty: Type) -> bool {
    match ty {
        Type::B8
        | Type::U8
        | Type::S8
        | Type::B16
        | Type::U16
        | Type::S16
        | Type::B32
        | Type::U32
        | Type::S32
        | Type::B64
        | Type::U64
        | Type::S64 => true,
        Type::Pred | Type::F16 | Type::Bf16 | Type::F32 | Type::F16x2 | Type::Bf16x2 | Type::Tf32 | Type::F64 => false,
    }
}

fn is_signed(ty: Type) -> bool {
    matches!(ty, Type::S8 | Type::S16 | Type::S32 | Type::S64)
}

/// The integer type of twice the bits.
fn twice(ty: Type) -> Option<Type> {
    match ty {
        Type::U16 => Some(Type::U32),
        Type::S16 => Some(Type::S32),
        Type::U32 => Some(Type::U64),
        Type::S32 => Some(Type::S64),
        Type::Pred
        | Type::B8
        | Type::U8
        | Type::S8
        | Type::B16
        | Type::F16
        | Type::Bf16
        | Type::B32
        | Type::F32
        | Type::F16x2
        | Type::Bf16x2
        | Type::Tf32
        | Type::B64
        | Type::U64
        | Type::S64
        | Type::F64 => None,
    }
}

/// Whether `mov`, `selp`, `ld` and `st` have the type.
fn moves(ty: Type) -> bool {
    (is_integer(ty) && size(ty) > 1) || ty == Type::F32 || ty == Type::F64
}

/// The kernel as code.
pub(super) fn decode(entry: &Entry) -> Result<Code> {
    let mut labels = HashMap::new();
    let mut count = 0;
    for (at, inst) in entry.body.iter().enumerate() {
        match inst.op {
            InstOp::Label(label) => {
                if labels.insert(label, count).is_some() {
                    return Err(error(entry, at, "the label is there twice"));
                }
            }
            InstOp::Comment(_) | InstOp::NoUnroll => {}
            _ => count += 1,
        }
    }
    let mut decoder = Decoder::new(entry, labels);
    let mut steps = Vec::new();
    for (at, inst) in entry.body.iter().enumerate() {
        steps.extend(decoder.step(inst, at).map_err(|message| error(entry, at, &message))?);
    }
    steps.push(Step { guard: None, op: Op::Exit, at: entry.body.len() });
    Ok(Code { steps, constants: decoder.constants, registers: entry.registers })
}

fn error(entry: &Entry, at: usize, message: &str) -> Error {
    let kind = name::instruction(&entry.body[at].op);
    Error::new(format!("kernel {}, instruction {at} ({kind}): {message}", entry.name))
}

/// A result, or what is wrong.
type Decoded<T> = std::result::Result<T, String>;

struct Decoder<'a> {
    entry: &'a Entry,
    labels: HashMap<Label, u32>,
    /// The first row of each class.
    first: [u32; 6],
    rows: u32,
    constants: Vec<Constant>,
    known: HashMap<Constant, u32>,
}

impl<'a> Decoder<'a> {
    fn new(entry: &'a Entry, labels: HashMap<Label, u32>) -> Self {
        let (mut first, mut rows) = ([0; 6], 0);
        for class in CLASSES {
            first[class as usize] = rows;
            rows += entry.registers[class as usize];
        }
        Decoder { entry, labels, first, rows, constants: Vec::new(), known: HashMap::new() }
    }

    fn declared(&self, reg: Reg) -> Decoded<()> {
        let n = self.entry.registers[reg.class as usize];
        if reg.id < n { Ok(()) } else { Err(format!("{} is not one of the {n} registers", name::register(reg))) }
    }

    /// The row of a register of a class that `takes`.
    fn row(&self, reg: Reg, ty: Type, takes: fn(Type, RegClass) -> bool) -> Decoded<u32> {
        self.declared(reg)?;
        if reg.class == RegClass::Pred || !takes(ty, reg.class) {
            return Err(format!("{} does not fit the type {ty:?}", name::register(reg)));
        }
        Ok(self.first[reg.class as usize] + reg.id)
    }

    fn reg(&self, reg: Reg, ty: Type) -> Decoded<u32> {
        self.row(reg, ty, fits)
    }

    fn predicate(&self, reg: Reg) -> Decoded<u32> {
        self.declared(reg)?;
        if reg.class != RegClass::Pred {
            return Err(format!("{} is not a predicate", name::register(reg)));
        }
        Ok(reg.id)
    }

    fn constant(&mut self, constant: Constant) -> u32 {
        *self.known.entry(constant).or_insert_with(|| {
            self.constants.push(constant);
            self.rows + self.constants.len() as u32 - 1
        })
    }

    fn operand(&mut self, operand: Operand, ty: Type) -> Decoded<u32> {
        self.operand_that(operand, ty, fits)
    }

    fn operand_that(&mut self, operand: Operand, ty: Type, takes: fn(Type, RegClass) -> bool) -> Decoded<u32> {
        let integer = is_integer(ty) && size(ty) >= 4;
        let constant = match operand {
            Operand::Reg(reg) => return self.row(reg, ty, takes),
            Operand::Imm(bits) => {
                if size(ty) < 8 && bits >> (8 * size(ty)) != 0 {
                    return Err(format!("the constant {bits:#x} does not fit the type {ty:?}"));
                }
                Constant::Bits(bits)
            }
            Operand::Special(special) => {
                if !integer || size(ty) != 4 {
                    return Err(format!("a special register does not fit the type {ty:?}"));
                }
                match special {
                    Special::Tid => Constant::Tid,
                    Special::Ntid => Constant::Ntid,
                    Special::Ctaid => Constant::Ctaid,
                    Special::Nctaid => Constant::Nctaid,
                    Special::Laneid => Constant::Laneid,
                }
            }
            Operand::Shared if integer => Constant::Bits(SHARED),
            Operand::Local if integer => Constant::Bits(LOCAL),
            Operand::Shared | Operand::Local => return Err(format!("an address does not fit the type {ty:?}")),
        };
        Ok(self.constant(constant))
    }

    fn place(&mut self, address: Address, space: Space) -> Decoded<Place> {
        match (address, space) {
            (Address::Reg(reg, offset), Space::Global | Space::Shared | Space::Local) => {
                self.declared(reg)?;
                let fits = reg.class == RegClass::B64 || (reg.class == RegClass::B32 && space != Space::Global);
                if !fits {
                    return Err(format!("{} is no address of {space:?} memory", name::register(reg)));
                }
                Ok(Place { row: self.first[reg.class as usize] + reg.id, offset: i64::from(offset) })
            }
            (Address::Shared(offset), Space::Shared) => {
                Ok(Place { row: self.constant(Constant::Bits(SHARED)), offset: i64::from(offset) })
            }
            (Address::Local(offset), Space::Local) => {
                Ok(Place { row: self.constant(Constant::Bits(LOCAL)), offset: i64::from(offset) })
            }
            (
                Address::Reg(..) | Address::Param(_) | Address::Shared(_) | Address::Local(_),
                Space::Global | Space::Shared | Space::Local | Space::Param,
            ) => Err(format!("the address is none of {space:?} memory")),
        }
    }

    fn step(&mut self, inst: &Inst, at: usize) -> Decoded<Option<Step>> {
        if matches!(inst.op, InstOp::Label(_) | InstOp::Comment(_) | InstOp::NoUnroll) {
            return if inst.guard.is_none() { Ok(None) } else { Err("it takes no guard".to_owned()) };
        }
        let guard = match inst.guard {
            Some((p, value)) => Some((self.predicate(p)?, value)),
            None => None,
        };
        Ok(self.op(&inst.op)?.map(|op| Step { guard, op, at }))
    }

    fn op(&mut self, op: &InstOp) -> Decoded<Option<Op>> {
        let none = || "PTX has no such instruction".to_owned();
        Ok(Some(match *op {
            InstOp::Label(_) | InstOp::Comment(_) | InstOp::NoUnroll => return Ok(None),
            InstOp::Mov { ty: Type::Pred, d, a } => {
                let d = self.predicate(d)?;
                match a {
                    Operand::Reg(a) => Op::CopyPredicate { d, a: self.predicate(a)? },
                    Operand::Imm(bits) if bits < 2 => Op::SetPredicate { d, value: bits == 1 },
                    Operand::Imm(_) | Operand::Special(_) | Operand::Shared | Operand::Local => return Err(none()),
                }
            }
            InstOp::Mov { ty, d, a } if moves(ty) => Op::Copy { d: self.reg(d, ty)?, a: self.operand(a, ty)? },
            InstOp::Mov { .. } => return Err(none()),
            InstOp::Pack { d, a, b } => {
                Op::Pack { d: self.reg(d, Type::B64)?, a: self.reg(a, Type::B32)?, b: self.reg(b, Type::B32)? }
            }
            InstOp::Unpack { d, e, a } => {
                Op::Unpack { d: self.reg(d, Type::B32)?, e: self.reg(e, Type::B32)?, a: self.reg(a, Type::B64)? }
            }
            InstOp::Unary { op: UnaryOp::Not, ty: Type::Pred, flush: false, d, a: Operand::Reg(a) } => {
                Op::NotPredicate { d: self.predicate(d)?, a: self.predicate(a)? }
            }
            InstOp::Unary { op, ty, flush, d, a } => {
                let f = alu::unary(op, ty, flush).ok_or_else(none)?;
                let to = if matches!(op, UnaryOp::Clz | UnaryOp::Popc) { Type::U32 } else { ty };
                Op::Map1 { f, d: self.reg(d, to)?, a: self.operand(a, ty)? }
            }
            InstOp::Binary { op, ty: Type::Pred, flush: false, d, a: Operand::Reg(a), b: Operand::Reg(b) } => {
                let logic = match op {
                    BinaryOp::And => Logic::And,
                    BinaryOp::Or => Logic::Or,
                    BinaryOp::Xor => Logic::Xor,
                    BinaryOp::Add
                    | BinaryOp::Sub
                    | BinaryOp::Mul
                    | BinaryOp::MulHi
                    | BinaryOp::MulWide
                    | BinaryOp::Div
                    | BinaryOp::Rem
                    | BinaryOp::Min
                    | BinaryOp::Max
                    | BinaryOp::Shl
                    | BinaryOp::Shr => return Err(none()),
                };
                Op::Predicates { logic, d: self.predicate(d)?, a: self.predicate(a)?, b: self.predicate(b)? }
            }
            InstOp::Binary { op, ty, flush, d, a, b } => {
                let f = alu::binary(op, ty, flush).ok_or_else(none)?;
                let to = if op == BinaryOp::MulWide { twice(ty).ok_or_else(none)? } else { ty };
                let second = if matches!(op, BinaryOp::Shl | BinaryOp::Shr) { Type::U32 } else { ty };
                let (d, a, b) = (self.reg(d, to)?, self.operand(a, ty)?, self.operand(b, second)?);
                if matches!(op, BinaryOp::Div | BinaryOp::Rem) && is_integer(ty) {
                    Op::Divide { f, bits: 8 * size(ty) as u32, signed: is_signed(ty), d, a, b }
                } else {
                    Op::Map2 { f, d, a, b }
                }
            }
            InstOp::Ternary { op, ty, flush, d, a, b, c } => {
                let f = alu::ternary(op, ty, flush).ok_or_else(none)?;
                let to = if op == TernaryOp::MadWide { twice(ty).ok_or_else(none)? } else { ty };
                Op::Map3 {
                    f,
                    d: self.reg(d, to)?,
                    a: self.operand(a, ty)?,
                    b: self.operand(b, ty)?,
                    c: self.operand(c, to)?,
                }
            }
            InstOp::Setp { cmp, ty, flush, d, a, b } => Op::Compare {
                f: alu::comparison(cmp, ty, flush).ok_or_else(none)?,
                d: self.predicate(d)?,
                a: self.operand(a, ty)?,
                b: self.operand(b, ty)?,
            },
            InstOp::Selp { ty, d, a, b, p } if moves(ty) => Op::Select {
                d: self.reg(d, ty)?,
                a: self.operand(a, ty)?,
                b: self.operand(b, ty)?,
                p: self.predicate(p)?,
            },
            InstOp::Selp { .. } => return Err(none()),
            InstOp::Cvt { to, from, rounding, flush, d, a } => {
                let conversion = Conversion::new(to, from, rounding, flush, width(d.class)).ok_or_else(none)?;
                Op::Convert { conversion, d: self.row(d, to, fits_wider)?, a: self.row(a, from, fits_wider)? }
            }
            InstOp::CvtPair { to, d, a, b } => Op::Map2 {
                f: alu::pair(to).ok_or_else(none)?,
                d: self.reg(d, to)?,
                a: self.reg(a, Type::F32)?,
                b: self.reg(b, Type::F32)?,
            },
            InstOp::Ld { space: Space::Param, cache, ty, ref d, address } => self.load_param(cache, ty, d, address)?,
            InstOp::Ld { space, cache, ty, ref d, address } => {
                if cache == Cache::NonCoherent && space != Space::Global {
                    return Err(none());
                }
                let mut access = self.access(space, cache, ty, d.len(), address)?;
                for (row, &reg) in access.rows.iter_mut().zip(d) {
                    *row = self.row(reg, ty, fits_wider)?;
                    access.sign_to = if is_signed(ty) { width(reg.class) } else { 0 };
                }
                if d.iter().any(|reg| reg.class != d[0].class) {
                    return Err("the registers are of several classes".to_owned());
                }
                Op::Load(access)
            }
            InstOp::St { space, cache, ty, address, ref a } => {
                if cache == Cache::NonCoherent || space == Space::Param {
                    return Err(none());
                }
                let mut access = self.access(space, cache, ty, a.len(), address)?;
                for (row, &operand) in access.rows.iter_mut().zip(a) {
                    *row = self.operand_that(operand, ty, fits_wider)?;
                }
                Op::Store(access)
            }
            InstOp::ToGlobal { d, a } => Op::Copy { d: self.reg(d, Type::U64)?, a: self.reg(a, Type::U64)? },
            InstOp::Bra { target } => Op::Branch {
                target: *self.labels.get(&target).ok_or_else(|| format!("there is no label L{}", target.0))?,
            },
            InstOp::Bar => Op::Barrier,
            InstOp::BarWarp { mask } => Op::BarrierOfWarp { mask: self.operand(mask, Type::B32)? },
            InstOp::MembarGl => Op::Fence,
            InstOp::Shfl { mode, d, a, b, c, mask } => Op::Shuffle {
                mode,
                d: self.reg(d, Type::B32)?,
                a: self.operand(a, Type::B32)?,
                b: self.operand(b, Type::U32)?,
                c: self.operand(c, Type::U32)?,
                mask: self.operand(mask, Type::U32)?,
            },
            InstOp::Vote { mode, d, p, negate, mask } => Op::Vote {
                mode,
                d: if mode == Vote::Ballot { self.reg(d, Type::U32)? } else { self.predicate(d)? },
                p: self.predicate(p)?,
                negate,
                mask: self.operand(mask, Type::U32)?,
            },
            InstOp::Atom { op, space, ty, d, address, b, c } => {
                let fits = match op {
                    Atomic::Add => matches!(ty, Type::U32 | Type::S32 | Type::U64 | Type::F32 | Type::F64),
                    Atomic::Min | Atomic::Max => matches!(ty, Type::U32 | Type::S32 | Type::U64 | Type::S64),
                    Atomic::And | Atomic::Or | Atomic::Xor | Atomic::Exch | Atomic::Cas => {
                        matches!(ty, Type::B32 | Type::B64)
                    }
                };
                if !fits || c.is_some() != (op == Atomic::Cas) || !matches!(space, Space::Global | Space::Shared) {
                    return Err(none());
                }
                let c = match c {
                    Some(c) => Some(self.operand(c, ty)?),
                    None => None,
                };
                let (place, d, b) = (self.place(address, space)?, self.reg(d, ty)?, self.operand(b, ty)?);
                Op::Atom { op, shared: space == Space::Shared, ty, size: size(ty), place, d, b, c }
            }
            InstOp::CpAsync { bytes, d, a, from } => {
                if !matches!(bytes, 4 | 8 | 16) {
                    return Err(none());
                }
                let kept = match from {
                    Some(from) => Some(self.operand(from, Type::U32)?),
                    None => None,
                };
                let (to, from) = (self.place(d, Space::Shared)?, self.place(a, Space::Global)?);
                Op::BeginCopy { bytes: bytes as usize, to, from, kept }
            }
            InstOp::CpAsyncCommit => Op::CommitCopies,
            InstOp::CpAsyncWait { groups } => Op::WaitCopies { groups },
            InstOp::LdMatrix { transposed, ref d, address } => {
                if !matches!(d.len(), 1 | 2 | 4) {
                    return Err(none());
                }
                let mut rows = [0; 4];
                for (row, &reg) in rows.iter_mut().zip(d) {
                    *row = self.reg(reg, Type::U32)?;
                }
                Op::LoadMatrix { transposed, count: d.len(), rows, place: self.place(address, Space::Shared)? }
            }
            InstOp::Mma { shape, ty, d, a, b, c } => {
                let fits = match shape {
                    MmaShape::M16N8K8 => ty == Type::Tf32,
                    MmaShape::M16N8K16 => ty == Type::F16 || ty == Type::Bf16,
                };
                if !fits {
                    return Err(none());
                }
                let (d, c) = (self.regs(d, Type::F32)?, self.regs(c, Type::F32)?);
                Op::Mma { shape, ty, d, a: self.regs(a, Type::U32)?, b: self.regs(b, Type::U32)?, c }
            }
            InstOp::Ret => Op::Exit,
        }))
    }

    fn regs<const N: usize>(&self, regs: [Reg; N], ty: Type) -> Decoded<[u32; N]> {
        let mut rows = [0; N];
        for (row, reg) in rows.iter_mut().zip(regs) {
            *row = self.reg(reg, ty)?;
        }
        Ok(rows)
    }

    fn load_param(&mut self, cache: Cache, ty: Type, d: &[Reg], address: Address) -> Decoded<Op> {
        let (&[d], Address::Param(n), Cache::Default) = (d, address, cache) else {
            return Err("a parameter is loaded into one register, by its number".to_owned());
        };
        match self.entry.params.get(n as usize) {
            None => Err(format!("there is no parameter p{n}")),
            Some(&param) if size(param) != size(ty) || size(ty) == 0 => {
                Err(format!("the parameter p{n} has the type {param:?}"))
            }
            Some(_) => {
                let a = self.constant(Constant::Param(n, ty, width(d.class)));
                Ok(Op::Copy { d: self.row(d, ty, fits_wider)?, a })
            }
        }
    }

    fn access(&mut self, space: Space, cache: Cache, ty: Type, n: usize, address: Address) -> Decoded<Access> {
        if !moves(ty) && size(ty) != 1 {
            return Err("PTX has no such instruction".to_owned());
        }
        if !matches!(n, 1 | 2 | 4) || n * size(ty) > 16 {
            return Err(format!("there are no vectors of {n} {ty:?}"));
        }
        Ok(Access {
            space,
            volatile: cache == Cache::Volatile,
            non_coherent: cache == Cache::NonCoherent,
            place: self.place(address, space)?,
            size: size(ty),
            count: n,
            rows: [0; 4],
            sign_to: 0,
        })
    }
}

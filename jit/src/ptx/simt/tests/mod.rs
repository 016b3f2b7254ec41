//! Tests of the interpreter: kernels written by hand, and expected values or errors.

mod arithmetic;
mod conversions;
mod divergence;
mod errors;
mod grid;
mod matrices;
mod memory;
mod races;
mod random;
mod shuffles;
mod speed;

use super::{Counts, Launch, Memory, Options, run_with};
use crate::Result;
use crate::ptx::inst::*;

pub(crate) const ALL: Operand = Operand::Imm(0xffff_ffff);
pub(crate) const TID: Operand = Operand::Special(Special::Tid);

pub(crate) fn reg(class: RegClass, id: u32) -> Reg {
    Reg { class, id }
}

pub(crate) fn p(id: u32) -> Reg {
    reg(RegClass::Pred, id)
}

pub(crate) fn h(id: u32) -> Reg {
    reg(RegClass::B16, id)
}

pub(crate) fn r(id: u32) -> Reg {
    reg(RegClass::B32, id)
}

pub(crate) fn rd(id: u32) -> Reg {
    reg(RegClass::B64, id)
}

pub(crate) fn f(id: u32) -> Reg {
    reg(RegClass::F32, id)
}

pub(crate) fn imm(x: u64) -> Operand {
    Operand::Imm(x)
}

pub(crate) fn mov(ty: Type, d: Reg, a: impl Into<Operand>) -> InstOp {
    InstOp::Mov { ty, d, a: a.into() }
}

pub(crate) fn unary(op: UnaryOp, ty: Type, d: Reg, a: impl Into<Operand>) -> InstOp {
    InstOp::Unary { op, ty, flush: false, d, a: a.into() }
}

pub(crate) fn binary(op: BinaryOp, ty: Type, d: Reg, a: impl Into<Operand>, b: impl Into<Operand>) -> InstOp {
    InstOp::Binary { op, ty, flush: false, d, a: a.into(), b: b.into() }
}

pub(crate) fn setp(cmp: Cmp, ty: Type, d: Reg, a: impl Into<Operand>, b: impl Into<Operand>) -> InstOp {
    InstOp::Setp { cmp, ty, flush: false, d, a: a.into(), b: b.into() }
}

/// `mad.wide.u32 d, a, factor, base`.
pub(crate) fn element(d: Reg, a: impl Into<Operand>, factor: u64, base: impl Into<Operand>) -> InstOp {
    let (a, b, c) = (a.into(), imm(factor), base.into());
    InstOp::Ternary { op: TernaryOp::MadWide, ty: Type::U32, flush: false, d, a, b, c }
}

pub(crate) fn ld(space: Space, ty: Type, d: Reg, address: Address) -> InstOp {
    InstOp::Ld { space, cache: Cache::Default, ty, d: vec![d], address }
}

pub(crate) fn st(space: Space, ty: Type, address: Address, a: impl Into<Operand>) -> InstOp {
    InstOp::St { space, cache: Cache::Default, ty, address, a: vec![a.into()] }
}

pub(crate) fn shfl(mode: Shuffle, d: Reg, a: Reg, b: u64, c: u64) -> InstOp {
    InstOp::Shfl { mode, d, a: a.into(), b: imm(b), c: imm(c), mask: ALL }
}

pub(crate) fn at(reg: Reg) -> Address {
    Address::Reg(reg, 0)
}

/// A kernel that is written instruction by instruction, with 64 registers of each class. Its parameters are
/// addresses, which are in `%rd0` and on.
pub(crate) struct Kernel {
    pub(crate) entry: Entry,
    cooperative: bool,
}

impl Kernel {
    pub(crate) fn new(params: u32) -> Kernel {
        let entry = Entry {
            name: "k".to_owned(),
            params: vec![Type::U64; params as usize],
            max_threads: 1024,
            min_blocks: 0,
            shared: 0,
            local: 0,
            registers: [64; 6],
            body: Vec::new(),
        };
        let mut kernel = Kernel { entry, cooperative: false };
        for i in 0..params {
            kernel.op(ld(Space::Param, Type::U64, rd(i), Address::Param(i)));
        }
        kernel
    }

    pub(crate) fn shared(mut self, bytes: u32) -> Kernel {
        self.entry.shared = bytes;
        self
    }

    pub(crate) fn cooperative(mut self) -> Kernel {
        self.cooperative = true;
        self
    }

    pub(crate) fn op(&mut self, op: InstOp) -> &mut Kernel {
        self.entry.body.push(op.into());
        self
    }

    pub(crate) fn when(&mut self, p: Reg, value: bool, op: InstOp) -> &mut Kernel {
        self.entry.body.push(Inst { guard: Some((p, value)), op });
        self
    }

    pub(crate) fn label(&mut self, n: u32) -> &mut Kernel {
        self.op(InstOp::Label(Label(n)))
    }

    pub(crate) fn bra(&mut self, n: u32) -> &mut Kernel {
        self.op(InstOp::Bra { target: Label(n) })
    }

    pub(crate) fn bra_when(&mut self, p: Reg, value: bool, n: u32) -> &mut Kernel {
        self.when(p, value, InstOp::Bra { target: Label(n) })
    }

    pub(crate) fn launch(&self, memory: &mut Memory, (grid, block): (u32, u32), params: &[u64]) -> Result<Counts> {
        self.launch_with(memory, (grid, block), params, &Options::default())
    }

    pub(crate) fn launch_with(
        &self,
        memory: &mut Memory,
        (grid, block): (u32, u32),
        params: &[u64],
        options: &Options,
    ) -> Result<Counts> {
        run_with(memory, &Launch { entry: &self.entry, grid, block, cooperative: self.cooperative, params }, options)
    }

    /// The message of the error of one launch with memory of 4096 bytes for each parameter.
    pub(crate) fn error(&self, dims: (u32, u32)) -> String {
        let mut memory = Memory::new();
        let params: Vec<u64> = self.entry.params.iter().map(|_| memory.alloc(&[0; 4096])).collect();
        match self.launch(&mut memory, dims, &params) {
            Ok(_) => panic!("there is no error"),
            Err(error) => error.to_string(),
        }
    }

    /// The u32 that each of the threads of one launch stores in element `ctaid * ntid + tid` of its one parameter.
    pub(crate) fn u32s(&self, dims: (u32, u32)) -> Vec<u32> {
        let mut memory = Memory::new();
        let n = (dims.0 * dims.1) as usize;
        let out = memory.alloc_unwritten(4 * n);
        self.launch(&mut memory, dims, &[out]).unwrap();
        u32s(&memory, out, n)
    }
}

pub(crate) fn u32s(memory: &Memory, address: u64, n: usize) -> Vec<u32> {
    assert!(memory.is_written(address, 4 * n));
    let mut bytes = vec![0; 4 * n];
    memory.read(address, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect()
}

pub(crate) fn bytes_of(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// The class of registers of a type.
pub(crate) fn class(ty: Type) -> RegClass {
    match ty {
        Type::Pred => RegClass::Pred,
        Type::B8 | Type::U8 | Type::S8 => RegClass::B32,
        Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::Bf16 => RegClass::B16,
        Type::B32 | Type::U32 | Type::S32 | Type::F16x2 | Type::Bf16x2 | Type::Tf32 => RegClass::B32,
        Type::F32 => RegClass::F32,
        Type::B64 | Type::U64 | Type::S64 => RegClass::B64,
        Type::F64 => RegClass::F64,
    }
}

/// The untyped bits of a class.
pub(crate) fn bits(class: RegClass) -> Type {
    match class {
        RegClass::Pred => Type::Pred,
        RegClass::B16 => Type::B16,
        RegClass::B32 | RegClass::F32 => Type::B32,
        RegClass::B64 | RegClass::F64 => Type::B64,
    }
}

/// What one thread computes from operands in registers: `make` is given the result's register and the operands'.
pub(crate) fn scalar(to: Type, operands: &[(Type, u64)], make: impl Fn(Reg, &[Reg]) -> InstOp) -> Result<u64> {
    let mut k = Kernel::new(1);
    let mut regs = Vec::new();
    for (i, &(ty, x)) in operands.iter().enumerate() {
        let x_reg = reg(class(ty), 10 + i as u32);
        k.op(mov(bits(class(ty)), x_reg, imm(x)));
        regs.push(x_reg);
    }
    let d = reg(class(to), 20);
    k.op(make(d, &regs));
    if to == Type::Pred {
        k.op(InstOp::Selp { ty: Type::B32, d: r(21), a: imm(1), b: imm(0), p: d });
        k.op(st(Space::Global, Type::B32, at(rd(0)), r(21)));
    } else {
        k.op(st(Space::Global, bits(class(to)), at(rd(0)), d));
    }
    let mut memory = Memory::new();
    let out = memory.alloc(&[0; 8]);
    k.launch(&mut memory, (1, 1), &[out])?;
    let mut bytes = [0; 8];
    memory.read(out, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

//! The builder of a kernel's code: registers, labels and instructions.

use crate::lower::lane::LaneType;
use crate::ptx::inst::{
    Address, BinaryOp, Cache, Cmp, Entry, Inst, InstOp, Label, Operand, Reg, RegClass, Rounding, Space, Special,
    TernaryOp, Type, UnaryOp,
};

/// Code under construction. Every value has a register of its class; the driver's compiler allocates the real ones.
#[derive(Default)]
pub(super) struct Code {
    body: Vec<Inst>,
    registers: [u32; 6],
    labels: u32,
    /// Bytes of shared memory that the part being emitted has reserved, and the most that one has.
    shared: u32,
    most_shared: u32,
    /// The same of local memory of a thread.
    local: u32,
    most_local: u32,
    /// Whether it needs more registers than many resident blocks leave.
    takes_registers: bool,
}

impl Code {
    /// The kernel with this code.
    pub(super) fn finish(mut self, name: String, params: usize, max_threads: u32) -> Entry {
        self.push(InstOp::Ret);
        Entry {
            name,
            params: vec![Type::U64; params],
            max_threads,
            min_blocks: u32::from(self.takes_registers),
            shared: self.most_shared,
            local: self.most_local,
            registers: self.registers,
            body: self.body,
        }
    }

    /// A new register.
    pub(super) fn reg(&mut self, class: RegClass) -> Reg {
        let id = self.registers[class as usize];
        self.registers[class as usize] += 1;
        Reg { class, id }
    }

    /// Reserves bytes of shared memory for the part being emitted, and returns their offset.
    pub(super) fn reserve_shared(&mut self, bytes: u32) -> u32 {
        let start = self.shared;
        self.shared = (start + bytes).next_multiple_of(16);
        self.most_shared = self.most_shared.max(self.shared);
        start
    }

    /// Reserves bytes of the thread's local memory for the part being emitted, and returns their offset.
    pub(super) fn reserve_local(&mut self, bytes: u32) -> u32 {
        let start = self.local.next_multiple_of(8);
        self.local = start + bytes;
        self.most_local = self.most_local.max(self.local);
        start
    }

    /// Without a number of blocks `ptxas` keeps to few registers on some architectures, and spills: for code that needs
    /// many and of which few blocks run.
    pub(super) fn take_registers(&mut self) {
        self.takes_registers = true;
    }

    /// Begins another part, which all threads of the block enter together. It reuses the shared memory.
    pub(super) fn next_part(&mut self) {
        self.other_part();
        self.push(InstOp::Bar);
    }

    /// Begins another part, which blocks run that have run none before.
    pub(super) fn other_part(&mut self) {
        (self.shared, self.local) = (0, 0);
    }

    pub(super) fn push(&mut self, op: InstOp) {
        self.body.push(op.into());
    }

    /// An instruction that runs where `p` is `value`.
    pub(super) fn push_if(&mut self, (p, value): (Reg, bool), op: InstOp) {
        self.body.push(Inst { guard: Some((p, value)), op });
    }

    pub(super) fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels - 1)
    }

    /// Places a label here.
    pub(super) fn place(&mut self, label: Label) {
        self.push(InstOp::Label(label));
    }

    /// Jumps to `target` where `p` is `value`.
    pub(super) fn branch_if(&mut self, p: Reg, value: bool, target: Label) {
        self.push_if((p, value), InstOp::Bra { target });
    }

    pub(super) fn mov(&mut self, ty: Type, a: impl Into<Operand>) -> Reg {
        let d = self.reg(class(ty));
        self.mov_to(d, ty, a);
        d
    }

    pub(super) fn mov_to(&mut self, d: Reg, ty: Type, a: impl Into<Operand>) {
        self.push(InstOp::Mov { ty, d, a: a.into() });
    }

    pub(super) fn special(&mut self, special: Special) -> Reg {
        self.mov(Type::U32, Operand::Special(special))
    }

    pub(super) fn unary(&mut self, op: UnaryOp, ty: Type, a: impl Into<Operand>) -> Reg {
        // Numbers of bits are u32.
        let is_count = matches!(op, UnaryOp::Clz | UnaryOp::Popc);
        let d = self.reg(if is_count { RegClass::B32 } else { class(ty) });
        self.push(InstOp::Unary { op, ty, flush: ty == Type::F32, d, a: a.into() });
        d
    }

    pub(super) fn binary(&mut self, op: BinaryOp, ty: Type, a: impl Into<Operand>, b: impl Into<Operand>) -> Reg {
        let wide = op == BinaryOp::MulWide;
        let d = self.reg(if wide { RegClass::B64 } else { class(ty) });
        self.push(InstOp::Binary { op, ty, flush: ty == Type::F32, d, a: a.into(), b: b.into() });
        d
    }

    /// `d = a op b`.
    pub(super) fn binary_to(&mut self, d: Reg, op: BinaryOp, ty: Type, a: impl Into<Operand>, b: impl Into<Operand>) {
        self.push(InstOp::Binary { op, ty, flush: ty == Type::F32, d, a: a.into(), b: b.into() });
    }

    pub(super) fn ternary(
        &mut self,
        op: TernaryOp,
        ty: Type,
        a: impl Into<Operand>,
        b: impl Into<Operand>,
        c: impl Into<Operand>,
    ) -> Reg {
        let d = self.reg(if op == TernaryOp::MadWide { RegClass::B64 } else { class(ty) });
        self.push(InstOp::Ternary { op, ty, flush: ty == Type::F32, d, a: a.into(), b: b.into(), c: c.into() });
        d
    }

    pub(super) fn setp(&mut self, cmp: Cmp, ty: Type, a: impl Into<Operand>, b: impl Into<Operand>) -> Reg {
        let d = self.reg(RegClass::Pred);
        self.push(InstOp::Setp { cmp, ty, flush: ty == Type::F32, d, a: a.into(), b: b.into() });
        d
    }

    pub(super) fn selp(&mut self, ty: Type, a: impl Into<Operand>, b: impl Into<Operand>, p: Reg) -> Reg {
        let d = self.reg(class(ty));
        self.push(InstOp::Selp { ty, d, a: a.into(), b: b.into(), p });
        d
    }

    pub(super) fn cvt(&mut self, to: Type, from: Type, rounding: Rounding, a: Reg) -> Reg {
        let d = self.reg(class(to));
        self.push(InstOp::Cvt { to, from, rounding, flush: to == Type::F32 || from == Type::F32, d, a });
        d
    }

    /// The pointer in parameter `n`, as an address of device memory.
    pub(super) fn pointer(&mut self, n: u32) -> Reg {
        let (a, d) = (self.reg(RegClass::B64), self.reg(RegClass::B64));
        let address = Address::Param(n);
        self.push(InstOp::Ld { space: Space::Param, cache: Cache::Default, ty: Type::U64, d: vec![a], address });
        self.push(InstOp::ToGlobal { d, a });
        d
    }

    /// A counted loop: `i` runs from `from` to below `to` in steps of `step`; all are u32, and `to + step` does not
    /// wrap.
    pub(super) fn counted(
        &mut self,
        from: impl Into<Operand>,
        to: impl Into<Operand>,
        step: impl Into<Operand>,
        body: impl FnOnce(&mut Code, Reg),
    ) {
        let (to, step) = (to.into(), step.into());
        let i = self.mov(Type::U32, from);
        let (top, end) = (self.label(), self.label());
        let none = self.setp(Cmp::Ge, Type::U32, i, to);
        self.branch_if(none, true, end);
        self.place(top);
        body(self, i);
        self.binary_to(i, BinaryOp::Add, Type::U32, i, step);
        let more = self.setp(Cmp::Lt, Type::U32, i, to);
        self.branch_if(more, true, top);
        self.place(end);
    }
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Self {
        Operand::Reg(reg)
    }
}

impl From<u32> for Operand {
    fn from(x: u32) -> Self {
        Operand::Imm(x.into())
    }
}

/// The class of the registers that loads of a type fill: those of 32 bits at least, with zeros above.
pub(super) fn loaded(ty: Type) -> RegClass {
    if ty == Type::U16 { RegClass::B32 } else { class(ty) }
}

/// The class of registers that hold values of a type.
pub(super) fn class(ty: Type) -> RegClass {
    match ty {
        Type::Pred => RegClass::Pred,
        Type::B8
        | Type::U8
        | Type::S8
        | Type::B32
        | Type::U32
        | Type::S32
        | Type::F16x2
        | Type::Bf16x2
        | Type::Tf32 => RegClass::B32,
        Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::Bf16 => RegClass::B16,
        Type::F32 => RegClass::F32,
        Type::B64 | Type::U64 | Type::S64 => RegClass::B64,
        Type::F64 => RegClass::F64,
    }
}

/// The type of a lane's register.
pub(super) fn lane_type(ty: LaneType) -> Type {
    match ty {
        LaneType::F32 => Type::F32,
        LaneType::F64 => Type::F64,
        LaneType::I32 => Type::B32,
        LaneType::I64 => Type::B64,
        LaneType::Bool => Type::Pred,
    }
}

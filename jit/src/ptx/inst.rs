//! The instructions of PTX that the emitter uses, as data.
//!
//! The emitter makes these types, `print` writes them, `parse` reads them and `simt` runs them; nothing here depends
//! on any of those. The subset is small on purpose: an instruction is added here, and the compiler asks for the rest.
//! Names and meanings are those of the PTX ISA 7.0 manual (sections 9.7.1 to 9.7.13), except where a variant names a
//! later one.

/// A module: one text that the driver compiles.
#[derive(Clone, Debug, PartialEq)]
pub struct PtxModule {
    /// The version of PTX, as 70 for 7.0.
    pub version: u32,
    /// The architecture, as 70 for `sm_70`.
    pub target: u32,
    /// The kernels.
    pub entries: Vec<Entry>,
}

/// A kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The types of its parameters, named `p0`, `p1`, … .
    pub params: Vec<Type>,
    /// The most threads of a block (`.maxntid`).
    pub max_threads: u32,
    /// The least number of blocks that are resident on a multiprocessor (`.minnctapersm`), or 0.
    pub min_blocks: u32,
    /// Bytes of shared memory, named `shared`, aligned to 16: at most 48 KiB, the limit of `ptxas` for memory whose
    /// size is part of the kernel.
    pub shared: u32,
    /// Bytes of local memory of a thread, named `local`, aligned to 16.
    pub local: u32,
    /// How many registers of each class there are, by [`RegClass`] as a number.
    pub registers: [u32; 6],
    /// The code.
    pub body: Vec<Inst>,
}

/// A type, as a suffix of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are PTX's")]
pub enum Type {
    Pred,
    B8,
    U8,
    S8,
    B16,
    U16,
    S16,
    F16,
    Bf16,
    B32,
    U32,
    S32,
    F32,
    F16x2,
    Bf16x2,
    Tf32,
    B64,
    U64,
    S64,
    F64,
}

/// The classes of registers. A register of 8 bits does not exist; loads extend to a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegClass {
    /// `%p`: a predicate.
    Pred,
    /// `%h`: 16 bits.
    B16,
    /// `%r`: 32 bits.
    B32,
    /// `%rd`: 64 bits.
    B64,
    /// `%f`: f32.
    F32,
    /// `%fd`: f64.
    F64,
}

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reg {
    /// Its class.
    pub class: RegClass,
    /// Its number.
    pub id: u32,
}

/// Registers that the hardware sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// `%tid.x`: the thread in its block.
    Tid,
    /// `%ntid.x`: the threads of a block.
    Ntid,
    /// `%ctaid.x`: the block in its grid.
    Ctaid,
    /// `%nctaid.x`: the blocks of a grid.
    Nctaid,
    /// `%laneid`: the thread in its warp.
    Laneid,
}

/// What an instruction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A register.
    Reg(Reg),
    /// A constant: the bits of a value of the instruction's type, zero-extended. Of f16 and bf16 there are none.
    Imm(u64),
    /// A register that the hardware sets. Only `mov` reads it.
    Special(Special),
    /// The address of the kernel's shared memory, in the shared space. Only `mov` reads it.
    Shared,
    /// The address of the thread's local memory, in the local space. Only `mov` reads it.
    Local,
}

/// An address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// The bytes from a register's value on; the register has 32 or 64 bits.
    Reg(Reg, i32),
    /// The parameter of this number.
    Param(u32),
    /// The bytes from the start of the kernel's shared memory on.
    Shared(i32),
    /// The bytes from the start of the thread's local memory on.
    Local(i32),
}

/// A space of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// Memory of the device.
    Global,
    /// Memory of a block.
    Shared,
    /// Memory of a thread.
    Local,
    /// The parameters of the kernel.
    Param,
}

/// How a load or store is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cache {
    /// As usual.
    Default,
    /// `.nc`: the kernel does not write it.
    NonCoherent,
    /// `.volatile`: neither kept in a register nor reordered with others of the thread.
    Volatile,
}

/// A label, by number: `L0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(pub u32);

/// An instruction, and the predicate under which it runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inst {
    /// A predicate, and the value that it must have.
    pub guard: Option<(Reg, bool)>,
    /// What it does.
    pub op: InstOp,
}

impl From<InstOp> for Inst {
    fn from(op: InstOp) -> Self {
        Inst { guard: None, op }
    }
}

/// Two-operand instructions. Floats are rounded to the nearest (`.rn`), and f32 has `.ftz` where `flush` is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are PTX's")]
pub enum BinaryOp {
    Add,
    Sub,
    /// Of integers, `mul.lo`.
    Mul,
    /// `mul.hi` of integers.
    MulHi,
    /// `mul.wide`: the result has twice the bits of the type.
    MulWide,
    Div,
    Rem,
    Min,
    Max,
    And,
    Or,
    Xor,
    /// The second operand is a u32; amounts from the width on count as the width.
    Shl,
    /// As `Shl`; arithmetic for signed types.
    Shr,
}

/// One-operand instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are PTX's")]
pub enum UnaryOp {
    Neg,
    Abs,
    Not,
    /// `sqrt.rn`.
    Sqrt,
    /// `rcp.rn`.
    Rcp,
    /// Leading zeros, as a u32.
    Clz,
    /// Set bits, as a u32.
    Popc,
    /// The bits in reverse order.
    Brev,
}

/// Three-operand instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are PTX's")]
pub enum TernaryOp {
    /// `fma.rn` of floats.
    Fma,
    /// `mad.lo` of integers.
    Mad,
    /// `mad.wide`: the first two operands have the type, the third and the result twice its bits.
    MadWide,
}

/// Comparisons of `setp`. Of floats, those without a `u` are false with a NaN, and those with one are true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are PTX's")]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    /// Neither is NaN.
    Num,
    /// One is NaN.
    Nan,
}

/// How `cvt` rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are PTX's")]
pub enum Rounding {
    /// None: the conversion is exact, or between integers.
    None,
    /// To a float, nearest even.
    Rn,
    /// To a float, towards zero.
    Rz,
    /// To a tf32, nearest, ties away from zero.
    Rna,
    /// To an integer (also one in a float's form), nearest even.
    Rni,
    /// To an integer, towards zero.
    Rzi,
    /// To an integer, down.
    Rmi,
    /// To an integer, up.
    Rpi,
}

/// How `shfl.sync` finds the lane to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are PTX's")]
pub enum Shuffle {
    Up,
    Down,
    Bfly,
    Idx,
}

/// What `vote.sync` computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are PTX's")]
pub enum Vote {
    All,
    Any,
    /// The predicates of all lanes as bits, a b32.
    Ballot,
}

/// What `atom` and `red` do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are PTX's")]
pub enum Atomic {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exch,
    /// Compare and swap: the second operand is stored where the first is found.
    Cas,
}

/// The shapes of `mma.sync.aligned`, all `.row.col`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MmaShape {
    /// `m16n8k8`: tf32 operands of 4 and 2 registers (b32).
    M16N8K8,
    /// `m16n8k16`: bf16 or f16 operands of 4 and 2 registers (b32), two elements in each.
    M16N8K16,
}

/// The instructions. `d` is the destination, `a`, `b` and `c` are the operands in PTX's order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "fields are named as in the manual")]
pub enum InstOp {
    /// `L0:`. Takes no guard.
    Label(Label),
    /// A comment of one line, without the slashes: printable ASCII, as `ptxas` reads no other. Takes no guard.
    Comment(String),
    /// `.pragma "nounroll"`: `ptxas` does not unroll the loop that begins at the label before. Takes no guard.
    NoUnroll,
    /// `mov`.
    Mov { ty: Type, d: Reg, a: Operand },
    /// `mov.b64 d, {a, b}`: two halves of 32 bits, the low one first.
    Pack { d: Reg, a: Reg, b: Reg },
    /// `mov.b64 {d, e}, a`.
    Unpack { d: Reg, e: Reg, a: Reg },
    /// One operand.
    Unary { op: UnaryOp, ty: Type, flush: bool, d: Reg, a: Operand },
    /// Two operands.
    Binary { op: BinaryOp, ty: Type, flush: bool, d: Reg, a: Operand, b: Operand },
    /// Three operands.
    Ternary { op: TernaryOp, ty: Type, flush: bool, d: Reg, a: Operand, b: Operand, c: Operand },
    /// `setp`.
    Setp { cmp: Cmp, ty: Type, flush: bool, d: Reg, a: Operand, b: Operand },
    /// `selp d, a, b, p`: `a` where `p` holds.
    Selp { ty: Type, d: Reg, a: Operand, b: Operand, p: Reg },
    /// `cvt`. From a float to an integer it saturates; NaN gives 0 if the float is no f64 and the integer has at most
    /// 32 bits, and else the integer's highest bit alone (0x80000000 of f64 to u32). From an integer to a smaller one
    /// it keeps the low bits.
    Cvt { to: Type, from: Type, rounding: Rounding, flush: bool, d: Reg, a: Reg },
    /// `cvt.rn.TO.f32 d, a, b` to f16x2 or bf16x2 (sm_80): `a` becomes the high half, `b` the low one.
    CvtPair { to: Type, d: Reg, a: Reg, b: Reg },
    /// `ld`, of 1, 2 or 4 registers of one width, and at most 16 bytes. 8-bit types load into registers of 16 or 32
    /// bits; f16 and bf16 load as b16.
    Ld { space: Space, cache: Cache, ty: Type, d: Vec<Reg>, address: Address },
    /// `st`, of 1, 2 or 4 operands, as `ld`.
    St { space: Space, cache: Cache, ty: Type, address: Address, a: Vec<Operand> },
    /// `cvta.to.global.u64`.
    ToGlobal { d: Reg, a: Reg },
    /// `bra`.
    Bra { target: Label },
    /// `bar.sync 0`: all threads of the block.
    Bar,
    /// `bar.warp.sync mask`.
    BarWarp { mask: Operand },
    /// `membar.gl`: writes before it are visible to the device before writes after it.
    MembarGl,
    /// `shfl.sync.MODE.b32 d, a, b, c, mask`: `b` is the lane or the distance, `c` the clamp and the mask of segments.
    Shfl { mode: Shuffle, d: Reg, a: Operand, b: Operand, c: Operand, mask: Operand },
    /// `vote.sync`: `d` is a predicate, or a b32 of a ballot.
    Vote { mode: Vote, d: Reg, p: Reg, negate: bool, mask: Operand },
    /// `atom`: `d` is the old value. `c` is the value to store of a compare and swap.
    Atom { op: Atomic, space: Space, ty: Type, d: Reg, address: Address, b: Operand, c: Option<Operand> },
    /// `cp.async.cg.shared.global [d], [a], bytes` of 16 bytes, or `.ca` of 4 or 8 (sm_80). Bytes from `from` on, where
    /// it is given, are zeros.
    CpAsync { bytes: u32, d: Address, a: Address, from: Option<Operand> },
    /// `cp.async.commit_group`.
    CpAsyncCommit,
    /// `cp.async.wait_group n`.
    CpAsyncWait { groups: u32 },
    /// `ldmatrix.sync.aligned.m8n8.xN{.trans}.shared.b16` of 1, 2 or 4 registers (sm_75).
    LdMatrix { transposed: bool, d: Vec<Reg>, address: Address },
    /// `mma.sync.aligned.SHAPE.row.col.f32.TY.TY.f32` (sm_80): `d` and `c` are 4 f32, `a` 4 and `b` 2 b32.
    Mma { shape: MmaShape, ty: Type, d: [Reg; 4], a: [Reg; 4], b: [Reg; 2], c: [Reg; 4] },
    /// `ret`. Not while other threads of the block wait at a barrier.
    Ret,
}

//! Lanes: the IR of the straight-line program of one element.
//!
//! A lane program computes one element ("lane") from scalars: loaded values, indices and constants. This module holds
//! the instructions, the builder (which does value numbering and constant folding), and [`eval`], the semantics of each
//! instruction to the bit. `math` expands `exp`, `tanh`, `threefry` and the like once into polynomials and integer
//! steps over these instructions, so every emitter gives the same bits.
//!
//! **Invariant:** an operand is an earlier instruction. **Invariant:** nothing here depends on the number of lanes of a
//! vector; an emitter maps an instruction to one or a few machine instructions of the width it emits.

mod eval;
pub mod from_op;
// Coefficients are written as their sources have them, and half of a split constant is not a bad approximation of it.
#[allow(clippy::excessive_precision, clippy::approx_constant)]
pub mod math;
mod rare;
pub mod storage;

use hashbrown::HashMap;

pub use eval::{eval, run};
pub use rare::{Double, Rare, Single};

/// An instruction of a [`LaneProgram`], by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u32);

impl LaneId {
    /// The position as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The type of a lane. Signed and unsigned integers share `I32` and `I64`: the instruction has the signedness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LaneType {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 32-bit integer, signed or unsigned.
    I32,
    /// 64-bit integer, signed or unsigned.
    I64,
    /// A bool; in registers a mask.
    Bool,
}

/// One-operand instructions; the result has the type of the operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LaneUnary {
    /// `-x`: flips the sign bit of a float, two's complement of an integer.
    Neg,
    /// `|x|`: clears the sign bit of a float, wrapping absolute value of an integer.
    Abs,
    /// Correctly rounded square root of a float.
    Sqrt,
    /// Rounds a float towards minus infinity.
    Floor,
    /// Rounds a float towards plus infinity.
    Ceil,
    /// Rounds a float towards zero.
    Trunc,
    /// Rounds a float to the nearest integer, ties to even.
    Nearest,
    /// Inverts the bits of an integer, or a bool.
    Not,
}

/// Two-operand instructions on equal types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LaneBinary {
    /// Sum; wraps for integers.
    Add,
    /// Difference; wraps for integers.
    Sub,
    /// Product; wraps for integers.
    Mul,
    /// Quotient of floats.
    Div,
    /// `x < y ? x : y` of floats, to the bit (so a NaN on either side gives `y`), as `minps` does.
    Min,
    /// `y < x ? x : y` of floats, to the bit (so a NaN on either side gives `y`), as `maxps` does.
    Max,
    /// Bitwise and, of integers or bools.
    And,
    /// Bitwise or, of integers or bools.
    Or,
    /// Bitwise exclusive or, of integers or bools.
    Xor,
    /// `x << y`; the shift amount must be below the width (otherwise the result is unspecified).
    Shl,
    /// Logical shift right; the shift amount must be below the width.
    Shr,
    /// Arithmetic shift right; the shift amount must be below the width.
    Sar,
    /// Signed quotient, rounded towards zero; `x / 0 = -1`, `MIN / -1 = MIN` (as XLA has it). Slow.
    SDiv,
    /// Signed remainder with the sign of `x`; `x % 0 = x`, `MIN % -1 = 0`. Slow.
    SRem,
    /// Unsigned quotient; `x / 0 = MAX`. Slow.
    UDiv,
    /// Unsigned remainder; `x % 0 = x`. Slow.
    URem,
    /// Smaller of two signed integers.
    SMin,
    /// Larger of two signed integers.
    SMax,
    /// Smaller of two unsigned integers.
    UMin,
    /// Larger of two unsigned integers.
    UMax,
}

/// Comparisons. With a NaN all are false but `Ne`, which is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LaneCompare {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less (floats, signed integers).
    Lt,
    /// Less or equal (floats, signed integers).
    Le,
    /// Less, unsigned.
    ULt,
    /// Less or equal, unsigned.
    ULe,
}

/// Conversions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LaneConvert {
    /// Widens a float: f32 to f64, exact.
    F32ToF64,
    /// Narrows a float: f64 to f32, nearest even.
    F64ToF32,
    /// Signed i32 to f32, nearest even.
    I32ToF32,
    /// Unsigned u32 to f32, nearest even.
    U32ToF32,
    /// Signed i32 to f64, exact.
    I32ToF64,
    /// Unsigned u32 to f64, exact.
    U32ToF64,
    /// f32 to i32 towards zero, saturating, NaN gives 0.
    F32ToI32,
    /// f32 to u32 towards zero, saturating, NaN gives 0.
    F32ToU32,
    /// f64 to i32 towards zero, saturating, NaN gives 0.
    F64ToI32,
    /// f64 to u32 towards zero, saturating, NaN gives 0.
    F64ToU32,
    /// Signed i64 to f32, nearest even.
    I64ToF32,
    /// Unsigned u64 to f32, nearest even.
    U64ToF32,
    /// Signed i64 to f64, nearest even.
    I64ToF64,
    /// Unsigned u64 to f64, nearest even.
    U64ToF64,
    /// f64 to i64 towards zero, saturating, NaN gives 0.
    F64ToI64,
    /// f64 to u64 towards zero, saturating, NaN gives 0.
    F64ToU64,
    /// Bool to integer 0 or 1.
    BoolToI32,
    /// Zero-extends 32 to 64 bits.
    U32ToI64,
    /// Sign-extends 32 to 64 bits.
    I32ToI64,
    /// Keeps the low 32 bits.
    I64ToI32,
    /// The bits of an f32 as integer.
    F32Bits,
    /// The f32 of an integer's bits.
    F32FromBits,
    /// The bits of an f64 as integer.
    F64Bits,
    /// The f64 of an integer's bits.
    F64FromBits,
}

impl LaneConvert {
    /// The types of the operand and of the result.
    pub fn types(self) -> (LaneType, LaneType) {
        use LaneType::*;
        match self {
            LaneConvert::F32ToF64 => (F32, F64),
            LaneConvert::F64ToF32 => (F64, F32),
            LaneConvert::I32ToF32 | LaneConvert::U32ToF32 | LaneConvert::F32FromBits => (I32, F32),
            LaneConvert::I32ToF64 | LaneConvert::U32ToF64 => (I32, F64),
            LaneConvert::F32ToI32 | LaneConvert::F32ToU32 | LaneConvert::F32Bits => (F32, I32),
            LaneConvert::F64ToI32 | LaneConvert::F64ToU32 => (F64, I32),
            LaneConvert::BoolToI32 => (Bool, I32),
            LaneConvert::U32ToI64 | LaneConvert::I32ToI64 => (I32, I64),
            LaneConvert::I64ToI32 => (I64, I32),
            LaneConvert::I64ToF32 | LaneConvert::U64ToF32 => (I64, F32),
            LaneConvert::F64Bits | LaneConvert::F64ToI64 | LaneConvert::F64ToU64 => (F64, I64),
            LaneConvert::F64FromBits | LaneConvert::I64ToF64 | LaneConvert::U64ToF64 => (I64, F64),
        }
    }
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LaneOp {
    /// A constant: its bits, zero-extended (a bool is 0 or 1).
    Const(u64),
    /// An input of the program, by number: a load, an index, a loop-invariant value. The block defines which.
    Input(u32),
    /// See [`LaneUnary`].
    Unary(LaneUnary, LaneId),
    /// See [`LaneBinary`].
    Binary(LaneBinary, LaneId, LaneId),
    /// `x * y + z` of floats with one rounding.
    Fma(LaneId, LaneId, LaneId),
    /// See [`LaneCompare`].
    Compare(LaneCompare, LaneId, LaneId),
    /// `c ? x : y`.
    Select(LaneId, LaneId, LaneId),
    /// See [`LaneConvert`].
    Convert(LaneConvert, LaneId),
    /// `c ? function(x, y) : z`, of `c, x, y, z`, where `c` is rarely true: the code branches around the function
    /// unless a lane needs it. A function of one operand takes it twice.
    Rare(Rare, [LaneId; 4]),
    /// An element of a table, which is an input by number, that lies so many elements (an i32) behind the place that
    /// the block defines. The offset is such that it is an element of the table.
    Gather(u32, LaneId),
}

impl LaneOp {
    /// The operands, in order.
    pub fn operands(&self) -> smallvec::SmallVec<[LaneId; 4]> {
        match *self {
            LaneOp::Const(_) | LaneOp::Input(_) => smallvec::smallvec![],
            LaneOp::Unary(_, x) | LaneOp::Convert(_, x) | LaneOp::Gather(_, x) => smallvec::smallvec![x],
            LaneOp::Binary(_, x, y) | LaneOp::Compare(_, x, y) => smallvec::smallvec![x, y],
            LaneOp::Fma(x, y, z) | LaneOp::Select(x, y, z) => smallvec::smallvec![x, y, z],
            LaneOp::Rare(_, operands) => operands.into(),
        }
    }

    /// The same instruction on other operands.
    pub fn map(self, mut of: impl FnMut(LaneId) -> LaneId) -> LaneOp {
        match self {
            LaneOp::Const(_) | LaneOp::Input(_) => self,
            LaneOp::Unary(op, x) => LaneOp::Unary(op, of(x)),
            LaneOp::Convert(op, x) => LaneOp::Convert(op, of(x)),
            LaneOp::Binary(op, x, y) => LaneOp::Binary(op, of(x), of(y)),
            LaneOp::Compare(op, x, y) => LaneOp::Compare(op, of(x), of(y)),
            LaneOp::Fma(x, y, z) => LaneOp::Fma(of(x), of(y), of(z)),
            LaneOp::Select(x, y, z) => LaneOp::Select(of(x), of(y), of(z)),
            LaneOp::Rare(function, operands) => LaneOp::Rare(function, operands.map(of)),
            LaneOp::Gather(n, x) => LaneOp::Gather(n, of(x)),
        }
    }
}

/// An instruction and the type of its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LaneInst {
    /// The operation.
    pub op: LaneOp,
    /// The type of the result.
    pub ty: LaneType,
}

/// A straight-line program and its builder, with value numbering and constant folding.
#[derive(Clone, Debug, Default)]
pub struct LaneProgram {
    /// The instructions; operands precede their users.
    pub insts: Vec<LaneInst>,
    known: HashMap<LaneInst, LaneId>,
}

impl LaneProgram {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// The type of a value.
    pub fn ty(&self, x: LaneId) -> LaneType {
        self.insts[x.index()].ty
    }

    /// The bits of `x` if it is a constant.
    pub fn constant(&self, x: LaneId) -> Option<u64> {
        match self.insts[x.index()].op {
            LaneOp::Const(bits) => Some(bits),
            _ => None,
        }
    }

    /// Adds an instruction, or returns an equal one; folds it if its operands are constants.
    pub fn push(&mut self, op: LaneOp, ty: LaneType) -> LaneId {
        let op = self.fold(op, ty);
        let inst = LaneInst { op, ty };
        if let Some(&id) = self.known.get(&inst) {
            return id;
        }
        let id = LaneId(self.insts.len() as u32);
        self.insts.push(inst);
        self.known.insert(inst, id);
        id
    }

    fn fold(&self, op: LaneOp, ty: LaneType) -> LaneOp {
        let operands = op.operands();
        let mut bits = smallvec::SmallVec::<[u64; 4]>::new();
        for &x in &operands {
            match self.constant(x) {
                Some(b) => bits.push(b),
                None => return op,
            }
        }
        if operands.is_empty() || matches!(op, LaneOp::Gather(..)) {
            return op;
        }
        LaneOp::Const(eval(&LaneInst { op, ty }, self.ty(operands[0]), &bits))
    }

    /// An input.
    pub fn input(&mut self, n: u32, ty: LaneType) -> LaneId {
        self.push(LaneOp::Input(n), ty)
    }

    /// A constant by its bits.
    pub fn bits(&mut self, ty: LaneType, bits: u64) -> LaneId {
        self.push(LaneOp::Const(bits), ty)
    }

    /// An f32 constant.
    pub fn f32(&mut self, x: f32) -> LaneId {
        self.bits(LaneType::F32, x.to_bits() as u64)
    }

    /// An f64 constant.
    pub fn f64(&mut self, x: f64) -> LaneId {
        self.bits(LaneType::F64, x.to_bits())
    }

    /// A 32-bit integer constant.
    pub fn i32(&mut self, x: i32) -> LaneId {
        self.bits(LaneType::I32, x as u32 as u64)
    }

    /// An integer constant of the lane type `ty`.
    pub fn int(&mut self, ty: LaneType, x: i32) -> LaneId {
        match ty {
            LaneType::I32 => self.i32(x),
            LaneType::I64 => self.i64(x.into()),
            LaneType::F32 | LaneType::F64 | LaneType::Bool => unreachable!("{ty:?} is no integer"),
        }
    }

    /// A 64-bit integer constant.
    pub fn i64(&mut self, x: i64) -> LaneId {
        self.bits(LaneType::I64, x as u64)
    }

    /// A float constant of `ty` (F32 or F64).
    pub fn float(&mut self, ty: LaneType, x: f64) -> LaneId {
        if ty == LaneType::F64 { self.f64(x) } else { self.f32(x as f32) }
    }

    /// A one-operand instruction.
    pub fn unary(&mut self, op: LaneUnary, x: LaneId) -> LaneId {
        self.push(LaneOp::Unary(op, x), self.ty(x))
    }

    /// A two-operand instruction.
    pub fn binary(&mut self, op: LaneBinary, x: LaneId, y: LaneId) -> LaneId {
        debug_assert_eq!(self.ty(x), self.ty(y));
        self.push(LaneOp::Binary(op, x, y), self.ty(x))
    }

    /// `x * y + z`, one rounding.
    pub fn fma(&mut self, x: LaneId, y: LaneId, z: LaneId) -> LaneId {
        self.push(LaneOp::Fma(x, y, z), self.ty(x))
    }

    /// A comparison.
    pub fn compare(&mut self, op: LaneCompare, x: LaneId, y: LaneId) -> LaneId {
        debug_assert_eq!(self.ty(x), self.ty(y));
        self.push(LaneOp::Compare(op, x, y), LaneType::Bool)
    }

    /// `c ? x : y`.
    pub fn select(&mut self, c: LaneId, x: LaneId, y: LaneId) -> LaneId {
        debug_assert_eq!(self.ty(x), self.ty(y));
        if x == y {
            return x;
        }
        match self.constant(c) {
            Some(0) => y,
            Some(_) => x,
            None => self.push(LaneOp::Select(c, x, y), self.ty(x)),
        }
    }

    /// `c ? function(x, y) : z`, where `c` is rarely true.
    pub fn rare(&mut self, function: Rare, c: LaneId, x: LaneId, y: LaneId, z: LaneId) -> LaneId {
        debug_assert_eq!(self.ty(c), LaneType::Bool);
        self.push(LaneOp::Rare(function, [c, x, y, z]), self.ty(z))
    }

    /// A conversion.
    pub fn convert(&mut self, op: LaneConvert, x: LaneId) -> LaneId {
        debug_assert_eq!(self.ty(x), op.types().0);
        self.push(LaneOp::Convert(op, x), op.types().1)
    }

    /// `x + y`.
    pub fn add(&mut self, x: LaneId, y: LaneId) -> LaneId {
        self.binary(LaneBinary::Add, x, y)
    }

    /// `x - y`.
    pub fn sub(&mut self, x: LaneId, y: LaneId) -> LaneId {
        self.binary(LaneBinary::Sub, x, y)
    }

    /// `x * y`.
    pub fn mul(&mut self, x: LaneId, y: LaneId) -> LaneId {
        self.binary(LaneBinary::Mul, x, y)
    }

    /// `x / y` of floats.
    pub fn div(&mut self, x: LaneId, y: LaneId) -> LaneId {
        self.binary(LaneBinary::Div, x, y)
    }

    /// For each instruction whether all lanes have one value, given the inputs that have.
    pub fn uniform(&self, input: impl Fn(u32) -> bool) -> Vec<bool> {
        let mut uniform: Vec<bool> = Vec::with_capacity(self.insts.len());
        for inst in &self.insts {
            let own = match inst.op {
                LaneOp::Input(n) | LaneOp::Gather(n, _) => input(n),
                _ => true,
            };
            uniform.push(own && inst.op.operands().iter().all(|x| uniform[x.index()]));
        }
        uniform
    }

    /// The instructions that `roots` depend on, as a mask over [`Self::insts`].
    pub fn live(&self, roots: &[LaneId]) -> Vec<bool> {
        let mut live = vec![false; self.insts.len()];
        for &root in roots {
            live[root.index()] = true;
        }
        for i in (0..self.insts.len()).rev() {
            if live[i] {
                for x in self.insts[i].op.operands() {
                    live[x.index()] = true;
                }
            }
        }
        live
    }
}

//! The instructions of one lane.
//!
//! In: an instruction of a lane program and its operands. Out: the operand that holds its result. Results have the bits
//! that [`eval`](crate::lower::lane::eval()) defines, with subnormal f32 flushed to zero as on the other back ends. f64
//! keeps its subnormals: no instruction flushes them.

use super::code::{Code, lane_type};
use super::rare;
use crate::lower::lane::{LaneBinary, LaneCompare, LaneConvert, LaneOp, LaneType, LaneUnary, Rare};
use crate::ptx::inst::{BinaryOp, Cmp, InstOp, Operand, Reg, Rounding, TernaryOp, Type, UnaryOp};

impl Code {
    /// The result of `op`, of type `ty`, on operands the first of which has the type `from`. Constants are operands;
    /// inputs and gathers are not of one lane alone and are emitted elsewhere.
    pub(super) fn lane(&mut self, op: &LaneOp, ty: LaneType, from: LaneType, x: &[Operand]) -> Operand {
        match *op {
            LaneOp::Const(bits) => self.constant(ty, bits),
            LaneOp::Unary(op, _) => self.lane_unary(op, ty, x[0]).into(),
            LaneOp::Binary(op, ..) => self.lane_binary(op, ty, x[0], x[1]).into(),
            LaneOp::Fma(..) => self.ternary(TernaryOp::Fma, lane_type(ty), x[0], x[1], x[2]).into(),
            LaneOp::Compare(op, ..) => self.lane_compare(op, from, x[0], x[1]).into(),
            LaneOp::Select(..) => self.lane_select(ty, x[0], x[1], x[2]).into(),
            LaneOp::Convert(op, _) => self.lane_convert(op, x[0]).into(),
            LaneOp::Rare(function, _) => self.lane_rare(function, ty, x).into(),
            LaneOp::Input(_) | LaneOp::Gather(..) => unreachable!("emitted by the block"),
        }
    }

    fn constant(&mut self, ty: LaneType, bits: u64) -> Operand {
        match ty {
            // A predicate has no constants.
            LaneType::Bool => {
                let zero = self.mov(Type::U32, bits as u32);
                self.setp(Cmp::Ne, Type::U32, zero, 0).into()
            }
            LaneType::F32 | LaneType::I32 => Operand::Imm(bits & u64::from(u32::MAX)),
            LaneType::F64 | LaneType::I64 => Operand::Imm(bits),
        }
    }

    /// The operand in a register.
    pub(super) fn in_register(&mut self, ty: Type, x: Operand) -> Reg {
        match x {
            Operand::Reg(reg) => reg,
            Operand::Imm(_) | Operand::Special(_) | Operand::Shared | Operand::Local => self.mov(ty, x),
        }
    }

    /// The bits of a float, as an integer.
    fn bits(&mut self, ty: LaneType, x: Operand) -> Operand {
        match x {
            Operand::Imm(_) => x,
            _ => self.mov(if ty == LaneType::F64 { Type::B64 } else { Type::B32 }, x).into(),
        }
    }

    /// A float from the result of an integer instruction on its bits.
    fn on_bits(&mut self, op: BinaryOp, ty: LaneType, x: Operand, mask: u64) -> Reg {
        let (float, int) = match ty {
            LaneType::F64 => (Type::F64, Type::B64),
            _ => (Type::F32, Type::B32),
        };
        let bits = self.bits(ty, x);
        let bits = self.binary(op, int, bits, Operand::Imm(mask));
        let d = self.reg(super::code::class(float));
        self.push(InstOp::Mov { ty: int, d, a: bits.into() });
        d
    }

    fn lane_unary(&mut self, op: LaneUnary, ty: LaneType, x: Operand) -> Reg {
        let sign = if ty == LaneType::F64 { 1 << 63 } else { 1 << 31 };
        let round = |code: &mut Code, rounding| {
            let x = code.in_register(lane_type(ty), x);
            code.cvt(lane_type(ty), lane_type(ty), rounding, x)
        };
        let is_float = matches!(ty, LaneType::F32 | LaneType::F64);
        match op {
            LaneUnary::Neg if is_float => self.on_bits(BinaryOp::Xor, ty, x, sign),
            LaneUnary::Abs if is_float => self.on_bits(BinaryOp::And, ty, x, sign - 1),
            LaneUnary::Neg => self.unary(UnaryOp::Neg, signed(ty), x),
            LaneUnary::Abs => self.unary(UnaryOp::Abs, signed(ty), x),
            LaneUnary::Sqrt => self.unary(UnaryOp::Sqrt, lane_type(ty), x),
            LaneUnary::Floor => round(self, Rounding::Rmi),
            LaneUnary::Ceil => round(self, Rounding::Rpi),
            LaneUnary::Trunc => round(self, Rounding::Rzi),
            LaneUnary::Nearest => round(self, Rounding::Rni),
            LaneUnary::Not => self.unary(UnaryOp::Not, lane_type(ty), x),
        }
    }

    fn lane_binary(&mut self, op: LaneBinary, ty: LaneType, x: Operand, y: Operand) -> Reg {
        let float = matches!(ty, LaneType::F32 | LaneType::F64);
        let (s, u, b) = (signed(ty), unsigned(ty), lane_type(ty));
        let arithmetic = if float { b } else { s };
        match op {
            LaneBinary::Add => self.binary(BinaryOp::Add, arithmetic, x, y),
            LaneBinary::Sub => self.binary(BinaryOp::Sub, arithmetic, x, y),
            LaneBinary::Mul => self.binary(BinaryOp::Mul, arithmetic, x, y),
            LaneBinary::Div => self.binary(BinaryOp::Div, b, x, y),
            LaneBinary::Min => {
                let less = self.setp(Cmp::Lt, b, x, y);
                self.selp(b, x, y, less)
            }
            LaneBinary::Max => {
                let greater = self.setp(Cmp::Lt, b, y, x);
                self.selp(b, x, y, greater)
            }
            LaneBinary::And => self.binary(BinaryOp::And, b, x, y),
            LaneBinary::Or => self.binary(BinaryOp::Or, b, x, y),
            LaneBinary::Xor => self.binary(BinaryOp::Xor, b, x, y),
            LaneBinary::Shl | LaneBinary::Shr | LaneBinary::Sar => {
                // The amount is a u32, of 64-bit lanes too.
                let amount = match (ty, y) {
                    (LaneType::I64, Operand::Reg(y)) => self.cvt(Type::U32, Type::U64, Rounding::None, y).into(),
                    (_, y) => y,
                };
                match op {
                    LaneBinary::Shl => self.binary(BinaryOp::Shl, b, x, amount),
                    LaneBinary::Shr => self.binary(BinaryOp::Shr, u, x, amount),
                    _ => self.binary(BinaryOp::Shr, s, x, amount),
                }
            }
            LaneBinary::SDiv | LaneBinary::SRem | LaneBinary::UDiv | LaneBinary::URem => self.divide(op, ty, x, y),
            LaneBinary::SMin => self.binary(BinaryOp::Min, s, x, y),
            LaneBinary::SMax => self.binary(BinaryOp::Max, s, x, y),
            LaneBinary::UMin => self.binary(BinaryOp::Min, u, x, y),
            LaneBinary::UMax => self.binary(BinaryOp::Max, u, x, y),
        }
    }

    /// Quotients and remainders of integers. PTX does not say what a division by 0 or the overflow of MIN / -1 gives:
    /// the divisor is then 1.
    fn divide(&mut self, op: LaneBinary, ty: LaneType, x: Operand, y: Operand) -> Reg {
        let (s, u, b) = (signed(ty), unsigned(ty), lane_type(ty));
        let ones = if ty == LaneType::I64 { u64::MAX } else { u64::from(u32::MAX) };
        let min = ones ^ (ones >> 1);
        let is_zero = self.setp(Cmp::Eq, b, y, Operand::Imm(0));
        let mut divisor = self.selp(b, Operand::Imm(1), y, is_zero);
        if matches!(op, LaneBinary::SDiv | LaneBinary::SRem) {
            let (is_min, is_minus_one) =
                (self.setp(Cmp::Eq, b, x, Operand::Imm(min)), self.setp(Cmp::Eq, b, y, Operand::Imm(ones)));
            let overflows = self.binary(BinaryOp::And, Type::Pred, is_min, is_minus_one);
            divisor = self.selp(b, Operand::Imm(1), divisor, overflows);
        }
        match op {
            LaneBinary::SDiv => {
                let quotient = self.binary(BinaryOp::Div, s, x, divisor);
                self.selp(b, Operand::Imm(ones), quotient, is_zero)
            }
            LaneBinary::UDiv => {
                let quotient = self.binary(BinaryOp::Div, u, x, divisor);
                self.selp(b, Operand::Imm(ones), quotient, is_zero)
            }
            LaneBinary::SRem => {
                let rest = self.binary(BinaryOp::Rem, s, x, divisor);
                self.selp(b, x, rest, is_zero)
            }
            _ => {
                let rest = self.binary(BinaryOp::Rem, u, x, divisor);
                self.selp(b, x, rest, is_zero)
            }
        }
    }

    fn lane_compare(&mut self, op: LaneCompare, ty: LaneType, x: Operand, y: Operand) -> Reg {
        if ty == LaneType::Bool {
            let differ = self.binary(BinaryOp::Xor, Type::Pred, x, y);
            return match op {
                LaneCompare::Ne => differ,
                LaneCompare::Eq => self.unary(UnaryOp::Not, Type::Pred, differ),
                LaneCompare::Lt | LaneCompare::ULt => self.binary(BinaryOp::And, Type::Pred, differ, y),
                LaneCompare::Le | LaneCompare::ULe => {
                    let greater = self.binary(BinaryOp::And, Type::Pred, differ, x);
                    self.unary(UnaryOp::Not, Type::Pred, greater)
                }
            };
        }
        let float = matches!(ty, LaneType::F32 | LaneType::F64);
        let (s, u) = if float { (lane_type(ty), lane_type(ty)) } else { (signed(ty), unsigned(ty)) };
        match op {
            LaneCompare::Eq => self.setp(Cmp::Eq, s, x, y),
            LaneCompare::Ne => self.setp(if float { Cmp::Neu } else { Cmp::Ne }, s, x, y),
            LaneCompare::Lt => self.setp(Cmp::Lt, s, x, y),
            LaneCompare::Le => self.setp(Cmp::Le, s, x, y),
            LaneCompare::ULt => self.setp(Cmp::Lt, u, x, y),
            LaneCompare::ULe => self.setp(Cmp::Le, u, x, y),
        }
    }

    fn lane_select(&mut self, ty: LaneType, c: Operand, x: Operand, y: Operand) -> Reg {
        let c = self.in_register(Type::Pred, c);
        if ty != LaneType::Bool {
            return self.selp(lane_type(ty), x, y, c);
        }
        let not = self.unary(UnaryOp::Not, Type::Pred, c);
        let first = self.binary(BinaryOp::And, Type::Pred, c, x);
        let second = self.binary(BinaryOp::And, Type::Pred, not, y);
        self.binary(BinaryOp::Or, Type::Pred, first, second)
    }

    fn lane_convert(&mut self, op: LaneConvert, x: Operand) -> Reg {
        use Type::{F32, F64, S32, S64, U32, U64};
        let (from, to) = op.types();
        if op == LaneConvert::BoolToI32 {
            let p = self.in_register(Type::Pred, x);
            return self.selp(Type::B32, 1, 0, p);
        }
        let reg = self.in_register(lane_type(from), x);
        let mut cvt = |to, from, rounding| self.cvt(to, from, rounding, reg);
        match op {
            LaneConvert::F32ToF64 => cvt(F64, F32, Rounding::None),
            LaneConvert::F64ToF32 => cvt(F32, F64, Rounding::Rn),
            LaneConvert::I32ToF32 => cvt(F32, S32, Rounding::Rn),
            LaneConvert::U32ToF32 => cvt(F32, U32, Rounding::Rn),
            LaneConvert::I32ToF64 => cvt(F64, S32, Rounding::Rn),
            LaneConvert::U32ToF64 => cvt(F64, U32, Rounding::Rn),
            LaneConvert::F32ToI32 => cvt(S32, F32, Rounding::Rzi),
            LaneConvert::F32ToU32 => cvt(U32, F32, Rounding::Rzi),
            LaneConvert::F64ToI32 | LaneConvert::F64ToU32 | LaneConvert::F64ToI64 | LaneConvert::F64ToU64 => {
                let (to, bits) = match op {
                    LaneConvert::F64ToI32 => (S32, Type::B32),
                    LaneConvert::F64ToU32 => (U32, Type::B32),
                    LaneConvert::F64ToI64 => (S64, Type::B64),
                    _ => (U64, Type::B64),
                };
                let x = cvt(to, F64, Rounding::Rzi);
                // Of an f64, NaN is not 0.
                let is_nan = self.setp(Cmp::Nan, F64, reg, reg);
                self.selp(bits, Operand::Imm(0), x, is_nan)
            }
            LaneConvert::I64ToF32 => cvt(F32, S64, Rounding::Rn),
            LaneConvert::U64ToF32 => cvt(F32, U64, Rounding::Rn),
            LaneConvert::I64ToF64 => cvt(F64, S64, Rounding::Rn),
            LaneConvert::U64ToF64 => cvt(F64, U64, Rounding::Rn),
            LaneConvert::U32ToI64 => cvt(U64, U32, Rounding::None),
            LaneConvert::I32ToI64 => cvt(S64, S32, Rounding::None),
            LaneConvert::I64ToI32 => cvt(U32, U64, Rounding::None),
            LaneConvert::F32Bits | LaneConvert::F32FromBits | LaneConvert::F64Bits | LaneConvert::F64FromBits => {
                let ty = if matches!(to, LaneType::F32 | LaneType::I32) { Type::B32 } else { Type::B64 };
                let d = self.reg(super::code::class(lane_type(to)));
                self.push(InstOp::Mov { ty, d, a: reg.into() });
                d
            }
            LaneConvert::BoolToI32 => unreachable!("handled above"),
        }
    }

    /// `c ? function(x, y) : z`, with a branch around the function.
    fn lane_rare(&mut self, function: Rare, ty: LaneType, operands: &[Operand]) -> Reg {
        let [c, x, y, z] = [operands[0], operands[1], operands[2], operands[3]];
        let b = lane_type(ty);
        let result = self.mov(b, z);
        let c = self.in_register(Type::Pred, c);
        let (x, y) = (self.in_register(b, x), self.in_register(b, y));
        let end = self.label();
        self.branch_if(c, false, end);
        let value = rare::emit(self, function, ty, x, y);
        self.mov_to(result, b, value);
        self.place(end);
        result
    }
}

fn signed(ty: LaneType) -> Type {
    if ty == LaneType::I64 { Type::S64 } else { Type::S32 }
}

fn unsigned(ty: LaneType) -> Type {
    if ty == LaneType::I64 { Type::U64 } else { Type::U32 }
}

//! Lane programs to CLIF instructions.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{
    AbiParam, BlockArg, ExtFuncData, ExternalName, InstBuilder, Signature, UserExternalName, Value, types,
};
use smallvec::SmallVec;

use super::{ClifEmitter, LANES, lane_type, little, scalar_type};
use crate::cpu::symbol::Symbol;
use crate::lower::lane::{
    LaneBinary, LaneCompare, LaneConvert, LaneId, LaneOp, LaneProgram, LaneType, LaneUnary, Rare,
};

/// Supplies the value of an input, by number; for a gather, given its offset.
type InputFn<'f, E> = dyn FnMut(&mut E, u32, Option<(LaneId, Value)>) -> Value + 'f;

impl ClifEmitter<'_, '_> {
    /// Emits the instructions of a program that are live for `roots`. `input` supplies the values of its inputs, and of
    /// gathers, for an offset.
    pub(super) fn program(
        &mut self,
        program: &LaneProgram,
        roots: &[LaneId],
        width: usize,
        input: &mut InputFn<'_, Self>,
    ) -> Vec<Value> {
        let live = program.live(roots);
        let mut values: Vec<Option<Value>> = vec![None; program.insts.len()];
        for (i, inst) in program.insts.iter().enumerate() {
            if !live[i] {
                continue;
            }
            let get = |x: LaneId| values[x.index()].expect("operands come earlier and are live");
            let value = match inst.op {
                LaneOp::Const(bits) => self.constant(inst.ty, bits, width),
                LaneOp::Input(n) => input(self, n, None),
                LaneOp::Gather(n, x) => input(self, n, Some((x, get(x)))),
                LaneOp::Unary(op, x) => self.unary(op, inst.ty, get(x), width),
                LaneOp::Binary(op, x, y) => self.binary(op, inst.ty, get(x), get(y), program.constant(y), width),
                LaneOp::Fma(x, y, z) => self.builder.ins().fma(get(x), get(y), get(z)),
                LaneOp::Compare(op, x, y) => self.compare(op, program.ty(x), get(x), get(y)),
                LaneOp::Select(c, x, y) => self.select(inst.ty, get(c), get(x), get(y), width),
                LaneOp::Convert(op, x) => self.convert(op, get(x), width),
                LaneOp::Rare(function, operands) => self.rare(function, inst.ty, operands.map(get), width),
            };
            values[i] = Some(value);
        }
        roots.iter().map(|x| values[x.index()].expect("a root is live")).collect()
    }

    /// `c ? function(x, y) : z`. Calls the function for each lane in a cold block, which runs if `c` is true in any
    /// lane.
    fn rare(&mut self, function: Rare, ty: LaneType, [c, x, y, z]: [Value; 4], width: usize) -> Value {
        let (cold, exit) = (self.builder.create_block(), self.builder.create_block());
        let result = self.builder.append_block_param(exit, lane_type(ty, width));
        let any = if width == 1 { c } else { self.builder.ins().vany_true(c) };
        self.builder.ins().brif(any, cold, &[], exit, &[BlockArg::Value(z)]);
        self.builder.set_cold_block(cold);
        self.builder.switch_to_block(cold);
        let lane = scalar_type(ty);
        let mut signature = Signature::new(self.builder.func.signature.call_conv);
        signature.params.extend([AbiParam::new(lane); 2]);
        signature.returns.push(AbiParam::new(lane));
        let signature = self.builder.import_signature(signature);
        let index = Symbol::Rare(function, ty).id().as_u32();
        let name = self.builder.func.declare_imported_user_function(UserExternalName { namespace: 0, index });
        let data = ExtFuncData { name: ExternalName::user(name), signature, colocated: false, patchable: false };
        let callee = self.builder.import_function(data);
        let call = |e: &mut Self, x: Value, y: Value| {
            let call = e.builder.ins().call(callee, &[x, y]);
            e.builder.inst_results(call)[0]
        };
        let called = self.each_lane(x, y, ty, width, call);
        let chosen = self.select(ty, c, called, z, width);
        self.builder.ins().jump(exit, &[BlockArg::Value(chosen)]);
        self.builder.switch_to_block(exit);
        result
    }

    fn unary(&mut self, op: LaneUnary, ty: LaneType, x: Value, width: usize) -> Value {
        let float = matches!(ty, LaneType::F32 | LaneType::F64);
        let ins = self.builder.ins();
        match op {
            LaneUnary::Neg if float => ins.fneg(x),
            LaneUnary::Neg => ins.ineg(x),
            LaneUnary::Abs if float => ins.fabs(x),
            LaneUnary::Abs => ins.iabs(x),
            LaneUnary::Sqrt => ins.sqrt(x),
            LaneUnary::Floor => ins.floor(x),
            LaneUnary::Ceil => ins.ceil(x),
            LaneUnary::Trunc => ins.trunc(x),
            LaneUnary::Nearest => ins.nearest(x),
            LaneUnary::Not if ty == LaneType::Bool && width == 1 => ins.bxor_imm_u(x, 1),
            LaneUnary::Not => ins.bnot(x),
        }
    }

    fn binary(
        &mut self,
        op: LaneBinary,
        ty: LaneType,
        x: Value,
        y: Value,
        constant: Option<u64>,
        width: usize,
    ) -> Value {
        let float = matches!(ty, LaneType::F32 | LaneType::F64);
        match op {
            LaneBinary::Add if float => self.builder.ins().fadd(x, y),
            LaneBinary::Add => self.builder.ins().iadd(x, y),
            LaneBinary::Sub if float => self.builder.ins().fsub(x, y),
            LaneBinary::Sub => self.builder.ins().isub(x, y),
            LaneBinary::Mul if float => self.builder.ins().fmul(x, y),
            LaneBinary::Mul => self.builder.ins().imul(x, y),
            LaneBinary::Div => self.builder.ins().fdiv(x, y),
            // With this order of operands, Cranelift selects minps and maxps.
            LaneBinary::Min => {
                let less = self.builder.ins().fcmp(FloatCC::LessThan, x, y);
                self.select(ty, less, x, y, width)
            }
            LaneBinary::Max => {
                let less = self.builder.ins().fcmp(FloatCC::LessThan, y, x);
                self.select(ty, less, x, y, width)
            }
            LaneBinary::And => self.builder.ins().band(x, y),
            LaneBinary::Or => self.builder.ins().bor(x, y),
            LaneBinary::Xor => self.builder.ins().bxor(x, y),
            LaneBinary::Shl | LaneBinary::Shr | LaneBinary::Sar => match constant {
                Some(amount) => {
                    let amount = self.builder.ins().iconst(types::I32, amount as i64);
                    self.shift(op, x, amount)
                }
                None => self.each_lane(x, y, ty, width, |e, x, y| e.shift(op, x, y)),
            },
            LaneBinary::SDiv | LaneBinary::SRem | LaneBinary::UDiv | LaneBinary::URem => {
                self.each_lane(x, y, ty, width, |e, x, y| e.divide(op, ty, x, y, constant))
            }
            LaneBinary::SMin => self.min_max(IntCC::SignedLessThan, ty, x, y, width),
            LaneBinary::SMax => self.min_max(IntCC::SignedGreaterThan, ty, x, y, width),
            LaneBinary::UMin => self.min_max(IntCC::UnsignedLessThan, ty, x, y, width),
            LaneBinary::UMax => self.min_max(IntCC::UnsignedGreaterThan, ty, x, y, width),
        }
    }

    fn shift(&mut self, op: LaneBinary, x: Value, amount: Value) -> Value {
        match op {
            LaneBinary::Shl => self.builder.ins().ishl(x, amount),
            LaneBinary::Shr => self.builder.ins().ushr(x, amount),
            _ => self.builder.ins().sshr(x, amount),
        }
    }

    fn min_max(&mut self, cc: IntCC, ty: LaneType, x: Value, y: Value, width: usize) -> Value {
        let first = self.builder.ins().icmp(cc, x, y);
        self.select(ty, first, x, y, width)
    }

    /// Integer division with XLA's semantics. It never traps.
    fn divide(&mut self, op: LaneBinary, ty: LaneType, x: Value, y: Value, constant: Option<u64>) -> Value {
        let signed = matches!(op, LaneBinary::SDiv | LaneBinary::SRem);
        let (scalar, ones) = if ty == LaneType::I64 { (types::I64, u64::MAX) } else { (types::I32, u32::MAX.into()) };
        let ins = self.builder.ins();
        if constant.is_some_and(|y| y != 0 && (!signed || y != ones)) {
            // Division by such a constant cannot trap; Cranelift turns it into a multiplication.
            return match op {
                LaneBinary::SDiv => ins.sdiv(x, y),
                LaneBinary::SRem => ins.srem(x, y),
                LaneBinary::UDiv => ins.udiv(x, y),
                _ => ins.urem(x, y),
            };
        }
        let one = self.builder.ins().iconst(scalar, 1);
        let zero = self.builder.ins().iconst(scalar, 0);
        let by_zero = self.builder.ins().icmp(IntCC::Equal, y, zero);
        let all = self.builder.ins().iconst(scalar, ones as i64);
        // The machine traps on MIN / -1. Instead x / -1 = -x (wrapping) and x % -1 = x % 1 = 0.
        let by_minus_one = self.builder.ins().icmp(IntCC::Equal, y, all);
        let mut unsafe_divisor = by_zero;
        if signed {
            unsafe_divisor = self.builder.ins().bor(by_zero, by_minus_one);
        }
        let divisor = self.builder.ins().select(unsafe_divisor, one, y);
        match op {
            LaneBinary::SDiv => {
                let quotient = self.builder.ins().sdiv(x, divisor);
                let negated = self.builder.ins().ineg(x);
                let quotient = self.builder.ins().select(by_minus_one, negated, quotient);
                self.builder.ins().select(by_zero, all, quotient)
            }
            LaneBinary::SRem => {
                let rest = self.builder.ins().srem(x, divisor);
                self.builder.ins().select(by_zero, x, rest)
            }
            LaneBinary::UDiv => {
                let quotient = self.builder.ins().udiv(x, divisor);
                self.builder.ins().select(by_zero, all, quotient)
            }
            _ => {
                let rest = self.builder.ins().urem(x, divisor);
                self.builder.ins().select(by_zero, x, rest)
            }
        }
    }

    /// Applies a binary operation that CLIF has for scalars only to each lane.
    fn each_lane(
        &mut self,
        x: Value,
        y: Value,
        ty: LaneType,
        width: usize,
        f: impl Fn(&mut Self, Value, Value) -> Value,
    ) -> Value {
        if width == 1 {
            return f(self, x, y);
        }
        let lanes: SmallVec<[Value; LANES]> = (0..width as u8)
            .map(|lane| {
                let x = self.builder.ins().extractlane(x, lane);
                let y = self.builder.ins().extractlane(y, lane);
                f(self, x, y)
            })
            .collect();
        self.build_vector(&lanes, ty)
    }

    fn compare(&mut self, op: LaneCompare, ty: LaneType, x: Value, y: Value) -> Value {
        let float = matches!(ty, LaneType::F32 | LaneType::F64);
        let (float_cc, int_cc) = match op {
            LaneCompare::Eq => (FloatCC::Equal, IntCC::Equal),
            LaneCompare::Ne => (FloatCC::NotEqual, IntCC::NotEqual),
            LaneCompare::Lt => (FloatCC::LessThan, IntCC::SignedLessThan),
            LaneCompare::Le => (FloatCC::LessThanOrEqual, IntCC::SignedLessThanOrEqual),
            LaneCompare::ULt => (FloatCC::LessThan, IntCC::UnsignedLessThan),
            LaneCompare::ULe => (FloatCC::LessThanOrEqual, IntCC::UnsignedLessThanOrEqual),
        };
        if float { self.builder.ins().fcmp(float_cc, x, y) } else { self.builder.ins().icmp(int_cc, x, y) }
    }

    fn select(&mut self, ty: LaneType, c: Value, x: Value, y: Value, width: usize) -> Value {
        if width == 1 {
            return self.builder.ins().select(c, x, y);
        }
        let mask = match ty {
            LaneType::F32 => self.builder.ins().bitcast(types::F32X4, little(), c),
            LaneType::I32 | LaneType::Bool | LaneType::F64 | LaneType::I64 => c,
        };
        self.builder.ins().bitselect(mask, x, y)
    }

    fn convert(&mut self, op: LaneConvert, x: Value, width: usize) -> Value {
        let vector = width > 1;
        let f32s = lane_type(LaneType::F32, width);
        let i32s = lane_type(LaneType::I32, width);
        match op {
            LaneConvert::F32ToF64 => self.builder.ins().fpromote(types::F64, x),
            LaneConvert::F64ToF32 => self.builder.ins().fdemote(types::F32, x),
            LaneConvert::I32ToF32 => self.builder.ins().fcvt_from_sint(f32s, x),
            LaneConvert::U32ToF32 => self.builder.ins().fcvt_from_uint(f32s, x),
            LaneConvert::I32ToF64 => self.builder.ins().fcvt_from_sint(types::F64, x),
            LaneConvert::U32ToF64 => self.builder.ins().fcvt_from_uint(types::F64, x),
            LaneConvert::F32ToI32 => self.builder.ins().fcvt_to_sint_sat(i32s, x),
            LaneConvert::F32ToU32 => self.builder.ins().fcvt_to_uint_sat(i32s, x),
            LaneConvert::F64ToI32 => self.builder.ins().fcvt_to_sint_sat(types::I32, x),
            LaneConvert::F64ToU32 => self.builder.ins().fcvt_to_uint_sat(types::I32, x),
            LaneConvert::I64ToF32 => self.builder.ins().fcvt_from_sint(types::F32, x),
            LaneConvert::U64ToF32 => self.builder.ins().fcvt_from_uint(types::F32, x),
            LaneConvert::I64ToF64 => self.builder.ins().fcvt_from_sint(types::F64, x),
            LaneConvert::U64ToF64 => self.builder.ins().fcvt_from_uint(types::F64, x),
            LaneConvert::F64ToI64 => self.builder.ins().fcvt_to_sint_sat(types::I64, x),
            LaneConvert::F64ToU64 => self.builder.ins().fcvt_to_uint_sat(types::I64, x),
            LaneConvert::BoolToI32 if vector => self.builder.ins().ineg(x),
            LaneConvert::BoolToI32 => self.builder.ins().uextend(types::I32, x),
            LaneConvert::U32ToI64 => self.builder.ins().uextend(types::I64, x),
            LaneConvert::I32ToI64 => self.builder.ins().sextend(types::I64, x),
            LaneConvert::I64ToI32 => self.builder.ins().ireduce(types::I32, x),
            LaneConvert::F32Bits => self.builder.ins().bitcast(i32s, little(), x),
            LaneConvert::F32FromBits => self.builder.ins().bitcast(f32s, little(), x),
            LaneConvert::F64Bits => self.builder.ins().bitcast(types::I64, little(), x),
            LaneConvert::F64FromBits => self.builder.ins().bitcast(types::F64, little(), x),
        }
    }
}

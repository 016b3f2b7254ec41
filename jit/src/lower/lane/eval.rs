//! The semantics of each instruction, to the bit.
//!
//! In: an instruction, the type of its first operand, the bits of its operands. Out: the bits of its result. The
//! builder folds constants with it, and the tests compare every emitter with it. Values of fewer than 64 bits are
//! zero-extended.
//!
//! Not specified: the payload of a NaN that arithmetic produces (machines differ), and shifts by the width or more.

use super::{LaneBinary, LaneCompare, LaneConvert, LaneId, LaneInst, LaneOp, LaneProgram, LaneType, LaneUnary};

/// The result of `inst` on operands with these bits. `operand_ty` is the type of the first operand.
///
/// # Panics
/// If the instruction is not defined on that type, and on [`LaneOp::Input`] and [`LaneOp::Gather`], which have no value
/// here.
pub fn eval(inst: &LaneInst, operand_ty: LaneType, bits: &[u64]) -> u64 {
    match inst.op {
        LaneOp::Const(value) => value,
        LaneOp::Input(n) | LaneOp::Gather(n, _) => panic!("input {n} has no value of its own"),
        LaneOp::Unary(op, _) => unary(op, operand_ty, bits[0]),
        LaneOp::Binary(op, _, _) => binary(op, operand_ty, bits[0], bits[1]),
        LaneOp::Fma(..) => match operand_ty {
            LaneType::F32 => of_f32(f32_of(bits[0]).mul_add(f32_of(bits[1]), f32_of(bits[2]))),
            LaneType::F64 => of_f64(f64_of(bits[0]).mul_add(f64_of(bits[1]), f64_of(bits[2]))),
            LaneType::I32 | LaneType::I64 | LaneType::Bool => undefined("Fma", operand_ty),
        },
        LaneOp::Compare(op, _, _) => compare(op, operand_ty, bits[0], bits[1]) as u64,
        LaneOp::Select(..) => {
            if bits[0] != 0 {
                bits[1]
            } else {
                bits[2]
            }
        }
        LaneOp::Convert(op, _) => convert(op, bits[0]),
        LaneOp::Rare(function, _) if bits[0] != 0 => function.bits(inst.ty, bits[1], bits[2]),
        LaneOp::Rare(..) => bits[3],
    }
}

/// Interprets `program` on `inputs` (by number) and returns the bits of `outputs`.
pub fn run(program: &LaneProgram, inputs: &[u64], outputs: &[LaneId]) -> Vec<u64> {
    let mut values: Vec<u64> = Vec::with_capacity(program.insts.len());
    for inst in &program.insts {
        let value = if let LaneOp::Input(n) = inst.op {
            inputs[n as usize]
        } else {
            let operands = inst.op.operands();
            let mut bits = [0; 4];
            for (bits, x) in bits.iter_mut().zip(&operands) {
                *bits = values[x.index()];
            }
            let operand_ty = operands.first().map_or(inst.ty, |&x| program.ty(x));
            eval(inst, operand_ty, &bits[..operands.len()])
        };
        values.push(value);
    }
    outputs.iter().map(|x| values[x.index()]).collect()
}

fn unary(op: LaneUnary, ty: LaneType, x: u64) -> u64 {
    match ty {
        LaneType::F32 => match op {
            // Sign operations act on the bits, so they treat NaN as any other value.
            LaneUnary::Neg => x ^ 0x8000_0000,
            LaneUnary::Abs => x & 0x7fff_ffff,
            LaneUnary::Sqrt => of_f32(f32_of(x).sqrt()),
            LaneUnary::Floor => of_f32(f32_of(x).floor()),
            LaneUnary::Ceil => of_f32(f32_of(x).ceil()),
            LaneUnary::Trunc => of_f32(f32_of(x).trunc()),
            LaneUnary::Nearest => of_f32(f32_of(x).round_ties_even()),
            LaneUnary::Not => undefined("Not", ty),
        },
        LaneType::F64 => match op {
            LaneUnary::Neg => x ^ (1 << 63),
            LaneUnary::Abs => x & !(1 << 63),
            LaneUnary::Sqrt => of_f64(f64_of(x).sqrt()),
            LaneUnary::Floor => of_f64(f64_of(x).floor()),
            LaneUnary::Ceil => of_f64(f64_of(x).ceil()),
            LaneUnary::Trunc => of_f64(f64_of(x).trunc()),
            LaneUnary::Nearest => of_f64(f64_of(x).round_ties_even()),
            LaneUnary::Not => undefined("Not", ty),
        },
        LaneType::I32 => match op {
            LaneUnary::Neg => of_i32((x as i32).wrapping_neg()),
            LaneUnary::Abs => of_i32((x as i32).wrapping_abs()),
            LaneUnary::Not => of_u32(!(x as u32)),
            LaneUnary::Sqrt | LaneUnary::Floor | LaneUnary::Ceil | LaneUnary::Trunc | LaneUnary::Nearest => {
                undefined("rounding or Sqrt", ty)
            }
        },
        LaneType::I64 => match op {
            LaneUnary::Neg => (x as i64).wrapping_neg() as u64,
            LaneUnary::Abs => (x as i64).wrapping_abs() as u64,
            LaneUnary::Not => !x,
            LaneUnary::Sqrt | LaneUnary::Floor | LaneUnary::Ceil | LaneUnary::Trunc | LaneUnary::Nearest => {
                undefined("rounding or Sqrt", ty)
            }
        },
        LaneType::Bool => match op {
            LaneUnary::Not => x ^ 1,
            LaneUnary::Neg
            | LaneUnary::Abs
            | LaneUnary::Sqrt
            | LaneUnary::Floor
            | LaneUnary::Ceil
            | LaneUnary::Trunc
            | LaneUnary::Nearest => undefined("arithmetic", ty),
        },
    }
}

fn binary(op: LaneBinary, ty: LaneType, x: u64, y: u64) -> u64 {
    match ty {
        LaneType::F32 => {
            let (a, b) = (f32_of(x), f32_of(y));
            match op {
                LaneBinary::Add => of_f32(a + b),
                LaneBinary::Sub => of_f32(a - b),
                LaneBinary::Mul => of_f32(a * b),
                LaneBinary::Div => of_f32(a / b),
                LaneBinary::Min => if_else(a < b, x, y),
                LaneBinary::Max => if_else(b < a, x, y),
                LaneBinary::And
                | LaneBinary::Or
                | LaneBinary::Xor
                | LaneBinary::Shl
                | LaneBinary::Shr
                | LaneBinary::Sar
                | LaneBinary::SDiv
                | LaneBinary::SRem
                | LaneBinary::UDiv
                | LaneBinary::URem
                | LaneBinary::SMin
                | LaneBinary::SMax
                | LaneBinary::UMin
                | LaneBinary::UMax => undefined("an integer operation", ty),
            }
        }
        LaneType::F64 => {
            let (a, b) = (f64_of(x), f64_of(y));
            match op {
                LaneBinary::Add => of_f64(a + b),
                LaneBinary::Sub => of_f64(a - b),
                LaneBinary::Mul => of_f64(a * b),
                LaneBinary::Div => of_f64(a / b),
                LaneBinary::Min => if_else(a < b, x, y),
                LaneBinary::Max => if_else(b < a, x, y),
                LaneBinary::And
                | LaneBinary::Or
                | LaneBinary::Xor
                | LaneBinary::Shl
                | LaneBinary::Shr
                | LaneBinary::Sar
                | LaneBinary::SDiv
                | LaneBinary::SRem
                | LaneBinary::UDiv
                | LaneBinary::URem
                | LaneBinary::SMin
                | LaneBinary::SMax
                | LaneBinary::UMin
                | LaneBinary::UMax => undefined("an integer operation", ty),
            }
        }
        LaneType::I32 => {
            let (a, b) = (x as u32, y as u32);
            let (sa, sb) = (a as i32, b as i32);
            match op {
                LaneBinary::Add => of_u32(a.wrapping_add(b)),
                LaneBinary::Sub => of_u32(a.wrapping_sub(b)),
                LaneBinary::Mul => of_u32(a.wrapping_mul(b)),
                LaneBinary::And => of_u32(a & b),
                LaneBinary::Or => of_u32(a | b),
                LaneBinary::Xor => of_u32(a ^ b),
                LaneBinary::Shl => of_u32(a.wrapping_shl(b)),
                LaneBinary::Shr => of_u32(a.wrapping_shr(b)),
                LaneBinary::Sar => of_i32(sa.wrapping_shr(b)),
                LaneBinary::SDiv => of_i32(if sb == 0 { -1 } else { sa.wrapping_div(sb) }),
                LaneBinary::SRem => of_i32(if sb == 0 { sa } else { sa.wrapping_rem(sb) }),
                LaneBinary::UDiv => of_u32(a.checked_div(b).unwrap_or(u32::MAX)),
                LaneBinary::URem => of_u32(a.checked_rem(b).unwrap_or(a)),
                LaneBinary::SMin => of_i32(sa.min(sb)),
                LaneBinary::SMax => of_i32(sa.max(sb)),
                LaneBinary::UMin => of_u32(a.min(b)),
                LaneBinary::UMax => of_u32(a.max(b)),
                LaneBinary::Div | LaneBinary::Min | LaneBinary::Max => undefined("a float operation", ty),
            }
        }
        LaneType::I64 => {
            let (a, b) = (x as i64, y as i64);
            match op {
                LaneBinary::Add => x.wrapping_add(y),
                LaneBinary::Sub => x.wrapping_sub(y),
                LaneBinary::Mul => x.wrapping_mul(y),
                LaneBinary::And => x & y,
                LaneBinary::Or => x | y,
                LaneBinary::Xor => x ^ y,
                LaneBinary::Shl => x.wrapping_shl(y as u32),
                LaneBinary::Shr => x.wrapping_shr(y as u32),
                LaneBinary::Sar => a.wrapping_shr(y as u32) as u64,
                LaneBinary::SDiv => (if b == 0 { -1 } else { a.wrapping_div(b) }) as u64,
                LaneBinary::SRem => (if b == 0 { a } else { a.wrapping_rem(b) }) as u64,
                LaneBinary::UDiv => x.checked_div(y).unwrap_or(u64::MAX),
                LaneBinary::URem => x.checked_rem(y).unwrap_or(x),
                LaneBinary::SMin => a.min(b) as u64,
                LaneBinary::SMax => a.max(b) as u64,
                LaneBinary::UMin => x.min(y),
                LaneBinary::UMax => x.max(y),
                LaneBinary::Div | LaneBinary::Min | LaneBinary::Max => undefined("a float operation", ty),
            }
        }
        LaneType::Bool => match op {
            LaneBinary::And => x & y,
            LaneBinary::Or => x | y,
            LaneBinary::Xor => x ^ y,
            LaneBinary::Add
            | LaneBinary::Sub
            | LaneBinary::Mul
            | LaneBinary::Div
            | LaneBinary::Min
            | LaneBinary::Max
            | LaneBinary::Shl
            | LaneBinary::Shr
            | LaneBinary::Sar
            | LaneBinary::SDiv
            | LaneBinary::SRem
            | LaneBinary::UDiv
            | LaneBinary::URem
            | LaneBinary::SMin
            | LaneBinary::SMax
            | LaneBinary::UMin
            | LaneBinary::UMax => undefined("arithmetic", ty),
        },
    }
}

fn compare(op: LaneCompare, ty: LaneType, x: u64, y: u64) -> bool {
    match ty {
        LaneType::F32 | LaneType::F64 => {
            // The conversion to f64 is exact, so it keeps the order.
            let (a, b) =
                if ty == LaneType::F32 { (f32_of(x) as f64, f32_of(y) as f64) } else { (f64_of(x), f64_of(y)) };
            match op {
                LaneCompare::Eq => a == b,
                LaneCompare::Ne => a != b,
                LaneCompare::Lt => a < b,
                LaneCompare::Le => a <= b,
                LaneCompare::ULt | LaneCompare::ULe => undefined("an unsigned comparison", ty),
            }
        }
        LaneType::I32 | LaneType::I64 | LaneType::Bool => {
            let (a, b) = if ty == LaneType::I32 { (x as i32 as i64, y as i32 as i64) } else { (x as i64, y as i64) };
            match op {
                LaneCompare::Eq => x == y,
                LaneCompare::Ne => x != y,
                LaneCompare::Lt => a < b,
                LaneCompare::Le => a <= b,
                LaneCompare::ULt => x < y,
                LaneCompare::ULe => x <= y,
            }
        }
    }
}

fn convert(op: LaneConvert, x: u64) -> u64 {
    // The float-to-integer `as` of Rust rounds towards zero, saturates, and maps NaN to 0, as these instructions do.
    match op {
        LaneConvert::F32ToF64 => of_f64(f32_of(x) as f64),
        LaneConvert::F64ToF32 => of_f32(f64_of(x) as f32),
        LaneConvert::I32ToF32 => of_f32(x as i32 as f32),
        LaneConvert::U32ToF32 => of_f32(x as u32 as f32),
        LaneConvert::I32ToF64 => of_f64(x as i32 as f64),
        LaneConvert::U32ToF64 => of_f64(x as u32 as f64),
        LaneConvert::F32ToI32 => of_i32(f32_of(x) as i32),
        LaneConvert::F32ToU32 => of_u32(f32_of(x) as u32),
        LaneConvert::F64ToI32 => of_i32(f64_of(x) as i32),
        LaneConvert::F64ToU32 => of_u32(f64_of(x) as u32),
        LaneConvert::I64ToF32 => of_f32(x as i64 as f32),
        LaneConvert::U64ToF32 => of_f32(x as f32),
        LaneConvert::I64ToF64 => of_f64(x as i64 as f64),
        LaneConvert::U64ToF64 => of_f64(x as f64),
        LaneConvert::F64ToI64 => f64_of(x) as i64 as u64,
        LaneConvert::F64ToU64 => f64_of(x) as u64,
        LaneConvert::I32ToI64 => x as i32 as i64 as u64,
        LaneConvert::U32ToI64 | LaneConvert::I64ToI32 => x as u32 as u64,
        LaneConvert::BoolToI32
        | LaneConvert::F32Bits
        | LaneConvert::F32FromBits
        | LaneConvert::F64Bits
        | LaneConvert::F64FromBits => x,
    }
}

fn if_else(condition: bool, x: u64, y: u64) -> u64 {
    if condition { x } else { y }
}

fn f32_of(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn f64_of(bits: u64) -> f64 {
    f64::from_bits(bits)
}

fn of_f32(x: f32) -> u64 {
    x.to_bits() as u64
}

fn of_f64(x: f64) -> u64 {
    x.to_bits()
}

fn of_u32(x: u32) -> u64 {
    x as u64
}

fn of_i32(x: i32) -> u64 {
    x as u32 as u64
}

fn undefined(what: &str, ty: LaneType) -> ! {
    panic!("{what} is not defined on {ty:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(op: LaneBinary, ty: LaneType, x: u64, y: u64) -> u64 {
        let inst = LaneInst { op: LaneOp::Binary(op, LaneId(0), LaneId(1)), ty };
        eval(&inst, ty, &[x, y])
    }

    #[test]
    fn divisions_are_total() {
        use LaneBinary::*;
        let minus_one = 0xffff_ffff;
        let min = 0x8000_0000;
        for (op, x, y, expected) in [
            (SDiv, 7, 0, minus_one),
            (SDiv, min, minus_one, min),
            (SDiv, 7, 0xffff_fffe, 0xffff_fffd),
            (SRem, 7, 0, 7),
            (SRem, min, minus_one, 0),
            (SRem, 0xffff_fff9, 2, minus_one),
            (UDiv, 7, 0, minus_one),
            (UDiv, min, 2, 0x4000_0000),
            (URem, 7, 0, 7),
            (SMin, minus_one, 1, minus_one),
            (UMin, minus_one, 1, 1),
            (Sar, min, 31, minus_one),
            (Shr, min, 31, 1),
            (Sub, 0, 1, minus_one),
            (Mul, min, 2, 0),
        ] {
            assert_eq!(of(op, LaneType::I32, x, y), expected, "{op:?} {x:#x} {y:#x}");
        }
        assert_eq!(of(SDiv, LaneType::I64, i64::MIN as u64, u64::MAX), i64::MIN as u64);
        assert_eq!(of(SRem, LaneType::I64, i64::MIN as u64, u64::MAX), 0);
        assert_eq!(of(UDiv, LaneType::I64, 1, 0), u64::MAX);
    }

    #[test]
    fn extrema_give_the_second_of_an_unordered_pair() {
        let [zero, minus_zero, one, nan] = [0.0f32, -0.0, 1.0, f32::NAN].map(of_f32);
        for op in [LaneBinary::Min, LaneBinary::Max] {
            assert_eq!(of(op, LaneType::F32, nan, one), one);
            assert_eq!(of(op, LaneType::F32, one, nan), nan);
            assert_eq!(of(op, LaneType::F32, zero, minus_zero), minus_zero);
            assert_eq!(of(op, LaneType::F32, minus_zero, zero), zero);
        }
    }

    #[test]
    fn conversions_saturate() {
        for (op, x, expected) in [
            (LaneConvert::F32ToI32, of_f32(f32::NAN), 0),
            (LaneConvert::F32ToI32, of_f32(-1.9), 0xffff_ffff),
            (LaneConvert::F32ToI32, of_f32(3e9), 0x7fff_ffff),
            (LaneConvert::F32ToU32, of_f32(-1.0), 0),
            (LaneConvert::F64ToU32, of_f64(1e10), 0xffff_ffff),
            (LaneConvert::U32ToF32, 0xffff_ffff, of_f32(4294967296.0)),
            (LaneConvert::I32ToF64, 0xffff_ffff, of_f64(-1.0)),
            (LaneConvert::I32ToI64, 0xffff_ffff, u64::MAX),
            (LaneConvert::U32ToI64, 0xffff_ffff, 0xffff_ffff),
            (LaneConvert::I64ToI32, u64::MAX, 0xffff_ffff),
        ] {
            assert_eq!(convert(op, x), expected, "{op:?}");
        }
        assert_eq!(unary(LaneUnary::Nearest, LaneType::F32, of_f32(2.5)), of_f32(2.0));
        assert_eq!(unary(LaneUnary::Neg, LaneType::F32, of_f32(0.0)), of_f32(-0.0));
    }
}

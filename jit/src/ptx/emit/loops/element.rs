//! One element: its instructions, its accesses, and how it is added to an accumulator.

use smallvec::{SmallVec, smallvec};

use super::super::code::{Code, class, lane_type, loaded};
use crate::fuse::PARTIALS;
use crate::graph::ReduceOp;
use crate::lower::lane::{LaneId, LaneInst, LaneOp, LaneProgram, LaneType, from_op, storage};
use crate::ptx::inst::{Address, Cache, Cmp, InstOp, Operand, Reg, RegClass, Shuffle, Space, Type};
use crate::types::DType;

/// The value of a lane in each of the rows that a thread takes; one if it is the same in all.
pub(super) type Value = SmallVec<[Operand; 4]>;

/// The value of an instruction from those of its operands.
pub(super) fn apply(code: &mut Code, program: &LaneProgram, inst: &LaneInst, values: &[Value]) -> Value {
    let operands = inst.op.operands();
    let count = operands.iter().map(|x| values[x.index()].len()).max().unwrap_or(1);
    let from = operands.first().map_or(inst.ty, |&x| program.ty(x));
    let one = |n: usize| {
        let of = |x: &LaneId| values[x.index()][if values[x.index()].len() > 1 { n } else { 0 }];
        let x: SmallVec<[Operand; 4]> = operands.iter().map(of).collect();
        code.lane(&inst.op, inst.ty, from, &x)
    };
    (0..count).map(one).collect()
}

/// `x` accumulated into `old`, both of the type that `dtype` accumulates in.
pub(super) fn accumulate(code: &mut Code, op: ReduceOp, dtype: DType, old: Operand, x: Operand) -> Operand {
    let ty = LaneType::of(storage::accumulator(dtype));
    let mut program = LaneProgram::new();
    let (a, b) = (program.input(0, ty), program.input(1, ty));
    let result = from_op::accumulate(&mut program, op, dtype, a, b);
    let live = program.live(&[result]);
    let mut values: Vec<Value> = vec![Value::new(); program.insts.len()];
    for (i, inst) in program.insts.iter().enumerate().filter(|(i, _)| live[*i]) {
        values[i] = match inst.op {
            LaneOp::Input(n) => smallvec![[old, x][n as usize]],
            _ => apply(code, &program, inst, &values),
        };
    }
    values[result.index()][0]
}

/// The value `x` of another lane of the same half warp.
pub(super) fn shuffle(code: &mut Code, ty: LaneType, mode: Shuffle, x: Reg, lane: u32, mask: Operand) -> Reg {
    // Segments of 16 lanes.
    let c = Operand::Imm(((32 - PARTIALS as u64) << 8) | 0x1f);
    let one = |code: &mut Code, x: Reg| {
        let d = code.reg(RegClass::B32);
        code.push(InstOp::Shfl { mode, d, a: x.into(), b: lane.into(), c, mask });
        d
    };
    let bits = |code: &mut Code, x: Reg, ty: Type, to: RegClass| {
        let d = code.reg(to);
        code.push(InstOp::Mov { ty, d, a: x.into() });
        d
    };
    match ty {
        LaneType::I32 => one(code, x),
        LaneType::F32 => {
            let word = bits(code, x, Type::B32, RegClass::B32);
            let word = one(code, word);
            bits(code, word, Type::B32, RegClass::F32)
        }
        LaneType::F64 | LaneType::I64 => {
            let (low, high) = (code.reg(RegClass::B32), code.reg(RegClass::B32));
            let word = bits(code, x, Type::B64, RegClass::B64);
            code.push(InstOp::Unpack { d: low, e: high, a: word });
            let (low, high) = (one(code, low), one(code, high));
            let d = code.reg(RegClass::B64);
            code.push(InstOp::Pack { d, a: low, b: high });
            bits(code, d, Type::B64, class(lane_type(ty)))
        }
        LaneType::Bool => unreachable!("a bool accumulates as an integer"),
    }
}

/// The type of an element in memory.
pub(super) fn memory_type(dtype: DType) -> Type {
    match storage::Storage::of(dtype) {
        storage::Storage::Byte | storage::Storage::Low(1) => Type::U8,
        storage::Storage::Low(_) => Type::U16,
        storage::Storage::Lane => lane_type(LaneType::of(dtype)),
    }
}

/// Loads adjacent elements.
pub(super) fn load(code: &mut Code, space: Space, dtype: DType, address: Address, count: usize) -> Value {
    let ty = memory_type(dtype);
    let d: Vec<Reg> = (0..count).map(|_| code.reg(loaded(ty))).collect();
    code.push(InstOp::Ld { space, cache: Cache::Default, ty, d: d.clone(), address });
    let lane = |x: Reg| match storage::Storage::of(dtype) {
        storage::Storage::Byte => code.setp(Cmp::Ne, Type::U32, x, 0).into(),
        storage::Storage::Lane | storage::Storage::Low(_) => x.into(),
    };
    d.into_iter().map(lane).collect()
}

/// Stores adjacent elements, where `guard` holds if it is given.
pub(super) fn store(
    code: &mut Code,
    space: Space,
    dtype: DType,
    address: Address,
    values: &[Operand],
    guard: Option<Reg>,
) {
    let ty = memory_type(dtype);
    let element = |&x: &Operand| match storage::Storage::of(dtype) {
        storage::Storage::Byte => {
            let p = code.in_register(Type::Pred, x);
            code.selp(Type::B32, 1, 0, p).into()
        }
        // A vector of constants is not allowed.
        storage::Storage::Lane => code.in_register(ty, x).into(),
        storage::Storage::Low(_) => code.in_register(Type::B32, x).into(),
    };
    let a: Vec<Operand> = values.iter().map(element).collect();
    guarded(code, guard, InstOp::St { space, cache: Cache::Default, ty, address, a });
}

/// Loads a word, where `guard` holds if it is given.
pub(super) fn load_word(code: &mut Code, space: Space, ty: Type, address: Address, guard: Option<Reg>) -> Reg {
    let d = code.reg(class(ty));
    guarded(code, guard, InstOp::Ld { space, cache: Cache::Default, ty, d: vec![d], address });
    d
}

/// Stores a word in shared memory, where `guard` holds if it is given.
pub(super) fn store_word(code: &mut Code, ty: Type, address: Address, x: Reg, guard: Option<Reg>) {
    let op = InstOp::St { space: Space::Shared, cache: Cache::Default, ty, address, a: vec![x.into()] };
    guarded(code, guard, op);
}

fn guarded(code: &mut Code, guard: Option<Reg>, op: InstOp) {
    match guard {
        Some(p) => code.push_if((p, true), op),
        None => code.push(op),
    }
}

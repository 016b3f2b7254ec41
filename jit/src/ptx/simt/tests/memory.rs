//! Loads, stores, atomics and asynchronous copies, and what is counted of them.

use super::*;

#[test]
fn addresses_are_aligned_and_apart() {
    let mut memory = Memory::new();
    let (a, b) = (memory.alloc(&[1, 2, 3]), memory.alloc_unwritten(5));
    assert!(a % 256 == 0 && b % 256 == 0 && b >= a + 3 + 256);
    let mut bytes = [0; 2];
    memory.read(a + 1, &mut bytes).unwrap();
    assert_eq!(bytes, [2, 3]);
    assert_eq!(
        memory.read(a + 2, &mut bytes).unwrap_err().to_string(),
        format!("read of 2 bytes at {:#x}: not inside of one allocation", a + 2)
    );
    assert!(!memory.is_written(b, 1));
    memory.write(b, &[7]).unwrap();
    assert!(memory.is_written(b, 1) && !memory.is_written(b, 2));
    assert!(memory.write(b + 5, &[7]).is_err());
    memory.free(a);
    assert!(memory.read(a, &mut bytes).is_err());
}

#[test]
fn small_loads_extend() {
    let cases = [
        (Type::U8, r(1), 0xff),
        (Type::S8, r(1), 0xffff_ffff),
        (Type::B8, r(1), 0xff),
        (Type::S8, h(1), 0xffff),
        (Type::U8, h(1), 0xff),
        (Type::U16, r(1), 0x80ff),
        (Type::S16, r(1), 0xffff_80ff),
        (Type::S16, rd(5), 0xffff_80ff),
        (Type::B16, h(1), 0x80ff),
        (Type::B32, f(1), 0x1234_80ff),
        (Type::F32, f(1), 0x1234_80ff),
        (Type::S32, rd(5), 0x1234_80ff),
    ];
    for (ty, d, expected) in cases {
        let mut k = Kernel::new(2);
        k.op(ld(Space::Global, ty, d, at(rd(1))));
        match d.class {
            RegClass::B16 => k.op(st(Space::Global, Type::U16, at(rd(0)), d)),
            RegClass::B64 => k.op(st(Space::Global, Type::U32, at(rd(0)), d)),
            _ => k.op(st(Space::Global, Type::B32, at(rd(0)), d)),
        };
        let mut memory = Memory::new();
        let (out, data) = (memory.alloc(&[0; 4]), memory.alloc(&0x1234_80ff_u32.to_le_bytes()));
        k.launch(&mut memory, (1, 1), &[out, data]).unwrap();
        assert_eq!(u32s(&memory, out, 1), [expected], "{ty:?} {d:?}");
    }
}

#[test]
fn parameters_extend() {
    for (ty, value, expected) in [(Type::S8, 0xff, 0xffff_ffff), (Type::U8, 0xff, 0xff), (Type::U32, 9, 9)] {
        let mut k = Kernel::new(1);
        k.entry.params.push(ty);
        k.op(ld(Space::Param, ty, r(0), Address::Param(1))).op(st(Space::Global, Type::U32, at(rd(0)), r(0)));
        let mut memory = Memory::new();
        let out = memory.alloc_unwritten(4);
        k.launch(&mut memory, (1, 1), &[out, value]).unwrap();
        assert_eq!(u32s(&memory, out, 1), [expected]);
    }
}

#[test]
fn vectors_move_together() {
    let mut k = Kernel::new(2);
    k.op(element(rd(2), TID, 16, rd(0))).op(element(rd(3), TID, 16, rd(1)));
    k.op(InstOp::Ld {
        space: Space::Global,
        cache: Cache::NonCoherent,
        ty: Type::F32,
        d: vec![f(0), f(1), f(2), f(3)],
        address: at(rd(3)),
    })
    .op(InstOp::St {
        space: Space::Global,
        cache: Cache::Default,
        ty: Type::F32,
        address: at(rd(2)),
        a: vec![f(3).into(), imm(7), f(1).into(), f(0).into()],
    });
    let mut memory = Memory::new();
    let data: Vec<u32> = (0..128).collect();
    let (out, input) = (memory.alloc_unwritten(512), memory.alloc(&bytes_of(&data)));
    let counts = k.launch(&mut memory, (1, 32), &[out, input]).unwrap();
    let expected: Vec<u32> = (0..32).flat_map(|i| [4 * i + 3, 7, 4 * i + 1, 4 * i]).collect();
    assert_eq!(u32s(&memory, out, 128), expected);
    assert_eq!((counts.load_sectors, counts.store_sectors), (16, 16));
    assert_eq!((counts.load_bytes, counts.store_bytes), (512, 512));
    assert_eq!((counts.global_loads, counts.global_stores), (1, 1));
    assert_eq!((counts.instructions, counts.thread_instructions), (7, 7 * 32));
}

#[test]
fn sectors_and_banks_are_counted() {
    for (stride, sectors, conflicts) in [(4, 4, 0), (8, 8, 1), (128, 32, 31), (0, 1, 0), (132, 32, 0)] {
        let mut k = Kernel::new(2).shared(32 * 132 + 4);
        k.op(InstOp::Binary { op: BinaryOp::Mul, ty: Type::U32, flush: false, d: r(1), a: TID, b: imm(stride) })
            .op(mov(Type::U32, r(3), Operand::Shared))
            .op(binary(BinaryOp::Add, Type::U32, r(1), r(1), r(3)))
            .op(element(rd(2), TID, stride, rd(1)))
            .op(ld(Space::Global, Type::U32, r(0), at(rd(2))));
        if stride > 0 {
            k.op(st(Space::Shared, Type::U32, at(r(1)), r(0)));
        }
        let mut memory = Memory::new();
        let (out, input) = (memory.alloc(&[0; 4]), memory.alloc(&[0; 32 * 132]));
        let counts = k.launch(&mut memory, (1, 32), &[out, input]).unwrap();
        assert_eq!((counts.load_sectors, counts.bank_conflicts), (sectors, conflicts), "{stride}");
    }
}

#[test]
fn local_memory_is_of_a_thread() {
    let mut k = Kernel::new(1);
    k.entry.local = 16;
    k.op(mov(Type::U32, r(0), TID))
        .op(st(Space::Local, Type::U32, Address::Local(8), r(0)))
        .op(mov(Type::U64, rd(2), Operand::Local))
        .op(ld(Space::Local, Type::U32, r(1), Address::Reg(rd(2), 8)))
        .op(element(rd(1), TID, 4, rd(0)))
        .op(st(Space::Global, Type::U32, at(rd(1)), r(1)));
    assert_eq!(k.u32s((1, 70)), (0..70).collect::<Vec<u32>>());
    let mut k = Kernel::new(0);
    k.entry.local = 16;
    k.op(ld(Space::Local, Type::U32, r(1), Address::Local(0)));
    assert!(k.error((1, 1)).contains("(ld.local.u32): it reads the byte at 0x1000000, which was never written"));
}

/// A sum of the numbers of 256 threads by shared memory.
pub(super) fn block_sum(without_barrier: Option<u32>) -> Kernel {
    let mut k = Kernel::new(1).shared(1024);
    k.op(mov(Type::U32, r(0), Operand::Shared))
        .op(InstOp::Ternary {
            op: TernaryOp::Mad,
            ty: Type::U32,
            flush: false,
            d: r(1),
            a: TID,
            b: imm(4),
            c: r(0).into(),
        })
        .op(mov(Type::U32, r(2), TID))
        .op(st(Space::Shared, Type::U32, at(r(1)), r(2)))
        .op(InstOp::Bar);
    for (i, half) in [128, 64, 32, 16, 8, 4, 2, 1].into_iter().enumerate() {
        k.op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(half)))
            .when(p(0), true, ld(Space::Shared, Type::U32, r(3), Address::Reg(r(1), 4 * half as i32)))
            .when(p(0), true, ld(Space::Shared, Type::U32, r(4), at(r(1))))
            .when(p(0), true, binary(BinaryOp::Add, Type::U32, r(3), r(3), r(4)))
            .when(p(0), true, st(Space::Shared, Type::U32, at(r(1)), r(3)));
        if without_barrier != Some(i as u32) {
            k.op(InstOp::Bar);
        }
    }
    k.op(ld(Space::Shared, Type::U32, r(0), Address::Shared(0)))
        .op(InstOp::Ternary {
            op: TernaryOp::Mad,
            ty: Type::U32,
            flush: false,
            d: r(5),
            a: Operand::Special(Special::Ctaid),
            b: Operand::Special(Special::Ntid),
            c: TID,
        })
        .op(element(rd(1), r(5), 4, rd(0)))
        .op(st(Space::Global, Type::U32, at(rd(1)), r(0)));
    k
}

#[test]
fn sum_of_a_block() {
    let k = block_sum(None);
    assert_eq!(k.u32s((3, 256)), [255 * 128; 768]);
    for seed in 0..4 {
        let mut memory = Memory::new();
        let out = memory.alloc_unwritten(3 * 1024);
        let options = Options { order: Some(seed), interleave: Some(seed), ..Options::default() };
        let counts = k.launch_with(&mut memory, (3, 256), &[out], &options).unwrap();
        assert_eq!(u32s(&memory, out, 768), [255 * 128; 768]);
        assert_eq!(counts.barriers, 3 * 8 * 9);
    }
}

fn atom(op: Atomic, space: Space, ty: Type, d: Reg, address: Address, b: impl Into<Operand>) -> InstOp {
    InstOp::Atom { op, space, ty, d, address, b: b.into(), c: None }
}

#[test]
fn atomics_of_all_threads() {
    for (op, ty, start, expected) in [
        (Atomic::Add, Type::U32, 5, 5 + 64 * 63 / 2 * 2),
        (Atomic::Max, Type::S32, 0xffff_ffff, 63),
        (Atomic::Max, Type::U32, 0xffff_fff0, 0xffff_fff0),
        (Atomic::Min, Type::S32, 0xffff_ffff, 0xffff_ffff),
        (Atomic::Min, Type::U32, 0xffff_ffff, 0),
        (Atomic::And, Type::B32, 0xff, 0),
        (Atomic::Or, Type::B32, 0x100, 0x13f),
        (Atomic::Xor, Type::B32, 9, 9),
    ] {
        for space in [Space::Global, Space::Shared] {
            let mut k = Kernel::new(1).shared(4);
            k.op(mov(Type::U32, r(0), TID)).op(ld(Space::Global, Type::U32, r(1), at(rd(0))));
            if space == Space::Shared {
                k.op(setp(Cmp::Eq, Type::U32, p(0), TID, imm(0)))
                    .when(p(0), true, st(Space::Shared, Type::U32, Address::Shared(0), r(1)))
                    .op(InstOp::Bar)
                    .op(atom(op, space, ty, r(2), Address::Shared(0), r(0)))
                    .op(atom(op, space, ty, r(2), Address::Shared(0), r(0)))
                    .op(InstOp::Bar)
                    .when(p(0), true, ld(Space::Shared, Type::U32, r(1), Address::Shared(0)))
                    .when(p(0), true, st(Space::Global, Type::U32, at(rd(0)), r(1)));
            } else {
                k.op(InstOp::Bar).op(atom(op, space, ty, r(2), at(rd(0)), r(0))).op(atom(
                    op,
                    space,
                    ty,
                    r(2),
                    at(rd(0)),
                    r(0),
                ));
            }
            let mut memory = Memory::new();
            let out = memory.alloc(&bytes_of(&[start]));
            k.launch(&mut memory, (1, 64), &[out]).unwrap();
            assert_eq!(u32s(&memory, out, 1), [expected], "{op:?} {space:?}");
        }
    }
}

#[test]
fn swaps_and_floats() {
    let mut k = Kernel::new(1);
    k.op(InstOp::Atom {
        op: Atomic::Cas,
        space: Space::Global,
        ty: Type::B32,
        d: r(0),
        address: at(rd(0)),
        b: imm(1),
        c: Some(imm(9)),
    })
    .op(atom(Atomic::Exch, Space::Global, Type::B32, r(1), at(rd(0)), imm(4)))
    .op(st(Space::Global, Type::U32, Address::Reg(rd(0), 4), r(0)))
    .op(st(Space::Global, Type::U32, Address::Reg(rd(0), 8), r(1)))
    .op(mov(Type::F32, f(0), imm(u64::from(0.5_f32.to_bits()))))
    .op(atom(Atomic::Add, Space::Global, Type::F32, f(1), Address::Reg(rd(0), 12), f(0)))
    .op(mov(Type::F32, f(0), imm(1)))
    .op(atom(Atomic::Add, Space::Global, Type::F32, f(1), Address::Reg(rd(0), 16), f(0)));
    let mut memory = Memory::new();
    let out = memory.alloc(&bytes_of(&[1, 0, 0, 1_f32.to_bits(), 0]));
    k.launch(&mut memory, (1, 1), &[out]).unwrap();
    assert_eq!(u32s(&memory, out, 5), [4, 1, 9, 1.5_f32.to_bits(), 0]);
}

/// Two groups of copies; the kernel waits for all but `groups`, then reads what the copy of `read` brings.
pub(super) fn copies(groups: u32, read: i32, barrier: bool) -> Kernel {
    let mut k = Kernel::new(2).shared(1024);
    let copy = |to, from, kept| InstOp::CpAsync {
        bytes: 16,
        d: Address::Reg(r(1), to),
        a: Address::Reg(rd(3), from),
        from: kept,
    };
    k.op(mov(Type::U32, r(0), Operand::Shared))
        .op(InstOp::Ternary {
            op: TernaryOp::Mad,
            ty: Type::U32,
            flush: false,
            d: r(1),
            a: TID,
            b: imm(16),
            c: r(0).into(),
        })
        .op(element(rd(2), TID, 4, rd(0)))
        .op(element(rd(3), TID, 16, rd(1)))
        .op(copy(0, 0, None))
        .op(InstOp::CpAsyncCommit)
        .op(copy(512, 512, Some(imm(8))))
        .op(InstOp::CpAsyncCommit)
        .op(InstOp::CpAsyncWait { groups });
    if barrier {
        // Each thread reads what its neighbour copied.
        k.op(InstOp::Bar).op(binary(BinaryOp::Xor, Type::B32, r(1), r(1), imm(16)));
    }
    k.op(ld(Space::Shared, Type::U32, r(2), Address::Reg(r(1), read))).op(st(
        Space::Global,
        Type::U32,
        at(rd(2)),
        r(2),
    ));
    k
}

#[test]
fn copies_arrive_when_they_are_waited_for() {
    let input: Vec<u32> = (0..256).collect();
    let run = |groups, read, barrier| {
        let mut memory = Memory::new();
        let (out, data) = (memory.alloc_unwritten(128), memory.alloc(&bytes_of(&input)));
        let counts = copies(groups, read, barrier).launch(&mut memory, (1, 32), &[out, data])?;
        assert_eq!((counts.load_bytes, counts.global_loads), (32 * 24, 2));
        Result::Ok(u32s(&memory, out, 32))
    };
    let map = |f: fn(u32) -> u32| (0..32).map(f).collect::<Vec<u32>>();
    assert_eq!(run(1, 4, false).unwrap(), map(|l| 4 * l + 1));
    assert_eq!(run(1, 4, true).unwrap(), map(|l| 4 * (l ^ 1) + 1));
    assert_eq!(run(0, 512 + 4, false).unwrap(), map(|l| 128 + 4 * l + 1));
    assert_eq!(run(0, 512 + 8, false).unwrap(), [0; 32]);
    let error = run(1, 512, false).unwrap_err().to_string();
    assert!(error.contains("it accesses the byte at 0x600 before a cp.async that writes it was waited for"), "{error}");
    let error = run(2, 0, false).unwrap_err().to_string();
    assert!(error.contains("it accesses the byte at 0x400 before a cp.async"), "{error}");
}

//! Everything else that is an error, with its message.

use super::*;

fn message(make: impl Fn(&mut Kernel)) -> String {
    let mut k = Kernel::new(1).shared(64);
    make(&mut k);
    k.error((1, 32))
}

#[test]
fn outside_of_memory() {
    let error = message(|k| {
        k.op(ld(Space::Global, Type::U32, r(0), Address::Reg(rd(0), 4096)));
    });
    assert!(error.starts_with("kernel k, block 0, thread 0, instruction 1 (ld.global.u32): 4 bytes at 0x7f00000"));
    assert!(error.ends_with("are not inside of an allocation of global memory"));
    let error = message(|k| {
        k.op(st(Space::Global, Type::U32, Address::Reg(rd(0), -4), imm(0)));
    });
    assert!(error.contains("are not inside of"));
    let error = message(|k| {
        k.op(element(rd(1), TID, 4, imm(0x400))).op(ld(Space::Shared, Type::U32, r(0), at(rd(1))));
    });
    assert!(error.contains("thread 0") && error.contains("which was never written"), "{error}");
    let error = message(|k| {
        k.op(element(rd(1), TID, 4, imm(0x400))).op(st(Space::Shared, Type::U32, at(rd(1)), imm(0)));
    });
    assert!(error.contains("thread 16, instruction 2 (st.shared.u32): 4 bytes at 0x440 are not inside of shared"));
    let error = message(|k| {
        k.op(ld(Space::Shared, Type::U32, r(0), Address::Shared(-4)));
    });
    assert!(error.contains("4 bytes at 0x3fc are not inside of shared memory"));
}

#[test]
fn misaligned() {
    let error = message(|k| {
        k.op(ld(Space::Global, Type::U32, r(0), Address::Reg(rd(0), 2)));
    });
    assert!(error.ends_with("is not a multiple of 4"));
    let error = message(|k| {
        let d = vec![r(0), r(1)];
        let address = Address::Reg(rd(0), 4);
        k.op(InstOp::Ld { space: Space::Global, cache: Cache::Default, ty: Type::U32, d, address });
    });
    assert!(error.ends_with("is not a multiple of 8"));
}

#[test]
fn without_a_value() {
    let mut k = Kernel::new(1);
    k.op(ld(Space::Global, Type::U32, r(0), at(rd(0))));
    let mut memory = Memory::new();
    let x = memory.alloc_unwritten(4);
    memory.write(x, &[1, 2]).unwrap();
    let error = k.launch(&mut memory, (1, 1), &[x]).unwrap_err().to_string();
    assert!(error.ends_with(&format!("it reads the byte at {:#x}, which was never written", x + 2)), "{error}");
    let error = message(|k| {
        k.op(binary(BinaryOp::Add, Type::U32, r(1), r(2), imm(1)));
    });
    assert_eq!(error, "kernel k, block 0, thread 0, instruction 1 (add.u32): it reads %r2, which has no value");
    let error = message(|k| {
        k.op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(5))).when(p(0), true, mov(Type::F32, f(3), imm(0))).op(unary(
            UnaryOp::Neg,
            Type::F32,
            f(4),
            f(3),
        ));
    });
    assert!(error.contains("thread 5, instruction 3 (neg.f32): it reads %f3, which has no value"));
    let error = message(|k| {
        k.when(p(7), true, InstOp::Ret);
    });
    assert!(error.contains("instruction 1 (ret): it reads %p7, which has no value"));
}

#[test]
fn divisions_that_ptx_leaves_open() {
    let error = message(|k| {
        k.op(binary(BinaryOp::Rem, Type::U32, r(0), imm(7), TID));
    });
    assert!(error.contains("thread 0, instruction 1 (rem.u32): integer division by zero"));
    let error = message(|k| {
        k.op(binary(BinaryOp::Div, Type::S32, r(0), imm(0x8000_0000), imm(0xffff_ffff)));
    });
    assert!(error.contains("the least integer divided by -1"));
    let error = message(|k| {
        k.op(setp(Cmp::Eq, Type::U32, p(0), TID, imm(0)))
            .when(p(0), false, binary(BinaryOp::Div, Type::U32, r(0), imm(7), TID))
            .op(InstOp::Bra { target: Label(9) });
    });
    assert!(error.contains("instruction 3 (bra): there is no label L9"));
}

#[test]
fn divergent_barriers() {
    let error = message(|k| {
        k.op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(4))).when(p(0), true, InstOp::Bar);
    });
    assert!(
        error.contains(
            "thread 4, instruction 3 (the end): divergent barrier: it ends, and of its warp 4 threads from 0 on wait"
        ),
        "{error}"
    );
    let error = message(|k| {
        k.op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(4)))
            .bra_when(p(0), true, 0)
            .op(InstOp::Bar)
            .bra(1)
            .label(0)
            .op(InstOp::Bar)
            .label(1);
    });
    assert!(error.contains("thread 0, instruction 6 (bar.sync): divergent barrier"), "{error}");
    assert!(error.contains("of its warp, 28 threads from 4 on wait at that of instruction 3"), "{error}");
    let error = message(|k| {
        k.op(setp(Cmp::Eq, Type::U32, p(0), TID, imm(31))).when(p(0), true, InstOp::Ret).op(InstOp::Bar);
    });
    assert!(
        error.contains("instruction 3 (bar.sync): divergent barrier: of its warp, thread 31 cannot come"),
        "{error}"
    );
    let mut k = Kernel::new(0);
    k.op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(32))).when(p(0), true, InstOp::Ret).op(InstOp::Bar);
    let error = k.error((1, 64));
    assert!(
        error.contains(
            "thread 32, instruction 2 (bar.sync): divergent barrier: it cannot complete, as 32 threads from 0 on ended"
        ),
        "{error}"
    );
    runs_without_waiting();
}

/// Threads of which none waits may end.
fn runs_without_waiting() {
    let mut k = Kernel::new(0);
    k.op(InstOp::Bar).op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(7))).when(p(0), true, InstOp::Ret).op(InstOp::Ret);
    k.launch(&mut Memory::new(), (2, 64), &[]).unwrap();
}

#[test]
fn nothing_hangs() {
    let mut k = Kernel::new(0);
    k.label(0).bra(0);
    let options = Options { limit: 1000, ..Options::default() };
    for interleave in [None, Some(1)] {
        let options = Options { interleave, ..options };
        let error = k.launch_with(&mut Memory::new(), (1, 64), &[], &options).unwrap_err().to_string();
        assert!(error.ends_with("instruction 1 (bra): more than 1000 instructions were run"), "{error}");
    }
}

#[test]
fn launches_that_do_not_fit() {
    let k = Kernel::new(1);
    let error = |block, params: &[u64]| k.launch(&mut Memory::new(), (1, block), params).unwrap_err().to_string();
    assert_eq!(error(1025, &[0]), "kernel k: a block of 1025 threads; it has 1 to 1024");
    assert_eq!(error(0, &[0]), "kernel k: a block of 0 threads; it has 1 to 1024");
    assert_eq!(error(1, &[]), "kernel k: 0 parameters are given; it has 1");
    let mut k = Kernel::new(0);
    let error = k.launch(&mut Memory::new(), (0, 1), &[]).unwrap_err().to_string();
    assert_eq!(error, "kernel k: a grid without blocks");
    k.entry.registers = [u32::MAX; 6];
    let error = k.launch(&mut Memory::new(), (1, 1), &[]).unwrap_err().to_string();
    assert_eq!(error, "kernel k: it has more than 65536 registers");
    k.entry.registers = [64; 6];
    k.entry.shared = 1 << 30;
    let error = k.launch(&mut Memory::new(), (1, 1), &[]).unwrap_err().to_string();
    assert_eq!(error, "kernel k: 1073741824 bytes of shared and 0 of local memory are too many");
    k.entry.shared = 0;
    k.entry.params.push(Type::U32);
    let error = k.launch(&mut Memory::new(), (1, 1), &[1 << 32]).unwrap_err().to_string();
    assert_eq!(error, "kernel k: the parameter p0 is 0x100000000, which does not fit its type U32");
    k.entry.max_threads = 64;
    let error = k.launch(&mut Memory::new(), (1, 65), &[1]).unwrap_err().to_string();
    assert_eq!(error, "kernel k: a block of 65 threads; it has 1 to 64");
}

#[test]
fn operands_that_do_not_fit() {
    let add = |ty, d, a: Operand, b: Operand| binary(BinaryOp::Add, ty, d, a, b);
    let cases: Vec<(InstOp, &str)> = vec![
        (add(Type::F32, rd(0), f(0).into(), f(1).into()), "(add.f32): %rd0 does not fit the type F32"),
        (add(Type::U32, r(0), rd(0).into(), r(1).into()), "%rd0 does not fit the type U32"),
        (add(Type::U32, r(64), r(0).into(), r(1).into()), "%r64 is not one of the 64 registers"),
        (add(Type::U16, h(0), h(1).into(), imm(0x10000)), "the constant 0x10000 does not fit the type U16"),
        (add(Type::B32, r(0), r(0).into(), r(1).into()), "PTX has no such instruction"),
        (add(Type::U64, rd(0), TID, imm(0)), "a special register does not fit the type U64"),
        (binary(BinaryOp::And, Type::U32, r(0), r(0), r(1)), "(and.u32): PTX has no such instruction"),
        (binary(BinaryOp::MulWide, Type::U32, r(0), r(0), r(1)), "%r0 does not fit the type U64"),
        (binary(BinaryOp::MulWide, Type::U64, rd(0), rd(0), rd(1)), "PTX has no such instruction"),
        (binary(BinaryOp::Shl, Type::B64, rd(0), rd(0), rd(1)), "%rd1 does not fit the type U32"),
        (unary(UnaryOp::Neg, Type::U32, r(0), r(1)), "PTX has no such instruction"),
        (unary(UnaryOp::Clz, Type::B64, rd(0), rd(1)), "%rd0 does not fit the type U32"),
        (setp(Cmp::Ltu, Type::U32, p(0), r(0), r(1)), "PTX has no such instruction"),
        (setp(Cmp::Lt, Type::B32, p(0), r(0), r(1)), "PTX has no such instruction"),
        (setp(Cmp::Lt, Type::U32, r(0), r(0), r(1)), "%r0 is not a predicate"),
        (mov(Type::F16, h(0), h(1)), "PTX has no such instruction"),
        (mov(Type::F32, f(0), Operand::Shared), "an address does not fit the type F32"),
        (ld(Space::Global, Type::U32, r(0), at(r(1))), "%r1 is no address of Global memory"),
        (ld(Space::Global, Type::U32, r(0), Address::Shared(0)), "the address is none of Global memory"),
        (ld(Space::Global, Type::F32, rd(1), at(rd(0))), "%rd1 does not fit the type F32"),
        (ld(Space::Global, Type::U64, r(0), at(rd(0))), "%r0 does not fit the type U64"),
        (ld(Space::Param, Type::U32, r(0), Address::Param(0)), "the parameter p0 has the type U64"),
        (ld(Space::Param, Type::U32, r(0), Address::Param(3)), "there is no parameter p3"),
        (st(Space::Param, Type::U32, Address::Param(0), r(0)), "PTX has no such instruction"),
        (InstOp::Pack { d: rd(1), a: rd(0), b: r(0) }, "%rd0 does not fit the type B32"),
    ];
    for (op, expected) in cases {
        let error = message(|k| {
            k.op(op.clone());
        });
        assert!(error.starts_with("kernel k, instruction 1 (") && error.ends_with(expected), "{error}");
    }
    for n in [3, 8] {
        let error = message(|k| {
            let d = (0..n).map(r).collect();
            let address = at(rd(0));
            k.op(InstOp::Ld { space: Space::Global, cache: Cache::Default, ty: Type::U32, d, address });
        });
        assert!(error.ends_with(&format!("there are no vectors of {n} U32")));
    }
    let error = message(|k| {
        k.label(0).label(0);
    });
    assert!(error.ends_with("instruction 2 (L0): the label is there twice"));
    let error = message(|k| {
        k.when(p(0), true, InstOp::Comment("x".to_owned()));
    });
    assert!(error.ends_with("it takes no guard"));
}

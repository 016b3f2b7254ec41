//! Branches that separate the lanes of a warp, loops with different numbers of trips, early ends.

use super::*;

fn store_r0(k: &mut Kernel) {
    k.op(element(rd(1), TID, 4, rd(0))).op(st(Space::Global, Type::U32, at(rd(1)), r(0)));
}

#[test]
fn nested_branches_join() {
    // r0 = tid < 20 ? (tid odd ? 1 : 2) : 3, then all lanes add their sum by a shuffle.
    let mut k = Kernel::new(1);
    k.op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(20)))
        .op(binary(BinaryOp::And, Type::B32, r(1), TID, imm(1)))
        .op(setp(Cmp::Eq, Type::U32, p(1), r(1), imm(1)))
        .bra_when(p(0), false, 2)
        .bra_when(p(1), false, 1)
        .op(mov(Type::U32, r(0), imm(1)))
        .bra(3)
        .label(1)
        .op(mov(Type::U32, r(0), imm(2)))
        .bra(3)
        .label(2)
        .op(mov(Type::U32, r(0), imm(3)))
        .label(3)
        .op(shfl(Shuffle::Idx, r(2), r(0), 31, 31))
        .op(binary(BinaryOp::Add, Type::U32, r(0), r(0), r(2)));
    store_r0(&mut k);
    let expected: Vec<u32> = (0..32).map(|t| 3 + if t >= 20 { 3 } else { 2 - t % 2 }).collect();
    assert_eq!(k.u32s((1, 32)), expected);
    let mut memory = Memory::new();
    let out = memory.alloc_unwritten(128);
    let counts = k.launch(&mut memory, (1, 32), &[out]).unwrap();
    assert_eq!((counts.divergent_branches, counts.shuffles), (2, 1));
    // Each instruction runs once, also the end.
    assert_eq!(counts.instructions, 16);
}

#[test]
fn loops_of_different_lengths() {
    // r0 counts the trips of a loop of tid trips, with a `continue` in odd ones.
    let mut k = Kernel::new(1);
    k.op(mov(Type::U32, r(0), imm(0)))
        .op(mov(Type::U32, r(1), imm(0)))
        .label(0)
        .op(setp(Cmp::Ge, Type::U32, p(0), r(1), TID))
        .bra_when(p(0), true, 1)
        .op(binary(BinaryOp::Add, Type::U32, r(1), r(1), imm(1)))
        .op(binary(BinaryOp::And, Type::B32, r(2), r(1), imm(1)))
        .op(setp(Cmp::Eq, Type::U32, p(1), r(2), imm(1)))
        .bra_when(p(1), true, 0)
        .op(binary(BinaryOp::Add, Type::U32, r(0), r(0), r(1)))
        .bra(0)
        .label(1)
        .op(InstOp::BarWarp { mask: ALL });
    store_r0(&mut k);
    let expected: Vec<u32> = (0..64).map(|t| (0..=t).filter(|i| i % 2 == 0).sum()).collect();
    assert_eq!(k.u32s((1, 64)), expected);
}

#[test]
fn early_ends_leave_the_rest() {
    let mut k = Kernel::new(1);
    k.op(mov(Type::U32, r(0), imm(1)));
    store_r0(&mut k);
    k.op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(10))).when(p(0), true, InstOp::Ret).op(mov(Type::U32, r(0), imm(2)));
    store_r0(&mut k);
    k.op(InstOp::Ret).op(mov(Type::U32, r(0), imm(3)));
    store_r0(&mut k);
    let expected: Vec<u32> = (0..50).map(|t| if t < 10 { 1 } else { 2 }).collect();
    assert_eq!(k.u32s((1, 50)), expected);
}

#[test]
fn guards_skip_lanes() {
    let mut k = Kernel::new(1);
    k.op(mov(Type::U32, r(0), imm(7)))
        .op(setp(Cmp::Eq, Type::U32, p(0), TID, imm(3)))
        .when(p(0), true, mov(Type::U32, r(0), imm(8)))
        .when(p(0), false, binary(BinaryOp::Add, Type::U32, r(0), r(0), TID))
        .op(setp(Cmp::Eq, Type::U32, p(1), TID, imm(99)))
        .when(p(1), true, ld(Space::Global, Type::U32, r(0), Address::Reg(rd(0), 1)));
    store_r0(&mut k);
    assert_eq!(k.u32s((1, 6)), [7, 8, 9, 8, 11, 12]);
}

#[test]
fn a_block_waits_at_barriers_of_different_places() {
    // Warp 0 and warp 1 come to the barrier at different instructions.
    let mut k = Kernel::new(1).shared(4);
    k.op(mov(Type::U32, r(0), imm(5)))
        .op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(32)))
        .op(setp(Cmp::Eq, Type::U32, p(1), TID, imm(0)))
        .bra_when(p(0), true, 0)
        .op(InstOp::Bar)
        .bra(1)
        .label(0)
        .when(p(1), true, st(Space::Shared, Type::U32, Address::Shared(0), r(0)))
        .op(InstOp::Bar)
        .label(1)
        .op(ld(Space::Shared, Type::U32, r(0), Address::Shared(0)));
    store_r0(&mut k);
    assert_eq!(k.u32s((1, 64)), [5; 64]);
}

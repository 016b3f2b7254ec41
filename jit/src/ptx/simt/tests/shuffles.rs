//! Shuffles, votes and barriers of a warp.

use super::*;

/// What each lane of a warp receives that gives its number.
fn received(mode: Shuffle, b: u64, c: u64) -> Vec<u32> {
    let mut k = Kernel::new(1);
    k.op(mov(Type::U32, r(0), TID)).op(shfl(mode, r(1), r(0), b, c)).op(element(rd(1), TID, 4, rd(0))).op(st(
        Space::Global,
        Type::U32,
        at(rd(1)),
        r(1),
    ));
    k.u32s((1, 32))
}

#[test]
fn lanes_outside_of_a_segment_keep_their_value() {
    let lanes = 0..32_u32;
    let map = |f: &dyn Fn(u32) -> u32| lanes.clone().map(f).collect::<Vec<_>>();
    assert_eq!(received(Shuffle::Bfly, 16, 31), map(&|l| l ^ 16));
    assert_eq!(received(Shuffle::Down, 3, 31), map(&|l| if l + 3 < 32 { l + 3 } else { l }));
    assert_eq!(received(Shuffle::Up, 3, 0), map(&|l| if l >= 3 { l - 3 } else { l }));
    assert_eq!(received(Shuffle::Idx, 7, 31), map(&|_| 7));
    // Segments of 8 lanes: the mask is 32 - 8.
    let c = 24 << 8;
    assert_eq!(received(Shuffle::Down, 3, c | 31), map(&|l| if l % 8 + 3 < 8 { l + 3 } else { l }));
    assert_eq!(received(Shuffle::Up, 3, c), map(&|l| if l % 8 >= 3 { l - 3 } else { l }));
    assert_eq!(received(Shuffle::Bfly, 4, c | 31), map(&|l| l ^ 4));
    assert_eq!(received(Shuffle::Bfly, 8, c | 31), map(&|l| if l ^ 8 < l { l ^ 8 } else { l }));
    assert_eq!(received(Shuffle::Idx, 5, c | 31), map(&|l| l / 8 * 8 + 5));
    assert_eq!(received(Shuffle::Idx, 13, c | 31), map(&|l| l / 8 * 8 + 5));
    // The clamp bounds the lane.
    assert_eq!(received(Shuffle::Idx, 5, c | 3), map(&|l| l));
    assert_eq!(received(Shuffle::Down, 1, 10), map(&|l| if l < 10 { l + 1 } else { l }));
    // Only 5 bits of the distance count.
    assert_eq!(received(Shuffle::Idx, 33, 31), map(&|_| 1));
}

#[test]
fn halves_of_a_warp_shuffle_with_their_masks() {
    let mut k = Kernel::new(1);
    k.op(mov(Type::U32, r(0), TID))
        .op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(16)))
        .op(InstOp::Selp { ty: Type::B32, d: r(2), a: imm(0xffff), b: imm(0xffff_0000), p: p(0) })
        .op(InstOp::Shfl { mode: Shuffle::Bfly, d: r(1), a: r(0).into(), b: imm(1), c: imm(31), mask: r(2).into() })
        .op(element(rd(1), TID, 4, rd(0)))
        .op(st(Space::Global, Type::U32, at(rd(1)), r(1)));
    assert_eq!(k.u32s((1, 32)), (0..32).map(|l| l ^ 1).collect::<Vec<u32>>());
}

#[test]
fn sum_of_a_warp() {
    let mut k = Kernel::new(1);
    k.op(mov(Type::U32, r(0), TID));
    for distance in [16, 8, 4, 2, 1] {
        k.op(shfl(Shuffle::Bfly, r(1), r(0), distance, 31)).op(binary(BinaryOp::Add, Type::U32, r(0), r(0), r(1)));
    }
    k.op(element(rd(1), TID, 4, rd(0))).op(st(Space::Global, Type::U32, at(rd(1)), r(0)));
    assert_eq!(k.u32s((1, 32)), [496; 32]);
}

#[test]
fn votes() {
    let mut k = Kernel::new(1);
    let vote = |mode, d, negate| InstOp::Vote { mode, d, p: p(0), negate, mask: ALL };
    k.op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(5)))
        .op(vote(Vote::Ballot, r(0), false))
        .op(vote(Vote::Ballot, r(1), true))
        .op(vote(Vote::Any, p(1), false))
        .op(vote(Vote::All, p(2), false))
        .op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(32)))
        .op(vote(Vote::All, p(3), false))
        .op(vote(Vote::Any, p(4), true));
    for i in 1..5 {
        let weight = imm(1 << (i - 1));
        k.op(InstOp::Selp { ty: Type::B32, d: r(2 + i), a: weight, b: imm(0), p: p(i) });
    }
    for i in 4..7 {
        k.op(binary(BinaryOp::Or, Type::B32, r(3), r(3), r(i)));
    }
    k.op(InstOp::Selp { ty: Type::B32, d: r(10), a: r(0).into(), b: r(1).into(), p: p(4) })
        .op(setp(Cmp::Eq, Type::U32, p(5), TID, imm(0)))
        .op(InstOp::Selp { ty: Type::B32, d: r(10), a: r(0).into(), b: r(1).into(), p: p(5) })
        .op(setp(Cmp::Eq, Type::U32, p(6), TID, imm(2)))
        .op(InstOp::Selp { ty: Type::B32, d: r(10), a: r(3).into(), b: r(10).into(), p: p(6) })
        .op(element(rd(1), TID, 4, rd(0)))
        .op(st(Space::Global, Type::U32, at(rd(1)), r(10)));
    assert_eq!(k.u32s((1, 32))[..3], [0x1f, 0xffff_ffe0, 0b101]);
}

#[test]
fn masks_name_the_lanes_that_run() {
    let mut k = Kernel::new(0);
    k.op(mov(Type::U32, r(0), TID)).op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(16))).when(
        p(0),
        true,
        shfl(Shuffle::Bfly, r(1), r(0), 1, 31),
    );
    assert_eq!(
        k.error((1, 32)),
        "kernel k, block 0, thread 0, instruction 2 (shfl.sync.bfly.b32): the mask 0xffffffff names threads that do \
         not run it together with this one: 16 threads from 16 on"
    );
    let mut k = Kernel::new(0);
    k.op(mov(Type::U32, r(0), TID)).op(shfl(Shuffle::Bfly, r(1), r(0), 1, 31));
    assert!(k.error((1, 40)).contains("thread 32, instruction 1"));
    assert!(k.error((1, 40)).contains("names lanes that are no threads"));
    let mut k = Kernel::new(0);
    k.op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(3))).when(p(0), true, InstOp::Ret).op(InstOp::BarWarp { mask: ALL });
    let expected = "(bar.warp.sync): the mask 0xffffffff names threads that have ended: 3 threads from 0 on";
    assert!(k.error((1, 32)).contains(&format!("thread 3, instruction 2 {expected}")));
    let mut k = Kernel::new(0);
    k.op(InstOp::BarWarp { mask: imm(1) });
    assert!(
        k.error((1, 32))
            .contains("thread 1, instruction 0 (bar.warp.sync): the mask 0x00000001 does not name the thread itself")
    );
    let mut k = Kernel::new(0);
    k.op(mov(Type::U32, r(0), TID)).op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(4))).when(
        p(0),
        true,
        InstOp::Shfl { mode: Shuffle::Idx, d: r(1), a: r(0).into(), b: imm(9), c: imm(31), mask: imm(15) },
    );
    assert!(k.error((1, 32)).contains("it reads lane 9, which is not in its mask"));
}

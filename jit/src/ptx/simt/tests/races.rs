//! Races, and what is none.

use super::memory::{block_sum, copies};
use super::*;

/// Shared memory: thread 0 of each block writes, the rest read; `between` is what lies between.
fn write_and_read(between: Option<InstOp>, reader: u32) -> Kernel {
    let mut k = Kernel::new(0).shared(16);
    k.op(setp(Cmp::Eq, Type::U32, p(0), TID, imm(0)))
        .op(setp(Cmp::Eq, Type::U32, p(1), TID, imm(u64::from(reader))))
        .when(p(0), true, st(Space::Shared, Type::U32, Address::Shared(4), imm(1)));
    if let Some(op) = between {
        k.op(op);
    }
    k.when(p(1), true, ld(Space::Shared, Type::U32, r(0), Address::Shared(4)));
    k
}

fn runs(k: &Kernel, dims: (u32, u32)) {
    let mut memory = Memory::new();
    let params: Vec<u64> = k.entry.params.iter().map(|_| memory.alloc(&[0; 4096])).collect();
    k.launch(&mut memory, dims, &params).unwrap();
}

#[test]
fn barriers_order_a_block() {
    runs(&write_and_read(Some(InstOp::Bar), 40), (2, 64));
    runs(&write_and_read(Some(InstOp::Bar), 1), (2, 64));
    runs(&write_and_read(None, 0), (2, 64));
    assert_eq!(
        write_and_read(None, 40).error((1, 64)),
        "kernel k, block 0, thread 40, instruction 3 (ld.shared.u32): race: it accesses memory at 0x404 that thread 0 \
         of the block writes, without a barrier in between"
    );
}

#[test]
fn lanes_of_a_warp_are_independent() {
    assert!(write_and_read(None, 1).error((1, 32)).contains("thread 1, instruction 3 (ld.shared.u32): race"));
    runs(&write_and_read(Some(InstOp::BarWarp { mask: ALL }), 1), (1, 32));
    let error = write_and_read(Some(InstOp::BarWarp { mask: ALL }), 40).error((1, 64));
    assert!(error.contains("thread 40"), "{error}");
}

#[test]
fn barriers_of_a_part_of_a_warp() {
    // Lanes 0 to 3 have a barrier, the rest another.
    let kernel = |reader: u64| {
        let mut k = Kernel::new(0).shared(16);
        k.op(setp(Cmp::Eq, Type::U32, p(0), TID, imm(0)))
            .op(setp(Cmp::Eq, Type::U32, p(1), TID, imm(reader)))
            .op(setp(Cmp::Lt, Type::U32, p(2), TID, imm(4)))
            .op(InstOp::Selp { ty: Type::B32, d: r(1), a: imm(15), b: imm(0xffff_fff0), p: p(2) })
            .when(p(0), true, st(Space::Shared, Type::U32, Address::Shared(4), imm(1)))
            .op(InstOp::BarWarp { mask: r(1).into() })
            .when(p(1), true, ld(Space::Shared, Type::U32, r(0), Address::Shared(4)));
        k
    };
    runs(&kernel(3), (1, 32));
    assert!(kernel(4).error((1, 32)).contains("thread 4, instruction 6 (ld.shared.u32): race"));
}

#[test]
fn writes_of_two_threads() {
    let mut k = Kernel::new(0).shared(16);
    k.op(st(Space::Shared, Type::U32, Address::Shared(0), imm(1)));
    runs(&k, (4, 1));
    let error = k.error((1, 2));
    assert!(error.contains("thread 1, instruction 0 (st.shared.u32): race: it accesses memory at 0x400 that thread 0"));
}

#[test]
fn bytes_of_a_word_are_apart() {
    let mut k = Kernel::new(1);
    k.op(element(rd(1), TID, 1, rd(0))).op(st(Space::Global, Type::U8, at(rd(1)), imm(7)));
    runs(&k, (1, 64));
    // Thread 33 reads the second byte, which thread 1 writes.
    k.op(InstOp::BarWarp { mask: ALL });
    k.op(setp(Cmp::Eq, Type::U32, p(0), TID, imm(33))).when(
        p(0),
        true,
        ld(Space::Global, Type::U8, r(1), Address::Reg(rd(0), 1)),
    );
    assert!(k.error((1, 64)).contains("that thread 1 of the block writes"));
}

#[test]
fn a_read_before_a_write() {
    let mut k = Kernel::new(1);
    k.op(ld(Space::Global, Type::U32, r(0), at(rd(0)))).op(setp(Cmp::Eq, Type::U32, p(0), TID, imm(0))).when(
        p(0),
        true,
        st(Space::Global, Type::U32, at(rd(0)), r(0)),
    );
    runs(&k, (1, 1));
    assert!(k.error((1, 32)).contains("that several threads of warp 0 of the block reads"));
    let error = k.error((1, 64));
    assert!(error.contains("thread 0, instruction 3"), "{error}");
    let error = k.error((2, 1));
    assert!(error.contains("block 1, thread 0"), "{error}");
    assert!(error.contains("that block 0 writes"), "{error}");
    let mut k2 = Kernel::new(1);
    k2.op(ld(Space::Global, Type::U32, r(0), at(rd(0))))
        .op(setp(Cmp::Eq, Type::U32, p(0), TID, imm(0)))
        .op(InstOp::Bar)
        .when(p(0), true, st(Space::Global, Type::U32, at(rd(0)), r(0)));
    runs(&k2, (1, 64));
    let error = k2.error((2, 64));
    assert!(error.contains("block 1, thread 0, instruction 1 (ld.global.u32)"), "{error}");
}

#[test]
fn reads_of_earlier_blocks_stay_known() {
    // All blocks read; the last one writes after a barrier.
    let mut k = Kernel::new(1);
    k.op(ld(Space::Global, Type::U32, r(0), at(rd(0))))
        .op(InstOp::Bar)
        .op(binary(BinaryOp::Add, Type::U32, r(1), Operand::Special(Special::Ctaid), TID))
        .op(setp(Cmp::Eq, Type::U32, p(0), r(1), imm(2)))
        .when(p(0), true, st(Space::Global, Type::U32, at(rd(0)), r(0)));
    let error = k.error((3, 1));
    assert!(error.contains("block 2") && error.contains("that several blocks reads"), "{error}");
}

#[test]
fn launches_are_ordered() {
    let mut k = Kernel::new(1);
    k.op(ld(Space::Global, Type::U32, r(0), at(rd(0))))
        .op(binary(BinaryOp::Add, Type::U32, r(0), r(0), imm(1)))
        .op(st(Space::Global, Type::U32, at(rd(0)), r(0)));
    let mut memory = Memory::new();
    let x = memory.alloc(&[0; 4]);
    for _ in 0..3 {
        k.launch(&mut memory, (1, 1), &[x]).unwrap();
    }
    assert_eq!(u32s(&memory, x, 1), [3]);
    assert!(k.launch(&mut memory, (2, 1), &[x]).is_err());
    let options = Options { races: false, ..Options::default() };
    k.launch_with(&mut memory, (2, 1), &[x], &options).unwrap();
}

#[test]
fn atomics_and_volatile_are_no_races() {
    let atomic = InstOp::Atom {
        op: Atomic::Add,
        space: Space::Global,
        ty: Type::U32,
        d: r(0),
        address: at(rd(0)),
        b: imm(1),
        c: None,
    };
    let mut k = Kernel::new(1);
    k.op(atomic.clone());
    runs(&k, (3, 64));
    let volatile =
        InstOp::Ld { space: Space::Global, cache: Cache::Volatile, ty: Type::U32, d: vec![r(1)], address: at(rd(0)) };
    k.op(volatile);
    runs(&k, (3, 64));
    let mut k = Kernel::new(1);
    k.op(atomic).op(ld(Space::Global, Type::U32, r(1), at(rd(0))));
    runs(&k, (1, 1));
    assert!(k.error((1, 64)).contains("(ld.global.u32): race"));
    assert!(k.error((2, 1)).contains("block 1, thread 0, instruction 1 (atom.global.add.u32): race"));
}

#[test]
fn the_non_coherent_cache_is_for_what_is_not_written() {
    let nc = InstOp::Ld {
        space: Space::Global,
        cache: Cache::NonCoherent,
        ty: Type::U32,
        d: vec![r(0)],
        address: at(rd(0)),
    };
    let mut k = Kernel::new(1);
    k.op(nc.clone()).op(st(Space::Global, Type::U32, at(rd(0)), r(0)));
    assert!(k.error((1, 1)).contains("instruction 2 (st.global.u32): the memory at"));
    let mut k = Kernel::new(1);
    k.op(st(Space::Global, Type::U32, at(rd(0)), imm(1))).op(InstOp::Bar).op(nc);
    assert!(k.error((1, 1)).contains("is both written and loaded with .nc in one launch"));
}

#[test]
fn a_barrier_is_missing_in_a_sum() {
    for i in 0..8 {
        assert!(block_sum(Some(i)).error((1, 256)).contains("race"), "{i}");
    }
}

#[test]
fn copies_of_other_threads() {
    let mut k = copies(0, 0, true);
    k.entry.body.retain(|inst| inst.op != InstOp::Bar);
    assert!(k.error((1, 32)).contains("(ld.shared.u32): race"));
    // The source is written while it is read.
    let mut k = Kernel::new(1).shared(16);
    k.op(InstOp::CpAsync { bytes: 16, d: Address::Shared(0), a: at(rd(0)), from: None })
        .op(InstOp::CpAsyncCommit)
        .op(st(Space::Global, Type::U32, Address::Reg(rd(0), 12), imm(1)))
        .op(InstOp::CpAsyncWait { groups: 0 });
    assert!(k.error((1, 1)).contains("before a cp.async that reads it was waited for"));
    k.entry.body.swap(3, 4);
    runs(&k, (1, 1));
}

#[test]
fn matrices_are_read_by_all_lanes() {
    let kernel = |between: Option<InstOp>, after: Option<InstOp>| {
        let mut k = Kernel::new(0).shared(512);
        let address = InstOp::Ternary {
            op: TernaryOp::Mad,
            ty: Type::U32,
            flush: false,
            d: r(1),
            a: TID,
            b: imm(16),
            c: Operand::Shared,
        };
        let four = vec![imm(1), imm(2), imm(3), imm(4)];
        let store = |a| InstOp::St { space: Space::Shared, cache: Cache::Default, ty: Type::B32, address: at(r(1)), a };
        k.op(address).op(store(four.clone()));
        between.map(|op| k.op(op).entry.body.len());
        k.op(InstOp::LdMatrix { transposed: false, d: (2..6).map(r).collect(), address: at(r(1)) });
        after.map(|op| k.op(op).op(store(four)).entry.body.len());
        k
    };
    let barrier = || Some(InstOp::BarWarp { mask: ALL });
    runs(&kernel(barrier(), None), (1, 32));
    runs(&kernel(barrier(), barrier()), (1, 32));
    assert!(kernel(None, None).error((1, 32)).contains("(ldmatrix): race"));
    assert!(kernel(barrier(), Some(InstOp::MembarGl)).error((1, 32)).contains("several threads of warp 0"));
}

#[test]
fn order_passes_on_from_lane_to_lane() {
    // Lane 0 writes, 0 and 1 have a barrier, then 1 and 2; 2 reads.
    let kernel = |second: bool| {
        let mut k = Kernel::new(0).shared(4);
        for i in 0..3 {
            k.op(setp(Cmp::Eq, Type::U32, p(i), TID, imm(u64::from(i))));
        }
        k.op(setp(Cmp::Lt, Type::U32, p(3), TID, imm(2)))
            .op(binary(BinaryOp::Or, Type::Pred, p(4), p(1), p(2)))
            .when(p(0), true, st(Space::Shared, Type::U32, Address::Shared(0), imm(1)))
            .when(p(3), true, InstOp::BarWarp { mask: imm(3) });
        if second {
            k.when(p(4), true, InstOp::BarWarp { mask: imm(6) });
        }
        k.when(p(2), true, ld(Space::Shared, Type::U32, r(0), Address::Shared(0)));
        k
    };
    runs(&kernel(true), (1, 32));
    assert!(kernel(false).error((1, 32)).contains("thread 2"));
}

#[test]
fn races_are_found_in_every_order() {
    for seed in 0..20 {
        for (k, dims) in [(write_and_read(None, 40), (1, 64)), (block_sum(Some(1)), (1, 256))] {
            let options = Options { interleave: Some(seed), order: Some(seed), ..Options::default() };
            let mut memory = Memory::new();
            let out = memory.alloc(&[0; 1024]);
            let params = vec![out; k.entry.params.len()];
            let error = k.launch_with(&mut memory, dims, &params, &options).unwrap_err().to_string();
            // A read that comes before the write finds nothing.
            assert!(error.contains("race") || error.contains("never written"), "{seed}: {error}");
        }
    }
}

//! Cooperative launches: a barrier of the grid, and what is wrong without a part of it.

use super::*;

const BLOCKS: u32 = 3;
const THREADS: u32 = 64;
const ROUNDS: u64 = 3;

/// The parts of a barrier of the grid.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Before,
    Release,
    Wait,
    Acquire,
    Behind,
}

/// A barrier on the word at `rd(1)`: every block adds 1, the first what makes the sum 2³¹.
fn barrier(k: &mut Kernel, label: u32, without: &[Part]) {
    let has = |part| !without.contains(&part);
    if has(Part::Before) {
        k.op(InstOp::Bar);
    }
    k.op(setp(Cmp::Ne, Type::U32, p(0), TID, imm(0))).bra_when(p(0), true, label + 1);
    if has(Part::Release) {
        k.op(InstOp::MembarGl);
    }
    let (op, space, ty) = (Atomic::Add, Space::Global, Type::U32);
    k.op(InstOp::Atom { op, space, ty, d: r(5), address: at(rd(1)), b: r(4).into(), c: None });
    if has(Part::Wait) {
        let (cache, d) = (Cache::Volatile, vec![r(6)]);
        k.label(label)
            .op(InstOp::Ld { space, cache, ty, d, address: at(rd(1)) })
            .op(binary(BinaryOp::Xor, Type::B32, r(7), r(6), r(5)))
            .op(setp(Cmp::Ge, Type::S32, p(1), r(7), imm(0)))
            .bra_when(p(1), true, label);
    }
    if has(Part::Acquire) {
        k.op(InstOp::MembarGl);
    }
    k.label(label + 1);
    if has(Part::Behind) {
        k.op(InstOp::Bar);
    }
}

/// In each round a thread reads the element of the thread as far behind as a block has threads, and adds it to its own.
fn kernel(without: &[Part]) -> Kernel {
    let special = |special| Operand::Special(special);
    let count = u64::from(BLOCKS * THREADS);
    let mut k = Kernel::new(2).cooperative();
    k.op(mov(Type::U32, r(0), special(Special::Ctaid)))
        .op(mov(Type::U32, r(1), special(Special::Nctaid)))
        .op(binary(BinaryOp::Sub, Type::U32, r(2), imm(0x8000_0001), r(1)))
        .op(setp(Cmp::Eq, Type::U32, p(0), r(0), imm(0)))
        .op(InstOp::Selp { ty: Type::B32, d: r(4), a: r(2).into(), b: imm(1), p: p(0) })
        .op(binary(BinaryOp::Mul, Type::U32, r(3), r(0), imm(u64::from(THREADS))))
        .op(binary(BinaryOp::Add, Type::U32, r(3), r(3), TID))
        .op(element(rd(2), r(3), 4, rd(0)))
        .op(binary(BinaryOp::Add, Type::U32, r(8), r(3), imm(u64::from(THREADS))))
        .op(binary(BinaryOp::Rem, Type::U32, r(8), r(8), imm(count)))
        .op(element(rd(3), r(8), 4, rd(0)))
        .op(st(Space::Global, Type::U32, at(rd(2)), r(3)))
        .op(mov(Type::U32, r(9), imm(0)))
        .label(0);
    barrier(&mut k, 1, without);
    k.op(ld(Space::Global, Type::U32, r(10), at(rd(3)))).op(ld(Space::Global, Type::U32, r(11), at(rd(2))));
    barrier(&mut k, 3, without);
    k.op(binary(BinaryOp::Add, Type::U32, r(10), r(10), r(11)))
        .op(st(Space::Global, Type::U32, at(rd(2)), r(10)))
        .op(binary(BinaryOp::Add, Type::U32, r(9), r(9), imm(1)))
        .op(setp(Cmp::Lt, Type::U32, p(2), r(9), imm(ROUNDS)))
        .bra_when(p(2), true, 0);
    k
}

fn run(k: &Kernel, memory: &mut Memory, word: u64, options: &Options) -> Result<(Vec<u32>, Counts)> {
    let data = memory.alloc(&vec![0; (4 * BLOCKS * THREADS) as usize]);
    let counts = k.launch_with(memory, (BLOCKS, THREADS), &[data, word], options)?;
    Ok((u32s(memory, data, (BLOCKS * THREADS) as usize), counts))
}

fn expected() -> Vec<u32> {
    let count = BLOCKS * THREADS;
    let mut values: Vec<u32> = (0..count).collect();
    for _ in 0..ROUNDS {
        values = (0..count).map(|i| values[i as usize] + values[((i + THREADS) % count) as usize]).collect();
    }
    values
}

#[test]
fn blocks_meet_at_a_barrier_of_the_grid() -> Result<()> {
    let mut memory = Memory::new();
    let word = memory.alloc(&[0; 4]);
    let k = kernel(&[]);
    for seed in 0..8 {
        let options = Options { order: Some(seed), interleave: (seed % 2 == 1).then_some(seed), ..Options::default() };
        // The word needs no reset between launches.
        let (values, counts) = run(&k, &mut memory, word, &options)?;
        assert_eq!(values, expected());
        assert_eq!(counts.fences, 2 * 2 * ROUNDS * u64::from(BLOCKS));
        assert_eq!(u32s(&memory, word, 1)[0] & 0x7fff_ffff, 0);
    }
    Ok(())
}

#[test]
fn each_part_of_the_barrier_is_needed() {
    for part in [Part::Before, Part::Release, Part::Wait, Part::Acquire, Part::Behind] {
        for seed in 0..4 {
            let mut memory = Memory::new();
            let word = memory.alloc(&[0; 4]);
            let options = Options { order: Some(seed), interleave: Some(seed), ..Options::default() };
            let error = run(&kernel(&[part]), &mut memory, word, &options).expect_err("a race").to_string();
            assert!(error.contains("race: it accesses memory"), "{error}");
        }
    }
}

#[test]
fn blocks_that_are_not_resident_are_waited_for_in_vain() {
    let mut k = kernel(&[]);
    k.cooperative = false;
    let mut memory = Memory::new();
    let word = memory.alloc(&[0; 4]);
    let error = run(&k, &mut memory, word, &Options::default()).expect_err("block 0 waits").to_string();
    assert!(error.starts_with("kernel k, block 0, thread 0, instruction "), "{error}");
    assert!(error.ends_with("it waits for a block that does not go on, or is not resident"), "{error}");
}

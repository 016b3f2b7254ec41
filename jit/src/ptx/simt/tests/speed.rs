//! How many instructions of threads run in a second, printed by
//! `cargo test --release -p fulgurite-jit --lib simt -- --nocapture speed`.

use super::memory::block_sum;
use super::*;
use std::time::Instant;

fn measure(name: &str, k: &Kernel, dims: (u32, u32), bytes: usize) {
    for races in [true, false] {
        let mut memory = Memory::new();
        let params: Vec<u64> = k.entry.params.iter().map(|_| memory.alloc(&vec![0; bytes])).collect();
        // The first launch touches the memory that keeps the accesses.
        let rates = [0; 2].map(|_| {
            let begin = Instant::now();
            let counts = k.launch_with(&mut memory, dims, &params, &Options { races, ..Options::default() }).unwrap();
            assert!(counts.thread_instructions >= counts.instructions);
            (counts.thread_instructions as f64 / begin.elapsed().as_secs_f64() / 1e6) as u64
        });
        println!("{name}, races {races}: {rates:?} million instructions of threads a second");
    }
}

#[test]
fn speed() {
    let mut k = Kernel::new(3);
    let index = InstOp::Ternary {
        op: TernaryOp::Mad,
        ty: Type::U32,
        flush: false,
        d: r(0),
        a: Operand::Special(Special::Ctaid),
        b: Operand::Special(Special::Ntid),
        c: TID,
    };
    k.op(index)
        .op(element(rd(3), r(0), 4, rd(0)))
        .op(element(rd(4), r(0), 4, rd(1)))
        .op(element(rd(5), r(0), 4, rd(2)))
        .op(ld(Space::Global, Type::F32, f(0), at(rd(3))))
        .op(ld(Space::Global, Type::F32, f(1), at(rd(4))))
        .op(binary(BinaryOp::Add, Type::F32, f(2), f(0), f(1)))
        .op(st(Space::Global, Type::F32, at(rd(5)), f(2)));
    measure("sum of two arrays", &k, (128, 256), 128 * 256 * 4);
    measure("sum of a block", &block_sum(None), (32, 256), 32 * 1024);
    let mut k = Kernel::new(1);
    k.op(mov(Type::F32, f(0), imm(0x3f80_0000))).op(mov(Type::U32, r(0), imm(0))).label(0);
    for i in 1..20 {
        let (a, b, c) = (f(i - 1).into(), f(0).into(), f(0).into());
        k.op(InstOp::Ternary { op: TernaryOp::Fma, ty: Type::F32, flush: true, d: f(i), a, b, c });
    }
    k.op(binary(BinaryOp::Add, Type::U32, r(0), r(0), imm(1)))
        .op(setp(Cmp::Lt, Type::U32, p(0), r(0), imm(100)))
        .bra_when(p(0), true, 0);
    measure("arithmetic", &k, (4, 256), 4);
}

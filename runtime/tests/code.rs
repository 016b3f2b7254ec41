//! The location of a program's code: within reach of its calls, however fragmented the address space is.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use fulgurite_jit::cpu::{Isa, Parallelism, Target};
use fulgurite_jit::graph::parse;
use fulgurite_jit::{Array, Result};
use fulgurite_runtime::Program;

/// More than the range of a call.
const BEYOND_CALL_RANGE: usize = 3 << 30;

/// Reserves and frees memory repeatedly, a few pieces at a time, without touching it.
fn reserve(done: &AtomicBool, reserved: &AtomicUsize) {
    let mut pieces: Vec<Vec<u8>> = vec![Vec::new(); 16];
    for i in (0..pieces.len()).cycle() {
        if done.load(Relaxed) {
            return;
        }
        // Keeps the compiler from removing the unused pieces.
        pieces[i] = std::hint::black_box(Vec::new());
        // Without overcommit this may fail; then there are no mappings between.
        if std::hint::black_box(&mut pieces[i]).try_reserve_exact(BEYOND_CALL_RANGE).is_ok() {
            reserved.fetch_add(1, Relaxed);
        }
    }
}

#[test]
fn programs_compile_between_large_mappings() -> Result<()> {
    // Each sum is a separate kernel, over rows or columns in turn, so that no two are equal.
    let mut text = String::from("fn f(%x: f32[8,9]) -> (f32[]) {\n%s0: f32[] = literal 0.0\n");
    const KERNELS: usize = 24;
    for i in 0..KERNELS {
        let (axis, kept) = if i % 2 == 0 { (0, 9) } else { (1, 8) };
        text += &format!(
            "%c{i}: f32[] = literal {}.0\n%b{i}: f32[8,9] = broadcast_in_dim %c{i} [shape=8,9, dims=]\n\
             %e{i}: f32[8,9] = mul %x, %b{i}\n%a{i}: f32[{kept}] = reduce_sum %e{i} [axes={axis}]\n\
             %m{i}: f32[] = reduce_max %a{i} [axes=0]\n%s{}: f32[] = add %s{i}, %m{i}\n",
            i + 1,
            i + 1
        );
    }
    let graph = parse(&format!("{text}return %s{KERNELS}\n}}"))?;
    let x = Array::from_vec(&[8, 9], vec![1.0f32; 72])?;
    let expected: f32 = (0..KERNELS).map(|i| (i + 1) as f32 * if i % 2 == 0 { 8.0 } else { 9.0 }).sum();

    let (done, reserved) = (AtomicBool::new(false), AtomicUsize::new(0));
    let results: Result<()> = std::thread::scope(|scope| {
        scope.spawn(|| reserve(&done, &reserved));
        let results = (0..20).flat_map(|_| Isa::available()).try_for_each(|&isa| {
            let target = Target { isa, threads: 2, parallelism: Parallelism::Always };
            let program = Program::compile_for("between", &graph, &[false], target)?;
            assert_eq!(program.run(vec![x.clone()])?[0].as_slice::<f32>()?, [expected]);
            Ok(())
        });
        done.store(true, Relaxed);
        results
    });
    results
}

//! Machine code's use of the stack.

use fulgurite::compiler::cpu::{Isa, Target, list};
use fulgurite::compiler::fuse::fuse;
use fulgurite::compiler::interp::interpret;
use fulgurite::compiler::lower::lower as lower_kernels;
use fulgurite::compiler::opt::optimise;
use fulgurite::runtime::Program;
use fulgurite::{Result, Tensor, lower};

/// More values at once than a page of the stack holds: each of its pages is touched, so that no frame steps over the guard
/// behind the stack. The thread has hardly more stack than the frame.
#[test]
fn a_frame_of_several_pages_touches_each() -> Result<()> {
    let many = |x: Tensor| {
        let mut values = vec![x.clone()];
        (0..150).for_each(|i| values.push(&values[i] * &x));
        let sum = values.iter().fold(x, |sum, value| sum + value);
        // All of them are needed once more.
        values.iter().fold(sum.clone(), |all, value| all.maximum(value))
    };
    let x = Tensor::from_vec(&[100], (0..100).map(|i| (i % 3) as f32 - 1.0).collect())?;
    let graph = lower(many, &x)?.graph;
    let input = x.into_array()?;
    let want = interpret(&graph, std::slice::from_ref(&input))?;
    for &isa in Isa::available() {
        let target = Target { isa, ..Target::one_thread() };
        let listings = list(&lower_kernels(fuse(&optimise(&graph)?), &[false], target.into())?)?;
        let pages = listings.iter().map(|kernel| kernel.asm.matches("sub rsp,1000h").count()).max();
        assert!(pages >= Some(1) || isa == Isa::Portable, "{isa:?}: {pages:?} pages");
        let program = Program::compile_for("many", &graph, &[false], target)?;
        let run = || program.run(vec![input.clone()]);
        let got = std::thread::scope(|scope| {
            let small = std::thread::Builder::new().stack_size(128 << 10);
            small.spawn_scoped(scope, run).map(|thread| thread.join().expect("no panic"))
        });
        assert_eq!(got.expect("a thread")?, want, "{isa:?}");
    }
    Ok(())
}

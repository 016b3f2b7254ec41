//! The same bits on any number of threads and with any vectors, for whole training steps.

#[allow(dead_code, reason = "only what the steps are made of is looked at here")]
#[path = "../benches/workloads/mod.rs"]
mod workloads;

use fulgurite::Lowered;
use fulgurite::compiler::cpu::{Isa, Sharing, Target};
use fulgurite::compiler::{Array, DType, TensorType};
use fulgurite::prelude::*;
use fulgurite::runtime::Program;

use workloads::WORKLOADS;

/// An array of `ty`: small numbers, among them what a label or a key may be.
fn sample(ty: &TensorType, seed: usize) -> Result<Array> {
    let n = ty.elements();
    let number = |i: usize| (i * 7 + seed * 13) % 29;
    match ty.dtype {
        DType::F32 => Array::from_vec(&ty.shape, (0..n).map(|i| number(i) as f32 / 29.0).collect()),
        DType::F64 => Array::from_vec(&ty.shape, (0..n).map(|i| number(i) as f64 / 29.0).collect()),
        DType::I32 => Array::from_vec(&ty.shape, (0..n).map(|i| number(i) as i32 % 10).collect()),
        DType::U32 => Array::from_vec(&ty.shape, (0..n).map(|i| number(i) as u32).collect()),
        DType::Bool => Array::from_vec(&ty.shape, (0..n).map(|i| number(i) % 2 == 0).collect()),
    }
}

#[test]
fn steps_are_the_same_on_any_number_of_threads() -> Result<()> {
    // The large mixer is the small one with other extents.
    for workload in WORKLOADS.iter().filter(|w| !["mixer", "elementwise_big"].contains(&w.name)) {
        let Lowered { graph, .. } = (workload.lower)()?;
        let inputs: Vec<Array> =
            graph.param_types().iter().enumerate().map(|(i, ty)| sample(ty, i)).collect::<Result<_>>()?;
        let run = |isa: Isa, threads: usize, sharing: Sharing| -> Result<Vec<Array>> {
            let target = Target { isa, threads, sharing };
            let program = Program::compile_for(workload.name, &graph, &vec![false; inputs.len()], target)?;
            Ok(program.run(inputs.clone()))
        };
        let alone = run(Isa::detect(), 1, Sharing::WherePays)?;
        assert!(alone.iter().all(|x| x.to_f64_vec().iter().all(|x| x.is_finite())), "{}", workload.name);
        for threads in [2, 3, 7] {
            for sharing in [Sharing::WherePays, Sharing::Everything] {
                let shared = run(Isa::detect(), threads, sharing)?;
                assert!(shared == alone, "{}: {threads} threads, sharing {sharing:?}", workload.name);
            }
        }
        for isa in [Isa::Avx2, Isa::Portable] {
            if isa == Isa::Avx2 && Isa::detect() == Isa::Portable {
                continue;
            }
            assert!(run(isa, 3, Sharing::Everything)? == alone, "{}: {isa:?}", workload.name);
        }
    }
    Ok(())
}

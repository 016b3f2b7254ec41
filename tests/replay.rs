//! Kernel replay: a hash of every kernel's code, for each workload and instruction set. A change that calls itself a
//! refactoring changes none of them; one that is meant to change code says which kernels, why, and how fast they are.

mod common;

use std::hash::{Hash, Hasher};

use fulgurite::Result;
use fulgurite::compiler::cpu::{Isa, Parallelism, Target, replay};
use fulgurite::compiler::lower::lower;
use fulgurite_benches::WORKLOADS;

#[test]
fn the_code_of_every_kernel() -> Result<()> {
    let mut text = String::from("# workload, instruction set: a hash of the code of each kernel, in order\n");
    for workload in WORKLOADS {
        let kernels = (workload.lower)()?.kernels;
        for isa in [Isa::Avx512, Isa::Avx2, Isa::Portable] {
            let target = Target { isa, threads: 1, parallelism: Parallelism::Auto };
            let donated = vec![false; kernels.params.len()];
            let replayed = replay(&lower(kernels.clone(), &donated, target.into())?)?;
            let hashes = replayed.iter().map(|code| {
                let mut hasher = fnv::FnvHasher::default();
                code.hash(&mut hasher);
                let hash = hasher.finish();
                format!(" {:08x}", (hash ^ (hash >> 32)) as u32)
            });
            text += &format!("{}, {}:{}\n", workload.name, isa.name(), hashes.collect::<String>());
        }
    }
    common::golden("replay.txt", &text);
    Ok(())
}

//! The steps of the workloads under criterion, with its statistics and history: `cargo bench --bench steps [-- NAME]`.
//! `step.rs` times the same steps the way `peers.py` does, for the comparison with other libraries.

// The macros at the end make functions without documentation.
#![allow(missing_docs)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fulgurite_benches::WORKLOADS;

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    for workload in WORKLOADS {
        let mut run = (workload.start)();
        group.throughput(Throughput::Bytes(workload.bytes as u64));
        let id = BenchmarkId::new(workload.name, format!("{:.3} MFLOP", workload.flops / 1e6));
        group.bench_function(id, |b| b.iter(|| run().expect("a step of a workload")));
    }
}

/// What it takes from a function to its machine code.
fn lowering(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lower");
    group.sample_size(10);
    for workload in WORKLOADS {
        group.bench_function(workload.name, |b| b.iter(|| (workload.lower)().expect("a workload lowers")));
    }
}

criterion_group!(benches, steps, lowering);
criterion_main!(benches);

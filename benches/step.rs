//! Times one training step of each workload, as `peers.py` does for JAX and PyTorch: the median of five repetitions.
//!
//! `cargo bench --bench step [-- NAME …]` prints microseconds per step and seconds to the first result;
//! `-- --json` prints one JSON object per workload for `compare.py`; `-- --kernels` prints the kernels of each step.

mod workloads;

use std::time::{Duration, Instant};

use fulgurite::Result;
use workloads::{Run, WORKLOADS};

fn time(run: &mut Run, least: Duration) -> Result<f64> {
    run()?;
    let start = Instant::now();
    run()?;
    let one = start.elapsed().as_secs_f64().max(1e-7);
    let count = ((least.as_secs_f64() / 5.0 / one) as usize).clamp(3, 2_000_000);
    let mut medians = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..count {
            run()?;
        }
        medians.push(start.elapsed().as_secs_f64() / count as f64);
    }
    medians.sort_by(f64::total_cmp);
    Ok(medians[2] * 1e6)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let flag = |name: &str| args.iter().any(|a| a == name);
    let names: Vec<&String> = args.iter().filter(|a| !a.starts_with("--")).collect();
    for workload in WORKLOADS.iter().filter(|w| names.is_empty() || names.iter().any(|n| **n == w.name)) {
        if flag("--kernels") {
            println!("== {}\n{}", workload.name, (workload.lower)()?.kernels);
            continue;
        }
        let mut run = (workload.start)();
        let start = Instant::now();
        run()?;
        let first = start.elapsed().as_secs_f64();
        let us = time(&mut run, Duration::from_millis(1500))?;
        if flag("--json") {
            println!(
                "{{\"name\":\"{}\",\"us\":{us:.3},\"first_ms\":{:.3},\"flops\":{},\"bytes\":{}}}",
                workload.name,
                first * 1e3,
                workload.flops,
                workload.bytes
            );
        } else {
            println!("{:16} {us:12.2} us/step   first call {:8.1} ms", workload.name, first * 1e3);
        }
    }
    Ok(())
}

//! Times one training step of each workload, as `peers.py` does for JAX and PyTorch: the median of five repetitions.
//!
//! `cargo bench --bench step [-- NAME …]` prints microseconds per step and seconds to the first result;
//! `-- --json` prints one JSON object per workload for `compare.py`; `-- --kernels` prints the kernels of each step.
//! `mlp@64` is `mlp` with a batch of 64 (`compare.py --scaling`), `product@1024` a single kernel: see `with_size`.
//! `--device=cuda` runs on a GPU (feature `cuda`, `gpu.sh`). `--ms=N` times for N milliseconds, 1,500 unless given.
//! `--steps=N` runs N steps and times none (`instructions.py`). `--first=N` times the N calls after the one that
//! compiles, one by one: what a program costs while it is not yet known whether all threads pay; compare with
//! `FULGURITE_THREADS=1`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use fulgurite::{Device, Error, Result, synchronize, with_device};
use fulgurite_benches::{Run, WORKLOADS, Workload, with_size};

/// Microseconds of a step: the median of five repetitions, each of which ends when the device has done all its steps.
fn time(run: &mut Run, device: Device, least: Duration) -> Result<f64> {
    run()?;
    synchronize(device)?;
    let start = Instant::now();
    run()?;
    synchronize(device)?;
    let one = start.elapsed().as_secs_f64().max(1e-7);
    let count = ((least.as_secs_f64() / 5.0 / one) as usize).clamp(3, 2_000_000);
    let mut medians = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..count {
            run()?;
        }
        synchronize(device)?;
        medians.push(start.elapsed().as_secs_f64() / count as f64);
    }
    medians.sort_by(f64::total_cmp);
    Ok(medians[2] * 1e6)
}

/// A workload by name, ready to run, with its FLOPs and bytes. `mlp@64` is `mlp` with a batch of 64.
fn find(name: &str) -> Option<(Run, f64, f64)> {
    if let Some((name, size)) = name.split_once('@') {
        return with_size(name, size.parse().ok()?).map(|sized| (sized.run, sized.flops, sized.bytes));
    }
    WORKLOADS.iter().find(|w| w.name == name).map(|w| ((w.start)(), w.flops, w.bytes))
}

/// The device that `--device=` names, as `FULGURITE_DEVICE` does.
fn device(name: &str) -> Result<Device> {
    name.parse().map_err(|_| Error::new(format!("--device={name}: a device is `cpu`, `cuda` or `cuda:1`")))
}

/// The first calls after the one that compiles: median, longest and sum, in microseconds.
fn first_calls(run: &mut Run, device: Device, count: usize) -> Result<[f64; 3]> {
    run()?;
    synchronize(device)?;
    let mut took = Vec::new();
    for _ in 0..count.max(1) {
        let start = Instant::now();
        run()?;
        synchronize(device)?;
        took.push(start.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    Ok([took[took.len() / 2], took[took.len() - 1], took.iter().sum()])
}

/// Runs or times workloads on `device`, as the flags in `args` say.
fn measure(args: &[String], device: Device) -> Result<()> {
    let flag = |name: &str| args.iter().any(|a| a == name);
    let number = |name: &str| args.iter().find_map(|a| a.strip_prefix(name)?.parse::<usize>().ok());
    let (steps, first) = (number("--steps="), number("--first="));
    let mut names: Vec<&str> = args.iter().map(String::as_str).filter(|a| !a.starts_with("--")).collect();
    if names.is_empty() {
        names.extend(WORKLOADS.iter().map(|w| w.name));
    }
    if flag("--kernels") {
        for Workload { name, lower, .. } in WORKLOADS.iter().filter(|w| names.contains(&w.name)) {
            println!("== {name}\n{}", lower()?.kernels);
        }
        return Ok(());
    }
    for name in names {
        let Some((mut run, flops, bytes)) = find(name) else { continue };
        if let Some(steps) = steps {
            for _ in 0..steps {
                run()?;
            }
            synchronize(device)?;
            continue;
        }
        if let Some(count) = first {
            let [median, longest, sum] = first_calls(&mut run, device, count)?;
            println!("{name:16} median {median:10.1} us   longest {longest:10.1} us   sum {sum:12.1} us");
            continue;
        }
        // The parameters are there.
        synchronize(device)?;
        let start = Instant::now();
        run()?;
        synchronize(device)?;
        let first = start.elapsed().as_secs_f64() * 1e3;
        let us = time(&mut run, device, Duration::from_millis(number("--ms=").unwrap_or(1500) as u64))?;
        if flag("--json") {
            println!(
                "{{\"name\":\"{name}\",\"us\":{us:.3},\"first_ms\":{first:.3},\"flops\":{flops},\"bytes\":{bytes}}}"
            );
        } else {
            println!("{name:16} {us:12.2} us/step   first call {first:8.1} ms");
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let chosen = args.iter().find_map(|a| a.strip_prefix("--device=")).map_or(Ok(Device::Cpu), device);
    match chosen.and_then(|device| with_device(device, || measure(&args, device))?) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

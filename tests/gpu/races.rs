//! The golden programs under sentryward, a static verifier of PTX: no order of threads is a race, and barriers are
//! reached by all threads.
//!
//! `FULGURITE_SENTRYWARD` names its executable; without it the test is skipped. What the verifier cannot decide,
//! because a branch or an address depends on data or time is up, is counted and printed.

use std::path::{Path, PathBuf};
use std::process::Command;

use fulgurite::compiler::ptx::inst::{InstOp, PtxModule};
use fulgurite::compiler::ptx::{Launch, THREADS};
use fulgurite::prelude::*;
use serde_json::{Value, json};

use super::common;
use super::golden::PROGRAMS;

/// What the verifier says of a kernel that it cannot decide.
const UNDECIDED: [&str; 5] =
    ["unsupported", "timeout", "memory_budget_exceeded", "analysis_budget_exceeded", "allocation_failed"];

/// The seconds that a kernel may take.
const SECONDS: &str = "60";

fn executable() -> Option<PathBuf> {
    let path = std::env::var_os("FULGURITE_SENTRYWARD").map(PathBuf::from);
    if path.is_none() {
        println!("skipped: FULGURITE_SENTRYWARD names no verifier");
    }
    path
}

/// The verdict on a launch, and the messages with it.
fn verify(executable: &Path, folder: &Path, module: &PtxModule, launch: &Launch) -> (String, String) {
    // With this attribute pointers are to different arrays; what two arguments share is not looked at.
    let text = module.to_string().replace("\n  .param .u64 ", "\n  .param .u64 .ptr .global .align 16 ");
    let input = json!({
        "schema": "spverify.kernel-input/v1",
        "entry": module.entries[launch.entry].name,
        "launch": { "grid_dim": [launch.grid, 1, 1], "block_dim": [THREADS, 1, 1] },
    });
    let (ptx, config) = (folder.join("kernel.ptx"), folder.join("input.json"));
    for (path, text) in [(&ptx, text), (&config, input.to_string())] {
        std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    let mut command = Command::new(executable);
    command.arg("--ptx").arg(&ptx).arg("--config").arg(&config).args(["--sync-threads", "1"]);
    command.args(["--wellsync-timeout-seconds", SECONDS, "--timeout-seconds", SECONDS]);
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("no report: {e}\n{}", String::from_utf8_lossy(&output.stderr));
    });
    let messages = report["diagnostics"].as_array().into_iter().flatten().map(|entry| entry["message"].as_str());
    let messages: Vec<&str> = messages.map(Option::unwrap_or_default).collect();
    (report["result"].as_str().unwrap_or("no result").into(), messages.join("; "))
}

/// The launches of a run, each entry once. The verifier knows no fences: it is not asked about cooperative ones.
fn launches(launches: &[Launch]) -> Vec<&Launch> {
    let mut first: Vec<&Launch> = Vec::new();
    for launch in launches.iter().filter(|launch| !launch.cooperative) {
        if first.iter().all(|other| (other.entry, other.grid) != (launch.entry, launch.grid)) {
            first.push(launch);
        }
    }
    first
}

#[test]
fn kernels_have_no_races_in_any_order() -> Result<()> {
    let Some(executable) = executable() else { return Ok(()) };
    let folder = common::folder("sentryward");
    let (mut free, mut undecided, mut faults) = (0, 0, Vec::new());
    for program in PROGRAMS {
        let module = program.module()?;
        for launch in launches(&module.launches) {
            let (result, messages) = verify(&executable, &folder, &module.ptx, launch);
            let name = format!("{}, {launch}: {result}: {messages}", program.name);
            match &*result {
                "race_free" => free += 1,
                result if UNDECIDED.contains(&result) => {
                    undecided += 1;
                    println!("{name}");
                }
                _ => faults.push(name),
            }
        }
    }
    println!("{free} kernels are free of races, {undecided} are undecided");
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(free > undecided, "most kernels are decided");
    Ok(())
}

/// The verifier finds what it is there for: a product without its barriers.
#[test]
fn a_missing_barrier_is_found() -> Result<()> {
    let Some(executable) = executable() else { return Ok(()) };
    let product = PROGRAMS.iter().find(|program| program.name == "batched_product").expect("a program");
    let mut module = product.module()?;
    for entry in &mut module.ptx.entries {
        entry.body.retain(|inst| inst.op != InstOp::Bar);
    }
    let folder = common::folder("sentryward-barrier");
    let (result, _) = verify(&executable, &folder, &module.ptx, &module.launches[0]);
    assert_eq!(result, "potential_race");
    Ok(())
}

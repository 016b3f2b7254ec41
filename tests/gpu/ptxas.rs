//! `ptxas` assembles every op and every workload for each architecture, without a message, a spill or local memory.
//!
//! `FULGURITE_PTXAS` names the assembler, of CUDA 12.9; without it the tests are skipped.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use fulgurite::compiler::fuse::fuse;
use fulgurite::compiler::graph::{Graph, samples};
use fulgurite::compiler::opt::optimise;
use fulgurite::compiler::ptx::inst::PtxModule;
use fulgurite::compiler::ptx::{Module, Target};
use fulgurite::prelude::*;
use fulgurite_benches::WORKLOADS;

use super::common;
use super::golden::PROGRAMS;

/// The architectures, of Volta to Blackwell.
const CAPABILITIES: [u32; 6] = [70, 75, 80, 90, 100, 120];

/// The version whose numbers of registers are stored.
const VERSION: &str = "V12.9.86";

/// The assembler; without one, a line says so.
fn ptxas() -> Option<PathBuf> {
    let path = std::env::var_os("FULGURITE_PTXAS").map(PathBuf::from);
    if path.is_none() {
        println!("skipped: FULGURITE_PTXAS names no ptxas");
    }
    path
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn target(capability: u32) -> Target {
    Target { capability, ..Target::default() }
}

fn lower(graph: &Graph, capability: u32) -> Result<Module> {
    let kernels = fuse(&optimise(graph)?);
    let donated = vec![false; kernels.params.len()];
    Module::lower(kernels, &donated, target(capability))
}

/// What the assembler says of an entry.
struct Resources {
    name: String,
    registers: u32,
    shared: u32,
}

/// The number before `unit` in a message.
fn number(message: &str, unit: &str) -> u32 {
    let before = message.find(unit).map_or("", |at| message[..at].trim_end());
    before.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Assembles a module. Whatever is not the report of an entry is a fault, as are spills and local memory.
fn assemble(ptxas: &Path, name: &str, module: &PtxModule) -> std::result::Result<Vec<Resources>, String> {
    let path = common::folder(&format!("ptxas-{name}-{}", module.target)).join("module.ptx");
    std::fs::write(&path, module.to_string()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut command = Command::new(ptxas);
    command.arg("-v").arg(format!("-arch=sm_{}", module.target)).arg(&path);
    let (success, output) = run(command.arg("-o").arg(path.with_extension("cubin")));
    let (mut entries, mut faults): (Vec<Resources>, String) = (vec![], String::new());
    for line in output.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let name = rest.split('\'').next().unwrap_or_default().into();
            entries.push(Resources { name, registers: 0, shared: 0 });
        } else if line.contains("bytes stack frame") {
            let units = ["bytes stack frame", "bytes spill stores", "bytes spill loads"];
            if units.iter().any(|unit| number(line, unit) > 0) {
                let entry = entries.last().map_or("", |entry| &entry.name);
                writeln!(faults, "{name}, sm_{}, {entry}: {}", module.target, line.trim()).expect("a string");
            }
        } else if let (true, Some(entry)) = (line.contains("Used "), entries.last_mut()) {
            (entry.registers, entry.shared) = (number(line, " registers"), number(line, " bytes smem"));
            if line.contains("lmem") {
                writeln!(faults, "{name}, sm_{}, {}: {line}", module.target, entry.name).expect("a string");
            }
        } else if !["Function properties for", "bytes gmem", "Compile time"].iter().any(|text| line.contains(text)) {
            writeln!(faults, "{name}, sm_{}: {line}", module.target).expect("a string");
        }
    }
    if !success || entries.len() != module.entries.len() {
        writeln!(faults, "{name}, sm_{}: {} of {} entries", module.target, entries.len(), module.entries.len())
            .expect("a string");
    }
    if faults.is_empty() { Ok(entries) } else { Err(faults) }
}

/// The entries of many modules as one, under new names.
fn together(modules: impl IntoIterator<Item = Module>, capability: u32) -> PtxModule {
    let mut entries: Vec<_> = modules.into_iter().flat_map(|module| module.ptx.entries).collect();
    for (i, entry) in entries.iter_mut().enumerate() {
        entry.name = format!("k{i}");
    }
    PtxModule { version: target(capability).version(), target: capability, entries }
}

#[test]
fn every_op_assembles_for_each_architecture() -> Result<()> {
    let Some(ptxas) = ptxas() else { return Ok(()) };
    let mut graphs: Vec<Graph> = samples().iter().map(|sample| sample.graph()).collect();
    graphs.extend(PROGRAMS.iter().map(|program| program.graph()).collect::<Result<Vec<_>>>()?);
    let mut faults = String::new();
    for capability in CAPABILITIES {
        let modules = graphs.iter().map(|graph| lower(graph, capability)).collect::<Result<Vec<_>>>()?;
        let module = together(modules, capability);
        println!("sm_{capability}: {} entries", module.entries.len());
        faults += &assemble(&ptxas, "ops", &module).err().unwrap_or_default();
    }
    assert!(faults.is_empty(), "\n{faults}");
    Ok(())
}

#[test]
fn workloads_assemble_without_spills() -> Result<()> {
    let Some(ptxas) = ptxas() else { return Ok(()) };
    let mut faults = String::new();
    let mut table = format!(
        "# ptxas {VERSION}, sm_80: the kernels of each workload as registers, or registers/bytes of shared memory\n"
    );
    for workload in WORKLOADS {
        let graph = (workload.lower)()?.graph;
        for capability in CAPABILITIES {
            let module = lower(&graph, capability)?.ptx;
            match assemble(&ptxas, workload.name, &module) {
                Ok(mut entries) if capability == 80 => {
                    entries.sort_by_key(|entry| module.entries.iter().position(|other| other.name == entry.name));
                    let entries = entries.iter().map(|Resources { registers, shared, .. }| match shared {
                        0 => format!(" {registers}"),
                        shared => format!(" {registers}/{shared}"),
                    });
                    table += &format!("{}:{}\n", workload.name, entries.collect::<String>());
                }
                Ok(_) => {}
                Err(why) => faults += &why,
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
    if run(Command::new(&ptxas).arg("--version")).1.contains(VERSION) {
        common::golden("ptxas.txt", &table);
    } else {
        println!("the numbers of registers are not compared: ptxas is not {VERSION}");
    }
    Ok(())
}

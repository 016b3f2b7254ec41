//! `ptxas` assembles every op and every workload for each architecture, without a message, a spill or local memory
//! beyond what a kernel declares.
//!
//! `FULGURITE_PTXAS` names the assembler, of CUDA 12.9; without it the tests are skipped.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use fulgurite::Precision;
use fulgurite::compiler::fuse::fuse;
use fulgurite::compiler::graph::{Graph, Sample, samples};
use fulgurite::compiler::opt::optimise;
use fulgurite::compiler::ptx::inst::PtxModule;
use fulgurite::compiler::ptx::{self, Module, Target};
use fulgurite::prelude::*;
use fulgurite_benches::WORKLOADS;
use fulgurite_jit::testing::{Config, program};

use super::common;
use super::golden::{PROGRAMS, Program, TENSOR_CORES};
use super::precision::{Layout, product};

/// The architectures, of Volta to Blackwell.
const CAPABILITIES: [u32; 6] = [70, 75, 80, 90, 100, 120];

/// How many random programs are assembled, for the oldest architecture.
const PROGRAMS_DRAWN: u64 = 60;

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
    /// Bytes of local memory.
    stack: u32,
}

/// The number before `unit` in a message.
fn number(message: &str, unit: &str) -> u32 {
    let before = message.find(unit).map_or("", |at| message[..at].trim_end());
    before.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// What `ptxas -v` says of each entry. Whatever is not the report of an entry is a fault, as are spills.
fn read(output: &str) -> (Vec<Resources>, Vec<String>) {
    let (mut entries, mut faults): (Vec<Resources>, Vec<String>) = (vec![], vec![]);
    for line in output.lines() {
        let name = || entries.last().map_or("", |entry| &entry.name);
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let name = rest.split('\'').next().unwrap_or_default().into();
            entries.push(Resources { name, registers: 0, shared: 0, stack: 0 });
        } else if line.contains("bytes stack frame") {
            let units = ["bytes spill stores", "bytes spill loads"];
            if units.iter().any(|unit| number(line, unit) > 0) {
                faults.push(format!("{}: {}", name(), line.trim()));
            }
            if let Some(entry) = entries.last_mut() {
                entry.stack = number(line, "bytes stack frame");
            }
        } else if line.contains("Used ") {
            if line.contains("lmem") {
                faults.push(format!("{}: {line}", name()));
            }
            if let Some(entry) = entries.last_mut() {
                (entry.registers, entry.shared) = (number(line, " registers"), number(line, " bytes smem"));
            }
        } else if !["Function properties for", "bytes gmem", "Compile time"].iter().any(|text| line.contains(text)) {
            faults.push(line.into());
        }
    }
    (entries, faults)
}

/// Assembles a module for a device.
fn assemble(
    ptxas: &Path,
    name: &str,
    module: &PtxModule,
    capability: u32,
) -> std::result::Result<Vec<Resources>, String> {
    let path = common::folder(&format!("ptxas-{name}-{capability}")).join("module.ptx");
    std::fs::write(&path, module.to_string()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut command = Command::new(ptxas);
    command.arg("-v").arg(format!("-arch=sm_{capability}")).arg(&path);
    let (success, output) = run(command.arg("-o").arg(path.with_extension("cubin")));
    let (entries, mut faults) = read(&output);
    if !success || entries.len() != module.entries.len() {
        faults.push(format!("{} of {} entries", entries.len(), module.entries.len()));
    }
    for entry in &entries {
        let declared = module.entries.iter().find(|e| e.name == entry.name).map_or(0, |e| e.local);
        if entry.stack > declared.next_multiple_of(16) {
            faults.push(format!("{}: {} bytes of local memory, {declared} are declared", entry.name, entry.stack));
        }
    }
    let faults = faults.iter().map(|fault| format!("{name}, sm_{capability}: {fault}\n"));
    if faults.len() == 0 { Ok(entries) } else { Err(faults.collect()) }
}

/// Assembles a module, if there is an assembler.
pub(crate) fn check(name: &str, module: &PtxModule) {
    let faults = faults(name, module, module.target);
    assert!(faults.is_empty(), "\n{faults}");
}

/// As [`check`], for each architecture, of three loops in each other. The assembler keeps one word of them in memory
/// for sm_70, with 48 of 255 registers in use, and none for the others.
pub(crate) fn check_nested(name: &str, module: &PtxModule) {
    for capability in CAPABILITIES {
        let is_word = |fault: &&str| capability == 70 && fault.contains(": 8 bytes ");
        let faults = faults(name, module, capability);
        let others: Vec<&str> = faults.lines().filter(|fault| !is_word(fault)).collect();
        assert!(others.is_empty(), "\n{}", others.join("\n"));
    }
}

/// What is wrong with a module for a device, a line each.
fn faults(name: &str, module: &PtxModule, capability: u32) -> String {
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    ptxas().and_then(|ptxas| assemble(&ptxas, &name, module, capability).err()).unwrap_or_default()
}

/// The different entries of modules as one module, under new names.
fn together(modules: &[Module], capability: u32) -> PtxModule {
    let mut known = HashSet::new();
    let mut entries = Vec::new();
    for entry in modules.iter().flat_map(|module| &module.ptx.entries) {
        let mut entry = entry.clone();
        entry.name = "k".into();
        if known.insert(entry.to_string()) {
            entry.name = format!("k{}", entries.len());
            entries.push(entry);
        }
    }
    PtxModule { version: ptx::VERSION, target: target(capability).architecture(), entries }
}

#[test]
fn every_kernel_assembles_for_each_architecture() -> Result<()> {
    let Some(ptxas) = ptxas() else { return Ok(()) };
    let mut graphs: Vec<Graph> = samples().iter().map(Sample::graph).collect();
    graphs.extend(PROGRAMS.iter().chain(TENSOR_CORES).map(Program::graph).collect::<Result<Vec<_>>>()?);
    for workload in WORKLOADS {
        graphs.push((workload.lower)()?.graph);
    }
    let mut modules = Vec::new();
    for capability in CAPABILITIES {
        let lowered = graphs.iter().map(|graph| lower(graph, capability)).collect::<Result<Vec<_>>>()?;
        modules.push(together(&lowered, capability));
    }
    println!("{} kernels", modules[0].entries.len());
    let faults: Vec<String> = std::thread::scope(|scope| {
        let ptxas = &ptxas;
        let assemble = |(module, capability)| {
            scope.spawn(move || assemble(ptxas, "all", module, capability).err().unwrap_or_default())
        };
        let threads: Vec<_> = modules.iter().zip(CAPABILITIES).map(assemble).collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    });
    let faults = faults.concat();
    assert!(faults.is_empty(), "\n{faults}");
    Ok(())
}

/// Tiles of each size, whole and not, of operands of each layout: none spills.
#[test]
fn products_by_tensor_cores_assemble() -> Result<()> {
    let Some(ptxas) = ptxas() else { return Ok(()) };
    let layouts = [Layout::Rows, Layout::Columns, Layout::Strided];
    let mut graphs = Vec::new();
    for precision in [Precision::Tf32, Precision::Bf16] {
        for (a, b) in layouts.iter().flat_map(|&a| layouts.map(|b| (a, b))) {
            for extents in [[1, 1536, 1536, 96], [1, 1535, 1533, 97], [1, 768, 768, 96], [1, 200, 200, 97]] {
                graphs.push(product(precision, extents, [a, b])?);
            }
        }
    }
    for capability in [80, 90, 100, 120] {
        let modules: Vec<Module> = graphs.iter().map(|graph| lower(graph, capability)).collect::<Result<_>>()?;
        let module = together(&modules, capability);
        println!("{} kernels", module.entries.len());
        let entries = assemble(&ptxas, "products", &module, capability).unwrap_or_else(|faults| panic!("\n{faults}"));
        let most = entries.iter().map(|entry| entry.registers).max();
        println!("sm_{capability}: at most {most:?} registers");
    }
    Ok(())
}

/// Random programs have combinations of instructions that no sample has.
#[test]
fn random_programs_assemble() -> Result<()> {
    let Some(ptxas) = ptxas() else { return Ok(()) };
    let config = Config { large: 0, ..Config::COMPILED };
    let modules = (1..=PROGRAMS_DRAWN).map(|seed| lower(&program(seed, &config).0, CAPABILITIES[0]));
    let module = together(&modules.collect::<Result<Vec<_>>>()?, CAPABILITIES[0]);
    println!("{} kernels", module.entries.len());
    assemble(&ptxas, "random", &module, CAPABILITIES[0]).map(drop).unwrap_or_else(|faults| panic!("\n{faults}"));
    Ok(())
}

#[test]
fn registers_of_the_workloads() -> Result<()> {
    let Some(ptxas) = ptxas() else { return Ok(()) };
    if !run(Command::new(&ptxas).arg("--version")).1.contains(VERSION) {
        println!("skipped: the stored numbers are those of ptxas {VERSION}");
        return Ok(());
    }
    let mut table = format!("# ptxas {VERSION}, sm_80: kernels of each workload\n");
    let mut programs: Vec<(&str, Graph)> = Vec::new();
    for workload in WORKLOADS {
        programs.push((workload.name, (workload.lower)()?.graph));
    }
    for product in TENSOR_CORES {
        programs.push((product.name, product.graph()?));
    }
    for (name, graph) in programs {
        let module = lower(&graph, 80)?.ptx;
        let mut entries = assemble(&ptxas, name, &module, 80).unwrap_or_else(|faults| panic!("\n{faults}"));
        entries.sort_by_key(|entry| module.entries.iter().position(|other| other.name == entry.name));
        table += &format!("\n{name}\n");
        for Resources { name, registers, shared, .. } in entries {
            table += &format!("  {name}: {registers} registers, {shared} bytes of shared memory\n");
        }
    }
    common::golden("ptxas.txt", &table);
    Ok(())
}

#[test]
fn what_ptxas_says_is_read() {
    let report = |spilled: u32, local: &str| {
        format!(
            "ptxas info    : 0 bytes gmem\nptxas info    : Compiling entry function 'k0' for 'sm_80'\n\
             ptxas info    : Function properties for k0\n    {spilled} bytes stack frame, 0 bytes spill stores, 0 bytes \
             spill loads\nptxas info    : Used 47 registers, used 1 barriers, 8192 bytes smem, 376 bytes \
             cmem[0]{local}\nptxas info    : Compile time = 7.5 ms\n"
        )
    };
    let (entries, faults) = read(&report(0, ""));
    assert_eq!((&*entries[0].name, entries[0].registers, entries[0].shared), ("k0", 47, 8192));
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(read(&report(16, "")).0[0].stack, 16);
    assert_eq!(read(&report(0, ", 8 bytes lmem")).1.len(), 1);
    assert_eq!(read("ptxas warning : a warning").1, ["ptxas warning : a warning"]);
}

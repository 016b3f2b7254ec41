//! `FULGURITE_DUMP`: a comma-separated list of compiler stages whose output is printed to stderr. `FULGURITE_TRACE`: a
//! file for the times of all kernels, which the runtime writes.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};

/// A stage that can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The graph as traced.
    Graph,
    /// The graphs of differentiation.
    Grad,
    /// The graph after the passes.
    Opt,
    /// The kernels, the phases (on a GPU, the launches), and the memory plan.
    Kernels,
    /// The loops of each kernel.
    Loops,
    /// Cranelift's code of each kernel.
    Clif,
    /// The machine code of each kernel.
    Asm,
    /// The PTX of a program for a GPU.
    Ptx,
    /// Milliseconds per pass; microseconds per kernel, timed one by one, and on the processor per phase.
    Time,
    /// Cache misses: which argument changed, and how; and evicted programs.
    Cache,
}

impl Stage {
    /// Every stage, with its name in the variable.
    pub const ALL: [(&'static str, Stage); 10] = [
        ("graph", Stage::Graph),
        ("grad", Stage::Grad),
        ("opt", Stage::Opt),
        ("kernels", Stage::Kernels),
        ("loops", Stage::Loops),
        ("clif", Stage::Clif),
        ("asm", Stage::Asm),
        ("ptx", Stage::Ptx),
        ("time", Stage::Time),
        ("cache", Stage::Cache),
    ];
}

/// Whether the stage is to be printed.
pub fn wants(stage: Stage) -> bool {
    static WANTED: OnceLock<Vec<Stage>> = OnceLock::new();
    WANTED
        .get_or_init(|| {
            let text = std::env::var("FULGURITE_DUMP").unwrap_or_default();
            let mut wanted = Vec::new();
            for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                match Stage::ALL.iter().find(|(stage, _)| *stage == name) {
                    Some((_, stage)) => wanted.push(*stage),
                    None => {
                        let names: Vec<&str> = Stage::ALL.iter().map(|(name, _)| *name).collect();
                        eprintln!("FULGURITE_DUMP: there is no stage {name:?}; there are {}", names.join(", "));
                    }
                }
            }
            wanted
        })
        .contains(&stage)
}

/// The file that `FULGURITE_TRACE` names.
pub fn trace_file() -> Option<&'static Path> {
    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("FULGURITE_TRACE").filter(|path| !path.is_empty()).map(PathBuf::from));
    FILE.as_deref()
}

/// Whether the first calls of programs time each kernel: for the stage `time`, or for a trace.
#[inline]
pub fn times_kernels() -> bool {
    static TIMES: LazyLock<bool> = LazyLock::new(|| wants(Stage::Time) || trace_file().is_some());
    *TIMES
}

/// Prints the output of a stage, if `FULGURITE_DUMP` names it.
pub fn dump(stage: Stage, title: &str, text: &dyn Display) {
    if wants(stage) {
        let text = text.to_string();
        eprintln!("// {title}\n{}", text.trim_end());
    }
}

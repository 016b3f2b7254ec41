//! Lowering: everything that is decided before there is code.
//!
//! Comes in: kernels, and a [`Machine`]. Goes out: a [`Module`]: the loops of each kernel, the order of the kernels and
//! which of them run in parallel, where buffers lie, and for each kernel which code is called with which buffers. It
//! prints, holds no addresses, and needs no device. The back ends only translate it.
//!
//! `machine` has all numbers that depend on a processor. `lane` is the program of one element, `loops` what runs around
//! it, `gemm` the plan of a matrix product, `region` a module inside of a module, `call` a call of any of them.
//! `parallel` orders the kernels and divides them between threads, `memory` places buffers.

pub mod call;
pub mod gemm;
pub mod lane;
pub mod loops;
pub mod machine;
pub mod matrices;
pub mod memory;
pub mod parallel;
pub mod region;

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::fuse::{Kernel, Kernels, LoopKernel};
use call::{Call, plan_gemm, work_ranges};
use loops::{Loops, schedule};
use machine::{MAX_THREADS, Machine};
use memory::{Plan, plan};
use parallel::{Phase, Tiling, Work, arrange, permute};
use region::Region;

/// A program before it is code.
#[derive(Clone, Debug)]
pub struct Module {
    /// What it is lowered for.
    pub machine: Machine,
    /// The kernels in execution order.
    pub kernels: Kernels,
    /// The distinct loop nests. Kernels that differ only in the identity of their buffers share one.
    pub loops: Vec<Loops>,
    /// For each kernel the code that is called, and its arguments.
    pub calls: Vec<Call>,
    /// The phases, in execution order.
    pub phases: Vec<Phase>,
    /// For each thread its work ranges: a word for each serial phase, nonzero on the thread that runs it; two words for
    /// each group of a parallel phase, the begin and the end of the thread's range; for a parallel region, the work
    /// ranges of its body.
    pub ranges: Vec<Vec<usize>>,
    /// The work ranges of one thread that runs everything.
    pub serial_ranges: Vec<usize>,
    /// Where buffers lie.
    pub plan: Plan,
    /// Bytes of scratch memory per thread.
    pub scratch: usize,
    /// Estimated time on one thread.
    pub nanoseconds: f64,
}

/// Lowers `kernels`. `donated` marks the inputs that may be overwritten.
///
/// # Errors
/// If the number of threads is 0 or above [`MAX_THREADS`].
pub fn lower(mut kernels: Kernels, donated: &[bool], machine: Machine) -> Result<Module> {
    let target = machine.target;
    if !(1..=MAX_THREADS).contains(&target.threads) {
        let threads = target.threads;
        return Err(Error::new(format!("compile: a program runs on 1 to {MAX_THREADS} threads, not on {threads}")));
    }
    let mut known: HashMap<LoopKernel, usize> = HashMap::new();
    let mut distinct: Vec<LoopKernel> = Vec::new();
    let mut calls: Vec<Call> = Vec::with_capacity(kernels.kernels.len());
    for kernel in &kernels.kernels {
        calls.push(match kernel {
            Kernel::Loop(kernel) => {
                let segments = kernel.segments.clone();
                let (kernel, args) = kernel.canonical(!segments.is_empty());
                let code = *known.entry(kernel).or_insert_with_key(|kernel| {
                    distinct.push(kernel.clone());
                    distinct.len() - 1
                });
                Call::Loop { code, args, segments }
            }
            Kernel::Gemm(g) => {
                let byte = |offset: isize| offset as i64 * g.dtype.size() as i64;
                let args = [(g.a.0, byte(g.a.1)), (g.b.0, byte(g.b.1)), (g.c.0, byte(g.c.1))];
                Call::Gemm { gemm: Box::new(plan_gemm(g, target.isa, None)), dtype: g.dtype, args }
            }
            Kernel::Routine(kernel) => {
                let args = kernel.operands.iter().chain(&kernel.results).copied().collect();
                Call::Routine { routine: Box::new(kernel.routine.clone()), args }
            }
            Kernel::Region(kernel) => Call::Region(Box::new(Region::lower(kernel, &machine)?)),
        });
    }
    let loops = parallel_map(&distinct, target.threads, |kernel| schedule(kernel, &machine));
    let work: Vec<Work> = calls.iter().map(|call| call.work(&loops, &machine.cost)).collect();
    let tiling: Vec<Option<Tiling>> =
        calls.iter().enumerate().map(|(k, call)| Tiling::of(&kernels, k, call.outermost(&loops), machine.l2)).collect();
    let (order, phases) = arrange(&kernels, &work, &tiling, donated, &machine);
    kernels.kernels = permute(kernels.kernels, &order);
    let (mut calls, work) = (permute(calls, &order), permute(work, &order));
    for group in phases.iter().flat_map(|phase| &phase.groups) {
        let Some(tiles) = group.tiles else { continue };
        for k in group.kernels.clone() {
            if let (Call::Gemm { gemm, .. }, Kernel::Gemm(g)) = (&mut calls[k], &kernels.kernels[k]) {
                **gemm = plan_gemm(g, target.isa, Some(tiles.count));
            }
        }
    }
    let workspaces: Vec<usize> = calls.iter().map(Call::workspace).collect();
    let plan = plan(&kernels, donated, &phases, &workspaces);
    let scratch = calls.iter().map(|call| call.scratch(&loops)).max().unwrap_or(0).next_multiple_of(64);
    let ranges = |threads| work_ranges(threads, &phases, &calls, &work, &loops);
    let (ranges, serial_ranges) = (ranges(target.threads), ranges(1).concat());
    let nanoseconds = work.iter().map(|work| work.nanoseconds).sum();
    Ok(Module { machine, kernels, loops, calls, phases, ranges, serial_ranges, plan, scratch, nanoseconds })
}

impl Module {
    /// Whether any phase is parallel.
    pub fn is_parallel(&self) -> bool {
        self.phases.iter().any(|phase| phase.parallel)
    }
}

/// Items are processed in parallel if there are at least this many.
const MIN_PARALLEL_ITEMS: usize = 12;

/// `f` of each item, on several threads if there are many: a pure function.
pub(crate) fn parallel_map<T: Sync, R: Send + Sync>(items: &[T], threads: usize, f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if threads == 1 || items.len() < MIN_PARALLEL_ITEMS {
        return items.iter().map(f).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Vec<OnceLock<R>> = items.iter().map(|_| OnceLock::new()).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Relaxed);
                    let (Some(item), Some(result)) = (items.get(i), results.get(i)) else { return };
                    // Each index is claimed once, so the cell is empty.
                    let _ = result.set(f(item));
                }
            });
        }
    });
    results.into_iter().map(|result| result.into_inner().expect("every item is claimed by a thread")).collect()
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-- kernels\n{}", self.kernels)?;
        for (code, loops) in self.loops.iter().enumerate() {
            let of = self.calls.iter().position(|call| matches!(call, Call::Loop { code: c, .. } if *c == code));
            writeln!(f, "-- loops of k{}\n{loops}", of.unwrap_or_default())?;
        }
        writeln!(f, "-- phases")?;
        for phase in &self.phases {
            writeln!(f, "{phase}")?;
        }
        write!(f, "-- memory\n{}", self.plan)?;
        for (k, call) in self.calls.iter().enumerate() {
            if let Call::Region(region) = call {
                writeln!(f, "-- region k{k}")?;
                for line in region.module.to_string().lines() {
                    writeln!(f, "  {line}")?;
                }
            }
        }
        Ok(())
    }
}

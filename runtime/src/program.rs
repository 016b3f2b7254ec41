//! A program: machine code, and the memory it works in. All pointers that reach machine code pass through here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fulgurite_jit::array::Buffer;
use fulgurite_jit::cpu::{self, Code, Isa, Launch, Sharing, Target};
use fulgurite_jit::dump::{Stage, dump, wants};
use fulgurite_jit::fuse::{Kernels, Output, fuse};
use fulgurite_jit::graph::Graph;
use fulgurite_jit::memory::Place;
use fulgurite_jit::opt::optimise_with;
use fulgurite_jit::{Array, Result, TensorType};

use crate::pool::{team, threads};

/// How many buffers of one output are kept for later calls, while their arrays are alive.
const POOL: usize = 8;

/// After this many calls `FULGURITE_DUMP=time` prints the time of each kernel.
const TIMED_CALLS: u32 = 50;

/// A compiled graph, ready to be called, from several threads at once if need be.
pub struct Program {
    code: Code,
    name: String,
    /// Arenas that no call is using.
    arenas: Mutex<Vec<Buffer>>,
    /// For each output that is not written in place: the buffers given out before. One that nobody else holds any
    /// more is used again.
    pools: Mutex<Vec<Vec<Arc<Buffer>>>>,
    timing: Mutex<Timing>,
}

#[derive(Default)]
struct Timing {
    calls: u32,
    kernels: Vec<Duration>,
}

impl Program {
    /// Optimises, fuses and compiles `graph`. `donated` says which inputs may be overwritten by outputs.
    ///
    /// # Errors
    /// A fault of the compiler (see [`fulgurite_jit::Error::compiler`]).
    pub fn compile(name: &str, graph: &Graph, donated: &[bool]) -> Result<Program> {
        Program::compile_for(
            name,
            graph,
            donated,
            Target { isa: Isa::detect(), threads: threads(), sharing: Sharing::WherePays },
        )
    }

    /// As [`Program::compile`], for other vectors and threads; the results are the same to the bit for all.
    ///
    /// # Errors
    /// As [`Program::compile`].
    pub fn compile_for(name: &str, graph: &Graph, donated: &[bool], target: Target) -> Result<Program> {
        let start = Instant::now();
        dump(Stage::Graph, &format!("{name}: graph"), graph);
        let mut report = String::new();
        let graph = optimise_with(graph, &mut |pass, _, took, changed| {
            if wants(Stage::Time) {
                let note = if changed { "" } else { " (unchanged)" };
                report += &format!("{pass:>12} {:9.3} ms{note}\n", took.as_secs_f64() * 1e3);
            }
        })?;
        dump(Stage::Opt, &format!("{name}: optimised graph"), &graph);
        let fusing = Instant::now();
        let kernels = fuse(&graph);
        let fused = fusing.elapsed();
        let code = cpu::compile(kernels, donated, target)?;
        if wants(Stage::Time) {
            for (stage, took) in [("fuse", fused)].iter().chain(&code.times) {
                report += &format!("{stage:>12} {:9.3} ms\n", took.as_secs_f64() * 1e3);
            }
            report += &format!("{:>12} {:9.3} ms", "in all", start.elapsed().as_secs_f64() * 1e3);
            dump(Stage::Time, &format!("{name}: compile time"), &report);
        }
        let pools = Mutex::new(vec![Vec::new(); code.kernels.outputs.len()]);
        Ok(Program { code, name: name.into(), arenas: Mutex::default(), pools, timing: Mutex::default() })
    }

    /// The kernels that a call runs.
    pub fn kernels(&self) -> &Kernels {
        &self.code.kernels
    }

    /// Bytes of working memory of a call (scratch memory of the threads aside), and the least that this order of the
    /// kernels could do with.
    pub fn arena_bytes(&self) -> (usize, usize) {
        (self.code.plan.arena, self.code.plan.peak)
    }

    /// Runs the program. An input that is written in place is overwritten if `inputs` holds the only handle to its
    /// buffer, and copied before otherwise.
    ///
    /// # Panics
    /// When the inputs are not of the number and types that the program was compiled for: callers look programs up by
    /// these.
    pub fn run(&self, mut inputs: Vec<Array>) -> Vec<Array> {
        let Code { plan, kernels, .. } = &self.code;
        assert_eq!(inputs.len(), kernels.params.len(), "a program is called with the inputs it was compiled for");
        for (input, ty) in inputs.iter().zip(&kernels.params) {
            assert_eq!(input.ty(), ty, "a program is called with the types it was compiled for");
        }
        let mut given: Vec<Option<Arc<Buffer>>> = vec![None; kernels.outputs.len()];
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        for (o, output) in kernels.outputs.iter().enumerate() {
            let Output::Computed(b, ty) = output else { continue };
            if plan.places[b.index()] != Place::Output(o) {
                continue; // The same value as an earlier output.
            }
            given[o] = Some(match plan.in_place[o] {
                Some(i) => own(&mut inputs[i], &pools),
                None => fresh(&mut pools[o], ty),
            });
        }
        drop(pools);
        let params: Vec<*mut u8> = inputs.iter().map(|x| x.buffer().start()).collect();
        let results: Vec<*mut u8> =
            given.iter().map(|b| b.as_ref().map_or(std::ptr::null_mut(), |b| b.start())).collect();
        let arena = self.arenas.lock().ok().and_then(|mut arenas| arenas.pop());
        let arena = arena.unwrap_or_else(|| Buffer::zeroed(self.code.memory(self.code.parts.len())));
        self.launch(&params, &results, &arena);
        if let Ok(mut arenas) = self.arenas.lock() {
            arenas.push(arena);
        }
        kernels
            .outputs
            .iter()
            .map(|output| match output {
                Output::Param(i, ty) => Array::new(ty.clone(), inputs[*i].buffer().clone()),
                Output::Constant(array) => array.clone(),
                Output::Computed(b, ty) => {
                    // A value that is returned twice is two handles to one buffer.
                    let Place::Output(o) = plan.places[b.index()] else {
                        unreachable!("an output lies in an output's memory")
                    };
                    Array::new(ty.clone(), given[o].clone().expect("every computed output was given a buffer"))
                }
            })
            .collect()
    }

    /// Runs the machine code. The pointers must be to buffers of the sizes that it was compiled for, those to results
    /// and `memory` this call's alone.
    fn launch(&self, params: &[*mut u8], results: &[*mut u8], memory: &Buffer) {
        let alone = self.code.alone(params, results, memory.start());
        if wants(Stage::Time) {
            return self.run_timed(&alone);
        }
        let threads = self.code.parts.len();
        let together = self.code.phases.iter().any(|phase| phase.together);
        let Some(team) = together.then(|| team(threads)).flatten() else {
            // SAFETY: the caller's promise.
            return unsafe { self.code.entry()(&alone) };
        };
        let (wait, barrier) = team.meeting();
        let shared = Shared(Launch { wait, team: barrier, ..alone });
        team.run(&|thread| {
            let scratch = memory.start().wrapping_add(self.code.memory(thread));
            let launch = Launch { parts: self.code.parts[thread].as_ptr(), scratch, ..*shared.get() };
            // SAFETY: the caller's promise; the threads write to different places, and each has its own scratch memory.
            unsafe { self.code.entry()(&launch) };
        });
    }

    fn run_timed(&self, launch: &Launch) {
        let count = self.code.kernels.kernels.len();
        let mut took = vec![Duration::ZERO; count];
        for (k, took) in took.iter_mut().enumerate() {
            let start = Instant::now();
            // SAFETY: as in `launch`; the kernels run in their order.
            unsafe { self.code.single()(launch, k) }
            *took = start.elapsed();
        }
        let Ok(mut timing) = self.timing.lock() else { return };
        timing.calls += 1;
        // The first half warms up.
        if timing.calls > TIMED_CALLS / 2 {
            timing.kernels.resize(count, Duration::ZERO);
            for (sum, took) in timing.kernels.iter_mut().zip(&took) {
                *sum += *took;
            }
        }
        if timing.calls == TIMED_CALLS {
            let micros = |d: Duration| d.as_secs_f64() * 1e6 / f64::from(TIMED_CALLS - TIMED_CALLS / 2);
            let mut lines = String::new();
            for (k, (kernel, sum)) in self.code.kernels.kernels.iter().zip(&timing.kernels).enumerate() {
                let text = kernel_title(kernel);
                lines += &format!("k{k:<4} {:9.2} us  {text}\n", micros(*sum));
            }
            lines += &format!("{:<5} {:9.2} us", "all", micros(timing.kernels.iter().sum()));
            dump(Stage::Time, &format!("{}: time per kernel, each called by itself on one thread", self.name), &lines);
        }
    }
}

/// A launch that all threads look at.
struct Shared(Launch);

// SAFETY: the pointers are to memory that outlives the call, and what is behind them is written by machine code only,
// which is given disjoint parts.
unsafe impl Sync for Shared {}

impl Shared {
    fn get(&self) -> &Launch {
        &self.0
    }
}

/// The input's buffer, for this call alone: itself if nobody else holds it, a copy otherwise. A pool does not count: it
/// lends only what nobody else holds.
fn own(input: &mut Array, pools: &[Vec<Arc<Buffer>>]) -> Arc<Buffer> {
    let is_pooled = || pools.iter().flatten().any(|b| Arc::ptr_eq(b, input.buffer()));
    let is_ours = match Arc::strong_count(input.buffer()) {
        1 => true,
        2 => is_pooled(),
        _ => false,
    };
    if !is_ours {
        let mut copy = Buffer::zeroed(input.ty().bytes());
        copy.bytes_mut().copy_from_slice(input.bytes());
        *input = Array::new(input.ty().clone(), Arc::new(copy));
    }
    input.buffer().clone()
}

/// A buffer for an output whose earlier buffers are in `pool`.
fn fresh(pool: &mut Vec<Arc<Buffer>>, ty: &TensorType) -> Arc<Buffer> {
    // The pool's own handle is one; without another nobody can see the buffer any more.
    if let Some(free) = pool.iter().find(|b| Arc::strong_count(b) == 1) {
        return free.clone();
    }
    let buffer = Arc::new(Buffer::zeroed(ty.bytes()));
    if pool.len() < POOL {
        pool.push(buffer.clone());
    }
    buffer
}

/// One line about a kernel.
fn kernel_title(kernel: &fulgurite_jit::fuse::Kernel) -> String {
    match kernel {
        fulgurite_jit::fuse::Kernel::Gemm(gemm) => gemm.to_string(),
        fulgurite_jit::fuse::Kernel::Loop(kernel) => {
            let dims: Vec<String> =
                kernel.dims.iter().map(|d| format!("{}{}", d.extent, if d.reduced { "r" } else { "" })).collect();
            format!("loop [{}], {} values, {} stores", dims.join(", "), kernel.values.len(), kernel.stores.len())
        }
    }
}

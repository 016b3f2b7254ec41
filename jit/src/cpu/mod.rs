//! The CPU back end: kernels in, machine code out.
//!
//! Each distinct loop kernel becomes a function, emitted by `simd` for AVX2 and AVX-512 and by Cranelift (`clif`)
//! otherwise. Matrix products are calls of precompiled microkernels (`gemm`). One `driver` per program calls the
//! kernels in order with the addresses of the memory plan. All code of a program is in one JIT module, in one address
//! range (`range`), and is freed with it.
//!
//! Nothing is run here. [`Code::entry`] is the address of the driver; `fulgurite-runtime` calls it.

mod clif;
mod driver;
pub mod gemm;
mod isa;
mod range;
#[cfg(feature = "simd")]
mod simd;
#[cfg(not(feature = "simd"))]
#[path = "no_simd.rs"]
mod simd;
mod symbol;

use std::mem::ManuallyDrop;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{AbiParam, Signature, types};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module};
use hashbrown::HashMap;

use driver::{Call, Driver};
pub use isa::Isa;
use range::Pending;
use symbol::Symbol;

use crate::dump::{Stage, dump, wants};
use crate::error::{Error, Result};
use crate::fuse::{BufferId, GemmKernel, Kernel, Kernels, LoopKernel};
use crate::lower::loops::{Loops, schedule};
use crate::lower::memory::{Plan, plan};
pub use crate::lower::parallel::Parallelism;
use crate::lower::parallel::{Phase, Tiling, Work, arrange, in_order};
use simd::{Emission, Width};

/// What code is compiled for. Results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The instruction set.
    pub isa: Isa,
    /// The number of threads that run a step: 1 to [`MOST_THREADS`].
    pub threads: usize,
    /// Which kernels run on all threads.
    pub parallelism: Parallelism,
}

impl Target {
    /// One thread on this machine.
    pub fn one_thread() -> Self {
        Target { isa: Isa::detect(), threads: 1, parallelism: Parallelism::Auto }
    }
}

/// The maximum number of threads of a step.
pub const MOST_THREADS: usize = 1024;

/// Machine code of a program, and the data that it refers to.
pub struct Code {
    module: ManuallyDrop<JITModule>,
    /// The driver, an [`Entry`].
    entry: *const u8,
    /// The driver of one kernel at a time, a [`KernelEntry`]. Null unless times are measured.
    kernel_entry: *const u8,
    /// The memory plan.
    pub plan: Plan,
    /// Bytes of scratch memory per thread.
    pub scratch: usize,
    /// The kernels in execution order.
    pub kernels: Kernels,
    /// The phases, in execution order.
    pub phases: Vec<Phase>,
    /// The work ranges of each thread; see [`Launch::ranges`].
    pub ranges: Vec<Vec<usize>>,
    /// The work ranges of one thread that runs everything.
    serial_ranges: Vec<usize>,
    /// The code holds the addresses of the matrix products' plans in these.
    _calls: Vec<Call>,
    /// How long each stage took.
    pub times: Vec<(&'static str, Duration)>,
}

// SAFETY: finished code is immutable, and the module is only touched again when it is freed.
unsafe impl Send for Code {}
// SAFETY: as above.
unsafe impl Sync for Code {}

impl Drop for Code {
    fn drop(&mut self) {
        // SAFETY: the module is not used again; whoever runs the code borrows or shares `self` while it runs.
        unsafe { ManuallyDrop::take(&mut self.module).free_memory() }
    }
}

/// The arguments of the driver on one thread.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Launch {
    /// Pointers to the inputs.
    pub params: *const *mut u8,
    /// Pointers to the outputs.
    pub outputs: *const *mut u8,
    /// The arena, common to all threads.
    pub arena: *mut u8,
    /// This thread's scratch memory.
    pub scratch: *mut u8,
    /// The work ranges of this thread. A serial phase has one word, nonzero on the thread that runs it. Each group of a
    /// parallel phase has two words: the begin and the end of this thread's range. Not read if no phase is parallel.
    pub ranges: *const usize,
    /// The barrier between two phases: called with `barrier_data`, returns when all threads have called it.
    pub barrier: unsafe extern "C" fn(*const u8),
    /// The argument of `barrier`.
    pub barrier_data: *const u8,
}

/// The driver's signature.
pub type Entry = unsafe extern "C" fn(*const Launch);

/// The signature of the driver of one kernel at a time; the argument is the index of the kernel.
pub type KernelEntry = unsafe extern "C" fn(*const Launch, usize);

impl Code {
    /// The driver. It reads and writes through all the pointers of its [`Launch`], as the plan says. The caller keeps
    /// this code, `kernels` unchanged, and [`Code::memory`] bytes of working memory alive until it returns.
    pub fn entry(&self) -> Entry {
        // SAFETY: the address is that of a finished function of this signature, compiled below.
        unsafe { std::mem::transmute::<*const u8, Entry>(self.entry) }
    }

    /// Whether any phase is parallel.
    pub fn is_parallel(&self) -> bool {
        self.phases.iter().any(|phase| phase.parallel)
    }

    /// Bytes of working memory of a call on `threads` threads: the arena, then the scratch memory of each thread. It is
    /// also the offset of the scratch memory of the thread with that index.
    pub fn memory(&self, threads: usize) -> usize {
        let arena = self.plan.arena.checked_next_multiple_of(64).unwrap_or(usize::MAX);
        arena.saturating_add(threads.saturating_mul(self.scratch))
    }

    /// The launch of one thread that runs everything. `memory` is [`Code::memory`] bytes.
    pub fn serial_launch(&self, params: &[*mut u8], outputs: &[*mut u8], memory: *mut u8) -> Launch {
        unsafe extern "C" fn no_barrier(_: *const u8) {}
        Launch {
            params: params.as_ptr(),
            outputs: outputs.as_ptr(),
            arena: memory,
            scratch: memory.wrapping_add(self.memory(0)),
            ranges: self.serial_ranges.as_ptr(),
            barrier: no_barrier,
            barrier_data: std::ptr::null(),
        }
    }

    /// The driver of one kernel at a time. It is compiled only if times are [dumped](Stage::Time).
    pub fn kernel_entry(&self) -> Option<KernelEntry> {
        // SAFETY: as above; if it was not compiled, the address is null, which is `None`.
        unsafe { std::mem::transmute::<*const u8, Option<KernelEntry>>(self.kernel_entry) }
    }
}

/// Compiles `kernels` to machine code. `donated` marks the inputs that may be overwritten.
///
/// # Errors
/// If this machine lacks the target's instruction set, if the number of threads is 0 or above [`MOST_THREADS`], or if
/// there is no executable memory. Any other error is a compiler bug.
pub fn compile(mut kernels: Kernels, donated: &[bool], target: Target) -> Result<Code> {
    if !Isa::available().contains(&target.isa) {
        return Err(Error::new(format!("compile: this machine has no {} vectors", target.isa.name())));
    }
    if !(1..=MOST_THREADS).contains(&target.threads) {
        let threads = target.threads;
        return Err(Error::new(format!("compile: a program runs on 1 to {MOST_THREADS} threads, not on {threads}")));
    }
    let start = Instant::now();
    let mut compiler = Compiler::new(target.isa)?;
    // Kernels that differ only in the identity of their buffers share loops and code.
    let mut known: HashMap<LoopKernel, usize> = HashMap::new();
    let mut distinct: Vec<LoopKernel> = Vec::new();
    let mut calls: Vec<Call> = Vec::with_capacity(kernels.kernels.len());
    for kernel in &kernels.kernels {
        calls.push(match kernel {
            Kernel::Loop(kernel) => {
                let (kernel, args) = canonical(kernel);
                let code = *known.entry(kernel).or_insert_with_key(|kernel| {
                    distinct.push(kernel.clone());
                    distinct.len() - 1
                });
                Call::Loop { code, args }
            }
            Kernel::Gemm(g) => {
                let byte = |offset: isize| offset as i64 * g.dtype.size() as i64;
                let args = [(g.a.0, byte(g.a.1)), (g.b.0, byte(g.b.1)), (g.c, 0)];
                Call::Gemm { gemm: Box::new(plan_gemm(g, target.isa, None)), dtype: g.dtype, args }
            }
        });
    }
    let (loops, codes): (Vec<Loops>, Vec<_>) =
        schedule_and_emit(&distinct, compiler.simd_width, target.threads)?.into_iter().unzip();
    let work: Vec<Work> = calls.iter().map(|call| call.work(&loops)).collect();
    let tiling: Vec<Option<Tiling>> =
        calls.iter().enumerate().map(|(k, call)| Tiling::of(&kernels, k, call.outermost(&loops))).collect();
    let (order, phases) = arrange(&kernels, &work, &tiling, donated, target.threads, target.parallelism);
    kernels.kernels = in_order(kernels.kernels, &order);
    let (mut calls, work) = (in_order(calls, &order), in_order(work, &order));
    for group in phases.iter().flat_map(|phase| &phase.groups) {
        let Some(tiles) = group.tiles else { continue };
        for k in group.kernels.clone() {
            if let (Call::Gemm { gemm, .. }, Kernel::Gemm(g)) = (&mut calls[k], &kernels.kernels[k]) {
                **gemm = plan_gemm(g, target.isa, Some(tiles.count));
            }
        }
    }
    dump(Stage::Kernels, "kernels", &kernels);

    let mut functions: Vec<Option<FuncId>> = vec![None; loops.len()];
    for (k, call) in calls.iter().enumerate() {
        if let Call::Loop { code, .. } = call
            && functions[*code].is_none()
        {
            dump(Stage::Loops, &format!("loops of k{k}"), &loops[*code]);
            functions[*code] = Some(compiler.kernel(k, &loops[*code], codes[*code].as_ref())?);
        }
    }
    let lines: Vec<String> = phases.iter().map(ToString::to_string).collect();
    dump(Stage::Kernels, "phases", &lines.join("\n"));
    let kernels_done = start.elapsed();
    let plan = plan(&kernels, donated, &phases);
    dump(Stage::Kernels, "memory", &plan);
    let scratch = calls.iter().map(|call| call.scratch(&loops)).max().unwrap_or(0).next_multiple_of(64);
    let ranges = |threads| driver::work_ranges(threads, &phases, &calls, &work, &loops);
    let (ranges, serial_ranges) = (ranges(target.threads), ranges(1).concat());

    let driver = Driver { kernels: &kernels, plan: &plan, phases: &phases, calls: &calls, loops: &loops, functions };
    let entry = compiler.driver(&driver, false)?;
    let kernel_entry = if wants(Stage::Time) { Some(compiler.driver(&driver, true)?) } else { None };
    let Compiler { mut module, pending, .. } = compiler;
    pending.define(&mut module)?;
    let entry = module.get_finalized_function(entry);
    let kernel_entry = kernel_entry.map_or(std::ptr::null(), |id| module.get_finalized_function(id));
    let times = vec![("kernels", kernels_done), ("driver", start.elapsed() - kernels_done)];
    let module = ManuallyDrop::new(module);
    Ok(Code {
        module,
        entry,
        kernel_entry,
        plan,
        scratch,
        kernels,
        phases,
        ranges,
        serial_ranges,
        _calls: calls,
        times,
    })
}

/// Kernels are scheduled and emitted in parallel if there are at least this many distinct ones.
const MIN_PARALLEL_KERNELS: usize = 12;

/// The loops of a kernel, and its code if `simd` emits it.
type Emitted = (Loops, Option<Emission>);

/// Schedules each kernel and emits it with `simd`. Both are pure functions of the kernel, so many kernels are processed
/// in parallel. Cranelift compiles the others later, one after the other, since they go through one module.
fn schedule_and_emit(kernels: &[LoopKernel], width: Option<Width>, threads: usize) -> Result<Vec<Emitted>> {
    if threads == 1 || kernels.len() < MIN_PARALLEL_KERNELS {
        return kernels.iter().map(|kernel| schedule_and_emit_one(kernel, width)).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Vec<OnceLock<Result<Emitted>>> = kernels.iter().map(|_| OnceLock::new()).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Relaxed);
                    let (Some(kernel), Some(result)) = (kernels.get(i), results.get(i)) else { return };
                    // Each index is claimed once, so the cell is empty.
                    let _ = result.set(schedule_and_emit_one(kernel, width));
                }
            });
        }
    });
    results.into_iter().map(|result| result.into_inner().expect("every kernel is claimed by a thread")).collect()
}

fn schedule_and_emit_one(kernel: &LoopKernel, width: Option<Width>) -> Result<Emitted> {
    let loops = schedule(kernel);
    let code = width.map_or(Ok(None), |width| simd::emit(&loops, width)).map_err(|e| Error::compiler("simd", e))?;
    Ok((loops, code))
}

/// The plan of a matrix product. A product that is tiled along its rows becomes a batch, since a batch divides into
/// tasks evenly.
fn plan_gemm(g: &GemmKernel, isa: Isa, tiles: Option<usize>) -> gemm::Gemm {
    let [mut batch, mut m, n, k] = g.extents;
    let mut a = g.a.2;
    if let Some(tiles) = tiles.filter(|_| batch == 1) {
        (batch, m) = (tiles, m / tiles);
        a[0] = a[1] * m as isize;
    }
    let b = if g.extents[0] == 1 { [0, g.b.2[1], g.b.2[2]] } else { g.b.2 };
    let c = [(m * n) as isize, n as isize, 1];
    gemm::Gemm::new(batch, m, n, k, a, b, c, g.dtype.size(), isa, tiles.is_none())
}

/// The kernel with its buffers renumbered in argument order, and the buffers in that order.
fn canonical(kernel: &LoopKernel) -> (LoopKernel, Vec<BufferId>) {
    let args = kernel.buffers();
    let number = |b: BufferId| BufferId(args.iter().position(|&a| a == b).expect("all are listed") as u32);
    let mut kernel = kernel.clone();
    for value in &mut kernel.values {
        if let crate::fuse::KernelOp::Load(buffer, _) = &mut value.op {
            *buffer = number(*buffer);
        }
    }
    for store in &mut kernel.stores {
        store.buffer = number(store.buffer);
    }
    (kernel, args)
}

/// A loop kernel as text, at each stage of the back end.
#[derive(Clone, Debug)]
pub struct Listing {
    /// `k3`.
    pub name: String,
    /// The loops.
    pub loops: String,
    /// The Cranelift IR.
    pub clif: String,
    /// The disassembled machine code.
    pub asm: String,
}

/// The text of each loop kernel.
///
/// # Errors
/// As [`compile`].
pub fn list(kernels: &Kernels, isa: Isa) -> Result<Vec<Listing>> {
    let mut compiler = Compiler::new(isa)?;
    let mut listings = Vec::new();
    for (k, kernel) in kernels.kernels.iter().enumerate() {
        if let Kernel::Loop(kernel) = kernel {
            let (loops, code) = schedule_and_emit_one(&canonical(kernel).0, compiler.simd_width)?;
            compiler.listing = Some((String::new(), String::new()));
            compiler.kernel(k, &loops, code.as_ref())?;
            let (clif, asm) = compiler.listing.take().unwrap_or_default();
            listings.push(Listing { name: format!("k{k}"), loops: loops.to_string(), clif, asm });
        }
    }
    // SAFETY: no address of the code was handed out.
    unsafe { compiler.module.free_memory() };
    Ok(listings)
}

/// The machine-independent result of compiling a kernel; see [`replay`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Replay {
    /// Machine code, and its relocations: byte offsets and function names.
    Code(Vec<u8>, Vec<(u32, String)>),
    /// Cranelift IR. Its machine code depends on the host.
    Clif(String),
    /// The plan of a matrix product.
    Product(Box<gemm::Gemm>),
}

/// Compiles each kernel for `isa`, whether or not this machine has it. Tests compare the result with stored hashes: a
/// refactoring changes none.
///
/// # Errors
/// As [`compile`].
pub fn replay(kernels: &Kernels, isa: Isa) -> Result<Vec<Replay>> {
    let mut compiler = Compiler::new(isa)?;
    let replays = kernels.kernels.iter().map(|kernel| {
        let kernel = match kernel {
            Kernel::Loop(kernel) => canonical(kernel).0,
            Kernel::Gemm(gemm) => return Ok(Replay::Product(Box::new(plan_gemm(gemm, isa, None)))),
        };
        let (loops, code) = schedule_and_emit_one(&kernel, Width::widest(isa))?;
        if let Some(Emission { code, symbols }) = code {
            return Ok(Replay::Code(code, symbols.iter().map(|(at, symbol)| (*at, symbol.name())).collect()));
        }
        compiler.emit_clif(&loops);
        let clif = compiler.context.func.display().to_string();
        compiler.module.clear_context(&mut compiler.context);
        Ok(Replay::Clif(clif))
    });
    let replays = replays.collect();
    // SAFETY: the module has no code.
    unsafe { compiler.module.free_memory() };
    replays
}

/// The Cranelift ISA of this machine. With `quick` it compiles fast and does not optimise: for long code that runs
/// rarely.
fn host(quick: bool) -> Result<OwnedTargetIsa> {
    let fault = |e: &dyn std::fmt::Display| Error::compiler("clif", e);
    let mut flags = settings::builder();
    let verify = if cfg!(debug_assertions) { "true" } else { "false" };
    for (name, value) in [
        ("opt_level", if quick { "none" } else { "speed" }),
        ("regalloc_algorithm", if quick { "single_pass" } else { "backtracking" }),
        ("enable_verifier", verify),
        ("unwind_info", "false"),
        // A frame larger than a page touches each of its pages, so that it cannot skip the stack's guard page.
        ("enable_probestack", "true"),
        ("probestack_strategy", "inline"),
        ("is_pic", "false"),
        ("use_colocated_libcalls", "false"),
    ] {
        flags.set(name, value).map_err(|e| fault(&e))?;
    }
    let isa = cranelift_native::builder().map_err(|e| fault(&e))?;
    isa.finish(settings::Flags::new(flags)).map_err(|e| fault(&e))
}

struct Compiler {
    module: JITModule,
    /// Compiled functions. `module` receives all of them at the end.
    pending: Pending,
    context: Context,
    frontend: FunctionBuilderContext,
    /// Receives the text of the next function if it is listed: Cranelift IR, machine code.
    listing: Option<(String, String)>,
    /// The vector width of `simd`; none if Cranelift emits all kernels.
    simd_width: Option<Width>,
    /// The ISA of the next functions, if not the module's.
    quick: Option<OwnedTargetIsa>,
}

impl Compiler {
    fn new(isa: Isa) -> Result<Self> {
        let simd_width = Width::of(isa);
        let pending = Pending::default();
        let mut builder = JITBuilder::with_isa(host(false)?, cranelift_module::default_libcall_names());
        builder.memory_provider(pending.range());
        builder.symbols(Symbol::ALL.map(|symbol| (symbol.name(), symbol.address())));
        let mut module = JITModule::new(builder);
        let signature = module.make_signature();
        for symbol in Symbol::ALL {
            let id = module.declare_function(&symbol.name(), Linkage::Import, &signature);
            debug_assert_eq!(id.map_err(|e| Error::compiler("clif", e))?, symbol.id());
        }
        Ok(Compiler {
            pending,
            context: module.make_context(),
            frontend: FunctionBuilderContext::new(),
            module,
            listing: None,
            simd_width,
            quick: None,
        })
    }

    fn pointers(&self, count: usize) -> Signature {
        let mut signature = self.module.make_signature();
        signature.params.extend(std::iter::repeat_n(AbiParam::new(types::I64), count));
        signature
    }

    /// Parameters: pointers to the arguments, a pointer to scratch memory, the work range.
    fn signature_of(&self, loops: &Loops) -> Signature {
        let range = 2 * usize::from(loops.parallel.is_some());
        self.pointers(loops.args.len() + usize::from(loops.scratch > 0) + range)
    }

    /// The function of a loop kernel. `code` is the code that `simd` emitted, if any.
    fn kernel(&mut self, number: usize, loops: &Loops, code: Option<&Emission>) -> Result<FuncId> {
        if let Some(code) = code {
            return self.install(number, loops, code);
        }
        self.emit_clif(loops);
        self.define(&format!("k{number}"))
    }

    /// Emits the Cranelift IR of a loop kernel into the context.
    fn emit_clif(&mut self, loops: &Loops) {
        self.context.func.signature = self.signature_of(loops);
        let config = self.module.target_config();
        clif::emit(loops, &mut self.context.func, &mut self.frontend, config);
    }

    /// Adds the code of a kernel that `simd` emitted.
    fn install(&mut self, number: usize, loops: &Loops, emission: &Emission) -> Result<FuncId> {
        let name = format!("k{number}");
        let Emission { code, symbols } = emission;
        let signature = self.signature_of(loops);
        if wants(Stage::Asm) {
            dump(Stage::Asm, &format!("asm of {name}"), &simd::disassemble(code));
        }
        if let Some((clif, asm)) = &mut self.listing {
            *clif = "none: emitted without Cranelift, for vectors of 256 or 512 bits".into();
            *asm = simd::disassemble(code);
        }
        let fault = |e: cranelift_module::ModuleError| Error::compiler("simd", format!("{name}: {e}"));
        let id = self.module.declare_function(&name, Linkage::Local, &signature).map_err(fault)?;
        let relocs = symbols.iter().map(|&(at, symbol)| symbol.reloc(at)).collect();
        self.pending.push(id, 64, code.clone(), relocs);
        Ok(id)
    }

    fn define(&mut self, name: &str) -> Result<FuncId> {
        let fault = |e: &dyn std::fmt::Display| Error::compiler("clif", format!("{name}: {e}"));
        dump(Stage::Clif, &format!("clif of {name}"), &self.context.func.display());
        let id =
            self.module.declare_function(name, Linkage::Local, &self.context.func.signature).map_err(|e| fault(&e))?;
        if let Some((clif, _)) = &mut self.listing {
            *clif = self.context.func.display().to_string();
        }
        self.context.set_disasm(wants(Stage::Asm) || self.listing.is_some());
        let isa = self.quick.as_deref().unwrap_or(self.module.isa());
        self.context.compile(isa, &mut ControlPlane::default()).map_err(|e| fault(&format!("{:?}", e.inner)))?;
        let code = self.context.compiled_code().expect("it was just compiled");
        if let Some(text) = &code.vcode {
            dump(Stage::Asm, &format!("asm of {name}"), text);
            if let Some((_, asm)) = &mut self.listing {
                asm.clone_from(text);
            }
        }
        let alignment = u64::from(code.buffer.alignment);
        let relocs: Vec<_> = code
            .buffer
            .relocs()
            .iter()
            .map(|r| cranelift_module::ModuleReloc::from_mach_reloc(r, &self.context.func, id))
            .collect();
        self.pending.push(id, alignment, code.buffer.data().to_vec(), relocs);
        self.module.clear_context(&mut self.context);
        Ok(id)
    }
}

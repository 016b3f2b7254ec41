//! The CPU back end: kernels in, machine code out.
//!
//! Each loop kernel becomes a function (`emit`), equal ones only one; matrix products are calls of precompiled
//! microkernels (`gemm`); one driver per program calls them all in order with the addresses that the memory plan gives,
//! a function, or many where the program is long. All code of a program is in one JIT module, in one range of addresses
//! (`range`), and is freed with it.
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

/// What code is made for. Results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The vectors there are.
    pub isa: Isa,
    /// How many threads share the work of a step: 1 to [`MOST_THREADS`].
    pub threads: usize,
    /// What they share.
    pub parallelism: Parallelism,
}

impl Target {
    /// One thread of this machine.
    pub fn one_thread() -> Self {
        Target { isa: Isa::detect(), threads: 1, parallelism: Parallelism::Auto }
    }
}

/// The most threads that share a step.
pub const MOST_THREADS: usize = 1024;

/// Machine code of a program, and what must live as long as it does.
pub struct Code {
    module: ManuallyDrop<JITModule>,
    /// The driver, an [`Entry`].
    entry: *const u8,
    /// The driver for one kernel, a [`Single`]; for timing, null otherwise.
    single: *const u8,
    /// The memory plan.
    pub plan: Plan,
    /// Bytes of memory that each thread needs for itself while it runs.
    pub scratch: usize,
    /// The kernels in the order in which they run, for descriptions.
    pub kernels: Kernels,
    /// Which kernels run at once.
    pub phases: Vec<Phase>,
    /// For each thread which part of what it runs; see [`Launch::parts`].
    pub parts: Vec<Vec<usize>>,
    /// The same for one thread that runs everything.
    all_parts: Vec<usize>,
    /// The code points to the descriptions of matrix products in these.
    _jobs: Vec<Call>,
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

/// What one thread is given to run a step, or its share of one.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Launch {
    /// Pointers to the inputs.
    pub params: *const *mut u8,
    /// Pointers to the outputs.
    pub outputs: *const *mut u8,
    /// The arena, the same for all threads.
    pub arena: *mut u8,
    /// This thread's scratch memory.
    pub scratch: *mut u8,
    /// What this thread runs: for a phase of one thread one word, whether it is this one; for each kernel of a phase of
    /// all threads the begin and the end of its part. Not read if no phase is for all threads.
    pub parts: *const usize,
    /// Called with `team` between two phases; returns when all threads have called it.
    pub wait: unsafe extern "C" fn(*const u8),
    /// What `wait` is called with.
    pub team: *const u8,
}

/// The driver's signature.
pub type Entry = unsafe extern "C" fn(*const Launch);

/// The signature of the driver that runs all of one kernel, by number.
pub type Single = unsafe extern "C" fn(*const Launch, usize);

impl Code {
    /// The driver. It reads and writes through all the pointers it is given, as the plan says. Whoever calls it keeps this
    /// code, `kernels` as they are, and working memory of [`Code::memory`] bytes until it returns.
    pub fn entry(&self) -> Entry {
        // SAFETY: the address is that of a finished function of this signature, compiled below.
        unsafe { std::mem::transmute::<*const u8, Entry>(self.entry) }
    }

    /// Is there anything that all threads run?
    pub fn is_shared(&self) -> bool {
        self.phases.iter().any(|phase| phase.parallel)
    }

    /// Bytes of working memory that a call on `threads` threads needs; also where the scratch memory of the thread of
    /// that number begins: after the arena and that of those before it.
    pub fn memory(&self, threads: usize) -> usize {
        let arena = self.plan.arena.checked_next_multiple_of(64).unwrap_or(usize::MAX);
        arena.saturating_add(threads.saturating_mul(self.scratch))
    }

    /// What one thread is given that runs everything; `memory` is [`Code::memory`] bytes of it.
    pub fn alone(&self, params: &[*mut u8], outputs: &[*mut u8], memory: *mut u8) -> Launch {
        unsafe extern "C" fn meet_nobody(_: *const u8) {}
        Launch {
            params: params.as_ptr(),
            outputs: outputs.as_ptr(),
            arena: memory,
            scratch: memory.wrapping_add(self.memory(0)),
            parts: self.all_parts.as_ptr(),
            wait: meet_nobody,
            team: std::ptr::null(),
        }
    }

    /// The driver that runs the kernel with the given number only, which is made where times are [wanted](Stage::Time).
    pub fn single(&self) -> Option<Single> {
        // SAFETY: as above; where it was not made, the address is null, which is `None`.
        unsafe { std::mem::transmute::<*const u8, Option<Single>>(self.single) }
    }
}

/// Machine code for `kernels`. `donated` says which inputs may be overwritten.
///
/// # Errors
/// When this machine has not got the target's vectors, when there are no threads or more than [`MOST_THREADS`], or when
/// there is no executable memory; otherwise only by a fault of the compiler.
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
    // Equal but for the buffers' names, kernels share their loops and their code.
    let mut known: HashMap<LoopKernel, usize> = HashMap::new();
    let mut distinct: Vec<LoopKernel> = Vec::new();
    let mut jobs: Vec<Call> = Vec::with_capacity(kernels.kernels.len());
    for kernel in &kernels.kernels {
        jobs.push(match kernel {
            Kernel::Loop(kernel) => {
                let (shape, args) = canonical(kernel);
                let code = *known.entry(shape).or_insert_with_key(|shape| {
                    distinct.push(shape.clone());
                    distinct.len() - 1
                });
                Call::Loop { code, args }
            }
            Kernel::Gemm(g) => {
                let byte = |offset: isize| offset as i64 * g.dtype.size() as i64;
                let args = [(g.a.0, byte(g.a.1)), (g.b.0, byte(g.b.1)), (g.c, 0)];
                Call::Gemm { gemm: Box::new(describe(g, target.isa, None)), dtype: g.dtype, args }
            }
        });
    }
    let (shapes, codes): (Vec<Loops>, Vec<_>) = prepare(&distinct, compiler.wide, target.threads)?.into_iter().unzip();
    let work: Vec<Work> = jobs.iter().map(|job| job.work(&shapes)).collect();
    let tiling: Vec<Option<Tiling>> =
        jobs.iter().enumerate().map(|(k, job)| Tiling::of(&kernels, k, job.outermost(&shapes))).collect();
    let (order, phases) = arrange(&kernels, &work, &tiling, donated, target.threads, target.parallelism);
    kernels.kernels = in_order(kernels.kernels, &order);
    let (mut jobs, work) = (in_order(jobs, &order), in_order(work, &order));
    for group in phases.iter().flat_map(|phase| &phase.groups) {
        let Some(tiles) = group.tiles else { continue };
        for k in group.kernels.clone() {
            if let (Call::Gemm { gemm, .. }, Kernel::Gemm(g)) = (&mut jobs[k], &kernels.kernels[k]) {
                **gemm = describe(g, target.isa, Some(tiles.count));
            }
        }
    }
    dump(Stage::Kernels, "kernels", &kernels);

    let mut functions: Vec<Option<FuncId>> = vec![None; shapes.len()];
    for (k, job) in jobs.iter().enumerate() {
        if let Call::Loop { code, .. } = job
            && functions[*code].is_none()
        {
            dump(Stage::Loops, &format!("loops of k{k}"), &shapes[*code]);
            functions[*code] = Some(compiler.kernel(k, &shapes[*code], codes[*code].as_ref())?);
        }
    }
    let lines: Vec<String> = phases.iter().map(ToString::to_string).collect();
    dump(Stage::Kernels, "phases", &lines.join("\n"));
    let kernels_done = start.elapsed();
    let plan = plan(&kernels, donated, &phases);
    dump(Stage::Kernels, "memory", &plan);
    let scratch = jobs.iter().map(|job| job.scratch(&shapes)).max().unwrap_or(0).next_multiple_of(64);
    let parts = |threads| driver::parts(threads, &phases, &jobs, &work, &shapes);
    let (parts, all_parts) = (parts(target.threads), parts(1).concat());

    let driver = Driver { kernels: &kernels, plan: &plan, phases: &phases, jobs: &jobs, shapes: &shapes, functions };
    let entry = compiler.driver(&driver, false)?;
    let single = if wants(Stage::Time) { Some(compiler.driver(&driver, true)?) } else { None };
    let Compiler { mut module, pending, .. } = compiler;
    pending.define(&mut module)?;
    let entry = module.get_finalized_function(entry);
    let single = single.map_or(std::ptr::null(), |id| module.get_finalized_function(id));
    let times = vec![("kernels", kernels_done), ("driver", start.elapsed() - kernels_done)];
    let module = ManuallyDrop::new(module);
    Ok(Code { module, entry, single, plan, scratch, kernels, phases, parts, all_parts, _jobs: jobs, times })
}

/// From so many distinct kernels on, threads share the making of their code.
const MANY_KERNELS: usize = 12;

/// A kernel's loops, and its code where that comes from `wide`.
type Prepared = (Loops, Option<Emission>);

/// The loops of each kernel, and the code where that comes from `wide`: pure functions of the kernel, so threads share
/// them where there are many. (What is left to Cranelift goes through one module, one after the other.)
fn prepare(kernels: &[LoopKernel], wide: Option<Width>, threads: usize) -> Result<Vec<Prepared>> {
    if threads == 1 || kernels.len() < MANY_KERNELS {
        return kernels.iter().map(|kernel| prepare_one(kernel, wide)).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Vec<OnceLock<Result<Prepared>>> = kernels.iter().map(|_| OnceLock::new()).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Relaxed);
                    let (Some(kernel), Some(result)) = (kernels.get(i), results.get(i)) else { return };
                    // Each is taken once, so it is not set yet.
                    let _ = result.set(prepare_one(kernel, wide));
                }
            });
        }
    });
    results.into_iter().map(|result| result.into_inner().expect("every kernel was somebody's")).collect()
}

fn prepare_one(kernel: &LoopKernel, wide: Option<Width>) -> Result<Prepared> {
    let loops = schedule(kernel);
    let code = wide.map_or(Ok(None), |width| simd::emit(&loops, width)).map_err(|e| Error::compiler("wide", e))?;
    Ok((loops, code))
}

/// What the microkernels are told about a product. One that is cut into slices of its rows becomes a batch, since the
/// members of a batch divide.
fn describe(g: &GemmKernel, isa: Isa, slices: Option<usize>) -> gemm::Gemm {
    let [mut batch, mut m, n, k] = g.extents;
    let mut a = g.a.2;
    if let Some(slices) = slices.filter(|_| batch == 1) {
        (batch, m) = (slices, m / slices);
        a[0] = a[1] * m as isize;
    }
    let b = if g.extents[0] == 1 { [0, g.b.2[1], g.b.2[2]] } else { g.b.2 };
    let c = [(m * n) as isize, n as isize, 1];
    gemm::Gemm::new(batch, m, n, k, a, b, c, g.dtype.size(), isa, slices.is_none())
}

/// The kernel with its buffers numbered in the order of its arguments, and the buffers in that order.
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

/// A loop kernel as text, at each stage of this back end.
#[derive(Clone, Debug)]
pub struct Listing {
    /// `k3`.
    pub name: String,
    /// Its loops.
    pub loops: String,
    /// Cranelift's code.
    pub clif: String,
    /// The machine code, as Cranelift prints it.
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
            let (loops, code) = prepare_one(&canonical(kernel).0, compiler.wide)?;
            compiler.listing = Some((String::new(), String::new()));
            compiler.kernel(k, &loops, code.as_ref())?;
            let (clif, asm) = compiler.listing.take().unwrap_or_default();
            listings.push(Listing { name: format!("k{k}"), loops: loops.to_string(), clif, asm });
        }
    }
    // SAFETY: none of the code was given out.
    unsafe { compiler.module.free_memory() };
    Ok(listings)
}

/// What a kernel becomes, as far as that is the same on every machine; see [`replay`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Replay {
    /// Machine code, and at which bytes it holds the addresses of which functions.
    Code(Vec<u8>, Vec<(u32, String)>),
    /// Cranelift's code: what it makes of it depends on the machine.
    Clif(String),
    /// The plan of a product.
    Product(Box<gemm::Gemm>),
}

/// What each kernel becomes for vectors of `isa`, whether or not this machine has them. Tests compare it with what they
/// have stored: a refactoring changes none.
///
/// # Errors
/// As [`compile`].
pub fn replay(kernels: &Kernels, isa: Isa) -> Result<Vec<Replay>> {
    let mut compiler = Compiler::new(isa)?;
    let replays = kernels.kernels.iter().map(|kernel| {
        let kernel = match kernel {
            Kernel::Loop(kernel) => canonical(kernel).0,
            Kernel::Gemm(gemm) => return Ok(Replay::Product(Box::new(describe(gemm, isa, None)))),
        };
        let (loops, code) = prepare_one(&kernel, Width::widest(isa))?;
        if let Some(Emission { code, symbols }) = code {
            return Ok(Replay::Code(code, symbols.iter().map(|(at, symbol)| (*at, symbol.name())).collect()));
        }
        compiler.write(&loops);
        let clif = compiler.context.func.display().to_string();
        compiler.module.clear_context(&mut compiler.context);
        Ok(Replay::Clif(clif))
    });
    let replays = replays.collect();
    // SAFETY: there is no code.
    unsafe { compiler.module.free_memory() };
    replays
}

/// What Cranelift compiles for: this machine. `quick` where there is much code that hardly anything is to be gained in.
fn host(quick: bool) -> Result<OwnedTargetIsa> {
    let fault = |e: &dyn std::fmt::Display| Error::compiler("emit", e);
    let mut flags = settings::builder();
    let verify = if cfg!(debug_assertions) { "true" } else { "false" };
    for (name, value) in [
        ("opt_level", if quick { "none" } else { "speed" }),
        ("regalloc_algorithm", if quick { "single_pass" } else { "backtracking" }),
        ("enable_verifier", verify),
        ("unwind_info", "false"),
        // A frame of more than a page touches each of its pages, so that none steps over the guard of the stack.
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
    /// What has been compiled, all of which `module` is given at the end.
    pending: Pending,
    context: Context,
    frontend: FunctionBuilderContext,
    /// Where the text of the next function goes, if it is wanted: Cranelift's code, machine code.
    listing: Option<(String, String)>,
    /// The vectors that `wide` may emit, if any.
    wide: Option<Width>,
    /// How the next functions are compiled, if not as the module says.
    quick: Option<OwnedTargetIsa>,
}

impl Compiler {
    fn new(isa: Isa) -> Result<Self> {
        let wide = Width::of(isa);
        let pending = Pending::default();
        let mut builder = JITBuilder::with_isa(host(false)?, cranelift_module::default_libcall_names());
        builder.memory_provider(pending.range());
        builder.symbols(Symbol::ALL.map(|symbol| (symbol.name(), symbol.address())));
        let mut module = JITModule::new(builder);
        let signature = module.make_signature();
        for symbol in Symbol::ALL {
            let id = module.declare_function(&symbol.name(), Linkage::Import, &signature);
            debug_assert_eq!(id.map_err(|e| Error::compiler("emit", e))?, symbol.id());
        }
        Ok(Compiler {
            pending,
            context: module.make_context(),
            frontend: FunctionBuilderContext::new(),
            module,
            listing: None,
            wide,
            quick: None,
        })
    }

    fn pointers(&self, count: usize) -> Signature {
        let mut signature = self.module.make_signature();
        signature.params.extend(std::iter::repeat_n(AbiParam::new(types::I64), count));
        signature
    }

    /// Pointers to the arguments, to scratch; the part to run.
    fn signature_of(&self, loops: &Loops) -> Signature {
        let part = 2 * usize::from(loops.parallel.is_some());
        self.pointers(loops.args.len() + usize::from(loops.scratch > 0) + part)
    }

    /// The function of a loop kernel; its code if `wide` has made it.
    fn kernel(&mut self, number: usize, loops: &Loops, code: Option<&Emission>) -> Result<FuncId> {
        if let Some(code) = code {
            return self.install(number, loops, code);
        }
        self.write(loops);
        self.define(&format!("k{number}"))
    }

    /// Cranelift's code of a loop kernel.
    fn write(&mut self, loops: &Loops) {
        self.context.func.signature = self.signature_of(loops);
        let config = self.module.target_config();
        clif::emit(loops, &mut self.context.func, &mut self.frontend, config);
    }

    /// Takes over the code of a kernel from `wide`.
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
        let fault = |e: cranelift_module::ModuleError| Error::compiler("wide", format!("{name}: {e}"));
        let id = self.module.declare_function(&name, Linkage::Local, &signature).map_err(fault)?;
        let relocs = symbols.iter().map(|&(at, symbol)| symbol.reloc(at)).collect();
        self.pending.push(id, 64, code.clone(), relocs);
        Ok(id)
    }

    fn define(&mut self, name: &str) -> Result<FuncId> {
        let fault = |e: &dyn std::fmt::Display| Error::compiler("emit", format!("{name}: {e}"));
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

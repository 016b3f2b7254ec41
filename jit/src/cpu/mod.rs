//! The CPU back end: kernels in, machine code out.
//!
//! Each loop kernel becomes a function (`emit`), equal ones only one; matrix products are calls of precompiled
//! microkernels (`gemm`); one driver function per program calls them all in order with the addresses that the memory
//! plan gives. All code of a program is in one JIT module and is freed with it.
//!
//! Nothing is run here. [`Code::entry`] is the address of the driver; `fulgurite-runtime` calls it.

mod emit;
pub mod gemm;
mod wide;

use std::mem::{ManuallyDrop, offset_of};
use std::time::{Duration, Instant};

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, FuncRef, InstBuilder, MemFlagsData, SigRef, Signature, Value, types};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module};
use hashbrown::HashMap;

pub use gemm::Isa;

use crate::dump::{Stage, dump, wants};
use crate::error::{Error, Result};
use crate::fuse::{BufferId, GemmKernel, Kernel, Kernels, LoopKernel, Source};
use crate::loops::{Loops, schedule};
use crate::memory::{Place, Plan, plan};
pub use crate::phases::Sharing;
use crate::phases::{Phase, Work, arrange, share};
use crate::types::DType;

/// What code is made for. Results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The vectors there are.
    pub isa: Isa,
    /// How many threads share the work of a step.
    pub threads: usize,
    /// What they share.
    pub sharing: Sharing,
}

impl Target {
    /// One thread of this machine.
    pub fn one_thread() -> Self {
        Target { isa: Isa::detect(), threads: 1, sharing: Sharing::WherePays }
    }
}

/// Machine code of a program, and what must live as long as it does.
pub struct Code {
    module: ManuallyDrop<JITModule>,
    /// The driver, an [`Entry`].
    entry: *const u8,
    /// The driver for one kernel, a [`Single`]; for timing.
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
    _jobs: Vec<Job>,
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
    /// The driver. It reads and writes through all the pointers it is given, as the plan says.
    pub fn entry(&self) -> Entry {
        // SAFETY: the address is that of a finished function of this signature, compiled below.
        unsafe { std::mem::transmute::<*const u8, Entry>(self.entry) }
    }

    /// Is there anything that all threads run?
    pub fn is_shared(&self) -> bool {
        self.phases.iter().any(|phase| phase.together)
    }

    /// Bytes of working memory that a call on `threads` threads needs; also where the scratch memory of the thread of
    /// that number begins: after the arena and that of those before it.
    pub fn memory(&self, threads: usize) -> usize {
        self.plan.arena.next_multiple_of(64) + threads * self.scratch
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

    /// The driver that runs the kernel with the given number only.
    pub fn single(&self) -> Single {
        // SAFETY: as above.
        unsafe { std::mem::transmute::<*const u8, Single>(self.single) }
    }
}

/// Machine code for `kernels`. `donated` says which inputs may be overwritten.
///
/// # Errors
/// Only by a fault of the compiler, or when there is no executable memory to be had.
pub fn compile(mut kernels: Kernels, donated: &[bool], target: Target) -> Result<Code> {
    let start = Instant::now();
    let mut compiler = Compiler::new(target.isa)?;
    // Equal but for the buffers' names, kernels share their loops and their code.
    let mut known: HashMap<LoopKernel, usize> = HashMap::new();
    let mut shapes: Vec<Loops> = Vec::new();
    let mut jobs: Vec<Job> = Vec::with_capacity(kernels.kernels.len());
    for kernel in &kernels.kernels {
        jobs.push(match kernel {
            Kernel::Loop(kernel) => {
                let (shape, args) = canonical(kernel);
                let code = *known.entry(shape).or_insert_with_key(|shape| {
                    shapes.push(schedule(shape));
                    shapes.len() - 1
                });
                Job::Loop { code, args }
            }
            Kernel::Gemm(g) => Job::Gemm(Box::new(describe(g, target.isa))),
        });
    }
    let work: Vec<Work> = jobs.iter().map(|job| job.work(&shapes)).collect();
    let (order, phases) = arrange(&kernels, &work, donated, target.threads, target.sharing);
    Kernel::reorder(&mut kernels, &order);
    let mut unordered: Vec<Option<Job>> = jobs.into_iter().map(Some).collect();
    let jobs: Vec<Job> = order.iter().map(|&k| unordered[k].take().expect("each kernel once")).collect();
    let work: Vec<Work> = order.iter().map(|&k| work[k]).collect();
    dump(Stage::Kernels, "kernels", &kernels);

    let mut functions: Vec<Option<FuncId>> = vec![None; shapes.len()];
    for (k, job) in jobs.iter().enumerate() {
        if let Job::Loop { code, .. } = job
            && functions[*code].is_none()
        {
            dump(Stage::Loops, &format!("loops of k{k}"), &shapes[*code]);
            functions[*code] = Some(compiler.kernel(k, &shapes[*code])?);
        }
    }
    let lines: Vec<String> = phases.iter().map(ToString::to_string).collect();
    dump(Stage::Kernels, "phases", &lines.join("\n"));
    let kernels_done = start.elapsed();
    let plan = plan(&kernels, donated, &phases);
    dump(Stage::Kernels, "memory", &plan);
    let scratch = jobs.iter().map(|job| job.scratch(&shapes)).max().unwrap_or(0).next_multiple_of(64);
    let parts = (0..target.threads).map(|thread| parts(thread, target.threads, &phases, &jobs, &work, &shapes));
    let parts = parts.collect();
    let all_parts = self::parts(0, 1, &phases, &jobs, &work, &shapes);

    let driver = Driver { kernels: &kernels, plan: &plan, phases: &phases, jobs: &jobs, shapes: &shapes, functions };
    let entry = compiler.driver(&driver, false)?;
    let single = if wants(Stage::Time) { Some(compiler.driver(&driver, true)?) } else { None };
    let mut module = compiler.module;
    module.finalize_definitions().map_err(|e| Error::compiler("emit", e))?;
    let entry = module.get_finalized_function(entry);
    let single = single.map_or(std::ptr::null(), |id| module.get_finalized_function(id));
    let times = vec![("kernels", kernels_done), ("driver", start.elapsed() - kernels_done)];
    let module = ManuallyDrop::new(module);
    Ok(Code { module, entry, single, plan, scratch, kernels, phases, parts, all_parts, _jobs: jobs, times })
}

/// A kernel on its way to a call.
enum Job {
    /// Code by number among the distinct loops, and its arguments.
    Loop { code: usize, args: Vec<BufferId> },
    /// Boxed, since the code points to it.
    Gemm(Box<gemm::Gemm>),
}

impl Job {
    fn work(&self, shapes: &[Loops]) -> Work {
        // A vector instruction takes about a quarter of a nanosecond, which also does 8 multiplications and additions.
        match self {
            Job::Loop { code, .. } => {
                let loops = &shapes[*code];
                let units = loops.parallel.map_or(1, |parallel| parallel.units());
                Work { nanoseconds: 20.0 + loops.instructions() as f64 * 0.25, units }
            }
            Job::Gemm(gemm) => Work { nanoseconds: 50.0 + gemm.flops() as f64 * 0.01, units: gemm.tasks() },
        }
    }

    fn scratch(&self, shapes: &[Loops]) -> usize {
        match self {
            Job::Loop { code, .. } => shapes[*code].scratch,
            Job::Gemm(gemm) => gemm.scratch_bytes(),
        }
    }

    /// Units of work as the begin and end that the code is called with.
    fn part(&self, shapes: &[Loops], units: std::ops::Range<usize>) -> [usize; 2] {
        match self {
            Job::Loop { code, .. } => match shapes[*code].parallel {
                Some(p) => [(units.start * p.grain).min(p.extent), (units.end * p.grain).min(p.extent)],
                None => [units.start, units.end],
            },
            Job::Gemm(_) => [units.start, units.end],
        }
    }
}

/// What a thread runs, as [`Launch::parts`].
fn parts(thread: usize, threads: usize, phases: &[Phase], jobs: &[Job], work: &[Work], shapes: &[Loops]) -> Vec<usize> {
    let mut words = Vec::new();
    for phase in phases {
        if phase.together {
            let kernels: Vec<usize> = phase.kernels.clone().collect();
            for (&k, parts) in kernels.iter().zip(share(&kernels, work, threads).parts) {
                words.extend(jobs[k].part(shapes, parts[thread].clone()));
            }
        } else {
            words.push(usize::from(thread == 0));
        }
    }
    words
}

/// What the microkernels are told about a product.
fn describe(g: &GemmKernel, isa: Isa) -> gemm::Gemm {
    let [batch, m, n, k] = g.extents;
    let c = [(m * n) as isize, n as isize, 1];
    gemm::Gemm::new(batch, m, n, k, g.a.2, g.b.2, c, g.dtype.size(), isa)
}

/// The kernel with its buffers numbered in the order of its arguments, and the buffers in that order.
fn canonical(kernel: &LoopKernel) -> (LoopKernel, Vec<BufferId>) {
    let mut args = kernel.reads();
    for store in &kernel.stores {
        if !args.contains(&store.buffer) {
            args.push(store.buffer);
        }
    }
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
            let loops = schedule(&canonical(kernel).0);
            compiler.listing = Some((String::new(), String::new()));
            compiler.kernel(k, &loops)?;
            let (clif, asm) = compiler.listing.take().unwrap_or_default();
            listings.push(Listing { name: format!("k{k}"), loops: loops.to_string(), clif, asm });
        }
    }
    // SAFETY: none of the code was given out.
    unsafe { compiler.module.free_memory() };
    Ok(listings)
}

struct Compiler {
    module: JITModule,
    context: Context,
    frontend: FunctionBuilderContext,
    /// Where the text of the next function goes, if it is wanted: Cranelift's code, machine code.
    listing: Option<(String, String)>,
    /// Are there vectors of 512 bits?
    wide: bool,
}

impl Compiler {
    fn new(isa: Isa) -> Result<Self> {
        let wide = isa == Isa::Avx512 && wide::available();
        let fault = |e: &dyn std::fmt::Display| Error::compiler("emit", e);
        let mut flags = settings::builder();
        let verify = if cfg!(debug_assertions) { "true" } else { "false" };
        for (name, value) in [
            ("opt_level", "speed"),
            ("enable_verifier", verify),
            ("unwind_info", "false"),
            ("is_pic", "false"),
            ("use_colocated_libcalls", "false"),
        ] {
            flags.set(name, value).map_err(|e| fault(&e))?;
        }
        let isa = cranelift_native::builder().map_err(|e| fault(&e))?;
        let isa = isa.finish(settings::Flags::new(flags)).map_err(|e| fault(&e))?;
        let module = JITModule::new(JITBuilder::with_isa(isa, cranelift_module::default_libcall_names()));
        Ok(Compiler {
            context: module.make_context(),
            frontend: FunctionBuilderContext::new(),
            module,
            listing: None,
            wide,
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

    /// The function of a loop kernel.
    fn kernel(&mut self, number: usize, loops: &Loops) -> Result<FuncId> {
        if self.wide
            && let Some(code) = wide::emit(loops).map_err(|e| Error::compiler("wide", format!("k{number}: {e}")))?
        {
            return self.install(number, loops, &code);
        }
        self.context.func.signature = self.signature_of(loops);
        let config = self.module.target_config();
        emit::emit(loops, &mut self.context.func, &mut self.frontend, config);
        self.define(&format!("k{number}"))
    }

    /// Takes over the code of a kernel from `wide`.
    fn install(&mut self, number: usize, loops: &Loops, code: &[u8]) -> Result<FuncId> {
        let name = format!("k{number}");
        let signature = self.signature_of(loops);
        if wants(Stage::Asm) {
            dump(Stage::Asm, &format!("asm of {name}"), &wide::disassemble(code));
        }
        if let Some((clif, asm)) = &mut self.listing {
            *clif = "none: emitted with vectors of 512 bits".into();
            *asm = wide::disassemble(code);
        }
        let fault = |e: cranelift_module::ModuleError| Error::compiler("wide", format!("{name}: {e}"));
        let id = self.module.declare_function(&name, Linkage::Local, &signature).map_err(fault)?;
        self.module.define_function_bytes(id, 64, code, &[]).map_err(fault)?;
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
        self.context
            .compile(self.module.isa(), &mut ControlPlane::default())
            .map_err(|e| fault(&format!("{:?}", e.inner)))?;
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
        let bytes = code.buffer.data().to_vec();
        self.module.define_function_bytes(id, alignment, &bytes, &relocs).map_err(|e| fault(&e))?;
        self.module.clear_context(&mut self.context);
        Ok(id)
    }

    /// The function that calls the kernels in order; if `single`, only the one whose number is its last argument.
    fn driver(&mut self, driver: &Driver, single: bool) -> Result<FuncId> {
        self.context.func.signature = self.pointers(if single { 2 } else { 1 });
        let config = self.module.target_config();
        let (gemm_signature, wait_signature) = (self.pointers(7), self.pointers(1));
        let functions: Vec<_> = driver
            .functions
            .iter()
            .map(|id| id.map(|id| self.module.declare_func_in_func(id, &mut self.context.func)))
            .collect();
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.frontend);
        let block = builder.create_block();
        builder.append_block_params_for_function_params(block);
        builder.switch_to_block(block);
        let arguments = builder.block_params(block).to_vec();
        let gemm = builder.import_signature(gemm_signature);
        let wait = builder.import_signature(wait_signature);
        let mut calls = Calls { builder, launch: arguments[0], driver, functions, gemm };
        if single {
            for k in 0..driver.jobs.len() {
                let wanted = calls.builder.ins().icmp_imm_u(IntCC::Equal, arguments[1], k as i64);
                calls.only_if(wanted, |calls| calls.call(k, None));
            }
        } else if driver.phases.iter().all(|phase| !phase.together) {
            (0..driver.jobs.len()).for_each(|k| calls.call(k, None));
        } else {
            let mut word = 0;
            for (i, phase) in driver.phases.iter().enumerate() {
                if i > 0 {
                    let callee = calls.field(offset_of!(Launch, wait));
                    let team = calls.field(offset_of!(Launch, team));
                    calls.builder.ins().call_indirect(wait, callee, &[team]);
                }
                if phase.together {
                    for k in phase.kernels.clone() {
                        let (begin, end) = (calls.part(word), calls.part(word + 1));
                        word += 2;
                        let some = calls.builder.ins().icmp(IntCC::UnsignedLessThan, begin, end);
                        calls.only_if(some, |calls| calls.call(k, Some((begin, end))));
                    }
                } else {
                    let mine = calls.part(word);
                    word += 1;
                    calls.only_if(mine, |calls| phase.kernels.clone().for_each(|k| calls.call(k, None)));
                }
            }
        }
        calls.builder.ins().return_(&[]);
        calls.builder.seal_all_blocks();
        calls.builder.finalize(config);
        self.define(if single { "single" } else { "driver" })
    }
}

/// What the driver is made of.
struct Driver<'a> {
    kernels: &'a Kernels,
    plan: &'a Plan,
    phases: &'a [Phase],
    jobs: &'a [Job],
    shapes: &'a [Loops],
    functions: Vec<Option<FuncId>>,
}

/// The driver's code as it grows.
struct Calls<'a, 'b> {
    builder: FunctionBuilder<'b>,
    launch: Value,
    driver: &'a Driver<'a>,
    functions: Vec<Option<FuncRef>>,
    gemm: SigRef,
}

impl Calls<'_, '_> {
    fn word(&mut self, from: Value, byte: usize) -> Value {
        let flags = MemFlagsData::new().with_notrap().with_readonly().with_can_move();
        self.builder.ins().load(types::I64, flags, from, byte as i32)
    }

    /// A field of the [`Launch`].
    fn field(&mut self, byte: usize) -> Value {
        self.word(self.launch, byte)
    }

    /// A word of [`Launch::parts`].
    fn part(&mut self, word: usize) -> Value {
        let parts = self.field(offset_of!(Launch, parts));
        self.word(parts, word * 8)
    }

    fn only_if(&mut self, condition: Value, inside: impl FnOnce(&mut Self)) {
        let (run, after) = (self.builder.create_block(), self.builder.create_block());
        self.builder.ins().brif(condition, run, &[], after, &[]);
        self.builder.switch_to_block(run);
        inside(self);
        self.builder.ins().jump(after, &[]);
        self.builder.switch_to_block(after);
    }

    fn address(&mut self, b: BufferId) -> Value {
        match self.driver.plan.places[b.index()] {
            Place::Param(i) => {
                let table = self.field(offset_of!(Launch, params));
                self.word(table, i * 8)
            }
            Place::Output(i) => {
                let table = self.field(offset_of!(Launch, outputs));
                self.word(table, i * 8)
            }
            Place::Arena(at) => {
                let arena = self.field(offset_of!(Launch, arena));
                self.builder.ins().iadd_imm_s(arena, at as i64)
            }
            Place::Constant => {
                let Source::Constant(array) = &self.driver.kernels.buffers[b.index()].source else {
                    unreachable!("the plan says constant for constants only")
                };
                self.builder.ins().iconst(types::I64, array.buffer().start() as usize as i64)
            }
        }
    }

    /// Calls kernel `k`, in part or whole.
    fn call(&mut self, k: usize, part: Option<(Value, Value)>) {
        let driver = self.driver;
        let job = &driver.jobs[k];
        let mut arguments: Vec<Value> = match (job, &driver.kernels.kernels[k]) {
            (Job::Gemm(gemm), Kernel::Gemm(g)) => {
                let mut list = vec![self.builder.ins().iconst(types::I64, std::ptr::from_ref(&**gemm) as usize as i64)];
                for (b, offset) in [(g.a.0, g.a.1), (g.b.0, g.b.1), (g.c, 0)] {
                    let at = self.address(b);
                    list.push(self.builder.ins().iadd_imm_s(at, offset as i64 * g.dtype.size() as i64));
                }
                list
            }
            (Job::Loop { args, .. }, _) => args.iter().map(|&b| self.address(b)).collect(),
            (Job::Gemm(_), Kernel::Loop(_)) => unreachable!("products are jobs of products"),
        };
        let (needs_scratch, needs_part) = match job {
            Job::Gemm(_) => (true, true),
            Job::Loop { code, .. } => {
                let loops = &driver.shapes[*code];
                (loops.scratch > 0, loops.parallel.is_some())
            }
        };
        if needs_scratch {
            arguments.push(self.field(offset_of!(Launch, scratch)));
        }
        if needs_part {
            let (begin, end) = part.unwrap_or_else(|| {
                let units = job.work(driver.shapes).units;
                let [begin, end] = job.part(driver.shapes, 0..units);
                let mut constant = |x: usize| self.builder.ins().iconst(types::I64, x as i64);
                (constant(begin), constant(end))
            });
            arguments.extend([begin, end]);
        }
        match (job, &driver.kernels.kernels[k]) {
            (Job::Loop { code, .. }, _) => {
                let function = self.functions[*code].expect("every kernel was compiled");
                self.builder.ins().call(function, &arguments);
            }
            (Job::Gemm(_), kernel) => {
                let f64 = matches!(kernel, Kernel::Gemm(g) if g.dtype == DType::F64);
                let entry = if f64 { gemm::gemm_range_f64 as *const () } else { gemm::gemm_range_f32 as *const () };
                let callee = self.builder.ins().iconst(types::I64, entry as usize as i64);
                self.builder.ins().call_indirect(self.gemm, callee, &arguments);
            }
        }
    }
}

//! The CPU back end: a [`Module`] in, machine code out.
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
mod routine;
mod segments;
#[cfg(feature = "simd")]
mod simd;
#[cfg(not(feature = "simd"))]
#[path = "no_simd.rs"]
mod simd;
mod symbol;
mod table;

use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{AbiParam, Signature, types};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module as _};
use hashbrown::HashMap;

use driver::Driver;
use range::Pending;
use symbol::Symbol;
use table::Table;

use crate::dump::{Stage, dump, times_kernels, wants};
use crate::error::{Error, Result};
use crate::fuse::Routine;
use crate::lower::call::Call;
use crate::lower::loops::Loops;
pub use crate::lower::machine::{Isa, MAX_THREADS, Parallelism, Target};
use crate::lower::{Module, parallel_map};
use simd::{Emission, Width};

/// Machine code of a program, and the data that it refers to.
pub struct Code {
    jit: ManuallyDrop<JITModule>,
    /// The driver, an [`Entry`].
    entry: *const u8,
    /// The driver of one kernel at a time, a [`KernelEntry`]. Null unless times are measured.
    kernel_entry: *const u8,
    /// What the code was made from. The table has the addresses of its constants and of the plans of its products.
    module: Module,
    /// What the driver reads by index: see [`Launch::table`].
    table: Vec<*const u8>,
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
        unsafe { ManuallyDrop::take(&mut self.jit).free_memory() }
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
    /// The addresses of constants, of products' plans and of precompiled functions.
    pub table: *const *const u8,
    /// The arena, common to all threads.
    pub arena: *mut u8,
    /// This thread's scratch memory.
    pub scratch: *mut u8,
    /// The work ranges of this thread: [`Module::ranges`]. Not read if no phase is parallel.
    pub ranges: *const usize,
    /// The barrier between two phases: called with `barrier_data`, returns when all threads have called it.
    pub barrier: unsafe extern "C" fn(*const u8),
    /// The argument of `barrier`.
    pub barrier_data: *const u8,
    /// The barrier inside of regions.
    pub inner_barrier: unsafe extern "C" fn(*const u8),
    /// The argument of `inner_barrier`.
    pub inner_barrier_data: *const u8,
}

/// The driver's signature.
pub type Entry = unsafe extern "C" fn(*const Launch);

/// The signature of the driver of one kernel at a time; the argument is the index of the kernel.
pub type KernelEntry = unsafe extern "C" fn(*const Launch, usize);

impl Code {
    /// What the code was made from.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The driver. It reads and writes through all the pointers of its [`Launch`], as the plan says. The caller keeps
    /// this code, `kernels` unchanged, and [`Code::memory`] bytes of working memory alive until it returns.
    pub fn entry(&self) -> Entry {
        // SAFETY: the address is that of a finished function of this signature, compiled below.
        unsafe { std::mem::transmute::<*const u8, Entry>(self.entry) }
    }

    /// Whether any phase is parallel.
    pub fn is_parallel(&self) -> bool {
        self.module.is_parallel()
    }

    /// Bytes of working memory of a call on `threads` threads: the arena, then the scratch memory of each thread. It is
    /// also the offset of the scratch memory of the thread with that index.
    pub fn memory(&self, threads: usize) -> usize {
        let arena = self.module.plan.arena.checked_next_multiple_of(64).unwrap_or(usize::MAX);
        arena.saturating_add(threads.saturating_mul(self.module.scratch))
    }

    /// The launch of one thread that runs everything. `memory` is [`Code::memory`] bytes.
    pub fn serial_launch(&self, params: &[*mut u8], outputs: &[*mut u8], memory: *mut u8) -> Launch {
        unsafe extern "C" fn no_barrier(_: *const u8) {}
        Launch {
            params: params.as_ptr(),
            outputs: outputs.as_ptr(),
            table: self.table.as_ptr(),
            arena: memory,
            scratch: memory.wrapping_add(self.memory(0)),
            ranges: self.module.serial_ranges.as_ptr(),
            barrier: no_barrier,
            barrier_data: std::ptr::null(),
            inner_barrier: no_barrier,
            inner_barrier_data: std::ptr::null(),
        }
    }

    /// The driver of one kernel at a time. It is compiled only if [times are asked for](times_kernels).
    pub fn kernel_entry(&self) -> Option<KernelEntry> {
        // SAFETY: as above; if it was not compiled, the address is null, which is `None`.
        unsafe { std::mem::transmute::<*const u8, Option<KernelEntry>>(self.kernel_entry) }
    }
}

/// Compiles `module` to machine code.
///
/// # Errors
/// If this machine lacks the target's instruction set, or if there is no executable memory. Any other error is a
/// compiler bug.
pub fn compile(module: Module) -> Result<Code> {
    let target = module.machine.target;
    if !Isa::available().contains(&target.isa) {
        return Err(Error::new(format!("compile: this machine has no {} vectors", target.isa.name())));
    }
    let start = Instant::now();
    let mut compiler = Compiler::new(target.isa)?;
    dump(Stage::Kernels, "kernels", &module.kernels);
    let mut table = Vec::new();
    let driver = compiler.functions(String::new(), &module, &mut table)?;
    let kernels_done = start.elapsed();
    let entry = compiler.driver(&driver, false)?;
    let kernel_entry = if times_kernels() { Some(compiler.driver(&driver, true)?) } else { None };
    let Compiler { module: mut jit, pending, .. } = compiler;
    pending.define(&mut jit)?;
    let entry = jit.get_finalized_function(entry);
    let kernel_entry = kernel_entry.map_or(std::ptr::null(), |id| jit.get_finalized_function(id));
    let times = vec![("kernels", kernels_done), ("driver", start.elapsed() - kernels_done)];
    Ok(Code { jit: ManuallyDrop::new(jit), entry, kernel_entry, module, table, times })
}

/// The code of each loop nest that `simd` emits. Cranelift compiles the others later, one after the other, since they
/// go through one module.
fn emit_all(module: &Module, width: Option<Width>) -> Result<Vec<Option<Emission>>> {
    let Some(width) = width else { return Ok(module.loops.iter().map(|_| None).collect()) };
    let emit = |loops: &Loops| simd::emit(loops, width).map_err(|e| Error::compiler("simd", e));
    parallel_map(&module.loops, module.machine.target.threads, emit).into_iter().collect()
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

/// The text of each loop kernel of a module; `k3.k0` is one of region `k3`.
///
/// # Errors
/// As [`compile`].
pub fn list(module: &Module) -> Result<Vec<Listing>> {
    let mut compiler = Compiler::new(module.machine.target.isa)?;
    let mut listings = Vec::new();
    compiler.list("", module, &mut listings)?;
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
    /// A routine.
    Routine(Box<Routine>),
}

/// Compiles each kernel of a module, whether or not this machine has its instruction set. Tests compare the result with
/// stored hashes: a refactoring changes none.
///
/// # Errors
/// As [`compile`].
pub fn replay(module: &Module) -> Result<Vec<Replay>> {
    let mut compiler = Compiler::new(module.machine.target.isa)?;
    let mut replays = Vec::new();
    compiler.replay(module, &mut replays)?;
    // SAFETY: the module has no code.
    unsafe { compiler.module.free_memory() };
    Ok(replays)
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

    /// Compiles the loop nests of a module, and its regions. Gives what its driver calls. The names of the functions
    /// begin with `prefix`. The part of the module is added to `table`; it is valid while the module lives, which may
    /// be moved.
    fn functions<'m>(&mut self, prefix: String, module: &'m Module, table: &mut Vec<*const u8>) -> Result<Driver<'m>> {
        let emissions = emit_all(module, self.simd_width)?;
        let mut functions: Vec<Option<FuncId>> = vec![None; module.loops.len()];
        for (k, call) in module.calls.iter().enumerate() {
            if let Call::Loop { code, .. } = call
                && functions[*code].is_none()
            {
                let name = format!("{prefix}k{k}");
                dump(Stage::Loops, &format!("loops of {name}"), &module.loops[*code]);
                functions[*code] = Some(self.kernel(&name, &module.loops[*code], emissions[*code].as_ref())?);
            }
        }
        let lines: Vec<String> = module.phases.iter().map(ToString::to_string).collect();
        let of = if prefix.is_empty() { String::new() } else { format!(" of {}", prefix.trim_end_matches('.')) };
        dump(Stage::Kernels, &format!("phases{of}"), &lines.join("\n"));
        dump(Stage::Kernels, &format!("memory{of}"), &module.plan);
        let mut part = Table::of(module, table.len());
        segments::describe(module, &mut part);
        table.extend(part.addresses(module));
        let mut regions = HashMap::new();
        for (k, call) in module.calls.iter().enumerate() {
            if let Call::Region(region) = call {
                let body = self.functions(format!("{prefix}k{k}."), &region.module, table)?;
                regions.insert(k, self.driver(&body, false)?);
            }
        }
        Ok(Driver { prefix, module, table: part, functions, regions })
    }

    /// The function of a loop kernel. `code` is the code that `simd` emitted, if any.
    fn kernel(&mut self, name: &str, loops: &Loops, code: Option<&Emission>) -> Result<FuncId> {
        if let Some(code) = code {
            return self.install(name, loops, code);
        }
        self.emit_clif(loops);
        self.define(name)
    }

    /// Adds the text of each loop kernel of a module.
    fn list(&mut self, prefix: &str, module: &Module, listings: &mut Vec<Listing>) -> Result<()> {
        let emissions = emit_all(module, self.simd_width)?;
        for (k, call) in module.calls.iter().enumerate() {
            let name = format!("{prefix}k{k}");
            match call {
                Call::Loop { code, .. } => {
                    let loops = &module.loops[*code];
                    self.listing = Some((String::new(), String::new()));
                    self.kernel(&name, loops, emissions[*code].as_ref())?;
                    let (clif, asm) = self.listing.take().unwrap_or_default();
                    listings.push(Listing { name, loops: loops.to_string(), clif, asm });
                }
                Call::Region(region) => self.list(&format!("{name}."), &region.module, listings)?,
                Call::Gemm { .. } | Call::Routine { .. } => {}
            }
        }
        Ok(())
    }

    /// Adds what each kernel of a module compiles to; of a region, its kernels.
    fn replay(&mut self, module: &Module, replays: &mut Vec<Replay>) -> Result<()> {
        let emissions = emit_all(module, Width::widest(module.machine.target.isa))?;
        for call in &module.calls {
            replays.push(match call {
                Call::Gemm { gemm, .. } => Replay::Product(gemm.clone()),
                Call::Routine { routine, .. } => Replay::Routine(routine.clone()),
                Call::Region(region) => {
                    self.replay(&region.module, replays)?;
                    continue;
                }
                Call::Loop { code, .. } => match &emissions[*code] {
                    Some(Emission { code, symbols }) => {
                        Replay::Code(code.clone(), symbols.iter().map(|(at, symbol)| (*at, symbol.name())).collect())
                    }
                    None => {
                        self.emit_clif(&module.loops[*code]);
                        let clif = self.context.func.display().to_string();
                        self.module.clear_context(&mut self.context);
                        Replay::Clif(clif)
                    }
                },
            });
        }
        Ok(())
    }

    /// Emits the Cranelift IR of a loop kernel into the context.
    fn emit_clif(&mut self, loops: &Loops) {
        self.context.func.signature = self.signature_of(loops);
        let config = self.module.target_config();
        clif::emit(loops, &mut self.context.func, &mut self.frontend, config);
    }

    /// Adds the code of a kernel that `simd` emitted.
    fn install(&mut self, name: &str, loops: &Loops, emission: &Emission) -> Result<FuncId> {
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
        let id = self.module.declare_function(name, Linkage::Local, &signature).map_err(fault)?;
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

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

use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData, Signature, Value, types};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module};
use hashbrown::HashMap;

pub use gemm::Isa;

use crate::dump::{Stage, dump, wants};
use crate::error::{Error, Result};
use crate::fuse::{BufferId, Kernel, Kernels, LoopKernel, Source};
use crate::loops::{Loops, schedule};
use crate::memory::{Place, Plan, plan};
use crate::types::DType;

/// Machine code of a program, and what must live as long as it does.
pub struct Code {
    module: ManuallyDrop<JITModule>,
    /// The driver: `extern "C" fn(params: *const *mut u8, outputs: *const *mut u8, arena: *mut u8)`.
    entry: *const u8,
    /// The driver that runs kernel `k` only, with `k` as its last argument; for timing.
    single: *const u8,
    /// The memory plan.
    pub plan: Plan,
    /// The kernels, for descriptions.
    pub kernels: Kernels,
    /// Descriptions of matrix products, which the code points to.
    _gemms: Vec<gemm::Gemm>,
    /// Milliseconds of each stage.
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

/// The driver's signature: pointers to the inputs, pointers to the outputs, the arena.
pub type Entry = unsafe extern "C" fn(*const *mut u8, *const *mut u8, *mut u8);

/// The signature of the driver for one kernel; see [`Code::single`].
pub type Single = unsafe extern "C" fn(*const *mut u8, *const *mut u8, *mut u8, usize);

impl Code {
    /// The driver. It reads and writes through all the pointers it is given, as the plan says.
    pub fn entry(&self) -> Entry {
        // SAFETY: the address is that of a finished function of this signature, compiled below.
        unsafe { std::mem::transmute::<*const u8, Entry>(self.entry) }
    }

    /// The driver that runs the kernel with the given number only.
    pub fn single(&self) -> Single {
        // SAFETY: as above.
        unsafe { std::mem::transmute::<*const u8, Single>(self.single) }
    }
}

/// Machine code for `kernels`. `donated` says which inputs may be overwritten. Results do not depend on `isa`.
///
/// # Errors
/// Only by a fault of the compiler, or when there is no executable memory to be had.
pub fn compile(kernels: Kernels, donated: &[bool], isa: Isa) -> Result<Code> {
    let start = Instant::now();
    dump(Stage::Kernels, "kernels", &kernels);
    let mut compiler = Compiler::new(isa)?;
    let mut functions: HashMap<(Vec<usize>, LoopKernel), (FuncId, usize)> = HashMap::new();
    let mut calls: Vec<Call> = Vec::new();
    // All at once, so that each stays where it is.
    let gemms: Vec<gemm::Gemm> = kernels.kernels.iter().filter_map(|k| describe(k, isa)).collect();
    let mut described = gemms.iter();
    let mut scratch: Vec<usize> = Vec::new();
    for (k, kernel) in kernels.kernels.iter().enumerate() {
        match kernel {
            Kernel::Loop(kernel) => {
                // Equal but for the buffers' names, kernels share their code.
                let (shape, args) = canonical(kernel);
                let key = (vec![args.len()], shape);
                let (function, bytes) = match functions.get(&key) {
                    Some(known) => *known,
                    None => {
                        let loops = schedule(&key.1);
                        dump(Stage::Loops, &format!("loops of k{k}"), &loops);
                        let made = (compiler.kernel(k, &loops)?, loops.scratch);
                        functions.insert(key, made);
                        made
                    }
                };
                calls.push(Call::Loop { function, args, scratch: bytes > 0 });
                scratch.push(bytes);
            }
            Kernel::Gemm(g) => {
                let gemm = described.next().expect("every product was described");
                let size = g.dtype.size();
                scratch.push(gemm.scratch_bytes());
                let entry =
                    if g.dtype == DType::F64 { gemm::gemm_f64 as *const () } else { gemm::gemm_f32 as *const () };
                let byte = |offset: isize| offset as i64 * size as i64;
                calls.push(Call::Gemm {
                    entry: entry as usize as i64,
                    gemm: std::ptr::from_ref(gemm) as usize as i64,
                    args: [(g.a.0, byte(g.a.1)), (g.b.0, byte(g.b.1)), (g.c, 0)],
                });
            }
        }
    }
    let kernels_done = start.elapsed();
    let plan = plan(&kernels, donated, &scratch);
    dump(Stage::Kernels, "memory", &plan);
    let entry = compiler.driver(&kernels, &plan, &calls, false)?;
    let single = if wants(Stage::Time) { Some(compiler.driver(&kernels, &plan, &calls, true)?) } else { None };
    let mut module = compiler.module;
    module.finalize_definitions().map_err(|e| Error::compiler("emit", e))?;
    let entry = module.get_finalized_function(entry);
    let single = single.map_or(std::ptr::null(), |id| module.get_finalized_function(id));
    let times = vec![("kernels", kernels_done), ("driver", start.elapsed() - kernels_done)];
    Ok(Code { module: ManuallyDrop::new(module), entry, single, plan, kernels, _gemms: gemms, times })
}

/// What the microkernels are told about a product.
fn describe(kernel: &Kernel, isa: Isa) -> Option<gemm::Gemm> {
    let Kernel::Gemm(g) = kernel else { return None };
    let [batch, m, n, k] = g.extents;
    let c = [(m * n) as isize, n as isize, 1];
    Some(gemm::Gemm::new(batch, m, n, k, g.a.2, g.b.2, c, g.dtype.size(), isa))
}

/// One call in the driver.
enum Call {
    Loop { function: FuncId, args: Vec<BufferId>, scratch: bool },
    Gemm { entry: i64, gemm: i64, args: [(BufferId, i64); 3] },
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

    /// The function of a loop kernel.
    fn kernel(&mut self, number: usize, loops: &Loops) -> Result<FuncId> {
        if self.wide
            && let Some(code) = wide::emit(loops).map_err(|e| Error::compiler("wide", format!("k{number}: {e}")))?
        {
            return self.install(number, loops, &code);
        }
        self.context.func.signature = self.pointers(loops.args.len() + usize::from(loops.scratch > 0));
        let config = self.module.target_config();
        emit::emit(loops, &mut self.context.func, &mut self.frontend, config);
        self.define(&format!("k{number}"))
    }

    /// Takes over the code of a kernel from `wide`.
    fn install(&mut self, number: usize, loops: &Loops, code: &[u8]) -> Result<FuncId> {
        let name = format!("k{number}");
        let signature = self.pointers(loops.args.len() + usize::from(loops.scratch > 0));
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
    fn driver(&mut self, kernels: &Kernels, plan: &Plan, calls: &[Call], single: bool) -> Result<FuncId> {
        self.context.func.signature = self.pointers(if single { 4 } else { 3 });
        let config = self.module.target_config();
        let gemm_signature = self.pointers(5);
        let mut functions = HashMap::new();
        for call in calls {
            if let Call::Loop { function, .. } = call {
                functions
                    .entry(*function)
                    .or_insert_with(|| self.module.declare_func_in_func(*function, &mut self.context.func));
            }
        }
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.frontend);
        let block = builder.create_block();
        builder.append_block_params_for_function_params(block);
        builder.switch_to_block(block);
        let arguments = builder.block_params(block).to_vec();
        let gemm_signature = builder.import_signature(gemm_signature);
        let address = |builder: &mut FunctionBuilder, b: BufferId| -> Value {
            let flags = MemFlagsData::new().with_notrap().with_readonly().with_can_move();
            let table = |builder: &mut FunctionBuilder, from: Value, i: usize| {
                builder.ins().load(types::I64, flags, from, (i * 8) as i32)
            };
            match plan.places[b.index()] {
                Place::Param(i) => table(builder, arguments[0], i),
                Place::Output(i) => table(builder, arguments[1], i),
                Place::Arena(at) => builder.ins().iadd_imm_s(arguments[2], at as i64),
                Place::Constant => {
                    let Source::Constant(array) = &kernels.buffers[b.index()].source else {
                        unreachable!("the plan says constant for constants only")
                    };
                    builder.ins().iconst(types::I64, array.buffer().start() as usize as i64)
                }
            }
        };
        for (k, call) in calls.iter().enumerate() {
            let skip = single.then(|| {
                let (run, skip) = (builder.create_block(), builder.create_block());
                let wanted =
                    builder.ins().icmp_imm_u(cranelift_codegen::ir::condcodes::IntCC::Equal, arguments[3], k as i64);
                builder.ins().brif(wanted, run, &[], skip, &[]);
                builder.switch_to_block(run);
                skip
            });
            let scratch_at = plan.scratch[k] as i64;
            match call {
                Call::Loop { function, args, scratch } => {
                    let mut pointers: Vec<Value> = args.iter().map(|&b| address(&mut builder, b)).collect();
                    if *scratch {
                        pointers.push(builder.ins().iadd_imm_s(arguments[2], scratch_at));
                    }
                    builder.ins().call(functions[function], &pointers);
                }
                Call::Gemm { entry, gemm, args } => {
                    let mut pointers = vec![builder.ins().iconst(types::I64, *gemm)];
                    for &(b, offset) in args {
                        let at = address(&mut builder, b);
                        pointers.push(builder.ins().iadd_imm_s(at, offset));
                    }
                    pointers.push(builder.ins().iadd_imm_s(arguments[2], scratch_at));
                    let callee = builder.ins().iconst(types::I64, *entry);
                    builder.ins().call_indirect(gemm_signature, callee, &pointers);
                }
            }
            if let Some(skip) = skip {
                builder.ins().jump(skip, &[]);
                builder.switch_to_block(skip);
            }
        }
        builder.ins().return_(&[]);
        builder.seal_all_blocks();
        builder.finalize(config);
        self.define(if single { "single" } else { "driver" })
    }
}

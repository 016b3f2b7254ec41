//! A program: a graph compiled for a device.
//!
//! Comes in: a graph, then arrays per call. Goes out: arrays. Optimisation and fusion are called here; code and memory
//! belong to the device's `Executable`.

use std::time::{Duration, Instant};

use fulgurite_jit::array::Device;
use fulgurite_jit::cpu::Target;
use fulgurite_jit::dump::{Stage, dump, wants};
use fulgurite_jit::fuse::{Kernels, fuse};
use fulgurite_jit::graph::Graph;
use fulgurite_jit::opt::optimise_with;
use fulgurite_jit::panics::guarded;
use fulgurite_jit::{Array, Error, Result};

use crate::device::cpu::executable::{CpuExecutable, host_target};
use crate::device::cpu::policy::ParallelPolicy;
use crate::device::select::Opened;
use crate::device::{Executable, with_arrays_on};

/// A compiled graph. Several threads may run it at once.
pub struct Program {
    name: String,
    device: Opened,
    executable: Box<dyn Executable>,
}

impl Program {
    /// Optimises, fuses and compiles `graph` for this machine's processor. `donated` says which inputs may be
    /// overwritten by outputs.
    ///
    /// The program is parallel where the compiler's cost model finds it profitable. One of a [`Jit`](crate::Jit) also
    /// measures it.
    ///
    /// # Errors
    /// A compiler error (see [`fulgurite_jit::Error::compiler`]), a panic of the compiler included.
    pub fn compile(name: &str, graph: &Graph, donated: &[bool]) -> Result<Program> {
        Program::compile_for(name, graph, donated, host_target())
    }

    /// As [`Program::compile`], for other vectors and threads. The results are the same bits for all.
    ///
    /// # Errors
    /// As [`Program::compile`].
    pub fn compile_for(name: &str, graph: &Graph, donated: &[bool], target: Target) -> Result<Program> {
        guarded("compiling", || Program::build(name, graph, donated, target, ParallelPolicy::always_parallel()))
    }

    /// As [`Program::compile`], of a program on `device`. One on the processor starts serial and measures whether
    /// parallel is faster.
    pub(crate) fn compile_tuned(name: &str, graph: &Graph, donated: &[bool], device: &Opened) -> Result<Program> {
        guarded("compiling", || match device {
            Opened::Cpu => Program::build(name, graph, donated, host_target(), ParallelPolicy::default()),
            Opened::Other(other) => {
                Program::build_with(name, graph, device, |kernels| other.clone().compile(name, kernels, donated))
            }
        })
    }

    fn build(name: &str, graph: &Graph, donated: &[bool], target: Target, policy: ParallelPolicy) -> Result<Program> {
        Program::build_with(name, graph, &Opened::Cpu, |kernels| {
            Ok(Box::new(CpuExecutable::compile(name, kernels, donated, target, policy)?))
        })
    }

    fn build_with(
        name: &str,
        graph: &Graph,
        device: &Opened,
        compile: impl FnOnce(Kernels) -> Result<Box<dyn Executable>>,
    ) -> Result<Program> {
        let start = Instant::now();
        dump(Stage::Graph, &format!("{name}: graph"), graph);
        let mut report = String::new();
        let mut record = |pass: &str, _: &Graph, took: Duration, changed| {
            if wants(Stage::Time) {
                let remark = if changed { "" } else { " (unchanged)" };
                report += &format!("{pass:>12} {:9.3} ms{remark}\n", took.as_secs_f64() * 1e3);
            }
        };
        let graph = guarded("optimisation", || optimise_with(graph, &mut record))?;
        dump(Stage::Opt, &format!("{name}: optimised graph"), &graph);
        let fusing = Instant::now();
        let kernels = guarded("fusion", || Ok(fuse(&graph)))?;
        let fused = fusing.elapsed();
        let executable = guarded("code generation", || compile(kernels))?;
        if wants(Stage::Time) {
            for (stage, took) in [("fuse", fused)].iter().chain(executable.compile_times()) {
                report += &format!("{stage:>12} {:9.3} ms\n", took.as_secs_f64() * 1e3);
            }
            report += &format!("{:>12} {:9.3} ms", "in all", start.elapsed().as_secs_f64() * 1e3);
            dump(Stage::Time, &format!("{name}: compile time"), &report);
        }
        Ok(Program { name: name.into(), device: device.clone(), executable })
    }

    /// The name that dumps and errors use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device that the program runs on.
    pub fn device(&self) -> Device {
        self.device.device()
    }

    /// The kernels of a run.
    pub fn kernels(&self) -> &Kernels {
        self.executable.kernels()
    }

    /// Bytes of the arena of a run (scratch memory of the threads aside), and their lower bound for this order of the
    /// kernels.
    pub fn arena_bytes(&self) -> (usize, usize) {
        self.executable.arena_bytes()
    }

    /// Runs the program. Inputs that are not on its device are copied to it. A donated input is overwritten if `inputs`
    /// holds the only handle to its buffer, and copied otherwise.
    ///
    /// # Errors
    /// When the inputs do not have the number and types that the program was compiled for. When an allocation of a
    /// result, of the copy of an input or of working memory fails, with its type and bytes, or the device of an input
    /// does; nothing has been overwritten then.
    pub fn run(&self, inputs: Vec<Array>) -> Result<Vec<Array>> {
        if !self.accepts(inputs.iter()) {
            return Err(self.mismatch(&inputs));
        }
        // SAFETY: the program accepts them, and this call owns them.
        unsafe { self.run_unchecked(&inputs.iter().collect::<Vec<_>>()) }
    }

    #[cold]
    fn mismatch(&self, inputs: &[Array]) -> Error {
        let list = |types: Vec<String>| types.join(", ");
        let expected = list(self.kernels().params.iter().map(ToString::to_string).collect());
        let given = list(inputs.iter().map(|x| x.ty().to_string()).collect());
        Error::new(format!("`{}` is compiled for inputs of types ({expected}), not ({given})", self.name))
    }

    /// Have the inputs the types that the program was compiled for?
    pub(crate) fn accepts<'a>(&self, inputs: impl Iterator<Item = &'a Array>) -> bool {
        inputs.map(Array::ty).eq(&self.kernels().params)
    }

    /// Does the program update its first `count` inputs in place? See [`Executable::updates_in_place`].
    pub(crate) fn updates_in_place(&self, count: usize) -> bool {
        self.executable.updates_in_place(count)
    }

    /// [`Program::run`] of inputs that are known to have the right number and types. A donated one is overwritten if
    /// its array is the only handle to its buffer; the caller drops it then.
    ///
    /// # Errors
    /// As [`Executable::run`]; when a copy to the device fails.
    ///
    /// # Safety
    /// The program [accepts](Program::accepts) them. Each donated one has a second handle while this runs, or is
    /// borrowed by the caller alone.
    pub(crate) unsafe fn run_unchecked(&self, inputs: &[&Array]) -> Result<Vec<Array>> {
        debug_assert!(self.accepts(inputs.iter().copied()));
        // SAFETY: the caller's promise. The inputs are on the device; a copy has no other user.
        with_arrays_on(&self.device, inputs, |inputs| unsafe { self.executable.run(inputs) })
    }

    /// A run with a resident `state`.
    ///
    /// # Errors
    /// As [`Executable::run_in_place`].
    ///
    /// # Safety
    /// The program [updates](Program::updates_in_place) `state` in place, and [accepts](Program::accepts) it followed
    /// by `borrowed`.
    pub(crate) unsafe fn run_in_place(&self, state: &mut [Array], borrowed: &[&Array]) -> Result<Vec<Array>> {
        debug_assert!(self.updates_in_place(state.len()) && self.accepts(state.iter().chain(borrowed.iter().copied())));
        if !self.device.holds_all() {
            for x in &mut *state {
                if !self.device.holds(x) {
                    *x = self.device.put(x)?;
                }
            }
        }
        // SAFETY: the caller's promise. All arrays are on the device.
        with_arrays_on(&self.device, borrowed, |borrowed| unsafe { self.executable.run_in_place(state, borrowed) })
    }
}

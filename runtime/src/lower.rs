//! Every stage of a function as printable values, for inspection and tests.
//!
//! Comes in: a function and arguments. Goes out: [`Lowered`]. Nothing runs here.

use std::fmt;

use fulgurite_jit::cpu;
use fulgurite_jit::fuse::{Kernels, fuse};
use fulgurite_jit::graph::Graph;
use fulgurite_jit::lower::{self, Module};
use fulgurite_jit::opt::optimise;
use fulgurite_jit::panics::guarded;
use fulgurite_jit::ptx::{self, Target};
use fulgurite_jit::trace::trace_call;
use fulgurite_jit::{Output, Result, Tree, leaves, unflatten};

/// A function at every stage of compilation, for this machine's processor; [`Lowered::ptx`] is that for a GPU.
pub struct Lowered {
    /// As traced.
    pub graph: Graph,
    /// After the passes.
    pub optimised: Graph,
    /// Fused.
    pub kernels: Kernels,
    /// Lowered for one thread of this machine.
    pub module: Module,
    /// The loops, Cranelift's code and the machine code of each kernel.
    pub listing: Vec<cpu::Listing>,
}

/// Traces `f` with arguments like `args` and lowers it, without running it.
///
/// # Errors
/// The first error of tracing, or that of `f`, where it returns a [`Result`].
pub fn lower<A: Tree, R: Output>(f: impl Fn(A) -> R, args: &A) -> Result<Lowered> {
    let types: Vec<_> = leaves(args).iter().map(|x| x.ty().clone()).collect();
    let traced = trace_call(&types, |params| Ok(leaves(&f(unflatten(args, params.iter().cloned())).into_result()?)))?;
    guarded("compiling", || {
        let graph = traced.graph;
        let optimised = optimise(&graph)?;
        let kernels = fuse(&optimised);
        let donated = vec![false; kernels.params.len()];
        let module = lower::lower(kernels.clone(), &donated, cpu::Target::one_thread().into())?;
        let listing = cpu::list(&module)?;
        Ok(Lowered { graph, optimised, kernels, module, listing })
    })
}

impl Lowered {
    /// The code for an NVIDIA GPU: launches and PTX, as for the least GPU that is supported. It needs neither a GPU nor
    /// a driver; for another GPU, see [`ptx::Module::lower`].
    ///
    /// ```
    /// use fulgurite_jit::Tensor;
    /// use fulgurite_runtime::lower;
    ///
    /// let lowered = lower(|x: Tensor| (x * 2.0).exp().sum(), &Tensor::zeros(&[1000]))?;
    /// let module = lowered.ptx()?;
    /// for launch in &module.launches {
    ///     println!("{launch}"); // which entry, on how many blocks, with which arguments
    /// }
    /// println!("{}", module.ptx);
    /// assert!(module.ptx.to_string().contains(".target sm_70"));
    /// # Ok::<(), fulgurite_jit::Error>(())
    /// ```
    ///
    /// # Errors
    /// When an extent or a number of launches is beyond what a GPU's code counts, with the kernel.
    pub fn ptx(&self) -> Result<ptx::Module> {
        let donated = vec![false; self.kernels.params.len()];
        guarded("lowering to PTX", || ptx::Module::lower(self.kernels.clone(), &donated, Target::default()))
    }
}

impl fmt::Display for Lowered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "-- graph\n{}", self.graph)?;
        writeln!(f, "-- optimised graph\n{}", self.optimised)?;
        writeln!(f, "-- kernels\n{}", self.kernels)?;
        for kernel in &self.listing {
            writeln!(f, "-- {}: loops\n{}", kernel.name, kernel.loops)?;
            writeln!(f, "-- {}: clif\n{}", kernel.name, kernel.clif)?;
            writeln!(f, "-- {}: machine code\n{}", kernel.name, kernel.asm)?;
        }
        Ok(())
    }
}

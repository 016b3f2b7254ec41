//! Modules: a program as PTX and a list of launches.
//!
//! In: kernels, which inputs are donated, the GPU. Out: the entries, where buffers lie, and the launches of a run in
//! their order, each with its grid and its arguments as places. A launch sees what earlier ones wrote. A run is one
//! list, without a word of the host: see `launch`.

use super::body::Body;
use super::epilogue;
use super::inst::PtxModule;
use super::launch::launches;
use super::place::{Launch, Target, VERSION};
use crate::array::Array;
use crate::error::Result;
use crate::fuse::Kernels;
use crate::lower::memory::Plan;

/// A program before the driver compiles it.
#[derive(Clone, Debug)]
pub struct Module {
    /// The GPU.
    pub target: Target,
    /// The kernels that it is lowered from.
    pub kernels: Kernels,
    /// The code.
    pub ptx: PtxModule,
    /// Where buffers lie.
    pub plan: Plan,
    /// The launches of a run.
    pub launches: Vec<Launch>,
    /// The constants.
    pub constants: Vec<Array>,
}

impl Module {
    /// Lowers `kernels`. `donated` marks the inputs that may be overwritten.
    ///
    /// # Errors
    /// When an extent or a number of launches is beyond what the back end counts, with the kernel.
    pub fn lower(mut kernels: Kernels, donated: &[bool], target: Target) -> Result<Module> {
        epilogue::pair(&mut kernels, donated);
        let mut constants = Vec::new();
        let (plan, launches, entries) = {
            let body = Body::new(&kernels, donated, true, target, &mut constants)?;
            let (launches, entries) = launches(&body, target)?;
            (body.plan, launches, entries)
        };
        let ptx = PtxModule { version: VERSION, target: target.architecture(), entries };
        Ok(Module { target, kernels, ptx, plan, launches, constants })
    }
}

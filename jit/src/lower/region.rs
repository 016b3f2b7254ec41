//! Regions: a module that runs inside of another.
//!
//! Comes in: a region of the kernel IR. Goes out: the module of its body, and where a run of the body finds its inputs
//! and leaves its outputs. The carry of a loop alternates between its result and a second buffer, so that a trip reads
//! the one and writes the other; where the body can update it in place there is no second buffer.

use super::machine::{Cost, Machine};
use super::memory::{Plan, aligned};
use super::{Module, lower};
use crate::error::Result;
use crate::fuse::{BufferId, Control, RegionKernel};
use crate::types::TensorType;

/// A region before it is code.
#[derive(Clone, Debug)]
pub struct Region {
    /// The body.
    pub module: Module,
    /// How often the body runs, and on what.
    pub control: Control,
    /// The buffers of the inputs of the body, then of its outputs.
    pub args: Vec<BufferId>,
    /// For each value of the carry the offset of its second buffer in the workspace; `None` if it is updated in place.
    pub second: Vec<Option<usize>>,
    /// Bytes of the workspace: the arena of the body, then the second buffers.
    pub workspace: usize,
}

impl Region {
    /// Lowers a region.
    ///
    /// # Errors
    /// As [`lower`].
    pub(super) fn lower(kernel: &RegionKernel, machine: &Machine) -> Result<Region> {
        let (body, control) = (&kernel.body, kernel.control);
        let donated = control.donated(body.params.len());
        // Threads are woken once for all trips.
        let cost = Cost { wake: machine.cost.wake / control.trips() as f64, ..machine.cost.clone() };
        let module = lower((**body).clone(), &donated, Machine { cost, ..machine.clone() })?;
        let (second, workspace) = second_buffers(&module.plan, &body.params[..control.num_carry()]);
        let args = kernel.operands.iter().chain(&kernel.results).copied().collect();
        Ok(Region { module, control, args, second, workspace })
    }
}

/// For a body with this plan, the offset in its workspace of the second buffer of each value of the carry, `None` for
/// one that is updated in place; and the bytes of the workspace: the arena of the body, then the second buffers.
pub(crate) fn second_buffers(plan: &Plan, carry: &[TensorType]) -> (Vec<Option<usize>>, usize) {
    let mut workspace = aligned(plan.arena);
    let second = carry.iter().enumerate().map(|(c, ty)| {
        if plan.aliases[c] == Some(c) {
            return None;
        }
        let offset = workspace;
        workspace = aligned(workspace.saturating_add(ty.bytes()));
        Some(offset)
    });
    (second.collect(), workspace)
}

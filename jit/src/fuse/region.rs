//! Regions: kernels inside of a kernel.
//!
//! To the kernels around it a region is one kernel, which reads its operands and writes its results. Its body is a
//! program of its own, with its own buffers, whose inputs and outputs the region binds to memory for each run.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashSet;
use smallvec::{SmallVec, smallvec};

use super::buffer::BufferId;
use super::index::{Affine, Index};
use super::kernel::{Buffer, Dim, Kernel, KernelOp, KernelValue, Kernels, LoopKernel, Output, Source, Store};
use super::{build, joined, normalise};
use crate::graph::Graph;
use crate::types::join;

/// How often a region runs its body, and on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Control {
    /// A fixed number of trips. The first inputs of the body are the carry, then come the constants, then elements of
    /// the other operands, an element per trip. The first outputs are the next carry, the others are elements of the
    /// other results.
    Scan {
        /// How many inputs and outputs are the carry.
        num_carry: usize,
        /// How many inputs are the same in all trips.
        num_consts: usize,
        /// The number of trips, at least 1.
        length: usize,
        /// Whether the trips go from the last element to the first.
        reverse: bool,
    },
}

/// A region and its buffers.
#[derive(Clone, Debug)]
pub struct RegionKernel {
    /// How often the body runs, and on what.
    pub control: Control,
    /// The body. Each of its outputs is a computed buffer, and no two are the same.
    pub body: Box<Kernels>,
    /// The buffers that are read, one for each input of the body. Those of the carry are its values before the first
    /// trip.
    pub operands: Vec<BufferId>,
    /// The buffers that are written, each in full, one for each output of the body.
    pub results: Vec<BufferId>,
}

impl RegionKernel {
    /// How often the body runs.
    pub fn trips(&self) -> usize {
        match self.control {
            Control::Scan { length, .. } => length,
        }
    }

    /// The sum of a property of the body's kernels, in all trips.
    pub(super) fn sum(&self, of: fn(&Kernels, usize) -> usize) -> usize {
        let trip = (0..self.body.kernels.len()).map(|k| of(&self.body, k)).fold(0, usize::saturating_add);
        trip.saturating_mul(self.trips())
    }
}

/// The kernels of `body`, whose input `order[i]` becomes input `i`.
pub(super) fn fuse_body(body: &Graph, order: &[usize]) -> Box<Kernels> {
    let mut kernels = build::build(&normalise::normalise(body));
    let mut place = vec![0; order.len()];
    order.iter().enumerate().for_each(|(to, &from)| place[from] = to);
    for buffer in &mut kernels.buffers {
        if let Source::Param(i) = &mut buffer.source {
            *i = place[*i];
        }
    }
    for output in &mut kernels.outputs {
        if let Output::Param(i, _) = output {
            *i = place[*i];
        }
    }
    kernels.params = order.iter().map(|&from| kernels.params[from].clone()).collect();
    own_outputs(&mut kernels);
    Box::new(joined(kernels))
}

/// Gives each output that is an input, a constant or another output a buffer of its own, which is a copy.
fn own_outputs(kernels: &mut Kernels) {
    let mut taken: HashSet<BufferId> = HashSet::new();
    for o in 0..kernels.outputs.len() {
        let add = |kernels: &mut Kernels, buffer: Buffer| {
            kernels.buffers.push(buffer);
            BufferId(kernels.buffers.len() as u32 - 1)
        };
        let (from, ty) = match kernels.outputs[o].clone() {
            Output::Computed(buffer, _) if taken.insert(buffer) => continue,
            Output::Computed(buffer, ty) => (buffer, ty),
            Output::Param(i, ty) => {
                let is_input = |buffer: &Buffer| matches!(buffer.source, Source::Param(input) if input == i);
                let buffer = kernels.buffers.iter().position(is_input).expect("each input has a buffer");
                (BufferId(buffer as u32), ty)
            }
            Output::Constant(array) => {
                let ty = Arc::new(array.ty().clone());
                (add(kernels, Buffer { ty: array.ty().clone(), source: Source::Constant(array) }), ty)
            }
        };
        let to = add(kernels, Buffer { ty: (*ty).clone(), source: Source::Computed });
        taken.insert(to);
        let extent = ty.elements();
        if extent > 0 {
            let dtype = ty.dtype;
            let index = Affine::induction_variable(0, 1);
            let op = KernelOp::Load(from, Index { base: index.clone(), by: SmallVec::new() });
            kernels.kernels.push(Kernel::Loop(LoopKernel {
                dims: vec![Dim { extent, reduced: false }],
                values: vec![KernelValue { op, operands: smallvec![], dtype }],
                stores: vec![Store { value: 0, buffer: to, index, by: SmallVec::new() }],
                ..LoopKernel::default()
            }));
        }
        kernels.outputs[o] = Output::Computed(to, ty);
    }
}

impl fmt::Display for RegionKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Control::Scan { num_carry, num_consts, length, reverse } = self.control;
        let (carry, rest) = self.operands.split_at(num_carry);
        let (consts, xs) = rest.split_at(num_consts);
        write!(f, "scan [{length}]{}", if reverse { " in reverse" } else { "" })?;
        for (what, buffers) in [("carry", carry), ("constants", consts), ("elements", xs)] {
            if !buffers.is_empty() {
                write!(f, " {what} {}", join(buffers, " "))?;
            }
        }
        writeln!(f, " {{")?;
        for line in self.body.to_string().lines() {
            writeln!(f, "  {line}")?;
        }
        write!(f, "}}")
    }
}

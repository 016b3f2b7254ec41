//! Regions: the kernels of a body as one kernel.

use std::sync::Arc;

use hashbrown::HashSet;
use smallvec::{SmallVec, smallvec};

use super::{KernelBuilder, Opaque, build};
use crate::fuse::index::{Affine, Index};
use crate::fuse::kernel::{
    Buffer, BufferId, Control, Dim, Kernel, KernelOp, KernelValue, Kernels, LoopKernel, Output, RegionKernel, Source,
    Store,
};
use crate::fuse::{joined, normalise};
use crate::graph::{Graph, Op, ValueId};
use crate::types::{DType, TensorType};

impl KernelBuilder<'_> {
    /// The region of a loop, or those of branches.
    pub(super) fn region(&mut self, id: ValueId) {
        let node = self.graph.node(id);
        let Opaque { operands, results } = self.opaque(id);
        let (body, num_consts, control) = match &node.op {
            // `normalise` replaces its results.
            Op::Scan { length: 0, .. } => return,
            &Op::Scan { ref body, num_consts, num_carry, length, reverse } => {
                (body, num_consts, Control::Scan { num_carry, num_consts, length, reverse })
            }
            &Op::While { ref body, num_consts } => {
                (body, num_consts, Control::While { num_carry: operands.len() - num_consts })
            }
            Op::Cond { branches } => return self.branches(branches, operands, results),
            op => unreachable!("{} is no region", op.name()),
        };
        // The carry comes first, as in the results.
        let carry = num_consts..num_consts + control.num_carry();
        let order: Vec<usize> = carry.clone().chain(0..num_consts).chain(carry.end..operands.len()).collect();
        let body = fuse_body(body, &order);
        let operands = order.iter().map(|&i| operands[i]).collect();
        self.result.kernels.push(Kernel::Region(RegionKernel { control, body, operands, results }));
    }

    /// The regions of branches.
    fn branches(&mut self, branches: &[Arc<Graph>], mut operands: Vec<BufferId>, results: Vec<BufferId>) {
        // Which of them runs comes last.
        operands.rotate_left(1);
        let index = &self.result.buffers[operands[operands.len() - 1].index()].ty;
        let index = TensorType::scalar(index.dtype);
        for (number, branch) in branches.iter().enumerate() {
            let order: Vec<usize> = (0..operands.len() - 1).collect();
            let mut body = fuse_body(branch, &order);
            body.params.push(index.clone());
            let control = Control::Branch { number, count: branches.len() };
            let (operands, results) = (operands.clone(), results.clone());
            self.result.kernels.push(Kernel::Region(RegionKernel { control, body, operands, results }));
        }
    }
}

/// The kernels of `body`, whose input `order[i]` becomes input `i`.
pub(super) fn fuse_body(body: &Graph, order: &[usize]) -> Box<Kernels> {
    let mut kernels = build(&normalise::normalise(body));
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

/// The kernel that copies a buffer of so many elements.
pub(crate) fn copy_of(from: BufferId, to: BufferId, extent: usize, dtype: DType) -> LoopKernel {
    let index = Affine::induction_variable(0, 1);
    let op = KernelOp::Load(from, Index { base: index.clone(), by: SmallVec::new() });
    LoopKernel {
        dims: vec![Dim { extent, reduced: false }],
        values: vec![KernelValue { op, operands: smallvec![], dtype }],
        stores: vec![Store { value: 0, buffer: to, index, by: SmallVec::new() }],
        ..LoopKernel::default()
    }
}

/// Gives each output that is an input, a constant or another output a separate buffer, which is a copy.
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
            kernels.kernels.push(Kernel::Loop(copy_of(from, to, extent, ty.dtype)));
        }
        kernels.outputs[o] = Output::Computed(to, ty);
    }
}

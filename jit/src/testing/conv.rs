//! Draws convolutions of any value: its axes are batch, features and space in any order.

use smallvec::SmallVec;

use super::program::Maker;
use crate::graph::{ConvDims, Op, ValueId};
use crate::types::{Axes, Shape, TensorType};

impl Maker {
    /// A convolution of `x` with something.
    pub(super) fn conv(&mut self, x: ValueId) -> Option<ValueId> {
        let ty = self.of(x);
        if !(2..=5).contains(&ty.rank()) {
            return None;
        }
        let spatial = ty.rank() - 2;
        let spec = |maker: &mut Maker| -> Axes { maker.random.shuffled(0..spatial + 2).into() };
        let mut dims = ConvDims::plain(spatial);
        (dims.lhs_spec, dims.rhs_spec, dims.out_spec) = (spec(self), spec(self), spec(self));
        let (batch, features) = (ty.shape[dims.lhs_spec[0]], ty.shape[dims.lhs_spec[1]]);
        let mut outputs = 1 + self.random.below(5);
        let divisors = |n: usize| (2..=n.min(8)).filter(move |d| n.is_multiple_of(*d)).collect::<Vec<_>>();
        match self.random.below(6) {
            0 if !divisors(features).is_empty() => dims.feature_groups = self.random.one_of(&divisors(features)),
            1 if !divisors(batch).is_empty() => dims.batch_groups = self.random.one_of(&divisors(batch)),
            2 => dims.feature_groups = features.max(1),
            _ => {}
        }
        outputs *= dims.feature_groups * dims.batch_groups;
        let mut kernel = Shape::from_elem(0, spatial + 2);
        (kernel[dims.rhs_spec[0]], kernel[dims.rhs_spec[1]]) = (outputs, features / dims.feature_groups);
        let pads = |maker: &mut Maker| -> SmallVec<[isize; 4]> {
            (0..spatial).map(|_| maker.random.below(6) as isize - 2).collect()
        };
        (dims.low, dims.high) = (pads(self), pads(self));
        for axis in 0..spatial {
            let room = ty.shape[dims.lhs_spec[axis + 2]];
            kernel[dims.rhs_spec[axis + 2]] = match self.random.below(8) {
                0 => room,
                1 => self.random.below(room + 3),
                _ => 1 + self.random.below(3),
            };
            let step = |maker: &mut Maker| 1 + maker.random.below(4).saturating_sub(1);
            dims.strides[axis] = step(self);
            dims.rhs_dilation[axis] = step(self);
            if self.random.one_in(3) {
                dims.lhs_dilation[axis] = step(self);
            }
        }
        let w = self.like(&TensorType::new(ty.dtype, &kernel))?;
        self.push(Op::Conv(Box::new(dims), None), &[x, w])
    }
}

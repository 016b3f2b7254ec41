//! The axes and the windows of convolutions, in the general form of HLO and `jax.lax.conv_general_dilated`.
//!
//! What types go together is in `infer`. The first operand (`lhs`) is what is convolved, the second (`rhs`) is the
//! kernel.

use smallvec::SmallVec;

use crate::types::{Axes, Shape, TensorType, gcd, product};

/// A convolution: which axes of the operands and of the result are what, and how the window moves.
///
/// Along a spatial axis, with stride `s`, dilations `d` of the left operand and `r` of the right one and padding
/// `low`, `z[o] = Σ_k x[(o s + k r - low) / d] w[k]`, over the `k` for which the index is whole and in range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConvDims {
    /// The axes of the left operand: batch, features, then the spatial axes in their order.
    pub lhs_spec: Axes,
    /// The axes of the right operand: features of the result, features of the left operand, then the spatial axes.
    pub rhs_spec: Axes,
    /// The axes of the result: batch, features, then the spatial axes.
    pub out_spec: Axes,
    /// How far the window moves, per spatial axis; at least 1.
    pub strides: Shape,
    /// Zeros before the first element of the dilated left operand, per spatial axis; a negative number cuts off.
    pub low: SmallVec<[isize; 4]>,
    /// Zeros after the last element, likewise.
    pub high: SmallVec<[isize; 4]>,
    /// Steps from one element of the left operand to the next, with zeros between; at least 1.
    pub lhs_dilation: Shape,
    /// Steps from one element of the window to the next; at least 1.
    pub rhs_dilation: Shape,
    /// In how many groups the features of both are divided; those of the result are of the group of their inputs.
    pub feature_groups: usize,
    /// In how many groups the batch of the left operand is divided; each gives a group of features of the result.
    pub batch_groups: usize,
}

/// With more phases than this, the left operand is stored with the zeros between its elements.
const MOST_PHASES: usize = 64;

impl ConvDims {
    /// A plain convolution of so many spatial axes, `N C …` by `O I …` to `N C …`: strides and dilations 1, no padding,
    /// one group.
    pub fn plain(spatial: usize) -> ConvDims {
        let spec: Axes = (0..spatial + 2).collect();
        ConvDims {
            lhs_spec: spec.clone(),
            rhs_spec: spec.clone(),
            out_spec: spec,
            strides: Shape::from_elem(1, spatial),
            low: SmallVec::from_elem(0, spatial),
            high: SmallVec::from_elem(0, spatial),
            lhs_dilation: Shape::from_elem(1, spatial),
            rhs_dilation: Shape::from_elem(1, spatial),
            feature_groups: 1,
            batch_groups: 1,
        }
    }

    /// The number of spatial axes.
    pub fn spatial(&self) -> usize {
        self.strides.len()
    }

    /// The extents of a type along the axes of a `spec`: two, then the spatial ones.
    pub fn extents(spec: &[usize], ty: &TensorType) -> Shape {
        spec.iter().map(|&axis| ty.shape[axis]).collect()
    }

    /// How many products are summed for an element of the result, at most.
    pub fn terms(&self, rhs: &TensorType) -> usize {
        Self::extents(&self.rhs_spec, rhs)[1..].iter().copied().fold(1, usize::saturating_mul)
    }

    /// Whether the left operand is stored with the zeros between its elements. Otherwise the results whose windows fall
    /// on elements in the same way, a phase, are computed together.
    pub fn is_spread(&self) -> bool {
        let phases = |axis: usize| self.lhs_dilation[axis] / gcd(self.lhs_dilation[axis], self.strides[axis]);
        product((0..self.spatial()).map(phases)) > MOST_PHASES
    }

    /// Whole elements of the left operand that the padding before and after amounts to, per spatial axis.
    pub fn whole_padding(&self, axis: usize) -> [usize; 2] {
        [self.low[axis], self.high[axis]].map(|pad| pad.max(0).unsigned_abs().div_ceil(self.lhs_dilation[axis]))
    }
}

/// The extent of an axis whose elements are `dilation` apart.
pub fn dilated(extent: usize, dilation: usize) -> usize {
    if extent == 0 { 0 } else { (extent - 1).saturating_mul(dilation).saturating_add(1) }
}

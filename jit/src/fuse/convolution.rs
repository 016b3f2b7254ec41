//! Brings convolutions into the form that kernels are built from.
//!
//! **Padding** is around the left operand, where it is in memory, so that every window is inside of it. What is cut off
//! stays a negative padding: it costs nothing.
//!
//! **Order of axes.** Features are adjacent in the result and in the kernel, so that vectors of them are computed, for
//! any stride and any extent of an image; a padded operand is stored in that order too. A gradient by the kernel, whose
//! windows are images, has the same of its operands. What is not padded is read as it is.

use smallvec::{SmallVec, smallvec};

use super::layout::inverse;
use super::normalise::{Emit, Stored};
use crate::graph::{ConvDims, DotAxes, Literal, Node, Op, Operands, Precision, ValueId};
use crate::types::{Axes, Shape, TensorType, product};

/// With fewer features in a group vectors are not full: then axes are as they are in the graph.
const FEATURES: usize = 8;

/// A window of at most so many elements is one of features of an image.
const WINDOW: usize = 9;

/// Whether the window is the longer one, and the results of an image are few: so it is for a gradient by the kernel.
/// Its terms are added over the features first, and over the window within; its features are the batch.
pub(super) fn is_gradient(dims: &ConvDims, rhs: &TensorType, result: &TensorType) -> bool {
    let along = |spec: &[usize], ty: &TensorType| product(spec[2..].iter().map(|&axis| ty.shape[axis]));
    let window = along(&dims.rhs_spec, rhs);
    window > WINDOW && window > along(&dims.out_spec, result)
}

impl Emit<'_> {
    pub(super) fn conv(&mut self, dims: &ConvDims, precision: Option<Precision>, x: ValueId, w: ValueId) -> ValueId {
        let tx = self.ty(x);
        if tx.elements() == 0 || self.ty(w).elements() == 0 {
            let ty = self.node.ty.clone();
            return self.zeros(ty.dtype, &ty.shape);
        }
        if let Some(value) = self.pointwise(dims, precision, x, w) {
            return value;
        }
        let mut dims = dims.clone();
        let (x, w) = (self.stored(x), self.stored(w));
        let mut is_reordered = false;
        for (spec, stored) in [(&mut dims.lhs_spec, &x), (&mut dims.rhs_spec, &w)] {
            is_reordered |= stored.perm.windows(2).any(|pair| pair[0] > pair[1]);
            spec.iter_mut().for_each(|axis| *axis = stored.perm[*axis]);
        }
        let (mut x, mut w) = (x.value, w.value);
        let groups = dims.feature_groups.max(dims.batch_groups);
        let kernel = ConvDims::extents(&dims.rhs_spec, &self.ty(w));
        let outputs = kernel[0] / groups;
        let is_gradient = is_gradient(&dims, &self.ty(w), &self.node.ty);
        let spatial = dims.spatial();
        let has_vectors = tx.dtype.is_float() && spatial > 0 && outputs >= FEATURES;
        if !has_vectors && !is_reordered {
            x = self.padded(&mut dims, x, None);
            return self.push(Op::Conv(Box::new(dims), precision), &[x, w]);
        }
        // The order of axes of each: the first, then space, then the last; or space in front.
        let around = |spec: &[usize], first: usize, last: usize| -> Axes {
            [spec[first]].into_iter().chain(spec[2..].iter().copied()).chain([spec[last]]).collect()
        };
        let of_x = if is_gradient { around(&dims.lhs_spec, 1, 0) } else { around(&dims.lhs_spec, 0, 1) };
        x = self.padded(&mut dims, x, Some(of_x));
        if !is_gradient {
            let [o, i, space @ ..] = &dims.rhs_spec[..] else { unreachable!("the graph is verified") };
            let order: Axes = space.iter().chain([i, o]).copied().collect();
            w = self.reordered(&mut dims.rhs_spec, w, order);
        }
        let [b, f, space @ ..] = &dims.out_spec[..] else { unreachable!("the graph is verified") };
        let order: Axes = match is_gradient {
            true => space.iter().chain([b, f]).copied().collect(),
            false => [*b].into_iter().chain(space.iter().copied()).chain([*f]).collect(),
        };
        let perm = inverse(&order);
        dims.out_spec.iter_mut().for_each(|axis| *axis = perm[*axis]);
        let value = self.push(Op::Conv(Box::new(dims), precision), &[x, w]);
        // A gradient goes to what has the order of the graph: the parameters.
        if is_gradient { self.transpose(value, perm) } else { self.ordered(Stored { value, perm }) }
    }

    /// A convolution whose window is one element is a matrix product for each image, where features are before space:
    /// its vectors are of space, and nothing is stored in another order.
    fn pointwise(&mut self, dims: &ConvDims, precision: Option<Precision>, x: ValueId, w: ValueId) -> Option<ValueId> {
        let (tx, tw) = (self.ty(x), self.ty(w));
        let (rhs_spec, strides) = (dims.rhs_spec.clone(), dims.strides.clone());
        let plain = ConvDims { rhs_spec, strides, ..ConvDims::plain(dims.spatial()) };
        let [outputs, features, window @ ..] = &ConvDims::extents(&dims.rhs_spec, &tw)[..] else { return None };
        // The elements that strides leave are stored without the others.
        let step = |axis: usize| if axis < 2 { 1 } else { dims.strides[axis - 2] };
        let stride: Axes = (0..tx.rank()).map(step).collect();
        let space = product((2..tx.rank()).map(|axis| tx.shape[axis].div_ceil(stride[axis])));
        let is_point = *dims == plain && dims.spatial() > 0 && window.iter().all(|&extent| extent == 1);
        if !is_point || !tx.dtype.is_float() || space < FEATURES || self.layouts.contains_key(&x) {
            return None;
        }
        let (batch, matrix) = (tx.shape[0], [*outputs, *features]);
        let w = self.transpose(w, dims.rhs_spec.clone());
        let w = self.reshape(w, &matrix);
        let shape: Axes = smallvec![batch, matrix[0], matrix[1]];
        let w = self.push(Op::Broadcast { shape, dims: smallvec![1, 2] }, &[w]);
        let x = match stride.iter().all(|&step| step == 1) {
            true => x,
            false => self.push(Op::Slice { start: smallvec![0; tx.rank()], limit: tx.shape.clone(), stride }, &[x]),
        };
        let x = self.reshape(x, &[batch, matrix[1], space]);
        let axes = DotAxes { batch: smallvec![(0, 0)], contract: smallvec![(2, 1)] };
        Some(self.dot(&axes, precision, w, x))
    }

    /// The left operand with what is around it, in this order of axes if it is stored anew.
    fn padded(&mut self, dims: &mut ConvDims, x: ValueId, order: Option<Axes>) -> ValueId {
        let ty = self.ty(x);
        let rank = ty.rank();
        let spread = dims.is_spread();
        let is_padded = |axis: usize| dims.whole_padding(axis) != [0, 0] || spread && dims.lhs_dilation[axis] != 1;
        if !(0..dims.spatial()).any(is_padded) {
            return x;
        }
        let x = match order {
            Some(order) => self.reordered(&mut dims.lhs_spec, x, order),
            None => x,
        };
        let [mut low, mut high]: [SmallVec<[isize; 4]>; 2] = [(); 2].map(|()| smallvec![0; rank]);
        let mut interior = Shape::from_elem(0, rank);
        for i in 0..dims.spatial() {
            let axis = dims.lhs_spec[i + 2];
            if spread {
                interior[axis] = dims.lhs_dilation[i] - 1;
                dims.lhs_dilation[i] = 1;
            }
            let step = dims.lhs_dilation[i] as isize;
            let [before, after] = dims.whole_padding(i).map(|count| count as isize);
            (low[axis], high[axis]) = (before, after);
            dims.low[i] -= before * step;
            dims.high[i] -= after * step;
        }
        // A gradient by the kernel has the padding of the convolution.
        let op = Op::Pad { low, high, interior };
        if let Some(&known) = self.padded.get(&(x, op.clone())) {
            return known;
        }
        let literal = Literal::new(ty.dtype, 0.0);
        let (scalar, location) = (TensorType::scalar(ty.dtype), self.node.location);
        let zero = self.graph.push(Node { op: Op::Literal(literal), operands: Operands::new(), ty: scalar, location });
        let result = self.push(op.clone(), &[x, zero]);
        self.padded.insert((x, op), result);
        result
    }

    /// The value with its axes in this order, where `spec` finds them.
    fn reordered(&mut self, spec: &mut Axes, x: ValueId, order: Axes) -> ValueId {
        let places = inverse(&order);
        spec.iter_mut().for_each(|axis| *axis = places[*axis]);
        // One view of a value, so that it is stored once.
        if order.windows(2).all(|pair| pair[0] < pair[1]) {
            return x;
        }
        let key = (x, Op::Transpose(order.clone()));
        if let Some(&known) = self.padded.get(&key) {
            return known;
        }
        let result = self.transpose(x, order);
        self.padded.insert(key, result);
        result
    }
}

//! Samples of convolutions: none to three spatial axes, every parameter, layouts, and element types.

use smallvec::smallvec;

use crate::graph::{ConvDims, Op, Sample};
use crate::types::{DType, TensorType};

/// A convolution with strides, padding, and both dilations along each spatial axis, of operands in the plain layout.
fn windows(windows: &[[isize; 5]]) -> ConvDims {
    let mut dims = ConvDims::plain(windows.len());
    for (axis, &[stride, low, high, lhs, rhs]) in windows.iter().enumerate() {
        dims.strides[axis] = stride.unsigned_abs();
        (dims.low[axis], dims.high[axis]) = (low, high);
        (dims.lhs_dilation[axis], dims.rhs_dilation[axis]) = (lhs.unsigned_abs(), rhs.unsigned_abs());
    }
    dims
}

/// `NHWC` by `HWIO` to `NHWC`.
fn channels_last(dims: ConvDims) -> ConvDims {
    ConvDims {
        lhs_spec: smallvec![0, 3, 1, 2],
        rhs_spec: smallvec![3, 2, 0, 1],
        out_spec: smallvec![0, 3, 1, 2],
        ..dims
    }
}

pub(super) fn samples() -> Vec<Sample> {
    use DType::{F32, F64, I32, U32};
    let conv = |dims: ConvDims, dtype: DType, x: &[usize], w: &[usize]| Sample {
        op: Op::Conv(Box::new(dims), None),
        operands: vec![TensorType::new(dtype, x), TensorType::new(dtype, w)],
        range: (-2.0, 2.0),
    };
    let plain = [1, 0, 0, 1, 1];
    let same = [1, 1, 1, 1, 1];
    vec![
        conv(windows(&[]), F32, &[3, 4], &[2, 4]),
        conv(windows(&[[1, 2, 0, 1, 1]]), F32, &[2, 3, 6], &[3, 3, 3]),
        conv(windows(&[[2, -2, 3, 1, 1]]), F64, &[2, 2, 7], &[2, 2, 3]),
        conv(windows(&[[1, 5, 4, 1, 1]]), F32, &[1, 1, 3], &[2, 1, 2]),
        conv(windows(&[plain]), F32, &[1, 2, 3], &[2, 2, 5]),
        conv(windows(&[plain]), F32, &[2, 0, 5], &[3, 0, 2]),
        conv(windows(&[same]), F32, &[0, 2, 5], &[3, 2, 2]),
        conv(windows(&[[1, 1, 2, 3, 1]]), F32, &[2, 2, 4], &[3, 2, 3]),
        conv(windows(&[[2, 3, 1, 2, 3]]), F32, &[1, 2, 7], &[2, 2, 3]),
        conv(windows(&[[2, -1, -2, 2, 1]]), F64, &[1, 2, 6], &[2, 2, 2]),
        conv(windows(&[[3, 0, 1, 4, 1]]), F32, &[1, 2, 5], &[3, 2, 2]),
        conv(windows(&[[1, 0, 0, 70, 1]]), F32, &[1, 2, 3], &[2, 2, 2]),
        conv(windows(&[same, same]), F32, &[2, 3, 7, 8], &[4, 3, 3, 3]),
        conv(windows(&[[2, 0, 1, 1, 2], [1, 1, -1, 1, 1]]), F32, &[2, 3, 6, 7], &[5, 3, 2, 3]),
        conv(windows(&[plain, plain]), F64, &[2, 6, 5, 4], &[7, 6, 1, 1]),
        conv(windows(&[plain, plain]), F32, &[2, 2, 4, 3], &[3, 2, 4, 3]),
        conv(channels_last(windows(&[same, same])), F32, &[2, 8, 7, 3], &[3, 3, 3, 5]),
        conv(channels_last(windows(&[[2, 1, 2, 1, 1], [2, 0, 1, 2, 1]])), F32, &[1, 5, 4, 2], &[3, 2, 2, 3]),
        conv(ConvDims { feature_groups: 2, ..windows(&[same, plain]) }, F32, &[2, 4, 5, 6], &[6, 2, 2, 3]),
        conv(ConvDims { feature_groups: 5, ..windows(&[same, same]) }, F32, &[2, 5, 6, 6], &[5, 1, 3, 3]),
        conv(
            ConvDims { feature_groups: 6, ..channels_last(windows(&[same, [2, 1, 1, 1, 1]])) },
            F32,
            &[1, 5, 6, 6],
            &[3, 3, 1, 12],
        ),
        conv(ConvDims { batch_groups: 2, ..windows(&[[1, 1, 0, 1, 1], plain]) }, F32, &[4, 2, 4, 5], &[4, 2, 2, 2]),
        conv(ConvDims { batch_groups: 3, ..windows(&[[2, 0, 0, 1, 1]]) }, F64, &[6, 2, 5], &[3, 2, 2]),
        conv(windows(&[[1, 1, 0, 1, 1], [2, 0, 1, 1, 1], [1, -1, 1, 1, 1]]), F32, &[1, 2, 3, 4, 3], &[2, 2, 2, 3, 2]),
        conv(
            ConvDims {
                lhs_spec: smallvec![2, 0, 1],
                rhs_spec: smallvec![1, 2, 0],
                out_spec: smallvec![1, 2, 0],
                ..windows(&[[1, 1, 0, 1, 1]])
            },
            F32,
            &[3, 6, 2],
            &[3, 2, 3],
        ),
        conv(windows(&[same, same]), I32, &[1, 2, 5, 5], &[2, 2, 2, 2]),
        conv(windows(&[[2, 1, 0, 1, 1]]), U32, &[2, 3, 9], &[3, 3, 3]),
    ]
}

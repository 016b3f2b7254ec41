//! Convolutions, one product after the other: floats in f64, rounded once; integers wrap.

use super::{scalar, unflatten};
use crate::graph::{BinaryOp, ConvDims};
use crate::types::{Shape, TensorType, row_major_strides};

pub(super) fn conv(ty: &TensorType, x: &[Vec<u64>], from: [&TensorType; 2], dims: &ConvDims) -> Vec<u64> {
    let spatial = dims.spatial();
    let strides = from.map(|ty| row_major_strides(&ty.shape));
    let strides = [(&strides[0], &dims.lhs_spec), (&strides[1], &dims.rhs_spec)]
        .map(|(strides, spec)| spec.iter().map(|&axis| strides[axis]).collect::<Shape>());
    let [lhs, rhs] = [ConvDims::extents(&dims.lhs_spec, from[0]), ConvDims::extents(&dims.rhs_spec, from[1])];
    let (batch, features) = (lhs[0] / dims.batch_groups, rhs[1]);
    // Features of the result in a group.
    let group = (rhs[0] / dims.feature_groups.max(dims.batch_groups)).max(1);
    let is_float = ty.dtype.is_float();
    let element = |i: usize| {
        let at = unflatten(i, &ty.shape);
        let at: Shape = dims.out_spec.iter().map(|&axis| at[axis]).collect();
        let (example, feature) = (at[0], at[1]);
        let (first_example, first_feature) = match dims.batch_groups {
            1 => (0, feature / group * features),
            _ => (feature / group * batch, 0),
        };
        let start =
            [(first_example + example) * strides[0][0] + first_feature * strides[0][1], feature * strides[1][0]];
        let (mut sum, mut total) = (0.0f64, ty.dtype.bits(0i64));
        for k in 0..rhs[2..].iter().product() {
            let Some([left, right]) = tap(dims, &at, &unflatten(k, &rhs[2..]), &lhs, &strides, spatial) else {
                continue;
            };
            for c in 0..features {
                let a = x[0][start[0] + left + c * strides[0][1]];
                let b = x[1][start[1] + right + c * strides[1][1]];
                if is_float {
                    sum += ty.dtype.value(a).to_f64() * ty.dtype.value(b).to_f64();
                } else {
                    let product = scalar::binary(BinaryOp::Mul, ty.dtype, a, b);
                    total = scalar::binary(BinaryOp::Add, ty.dtype, total, product);
                }
            }
        }
        if is_float { scalar::round(ty.dtype, sum) } else { total }
    };
    (0..ty.elements()).map(element).collect()
}

/// Where the operands have the elements at `window` of the window of the result's element `at`; `None` between
/// elements, and in the padding.
fn tap(
    dims: &ConvDims,
    at: &[usize],
    window: &[usize],
    lhs: &[usize],
    strides: &[Shape; 2],
    spatial: usize,
) -> Option<[usize; 2]> {
    let mut place = [0, 0];
    for axis in 0..spatial {
        let [o, k, stride, dilation] =
            [at[axis + 2], window[axis], dims.strides[axis], dims.rhs_dilation[axis]].map(|n| n as i128);
        let position = o * stride + k * dilation - dims.low[axis] as i128;
        let step = dims.lhs_dilation[axis] as i128;
        if position < 0 || position % step != 0 || position / step >= lhs[axis + 2] as i128 {
            return None;
        }
        place[0] += (position / step) as usize * strides[0][axis + 2];
        place[1] += window[axis] * strides[1][axis + 2];
    }
    Some(place)
}

//! Products of vectors, matrices and tensors.

use std::panic::Location;

use crate::error::Error;
use crate::front::operand::reject;
use crate::front::tensor::Tensor;
use crate::graph::DotAxes;

/// The product of all elements of one with all of the other, both flattened: `jax.numpy.outer`. The result is a matrix.
#[track_caller]
pub fn outer(x: &Tensor, y: &Tensor) -> Tensor {
    x.reshape(&[x.elements()]).expand_dims(1) * y.reshape(&[y.elements()]).expand_dims(0)
}

/// The sum of the products along the last axes of both, or the product where one is a scalar: `jax.numpy.inner`.
///
/// # Errors
/// The result stands for an error if the last axes differ.
#[track_caller]
pub fn inner(x: &Tensor, y: &Tensor) -> Tensor {
    if x.rank() == 0 || y.rank() == 0 {
        return x * y;
    }
    contracted(x, y, &[(x.rank() - 1, y.rank() - 1)])
}

/// The sum of the products of the elements of both, flattened: `jax.numpy.vdot`.
///
/// # Errors
/// The result stands for an error if the numbers of elements differ.
#[track_caller]
pub fn vdot(x: &Tensor, y: &Tensor) -> Tensor {
    contracted(&x.reshape(&[x.elements()]), &y.reshape(&[y.elements()]), &[(0, 0)])
}

/// The sum of the products along an axis, after broadcasting: `jax.numpy.vecdot`.
///
/// # Errors
/// The result stands for an error if shapes do not go together.
#[track_caller]
pub fn vecdot(x: &Tensor, y: &Tensor, axis: isize) -> Tensor {
    (x * y).sum_axes(axis)
}

#[track_caller]
fn contracted(x: &Tensor, y: &Tensor, pairs: &[(usize, usize)]) -> Tensor {
    let (x, y) = x.promoted(y);
    x.dot_general(&y, DotAxes { batch: Default::default(), contract: pairs.iter().copied().collect() })
}

/// The sum of the products over pairs of axes, which are removed: `jax.numpy.tensordot` with lists of axes. With a
/// number n of axes, the last n of `x` go with the first n of `y`: `[(-2, 0), (-1, 1)]` are 2. Negative axes count from
/// the end.
///
/// # Errors
/// The result stands for an error if there are no such axes, or their extents differ.
#[track_caller]
pub fn tensordot(x: &Tensor, y: &Tensor, axes: &[(isize, isize)]) -> Tensor {
    let resolve = |axis: isize, rank: usize| {
        let axis = if axis < 0 { axis + rank as isize } else { axis };
        usize::try_from(axis).ok().filter(|&axis| axis < rank)
    };
    let pair = |&(i, j): &(isize, isize)| Some((resolve(i, x.rank())?, resolve(j, y.rank())?));
    match axes.iter().map(pair).collect::<Option<Vec<_>>>() {
        Some(pairs) => contracted(x, y, &pairs),
        None => {
            let why = format!("{} and {} do not have the axes {axes:?}", x.ty(), y.ty());
            reject(&[x, y], Error::op("tensordot", why, Location::caller()))
        }
    }
}

/// The Kronecker product: `jax.numpy.kron`. An operand of fewer axes gets axes of extent 1 before its own.
#[track_caller]
pub fn kron(x: &Tensor, y: &Tensor) -> Tensor {
    let rank = x.rank().max(y.rank());
    let grown = |shape: &[usize]| -> Vec<usize> { [&vec![1; rank - shape.len()][..], shape].concat() };
    let (of_x, of_y) = (grown(x.shape()), grown(y.shape()));
    // Each axis is one of x and one of y.
    let apart = |shape: &[usize], second: usize| -> Vec<usize> {
        shape.iter().flat_map(|&n| if second == 0 { [n, 1] } else { [1, n] }).collect()
    };
    let shape: Vec<usize> = of_x.iter().zip(&of_y).map(|(x, y)| x * y).collect();
    (x.reshape(&apart(&of_x, 0)) * y.reshape(&apart(&of_y, 1))).reshape(&shape)
}

/// The cross product of vectors of three elements along an axis: `jax.numpy.cross`. Other axes broadcast.
///
/// # Errors
/// The result stands for an error if the axis does not have extent 3.
#[track_caller]
pub fn cross(x: &Tensor, y: &Tensor, axis: isize) -> Tensor {
    let extent = |x: &Tensor| {
        let axis = if axis < 0 { axis + x.rank() as isize } else { axis };
        usize::try_from(axis).ok().and_then(|axis| x.shape().get(axis).copied())
    };
    if extent(x) != Some(3) || extent(y) != Some(3) {
        let why = format!("takes vectors of 3 elements along axis {axis}, not {} and {}", x.ty(), y.ty());
        return reject(&[x, y], Error::op("cross", why, Location::caller()));
    }
    let ([x1, x2], [y1, y2]) = ([1, 2].map(|by| x.roll(-by, axis)), [1, 2].map(|by| y.roll(-by, axis)));
    x1 * y2 - x2 * y1
}

/// The product of matrices in the order that takes the fewest operations; the first and the last may be vectors:
/// `jax.numpy.linalg.multi_dot`.
///
/// # Errors
/// The result stands for an error if there is no operand, if one is of another rank, or if extents do not go together.
#[track_caller]
pub fn multi_dot(matrices: &[&Tensor]) -> Tensor {
    let location = Location::caller();
    let count = matrices.len();
    let fits = |(i, x): (usize, &&Tensor)| x.rank() == 2 || (x.rank() == 1 && (i == 0 || i + 1 == count));
    if count == 0 || !matrices.iter().enumerate().all(fits) {
        let types: Vec<String> = matrices.iter().map(|x| x.ty().to_string()).collect();
        let why = format!("takes matrices, not {}", types.join(", "));
        let error = Error::op("multi_dot", why, location);
        return match count {
            0 => Tensor::failed(crate::types::TensorType::scalar(crate::types::DType::F32), error),
            _ => reject(matrices, error),
        };
    }
    // Matrix i has extents[i] rows and extents[i + 1] columns.
    let rows = |x: &Tensor, i: usize| if x.rank() == 2 || i + 1 == count { x.shape()[0] } else { 1 };
    let mut extents: Vec<usize> = matrices.iter().enumerate().map(|(i, x)| rows(x, i)).collect();
    extents.push(if matrices[count - 1].rank() == 2 { matrices[count - 1].shape()[1] } else { 1 });
    // The least operations for the product of matrices i to j, and where it is split: Cormen et al., "Introduction to
    // Algorithms", 3rd edition, 15.2.
    let mut best = vec![vec![(0usize, 0); count]; count];
    for length in 2..=count {
        for i in 0..=count - length {
            let j = i + length - 1;
            let cost = |k: usize| {
                let product = extents[i].saturating_mul(extents[k + 1]).saturating_mul(extents[j + 1]);
                best[i][k].0.saturating_add(best[k + 1][j].0).saturating_add(product)
            };
            let split = (i..j).min_by_key(|&k| cost(k)).unwrap_or(i);
            best[i][j] = (cost(split), split);
        }
    }
    chain(matrices, &best, [0, count - 1])
}

#[track_caller]
fn chain(matrices: &[&Tensor], best: &[Vec<(usize, usize)>], [i, j]: [usize; 2]) -> Tensor {
    if i == j {
        return matrices[i].clone();
    }
    let split = best[i][j].1;
    chain(matrices, best, [i, split]).matmul(&chain(matrices, best, [split + 1, j]))
}

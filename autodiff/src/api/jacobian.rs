//! Whole Jacobians and Hessians of functions from one tensor to one tensor.
//!
//! Comes in: a function. Goes out: the matrix of its derivative. A linear map is applied to all vectors of the standard
//! basis with `vmap`: forward one column per element of the input, backward one row per element of the result. Sparsity
//! is not used.

use std::panic::Location;

use fulgurite_jit::trace::as_one_program;
use fulgurite_jit::{DType, Error, Tensor, TensorType};

use super::grad::{linearize, vjp};
use super::vmap::vmap_out;

/// The Jacobian, forward: costs about `f` on a batch with one example per element of the *input*. Its
/// shape is the result's followed by the input's.
///
/// # Errors
/// When input or result are not floats, the Jacobian is poisoned with the error.
#[track_caller]
pub fn jacfwd(f: impl Fn(&Tensor) -> Tensor) -> impl Fn(&Tensor) -> Tensor {
    let location = Location::caller();
    move |x: &Tensor| {
        one_program(x, |x| {
            let (y, pushforward) = linearize(&f, x);
            if let Some(error) = not_float("jacfwd", x, &y, location) {
                return Tensor::failed(jacobian_type(x, &y), error);
            }
            vmap_out(|dx: Tensor| pushforward(&dx), 0, -1)(basis(x)).reshape(&jacobian_type(x, &y).shape)
        })
    }
}

/// The Jacobian, backward: costs about `f` on a batch with one example per element of the *result*. Its
/// shape is the result's followed by the input's.
///
/// # Errors
/// When input or result are not floats, the Jacobian is poisoned with the error.
#[track_caller]
pub fn jacrev(f: impl Fn(&Tensor) -> Tensor) -> impl Fn(&Tensor) -> Tensor {
    let location = Location::caller();
    move |x: &Tensor| {
        one_program(x, |x| {
            let (y, pullback) = vjp(&f, x);
            if let Some(error) = not_float("jacrev", x, &y, location) {
                return Tensor::failed(jacobian_type(x, &y), error);
            }
            vmap_out(|ct: Tensor| pullback(&ct), 0, 0)(basis(&y)).reshape(&jacobian_type(x, &y).shape)
        })
    }
}

/// The second derivatives: the Jacobian, forward, of the Jacobian, backward. Its shape is the result's followed by the
/// input's, twice.
///
/// ```no_run
/// use fulgurite_autodiff::hessian;
/// use fulgurite_jit::Tensor;
///
/// let curvature = hessian(|x: &Tensor| x.square().sum())(&Tensor::zeros(&[3])); // 2 on the diagonal of f32[3,3]
/// ```
#[track_caller]
pub fn hessian(f: impl Fn(&Tensor) -> Tensor) -> impl Fn(&Tensor) -> Tensor {
    jacfwd(jacrev(f))
}

fn one_program(x: &Tensor, f: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
    as_one_program(std::slice::from_ref(x), |x| vec![f(&x[0])]).remove(0)
}

fn jacobian_type(x: &Tensor, y: &Tensor) -> TensorType {
    TensorType::new(y.dtype(), &[y.shape(), x.shape()].concat())
}

/// The vectors of the standard basis of tensors like `x`, along a new first axis.
fn basis(x: &Tensor) -> Tensor {
    let n = x.elements();
    let (row, column) = (Tensor::iota(DType::I32, &[n, n], 0), Tensor::iota(DType::I32, &[n, n], 1));
    row.equal(column).convert(x.dtype()).reshape(&[&[n], x.shape()].concat())
}

fn not_float(name: &str, x: &Tensor, y: &Tensor, location: &'static Location<'static>) -> Option<Error> {
    if !x.dtype().is_float() {
        return Some(Error::op(name, format!("the argument must be floats, not {}", x.ty()), location));
    }
    (!y.dtype().is_float()).then(|| Error::op(name, format!("the function must give floats, not {}", y.ty()), location))
}

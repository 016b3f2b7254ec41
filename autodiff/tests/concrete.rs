//! Transformations of concrete tensors, outside of any trace, and inside of compiled functions.

mod common;

use common::assert_close;
use fulgurite_autodiff::{grad, hessian, jacrev, jvp, linearize, value_and_grad, vjp, vmap};
use fulgurite_jit::{Error, Tensor, gelu};
use fulgurite_runtime::jit;

fn f32_tensor(shape: &[usize], data: &[f32]) -> Tensor {
    Tensor::from_vec(shape, data.to_vec()).expect("as many elements as the shape has")
}

fn data(x: &Tensor) -> Vec<f64> {
    x.array().expect("a concrete tensor").to_f64_vec().unwrap()
}

#[test]
fn derivatives_at_concrete_tensors() {
    let x = f32_tensor(&[3], &[1.0, 2.0, 3.0]);
    let f = |x: &Tensor| (x.square() * x).sum();
    let (value, gradient) = value_and_grad(f)(&x);
    assert_eq!(value.item::<f32>(), Ok(36.0));
    assert_eq!(data(&gradient), [3.0, 12.0, 27.0]);
    assert_eq!(data(&hessian(f)(&x)), [6.0, 0.0, 0.0, 0.0, 12.0, 0.0, 0.0, 0.0, 18.0]);
    let (y, dy) = jvp(|x: &Tensor| x.square(), &x, &x);
    assert_eq!((data(&y), data(&dy)), (vec![1.0, 4.0, 9.0], vec![2.0, 8.0, 18.0]));
    // Residuals are concrete too.
    let (y, pullback) = vjp(|x: &Tensor| x.square(), &x);
    let (_, pushforward) = linearize(|x: &Tensor| x.square(), &x);
    for map in [&pullback as &dyn Fn(&Tensor) -> Tensor, &pushforward] {
        assert_eq!(data(&map(&y)), [2.0, 16.0, 54.0]);
        assert_eq!(data(&map(&x)), [2.0, 8.0, 18.0]);
    }
    assert_eq!(data(&jacrev(|x: &Tensor| x.slice_in_dim(0, 0..2) * 3.0)(&x)), [3.0, 0.0, 0.0, 0.0, 3.0, 0.0]);
}

#[test]
fn batches_of_concrete_tensors() {
    let (xs, w) = (f32_tensor(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), f32_tensor(&[3], &[1.0, 0.0, -1.0]));
    let ys = vmap(|(x, w): (Tensor, Tensor)| x.matmul(&w), (0, None))((xs.clone(), w.clone()));
    assert_eq!(data(&ys), [-2.0, -2.0]);
    let gradients = vmap(|x: Tensor| grad(|w: &Tensor| x.matmul(w).square())(&w), 0)(xs);
    assert_eq!(data(&gradients), [-4.0, -8.0, -12.0, -16.0, -20.0, -24.0]);
}

#[test]
fn compiled_steps_are_the_same() {
    let step = jit(|(w, x): (Tensor, Tensor)| {
        value_and_grad(|w: &Tensor| vmap(|x: Tensor| gelu(&x.matmul(w)).sum(), 0)(x.clone()).mean())(&w)
    });
    let w = f32_tensor(&[2, 2], &[0.1, -0.2, 0.3, 0.4]);
    let x = f32_tensor(&[3, 2], &[1.0, 2.0, -1.0, 0.5, 0.0, 1.5]);
    let (value, gradient) = step.call((w.clone(), x.clone())).expect("it compiles");
    let (outside, gradient_outside) = value_and_grad(|w: &Tensor| gelu(&x.matmul(w)).sum_axes(1).mean())(&w);
    assert_close("value", &data(&value), &data(&outside), 1e-6);
    assert_close("gradient", &data(&gradient), &data(&gradient_outside), 1e-6);
    step.call((w, x)).expect("it is compiled");
    assert_eq!(step.traces(), 1);
}

#[test]
fn mistakes_are_in_the_result() {
    let x = f32_tensor(&[3], &[1.0, 2.0, 3.0]);
    let error = |x: &Tensor| x.array().map(|_| ()).expect_err("an error").to_string();
    let gradient = grad(|x: &Tensor| x.sin())(&x);
    assert!(error(&gradient).starts_with("grad: the function must give a float scalar, not f32[3], at "));
    let (y, pullback) = vjp(|x: &Tensor| x.reshape(&[2]), &x);
    assert!(error(&y).starts_with("reshape: cannot reshape f32[3] to [2]"));
    assert!(error(&pullback(&y)).starts_with("reshape: cannot reshape f32[3] to [2]"));
    assert!(error(&vmap(|x: Tensor| x, 2)(x.clone())).starts_with("vmap: the argument is f32[3], which has no axis 2"));
    let step = jit(|x: Tensor| grad(|x: &Tensor| x.sin())(&x));
    let message = step.call(x).map(|_| ()).map_err(|e: Error| e.to_string()).expect_err("an error");
    assert!(message.starts_with("grad: the function must give a float scalar, not f32[3], at "), "{message}");
}

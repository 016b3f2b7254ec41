//! Arrays without elements, and those with extents of 1: what is done to them is right, and nothing outside of memory
//! is read or written. Compiled, eager and interpreted.

use fulgurite::compiler::interp::interpret;
use fulgurite::prelude::*;
use fulgurite::{Array, hessian, lower};

/// The shapes: rank 0 to 8, with extents of 0, 1 and more at every place.
fn shapes() -> Vec<Vec<usize>> {
    let mut shapes = vec![vec![], vec![0], vec![1], vec![5]];
    for rank in 2..=8 {
        for zero in 0..rank {
            let mut shape = vec![2; rank];
            shape[rank / 2] = 3;
            shape[zero] = 0;
            shapes.push(shape.clone());
            shape[zero] = 1;
            shapes.push(shape.clone());
        }
    }
    shapes.push(vec![0, 100_000_000]);
    shapes.push(vec![100_000_000, 0]);
    shapes.push(vec![40, 0, 17]);
    shapes.push(vec![0, 40, 17]);
    shapes
}

fn sample(shape: &[usize]) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    Tensor::from_vec(shape, (0..n).map(|i| (i % 7) as f32 / 7.0 + 0.1).collect::<Vec<_>>())
}

/// Compiled with the argument donated and borrowed, eager, and what the interpreter says.
fn check(what: &str, x: &Tensor, f: impl Fn(&Tensor) -> Vec<Tensor> + Send + Sync + Clone + 'static) -> Result<()> {
    let graph = lower(|x: Tensor| f(&x), x)?.graph;
    let want = interpret(&graph, &[x.array()?.clone()])?;
    let same =
        |how: &str, got: Vec<Tensor>| -> Result<()> {
            for (got, want) in got.iter().zip(&want) {
                let got: &Array = got.array()?;
                assert_eq!(got.ty(), want.ty(), "{what} of {x}, {how}");
                let close =
                    got.to_f64_vec().unwrap().iter().zip(want.to_f64_vec().unwrap()).all(|(x, y)| {
                        *x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-5 * y.abs().max(1.0)
                    });
                assert!(close, "{what} of {}, {how}: {got}, not {want}", x.ty());
            }
            Ok(())
        };
    same("eager", f(x))?;
    let lent = f.clone();
    let lent = Jit::with_borrowed("lent", move |(), x: Tensor| lent(&x));
    for _ in 0..2 {
        same("lent", lent.call_with((), x.clone())?)?;
    }
    same("given away", jit(move |x: Tensor| f(&x)).call(Tensor::from(Array::from_bytes(x.ty(), x.array()?.bytes()?)?))?)
}

#[test]
fn elementwise_ops_and_movements() -> Result<()> {
    for shape in shapes() {
        let x = sample(&shape)?;
        check("elementwise", &x, |x| {
            vec![x.exp(), x + 1.0, (x * x).tanh(), x.greater(0.5), x.convert(DType::F64).sqrt()]
        })?;
        let reversed: Vec<usize> = (0..shape.len()).rev().collect();
        check("a transpose", &x, move |x| vec![x.transpose(&reversed), x.transpose(&reversed).exp()])?;
        let shape = shape.clone();
        check("shapes", &x, move |x| {
            let all: Vec<usize> = std::iter::once(2).chain(shape.iter().copied()).collect();
            vec![x.expand_dims(0), x.broadcast_to(&all), x.broadcast_to(&all).exp(), x.reshape(&[x.elements()])]
        })?;
    }
    Ok(())
}

#[test]
fn reductions_over_each_axis() -> Result<()> {
    for shape in shapes().into_iter().filter(|shape| shape.iter().all(|&n| n < 1000)) {
        let x = sample(&shape)?;
        for axis in 0..shape.len() as isize {
            check("a reduction", &x, move |x| {
                let (sum, max) = (x.sum_axes(axis), x.max_axes(axis));
                vec![sum, max, x.prod_axes(axis), x.mean_axes(axis), x.greater(0.5).any_axes(axis)]
            })?;
            check("softmax", &x, move |x| vec![softmax(x, axis), x.logsumexp(axis), log_softmax(x, axis)])?;
        }
        check("of all", &x, |x| vec![x.sum(), x.sin().sum(), x.min()])?;
    }
    Ok(())
}

#[test]
fn products_with_extents_of_nothing() -> Result<()> {
    for [batch, m, k, n] in [
        [1, 0, 5, 3],
        [1, 2, 0, 3],
        [1, 2, 5, 0],
        [0, 2, 5, 3],
        [3, 0, 0, 0],
        [1, 1, 0, 1],
        [3, 1, 0, 1],
        [1, 1, 1, 1],
        [1, 1, 5, 1],
        [3, 1, 1, 4],
        [2, 64, 0, 64],
    ] {
        let y = sample(&[batch, k, n])?;
        check("a product", &sample(&[batch, m, k])?, move |x| vec![x.matmul(&y), x.matmul(&y).exp() + 1.0])?;
    }
    let (x, y) = (sample(&[2, 0])?, sample(&[0, 3])?);
    assert_eq!(x.matmul(&y).to_vec::<f32>()?, [0.0; 6]);
    let layer = Linear::new(5, 3, Key::new(0));
    assert_eq!(vmap(move |x: Tensor| layer.call(&x), 0)(sample(&[0, 5])?).shape(), [0, 3]);
    Ok(())
}

#[test]
fn derivatives() -> Result<()> {
    for n in [0, 1] {
        let x = sample(&[n])?;
        let f = |x: &Tensor| (x.sin() * x).sum();
        assert_eq!(hessian(f)(&x).shape(), [n, n]);
        assert_eq!(jit(move |x: Tensor| hessian(f)(&x)).call(x.clone())?.shape(), [n, n]);
        assert_eq!(grad(f)(&x).shape(), [n]);
    }
    for shape in shapes() {
        check("a gradient", &sample(&shape)?, |x| vec![grad(|x: &Tensor| (x.exp() * x).sum())(x)])?;
    }
    Ok(())
}

#[test]
fn concatenations_pads_and_slices() -> Result<()> {
    for shape in shapes().into_iter().filter(|shape| !shape.is_empty()) {
        let x = sample(&shape)?;
        for axis in 0..shape.len() as isize {
            check("a concatenation", &x, move |x| {
                vec![Tensor::concat(&[x, &x.exp()], axis), x.slice_in_dim(axis, 0..x.shape()[axis as usize] / 2)]
            })?;
        }
        let (low, high) = (vec![1; shape.len()], vec![-1; shape.len()]);
        let interior: Vec<usize> = shape.iter().map(|&n| usize::from(n < 10)).collect();
        if shape.iter().product::<usize>() < 10_000 && shape.iter().all(|&n| n < 1000) {
            check("a pad", &x, move |x| vec![x.pad(0.5, &low, &high, &interior)])?;
        }
    }
    Ok(())
}

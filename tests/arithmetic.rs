//! Arithmetic of integers and bools, quotients and remainders: what `jax.numpy` 0.10.2 gives (without
//! `jax_enable_x64`), or `jax.lax` for the operators, compiled and op by op.

use fulgurite::compiler::graph::DotAxes;
use fulgurite::prelude::*;
use fulgurite::{Element, einsum, grad, jit, softmax};

type Function = fn(&Tensor, &Tensor) -> Tensor;

/// `f` of two tensors, eager and compiled, which are to be the same.
fn both<T: Element + PartialEq + std::fmt::Debug>(f: Function, x: &Tensor, y: &Tensor) -> Vec<T> {
    let eager = f(x, y).to_vec::<T>().expect("an eager result of that type");
    let compiled = jit(move |(x, y): (Tensor, Tensor)| f(&x, &y)).call((x.clone(), y.clone())).expect("compiles");
    assert_eq!(format!("{:?}", compiled.to_vec::<T>()), format!("{:?}", Ok::<_, fulgurite::Error>(&eager)));
    eager
}

fn vector<T: Element>(x: &[T]) -> Tensor {
    Tensor::from_vec(&[x.len()], x.to_vec()).expect("as many as there are")
}

/// Are these the same floats, signs of zeros included, NaN or not?
#[track_caller]
fn assert_same(what: &str, got: &[f32], want: &[f32]) {
    let text =
        |x: &[f32]| x.iter().map(|x| if x.is_nan() { "NaN".into() } else { format!("{x:?}") }).collect::<Vec<_>>();
    assert_eq!(text(got), text(want), "{what}");
}

const MIN: i32 = i32::MIN;
const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

#[test]
fn quotients_and_remainders_of_integers() {
    let x = vector(&[7, -7, 7, -7, 0, 5, MIN, MIN, i32::MAX, 6, -6, -6]);
    let y = vector(&[2, 2, -2, -2, 3, 0, -1, 0, -1, 3, 3, -3]);
    let int = |f: Function| both::<i32>(f, &x, &y);
    assert_eq!(int(|x, y| x.floor_divide(y)), [3, -4, -4, 3, 0, -2, MIN, -2, -i32::MAX, 2, -2, 2]);
    assert_eq!(int(|x, y| x.remainder(y)), [1, 1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0]);
    // The operators are Rust's, and no input panics: `jax.lax.div` and `rem`.
    assert_eq!(int(|x, y| x / y), [3, -3, -3, 3, 0, -1, MIN, -1, -i32::MAX, 2, -2, 2]);
    assert_eq!(int(|x, y| x % y), [1, -1, 1, -1, 0, 5, 0, MIN, 0, 0, 0, 0]);
    let quotients = both::<f32>(|x, y| x.true_divide(y), &x, &y);
    assert_same("/", &quotients, &[3.5, -3.5, -3.5, 3.5, 0., INF, 2147483648., -INF, -2147483648., 2., -2., 2.]);

    let (x, y) = (vector(&[7u32, 0, u32::MAX, 5]), vector(&[2u32, 3, 2, 0]));
    assert_eq!(both::<u32>(|x, y| x.floor_divide(y), &x, &y), [3, 0, 2147483647, u32::MAX]);
    assert_eq!(both::<u32>(|x, y| x.remainder(y), &x, &y), [1, 0, 1, 0]);
    assert_eq!(both::<u32>(|x, y| x / y, &x, &y), [3, 0, 2147483647, u32::MAX]);
    assert_eq!(both::<u32>(|x, y| x % y, &x, &y), [1, 0, 1, 5]);
    assert_same("/", &both::<f32>(|x, y| x.true_divide(y), &x, &y), &[3.5, 0., 2147483648., INF]);
}

#[test]
fn quotients_and_remainders_of_floats() {
    let x = vector(&[7.5f32, -7.5, 7.5, -7.5, 0., -0., 5., -5., 0., INF, 1., -1., NAN, 1., 6., -6., 0.3]);
    let y = vector(&[2f32, 2., -2., -2., 3., 3., 0., 0., 0., 2., INF, INF, 1., NAN, -3., 3., 0.1]);
    let float = |f: Function| both::<f32>(f, &x, &y);
    let floor = [3., -4., -4., 3., 0., 0., INF, -INF, NAN, NAN, 0., -1., NAN, NAN, -2., -2., 3.];
    // Which zero it is, the optimiser does not keep.
    let quotients: Vec<f32> = float(|x, y| x.floor_divide(y)).into_iter().map(|x| x + 0.0).collect();
    assert_same("floor", &quotients, &floor);
    let after = [1.5, 0.5, -0.5, -1.5, 0., -0., NAN, NAN, NAN, NAN, 1., INF, NAN, NAN, 0., -0., 7.450581e-9];
    assert_same("remainder", &float(|x, y| x.remainder(y)), &after);
    let rust = [1.5, -1.5, 1.5, -1.5, 0., -0., NAN, NAN, NAN, NAN, 1., -1., NAN, NAN, 0., -0., 7.450581e-9];
    assert_same("%", &float(|x, y| x % y), &rust);
    assert_same("true", &float(|x, y| x.true_divide(y)), &float(|x, y| x / y));
}

#[test]
fn quotients_promote_as_in_jax() {
    let x = vector(&[7, -7, 0]);
    let two = vector(&[2.0f32]);
    let b = vector(&[true, false, true]);
    assert_same("i32 / 2", &both::<f32>(|x, _| x.true_divide(2), &x, &two), &[3.5, -3.5, 0.0]);
    assert_same("i32 // 2.0", &both::<f32>(|x, _| x.floor_divide(2.0), &x, &two), &[3.0, -4.0, 0.0]);
    assert_same("i32 % 2.5", &both::<f32>(|x, _| x.remainder(2.5), &x, &two), &[2.0, 0.5, 0.0]);
    assert_same("i32 // f32", &both::<f32>(|x, y| x.floor_divide(y), &x, &two), &[3.0, -4.0, 0.0]);
    assert_eq!(both::<i32>(|x, _| x.floor_divide(2), &x, &two), [3, -4, 0]);
    assert_eq!(both::<i32>(|x, _| x.remainder(-2), &x, &two), [-1, -1, 0]);
    assert_eq!(both::<i32>(|x, y| x.floor_divide(y), &x, &b), [7, -2, 0]);
    assert_eq!(both::<f64>(|x, _| x.convert(DType::F64).true_divide(4), &x, &two), [1.75, -1.75, 0.0]);
    let c = vector(&[true, true, false]);
    assert_eq!(both::<i32>(|x, y| x.floor_divide(y), &b, &c), [1, 0, -2]);
    assert_eq!(both::<i32>(|x, y| x.remainder(y), &b, &c), [0, 0, 0]);
    assert_same("bool / bool", &both::<f32>(|x, y| x.true_divide(y), &b, &c), &[1.0, 0.0, INF]);
    // No elements, no axes, and broadcasting.
    assert_eq!(both::<i32>(|x, y| x.floor_divide(y), &vector::<i32>(&[]), &vector(&[3])), Vec::<i32>::new());
    assert_eq!(both::<i32>(|x, y| x.remainder(y), &Tensor::scalar(-1), &vector(&[3, 5])), [2, 4]);
}

#[test]
fn quotients_and_remainders_have_jaxs_derivatives() {
    let x = vector(&[7.5f32, -7.5, 7.5, -7.5, 0., 6., -6., 0.3]);
    let y = vector(&[2f32, 2., -2., -2., 3., -3., 3., 0.1]);
    let slopes = |f: Function| {
        let pair = (x.clone(), y.clone());
        let step = jit(move |pair: (Tensor, Tensor)| grad(move |(x, y): &(Tensor, Tensor)| f(x, y).sum())(&pair));
        let (dx, dy) = step.call(pair).expect("compiles");
        (dx.to_vec::<f32>().expect("f32"), dy.to_vec::<f32>().expect("f32"))
    };
    let (dx, dy) = slopes(|x, y| x.remainder(y));
    assert_same("remainder by x", &dx, &[1.0; 8]);
    assert_eq!(dy, [-3., 4., 4., -3., 0., 2., 2., -3.]);
    let (dx, dy) = slopes(|x, y| x.floor_divide(y));
    assert_eq!((dx, dy), (vec![0.0; 8], vec![0.0; 8]));
    let (dx, dy) = slopes(|x, y| x.true_divide(y));
    assert_eq!((dx[0], dy[0]), (0.5, -1.875));
}

#[test]
fn means_and_variances_of_integers_are_floats() {
    let one = |f: Function, x: &Tensor| both::<f32>(f, x, &Tensor::scalar(0.0f32));
    assert_eq!(one(|x, _| x.mean(), &vector(&[i32::MAX; 2])), [2147483648.0]);
    assert_eq!(one(|x, _| x.mean(), &vector(&[1, 2])), [1.5]);
    assert_eq!(one(|x, _| x.var(), &vector(&[1, 2, 3])), [0.6666667]);
    assert_eq!(one(|x, _| x.std_axes(..), &vector(&[1u32, 3])), [1.0]);
    assert_eq!(one(|x, _| x.mean(), &vector(&[7, 0, u32::MAX, 5])), [1073741824.0]);
    assert_eq!(one(|x, _| x.mean(), &vector(&[true, false, true])), [0.6666667]);
    assert_eq!(one(|x, _| x.var(), &vector(&[true, false, true])), [0.22222222]);
    assert_eq!(one(|x, _| x.norm(), &vector(&[3, 4])), [5.0]);
    assert_eq!(one(|x, _| x.norm(), &vector(&[i32::MAX; 1])), [2147483648.0]);
    assert_eq!(one(|x, _| x.logsumexp(..), &vector(&[3, 4])), [4.3132615]);
    assert_eq!(one(|x, _| softmax(x, 0), &vector(&[5, 5])), [0.5, 0.5]);
    let rows = Tensor::from_vec(&[2, 2], vec![i32::MAX, i32::MAX, -1, 0]).expect("four");
    assert_eq!(one(|x, _| x.mean_axes(1), &rows), [2147483648.0, -0.5]);
    assert_eq!(one(|x, _| x.mean_keep(0), &rows), [1073741824.0, 1073741824.0]);
    assert_eq!(one(|x, _| x.var_keep(1), &rows), [0.0, 0.25]);
    // Of nothing, of one, over no axes, without axes.
    assert!(one(|x, _| x.mean(), &vector::<i32>(&[]))[0].is_nan());
    assert!(one(|x, _| x.var(), &vector::<bool>(&[]))[0].is_nan());
    assert_eq!(one(|x, _| x.mean(), &vector(&[-3])), [-3.0]);
    assert_eq!(one(|x, _| x.mean_axes([]), &vector(&[1, 2])), [1.0, 2.0]);
    assert_eq!(one(|x, _| x.mean(), &Tensor::scalar(true)), [1.0]);
    assert_eq!(one(|x, _| x.mean_axes(0), &Tensor::full(&[3, 0], 1.0, DType::I32)), Vec::<f32>::new());
}

#[test]
fn sums_and_products_of_truth_values() {
    let (b, c) = (vector(&[true, false, true]), vector(&[true, true, false]));
    let int = |f: Function| both::<i32>(f, &b, &c);
    assert_eq!(int(|x, _| x.sum()), [2]);
    assert_eq!(int(|x, _| x.prod()), [0]);
    assert_eq!(int(|x, _| x.sum_axes([])), [1, 0, 1]);
    assert_eq!(int(|x, _| x.sum_keep(0)), [2]);
    assert_eq!(int(|x, _| x.square()), [1, 0, 1]);
    assert_eq!(int(|x, _| x + 1), [2, 1, 2]);
    assert_eq!(int(|x, _| 1 - x), [0, 1, 0]);
    assert_eq!(both::<f32>(|x, _| x * 2.0, &b, &c), [2.0, 0.0, 2.0]);
    let bools = |f: Function| both::<bool>(f, &b, &c);
    assert_eq!(bools(|x, y| x + y), [true, true, true]);
    assert_eq!(bools(|x, y| x * y), [true, false, false]);
    assert_eq!(bools(|x, y| x.maximum(y)), [true, true, true]);
    assert_eq!(bools(|x, y| x.minimum(y)), [true, false, false]);
    assert_eq!(bools(|x, _| x.max()), [true]);
    assert_eq!(bools(|x, _| x.min()), [false]);
    // Of nothing, and without axes.
    let none = Tensor::full(&[0, 2], 1.0, DType::Bool);
    assert_eq!(both::<i32>(|x, _| x.sum_axes(0), &none, &c), [0, 0]);
    assert_eq!(both::<i32>(|x, _| x.prod_axes(0), &none, &c), [1, 1]);
    assert_eq!(both::<bool>(|x, _| x.max_axes(0), &none, &c), [false, false]);
    assert_eq!(both::<i32>(|x, _| x.sum(), &Tensor::scalar(true), &c), [1]);
    assert_eq!(both::<u32>(|x, _| x.sum(), &vector(&[3u32, 8]), &c), [11]);
}

fn axes(batch: &[(usize, usize)], contract: &[(usize, usize)]) -> DotAxes {
    DotAxes { batch: batch.iter().copied().collect(), contract: contract.iter().copied().collect() }
}

#[test]
fn matrix_products_of_integers_and_truth_values() {
    let x = Tensor::arange(DType::I32, 6).reshape(&[2, 3]) - 2;
    let y = Tensor::arange(DType::I32, 12).reshape(&[3, 4]);
    assert_eq!(both::<i32>(|x, y| x.matmul(y), &x, &y), [-4, -7, -10, -13, 32, 38, 44, 50]);
    assert_eq!(both::<i32>(|x, y| x.matmul(&y.t().index_in_dim(0, 0)), &x, &y), [-4, 32]);
    assert_eq!(both::<i32>(|x, y| einsum("ik,kj->ji", &[x, y]), &x, &y), [-4, 32, -7, 38, -10, 44, -13, 50]);
    // Batches: a batch axis, free axes on both sides, two axes contracted.
    let deep = Tensor::arange(DType::I32, 24).reshape(&[2, 3, 4]);
    let as_floats = |f: Function, x: &Tensor, y: &Tensor| {
        let [x, y] = [x, y].map(|x| x.convert(DType::F32));
        both::<f32>(f, &x, &y).into_iter().map(|x| x as i32).collect::<Vec<_>>()
    };
    let batched: Function = |x, y| x.dot_general(y, axes(&[(0, 0)], &[(2, 2)]));
    assert_eq!(both::<i32>(batched, &deep, &deep), as_floats(batched, &deep, &deep));
    let all: Function = |x, y| x.dot_general(y, axes(&[], &[(0, 0), (1, 1)]));
    assert_eq!(both::<i32>(all, &deep, &deep), as_floats(all, &deep, &deep));
    assert_eq!(deep.dot_general(&deep, axes(&[(0, 0)], &[(2, 2)])).shape(), [2, 3, 3]);
    // They wrap, take a bool for 0 or 1, and two of them for "any of both".
    let big = vector(&[i32::MAX, i32::MAX]);
    assert_eq!(both::<i32>(|x, y| x.matmul(y), &big, &vector(&[1, 1])), [-2]);
    assert_eq!(both::<i32>(|x, y| x.matmul(y), &vector(&[true, false]), &vector(&[5, 7])), [5]);
    assert_eq!(both::<bool>(|x, y| x.matmul(y), &vector(&[true, false]), &vector(&[true, true])), [true]);
    assert_eq!(both::<bool>(|x, y| x.matmul(y), &vector(&[true, false]), &vector(&[false, true])), [false]);
    // Nothing contracted, and no results.
    let [empty, none] = [[2usize, 0], [0, 3]].map(|shape| Tensor::full(&shape, 0.0, DType::U32));
    assert_eq!(both::<u32>(|x, y| x.matmul(y), &empty, &none), [0; 6]);
    assert_eq!(both::<u32>(|x, y| y.t().matmul(&x.t()), &empty, &none), [0; 6]);
    assert_eq!(both::<u32>(|x, y| x.t().matmul(&x.matmul(y)), &empty, &none), [0; 0]);
}

/// A number that the type has not got wraps, as in JAX.
#[test]
fn negative_literals_of_unsigned_integers_wrap() -> Result<()> {
    for f in [|x: Tensor| x + -1, |x: Tensor| x * -2, |x: Tensor| x.maximum(-5), |x: Tensor| x - (-1)] {
        let x = vector(&[1u32, 2]);
        assert_eq!(f(x.clone()).to_vec::<u32>()?, jit(f).call(x)?.to_vec::<u32>()?);
    }
    let x = vector(&[1u32, 2]);
    assert_eq!((&x + -1).to_vec::<u32>()?, [0, 1]);
    assert_eq!((&x * -2).to_vec::<u32>()?, [4_294_967_294, 4_294_967_292]);
    assert_eq!(x.maximum(-5).to_vec::<u32>()?, [4_294_967_291; 2]);
    assert_eq!((&x - -1).to_vec::<u32>()?, [2, 3]);
    assert_eq!((vector(&[1i32]) + -1).to_vec::<i32>()?, [0]);
    Ok(())
}

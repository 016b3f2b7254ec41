//! Sums: their order is that of the operand's shape and the reduced axes alone, and their error does not grow with
//! their length.

use fulgurite::prelude::*;

/// Numbers of different sizes and signs, so that every order gives another sum.
fn numbers(shape: &[usize]) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let number = |i: usize| ((i as u32).wrapping_mul(2654435761) >> 8) as f32 / 1e5 - 83.0;
    Tensor::from_vec(shape, (0..n).map(number).collect())
}

/// Shapes and the axes that are reduced: one and more, last and not, short, long, prime, with unit axes between.
const CASES: &[(&[usize], &[isize])] = &[
    (&[1], &[0]),
    (&[7], &[0]),
    (&[1000], &[0]),
    (&[2601], &[0]),
    (&[10007], &[0]),
    (&[100003], &[0]),
    (&[51, 51], &[0, 1]),
    (&[40, 50], &[0]),
    (&[40, 50], &[1]),
    (&[300, 3], &[0, 1]),
    (&[300, 3], &[0]),
    (&[300, 3], &[1]),
    (&[3, 1021, 5], &[1]),
    (&[3, 1021, 5], &[1, 2]),
    (&[4, 49, 64], &[0, 1]),
    (&[4, 64, 49], &[1, 2]),
    (&[4, 64, 49], &[0, 2]),
    (&[16, 33, 17, 2], &[1]),
    (&[16, 33, 17, 2], &[0, 2]),
    (&[16, 33, 17, 2], &[1, 2, 3]),
    (&[2, 1, 3, 1, 40, 1, 2, 5], &[0, 4, 7]),
    (&[9000, 8], &[0]),
    (&[8, 9001], &[1]),
    (&[700, 64], &[0]),
];

#[test]
fn the_order_of_a_sum_does_not_depend_on_what_else_is_computed() -> Result<()> {
    for &(shape, axes) in CASES {
        let x = numbers(shape)?;
        let sum = |x: &Tensor| x.sum_axes(axes);
        let outside = sum(&x).to_vec::<f32>()?;
        let same = |what: &str, got: &Tensor| -> Result<()> {
            assert!(got.to_vec::<f32>()? == outside, "{what}: {shape:?} over {axes:?}");
            Ok(())
        };
        same("compiled", &jit(move |x: Tensor| x.sum_axes(axes)).call(x.clone())?)?;
        // Beside what reads the same elements, once or again.
        let beside = jit(move |x: Tensor| {
            let centred = &x - x.mean_keep(axes);
            (x.sum_axes(axes), x.var_axes(axes), centred.exp(), x.max_axes(axes))
        });
        same("beside a variance", &beside.call(x.clone())?.0)?;
        // Beside the same elements in another layout.
        let reversed: Vec<usize> = (0..shape.len()).rev().collect();
        let y = x.transpose(&reversed);
        let perm = reversed.clone();
        let transposed = jit(move |(x, y): (Tensor, Tensor)| {
            let y = y.transpose(&perm);
            let z = (&x + &y).sin();
            (x.sum_axes(axes), y.sum_axes(axes), z.transpose(&perm), (&y - x.tanh()).sum_axes(axes))
        });
        let (first, second, _, _) = transposed.call((x.clone(), y))?;
        same("beside its transpose", &first)?;
        same("of a transpose", &second)?;
        // Of elements that are computed in the same loops, with and without a use of them elsewhere.
        let e = (&x / 64.0).exp();
        let outside = sum(&e).to_vec::<f32>()?;
        let fused = jit(move |x: Tensor| (x / 64.0).exp().sum_axes(axes)).call(x.clone())?;
        assert!(fused.to_vec::<f32>()? == outside, "of an exponential: {shape:?} over {axes:?}");
        let both = jit(move |x: Tensor| {
            let e = (x / 64.0).exp();
            (e.sum_axes(axes), e)
        });
        assert!(both.call(x.clone())?.0.to_vec::<f32>()? == outside, "stored beside: {shape:?} over {axes:?}");
        // Sums of products too: a product is rounded before it is added.
        let outside = sum(&x.square()).to_vec::<f32>()?;
        let fused = jit(move |x: Tensor| x.square().sum_axes(axes)).call(x.clone())?;
        assert!(fused.to_vec::<f32>()? == outside, "of squares: {shape:?} over {axes:?}");
        // A sum of a sum is two sums.
        let outside = sum(&x).sum().to_vec::<f32>()?;
        let twice = jit(move |x: Tensor| x.sum_axes(axes).sum()).call(x)?;
        assert!(twice.to_vec::<f32>()? == outside, "twice: {shape:?} over {axes:?}");
    }
    Ok(())
}

/// The result, relative to the right one.
fn off(got: f32, want: f64) -> f64 {
    (f64::from(got) / want - 1.0).abs()
}

#[test]
fn long_sums_are_as_exact_as_short_ones() -> Result<()> {
    for n in [10_000_000, 9_999_991] {
        let x = Tensor::from_vec(&[n], vec![0.1f32; n])?;
        let want = f64::from(0.1f32);
        let mean = x.mean().item::<f32>()?;
        assert!(off(mean, want) < 5e-7, "the mean of {n}: {mean}");
        let (mean, var) = jit(|x: Tensor| (x.mean(), x.var())).call(x.clone())?;
        assert!(off(mean.item()?, want) < 5e-7, "beside the variance: {mean}");
        assert!(var.item::<f32>()? < 1e-10, "{var}");
        let y = (Key::new(3).normal(&[n]) + 1.0).to_vec::<f32>()?;
        let exact = |f: &dyn Fn(f64) -> f64| y.iter().map(|&y| f(f64::from(y))).sum::<f64>();
        let mean = exact(&|y| y) / n as f64;
        let want = [exact(&|y| (y - mean) * (y - mean)) / n as f64, exact(&|y| y * y), exact(&|y| y)];
        let fused = jit(|y: Tensor| {
            let y = &y - 0.0;
            (y.var(), y.square().sum(), y.sum(), y.exp())
        });
        let (var, squares, sum, _) = fused.call(Tensor::from_vec(&[n], y)?)?;
        for (got, want) in [var, squares, sum].iter().zip(want) {
            assert!(off(got.item()?, want) < 1e-6, "of {n} normals: {got}, not {want}");
        }
    }
    Ok(())
}

#[test]
fn long_sums_of_columns_and_rows_are_exact() -> Result<()> {
    let x = Tensor::from_vec(&[500_009, 8], vec![0.1f32; 500_009 * 8])?;
    for sum in [x.sum_axes(0), x.transpose(&[1, 0]).sum_axes(1), x.reshape(&[8, 500_009]).sum_axes(1)] {
        for sum in sum.to_vec::<f32>()? {
            assert!(off(sum, 500_009.0 * f64::from(0.1f32)) < 1e-6, "{sum}");
        }
    }
    Ok(())
}

#[test]
fn long_products_of_vectors_and_matrices_are_exact() -> Result<()> {
    for n in [1_000_000, 999_983] {
        let x = Tensor::from_vec(&[n], vec![0.1f32; n])?;
        let want = n as f64 * f64::from(0.1f32) * f64::from(0.1f32);
        let dot = x.matmul(&x).item::<f32>()?;
        assert!(off(dot, want) < 1e-6, "{dot}, not {want}");
        let rows = Tensor::from_vec(&[3, n], vec![0.1f32; 3 * n])?;
        for dot in rows.matmul(&x).to_vec::<f32>()?.into_iter().chain(rows.matmul(&rows.t()).to_vec::<f32>()?) {
            assert!(off(dot, want) < 1e-5, "{dot}, not {want}");
        }
    }
    Ok(())
}

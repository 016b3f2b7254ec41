//! Transformations of transformations, trees, captures, and user errors.

mod common;

use common::{assert_close, error_of, f32s, f64s, run, run1, try_run};
use fulgurite_autodiff::{
    grad, hessian, jacfwd, jacrev, jvp, linearize, value_and_grad, value_and_grad_aux, vjp, vmap, vmap_out,
};
use fulgurite_jit::{Array, DType, Key, Tensor, Tree, softmax};

fn scalar(x: f64) -> [Array; 1] {
    [f64s(&[], &[x])]
}

// ---- derivatives of derivatives

#[test]
fn grad_of_grad_of_grad() {
    let f = |x: &Tensor| x.sin() * x;
    // (x sin x)''' = -3 sin x - x cos x.
    let x = 0.7f64;
    let got = run1(&scalar(x), |xs| grad(grad(grad(f)))(&xs[0]));
    assert_close("third derivative", &got, &[-3.0 * x.sin() - x * x.cos()], 1e-12);
}

#[test]
fn forward_over_reverse_is_reverse_over_reverse_is_the_hessian() {
    let rosenbrock = |x: &Tensor| {
        let (a, b) = (x.slice_in_dim(0, 0..2), x.slice_in_dim(0, 1..3));
        ((b - a.square()).square() * 100.0 + (1.0_f64 - a).square()).sum()
    };
    let (x0, x1, x2) = (-0.3, 0.8, 1.7);
    // ∂²/∂xᵢ² = 2 + 1200 xᵢ² - 400 xᵢ₊₁ (i < n) + 200 (i > 1); ∂²/∂xᵢ∂xᵢ₊₁ = -400 xᵢ.
    let want = [
        2.0 + 1200.0 * x0 * x0 - 400.0 * x1,
        -400.0 * x0,
        0.0,
        -400.0 * x0,
        202.0 + 1200.0 * x1 * x1 - 400.0 * x2,
        -400.0 * x1,
        0.0,
        -400.0 * x1,
        200.0,
    ];
    let xs = [f64s(&[3], &[x0, x1, x2])];
    assert_close("hessian", &run1(&xs, |xs| hessian(rosenbrock)(&xs[0])), &want, 1e-12);
    assert_close("reverse, reverse", &run1(&xs, |xs| jacrev(grad(rosenbrock))(&xs[0])), &want, 1e-12);
    assert_close("reverse, forward", &run1(&xs, |xs| jacrev(jacfwd(rosenbrock))(&xs[0])), &want, 1e-12);
    assert_close("forward, forward", &run1(&xs, |xs| jacfwd(jacfwd(rosenbrock))(&xs[0])), &want, 1e-12);

    let v = [0.5, -1.0, 2.0];
    let product: Vec<f64> = want.chunks(3).map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum()).collect();
    let inputs = [xs[0].clone(), f64s(&[3], &v)];
    let forward = run1(&inputs, |xs| jvp(grad(rosenbrock), &xs[0], &xs[1]).1);
    assert_close("jvp of grad", &forward, &product, 1e-12);
    let reverse = run1(&inputs, |xs| grad(|x: &Tensor| (grad(rosenbrock)(x) * &xs[1]).sum())(&xs[0]));
    assert_close("grad of grad · v", &reverse, &product, 1e-12);
}

#[test]
fn jacobians_have_the_results_axes_first() {
    // y[i,j] = x[i]² sin x[j].
    let f = |x: &Tensor| x.square().reshape(&[2, 1]) * x.sin().reshape(&[1, 2]);
    let x = [0.4f64, 1.3];
    let mut want = Vec::new();
    for i in 0..2 {
        for j in 0..2 {
            for k in 0..2 {
                let first = if i == k { 2.0 * x[i] * x[j].sin() } else { 0.0 };
                let second = if j == k { x[i] * x[i] * x[j].cos() } else { 0.0 };
                want.push(first + second);
            }
        }
    }
    for jacobian in
        [run(&[f64s(&[2], &x)], |xs| vec![jacfwd(f)(&xs[0])]), run(&[f64s(&[2], &x)], |xs| vec![jacrev(f)(&xs[0])])]
    {
        assert_eq!(jacobian[0].ty().shape[..], [2, 2, 2]);
        assert_close("jacobian", &jacobian[0].to_f64_vec().unwrap(), &want, 1e-12);
    }
    // A result that does not depend on the argument.
    let constant = |x: &Tensor| x.stop_gradient();
    assert_eq!(run1(&[f64s(&[2], &x)], |xs| jacrev(constant)(&xs[0])), [0.0; 4]);
    assert_eq!(run1(&[f64s(&[2], &x)], |xs| jacfwd(constant)(&xs[0])), [0.0; 4]);
}

#[test]
fn perturbations_are_not_confused() {
    // d/dx (x · d/dy (x + y)) = 1, and 2 for an implementation that mixes up dx and dy.
    let f = |x: &Tensor| x * grad(|y: &Tensor| x + y)(&Tensor::literal(1.0, DType::F64));
    assert_eq!(run1(&scalar(3.0), |xs| grad(f)(&xs[0])), [1.0]);
    let one = Tensor::literal(1.0, DType::F64);
    assert_eq!(run1(&scalar(3.0), |xs| jvp(f, &xs[0], &one).1), [1.0]);
    let f = |x: &Tensor| x * jvp(|y: &Tensor| x + y, &one, &one).1;
    assert_eq!(run1(&scalar(3.0), |xs| jvp(f, &xs[0], &one).1), [1.0]);
    assert_eq!(run1(&scalar(3.0), |xs| grad(f)(&xs[0])), [1.0]);
    // d/dx (d/dy (x y²)) at y = x: d/dx (2 x y) with y = x inside only as a point = 4 x.
    let f = |x: &Tensor| grad(|y: &Tensor| x * y.square())(x);
    assert_eq!(run1(&scalar(3.0), |xs| grad(f)(&xs[0])), [12.0]);
}

#[test]
fn stop_gradient_stops_every_order() {
    let f = |x: &Tensor| x.stop_gradient() * x.square();
    assert_eq!(run1(&scalar(3.0), |xs| grad(f)(&xs[0])), [18.0]);
    assert_eq!(run1(&scalar(3.0), |xs| grad(grad(f))(&xs[0])), [6.0]);
    let all = |x: &Tensor| x.square().stop_gradient();
    assert_eq!(run1(&scalar(3.0), |xs| grad(all)(&xs[0])), [0.0]);
}

#[test]
fn linear_parts_run_more_than_once() {
    let inputs = [f64s(&[2], &[1.0, 2.0])];
    let results = run(&inputs, |xs| {
        let (_, pullback) = vjp(|x: &Tensor| x.square(), &xs[0]);
        let (_, pushforward) = linearize(|x: &Tensor| x.square(), &xs[0]);
        let both = |v: &Tensor| [pullback(v), pushforward(v)];
        let ones = xs[0].ones_like();
        let [a, b] = both(&ones);
        // And inside of a further transformation.
        let [c, d] = both(&grad(|v: &Tensor| (pullback(v) * pushforward(v)).sum())(&ones));
        vec![a, b, c, d]
    });
    let got: Vec<Vec<f64>> = results.iter().map(|x| x.to_f64_vec().unwrap()).collect();
    // grad of Σ (2x v)² by v is 8 x² v, times 2x.
    assert_eq!(got, [[2.0, 4.0], [2.0, 4.0], [16.0, 128.0], [16.0, 128.0]]);
}

// ---- batching and derivatives

#[test]
fn per_example_gradients() {
    let inputs = [f64s(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), f64s(&[2], &[0.5, -0.25])];
    let results = run(&inputs, |xs| {
        let (examples, w) = (&xs[0], &xs[1]);
        let loss = |w: &Tensor, x: &Tensor| x.matmul(w).sin();
        let each = vmap(|(w, x): (Tensor, Tensor)| grad(|w: &Tensor| loss(w, &x))(&w), (None, 0))((
            w.clone(),
            examples.clone(),
        ));
        let captured = vmap(|x: Tensor| grad(|w: &Tensor| loss(w, &x))(w), 0)(examples.clone());
        let looped: Vec<Tensor> = (0..3).map(|i| grad(|w: &Tensor| loss(w, &examples.index_in_dim(i, 0)))(w)).collect();
        let mean = |w: &Tensor| vmap(|x: Tensor| loss(w, &x), 0)(examples.clone()).sum();
        vec![each, captured, Tensor::stack(&looped.iter().collect::<Vec<_>>(), 0), grad(mean)(w)]
    });
    let want = results[2].to_f64_vec().unwrap();
    assert_eq!(results[0].ty().shape[..], [3, 2]);
    assert_close("vmap of grad", &results[0].to_f64_vec().unwrap(), &want, 1e-12);
    assert_close("vmap of grad, captured", &results[1].to_f64_vec().unwrap(), &want, 1e-12);
    let sum = [want[0] + want[2] + want[4], want[1] + want[3] + want[5]];
    assert_close("grad of vmap", &results[3].to_f64_vec().unwrap(), &sum, 1e-12);
}

#[test]
fn nested_vmap() {
    // All pairs: f(x[i], y[j]) along two mapped axes.
    let inputs = [f64s(&[2], &[1.0, 2.0]), f64s(&[3], &[10.0, 20.0, 30.0])];
    let results = run(&inputs, |xs| {
        let row = |(x, ys): (Tensor, Tensor)| vmap(|(x, y): (Tensor, Tensor)| &x * 100.0 + y, (None, 0))((x, ys));
        let rows = vmap(row, (0, None))((xs[0].clone(), xs[1].clone()));
        let captured = vmap(|y: Tensor| vmap(|x: Tensor| &x * 100.0 + &y, 0)(xs[0].clone()), 0)(xs[1].clone());
        vec![rows, captured]
    });
    assert_eq!(results[0].ty().shape[..], [2, 3]);
    assert_eq!(results[0].to_f64_vec().unwrap(), [110.0, 120.0, 130.0, 210.0, 220.0, 230.0]);
    assert_eq!(results[1].ty().shape[..], [3, 2]);
    assert_eq!(results[1].to_f64_vec().unwrap(), [110.0, 210.0, 120.0, 220.0, 130.0, 230.0]);
}

#[test]
fn vmap_of_a_softmax_layer() {
    let inputs = [f64s(&[4, 3], &[0.1; 12]), f64s(&[3, 5], &(0..15).map(f64::from).collect::<Vec<_>>())];
    let results = run(&inputs, |xs| {
        let one = |x: Tensor| softmax(&x.matmul(&xs[1]), -1);
        vec![vmap(one, 0)(xs[0].clone()), softmax(&xs[0].matmul(&xs[1]), -1)]
    });
    assert_close("softmax", &results[0].to_f64_vec().unwrap(), &results[1].to_f64_vec().unwrap(), 1e-12);
}

#[test]
fn axes_in_and_out() {
    let inputs = [f64s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])];
    let results = run(&inputs, |xs| {
        let x = &xs[0];
        vec![
            vmap(|x: Tensor| x.sum(), 1)(x.clone()),
            vmap(|x: Tensor| x.sum(), -1)(x.clone()),
            vmap_out(|x: Tensor| x, 0, 1)(x.clone()),
            vmap_out(|x: Tensor| x, 1, -1)(x.clone()),
            // A result that is not mapped is broadcast, or returned as it is.
            vmap(|_: Tensor| Tensor::scalar(7.0f64), 0)(x.clone()),
            vmap_out(|_: Tensor| Tensor::scalar(7.0f64), 0, None)(x.clone()),
        ]
    });
    let got: Vec<(Vec<usize>, Vec<f64>)> =
        results.iter().map(|y| (y.ty().shape.to_vec(), y.to_f64_vec().unwrap())).collect();
    let columns = (vec![3], vec![5.0, 7.0, 9.0]);
    assert_eq!(got[0], columns);
    assert_eq!(got[1], columns);
    assert_eq!(got[2], (vec![3, 2], vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
    assert_eq!(got[3], (vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    assert_eq!(got[4], (vec![2], vec![7.0, 7.0]));
    assert_eq!(got[5], (vec![], vec![7.0]));
}

#[test]
fn a_reshape_across_the_mapped_axis() {
    // One example is f32[2,3] and the batch f32[2,4,3]: the mapped axis can stay for f32[2,3,1], not for f32[3,2].
    let inputs = [f64s(&[2, 4, 3], &(0..24).map(f64::from).collect::<Vec<_>>()), f64s(&[2, 4, 0], &[])];
    for shape in [&[3, 2][..], &[2, 3, 1], &[6], &[1, 2, 3], &[3, 1, 2]] {
        let results = run(&inputs, |xs| {
            let batched = vmap(|x: Tensor| x.reshape(shape), 1)(xs[0].clone());
            let looped: Vec<Tensor> = (0..4).map(|k| xs[0].slice_in_dim(1, k..k + 1).reshape(shape)).collect();
            vec![batched, Tensor::stack(&looped.iter().collect::<Vec<_>>(), 0)]
        });
        assert_eq!(results[0], results[1], "{shape:?}");
    }
    // Without elements every position is valid.
    for shape in [&[0][..], &[3, 0], &[0, 3]] {
        let results = run(&inputs, |xs| vec![vmap(|x: Tensor| x.reshape(shape), 1)(xs[1].clone())]);
        assert_eq!(results[0].ty().shape[..], [&[4], shape].concat());
    }
}

#[test]
fn out_axes_are_a_prefix_of_the_results() {
    let inputs = [f64s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])];
    let results = run(&inputs, |xs| {
        let f = |x: Tensor| (x.sum(), (&x * 2.0, Tensor::scalar(1.0f64)));
        let (sum, (double, one)) = vmap_out(f, 0, (0, (1, None)))(xs[0].clone());
        vec![sum, double, one]
    });
    let shapes: Vec<&[usize]> = results.iter().map(|y| &y.ty().shape[..]).collect();
    assert_eq!(shapes, [&[2][..], &[3, 2], &[]]);
}

#[test]
fn keys_are_mapped_as_rows() {
    let results = run(&[f32s(&[4, 3], &[0.5; 12])], |xs| {
        let key = Key::new(7);
        let noisy = |(key, x): (Key, Tensor)| key.normal(&[3]) + x;
        let keys = key.split_n(4);
        let mapped = vmap(noisy, (0, 0))((Key::wrap_key_data(keys.clone()), xs[0].clone()));
        let shared = vmap(noisy, (None, 0))((key.clone(), xs[0].clone()));
        let looped: Vec<Tensor> =
            (0..4).map(|i| noisy((Key::wrap_key_data(keys.index_in_dim(i, 0)), xs[0].index_in_dim(i, 0)))).collect();
        vec![mapped, Tensor::stack(&looped.iter().collect::<Vec<_>>(), 0), shared, key.normal(&[3]) + 0.5]
    });
    assert_eq!(results[0], results[1]);
    let once = results[3].to_f64_vec().unwrap();
    assert!(results[2].to_f64_vec().unwrap().chunks(3).all(|row| row == once), "the same key gives the same noise");
}

// ---- trees

#[derive(Tree, Clone)]
struct Layer {
    weight: Tensor,
    bias: Option<Tensor>,
    steps: Tensor,
    #[tree(static)]
    name: &'static str,
}

#[test]
fn gradients_have_the_arguments_structure() {
    let layer = |xs: &[Tensor]| Layer {
        weight: xs[0].clone(),
        bias: Some(xs[1].clone()),
        steps: Tensor::scalar(3i32),
        name: "first",
    };
    let loss = |layer: &Layer, x: &Tensor| {
        let y = x.matmul(&layer.weight) + layer.bias.as_ref().expect("it has one");
        (y * layer.steps.convert(DType::F32)).sum()
    };
    let inputs = [f32s(&[2, 3], &[1.0; 6]), f32s(&[3], &[0.0; 3]), f32s(&[2], &[1.0, 2.0])];
    let results = run(&inputs, |xs| {
        let (value, gradient) = value_and_grad(|layer: &Layer| loss(layer, &xs[2]))(&layer(xs));
        assert_eq!(gradient.name, "first");
        assert_eq!(gradient.steps.dtype(), DType::I32);
        vec![value, gradient.weight, gradient.bias.expect("as the argument has one"), gradient.steps]
    });
    let got: Vec<Vec<f64>> = results.iter().map(|x| x.to_f64_vec().unwrap()).collect();
    assert_eq!(got, [vec![27.0], vec![3.0, 3.0, 3.0, 6.0, 6.0, 6.0], vec![3.0; 3], vec![0.0]]);
}

#[test]
fn aux_is_passed_on() {
    let results = run(&scalar(3.0), |xs| {
        let f = |x: &Tensor| (x.square(), (x * 2.0, x.greater(0.0)));
        let ((value, (double, positive)), gradient) = value_and_grad_aux(f)(&xs[0]);
        // The aux of an inner derivative is differentiable by the outer one.
        let outer = grad(|x: &Tensor| value_and_grad_aux(f)(x).0.1.0)(&xs[0]);
        vec![value, double, positive, gradient, outer]
    });
    let got: Vec<f64> = results.iter().map(|x| x.to_f64_vec().unwrap()[0]).collect();
    assert_eq!(got, [9.0, 6.0, 1.0, 6.0, 2.0]);
}

#[test]
fn integers_have_zero_tangents() {
    let inputs = [f64s(&[2], &[1.5, 2.5]), Array::from_vec(&[2], vec![3i32, 4]).expect("two"), f64s(&[2], &[1.0, 1.0])];
    let results = run(&inputs, |xs| {
        let f = |(x, n): &(Tensor, Tensor)| (x * n, n + 1, x.floor().convert(DType::I32), x.greater(n));
        let (primals, tangents) = ((xs[0].clone(), xs[1].clone()), (xs[2].clone(), xs[1].clone()));
        let ((y, next, floor, greater), (dy, dnext, dfloor, dgreater)) = jvp(f, &primals, &tangents);
        let (_, pullback) = vjp(f, &primals);
        // n is an integer: x * n is f64, since n is converted; its cotangent is zero all the same.
        let (ct, of_n) = pullback(&(y.clone(), next, floor, greater));
        assert_eq!(dnext.dtype(), DType::I32);
        assert_eq!(dgreater.dtype(), DType::Bool);
        vec![dy, dnext, dfloor, dgreater, ct, of_n]
    });
    let got: Vec<Vec<f64>> = results.iter().map(|x| x.to_f64_vec().unwrap()).collect();
    let zeros = vec![0.0; 2];
    let want = [vec![3.0, 4.0], zeros.clone(), zeros.clone(), zeros.clone(), vec![13.5, 40.0], zeros];
    assert_eq!(got, want);
}

#[test]
fn an_argument_used_twice_gets_the_sum() {
    let f = |(x, y): &(Tensor, Tensor)| x * y + x;
    let results = run(&scalar(3.0), |xs| {
        let (a, b) = grad(f)(&(xs[0].clone(), xs[0].clone()));
        vec![a, b, grad(|x: &Tensor| x + x)(&xs[0]), grad(|x: &Tensor| f(&(x.clone(), x.clone())))(&xs[0])]
    });
    let got: Vec<f64> = results.iter().map(|x| x.to_f64_vec().unwrap()[0]).collect();
    assert_eq!(got, [4.0, 3.0, 2.0, 7.0]);
}

#[test]
fn what_is_not_used_costs_nothing() {
    use fulgurite_jit::TensorType;
    use fulgurite_jit::graph::Op;
    use fulgurite_jit::trace::trace;

    // The tangent of the first part is not used, and the second is linear: no sine, no cosine.
    let f = |x: &Tensor| (x.sin(), x * 2.0);
    let traced = trace(&[TensorType::new(DType::F32, &[3])], |xs| {
        let (_, pullback) = vjp(|x: &Tensor| f(x).1, &xs[0]);
        vec![pullback(&xs[0])]
    })
    .expect("it can be traced");
    let unary = traced.graph.nodes.iter().filter(|node| matches!(node.op, Op::Unary(_))).count();
    assert_eq!(unary, 0, "{:?}", traced.graph.nodes);
}

#[test]
fn matrix_products_need_no_transpositions() {
    use fulgurite_jit::TensorType;
    use fulgurite_jit::graph::Op;
    use fulgurite_jit::trace::trace;

    let types = [TensorType::new(DType::F32, &[8, 3]), TensorType::new(DType::F32, &[3, 5])];
    let traced = trace(&types, |xs| {
        let args = (xs[0].clone(), xs[1].clone());
        let (a, b) = grad(|(x, w): &(Tensor, Tensor)| x.matmul(w).square().sum())(&args);
        vec![a, b]
    })
    .expect("it can be traced");
    let count = |which: fn(&Op) -> bool| traced.graph.nodes.iter().filter(|node| which(&node.op)).count();
    assert_eq!(count(|op| matches!(op, Op::Dot(..))), 3);
    assert_eq!(count(|op| matches!(op, Op::Transpose(_))), 0);
}

// ---- user errors

#[test]
fn errors_name_what_is_wrong_and_where() {
    let inputs = [f32s(&[3], &[1.0, 2.0, 3.0]), f32s(&[2, 4], &[0.0; 8])];
    let check = |f: fn(&[Tensor]) -> Tensor, want: &str| {
        let error = error_of(&inputs, |xs| vec![f(xs)]);
        assert!(error.starts_with(want), "{error}");
        assert!(error.contains("compose.rs:"), "{error} has no line");
    };
    check(|xs| grad(|x: &Tensor| x.sin())(&xs[0]), "grad: the function must give a float scalar, not f32[3], at ");
    check(
        |xs| grad(|x: &Tensor| x.sum().greater(0.0))(&xs[0]),
        "grad: the function must give a float scalar, not bool[], at ",
    );
    check(|xs| value_and_grad(|x: &Tensor| x.sin())(&xs[0]).0, "value_and_grad: the function must give a float scalar");
    check(
        |xs| grad(|x: &Tensor| (x + &xs[1]).sum())(&xs[0]),
        "add: cannot broadcast f32[3] and f32[2,4] to one shape, at ",
    );
    check(
        |xs| jvp(|x: &Tensor| x.sin(), &xs[0], &xs[1]).1,
        "jvp: the tangent of f32[3] must have its type, not f32[2,4], at ",
    );
    check(
        |xs| vjp(|x: &Tensor| x.sin(), &xs[0]).1(&xs[1]),
        "vjp: the cotangent of f32[3] must have its type, not f32[2,4]",
    );
    check(|xs| jacfwd(|x: &Tensor| x.greater(0.0))(&xs[0]), "jacfwd: the function must give floats, not bool[3]");
    check(
        |xs| jacrev(|x: &Tensor| x.convert(DType::F32))(&xs[0].convert(DType::I32)),
        "jacrev: the argument must be floats, not i32[3]",
    );
    check(|xs| vmap(|x: Tensor| x.sin(), 1)(xs[0].clone()), "vmap: the argument is f32[3], which has no axis 1, at ");
    check(
        |xs| vmap(|x: Tensor| x.sin(), None)(xs[0].clone()),
        "vmap: no argument is mapped: in_axes is None for every tensor",
    );
    let both = |xs: &[Tensor]| vmap(|(x, y): (Tensor, Tensor)| x + y, (0, 1))((xs[0].clone(), xs[1].clone()));
    check(
        both,
        "vmap: mapped axes differ: argument 0 is f32[3] with 3 along axis 0, argument 1 is f32[2,4] with 4 along axis 1, at ",
    );
    let three = |xs: &[Tensor]| vmap(|(x, y): (Tensor, Tensor)| x + y, (0, 1, None))((xs[0].clone(), xs[1].clone()));
    check(three, "vmap: a tuple of 3 axes is given for a tree of 2 parts");
    check(|xs| vmap(|x: Tensor| x, (0,))(xs[0].clone()), "vmap: a tuple of 1 axes is given for a single tensor");
    check(
        |xs| vmap_out(|x: Tensor| x, 0, None)(xs[0].clone()),
        "vmap: out_axes is None for a result that differs between examples",
    );
    check(|xs| vmap_out(|x: Tensor| x, 0, 1)(xs[0].clone()), "vmap: out_axes names axis 1 of a result that has 1 axes");
}

#[test]
fn an_error_inside_is_the_only_one() {
    let inputs = [f32s(&[3], &[1.0, 2.0, 3.0])];
    let result = try_run(&inputs, |xs| {
        let bad = vmap(|x: Tensor| grad(|y: &Tensor| y.reshape(&[5]).sum())(&x), 0)(xs[0].clone());
        vec![grad(|x: &Tensor| (x * &bad).sum())(&xs[0])]
    });
    let error = result.expect_err("f32[] has no 5 elements").to_string();
    assert!(error.starts_with("reshape: cannot reshape f32[] to [5]"), "{error}");
}

//! Ops of the vectors that are loops and branches. JAX's definitions are in `generate.py` beside the vectors, under
//! "control flow".

use fulgurite::{
    DType, Scan, Tensor, Tree, cond, fori_loop, grad, hessian, jvp, linalg, map, scan, switch, vmap, while_loop,
};

use crate::case::Params;
use crate::op::Op::{self, Many, One, Unary};

pub(crate) const OPS: &[(&str, Op)] = &[
    // ---- loops over arrays
    (
        "scan_rnn",
        Many(|_, x| {
            let step = |h: Tensor, v: Tensor| {
                let h = (h.matmul(&x[2]) + v.matmul(&x[3])).tanh();
                (h.clone(), h.sum())
            };
            pair(scan(step, x[0].clone(), x[1].clone()))
        }),
    ),
    (
        "scan_reverse",
        Many(|_, x| {
            let reverse = Scan { reverse: true, ..Scan::default() };
            let step = |c: Tensor, v: Tensor| (&c * 0.5 + &v, c * v);
            pair(reverse.run(step, Tensor::scalar(0.3f32), x[0].clone()))
        }),
    ),
    ("scan_trees", Many(scan_trees)),
    (
        "scan_no_xs",
        Many(|p, x| {
            let trips = Scan { length: Some(p.int("length") as usize), ..Scan::default() };
            pair(trips.run(|c: Tensor, ()| (&c * &x[1] + 1.0, c.sin()), x[0].clone(), ()))
        }),
    ),
    (
        "scan_no_ys",
        One(|_, x| {
            scan(|c: Tensor, v: Tensor| (c.matmul(&x[1]) + v, ()), x[0].index_in_dim(0, 0).zeros_like(), x[0].clone()).0
        }),
    ),
    (
        "scan_carry_passes_through",
        Many(|_, x| {
            let step = |(a, b, c): (Tensor, Tensor, Tensor), v: Tensor| ((a.clone(), c, &b * v + a), b);
            let ((a, b, c), ys) = scan(step, (x[0].clone(), x[0].clone(), x[0].cos()), x[1].clone());
            vec![a, b, c, ys]
        }),
    ),
    (
        "scan_nested",
        Many(|_, x| {
            let w = &x[1];
            let row = |c: Tensor, xs: Tensor| {
                let step = |d: Tensor, v: Tensor| ((&d * w.index_in_dim(0, 0) + &v).sin(), d * v);
                let (d, ys) = scan(step, c, xs);
                (&d * w.index_in_dim(1, 0), ys.sum() + d)
            };
            pair(scan(row, w.index_in_dim(2, 0), x[0].clone()))
        }),
    ),
    (
        "scan_integer_carry",
        Many(|_, x| {
            let step = |(a, b): (Tensor, Tensor), v: Tensor| {
                let is_even = (&a % 2).equal(0);
                let a = is_even.select(&a / 2, &a * 3 + 1);
                ((a.clone(), gcd(b, v)), a)
            };
            let ((a, b), ys) = scan(step, (Tensor::scalar(27i32), x[0].index_in_dim(0, 0)), x[0].clone());
            vec![a, b, ys]
        }),
    ),
    (
        "scan_gathers_by_carry",
        Many(|_, x| {
            let (table, trips) = (&x[0], Scan { length: Some(6), ..Scan::default() });
            let rows = table.shape()[0] as i32;
            let step = |i: Tensor, ()| ((&i * 5 + 2) % rows, table.dynamic_index_in_dim(&i, 0));
            pair(trips.run(step, x[1].clone(), ()))
        }),
    ),
    (
        "scan_writes_buffer",
        Many(|_, x| {
            let step = |(buffer, i): (Tensor, Tensor), v: Tensor| {
                let written = buffer.dynamic_update_slice_in_dim(&(v * buffer.sum()).reshape(&[1]), &i, 0);
                ((written, &i + 1), i)
            };
            let init = (Tensor::full(x[0].shape(), 0.25, x[0].dtype()), Tensor::scalar(0i32));
            let ((buffer, i), ys) = scan(step, init, x[0].clone());
            vec![buffer, i, ys]
        }),
    ),
    (
        "scan_many_carries",
        Many(|_, x| {
            let n = x[0].shape()[0];
            let step = |c: Vec<Tensor>, v: Tensor| {
                let next = (0..n).map(|i| (&c[i] + &c[(i + 1) % n] * 0.5 * &v).sin()).collect();
                (next, c[0].clone())
            };
            let init: Vec<Tensor> = (0..n).map(|i| x[0].index_in_dim(i, 0)).collect();
            let (c, ys) = scan(step, init, x[1].clone());
            vec![Tensor::stack(&c.iter().collect::<Vec<_>>(), 0), ys]
        }),
    ),
    (
        "grad_of_scan_per_example",
        One(|_, x| {
            let w = &x[0];
            let one = |(xs, h): (Tensor, Tensor)| grad(|w: &Tensor| rnn_loss(w, &xs, &h))(w);
            vmap(one, (0, 0))((x[1].clone(), x[2].clone()))
        }),
    ),
    ("hessian_of_scan", One(|_, x| hessian(|h: &Tensor| rnn_loss(&x[0], &x[1], h))(&x[2]))),
    (
        "grad_of_grad_of_scan",
        One(|_, x| grad(|w: &Tensor| grad(|h: &Tensor| rnn_loss(w, &x[1], h))(&x[2]).square().sum())(&x[0])),
    ),
    // Without a policy, checkpointing changes no result.
    ("checkpointed_scan_grad", One(|_, x| grad(|w: &Tensor| rnn_loss(w, &x[1], &x[2]))(&x[0]))),
    (
        "map_rows",
        Many(|_, x| {
            let row = |r: Tensor| ((&r * &x[1]).sort(-1).index_in_dim(0, 0), r.sum() * &x[1]);
            pair(map(row, x[0].clone()))
        }),
    ),
    // ---- loops that end by what they compute
    (
        "while_newton",
        One(|_, x| {
            let a = &x[0];
            let more = |s: &(Tensor, Tensor)| (&s.0 * &s.0 - a).abs().greater(1e-5).and(s.1.less(50));
            let body = |(s, n): (Tensor, Tensor)| ((&s + a / &s) / 2.0, n + 1);
            while_loop(more, body, (a.clone(), Tensor::scalar(0i32))).0
        }),
    ),
    (
        "while_doubling",
        Many(|_, x| {
            let more = |s: &(Tensor, Tensor)| s.0.less(&x[1]);
            pair(while_loop(more, |(s, n)| (s * 2.0, n + 1), (x[0].clone(), Tensor::scalar(0i32))))
        }),
    ),
    (
        "while_captures",
        One(|p, x| {
            let (a, trips) = (&x[1], p.int("trips") as i32);
            let more = |s: &(Tensor, Tensor)| s.1.less(trips).and(s.0.greater(-a * 1e3));
            while_loop(more, |(s, n)| (s.sin() * a, n + 1), (x[0].clone(), Tensor::scalar(0i32))).0
        }),
    ),
    ("while_gcd", One(|_, x| gcd(x[0].clone(), x[1].clone()))),
    (
        "while_swaps",
        Many(|_, x| {
            let more = |s: &(Tensor, Tensor, Tensor)| s.2.greater(0);
            let body = |(a, b, n): (Tensor, Tensor, Tensor)| (b + 1.0, a * 2.0, n - 1);
            let (a, b, n) = while_loop(more, body, (x[0].clone(), x[1].clone(), x[2].clone()));
            vec![a, b, n]
        }),
    ),
    (
        "while_array_predicate",
        Unary(|x| {
            let large = |s: &Tensor| s.abs().greater(1.0);
            while_loop(|s: &Tensor| large(s).any(), |s| large(&s).select(&s / 2.0, &s), x.clone())
        }),
    ),
    (
        "while_in_scan",
        Many(|p, x| {
            let cap = p.int("cap") as i32;
            let step = |c: Tensor, v: Tensor| {
                let more = |s: &(Tensor, Tensor)| s.0.less(3.0).and(s.1.less(cap));
                let body = |(y, n): (Tensor, Tensor)| (y * 1.5 + 0.1, n + 1);
                let (y, n) = while_loop(more, body, (v.abs() + 0.1, Tensor::scalar(0i32)));
                (c + y, n)
            };
            pair(scan(step, x[0].index_in_dim(0, 0).zeros_like(), x[0].clone()))
        }),
    ),
    (
        "grad_of_while_forward",
        Many(|_, x| {
            let f = |x: &Tensor| while_loop(|s: &Tensor| s.sum().less(9.0), |s| &s * &s + 0.5, x.clone());
            pair(jvp(f, &x[0], &x[0].ones_like()))
        }),
    ),
    // ---- loops between two numbers
    (
        "fori_power",
        One(|p, x| {
            let n = p.int("n") as i32;
            fori_loop(0, n, |i, c: Tensor| c * &x[0] + i, x[0].ones_like())
        }),
    ),
    ("fori_bounds", One(|_, x| fori_loop(&x[0], &x[1], |i, c: Tensor| c * 0.5 + i, x[2].clone()))),
    (
        "fori_static",
        One(|p, x| {
            let bounds = [p.int("lo") as i32, p.int("hi") as i32];
            fori_loop(bounds[0], bounds[1], |i, c: Tensor| c.sin() * (i + 1), x[0].clone())
        }),
    ),
    (
        "grad_of_inner_minimum",
        One(|_, x| {
            let outer = |x: &Tensor| {
                let inner = |y: &Tensor| ((y - x).square() + y.powi(4) * 0.1).sum();
                let step = |_, y: Tensor| &y - grad(inner)(&y) * 0.2;
                fori_loop(0, 8, step, x.zeros_like()).square().sum()
            };
            grad(outer)(&x[0])
        }),
    ),
    (
        // A solution has the derivative that JAX's function is told.
        "linear_solve_cg",
        One(|_, x| {
            let n = x[1].shape()[0];
            let diagonal = Tensor::iota(DType::I32, &[n, n], 0).equal(Tensor::iota(DType::I32, &[n, n], 1));
            linalg::solve(&(x[0].matmul(&x[0].t()) + diagonal.select(2.0f32, 0.0f32)), &x[1])
        }),
    ),
    // ---- branches
    ("cond", One(|_, x| cond(&x[0], |x: Tensor| x.sin() * 2.0, |x| x.square(), x[1].clone()))),
    ("cond_captures", One(|_, x| cond(&x[0], |()| &x[1] * x[2].sin(), |()| x[3].square() + &x[1], ()))),
    (
        "cond_trees",
        Many(|_, x| {
            let yes = |(a, b): (Tensor, Tensor)| (b * 2.0, a);
            let no = |(a, b): (Tensor, Tensor)| (a, b.cos());
            pair(cond(&x[0], yes, no, (x[1].clone(), x[1].flip(0))))
        }),
    ),
    ("cond_constant_branch", One(|_, x| cond(&x[0], |x: Tensor| x.exp(), |x| x.ones_like(), x[1].clone()))),
    ("cond_guards_nan", Unary(|x| cond(&x.greater(0.0), |x: Tensor| x.sqrt(), |x| x * 0.0, x.clone()))),
    (
        "cond_nested",
        One(|_, x| {
            let yes = |v: Tensor| cond(&x[1], |v: Tensor| v.sin(), |v| v.cos(), v);
            let no = |v: Tensor| cond(&x[1], |v: Tensor| v.exp(), |v| v.powi(3), v);
            cond(&x[0], yes, no, x[2].clone())
        }),
    ),
    (
        "cond_in_scan_grad",
        Many(|_, x| {
            let loss = |(w, xs): &(Tensor, Tensor)| {
                let step = |c: Tensor, v: Tensor| {
                    // The branches use the argument of the whole, which the derivative is not for.
                    let yes = |c: Tensor| c.sin() * x[0].index_in_dim(0, 0);
                    let no = |c: Tensor| &c * &c * x[0].index_in_dim(1, 0) - &v;
                    let c = cond(&v.greater(0.0), yes, no, c);
                    (c.clone(), c)
                };
                scan(step, w.index_in_dim(2, 0), xs.clone()).1.sum() + w.sum() * 0.0
            };
            pair(grad(loss)(&(x[0].clone(), x[1].clone())))
        }),
    ),
    ("switch", One(|_, x| switch(&x[0], [&|x: Tensor| x, &|x: Tensor| &x * &x, &|x: Tensor| x.exp()], x[1].clone()))),
    (
        "switch_five",
        One(|_, x| {
            let branches: [&dyn Fn(Tensor) -> Tensor; 5] =
                [&|x| x.sin(), &|x| x * 2.0, &|x| x.ones_like(), &|x| x.powi(3), &|x| -x];
            switch(&x[0], branches, x[1].clone())
        }),
    ),
    (
        "switch_captures",
        One(|_, x| {
            let (v, a, b) = (&x[1], &x[2], &x[3]);
            switch(&x[0], [&|()| v * a, &|()| v + b * b, &|()| a * b], ())
        }),
    ),
];

fn pair((x, y): (Tensor, Tensor)) -> Vec<Tensor> {
    vec![x, y]
}

fn gcd(a: Tensor, b: Tensor) -> Tensor {
    while_loop(|s: &(Tensor, Tensor)| s.1.not_equal(0), |(a, b)| (b.clone(), a % b), (a, b)).0
}

fn rnn_loss(w: &Tensor, xs: &Tensor, h: &Tensor) -> Tensor {
    scan(|h: Tensor, x: Tensor| ((w.matmul(&h) + x).tanh(), ()), h.clone(), xs.clone()).0.square().sum()
}

#[derive(Clone, Debug, Tree)]
struct Carry {
    h: Tensor,
    n: Tensor,
    on: Tensor,
}

fn scan_trees(p: &Params, x: &[Tensor]) -> Vec<Tensor> {
    let w = &x[2];
    let step = |Carry { h, n, on }: Carry, (a, b): (Tensor, Tensor)| {
        let h = on.select((w.matmul(&h) + a).tanh(), &h * b);
        (Carry { h: h.clone(), n: &n + 1, on: on.logical_not() }, (h.clone(), &n * &n, h.sum()))
    };
    let init = Carry { h: x[0].clone(), n: Tensor::scalar(3i32), on: Tensor::scalar(true) };
    let trips = Scan { reverse: p.has("reverse") && p.flag("reverse"), ..Scan::default() };
    let (Carry { h, n, on }, (hs, ns, sums)) = trips.run(step, init, (x[1].clone(), x[1].sum_axes(1)));
    // The leaves of a dictionary are sorted by name.
    vec![h, n, on, hs, ns, sums]
}

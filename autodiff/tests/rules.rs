//! Every op of the table, from its samples: tangents against finite differences, transposes against tangents, second
//! derivatives against finite differences of first ones, batching against a loop.

mod common;

use std::panic::Location;

use common::{Draw, assert_close, f64s, inner, run, run1, shifted};
use fulgurite_autodiff::{InAxes, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap};
use fulgurite_jit::graph::{self, Op, results};
use fulgurite_jit::trace::apply_all;
use fulgurite_jit::{Array, DType, Tensor, TensorType};

/// A result of an op.
#[derive(Clone, Debug)]
struct Call {
    op: Op,
    result: usize,
}

/// A sample of an op, of which one result is looked at.
#[derive(Clone, Debug)]
struct Sample {
    op: Call,
    operands: Vec<TensorType>,
    range: (f64, f64),
}

fn samples() -> Vec<Sample> {
    let of = |sample: graph::Sample| {
        (0..sample.op.results(sample.operands.len())).map(move |result| {
            let op = Call { op: sample.op.clone(), result };
            Sample { op, operands: sample.operands.clone(), range: sample.range }
        })
    };
    graph::samples().into_iter().flat_map(of).collect()
}

fn call(Call { op, result }: &Call, xs: &[Tensor]) -> Tensor {
    apply_all(op.clone(), &xs.iter().collect::<Vec<_>>(), Location::caller()).swap_remove(*result)
}

fn float(ty: &TensorType) -> bool {
    ty.dtype.is_float()
}

fn result_type(sample: &Sample) -> TensorType {
    let operands: Vec<&TensorType> = sample.operands.iter().collect();
    results(&sample.op.op, &operands).expect("a sample can be applied").swap_remove(sample.op.result)
}

fn describe(sample: &Sample) -> String {
    let operands: Vec<String> = sample.operands.iter().map(ToString::to_string).collect();
    format!("{:?} of {}", sample.op, operands.join(", "))
}

/// The samples in which something can be differentiated.
fn differentiable() -> Vec<Sample> {
    samples().into_iter().filter(|sample| sample.operands.iter().any(float) && float(&result_type(sample))).collect()
}

/// The sample with f64 in place of narrower floats, for finite differences.
fn in_f64(mut sample: Sample) -> Sample {
    for ty in &mut sample.operands {
        if float(ty) {
            ty.dtype = DType::F64;
        }
    }
    match &mut sample.op.op {
        Op::Convert(dtype) => *dtype = if dtype.is_float() { DType::F64 } else { *dtype },
        Op::Scan { body, .. } | Op::While { body, .. } => *body = body_in_f64(body),
        Op::Cond { branches } => branches.iter_mut().for_each(|branch| *branch = body_in_f64(branch)),
        _ => {}
    }
    sample
}

fn body_in_f64(body: &graph::Graph) -> std::sync::Arc<graph::Graph> {
    graph::parse(&body.to_string().replace("f32", "f64")).expect("the body in f64").into()
}

/// Those that have a transpose: of a loop whose number of trips is not known there is none.
fn reversible() -> Vec<Sample> {
    differentiable().into_iter().filter(|sample| !matches!(sample.op.op, Op::While { .. })).collect()
}

/// How far two sums of products may be apart that are equal but for rounding, relative to the sums.
fn tolerance<'t>(types: impl Iterator<Item = &'t TensorType>) -> f64 {
    let fraction = types.filter_map(|ty| ty.dtype.float()).map(|format| format.fraction).min();
    match fraction {
        Some(narrow @ ..23) => 4.0 * 2f64.powi(-(narrow as i32)),
        Some(..52) => 1e-4,
        _ => 1e-10,
    }
}

/// For each operand its mapped axis and its type.
type Mapping = Vec<(Option<usize>, TensorType)>;

fn draw_mapped(draw: &mut Draw, sample: &Sample, mapping: &Mapping) -> Vec<Array> {
    let one = graph::Sample { op: sample.op.op.clone(), operands: sample.operands.clone(), range: sample.range };
    let operand = |(i, (axis, ty)): (usize, &(Option<usize>, TensorType))| {
        one.conditioned(i, draw.array(ty, sample.range), *axis)
    };
    mapping.iter().enumerate().map(operand).collect()
}

fn draw_operands(draw: &mut Draw, sample: &Sample) -> Vec<Array> {
    let mapping: Mapping = sample.operands.iter().map(|ty| (None, ty.clone())).collect();
    draw_mapped(draw, sample, &mapping)
}

/// Directions for float operands; zeros for others.
fn draw_tangents(draw: &mut Draw, sample: &Sample) -> Vec<Array> {
    let tangent = |ty: &TensorType| match float(ty) {
        true if sample.op.op == Op::Cholesky => symmetric(draw.array(ty, (-1.0, 1.0))),
        true => draw.array(ty, (-1.0, 1.0)),
        false => Array::zeros(ty).unwrap(),
    };
    sample.operands.iter().map(tangent).collect()
}

/// The lower triangle of each matrix, and above the diagonal the same.
fn symmetric(x: Array) -> Array {
    let ty = x.ty().clone();
    let n = ty.shape[ty.rank() - 1];
    let bits = x.to_bits().unwrap();
    let mirrored = |k: usize| {
        let (row, column) = (k / n % n, k % n);
        bits[k / (n * n) * n * n + row.max(column) * n + row.min(column)]
    };
    Array::from_bits(&ty, &(0..bits.len()).map(mirrored).collect::<Vec<_>>()).unwrap()
}

/// The result and its tangent.
fn tangent_of(op: &Call, xs: &[Array], vs: &[Array]) -> [Array; 2] {
    let results = run(&[xs, vs].concat(), |inputs| {
        let (xs, vs) = inputs.split_at(xs.len());
        let (y, dy) = jvp(|xs: &Vec<Tensor>| call(op, xs), &xs.to_vec(), &vs.to_vec());
        vec![y, dy]
    });
    <[Array; 2]>::try_from(results).expect("a value and a tangent")
}

/// The cotangents of the operands.
fn cotangents_of(op: &Call, xs: &[Array], u: &Array) -> Vec<Array> {
    run(&[xs, std::slice::from_ref(u)].concat(), |inputs| {
        let (u, xs) = inputs.split_last().expect("a cotangent");
        vjp(|xs: &Vec<Tensor>| call(op, xs), &xs.to_vec()).1(u)
    })
}

#[test]
fn tangents_are_finite_differences() {
    const H: f64 = 1e-5;
    for sample in differentiable().into_iter().map(in_f64) {
        let mut draw = Draw(1);
        let (xs, vs) = (draw_operands(&mut draw, &sample), draw_tangents(&mut draw, &sample));
        let moved = |h: f64| -> Vec<Array> { xs.iter().zip(&vs).map(|(x, v)| shifted(x, v, h)).collect() };
        let value = |xs: &[Array]| run1(xs, |xs| call(&sample.op, xs));
        let (above, below) = (value(&moved(H)), value(&moved(-H)));
        let difference: Vec<f64> = above.iter().zip(&below).map(|(a, b)| (a - b) / (2.0 * H)).collect();
        let [y, dy] = tangent_of(&sample.op, &xs, &vs);
        assert!(dy.to_f64_vec().unwrap().iter().all(|dy| dy.is_finite()), "{}", describe(&sample));
        assert_eq!(y.to_f64_vec().unwrap(), value(&xs), "{}", describe(&sample));
        // The one op whose tangent does not follow from its values.
        let want = if sample.op.op == Op::StopGradient { vec![0.0; difference.len()] } else { difference };
        assert_close(&describe(&sample), &dy.to_f64_vec().unwrap(), &want, 1e-6);
    }
}

#[test]
fn transposes_are_adjoint_to_tangents() {
    let both = reversible().into_iter().flat_map(|sample| [in_f64(sample.clone()), sample]);
    for sample in both {
        let mut draw = Draw(2);
        let (xs, vs) = (draw_operands(&mut draw, &sample), draw_tangents(&mut draw, &sample));
        let u = draw.array(&result_type(&sample), (-1.0, 1.0));
        let [_, dy] = tangent_of(&sample.op, &xs, &vs);
        let cts = cotangents_of(&sample.op, &xs, &u);
        for (ct, ty) in cts.iter().zip(&sample.operands) {
            assert_eq!(ct.ty(), ty, "{}", describe(&sample));
            assert!(float(ty) || ct.to_f64_vec().unwrap().iter().all(|&x| x == 0.0), "{}", describe(&sample));
        }
        let tolerance = tolerance(sample.operands.iter().chain([u.ty()]));
        let (left, right) = (inner(&[dy], &[u]), inner(&vs, &cts));
        assert_close(&describe(&sample), &[left], &[right], tolerance);
    }
}

#[test]
fn linearize_is_jvp() {
    for sample in differentiable() {
        let mut draw = Draw(3);
        let (xs, vs) = (draw_operands(&mut draw, &sample), draw_tangents(&mut draw, &sample));
        let results = run(&[xs.clone(), vs.clone()].concat(), |inputs| {
            let (xs, vs) = inputs.split_at(sample.operands.len());
            let (y, pushforward) = linearize(|xs: &Vec<Tensor>| call(&sample.op, xs), &xs.to_vec());
            vec![y, pushforward(&vs.to_vec())]
        });
        assert_eq!(results, tangent_of(&sample.op, &xs, &vs), "{}", describe(&sample));
    }
}

#[test]
fn second_derivatives_are_finite_differences() {
    const H: f64 = 1e-5;
    for sample in reversible().into_iter().map(in_f64) {
        let mut draw = Draw(4);
        let (xs, vs) = (draw_operands(&mut draw, &sample), draw_tangents(&mut draw, &sample));
        let u = draw.array(&result_type(&sample), (-1.0, 1.0));
        let moved = |h: f64| -> Vec<Array> { xs.iter().zip(&vs).map(|(x, v)| shifted(x, v, h)).collect() };
        let (above, below) = (cotangents_of(&sample.op, &moved(H), &u), cotangents_of(&sample.op, &moved(-H), &u));
        let inputs = [xs.clone(), vs.clone(), vec![u.clone()]].concat();
        let tangents = run(&inputs, |inputs| {
            let (u, rest) = inputs.split_last().expect("a cotangent");
            let (xs, vs) = rest.split_at(xs.len());
            let gradient = |xs: &Vec<Tensor>| vjp(|xs: &Vec<Tensor>| call(&sample.op, xs), xs).1(u);
            jvp(gradient, &xs.to_vec(), &vs.to_vec()).1
        });
        for ((tangent, above), below) in tangents.iter().zip(&above).zip(&below) {
            let (above, below) = (above.to_f64_vec().unwrap(), below.to_f64_vec().unwrap());
            let difference: Vec<f64> = above.iter().zip(&below).map(|(a, b)| (a - b) / (2.0 * H)).collect();
            assert_close(&describe(&sample), &tangent.to_f64_vec().unwrap(), &difference, 1e-5);
        }
    }
}

/// Axes for the operands of one sample.
struct Choice(Vec<Option<isize>>);

impl InAxes for Choice {
    fn axes(&self, _: &fulgurite_autodiff::TreeDef) -> Result<Vec<Option<isize>>, String> {
        Ok(self.0.clone())
    }
}

/// Examples in a batch.
const EXTENT: usize = 3;

/// Every way to map at least one operand of a sample: each is shared, or mapped along its first or its last axis. Per
/// operand the axis, and the operand's type.
fn mappings(sample: &Sample) -> Vec<Mapping> {
    let count = sample.operands.len();
    let mapping = |code: usize| {
        let operand = |i: usize| {
            let mut ty = sample.operands[i].clone();
            let axis = [None, Some(0), Some(ty.rank())][code / 3usize.pow(i as u32) % 3];
            if let Some(axis) = axis {
                ty.shape.insert(axis, EXTENT);
            }
            (axis, ty)
        };
        (0..count).map(operand).collect()
    };
    (1..3usize.pow(count as u32)).map(mapping).collect()
}

fn choice(mapping: &[(Option<usize>, TensorType)]) -> Choice {
    Choice(mapping.iter().map(|(axis, _)| axis.map(|axis| axis as isize)).collect())
}

/// Example `k` of the operands.
fn example(xs: &[Tensor], mapping: &[(Option<usize>, TensorType)], k: usize) -> Vec<Tensor> {
    let one = |(x, (axis, _)): (&Tensor, &(Option<usize>, TensorType))| match *axis {
        Some(axis) => x.slice_in_dim(axis as isize, k..k + 1).squeeze(axis as isize),
        None => x.clone(),
    };
    xs.iter().zip(mapping).map(one).collect()
}

fn stack(examples: Vec<Tensor>) -> Tensor {
    Tensor::stack(&examples.iter().collect::<Vec<_>>(), 0)
}

/// Are the first half of these arrays, of a batch, the second half, of a loop?
fn assert_same_halves(what: &str, results: &[Array]) {
    let (batched, looped) = results.split_at(results.len() / 2);
    for (batched, looped) in batched.iter().zip(looped) {
        assert_eq!(batched.ty(), looped.ty(), "{what}");
        let tolerance = if float(batched.ty()) { 1e-6 } else { 0.0 };
        assert_close(what, &batched.to_f64_vec().unwrap(), &looped.to_f64_vec().unwrap(), tolerance);
    }
}

#[test]
fn vmap_is_a_loop() {
    for sample in samples().into_iter().filter(|sample| !sample.operands.is_empty()) {
        let mut draw = Draw(5);
        for mapping in mappings(&sample) {
            let inputs = draw_mapped(&mut draw, &sample, &mapping);
            let results = run(&inputs, |xs| {
                let batched = vmap(|xs: Vec<Tensor>| call(&sample.op, &xs), choice(&mapping))(xs.to_vec());
                let looped = (0..EXTENT).map(|k| call(&sample.op, &example(xs, &mapping, k)));
                vec![batched, stack(looped.collect())]
            });
            assert_same_halves(&format!("{} with {mapping:?}", describe(&sample)), &results);
        }
    }
}

#[test]
fn vmap_of_vjp_is_a_loop() {
    for sample in reversible().into_iter().map(in_f64) {
        let mut draw = Draw(6);
        for mapping in mappings(&sample) {
            let mut inputs = draw_mapped(&mut draw, &sample, &mapping);
            inputs.push(draw.array(&result_type(&sample), (-1.0, 1.0)));
            let results = run(&inputs, |inputs| {
                let (u, xs) = inputs.split_last().expect("a cotangent");
                let one = |xs: Vec<Tensor>| vjp(|xs: &Vec<Tensor>| call(&sample.op, xs), &xs).1(u);
                let batched = vmap(one, choice(&mapping))(xs.to_vec());
                let looped: Vec<Vec<Tensor>> = (0..EXTENT).map(|k| one(example(xs, &mapping, k))).collect();
                let operand = |i: usize| stack(looped.iter().map(|cts| cts[i].clone()).collect());
                batched.into_iter().chain((0..xs.len()).map(operand)).collect()
            });
            assert_same_halves(&format!("{} with {mapping:?}", describe(&sample)), &results);
        }
    }
}

#[test]
fn transposes_of_batched_ops_are_adjoint() {
    for sample in reversible().into_iter().map(in_f64) {
        let mut draw = Draw(7);
        for mapping in mappings(&sample) {
            let xs = draw_mapped(&mut draw, &sample, &mapping);
            let tangent =
                |ty: &TensorType| if float(ty) { draw.array(ty, (-1.0, 1.0)) } else { Array::zeros(ty).unwrap() };
            let vs: Vec<Array> = mapping.iter().map(|(_, ty)| ty).map(tangent).collect();
            let mut result = result_type(&sample);
            result.shape.insert(0, EXTENT);
            let u = draw.array(&result, (-1.0, 1.0));
            let count = xs.len();
            let results = run(&[&xs[..], &vs, std::slice::from_ref(&u)].concat(), |inputs| {
                let (xs, vs, u) = (inputs[..count].to_vec(), inputs[count..2 * count].to_vec(), &inputs[2 * count]);
                let batched =
                    |xs: &Vec<Tensor>| vmap(|xs: Vec<Tensor>| call(&sample.op, &xs), choice(&mapping))(xs.clone());
                let (_, dy) = jvp(batched, &xs, &vs);
                std::iter::once(dy).chain(vjp(batched, &xs).1(u)).collect()
            });
            let (dy, cts) = results.split_first().expect("a tangent");
            let (left, right) = (inner(std::slice::from_ref(dy), &[u]), inner(&vs, cts));
            assert_close(&format!("{} with {mapping:?}", describe(&sample)), &[left], &[right], 1e-10);
        }
    }
}

/// The derivative of a function of one f64.
fn slope(f: impl Fn(&Tensor) -> Tensor, x: f64) -> f64 {
    run1(&[f64s(&[], &[x]), f64s(&[], &[1.0])], |xs| jvp(&f, &xs[0], &xs[1]).1)[0]
}

#[test]
fn conventions_are_jaxs() {
    // Ties share the derivative, |x| has slope 1 at 0 (either of them), relu has slope 0 at 0.
    assert_eq!(slope(|x| x.maximum(0.0), 0.0), 0.5);
    assert_eq!(slope(|x| x.minimum(0.0), 0.0), 0.5);
    assert_eq!(slope(|x| x.maximum(x), 1.0), 1.0);
    for (x, want) in [(0.0, 1.0), (-0.0, 1.0), (2.0, 1.0), (-2.0, -1.0), (f64::NAN, -1.0)] {
        assert_eq!(slope(|x| x.abs(), x), want, "{x}");
    }
    assert_eq!(slope(fulgurite_jit::relu, 0.0), 0.0);
    assert_eq!(slope(fulgurite_jit::relu, 2.0), 1.0);
    for flat in [Tensor::sign, Tensor::floor, Tensor::ceil, Tensor::round] {
        assert_eq!(slope(flat, 1.25), 0.0);
    }
    // Powers at 0.
    assert_eq!(slope(|x| x.pow(2.0), 0.0), 0.0);
    assert_eq!(slope(|x| x.pow(0.0), 0.0), 0.0);
    assert_eq!(slope(|y| (y * 0.0).pow(y), 2.0), 0.0);
    assert!(slope(|x| x.pow(x), 0.0).is_nan());
    assert_eq!(slope(|x| x.pow(3.0), -2.0), 12.0);
    // NaN propagates.
    assert!(slope(|x| x.exp(), f64::NAN).is_nan());
}

#[test]
fn powers_have_second_derivatives_where_they_have_first_ones() {
    let second = |xs: [f64; 2]| {
        let power = |v: &Tensor| v.index_in_dim(0, 0).pow(v.index_in_dim(1, 0));
        let inputs = [f64s(&[2], &xs)];
        let modes = [
            run1(&inputs, |v| hessian(power)(&v[0])),
            run1(&inputs, |v| jacrev(jacrev(power))(&v[0])),
            run1(&inputs, |v| jacfwd(jacfwd(power))(&v[0])),
            run1(&inputs, |v| jacrev(jacfwd(power))(&v[0])),
        ];
        modes[1..].iter().for_each(|other| assert_close(&format!("{xs:?}"), other, &modes[0], 1e-14));
        modes[0].clone()
    };
    // ∂x∂x: y (y - 1) x^(y-2); ∂x∂y: x^(y-1) (1 + y log x); ∂y∂y: x^y log² x.
    for x in [0.5f64, 1.0, 2.0, 3.0] {
        for y in [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0] {
            let (log, mixed) = (x.ln(), x.powf(y - 1.0) * (1.0 + y * x.ln()));
            let want = [y * (y - 1.0) * x.powf(y - 2.0), mixed, mixed, x.powf(y) * log * log];
            assert_close(&format!("{x}^{y}"), &second([x, y]), &want, 1e-14);
        }
    }
}

#[test]
fn powers_of_constant_exponent_differentiate_at_zero_and_below() {
    // First, second and third derivative; JAX has these for whole exponents, and NaN from the first 0 · ∞ on for
    // others.
    for (x, y, want) in [
        (0.0, 0.0, [0.0, 0.0, 0.0]),
        (0.0, 1.0, [1.0, 0.0, 0.0]),
        (0.0, 2.0, [0.0, 2.0, 0.0]),
        (-0.0, 2.0, [0.0, 2.0, 0.0]),
        (0.0, 3.0, [0.0, 0.0, 6.0]),
        (0.0, 2.5, [0.0, 0.0, f64::INFINITY]),
        (0.0, 0.5, [f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY]),
        (0.0, -1.0, [f64::NEG_INFINITY, f64::INFINITY, f64::NEG_INFINITY]),
        (-2.0, 0.0, [0.0, 0.0, 0.0]),
        (-2.0, 2.0, [-4.0, 2.0, 0.0]),
        (-2.0, 3.0, [12.0, -12.0, 6.0]),
        (-2.0, -1.0, [-0.25, -0.25, -0.375]),
        (-2.0, 0.5, [f64::NAN; 3]),
        (f64::INFINITY, 0.0, [0.0, 0.0, 0.0]),
        (f64::NAN, 0.0, [f64::NAN; 3]),
    ] {
        let f = |x: &Tensor| x.pow(y);
        let got =
            run(&[f64s(&[], &[x])], |xs| vec![grad(f)(&xs[0]), grad(grad(f))(&xs[0]), grad(grad(grad(f)))(&xs[0])]);
        let got: Vec<f64> = got.iter().flat_map(|x| x.to_f64_vec().unwrap()).collect();
        assert_close(&format!("{x}^{y}"), &got, &want, 1e-15);
    }
}

#[test]
fn the_derivative_of_an_extreme_nan_is_nan_both_ways() {
    let nan = f64::NAN;
    let xs = f64s(&[3, 3], &[1.0, nan, 3.0, 4.0, 6.0, 6.0, nan, nan, nan]);
    let rows = |row: [f64; 3]| [&[nan; 3][..], &row, &[nan; 3]].concat();
    for (f, row, value) in [
        ((|x: &Tensor| x.max_axes(1)) as fn(&Tensor) -> Tensor, [0.0, 0.5, 0.5], 1.0),
        (|x: &Tensor| x.min_axes(-1), [1.0, 0.0, 0.0], 1.0),
        (|x: &Tensor| x.max_keep(1).squeeze(1), [0.0, 0.5, 0.5], 1.0),
    ] {
        let forward = run1(&[xs.clone(), f64s(&[3, 3], &[1.0; 9])], |v| jvp(f, &v[0], &v[1]).1);
        assert_close("forwards", &forward, &[nan, value, nan], 0.0);
        let reverse = run1(std::slice::from_ref(&xs), |v| grad(|x: &Tensor| f(x).sum())(&v[0]));
        assert_close("backwards", &reverse, &rows(row), 0.0);
    }
    // Over all axes one NaN is enough; over none nothing is selected; a single element is always selected.
    for f in [Tensor::max as fn(&Tensor) -> Tensor, Tensor::min] {
        assert!(run1(std::slice::from_ref(&xs), |v| grad(f)(&v[0])).iter().all(|x| x.is_nan()));
        assert_eq!(run1(&[f64s(&[], &[nan])], |v| grad(f)(&v[0])), [1.0]);
        assert_close("one element", &run1(&[f64s(&[1], &[7.0])], |v| grad(f)(&v[0])), &[1.0], 0.0);
        assert_eq!(run1(&[f64s(&[0], &[])], |v| grad(f)(&v[0])), [0.0; 0]);
    }
    // Of two operands, JAX has 0 for both where either is NaN.
    for f in [(|x: &Tensor| x.maximum(1.0)) as fn(&Tensor) -> Tensor, |x| x.minimum(1.0)] {
        assert_eq!(slope(f, nan), 0.0);
    }
}

#[test]
fn remainders_differentiate_with_the_quotient_that_they_have() {
    // 1 / 0.1 rounds to 10, but 1 holds the f64 next to 0.1 only 9 times.
    let by_y = |x: f64, y: f64| {
        let inputs = [f64s(&[], &[x]), f64s(&[], &[y])];
        run1(&inputs, |v| grad(|y: &Tensor| v[0].clone() % y)(&v[1]))[0]
    };
    for (x, y, want) in
        [(1.0, 0.1, -9.0), (7.5, 2.0, -3.0), (-7.5, 2.0, 3.0), (7.5, -2.0, 3.0), (1.0, f64::INFINITY, 0.0)]
    {
        assert_eq!(by_y(x, y), want, "{x} % {y}");
    }
}

#[test]
fn extremes_share_among_equals() {
    let xs = f64s(&[2, 3], &[1.0, 3.0, 3.0, 5.0, 2.0, 2.0]);
    for (f, want) in [
        (Tensor::max as fn(&Tensor) -> Tensor, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]),
        (|x: &Tensor| x.max_axes(1).sum(), [0.0, 0.5, 0.5, 1.0, 0.0, 0.0]),
        (|x: &Tensor| x.min_axes(-1).sum(), [1.0, 0.0, 0.0, 0.0, 0.5, 0.5]),
    ] {
        let gradient = run1(std::slice::from_ref(&xs), |xs| fulgurite_autodiff::grad(f)(&xs[0]));
        assert_eq!(gradient, want);
    }
}

#[test]
fn products_with_zeros() {
    let product = |axes: [isize; 2]| move |x: &Tensor| x.prod_axes(axes).sum();
    // One zero: only its own derivative is not zero. Two: none is.
    for (xs, want) in [
        ([2.0, 3.0, 0.0, 4.0], [0.0, 0.0, 24.0, 0.0]),
        ([2.0, 0.0, 0.0, 4.0], [0.0; 4]),
        ([2.0, 3.0, 5.0, 4.0], [60.0, 40.0, 24.0, 30.0]),
    ] {
        let got = run1(&[f64s(&[2, 2], &xs)], |xs| fulgurite_autodiff::grad(product([0, 1]))(&xs[0]));
        assert_eq!(got, want);
    }
    // Over the outer axes of three.
    let xs: Vec<f64> = (1..=8).map(f64::from).collect();
    let got = run1(&[f64s(&[2, 2, 2], &xs)], |xs| fulgurite_autodiff::grad(product([0, 2]))(&xs[0]));
    let want: Vec<f64> =
        [60.0, 60.0, 672.0, 672.0, 60.0, 60.0, 672.0, 672.0].iter().zip(&xs).map(|(p, x)| p / x).collect();
    assert_close("product over axes 0 and 2", &got, &want, 1e-12);
    // One factor, and none.
    assert_eq!(run1(&[f64s(&[1], &[7.0])], |xs| fulgurite_autodiff::grad(|x: &Tensor| x.prod())(&xs[0])), [1.0]);
    assert_eq!(run1(&[f64s(&[0], &[])], |xs| fulgurite_autodiff::grad(|x: &Tensor| x.prod())(&xs[0])), [0.0; 0]);
}

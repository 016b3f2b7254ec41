//! Sizes that no memory has, and memory that this machine does not have: errors of the call that asked for them, eager
//! and compiled, with the op, the type and the user's line. Nothing here takes much memory.

use fulgurite::compiler::cpu::{Isa, Parallelism, Target};
use fulgurite::compiler::graph::{DotAxes, parse};
use fulgurite::compiler::trace::trace;
use fulgurite::prelude::*;
use fulgurite::runtime::Program;
use fulgurite::trainer::nn;
use fulgurite::{Array, Element, TensorType, jacfwd, vmap};
use ndarray::{Array2, s};

/// An extent whose square is more than a `usize` has.
const HUGE: usize = 1 << 33;

fn f32s(n: usize) -> Tensor {
    Tensor::from_vec(&[n], (0..n).map(|i| i as f32).collect()).expect("a vector")
}

/// A scalar at every place of `shape`, which takes no memory while it is traced.
fn virtual_of(x: &Tensor, shape: &[usize]) -> Tensor {
    x.sum().broadcast_to(shape)
}

type Case = (&'static str, fn(&Tensor) -> Tensor, &'static str);

/// What is too large as a type, whatever the machine has. Each is given f32[2].
fn too_large() -> Vec<Case> {
    const MAX: usize = usize::MAX;
    const FAR: isize = isize::MAX;
    let padded = "pad: axis 0 of f32[2] would get more elements than memory can have";
    vec![
        ("zeros", |_| Tensor::zeros(&[1 << 62]), "broadcast_in_dim: f32[4611686018427387904] is larger than memory"),
        ("full: an extent of 0", |_| Tensor::full(&[1 << 40, 1 << 40, 0], 1.0, DType::Bool), "broadcast_in_dim: bool["),
        ("ones_like", |x| x.broadcast_to(&[HUGE, HUGE]).ones_like(), "broadcast_in_dim: cannot broadcast f32[2] to "),
        ("broadcast_to", |x| x.broadcast_to(&[1 << 61, 2]), "broadcast_in_dim: f32[2305843009213693952,2] is larger"),
        ("reshape", |x| x.reshape(&[(1 << 63) + 1, 2]), "reshape: f32[9223372036854775809,2] is larger than memory"),
        ("reshape: of nothing", |x| x.slice(&[0], &[0], &[1]).reshape(&[0, MAX, 3]), "reshape: f32[0,184467440737095"),
        ("iota", |_| Tensor::iota(DType::U32, &[HUGE, HUGE], 0), "iota: u32[8589934592,8589934592] is larger"),
        ("iota: in f32", |_| Tensor::iota(DType::F32, &[HUGE], 0), "iota: cannot count 8589934592 positions in f32"),
        ("arange", |_| Tensor::arange(DType::U32, MAX), "iota: u32[18446744073709551615] is larger than memory"),
        ("one_hot", |x| one_hot(&x.convert(DType::U32), MAX), "iota: u32[2,18446744073709551615] is larger than"),
        ("convert", |_| Tensor::full(&[1 << 62], 1.0, DType::Bool).convert(DType::F32), "convert: f32[46116860184273"),
        (
            "an operator",
            |x| virtual_of(x, &[HUGE, 1]) + virtual_of(x, &[1, HUGE]),
            "add: f32[8589934592,8589934592] is larger than memory",
        ),
        ("pad: after", |x| x.pad(0.0, &[0], &[FAR], &[0]), padded),
        ("pad: before", |x| x.pad(0.0, &[FAR], &[0], &[0]), padded),
        ("pad: and cut off", |x| x.pad(0.0, &[isize::MIN], &[FAR], &[0]), padded),
        ("pad: between", |x| x.pad(0.0, &[0], &[0], &[MAX]), padded),
        (
            "pad: between one",
            |x| x.index_in_dim(0, 0).reshape(&[1]).pad(0.0, &[0], &[0], &[MAX]),
            "pad: axis 0 of f32[1] would",
        ),
        ("pad: cut to less than nothing", |x| x.pad(0.0, &[isize::MIN], &[0], &[0]), "pad: axis 0 of f32[2] would get"),
        ("slice: step", |x| x.slice(&[0], &[2], &[MAX]), "slice: 0..2 by 18446744073709551615 is not within axis 0"),
        (
            "index_in_dim",
            |x| x.index_in_dim(MAX, 0),
            "slice: 18446744073709551615..18446744073709551615 by 1 is not within axis 0",
        ),
        (
            "concat",
            |x| {
                let half = virtual_of(x, &[1 << 60]);
                Tensor::concat(&[&half, &half, &half], 0)
            },
            "concatenate: f32[3458764513820540928] is larger than memory",
        ),
        ("stack", |x| Tensor::stack(&[&virtual_of(x, &[1 << 60]); 4], 0), "concatenate: f32[4,11529215046068469"),
        ("matmul", |x| virtual_of(x, &[HUGE, 1]).matmul(&virtual_of(x, &[1, HUGE])), "dot_general: f32[8589934592,85"),
        (
            "dot_general",
            |x| virtual_of(x, &[HUGE]).dot_general(&virtual_of(x, &[HUGE]), DotAxes::default()),
            "dot_general: f32[8589934592,8589934592] is larger than memory",
        ),
        ("argmax", |x| virtual_of(x, &[HUGE]).argmax(0), "argmax: cannot count 8589934592 positions in i32"),
        ("split", |x| x.slice(&[0], &[0], &[1]).split(MAX, 0).remove(0), "split: f32[0] does not split into 184467440"),
        (
            "split_n",
            |_| Key::new(1).split_n(MAX).convert(DType::F32),
            "split: [18446744073709551615] has more elements",
        ),
        (
            "split_n: keys that repeat",
            |_| Key::new(1).split_n(HUGE),
            "split: [8589934592] has more elements than a key",
        ),
        ("normal", |_| Key::new(1).normal(&[HUGE, HUGE]), "bits: [8589934592,8589934592] has more elements than a key"),
        (
            "bernoulli",
            |_| Key::new(1).bernoulli(&[MAX, MAX], 0.5).convert(DType::F32),
            "bits: [18446744073709551615,18",
        ),
        (
            "a layer",
            |_| nn::Linear::new(1 << 40, 1 << 40, Key::new(0)).weight,
            "bits: [1099511627776,1099511627776] has",
        ),
        (
            "vmap",
            |x| vmap(|x: Tensor| virtual_of(&x, &[1 << 60]).max_axes(0), 0)(x.clone()),
            "f32[2,1152921504606846976] is larger than memory",
        ),
        (
            "a jacobian",
            |x| jacfwd(|x: &Tensor| virtual_of(x, &[1 << 60]))(x),
            "f32[2,1152921504606846976] is larger than",
        ),
    ]
}

#[test]
fn sizes_that_no_memory_has_are_errors() {
    for (name, run, expected) in too_large() {
        let line = |error: &Error| error.location().is_some_and(|at| at.file().ends_with("sizes.rs"));
        let compiled = jit(move |x: Tensor| run(&x)).call(f32s(2)).expect_err(name);
        assert!(compiled.to_string().contains(expected) && line(&compiled), "{name}, compiled: {compiled}");
        let reads = |x: &Tensor| (x.elements(), x.ty().bytes(), x.rank());
        // Outside of a trace the memory may be what there is not enough of, before the type is too large.
        let result = run(&f32s(2));
        let eager = result.array().map(drop).expect_err(name);
        assert!(eager.to_string().contains(expected) || eager.to_string().contains("no memory"), "{name}: {eager}");
        assert!(line(&eager), "{name}: {eager}");
        // What is left behind can be asked for its type, and used: it stays the error.
        reads(&result);
        assert_eq!((&result + 1.0).sum().item::<f32>(), Err(eager), "{name}");
    }
    assert_eq!(f32s(3).sum().item::<f32>(), Ok(3.0));
}

#[test]
fn arrays_of_sizes_that_no_memory_has_are_errors() {
    fn of<T: Element + Default>(shape: &[usize]) {
        for data in [vec![], vec![T::default(); 2]] {
            let error = Tensor::from_vec(shape, data).map(drop).expect_err("too large");
            assert!(error.to_string().starts_with(&format!("array: {}[", T::DTYPE)), "{error}");
            assert!(error.to_string().contains("is larger than memory can be"), "{error}");
        }
        let ty = TensorType::new(T::DTYPE, shape);
        assert!(Array::from_bytes(&ty, &[]).is_err() && Array::from_bytes(&ty, &[0; 16]).is_err());
        assert!(trace(&[ty], |x| vec![x[0].clone()]).is_err());
    }
    // 2 elements modulo 2^64, none modulo 2^64, and none at all.
    for shape in [&[(1 << 63) + 1, 2][..], &[1 << 32, 1 << 32], &[1 << 40, 1 << 40, 0], &[0, usize::MAX, 2]] {
        of::<f32>(shape);
        of::<f64>(shape);
        of::<i32>(shape);
        of::<u32>(shape);
        of::<bool>(shape);
    }
}

#[test]
fn an_ndarray_of_a_size_that_no_memory_has_is_an_error() -> Result<()> {
    // `ndarray` looks at the number of elements only.
    let empty = Array2::<f64>::zeros((1 << 61, 0));
    let error = Tensor::from(empty.clone()).to_vec::<f64>().expect_err("too large").to_string();
    assert!(error.contains("array: f64[2305843009213693952,0] is larger than memory can be"), "{error}");
    assert_eq!(Array::from_ndarray(empty).map(drop).expect_err("too large").to_string(), error);
    // Of any other layout, with extents of 0 and 1 and without axes.
    let turned = Array2::from_shape_vec((2, 3), vec![1, 2, 3, 4, 5, 6]).expect("six").reversed_axes();
    assert_eq!(Tensor::from(turned.clone()).to_vec::<i32>()?, [1, 4, 2, 5, 3, 6]);
    assert_eq!(Tensor::from(turned.slice_move(s![1.., ..;-1])).to_vec::<i32>()?, [5, 2, 6, 3]);
    assert_eq!(Tensor::from(Array2::<bool>::from_elem((0, 1), true)).to_vec::<bool>()?, [true; 0]);
    assert_eq!(Tensor::from(ndarray::arr0(3.0f32)).item::<f32>()?, 3.0);
    Ok(())
}

#[test]
fn a_graph_of_sizes_that_no_memory_has_is_none() {
    let of = |shape: &str| {
        parse(&format!(
            "fn f(%0: f32[]) -> (f32[{shape}]) {{\n%1: f32[{shape}] = broadcast_in_dim %0 [shape={shape}, dims=]\nreturn %1\n}}"
        ))
    };
    let error = of("2147483647,2147483647,2147483647").map(drop).expect_err("too large");
    assert!(error.to_string().contains("is larger than memory can be"), "{error}");
    // One that was made by hand is looked at before it is compiled, in every build.
    let mut graph = of("2,3").expect("small");
    graph.nodes[1].ty = TensorType::new(DType::F32, &[usize::MAX, 3]);
    let error = Program::compile("damaged", &graph, &[false]).map(drop).expect_err("damaged");
    assert!(error.to_string().contains("is larger than memory can be"), "{error}");
}

#[test]
fn steps_that_are_not_taken_may_be_of_any_size() -> Result<()> {
    const FAR: usize = isize::MAX as usize;
    let one = |x: &Tensor| x.slice(&[0], &[4], &[FAR]).slice(&[0], &[1], &[FAR]).rev(&[0]);
    let spread = |x: &Tensor| one(x).pad(9.0, &[1], &[2], &[FAR - 1]);
    let nothing = |x: &Tensor| x.slice(&[2], &[2], &[FAR]).pad(9.0, &[1], &[0], &[FAR - 1]);
    let matrix = |x: &Tensor| x.reshape(&[2, 2]).slice(&[1, 0], &[2, 2], &[FAR, 1]).pad(9.0, &[0, 0], &[1, 0], &[7, 0]);
    type Function<'a> = &'a dyn Fn(&Tensor) -> Tensor;
    let functions: [(Function, &[f32]); 4] =
        [(&one, &[0.0]), (&spread, &[9.0, 0.0, 9.0, 9.0]), (&nothing, &[9.0]), (&matrix, &[2.0, 3.0, 9.0, 9.0])];
    for (f, expected) in functions {
        let traced = trace(&[TensorType::new(DType::F32, &[4])], |x| vec![f(&x[0])])?;
        let program = Program::compile("far", &traced.graph, &[false])?;
        assert_eq!(program.run(vec![f32s(4).array()?.clone()])?[0].as_slice::<f32>()?, expected);
        assert_eq!(f(&f32s(4)).to_vec::<f32>()?, expected);
    }
    // Backward, the step becomes padding, and padding a step.
    let gradient = grad(|x: &Tensor| (spread(x) + 1.0).sum())(&f32s(4));
    assert_eq!(gradient.to_vec::<f32>()?, [1.0, 0.0, 0.0, 0.0]);
    assert_eq!(f32s(3).roll(isize::MIN, 0).to_vec::<f32>()?, f32s(3).roll(1, 0).to_vec::<f32>()?);
    assert_eq!(f32s(3).roll(isize::MAX, 0).to_vec::<f32>()?, f32s(3).roll(1, 0).to_vec::<f32>()?);
    Ok(())
}

#[test]
fn programs_over_more_elements_than_memory_has_bytes_compile() -> Result<()> {
    // Nothing of this is ever stored, and it is never run: only its costs must not overflow.
    let sizes = |x: &Tensor| {
        let (tall, wide) = (virtual_of(x, &[1 << 30, 1 << 30]), virtual_of(x, &[1 << 30, 1 << 29]).exp());
        let huge = virtual_of(x, &[1 << 60]);
        vec![tall.matmul(&wide).sum(), (&huge * &huge).sum(), huge.exp().max(), tall.sum_axes(0).exp().sum()]
    };
    let traced = trace(&[TensorType::new(DType::F32, &[2])], |x| sizes(&x[0]))?;
    for donated in [false, true] {
        Program::compile("huge", &traced.graph, &[donated])?;
    }
    Ok(())
}

// ---- memory that there is not

/// As many f32 as take 4 PiB.
const PLENTY: usize = 1 << 50;

#[track_caller]
fn assert_no_memory<T>(result: Result<T>, op: &str, what: &str) {
    let error = result.map(drop).expect_err(what).to_string();
    assert!(error.starts_with(op) && error.contains(&format!("no memory for {what}")), "{error}");
    assert!(error.contains(" bytes: "), "{error}");
}

#[test]
fn memory_that_cannot_be_had_is_an_error_of_an_eager_op() {
    let eager = |x: Tensor, op: &str, what: &str| {
        let error = x.error().cloned().expect("an error");
        assert!(error.location().is_some_and(|at| at.file().ends_with("sizes.rs")), "{error}");
        assert_no_memory(x.item::<f32>(), op, what);
        // What is made of it stays the error.
        assert_eq!((x + 1.0).sum().item::<f32>(), Err(error));
    };
    let all = "result 0, f32[1125899906842624], 4503599627370496 bytes: ";
    eager(Tensor::zeros(&[PLENTY]), "broadcast_in_dim: ", all);
    eager(f32s(1).broadcast_to(&[PLENTY]), "broadcast_in_dim: ", all);
    eager(f32s(1).pad(0.0, &[0], &[PLENTY as isize - 1], &[0]), "pad: ", all);
    // Zeros that are not read take no memory.
    let of = |shape: &[usize]| Tensor::from_vec(shape, vec![0.0f32; 1 << 24]).expect("so many");
    let (column, row) = (of(&[1 << 24, 1]), of(&[1 << 24]));
    let square = "the result, f32[16777216,16777216], 1125899906842624 bytes: ";
    eager(&column - &row, "sub: ", square);
    eager(&row / &column, "div: ", square);
    let outer = "result 0, f32[16777216,16777216], 1125899906842624 bytes: ";
    eager(row.dot_general(&row, DotAxes::default()), "dot_general: ", outer);
}

#[test]
fn memory_that_cannot_be_had_is_an_error_of_the_call() -> Result<()> {
    let large = Jit::with_borrowed("large", |(): (), x: Tensor| virtual_of(&x, &[PLENTY]));
    let what = "result 0, f32[1125899906842624], 4503599627370496 bytes: ";
    for _ in 0..2 {
        assert_no_memory(large.call_with((), f32s(2)), "`large`: ", what);
    }
    // Within the program, too.
    let inside = Jit::with_borrowed("inside", |(): (), x: Tensor| {
        let half = virtual_of(&x, &[PLENTY]);
        Tensor::concat(&[&half, &x], 0).max()
    });
    assert_no_memory(inside.call_with((), f32s(2)), "`inside`: ", "intermediate results, 45");
    let both = Jit::with_borrowed("both", |(): (), x: Tensor| {
        let halves = [1.0, 2.0].map(|by| Tensor::concat(&[&virtual_of(&x, &[1 << 60]), &x], 0) * by);
        // More than a usize counts, were they contiguous.
        halves[0].rev(&[0]).max() + halves[1].rev(&[0]).max() + halves[0].max() * halves[1].min()
    });
    assert_no_memory(both.call_with((), f32s(2)), "`both`: ", "intermediate results, ");
    // No memory has been leaked: what there is memory for still works.
    let small = jit(|x: Tensor| virtual_of(&x, &[3]));
    assert_eq!(small.call(f32s(2))?.to_vec::<f32>()?, [1.0; 3]);
    assert_eq!(Array::zeros(&TensorType::new(DType::Bool, &[3, 0]))?.bytes()?, &[0u8; 0]);
    assert_no_memory(Array::zeros(&TensorType::new(DType::F64, &[PLENTY])), "array: ", "f64[1125899906842624], 90071");
    Ok(())
}

#[test]
fn a_state_outlives_a_call_that_there_is_no_memory_for() -> Result<()> {
    // The size of what comes with the state is that of the argument.
    let step = |state: Tensor, x: Tensor| {
        let large = if x.elements() > 2 { PLENTY } else { 1 };
        (&state + x.sum(), virtual_of(&x, &[large]))
    };
    // One that stays in place, and one that cannot, since it is somewhere else after each call.
    let mut kept = Jit::with_borrowed("kept", step).bind(f32s(2));
    let turn = move |(a, b): (Tensor, Tensor), x: Tensor| {
        let (next, large) = step(a, x);
        ((b, next), large)
    };
    let mut turned = Jit::with_borrowed("turned", turn).bind((f32s(2), f32s(2)));
    for round in 0..2 {
        assert_no_memory(kept.call(f32s(3)), "`kept`: ", "result 1, f32[1125899906842624]");
        assert_no_memory(turned.call(f32s(3)), "`turned`: ", "result 2, f32[1125899906842624]");
        assert_eq!(kept.call(f32s(2))?.to_vec::<f32>()?, [1.0]);
        assert_eq!(turned.call(f32s(2))?.to_vec::<f32>()?, [1.0]);
        let by = round as f32;
        assert_eq!(kept.state().to_vec::<f32>()?, [by + 1.0, by + 2.0]);
    }
    assert_eq!(turned.into_state().0.to_vec::<f32>()?, [1.0, 2.0]);
    Ok(())
}

#[test]
fn a_layer_that_there_is_no_memory_for_is_an_error_where_it_is_used() {
    for features in [1 << 40, 1 << 20] {
        let layer = nn::Linear::new(features, features, Key::new(0));
        let error = layer.weight.error().cloned().expect("too large");
        assert!(error.to_string().starts_with("bits: ["), "{error}");
        assert!(error.location().is_some_and(|at| at.file().ends_with("sizes.rs")), "{error}");
        assert_eq!(layer.call(&f32s(2)).to_vec::<f32>(), Err(error.clone()));
        let called = jit(|(layer, x): (nn::Linear, Tensor)| layer.call(&x)).call((layer, f32s(2)));
        assert_eq!(called.map(drop), Err(error));
    }
}

#[test]
fn elements_more_than_2_gib_apart_are_read_where_they_are() -> Result<()> {
    // Memory of zeros that were not touched is none: sixteen pages of 2.3 GiB are.
    const APART: usize = (1 << 25) + (1 << 22);
    let mut elements = vec![0.0f32; 15 * APART + 1];
    (0..16).for_each(|i| elements[i * APART] = i as f32);
    let far = Array::from_vec(&[elements.len()], elements)?;
    let ty = far.ty().clone();
    let traced = trace(&[ty], |x| {
        vec![x[0].slice(&[0], x[0].shape(), &[APART]).rev(&[0]), x[0].slice(&[0], x[0].shape(), &[APART]).sum()]
    })?;
    for &isa in Isa::available() {
        for threads in [1, 3] {
            let target = Target { isa, threads, parallelism: Parallelism::Always };
            let results = Program::compile_for("far", &traced.graph, &[false], target)?.run(vec![far.clone()])?;
            let backwards: Vec<f32> = (0..16).rev().map(|i| i as f32).collect();
            assert_eq!(results[0].as_slice::<f32>()?, backwards, "{isa:?}");
            assert_eq!(results[1].as_slice::<f32>()?, [120.0], "{isa:?}");
        }
    }
    Ok(())
}

//! Indexing by values: what fuses, that no index reads outside of memory, and that neither the vectors nor the threads
//! change a bit.

use fulgurite::compiler::cpu::{Isa, Parallelism, Target};
use fulgurite::compiler::graph::parse;
use fulgurite::compiler::interp::interpret;
use fulgurite::compiler::trace::trace;
use fulgurite::prelude::*;
use fulgurite::runtime::Program;
use fulgurite::{Array, IndexMode, TensorType, lower};

fn floats(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::from_vec(shape, (0..n).map(|i| (i * 37 % 101) as f32 / 7.0 - 5.0).collect()).expect("as many elements")
}

fn integers(shape: &[usize], list: &[i32]) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::from_vec(shape, list.iter().copied().cycle().take(n).collect()).expect("as many elements")
}

fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    -log_softmax(logits, -1).take_along_axis(&labels.expand_dims(-1), -1).squeeze(-1)
}

#[test]
fn a_cross_entropy_with_integer_labels_is_one_kernel() -> Result<()> {
    let x = (floats(&[32, 10]), integers(&[32], &[3, 0, 9, 1, 5]));
    let losses = lower(|(logits, labels): (Tensor, Tensor)| cross_entropy(&logits, &labels), &x)?;
    assert_eq!(losses.kernels.kernels.len(), 1, "{}", losses.kernels);
    let step = |(logits, labels): (Tensor, Tensor)| {
        value_and_grad(|logits: &Tensor| cross_entropy(logits, &labels).mean())(&logits)
    };
    let gradient = lower(step, &x)?;
    assert!(gradient.kernels.kernels.len() <= 3, "{}", gradient.kernels);
    Ok(())
}

#[test]
fn a_lookup_fuses_with_what_follows_it() -> Result<()> {
    let x = (floats(&[100, 24]), integers(&[7, 5], &[3, 99, -1, 40, 0]));
    let looked_up = lower(|(table, ids): (Tensor, Tensor)| (table.take(&ids, 0) * 2.0 + 1.0).tanh(), &x)?;
    assert_eq!(looked_up.kernels.kernels.len(), 1, "{}", looked_up.kernels);
    // What the table is computed from is read at the same place.
    let scaled = lower(|(table, ids): (Tensor, Tensor)| (table * 2.0).t().take(&ids, 1), &x)?;
    assert_eq!(scaled.kernels.kernels.len(), 1, "{}", scaled.kernels);
    let sliced =
        lower(|(x, at): (Tensor, Tensor)| x.dynamic_slice_in_dim(at.index_in_dim(0, 0).sum(), 10, 0) * 2.0, &x)?;
    assert!(sliced.kernels.kernels.len() <= 2, "{}", sliced.kernels);
    Ok(())
}

/// Compiled for every instruction set and several numbers of threads, and interpreted.
pub(crate) fn check(what: &str, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Vec<Tensor>) -> Result<()> {
    let arrays: Vec<Array> = inputs.iter().map(|x| x.array().cloned()).collect::<Result<_>>()?;
    let types: Vec<TensorType> = arrays.iter().map(|x| x.ty().clone()).collect();
    let graph = trace(&types, |xs| f(xs))?.graph;
    let want = interpret(&graph, &arrays)?;
    let mut first: Option<Vec<Vec<f64>>> = None;
    for &isa in Isa::available() {
        for threads in [1, 3] {
            let target = Target { isa, threads, parallelism: Parallelism::Always };
            let program = Program::compile_for(what, &graph, &vec![false; arrays.len()], target)?;
            let got = program.run(arrays.clone())?;
            for (got, want) in got.iter().zip(&want) {
                assert_eq!(got.ty(), want.ty());
                for (i, (x, y)) in got.to_f64_vec().unwrap().iter().zip(want.to_f64_vec().unwrap()).enumerate() {
                    let close = *x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-5 * y.abs().max(1.0);
                    assert!(close, "{what}, {isa:?}: element {i} is {x}, not {y}\n{}", program.kernels());
                }
            }
            let bits: Vec<Vec<f64>> = got.iter().map(|x| x.to_f64_vec().unwrap()).collect();
            let same = |a: &f64, b: &f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            if let Some(first) = &first {
                let all = first.iter().flatten().zip(bits.iter().flatten());
                assert!(all.clone().all(|(a, b)| same(a, b)), "{what}: {isa:?} with {threads} threads differs");
            }
            first.get_or_insert(bits);
        }
    }
    Ok(())
}

/// Indices far out of range, and in it.
const HOSTILE: [i32; 9] = [i32::MIN, i32::MAX, -1, 0, 1 << 30, -(1 << 30), 5, i32::MIN + 1, 3];

const MODES: [IndexMode; 5] =
    [IndexMode::Fill, IndexMode::FillWith(-7.0), IndexMode::Clip, IndexMode::Wrap, IndexMode::PromiseInBounds];

#[test]
fn no_index_reads_outside_of_memory() -> Result<()> {
    for mode in MODES {
        for (shape, count) in [([6, 33], 9), ([6, 16], 40), ([1, 5], 1), ([70, 3], 35), ([9, 1], 17)] {
            let inputs = [floats(&shape), integers(&[count], &HOSTILE), integers(&[shape[0], 19], &HOSTILE)];
            check("take", &inputs, move |x| {
                vec![x[0].take_with(&x[1], 0, mode), x[0].take_with(&x[1], 1, mode) * 2.0]
            })?;
            check("take_along_axis", &inputs, move |x| {
                vec![x[0].take_along_axis_with(&x[2], 1, mode), x[0].convert(DType::F64).take_with(&x[1], 1, mode)]
            })?;
            check("take of bools", &inputs, move |x| {
                vec![x[0].greater(0.0).take_with(&x[1], 1, mode), x[0].convert(DType::I32).take_with(&x[1], 0, mode)]
            })?;
        }
    }
    for a in HOSTILE {
        for b in [i32::MIN, 2, i32::MAX] {
            let inputs = [floats(&[6, 35]), integers(&[], &[a]), integers(&[], &[b]), floats(&[2, 18])];
            check("dynamic_slice", &inputs, |x| vec![x[0].dynamic_slice(&x[1..3], &[3, 17])])?;
            check("dynamic_update_slice", &inputs, |x| vec![x[0].dynamic_update_slice(&x[3], &x[1..3])])?;
            check("indices from floats", &inputs, |x| {
                let index =
                    (x[0].slice_in_dim(0, 0..1) * f32::MAX * 4.0 * x[1].convert(DType::F32)).convert(DType::I32);
                vec![x[0].take(&index, 0), x[0].at(&index).get()]
            })?;
        }
    }
    Ok(())
}

#[test]
fn no_index_writes_outside_of_memory() -> Result<()> {
    for mode in MODES {
        for (shape, count) in [([6, 33], 9), ([6, 16], 40), ([1, 5], 1), ([70, 3], 35), ([9, 1], 17)] {
            let inputs = [floats(&shape), integers(&[count], &HOSTILE), floats(&[count, shape[1]]), floats(&[count])];
            check("updates of rows", &inputs, move |x| {
                let rows = || x[0].at(&x[1]).mode(mode);
                vec![rows().add(&x[2]), rows().set(&x[2]), rows().add(2.0)]
            })?;
            check("updates of elements", &inputs, move |x| {
                let flat = x[0].index_in_dim(0, 1);
                let integers = flat.convert(DType::I32);
                let wide = flat.convert(DType::F64);
                vec![
                    flat.at(&x[1]).mode(mode).add(&x[3]),
                    flat.at(&x[1]).mode(mode).set(3.0),
                    integers.at(&x[1]).mode(mode).add(1),
                    wide.at(&x[1]).mode(mode).add(x[3].convert(DType::F64)),
                    flat.greater(0.0).at(&x[1]).mode(mode).set(true),
                ]
            })?;
            check("the updates depend on what is updated", &inputs, move |x| {
                let once = x[0].at(&x[1]).mode(mode).add(&x[2]);
                let twice = once.at(&x[1]).mode(mode).add(once.at(&x[1]).get() * 0.5);
                vec![twice.sum(), once, twice]
            })?;
        }
    }
    Ok(())
}

#[test]
fn windows_at_the_same_place_are_added_up() -> Result<()> {
    // Each adds to what the one before it has stored, in an array whose lanes are strided: it is not packed.
    let graph = parse(
        "fn main(%0: i32[12,18], %1: i32[3,18,1,0], %2: i32[3,18,1,12]) -> (i32[12,18]) {
            %3: i32[12,18] = scatter %0, %1, %2 [combine=add, offset_dims=3, collapsed_slice_dims=, \
         start_index_map=, operand_batching_dims=1, start_indices_batching_dims=1]
            return %3
        }",
    )?;
    let count = |shape: &[usize]| -> Result<Array> {
        Array::from_vec(shape, (0..shape.iter().product::<usize>() as i32).collect())
    };
    let arrays =
        [count(&[12, 18])?, Array::zeros(&TensorType::new(DType::I32, &[3, 18, 1, 0]))?, count(&[3, 18, 1, 12])?];
    let want = interpret(&graph, &arrays)?;
    for &isa in Isa::available() {
        let target = Target { isa, threads: 1, parallelism: Parallelism::Auto };
        let program = Program::compile_for("scatter", &graph, &[false; 3], target)?;
        assert_eq!(program.run(arrays.to_vec())?, want, "{isa:?}");
    }
    Ok(())
}

#[test]
fn the_gradient_of_a_lookup_adds_in_the_order_of_the_lookups() -> Result<()> {
    let x = [floats(&[50, 35]), integers(&[3, 40], &[7, 49, 7, 0, -1, 7, 13]), floats(&[3, 40, 35])];
    let gradient = |x: &[Tensor]| vec![grad(|table: &Tensor| (table.take(&x[1], 0) * &x[2]).sum())(&x[0])];
    check("the gradient of a lookup", &x, gradient)?;
    // A table of zeros, and what is added to it.
    let [table, ids, weights] = x;
    let lowered = lower(
        |(table, ids, weights): (Tensor, Tensor, Tensor)| gradient(&[table, ids, weights]).swap_remove(0),
        &(table, ids, weights),
    )?;
    assert_eq!(lowered.kernels.kernels.len(), 2, "{}", lowered.kernels);
    Ok(())
}

/// An update in place: the array that is given away is the one that comes back.
#[test]
fn an_update_of_an_array_that_is_given_away_is_in_place() -> Result<()> {
    let step = jit(|(x, index): (Tensor, Tensor)| (x.at(&index).add(1.0), index));
    let (mut counts, mut index) = (Tensor::zeros(&[64]), integers(&[5], &[3, 3, 60, -1, 3]));
    for _ in 0..3 {
        (counts, index) = step.call((counts, index))?;
    }
    let counts = counts.array()?.to_f64_vec().unwrap();
    assert_eq!((counts[3], counts[60], counts[63], counts[0]), (9.0, 3.0, 3.0, 0.0));
    Ok(())
}

#[test]
fn extents_of_zero_and_one_and_many_axes() -> Result<()> {
    for rank in 1..=8 {
        for extent in [0, 1, 3] {
            let mut shape = vec![1; rank];
            shape[rank / 2] = extent;
            shape[rank - 1] = 2.max(extent);
            let at = integers(&[2, 3], &[0, -1, 4]);
            let none = integers(&[0], &[]);
            let inputs = [floats(&shape), at, none, integers(&[], &[1])];
            for (axis, &extent) in shape.iter().enumerate() {
                let has_elements = extent > 0;
                check("take", &inputs, move |x| {
                    let some = if has_elements { x[0].take(&x[1], axis as isize) } else { x[0].clone() };
                    vec![some, x[0].take(&x[2], axis as isize)]
                })?;
                check("dynamic slices", &inputs, move |x| {
                    let size = x[0].shape()[axis].min(1);
                    let slice = x[0].dynamic_slice_in_dim(&x[3], size, axis as isize);
                    vec![x[0].dynamic_update_slice_in_dim(&(&slice * 2.0), &x[3], axis as isize), slice]
                })?;
            }
        }
    }
    Ok(())
}

/// A function of tensors that do not go together, and the error that names them.
type Case = (fn(&[Tensor]) -> Tensor, &'static str);

#[test]
fn what_does_not_go_together_is_an_error() {
    let message = |f: fn(&[Tensor]) -> Tensor| {
        let types = [[0, 3], [4, 5]].map(|shape| TensorType::new(DType::F32, &shape));
        let indices = TensorType::new(DType::I32, &[2]);
        let types = [types[0].clone(), types[1].clone(), indices];
        trace(&types, |x| vec![f(x)]).err().map_or_else(String::new, |e| e.to_string())
    };
    let cases: [Case; 5] = [
        (|x| x[0].take(&x[2], 0), "take: takes 2 elements along the empty axis 0 of f32[0,3]"),
        (|x| x[1].take(&x[1], 0), "take: takes indices of integers, not f32[4,5]"),
        (|x| x[1].take(&x[2], 2), "take: f32[4,5] has no axis 2"),
        (|x| x[1].take_along_axis(&x[2], 0), "take_along_axis: f32[4,5] and the indices i32[2] do not go together"),
        (|x| x[1].dynamic_slice_in_dim(1, 6, 1), "dynamic_slice: a window of [4,6] does not fit into f32[4,5]"),
    ];
    for (f, expected) in cases {
        assert!(message(f).contains(expected), "{} is not {expected}", message(f));
    }
}

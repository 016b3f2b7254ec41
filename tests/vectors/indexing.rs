//! Ops of the vectors that index by values: gathers, scatters, and JAX's functions of them. JAX's definitions are in
//! `jax/generate.py` and `jax-edge/generate.py`.

use fulgurite::compiler::graph::GatherDims;
use fulgurite::{DType, IndexMode, Tensor};

use crate::case::Params;
use crate::op::Op::{self, One};

pub(crate) const OPS: &[(&str, Op)] = &[
    ("dynamic_slice", One(|p, x| x[0].dynamic_slice(&x[1..], &p.axes("sizes")))),
    ("dynamic_update_slice", One(|_, x| x[0].dynamic_update_slice(&x[1], &x[2..]))),
    (
        "dynamic_index_in_dim",
        One(|p, x| {
            assert!(!p.flag("keepdims"));
            x[0].dynamic_index_in_dim(&x[1], p.int("axis"))
        }),
    ),
    ("take", One(|p, x| x[0].take_with(&x[1], p.int("axis"), IndexMode::Clip))),
    ("take_along_axis", One(|p, x| x[0].take_along_axis_with(&x[1], p.int("axis"), IndexMode::Clip))),
    ("scatter_add", One(|_, x| x[0].at(&x[1]).add(&x[2]))),
    ("scatter_set", One(|_, x| x[0].at(&x[1]).set(&x[2]))),
    (
        "jnp_take",
        One(|p, x| match p.is_none("axis") {
            true => x[0].reshape(&[x[0].elements()]).take_with(&x[1], 0, mode(p)),
            false => x[0].take_with(&x[1], p.int("axis"), mode(p)),
        }),
    ),
    ("jnp_take_along_axis", One(|p, x| x[0].take_along_axis_with(&x[1], p.int("axis"), mode(p)))),
    (
        "lax_gather",
        One(|p, x| {
            let dims =
                dims(p, ["offset_dims", "collapsed_slice_dims", "start_index_map", "start_indices_batching_dims"]);
            x[0].gather(&x[1], dims, &p.axes("slice_sizes"), mode(p))
        }),
    ),
    (
        "lax_scatter",
        One(|p, x| {
            let names = ["update_window_dims", "inserted_window_dims", "scatter_dims_to_operand_dims"];
            let [window, inserted, places] = names;
            let dims = dims(p, [window, inserted, places, "scatter_indices_batching_dims"]);
            match p.text("kind") {
                "add" => x[0].scatter_add(&x[1], &x[2], dims, mode(p)),
                "set" => x[0].scatter(&x[1], &x[2], dims, mode(p)),
                kind => panic!("there is no scatter by {kind}"),
            }
        }),
    ),
    (
        "at_get",
        One(|p, x| {
            let at = x[0].at(&x[1]);
            if p.is_none("mode") { at.get() } else { at.mode(mode(p)).get() }
        }),
    ),
    (
        "at_update",
        One(|p, x| {
            let at = x[0].at(&x[1]);
            let at = if p.is_none("mode") { at } else { at.mode(mode(p)) };
            match p.text("method") {
                "add" => at.add(&x[2]),
                "set" => at.set(&x[2]),
                method => panic!("there is no update by {method}"),
            }
        }),
    ),
    // The elements at both indices: pairs of them, or every pair.
    ("getitem_i_colon_j", One(|_, x| pairs(&x[0].transpose(&[0, 2, 1]), &x[1], &x[2]))),
    (
        "getitem_colon_i_j",
        One(|_, x| {
            let pairs = pairs(&x[0].transpose(&[1, 2, 0]), &x[1], &x[2]);
            pairs.move_axis(pairs.rank() - 1, 0)
        }),
    ),
    (
        "getitem_ellipsis_newaxis_i",
        One(|_, x| x[0].expand_dims(-2).take_with(&wrap(&x[1], x[0].shape()[2]), -1, IndexMode::Clip)),
    ),
    (
        "getitem_grid",
        One(|_, x| {
            let rows = x[0].at(&x[1]).get();
            rows.take_with(&wrap(&x[2], rows.shape()[1]), 1, IndexMode::Clip)
        }),
    ),
    (
        "at_pairs_add",
        One(|_, x| {
            let (n, m) = (x[0].shape()[0], x[0].shape()[1]);
            // A pair of indices as one of the flat matrix.
            let index = wrap(&x[1], n) * m + wrap(&x[2], m);
            x[0].reshape(&[n * m]).at(&index).add(&x[3]).reshape(&[n, m])
        }),
    ),
    (
        "roll_dynamic",
        One(|p, x| {
            let n = x[0].shape()[p.int("axis") as usize];
            let index = Tensor::iota(DType::I32, &[n], 0) - &x[1];
            x[0].take_with(&index, p.int("axis"), IndexMode::Wrap)
        }),
    ),
    (
        "segment",
        One(|p, x| {
            let mut shape = x[0].shape().to_vec();
            shape[0] = p.int("num_segments") as usize;
            match p.text("kind") {
                // A segment of a negative number is no segment.
                "sum" => {
                    let none = x[1].less(0).select(i32::MAX, &x[1]);
                    Tensor::full(&shape, 0.0, x[0].dtype()).at(&none).add(&x[0])
                }
                kind => panic!("there is no {kind} of segments"),
            }
        }),
    ),
];

/// The mode that a case names; an index that is out of range is dropped or reads NaN where it names none.
fn mode(p: &Params) -> IndexMode {
    if p.is_none("mode") {
        return IndexMode::Fill;
    }
    match p.text("mode") {
        "clip" => IndexMode::Clip,
        "wrap" => IndexMode::Wrap,
        "promise_in_bounds" => IndexMode::PromiseInBounds,
        "drop" => IndexMode::Fill,
        "fill" if p.is_none("fill_value") => IndexMode::Fill,
        "fill" => IndexMode::FillWith(p.float("fill_value")),
        mode => panic!("there is no mode {mode}"),
    }
}

fn dims(p: &Params, [offset, collapsed, places, batching]: [&str; 4]) -> GatherDims {
    let axes = |name: &str| if p.is_none(name) { Default::default() } else { p.axes(name) };
    GatherDims {
        offset_dims: axes(offset),
        collapsed_slice_dims: axes(collapsed),
        start_index_map: axes(places),
        operand_batching_dims: axes("operand_batching_dims"),
        start_indices_batching_dims: axes(batching),
    }
}

/// Negative indices from the end.
fn wrap(index: &Tensor, extent: usize) -> Tensor {
    index.less(0).select(index + extent, index)
}

/// The elements along the first two axes at pairs of indices.
fn pairs(x: &Tensor, i: &Tensor, j: &Tensor) -> Tensor {
    let rank = i.rank().max(j.rank());
    let shape: Vec<usize> = if i.rank() == rank { i.shape().to_vec() } else { j.shape().to_vec() };
    let (i, j) = (wrap(i, x.shape()[0]).broadcast_to(&shape), wrap(j, x.shape()[1]).broadcast_to(&shape));
    let mut sizes = x.shape().to_vec();
    (sizes[0], sizes[1]) = (1, 1);
    let dims = GatherDims {
        offset_dims: (rank..rank + x.rank() - 2).collect(),
        collapsed_slice_dims: [0, 1].into_iter().collect(),
        start_index_map: [0, 1].into_iter().collect(),
        ..GatherDims::default()
    };
    x.gather(&Tensor::stack(&[&i, &j], -1), dims, &sizes, IndexMode::Clip)
}

//! Ops of the vectors that index by values: gathers, scatters, and JAX's functions of them. JAX's definitions are in
//! `jax/generate.py` and `jax-edge/generate.py`.

use fulgurite::compiler::graph::GatherDims;
use fulgurite::{
    At, Beyond, Border, Ellipsis, IndexMode, Indexing, Interp, NewAxis, Order, OutOfRange, PadMode, Part, Side, Tensor,
    bincount, block, insert, ix_, jacfwd, jacrev, map_coordinates, meshgrid, one_hot, ravel_multi_index, segment_max,
    segment_min, segment_prod, segment_sum, select_n, unravel_index, vjp, where_,
};
use serde_json::Value;

use crate::case::Params;
use crate::op::Op::{self, Many, One};

pub(crate) const OPS: &[(&str, Op)] = &[
    ("dynamic_slice", One(|p, x| x[0].dynamic_slice(&x[1..], &p.axes("sizes")))),
    ("dynamic_update_slice", One(|_, x| x[0].dynamic_update_slice(&x[1], &x[2..]))),
    (
        "dynamic_index_in_dim",
        One(|p, x| {
            let element = x[0].dynamic_index_in_dim(&x[1], p.int("axis"));
            if p.flag("keepdims") { element.expand_dims(p.int("axis")) } else { element }
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
                "mul" => x[0].scatter_mul(&x[1], &x[2], dims, mode(p)),
                "min" => x[0].scatter_min(&x[1], &x[2], dims, mode(p)),
                "max" => x[0].scatter_max(&x[1], &x[2], dims, mode(p)),
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
            updated(at, p.text("method"), &x[2])
        }),
    ),
    (
        "at_apply",
        One(|p, x| {
            x[0].at(&x[1]).apply(match p.text("fn") {
                "sin" => Tensor::sin,
                "square" => Tensor::square,
                "negative" => |x: &Tensor| -x,
                other => panic!("no function {other}"),
            })
        }),
    ),
    ("at_slices_update", One(|p, x| updated(x[0].at(parts(p.json("index"))), p.text("method"), &x[1]))),
    ("at_static_mask_add", One(|p, x| x[0].at(mask(p, x[0].shape())).add(&x[1]))),
    ("put_along_axis", One(|p, x| x[0].put_along_axis(&x[1], &x[2], p.int("axis")))),
    ("getitem_slices", One(|p, x| x[0].i(parts(p.json("index"))))),
    ("getitem_static_mask", One(|p, x| x[0].i(mask(p, &x[0].shape()[..1])))),
    ("getitem_i_colon_j", One(|_, x| x[0].i((&x[1], .., &x[2])))),
    ("getitem_colon_i_j", One(|_, x| x[0].i((.., &x[1], &x[2])))),
    ("getitem_ellipsis_newaxis_i", One(|_, x| x[0].i((Ellipsis, NewAxis, &x[1])))),
    ("getitem_grid", One(|_, x| x[0].i(ix_(&[&x[1], &x[2]])))),
    ("at_pairs_add", One(|_, x| x[0].at((&x[1], &x[2])).add(&x[3]))),
    ("where_mask", One(|_, x| where_(&x[0], &x[1], &x[2]))),
    (
        "jnp_roll",
        One(|p, x| match p.is_none("axis") {
            true => x[0].roll_flat(p.int("shift")),
            false => x[0].roll_axes(&p.ints("shift"), &p.ints("axis")),
        }),
    ),
    ("roll_dynamic", One(|p, x| x[0].roll_dynamic(&x[1], p.int("axis")))),
    (
        "repeat",
        One(|p, x| match p.is_none("axis") {
            true => x[0].ravel().repeat(p.int("repeats") as usize, 0),
            false => x[0].repeat(p.int("repeats") as usize, p.int("axis")),
        }),
    ),
    ("repeat_each", One(|p, x| x[0].repeat_each(&x[1], p.int("axis"), p.int("total") as usize))),
    ("tile", One(|p, x| x[0].tile(&p.axes("reps")))),
    ("searchsorted", One(|p, x| x[0].searchsorted(&x[1], side(p)))),
    ("digitize", One(|p, x| x[0].digitize(&x[1], p.flag("right")))),
    ("nonzero", Many(|p, x| x[0].nonzero(p.int("size") as usize, p.int("fill_value") as i32))),
    (
        "segment",
        One(|p, x| {
            let segments = match p.text("kind") {
                "sum" => segment_sum,
                "prod" => segment_prod,
                "max" => segment_max,
                "min" => segment_min,
                kind => panic!("there is no {kind} of segments"),
            };
            segments(&x[0], &x[1], p.int("num_segments") as usize)
        }),
    ),
    (
        "one_hot_of",
        One(|p, x| {
            let rows = one_hot(&x[0], p.int("classes") as usize);
            rows.moveaxis(-1, p.int("axis"))
        }),
    ),
    ("diagonal", One(|p, x| x[0].diagonal(p.int("offset"), p.int("axis1"), p.int("axis2")))),
    ("diag", One(|p, x| x[0].diag(p.int("k")))),
    ("jnp_tril", One(|p, x| x[0].tril_k(p.int("k")))),
    ("jnp_triu", One(|p, x| x[0].triu_k(p.int("k")))),
    (
        "meshgrid",
        Many(|p, x| {
            let indexing = if p.text("indexing") == "xy" { Indexing::Xy } else { Indexing::Ij };
            meshgrid(&x.iter().collect::<Vec<_>>(), indexing, p.flag("sparse"))
        }),
    ),
    ("block", One(|_, x| block(&[&[&x[0], &x[1]], &[&x[2], &x[3]]]))),
    ("rot90", One(|p, x| x[0].rot90(p.int("k"), [0, 1]))),
    ("flip", One(|p, x| x[0].flip(&p.ints("axis")[..]))),
    (
        "jnp_pad",
        One(|p, x| {
            let width = p.json("width").as_array().expect("pairs").iter().map(|pair| {
                let number = |i: usize| pair[i].as_u64().expect("a number") as usize;
                (number(0), number(1))
            });
            let mode = match p.text("mode") {
                "edge" => PadMode::Edge,
                "wrap" => PadMode::Wrap,
                "reflect" => PadMode::Reflect { odd: false },
                "symmetric" => PadMode::Symmetric { odd: false },
                mode => panic!("there is no padding by {mode}"),
            };
            x[0].pad_with(&width.collect::<Vec<_>>(), mode)
        }),
    ),
    ("jnp_insert", One(|p, x| insert(&x[0], &[p.int("at")], &x[1], p.int("axis")))),
    ("unravel_index", Many(|p, x| unravel_index(&x[0], &p.axes("shape")))),
    (
        "ravel_multi_index",
        One(|p, x| {
            let mode = if p.text("mode") == "wrap" { OutOfRange::Wrap } else { OutOfRange::Clip };
            ravel_multi_index(&x.iter().collect::<Vec<_>>(), &p.axes("shape"), mode)
        }),
    ),
    ("select_n", One(|_, x| select_n(&x[0], &x[1..].iter().collect::<Vec<_>>()))),
    ("bincount", One(|p, x| bincount(&x[0], None, p.int("length") as usize))),
    ("bincount_weights", One(|p, x| bincount(&x[0], Some(&x[1]), p.int("length") as usize))),
    // ---- functions of gathers
    (
        "interp",
        One(|p, x| {
            let beyond = |name: &str| if p.is_none(name) { Beyond::Edge } else { Beyond::Value(p.float(name)) };
            let period = if p.is_none("period") { None } else { Some(p.float("period")) };
            Interp { left: beyond("left"), right: beyond("right"), period }.run(&x[0], &x[1], &x[2])
        }),
    ),
    (
        "map_coordinates",
        One(|p, x| {
            let border = match p.text("mode") {
                "constant" => Border::Constant(0.0),
                "nearest" => Border::Nearest,
                "wrap" => Border::Wrap,
                "mirror" => Border::Mirror,
                "reflect" => Border::Reflect,
                mode => panic!("there is no border {mode}"),
            };
            let order = if p.int("order") == 0 { Order::Nearest } else { Order::Linear };
            map_coordinates(&x[0], &x[1..].iter().collect::<Vec<_>>(), order, border)
        }),
    ),
    (
        "vjp_of_integer_input",
        One(|_, x| {
            let (y, pullback) = vjp(|y: &Tensor| y.i(&x[1]) * 2.0, &x[0]);
            pullback(&y.ones_like())
        }),
    ),
    (
        "jacobian_of_sort_and_gather",
        Many(|_, x| {
            let sorted = jacfwd(|y: &Tensor| y.sort(-1))(&x[0]);
            vec![sorted, jacrev(|y: &Tensor| y.i(&x[1]) * y.i(0))(&x[0])]
        }),
    ),
];

fn side(p: &Params) -> Side {
    if p.text("side") == "left" { Side::Left } else { Side::Right }
}

/// The update that a case names.
fn updated(at: At<'_>, method: &str, by: &Tensor) -> Tensor {
    match method {
        "add" => at.add(by),
        "set" => at.set(by),
        "multiply" => at.multiply(by),
        "divide" => at.divide(by),
        "power" => at.power(by),
        "min" => at.min(by),
        "max" => at.max(by),
        method => panic!("there is no update by {method}"),
    }
}

/// The integers and slices of a case.
fn parts(index: &Value) -> Vec<Part> {
    let part = |part: &Value| match part.as_array() {
        Some(slice) => {
            let [start, stop, step] = [0, 1, 2].map(|i| slice.get(i).and_then(Value::as_i64).map(|i| i as isize));
            Part::Slice { start, stop, step: step.unwrap_or(1) }
        }
        None => Part::At(part.as_i64().expect("an integer") as isize),
    };
    index.as_array().expect("an index").iter().map(part).collect()
}

/// The constant mask of a case.
fn mask(p: &Params, shape: &[usize]) -> Tensor {
    fn flags(json: &Value, all: &mut Vec<bool>) {
        match json.as_array() {
            Some(list) => list.iter().for_each(|json| flags(json, all)),
            None => all.push(json.as_bool().expect("a truth value")),
        }
    }
    let mut all = Vec::new();
    flags(p.json("mask"), &mut all);
    Tensor::from_vec(shape, all).expect("a mask of that shape")
}

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

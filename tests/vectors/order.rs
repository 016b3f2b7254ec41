//! Ops of the vectors about order, and reductions and functions of vectors beside it. JAX's definitions are in
//! `jax-edge/generate.py`.

use fulgurite::{Bins, DType, Key, Quantile, Tensor, grad, histogram, lexsort, polyval, trapezoid};

use crate::case::Params;
use crate::op::Op::{self, Binary, Many, One, Unary};

pub(crate) const OPS: &[(&str, Op)] = &[
    (
        "jnp_sort",
        One(|p, x| match (p.is_none("axis"), p.has("descending") && p.flag("descending")) {
            (true, _) => x[0].ravel().sort(0),
            (false, true) => x[0].sort_descending(p.int("axis")),
            (false, false) => x[0].sort(p.int("axis")),
        }),
    ),
    (
        "jnp_argsort",
        One(|p, x| match p.has("descending") && p.flag("descending") {
            true => x[0].argsort_descending(p.int("axis")),
            false => x[0].argsort(p.int("axis")),
        }),
    ),
    ("sort_dtype", One(|p, x| x[0].convert(p.dtype("dtype")).sort(-1).convert(DType::F32))),
    ("sort_key_val", Many(|p, x| fulgurite::sort(&[&x[0], &x[1]], p.int("axis"), 1))),
    ("lexsort", One(|p, x| lexsort(&x.iter().collect::<Vec<_>>(), p.int("axis")))),
    ("ranks", Unary(|x| x.argsort(-1).argsort(-1))),
    ("median", One(|p, x| x[0].median(p.int("axis")))),
    ("nanmedian", One(|p, x| x[0].nanmedian(p.int("axis")))),
    ("quantile", One(|p, x| x[0].quantile(shares(p, &x[0]), p.int("axis"), method(p)))),
    ("nanquantile", One(|p, x| x[0].nanquantile(shares(p, &x[0]), p.int("axis"), Quantile::Linear))),
    (
        "unique",
        Many(|p, x| {
            let unique = x[0].unique_all(p.int("size") as usize, Some(p.float("fill_value")));
            vec![unique.values, unique.index, unique.inverse, unique.counts]
        }),
    ),
    ("argmax_of", One(|p, x| if p.is_none("axis") { x[0].argmax_flat() } else { x[0].argmax(p.int("axis")) })),
    ("argmin_of", One(|p, x| if p.is_none("axis") { x[0].argmin_flat() } else { x[0].argmin(p.int("axis")) })),
    ("nanargmax", One(|p, x| x[0].nanargmax(p.int("axis")))),
    ("nanmax", One(|p, x| x[0].nanmax(p.int("axis")))),
    ("max_of", One(|p, x| if p.is_none("axis") { x[0].max() } else { x[0].max_axes(p.int("axis")) })),
    ("min_of", One(|p, x| if p.is_none("axis") { x[0].min() } else { x[0].min_axes(p.int("axis")) })),
    (
        "partition_values",
        One(|p, x| {
            let kth = p.int("kth");
            x[0].partition(kth, -1).slice_in_dim(-1, 0..kth as usize).sort(-1)
        }),
    ),
    ("isin", Binary(|x, test| x.isin(test))),
    (
        "histogram",
        One(|p, x| histogram(&x[0], Bins::Between(p.int("bins") as usize, p.float("lo"), p.float("hi")), None).0),
    ),
    (
        "top_k_mask_grad",
        One(|p, x| {
            let k = p.int("k") as usize;
            grad(|x: &Tensor| x.top_k(k).0.square().sum())(&x[0])
        }),
    ),
    (
        "permutation_axis",
        One(|p, x| Key::wrap_key_data(x[0].clone()).permutation_of(&x[1], p.int("axis"), p.flag("independent"))),
    ),
    // ---- vectors and samples
    ("diff", One(|p, x| x[0].diff(p.int("n") as usize, p.int("axis")))),
    ("trapezoid", One(|p, x| trapezoid(&x[0], Some(&x[1]), p.int("axis")))),
    ("polyval", Binary(polyval)),
];

fn shares(p: &Params, like: &Tensor) -> Tensor {
    let shares = match p.json("q").as_array() {
        Some(list) => {
            let all: Vec<f64> = list.iter().map(|q| q.as_f64().expect("a share")).collect();
            Tensor::from_vec(&[all.len()], all).expect("a vector")
        }
        None => Tensor::scalar(p.float("q")),
    };
    shares.convert(like.dtype())
}

fn method(p: &Params) -> Quantile {
    match p.text("method") {
        "linear" => Quantile::Linear,
        "lower" => Quantile::Lower,
        "higher" => Quantile::Higher,
        "midpoint" => Quantile::Midpoint,
        "nearest" => Quantile::Nearest,
        method => panic!("there is no quantile by {method}"),
    }
}

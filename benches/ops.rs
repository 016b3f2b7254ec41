//! Single ops that are not products: microseconds.
//!
//! `cargo bench --bench ops [-- NAME …]` prints a table; `benches/peers/ops.py` prints JAX's and PyTorch's beside it.
//! `FULGURITE_THREADS=1` before it is for one thread.

use fulgurite::fft::{Norm, fft};
use fulgurite::prelude::*;
use fulgurite::{Attention, Windows, dot_product_attention, reduce_window_max, segment_sum, sort};
use fulgurite_benches::median_seconds;

/// A name, the inputs, and a function of them.
type Case = (&'static str, Vec<Tensor>, fn(&[Tensor]) -> Tensor);

fn normal(shape: &[usize]) -> Tensor {
    Key::new(0).normal(shape)
}

fn indices(count: usize, below: i32) -> Tensor {
    Key::new(1).randint(&[count], 0, below)
}

fn pool(x: &Tensor) -> Tensor {
    reduce_window_max(x, &Windows::new(&[1, 1, 2, 2]).strides(&[1, 1, 2, 2]))
}

fn attention(x: &[Tensor]) -> Tensor {
    let causal = Attention { is_causal: true, ..Attention::default() };
    dot_product_attention(&x[0], &x[1], &x[2], &causal)
}

fn cases() -> Vec<Case> {
    let heads = || vec![normal(&[8, 128, 4, 32]), normal(&[8, 128, 4, 32]), normal(&[8, 128, 4, 32])];
    vec![
        ("gather rows 4096 of 10000x64", vec![normal(&[10_000, 64]), indices(4096, 10_000)], |x| x[0].take(&x[1], 0)),
        ("gather 100k of 1M", vec![normal(&[1_000_000]), indices(100_000, 1_000_000)], |x| x[0].take(&x[1], 0)),
        (
            "scatter-add rows 4096 to 10000x64",
            vec![normal(&[10_000, 64]), indices(4096, 10_000), normal(&[4096, 64])],
            |x| x[0].at(&x[1]).add(&x[2]),
        ),
        ("segment_sum 100k to 1000", vec![normal(&[100_000]), indices(100_000, 1000)], |x| {
            segment_sum(&x[0], &x[1], 1000)
        }),
        ("sort 1000x1000", vec![normal(&[1000, 1000])], |x| x[0].sort(-1)),
        ("sort 100k", vec![normal(&[100_000])], |x| x[0].sort(-1)),
        ("sort pairs 256x256", vec![normal(&[256, 256]), normal(&[256, 256])], |x| {
            sort(&[&x[0], &x[1]], -1, 1).swap_remove(1)
        }),
        ("top_k 10 of 128x10000", vec![normal(&[128, 10_000])], |x| x[0].top_k(10).0),
        ("top_k 5 of 32x100", vec![normal(&[32, 100])], |x| x[0].top_k(5).0),
        ("cumsum 1M", vec![normal(&[1_000_000])], |x| x[0].cumsum(0)),
        ("cumsum 1000", vec![normal(&[1000])], |x| x[0].cumsum(0)),
        ("cumsum rows 1024x1024", vec![normal(&[1024, 1024])], |x| x[0].cumsum(1)),
        ("cumsum columns 1024x1024", vec![normal(&[1024, 1024])], |x| x[0].cumsum(0)),
        ("cumsum rows 32x64", vec![normal(&[32, 64])], |x| x[0].cumsum(1)),
        ("max_pool 2x2 16x32x64x64", vec![normal(&[16, 32, 64, 64])], |x| pool(&x[0])),
        ("max_pool gradient", vec![normal(&[16, 32, 64, 64])], |x| grad(|x: &Tensor| pool(x).square().sum())(&x[0])),
        ("fft 64x1024", vec![normal(&[64, 1024])], |x| fft(&x[0], None, -1, Norm::default()).re),
        ("fft 65536", vec![normal(&[65_536])], |x| fft(&x[0], None, -1, Norm::default()).re),
        ("fft 256x100", vec![normal(&[256, 100])], |x| fft(&x[0], None, -1, Norm::default()).re),
        ("attention 8x128x4x32", heads(), attention),
        ("attention gradient", heads(), |x| {
            let loss = |x: &Vec<Tensor>| attention(x).square().sum();
            grad(loss)(&x.to_vec()).swap_remove(0)
        }),
    ]
}

fn main() -> Result<()> {
    let names: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    for (name, inputs, f) in cases() {
        if !names.is_empty() && !names.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let step = jit(move |x: Vec<Tensor>| f(&x));
        let us = median_seconds(|| step.call(inputs.clone()).map(drop))? * 1e6;
        println!("{name:<36} {us:>12.2} us");
    }
    Ok(())
}

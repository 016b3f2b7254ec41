//! Convolutions by shape: microseconds and GFLOP/s, forward and both gradients.
//!
//! `FULGURITE_THREADS=1 cargo bench --bench conv [-- NAME …]` prints a table for one thread, the variable left out one
//! for all; `-- --json` prints one JSON object per row, which `peers/conv.py` puts beside PyTorch's or JAX's. Layouts
//! are those of PyTorch, `NCHW` by `OIHW`.

use std::time::{Duration, Instant};

use fulgurite::conv::{Conv, Padding, conv_general_dilated};
use fulgurite::prelude::*;

/// A layer of images of `side` rows and columns.
struct Shape {
    name: &'static str,
    channels: [usize; 2],
    side: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    /// Steps from pixel to pixel: more than 1 in a transposed convolution.
    lhs_dilation: usize,
    rhs_dilation: usize,
    groups: usize,
}

const fn plain(name: &'static str, channels: [usize; 2], side: usize, kernel: usize) -> Shape {
    Shape {
        name,
        channels,
        side,
        kernel,
        stride: 1,
        padding: (kernel - 1) / 2,
        lhs_dilation: 1,
        rhs_dilation: 1,
        groups: 1,
    }
}

const fn strided(name: &'static str, channels: [usize; 2], side: usize, kernel: usize, stride: usize) -> Shape {
    Shape { stride, ..plain(name, channels, side, kernel) }
}

const SHAPES: &[Shape] = &[
    plain("1x1", [64, 64], 32, 1),
    plain("1x1", [256, 256], 8, 1),
    plain("3x3 first", [3, 16], 32, 3),
    plain("3x3", [16, 16], 32, 3),
    plain("3x3", [64, 64], 32, 3),
    plain("3x3", [128, 128], 16, 3),
    plain("3x3", [256, 256], 8, 3),
    plain("5x5", [32, 32], 28, 5),
    plain("7x7", [32, 32], 28, 7),
    Shape { padding: 3, ..strided("7x7 first", [3, 64], 64, 7, 2) },
    Shape { padding: 0, ..strided("patch", [3, 64], 32, 4, 4) },
    strided("strided", [32, 64], 32, 3, 2),
    strided("1x1 strided", [64, 128], 32, 1, 2),
    Shape { groups: 64, ..plain("depthwise", [64, 64], 32, 3) },
    Shape { groups: 8, ..plain("grouped", [64, 64], 32, 3) },
    Shape { rhs_dilation: 2, padding: 2, ..plain("dilated", [64, 64], 32, 3) },
    Shape { lhs_dilation: 2, padding: 2, ..plain("transposed", [64, 32], 16, 4) },
];

const BATCHES: [usize; 3] = [1, 16, 128];

/// What is computed.
#[derive(Clone, Copy)]
enum Pass {
    Forward,
    InputGradient,
    KernelGradient,
}

impl Shape {
    fn apply(&self, x: &Tensor, w: &Tensor) -> Tensor {
        let pad = self.padding as isize;
        conv_general_dilated(
            x,
            w,
            Conv {
                window_strides: &[self.stride; 2],
                padding: Padding::Explicit(&[(pad, pad); 2]),
                lhs_dilation: &[self.lhs_dilation; 2],
                rhs_dilation: &[self.rhs_dilation; 2],
                feature_group_count: self.groups,
                ..Conv::default()
            },
        )
    }

    /// Rows and columns of a result.
    fn results(&self) -> usize {
        let reach = (self.kernel - 1) * self.rhs_dilation + 1;
        ((self.side - 1) * self.lhs_dilation + 1 + 2 * self.padding - reach) / self.stride + 1
    }

    /// FLOPs of a pass: two for each product, without those with zeros between pixels.
    fn flops(&self, batch: usize) -> f64 {
        let [from, to] = self.channels;
        let window = self.kernel * self.kernel * (from / self.groups);
        let results = batch * to * self.results() * self.results();
        2.0 * results as f64 * window as f64 / (self.lhs_dilation * self.lhs_dilation) as f64
    }
}

/// Seconds of a run: the least of several groups.
fn time(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let start = Instant::now();
    run()?;
    let one = start.elapsed().max(Duration::from_nanos(100)).as_secs_f64();
    let count = ((0.02 / one) as usize).clamp(1, 100_000);
    let mut least = f64::INFINITY;
    for _ in 0..9 {
        let start = Instant::now();
        for _ in 0..count {
            run()?;
        }
        least = least.min(start.elapsed().as_secs_f64() / count as f64);
    }
    Ok(least)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let json = args.iter().any(|arg| arg == "--json");
    let kernels = args.iter().any(|arg| arg == "--kernels");
    let names: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let passes = [
        ("forward", Pass::Forward),
        ("input gradient", Pass::InputGradient),
        ("kernel gradient", Pass::KernelGradient),
    ];
    for shape in SHAPES {
        let [from, to] = shape.channels;
        let name = format!("{} {from}-{to} {}", shape.name, shape.side);
        if !names.is_empty() && !names.iter().any(|wanted| name.starts_with(wanted.as_str())) {
            continue;
        }
        for batch in BATCHES {
            let x = Key::new(1).normal(&[batch, from, shape.side, shape.side]);
            let w = Key::new(2).normal(&[to, from / shape.groups, shape.kernel, shape.kernel]);
            let ct = Key::new(3).normal(&[batch, to, shape.results(), shape.results()]);
            for (what, pass) in passes {
                let step = move |(x, w, ct): (Tensor, Tensor, Tensor)| match pass {
                    Pass::Forward => shape.apply(&x, &w),
                    Pass::InputGradient => vjp(|x: &Tensor| shape.apply(x, &w), &x).1(&ct),
                    Pass::KernelGradient => vjp(|w: &Tensor| shape.apply(&x, w), &w).1(&ct),
                };
                let inputs = (x.clone(), w.clone(), ct.clone());
                if kernels {
                    println!("{name} {batch} {what}:\n{}", fulgurite::lower(step, &inputs)?.kernels);
                    continue;
                }
                let compiled = jit(step);
                let seconds = time(|| compiled.call(inputs.clone()).map(drop))?;
                let rate = shape.flops(batch) / seconds / 1e9;
                let us = seconds * 1e6;
                if json {
                    println!(
                        "{{\"name\":\"{}\",\"pass\":\"{what}\",\"batch\":{batch},\"channels\":[{from},{to}],\
                         \"side\":{},\"kernel\":{},\"stride\":{},\"padding\":{},\"lhs_dilation\":{},\
                         \"rhs_dilation\":{},\"groups\":{},\"us\":{us:.2},\"gflops\":{rate:.2}}}",
                        shape.name,
                        shape.side,
                        shape.kernel,
                        shape.stride,
                        shape.padding,
                        shape.lhs_dilation,
                        shape.rhs_dilation,
                        shape.groups,
                    );
                } else {
                    println!("{name:24} {batch:4} {what:16} {us:12.1} us {rate:8.1} GFLOP/s");
                }
            }
        }
    }
    Ok(())
}

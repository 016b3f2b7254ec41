//! Fourier transforms of the vectors. JAX's definitions are in `jax-edge/generate.py`.

use fulgurite::fft::{Complex, Norm, fft, fftn, ifft, irfft, rfft};

use crate::case::Params;
use crate::op::Op::{self, Many, One};

pub(crate) const OPS: &[(&str, Op)] = &[
    (
        "fft",
        Many(|p, x| {
            let (x, axes, n) = (Complex::new(x[0].clone(), x[1].clone()), signed(p, "axes"), length(p));
            let norm = match p.has("norm") && !p.is_none("norm") {
                false => Norm::Backward,
                true => match p.text("norm") {
                    "ortho" => Norm::Ortho,
                    "forward" => Norm::Forward,
                    _ => Norm::Backward,
                },
            };
            let y = match p.text("kind") {
                "fft" => fft(x, n, axes[0], norm),
                "ifft" => ifft(x, n, axes[0], norm),
                "fftn" => fftn(x, None, &axes[..], norm),
                "irfft" => return vec![irfft(x, n, axes[0], norm)],
                kind => panic!("there is no transform {kind}"),
            };
            vec![y.re, y.im]
        }),
    ),
    (
        "rfft",
        Many(|p, x| {
            let axis = if p.has("axis") { p.int("axis") } else { -1 };
            let y = rfft(&x[0], length(p), axis, Norm::Backward);
            vec![y.re, y.im]
        }),
    ),
    ("fftshift", One(|p, x| x[0].fftshift(&signed(p, "axes")[..]))),
];

fn length(p: &Params) -> Option<usize> {
    (p.has("n") && !p.is_none("n")).then(|| p.int("n") as usize)
}

/// Axes, of which negative ones count from the end.
fn signed(p: &Params, name: &str) -> Vec<isize> {
    if !p.has(name) {
        return vec![-1];
    }
    p.json(name).as_array().expect("a list").iter().map(|axis| axis.as_i64().expect("an axis") as isize).collect()
}

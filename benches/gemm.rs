//! Matrix products by shape, on one core: GFLOP/s of our microkernels.
//!
//! `cargo bench --bench gemm` prints a table; `-- --json` one JSON object per shape, which `compare.py --gemm` puts
//! beside PyTorch's (MKL or oneDNN, on one thread). `-- 4096x49` measures only the shapes with that in their name.

use std::time::{Duration, Instant};

use fulgurite::compiler::array::Buffer;
use fulgurite::compiler::cpu::Isa;
use fulgurite::compiler::cpu::gemm::{Gemm, gemm_range_f32};
use fulgurite::compiler::fuse::Tap;

/// Where a shape comes from; batch, m, n, k; is A, is B transposed (stored as `k × m`, `n × k`)?
type Shape = (&'static str, [usize; 4], bool, bool);

#[rustfmt::skip]
const SHAPES: &[Shape] = &[
    ("square", [1, 8, 8, 8], false, false),
    ("square", [1, 16, 16, 16], false, false),
    ("square", [1, 32, 32, 32], false, false),
    ("square", [1, 64, 64, 64], false, false),
    ("square", [1, 128, 128, 128], false, false),
    ("square", [1, 256, 256, 256], false, false),
    ("square", [1, 512, 512, 512], false, false),
    ("square", [1, 1024, 1024, 1024], false, false),
    ("vector", [1, 1, 1024, 1024], false, false),
    ("vector", [1, 1, 1024, 1024], false, true),
    ("bnn forward", [5, 16, 51, 51], false, true),
    ("bnn input gradient", [5, 16, 51, 51], false, false),
    ("bnn weight gradient", [5, 51, 51, 16], true, false),
    ("mlp_tiny forward", [1, 16, 32, 32], false, false),
    ("mlp_tiny weight gradient", [1, 32, 32, 16], true, false),
    ("mlp forward", [1, 32, 128, 784], false, false),
    ("mlp forward", [1, 32, 64, 128], false, false),
    ("mlp weight gradient", [1, 784, 128, 32], true, false),
    ("mlp input gradient", [1, 32, 128, 64], false, true),
    ("mixer forward", [1, 4096, 512, 49], false, false),
    ("mixer forward", [1, 4096, 49, 512], false, false),
    ("mixer forward", [1, 3136, 512, 64], false, false),
    ("mixer forward", [1, 3136, 64, 512], false, false),
    ("mixer weight gradient", [1, 49, 512, 4096], true, false),
    ("mixer weight gradient", [1, 512, 49, 4096], true, false),
    ("mixer weight gradient", [1, 64, 512, 3136], true, false),
    ("mixer weight gradient", [1, 512, 64, 3136], true, false),
    ("mixer_b4 weight gradient", [1, 49, 512, 256], true, false),
    ("mixer_b4 weight gradient", [1, 512, 49, 256], true, false),
    ("mixer_b4 weight gradient", [1, 64, 512, 196], true, false),
    ("mixer_b4 weight gradient", [1, 512, 64, 196], true, false),
    ("mixer input gradient", [1, 4096, 49, 512], false, true),
    ("mixer input gradient", [1, 4096, 512, 49], false, true),
    ("mixer input gradient", [1, 3136, 64, 512], false, true),
    ("mixer input gradient", [1, 3136, 512, 64], false, true),
];

/// Seconds of a run: the median of nine groups.
fn time(run: impl Fn()) -> f64 {
    run();
    let start = Instant::now();
    run();
    let one = start.elapsed().max(Duration::from_nanos(20)).as_secs_f64();
    let count = ((0.02 / one) as usize).clamp(1, 1_000_000);
    let mut groups: Vec<f64> = (0..9)
        .map(|_| {
            let start = Instant::now();
            (0..count).for_each(|_| run());
            start.elapsed().as_secs_f64() / count as f64
        })
        .collect();
    groups.sort_by(f64::total_cmp);
    groups[groups.len() / 2]
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let json = args.iter().any(|a| a == "--json");
    let wanted: Vec<&String> = args.iter().filter(|a| !a.starts_with("--")).collect();
    for &(name, [batch, m, n, k], ta, tb) in SHAPES {
        let shape = format!("{batch}x{m}x{n}x{k}");
        if !wanted.is_empty() && !wanted.iter().any(|text| shape.contains(*text) || name.contains(*text)) {
            continue;
        }
        let strides = |rows: usize, columns: usize, transposed: bool| {
            let (row, column) = if transposed { (1, rows) } else { (columns, 1) };
            [(rows * columns) as isize, row as isize, column as isize]
        };
        let c = [(m * n) as isize, n as isize, 1];
        let gemm = Gemm::new(
            batch,
            m,
            n,
            k,
            strides(m, k, ta),
            strides(k, n, tb),
            c,
            &[Tap::default()],
            4,
            Isa::detect(),
            true,
        );
        let matrix = |elements: usize| {
            Buffer::from_vec((0..elements).map(|i| (i * 7 % 13) as f32 / 13.0 - 0.5).collect::<Vec<f32>>())
        };
        let (a, b, out) = (matrix(batch * m * k), matrix(batch * k * n), matrix(batch * m * n));
        let scratch = Buffer::zeroed(gemm.scratch_bytes(), || "scratch".into()).expect("memory");
        let seconds = time(|| {
            let (a, b, c) = (a.start().cast::<f32>(), b.start().cast::<f32>(), out.start().cast::<f32>());
            // SAFETY: the buffers are as large as extents and strides reach, and this thread's alone.
            unsafe { gemm_range_f32(&gemm, a, b, c, scratch.start(), 0, usize::MAX) }
        });
        let rate = gemm.flops() as f64 / seconds / 1e9;
        let transposed = match (ta, tb) {
            (false, false) => "",
            (true, false) => "A'",
            (false, true) => "B'",
            (true, true) => "A'B'",
        };
        if json {
            println!(
                "{{\"name\":\"{name}\",\"shape\":[{batch},{m},{n},{k}],\"transposed\":[{ta},{tb}],\"us\":{:.3},\"gflops\":{rate:.2}}}",
                seconds * 1e6
            );
        } else {
            println!("{name:26} {shape:20} {transposed:4} {:10.2} us {rate:8.1} GFLOP/s", seconds * 1e6);
        }
    }
}

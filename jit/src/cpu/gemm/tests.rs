//! Every instruction set and every path gives exactly the chain of `fma` in the order of k.

use super::*;
use crate::fuse::Tap;

/// Scratch memory as callers pass it: aligned and not zeroed.
pub(super) struct Scratch(Vec<[u64; 8]>, usize);

impl Scratch {
    pub(super) fn new(bytes: usize) -> Scratch {
        let lines = bytes / 64 + 2;
        let buffer = vec![[0x7ff8_dead_7fc0_beef; 8]; lines];
        let skip = buffer.as_ptr().cast::<u8>().align_offset(64);
        Scratch(buffer, skip)
    }
    pub(super) fn address(&mut self) -> *mut u8 {
        // SAFETY: the skip is less than the line of slack.
        unsafe { self.0.as_mut_ptr().cast::<u8>().add(self.1) }
    }
}

trait Element: Copy + PartialEq + core::fmt::Debug {
    const SIZE: usize;
    fn noise(seed: &mut u64) -> Self;
    fn zero() -> Self;
    fn mark() -> Self;
    fn fma(self, by: Self, onto: Self) -> Self;
    fn bits(self) -> u64;
    unsafe fn run(
        g: &Gemm,
        a: *const Self,
        b: *const Self,
        c: *mut Self,
        scratch: *mut u8,
        tasks: Option<(usize, usize)>,
    );
}

fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*seed >> 33) ^ (*seed >> 7)
}

macro_rules! element {
    ($t:ty, $range:ident) => {
        impl Element for $t {
            const SIZE: usize = size_of::<$t>();
            fn noise(seed: &mut u64) -> $t {
                (random(seed) & 0xf_ffff) as $t / 524288.0 - 1.0
            }
            fn zero() -> $t {
                0.0
            }
            fn mark() -> $t {
                -77.5
            }
            fn fma(self, by: $t, onto: $t) -> $t {
                self.mul_add(by, onto)
            }
            fn bits(self) -> u64 {
                self.to_bits() as u64
            }
            unsafe fn run(
                g: &Gemm,
                a: *const $t,
                b: *const $t,
                c: *mut $t,
                scratch: *mut u8,
                tasks: Option<(usize, usize)>,
            ) {
                let (begin, end) = tasks.unwrap_or((0, usize::MAX));
                // SAFETY: the caller's promise.
                unsafe { $range(g, a, b, c, scratch, begin, end) }
            }
        }
    };
}
element!(f32, gemm_range_f32);
element!(f64, gemm_range_f64);

/// The instruction sets that can run here.
fn isas() -> Vec<Isa> {
    match Isa::detect() {
        Isa::Avx512 => vec![Isa::Avx512, Isa::Avx2, Isa::Portable],
        Isa::Avx2 => vec![Isa::Avx2, Isa::Portable],
        Isa::Portable => vec![Isa::Portable],
    }
}

/// The extent of memory that strides reach below and above the origin.
fn reach(extents: [usize; 3], strides: [isize; 3]) -> (usize, usize) {
    let (mut below, mut above) = (0, 0);
    for (extent, stride) in extents.into_iter().zip(strides) {
        let far = extent.saturating_sub(1) as isize * stride;
        below += (-far).max(0) as usize;
        above += far.max(0) as usize;
    }
    (below, above + 1)
}

#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    m: usize,
    n: usize,
    k: usize,
    a: [isize; 3],
    b: [isize; 3],
    c: [isize; 3],
}

fn check<T: Element>(case: Case) {
    check_taps::<T>(case, &[Tap::default()], true);
}

/// Every instruction set gives the chain of `fma` over `taps` in order, and for each over k in ascending order.
fn check_taps<T: Element>(case: Case, taps: &[Tap], collapse_batch: bool) {
    let Case { batch, m, n, k, a, b, c } = case;
    let mut seed = 7;
    // The farthest offsets of taps below and above.
    let far = |offset: fn(&Tap) -> isize| {
        let offsets = taps.iter().map(offset);
        offsets.fold((0, 0), |(below, above), at| (below.max((-at).max(0) as usize), above.max(at.max(0) as usize)))
    };
    let ((a_below, a_above), (a_tap_below, a_tap_above)) = (reach([batch, m, k], a), far(|tap| tap.a));
    let ((b_below, b_above), (b_tap_below, b_tap_above)) = (reach([batch, k, n], b), far(|tap| tap.b));
    let (a_below, a_above) = (a_below + a_tap_below, a_above + a_tap_above);
    let (b_below, b_above) = (b_below + b_tap_below, b_above + b_tap_above);
    let (_, c_above) = reach([batch, m, n], c);
    // The operands end exactly where they must: reading past them shows under a sanitizer.
    let av: Vec<T> = (0..a_below + a_above).map(|_| T::noise(&mut seed)).collect();
    let bv: Vec<T> = (0..b_below + b_above).map(|_| T::noise(&mut seed)).collect();
    let mut expected = vec![T::mark(); c_above + 3];
    for i in 0..batch as isize {
        for r in 0..m as isize {
            for l in 0..n as isize {
                let mut sum = T::zero();
                for tap in taps {
                    for s in 0..k as isize {
                        let x = av[(a_below as isize + tap.a + i * a[0] + r * a[1] + s * a[2]) as usize];
                        let y = bv[(b_below as isize + tap.b + i * b[0] + s * b[1] + l * b[2]) as usize];
                        sum = x.fma(y, sum);
                    }
                }
                expected[(i * c[0] + r * c[1] + l * c[2]) as usize] = sum;
            }
        }
    }
    for isa in isas() {
        let g = Gemm::new(batch, m, n, k, a, b, c, taps, T::SIZE, isa, collapse_batch);
        let mut scratch = Scratch::new(g.scratch_bytes());
        // All at once, and in ranges of tasks from the last to the first.
        let tasks = g.tasks();
        let thirds = [(2 * tasks / 3, tasks), (tasks / 3, 2 * tasks / 3), (0, tasks / 3)];
        for ranges in [&[None][..], &thirds.map(Some)[..]] {
            let mut got = vec![T::mark(); expected.len()];
            for range in ranges {
                // SAFETY: the vectors are as long as the strides reach.
                unsafe {
                    let (a, b) = (av.as_ptr().add(a_below), bv.as_ptr().add(b_below));
                    T::run(&g, a, b, got.as_mut_ptr(), scratch.address(), *range);
                }
            }
            for (at, (x, y)) in got.iter().zip(&expected).enumerate() {
                assert!(x.bits() == y.bits(), "{isa:?} {case:?} at {at}: {x:?}, expected {y:?}\n{g:?}");
            }
        }
    }
}

/// The layouts of one shape that graphs produce.
fn layouts(batch: usize, m: usize, n: usize, k: usize) -> Vec<Case> {
    let (im, ik, in_) = (m as isize, k as isize, n as isize);
    let case = |a, b, c| Case { batch, m, n, k, a, b, c };
    let plain_a = [im * ik, ik, 1];
    let plain_b = [ik * in_, in_, 1];
    let plain_c = [im * in_, in_, 1];
    vec![
        case(plain_a, plain_b, plain_c),
        case([im * ik, 1, im], plain_b, plain_c),
        case(plain_a, [ik * in_, 1, ik], plain_c),
        case([im * ik, 1, im], [ik * in_, 1, ik], plain_c),
        // Shared operands, which collapse the batch.
        case(plain_a, [0, in_, 1], plain_c),
        case([0, ik, 1], [in_, batch as isize * in_, 1], [in_, batch as isize * in_, 1]),
        // Repeated rows, columns and steps of k.
        case([0, 0, 1], [0, 1, 0], plain_c),
        case([1, 1, 0], [2, 0, 1], plain_c),
        // Slices with steps, forwards and backwards, and rows of C with gaps.
        case([2 * im * ik + 1, 2 * ik, 2], [3 * ik * in_, 3 * in_, 3], [im * (in_ + 5), in_ + 5, 1]),
        case([-im * ik, ik, -1], [ik * in_, -in_, 1], [im * in_ + 9, in_, 1]),
    ]
}

fn check_shape(batch: usize, m: usize, n: usize, k: usize) {
    for case in layouts(batch, m, n, k) {
        check::<f32>(case);
        check::<f64>(case);
    }
}

#[test]
fn small_shapes() {
    for (batch, m, n, k) in [
        (5, 16, 51, 51),
        (5, 16, 51, 1),
        (5, 16, 1, 51),
        (5, 51, 51, 16),
        (1, 32, 128, 784),
        (1, 8, 32, 16),
        (1, 16, 10, 32),
        (3, 1, 1, 1),
        (2, 1, 1, 37),
        (1, 100, 3, 40),
        (1, 3, 100, 40),
        (2, 33, 7, 19),
    ] {
        check_shape(batch, m, n, k);
    }
}

#[test]
fn empty_extents() {
    for (batch, m, n, k) in
        [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0), (1, 1, 1, 0), (1, 0, 0, 0), (3, 20, 1, 0)]
    {
        check_shape(batch, m, n, k);
    }
}

/// Every tile size and every tail of the last vector.
#[test]
fn every_tile() {
    for m in 1..=30 {
        for n in [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 47, 48, 49, 63, 65, 80] {
            for case in &layouts(1, m, n, 3)[..3] {
                check::<f32>(*case);
                check::<f64>(*case);
            }
        }
    }
}

/// Large enough for several blocks of k and of columns, for packing, buffered C and streaming.
fn large_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (m, n, k) in [(100, 200, 270), (300, 1, 700), (1, 900, 530), (530, 5, 70), (784, 128, 32), (40, 1100, 30)] {
        cases.extend(&layouts(1, m, n, k)[..4]);
    }
    cases.extend(&layouts(1, 130, 520, 70)[..1]);
    cases.extend(&layouts(1, 520, 500, 130)[1..2]);
    cases.extend(&layouts(1, 1300, 6, 40)[..2]);
    cases.extend(&layouts(1, 3, 5000, 20)[..1]);
    cases.extend(&layouts(2, 6, 600, 300)[..1]);
    cases
}

#[test]
fn blocks() {
    for case in large_cases() {
        check::<f32>(case);
        check::<f64>(case);
    }
}

/// The large cases cover every path of the plan.
#[test]
fn large_cases_take_every_path() {
    for isa in isas() {
        let plans: Vec<Gemm> = large_cases()
            .into_iter()
            .map(|Case { batch, m, n, k, a, b, c }| Gemm::new(batch, m, n, k, a, b, c, &[Tap::default()], 4, isa, true))
            .collect();
        let some = |what: &str, path: fn(&Gemm) -> bool| assert!(plans.iter().any(path), "{isa:?}: no {what}");
        some("transposed", |g| g.transposed);
        some("strided", |g| g.strided && g.k > 0);
        some("buffered C in several blocks", |g| g.buffered_c && g.column_blocks > 1);
        some("packed A", |g| g.pack_a && g.k_block < g.k);
        some("packed B, transposed", |g| g.pack_b && g.run_b[2] != 1);
        some("packed B, copied", |g| g.pack_b && g.run_b[2] == 1);
        some("unpacked, in several blocks of k", |g| !g.pack_b && g.k_block < g.k);
        some("streamed", |g| g.k_block <= 16 && g.k > 16);
        some("several blocks of columns", |g| g.column_blocks > 1);
        some("full and edge tiles", |g| g.full_tiles < g.row_tiles);
    }
}

/// Products of several taps, in every way that they are run: with C in registers over all taps, tap by tap in several
/// blocks of k, packed, strided, transposed, and in tiles of rows. The order depends on extents alone.
#[test]
fn taps_in_order() {
    // A convolution along a row of `m` positions with `n` filters: A is the image shifted by the tap, B its weights.
    let convolution = |m: usize, n: usize, channels: usize, window: usize| {
        let (im, in_, ik) = (m as isize, n as isize, channels as isize);
        let case = Case { batch: 1, m, n, k: channels, a: [0, ik, 1], b: [0, in_, 1], c: [im * in_, in_, 1] };
        let taps: Vec<Tap> = (0..window as isize).map(|w| Tap { a: w * ik, b: w * ik * in_ }).collect();
        (case, taps)
    };
    let shapes = [
        (9, 5, 1, 3),
        (30, 32, 16, 5),
        (64, 40, 300, 3),
        (7, 130, 513, 2),
        (1, 70, 40, 4),
        (33, 1, 700, 3),
        (5, 7, 0, 3),
    ];
    let mut plans = Vec::new();
    for (m, n, channels, window) in shapes {
        let (case, mut taps) = convolution(m, n, channels, window);
        check_taps::<f32>(case, &taps, true);
        check_taps::<f64>(case, &taps, true);
        // In another order, and one of them twice.
        taps.rotate_left(1);
        taps.push(taps[0]);
        check_taps::<f32>(case, &taps, true);
        check_taps::<f64>(case, &taps, true);
        // Tiles of rows, as a batch that is not collapsed.
        for tiles in (2..=m).filter(|&tiles| m.is_multiple_of(tiles)).take(2) {
            let rows = m / tiles;
            let step = |stride: isize| stride * rows as isize;
            let tiled = Case { batch: tiles, m: rows, a: [step(case.a[1]), case.a[1], case.a[2]], ..case };
            let tiled = Case { c: [step(case.c[1]), case.c[1], 1], ..tiled };
            check_taps::<f32>(tiled, &taps, false);
            check_taps::<f64>(tiled, &taps, false);
        }
        plans.push((case, taps));
    }
    // Other layouts, among them those that are packed, transposed or strided; taps before the origin.
    let shapes = [
        (3, 5, 33, 70, 0..10),
        (1, 40, 48, 300, 0..4),
        (1, 530, 5, 70, 0..4),
        (1, 2, 90, 530, 0..4),
        (1, 530, 32, 70, 1..2),
    ];
    for (batch, m, n, k, which) in shapes {
        for case in layouts(batch, m, n, k).drain(which) {
            let taps = [(0, 3), (-5, 0), (17, -2), (0, 3)].map(|(a, b)| Tap { a, b });
            check_taps::<f32>(case, &taps, true);
            check_taps::<f64>(case, &taps, true);
            plans.push((case, taps.to_vec()));
        }
    }
    for isa in isas() {
        let plans: Vec<Gemm> = plans
            .iter()
            .map(|(Case { batch, m, n, k, a, b, c }, taps)| {
                Gemm::new(*batch, *m, *n, *k, *a, *b, *c, taps, 4, isa, true)
            })
            .collect();
        let some = |what: &str, path: fn(&Gemm) -> bool| assert!(plans.iter().any(path), "{isa:?}: no {what}");
        some("taps in registers", |g| g.joint_taps > 1);
        some("taps in several blocks of k", |g| g.joint_taps == 1 && g.k_block < g.k);
        some("packed A", |g| g.pack_a);
        some("packed B", |g| g.pack_b);
        some("strided", |g| g.strided);
        some("transposed", |g| g.transposed);
        some("buffered C", |g| g.buffered_c);
    }
}

/// Loops over a batch give the products at their offsets.
#[test]
fn levels_of_a_batch() {
    use crate::fuse::{Level, Levels};
    let mut seed = 11;
    let (m, n, k) = (9, 20, 6);
    let levels = [
        Level { extent: 3, a: 500, b: 0, c: 7 * 180 },
        Level { extent: 2, a: 37, b: 300, c: 180 },
        Level { extent: 2, a: -5, b: 1, c: 540 },
    ];
    let levels = Levels(levels.into_iter().collect());
    let a: Vec<f32> = (0..2000).map(|_| f32::noise(&mut seed)).collect();
    let b: Vec<f32> = (0..2000).map(|_| f32::noise(&mut seed)).collect();
    for (a_strides, b_strides) in [([0, 6, 1], [0, 20, 1]), ([0, 1, 9], [0, 1, 6])] {
        for isa in isas() {
            let taps = [Tap { a: 3, b: 40 }, Tap { a: 0, b: 0 }];
            let plan = |batch| Gemm::new(batch, m, n, k, a_strides, b_strides, [0, 20, 1], &taps, 4, isa, false);
            let (whole, single) = (plan(12).over(&levels), plan(1));
            let mut scratch = Scratch::new(whole.scratch_bytes().max(single.scratch_bytes()));
            let [mut got, mut expected] = [(); 2].map(|()| vec![f32::mark(); 6000]);
            // SAFETY: the vectors are longer than strides, levels and taps reach.
            unsafe {
                let (a, b) = (a.as_ptr().add(10), b.as_ptr());
                let half = whole.tasks() / 2;
                for range in [(half, whole.tasks()), (0, half)] {
                    f32::run(&whole, a, b, got.as_mut_ptr(), scratch.address(), Some(range));
                }
                for at in 0..12 {
                    let [at_a, at_b, at_c] = levels.offsets(at);
                    let c = expected.as_mut_ptr().offset(at_c);
                    f32::run(&single, a.offset(at_a), b.offset(at_b), c, scratch.address(), None);
                }
            }
            assert!(got.iter().zip(&expected).all(|(x, y)| x.bits() == y.bits()), "{isa:?} {a_strides:?}");
        }
    }
}

/// A microkernel accumulates several taps in order.
#[test]
fn batch_reduce() {
    fn check_microkernel<V: vector::SimdVector<Scalar = f32>>() {
        let mut seed = 3;
        let (rows, k, last) = (3, 5, V::WIDTH - 1);
        let columns = V::WIDTH + last;
        let a: Vec<f32> = (0..200).map(|_| f32::noise(&mut seed)).collect();
        let b: Vec<f32> = (0..900).map(|_| f32::noise(&mut seed)).collect();
        let taps = [(40, 300), (0, 0), (17, 420)].map(|(a, b)| Tap { a, b });
        let mut c = vec![0.0; rows * columns];
        // SAFETY: the offsets stay within the vectors; `isas` has this instruction set.
        unsafe {
            V::microkernel(rows, 2)(&vector::Tile {
                k,
                a: a.as_ptr(),
                a_row: 7,
                a_k: 1,
                b: b.as_ptr(),
                b_k: columns as isize,
                c: c.as_mut_ptr(),
                c_row: columns as isize,
                last,
                resume: false,
                non_temporal: false,
                prefetch: a.as_ptr(),
                prefetch_stride: 0,
                taps: taps.as_ptr(),
                tap_count: taps.len(),
            });
        }
        for r in 0..rows {
            for l in 0..columns {
                let mut sum = 0.0_f32;
                for tap in &taps {
                    for s in 0..k {
                        let a = a[tap.a as usize + r * 7 + s];
                        sum = a.mul_add(b[tap.b as usize + s * columns + l], sum);
                    }
                }
                assert_eq!(sum.to_bits(), c[r * columns + l].to_bits());
            }
        }
    }
    for isa in isas() {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => check_microkernel::<core::arch::x86_64::__m512>(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => check_microkernel::<core::arch::x86_64::__m256>(),
            _ => check_microkernel::<[f32; 4]>(),
        }
    }
}

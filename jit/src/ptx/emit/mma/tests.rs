//! Products by tensor cores, run by the interpreter: of any layout and extents the results are those of rounded
//! operands, whole numbers are exact, and whole tiles access memory as well as they can.

use smallvec::SmallVec;

use super::Mma;
use crate::fuse::{BufferId, GemmKernel, Levels, Tap};
use crate::graph::Precision;
use crate::ptx::emit::{Finish, Part, kernel_entry};
use crate::ptx::place::{THREADS, Target};
use crate::ptx::simt::{Counts, Launch, Memory, Options, run_with};
use crate::types::DType;

const PRECISIONS: [Precision; 3] = [Precision::Tf32, Precision::Bf16, Precision::F16];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % n as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Strides of batch, lines and terms, and the offset of the first element, in an array of so many of each.
    fn strides(&mut self, extents: [usize; 3]) -> ([isize; 3], isize) {
        let mut strides = [0; 3];
        let mut next = self.one_of(&[1, 1, 1, 2]);
        for axis in self.one_of(&[[2, 1, 0], [1, 2, 0], [2, 0, 1], [0, 1, 2]]) {
            strides[axis] = next;
            next = next * extents[axis] as isize + self.one_of(&[0, 0, 4, 1]);
        }
        let mut offset = self.one_of(&[0, 0, 4, 3]);
        let axis = self.below(12);
        if axis < 3 {
            offset += strides[axis] * (extents[axis].max(1) as isize - 1);
            strides[axis] = -strides[axis];
        } else if axis < 6 {
            strides[axis - 3] = 0;
        }
        (strides, offset)
    }
}

/// A product, and how it is computed.
struct Case {
    g: GemmKernel,
    target: Target,
    is_aligned: bool,
}

/// A product of row-major operands, or of transposed ones.
fn whole(precision: Precision, extents: [usize; 4], transposed: [bool; 2], multiprocessors: u32) -> Case {
    let [_, m, n, k] = extents.map(|extent| extent as isize);
    let a = if transposed[0] { [m * k, 1, m] } else { [m * k, k, 1] };
    let b = if transposed[1] { [k * n, 1, k] } else { [k * n, n, 1] };
    let g = GemmKernel {
        extents,
        dtype: DType::F32,
        precision,
        a: (BufferId(0), 0, a),
        b: (BufferId(1), 0, b),
        taps: SmallVec::from_slice(&[Tap::default()]),
        c: (BufferId(2), 0, [m * n, n, 1]),
        levels: Levels::default(),
    };
    Case { g, target: Target { capability: 80, multiprocessors, ..Target::default() }, is_aligned: true }
}

impl Case {
    /// Checks the results on operands drawn by `draw`, exactly or within the bounds of the precision.
    fn check(&self, draw: &mut dyn FnMut() -> f32, is_exact: bool, options: &Options) -> Counts {
        let g = &self.g;
        let [batch, m, n, k] = g.extents;
        let a_index = |[b, i, t]: [usize; 3]| g.a.1 + dot(g.a.2, [b, i, t]);
        let b_index = |[b, t, j]: [usize; 3]| g.b.1 + dot(g.b.2, [b, t, j]);
        let most = |index: &dyn Fn([usize; 3]) -> isize, extents: [usize; 3], tap: fn(&Tap) -> isize| {
            let ends = (0..8).map(|c| index([0, 1, 2].map(|axis| (c >> axis & 1) * (extents[axis].max(1) - 1))));
            let last = ends.max().unwrap_or(0);
            (last + g.taps.iter().map(tap).max().unwrap_or(0)) as usize + 1
        };
        let a: Vec<f32> = (0..most(&a_index, [batch, m, k], |tap| tap.a)).map(|_| draw()).collect();
        let b: Vec<f32> = (0..most(&b_index, [batch, k, n], |tap| tap.b)).map(|_| draw()).collect();
        let (got, counts) = self.run(&a, &b, options);
        for (at, &got) in got.iter().enumerate() {
            let (matrix, i, j) = (at / (m * n), at / n % m, at % n);
            let (mut exact, mut rounded, mut magnitude) = (0.0, 0.0, 0.0);
            for (tap, t) in g.taps.iter().flat_map(|tap| (0..k).map(move |t| (tap, t))) {
                let x = f64::from(a[(a_index([matrix, i, t]) + tap.a) as usize]);
                let y = f64::from(b[(b_index([matrix, t, j]) + tap.b) as usize]);
                exact += x * y;
                rounded += round(g.precision, x) * round(g.precision, y);
                magnitude += (x * y).abs();
            }
            let got = f64::from(got);
            // Each of the sums in f32 rounds, in some order.
            let terms = (g.taps.len() * k + 1) as f64;
            let sums = terms * 2f64.powi(-23) * magnitude;
            let unit = if g.precision == Precision::Bf16 { 2f64.powi(-8) } else { 2f64.powi(-11) };
            let is_right = if is_exact {
                got == exact
            } else {
                (got - rounded).abs() <= 1.01 * sums
                    && (got - exact).abs() <= 2.01 * unit * magnitude + sums + terms * 2f64.powi(-24)
            };
            assert!(is_right, "{g} {}: element {at} is {got}, not {rounded} or {exact}", self.is_aligned);
        }
        counts
    }

    fn run(&self, a: &[f32], b: &[f32], options: &Options) -> (Vec<f32>, Counts) {
        let g = &self.g;
        let mma = Mma::of(g, self.is_aligned, self.target).expect("it has tensor cores");
        let (finish, _) = Finish::new(g, true, None, true);
        let part = Part::Mma(g, mma, Box::new(finish));
        let entry = kernel_entry("k".into(), &part, 3);
        let mut memory = Memory::new();
        let bytes = |x: &[f32]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let mut result = vec![0; g.extents[..3].iter().product::<usize>() * 4];
        // Memory that is not aligned begins at 4 bytes more.
        let skipped = usize::from(!self.is_aligned);
        let moved = |memory: &mut Memory, x: &[f32], offset: isize| {
            memory.alloc(&bytes(&[&vec![0.0; skipped], x].concat())) + 4 * skipped as u64 + 4 * offset as u64
        };
        let params = [moved(&mut memory, a, g.a.1), moved(&mut memory, b, g.b.1), memory.alloc_unwritten(result.len())];
        // Blocks go on to other tiles where there are more.
        let grid = part.blocks().clamp(1, 5) as u32;
        let launch = Launch { entry: &entry, grid, block: THREADS, cooperative: false, params: &params };
        let counts = run_with(&mut memory, &launch, options).unwrap_or_else(|e| panic!("{g}: {e}"));
        memory.read(params[2], &mut result).expect("it was written");
        (result.as_chunks::<4>().0.iter().map(|&x| f32::from_le_bytes(x)).collect(), counts)
    }
}

fn dot(strides: [isize; 3], place: [usize; 3]) -> isize {
    strides.iter().zip(place).map(|(stride, x)| stride * x as isize).sum()
}

/// The number in the format of the precision.
fn round(precision: Precision, x: f64) -> f64 {
    let (fraction, least) = match precision {
        Precision::Highest => return x,
        Precision::Tf32 => (10, -126),
        Precision::Bf16 => (7, -126),
        Precision::F16 => (10, -14),
    };
    let exponent = ((x.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(least);
    let last = 2f64.powi(exponent - fraction);
    if precision == Precision::Tf32 { (x / last).round() * last } else { (x / last).round_ties_even() * last }
}

/// Extents around those of tiles, of slices and of copies.
const EXTENTS: [usize; 19] = [0, 1, 2, 3, 4, 7, 8, 12, 16, 17, 31, 32, 36, 48, 64, 65, 68, 100, 132];

#[test]
fn random_products_have_rounded_operands() {
    let mut random = Random(7);
    for n in 0..300 {
        let precision = random.one_of(&PRECISIONS);
        let extents = [random.one_of(&[1, 1, 1, 2, 3]), random.below(19), random.below(19), random.below(19)];
        let extents = [extents[0], EXTENTS[extents[1]], EXTENTS[extents[2]], EXTENTS[extents[3]]];
        let mut case = whole(precision, extents, [false; 2], random.one_of(&[1, 132]));
        let [batch, m, n_extent, k] = extents;
        (case.g.a.2, case.g.a.1) = random.strides([batch, m, k]);
        let ([matrix, column, term], offset) = random.strides([batch, n_extent, k]);
        (case.g.b.2, case.g.b.1) = ([matrix, term, column], offset);
        case.is_aligned = random.below(4) > 0;
        case.g.taps = (0..random.one_of(&[1, 1, 1, 2, 3]))
            .map(|_| Tap { a: random.one_of(&[0, 4, 5]), b: random.one_of(&[0, 8, 3]) })
            .collect();
        let options = Options { interleave: (n % 4 == 0).then_some(n), ..Options::default() };
        let is_exact = n % 3 == 0;
        let mut draw = || match is_exact {
            true => random.below(33) as f32 - 16.0,
            false => random.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0,
        };
        case.check(&mut draw, is_exact, &options);
    }
}

/// Whole tiles: no cycle of shared memory is lost to conflicts of banks, and a tile loads each byte of its operands
/// once, in whole sectors.
#[test]
fn whole_tiles_have_no_conflicts() {
    let mut random = Random(3);
    for precision in PRECISIONS {
        for transposed in [[false, false], [false, true], [true, false], [true, true]] {
            for (extents, [rows, columns]) in
                [([1, 128, 128, 128], [128, 128]), ([1, 64, 128, 64], [64, 64]), ([2, 32, 64, 64], [32, 64])]
            {
                let [batch, m, n, k] = extents;
                let mut counts_of = |k: usize| {
                    let case = whole(precision, [batch, m, n, k], transposed, 1);
                    let draw = &mut || random.below(256) as f32 / 256.0;
                    case.check(draw, false, &Options::default())
                };
                let counts = counts_of(k);
                let loaded = batch * (m * k * (n / columns) + k * n * (m / rows)) * 4;
                assert_eq!(counts.bank_conflicts, 0, "{precision:?} {transposed:?} {extents:?}");
                assert_eq!((counts.load_bytes, counts.load_sectors), (loaded as u64, loaded as u64 / 32));
                assert_eq!(counts.store_sectors as usize, batch * m * n / 8);
                let terms = if precision == Precision::Tf32 { 8 } else { 16 };
                assert_eq!(counts.mma as usize, batch * m * n * k / (16 * 8 * terms));
                // What a longer loop adds.
                let longer = counts_of(2 * k);
                let added = |of: fn(&Counts) -> u64| (of(&longer) - of(&counts)) as f64 / counts.mma as f64;
                println!(
                    "{precision:?} {rows}x{columns} {transposed:?}: {:.2} instructions, {:.2} accesses of shared memory \
                     for each mma; {} around the loop",
                    added(|counts| counts.instructions),
                    added(|counts| counts.shared),
                    2 * counts.instructions - longer.instructions,
                );
            }
        }
    }
}

/// A NaN or an infinity reaches the rows or columns that it is in, and no other.
#[test]
fn what_is_not_finite_stays_in_its_row() {
    for precision in PRECISIONS {
        let case = whole(precision, [1, 5, 6, 17], [false; 2], 132);
        let mut a = vec![1.0f32; 5 * 17];
        (a[0], a[17]) = (f32::NAN, f32::INFINITY);
        let (got, _) = case.run(&a, &[2.0; 17 * 6], &Options::default());
        assert!(got[..6].iter().all(|x| x.is_nan()), "{precision:?}: {got:?}");
        assert!(got[6..12].iter().all(|&x| x == f32::INFINITY), "{precision:?}: {got:?}");
        assert!(got[12..].iter().all(|&x| x == 34.0), "{precision:?}: {got:?}");
    }
}

#[test]
fn who_has_tensor_cores() {
    let of = |precision, capability| {
        let case = whole(precision, [1, 64, 64, 64], [false; 2], 132);
        Mma::of(&case.g, true, Target { capability, ..Target::default() }).is_some()
    };
    for precision in PRECISIONS {
        assert_eq!([70, 75, 80, 90, 120].map(|capability| of(precision, capability)), [false, false, true, true, true]);
    }
    assert!(!of(Precision::Highest, 90));
}

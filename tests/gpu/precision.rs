//! Products by tensor cores: of every layout and extent, the results are those of rounded operands; whole numbers are
//! exact; main loops access shared memory without conflicts and global memory once.

use fulgurite::compiler::graph::Graph;
use fulgurite::compiler::ptx::Target;
use fulgurite::compiler::ptx::simt::{Counts, Options};
use fulgurite::compiler::trace::trace;
use fulgurite::{Array, DType, Precision, Result, Tensor, TensorType, with_matmul_precision};

use super::{Numbers, run};

/// The precisions below the highest.
pub(crate) const PRECISIONS: [Precision; 3] = [Precision::Tf32, Precision::Bf16, Precision::F16];

/// How an operand lies in its array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Layout {
    Rows,
    Columns,
    /// Rows that are longer than the matrix is wide.
    Part,
    /// Every other element of rows, from the second row on.
    Strided,
    /// Rows from their end.
    Reversed,
    /// One matrix for all of a batch.
    Shared,
}

pub(crate) const LAYOUTS: [Layout; 6] =
    [Layout::Rows, Layout::Columns, Layout::Part, Layout::Strided, Layout::Reversed, Layout::Shared];

impl Layout {
    /// The shape of the array of a batch of matrices of so many rows and columns.
    fn shape(self, [batch, rows, columns]: [usize; 3]) -> [usize; 3] {
        match self {
            Layout::Rows | Layout::Reversed => [batch, rows, columns],
            Layout::Columns => [batch, columns, rows],
            Layout::Part => [batch, rows, columns + 4],
            Layout::Strided => [batch, rows + 1, 2 * columns + 1],
            Layout::Shared => [1, rows, columns],
        }
    }

    /// The matrices of an array.
    fn of(self, x: &Tensor, [batch, rows, columns]: [usize; 3]) -> Tensor {
        match self {
            Layout::Rows => x.clone(),
            Layout::Columns => x.transpose(&[0, 2, 1]),
            Layout::Part => x.slice(&[0, 0, 4], &[batch, rows, columns + 4], &[1, 1, 1]),
            Layout::Strided => x.slice(&[0, 1, 1], &[batch, rows + 1, 2 * columns + 1], &[1, 1, 2]),
            Layout::Reversed => x.rev(&[2]),
            Layout::Shared => x.reshape(&[rows, columns]).broadcast_in_dim(&[batch, rows, columns], &[1, 2]),
        }
    }

    /// Element `i` of the array of one of these matrices.
    fn index(self, [batch, rows, columns]: [usize; 3], [b, row, column]: [usize; 3]) -> usize {
        let [_, down, across] = self.shape([batch, rows, columns]);
        let (b, i, j) = match self {
            Layout::Rows => (b, row, column),
            Layout::Columns => (b, column, row),
            Layout::Part => (b, row, column + 4),
            Layout::Strided => (b, row + 1, 2 * column + 1),
            Layout::Reversed => (b, row, columns - 1 - column),
            Layout::Shared => (0, row, column),
        };
        (b * down + i) * across + j
    }
}

/// A batch of products.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) precision: Precision,
    /// Extents of batch, m, n, k.
    pub(crate) extents: [usize; 4],
    pub(crate) layouts: [Layout; 2],
    /// Large tiles are taken for a GPU of few.
    pub(crate) multiprocessors: u32,
}

impl Case {
    /// The matrices of the operands.
    fn matrices(&self) -> [[usize; 3]; 2] {
        let [batch, m, n, k] = self.extents;
        [[batch, m, k], [batch, k, n]]
    }

    pub(crate) fn graph(&self) -> Result<Graph> {
        let matrices = self.matrices();
        let ty = |i: usize| TensorType::new(DType::F32, &self.layouts[i].shape(matrices[i]));
        let traced = trace(&[ty(0), ty(1)], |x| {
            let [a, b] = [0, 1].map(|i| self.layouts[i].of(&x[i], matrices[i]));
            vec![with_matmul_precision(self.precision, || a.matmul(&b))]
        })?;
        Ok(traced.graph)
    }

    fn target(&self) -> Target {
        Target { capability: 80, multiprocessors: self.multiprocessors }
    }

    /// Checks the results of a run on operands drawn by `draw`; whether they must be exact.
    fn check(&self, draw: &mut dyn FnMut() -> f32, is_exact: bool, options: &Options) -> Result<Counts> {
        let graph = self.graph()?;
        let types = graph.param_types();
        let inputs: Vec<Array> = types
            .iter()
            .map(|ty| Array::from_vec(&ty.shape, (0..ty.elements()).map(|_| draw()).collect()))
            .collect::<Result<_>>()?;
        let (results, counts) = run::results(&graph, &inputs, self.target(), options)?;
        let got = results[0].to_vec::<f32>()?;
        let operands = [inputs[0].to_vec::<f32>()?, inputs[1].to_vec::<f32>()?];
        let [batch, m, n, k] = self.extents;
        for at in 0..batch * m * n {
            let (b, i, j) = (at / (m * n), at / n % m, at % n);
            let (mut exact, mut rounded, mut magnitude) = (0.0, 0.0, 0.0);
            for t in 0..k {
                let index = |side: usize, element| self.layouts[side].index(self.matrices()[side], element);
                let x = f64::from(operands[0][index(0, [b, i, t])]);
                let y = f64::from(operands[1][index(1, [b, t, j])]);
                exact += x * y;
                rounded += self.round(x) * self.round(y);
                magnitude += (x * y).abs();
            }
            let got = f64::from(got[at]);
            // Each of k sums in f32 rounds, in some order; products of few terms are elementwise, with all bits.
            let sums = (k + 1) as f64 * 2f64.powi(-23) * magnitude;
            let operands = if self.precision == Precision::Bf16 { 2f64.powi(-8) } else { 2f64.powi(-11) };
            let tiny = (k + 1) as f64 * 2f64.powi(-24);
            let is_near = |want: f64, bound: f64| (got - want).abs() <= bound;
            let elementwise = k == 1 || (m == 1 && n == 1);
            let is_right = match (is_exact, elementwise) {
                (true, _) => got == exact,
                (false, true) => is_near(exact, sums),
                (false, false) => {
                    is_near(rounded, 1.01 * sums) && is_near(exact, (2.01 * operands) * magnitude + sums + tiny)
                }
            };
            assert!(is_right, "{self:?}: element {at} is {got}, not {rounded} or {exact}, of {magnitude}");
        }
        Ok(counts)
    }

    /// The number in the format of the precision.
    fn round(&self, x: f64) -> f64 {
        let (fraction, least) = match self.precision {
            Precision::Highest => return x,
            Precision::Tf32 => (10, -126),
            Precision::Bf16 => (7, -126),
            Precision::F16 => (10, -14),
        };
        let exponent = ((x.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(least);
        let last = 2f64.powi(exponent - fraction);
        if self.precision == Precision::Tf32 { (x / last).round() * last } else { (x / last).round_ties_even() * last }
    }
}

/// Extents around those of tiles, of slices and of copies.
const EXTENTS: [usize; 18] = [1, 2, 3, 4, 7, 8, 12, 16, 17, 31, 32, 36, 48, 64, 65, 68, 100, 132];

/// How many random products run.
const PRODUCTS: u64 = 200;

#[test]
fn random_products_have_rounded_operands() -> Result<()> {
    let mut numbers = Numbers(0x51ed_2701_9abc_def1);
    let products = run::number("FULGURITE_GPU_PRODUCTS", PRODUCTS);
    for p in 0..products {
        let mut below = |n: usize| (numbers.next() * n as f64) as usize;
        let case = Case {
            precision: PRECISIONS[below(3)],
            extents: [[1, 1, 1, 2, 3][below(5)], EXTENTS[below(18)], EXTENTS[below(18)], EXTENTS[below(18)]],
            layouts: [LAYOUTS[below(6)], LAYOUTS[below(6)]],
            multiprocessors: [1, 132][below(2)],
        };
        let options = Options { interleave: (p % 4 == 0).then_some(p), ..Options::default() };
        let is_exact = p % 3 == 0;
        let mut draw = || {
            let x = numbers.next() as f32 * 2.0 - 1.0;
            if is_exact { (x * 16.0).round() } else { x }
        };
        case.check(&mut draw, is_exact, &options)?;
    }
    Ok(())
}

/// Whole tiles: no cycle of shared memory is lost to conflicts of banks, and a tile loads each of its operands' bytes
/// once, in whole sectors.
#[test]
fn main_loops_have_no_conflicts() -> Result<()> {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    for precision in PRECISIONS {
        for layouts in
            [Layout::Rows, Layout::Columns].into_iter().flat_map(|a| [[a, Layout::Rows], [a, Layout::Columns]])
        {
            for (extents, tile) in [([1, 256, 128, 128], 128), ([1, 64, 128, 64], 64), ([2, 32, 64, 96], 32)] {
                let [batch, m, n, k] = extents;
                let multiprocessors = 1;
                let case = Case { precision, extents, layouts, multiprocessors };
                let options = Options::default();
                let counts = case.check(&mut || numbers.next() as f32, false, &options)?;
                if run::on_device() {
                    continue;
                }
                let columns = tile.max(64);
                let bytes = batch * (m * k * (n / columns) + k * n * (m / tile)) * 4;
                assert_eq!(counts.bank_conflicts, 0, "{case:?}");
                assert_eq!((counts.load_bytes, counts.load_sectors), (bytes as u64, bytes as u64 / 32), "{case:?}");
                assert_eq!(counts.store_sectors as usize, batch * m * n / 8, "{case:?}");
                let deep = if precision == Precision::Tf32 { 8 } else { 16 };
                assert_eq!(counts.mma as usize, batch * m * n * k / (16 * 8 * deep), "{case:?}");
            }
        }
    }
    Ok(())
}

/// A NaN or an infinity is one in the rows and columns that it is in, and nowhere else.
#[test]
fn what_is_not_finite_stays_in_its_row() -> Result<()> {
    for precision in PRECISIONS {
        let extents = [1, 5, 6, 17];
        let case = Case { precision, extents, layouts: [Layout::Rows; 2], multiprocessors: 132 };
        let mut a = vec![1.0f32; 5 * 17];
        (a[0], a[17]) = (f32::NAN, f32::INFINITY);
        let inputs = [Array::from_vec(&[1, 5, 17], a)?, Array::from_vec(&[1, 17, 6], vec![2.0f32; 17 * 6])?];
        let (results, _) = run::results(&case.graph()?, &inputs, case.target(), &Options::default())?;
        let got = results[0].to_vec::<f32>()?;
        assert!(got[..6].iter().all(|x| x.is_nan()), "{precision:?}: {got:?}");
        assert!(got[6..12].iter().all(|&x| x == f32::INFINITY), "{precision:?}: {got:?}");
        assert!(got[12..].iter().all(|&x| x == 34.0), "{precision:?}: {got:?}");
    }
    Ok(())
}

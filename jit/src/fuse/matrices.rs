//! Decompositions of matrices and solutions of equations, as routines: what they take, give, and need.
//!
//! A routine is one op on every matrix of a batch. How it is computed `lower/matrices` says, once for all back ends.

use std::fmt;

use crate::graph::{Op, Triangular};
use crate::types::{DType, TensorType, product};

/// An op on each matrix of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatrixRoutine {
    /// What is computed.
    pub what: MatrixOp,
    /// The number of matrices.
    pub batch: usize,
    /// The number of rows of each.
    pub rows: usize,
    /// The number of columns of each.
    pub columns: usize,
    /// The number of columns of unknowns; 0 where there are none.
    pub unknowns: usize,
    /// f32 or f64.
    pub dtype: DType,
}

/// What is computed of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatrixOp {
    /// See [`Op::Lu`].
    Lu,
    /// See [`Op::Cholesky`]; of small matrices.
    Cholesky,
    /// See [`Op::TriangularSolve`]; of small matrices.
    TriangularSolve(Triangular),
    /// See [`Op::Solve`].
    Solve {
        /// The equations have the transpose.
        transpose_a: bool,
    },
    /// See [`Op::Qr`].
    Qr {
        /// Q is square.
        full_matrices: bool,
    },
    /// See [`Op::Eigh`].
    Eigh,
    /// See [`Op::Svd`].
    Svd {
        /// U is square.
        full_matrices: bool,
    },
}

/// The memory that one matrix needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MatrixWork {
    /// How many elements.
    pub reals: usize,
    /// How many indices.
    pub picks: usize,
}

/// Matrices with at most so many rows and columns are small.
const SMALL: usize = 8;

/// Matrices with at most so many rows and columns are worked on together on a CPU.
const MOST_IN_LANES: usize = 16;

/// From how many small matrices on they are worked on together.
const FEW: usize = 8;

impl MatrixRoutine {
    /// The routine of `op` on operands of these types; `None` if it is another kind of op.
    pub(super) fn new(op: &Op, operands: &[&TensorType]) -> Option<MatrixRoutine> {
        let what = match *op {
            Op::Cholesky => MatrixOp::Cholesky,
            Op::TriangularSolve(how) => MatrixOp::TriangularSolve(how),
            Op::Lu => MatrixOp::Lu,
            Op::Solve { transpose_a } => MatrixOp::Solve { transpose_a },
            Op::Qr { full_matrices } => MatrixOp::Qr { full_matrices },
            Op::Eigh => MatrixOp::Eigh,
            Op::Svd { full_matrices } => MatrixOp::Svd { full_matrices },
            _ => return None,
        };
        let shape = &operands[0].shape;
        let last = shape.len() - 2;
        let unknowns = match what {
            MatrixOp::Solve { .. } => operands[1].shape[last + 1],
            MatrixOp::TriangularSolve(how) => operands[1].shape[last + usize::from(how.left_side)],
            _ => 0,
        };
        Some(MatrixRoutine {
            what,
            batch: product(shape[..last].iter().copied()),
            rows: shape[last],
            columns: shape[last + 1],
            unknowns,
            dtype: operands[0].dtype,
        })
    }

    /// The elements of each matrix of the operands, and of the results.
    pub fn extents(&self) -> (Vec<usize>, Vec<usize>) {
        let (m, n) = (self.rows, self.columns);
        let k = m.min(n);
        let full = |full_matrices: bool| if full_matrices { m } else { k };
        match self.what {
            MatrixOp::Cholesky => (vec![m * n], vec![m * n]),
            MatrixOp::Lu => (vec![m * n], vec![m * n, k, m]),
            MatrixOp::Solve { .. } | MatrixOp::TriangularSolve(_) => {
                (vec![m * n, m * self.unknowns], vec![m * self.unknowns])
            }
            MatrixOp::Qr { full_matrices } => (vec![m * n], vec![m * full(full_matrices), full(full_matrices) * n]),
            MatrixOp::Eigh => (vec![m * n], vec![n, n * n]),
            MatrixOp::Svd { full_matrices } => (vec![m * n], vec![m * full(full_matrices), k, k * n]),
        }
    }

    /// Which results are of i32.
    pub fn indices(&self) -> &'static [usize] {
        if self.what == MatrixOp::Lu { &[1, 2] } else { &[] }
    }

    /// The most elements of an array.
    pub fn elements(&self) -> usize {
        let (operands, results) = self.extents();
        let most = operands.into_iter().chain(results).max().unwrap_or(0);
        product([self.batch, most])
    }

    /// The memory that one matrix needs while it is worked on.
    pub fn work(&self) -> MatrixWork {
        let (m, n) = (self.rows, self.columns);
        let line = 2 * m.max(n) + 2;
        match self.what {
            MatrixOp::Cholesky => MatrixWork { reals: m * n + 1, picks: 0 },
            MatrixOp::TriangularSolve(_) => MatrixWork { reals: m * self.unknowns, picks: 0 },
            MatrixOp::Lu => MatrixWork { reals: m * n, picks: m },
            MatrixOp::Solve { .. } => MatrixWork { reals: m * (n + self.unknowns), picks: m },
            MatrixOp::Qr { full_matrices } => {
                let q = m * if full_matrices { m } else { m.min(n) };
                MatrixWork { reals: m * n + q + 2 * line, picks: 0 }
            }
            MatrixOp::Eigh => MatrixWork { reals: 3 * n * n + 3 * line, picks: 0 },
            MatrixOp::Svd { full_matrices } => {
                let u = m * if full_matrices { m } else { n };
                MatrixWork { reals: 2 * m * n + n * n + u + 3 * line, picks: 0 }
            }
        }
    }

    /// Whether a solution with such matrices is done in steps, not by one routine: where they are not small.
    pub(super) fn has_steps(matrices: &TensorType) -> bool {
        matrices.shape.last().is_some_and(|&order| order > SMALL)
    }

    /// Whether several matrices are worked on together, each in a lane of vectors or in a thread.
    pub fn is_small(&self) -> bool {
        self.rows.max(self.columns) <= SMALL && self.batch >= FEW
    }

    /// How many matrices a task on the CPU has: as many as vectors have lanes, where these stay in a cache.
    pub fn lanes(&self) -> usize {
        let is_batch = self.rows.max(self.columns) <= MOST_IN_LANES && self.batch >= FEW;
        if is_batch { 64 / self.dtype.size() } else { 1 }
    }

    /// The number of tasks.
    pub(super) fn tasks(&self) -> usize {
        self.batch.div_ceil(self.lanes())
    }

    /// Bytes of scratch memory of a task.
    pub(super) fn scratch_bytes(&self) -> usize {
        let MatrixWork { reals, picks } = self.work();
        product([reals.saturating_mul(self.dtype.size()).saturating_add(4 * picks), self.lanes()])
            .saturating_add(64)
            .next_multiple_of(64)
    }

    /// Roughly how many operations it takes.
    pub(super) fn operations(&self) -> usize {
        let (m, n) = (self.rows, self.columns);
        let k = m.min(n);
        let of_one = match self.what {
            MatrixOp::Cholesky | MatrixOp::Lu => product([m, n, k + 4]),
            MatrixOp::TriangularSolve(_) => product([m, self.unknowns, m + 4]),
            MatrixOp::Solve { .. } => product([m, m / 3 + self.unknowns, m + 4]),
            MatrixOp::Qr { .. } => product([4, m, n, k + 4]),
            MatrixOp::Eigh => product([40, n, n, n + 4]),
            MatrixOp::Svd { .. } => product([50, m, n, n + 4]),
        };
        product([of_one / self.lanes().min(4), self.batch])
    }
}

impl fmt::Display for MatrixRoutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MatrixRoutine { what, batch, rows, columns, unknowns, dtype } = self;
        let full = |full_matrices: &bool| if *full_matrices { " full" } else { "" };
        match what {
            MatrixOp::Cholesky => write!(f, "cholesky")?,
            MatrixOp::Lu => write!(f, "lu")?,
            MatrixOp::TriangularSolve(how) => {
                let pick = |condition: bool, names: [&'static str; 2]| names[usize::from(!condition)];
                let side = pick(how.left_side, ["left", "right"]);
                let triangle = pick(how.lower, ["lower", "upper"]);
                let transposed = pick(how.transpose_a, [" transposed", ""]);
                write!(f, "triangular_solve {side} {triangle}{transposed}{}", pick(how.unit_diagonal, [" unit", ""]))?;
            }
            MatrixOp::Solve { transpose_a } => {
                write!(f, "solve{}", if *transpose_a { " transposed" } else { "" })?;
            }
            MatrixOp::Qr { full_matrices } => write!(f, "qr{}", full(full_matrices))?,
            MatrixOp::Eigh => write!(f, "eigh")?,
            MatrixOp::Svd { full_matrices } => write!(f, "svd{}", full(full_matrices))?,
        }
        write!(f, " [{batch}, {rows}, {columns}] of {dtype}")?;
        if *unknowns > 0 { write!(f, " for {unknowns}") } else { Ok(()) }
    }
}

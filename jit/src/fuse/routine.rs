//! Routines: kernels that are library code, called by address.
//!
//! A routine works on whole row-major buffers and divides into tasks that do not depend on each other. What it computes
//! is said here; each back end has its own code.

use std::fmt;

use smallvec::SmallVec;

use super::buffer::BufferId;
use super::matrices::MatrixRoutine;
use crate::graph::{Op, Triangular};
use crate::types::{DType, TensorType, join, product};

/// A routine and its buffers.
#[derive(Clone, Debug)]
pub struct RoutineKernel {
    /// What is computed.
    pub routine: Routine,
    /// The buffers that are read, each in full.
    pub operands: SmallVec<[BufferId; 4]>,
    /// The buffers that are written, each in full.
    pub results: SmallVec<[BufferId; 4]>,
}

/// What a routine computes. It does not depend on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Routine {
    /// Sorts lines of several arrays by the first `keys` of them: see [`Op::Sort`](crate::graph::Op::Sort). An array is
    /// `outer` x `length` x `inner`; a task is a line along the middle axis.
    Sort {
        /// The product of the extents before the sorted axis.
        outer: usize,
        /// The extent of the sorted axis.
        length: usize,
        /// The product of the extents behind it.
        inner: usize,
        /// How many arrays are keys.
        keys: usize,
        /// The element types of the arrays.
        dtypes: SmallVec<[DType; 4]>,
    },
    /// See [`Op::Cholesky`](crate::graph::Op::Cholesky). A task is a matrix.
    Cholesky {
        /// The number of matrices.
        batch: usize,
        /// The number of rows and of columns of each.
        order: usize,
        /// f32 or f64.
        dtype: DType,
    },
    /// See [`Op::TriangularSolve`](crate::graph::Op::TriangularSolve). A task is up to [`SOLVE_COLUMNS`] columns of
    /// unknowns of one matrix.
    TriangularSolve {
        /// The equations.
        how: Triangular,
        /// The number of matrices.
        batch: usize,
        /// The number of rows and of columns of each.
        order: usize,
        /// The number of columns of unknowns for each matrix; they are rows if the matrix is on the right.
        columns: usize,
        /// f32 or f64.
        dtype: DType,
    },
    /// A decomposition of matrices, or solutions by one. A task is a matrix, or several small ones.
    Matrices(MatrixRoutine),
}

/// How many columns of unknowns are solved for together.
pub const SOLVE_COLUMNS: usize = 8;

/// The rows and columns of the scratch in which a matrix of `order` is factorised: whole tiles of 4 by 8, and rows
/// whose distance is no multiple of a cache's size.
pub fn cholesky_scratch(order: usize) -> [usize; 2] {
    [order.next_multiple_of(4), order.next_multiple_of(8) + 8]
}

impl Routine {
    /// The most elements of an array that it works on.
    pub fn elements(&self) -> usize {
        match self {
            Routine::Sort { outer, length, inner, .. } => product([*outer, *length, *inner]),
            Routine::Cholesky { batch, order, .. } => product([*batch, *order, *order]),
            Routine::TriangularSolve { batch, order, columns, .. } => product([*batch, *order, *order.max(columns)]),
            Routine::Matrices(routine) => routine.elements(),
        }
    }

    /// The routine that computes `op`, whose class is that of routines, from operands of these types.
    pub(super) fn new(op: &Op, operands: &[&TensorType]) -> Routine {
        let shape = &operands[0].shape;
        let count = |extents: &[usize]| product(extents.iter().copied());
        match op {
            Op::Sort { axis, keys } => Routine::Sort {
                outer: count(&shape[..*axis]),
                length: shape[*axis],
                inner: count(&shape[axis + 1..]),
                keys: *keys,
                dtypes: operands.iter().map(|ty| ty.dtype).collect(),
            },
            Op::Cholesky => {
                let (batch, order) = (count(&shape[..shape.len() - 2]), shape[shape.len() - 1]);
                Routine::Cholesky { batch, order, dtype: operands[0].dtype }
            }
            Op::TriangularSolve(how) => {
                let (batch, order) = (count(&shape[..shape.len() - 2]), shape[shape.len() - 1]);
                let columns = operands[1].shape[shape.len() - if how.left_side { 1 } else { 2 }];
                Routine::TriangularSolve { how: *how, batch, order, columns, dtype: operands[0].dtype }
            }
            op => match MatrixRoutine::new(op, operands) {
                Some(routine) => Routine::Matrices(routine),
                None => unreachable!("{} is no routine", op.name()),
            },
        }
    }

    /// The number of tasks. Any partition of them gives the same results.
    pub fn tasks(&self) -> usize {
        match self {
            Routine::Sort { outer, inner, .. } => outer * inner,
            Routine::Cholesky { batch, .. } => *batch,
            Routine::TriangularSolve { batch, columns, .. } => product([*batch, columns.div_ceil(SOLVE_COLUMNS)]),
            Routine::Matrices(routine) => routine.tasks(),
        }
    }

    /// Bytes of scratch memory of each concurrent call.
    pub fn scratch_bytes(&self) -> usize {
        match self {
            // An order-preserving key and an index per element; the keys of each array, if there are several.
            Routine::Sort { length, keys, .. } => length.saturating_mul(16 + 8 * keys).next_multiple_of(64),
            // The factor, transposed.
            Routine::Cholesky { order, dtype, .. } => {
                let [rows, columns] = cholesky_scratch(*order);
                product([rows, columns, dtype.size()]).next_multiple_of(64)
            }
            // The unknowns of a task.
            Routine::TriangularSolve { order, dtype, .. } => {
                product([*order, SOLVE_COLUMNS, dtype.size()]).next_multiple_of(64)
            }
            Routine::Matrices(routine) => routine.scratch_bytes(),
        }
    }

    /// Roughly how many operations it takes.
    pub fn operations(&self) -> usize {
        match self {
            Routine::Sort { outer, length, inner, dtypes, .. } => {
                let steps = 4 * (length.max(&2).ilog2() as usize + dtypes.len());
                product([*outer, *inner, *length, steps])
            }
            // Products, of which a vector has several, and what else is done to each element: measured.
            Routine::Cholesky { batch, order, dtype } => {
                product([*batch, *order, *order, order * dtype.size() / 96 + 4])
            }
            Routine::TriangularSolve { batch, order, columns, dtype, .. } => {
                product([*batch, *order, *columns, order * dtype.size() / 32 + 4])
            }
            Routine::Matrices(routine) => routine.operations(),
        }
    }
}

impl fmt::Display for RoutineKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pick = |condition: bool, names: [&'static str; 2]| names[usize::from(!condition)];
        match &self.routine {
            Routine::Sort { outer, length, inner, keys, dtypes } => {
                write!(f, "sort [{outer}, {length}, {inner}] of {} by {keys}", join(dtypes, ", "))
            }
            Routine::Cholesky { batch, order, dtype } => write!(f, "cholesky [{batch}, {order}, {order}] of {dtype}"),
            Routine::TriangularSolve { how, batch, order, columns, dtype } => {
                let side = pick(how.left_side, ["left", "right"]);
                let triangle = pick(how.lower, ["lower", "upper"]);
                let transposed = pick(how.transpose_a, [" transposed", ""]);
                let unit = pick(how.unit_diagonal, [" unit", ""]);
                write!(
                    f,
                    "triangular_solve {side} {triangle}{transposed}{unit} [{batch}, {order}, {order}] of {dtype}"
                )?;
                write!(f, " for {columns}")
            }
            Routine::Matrices(routine) => routine.fmt(f),
        }
    }
}

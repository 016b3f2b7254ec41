//! Loops: the loop nest of a kernel.
//!
//! Comes in: a [`LoopKernel`](crate::fuse::LoopKernel). Goes out: nested loops around straight-line blocks, with the
//! vectorised dimension, the sweeps over the reduced dimensions and the accumulators written out.
//!
//! A kernel without reductions vectorises its last dimension. In a kernel with reductions, an iteration of the outer
//! loops (a row) runs one or more sweeps over the reduced dimensions. Each sweep feeds the reductions whose operands
//! are available; loop-invariant values are computed between sweeps, once per row. Values that are expensive and used
//! in two sweeps are spilled to scratch memory. Where elements of a row are strided and the rows contiguous, vectors
//! hold elements of several rows. Where such rows have many elements, the loops are interchanged, so that memory is
//! read in its order, and loop-invariant values and accumulators are per-row arrays in scratch memory. Arrays that are
//! read with strided lanes are packed first (see `pack`).
//!
//! **Invariant:** a reduction adds in the order that [`fuse`](mod@crate::fuse) derives from its shape and axes: with
//! one accumulator per column, in ascending order; or with 16 accumulators, by the position of the element in the
//! innermost dimension modulo 16, combined as `p[i] + p[i + 8]`, `+ 4`, `+ 2`, `+ 1`. The loop order and the vector
//! width do not change it.

mod apart;
mod pack;
mod schedule;

use std::fmt;

use crate::fuse::{Affine, BufferId, Segment};
use crate::graph::ReduceOp;
use crate::lower::lane::storage;
use crate::lower::lane::{LaneId, LaneInst, LaneOp, LaneProgram, LaneType};
use crate::types::DType;

pub use crate::fuse::PARTIALS;
pub use apart::apart;
pub use schedule::{Kept, schedule, schedule_row};

/// The loop nest of a kernel. The induction variable of dimension `d` is `i{d}`.
#[derive(Clone, Debug)]
pub struct Loops {
    /// The buffers whose pointers are the arguments of the code, scratch memory aside.
    pub args: Vec<BufferId>,
    /// Bytes of scratch memory; its pointer is the argument after `args`, if there is any.
    pub scratch: usize,
    /// The accumulators of the reductions.
    pub accumulators: Vec<Accumulator>,
    /// The code.
    pub body: Vec<Stmt>,
    /// Bytes of the widest lane: 4 or 8.
    pub lane_bytes: usize,
    /// The parallel loop; the code then takes a range of its iterations as its last two arguments.
    pub parallel: Option<Parallel>,
}

/// A parallel loop. No two iterations write the same element, and none reads what another writes, so every partition
/// gives the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parallel {
    /// The dimension.
    pub dim: usize,
    /// The inner dimension of a [`Stmt::Collapsed`] and its extent.
    pub collapsed: Option<(usize, usize)>,
    /// The number of iterations, over both dimensions.
    pub extent: usize,
    /// Iterations of one chunk.
    pub grain: usize,
}

impl Parallel {
    /// The number of chunks.
    pub fn chunks(&self) -> usize {
        self.extent.div_ceil(self.grain)
    }
}

/// The accumulators of a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Accumulator {
    /// The op that combines them.
    pub op: ReduceOp,
    /// The element type; a bool accumulates as an integer.
    pub dtype: DType,
    /// [`PARTIALS`] accumulators by the position along this dimension, or (`None`) one per lane.
    pub interleaved: Option<usize>,
}

impl Accumulator {
    /// The lane type of an accumulator.
    pub fn lane_type(&self) -> LaneType {
        LaneType::of(storage::accumulator(self.dtype))
    }
}

/// A loop-invariant value, computed once per row; by number.
pub type RowId = u32;

/// A statement.
#[derive(Clone, Debug)]
pub enum Stmt {
    /// A loop over a dimension. A vector loop runs its body for several lanes at once, and for the remainder lane by
    /// lane.
    For {
        /// The dimension.
        dim: usize,
        /// Its extent.
        extent: usize,
        /// Whether it is the vectorised dimension.
        vector: bool,
        /// The body.
        body: Vec<Stmt>,
    },
    /// Two perfectly nested loops that run as one, in row-major order.
    Collapsed {
        /// The outer dimension and its extent.
        outer: (usize, usize),
        /// The inner one.
        inner: (usize, usize),
        /// The body.
        body: Vec<Stmt>,
    },
    /// Straight-line code.
    Block(Block),
    /// Sets the accumulators of a reduction to its identity.
    Init(usize),
    /// Combines the accumulators into a loop-invariant value.
    Combine {
        /// The accumulators.
        accumulator: usize,
        /// The result.
        row: RowId,
    },
    /// Packs an array into scratch memory, transposed.
    Transpose(Transpose),
}

/// A copy of an array that is contiguous along `rows` to one that is contiguous along `lanes`.
#[derive(Clone, Debug)]
pub struct Transpose {
    /// A dimension and its extent.
    pub rows: (usize, usize),
    /// The other.
    pub lanes: (usize, usize),
    /// The copy of one element: a load and a store of 32 bits.
    pub block: Block,
}

impl Transpose {
    /// The same as a loop nest around single elements.
    pub fn loops(&self) -> Stmt {
        let around = |(dim, extent): (usize, usize), body| Stmt::For { dim, extent, vector: false, body: vec![body] };
        around(self.lanes, around(self.rows, Stmt::Block(self.block.clone())))
    }
}

/// Straight-line code over lanes.
#[derive(Clone, Debug)]
pub struct Block {
    /// The instructions.
    pub program: LaneProgram,
    /// The sources of its inputs.
    pub inputs: Vec<Input>,
    /// The uses of its values outside the block, in order.
    pub effects: Vec<Effect>,
}

/// The source of an input of a block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// An element of an argument.
    Load {
        /// The argument.
        arg: usize,
        /// The element.
        index: Affine,
        /// Its type.
        dtype: DType,
    },
    /// The place in an argument that a [`LaneOp::Gather`] counts from.
    Table {
        /// The argument.
        arg: usize,
        /// The element.
        index: Affine,
        /// Its type.
        dtype: DType,
    },
    /// An index as an i32.
    Iota(Affine),
    /// A loop-invariant value.
    Row(RowId, LaneType),
}

/// A use of a value outside its block.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A store to an argument.
    Store {
        /// The argument.
        arg: usize,
        /// The element.
        index: Affine,
        /// The element's type.
        dtype: DType,
        /// The value.
        value: LaneId,
        /// So many elements (an i32) after `index`.
        offset: Option<LaneId>,
    },
    /// A step of a reduction.
    Accumulate {
        /// The accumulators.
        accumulator: usize,
        /// The value.
        value: LaneId,
    },
    /// The definition of a loop-invariant value.
    Row {
        /// The value defined.
        row: RowId,
        /// The value.
        value: LaneId,
    },
}

impl Loops {
    /// Reserves bytes of scratch memory and returns their offset.
    fn reserve(&mut self, bytes: usize) -> usize {
        let start = self.scratch;
        self.scratch = (start + bytes).next_multiple_of(64);
        start
    }

    /// Whether the loop over `dim` is the parallel loop, or one of two that are collapsed into it.
    pub fn is_parallel(&self, dim: usize) -> bool {
        self.parallel.is_some_and(|p| p.dim == dim || p.collapsed.is_some_and(|(inner, _)| inner == dim))
    }

    /// The number of chunks of the parallel loop, if there is one.
    pub fn chunks(&self) -> usize {
        self.parallel.map_or(1, |parallel| parallel.chunks())
    }

    /// The number of chunks of a segment.
    pub fn segment_chunks(&self, segment: &Segment) -> usize {
        match (self.parallel, segment.extent) {
            (Some(parallel), Some(extent)) => Parallel { extent, ..parallel }.chunks(),
            (_, None) | (None, _) => self.chunks(),
        }
    }

    /// An estimate of the vector instructions of a run. A vector has [`PARTIALS`] lanes of 32 bits or half as many of
    /// 64.
    pub fn instructions(&self) -> usize {
        fn count(stmts: &[Stmt], vector: Option<usize>, lanes: usize) -> usize {
            stmts
                .iter()
                .map(|stmt| match stmt {
                    Stmt::For { extent, vector: false, body, .. } => {
                        extent.saturating_mul(1 + count(body, vector, lanes))
                    }
                    Stmt::For { dim, extent, vector: true, body } => {
                        extent.div_ceil(lanes).saturating_mul(1 + count(body, Some(*dim), lanes))
                    }
                    Stmt::Collapsed { outer, inner, body } => {
                        let inside = inner.1.saturating_mul(1 + count(body, vector, lanes));
                        outer.1.saturating_mul(1 + inside)
                    }
                    Stmt::Block(block) => {
                        let roots = block.roots();
                        let live = block.program.live(&roots).iter().filter(|live| **live).count();
                        let strided = block.inputs.iter().filter(|input| input.is_strided(vector)).count();
                        let is_gather = |inst: &LaneInst| matches!(inst.op, LaneOp::Gather(..));
                        let gathers = block.program.insts.iter().filter(|inst| is_gather(inst)).count();
                        live + block.effects.len() + PARTIALS * (strided + gathers)
                    }
                    Stmt::Init(_) => 1,
                    Stmt::Combine { .. } => 10,
                    // A load, a store and four shuffles for each vector.
                    Stmt::Transpose(t) => 6 * PARTIALS * t.rows.1.div_ceil(PARTIALS) * t.lanes.1.div_ceil(PARTIALS),
                })
                .sum()
        }
        count(&self.body, None, if self.lane_bytes == 8 { PARTIALS / 2 } else { PARTIALS })
    }
}

impl Effect {
    /// The value that is used.
    pub fn value(&self) -> LaneId {
        match self {
            Effect::Store { value, .. } | Effect::Accumulate { value, .. } | Effect::Row { value, .. } => *value,
        }
    }

    /// The offset of a store.
    pub fn offset(&self) -> Option<LaneId> {
        match self {
            Effect::Store { offset, .. } => *offset,
            Effect::Accumulate { .. } | Effect::Row { .. } => None,
        }
    }
}

impl Block {
    /// The values that are used: those of the effects in order, then the offsets of stores.
    pub fn roots(&self) -> Vec<LaneId> {
        self.effects.iter().map(Effect::value).chain(self.effects.iter().filter_map(Effect::offset)).collect()
    }
}

impl Input {
    /// Whether the lanes along `vector` are strided.
    fn is_strided(&self, vector: Option<usize>) -> bool {
        match self {
            Input::Load { index, .. } => vector.is_some_and(|dim| !matches!(index.strides[dim], 0 | 1)),
            Input::Table { .. } | Input::Iota(_) | Input::Row(..) => false,
        }
    }
}

impl fmt::Display for Loops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn show(stmts: &[Stmt], depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let pad = "  ".repeat(depth);
            for stmt in stmts {
                match stmt {
                    Stmt::For { dim, extent, vector, body } => {
                        writeln!(f, "{pad}for i{dim} in 0..{extent}{} {{", if *vector { " vector" } else { "" })?;
                        show(body, depth + 1, f)?;
                        writeln!(f, "{pad}}}")?;
                    }
                    Stmt::Collapsed { outer, inner, body } => {
                        writeln!(f, "{pad}for i{}, i{} in 0..{}, 0..{} {{", outer.0, inner.0, outer.1, inner.1)?;
                        show(body, depth + 1, f)?;
                        writeln!(f, "{pad}}}")?;
                    }
                    Stmt::Block(block) => show_block(block, &pad, f)?,
                    Stmt::Init(a) => writeln!(f, "{pad}init a{a}")?,
                    Stmt::Combine { accumulator, row } => writeln!(f, "{pad}r{row} = combine a{accumulator}")?,
                    Stmt::Transpose(Transpose { rows, lanes, block }) => {
                        writeln!(f, "{pad}transpose i{} in 0..{}, i{} in 0..{} {{", rows.0, rows.1, lanes.0, lanes.1)?;
                        show_block(block, &"  ".repeat(depth + 1), f)?;
                        writeln!(f, "{pad}}}")?;
                    }
                }
            }
            Ok(())
        }
        if let Some(parallel) = self.parallel {
            let collapsed = parallel.collapsed.map_or(String::new(), |(dim, _)| format!(", i{dim}"));
            writeln!(f, "parallel i{}{collapsed}: {} chunks", parallel.dim, parallel.chunks())?;
        }
        show(&self.body, 0, f)
    }
}

fn show_block(block: &Block, pad: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let roots = block.roots();
    let live = block.program.live(&roots);
    for (i, inst) in block.program.insts.iter().enumerate().filter(|(i, _)| live[*i]) {
        let what = match inst.op {
            LaneOp::Const(bits) => match inst.ty {
                LaneType::F32 => format!("{:?}", f32::from_bits(bits as u32)),
                LaneType::F64 => format!("{:?}", f64::from_bits(bits)),
                LaneType::I32 | LaneType::I64 | LaneType::Bool => format!("{bits:#x}"),
            },
            LaneOp::Input(n) => match &block.inputs[n as usize] {
                Input::Load { arg, index, dtype } => format!("load {dtype} arg{arg}[{index}]"),
                Input::Table { arg, .. } => format!("table arg{arg}"),
                Input::Iota(index) => format!("iota {index}"),
                Input::Row(row, _) => format!("r{row}"),
            },
            LaneOp::Unary(op, x) => format!("{op:?} v{}", x.0),
            LaneOp::Binary(op, x, y) => format!("{op:?} v{} v{}", x.0, y.0),
            LaneOp::Fma(x, y, z) => format!("Fma v{} v{} v{}", x.0, y.0, z.0),
            LaneOp::Compare(op, x, y) => format!("{op:?} v{} v{}", x.0, y.0),
            LaneOp::Select(c, x, y) => format!("Select v{} v{} v{}", c.0, x.0, y.0),
            LaneOp::Convert(op, x) => format!("{op:?} v{}", x.0),
            LaneOp::Gather(n, x) => match &block.inputs[n as usize] {
                Input::Load { arg, index, dtype } | Input::Table { arg, index, dtype } => {
                    format!("load {dtype} arg{arg}[{index} + v{}]", x.0)
                }
                Input::Iota(_) | Input::Row(..) => unreachable!("a gather reads a table"),
            },
            LaneOp::Rare(function, [c, x, y, z]) => {
                format!("{function:?} v{} v{} where v{} else v{}", x.0, y.0, c.0, z.0)
            }
        };
        writeln!(f, "{pad}v{i}: {:?} = {what}", inst.ty)?;
    }
    for effect in &block.effects {
        match effect {
            Effect::Store { arg, index, value, offset, .. } => {
                let offset = offset.map_or(String::new(), |offset| format!(" + v{}", offset.0));
                writeln!(f, "{pad}store v{} -> arg{arg}[{index}{offset}]", value.0)?;
            }
            Effect::Accumulate { accumulator, value } => writeln!(f, "{pad}a{accumulator} <- v{}", value.0)?,
            Effect::Row { row, value } => writeln!(f, "{pad}r{row} = v{}", value.0)?,
        }
    }
    Ok(())
}

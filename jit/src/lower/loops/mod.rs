//! Loops: how a kernel runs.
//!
//! Comes in: a [`LoopKernel`](crate::fuse::LoopKernel). Goes out: nested loops around straight-line blocks, with the
//! vectorised dimension, the passes over each row and the partial results of reductions written out.
//!
//! A kernel without reductions runs its last dimension as vectors. A kernel with reductions runs row by row: each pass
//! over a row's elements feeds the reductions that can be fed by then; what does not depend on the reduced dimensions
//! is computed between the passes, once per row. Values that are dear and needed in two passes wait in scratch memory.
//! Where the elements of a row do not lie side by side but the rows do, whole vectors of rows are reduced at once; where
//! there are many elements, all rows together go from one element to the next, so that memory is walked through in its
//! order, and what is known of each row so far waits in scratch memory. What is read across its rows is transposed first.
//!
//! **Invariant:** a reduction adds in the order that [`fuse`](mod@crate::fuse) has decided by its shape and axes alone: as
//! columns, one partial result each, ascending; or in 16 partial results by the position of the element in the innermost
//! dimension modulo 16, combined as `p[i] + p[i + 8]`, `+ 4`, `+ 2`, `+ 1`. How rows are walked through and how wide the
//! vectors are may be chosen freely.

mod pack;
mod schedule;

use std::fmt;

use crate::fuse::{Affine, BufferId};
use crate::graph::ReduceOp;
use crate::lower::lane::{LaneId, LaneOp, LaneProgram, LaneType};
use crate::types::DType;

pub use crate::fuse::PARTIALS;
pub use schedule::schedule;

/// A kernel's code, before it is machine code. The counter of dimension `d` is variable `d`.
#[derive(Clone, Debug)]
pub struct Loops {
    /// The memory that the code is given pointers to: the kernel's buffers, then scratch if there is any.
    pub args: Vec<BufferId>,
    /// Bytes of scratch memory; its pointer is the argument after `args`.
    pub scratch: usize,
    /// The reductions' partial results.
    pub accumulators: Vec<Accumulator>,
    /// The code.
    pub body: Vec<Stmt>,
    /// Are there lanes of 64 bits?
    pub wide: bool,
    /// The loop that may run in parts, at once; the code is then given the part as its last two arguments.
    pub parallel: Option<Parallel>,
}

/// The loop along which a kernel divides between threads. No two iterations write to the same place, and none reads
/// what another writes, so any division gives the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parallel {
    /// The dimension.
    pub dim: usize,
    /// Where the loop is [`Stmt::Collapsed`]: its inner dimension and that one's extent.
    pub within: Option<(usize, usize)>,
    /// How often it runs in all.
    pub extent: usize,
    /// Parts begin at multiples of this (and end there, or at the extent).
    pub grain: usize,
}

impl Parallel {
    /// How many parts there can be.
    pub fn units(&self) -> usize {
        self.extent.div_ceil(self.grain)
    }
}

/// The partial results of a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Accumulator {
    /// How they combine.
    pub op: ReduceOp,
    /// What they are; truth values are kept as integers.
    pub dtype: DType,
    /// [`PARTIALS`] by the position along this dimension, or (`None`) one for each lane.
    pub interleaved: Option<usize>,
}

impl Accumulator {
    /// The type of a partial result in a register.
    pub fn lane_type(&self) -> LaneType {
        if self.dtype == DType::Bool { LaneType::I32 } else { LaneType::of(self.dtype) }
    }
}

/// A value that is computed once per row, by number.
pub type Row = u32;

/// A piece of code.
#[derive(Clone, Debug)]
pub enum Stmt {
    /// A loop over a dimension. When `vector`, the body is for several lanes along it at once, and a remainder is run
    /// lane by lane.
    For {
        /// The dimension.
        dim: usize,
        /// How often.
        extent: usize,
        /// Is it the vectorised dimension?
        vector: bool,
        /// What is repeated.
        body: Vec<Stmt>,
    },
    /// Two loops that run as one, row-major, and divide as one. Nothing stands between them.
    Collapsed {
        /// The outer dimension and its extent.
        outer: (usize, usize),
        /// The inner one.
        inner: (usize, usize),
        /// What is repeated.
        body: Vec<Stmt>,
    },
    /// Straight-line code.
    Block(Block),
    /// Sets the partial results of a reduction to its identity.
    Init(usize),
    /// Combines the partial results into a row's value.
    Combine {
        /// Which.
        accumulator: usize,
        /// Into what.
        row: Row,
    },
    /// Copies an array to scratch memory, transposed.
    Transpose(Transpose),
}

/// A copy to where what lay side by side along `rows` lies side by side along `lanes`.
#[derive(Clone, Debug)]
pub struct Transpose {
    /// A dimension and its extent.
    pub rows: (usize, usize),
    /// The other.
    pub lanes: (usize, usize),
    /// What is done for each row and lane: one load, one store of 32 bits.
    pub block: Block,
}

impl Transpose {
    /// The same as loops around single elements.
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
    /// What its inputs are.
    pub inputs: Vec<Input>,
    /// What becomes of its values, in order.
    pub effects: Vec<Effect>,
}

/// What an input of a block is.
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
    /// An index, as i32.
    Iota(Affine),
    /// A row's value.
    Row(Row, LaneType),
}

/// What becomes of a value of a block.
#[derive(Clone, Debug)]
pub enum Effect {
    /// It is stored to an argument.
    Store {
        /// The argument.
        arg: usize,
        /// The element.
        index: Affine,
        /// The element's type.
        dtype: DType,
        /// The value.
        value: LaneId,
    },
    /// It goes into a reduction.
    Accumulate {
        /// Which.
        accumulator: usize,
        /// The value.
        value: LaneId,
    },
    /// It is a row's value.
    Row {
        /// Which.
        row: Row,
        /// The value.
        value: LaneId,
    },
}

impl Loops {
    /// Takes so many bytes of scratch memory; gives where they begin.
    fn reserve(&mut self, bytes: usize) -> usize {
        let start = self.scratch;
        self.scratch = (start + bytes).next_multiple_of(64);
        start
    }

    /// Does the loop over `dim` divide between threads, alone or as one of two that are collapsed?
    pub fn is_divided(&self, dim: usize) -> bool {
        self.parallel.is_some_and(|p| p.dim == dim || p.within.is_some_and(|(within, _)| within == dim))
    }

    /// Roughly how many lane instructions a run takes, each for up to [`PARTIALS`] lanes of 32 bits or half
    /// as many of 64.
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
                        let roots: Vec<LaneId> = block.effects.iter().map(Effect::value).collect();
                        let live = block.program.live(&roots).iter().filter(|live| **live).count();
                        let scattered = block.inputs.iter().filter(|input| input.is_gathered(vector)).count();
                        live + block.effects.len() + PARTIALS * scattered
                    }
                    Stmt::Init(_) => 1,
                    Stmt::Combine { .. } => 10,
                    // A load, a store and four shuffles for each vector.
                    Stmt::Transpose(t) => 6 * PARTIALS * t.rows.1.div_ceil(PARTIALS) * t.lanes.1.div_ceil(PARTIALS),
                })
                .sum()
        }
        count(&self.body, None, if self.wide { PARTIALS / 2 } else { PARTIALS })
    }
}

impl Effect {
    /// The value that something becomes of.
    pub fn value(&self) -> LaneId {
        match self {
            Effect::Store { value, .. } | Effect::Accumulate { value, .. } | Effect::Row { value, .. } => *value,
        }
    }
}

impl Input {
    /// Do the lanes along `vector` lie apart?
    fn is_gathered(&self, vector: Option<usize>) -> bool {
        match self {
            Input::Load { index, .. } => vector.is_some_and(|dim| !matches!(index.strides[dim], 0 | 1)),
            Input::Iota(_) | Input::Row(..) => false,
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
            let within = parallel.within.map_or(String::new(), |(dim, _)| format!(", i{dim}"));
            writeln!(f, "parallel i{}{within}: {} parts", parallel.dim, parallel.units())?;
        }
        show(&self.body, 0, f)
    }
}

fn show_block(block: &Block, pad: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let roots: Vec<LaneId> = block.effects.iter().map(Effect::value).collect();
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
                Input::Iota(index) => format!("counter {index}"),
                Input::Row(row, _) => format!("r{row}"),
            },
            LaneOp::Unary(op, x) => format!("{op:?} v{}", x.0),
            LaneOp::Binary(op, x, y) => format!("{op:?} v{} v{}", x.0, y.0),
            LaneOp::Fma(x, y, z) => format!("Fma v{} v{} v{}", x.0, y.0, z.0),
            LaneOp::Compare(op, x, y) => format!("{op:?} v{} v{}", x.0, y.0),
            LaneOp::Select(c, x, y) => format!("Select v{} v{} v{}", c.0, x.0, y.0),
            LaneOp::Convert(op, x) => format!("{op:?} v{}", x.0),
            LaneOp::Rare(function, [c, x, y, z]) => {
                format!("{function:?} v{} v{} where v{} else v{}", x.0, y.0, c.0, z.0)
            }
        };
        writeln!(f, "{pad}v{i}: {:?} = {what}", inst.ty)?;
    }
    for effect in &block.effects {
        match effect {
            Effect::Store { arg, index, value, .. } => writeln!(f, "{pad}store v{} -> arg{arg}[{index}]", value.0)?,
            Effect::Accumulate { accumulator, value } => writeln!(f, "{pad}a{accumulator} <- v{}", value.0)?,
            Effect::Row { row, value } => writeln!(f, "{pad}r{row} = v{}", value.0)?,
        }
    }
    Ok(())
}

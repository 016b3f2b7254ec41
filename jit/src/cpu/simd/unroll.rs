//! Loop unrolling: a block as straight-line code for one or several vectors. The instructions of the vectors are
//! interleaved, which gives instruction-level parallelism: the dependence chain of one vector is longer than the
//! reorder window of the processor.
//!
//! Comes in: a block and the unroll indices. Goes out: a lane program with its inputs and sinks. Registers are not
//! assigned here.

use std::ops::Range;

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::lower::lane::{LaneId, LaneOp, LaneProgram, from_op};
use crate::lower::loops::{Block, Effect, Input, Loops};

/// Straight-line code of a block.
pub(super) struct StraightLine {
    pub(super) program: LaneProgram,
    /// The sources of the program's inputs.
    pub(super) inputs: Vec<InputSource>,
    /// The effects on its values, in order.
    pub(super) sinks: Vec<Sink>,
}

/// The source of an input.
#[derive(Clone, Copy)]
pub(super) enum InputSource {
    /// An input of the block and an unroll index.
    Input(usize, usize),
    /// An accumulator of a reduction.
    Accumulator(usize),
}

/// An effect on a value.
pub(super) struct Sink {
    /// The index of the block's effect.
    pub(super) effect: usize,
    /// The unroll index; for a reduction, that of the last vector.
    pub(super) unroll_index: usize,
    pub(super) value: LaneId,
}

impl StraightLine {
    /// The code of the vectors `unroll_indices` along dimension `vector`. Reductions are part of the program, whose
    /// inputs and sinks include the accumulators. `accumulator_of` maps a reduction and an unroll index to an
    /// accumulator.
    pub(super) fn of(
        block: &Block,
        loops: &Loops,
        vector: Option<usize>,
        unroll_indices: Range<usize>,
        accumulator_of: impl Fn(usize, usize) -> usize,
    ) -> StraightLine {
        let mut program = LaneProgram::new();
        let mut inputs = Vec::new();
        let mut known: HashMap<(usize, usize), u32> = HashMap::new();
        let roots: Vec<LaneId> = block.effects.iter().map(Effect::value).collect();
        let live = block.program.live(&roots);
        // The value of each instruction in each vector. Values that do not vary between vectors are found by value
        // numbering.
        let mut values: Vec<SmallVec<[LaneId; 2]>> = vec![SmallVec::new(); live.len()];
        for (i, inst) in block.program.insts.iter().enumerate().filter(|(i, _)| live[*i]) {
            for (k, unroll_index) in unroll_indices.clone().enumerate() {
                let mut number = |n: u32| {
                    let n = n as usize;
                    let unroll_index = if varies(&block.inputs[n], vector) { unroll_index } else { 0 };
                    *known.entry((n, unroll_index)).or_insert_with(|| {
                        inputs.push(InputSource::Input(n, unroll_index));
                        inputs.len() as u32 - 1
                    })
                };
                let op = match inst.op {
                    LaneOp::Input(n) => LaneOp::Input(number(n)),
                    LaneOp::Gather(n, x) => LaneOp::Gather(number(n), values[x.index()][k]),
                    op => op.map(|x| values[x.index()][k]),
                };
                values[i].push(program.push(op, inst.ty));
            }
        }
        let mut sinks: Vec<Sink> = Vec::new();
        for (effect, (what, root)) in block.effects.iter().zip(&roots).enumerate() {
            let each = unroll_indices.clone().zip(values[root.index()].clone());
            match what {
                Effect::Store { .. } => {
                    sinks.extend(each.map(|(unroll_index, value)| Sink { effect, unroll_index, value }))
                }
                Effect::Row { .. } => {
                    sinks.extend(each.take(1).map(|(unroll_index, value)| Sink { effect, unroll_index, value }))
                }
                Effect::Accumulate { accumulator, .. } => {
                    let a = loops.accumulators[*accumulator];
                    let mut sums: SmallVec<[(usize, Sink); 2]> = SmallVec::new();
                    for (unroll_index, value) in each {
                        let index = accumulator_of(*accumulator, unroll_index);
                        let k = sums.iter().position(|(known, _)| *known == index).unwrap_or_else(|| {
                            inputs.push(InputSource::Accumulator(index));
                            let value = program.input(inputs.len() as u32 - 1, a.lane_type());
                            sums.push((index, Sink { effect, unroll_index, value }));
                            sums.len() - 1
                        });
                        let value = from_op::accumulate(&mut program, a.op, a.dtype, sums[k].1.value, value);
                        sums[k].1 = Sink { effect, unroll_index, value };
                    }
                    sinks.extend(sums.into_iter().map(|(_, sink)| sink));
                }
            }
        }
        StraightLine { program, inputs, sinks }
    }

    /// For each value of code with gathers whether it is equal in all lanes. `rows`: loop-invariant values are.
    pub(super) fn uniform(&self, block: &Block, vector: Option<usize>, rows: bool) -> Vec<bool> {
        if !self.program.insts.iter().any(|inst| matches!(inst.op, LaneOp::Gather(..))) {
            return vec![];
        }
        self.program.uniform(|n| match self.inputs[n as usize] {
            InputSource::Accumulator(_) => false,
            InputSource::Input(n, _) => match &block.inputs[n] {
                Input::Row(..) => rows,
                input => !varies(input, vector),
            },
        })
    }
}

/// Whether an input varies between unrolled vectors.
fn varies(input: &Input, vector: Option<usize>) -> bool {
    match input {
        Input::Load { index, .. } | Input::Table { index, .. } | Input::Iota(index) => {
            vector.is_some_and(|dim| index.strides[dim] != 0)
        }
        Input::Row(..) => false,
    }
}

//! A block as the straight-line code that is emitted for it: one vector of it, or several side by side, an instruction of
//! the one next to the same instruction of the others. Long chains of dependent instructions leave a processor idle, and
//! it does not look far enough ahead to find the next vector by itself.

use std::ops::Range;

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::lower::lane::{LaneId, LaneOp, LaneProgram, from_op};
use crate::lower::loops::{Block, Effect, Input, Loops};

/// Straight-line code.
pub(super) struct Straight {
    pub(super) program: LaneProgram,
    /// What the program's inputs are.
    pub(super) inputs: Vec<InputSource>,
    /// What becomes of its values, in order.
    pub(super) ends: Vec<Sink>,
}

/// Where an input comes from.
#[derive(Clone, Copy)]
pub(super) enum InputSource {
    /// The block's input of that number, for the vector of that number.
    Input(usize, usize),
    /// A register of a reduction's partial results.
    Accumulator(usize),
}

/// What becomes of a value.
pub(super) struct Sink {
    /// The block's effect, by number.
    pub(super) effect: usize,
    /// Which vector's, the last one's of those that were added up.
    pub(super) copy: usize,
    pub(super) value: LaneId,
}

impl Straight {
    /// The code of the vectors numbered `copies` along dimension `vector`. Reductions become part of the program:
    /// partial results in, partial results out, one vector after the other. `part` says which register of partial
    /// results of a reduction is that of a vector.
    pub(super) fn of(
        block: &Block,
        loops: &Loops,
        vector: Option<usize>,
        copies: Range<usize>,
        part: impl Fn(usize, usize) -> usize,
    ) -> Straight {
        let mut program = LaneProgram::new();
        let mut inputs = Vec::new();
        let mut known: HashMap<(usize, usize), u32> = HashMap::new();
        let roots: Vec<LaneId> = block.effects.iter().map(Effect::value).collect();
        let live = block.program.live(&roots);
        // Each instruction's value in each vector. What does not vary from one to the other is found to be there already.
        let mut values: Vec<SmallVec<[LaneId; 2]>> = vec![SmallVec::new(); live.len()];
        for (i, inst) in block.program.insts.iter().enumerate().filter(|(i, _)| live[*i]) {
            for (k, copy) in copies.clone().enumerate() {
                let mut number = |n: u32| {
                    let n = n as usize;
                    let copy = if varies(&block.inputs[n], vector) { copy } else { 0 };
                    *known.entry((n, copy)).or_insert_with(|| {
                        inputs.push(InputSource::Input(n, copy));
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
        let mut ends: Vec<Sink> = Vec::new();
        for (effect, (what, root)) in block.effects.iter().zip(&roots).enumerate() {
            let each = copies.clone().zip(values[root.index()].clone());
            match what {
                Effect::Store { .. } => ends.extend(each.map(|(copy, value)| Sink { effect, copy, value })),
                Effect::Row { .. } => ends.extend(each.take(1).map(|(copy, value)| Sink { effect, copy, value })),
                Effect::Accumulate { accumulator, .. } => {
                    let a = loops.accumulators[*accumulator];
                    let mut sums: SmallVec<[(usize, Sink); 2]> = SmallVec::new();
                    for (copy, value) in each {
                        let part = part(*accumulator, copy);
                        let k = sums.iter().position(|(known, _)| *known == part).unwrap_or_else(|| {
                            inputs.push(InputSource::Accumulator(part));
                            let value = program.input(inputs.len() as u32 - 1, a.lane_type());
                            sums.push((part, Sink { effect, copy, value }));
                            sums.len() - 1
                        });
                        let value = from_op::accumulate(&mut program, a.op, a.dtype, sums[k].1.value, value);
                        sums[k].1 = Sink { effect, copy, value };
                    }
                    ends.extend(sums.into_iter().map(|(_, end)| end));
                }
            }
        }
        Straight { program, inputs, ends }
    }
}

impl Straight {
    /// For each value, of code that gathers, whether all lanes have one value. `rows` tells whether those computed once
    /// per row have.
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

/// Does an input differ from vector to vector?
fn varies(input: &Input, vector: Option<usize>) -> bool {
    match input {
        Input::Load { index, .. } | Input::Table { index, .. } | Input::Iota(index) => {
            vector.is_some_and(|dim| index.strides[dim] != 0)
        }
        Input::Row(..) => false,
    }
}

//! A block as the straight-line code that is emitted for it: one vector of it, or two side by side, an instruction of
//! the one next to the same instruction of the other. Long chains of dependent instructions leave a processor idle, and
//! it does not look far enough ahead to find the next vector by itself.

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::lane::{LaneId, LaneOp, LaneProgram, lower};
use crate::loops::{Block, Effect, Input, Loops};

/// Straight-line code.
pub(super) struct Straight {
    pub(super) program: LaneProgram,
    /// What the program's inputs are.
    pub(super) inputs: Vec<Whence>,
    /// What becomes of its values, in order.
    pub(super) ends: Vec<End>,
}

/// Where an input comes from.
#[derive(Clone, Copy)]
pub(super) enum Whence {
    /// The block's input of that number, for the vector of that number.
    Input(usize, usize),
    /// The partial results of a reduction.
    Accumulator(usize),
}

/// What becomes of a value.
pub(super) struct End {
    /// The block's effect, by number.
    pub(super) effect: usize,
    /// Which vector's.
    pub(super) copy: usize,
    pub(super) value: LaneId,
}

impl Straight {
    /// The code of `copies` vectors along dimension `vector`. Reductions become part of the program: partial results
    /// in, partial results out, one vector after the other.
    pub(super) fn of(block: &Block, loops: &Loops, vector: Option<usize>, copies: usize) -> Straight {
        let mut program = LaneProgram::new();
        let mut inputs = Vec::new();
        let mut known: HashMap<(usize, usize), u32> = HashMap::new();
        let roots: Vec<LaneId> = block.effects.iter().map(Effect::value).collect();
        let live = block.program.live(&roots);
        // Each instruction's value in each vector. What does not vary from one to the other is found to be there already.
        let mut values: Vec<SmallVec<[LaneId; 2]>> = vec![SmallVec::new(); live.len()];
        for (i, inst) in block.program.insts.iter().enumerate().filter(|(i, _)| live[*i]) {
            for copy in 0..copies {
                let op = match inst.op {
                    LaneOp::Input(n) => {
                        let n = n as usize;
                        let copy = if varies(&block.inputs[n], vector) { copy } else { 0 };
                        LaneOp::Input(*known.entry((n, copy)).or_insert_with(|| {
                            inputs.push(Whence::Input(n, copy));
                            inputs.len() as u32 - 1
                        }))
                    }
                    op => op.map(|x| values[x.index()][copy]),
                };
                values[i].push(program.push(op, inst.ty));
            }
        }
        let mut ends: Vec<End> = Vec::new();
        for (effect, (what, root)) in block.effects.iter().zip(&roots).enumerate() {
            let each = values[root.index()].clone();
            match what {
                Effect::Store { .. } => {
                    ends.extend(each.iter().enumerate().map(|(copy, &value)| End { effect, copy, value }));
                }
                Effect::Row { .. } => ends.push(End { effect, copy: 0, value: each[0] }),
                Effect::Accumulate { accumulator, .. } => {
                    let a = loops.accumulators[*accumulator];
                    inputs.push(Whence::Accumulator(*accumulator));
                    let mut sum = program.input(inputs.len() as u32 - 1, a.lane_type());
                    for value in each {
                        sum = lower::accumulate(&mut program, a.op, a.dtype, sum, value);
                    }
                    ends.push(End { effect, copy: 0, value: sum });
                }
            }
        }
        Straight { program, inputs, ends }
    }
}

/// Does an input differ from vector to vector?
fn varies(input: &Input, vector: Option<usize>) -> bool {
    match input {
        Input::Load { index, .. } | Input::Counter(index) => vector.is_some_and(|dim| index.strides[dim] != 0),
        Input::Row(..) => false,
    }
}

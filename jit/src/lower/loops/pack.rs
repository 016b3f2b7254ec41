//! Staging: what vectors would have to gather, element by element, is first transposed into scratch memory.
//!
//! Where a kernel reads an array across its rows, the lanes of a vector lie far apart, but the same lane of the next
//! vectors lies right beside it. So the array, or the part of it that an iteration of the loops around reads, is
//! transposed in blocks of whole vectors before it is read, once for all passes.

use smallvec::SmallVec;

use super::{Block, Effect, Input, Loops, Stmt, Transpose};
use crate::fuse::Affine;
use crate::lower::lane::{LaneProgram, LaneType};
use crate::types::DType;

/// The most bytes of a staged array: what fits into a first-level cache.
const MOST_BYTES: usize = 32 << 10;

/// The least rows and lanes that are worth it.
const LEAST_ROWS: usize = 4;
const LEAST_LANES: usize = 8;

/// The farthest that lanes may lie apart, so that all steps between them are of less than 2^31 bytes.
const FARTHEST: isize = 1 << 18;

/// Rows of a staged array begin at multiples of this, the lanes of the widest vectors.
const PITCH: usize = 16;

/// A loop: its dimension and extent.
type Loop = (usize, usize);

/// Stages what is worth it.
pub(super) fn pack(loops: &mut Loops) {
    let mut body = std::mem::take(&mut loops.body);
    let mut open = Vec::new();
    stage_in(loops, &mut body, &mut open);
    loops.body = body;
}

/// Stages what can be read before `body`, inside of the `open` loops; then the same within each of its loops.
fn stage_in(loops: &mut Loops, body: &mut Vec<Stmt>, open: &mut Vec<usize>) {
    let mut found: Vec<Transpose> = Vec::new();
    find(loops, body, open, &mut SmallVec::new(), &mut found);
    for transpose in &found {
        replace(body, &transpose.block.inputs[0], &transpose.staged());
    }
    for stmt in body.iter_mut() {
        let (dims, body): (SmallVec<[usize; 2]>, _) = match stmt {
            Stmt::For { dim, body, vector: false, .. } => (SmallVec::from_slice(&[*dim]), body),
            Stmt::Collapsed { outer, inner, body } => (SmallVec::from_slice(&[outer.0, inner.0]), body),
            Stmt::For { vector: true, .. }
            | Stmt::Block(_)
            | Stmt::Init(_)
            | Stmt::Combine { .. }
            | Stmt::Transpose(_) => continue,
        };
        let opened = open.len();
        open.extend(dims);
        stage_in(loops, body, open);
        open.truncate(opened);
    }
    body.splice(0..0, found.into_iter().map(Stmt::Transpose));
}

/// Finds reads in `body` of which everything is known but a row and a lane. `inside` are the loops around it that are
/// not open.
fn find(
    loops: &mut Loops,
    body: &[Stmt],
    open: &[usize],
    inside: &mut SmallVec<[(Loop, bool); 4]>,
    found: &mut Vec<Transpose>,
) {
    for stmt in body {
        match stmt {
            Stmt::For { dim, extent, vector, body } => {
                inside.push(((*dim, *extent), *vector));
                find(loops, body, open, inside, found);
                inside.pop();
            }
            Stmt::Collapsed { outer, inner, body } => {
                inside.extend([(*outer, false), (*inner, false)]);
                find(loops, body, open, inside, found);
                inside.truncate(inside.len() - 2);
            }
            Stmt::Block(block) => {
                for input in &block.inputs {
                    if !found.iter().any(|known| known.block.inputs[0] == *input)
                        && let Some((rows, lanes)) = crossed(loops, input, open, inside)
                    {
                        let transpose = Transpose::new(loops, input, rows, lanes);
                        found.push(transpose);
                    }
                }
            }
            Stmt::Init(_) | Stmt::Combine { .. } | Stmt::Transpose(_) => {}
        }
    }
}

/// The rows and lanes of a read across its rows, if it is worth staging.
fn crossed(loops: &Loops, input: &Input, open: &[usize], inside: &[(Loop, bool)]) -> Option<(Loop, Loop)> {
    let Input::Load { arg, index, dtype } = input else { return None };
    let &(lanes, _) = inside.iter().find(|(_, vector)| *vector)?;
    let stride = index.strides[lanes.0];
    let &(rows, _) = inside.iter().find(|((dim, _), vector)| !vector && index.strides[*dim] == 1)?;
    let known = |dim: usize| index.strides[dim] == 0 || dim == rows.0 || dim == lanes.0 || open.contains(&dim);
    // Who divides rows or lanes may overwrite what it alone reads.
    let whole = !loops.is_divided(rows.0) && !loops.is_divided(lanes.0);
    let fits = rows.1 * lanes.1.next_multiple_of(PITCH) * 4 <= MOST_BYTES;
    let is_word = matches!(dtype, DType::F32 | DType::I32 | DType::U32) && *arg < loops.args.len();
    let worth = (2..FARTHEST).contains(&stride) && rows.1 >= LEAST_ROWS && lanes.1 >= LEAST_LANES && fits && is_word;
    (worth && whole && (0..index.strides.len()).all(known)).then_some((rows, lanes))
}

/// Reads `to` in place of `from`, everywhere in `body`.
fn replace(body: &mut [Stmt], from: &Input, to: &Input) {
    for stmt in body {
        match stmt {
            Stmt::For { body, .. } | Stmt::Collapsed { body, .. } => replace(body, from, to),
            Stmt::Block(block) => {
                for input in block.inputs.iter_mut().filter(|input| *input == from) {
                    *input = to.clone();
                }
            }
            Stmt::Init(_) | Stmt::Combine { .. } | Stmt::Transpose(_) => {}
        }
    }
}

impl Transpose {
    fn new(loops: &mut Loops, from: &Input, rows: Loop, lanes: Loop) -> Transpose {
        let Input::Load { index, dtype, .. } = from else { unreachable!("only loads are staged") };
        let pitch = lanes.1.next_multiple_of(PITCH);
        let mut to = Affine::zero(index.strides.len());
        to.offset = (loops.reserve(rows.1 * pitch * dtype.size()) / dtype.size()) as isize;
        to.strides[rows.0] = pitch as isize;
        to.strides[lanes.0] = 1;
        let mut program = LaneProgram::new();
        let value = program.input(0, LaneType::of(*dtype));
        let store = Effect::Store { arg: loops.args.len(), index: to, dtype: *dtype, value };
        Transpose { rows, lanes, block: Block { program, inputs: vec![from.clone()], effects: vec![store] } }
    }

    /// What is read in place of the array.
    fn staged(&self) -> Input {
        let Effect::Store { arg, index, dtype, .. } = &self.block.effects[0] else {
            unreachable!("a transpose stores")
        };
        Input::Load { arg: *arg, index: index.clone(), dtype: *dtype }
    }
}

//! Packing: an array whose lanes are strided is transposed into scratch memory before it is read.
//!
//! Comes in: the loops of a kernel. Goes out: the same with transposing copies, and with reads of the copies. Such an
//! array is contiguous across vectors: the next element in memory is the same lane of the next row. So the part of it
//! that one iteration of the loops around reads is transposed in blocks of whole vectors, once for all sweeps. Vectors
//! then load contiguous lanes and need no gather.

use smallvec::SmallVec;

use super::{Block, Effect, Input, Loops, Stmt, Transpose};
use crate::fuse::Affine;
use crate::lower::lane::{LaneProgram, LaneType};

/// The fewest rows and lanes for which packing is profitable.
const MIN_ROWS: usize = 4;
const MIN_LANES: usize = 8;

/// The bytes of an element that can be packed.
const WORD: usize = 4;

/// A bound of the stride between lanes, so that all offsets in a block are less than 2^31 bytes.
const MAX_STRIDE: isize = 1 << 18;

/// The row stride of a packed array is a multiple of this, the lane count of the widest vectors.
const PITCH: usize = 16;

/// A loop: its dimension and extent.
type Loop = (usize, usize);

/// Packs arrays where it is profitable.
pub(super) fn pack(loops: &mut Loops, l1: usize) {
    let mut body = std::mem::take(&mut loops.body);
    let mut open = Vec::new();
    pack_in(loops, &mut body, &mut open, l1);
    loops.body = body;
}

/// Packs before `body` what is known inside of the `open` loops; then recursively in each of its loops.
fn pack_in(loops: &mut Loops, body: &mut Vec<Stmt>, open: &mut Vec<usize>, l1: usize) {
    let mut found: Vec<Transpose> = Vec::new();
    find(loops, body, open, l1, &mut SmallVec::new(), &mut found);
    for transpose in &found {
        replace(body, &transpose.block.inputs[0], &transpose.packed());
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
        pack_in(loops, body, open, l1);
        open.truncate(opened);
    }
    body.splice(0..0, found.into_iter().map(Stmt::Transpose));
}

/// Finds loads in `body` whose index depends on a row, a lane and the `open` loops only. `inside` are the loops around
/// `body` that are not open.
fn find(
    loops: &mut Loops,
    body: &[Stmt],
    open: &[usize],
    l1: usize,
    inside: &mut SmallVec<[(Loop, bool); 4]>,
    found: &mut Vec<Transpose>,
) {
    for stmt in body {
        match stmt {
            Stmt::For { dim, extent, vector, body } => {
                inside.push(((*dim, *extent), *vector));
                find(loops, body, open, l1, inside, found);
                inside.pop();
            }
            Stmt::Collapsed { outer, inner, body } => {
                inside.extend([(*outer, false), (*inner, false)]);
                find(loops, body, open, l1, inside, found);
                inside.truncate(inside.len() - 2);
            }
            Stmt::Block(block) => {
                for input in &block.inputs {
                    if !found.iter().any(|known| known.block.inputs[0] == *input)
                        && let Some((rows, lanes)) = pack_dims(loops, input, open, inside, l1)
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

/// The rows and lanes of a strided load, if packing it is profitable.
fn pack_dims(loops: &Loops, input: &Input, open: &[usize], inside: &[(Loop, bool)], l1: usize) -> Option<(Loop, Loop)> {
    let Input::Load { arg, index, dtype } = input else { return None };
    let &(lanes, _) = inside.iter().find(|(_, vector)| *vector)?;
    let stride = index.strides[lanes.0];
    let &(rows, _) = inside.iter().find(|((dim, _), vector)| !vector && index.strides[*dim] == 1)?;
    let known = |dim: usize| index.strides[dim] == 0 || dim == rows.0 || dim == lanes.0 || open.contains(&dim);
    // In a chunk of a parallel loop over rows or lanes, an in-place store may overwrite elements that only the chunk
    // reads, and the copy would read elements of other chunks.
    let is_serial = !loops.is_parallel(rows.0) && !loops.is_parallel(lanes.0);
    let fits = rows.1 * lanes.1.next_multiple_of(PITCH) * WORD <= l1;
    let is_word = dtype.size() == WORD && *arg < loops.args.len();
    let is_profitable =
        (2..MAX_STRIDE).contains(&stride) && rows.1 >= MIN_ROWS && lanes.1 >= MIN_LANES && fits && is_word;
    (is_profitable && is_serial && (0..index.strides.len()).all(known)).then_some((rows, lanes))
}

/// Replaces the input `from` by `to` in `body`.
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
        let Input::Load { index, dtype, .. } = from else { unreachable!("only loads are packed") };
        let pitch = lanes.1.next_multiple_of(PITCH);
        let mut to = Affine::zero(index.strides.len());
        to.offset = (loops.reserve(rows.1 * pitch * dtype.size()) / dtype.size()) as isize;
        to.strides[rows.0] = pitch as isize;
        to.strides[lanes.0] = 1;
        let mut program = LaneProgram::new();
        let value = program.input(0, LaneType::raw(*dtype));
        let store = Effect::Store { arg: loops.args.len(), index: to, dtype: *dtype, value, offset: None };
        Transpose { rows, lanes, block: Block { program, inputs: vec![from.clone()], effects: vec![store] } }
    }

    /// The input that replaces the strided load.
    fn packed(&self) -> Input {
        let Effect::Store { arg, index, dtype, .. } = &self.block.effects[0] else {
            unreachable!("a transpose stores")
        };
        Input::Load { arg: *arg, index: index.clone(), dtype: *dtype }
    }
}

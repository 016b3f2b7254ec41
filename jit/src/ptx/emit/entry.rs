//! Entries.
//!
//! In: kernels, and where their arguments are. Out: entries, whose parameters are addresses. A launch of one kernel
//! has a parameter for each buffer. A launch of segments has those of all segments, and a block finds its segment.
//! A launch of one block has one for each piece of memory, and runs several kernels in their order, with a barrier
//! between two, and loops around them.

use super::code::Code;
use super::loops::RowKernel;
use super::{Grid, Part, THREADS};
use crate::ptx::inst::{BinaryOp, Cmp, Entry, InstOp, Label, Operand, Reg, RegClass, Type};

/// The entry of a kernel with so many buffers.
pub(in crate::ptx) fn kernel_entry(name: String, part: &Part<'_>, args: usize) -> Entry {
    let mut code = Code::default();
    let args: Vec<Reg> = (0..args as u32).map(|n| code.pointer(n)).collect();
    let grid = Grid::of_launch(&mut code);
    part.emit(&mut code, &args, &grid);
    code.finish(name, args.len(), THREADS)
}

/// The entry of segments of a loop kernel: for each its first block and, of a flat kernel, its extent. The parameters
/// are the buffers of each segment in turn. `blocks` is the number of all.
pub(in crate::ptx) fn segments_entry(
    name: String,
    kernel: &RowKernel,
    segments: &[(u32, Option<usize>)],
    blocks: u32,
    args: usize,
) -> Entry {
    let mut code = Code::default();
    let grid = Grid::of_launch(&mut code);
    let pointers: Vec<Reg> = (0..args).map(|_| code.reg(RegClass::B64)).collect();
    let [first, count, extent] = [(); 3].map(|()| code.reg(RegClass::B32));
    let end = code.label();
    let mut search =
        Search { segments, blocks, block: grid.block, pointers: &pointers, out: [first, count, extent], end };
    search.emit(&mut code, 0, segments.len());
    code.place(end);
    let block = code.binary(BinaryOp::Sub, Type::U32, grid.block, first);
    let grid = Grid { block, blocks: count.into(), ..grid };
    let has_extents = segments.iter().any(|(_, extent)| extent.is_some());
    kernel.emit(&mut code, &pointers, &grid, has_extents.then_some(extent));
    code.finish(name, args * segments.len(), THREADS)
}

/// The search for the segment of a block, as a tree of branches.
struct Search<'a> {
    segments: &'a [(u32, Option<usize>)],
    blocks: u32,
    block: Reg,
    pointers: &'a [Reg],
    /// The first block of the segment, its number of blocks, its extent.
    out: [Reg; 3],
    end: Label,
}

impl Search<'_> {
    fn emit(&mut self, code: &mut Code, low: usize, high: usize) {
        if high - low > 1 {
            let middle = (low + high) / 2;
            let right = code.label();
            let before = code.setp(Cmp::Lt, Type::U32, self.block, self.segments[middle].0);
            code.branch_if(before, false, right);
            self.emit(code, low, middle);
            code.place(right);
            self.emit(code, middle, high);
            return;
        }
        let (first, extent) = self.segments[low];
        let next = self.segments.get(low + 1).map_or(self.blocks, |(first, _)| *first);
        let [first_out, count_out, extent_out] = self.out;
        code.mov_to(first_out, Type::U32, first);
        code.mov_to(count_out, Type::U32, next - first);
        code.mov_to(extent_out, Type::U32, extent.unwrap_or(0) as u32);
        for (i, &pointer) in self.pointers.iter().enumerate() {
            let value = code.pointer((low * self.pointers.len() + i) as u32);
            code.mov_to(pointer, Type::U64, value);
        }
        code.push(InstOp::Bra { target: self.end });
    }
}

/// A step of a block.
pub(in crate::ptx) enum Step<'a> {
    /// A kernel, and its arguments: the number of a pointer and bytes from there.
    Kernel(Part<'a>, Vec<(usize, i64)>),
    /// A loop.
    Loop(Trips, Vec<Step<'a>>),
}

/// The trips of a loop, and what happens to pointers.
pub(in crate::ptx) struct Trips {
    /// How many there are.
    pub(in crate::ptx) length: u32,
    /// Pointers that are set before the first trip, to another one and bytes from there.
    pub(in crate::ptx) begin: Vec<(usize, (usize, i64))>,
    /// Pointers that move by so many bytes after each trip.
    pub(in crate::ptx) advance: Vec<(usize, i64)>,
    /// A carry: the pointer that is read becomes that which was written.
    pub(in crate::ptx) follow: Vec<(usize, usize)>,
    /// A carry in two buffers: in turn, `written` becomes the one of these two that it is not.
    pub(in crate::ptx) alternate: Vec<(usize, [usize; 2])>,
}

/// The pointers of a block: first those that are parameters, then those of loops.
pub(in crate::ptx) struct Pointers {
    /// How many are parameters.
    pub(in crate::ptx) params: usize,
    /// How many there are.
    pub(in crate::ptx) count: usize,
}

/// The entry of steps that one block runs.
pub(in crate::ptx) fn block_entry(name: String, pointers: &Pointers, steps: &[Step<'_>]) -> Entry {
    let mut code = Code::default();
    let mut all: Vec<Reg> = (0..pointers.params as u32).map(|n| code.pointer(n)).collect();
    all.extend((pointers.params..pointers.count).map(|_| code.reg(RegClass::B64)));
    let grid = Grid::of_block(&mut code);
    code.take_registers();
    let mut is_first = true;
    run(&mut code, steps, &all, &grid, &mut is_first);
    code.finish(name, pointers.params, THREADS)
}

fn run(code: &mut Code, steps: &[Step<'_>], pointers: &[Reg], grid: &Grid, is_first: &mut bool) {
    for step in steps {
        match step {
            Step::Kernel(part, args) => {
                if !std::mem::take(is_first) {
                    code.next_part();
                }
                let args: Vec<Reg> = args.iter().map(|&(p, offset)| moved(code, pointers[p], offset)).collect();
                part.emit(code, &args, grid);
            }
            Step::Loop(trips, body) => {
                for &(p, (from, offset)) in &trips.begin {
                    let value = moved(code, pointers[from], offset);
                    code.mov_to(pointers[p], Type::U64, value);
                }
                // The first kernel of a trip waits for the last of the one before.
                *is_first = false;
                code.counted(0, trips.length, 1, |code, _| {
                    run(code, body, pointers, grid, is_first);
                    for &(read, written) in &trips.follow {
                        code.mov_to(pointers[read], Type::U64, pointers[written]);
                    }
                    for &(written, [one, other]) in &trips.alternate {
                        let is_one = code.setp(Cmp::Eq, Type::U64, pointers[written], pointers[one]);
                        let next = code.selp(Type::B64, pointers[other], pointers[one], is_one);
                        code.mov_to(pointers[written], Type::U64, next);
                    }
                    for &(p, bytes) in &trips.advance {
                        let bytes = Operand::Imm(bytes as u64);
                        code.binary_to(pointers[p], BinaryOp::Add, Type::S64, pointers[p], bytes);
                    }
                });
            }
        }
    }
}

fn moved(code: &mut Code, pointer: Reg, offset: i64) -> Reg {
    match offset {
        0 => pointer,
        offset => code.binary(BinaryOp::Add, Type::S64, pointer, Operand::Imm(offset as u64)),
    }
}

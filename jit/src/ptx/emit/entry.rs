//! Entries.
//!
//! In: kernels, and where their arguments are. Out: entries, whose parameters are addresses. A launch of one kernel
//! has a parameter for each buffer. A launch of segments has those of all segments, and a block finds its segment.
//! A launch of steps has one for each piece of memory, and runs several kernels in their order, with a barrier between
//! two, and loops around them: on one block, or on a grid of which all blocks are resident.

use super::code::Code;
use super::loops::RowKernel;
use super::{Grid, Part, THREADS};
use crate::ptx::inst::{
    Address, Atomic, BinaryOp, Cache, Cmp, Entry, InstOp, Label, Operand, Reg, RegClass, Space, Type,
};

/// The entry of a kernel with so many buffers.
pub(in crate::ptx) fn kernel_entry(name: String, part: &Part<'_>, args: usize) -> Entry {
    let mut code = Code::default();
    let args: Vec<Reg> = (0..args as u32).map(|n| code.pointer(n)).collect();
    let grid = Grid::of_launch(&mut code);
    part.emit(&mut code, &args, &grid);
    code.finish(name, args.len(), THREADS)
}

/// The entry of concurrent kernels, each with its number of blocks and of buffers. The parameters are the buffers of
/// each in turn.
pub(in crate::ptx) fn concurrent_entry(name: String, parts: &[(&Part<'_>, u32, u32)]) -> Entry {
    let mut code = Code::default();
    let grid = Grid::of_launch(&mut code);
    let end = code.label();
    let (mut first, mut params) = (0, 0);
    for &(part, blocks, buffers) in parts {
        let next = code.label();
        let is_later = code.setp(Cmp::Ge, Type::U32, grid.block, first + blocks);
        code.branch_if(is_later, true, next);
        let block = code.binary(BinaryOp::Sub, Type::U32, grid.block, first);
        let args: Vec<Reg> = (params..params + buffers).map(|n| code.pointer(n)).collect();
        code.other_part();
        part.emit(&mut code, &args, &Grid { block, blocks: Operand::Imm(blocks.into()), ..grid });
        code.push(InstOp::Bra { target: end });
        code.place(next);
        (first, params) = (first + blocks, params + buffers);
    }
    code.place(end);
    code.finish(name, params as usize, THREADS)
}

/// Segments of a loop kernel, which blocks share.
pub(in crate::ptx) struct Segments {
    /// The kernel, with the extents of the largest segment.
    pub(in crate::ptx) kernel: Box<RowKernel>,
    /// For each its first block and, of a flat kernel, its extent.
    pub(in crate::ptx) firsts: Vec<(u32, Option<usize>)>,
    /// The number of all blocks.
    pub(in crate::ptx) blocks: u32,
    /// The buffers of each.
    pub(in crate::ptx) buffers: usize,
}

/// The entry of segments of a loop kernel. The parameters are the buffers of each segment in turn.
pub(in crate::ptx) fn segments_entry(name: String, segments: &Segments) -> Entry {
    let mut code = Code::default();
    let grid = Grid::of_launch(&mut code);
    let buffers = segments.buffers;
    segments.emit(&mut code, &grid, grid.block, &mut |code, segment, i| code.pointer((segment * buffers + i) as u32));
    code.finish(name, buffers * segments.firsts.len(), THREADS)
}

/// The address of a buffer of a segment.
type AddressOf<'a> = dyn FnMut(&mut Code, usize, usize) -> Reg + 'a;

impl Segments {
    /// The code of block number `block`.
    fn emit(&self, code: &mut Code, grid: &Grid, block: Reg, address: &mut AddressOf<'_>) {
        let pointers: Vec<Reg> = (0..self.buffers).map(|_| code.reg(RegClass::B64)).collect();
        let [first, count, extent] = [(); 3].map(|()| code.reg(RegClass::B32));
        let end = code.label();
        let mut search =
            Search { segments: self, block, address, pointers: &pointers, out: [first, count, extent], end };
        search.emit(code, 0, self.firsts.len());
        code.place(end);
        let block = code.binary(BinaryOp::Sub, Type::U32, block, first);
        let grid = Grid { block, blocks: count.into(), ..*grid };
        let has_extents = self.firsts.iter().any(|(_, extent)| extent.is_some());
        self.kernel.emit(code, &pointers, &grid, has_extents.then_some(extent));
    }
}

/// The search for the segment of a block, as a tree of branches.
struct Search<'a, 'f> {
    segments: &'a Segments,
    block: Reg,
    address: &'a mut AddressOf<'f>,
    pointers: &'a [Reg],
    /// The first block of the segment, its number of blocks, its extent.
    out: [Reg; 3],
    end: Label,
}

impl Search<'_, '_> {
    fn emit(&mut self, code: &mut Code, low: usize, high: usize) {
        let Segments { firsts, blocks, .. } = self.segments;
        if high - low > 1 {
            let middle = (low + high) / 2;
            let right = code.label();
            let before = code.setp(Cmp::Lt, Type::U32, self.block, firsts[middle].0);
            code.branch_if(before, false, right);
            self.emit(code, low, middle);
            code.place(right);
            self.emit(code, middle, high);
            return;
        }
        let (first, extent) = firsts[low];
        let next = firsts.get(low + 1).map_or(*blocks, |(first, _)| *first);
        let [first_out, count_out, extent_out] = self.out;
        code.mov_to(first_out, Type::U32, first);
        code.mov_to(count_out, Type::U32, next - first);
        code.mov_to(extent_out, Type::U32, extent.unwrap_or(0) as u32);
        for (i, &pointer) in self.pointers.iter().enumerate() {
            let value = (self.address)(code, low, i);
            code.mov_to(pointer, Type::U64, value);
        }
        code.push(InstOp::Bra { target: self.end });
    }
}

/// A pointer by its number, and bytes from there.
pub(in crate::ptx) type Pointed = (usize, i64);

/// A step of an entry.
pub(in crate::ptx) enum Step<'a> {
    /// A kernel, and its arguments.
    Kernel(Part<'a>, Vec<Pointed>),
    /// Segments of a loop kernel, and the buffers of each.
    Segments(Box<Segments>, Vec<Vec<Pointed>>),
    /// Steps that the first block of a grid runs alone.
    First(Vec<Step<'a>>),
    /// A loop.
    Loop(Trips<'a>, Vec<Step<'a>>),
    /// Steps that run if they are the ones that a 32-bit integer says; one that is out of range is moved to where it is
    /// not.
    Branch {
        /// Where the integer is.
        index: Pointed,
        /// The number of these steps.
        number: u32,
        /// How many there are.
        count: u32,
        /// The steps.
        steps: Vec<Step<'a>>,
    },
}

/// How many trips a loop has.
pub(in crate::ptx) enum Count<'a> {
    /// So many.
    Fixed(u32),
    /// As long as there is another one.
    While {
        /// The pointer to the byte that says whether there is.
        predicate: usize,
        /// What is done behind the loop.
        settle: Vec<Settle<'a>>,
    },
}

/// The end of a loop for a value of its carry: a copy of it to where it is expected, if it is elsewhere.
pub(in crate::ptx) struct Settle<'a> {
    /// The pointer that the next trip would read.
    pub(in crate::ptx) from: usize,
    /// Where it is expected.
    pub(in crate::ptx) to: Pointed,
    /// The kernel.
    pub(in crate::ptx) copy: Part<'a>,
}

/// The trips of a loop, and what happens to pointers.
pub(in crate::ptx) struct Trips<'a> {
    /// How many there are.
    pub(in crate::ptx) count: Count<'a>,
    /// Pointers that are set before the first trip, to another one and bytes from there.
    pub(in crate::ptx) begin: Vec<(usize, Pointed)>,
    /// Pointers that move by so many bytes after each trip.
    pub(in crate::ptx) advance: Vec<(usize, i64)>,
    /// A carry: the pointer that is read becomes that which was written.
    pub(in crate::ptx) follow: Vec<(usize, usize)>,
    /// A carry in two buffers: in turn, `written` becomes the one of these two that it is not.
    pub(in crate::ptx) alternate: Vec<(usize, [usize; 2])>,
}

/// The pointers of an entry: first those that are parameters, then those of loops.
pub(in crate::ptx) struct Pointers {
    /// How many are parameters.
    pub(in crate::ptx) params: usize,
    /// How many there are.
    pub(in crate::ptx) count: usize,
}

/// The entry of steps that one block runs.
pub(in crate::ptx) fn block_entry(name: String, pointers: &Pointers, steps: &[Step<'_>]) -> Entry {
    let mut code = Code::default();
    let registers = pointers.registers(&mut code);
    let grid = Grid::of_block(&mut code);
    code.take_registers();
    Runner { pointers: &registers, grid, barrier: None, is_first: true }.run(&mut code, steps);
    code.finish(name, pointers.params, THREADS)
}

/// The entry of steps that all blocks of a cooperative launch run. `word` is the pointer to the word of its barriers.
pub(in crate::ptx) fn cooperative_entry(name: String, pointers: &Pointers, word: usize, steps: &[Step<'_>]) -> Entry {
    let mut code = Code::default();
    let registers = pointers.registers(&mut code);
    let grid = Grid::of_launch(&mut code);
    let barrier = Some(GridBarrier::new(&mut code, &grid, registers[word]));
    Runner { pointers: &registers, grid, barrier, is_first: true }.run(&mut code, steps);
    code.finish(name, pointers.params, THREADS)
}

impl Pointers {
    fn registers(&self, code: &mut Code) -> Vec<Reg> {
        let mut all: Vec<Reg> = (0..self.params as u32).map(|n| code.pointer(n)).collect();
        all.extend((self.params..self.count).map(|_| code.reg(RegClass::B64)));
        all
    }
}

/// A barrier of the grid. Its word is 0 before the first launch, and needs no reset: every block adds 1 but the first,
/// which adds what makes the sum 2³¹. So the highest bit changes when all have come, and the others are 0 again.
#[derive(Clone, Copy)]
struct GridBarrier {
    word: Reg,
    /// What this block adds.
    adds: Reg,
}

impl GridBarrier {
    fn new(code: &mut Code, grid: &Grid, word: Reg) -> GridBarrier {
        let is_first = code.setp(Cmp::Eq, Type::U32, grid.block, 0);
        let rest = code.binary(BinaryOp::Sub, Type::U32, 0x8000_0001, grid.blocks);
        GridBarrier { word, adds: code.selp(Type::B32, rest, 1, is_first) }
    }

    /// Waits until all blocks have come. What threads wrote before is seen by all behind it: the fence of one thread
    /// stands for its block, whose threads are before and behind a barrier of the block.
    fn wait(self, code: &mut Code, thread: Reg) {
        let (top, end) = (code.label(), code.label());
        let is_other = code.setp(Cmp::Ne, Type::U32, thread, 0);
        code.branch_if(is_other, true, end);
        code.push(InstOp::MembarGl);
        let [before, now] = [(); 2].map(|()| code.reg(RegClass::B32));
        let (space, ty, address) = (Space::Global, Type::U32, Address::Reg(self.word, 0));
        code.push(InstOp::Atom { op: Atomic::Add, space, ty, d: before, address, b: self.adds.into(), c: None });
        code.place(top);
        code.push(InstOp::Ld { space, cache: Cache::Volatile, ty, d: vec![now], address });
        let changed = code.binary(BinaryOp::Xor, Type::B32, before, now);
        let is_same = code.setp(Cmp::Ge, Type::S32, changed, 0);
        code.branch_if(is_same, true, top);
        code.push(InstOp::MembarGl);
        code.place(end);
        code.push(InstOp::Bar);
    }
}

/// Emits steps.
struct Runner<'a> {
    pointers: &'a [Reg],
    grid: Grid,
    /// How blocks wait for each other, if there are several.
    barrier: Option<GridBarrier>,
    /// Whether nothing ran before.
    is_first: bool,
}

impl Runner<'_> {
    /// Waits for what ran before.
    fn next(&mut self, code: &mut Code) {
        if std::mem::take(&mut self.is_first) {
            return;
        }
        code.next_part();
        if let Some(barrier) = self.barrier {
            barrier.wait(code, self.grid.thread);
        }
    }

    fn run(&mut self, code: &mut Code, steps: &[Step<'_>]) {
        for step in steps {
            match step {
                Step::Kernel(part, args) => {
                    self.next(code);
                    let args: Vec<Reg> = args.iter().map(|&arg| self.moved(code, arg)).collect();
                    self.kernel(code, part, &args);
                }
                Step::Segments(segments, args) => {
                    self.next(code);
                    let grid = self.grid;
                    code.counted(grid.block, segments.blocks, grid.blocks, |code, block| {
                        segments.emit(code, &grid, block, &mut |code, segment, i| self.moved(code, args[segment][i]));
                    });
                }
                Step::First(steps) => {
                    self.next(code);
                    let end = code.label();
                    let is_other = code.setp(Cmp::Ne, Type::U32, self.grid.block, 0);
                    code.branch_if(is_other, true, end);
                    let grid = Grid::of_block(code);
                    Runner { pointers: self.pointers, grid, barrier: None, is_first: true }.run(code, steps);
                    code.place(end);
                }
                Step::Loop(trips, body) => self.repeat(code, trips, body),
                Step::Branch { index, number, count, steps } => {
                    self.next(code);
                    let address = Address::Reg(self.moved(code, *index), 0);
                    let (space, cache, ty) = (Space::Global, Cache::Default, Type::S32);
                    let d = code.reg(RegClass::B32);
                    code.push(InstOp::Ld { space, cache, ty, d: vec![d], address });
                    let index = code.binary(BinaryOp::Max, Type::S32, d, 0);
                    let index = code.binary(BinaryOp::Min, Type::S32, index, count - 1);
                    let end = code.label();
                    let is_other = code.setp(Cmp::Ne, Type::U32, index, *number);
                    code.branch_if(is_other, true, end);
                    // All have waited for what ran before.
                    self.is_first = true;
                    self.run(code, steps);
                    self.is_first = false;
                    code.place(end);
                }
            }
        }
    }

    fn kernel(&self, code: &mut Code, part: &Part<'_>, args: &[Reg]) {
        if self.barrier.is_none() || part.workspace(1) == 0 {
            return part.emit(code, args, &self.grid);
        }
        // There may be more blocks than have a workspace.
        let most = part.blocks() as u32;
        let end = code.label();
        let is_other = code.setp(Cmp::Ge, Type::U32, self.grid.block, most);
        code.branch_if(is_other, true, end);
        let blocks = code.binary(BinaryOp::Min, Type::U32, self.grid.blocks, most);
        part.emit(code, args, &Grid { blocks: blocks.into(), ..self.grid });
        code.place(end);
    }

    fn repeat(&mut self, code: &mut Code, trips: &Trips<'_>, body: &[Step<'_>]) {
        let pointers = self.pointers;
        for &(p, from) in &trips.begin {
            let value = self.moved(code, from);
            code.mov_to(pointers[p], Type::U64, value);
        }
        // The first kernel of a trip waits for the last of the one before.
        self.is_first = false;
        match &trips.count {
            Count::Fixed(length) => code.counted(0, *length, 1, |code, _| self.trip(code, trips, body)),
            Count::While { predicate, settle } => self.repeat_while(code, trips, body, *predicate, settle),
        }
    }

    /// A loop whose number of trips is not known: all threads look at the same byte behind a barrier. A trip writes
    /// another one than the trip before, so none has to wait until all have looked.
    fn repeat_while(
        &mut self,
        code: &mut Code,
        trips: &Trips<'_>,
        body: &[Step<'_>],
        predicate: usize,
        settle: &[Settle<'_>],
    ) {
        let pointers = self.pointers;
        let (top, end) = (code.label(), code.label());
        code.place(top);
        self.next(code);
        let (space, cache, ty) = (Space::Global, Cache::Default, Type::U8);
        let (d, address) = (code.reg(RegClass::B32), Address::Reg(pointers[predicate], 0));
        code.push(InstOp::Ld { space, cache, ty, d: vec![d], address });
        let is_last = code.setp(Cmp::Eq, Type::U32, d, 0);
        code.branch_if(is_last, true, end);
        self.is_first = true;
        self.trip(code, trips, body);
        code.push(InstOp::Bra { target: top });
        code.place(end);
        for Settle { from, to, copy } in settle {
            let to = self.moved(code, *to);
            let done = code.label();
            let is_there = code.setp(Cmp::Eq, Type::U64, pointers[*from], to);
            code.branch_if(is_there, true, done);
            code.other_part();
            self.kernel(code, copy, &[pointers[*from], to]);
            code.place(done);
        }
        self.is_first = false;
    }

    fn trip(&mut self, code: &mut Code, trips: &Trips<'_>, body: &[Step<'_>]) {
        let pointers = self.pointers;
        self.run(code, body);
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
    }

    fn moved(&self, code: &mut Code, (pointer, offset): Pointed) -> Reg {
        match (self.pointers[pointer], offset) {
            (pointer, 0) => pointer,
            (pointer, offset) => code.binary(BinaryOp::Add, Type::S64, pointer, Operand::Imm(offset as u64)),
        }
    }
}

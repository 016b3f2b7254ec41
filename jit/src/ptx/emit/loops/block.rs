//! A block for a row.
//!
//! All threads compute what is reduced. A reduction whose order is free (of integers, and minima and maxima) has an
//! accumulator in each thread. For the others, elements go through shared memory to the threads that have the
//! accumulators: while these add one portion of a row, the others load the next one.

use super::super::code::{Code, lane_type};
use super::element::{load_word, store_word};
use super::member::{Member, Portion, Shared};
use super::row::Emitter;
use super::spread::EXCHANGE;
use super::{Grid, RowKernel, THREADS};
use crate::fuse::PARTIALS;
use crate::graph::ReduceOp;
use crate::lower::lane::{LaneType, from_op};
use crate::lower::loops::{Accumulator, Block, Effect};
use crate::ptx::inst::{Address, BinaryOp, Cmp, InstOp, Operand, Reg, Space, TernaryOp, Type};

/// Elements that a thread with an accumulator loads before it adds the first.
const LOADED: usize = 8;

impl RowKernel {
    pub(super) fn by_blocks(&self, code: &mut Code, args: &[Reg], grid: &Grid, elements: usize) {
        let is_first = code.setp(Cmp::Eq, Type::U32, grid.thread, 0);
        let adds = code.setp(Cmp::Lt, Type::U32, grid.thread, PARTIALS as u32);
        let base = code.mov(Type::U32, Operand::Shared);
        let exchange = code.reserve_shared(EXCHANGE as u32);
        let kept = code.reserve_shared(self.loops.scratch as u32);
        let results = code.reserve_shared(8 * self.loops.accumulators.len() as u32);
        let buffer = code.binary(BinaryOp::Add, Type::U32, base, exchange);
        let second = code.binary(BinaryOp::Add, Type::U32, base, exchange + EXCHANGE as u32 / 2);
        let other = code.binary(BinaryOp::Xor, Type::B32, buffer, second);
        let shared = Shared { thread: grid.thread, is_first, adds, base, kept, elements, buffer, other, results };
        let mut emitter = Emitter::new(self, args, Member::Block(shared));
        code.counted(grid.block, self.spread.rows as u32, grid.blocks, |code, i| emitter.emit_row(code, i, 1));
    }
}

impl Emitter<'_> {
    /// Whether the order of a reduction is free: that of integers, and of what is no sum or product of floats.
    fn is_free(&self, accumulator: usize) -> bool {
        let accumulator = self.row.loops.accumulators[accumulator];
        let is_integer = matches!(accumulator.lane_type(), LaneType::I32 | LaneType::I64);
        is_integer || !matches!(accumulator.op, ReduceOp::Sum | ReduceOp::Prod)
    }

    /// The accumulators of a block, with the places of their elements in a buffer, for those whose order is not free.
    fn exchanged(&self, block: &Block, elements: usize) -> Vec<(usize, u32)> {
        let ordered = block.effects.iter().filter_map(|effect| match effect {
            Effect::Accumulate { accumulator, .. } if !self.is_free(*accumulator) => Some(*accumulator),
            Effect::Accumulate { .. } | Effect::Store { .. } | Effect::Row { .. } => None,
        });
        let mut start = 0;
        let place = |accumulator: usize| {
            let place = start;
            start += (elements * bytes(self.row.loops.accumulators[accumulator].lane_type())) as u32;
            (accumulator, place)
        };
        ordered.map(place).collect()
    }

    /// Whether the elements of a block go through shared memory.
    pub(super) fn exchanges(&self, block: &Block) -> bool {
        !self.exchanged(block, 0).is_empty()
    }

    /// The loop over the last dimension of a row, portion by portion.
    pub(super) fn exchange(&mut self, code: &mut Code, shared: &Shared, dim: usize, extent: usize, block: &Block) {
        let places = self.exchanged(block, shared.elements);
        let mut portion = |code: &mut Code, first: Operand, count: usize| {
            let first = code.in_register(Type::U32, first);
            let start = |&(accumulator, place): &(usize, u32)| {
                let size = bytes(self.row.loops.accumulators[accumulator].lane_type()) as u32;
                let before = code.binary(BinaryOp::Mul, Type::U32, first, size);
                let start = code.binary(BinaryOp::Sub, Type::U32, shared.buffer, before);
                (accumulator, code.binary(BinaryOp::Add, Type::U32, start, place))
            };
            self.portion = Some(Portion { dim, starts: places.iter().map(start).collect() });
            let threads = THREADS as usize;
            let at = code.binary(BinaryOp::Add, Type::U32, first, shared.thread);
            if count >= threads {
                self.together(code, block, dim, (at, threads), count / threads);
            }
            if !count.is_multiple_of(threads) {
                let whole = (count - count % threads) as u32;
                let rest = code.setp(Cmp::Lt, Type::U32, shared.thread, count as u32 - whole);
                let end = code.label();
                code.branch_if(rest, false, end);
                let at = code.binary(BinaryOp::Add, Type::U32, at, whole);
                self.together(code, block, dim, (at, threads), 1);
                code.place(end);
            }
            self.portion = None;
            code.push(InstOp::Bar);
            self.add_up(code, shared, &places, count);
        };
        let (whole, elements) = (extent - extent % shared.elements, shared.elements);
        if whole > 0 {
            code.counted(0, whole as u32, elements as u32, |code, first| portion(code, first.into(), elements));
        }
        if whole < extent {
            portion(code, Operand::Imm(whole as u64), extent - whole);
        }
    }

    /// Hands an element to the thread that has its accumulator; `false` if that is this thread.
    pub(super) fn hand_over(&self, code: &mut Code, accumulator: usize, x: Operand) -> bool {
        let Some(portion) = &self.portion else { return false };
        let Some((_, start)) = portion.starts.iter().find(|(a, _)| *a == accumulator) else { return false };
        let position = self.vars[portion.dim].expect("it is in the loop over the elements");
        self.put(code, accumulator, (*start, position), x);
        true
    }

    /// Writes an element to shared memory: that at `position` of an array.
    fn put(&self, code: &mut Code, accumulator: usize, (start, position): (Reg, Reg), x: Operand) {
        let ty = self.row.loops.accumulators[accumulator].lane_type();
        let at = code.ternary(TernaryOp::Mad, Type::U32, position, bytes(ty) as u32, start);
        let x = code.in_register(lane_type(ty), x);
        store_word(code, lane_type(ty), Address::Reg(at, 0), x, None);
    }

    /// The threads that have accumulators add the `count` elements of each in the buffer, which all have written, in
    /// their order. The next elements go to the other buffer.
    fn add_up(&self, code: &mut Code, shared: &Shared, places: &[(usize, u32)], count: usize) {
        let end = code.label();
        code.branch_if(shared.adds, false, end);
        let add = |code: &mut Code, i: Reg, loaded: usize| {
            for &(accumulator, place) in places {
                let ty = self.row.loops.accumulators[accumulator].lane_type();
                let size = bytes(ty) as u32;
                let at = code.ternary(TernaryOp::Mad, Type::U32, i, size, shared.buffer);
                let address = |n: u32| Address::Reg(at, (place + n * PARTIALS as u32 * size) as i32);
                let load = |n| load_word(code, Space::Shared, lane_type(ty), address(n), None).into();
                let elements: Vec<Operand> = (0..loaded as u32).map(load).collect();
                self.add(code, accumulator, &elements);
            }
        };
        let step = LOADED * PARTIALS;
        let whole = count - count % step;
        if whole > 0 {
            code.counted(shared.thread, whole as u32, step as u32, |code, i| add(code, i, LOADED));
        }
        if whole < count {
            let first = code.binary(BinaryOp::Add, Type::U32, shared.thread, whole as u32);
            code.counted(first, count as u32, PARTIALS as u32, |code, i| add(code, i, 1));
        }
        code.place(end);
        code.binary_to(shared.buffer, BinaryOp::Xor, Type::B32, shared.buffer, shared.other);
    }

    /// The accumulators of all threads as one value, which all have.
    pub(super) fn combine_block(&self, code: &mut Code, shared: &Shared, accumulator: usize, x: Reg) -> Reg {
        let Accumulator { op, dtype, .. } = self.row.loops.accumulators[accumulator];
        let ty = self.row.loops.accumulators[accumulator].lane_type();
        if self.is_free(accumulator) {
            self.put(code, accumulator, (shared.buffer, shared.thread), x.into());
            code.mov_to(x, lane_type(ty), Operand::Imm(from_op::identity(op, dtype)));
            code.push(InstOp::Bar);
            self.add_up(code, shared, &[(accumulator, 0)], THREADS as usize);
        }
        let result = Address::Reg(shared.base, (shared.results + 8 * accumulator as u32) as i32);
        let end = code.label();
        code.branch_if(shared.adds, false, end);
        let sum = self.fold(code, accumulator, x, Operand::Imm((1 << PARTIALS) - 1));
        store_word(code, lane_type(ty), result, sum, Some(shared.is_first));
        code.place(end);
        // From here on, what other threads have read may be overwritten, where results are written in place.
        code.push(InstOp::Bar);
        load_word(code, Space::Shared, lane_type(ty), result, None)
    }
}

fn bytes(ty: LaneType) -> usize {
    if matches!(ty, LaneType::F64 | LaneType::I64) { 8 } else { 4 }
}

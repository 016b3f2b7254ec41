//! Decompositions of matrices and solutions by them: the operations of `lower/matrices` as instructions.
//!
//! In: a routine. Out: its code, in which each thread has a small matrix, and a block has a larger one: iterations that
//! do not depend on each other are those of its threads. Working memory lies in the workspace: of each block, or of all
//! threads, interleaved.

use super::code::{Code, class, lane_type};
use super::{Grid, THREADS};
use crate::fuse::{MatrixRoutine, MatrixWork};
use crate::lower::lane::LaneType;
use crate::lower::matrices::{Backend, run};
use crate::ptx::inst::{
    Address, BinaryOp, Cache, Cmp, InstOp, Operand, Reg, Rounding, Space, TernaryOp, Type, UnaryOp,
};
use crate::types::DType;

/// The most blocks: each has a workspace.
const MAX_BLOCKS: usize = 1024;

/// The most blocks that have something to do.
pub(super) fn blocks(routine: &MatrixRoutine) -> usize {
    let matrices = if routine.is_small() { THREADS as usize } else { 1 };
    routine.batch.div_ceil(matrices).min(MAX_BLOCKS)
}

/// Bytes of the workspace of so many blocks.
pub(super) fn workspace(routine: &MatrixRoutine, blocks: usize) -> usize {
    let matrices = if routine.is_small() { THREADS as usize } else { 1 };
    blocks.saturating_mul(matrices).saturating_mul(bytes(routine))
}

/// Bytes of the working memory of a matrix.
fn bytes(routine: &MatrixRoutine) -> usize {
    let MatrixWork { reals, picks } = routine.work();
    (reals * routine.dtype.size() + 4 * picks).next_multiple_of(8)
}

/// The code of a routine for these blocks. The arguments are operands, results and the workspace.
pub(super) fn emit(code: &mut Code, routine: &MatrixRoutine, args: &[Reg], grid: &Grid) {
    code.take_registers();
    let (operands, results) = routine.extents();
    let size = routine.dtype.size();
    let threads = grid.threads(code);
    let is_small = routine.is_small();
    // The place of this block's or thread's memory, and the distance of elements and of indices.
    let MatrixWork { reals, .. } = routine.work();
    let workspace = args[args.len() - 1];
    let (index, count) = if is_small { (threads.index, threads.count) } else { (grid.block, Operand::Imm(1)) };
    let index = code.cvt(Type::U64, Type::U32, Rounding::None, index);
    let wide = |code: &mut Code, x: Operand, by: usize| match x {
        Operand::Imm(x) => Operand::Imm(x * by as u64),
        x => {
            let x = code.mov(Type::U32, x);
            let x = code.cvt(Type::U64, Type::U32, Rounding::None, x);
            code.binary(BinaryOp::Mul, Type::U64, x, Operand::Imm(by as u64)).into()
        }
    };
    let place = |code: &mut Code, start: Reg, size: usize| {
        let bytes = if is_small { size } else { bytes(routine) };
        code.ternary(TernaryOp::Mad, Type::S64, index, Operand::Imm(bytes as u64), start)
    };
    let after = wide(code, count, reals * size);
    let picks = code.binary(BinaryOp::Add, Type::S64, workspace, after);
    let (reals, picks) = (place(code, workspace, size), place(code, picks, 4));
    let strides = [size, 4].map(|bytes| wide(code, count, bytes));
    let (first, step) = match is_small {
        true => (threads.index, threads.count),
        false => (grid.block, grid.blocks),
    };
    let mut gpu = Gpu {
        code,
        dtype: routine.dtype,
        ty: lane_type(LaneType::of(routine.dtype)),
        operands: vec![],
        results: vec![],
        memory: [(reals, strides[0]), (picks, strides[1])],
        taken: [0; 2],
        thread: (!is_small).then_some(grid.thread),
    };
    gpu.counted(first.into(), Operand::Imm(routine.batch as u64), step, |gpu, matrix| {
        let matrix = gpu.code.cvt(Type::U64, Type::U32, Rounding::None, matrix);
        let (from, to) = args.split_at(operands.len());
        let mut bases = |extents: &[usize], args: &[Reg], index: &[usize]| -> Vec<Reg> {
            let base = |(i, (&extent, &start)): (usize, (&usize, &Reg))| {
                let bytes = extent * if index.contains(&i) { 4 } else { size };
                gpu.code.ternary(TernaryOp::Mad, Type::S64, matrix, Operand::Imm(bytes as u64), start)
            };
            extents.iter().zip(args).enumerate().map(base).collect()
        };
        let (operands, results) = (bases(&operands, from, &[]), bases(&results, to, routine.indices()));
        (gpu.operands, gpu.results, gpu.taken) = (operands, results, [0; 2]);
        run(gpu, routine);
    });
}

/// The back end. An array is the number of its first element in the workspace.
struct Gpu<'a> {
    code: &'a mut Code,
    dtype: DType,
    ty: Type,
    /// The addresses of this matrix in the operands, and in the results.
    operands: Vec<Reg>,
    results: Vec<Reg>,
    /// Elements and indices: the address of the first, and the distance of the next in bytes, a u64.
    memory: [(Reg, Operand); 2],
    /// How many elements and indices are taken.
    taken: [usize; 2],
    /// The number of this thread, if a block has the matrix.
    thread: Option<Reg>,
}

const REALS: usize = 0;
const PICKS: usize = 1;

impl Gpu<'_> {
    /// A loop: see [`Code::counted`].
    fn counted(&mut self, from: Operand, to: Operand, step: Operand, body: impl FnOnce(&mut Self, Reg)) {
        let i = self.code.mov(Type::U32, from);
        let (top, end) = (self.code.label(), self.code.label());
        let none = self.code.setp(Cmp::Ge, Type::U32, i, to);
        self.code.branch_if(none, true, end);
        self.code.place(top);
        body(self, i);
        self.code.binary_to(i, BinaryOp::Add, Type::U32, i, step);
        let more = self.code.setp(Cmp::Lt, Type::U32, i, to);
        self.code.branch_if(more, true, top);
        self.code.place(end);
    }

    /// A loop whose iterations are those of the block's threads, if a block has the matrix.
    fn divided(&mut self, from: Operand, to: Operand, body: impl FnOnce(&mut Self, Reg)) {
        match self.thread {
            Some(thread) => {
                let first = self.code.binary(BinaryOp::Add, Type::U32, thread, from);
                self.counted(first.into(), to, Operand::Imm(THREADS.into()), body);
                self.code.push(InstOp::Bar);
            }
            None => self.counted(from, to, Operand::Imm(1), body),
        }
    }

    /// An index in a register that is not written again.
    fn register(&mut self, i: Operand) -> Reg {
        match i {
            Operand::Reg(reg) => reg,
            i => self.code.mov(Type::U32, i),
        }
    }

    /// The address of an element of the workspace, whose number is a u32.
    fn address(&mut self, kind: usize, i: Operand) -> Address {
        let (start, stride) = self.memory[kind];
        let i = self.register(i);
        let wide = self.code.cvt(Type::U64, Type::U32, Rounding::None, i);
        Address::Reg(self.code.ternary(TernaryOp::Mad, Type::S64, wide, stride, start), 0)
    }

    /// The address of an element of a buffer.
    fn element(&mut self, start: Reg, i: Operand, size: usize) -> Address {
        let i = self.register(i);
        let size = self.code.mov(Type::U32, size as u32);
        Address::Reg(self.code.ternary(TernaryOp::MadWide, Type::U32, i, size, start), 0)
    }

    fn take(&mut self, kind: usize, count: usize) -> usize {
        let first = self.taken[kind];
        self.taken[kind] += count;
        first
    }

    fn get(&mut self, ty: Type, address: Address) -> Reg {
        let d = self.code.reg(class(ty));
        self.code.push(InstOp::Ld { space: Space::Global, cache: Cache::Default, ty, d: vec![d], address });
        d
    }

    fn put(&mut self, ty: Type, address: Address, x: Reg) {
        self.code.push(InstOp::St { space: Space::Global, cache: Cache::Default, ty, address, a: vec![x.into()] });
    }

    fn offset(&mut self, array: usize, i: Operand) -> Operand {
        self.plus(i, Operand::Imm(array as u64))
    }

    /// A loop that carries registers.
    fn carried(
        &mut self,
        [from, to]: [Operand; 2],
        start: &[(Type, Reg)],
        body: impl FnOnce(&mut Self, Reg, &[Reg]) -> Vec<Reg>,
    ) -> Vec<Reg> {
        let state: Vec<Reg> = start.iter().map(|&(ty, x)| self.code.mov(ty, x)).collect();
        self.counted(from, to, Operand::Imm(1), |gpu, i| {
            let next = body(gpu, i, &state);
            // One may be another's value of before.
            let next: Vec<Reg> = next.iter().zip(start).map(|(&x, &(ty, _))| gpu.code.mov(ty, x)).collect();
            for ((&d, x), &(ty, _)) in state.iter().zip(next).zip(start) {
                gpu.code.mov_to(d, ty, x);
            }
        });
        state
    }
}

impl Backend for Gpu<'_> {
    type Index = Operand;
    type Pick = Reg;
    type Real = Reg;
    type Bool = Reg;
    type Array = usize;
    type Picks = usize;
    type Span = Reg;

    fn index(&mut self, i: usize) -> Operand {
        Operand::Imm(i as u64)
    }
    fn plus(&mut self, i: Operand, j: Operand) -> Operand {
        match (i, j) {
            (Operand::Imm(i), Operand::Imm(j)) => Operand::Imm(i + j),
            (Operand::Imm(0), x) | (x, Operand::Imm(0)) => x,
            (Operand::Imm(_), _) => self.plus(j, i),
            _ => self.code.binary(BinaryOp::Add, Type::U32, i, j).into(),
        }
    }
    fn minus(&mut self, i: Operand, j: Operand) -> Operand {
        match (i, j) {
            (Operand::Imm(i), Operand::Imm(j)) => Operand::Imm(i - j),
            (x, Operand::Imm(0)) => x,
            _ => {
                let i = self.register(i);
                self.code.binary(BinaryOp::Sub, Type::U32, i, j).into()
            }
        }
    }
    fn at(&mut self, i: Operand, by: usize, offset: Operand) -> Operand {
        match (i, offset) {
            (Operand::Imm(i), _) => self.plus(offset, Operand::Imm(i * by as u64)),
            (i, offset) => self.code.ternary(TernaryOp::Mad, Type::U32, i, by as u32, offset).into(),
        }
    }
    fn modulo(&mut self, i: Operand, by: usize) -> Operand {
        match i {
            Operand::Imm(i) => Operand::Imm(i % by as u64),
            i => self.code.binary(BinaryOp::Rem, Type::U32, i, by as u32).into(),
        }
    }
    fn ordered(&mut self, i: Operand, j: Operand) -> [Operand; 2] {
        let i = self.register(i);
        [BinaryOp::Min, BinaryOp::Max].map(|op| self.code.binary(op, Type::U32, i, j).into())
    }
    fn if_zero(&mut self, i: Operand, x: Operand, y: Operand) -> Operand {
        let i = self.register(i);
        let is_zero = self.code.setp(Cmp::Eq, Type::U32, i, 0);
        self.code.selp(Type::B32, x, y, is_zero).into()
    }
    fn precedes(&mut self, i: Operand, j: Operand) -> Reg {
        let i = self.register(i);
        self.code.setp(Cmp::Lt, Type::U32, i, j)
    }

    fn pick(&mut self, i: Operand) -> Reg {
        self.code.mov(Type::U32, i)
    }
    fn select_pick(&mut self, condition: Reg, x: Reg, y: Reg) -> Reg {
        self.code.selp(Type::B32, x, y, condition)
    }

    fn real(&mut self, x: f64) -> Reg {
        self.code.mov(self.ty, Operand::Imm(self.dtype.bits(x)))
    }
    fn add(&mut self, x: Reg, y: Reg) -> Reg {
        self.code.binary(BinaryOp::Add, self.ty, x, y)
    }
    fn sub(&mut self, x: Reg, y: Reg) -> Reg {
        self.code.binary(BinaryOp::Sub, self.ty, x, y)
    }
    fn mul(&mut self, x: Reg, y: Reg) -> Reg {
        self.code.binary(BinaryOp::Mul, self.ty, x, y)
    }
    fn div(&mut self, x: Reg, y: Reg) -> Reg {
        self.code.binary(BinaryOp::Div, self.ty, x, y)
    }
    fn sqrt(&mut self, x: Reg) -> Reg {
        self.code.unary(UnaryOp::Sqrt, self.ty, x)
    }
    fn abs(&mut self, x: Reg) -> Reg {
        self.code.unary(UnaryOp::Abs, self.ty, x)
    }
    fn less(&mut self, x: Reg, y: Reg) -> Reg {
        self.code.setp(Cmp::Lt, self.ty, x, y)
    }
    fn equal(&mut self, x: Reg, y: Reg) -> Reg {
        self.code.setp(Cmp::Eq, self.ty, x, y)
    }
    fn or(&mut self, x: Reg, y: Reg) -> Reg {
        self.code.binary(BinaryOp::Or, Type::Pred, x, y)
    }
    fn select(&mut self, condition: Reg, x: Reg, y: Reg) -> Reg {
        self.code.selp(self.ty, x, y, condition)
    }

    fn reals(&mut self, count: usize) -> usize {
        self.take(REALS, count)
    }
    fn picks(&mut self, count: usize) -> usize {
        self.take(PICKS, count)
    }
    fn load(&mut self, from: usize, i: Operand) -> Reg {
        let i = self.offset(from, i);
        let address = self.address(REALS, i);
        self.get(self.ty, address)
    }
    fn load_at(&mut self, from: usize, i: Reg, by: usize, offset: Operand) -> Reg {
        let i = self.at(i.into(), by, offset);
        self.load(from, i)
    }
    fn store(&mut self, to: usize, i: Operand, x: Reg) {
        let i = self.offset(to, i);
        let address = self.address(REALS, i);
        self.put(self.ty, address, x);
    }
    fn store_if(&mut self, condition: Reg, to: usize, i: Operand, x: Reg) {
        let i = self.offset(to, i);
        let (ty, address) = (self.ty, self.address(REALS, i));
        let store = InstOp::St { space: Space::Global, cache: Cache::Default, ty, address, a: vec![x.into()] };
        self.code.push_if((condition, true), store);
    }
    fn store_at(&mut self, to: usize, i: Reg, by: usize, offset: Operand, x: Reg) {
        let i = self.at(i.into(), by, offset);
        self.store(to, i, x);
    }
    fn load_pick(&mut self, from: usize, i: Operand) -> Reg {
        let i = self.offset(from, i);
        let address = self.address(PICKS, i);
        self.get(Type::U32, address)
    }
    fn load_pick_at(&mut self, from: usize, i: Reg) -> Reg {
        self.load_pick(from, i.into())
    }
    fn store_pick(&mut self, to: usize, i: Operand, x: Reg) {
        let i = self.offset(to, i);
        let address = self.address(PICKS, i);
        self.put(Type::U32, address, x);
    }
    fn store_pick_at(&mut self, to: usize, i: Reg, x: Reg) {
        self.store_pick(to, i.into(), x);
    }

    fn read(&mut self, operand: usize, i: Operand) -> Reg {
        let address = self.element(self.operands[operand], i, self.dtype.size());
        self.get(self.ty, address)
    }
    fn read_at(&mut self, operand: usize, i: Reg, by: usize, offset: Operand) -> Reg {
        let i = self.at(i.into(), by, offset);
        self.read(operand, i)
    }
    fn write(&mut self, result: usize, i: Operand, x: Reg) {
        let address = self.element(self.results[result], i, self.dtype.size());
        self.put(self.ty, address, x);
    }
    fn write_at(&mut self, result: usize, i: Reg, by: usize, offset: Operand, x: Reg) {
        let i = self.at(i.into(), by, offset);
        self.write(result, i, x);
    }
    fn write_pick(&mut self, result: usize, i: Operand, x: Reg) {
        let address = self.element(self.results[result], i, 4);
        self.put(Type::U32, address, x);
    }

    fn in_order(&mut self, from: Operand, to: Operand, mut f: impl FnMut(&mut Self, Operand)) {
        self.counted(from, to, Operand::Imm(1), |gpu, i| f(gpu, i.into()));
    }
    fn each(&mut self, from: Operand, to: Operand, mut f: impl FnMut(&mut Self, Operand)) {
        self.divided(from, to, |gpu, i| f(gpu, i.into()));
    }
    fn grid<R: Copy>(
        &mut self,
        rows: [Operand; 2],
        columns: [Operand; 2],
        mut of_row: impl FnMut(&mut Self, Operand) -> R,
        mut f: impl FnMut(&mut Self, Operand, Operand, R),
    ) {
        let Some(thread) = self.thread else {
            return self.in_order(rows[0], rows[1], |gpu, i| {
                let row = of_row(gpu, i);
                gpu.in_order(columns[0], columns[1], |gpu, j| f(gpu, i, j, row));
            });
        };
        let (height, width) = (self.minus(rows[1], rows[0]), self.minus(columns[1], columns[0]));
        let height = self.register(height);
        let count = self.code.binary(BinaryOp::Mul, Type::U32, height, width);
        self.counted(thread.into(), count.into(), Operand::Imm(THREADS.into()), |gpu, e| {
            let [i, j] = [BinaryOp::Div, BinaryOp::Rem].map(|op| gpu.code.binary(op, Type::U32, e, width));
            let (i, j) = (gpu.plus(i.into(), rows[0]), gpu.plus(j.into(), columns[0]));
            let row = of_row(gpu, i);
            f(gpu, i, j, row);
        });
        self.code.push(InstOp::Bar);
    }
    fn columns(&mut self, from: Operand, to: Operand, mut f: impl FnMut(&mut Self, Reg)) {
        self.divided(from, to, |gpu, j| f(gpu, j));
    }
    fn span(&mut self, column: Reg, mut f: impl FnMut(&mut Self, Operand)) {
        f(self, column.into());
    }
    fn once(&mut self, f: impl FnOnce(&mut Self)) {
        let Some(thread) = self.thread else { return f(self) };
        let is_other = self.code.setp(Cmp::Ne, Type::U32, thread, 0);
        let end = self.code.label();
        self.code.branch_if(is_other, true, end);
        f(self);
        self.code.place(end);
    }
    fn sync(&mut self) {
        if self.thread.is_some() {
            self.code.push(InstOp::Bar);
        }
    }
    fn when(&mut self, condition: Reg, f: impl FnOnce(&mut Self)) {
        let end = self.code.label();
        self.code.branch_if(condition, false, end);
        f(self);
        self.code.place(end);
    }
    fn repeat(&mut self, most: usize, mut f: impl FnMut(&mut Self) -> Reg) {
        let i = self.code.mov(Type::U32, 0);
        let (top, end) = (self.code.label(), self.code.label());
        self.code.place(top);
        let goes_on = f(self);
        self.code.branch_if(goes_on, false, end);
        self.code.binary_to(i, BinaryOp::Add, Type::U32, i, 1);
        let is_more = self.code.setp(Cmp::Lt, Type::U32, i, most as u32);
        self.code.branch_if(is_more, true, top);
        self.code.place(end);
    }
    fn fold<const N: usize>(
        &mut self,
        from: Operand,
        to: Operand,
        x: [Reg; N],
        mut f: impl FnMut(&mut Self, Operand, [Reg; N]) -> [Reg; N],
    ) -> [Reg; N] {
        let start = x.map(|x| (self.ty, x));
        let state = self
            .carried([from, to], &start, |gpu, i, state| f(gpu, i.into(), std::array::from_fn(|n| state[n])).to_vec());
        std::array::from_fn(|n| state[n])
    }
    fn fold_pick(
        &mut self,
        from: Operand,
        to: Operand,
        (x, pick): (Reg, Reg),
        mut f: impl FnMut(&mut Self, Operand, (Reg, Reg)) -> (Reg, Reg),
    ) -> (Reg, Reg) {
        let start = [(self.ty, x), (Type::U32, pick)];
        let state = self.carried([from, to], &start, |gpu, i, state| {
            let (x, pick) = f(gpu, i.into(), (state[0], state[1]));
            vec![x, pick]
        });
        (state[0], state[1])
    }
}

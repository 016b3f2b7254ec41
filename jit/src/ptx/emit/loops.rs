//! Loop kernels: rows over threads.
//!
//! In: a loop kernel, the loops of one of its rows, the addresses of its buffers. Out: code for all threads.
//!
//! A row is an iteration of the loops that are not reduced. One thread computes a row, or [`PARTIALS`] threads (half of
//! a warp) if its reductions are interleaved: thread `l` has accumulator `l`, and the sixteen are combined by shuffles
//! in the order of the other back ends. So a result has the same bits on every device. Rows without reductions whose
//! accesses allow it are taken several at a time, with accesses of up to 16 bytes.

use hashbrown::HashMap;
use smallvec::{SmallVec, smallvec};

use super::code::{Code, class, lane_type};
use super::{THREADS, Threads};
use crate::fuse::{Affine, LoopKernel, PARTIALS};
use crate::graph::ReduceOp;
use crate::lower::lane::{LaneId, LaneInst, LaneOp, LaneProgram, LaneType, from_op, storage};
use crate::lower::loops::{Accumulator, Block, Effect, Input, Loops, RowId, Stmt, schedule_row};
use crate::ptx::inst::{
    Address, BinaryOp, Cache, Cmp, InstOp, Operand, Reg, RegClass, Rounding, Shuffle, Space, Special, TernaryOp, Type,
};
use crate::types::{DType, product};

/// The most bytes of an access.
const ACCESS_BYTES: usize = 16;

/// The fewest rows of a kernel that takes several at a time: with fewer, threads would be idle.
const MIN_ROWS: usize = 1 << 12;

/// How the rows of a kernel are spread over threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::ptx) struct Spread {
    /// The number of rows.
    rows: usize,
    /// Threads of a row: 1 or [`PARTIALS`].
    lanes: usize,
    /// Rows that a thread takes at a time.
    width: usize,
}

impl Spread {
    /// The number of threads that all have something to do.
    pub(in crate::ptx) fn threads(self) -> usize {
        self.rows.div_ceil(self.width) * self.lanes
    }

    /// The number of rows.
    pub(in crate::ptx) fn rows(self) -> usize {
        self.rows
    }

    /// The number of blocks that have something to do, with so many rows if it is another number.
    pub(in crate::ptx) fn blocks(self, rows: Option<usize>) -> usize {
        Spread { rows: rows.unwrap_or(self.rows), ..self }.threads().div_ceil(THREADS as usize)
    }
}

/// A kernel with what is known before it is emitted.
#[derive(Clone)]
pub(in crate::ptx) struct RowKernel {
    kernel: LoopKernel,
    loops: Loops,
    /// Loops over rows, outermost first. Dimensions that every index steps through as through one are one: its extent,
    /// and the last dimension, which stands for all.
    outer: SmallVec<[(usize, usize); 4]>,
    pub(in crate::ptx) spread: Spread,
}

impl RowKernel {
    /// The kernel. `is_aligned` says that every buffer begins at [`ACCESS_BYTES`].
    pub(in crate::ptx) fn new(kernel: LoopKernel, is_aligned: bool) -> Self {
        let loops = schedule_row(&kernel);
        let rows = (0..kernel.dims.len()).filter(|&d| !kernel.dims[d].reduced && !kernel.serial);
        let indices = indices(&loops.body);
        let mut outer: SmallVec<[(usize, usize); 4]> = SmallVec::new();
        for d in rows {
            let extent = kernel.dims[d].extent;
            let joins = |last: usize| indices.iter().all(|(i, _)| i.strides[last] == i.strides[d] * extent as isize);
            match outer.last_mut() {
                Some((all, last)) if joins(*last) => (*all, *last) = (*all * extent, d),
                _ => outer.push((extent, d)),
            }
        }
        let count = product(outer.iter().map(|(extent, _)| *extent));
        let lanes = if loops.accumulators.iter().any(|a| a.interleaved.is_some()) { PARTIALS } else { 1 };
        let is_single = kernel.reduces() || kernel.serial || !is_aligned || count < MIN_ROWS;
        let width = if is_single { 1 } else { width(&outer, &indices) };
        RowKernel { kernel, loops, outer, spread: Spread { rows: count, lanes, width } }
    }

    pub(in crate::ptx) fn kernel(&self) -> &LoopKernel {
        &self.kernel
    }

    /// The most rows that [`RowKernel::emit_given`] takes at a time.
    pub(super) fn most_together(&self) -> usize {
        let Some(&(extent, _)) = self.outer.last() else { return 1 };
        let full = full_access(&indices(&self.loops.body));
        if extent.is_multiple_of(full) { full } else { 1 }
    }

    /// Emits adjacent rows of a kernel without reductions whose loops step through the elements of an argument in their
    /// order: those whose elements are given. `coordinate` says where the first row is.
    pub(super) fn emit_given(&self, code: &mut Code, args: &[Reg], given: Given<'_>, coordinate: &mut Coordinate<'_>) {
        let mut emitter = Emitter::new(self, args);
        emitter.width = given.values.len();
        emitter.given = Some(given);
        let mut stride = 1;
        for &(extent, dim) in self.outer.iter().rev() {
            emitter.vars[dim] = Some(coordinate(code, stride, extent));
            stride *= extent;
        }
        emitter.stmts(code, &self.loops.body);
    }

    /// Emits the kernel for these threads; `args` are the addresses of the buffers of the loops. `extent` is that of a
    /// flat kernel, if it is known at run time only.
    pub(super) fn emit(&self, code: &mut Code, args: &[Reg], threads: Threads, extent: Option<Reg>) {
        let Spread { rows, lanes, width } = self.spread;
        let mut emitter = Emitter::new(self, args);
        if lanes == 1 {
            // The rest is not empty only if the rows are one loop.
            let (whole, rest): (Operand, Operand) = match extent {
                Some(extent) => (
                    code.binary(BinaryOp::Shr, Type::U32, extent, width.ilog2()).into(),
                    code.binary(BinaryOp::And, Type::B32, extent, width as u32 - 1).into(),
                ),
                None => (Operand::Imm((rows / width) as u64), Operand::Imm((rows % width) as u64)),
            };
            code.counted(threads.index, whole, threads.count, |code, i| emitter.emit_row(code, i, width));
            if width > 1 && rest != Operand::Imm(0) {
                let first = match whole {
                    Operand::Imm(whole) => Operand::Imm(whole * width as u64),
                    whole => code.binary(BinaryOp::Mul, Type::U32, whole, width as u32).into(),
                };
                code.counted(threads.index, rest, threads.count, |code, i| {
                    let i = code.binary(BinaryOp::Add, Type::U32, i, first);
                    emitter.emit_row(code, i, 1);
                });
            }
            return;
        }
        let lane = code.binary(BinaryOp::And, Type::B32, threads.index, PARTIALS as u32 - 1);
        let first = code.binary(BinaryOp::Shr, Type::U32, threads.index, PARTIALS.ilog2());
        let step = match threads.count {
            Operand::Imm(count) => Operand::Imm(count / PARTIALS as u64),
            count => code.binary(BinaryOp::Shr, Type::U32, count, PARTIALS.ilog2()).into(),
        };
        // The bits of the half warp that this thread is in.
        let warp_lane = code.special(Special::Laneid);
        let half = code.binary(BinaryOp::And, Type::B32, warp_lane, PARTIALS as u32);
        let ones = code.mov(Type::B32, (1 << PARTIALS) - 1);
        let mask = code.binary(BinaryOp::Shl, Type::B32, ones, half);
        let is_first = code.setp(Cmp::Eq, Type::U32, lane, 0);
        emitter.lane = Some(Lane { number: lane, mask, is_first });
        code.counted(first, rows as u32, step, |code, i| emitter.emit_row(code, i, 1));
    }
}

/// Elements of an argument that are in registers instead of memory: one for each row that is taken at a time.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) arg: usize,
    pub(super) values: &'a [Reg],
}

/// The value of a loop whose iterations are so many elements each, and so many iterations.
pub(super) type Coordinate<'c> = dyn FnMut(&mut Code, usize, usize) -> Reg + 'c;

/// The elements that make a full access, if they are as large as the largest one.
fn full_access(indices: &[(Affine, Access)]) -> usize {
    let sizes = indices.iter().filter_map(|(_, access)| access.dtype()).map(DType::size);
    ACCESS_BYTES / sizes.max().unwrap_or(1).max(4)
}

/// The rows that a thread takes at a time: as many as make a full access, where every store allows it.
fn width(outer: &[(usize, usize)], indices: &[(Affine, Access)]) -> usize {
    let Some(&(extent, last)) = outer.last() else { return 1 };
    let accesses = || indices.iter().filter_map(|(index, access)| access.dtype().map(|dtype| (index, access, dtype)));
    let width = full_access(indices);
    let is_whole = |index: &Affine| is_whole(index, outer, last, width);
    let stores_allow = accesses().all(|(index, access, _)| !matches!(access, Access::Store(_)) || is_whole(index));
    let divides = extent % width == 0 || outer.len() == 1;
    if stores_allow && divides && width > 1 { width } else { 1 }
}

/// Whether `width` rows are adjacent elements that begin at a multiple of `width`.
fn is_whole(index: &Affine, outer: &[(usize, usize)], last: usize, width: usize) -> bool {
    let others = index.strides.iter().enumerate().filter(|(d, _)| outer.iter().any(|(_, o)| o == d) && *d != last);
    let inner = index.strides.iter().enumerate().filter(|(d, _)| outer.iter().all(|(_, o)| o != d));
    let width = width as isize;
    index.strides[last] == 1
        && index.offset % width == 0
        && others.chain(inner).all(|(d, stride)| stride % width == 0 || d == last)
}

/// What an index is for.
#[derive(Clone, Copy, PartialEq)]
enum Access {
    Load(DType),
    /// A load whose position has a computed part, or an index as a value.
    Other,
    Store(DType),
}

impl Access {
    fn dtype(self) -> Option<DType> {
        match self {
            Access::Load(dtype) | Access::Store(dtype) => Some(dtype),
            Access::Other => None,
        }
    }
}

/// The indices in the code of a row.
fn indices(body: &[Stmt]) -> Vec<(Affine, Access)> {
    let mut all = Vec::new();
    for stmt in body {
        match stmt {
            Stmt::For { body, .. } | Stmt::Collapsed { body, .. } => all.extend(indices(body)),
            Stmt::Block(block) => {
                all.extend(block.inputs.iter().filter_map(|input| match input {
                    Input::Load { index, dtype, .. } => Some((index.clone(), Access::Load(*dtype))),
                    Input::Table { index, .. } | Input::Iota(index) => Some((index.clone(), Access::Other)),
                    Input::Row(..) => None,
                }));
                all.extend(block.effects.iter().filter_map(|effect| match effect {
                    Effect::Store { index, dtype, .. } => Some((index.clone(), Access::Store(*dtype))),
                    Effect::Accumulate { .. } | Effect::Row { .. } => None,
                }));
            }
            Stmt::Init(_) | Stmt::Combine { .. } => {}
            Stmt::Transpose(_) => unreachable!("a row packs nothing"),
        }
    }
    all
}

/// The value of a lane in each of the rows that a thread takes; one if it is the same in all.
type Value = SmallVec<[Operand; 4]>;

/// This thread among those of its row.
#[derive(Clone, Copy)]
struct Lane {
    number: Reg,
    mask: Reg,
    is_first: Reg,
}

struct Emitter<'a> {
    row: &'a RowKernel,
    args: &'a [Reg],
    /// The induction variable of each dimension, a u32.
    vars: Vec<Option<Reg>>,
    /// Rows at a time.
    width: usize,
    accumulators: Vec<Option<Reg>>,
    rows: HashMap<RowId, Value>,
    lane: Option<Lane>,
    /// Whether the statement is in a loop over the lanes.
    in_vector: bool,
    /// Where values that a sweep keeps for later ones begin in local memory, by where the schedule has them in scratch
    /// memory.
    kept: HashMap<isize, u32>,
    given: Option<Given<'a>>,
}

impl<'a> Emitter<'a> {
    fn new(row: &'a RowKernel, args: &'a [Reg]) -> Self {
        Emitter {
            row,
            args,
            vars: vec![None; row.kernel.dims.len()],
            width: 1,
            accumulators: vec![],
            rows: HashMap::new(),
            lane: None,
            in_vector: false,
            kept: HashMap::new(),
            given: None,
        }
    }

    /// The code of `width` rows from number `i · width` on.
    fn emit_row(&mut self, code: &mut Code, i: Reg, width: usize) {
        self.width = width;
        self.rows.clear();
        self.vars.fill(None);
        self.accumulators = vec![None; self.row.loops.accumulators.len()];
        let outer = self.row.outer.clone();
        let mut rest = i;
        for (n, &(extent, dim)) in outer.iter().enumerate().rev() {
            let is_last = n + 1 == outer.len();
            let extent = if is_last { extent / width } else { extent } as u32;
            let mut var = if n == 0 { rest } else { code.binary(BinaryOp::Rem, Type::U32, rest, extent) };
            if n > 0 {
                rest = code.binary(BinaryOp::Div, Type::U32, rest, extent);
            }
            if is_last && width > 1 {
                var = code.binary(BinaryOp::Mul, Type::S32, var, width as u32);
            }
            self.vars[dim] = Some(var);
        }
        let row = self.row;
        self.stmts(code, &row.loops.body);
    }

    fn stmts(&mut self, code: &mut Code, stmts: &[Stmt]) {
        for stmt in stmts {
            match stmt {
                Stmt::For { dim, extent, vector, body } => self.repeat(code, *dim, *extent, *vector, body),
                Stmt::Block(block) => self.block(code, block),
                Stmt::Init(a) => {
                    let Accumulator { op, dtype, .. } = self.row.loops.accumulators[*a];
                    let ty = self.row.loops.accumulators[*a].lane_type();
                    let identity = code.mov(lane_type(ty), Operand::Imm(from_op::identity(op, dtype)));
                    self.accumulators[*a] = Some(identity);
                }
                Stmt::Combine { accumulator, row } => {
                    let value = self.combine(code, *accumulator);
                    self.rows.insert(*row, smallvec![value.into()]);
                }
                Stmt::Collapsed { .. } | Stmt::Transpose(_) => unreachable!("a row has none"),
            }
        }
    }

    fn repeat(&mut self, code: &mut Code, dim: usize, extent: usize, vector: bool, body: &[Stmt]) {
        let lane = self.lane.filter(|_| vector);
        let (from, step) = match lane {
            Some(lane) => (lane.number.into(), PARTIALS as u32),
            None => (Operand::Imm(0), 1),
        };
        let outside = self.in_vector;
        self.in_vector |= lane.is_some();
        code.counted(from, extent as u32, step, |code, i| {
            self.vars[dim] = Some(i);
            self.stmts(code, body);
            self.vars[dim] = None;
        });
        self.in_vector = outside;
    }

    fn block(&mut self, code: &mut Code, block: &Block) {
        let program = &block.program;
        let live = program.live(&block.roots());
        let mut values: Vec<Value> = vec![Value::new(); program.insts.len()];
        for (i, inst) in program.insts.iter().enumerate().filter(|(i, _)| live[*i]) {
            values[i] = match inst.op {
                LaneOp::Input(n) => self.input(code, &block.inputs[n as usize]),
                LaneOp::Gather(n, offset) => {
                    let (Input::Load { arg, index, dtype } | Input::Table { arg, index, dtype }) =
                        &block.inputs[n as usize]
                    else {
                        unreachable!("a gather reads a table")
                    };
                    self.load(code, *arg, index, *dtype, Some(&values[offset.index()]))
                }
                _ => apply(code, program, inst, &values),
            };
        }
        let loads = block.inputs.iter().any(|input| matches!(input, Input::Load { .. } | Input::Table { .. }));
        let stores = block.effects.iter().any(|effect| matches!(effect, Effect::Store { .. }));
        if let Some(lane) = self.lane.filter(|_| !self.in_vector && loads && stores) {
            // What other lanes have read may be overwritten in place.
            code.push(InstOp::BarWarp { mask: lane.mask.into() });
        }
        for effect in &block.effects {
            let value = &values[effect.value().index()];
            match effect {
                Effect::Store { arg, index, dtype, offset, .. } => {
                    let offset = offset.map(|x| values[x.index()].clone());
                    self.store(code, *arg, index, *dtype, value, offset.as_ref());
                }
                Effect::Accumulate { accumulator, .. } => {
                    let Accumulator { op, dtype, .. } = self.row.loops.accumulators[*accumulator];
                    let ty = lane_type(self.row.loops.accumulators[*accumulator].lane_type());
                    let old = self.accumulators[*accumulator].expect("it has been set to the identity");
                    let new = accumulate(code, op, dtype, old.into(), value[0]);
                    code.mov_to(old, ty, new);
                }
                Effect::Row { row, .. } => drop(self.rows.insert(*row, value.clone())),
            }
        }
    }

    /// The accumulators of all lanes as one value.
    fn combine(&self, code: &mut Code, accumulator: usize) -> Reg {
        let Accumulator { op, dtype, interleaved } = self.row.loops.accumulators[accumulator];
        let ty = self.row.loops.accumulators[accumulator].lane_type();
        let mut x = self.accumulators[accumulator].expect("it has been set to the identity");
        let (Some(lane), Some(_)) = (self.lane, interleaved) else { return x };
        // What other lanes have read may be overwritten from here on, where results are written in place.
        code.push(InstOp::BarWarp { mask: lane.mask.into() });
        let mut distance = PARTIALS as u32 / 2;
        while distance > 0 {
            let other = shuffle(code, ty, Shuffle::Down, x, distance, lane.mask);
            let sum = accumulate(code, op, dtype, x.into(), other.into());
            x = code.in_register(lane_type(ty), sum);
            distance /= 2;
        }
        shuffle(code, ty, Shuffle::Idx, x, 0, lane.mask)
    }

    fn input(&mut self, code: &mut Code, input: &Input) -> Value {
        match input {
            Input::Load { arg, .. } if self.given.is_some_and(|given| given.arg == *arg) => {
                self.given.map_or_else(Value::new, |given| given.values.iter().map(|&x| x.into()).collect())
            }
            Input::Load { arg, index, dtype } => self.load(code, *arg, index, *dtype, None),
            Input::Table { .. } => Value::new(),
            Input::Iota(index) => {
                let stride = self.stride_of_rows(index);
                let first = self.position(code, index, false);
                (0..if stride == 0 { 1 } else { self.width })
                    .map(|n| {
                        let more = index.offset + stride * n as isize;
                        match first {
                            None => Operand::Imm(u64::from(more as u32)),
                            Some(x) if more == 0 => x.into(),
                            Some(x) => code.binary(BinaryOp::Add, Type::S32, x, more as u32).into(),
                        }
                    })
                    .collect()
            }
            Input::Row(row, _) => self.rows[row].clone(),
        }
    }

    /// The step of an index from row to row of those that a thread takes at a time.
    fn stride_of_rows(&self, index: &Affine) -> isize {
        match self.row.outer.last() {
            Some(&(_, last)) if self.width > 1 => index.strides[last],
            _ => 0,
        }
    }

    /// The part of an index that varies, as an s32, or as an s64 if `wide`; `None` if there is none.
    fn position(&self, code: &mut Code, index: &Affine, wide: bool) -> Option<Reg> {
        let mut sum: Option<Reg> = None;
        for (var, &stride) in self.vars.iter().zip(&index.strides) {
            let Some(var) = var.filter(|_| stride != 0) else { continue };
            let ty = if wide { Type::S64 } else { Type::S32 };
            let var = if wide { code.cvt(Type::U64, Type::U32, Rounding::None, var) } else { var };
            let factor = Operand::Imm(if wide { stride as i64 as u64 } else { u64::from(stride as u32) });
            sum = Some(match sum {
                None if stride == 1 => var,
                None => code.binary(BinaryOp::Mul, ty, var, factor),
                Some(sum) if stride == 1 => code.binary(BinaryOp::Add, ty, sum, var),
                Some(sum) => code.ternary(TernaryOp::Mad, ty, var, factor, sum),
            });
        }
        sum
    }

    /// The address of an element, `by` elements (an s32) behind `index`.
    fn address(&self, code: &mut Code, arg: usize, index: &Affine, size: usize, by: Option<Operand>) -> Address {
        let dims = &self.row.kernel.dims;
        let reach = |(&stride, dim): (&isize, &crate::fuse::Dim)| stride.unsigned_abs().saturating_mul(dim.extent);
        let most = index.strides.iter().zip(dims).map(reach).fold(index.offset.unsigned_abs(), usize::saturating_add);
        // Positions in bytes that need more than 31 bits, and offsets that do.
        let wide = most.saturating_mul(size) >= 1 << 31;
        let mut base = self.args[arg];
        let scaled =
            |code: &mut Code, base: Reg, x: Operand| code.ternary(TernaryOp::MadWide, Type::S32, x, size as u32, base);
        if let Some(by) = by {
            base = scaled(code, base, by);
        }
        if let Some(x) = self.position(code, index, wide) {
            base = match wide {
                false => scaled(code, base, x.into()),
                true => code.ternary(TernaryOp::Mad, Type::S64, x, Operand::Imm(size as u64), base),
            };
        }
        if !wide {
            return Address::Reg(base, (index.offset * size as isize) as i32);
        }
        let offset = Operand::Imm((index.offset * size as isize) as i64 as u64);
        Address::Reg(code.binary(BinaryOp::Add, Type::S64, base, offset), 0)
    }

    /// The address in local memory of a value that is kept for later sweeps: a thread has those of its lane.
    fn local(&mut self, code: &mut Code, index: &Affine, dtype: DType) -> Address {
        let dims = &self.row.kernel.dims;
        let last = dims.iter().rposition(|dim| dim.reduced).expect("values are kept of rows with reductions");
        let whole = dims[last].extent;
        let own = whole.div_ceil(PARTIALS);
        let size = dtype.size();
        let start = *self.kept.entry(index.offset * size as isize).or_insert_with(|| {
            let rows = product(dims.iter().take(last).filter(|dim| dim.reduced).map(|dim| dim.extent));
            code.reserve_local((rows * own * size) as u32)
        });
        let mut position = Affine { offset: 0, strides: index.strides.clone() };
        position.strides[last] = 0;
        for stride in &mut position.strides {
            *stride = *stride / whole as isize * own as isize;
        }
        let base = code.mov(Type::U32, Operand::Local);
        let var = self.vars[last].expect("it is in the loop over the lanes");
        let var = code.binary(BinaryOp::Shr, Type::U32, var, PARTIALS.ilog2());
        let mut at = code.ternary(TernaryOp::Mad, Type::U32, var, size as u32, base);
        if let Some(position) = self.position(code, &position, false) {
            at = code.ternary(TernaryOp::Mad, Type::U32, position, size as u32, at);
        }
        Address::Reg(at, start as i32)
    }

    fn load(&mut self, code: &mut Code, arg: usize, index: &Affine, dtype: DType, by: Option<&Value>) -> Value {
        if arg == self.args.len() {
            let address = self.local(code, index, dtype);
            return load(code, Space::Local, dtype, address, 1);
        }
        let stride = self.stride_of_rows(index);
        let varies = stride != 0 || by.is_some_and(|by| by.len() > 1);
        let count = if varies { self.width } else { 1 };
        let last = self.row.outer.last().map_or(0, |(_, last)| *last);
        if by.is_none() && count > 1 && is_whole(index, &self.row.outer, last, self.width) {
            let address = self.address(code, arg, index, dtype.size(), None);
            return load(code, Space::Global, dtype, address, self.width);
        }
        let element = |n: usize| {
            let by = by.map(|by| by[if by.len() > 1 { n } else { 0 }]);
            let index = Affine { offset: index.offset + stride * n as isize, strides: index.strides.clone() };
            let address = self.address(code, arg, &index, dtype.size(), by);
            load(code, Space::Global, dtype, address, 1)[0]
        };
        (0..count).map(element).collect()
    }

    fn store(&mut self, code: &mut Code, arg: usize, index: &Affine, dtype: DType, value: &Value, by: Option<&Value>) {
        if arg == self.args.len() {
            let address = self.local(code, index, dtype);
            return store(code, Space::Local, dtype, address, &[value[0]], None);
        }
        // All lanes of a row have its values; one stores them.
        let guard = self.lane.filter(|_| !self.in_vector).map(|lane| lane.is_first);
        let last = self.row.outer.last().map_or(0, |(_, last)| *last);
        let at = |value: &Value, n: usize| value[if value.len() > 1 { n } else { 0 }];
        if by.is_none() && self.width > 1 && is_whole(index, &self.row.outer, last, self.width) {
            let address = self.address(code, arg, index, dtype.size(), None);
            let values: Vec<Operand> = (0..self.width).map(|n| at(value, n)).collect();
            return store(code, Space::Global, dtype, address, &values, guard);
        }
        let stride = self.stride_of_rows(index);
        for n in 0..self.width {
            let index = Affine { offset: index.offset + stride * n as isize, strides: index.strides.clone() };
            let address = self.address(code, arg, &index, dtype.size(), by.map(|by| at(by, n)));
            store(code, Space::Global, dtype, address, &[at(value, n)], guard);
        }
    }
}

/// The value of an instruction from those of its operands.
fn apply(code: &mut Code, program: &LaneProgram, inst: &LaneInst, values: &[Value]) -> Value {
    let operands = inst.op.operands();
    let count = operands.iter().map(|x| values[x.index()].len()).max().unwrap_or(1);
    let from = operands.first().map_or(inst.ty, |&x| program.ty(x));
    let one = |n: usize| {
        let of = |x: &LaneId| values[x.index()][if values[x.index()].len() > 1 { n } else { 0 }];
        let x: SmallVec<[Operand; 4]> = operands.iter().map(of).collect();
        code.lane(&inst.op, inst.ty, from, &x)
    };
    (0..count).map(one).collect()
}

/// `x` accumulated into `old`, both of the type that `dtype` accumulates in.
fn accumulate(code: &mut Code, op: ReduceOp, dtype: DType, old: Operand, x: Operand) -> Operand {
    let ty = LaneType::of(storage::accumulator(dtype));
    let mut program = LaneProgram::new();
    let (a, b) = (program.input(0, ty), program.input(1, ty));
    let result = from_op::accumulate(&mut program, op, dtype, a, b);
    let live = program.live(&[result]);
    let mut values: Vec<Value> = vec![Value::new(); program.insts.len()];
    for (i, inst) in program.insts.iter().enumerate().filter(|(i, _)| live[*i]) {
        values[i] = match inst.op {
            LaneOp::Input(n) => smallvec![[old, x][n as usize]],
            _ => apply(code, &program, inst, &values),
        };
    }
    values[result.index()][0]
}

/// The value `x` of another lane of the same half warp.
fn shuffle(code: &mut Code, ty: LaneType, mode: Shuffle, x: Reg, lane: u32, mask: Reg) -> Reg {
    // Segments of 16 lanes.
    let c = Operand::Imm(((32 - PARTIALS as u64) << 8) | 0x1f);
    let one = |code: &mut Code, x: Reg| {
        let d = code.reg(RegClass::B32);
        code.push(InstOp::Shfl { mode, d, a: x.into(), b: lane.into(), c, mask: mask.into() });
        d
    };
    let bits = |code: &mut Code, x: Reg, ty: Type, to: RegClass| {
        let d = code.reg(to);
        code.push(InstOp::Mov { ty, d, a: x.into() });
        d
    };
    match ty {
        LaneType::I32 => one(code, x),
        LaneType::F32 => {
            let word = bits(code, x, Type::B32, RegClass::B32);
            let word = one(code, word);
            bits(code, word, Type::B32, RegClass::F32)
        }
        LaneType::F64 | LaneType::I64 => {
            let (low, high) = (code.reg(RegClass::B32), code.reg(RegClass::B32));
            let word = bits(code, x, Type::B64, RegClass::B64);
            code.push(InstOp::Unpack { d: low, e: high, a: word });
            let (low, high) = (one(code, low), one(code, high));
            let d = code.reg(RegClass::B64);
            code.push(InstOp::Pack { d, a: low, b: high });
            bits(code, d, Type::B64, class(lane_type(ty)))
        }
        LaneType::Bool => unreachable!("a bool accumulates as an integer"),
    }
}

/// The type of an element in memory.
fn memory_type(dtype: DType) -> Type {
    match storage::Storage::of(dtype) {
        storage::Storage::Byte => Type::U8,
        storage::Storage::Lane => lane_type(LaneType::of(dtype)),
    }
}

/// Loads adjacent elements.
fn load(code: &mut Code, space: Space, dtype: DType, address: Address, count: usize) -> Value {
    let ty = memory_type(dtype);
    let d: Vec<Reg> = (0..count).map(|_| code.reg(class(ty))).collect();
    code.push(InstOp::Ld { space, cache: Cache::Default, ty, d: d.clone(), address });
    let lane = |x: Reg| match storage::Storage::of(dtype) {
        storage::Storage::Byte => code.setp(Cmp::Ne, Type::U32, x, 0).into(),
        storage::Storage::Lane => x.into(),
    };
    d.into_iter().map(lane).collect()
}

/// Stores adjacent elements, where `guard` holds if it is given.
fn store(code: &mut Code, space: Space, dtype: DType, address: Address, values: &[Operand], guard: Option<Reg>) {
    let ty = memory_type(dtype);
    let element = |&x: &Operand| match storage::Storage::of(dtype) {
        storage::Storage::Byte => {
            let p = code.in_register(Type::Pred, x);
            code.selp(Type::B32, 1, 0, p).into()
        }
        // A vector of constants is not allowed.
        storage::Storage::Lane => code.in_register(ty, x).into(),
    };
    let a: Vec<Operand> = values.iter().map(element).collect();
    let op = InstOp::St { space, cache: Cache::Default, ty, address, a };
    match guard {
        Some(p) => code.push_if((p, true), op),
        None => code.push(op),
    }
}

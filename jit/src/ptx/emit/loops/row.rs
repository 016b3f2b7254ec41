//! The code of a row, for one of its threads.

use hashbrown::HashMap;
use smallvec::smallvec;

use super::super::code::{Code, lane_type};
use super::element::{Value, accumulate, apply, load, shuffle, store};
use super::member::{Member, Portion, Shared, Tiled};
use super::spread::{Owners, is_whole};
use super::{Given, RowKernel, THREADS};
use crate::fuse::{Affine, PARTIALS};
use crate::lower::lane::{LaneId, LaneInst, LaneOp, from_op};
use crate::lower::loops::{Accumulator, Block, Effect, Input, RowId, Stmt};
use crate::ptx::inst::{Address, BinaryOp, Cmp, InstOp, Operand, Reg, Rounding, Shuffle, Space, TernaryOp, Type};
use crate::types::{DType, product};

/// How many iterations of a sweep load their elements before the first is used, and the most instructions of one for
/// that, as the values of all are in registers. Loads take long, and a thread waits for all of them together.
const UNROLLED: &[(usize, usize)] = &[(8, 8), (4, 40)];

pub(super) struct Emitter<'a> {
    pub(super) row: &'a RowKernel,
    pub(super) args: &'a [Reg],
    /// The induction variable of each dimension, a u32.
    pub(super) vars: Vec<Option<Reg>>,
    /// Rows at a time.
    width: usize,
    pub(super) accumulators: Vec<Option<Reg>>,
    rows: HashMap<RowId, Value>,
    pub(super) member: Member,
    /// The number of this thread among the owners of elements.
    owner: Option<Reg>,
    /// Whether the statement is in a loop over the lanes.
    in_vector: bool,
    /// Where values that a sweep keeps for later ones begin in local memory, by where the schedule has them in scratch
    /// memory.
    kept: HashMap<isize, u32>,
    /// The portion of a row that a block computes.
    pub(super) portion: Option<Portion>,
    /// Where inputs are that are read through a tile.
    pub(super) tiled: HashMap<usize, Tiled>,
    given: Option<Given<'a>>,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(row: &'a RowKernel, args: &'a [Reg], member: Member) -> Self {
        Emitter {
            row,
            args,
            vars: vec![None; row.kernel.dims.len()],
            width: 1,
            accumulators: vec![],
            rows: HashMap::new(),
            member,
            owner: None,
            in_vector: false,
            kept: HashMap::new(),
            portion: None,
            tiled: HashMap::new(),
            given: None,
        }
    }

    /// The code of adjacent rows of which elements are given, with the induction variables of the first.
    pub(super) fn emit_given(&mut self, code: &mut Code, vars: Vec<Option<Reg>>, given: Given<'a>) {
        self.width = given.values.len();
        self.vars = vars;
        self.given = Some(given);
        self.stmts(code, &self.row.loops.body);
    }
}

impl Emitter<'_> {
    /// The code of `width` rows from number `i · width` on.
    pub(super) fn emit_row(&mut self, code: &mut Code, i: Reg, width: usize) {
        self.width = width;
        self.rows.clear();
        self.vars.fill(None);
        self.accumulators = vec![None; self.row.loops.accumulators.len()];
        let row = self.row;
        let has_owners = row.owners.count > 1;
        let mut rest = i;
        for (n, &(extent, dim)) in row.outer.iter().enumerate().rev() {
            let is_last = n + 1 == row.outer.len();
            let extent = if is_last { extent / width } else { extent } as u32;
            let is_rest = n == 0 && !has_owners;
            let mut var = if is_rest { rest } else { code.binary(BinaryOp::Rem, Type::U32, rest, extent) };
            if !is_rest {
                rest = code.binary(BinaryOp::Div, Type::U32, rest, extent);
            }
            if is_last && width > 1 {
                var = code.binary(BinaryOp::Mul, Type::S32, var, width as u32);
            }
            self.vars[dim] = Some(var);
        }
        self.owner = has_owners.then_some(rest);
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
        let (from, step): (Operand, usize) = match self.member {
            Member::HalfWarp { lane, .. } if vector => (lane.into(), PARTIALS),
            Member::Block(shared) if vector => (shared.thread.into(), THREADS as usize),
            Member::Alone | Member::HalfWarp { .. } | Member::Block(_) => (Operand::Imm(0), 1),
        };
        let outside = self.in_vector;
        self.in_vector |= step > 1;
        match (self.member, body) {
            (Member::Block(shared), [Stmt::Block(block)]) if vector && self.exchanges(block) => {
                self.exchange(code, &shared, dim, extent, block);
            }
            (_, [Stmt::Block(block)]) => self.elements(code, block, dim, (from, extent, step)),
            _ => code.counted(from, extent as u32, step as u32, |code, i| {
                self.vars[dim] = Some(i);
                self.stmts(code, body);
            }),
        }
        self.vars[dim] = None;
        self.in_vector = outside;
    }

    /// A block for the positions `from`, `from + step`, … below `extent`; `from` is less than `step`.
    fn elements(&mut self, code: &mut Code, block: &Block, dim: usize, (from, extent, step): (Operand, usize, usize)) {
        let count = self.unrolled(block);
        let whole = extent - extent % (step * count);
        if whole > 0 {
            code.counted(from, whole as u32, (step * count) as u32, |code, i| {
                self.together(code, block, dim, (i, step), count);
            });
        }
        if whole < extent {
            let from = match from {
                Operand::Imm(from) => Operand::Imm(from + whole as u64),
                from if whole == 0 => from,
                from => code.binary(BinaryOp::Add, Type::U32, from, whole as u32).into(),
            };
            code.counted(from, extent as u32, step as u32, |code, i| self.together(code, block, dim, (i, step), 1));
        }
    }

    /// How many iterations load their elements together.
    pub(super) fn unrolled(&self, block: &Block) -> usize {
        let loads = block.inputs.iter().any(|input| matches!(input, Input::Load { .. } | Input::Table { .. }));
        let instructions = block.program.live(&block.roots()).iter().filter(|live| **live).count();
        // An iteration in order may load what the one before it stores; only places are found ahead.
        let all = if loads && (!self.row.kernel.serial || self.finds_places(block)) { UNROLLED } else { &[] };
        all.iter().find(|(_, most)| instructions <= *most).map_or(1, |(count, _)| *count)
    }

    /// A block for `count` positions from `first` on. All are loaded before the first has an effect.
    pub(super) fn together(
        &mut self,
        code: &mut Code,
        block: &Block,
        dim: usize,
        (first, step): (Reg, usize),
        count: usize,
    ) {
        let all: Vec<_> = (0..count)
            .map(|n| {
                let at = if n == 0 { first } else { code.binary(BinaryOp::Add, Type::U32, first, (n * step) as u32) };
                self.vars[dim] = Some(at);
                (at, self.begin(code, block))
            })
            .collect();
        for (at, begun) in all {
            self.vars[dim] = Some(at);
            self.finish(code, block, begun);
        }
    }

    /// A block at the present position.
    fn block(&mut self, code: &mut Code, block: &Block) {
        let begun = self.begin(code, block);
        self.finish(code, block, begun);
    }

    /// What comes before the effects of a block: its values; or, if its elements have owners, the place of its element
    /// and whether that is one of this thread.
    fn begin(&mut self, code: &mut Code, block: &Block) -> (Vec<Value>, Option<Reg>) {
        let mut values: Vec<Value> = vec![Value::new(); block.program.insts.len()];
        let (Some(owner), Some((index, offset))) = (self.owner, stored(block)) else {
            self.compute(code, block, &block.roots(), &mut values);
            return (values, None);
        };
        self.compute(code, block, offset.as_slice(), &mut values);
        let by = offset.map(|x| values[x.index()][0]);
        let is_own = self.owns(code, owner, index, by);
        (values, Some(is_own))
    }

    /// The rest of a block.
    fn finish(&mut self, code: &mut Code, block: &Block, (mut values, is_own): (Vec<Value>, Option<Reg>)) {
        let end = is_own.map(|is_own| {
            let end = code.label();
            code.branch_if(is_own, false, end);
            end
        });
        self.compute(code, block, &block.roots(), &mut values);
        self.effects(code, block, &values);
        if let Some(end) = end {
            code.place(end);
        }
    }

    /// Whether the elements of a block have owners, and their places depend on nothing that it stores.
    fn finds_places(&self, block: &Block) -> bool {
        let Some((_, offset)) = stored(block) else { return false };
        let is_stored = |n: u32| match &block.inputs[n as usize] {
            Input::Load { arg, .. } | Input::Table { arg, .. } => {
                block.effects.iter().any(|effect| matches!(effect, Effect::Store { arg: a, .. } if a == arg))
            }
            Input::Iota(_) | Input::Row(..) => false,
        };
        let live = block.program.live(offset.as_slice());
        let reads = |inst: &LaneInst| matches!(inst.op, LaneOp::Input(n) | LaneOp::Gather(n, _) if is_stored(n));
        self.row.owners.count > 1 && !block.program.insts.iter().zip(&live).any(|(inst, live)| *live && reads(inst))
    }

    /// Whether an element, `by` elements behind `index`, is one of this thread.
    fn owns(&self, code: &mut Code, owner: Reg, index: &Affine, by: Option<Operand>) -> Reg {
        let Owners { count, unit } = self.row.owners;
        let mut index = index.clone();
        self.row.outer.iter().for_each(|&(_, dim)| index.strides[dim] = 0);
        let place = match (self.position(code, &index, false), by) {
            (Some(x), Some(by)) => code.binary(BinaryOp::Add, Type::S32, x, by).into(),
            (Some(x), None) => x.into(),
            (None, by) => by.unwrap_or(Operand::Imm(0)),
        };
        let place = if unit > 1 { code.binary(BinaryOp::Div, Type::U32, place, unit as u32).into() } else { place };
        let of = code.binary(BinaryOp::And, Type::B32, place, count as u32 - 1);
        code.setp(Cmp::Eq, Type::U32, of, owner)
    }

    /// Computes what `roots` need beyond the `values` that there are.
    fn compute(&mut self, code: &mut Code, block: &Block, roots: &[LaneId], values: &mut [Value]) {
        let program = &block.program;
        let live = program.live(roots);
        for (i, inst) in program.insts.iter().enumerate().filter(|(i, _)| live[*i]) {
            if !values[i].is_empty() {
                continue;
            }
            values[i] = match inst.op {
                LaneOp::Input(n) => match self.tiled.get(&(n as usize)) {
                    Some(tiled) => self.tiled_input(code, *tiled),
                    None => self.input(code, &block.inputs[n as usize]),
                },
                LaneOp::Gather(n, offset) => {
                    let (Input::Load { arg, index, dtype } | Input::Table { arg, index, dtype }) =
                        &block.inputs[n as usize]
                    else {
                        unreachable!("a gather reads a table")
                    };
                    self.load(code, *arg, index, *dtype, Some(&values[offset.index()]))
                }
                _ => apply(code, program, inst, values),
            };
        }
    }

    fn effects(&mut self, code: &mut Code, block: &Block, values: &[Value]) {
        let loads = block.inputs.iter().any(|input| matches!(input, Input::Load { .. } | Input::Table { .. }));
        let stores = block.effects.iter().any(|effect| matches!(effect, Effect::Store { .. }));
        if !self.in_vector && loads && stores {
            self.wait(code);
        }
        for effect in &block.effects {
            let value = &values[effect.value().index()];
            match effect {
                Effect::Store { arg, index, dtype, offset, .. } => {
                    let offset = offset.map(|x| values[x.index()].clone());
                    self.store(code, *arg, index, *dtype, value, offset.as_ref());
                }
                Effect::Accumulate { accumulator, .. } => {
                    if !self.hand_over(code, *accumulator, value[0]) {
                        self.add(code, *accumulator, &value[..1]);
                    }
                }
                Effect::Row { row, .. } => drop(self.rows.insert(*row, value.clone())),
            }
        }
    }

    /// Waits for the other threads of the row: what they have read may be overwritten in place.
    fn wait(&self, code: &mut Code) {
        match self.member {
            Member::Alone => {}
            Member::HalfWarp { mask, .. } => code.push(InstOp::BarWarp { mask: mask.into() }),
            Member::Block(_) => code.push(InstOp::Bar),
        }
    }

    /// Adds elements to an accumulator of this thread, one after the other.
    pub(super) fn add(&self, code: &mut Code, accumulator: usize, elements: &[Operand]) {
        let Accumulator { op, dtype, .. } = self.row.loops.accumulators[accumulator];
        let ty = lane_type(self.row.loops.accumulators[accumulator].lane_type());
        let old = self.accumulators[accumulator].expect("it has been set to the identity");
        let new = elements.iter().fold(old.into(), |sum, &x| accumulate(code, op, dtype, sum, x));
        code.mov_to(old, ty, new);
    }

    /// The accumulators of all threads as one value.
    fn combine(&self, code: &mut Code, accumulator: usize) -> Reg {
        let x = self.accumulators[accumulator].expect("it has been set to the identity");
        if self.row.loops.accumulators[accumulator].interleaved.is_none() {
            return x;
        }
        match self.member {
            Member::Alone => x,
            Member::HalfWarp { mask, .. } => {
                // What other threads have read may be overwritten from here on, where results are written in place.
                self.wait(code);
                let x = self.fold(code, accumulator, x, mask.into());
                shuffle(code, self.row.loops.accumulators[accumulator].lane_type(), Shuffle::Idx, x, 0, mask.into())
            }
            Member::Block(shared) => self.combine_block(code, &shared, accumulator, x),
        }
    }

    /// The accumulators of half of a warp as one, in its first thread.
    pub(super) fn fold(&self, code: &mut Code, accumulator: usize, mut x: Reg, mask: Operand) -> Reg {
        let Accumulator { op, dtype, .. } = self.row.loops.accumulators[accumulator];
        let ty = self.row.loops.accumulators[accumulator].lane_type();
        let mut distance = PARTIALS as u32 / 2;
        while distance > 0 {
            let other = shuffle(code, ty, Shuffle::Down, x, distance, mask);
            let sum = accumulate(code, op, dtype, x.into(), other.into());
            x = code.in_register(lane_type(ty), sum);
            distance /= 2;
        }
        x
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
    pub(super) fn position(&self, code: &mut Code, index: &Affine, wide: bool) -> Option<Reg> {
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
    pub(super) fn address(
        &self,
        code: &mut Code,
        arg: usize,
        index: &Affine,
        size: usize,
        by: Option<Operand>,
    ) -> Address {
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

    /// The address of a value that is kept for later sweeps. A block has it in shared memory; of half of a warp, each
    /// thread has those of its lane in local memory.
    fn kept(&mut self, code: &mut Code, index: &Affine, dtype: DType) -> (Space, Address) {
        match self.member {
            Member::Block(shared) => {
                let position = self.position(code, index, false).expect("the last loop of a row is long");
                let at = code.ternary(TernaryOp::Mad, Type::U32, position, dtype.size() as u32, shared.base);
                let start = i64::from(shared.kept) + (index.offset * dtype.size() as isize) as i64;
                (Space::Shared, Address::Reg(at, start as i32))
            }
            Member::Alone | Member::HalfWarp { .. } => (Space::Local, self.local(code, index, dtype)),
        }
    }

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
            let (space, address) = self.kept(code, index, dtype);
            return load(code, space, dtype, address, 1);
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
            let (space, address) = self.kept(code, index, dtype);
            return store(code, space, dtype, address, &[value[0]], None);
        }
        // All threads of a row have its values; one stores them.
        let guard = match self.member {
            Member::HalfWarp { is_first, .. } | Member::Block(Shared { is_first, .. }) => {
                (!self.in_vector).then_some(is_first)
            }
            Member::Alone => None,
        };
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

/// The place of the first store of a block.
fn stored(block: &Block) -> Option<(&Affine, Option<LaneId>)> {
    block.effects.iter().find_map(|effect| match effect {
        Effect::Store { index, offset, .. } => Some((index, *offset)),
        Effect::Accumulate { .. } | Effect::Row { .. } => None,
    })
}

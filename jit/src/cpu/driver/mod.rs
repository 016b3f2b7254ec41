//! The driver: one function per program, which calls the kernels in order. Each thread runs its work ranges of the
//! parallel kernels. A driver of many kernels is split into functions that each call some of them.
//!
//! Comes in: a module, and the functions of its kernels. Goes out: Cranelift code of an [`Entry`](super::Entry) that
//! reads a [`Launch`]. It holds no addresses: constants, plans of products and precompiled functions are read from a
//! table.

mod region;

use std::mem::offset_of;
use std::ops::Range;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    FuncRef, InstBuilder, MemFlagsData, SigRef, StackSlot, StackSlotData, StackSlotKind, Value, types,
};
use cranelift_frontend::FunctionBuilder;
use cranelift_jit::JITModule;
use cranelift_module::{FuncId, Module as _};
use hashbrown::HashMap;

use super::table::{Datum, Table};
use super::{Compiler, Launch, host, segments};
use crate::error::Result;
use crate::fuse::BufferId;
use crate::lower::Module;
use crate::lower::call::{Call, group_words};
use crate::lower::memory::Location;
use crate::lower::parallel::{Group, Phase, Tiles};

/// The driver of a program with more kernels than this is split into pieces of at most `MAX_PIECE` kernels: the time of
/// register allocation is quadratic in the length of a function.
const MAX_UNSPLIT: usize = 256;
const MAX_PIECE: usize = 64;

/// An item of a driver. Items run in order.
enum Item<'a> {
    /// A barrier of all threads.
    Barrier,
    /// One thread runs these kernels: the thread whose word of [`Launch::ranges`] at this index is not zero, or the
    /// calling thread if there is no index.
    Serial(Range<usize>, Option<usize>),
    /// Each thread runs its range of the group: the words of [`Launch::ranges`] at this index and the next. Of a region
    /// it runs the body, whose work ranges begin here.
    Parallel(&'a Group, usize),
}

impl Item<'_> {
    fn kernels(&self) -> Range<usize> {
        match self {
            Item::Barrier => 0..0,
            Item::Serial(kernels, _) => kernels.clone(),
            Item::Parallel(group, _) => group.kernels.clone(),
        }
    }
}

/// The items of a program, split into pieces. Each piece becomes a function.
fn pieces<'a>(
    kernels: usize,
    phases: &'a [Phase],
    single: bool,
    group_words: &dyn Fn(&Group) -> usize,
) -> Vec<Vec<Item<'a>>> {
    let most = if kernels > MAX_UNSPLIT { MAX_PIECE } else { usize::MAX };
    let mut pieces = vec![Vec::new()];
    let mut count = 0;
    for item in items(kernels, phases, single, most, group_words) {
        count += item.kernels().len();
        if count > most {
            count = item.kernels().len();
            pieces.push(Vec::new());
        }
        pieces.last_mut().expect("there is a piece").push(item);
    }
    pieces
}

/// The items of a program. A serial item has at most `most` kernels; a tiled group is one item. `group_words` is the
/// number of words of a group of a parallel phase.
fn items<'a>(
    kernels: usize,
    phases: &'a [Phase],
    single: bool,
    most: usize,
    group_words: &dyn Fn(&Group) -> usize,
) -> Vec<Item<'a>> {
    let mut items = Vec::new();
    let serial = |items: &mut Vec<Item>, kernels: Range<usize>, word: Option<usize>| {
        let starts = kernels.clone().step_by(most);
        items.extend(starts.map(|k| Item::Serial(k..k.saturating_add(most).min(kernels.end), word)));
    };
    if single || phases.iter().all(|phase| !phase.parallel) {
        serial(&mut items, 0..kernels, None);
        return items;
    }
    let mut word = 0;
    for (i, phase) in phases.iter().enumerate() {
        if i > 0 {
            items.push(Item::Barrier);
        }
        if phase.parallel {
            for group in &phase.groups {
                items.push(Item::Parallel(group, word));
                word += group_words(group);
            }
        } else {
            serial(&mut items, phase.kernels(), Some(word));
            word += 1;
        }
    }
    items
}

impl Compiler {
    /// The function that calls the kernels in order. With `single`, it calls only the kernel whose index is its last
    /// argument.
    pub(super) fn driver(&mut self, driver: &Driver, single: bool) -> Result<FuncId> {
        let name = format!("{}{}", driver.prefix, if single { "single" } else { "driver" });
        let Module { calls, phases, .. } = driver.module;
        let pieces = pieces(calls.len(), phases, single, &|group| group_words(group, calls));
        if let [piece] = &pieces[..] {
            return self.piece(&name, driver, piece, single);
        }
        self.quick = Some(host(true)?);
        let mut callees: Vec<(Range<usize>, FuncId)> = Vec::with_capacity(pieces.len());
        for (i, piece) in pieces.iter().enumerate() {
            let begin = callees.last().map_or(0, |(before, _)| before.end);
            let end = piece.iter().map(|item| item.kernels().end).fold(begin, usize::max);
            callees.push((begin..end, self.piece(&format!("{name}.{i}"), driver, piece, single)?));
        }
        let function = self.function(&name, driver, single, |caller, arguments| {
            for (kernels, piece) in callees {
                let run = |caller: &mut DriverBuilder| {
                    let callee = caller.module.declare_func_in_func(piece, caller.builder.func);
                    caller.builder.ins().call(callee, arguments);
                };
                match arguments {
                    [_, wanted] => {
                        let at = caller.builder.ins().iadd_imm_s(*wanted, -(kernels.start as i64));
                        let count = kernels.len() as i64;
                        let inside = caller.builder.ins().icmp_imm_u(IntCC::UnsignedLessThan, at, count);
                        caller.only_if(inside, run);
                    }
                    _ => run(caller),
                }
            }
        });
        self.quick = None;
        function
    }

    /// The function of one piece.
    fn piece(&mut self, name: &str, driver: &Driver, items: &[Item], single: bool) -> Result<FuncId> {
        self.function(name, driver, single, |cx, arguments| {
            for item in items {
                match item {
                    Item::Barrier => cx.barrier(),
                    Item::Serial(kernels, _) if single => {
                        for k in kernels.clone() {
                            let wanted = cx.builder.ins().icmp_imm_u(IntCC::Equal, arguments[1], k as i64);
                            let word = driver.region_word(k);
                            cx.only_if(wanted, |cx| cx.kernel(k, word));
                        }
                    }
                    Item::Serial(kernels, None) => kernels.clone().for_each(|k| cx.kernel(k, None)),
                    Item::Serial(kernels, Some(word)) => {
                        let runs = cx.range_word(*word);
                        cx.only_if(runs, |cx| kernels.clone().for_each(|k| cx.kernel(k, None)));
                    }
                    Item::Parallel(group, word) if driver.is_collective(group.kernels.start) => {
                        cx.kernel(group.kernels.start, Some(*word));
                    }
                    Item::Parallel(group, word) => {
                        let range = (cx.range_word(*word), cx.range_word(word + 1));
                        match group.tiles {
                            Some(tiles) => cx.tiled_group(group.kernels.clone(), tiles, range),
                            None => {
                                let k = group.kernels.start;
                                let nonempty = cx.builder.ins().icmp(IntCC::UnsignedLessThan, range.0, range.1);
                                cx.only_if(nonempty, |cx| match driver.regions.contains_key(&k) {
                                    // One thread has all of it.
                                    true => cx.kernel(k, None),
                                    false => cx.call(k, Some(range)),
                                });
                            }
                        }
                    }
                }
            }
        })
    }

    /// A function with the driver's parameters.
    fn function(
        &mut self,
        name: &str,
        driver: &Driver,
        single: bool,
        body: impl FnOnce(&mut DriverBuilder, &[Value]),
    ) -> Result<FuncId> {
        self.context.func.signature = self.pointers(if single { 2 } else { 1 });
        let config = self.module.target_config();
        let signatures = (self.pointers(7), self.pointers(1), self.pointers(5));
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.frontend);
        let block = builder.create_block();
        builder.append_block_params_for_function_params(block);
        builder.switch_to_block(block);
        let arguments = builder.block_params(block).to_vec();
        let gemm = builder.import_signature(signatures.0);
        let barrier = builder.import_signature(signatures.1);
        let routine = builder.import_signature(signatures.2);
        let (module, functions, fields) = (&mut self.module, HashMap::new(), HashMap::new());
        let mut cx =
            DriverBuilder { builder, module, launch: arguments[0], driver, functions, fields, gemm, barrier, routine };
        if self.quick.is_some() {
            cx.load_fields();
        }
        body(&mut cx, &arguments);
        cx.builder.ins().return_(&[]);
        cx.builder.seal_all_blocks();
        cx.builder.finalize(config);
        self.define(name)
    }
}

/// The input of the driver.
pub(super) struct Driver<'a> {
    /// What the names of its functions begin with.
    pub(super) prefix: String,
    pub(super) module: &'a Module,
    pub(super) table: Table,
    /// The function of each loop nest.
    pub(super) functions: Vec<Option<FuncId>>,
    /// The drivers of the bodies of regions, by kernel.
    pub(super) regions: HashMap<usize, FuncId>,
}

impl Driver<'_> {
    /// Whether all threads run kernel `k` together.
    fn is_collective(&self, k: usize) -> bool {
        self.module.calls[k].collective().is_some()
    }

    /// Where the work ranges of the body of kernel `k` begin, if it is a region that all threads run.
    fn region_word(&self, k: usize) -> Option<usize> {
        self.module.calls[k].collective()?;
        let Module { calls, phases, .. } = self.module;
        let items = items(calls.len(), phases, false, usize::MAX, &|group| group_words(group, calls));
        items.iter().find_map(|item| match item {
            Item::Parallel(group, word) if group.kernels.start == k => Some(*word),
            Item::Parallel(..) | Item::Serial(..) | Item::Barrier => None,
        })
    }
}

/// The driver under construction.
struct DriverBuilder<'a, 'b> {
    builder: FunctionBuilder<'b>,
    module: &'a mut JITModule,
    launch: Value,
    driver: &'a Driver<'a>,
    /// Imported kernel functions, by code index.
    functions: HashMap<usize, FuncRef>,
    /// Fields of the [`Launch`] that are loaded already, by byte offset.
    fields: HashMap<usize, Value>,
    gemm: SigRef,
    barrier: SigRef,
    routine: SigRef,
}

impl DriverBuilder<'_, '_> {
    fn word(&mut self, from: Value, byte: usize) -> Value {
        let flags = MemFlagsData::new().with_notrap().with_readonly().with_can_move();
        self.builder.ins().load(types::I64, flags, from, byte as i32)
    }

    /// A field of the [`Launch`].
    fn field(&mut self, byte: usize) -> Value {
        match self.fields.get(&byte) {
            Some(&field) => field,
            None => self.word(self.launch, byte),
        }
    }

    /// Loads the fields that every call needs.
    fn load_fields(&mut self) {
        for byte in [offset_of!(Launch, arena), offset_of!(Launch, scratch), offset_of!(Launch, table)] {
            let field = self.word(self.launch, byte);
            self.fields.insert(byte, field);
        }
    }

    /// An address from [`Launch::table`].
    fn datum(&mut self, datum: Datum) -> Value {
        let table = self.field(offset_of!(Launch, table));
        self.word(table, self.driver.table.index(datum) * 8)
    }

    /// A word of [`Launch::ranges`].
    fn range_word(&mut self, word: usize) -> Value {
        let ranges = self.field(offset_of!(Launch, ranges));
        self.word(ranges, word * 8)
    }

    /// Waits at the barrier.
    fn barrier(&mut self) {
        let callee = self.field(offset_of!(Launch, barrier));
        let data = self.field(offset_of!(Launch, barrier_data));
        self.builder.ins().call_indirect(self.barrier, callee, &[data]);
    }

    fn only_if(&mut self, condition: Value, inside: impl FnOnce(&mut Self)) {
        let (run, after) = (self.builder.create_block(), self.builder.create_block());
        self.builder.ins().brif(condition, run, &[], after, &[]);
        self.builder.switch_to_block(run);
        inside(self);
        self.builder.ins().jump(after, &[]);
        self.builder.switch_to_block(after);
    }

    /// The address `offset` bytes into a buffer.
    fn address(&mut self, b: BufferId, offset: i64) -> Value {
        let (from, offset) = match self.driver.module.plan.locations[b.index()] {
            Location::Param(i) => {
                let table = self.field(offset_of!(Launch, params));
                (self.word(table, i * 8), offset)
            }
            Location::Output(i) => {
                let table = self.field(offset_of!(Launch, outputs));
                (self.word(table, i * 8), offset)
            }
            Location::Arena(at) => (self.field(offset_of!(Launch, arena)), at as i64 + offset),
            Location::Constant => (self.datum(Datum::Constant(b)), offset),
        };
        self.offset(from, offset)
    }

    /// The address `offset` bytes further.
    fn offset(&mut self, from: Value, offset: i64) -> Value {
        if offset == 0 { from } else { self.builder.ins().iadd_imm_s(from, offset) }
    }

    /// So many bytes of the stack, aligned for words.
    fn slot(&mut self, bytes: usize) -> StackSlot {
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes as u32, 3);
        self.builder.create_sized_stack_slot(data)
    }

    /// An array of the addresses of these buffers, on the stack.
    fn pointers(&mut self, buffers: &[BufferId]) -> Value {
        let slot = self.slot(buffers.len() * 8);
        for (i, &b) in buffers.iter().enumerate() {
            let address = self.address(b, 0);
            self.builder.ins().stack_store(types::I64, address, slot, i as i32 * 8);
        }
        self.builder.ins().stack_addr(types::I64, slot, 0)
    }

    /// Calls all kernels of a tiled group for the tiles `begin..end`, `tiles.step` tiles at a time.
    fn tiled_group(&mut self, kernels: Range<usize>, tiles: Tiles, (begin, end): (Value, Value)) {
        let (head, body, after) =
            (self.builder.create_block(), self.builder.create_block(), self.builder.create_block());
        let tile = self.builder.append_block_param(head, types::I64);
        self.builder.ins().jump(head, &[begin.into()]);
        self.builder.switch_to_block(head);
        let more = self.builder.ins().icmp(IntCC::UnsignedLessThan, tile, end);
        self.builder.ins().brif(more, body, &[], after, &[]);
        self.builder.switch_to_block(body);
        let next = self.builder.ins().iadd_imm_s(tile, tiles.step as i64);
        let next = self.builder.ins().umin(next, end);
        for k in kernels {
            let call = &self.driver.module.calls[k];
            let [_, all] = call.full_range(&self.driver.module.loops);
            let each = (all / tiles.count) as i64;
            let range = (self.builder.ins().imul_imm_s(tile, each), self.builder.ins().imul_imm_s(next, each));
            self.call(k, Some(range));
        }
        self.builder.ins().jump(head, &[next.into()]);
        self.builder.switch_to_block(after);
    }

    /// Runs all of kernel `k`; of a region that all threads run, the work ranges begin at `word`.
    fn kernel(&mut self, k: usize, word: Option<usize>) {
        let driver = self.driver;
        match &driver.module.calls[k] {
            Call::Region(region) => self.region(k, region, driver.regions[&k], word),
            Call::Loop { .. } | Call::Gemm { .. } | Call::Routine { .. } => self.call(k, None),
        }
    }

    /// Calls the code of kernel `k` for each of its segments that has chunks in a range: see [`segments`].
    fn segments(&mut self, k: usize, (code, count, arguments): (usize, usize, usize), (begin, end): (Value, Value)) {
        let loops = &self.driver.module.loops[code];
        let mut arrays: Vec<Value> = segments::ARRAYS.iter().map(|&byte| self.field(byte)).collect();
        arrays.push(self.launch);
        let slot = self.slot(arrays.len() * 8);
        for (i, &array) in arrays.iter().enumerate() {
            self.builder.ins().stack_store(types::I64, array, slot, i as i32 * 8);
        }
        let arrays = self.builder.ins().stack_addr(types::I64, slot, 0);
        let scratch = (loops.scratch > 0).then(|| self.field(offset_of!(Launch, scratch)));
        let bytes = (segments::HEADER + segments::ARGUMENT * arguments) * 8;
        let table = self.field(offset_of!(Launch, table));
        let first = self.builder.ins().iadd_imm_s(table, (self.driver.table.words(k) * 8) as i64);
        let last = self.builder.ins().iadd_imm_s(first, (bytes * count) as i64);
        let [head, body, after] = [(); 3].map(|()| self.builder.create_block());
        let segment = self.builder.append_block_param(head, types::I64);
        self.builder.ins().jump(head, &[first.into()]);
        self.builder.switch_to_block(head);
        let more = self.builder.ins().icmp(IntCC::UnsignedLessThan, segment, last);
        self.builder.ins().brif(more, body, &[], after, &[]);
        self.builder.switch_to_block(body);
        let chunks = (self.word(segment, 0), self.word(segment, 8));
        let (from, to) = (self.builder.ins().umax(begin, chunks.0), self.builder.ins().umin(end, chunks.1));
        let nonempty = self.builder.ins().icmp(IntCC::UnsignedLessThan, from, to);
        self.only_if(nonempty, |cx| {
            let mut list = Vec::with_capacity(arguments + 3);
            for i in 0..arguments {
                let at = (segments::HEADER + segments::ARGUMENT * i) * 8;
                let [array, byte, offset] = [at, at + 8, at + 16].map(|at| cx.word(segment, at));
                let array = cx.builder.ins().iadd(arrays, array);
                let array = cx.word(array, 0);
                let address = cx.builder.ins().iadd(array, byte);
                let address = cx.word(address, 0);
                list.push(cx.builder.ins().iadd(address, offset));
            }
            list.extend(scratch);
            if let Some(parallel) = loops.parallel {
                let iterations = cx.word(segment, 16);
                for chunk in [from, to] {
                    let chunk = cx.builder.ins().isub(chunk, chunks.0);
                    let iteration = cx.builder.ins().imul_imm_s(chunk, parallel.grain as i64);
                    list.push(cx.builder.ins().umin(iteration, iterations));
                }
            }
            cx.call_code(code, &list);
        });
        let next = self.builder.ins().iadd_imm_s(segment, bytes as i64);
        self.builder.ins().jump(head, &[next.into()]);
        self.builder.switch_to_block(after);
    }

    /// Calls a function of loops.
    fn call_code(&mut self, code: usize, arguments: &[Value]) {
        let DriverBuilder { builder, module, functions, driver, .. } = self;
        let function = *functions.entry(code).or_insert_with(|| {
            let id = driver.functions[code].expect("every kernel was compiled");
            module.declare_func_in_func(id, builder.func)
        });
        self.builder.ins().call(function, arguments);
    }

    /// Calls kernel `k`, which is no region, for a range of its work, by default for all of it.
    fn call(&mut self, k: usize, range: Option<(Value, Value)>) {
        let driver = self.driver;
        let call = &driver.module.calls[k];
        let full_range = |cx: &mut Self| {
            let [begin, end] = call.full_range(&driver.module.loops);
            let mut constant = |x: usize| cx.builder.ins().iconst(types::I64, x as i64);
            (constant(begin), constant(end))
        };
        if let Call::Loop { code, args, segments } = call
            && !segments.is_empty()
        {
            let range = range.unwrap_or_else(|| full_range(self));
            return self.segments(k, (*code, segments.len(), args.len()), range);
        }
        let (mut arguments, needs_scratch, needs_range): (Vec<Value>, bool, bool) = match call {
            Call::Gemm { args, .. } => {
                let mut list = vec![self.datum(Datum::Plan(k))];
                for &(b, offset) in args {
                    list.push(self.address(b, offset));
                }
                (list, true, true)
            }
            Call::Routine { args, .. } => {
                let list = vec![self.datum(Datum::Plan(k)), self.pointers(args)];
                (list, true, true)
            }
            Call::Loop { code, args, .. } => {
                let loops = &driver.module.loops[*code];
                let list = args.iter().map(|&b| self.address(b, 0)).collect();
                (list, loops.scratch > 0, loops.parallel.is_some())
            }
            Call::Region(_) => unreachable!("a region has no ranges of its own"),
        };
        if needs_scratch {
            arguments.push(self.field(offset_of!(Launch, scratch)));
        }
        if needs_range {
            let (begin, end) = range.unwrap_or_else(|| full_range(self));
            arguments.extend([begin, end]);
        }
        match call {
            Call::Loop { code, .. } => self.call_code(*code, &arguments),
            Call::Gemm { dtype, .. } => {
                let callee = self.datum(Datum::Product(*dtype));
                self.builder.ins().call_indirect(self.gemm, callee, &arguments);
            }
            Call::Routine { .. } => {
                let callee = self.datum(Datum::Routine);
                self.builder.ins().call_indirect(self.routine, callee, &arguments);
            }
            Call::Region(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_pieces_are_short_and_run_every_kernel_once() {
        // Serial and parallel phases and tiled groups; some are longer than a piece.
        let phases = |kernels: usize| {
            let (mut phases, mut begin): (Vec<Phase>, _) = (Vec::new(), 0);
            for length in [1, 3, 200, 8, 64, 65].into_iter().cycle() {
                let all = begin..(begin + length).min(kernels);
                let mut phase = Phase::serial(all.clone());
                phase.parallel = phases.len() % 2 == 1;
                if length == 8 && phase.parallel {
                    phase.groups = vec![Group { kernels: all.clone(), tiles: Some(Tiles { count: 4, step: 1 }) }];
                }
                phases.push(phase);
                begin = all.end;
                if begin == kernels {
                    return phases;
                }
            }
            phases
        };
        for kernels in [1, MAX_UNSPLIT, MAX_UNSPLIT + 1, 1_000] {
            for phases in [vec![Phase::serial(0..kernels)], phases(kernels)] {
                for single in [false, true] {
                    let pieces = pieces(kernels, &phases, single, &|_| 2);
                    let run: Vec<usize> = pieces.iter().flatten().flat_map(Item::kernels).collect();
                    assert_eq!(run, (0..kernels).collect::<Vec<_>>(), "in order, each once");
                    let longest = pieces.iter().map(|piece| piece.iter().map(|item| item.kernels().len()).sum()).max();
                    assert!(
                        kernels <= MAX_UNSPLIT && pieces.len() == 1 || longest <= Some(MAX_PIECE),
                        "{longest:?} at once"
                    );
                }
                let pieces = pieces(kernels, &phases, false, &|_| 2);
                let barriers = pieces.iter().flatten().filter(|item| matches!(item, Item::Barrier)).count();
                let is_parallel = phases.iter().any(|phase| phase.parallel);
                assert_eq!(barriers, if is_parallel { phases.len() - 1 } else { 0 });
                let words = pieces.iter().flatten().map(|item| match item {
                    Item::Barrier | Item::Serial(_, None) => 0,
                    Item::Serial(_, Some(word)) => word + 1,
                    Item::Parallel(_, word) => word + 2,
                });
                let count: usize =
                    phases.iter().map(|phase| if phase.parallel { 2 * phase.groups.len() } else { 1 }).sum();
                assert_eq!(
                    words.max(),
                    Some(if is_parallel { count } else { 0 }),
                    "one word or two per item, as in the work ranges"
                );
            }
        }
    }
}

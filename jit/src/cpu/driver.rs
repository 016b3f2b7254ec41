//! The driver: one function per program, which calls the kernels in order, each thread its part. Where there are many
//! kernels it calls functions that each call some of them.
//!
//! Comes in: the kernels' functions, the memory plan, the phases. Goes out: Cranelift code of an [`Entry`](super::Entry)
//! that reads a [`Launch`], and, for each thread, which part of what it runs ([`parts`]).

use std::mem::offset_of;
use std::ops::Range;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{FuncRef, InstBuilder, MemFlagsData, SigRef, Value, types};
use cranelift_frontend::FunctionBuilder;
use cranelift_jit::JITModule;
use cranelift_module::{FuncId, Module};
use hashbrown::HashMap;

use super::{Compiler, Launch, gemm, host};
use crate::error::Result;
use crate::fuse::{BufferId, Kernels, Source};
use crate::lower::loops::Loops;
use crate::lower::memory::{Location, Plan};
use crate::lower::parallel::{Group, Phase, Tiles, Work, partition};
use crate::types::DType;

/// A kernel on its way to a call.
pub(super) enum Call {
    /// Code by number among the distinct loops, and its arguments.
    Loop { code: usize, args: Vec<BufferId> },
    /// A product, boxed, since the code points to it; the buffers of its operands and its result, and the bytes at which
    /// they begin there.
    Gemm { gemm: Box<gemm::Gemm>, dtype: DType, args: [(BufferId, i64); 3] },
}

impl Call {
    pub(super) fn work(&self, shapes: &[Loops]) -> Work {
        // A vector instruction takes about a quarter of a nanosecond, which also does 8 multiplications and additions.
        match self {
            Call::Loop { code, .. } => {
                let loops = &shapes[*code];
                Work { nanoseconds: 20.0 + loops.instructions() as f64 * 0.25, chunks: self.chunks(shapes) }
            }
            Call::Gemm { gemm, .. } => {
                Work { nanoseconds: 50.0 + gemm.flops() as f64 * 0.01, chunks: self.chunks(shapes) }
            }
        }
    }

    /// Into how many parts it divides.
    fn chunks(&self, shapes: &[Loops]) -> usize {
        match self {
            Call::Loop { code, .. } => shapes[*code].parallel.map_or(1, |parallel| parallel.chunks()),
            Call::Gemm { gemm, .. } => gemm.tasks(),
        }
    }

    /// The dimension along which a loop divides, and how many of its iterations stay together.
    pub(super) fn outermost(&self, shapes: &[Loops]) -> Option<(usize, usize)> {
        match self {
            Call::Loop { code, .. } => shapes[*code].parallel.map(|parallel| (parallel.dim, parallel.grain)),
            Call::Gemm { .. } => None,
        }
    }

    pub(super) fn scratch(&self, shapes: &[Loops]) -> usize {
        match self {
            Call::Loop { code, .. } => shapes[*code].scratch,
            Call::Gemm { gemm, .. } => gemm.scratch_bytes(),
        }
    }

    /// Units of work as the begin and end that the code is called with.
    fn part(&self, shapes: &[Loops], units: Range<usize>) -> [usize; 2] {
        match self {
            Call::Loop { code, .. } => match shapes[*code].parallel {
                Some(p) => [(units.start * p.grain).min(p.extent), (units.end * p.grain).min(p.extent)],
                None => [units.start, units.end],
            },
            Call::Gemm { .. } => [units.start, units.end],
        }
    }

    /// The begin and end of all of it.
    fn whole(&self, shapes: &[Loops]) -> [usize; 2] {
        self.part(shapes, 0..self.chunks(shapes))
    }
}

/// What each thread runs, as [`Launch::parts`].
pub(super) fn parts(
    threads: usize,
    phases: &[Phase],
    jobs: &[Call],
    work: &[Work],
    shapes: &[Loops],
) -> Vec<Vec<usize>> {
    let mut words = vec![Vec::new(); threads];
    for phase in phases {
        if phase.parallel {
            let all: Vec<Work> = phase.groups.iter().map(|group| group.work(work)).collect();
            for (group, parts) in phase.groups.iter().zip(partition(&all, threads).parts) {
                for (words, part) in words.iter_mut().zip(parts) {
                    words.extend(match group.tiles {
                        Some(_) => [part.start, part.end],
                        None => jobs[group.kernels.start].part(shapes, part),
                    });
                }
            }
        } else {
            for (thread, words) in words.iter_mut().enumerate() {
                words.push(usize::from(thread == 0));
            }
        }
    }
    words
}

/// A program of more kernels than this has its driver in pieces, of so many kernels each: what allocates registers takes
/// time that grows as the square of a function's length.
const WHOLE: usize = 256;
const PIECE: usize = 64;

/// A piece of a driver, in order.
enum Item<'a> {
    /// All threads meet.
    Meet,
    /// One thread runs these kernels: the one for which this word of [`Launch::parts`] is not zero, or whoever calls.
    Alone(Range<usize>, Option<usize>),
    /// Each thread runs its part, which begins and ends as this word of [`Launch::parts`] and the next say.
    Shared(&'a Group, usize),
}

impl Item<'_> {
    fn kernels(&self) -> Range<usize> {
        match self {
            Item::Meet => 0..0,
            Item::Alone(kernels, _) => kernels.clone(),
            Item::Shared(group, _) => group.kernels.clone(),
        }
    }
}

/// What there is to do for so many kernels, in pieces, each for a function of its own.
fn pieces(kernels: usize, phases: &[Phase], single: bool) -> Vec<Vec<Item<'_>>> {
    let most = if kernels > WHOLE { PIECE } else { usize::MAX };
    let mut pieces = vec![Vec::new()];
    let mut count = 0;
    for item in items(kernels, phases, single, most) {
        count += item.kernels().len();
        if count > most {
            count = item.kernels().len();
            pieces.push(Vec::new());
        }
        pieces.last_mut().expect("there is a piece").push(item);
    }
    pieces
}

/// What there is to do; at most so many kernels in an item, unless they are a chain.
fn items(kernels: usize, phases: &[Phase], single: bool, most: usize) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    let alone = |items: &mut Vec<Item>, kernels: Range<usize>, word: Option<usize>| {
        let begins = kernels.clone().step_by(most);
        items.extend(begins.map(|k| Item::Alone(k..k.saturating_add(most).min(kernels.end), word)));
    };
    if single || phases.iter().all(|phase| !phase.parallel) {
        alone(&mut items, 0..kernels, None);
        return items;
    }
    let mut word = 0;
    for (i, phase) in phases.iter().enumerate() {
        if i > 0 {
            items.push(Item::Meet);
        }
        if phase.parallel {
            for group in &phase.groups {
                items.push(Item::Shared(group, word));
                word += 2;
            }
        } else {
            alone(&mut items, phase.kernels(), Some(word));
            word += 1;
        }
    }
    items
}

impl Compiler {
    /// The function that calls the kernels in order; if `single`, only the one whose number is its last argument.
    pub(super) fn driver(&mut self, driver: &Driver, single: bool) -> Result<FuncId> {
        let name = if single { "single" } else { "driver" };
        let pieces = pieces(driver.jobs.len(), driver.phases, single);
        if let [piece] = &pieces[..] {
            return self.piece(name, driver, piece, single);
        }
        self.quick = Some(host(true)?);
        let mut calls: Vec<(Range<usize>, FuncId)> = Vec::with_capacity(pieces.len());
        for (i, piece) in pieces.iter().enumerate() {
            let begin = calls.last().map_or(0, |(before, _)| before.end);
            let end = piece.iter().map(|item| item.kernels().end).fold(begin, usize::max);
            calls.push((begin..end, self.piece(&format!("{name}.{i}"), driver, piece, single)?));
        }
        self.function(name, driver, single, |caller, arguments| {
            for (kernels, piece) in calls {
                let run = |caller: &mut Calls| {
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
        })
    }

    /// A function of these items.
    fn piece(&mut self, name: &str, driver: &Driver, items: &[Item], single: bool) -> Result<FuncId> {
        self.function(name, driver, single, |calls, arguments| {
            for item in items {
                match item {
                    Item::Meet => calls.meet(),
                    Item::Alone(kernels, _) if single => {
                        for k in kernels.clone() {
                            let wanted = calls.builder.ins().icmp_imm_u(IntCC::Equal, arguments[1], k as i64);
                            calls.only_if(wanted, |calls| calls.call(k, None));
                        }
                    }
                    Item::Alone(kernels, None) => kernels.clone().for_each(|k| calls.call(k, None)),
                    Item::Alone(kernels, Some(word)) => {
                        let mine = calls.part(*word);
                        calls.only_if(mine, |calls| kernels.clone().for_each(|k| calls.call(k, None)));
                    }
                    Item::Shared(group, word) => {
                        let part = (calls.part(*word), calls.part(word + 1));
                        match group.tiles {
                            Some(tiles) => calls.tiled_group(group.kernels.clone(), tiles, part),
                            None => {
                                let some = calls.builder.ins().icmp(IntCC::UnsignedLessThan, part.0, part.1);
                                calls.only_if(some, |calls| calls.call(group.kernels.start, Some(part)));
                            }
                        }
                    }
                }
            }
        })
    }

    /// A function of the driver's arguments.
    fn function(
        &mut self,
        name: &str,
        driver: &Driver,
        single: bool,
        body: impl FnOnce(&mut Calls, &[Value]),
    ) -> Result<FuncId> {
        self.context.func.signature = self.pointers(if single { 2 } else { 1 });
        let config = self.module.target_config();
        let signatures = (self.pointers(7), self.pointers(1));
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.frontend);
        let block = builder.create_block();
        builder.append_block_params_for_function_params(block);
        builder.switch_to_block(block);
        let arguments = builder.block_params(block).to_vec();
        let gemm = builder.import_signature(signatures.0);
        let wait = builder.import_signature(signatures.1);
        let (module, functions, fields) = (&mut self.module, HashMap::new(), HashMap::new());
        let mut calls = Calls { builder, module, launch: arguments[0], driver, functions, fields, gemm, wait };
        if self.quick.is_some() {
            calls.read_fields();
        }
        body(&mut calls, &arguments);
        calls.builder.ins().return_(&[]);
        calls.builder.seal_all_blocks();
        calls.builder.finalize(config);
        self.define(name)
    }
}

/// What the driver is made of.
pub(super) struct Driver<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) plan: &'a Plan,
    pub(super) phases: &'a [Phase],
    pub(super) jobs: &'a [Call],
    pub(super) shapes: &'a [Loops],
    pub(super) functions: Vec<Option<FuncId>>,
}

/// The driver's code as it grows.
struct Calls<'a, 'b> {
    builder: FunctionBuilder<'b>,
    module: &'a mut JITModule,
    launch: Value,
    driver: &'a Driver<'a>,
    /// Of the kernels' functions those that were called, by number.
    functions: HashMap<usize, FuncRef>,
    /// Fields of the [`Launch`] that have been read.
    fields: HashMap<usize, Value>,
    gemm: SigRef,
    wait: SigRef,
}

impl Calls<'_, '_> {
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

    /// Reads once, here, what every call needs.
    fn read_fields(&mut self) {
        for byte in [offset_of!(Launch, arena), offset_of!(Launch, scratch)] {
            let field = self.word(self.launch, byte);
            self.fields.insert(byte, field);
        }
    }

    /// A word of [`Launch::parts`].
    fn part(&mut self, word: usize) -> Value {
        let parts = self.field(offset_of!(Launch, parts));
        self.word(parts, word * 8)
    }

    /// Waits for all threads.
    fn meet(&mut self) {
        let callee = self.field(offset_of!(Launch, wait));
        let team = self.field(offset_of!(Launch, team));
        self.builder.ins().call_indirect(self.wait, callee, &[team]);
    }

    fn only_if(&mut self, condition: Value, inside: impl FnOnce(&mut Self)) {
        let (run, after) = (self.builder.create_block(), self.builder.create_block());
        self.builder.ins().brif(condition, run, &[], after, &[]);
        self.builder.switch_to_block(run);
        inside(self);
        self.builder.ins().jump(after, &[]);
        self.builder.switch_to_block(after);
    }

    /// The address so many bytes after the begin of a buffer.
    fn address(&mut self, b: BufferId, offset: i64) -> Value {
        let (from, offset) = match self.driver.plan.locations[b.index()] {
            Location::Param(i) => {
                let table = self.field(offset_of!(Launch, params));
                (self.word(table, i * 8), offset)
            }
            Location::Output(i) => {
                let table = self.field(offset_of!(Launch, outputs));
                (self.word(table, i * 8), offset)
            }
            Location::Arena(at) => (self.field(offset_of!(Launch, arena)), at as i64 + offset),
            Location::Constant => {
                let Source::Constant(array) = &self.driver.kernels.buffers[b.index()].source else {
                    unreachable!("the plan says constant for constants only")
                };
                let start = array.buffer().start() as usize as i64;
                return self.builder.ins().iconst(types::I64, start + offset);
            }
        };
        if offset == 0 { from } else { self.builder.ins().iadd_imm_s(from, offset) }
    }

    /// Calls all kernels of a chain for the slices from `begin` to `end`, so many slices at once.
    fn tiled_group(&mut self, kernels: Range<usize>, tiles: Tiles, (begin, end): (Value, Value)) {
        let (head, body, after) =
            (self.builder.create_block(), self.builder.create_block(), self.builder.create_block());
        let slice = self.builder.append_block_param(head, types::I64);
        self.builder.ins().jump(head, &[begin.into()]);
        self.builder.switch_to_block(head);
        let some = self.builder.ins().icmp(IntCC::UnsignedLessThan, slice, end);
        self.builder.ins().brif(some, body, &[], after, &[]);
        self.builder.switch_to_block(body);
        let next = self.builder.ins().iadd_imm_s(slice, tiles.step as i64);
        let next = self.builder.ins().umin(next, end);
        for k in kernels {
            let job = &self.driver.jobs[k];
            let [_, all] = job.whole(self.driver.shapes);
            let each = (all / tiles.count) as i64;
            let part = (self.builder.ins().imul_imm_s(slice, each), self.builder.ins().imul_imm_s(next, each));
            self.call(k, Some(part));
        }
        self.builder.ins().jump(head, &[next.into()]);
        self.builder.switch_to_block(after);
    }

    /// Calls kernel `k`, in part or whole.
    fn call(&mut self, k: usize, part: Option<(Value, Value)>) {
        let driver = self.driver;
        let job = &driver.jobs[k];
        let (mut arguments, needs_scratch, needs_part): (Vec<Value>, bool, bool) = match job {
            Call::Gemm { gemm, args, .. } => {
                let mut list = vec![self.builder.ins().iconst(types::I64, std::ptr::from_ref(&**gemm) as usize as i64)];
                for &(b, offset) in args {
                    list.push(self.address(b, offset));
                }
                (list, true, true)
            }
            Call::Loop { code, args } => {
                let loops = &driver.shapes[*code];
                let list = args.iter().map(|&b| self.address(b, 0)).collect();
                (list, loops.scratch > 0, loops.parallel.is_some())
            }
        };
        if needs_scratch {
            arguments.push(self.field(offset_of!(Launch, scratch)));
        }
        if needs_part {
            let (begin, end) = part.unwrap_or_else(|| {
                let [begin, end] = job.whole(driver.shapes);
                let mut constant = |x: usize| self.builder.ins().iconst(types::I64, x as i64);
                (constant(begin), constant(end))
            });
            arguments.extend([begin, end]);
        }
        match job {
            Call::Loop { code, .. } => {
                let Calls { builder, module, functions, .. } = self;
                let function = *functions.entry(*code).or_insert_with(|| {
                    let id = driver.functions[*code].expect("every kernel was compiled");
                    module.declare_func_in_func(id, builder.func)
                });
                self.builder.ins().call(function, &arguments);
            }
            Call::Gemm { dtype, .. } => {
                let f64 = *dtype == DType::F64;
                let entry = if f64 { gemm::gemm_range_f64 as *const () } else { gemm::gemm_range_f32 as *const () };
                let callee = self.builder.ins().iconst(types::I64, entry as usize as i64);
                self.builder.ins().call_indirect(self.gemm, callee, &arguments);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_driver_are_short_and_run_every_kernel_once() {
        // Phases of one thread and of all, among them chains, up to longer ones than a piece.
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
        for kernels in [1, WHOLE, WHOLE + 1, 1_000] {
            for phases in [vec![Phase::serial(0..kernels)], phases(kernels)] {
                for single in [false, true] {
                    let pieces = pieces(kernels, &phases, single);
                    let run: Vec<usize> = pieces.iter().flatten().flat_map(Item::kernels).collect();
                    assert_eq!(run, (0..kernels).collect::<Vec<_>>(), "in order, each once");
                    let longest = pieces.iter().map(|piece| piece.iter().map(|item| item.kernels().len()).sum()).max();
                    assert!(kernels <= WHOLE && pieces.len() == 1 || longest <= Some(PIECE), "{longest:?} at once");
                }
                let pieces = pieces(kernels, &phases, false);
                let meetings = pieces.iter().flatten().filter(|item| matches!(item, Item::Meet)).count();
                let is_shared = phases.iter().any(|phase| phase.parallel);
                assert_eq!(meetings, if is_shared { phases.len() - 1 } else { 0 });
                let words = pieces.iter().flatten().map(|item| match item {
                    Item::Meet | Item::Alone(_, None) => 0,
                    Item::Alone(_, Some(word)) => word + 1,
                    Item::Shared(_, word) => word + 2,
                });
                let count: usize =
                    phases.iter().map(|phase| if phase.parallel { 2 * phase.groups.len() } else { 1 }).sum();
                assert_eq!(words.max(), Some(if is_shared { count } else { 0 }), "as many words as threads are given");
            }
        }
    }
}

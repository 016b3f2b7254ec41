//! A launch: the blocks one after the other, or of a cooperative launch all in turns; the warps of a block from barrier
//! to barrier.

use super::access::end_reading;
use super::code::Code;
use super::context::{Block, Context};
use super::counts::Counts;
use super::decode::decode;
use super::exec::step;
use super::memory::Memory;
use super::name;
use super::warp::{Dims, Fault, Run, Warp};
use crate::ptx::inst::{Entry, Type};
use crate::{Error, Result};

/// The most threads of a block.
const MAX_THREADS: u32 = 1024;
/// The most bytes of shared memory of a block on any GPU yet.
const MAX_SHARED: u32 = 227 << 10;
/// The most bytes of local memory of a thread.
const MAX_LOCAL: u32 = 512 << 10;
/// The most registers of a thread; PTX has no bound, but memory has.
const MAX_REGISTERS: u64 = 1 << 16;
/// How many rounds blocks wait for each other before that counts as for ever.
const MAX_IDLE_ROUNDS: u32 = 100;

/// A kernel, and what to run it on.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The kernel.
    pub entry: &'a Entry,
    /// How many blocks.
    pub grid: u32,
    /// How many threads in each.
    pub block: u32,
    /// Whether all blocks are resident at once.
    pub cooperative: bool,
    /// The values of the parameters: bits, zero-extended.
    pub params: &'a [u64],
}

/// How a launch is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether races are errors. Without, a launch takes less time and memory.
    pub races: bool,
    /// How many instructions all threads together may run.
    pub limit: u64,
    /// The order of the blocks: that of their numbers, or one drawn from a seed.
    pub order: Option<u64>,
    /// The order of the warps of a block: each until it waits or ends, or after each instruction one drawn from a seed.
    pub interleave: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Options { races: true, limit: 1 << 33, order: None, interleave: None }
    }
}

/// Runs a kernel.
pub fn run(memory: &mut Memory, launch: &Launch<'_>) -> Result<Counts> {
    run_with(memory, launch, &Options::default())
}

/// Runs a kernel with its blocks in an order drawn from a seed. The results of a right kernel do not depend on it.
pub fn run_ordered(memory: &mut Memory, launch: &Launch<'_>, seed: u64) -> Result<Counts> {
    run_with(memory, launch, &Options { order: Some(seed), ..Options::default() })
}

/// Runs a kernel. After an error, memory holds what was written until then.
pub fn run_with(memory: &mut Memory, launch: &Launch<'_>, options: &Options) -> Result<Counts> {
    let entry = launch.entry;
    check(launch)?;
    let code = decode(entry)?;
    let dims = Dims { threads: launch.block, blocks: launch.grid, params: launch.params };
    let mut numbers: Vec<u32> = (0..launch.grid).collect();
    if let Some(seed) = options.order {
        let mut random = Random(seed);
        for i in (1..numbers.len()).rev() {
            numbers.swap(i, random.below(i + 1));
        }
    }
    let resident = if launch.cooperative { launch.grid } else { 1 };
    let mut blocks: Vec<Resident> = (0..resident).map(|_| Resident::new(&code, entry, &dims)).collect();
    let mut ctx = Context::new(&code, memory, resident, options.races);
    let mut random = options.interleave.map(Random);
    for numbers in numbers.chunks(resident as usize) {
        if let Err((block, fault)) = run_together(&mut blocks, numbers, &mut ctx, options.limit, random.as_mut()) {
            let error = report(&code, entry, numbers[block], blocks[block].at, &fault);
            ctx.memory.forget_accesses();
            return Err(error);
        }
        for copy in blocks.iter().flat_map(|block| &block.warps).flat_map(|warp| &warp.copies) {
            end_reading(&mut ctx, copy);
        }
    }
    Ok(ctx.counts)
}

/// What of a launch does not fit its kernel.
fn check(launch: &Launch<'_>) -> Result<()> {
    let Launch { entry, grid, block, params, .. } = *launch;
    let wrong = |message: String| Err(Error::new(format!("kernel {}: {message}", entry.name)));
    let most = entry.max_threads.min(MAX_THREADS);
    if grid == 0 {
        return wrong("a grid without blocks".to_owned());
    }
    if block == 0 || block > most {
        return wrong(format!("a block of {block} threads; it has 1 to {most}"));
    }
    if entry.shared > MAX_SHARED || entry.local > MAX_LOCAL {
        return wrong(format!("{} bytes of shared and {} of local memory are too many", entry.shared, entry.local));
    }
    if entry.registers.iter().map(|&n| u64::from(n)).sum::<u64>() > MAX_REGISTERS {
        return wrong(format!("it has more than {MAX_REGISTERS} registers"));
    }
    if params.len() != entry.params.len() {
        return wrong(format!("{} parameters are given; it has {}", params.len(), entry.params.len()));
    }
    for (i, (&value, &ty)) in params.iter().zip(&entry.params).enumerate() {
        let bits = match ty {
            Type::Pred => return wrong(format!("the parameter p{i} is a predicate")),
            Type::B8 | Type::U8 | Type::S8 => 8,
            Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::Bf16 => 16,
            Type::B32 | Type::U32 | Type::S32 | Type::F32 | Type::F16x2 | Type::Bf16x2 | Type::Tf32 => 32,
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => 64,
        };
        if bits < 64 && value >> bits != 0 {
            return wrong(format!("the parameter p{i} is {value:#x}, which does not fit its type {ty:?}"));
        }
    }
    Ok(())
}

/// Where a block is.
#[derive(Clone, Copy, Debug)]
struct Position {
    warp: u32,
    pc: u32,
}

fn report(code: &Code, entry: &Entry, block: u32, at: Position, fault: &Fault) -> Error {
    let index = code.steps.get(at.pc as usize).map_or(entry.body.len(), |step| step.at);
    let kind = entry.body.get(index).map_or_else(|| "the end".to_owned(), |inst| name::instruction(&inst.op));
    let thread = at.warp * 32 + fault.lane;
    let name = &entry.name;
    Error::new(format!(
        "kernel {name}, block {block}, thread {thread}, instruction {index} ({kind}): {}",
        fault.message
    ))
}

fn limit<T>(limit: u64) -> Run<T> {
    Err(Box::new(Fault { lane: 0, message: format!("more than {limit} instructions were run") }))
}

/// Runs blocks of these numbers to their end, in turns. An error is that of a block.
fn run_together(
    blocks: &mut [Resident],
    numbers: &[u32],
    ctx: &mut Context<'_>,
    most: u64,
    mut random: Option<&mut Random>,
) -> std::result::Result<(), (usize, Box<Fault>)> {
    for (i, (block, &number)) in blocks.iter_mut().zip(numbers).enumerate() {
        block.begin(ctx, number).map_err(|fault| (i, fault))?;
    }
    let mut idle = 0;
    while let Some(first) = blocks.iter().position(|block| !block.ended) {
        // What others may wait for: that memory changes.
        let writes = ctx.counts.global_stores;
        for (i, block) in blocks.iter_mut().enumerate().filter(|(_, block)| !block.ended) {
            block.turn(ctx, most, random.as_deref_mut()).map_err(|fault| (i, fault))?;
        }
        idle = if ctx.counts.global_stores == writes { idle + 1 } else { 0 };
        if idle > MAX_IDLE_ROUNDS && !blocks[first].ended {
            let message = "it waits for a block that does not go on, or is not resident".to_owned();
            return Err((first, Box::new(Fault { lane: 0, message })));
        }
    }
    Ok(())
}

/// A block that is resident.
#[derive(Debug)]
struct Resident {
    block: Block,
    warps: Vec<Warp>,
    at: Position,
    ended: bool,
}

impl Resident {
    fn new(code: &Code, entry: &Entry, dims: &Dims<'_>) -> Resident {
        Resident {
            block: Block::new((entry.shared, entry.local), dims.threads),
            warps: (0..dims.threads.div_ceil(32)).map(|i| Warp::new(code, i, dims)).collect(),
            at: Position { warp: 0, pc: 0 },
            ended: false,
        }
    }

    fn begin(&mut self, ctx: &mut Context<'_>, number: u32) -> Run<()> {
        (self.at, self.ended) = (Position { warp: 0, pc: 0 }, false);
        std::mem::swap(&mut ctx.block, &mut self.block);
        let begun = ctx.begin(number);
        std::mem::swap(&mut ctx.block, &mut self.block);
        self.warps.iter_mut().for_each(|warp| warp.begin(ctx.code, number));
        begun
    }

    /// Runs until a warp yields, or to the end.
    fn turn(&mut self, ctx: &mut Context<'_>, most: u64, random: Option<&mut Random>) -> Run<()> {
        std::mem::swap(&mut ctx.block, &mut self.block);
        let done = self.run(ctx, most, random);
        std::mem::swap(&mut ctx.block, &mut self.block);
        done
    }

    fn run(&mut self, ctx: &mut Context<'_>, most: u64, mut random: Option<&mut Random>) -> Run<()> {
        loop {
            self.run_warps(ctx, most, random.as_deref_mut())?;
            if self.warps.iter().any(|warp| warp.yields) {
                self.warps.iter_mut().for_each(|warp| warp.yields = false);
                return Ok(());
            }
            let Some(waiting) = self.warps.iter().find(|warp| warp.waiting != 0) else {
                self.ended = true;
                return Ok(());
            };
            if let Some(ended) = self.warps.iter().find(|warp| warp.exited != 0) {
                self.at = Position { warp: waiting.index, pc: waiting.waiting_at };
                let message =
                    format!("divergent barrier: it cannot complete, as {} ended", ended.threads(ended.exited));
                return Err(Box::new(Fault { lane: waiting.waiting.trailing_zeros(), message }));
            }
            ctx.complete_barrier()?;
            self.warps.iter_mut().for_each(Warp::release);
        }
    }

    /// Runs each warp until it waits, ends or yields.
    fn run_warps(&mut self, ctx: &mut Context<'_>, most: u64, random: Option<&mut Random>) -> Run<()> {
        let runs = |warp: &Warp| warp.active != 0 && !warp.yields;
        let mut running: Vec<usize> = (0..self.warps.len()).filter(|&i| runs(&self.warps[i])).collect();
        let mut step = |warp: &mut Warp| {
            self.at = Position { warp: warp.index, pc: warp.pc };
            step(warp, ctx)?;
            if ctx.counts.thread_instructions > most { limit(most) } else { Ok(()) }
        };
        let Some(random) = random else {
            for i in running {
                while runs(&self.warps[i]) {
                    step(&mut self.warps[i])?;
                }
            }
            return Ok(());
        };
        while !running.is_empty() {
            let i = random.below(running.len());
            let warp = &mut self.warps[running[i]];
            step(warp)?;
            if !runs(warp) {
                running.swap_remove(i);
            }
        }
        Ok(())
    }
}

/// Random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % n as u64) as usize
    }
}

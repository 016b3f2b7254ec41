//! A program: machine code, and the memory it works in. All pointers that reach machine code pass through here.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fulgurite_jit::array::{Buffer, Shared};
use fulgurite_jit::cpu::{self, Code, Isa, Launch, Parallelism, Target};
use fulgurite_jit::dump::{Stage, dump, wants};
use fulgurite_jit::fuse::{Kernels, Output, fuse};
use fulgurite_jit::graph::Graph;
use fulgurite_jit::lower::memory::Location;
use fulgurite_jit::opt::optimise_with;
use fulgurite_jit::panics::guarded;
use fulgurite_jit::{Array, Result, TensorType};
use smallvec::SmallVec;

use crate::denormals::Flush;
use crate::pace::Pace;
use crate::pool::{Meeting, Team, prepare, team, threads};
use crate::timing::{Timing, Turn, Watch};

/// How many buffers of one output are kept for later calls, while their arrays are alive.
const POOL: usize = 8;

/// Pointers to inputs or outputs, which are few as a rule.
type Pointers = SmallVec<[*mut u8; 32]>;

/// For each output, buffers given out before.
type Pools = Vec<Vec<Shared>>;

/// A compiled graph, ready to be called, from several threads at once if need be.
pub struct Program {
    code: Code,
    name: String,
    /// Arenas that no call is using.
    arenas: Mutex<Vec<Buffer>>,
    /// For each output that is not written in place: the buffers given out before. One that nobody else holds any
    /// more is used again.
    pools: Mutex<Pools>,
    pace: Mutex<Pace>,
    timing: Mutex<Timing>,
}

impl Program {
    /// Optimises, fuses and compiles `graph`. `donated` says which inputs may be overwritten by outputs.
    ///
    /// The program runs on all threads where the compiler finds that it pays. One of a [`Jit`](crate::Jit) measures
    /// whether that is so.
    ///
    /// # Errors
    /// A fault of the compiler (see [`fulgurite_jit::Error::compiler`]), a panic in it among them.
    pub fn compile(name: &str, graph: &Graph, donated: &[bool]) -> Result<Program> {
        Program::compile_for(name, graph, donated, this_machine())
    }

    /// As [`Program::compile`], for other vectors and threads; the results are the same to the bit for all.
    ///
    /// # Errors
    /// As [`Program::compile`].
    pub fn compile_for(name: &str, graph: &Graph, donated: &[bool], target: Target) -> Result<Program> {
        let program = guarded("compiling", || Program::build(name, graph, donated, target))?;
        Ok(Program { pace: Mutex::new(Pace::together()), ..program })
    }

    /// As [`Program::compile`], of a program that begins on one thread and finds out what is faster.
    pub(crate) fn compile_paced(name: &str, graph: &Graph, donated: &[bool]) -> Result<Program> {
        guarded("compiling", || Program::build(name, graph, donated, this_machine()))
    }

    fn build(name: &str, graph: &Graph, donated: &[bool], target: Target) -> Result<Program> {
        let start = Instant::now();
        dump(Stage::Graph, &format!("{name}: graph"), graph);
        let mut report = String::new();
        let mut seen = |pass: &str, _: &Graph, took: Duration, changed| {
            if wants(Stage::Time) {
                let note = if changed { "" } else { " (unchanged)" };
                report += &format!("{pass:>12} {:9.3} ms{note}\n", took.as_secs_f64() * 1e3);
            }
        };
        let graph = guarded("optimisation", || optimise_with(graph, &mut seen))?;
        dump(Stage::Opt, &format!("{name}: optimised graph"), &graph);
        let fusing = Instant::now();
        let kernels = guarded("fusion", || Ok(fuse(&graph)))?;
        let fused = fusing.elapsed();
        let code = guarded("code generation", || cpu::compile(kernels, donated, target))?;
        if wants(Stage::Time) {
            for (stage, took) in [("fuse", fused)].iter().chain(&code.times) {
                report += &format!("{stage:>12} {:9.3} ms\n", took.as_secs_f64() * 1e3);
            }
            report += &format!("{:>12} {:9.3} ms", "in all", start.elapsed().as_secs_f64() * 1e3);
            dump(Stage::Time, &format!("{name}: compile time"), &report);
        }
        if code.is_parallel() {
            prepare(code.ranges.len());
        }
        let pools = Mutex::new(vec![Vec::new(); code.kernels.outputs.len()]);
        Ok(Program {
            code,
            name: name.into(),
            arenas: Mutex::default(),
            pools,
            pace: Mutex::default(),
            timing: Mutex::default(),
        })
    }

    /// The kernels that a call runs.
    pub fn kernels(&self) -> &Kernels {
        &self.code.kernels
    }

    /// Bytes of working memory of a call (scratch memory of the threads aside), and the least that this order of the
    /// kernels could do with.
    pub fn arena_bytes(&self) -> (usize, usize) {
        (self.code.plan.arena, self.code.plan.peak)
    }

    /// Runs the program. An input that is written in place is overwritten if `inputs` holds the only handle to its
    /// buffer, and copied before otherwise.
    ///
    /// # Errors
    /// When there is no memory for a result, for the copy of an input, or to work in: with its type and bytes. Nothing
    /// has been overwritten then.
    ///
    /// # Panics
    /// When the inputs are not of the number and types that the program was compiled for: callers look programs up by
    /// these.
    pub fn run(&self, inputs: Vec<Array>) -> Result<Vec<Array>> {
        assert!(self.accepts(inputs.iter()), "a program is called with the inputs it was compiled for");
        // SAFETY: they are, and this call owns them.
        unsafe { self.run_known(&inputs.iter().collect::<Vec<_>>()) }
    }

    /// Are these the types of the inputs that it was compiled for?
    pub(crate) fn accepts<'a>(&self, inputs: impl Iterator<Item = &'a Array>) -> bool {
        inputs.map(Array::ty).eq(&self.code.kernels.params)
    }

    /// [`Program::run`] for inputs of which it is known that they are of the right number and types. One that is written
    /// in place is overwritten if this is the only handle to its buffer; the caller drops it then.
    ///
    /// # Safety
    /// The program [accepts](Program::accepts) them. To each that was donated there is a second handle while this runs, or
    /// nobody but the caller can reach it.
    pub(crate) unsafe fn run_known(&self, inputs: &[&Array]) -> Result<Vec<Array>> {
        debug_assert!(self.accepts(inputs.iter().copied()));
        let mut pools = self.pools();
        // An output in the place of an input shares its buffer, or that of a copy.
        let mut copies: SmallVec<[(usize, Array); 2]> = SmallVec::new();
        for &i in self.code.plan.in_place.iter().flatten() {
            if !is_ours(inputs[i], &pools) {
                copies.push((i, copy(i, inputs[i])?));
            }
        }
        let outputs = self.outputs(0, inputs, &copies, &mut pools)?;
        drop(pools);
        let arena = self.arena()?;
        let mut params: Pointers = inputs.iter().map(|x| x.buffer().start()).collect();
        for (i, copy) in &copies {
            params[*i] = copy.buffer().start();
        }
        let results: Pointers = outputs.iter().map(|x| x.buffer().start()).collect();
        // SAFETY: the inputs are those of the code. Each result that it writes has a buffer that nobody else sees: new or out
        // of a pool, a copy, or that of an input that is ours, which nobody can reach while this runs.
        unsafe { self.launch(arena, &params, &results) };
        Ok(outputs)
    }

    /// Is each of the first `count` outputs written in the place of the input of the same number (or is that input), and
    /// does none of the others share their memory, or that of another input?
    pub(crate) fn keeps_in_place(&self, count: usize) -> bool {
        let Code { plan, kernels, .. } = &self.code;
        let is_kept = |(o, output): (usize, &Output)| match output {
            Output::Computed(b, _) if o < count => {
                plan.in_place[o] == Some(o) && plan.places[b.index()] == Location::Output(o)
            }
            Output::Computed(b, _) => {
                plan.in_place[o].is_none()
                    && !matches!(plan.places[b.index()], Location::Output(first) if first < count)
            }
            Output::Param(i, _) => {
                if o < count {
                    *i == o
                } else {
                    *i >= count
                }
            }
            Output::Constant(_) => o >= count,
        };
        kernels.outputs.len() >= count && kernels.outputs.iter().enumerate().all(is_kept)
    }

    /// A call of a program that [keeps](Program::keeps_in_place) `state`, its first inputs and outputs, in place. Arrays
    /// that somebody else holds are replaced by copies. Gives the other outputs; an error leaves the state as it was.
    ///
    /// # Safety
    /// The program keeps so many in place, and [accepts](Program::accepts) the state followed by what is lent.
    pub(crate) unsafe fn run_in_place(&self, state: &mut [Array], lent: &[&Array]) -> Result<Vec<Array>> {
        debug_assert!(self.keeps_in_place(state.len()) && self.accepts(state.iter().chain(lent.iter().copied())));
        let mut pools = self.pools();
        for (i, (array, place)) in state.iter_mut().zip(&self.code.plan.in_place).enumerate() {
            if place.is_some() && !is_ours(array, &pools) {
                *array = copy(i, array)?;
            }
        }
        let inputs: SmallVec<[&Array; 32]> = state.iter().chain(lent.iter().copied()).collect();
        let outputs = self.outputs(state.len(), &inputs, &[], &mut pools)?;
        drop(pools);
        let arena = self.arena()?;
        let params: Pointers = inputs.iter().map(|x| x.buffer().start()).collect();
        let results = inputs[..state.len()].iter().copied().chain(&outputs).map(|x| x.buffer().start());
        let results: Pointers = results.collect();
        // SAFETY: the inputs are those of the code. Results are written over state that is ours, borrowed by this call alone,
        // and to buffers that are new or out of a pool: no other is written in place.
        unsafe { self.launch(arena, &params, &results) };
        Ok(outputs)
    }

    fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arrays for the outputs from number `first` on.
    fn outputs(
        &self,
        first: usize,
        inputs: &[&Array],
        copies: &[(usize, Array)],
        pools: &mut Pools,
    ) -> Result<Vec<Array>> {
        let Code { plan, kernels, .. } = &self.code;
        let mut outputs: Vec<Array> = Vec::with_capacity(kernels.outputs.len() - first);
        for (o, output) in kernels.outputs.iter().enumerate().skip(first) {
            outputs.push(match output {
                Output::Param(i, ty) => inputs[*i].reshaped(ty.clone()),
                Output::Constant(array) => array.clone(),
                Output::Computed(b, ty) => {
                    let buffer = match (plan.places[b.index()], plan.in_place[o]) {
                        // A value that is returned twice is two handles to one buffer.
                        (Location::Output(same), _) if same != o => outputs[same - first].buffer().clone(),
                        (_, Some(i)) => {
                            let copied = copies.iter().find(|(copied, _)| *copied == i);
                            copied.map_or(inputs[i], |(_, copy)| copy).buffer().clone()
                        }
                        (_, None) => fresh(&mut pools[o], o, ty)?,
                    };
                    // SAFETY: the type is that of a value of the graph, and the buffer was made for it, or for an input of
                    // as large elements. The program writes all before anybody sees it, truth values as 0 or 1.
                    unsafe { Array::new(ty.clone(), buffer) }
                }
            });
        }
        Ok(outputs)
    }

    /// Memory to work in, which no other call is using.
    fn arena(&self) -> Result<Buffer> {
        let free = self.arenas.lock().ok().and_then(|mut arenas| arenas.pop());
        free.map_or_else(
            || Buffer::zeroed(self.code.memory(self.code.ranges.len()), || "intermediate results".into()),
            Ok,
        )
    }

    /// Runs the machine code in memory of this call alone.
    ///
    /// # Safety
    /// The pointers are to arrays of the types that it was compiled for, as many as it takes. What results are written to
    /// is this call's alone, and what inputs are read from nobody else writes to.
    unsafe fn launch(&self, arena: Buffer, params: &[*mut u8], results: &[*mut u8]) {
        // SAFETY: the caller's promise; `arena` is as large as the code asks for, and this call's alone.
        unsafe { self.launch_in(&arena, params, results) };
        if let Ok(mut arenas) = self.arenas.lock() {
            arenas.push(arena);
        }
    }

    /// # Safety
    /// As [`Program::launch`]; `memory` is this call's alone, and as large as the code asks for.
    unsafe fn launch_in(&self, memory: &Buffer, params: &[*mut u8], results: &[*mut u8]) {
        let _flush = Flush::on();
        let alone = self.code.serial_launch(params, results, memory.start());
        let mut timing = if wants(Stage::Time) { self.timing.lock().ok() } else { None };
        if let Some(timing) = &mut timing
            && let Some(single) = self.code.kernel_entry()
            && timing.begin() == Turn::Kernels
        {
            let took = (0..self.code.kernels.kernels.len()).map(|k| {
                let start = Instant::now();
                // SAFETY: the caller's promise; the kernels run in their order.
                unsafe { single(&alone, k) }
                start.elapsed()
            });
            return timing.kernels(&took.collect::<Vec<_>>());
        }
        if !self.code.is_parallel() && timing.is_none() {
            // SAFETY: the caller's promise.
            return unsafe { self.code.entry()(&alone) };
        }
        let (is_alone, patience) = match timing {
            Some(_) => (!self.code.is_parallel(), None),
            None => self.pace.lock().map_or((false, None), |pace| (pace.is_alone(), pace.patience())),
        };
        let mut team = if is_alone { None } else { team(self.code.ranges.len()) };
        if patience.is_some_and(|patience| team.as_ref().is_some_and(|team| !team.comes_within(patience))) {
            team = None;
            if let Ok(mut pace) = self.pace.lock() {
                pace.note_missing();
            }
        }
        let start = Instant::now();
        match &team {
            // SAFETY: the caller's promise.
            None => unsafe { self.code.entry()(&alone) },
            Some(team) if timing.is_some() => {
                let watch = Watch::start(team.meeting());
                // SAFETY: the caller's promise; the watch is there until this thread is done.
                unsafe { self.launch_together(team, alone, watch.meeting(), memory) };
                timing.iter_mut().for_each(|timing| timing.phases(&watch.marks()));
            }
            // SAFETY: the caller's promise.
            Some(team) => unsafe { self.launch_together(team, alone, team.meeting(), memory) },
        }
        // A call that wanted the team and did not get it says nothing.
        if is_alone == team.is_none()
            && let Ok(mut pace) = self.pace.lock()
        {
            pace.note(start.elapsed());
        }
        timing.iter().for_each(|timing| timing.print(&self.name, &self.code));
    }

    /// [`Program::launch`] on all threads of the team; `first` is what the first of them calls between phases.
    ///
    /// # Safety
    /// As [`Program::launch_in`], whose `memory` it is, and of whose pointers `alone` is made. `first` may be called until
    /// this returns, and lets the other threads go on as the team's own meeting does.
    unsafe fn launch_together(&self, team: &Team, alone: Launch, first: Meeting, memory: &Buffer) {
        let shared = Together((alone, first, team.meeting()));
        team.run(&|thread| {
            let (alone, first, others) = *shared.get();
            let (barrier, barrier_data) = if thread == 0 { first } else { others };
            let scratch = memory.start().wrapping_add(self.code.memory(thread));
            let launch = Launch { ranges: self.code.ranges[thread].as_ptr(), scratch, barrier, barrier_data, ..alone };
            // SAFETY: the caller's promise; the threads write to different places, and each has its own scratch memory. No
            // thread leaves before the others: nothing here panics, since there are parts for each of the team.
            unsafe { self.code.entry()(&launch) };
        });
    }
}

fn this_machine() -> Target {
    Target { isa: Isa::detect(), threads: threads(), parallelism: Parallelism::Auto }
}

/// What all threads of a launch look at.
struct Together((Launch, Meeting, Meeting));

// SAFETY: the pointers are to memory that outlives the call, and what is behind them is written by machine code only,
// which is given disjoint parts; but for what the first thread calls between phases, which it alone does.
unsafe impl Sync for Together {}

impl Together {
    fn get(&self) -> &(Launch, Meeting, Meeting) {
        &self.0
    }
}

/// Does nobody hold the array's buffer but the one who lends it to this call? A pool does not count: it lends only what
/// nobody else holds. If so, all that others did with it has happened before, and it stays so while nobody else can reach
/// the array.
fn is_ours(array: &Array, pools: &Pools) -> bool {
    let is_pooled = || pools.iter().flatten().any(|b| b.is_same(array.buffer()));
    match array.buffer().handles() {
        1 => true,
        2 => is_pooled(),
        _ => false,
    }
}

/// A copy of input `i`.
fn copy(i: usize, array: &Array) -> Result<Array> {
    let ty = array.ty();
    let mut copy = Buffer::zeroed(ty.bytes(), || format!("a copy of argument {i}, {ty}"))?;
    copy.bytes_mut().copy_from_slice(array.bytes());
    // SAFETY: the bytes are those of an array of the type; own memory is aligned for every element.
    Ok(unsafe { Array::new(ty.clone(), Shared::new(copy)) })
}

/// A buffer for output `o`, whose earlier buffers are in `pool`.
fn fresh(pool: &mut Vec<Shared>, o: usize, ty: &TensorType) -> Result<Shared> {
    // The pool's own handle is one; without another nobody can see the buffer any more.
    if let Some(free) = pool.iter().find(|b| b.handles() == 1) {
        return Ok(free.clone());
    }
    let buffer = Shared::new(Buffer::zeroed(ty.bytes(), || format!("result {o}, {ty}"))?);
    if pool.len() < POOL {
        pool.push(buffer.clone());
    }
    Ok(buffer)
}

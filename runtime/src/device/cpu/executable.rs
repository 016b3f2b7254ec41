//! A program on the processor: machine code, and the memory it works in.
//!
//! Comes in: kernels to compile, then arrays per call. Goes out: arrays. All pointers that reach machine code pass
//! through here. Graphs are optimised and fused in `program`; whether a call is parallel is decided in `policy`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fulgurite_jit::array::{Buffer, Shared};
use fulgurite_jit::cpu::{self, Code, Isa, Launch, Parallelism, Target};
use fulgurite_jit::dump::times_kernels;
use fulgurite_jit::fuse::{Kernels, Output};
use fulgurite_jit::lower::memory::Location;
use fulgurite_jit::lower::{Module, lower};
use fulgurite_jit::{Array, Result, TensorType};
use smallvec::SmallVec;

use super::denormals::Flush;
use super::policy::ParallelPolicy;
use super::pool::{BarrierCall, Workers, lease, start_pool, threads};
use crate::device::{Executable, updates_in_place};
use crate::profile::{Mode, PhaseTimer, Profile};

/// Buffers of one output that are retained for later calls.
const MAX_RETAINED: usize = 8;

/// Pointers to inputs or outputs, which are usually few.
type Pointers = SmallVec<[*mut u8; 32]>;

/// For each output, the buffers of earlier calls.
type Retained = Vec<Vec<Shared>>;

/// Machine code with its memory. Several threads may run it at once.
pub(crate) struct CpuExecutable {
    code: Code,
    /// For profiles.
    name: String,
    /// Arenas that no call uses.
    arenas: Mutex<Vec<Buffer>>,
    /// Per output that is not written in place: its buffers of earlier calls. One without other handles is used again.
    retained: Mutex<Retained>,
    policy: Mutex<ParallelPolicy>,
    profile: Mutex<Profile>,
}

/// This machine, with all threads.
pub(crate) fn host_target() -> Target {
    Target { isa: Isa::detect(), threads: threads(), parallelism: Parallelism::Auto }
}

impl CpuExecutable {
    /// Compiles `kernels`. `donated` says which inputs may be overwritten by outputs.
    ///
    /// # Errors
    /// A compiler error.
    pub(crate) fn compile(
        name: &str,
        kernels: Kernels,
        donated: &[bool],
        target: Target,
        policy: ParallelPolicy,
    ) -> Result<CpuExecutable> {
        let code = cpu::compile(lower(kernels, donated, target.into())?)?;
        if code.is_parallel() {
            start_pool(code.module().ranges.len());
        }
        let retained = Mutex::new(vec![Vec::new(); code.module().kernels.outputs.len()]);
        Ok(CpuExecutable {
            code,
            name: name.into(),
            arenas: Mutex::default(),
            retained,
            policy: Mutex::new(policy),
            profile: Mutex::default(),
        })
    }

    fn retained(&self) -> MutexGuard<'_, Retained> {
        self.retained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arrays for the outputs from number `first` on.
    fn outputs(
        &self,
        first: usize,
        inputs: &[&Array],
        copies: &[(usize, Array)],
        retained: &mut Retained,
    ) -> Result<Vec<Array>> {
        let Module { plan, kernels, .. } = self.code.module();
        let mut outputs: Vec<Array> = Vec::with_capacity(kernels.outputs.len() - first);
        for (o, output) in kernels.outputs.iter().enumerate().skip(first) {
            outputs.push(match output {
                Output::Param(i, ty) => inputs[*i].reshaped(ty.clone()),
                Output::Constant(array) => array.clone(),
                Output::Computed(b, ty) => {
                    let buffer = match (plan.locations[b.index()], plan.aliases[o]) {
                        // A value that is returned twice is two handles to one buffer.
                        (Location::Output(same), _) if same != o => outputs[same - first].buffer().clone(),
                        (_, Some(i)) => {
                            let copied = copies.iter().find(|(copied, _)| *copied == i);
                            copied.map_or(inputs[i], |(_, copy)| copy).buffer().clone()
                        }
                        (_, None) => allocate_output(&mut retained[o], o, ty)?,
                    };
                    // SAFETY: the type is that of a value of the graph, and the buffer was allocated for it, or for an
                    // input with elements of the same size. The program writes all of it before it is read, bools as 0
                    // or 1.
                    unsafe { Array::new(ty.clone(), buffer) }
                }
            });
        }
        Ok(outputs)
    }

    /// Working memory that no other call uses.
    fn arena(&self) -> Result<Buffer> {
        let free = self.arenas.lock().ok().and_then(|mut arenas| arenas.pop());
        free.map_or_else(
            || Buffer::zeroed(self.code.memory(self.code.module().ranges.len()), || "intermediate results".into()),
            Ok,
        )
    }

    /// Runs the machine code in `arena`.
    ///
    /// # Safety
    /// The pointers are to arrays of the types and numbers that the code was compiled for. No other thread reads or
    /// writes the memory of results, or writes that of inputs, until this returns.
    unsafe fn launch(&self, arena: Buffer, params: &[*mut u8], results: &[*mut u8]) {
        // SAFETY: the caller's promise; `arena` has the size that the code needs, and no other user.
        unsafe { self.launch_in(&arena, params, results) };
        if let Ok(mut arenas) = self.arenas.lock() {
            arenas.push(arena);
        }
    }

    /// # Safety
    /// As [`CpuExecutable::launch`]; `memory` has the size that the code needs, and no other user.
    unsafe fn launch_in(&self, memory: &Buffer, params: &[*mut u8], results: &[*mut u8]) {
        let _flush = Flush::on();
        let serial = self.code.serial_launch(params, results, memory.start());
        let mut profile = if times_kernels() { self.profile.lock().ok() } else { None };
        if let Some(profile) = &mut profile
            && let Some(single) = self.code.kernel_entry()
            && profile.begin_call() == Mode::Kernels
        {
            let times = (0..self.code.module().kernels.kernels.len()).map(|k| {
                let start = Instant::now();
                // SAFETY: the caller's promise; the kernels run in their order.
                unsafe { single(&serial, k) }
                start.elapsed()
            });
            profile.kernels(&times.collect::<Vec<_>>());
            return profile.trace(&self.name, &self.code);
        }
        if !self.code.is_parallel() && profile.is_none() {
            // SAFETY: the caller's promise.
            return unsafe { self.code.entry()(&serial) };
        }
        let (is_serial, worker_timeout) = match profile {
            Some(_) => (!self.code.is_parallel(), None),
            None => self.policy.lock().map_or((false, None), |policy| (policy.is_serial(), policy.worker_timeout())),
        };
        let mut workers = if is_serial { None } else { lease(self.code.module().ranges.len()) };
        if worker_timeout
            .is_some_and(|worker_timeout| workers.as_ref().is_some_and(|workers| !workers.ready_within(worker_timeout)))
        {
            workers = None;
            if let Ok(mut policy) = self.policy.lock() {
                policy.record_absent();
            }
        }
        let start = Instant::now();
        match &workers {
            // SAFETY: the caller's promise.
            None => unsafe { self.code.entry()(&serial) },
            Some(workers) if profile.is_some() => {
                let timer = PhaseTimer::start(workers.barrier_call());
                // SAFETY: the caller's promise; the timer outlives the call.
                unsafe { self.launch_parallel(workers, serial, timer.barrier_call(), memory) };
                profile.iter_mut().for_each(|profile| profile.phases(&timer.timestamps()));
            }
            // SAFETY: the caller's promise.
            Some(workers) => unsafe { self.launch_parallel(workers, serial, workers.barrier_call(), memory) },
        }
        // A parallel call that got no workers is not recorded.
        if is_serial == workers.is_none()
            && let Ok(mut policy) = self.policy.lock()
        {
            policy.record(start.elapsed());
        }
        profile.iter().for_each(|profile| profile.print(&self.name, &self.code));
    }

    /// [`CpuExecutable::launch`] on all threads; `first` is the barrier of the first of them.
    ///
    /// # Safety
    /// As [`CpuExecutable::launch_in`], with the same `memory`, and with its pointers in `serial`. `first` is callable
    /// until this returns, and calls the barrier of `workers`.
    unsafe fn launch_parallel(&self, workers: &Workers, serial: Launch, first: BarrierCall, memory: &Buffer) {
        let launch = ParallelLaunch((serial, first, workers.barrier_call()));
        workers.run(&|thread| {
            let (serial, first, others) = *launch.get();
            let (barrier, barrier_data) = if thread == 0 { first } else { others };
            let scratch = memory.start().wrapping_add(self.code.memory(thread));
            let (inner_barrier, inner_barrier_data) = others;
            let ranges = self.code.module().ranges[thread].as_ptr();
            let launch = Launch { ranges, scratch, barrier, barrier_data, inner_barrier, inner_barrier_data, ..serial };
            // SAFETY: the caller's promise; the threads write to disjoint memory, and each has its own scratch memory.
            // All reach each barrier: nothing here panics, since there are parts for each thread.
            unsafe { self.code.entry()(&launch) };
        });
    }
}

impl Executable for CpuExecutable {
    fn kernels(&self) -> &Kernels {
        &self.code.module().kernels
    }

    fn arena_bytes(&self) -> (usize, usize) {
        (self.code.module().plan.arena, self.code.module().plan.peak)
    }

    fn compile_times(&self) -> &[(&'static str, Duration)] {
        &self.code.times
    }

    fn updates_in_place(&self, count: usize) -> bool {
        let Module { plan, kernels, .. } = self.code.module();
        updates_in_place(kernels, plan, count)
    }

    unsafe fn run(&self, inputs: &[&Array]) -> Result<Vec<Array>> {
        let mut retained = self.retained();
        // An output that aliases an input shares its buffer, or that of a copy.
        let mut copies: SmallVec<[(usize, Array); 2]> = SmallVec::new();
        for &i in self.code.module().plan.aliases.iter().flatten() {
            if !is_unique(inputs[i], &retained) {
                copies.push((i, copy(i, inputs[i])?));
            }
        }
        let outputs = self.outputs(0, inputs, &copies, &mut retained)?;
        drop(retained);
        let arena = self.arena()?;
        let mut params: Pointers = inputs.iter().map(|x| x.buffer().start()).collect();
        for (i, copy) in &copies {
            params[*i] = copy.buffer().start();
        }
        let results: Pointers = outputs.iter().map(|x| x.buffer().start()).collect();
        // SAFETY: the inputs are those of the code. Each result that it writes has a buffer without other users: new,
        // retained without other handles, a copy, or that of a unique input, which is borrowed by this call alone.
        unsafe { self.launch(arena, &params, &results) };
        Ok(outputs)
    }

    unsafe fn run_in_place(&self, state: &mut [Array], borrowed: &[&Array]) -> Result<Vec<Array>> {
        let mut retained = self.retained();
        for (i, (array, aliased)) in state.iter_mut().zip(&self.code.module().plan.aliases).enumerate() {
            if aliased.is_some() && !is_unique(array, &retained) {
                *array = copy(i, array)?;
            }
        }
        let inputs: SmallVec<[&Array; 32]> = state.iter().chain(borrowed.iter().copied()).collect();
        let outputs = self.outputs(state.len(), &inputs, &[], &mut retained)?;
        drop(retained);
        let arena = self.arena()?;
        let params: Pointers = inputs.iter().map(|x| x.buffer().start()).collect();
        let results = inputs[..state.len()].iter().copied().chain(&outputs).map(|x| x.buffer().start());
        let results: Pointers = results.collect();
        // SAFETY: the inputs are those of the code. Results are written to unique state, borrowed by this call alone,
        // and to buffers that are new or retained without other handles: no other input is written in place.
        unsafe { self.launch(arena, &params, &results) };
        Ok(outputs)
    }
}

/// What all threads of a parallel launch read.
struct ParallelLaunch((Launch, BarrierCall, BarrierCall));

// SAFETY: the pointers are to memory that outlives the call. It is written by machine code alone, in disjoint parts;
// and by the barrier of the first thread, which calls it alone.
unsafe impl Sync for ParallelLaunch {}

impl ParallelLaunch {
    fn get(&self) -> &(Launch, BarrierCall, BarrierCall) {
        &self.0
    }
}

/// Is this array the only handle to its buffer, a retained one aside (which is reused only when it is the last)? If so,
/// all uses by others have happened before, and there are none while the caller borrows the array.
fn is_unique(array: &Array, retained: &Retained) -> bool {
    let is_retained = || retained.iter().flatten().any(|b| b.is_same(array.buffer()));
    match array.buffer().handles() {
        1 => true,
        2 => is_retained(),
        _ => false,
    }
}

/// A copy of input `i`.
fn copy(i: usize, array: &Array) -> Result<Array> {
    let ty = array.ty();
    let mut copy = Buffer::zeroed(ty.bytes(), || format!("a copy of argument {i}, {ty}"))?;
    copy.bytes_mut().copy_from_slice(array.bytes()?);
    // SAFETY: the bytes are those of an array of the type; a new buffer is aligned for every element type.
    Ok(unsafe { Array::new(ty.clone(), Shared::new(copy)) })
}

/// A buffer for output `o`: one of `retained` without other handles, or a new one.
fn allocate_output(retained: &mut Vec<Shared>, o: usize, ty: &TensorType) -> Result<Shared> {
    // The retained handle is the only one: there are no other users.
    if let Some(free) = retained.iter().find(|b| b.handles() == 1) {
        return Ok(free.clone());
    }
    let buffer = Shared::new(Buffer::zeroed(ty.bytes(), || format!("result {o}, {ty}"))?);
    if retained.len() < MAX_RETAINED {
        retained.push(buffer.clone());
    }
    Ok(buffer)
}

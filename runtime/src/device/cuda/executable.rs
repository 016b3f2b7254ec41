//! A program on a GPU: a module, and the graph of its launches.
//!
//! Comes in: kernels to compile, then arrays per call. Goes out: arrays on the device, as soon as the work has been
//! asked for. Every address that reaches a kernel passes through here. How memory is kept is in `gpu`; kernels and
//! where their buffers lie come from `fulgurite_jit::ptx`.
//!
//! The first run builds the graph: a line of kernel nodes with the addresses of its arrays. A later run launches it
//! again, which is one call of the driver. Where an array lies elsewhere than in the run before, the nodes that have
//! its address are updated first. Addresses that return have their own graph: batches that are copied ahead lie in two
//! places in turn.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fulgurite_jit::dump::{Stage, dump, times_kernels, wants};
use fulgurite_jit::fuse::{Kernels, Output};
use fulgurite_jit::lower::memory::Location;
use fulgurite_jit::ptx::{Cooperative, Launch, MemoryOf, Module, Place, THREADS, Target};
use fulgurite_jit::{Array, Error, Result};
use smallvec::SmallVec;

use super::buffer::{allocation, array, is_on, is_unique, upload};
use super::driver::Node;
use super::gpu::{Allocation, Gpu, Graph, LoadedModule};
use super::profile::{spans, table};
use crate::device::{Executable, updates_in_place};
use crate::profile::{Mode, Profile};
use crate::trace;

/// The graphs that a program has at most, and how many addresses are remembered, to see which of them return.
const GRAPHS: usize = 4;
const REMEMBERED: usize = 8;

/// Addresses of inputs or outputs, which are usually few.
type Addresses = SmallVec<[u64; 32]>;

/// A module with its memory. Several threads may run it at once.
pub(crate) struct CudaExecutable {
    gpu: Arc<Gpu>,
    /// For profiles.
    name: String,
    module: Module,
    loaded: Arc<LoadedModule>,
    /// For each launch, its blocks: of a cooperative one, at most as many as the device has room for.
    grids: Vec<u32>,
    /// For each launch, where its arguments lie: which base, and bytes from there.
    args: Vec<Vec<(usize, i64)>>,
    /// For each base, the launches that have it in their arguments.
    users: Vec<Vec<usize>>,
    constants: Vec<Arc<Allocation>>,
    /// The word of the barriers of cooperative launches, if there are any.
    barrier: Option<Arc<Allocation>>,
    /// The outputs that are constants.
    constant_outputs: Vec<Option<Array>>,
    graphs: Mutex<Graphs>,
    profile: Mutex<Profile>,
    times: Vec<(&'static str, Duration)>,
}

/// The graphs of a program.
#[derive(Default)]
struct Graphs {
    /// The one that was launched last comes last.
    ready: Vec<State>,
    /// The addresses for which there was no graph, the last ones first.
    seen: VecDeque<Addresses>,
}

/// A graph as it is.
struct State {
    graph: Graph,
    /// The addresses that it has: of inputs, outputs, constants, the arena, and the word of barriers.
    bases: Addresses,
    /// The arguments of each node.
    args: Vec<Vec<u64>>,
}

impl CudaExecutable {
    /// Compiles `kernels`. `name` is for dumps, `donated` says which inputs may be overwritten by outputs.
    ///
    /// # Errors
    /// A compiler error; when the device does not have the memory of the constants, or fails.
    pub(crate) fn compile(gpu: &Arc<Gpu>, name: &str, kernels: Kernels, donated: &[bool]) -> Result<CudaExecutable> {
        let start = Instant::now();
        let properties = gpu.properties();
        let target = Target {
            capability: properties.capability,
            multiprocessors: properties.multiprocessors,
            cooperative: if properties.cooperative { Cooperative::Auto } else { Cooperative::Never },
        };
        let module = Module::lower(kernels, donated, target)?;
        let text = module.ptx.to_string();
        let lowered = start.elapsed();
        dump_module(name, &module, &text);
        let entries: Vec<&str> = module.ptx.entries.iter().map(|entry| entry.name.as_str()).collect();
        let loading = Instant::now();
        let loaded = gpu.load(&text, &entries)?;
        let grids = grids(&module, &loaded)?;
        let times = vec![("lower", lowered), ("load", loading.elapsed())];

        let constant = |x: &Array| {
            let on_device = upload(gpu, x)?;
            allocation(&on_device).cloned().ok_or_else(|| foreign(x))
        };
        let constants = module.constants.iter().map(constant).collect::<Result<Vec<_>>>()?;
        let is_cooperative = module.launches.iter().any(|launch| launch.cooperative);
        let barrier = is_cooperative.then(|| constant(&Array::from_vec(&[1], vec![0u32])?)).transpose()?;
        let constant_outputs = (module.kernels.outputs.iter())
            .map(|output| match output {
                Output::Constant(x) => upload(gpu, x).map(Some),
                Output::Computed(..) | Output::Param(..) => Ok(None),
            })
            .collect::<Result<_>>()?;

        let (inputs, outputs) = (module.kernels.params.len(), module.kernels.outputs.len());
        let base = |place: &Place| match place.memory {
            MemoryOf::Param(i) => i,
            MemoryOf::Output(o) => inputs + o,
            MemoryOf::Constant(c) => inputs + outputs + c,
            MemoryOf::Arena => inputs + outputs + constants.len(),
            MemoryOf::Barrier => inputs + outputs + constants.len() + 1,
        };
        let args: Vec<Vec<(usize, i64)>> = (module.launches.iter())
            .map(|launch| launch.args.iter().map(|place| (base(place), place.offset)).collect())
            .collect();
        let mut users = vec![Vec::new(); inputs + outputs + constants.len() + 2];
        for (number, args) in args.iter().enumerate() {
            for &(base, _) in args {
                if users[base].last() != Some(&number) {
                    users[base].push(number);
                }
            }
        }
        Ok(CudaExecutable {
            gpu: gpu.clone(),
            name: name.into(),
            module,
            loaded,
            grids,
            args,
            users,
            constants,
            barrier,
            constant_outputs,
            graphs: Mutex::default(),
            profile: Mutex::default(),
            times,
        })
    }

    /// Arrays for the outputs from number `first` on. `memory` finds the allocation of an input that is overwritten.
    fn outputs<'a>(
        &self,
        first: usize,
        inputs: &[&'a Array],
        memory: impl Fn(usize) -> Result<&'a Arc<Allocation>>,
    ) -> Result<Vec<Array>> {
        let Module { plan, kernels, .. } = &self.module;
        let mut outputs: Vec<Array> = Vec::with_capacity(kernels.outputs.len() - first);
        for (o, output) in kernels.outputs.iter().enumerate().skip(first) {
            outputs.push(match output {
                Output::Param(i, ty) => inputs[*i].reshaped(ty.clone()),
                Output::Constant(x) => self.constant_outputs[o].clone().ok_or_else(|| foreign(x))?,
                Output::Computed(b, ty) => match (plan.locations[b.index()], plan.aliases[o]) {
                    // A value that is returned twice is two handles to one buffer.
                    (Location::Output(same), _) if same != o => outputs[same - first].reshaped(ty.clone()),
                    (_, Some(i)) => array(ty, memory(i)?)?,
                    (_, None) => array(ty, &self.gpu.allocate(ty.bytes(), || format!("result {o}, {ty}"))?)?,
                },
            });
        }
        Ok(outputs)
    }

    /// Memory for a copy of input `i`.
    fn allocate_copy(&self, i: usize, x: &Array) -> Result<Arc<Allocation>> {
        let ty = x.ty();
        self.gpu.allocate(ty.bytes(), || format!("a copy of argument {i}, {ty}"))
    }

    /// Asks for the launches of a run.
    ///
    /// # Errors
    /// When the driver fails, or the device does not have the memory of intermediate results.
    ///
    /// # Safety
    /// The addresses are those of arrays of the types and numbers that the module was compiled for. What it writes has
    /// no handles besides those of this call. The arrays are not dropped until this returns.
    unsafe fn launch(&self, inputs: &Addresses, outputs: &Addresses) -> Result<()> {
        if self.args.is_empty() {
            return Ok(());
        }
        let mut graphs = self.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        let arena = self.gpu.arena(self.module.plan.arena)?;
        let constants = self.constants.iter().map(|constant| constant.address());
        let barrier = self.barrier.as_ref().map_or(0, |barrier| barrier.address());
        let bases: Addresses =
            inputs.iter().chain(outputs).copied().chain(constants).chain([arena.address(), barrier]).collect();
        if times_kernels() {
            let mut profile = self.profile.lock().unwrap_or_else(PoisonError::into_inner);
            if profile.begin_call() == Mode::Kernels {
                // SAFETY: as below.
                return unsafe { self.measure(&mut profile, &bases) };
            }
        }
        let mut now = self.graph(&mut graphs, bases)?;
        // SAFETY: the caller's promise about inputs and outputs. Constants belong to this executable and are never
        // written, the word of barriers by its launches alone; the arena has the size that the plan asks for, and no
        // other launch gets it before it is dropped.
        let launched = unsafe { now.graph.launch() };
        graphs.ready.push(now);
        launched
    }

    /// Asks for the launches of a run one by one, for a profile.
    ///
    /// # Safety
    /// As [`CudaExecutable::launch`]; `bases` are the addresses of all arrays.
    unsafe fn measure(&self, profile: &mut Profile, bases: &Addresses) -> Result<()> {
        let args: Vec<Vec<u64>> = self.args.iter().map(|args| addresses(args, bases)).collect();
        let nodes: Vec<Node<'_>> = args.iter().enumerate().map(|(number, args)| self.node(number, args)).collect();
        // SAFETY: the caller's promise; each argument lies in the array that the module says.
        let times = unsafe { self.gpu.time(&self.loaded, &nodes) }.inspect_err(|_| profile.forget_call())?;
        profile.kernels(&times);
        if let Some(means) = profile.means() {
            let (device, properties) = (self.gpu.device(), self.gpu.properties());
            let title = format!("{}: time per kernel on {device}, each launched by itself", self.name);
            dump(Stage::Time, &title, &table(&self.module, &means, properties));
            trace::add(&self.name, device, || spans(&self.module, &means, properties));
        }
        Ok(())
    }

    /// A graph with these addresses, taken out: the one that has them, a new one, or another one whose nodes are
    /// updated.
    fn graph(&self, graphs: &mut Graphs, bases: Addresses) -> Result<State> {
        let Graphs { ready, seen } = graphs;
        if let Some(i) = ready.iter().rposition(|state| state.bases == bases) {
            return Ok(ready.remove(i));
        }
        let returns = seen.contains(&bases);
        if !returns {
            seen.push_front(bases.clone());
            seen.truncate(REMEMBERED);
        }
        if ready.is_empty() || returns && ready.len() < GRAPHS {
            return self.build(bases);
        }
        // After an error its nodes are of two runs, and it is dropped.
        self.update(ready.remove(0), bases)
    }

    /// A new graph with these addresses.
    fn build(&self, bases: Addresses) -> Result<State> {
        let args: Vec<Vec<u64>> = self.args.iter().map(|args| addresses(args, &bases)).collect();
        let nodes: Vec<Node<'_>> = args.iter().enumerate().map(|(number, args)| self.node(number, args)).collect();
        // SAFETY: the addresses are those of this run's arrays, each argument lies in the array that the module says.
        // A later run brings its own before it launches the graph.
        let graph = unsafe { self.gpu.build(&self.loaded, &nodes)? };
        Ok(State { graph, bases, args })
    }

    /// The graph with other addresses.
    fn update(&self, mut state: State, bases: Addresses) -> Result<State> {
        let changed = (0..bases.len()).filter(|&i| state.bases[i] != bases[i]);
        let mut numbers: Vec<usize> = changed.flat_map(|i| &self.users[i]).copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            state.args[number] = addresses(&self.args[number], &bases);
            let node = self.node(number, &state.args[number]);
            // SAFETY: as in `build`; the node has the same function and grid.
            unsafe { state.graph.update(number, node)? };
        }
        state.bases = bases;
        Ok(state)
    }

    fn node<'a>(&self, number: usize, args: &'a [u64]) -> Node<'a> {
        let launch = &self.module.launches[number];
        let (function, grid) = (self.loaded.functions()[launch.entry], self.grids[number]);
        Node { function, grid, block: THREADS, cooperative: launch.cooperative, args }
    }
}

impl Executable for CudaExecutable {
    fn kernels(&self) -> &Kernels {
        &self.module.kernels
    }

    fn arena_bytes(&self) -> (usize, usize) {
        (self.module.plan.arena, self.module.plan.peak)
    }

    fn compile_times(&self) -> &[(&'static str, Duration)] {
        &self.times
    }

    fn updates_in_place(&self, count: usize) -> bool {
        updates_in_place(&self.module.kernels, &self.module.plan, count)
    }

    unsafe fn run(&self, inputs: &[&Array]) -> Result<Vec<Array>> {
        self.check(inputs)?;
        // An output that aliases an input shares its memory, or that of a copy.
        let mut copies: SmallVec<[(usize, Arc<Allocation>); 2]> = SmallVec::new();
        for &i in self.module.plan.aliases.iter().flatten() {
            if !is_unique(inputs[i]) {
                copies.push((i, self.allocate_copy(i, inputs[i])?));
            }
        }
        let memory = |i: usize| {
            let copied = copies.iter().find(|(copied, _)| *copied == i);
            copied.map_or_else(|| on_device(inputs[i]), |(_, copy)| Ok(copy))
        };
        let outputs = self.outputs(0, inputs, memory)?;
        for (i, copy) in &copies {
            copy.copy_from(on_device(inputs[*i])?, inputs[*i].ty().bytes())?;
        }
        let mut params = all_addresses(inputs.iter().copied())?;
        for (i, copy) in &copies {
            params[*i] = copy.address();
        }
        let results = all_addresses(outputs.iter())?;
        // SAFETY: the inputs are those of the module, and on the device. Each result that it writes has memory without
        // other users: new, a copy, or that of a unique input, which is borrowed by this call alone.
        unsafe { self.launch(&params, &results)? };
        Ok(outputs)
    }

    unsafe fn run_in_place(&self, state: &mut [Array], borrowed: &[&Array]) -> Result<Vec<Array>> {
        let inputs: SmallVec<[&Array; 32]> = state.iter().chain(borrowed.iter().copied()).collect();
        self.check(&inputs)?;
        let aliases = &self.module.plan.aliases;
        let mut copies: SmallVec<[(usize, Arc<Allocation>); 2]> = SmallVec::new();
        for (i, x) in state.iter().enumerate() {
            if aliases[i].is_some() && !is_unique(x) {
                copies.push((i, self.allocate_copy(i, x)?));
            }
        }
        let outputs = self.outputs(state.len(), &inputs, |i| on_device(inputs[i]))?;
        // The next state, over the same memory: what has been read of an array stays with the old one.
        let mut next: SmallVec<[Option<Array>; 32]> = SmallVec::with_capacity(state.len());
        for (i, x) in state.iter().enumerate() {
            let copied = copies.iter().find(|(copied, _)| *copied == i);
            next.push(match (aliases[i], &self.module.kernels.outputs[i]) {
                (Some(_), Output::Computed(_, ty)) => Some(match copied {
                    Some((_, copy)) => array(ty, copy)?,
                    None => array(ty, on_device(x)?)?,
                }),
                _ => None,
            });
        }
        for (i, copy) in &copies {
            copy.copy_from(on_device(&state[*i])?, state[*i].ty().bytes())?;
        }
        let mut params = all_addresses(inputs.iter().copied())?;
        for (i, copy) in &copies {
            params[*i] = copy.address();
        }
        let mut results: Addresses = params[..state.len()].iter().copied().collect();
        results.extend(all_addresses(outputs.iter())?);
        // SAFETY: the inputs are those of the module, and on the device. Results are written to unique state, borrowed
        // by this call alone, to copies, and to new memory: no other input is written in place.
        unsafe { self.launch(&params, &results)? };
        drop(inputs);
        for (x, next) in state.iter_mut().zip(next) {
            if let Some(next) = next {
                *x = next;
            }
        }
        Ok(outputs)
    }
}

impl CudaExecutable {
    /// Are all arrays on the device?
    fn check(&self, arrays: &[&Array]) -> Result<()> {
        match arrays.iter().find(|x| !is_on(&self.gpu, x)) {
            None => Ok(()),
            Some(x) => Err(foreign(x)),
        }
    }
}

/// The blocks of each launch.
fn grids(module: &Module, loaded: &LoadedModule) -> Result<Vec<u32>> {
    let grid = |launch: &Launch| {
        if !launch.cooperative {
            return Ok(launch.grid);
        }
        match loaded.resident(launch.entry, THREADS)? {
            0 => Err(Error::new(format!("{}: a multiprocessor has no room for one of its blocks", launch))),
            resident => Ok(launch.grid.min(resident)),
        }
    };
    module.launches.iter().map(grid).collect()
}

/// Prints what `FULGURITE_DUMP` asks for.
fn dump_module(name: &str, module: &Module, text: &str) {
    if wants(Stage::Kernels) {
        let launches: Vec<String> = module.launches.iter().map(ToString::to_string).collect();
        dump(Stage::Kernels, &format!("{name}: kernels"), &module.kernels);
        dump(Stage::Kernels, &format!("{name}: launches"), &launches.join("\n"));
        dump(Stage::Kernels, &format!("{name}: memory"), &module.plan);
    }
    dump(Stage::Ptx, &format!("{name}: PTX"), &text);
}

/// The arguments of a launch, with these bases.
fn addresses(args: &[(usize, i64)], bases: &Addresses) -> Vec<u64> {
    args.iter().map(|&(base, offset)| bases[base].wrapping_add_signed(offset)).collect()
}

/// Where arrays on the device begin.
fn all_addresses<'a>(arrays: impl Iterator<Item = &'a Array>) -> Result<Addresses> {
    arrays.map(|x| Ok(on_device(x)?.address())).collect()
}

/// The allocation of an array on the device.
fn on_device(array: &Array) -> Result<&Arc<Allocation>> {
    allocation(array).ok_or_else(|| foreign(array))
}

#[cold]
fn foreign(array: &Array) -> Error {
    Error::compiler("placement", format!("{} is on {}, not where the program runs", array.ty(), array.device()))
}

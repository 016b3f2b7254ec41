//! Modules: a program as PTX and a list of launches.
//!
//! In: kernels, which inputs are donated, the GPU. Out: the entries, where buffers lie, and the launches of a run in
//! their order, each with its grid and its arguments as places. A launch sees what earlier ones wrote. Loops of a fixed
//! number of trips are unrolled into launches of their body, so that a run is one list, without a word of the host.

use std::fmt;

use hashbrown::HashMap;

use super::emit::{self, BLOCK, RowKernel, loop_entry};
use super::inst::{Entry, PtxModule};
use crate::array::Array;
use crate::error::{Error, Result};
use crate::fuse::{BufferId, Control, Kernel, Kernels, LoopKernel, RegionKernel, Source};
use crate::lower::loops::schedule_row;
use crate::lower::memory::{Location, Plan, plan};
use crate::lower::parallel::Phase;

/// A GPU that code is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The compute capability, as 70 for 7.0.
    pub capability: u32,
    /// The number of multiprocessors.
    pub multiprocessors: u32,
}

impl Target {
    /// The least version of PTX that knows the capability, as 70 for 7.0: an older driver reads it too.
    pub fn version(self) -> u32 {
        match self.capability {
            ..=80 => 70,
            81..=86 => 71,
            87..=88 => 74,
            89..=90 => 78,
            91..=101 => 86,
            102 | 104..=120 => 87,
            103 | 121.. => 88,
        }
    }
}

impl Default for Target {
    /// The least that is supported, with the multiprocessors of an H100.
    fn default() -> Self {
        Target { capability: 70, multiprocessors: 132 }
    }
}

/// The most launches of a run.
pub const MAX_LAUNCHES: usize = 1 << 16;

/// The most blocks of a multiprocessor that a grid-stride loop is spread over.
const BLOCKS_PER_MULTIPROCESSOR: usize = 16;

/// The largest number of rows, blocks and elements along an axis: indices are 32-bit integers.
const MAX_INDEX: usize = i32::MAX as usize;

/// The most parameters of an entry, which has 4 KiB for them.
const MAX_PARAMS: usize = 500;

/// A program before the driver compiles it.
#[derive(Clone, Debug)]
pub struct Module {
    /// The GPU.
    pub target: Target,
    /// The kernels that it is lowered from.
    pub kernels: Kernels,
    /// The code.
    pub ptx: PtxModule,
    /// Where buffers lie.
    pub plan: Plan,
    /// The launches of a run.
    pub launches: Vec<Launch>,
    /// The constants.
    pub constants: Vec<Array>,
}

/// A launch of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The kernel that it is part of.
    pub kernel: usize,
    /// The entry.
    pub entry: usize,
    /// Blocks.
    pub grid: u32,
    /// Threads of a block.
    pub block: u32,
    /// The addresses that the entry is called with.
    pub args: Vec<Place>,
}

/// An address: so many bytes from the start of some memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The memory.
    pub memory: MemoryOf,
    /// Bytes from its start.
    pub offset: i64,
}

/// The memory that a place lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryOf {
    /// An input.
    Param(usize),
    /// An output, which may be the memory of a donated input.
    Output(usize),
    /// A constant.
    Constant(usize),
    /// The arena.
    Arena,
}

impl Place {
    fn plus(self, bytes: i64) -> Self {
        Place { offset: self.offset + bytes, ..self }
    }
}

impl Module {
    /// Lowers `kernels`. `donated` marks the inputs that may be overwritten.
    ///
    /// # Errors
    /// When an extent or a number of launches is beyond what the back end counts, with the kernel.
    pub fn lower(kernels: Kernels, donated: &[bool], target: Target) -> Result<Module> {
        let mut lowering = Lowering { target, entries: vec![], known: HashMap::new(), constants: vec![] };
        let Body { plan, launches, .. } = lowering.body(&kernels, donated)?;
        let ptx = PtxModule { version: target.version(), target: target.capability, entries: lowering.entries };
        Ok(Module { target, kernels, ptx, plan, launches, constants: lowering.constants })
    }
}

/// Kernels that run on memory which is bound later.
struct Body {
    plan: Plan,
    launches: Vec<Launch>,
}

/// A kernel whose code is there: how it is launched.
enum Call {
    Entry { launches: Vec<Launch>, workspace: usize },
    Region { body: Body, second: Vec<Option<usize>>, workspace: usize },
}

impl Call {
    fn workspace(&self) -> usize {
        match self {
            Call::Entry { workspace, .. } | Call::Region { workspace, .. } => *workspace,
        }
    }
}

/// The place of a buffer, or of the workspace of the kernel, until memory is planned.
const WORKSPACE: MemoryOf = MemoryOf::Arena;

struct Lowering {
    target: Target,
    entries: Vec<Entry>,
    /// The entries of loop kernels; kernels that differ in their buffers alone share one.
    known: HashMap<LoopKernel, usize>,
    constants: Vec<Array>,
}

impl Lowering {
    fn body(&mut self, kernels: &Kernels, donated: &[bool]) -> Result<Body> {
        let calls = (kernels.kernels.iter().enumerate())
            .map(|(k, kernel)| self.call(k, kernel).map_err(|e| e.context(format_args!("kernel k{k}"))))
            .collect::<Result<Vec<Call>>>()?;
        let workspaces: Vec<usize> = calls.iter().map(Call::workspace).collect();
        let plan = plan(kernels, donated, &[Phase::serial(0..calls.len())], &workspaces);
        let first_constant = self.constants.len();
        let mut constants: HashMap<usize, usize> = HashMap::new();
        for (b, buffer) in kernels.buffers.iter().enumerate() {
            if let Source::Constant(array) = &buffer.source {
                constants.insert(b, first_constant + constants.len());
                self.constants.push(array.clone());
            }
        }
        let place = |buffer: BufferId| match plan.locations[buffer.index()] {
            Location::Param(i) => Place { memory: MemoryOf::Param(i), offset: 0 },
            Location::Output(o) => Place { memory: MemoryOf::Output(o), offset: 0 },
            Location::Constant => Place { memory: MemoryOf::Constant(constants[&buffer.index()]), offset: 0 },
            Location::Arena(offset) => Place { memory: MemoryOf::Arena, offset: offset as i64 },
        };
        let mut launches = Vec::new();
        for (k, (call, kernel)) in calls.into_iter().zip(&kernels.kernels).enumerate() {
            let workspace = Place { memory: WORKSPACE, offset: plan.workspaces[k] as i64 };
            match (call, kernel) {
                (Call::Region { body, second, .. }, Kernel::Region(region)) => {
                    unroll(region, &body, &second, workspace, &place, k, &mut launches)?;
                }
                (Call::Entry { launches: all, .. }, _) => launches.extend(all.into_iter().map(|mut launch| {
                    for arg in &mut launch.args {
                        *arg = match arg.memory {
                            MemoryOf::Param(b) => place(BufferId(b as u32)).plus(arg.offset),
                            _ => workspace.plus(arg.offset),
                        };
                    }
                    launch
                })),
                (Call::Region { .. }, _) => unreachable!("the call of a region"),
            }
            check_count(launches.len())?;
        }
        Ok(Body { plan, launches })
    }

    /// The code of a kernel. Until memory is planned, the arguments of its launches are buffers as `Param`, and the
    /// workspace.
    fn call(&mut self, k: usize, kernel: &Kernel) -> Result<Call> {
        match kernel {
            Kernel::Loop(kernel) => {
                let (code, args) = kernel.canonical(false);
                let mut launches = Vec::new();
                if kernel.segments.is_empty() {
                    launches.extend(self.loop_launch(k, code, &args)?);
                } else {
                    for segment in &kernel.segments {
                        let mut code = code.clone();
                        if let Some(extent) = segment.extent {
                            code.dims[0].extent = extent;
                        }
                        launches.extend(self.loop_launch(k, code, &segment.buffers)?);
                    }
                }
                Ok(Call::Entry { launches, workspace: 0 })
            }
            Kernel::Gemm(g) => {
                check_index(&g.extents)?;
                let (entry, blocks, block) = emit::gemm(self.name(), g);
                check_index(&[blocks])?;
                let size = g.dtype.size() as i64;
                let args =
                    vec![buffer(g.a.0).plus(g.a.1 as i64 * size), buffer(g.b.0).plus(g.b.1 as i64 * size), buffer(g.c)];
                let launch = Launch { kernel: k, entry: self.add(entry), grid: blocks as u32, block, args };
                Ok(Call::Entry { launches: vec![launch], workspace: 0 })
            }
            Kernel::Routine(r) => {
                let emitted = emit::routine(self.name(), &r.routine);
                check_index(&[emitted.blocks, r.routine.tasks()])?;
                let mut args: Vec<Place> = r.operands.iter().chain(&r.results).map(|&b| buffer(b)).collect();
                args.extend(emitted.workspace.map(|_| Place { memory: WORKSPACE, offset: 0 }));
                let (grid, block) = (emitted.blocks as u32, emitted.threads);
                let launch = Launch { kernel: k, entry: self.add(emitted.entry), grid, block, args };
                Ok(Call::Entry { launches: vec![launch], workspace: emitted.workspace.unwrap_or(0) })
            }
            Kernel::Region(region) => {
                let Control::Scan { num_carry, .. } = region.control;
                let donated: Vec<bool> = (0..region.body.params.len()).map(|i| i < num_carry).collect();
                let body = self.body(&region.body, &donated)?;
                let mut workspace = aligned(body.plan.arena);
                let second = (0..num_carry)
                    .map(|c| {
                        if body.plan.aliases[c] == Some(c) {
                            return None;
                        }
                        let offset = workspace;
                        workspace = aligned(workspace.saturating_add(region.body.params[c].bytes()));
                        Some(offset)
                    })
                    .collect();
                Ok(Call::Region { body, second, workspace })
            }
        }
    }

    /// The launch of a loop kernel; `None` if it has no rows.
    fn loop_launch(&mut self, k: usize, code: LoopKernel, args: &[BufferId]) -> Result<Option<Launch>> {
        if args.len() > MAX_PARAMS {
            let count = args.len();
            return Err(Error::new(format!("{count} buffers are more than the {MAX_PARAMS} that an entry takes")));
        }
        check_index(&code.extents())?;
        let loops = schedule_row(&code);
        let row = RowKernel::new(&code, loops);
        let threads = row.spread.threads();
        check_index(&[threads])?;
        if threads == 0 {
            return Ok(None);
        }
        let entry = match self.known.get(&code) {
            Some(&entry) => entry,
            None => {
                let entry = loop_entry(self.name(), &row, args.len());
                let entry = self.add(entry);
                self.known.insert(code.clone(), entry);
                entry
            }
        };
        let most = self.target.multiprocessors as usize * BLOCKS_PER_MULTIPROCESSOR;
        let block = (threads.next_multiple_of(32) as u32).min(BLOCK);
        let grid = threads.div_ceil(block as usize).clamp(1, most) as u32;
        let args = args.iter().map(|&b| buffer(b)).collect();
        Ok(Some(Launch { kernel: k, entry, grid, block, args }))
    }

    fn name(&self) -> String {
        format!("k{}", self.entries.len())
    }

    fn add(&mut self, entry: Entry) -> usize {
        self.entries.push(entry);
        self.entries.len() - 1
    }
}

/// A buffer, until memory is planned.
fn buffer(buffer: BufferId) -> Place {
    Place { memory: MemoryOf::Param(buffer.index()), offset: 0 }
}

fn aligned(bytes: usize) -> usize {
    bytes.checked_next_multiple_of(256).unwrap_or(usize::MAX / 256 * 256)
}

fn check_index(extents: &[usize]) -> Result<()> {
    match extents.iter().find(|&&extent| extent > MAX_INDEX) {
        None => Ok(()),
        Some(extent) => Err(Error::new(format!("{extent} is more than the {MAX_INDEX} that a GPU kernel counts"))),
    }
}

fn check_count(launches: usize) -> Result<()> {
    if launches <= MAX_LAUNCHES {
        return Ok(());
    }
    Err(Error::new(format!("{launches} launches are more than the {MAX_LAUNCHES} of a run")))
}

/// Appends the launches of all trips of a loop.
fn unroll(
    region: &RegionKernel,
    body: &Body,
    second: &[Option<usize>],
    workspace: Place,
    place: &dyn Fn(BufferId) -> Place,
    k: usize,
    launches: &mut Vec<Launch>,
) -> Result<()> {
    let Control::Scan { num_carry, num_consts, length, reverse } = region.control;
    check_count(launches.len().saturating_add(length.saturating_mul(body.launches.len())))?;
    for trip in 0..length {
        let element = if reverse { length - 1 - trip } else { trip };
        // A value of the carry that is not updated in place alternates between its result and a second buffer, such
        // that the last trip writes the result.
        let written = |c: usize, trip: usize| match second[c] {
            Some(offset) if (length - 1 - trip) % 2 == 1 => workspace.plus(offset as i64),
            _ => place(region.results[c]),
        };
        let at = |base: Place, bytes: usize| base.plus((element * bytes) as i64);
        let bind = |p: Place| match p.memory {
            MemoryOf::Param(i) if i < num_carry && trip > 0 => written(i, trip - 1),
            MemoryOf::Param(i) if i < num_carry + num_consts => place(region.operands[i]),
            MemoryOf::Param(i) => at(place(region.operands[i]), region.body.params[i].bytes()),
            MemoryOf::Output(o) if o < num_carry => written(o, trip),
            MemoryOf::Output(o) => at(place(region.results[o]), region.body.outputs[o].ty().bytes()),
            MemoryOf::Constant(_) => p,
            MemoryOf::Arena => workspace,
        };
        launches.extend(body.launches.iter().map(|launch| {
            let args = launch.args.iter().map(|&p| {
                let bound = bind(p);
                if matches!(p.memory, MemoryOf::Constant(_)) { bound } else { bound.plus(p.offset) }
            });
            Launch { kernel: k, args: args.collect(), ..launch.clone() }
        }));
    }
    Ok(())
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args: Vec<String> = self.args.iter().map(ToString::to_string).collect();
        write!(
            f,
            "k{}: entry {}, {} x {} threads ({})",
            self.kernel,
            self.entry,
            self.grid,
            self.block,
            args.join(", ")
        )
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.memory {
            MemoryOf::Param(i) => write!(f, "input {i}")?,
            MemoryOf::Output(o) => write!(f, "output {o}")?,
            MemoryOf::Constant(c) => write!(f, "constant {c}")?,
            MemoryOf::Arena => write!(f, "arena")?,
        }
        if self.offset != 0 { write!(f, " + {}", self.offset) } else { Ok(()) }
    }
}

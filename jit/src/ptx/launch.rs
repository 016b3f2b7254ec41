//! Launches: which kernels run together.
//!
//! In: a body. Out: the launches of a run, and their entries. A kernel with work for several multiprocessors is a
//! launch; of several that have less and need nothing of each other, each has blocks of one launch. Small kernels that
//! follow each other are one launch of one block, which runs them in their order; so is a loop of such kernels, with
//! its trips inside. A loop with larger kernels is one cooperative launch, or is unrolled into launches where these are
//! few. A loop whose number of trips the GPU alone knows, or a branch, is always one launch: a cooperative one, or one
//! of one block where there can be none.

use hashbrown::{HashMap, HashSet};

use super::body::{Body, Item, Kind, Segment};
use super::emit::{
    Count, Part, Pointed, Pointers, RowKernel, Segments, Settle, Step, Trips, block_entry, concurrent_entry,
    cooperative_entry, kernel_entry, segments_entry,
};
use super::inst::Entry;
use super::place::{BARRIER, Cooperative, LAUNCH, Launch, MemoryOf, Place, THREADS, Target};
use crate::error::{Error, Result};
use crate::fuse::{BufferId, Control, RegionKernel, Routine, copy_of};
use crate::types::product;

/// The most launches of a run.
const MAX_LAUNCHES: usize = 1 << 16;

/// The most blocks of a multiprocessor that a launch is spread over.
const BLOCKS_PER_MULTIPROCESSOR: usize = 8;

/// The most parameters of an entry, which has 4 KiB for them.
const MAX_PARAMS: usize = 500;

/// Kernels of at most so many blocks are small: one block runs them in the time that a launch takes.
const SMALL_BLOCKS: usize = 4;

/// Loop kernels of at most so many iterations are small.
const SMALL_ROWS: usize = 1 << 17;

/// The most kernels that one block runs: the driver takes long to compile large entries.
const MAX_ITEMS: usize = 64;

/// The most kernels of a cooperative launch.
const MAX_COOPERATIVE_ITEMS: usize = 256;

/// Nanoseconds that a launch costs the host: its node is built once, and changed in a run with other arrays. An
/// estimate, of which nothing is measured.
const NODE: usize = 500;

/// Products and routines of at most so many operations are small.
const SMALL_OPERATIONS: usize = 1 << 19;

/// The launches of a run, and the entries.
pub(super) fn launches(body: &Body<'_>, target: Target) -> Result<(Vec<Launch>, Vec<Entry>)> {
    let mut builder = Builder { target, entries: vec![], known: HashMap::new() };
    let launches = builder.body(body)?;
    Ok((launches, builder.entries))
}

struct Builder {
    target: Target,
    entries: Vec<Entry>,
    /// The entries without their names; kernels that differ in their buffers alone share one.
    known: HashMap<Entry, usize>,
}

impl Builder {
    /// The launches of a body, with the places of its inputs, outputs and arena.
    fn body(&mut self, body: &Body<'_>) -> Result<Vec<Launch>> {
        let mut launches = Vec::new();
        for group in groups(body, self.always()) {
            match group {
                Group::Small(items) => launches.push(self.block(body, items)?),
                Group::Large([item]) => self.item(body, item, &mut launches)?,
                Group::Large(items) => launches.push(self.concurrent(body, items)?),
            }
            check_count(launches.len())?;
        }
        Ok(launches)
    }

    fn item(&mut self, body: &Body<'_>, item: &Item<'_>, launches: &mut Vec<Launch>) -> Result<()> {
        match &item.kind {
            Kind::Single(part, buffers) => {
                let args = body.args(item, part, buffers);
                check_params(args.len())?;
                let entry = self.add(|name| kernel_entry(name, part, args.len()));
                // A block of a product has one tile; the others go over what there is.
                let most = match part {
                    Part::Rows(_) => self.most_blocks(),
                    Part::Gemm(..) | Part::Mma(..) | Part::Routine(_) => usize::MAX,
                };
                let grid = (item.blocks as usize).clamp(1, most) as u32;
                launches.push(Launch { kernel: item.kernel, entry, grid, cooperative: false, args });
            }
            Kind::Segments(segments, is_aligned) => {
                check_params(segments[0].buffers.len())?;
                for segments in segments.chunks(per_launch(segments)) {
                    launches.push(self.segments(body, item.kernel, segments, *is_aligned));
                }
            }
            Kind::Region(region, inside, carry) => {
                if self.is_cooperative(body, item) {
                    launches.push(self.cooperative(body, item)?);
                    return Ok(());
                }
                let Control::Scan { length, .. } = region.control else {
                    launches.push(self.block(body, std::slice::from_ref(item))?);
                    return Ok(());
                };
                let trip = self.body(inside)?;
                check_count(launches.len().saturating_add(length.saturating_mul(trip.len())))?;
                for t in 0..length {
                    let bind = |place: Place| bind(body, item, region, &carry.second, place, t);
                    launches.extend(trip.iter().map(|launch| {
                        let args = launch.args.iter().map(|&place| bind(place)).collect();
                        Launch { kernel: item.kernel, args, ..launch.clone() }
                    }));
                }
            }
        }
        Ok(())
    }

    /// A launch of concurrent kernels.
    fn concurrent(&mut self, body: &Body<'_>, items: &[Item<'_>]) -> Result<Launch> {
        let (mut parts, mut args) = (Vec::new(), Vec::new());
        for item in items {
            let Kind::Single(part, buffers) = &item.kind else { unreachable!("others have a group each") };
            let of_part = body.args(item, part, buffers);
            parts.push((part, item.blocks.max(1), of_part.len() as u32));
            args.extend(of_part);
        }
        check_params(args.len())?;
        let grid = parts.iter().map(|(_, blocks, _)| blocks).sum();
        let entry = self.add(|name| concurrent_entry(name, &parts));
        Ok(Launch { kernel: items[0].kernel, entry, grid, cooperative: false, args })
    }

    /// Whether every loop is a cooperative launch.
    fn always(&self) -> bool {
        self.target.cooperative == Cooperative::Always
    }

    /// The most blocks that a launch is spread over.
    fn most_blocks(&self) -> usize {
        self.target.multiprocessors as usize * BLOCKS_PER_MULTIPROCESSOR
    }

    /// A launch of segments of a loop kernel.
    fn segments(&mut self, body: &Body<'_>, kernel: usize, segments: &[Segment], is_aligned: bool) -> Launch {
        let args = segments.iter().flat_map(|s| s.buffers.iter().map(|&b| body.place(b))).collect();
        let segments = spread(segments, is_aligned, self.most_blocks());
        let entry = self.add(|name| segments_entry(name, &segments));
        Launch { kernel, entry, grid: segments.blocks, cooperative: false, args }
    }

    /// A launch of one block that runs these items.
    fn block(&mut self, body: &Body<'_>, items: &[Item<'_>]) -> Result<Launch> {
        let mut steps = Steps::new(None, self.always());
        let all = steps.all(body, items, &mut Steps::param);
        let (params, pointers, all) = steps.finish(all)?;
        let entry = self.add(|name| block_entry(name, &pointers, &all));
        Ok(Launch { kernel: items[0].kernel, entry, grid: 1, cooperative: false, args: params })
    }

    /// A cooperative launch of a loop.
    fn cooperative(&mut self, body: &Body<'_>, item: &Item<'_>) -> Result<Launch> {
        let mut steps = Steps::new(Some(self.most_blocks()), self.always());
        let (word, _) = steps.param(Place { memory: MemoryOf::Barrier, offset: 0 });
        let step = steps.step(body, item, &mut Steps::param);
        let grid = steps.blocks as u32;
        let (params, pointers, all) = steps.finish(vec![step])?;
        let entry = self.add(|name| cooperative_entry(name, &pointers, word, &all));
        Ok(Launch { kernel: item.kernel, entry, grid, cooperative: true, args: params })
    }

    /// Whether a loop is a cooperative launch instead of one launch after the other: where that costs less, as each of
    /// these becomes a barrier, and where its number of trips is not known. Without a loop around them, kernels gain
    /// nothing: a barrier costs what a launch does, and all of them would have the registers of the one that needs
    /// most.
    fn is_cooperative(&self, body: &Body<'_>, item: &Item<'_>) -> bool {
        let mut memories = HashSet::from([MemoryOf::Barrier]);
        body.memories(item, &mut memories);
        let fits = memories.len() <= MAX_PARAMS && kernels(item) <= MAX_COOPERATIVE_ITEMS;
        let [launches, barriers] = [true, false].map(|concurrent| launches_of(item, self.always(), concurrent));
        let unrolled = launches.saturating_mul(LAUNCH + NODE);
        let cooperative = barriers.saturating_mul(BARRIER).saturating_add(LAUNCH + NODE);
        let is_dynamic = matches!(&item.kind, Kind::Region(region, ..) if region.control.is_dynamic());
        let is_profitable = is_dynamic || cooperative < unrolled || launches > MAX_LAUNCHES;
        fits && match self.target.cooperative {
            Cooperative::Never => false,
            Cooperative::Auto => is_profitable,
            Cooperative::Always => true,
        }
    }

    fn add(&mut self, entry: impl FnOnce(String) -> Entry) -> usize {
        let entry = entry(String::new());
        let entries = &mut self.entries;
        *self.known.entry(entry).or_insert_with_key(|entry| {
            entries.push(Entry { name: format!("k{}", entries.len()), ..entry.clone() });
            entries.len() - 1
        })
    }
}

/// Items that run together.
enum Group<'b, 'k> {
    /// Small ones, which one block runs.
    Small(&'b [Item<'k>]),
    /// One, or several that are concurrent.
    Large(&'b [Item<'k>]),
}

/// The items of a body, in their order. With `always`, loops are large.
fn groups<'b, 'k>(body: &'b Body<'k>, always: bool) -> impl Iterator<Item = Group<'b, 'k>> {
    let mut items = &body.items[..];
    std::iter::from_fn(move || {
        let first = items.first()?;
        let small = small_items(body, items, always);
        let is_small = small > 1 || (small == 1 && matches!(first.kind, Kind::Region(..)));
        let count = match is_small {
            true => small,
            false => items.iter().take_while(|item| item.group == first.group).count(),
        };
        let group;
        (group, items) = items.split_at(count);
        Some(if is_small { Group::Small(group) } else { Group::Large(group) })
    })
}

/// How many launches a large item is, without cooperative ones; or if each of its concurrent kernels is one.
fn launches_of(item: &Item<'_>, always: bool, concurrent: bool) -> usize {
    match &item.kind {
        Kind::Single(..) => 1,
        Kind::Segments(segments, _) => segments.len().div_ceil(per_launch(segments)),
        Kind::Region(region, body, _) => {
            if concurrent && region.control.is_dynamic() {
                return 1;
            }
            let of = |group| match group {
                Group::Small(_) => 1,
                Group::Large([item]) => launches_of(item, always, concurrent),
                Group::Large(items) => {
                    if concurrent {
                        1
                    } else {
                        items.len()
                    }
                }
            };
            groups(body, always).map(of).fold(0, usize::saturating_add).saturating_mul(region.control.trips())
        }
    }
}

/// The most segments of a launch.
fn per_launch(segments: &[Segment]) -> usize {
    (MAX_PARAMS / segments[0].buffers.len().max(1)).max(1)
}

/// How many kernels an item is.
fn kernels(item: &Item<'_>) -> usize {
    match &item.kind {
        Kind::Single(..) | Kind::Segments(..) => 1,
        Kind::Region(_, body, _) => body.items.iter().map(kernels).sum(),
    }
}

/// Segments over blocks.
fn spread(segments: &[Segment], is_aligned: bool, most: usize) -> Segments {
    let largest = segments.iter().max_by_key(|s| s.kernel.dims.iter().map(|d| d.extent).max());
    let mut kernel = largest.expect("there are segments").kernel.clone();
    let is_flat = kernel.is_flat();
    if is_flat {
        // As on the processor, what is computed once for a loop does not depend on its extent.
        kernel.dims[0].extent = kernel.dims[0].extent.max(2);
    }
    let kernel = RowKernel::new(kernel, is_aligned);
    let mut blocks = 0;
    let mut firsts = Vec::new();
    for segment in segments {
        let extent = is_flat.then(|| segment.kernel.dims[0].extent);
        firsts.push((blocks, extent));
        blocks += kernel.spread.blocks(extent).clamp(1, most) as u32;
    }
    Segments { kernel: Box::new(kernel), firsts, blocks, buffers: segments[0].buffers.len() }
}

/// How many of the first items are run by one block.
fn small_items(body: &Body<'_>, items: &[Item<'_>], always: bool) -> usize {
    let mut memories = HashSet::new();
    let fits = |item: &&Item<'_>| {
        body.memories(item, &mut memories);
        is_small(item, always) && memories.len() <= MAX_PARAMS
    };
    items.iter().take(MAX_ITEMS).take_while(fits).count()
}

/// Whether one block runs an item in about the time of a launch.
fn is_small(item: &Item<'_>, always: bool) -> bool {
    match &item.kind {
        Kind::Single(Part::Rows(row), _) => {
            let iterations = product(row.kernel().dims.iter().map(|dim| dim.extent));
            let is_short = iterations <= SMALL_ROWS && row.in_order() <= SMALL_ROWS / THREADS as usize;
            item.blocks as usize <= SMALL_BLOCKS && is_short
        }
        Kind::Single(Part::Gemm(g, _) | Part::Mma(g, ..), _) => {
            let operations = g.extents.iter().fold(g.taps.len(), |a, &b| a.saturating_mul(b));
            item.blocks as usize <= SMALL_BLOCKS && operations <= SMALL_OPERATIONS
        }
        Kind::Single(Part::Routine(routine), _) => {
            let is_solve = matches!(routine, Routine::TriangularSolve { .. });
            (item.blocks == 1 || is_solve && item.blocks as usize <= SMALL_BLOCKS)
                && routine.operations() <= SMALL_OPERATIONS
        }
        Kind::Segments(..) => false,
        Kind::Region(_, body, _) => !always && body.items.iter().all(|item| is_small(item, always)),
    }
}

/// The place of a trip's memory in the memory around the region.
fn bind(
    body: &Body<'_>,
    item: &Item<'_>,
    region: &RegionKernel,
    second: &[Option<usize>],
    place: Place,
    trip: usize,
) -> Place {
    let Control::Scan { num_carry, num_consts, length, reverse } = region.control else {
        unreachable!("it is one launch")
    };
    let element = if reverse { length - 1 - trip } else { trip };
    let workspace = body.workspace(item);
    // A value of the carry that is not updated in place alternates between its result and a second buffer, such that
    // the last trip writes the result.
    let written = |c: usize, trip: usize| match second[c] {
        Some(offset) if (length - 1 - trip) % 2 == 1 => workspace.plus(offset as i64),
        _ => body.place(region.results[c]),
    };
    let at = |base: Place, bytes: usize| base.plus((element * bytes) as i64);
    let base = match place.memory {
        MemoryOf::Param(i) if i < num_carry && trip > 0 => written(i, trip - 1),
        MemoryOf::Param(i) if i < num_carry + num_consts => body.place(region.operands[i]),
        MemoryOf::Param(i) => at(body.place(region.operands[i]), region.body.params[i].bytes()),
        MemoryOf::Output(o) if o < num_carry => written(o, trip),
        MemoryOf::Output(o) => at(body.place(region.results[o]), region.body.outputs[o].ty().bytes()),
        MemoryOf::Constant(_) | MemoryOf::Barrier => return place,
        MemoryOf::Arena => workspace,
    };
    base.plus(place.offset)
}

/// Numbers from here on are pointers of loops, until the number of parameters is known.
const LOOPS: usize = 1 << 32;

/// A launch of steps under construction.
struct Steps {
    /// The memory that parameters point to.
    params: Vec<MemoryOf>,
    /// The number of pointers of loops.
    pointers: usize,
    /// The most blocks that the steps are spread over; `None` if one block runs them.
    most: Option<usize>,
    /// The most blocks that have something to do.
    blocks: usize,
    /// Whether loops are large: see [`groups`].
    always: bool,
}

/// Where a place of a body is, as a pointer.
type Resolve<'r> = dyn FnMut(&mut Steps, Place) -> Pointed + 'r;

impl Steps {
    fn new(most: Option<usize>, always: bool) -> Self {
        Steps { params: vec![], pointers: 0, most, blocks: 1, always }
    }

    /// The parameters, the pointers, and the steps with the numbers of these.
    fn finish(self, steps: Vec<Step<'_>>) -> Result<(Vec<Place>, Pointers, Vec<Step<'_>>)> {
        let params: Vec<Place> = self.params.iter().map(|&memory| Place { memory, offset: 0 }).collect();
        check_params(params.len())?;
        let pointers = Pointers { params: params.len(), count: params.len() + self.pointers };
        let steps = renumbered(steps, params.len());
        Ok((params, pointers, steps))
    }

    /// A place of the outermost body.
    fn param(&mut self, place: Place) -> Pointed {
        let known = self.params.iter().position(|&memory| memory == place.memory);
        let number = known.unwrap_or_else(|| {
            self.params.push(place.memory);
            self.params.len() - 1
        });
        (number, place.offset)
    }

    fn pointer(&mut self) -> usize {
        self.pointers += 1;
        LOOPS + self.pointers - 1
    }

    /// The steps of a body: small items that follow each other are the first block's.
    fn body<'k>(&mut self, body: &Body<'k>, resolve: &mut Resolve<'_>) -> Vec<Step<'k>> {
        if self.most.is_none() {
            return self.all(body, &body.items, resolve);
        }
        let mut steps = Vec::new();
        for group in groups(body, self.always) {
            match group {
                Group::Small(items) => {
                    let most = self.most.take();
                    steps.push(Step::First(self.all(body, items, resolve)));
                    self.most = most;
                }
                Group::Large(items) => steps.extend(items.iter().map(|item| self.step(body, item, resolve))),
            }
        }
        steps
    }

    fn all<'k>(&mut self, body: &Body<'k>, items: &[Item<'k>], resolve: &mut Resolve<'_>) -> Vec<Step<'k>> {
        items.iter().map(|item| self.step(body, item, resolve)).collect()
    }

    fn step<'k>(&mut self, body: &Body<'k>, item: &Item<'k>, resolve: &mut Resolve<'_>) -> Step<'k> {
        let most = self.most.unwrap_or(1);
        match &item.kind {
            Kind::Single(part, buffers) => {
                self.blocks = self.blocks.max((item.blocks as usize).min(most));
                let args = body.args(item, part, buffers);
                let args = args.into_iter().map(|place| resolve(self, place)).collect();
                Step::Kernel(part.clone(), args)
            }
            Kind::Segments(segments, is_aligned) => {
                let mut args = |s: &Segment| s.buffers.iter().map(|&b| resolve(self, body.place(b))).collect();
                let args = segments.iter().map(&mut args).collect();
                let segments = spread(segments, *is_aligned, most);
                self.blocks = self.blocks.max((segments.blocks as usize).min(most));
                Step::Segments(Box::new(segments), args)
            }
            Kind::Region(region, inside, carry) => match region.control {
                Control::Branch { number, count } => {
                    self.branch(body, item, region, inside, [number, count].map(|n| n as u32), resolve)
                }
                Control::Scan { .. } | Control::While { .. } => {
                    self.region(body, item, region, inside, &carry.second, resolve)
                }
            },
        }
    }

    fn branch<'k>(
        &mut self,
        body: &Body<'k>,
        item: &Item<'k>,
        region: &RegionKernel,
        inside: &Body<'k>,
        [number, count]: [u32; 2],
        resolve: &mut Resolve<'_>,
    ) -> Step<'k> {
        let workspace = resolve(self, body.workspace(item));
        let [params, outputs] = [&region.operands, &region.results]
            .map(|buffers| buffers.iter().map(|&b| resolve(self, body.place(b))).collect::<Vec<Pointed>>());
        let steps = self.inside(inside, &params, &outputs, workspace);
        let index = params[params.len() - 1];
        Step::Branch { index, number, count, steps }
    }

    /// The steps of the body of a region.
    fn inside<'k>(
        &mut self,
        inside: &Body<'k>,
        params: &[Pointed],
        outputs: &[Pointed],
        workspace: Pointed,
    ) -> Vec<Step<'k>> {
        self.body(inside, &mut |block, place| {
            let (pointer, offset) = match place.memory {
                MemoryOf::Param(i) => params[i],
                MemoryOf::Output(o) => outputs[o],
                MemoryOf::Arena => workspace,
                MemoryOf::Constant(_) | MemoryOf::Barrier => return block.param(place),
            };
            (pointer, offset + place.offset)
        })
    }

    fn region<'k>(
        &mut self,
        body: &Body<'k>,
        item: &Item<'k>,
        region: &RegionKernel,
        inside: &Body<'k>,
        second: &[Option<usize>],
        resolve: &mut Resolve<'_>,
    ) -> Step<'k> {
        let num_carry = region.control.num_carry();
        let (num_consts, length, reverse) = match region.control {
            Control::Scan { num_consts, length, reverse, .. } => (num_consts, length, reverse),
            Control::While { .. } | Control::Branch { .. } => (region.operands.len() - num_carry, 0, false),
        };
        let count = Count::Fixed(length as u32);
        let mut trips = Trips { count, begin: vec![], advance: vec![], follow: vec![], alternate: vec![] };
        let workspace = resolve(self, body.workspace(item));
        let mut params: Vec<Pointed> = Vec::new();
        let mut outputs: Vec<Pointed> = Vec::new();
        let moving = |block: &mut Steps, trips: &mut Trips, (base, offset): Pointed, bytes: usize| {
            let (pointer, bytes) = (block.pointer(), bytes as i64);
            let first = if reverse { offset + bytes * (length as i64 - 1) } else { offset };
            trips.begin.push((pointer, (base, first)));
            trips.advance.push((pointer, if reverse { -bytes } else { bytes }));
            (pointer, 0)
        };
        for (i, &operand) in region.operands.iter().enumerate() {
            let base = resolve(self, body.place(operand));
            params.push(if i < num_carry {
                let pointer = self.pointer();
                trips.begin.push((pointer, base));
                (pointer, 0)
            } else if i < num_carry + num_consts {
                base
            } else {
                moving(self, &mut trips, base, region.body.params[i].bytes())
            });
        }
        for (o, &result) in region.results.iter().enumerate() {
            let base = resolve(self, body.place(result));
            if o >= num_carry {
                outputs.push(moving(self, &mut trips, base, region.body.outputs[o].ty().bytes()));
                continue;
            }
            let written = self.pointer();
            trips.follow.push((params[o].0, written));
            match second[o] {
                None => trips.begin.push((written, base)),
                Some(offset) => {
                    let both = [self.pointer(), self.pointer()];
                    let other = (workspace.0, workspace.1 + offset as i64);
                    trips.begin.push((both[0], base));
                    trips.begin.push((both[1], other));
                    // The last trip writes the result. So the first does, in a loop of an odd number of trips.
                    trips.begin.push((written, if length % 2 == 1 { base } else { other }));
                    trips.alternate.push((written, both));
                }
            }
            outputs.push((written, 0));
        }
        if let Control::While { .. } = region.control {
            // The last trip may have left the carry in the second buffers; without a trip it is what it was before.
            let all = params.iter().zip(&region.results).zip(&region.body.params);
            let settle = all.filter(|(_, ty)| ty.elements() > 0).map(|(((from, _), &result), ty)| {
                let row = RowKernel::new(copy_of(BufferId(0), BufferId(1), ty.elements(), ty.dtype), false);
                Settle { from: *from, to: resolve(self, body.place(result)), copy: Part::Rows(Box::new(row)) }
            });
            trips.count = Count::While { predicate: params[0].0, settle: settle.collect() };
        }
        let steps = self.inside(inside, &params, &outputs, workspace);
        Step::Loop(trips, steps)
    }
}

/// The steps with the pointers of loops behind so many parameters.
fn renumbered(steps: Vec<Step<'_>>, params: usize) -> Vec<Step<'_>> {
    let number = |p: usize| if p >= LOOPS { p - LOOPS + params } else { p };
    let all = |args: Vec<Pointed>| args.into_iter().map(|(p, offset)| (number(p), offset)).collect();
    let one = |step| match step {
        Step::Kernel(part, args) => Step::Kernel(part, all(args)),
        Step::Segments(segments, args) => Step::Segments(segments, args.into_iter().map(all).collect()),
        Step::First(steps) => Step::First(renumbered(steps, params)),
        Step::Branch { index: (p, offset), number: n, count, steps } => {
            Step::Branch { index: (number(p), offset), number: n, count, steps: renumbered(steps, params) }
        }
        Step::Loop(trips, body) => {
            let finished =
                |Settle { from, to: (to, o), copy }| Settle { from: number(from), to: (number(to), o), copy };
            let count = match trips.count {
                Count::Fixed(length) => Count::Fixed(length),
                Count::While { predicate, settle } => {
                    Count::While { predicate: number(predicate), settle: settle.into_iter().map(finished).collect() }
                }
            };
            let trips = Trips {
                count,
                begin: trips.begin.into_iter().map(|(p, (from, o))| (number(p), (number(from), o))).collect(),
                advance: trips.advance.into_iter().map(|(p, bytes)| (number(p), bytes)).collect(),
                follow: trips.follow.into_iter().map(|(p, q)| (number(p), number(q))).collect(),
                alternate: trips.alternate.into_iter().map(|(p, both)| (number(p), both.map(number))).collect(),
            };
            Step::Loop(trips, renumbered(body, params))
        }
    };
    steps.into_iter().map(one).collect()
}

fn check_params(count: usize) -> Result<()> {
    if count <= MAX_PARAMS {
        return Ok(());
    }
    Err(Error::new(format!("{count} buffers are more than the {MAX_PARAMS} that a GPU kernel takes")))
}

fn check_count(launches: usize) -> Result<()> {
    if launches <= MAX_LAUNCHES {
        return Ok(());
    }
    Err(Error::new(format!("{launches} launches are more than the {MAX_LAUNCHES} of a run")))
}

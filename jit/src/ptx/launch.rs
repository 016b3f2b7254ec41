//! Launches: which kernels run together.
//!
//! In: a body. Out: the launches of a run, and their entries. A kernel with work for several multiprocessors is a
//! launch. Small kernels that follow each other are one launch of one block, which runs them in their order; so is a
//! loop of such kernels, with its trips inside. A loop with larger kernels is unrolled into launches.

use hashbrown::{HashMap, HashSet};

use super::body::{Body, Item, Kind, Segment};
use super::emit::{Part, Pointers, RowKernel, Spread, Step, Trips, block_entry, kernel_entry, segments_entry};
use super::inst::Entry;
use super::place::{Launch, MemoryOf, Place, THREADS, Target};
use crate::error::{Error, Result};
use crate::fuse::{Control, LoopKernel, RegionKernel, Routine};
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
    /// The entries of loop kernels, by how rows are spread over threads; kernels that differ in their buffers alone
    /// share one.
    known: HashMap<(LoopKernel, Spread), usize>,
}

impl Builder {
    /// The launches of a body, with the places of its inputs, outputs and arena.
    fn body(&mut self, body: &Body<'_>) -> Result<Vec<Launch>> {
        let mut launches = Vec::new();
        let mut items = &body.items[..];
        while let [first, rest @ ..] = items {
            let small = small_items(body, items);
            let is_loop = |item: &Item<'_>| matches!(item.kind, Kind::Region(..));
            if small > 1 || (small == 1 && is_loop(first)) {
                launches.push(self.block(body, &items[..small])?);
                items = &items[small..];
                continue;
            }
            self.item(body, first, &mut launches)?;
            check_count(launches.len())?;
            items = rest;
        }
        Ok(launches)
    }

    fn item(&mut self, body: &Body<'_>, item: &Item<'_>, launches: &mut Vec<Launch>) -> Result<()> {
        match &item.kind {
            Kind::Single(part, buffers) => {
                let args = body.args(item, part, buffers);
                check_params(args.len())?;
                let entry = match part {
                    Part::Rows(row) => {
                        let key = (row.kernel().clone(), row.spread);
                        match self.known.get(&key) {
                            Some(&entry) => entry,
                            None => {
                                let entry = self.add(|name| kernel_entry(name, part, args.len()));
                                self.known.insert(key, entry);
                                entry
                            }
                        }
                    }
                    Part::Gemm(_) | Part::Routine(_) => self.add(|name| kernel_entry(name, part, args.len())),
                };
                // A block of a product has one tile; the others go over what there is.
                let most = match part {
                    Part::Rows(_) => self.target.multiprocessors as usize * BLOCKS_PER_MULTIPROCESSOR,
                    Part::Gemm(_) | Part::Routine(_) => usize::MAX,
                };
                let grid = (item.blocks as usize).clamp(1, most) as u32;
                launches.push(Launch { kernel: item.kernel, entry, grid, args });
            }
            Kind::Segments(segments, is_aligned) => {
                let per_launch = MAX_PARAMS / segments[0].buffers.len().max(1);
                check_params(segments[0].buffers.len())?;
                for segments in segments.chunks(per_launch.max(1)) {
                    launches.push(self.segments(body, item.kernel, segments, *is_aligned));
                }
            }
            Kind::Region(region, inside, carry) => {
                let Control::Scan { length, .. } = region.control;
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

    /// A launch of segments of a loop kernel.
    fn segments(&mut self, body: &Body<'_>, kernel: usize, segments: &[Segment], is_aligned: bool) -> Launch {
        let largest = segments.iter().max_by_key(|s| s.kernel.dims.iter().map(|d| d.extent).max());
        let row = RowKernel::new(largest.expect("there are segments").kernel.clone(), is_aligned);
        let is_flat = row.kernel().is_flat();
        let most = self.target.multiprocessors as usize * BLOCKS_PER_MULTIPROCESSOR;
        let mut blocks = 0;
        let mut firsts = Vec::new();
        for segment in segments {
            let extent = is_flat.then(|| segment.kernel.dims[0].extent);
            firsts.push((blocks, extent));
            blocks += row.spread.blocks(extent).clamp(1, most) as u32;
        }
        let buffers = segments[0].buffers.len();
        let entry = self.add(|name| segments_entry(name, &row, &firsts, blocks, buffers));
        let args = segments.iter().flat_map(|s| s.buffers.iter().map(|&b| body.place(b))).collect();
        Launch { kernel, entry, grid: blocks, args }
    }

    /// A launch of one block that runs these items.
    fn block(&mut self, body: &Body<'_>, items: &[Item<'_>]) -> Result<Launch> {
        let mut block = Block::default();
        let steps = block.steps(body, items, &mut |block, place| block.param(place));
        let params: Vec<Place> = block.params.iter().map(|&memory| Place { memory, offset: 0 }).collect();
        check_params(params.len())?;
        let pointers = Pointers { params: params.len(), count: params.len() + block.pointers };
        let steps = renumbered(steps, params.len());
        let entry = self.add(|name| block_entry(name, &pointers, &steps));
        Ok(Launch { kernel: items[0].kernel, entry, grid: 1, args: params })
    }

    fn add(&mut self, entry: impl FnOnce(String) -> Entry) -> usize {
        self.entries.push(entry(format!("k{}", self.entries.len())));
        self.entries.len() - 1
    }
}

/// How many of the first items are run by one block.
fn small_items(body: &Body<'_>, items: &[Item<'_>]) -> usize {
    let mut memories = HashSet::new();
    let fits = |item: &&Item<'_>| {
        body.memories(item, &mut memories);
        is_small(item) && memories.len() <= MAX_PARAMS
    };
    items.iter().take(MAX_ITEMS).take_while(fits).count()
}

/// Whether one block runs an item in about the time of a launch.
fn is_small(item: &Item<'_>) -> bool {
    match &item.kind {
        Kind::Single(Part::Rows(row), _) => {
            let iterations = product(row.kernel().dims.iter().map(|dim| dim.extent));
            let is_short = iterations <= SMALL_ROWS && row.in_order() <= SMALL_ROWS / THREADS as usize;
            item.blocks as usize <= SMALL_BLOCKS && is_short
        }
        Kind::Single(Part::Gemm(g), _) => {
            let operations = g.extents.iter().fold(g.taps.len(), |a, &b| a.saturating_mul(b));
            item.blocks as usize <= SMALL_BLOCKS && operations <= SMALL_OPERATIONS
        }
        Kind::Single(Part::Routine(routine), _) => {
            let is_solve = matches!(routine, Routine::TriangularSolve { .. });
            (item.blocks == 1 || is_solve && item.blocks as usize <= SMALL_BLOCKS)
                && routine.operations() <= SMALL_OPERATIONS
        }
        Kind::Segments(..) => false,
        Kind::Region(_, body, _) => body.items.iter().all(is_small),
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
    let Control::Scan { num_carry, num_consts, length, reverse } = region.control;
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
        MemoryOf::Constant(_) => return place,
        MemoryOf::Arena => workspace,
    };
    base.plus(place.offset)
}

/// A pointer, and bytes from there.
type Pointed = (usize, i64);

/// Numbers from here on are pointers of loops, until the number of parameters is known.
const LOOPS: usize = 1 << 32;

/// A launch of one block under construction.
#[derive(Default)]
struct Block {
    /// The memory that parameters point to.
    params: Vec<MemoryOf>,
    /// The number of pointers of loops.
    pointers: usize,
}

/// Where a place of a body is, as a pointer.
type Resolve<'r> = dyn FnMut(&mut Block, Place) -> Pointed + 'r;

impl Block {
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

    fn steps<'k>(&mut self, body: &Body<'k>, items: &[Item<'k>], resolve: &mut Resolve<'_>) -> Vec<Step<'k>> {
        let mut steps = Vec::new();
        for item in items {
            match &item.kind {
                Kind::Single(part, buffers) => {
                    let args = body.args(item, part, buffers);
                    let args = args.into_iter().map(|place| resolve(self, place)).collect();
                    steps.push(Step::Kernel(part.clone(), args));
                }
                Kind::Segments(..) => unreachable!("segments are not small"),
                Kind::Region(region, inside, carry) => {
                    steps.push(self.region(body, item, region, inside, &carry.second, resolve));
                }
            }
        }
        steps
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
        let Control::Scan { num_carry, num_consts, length, reverse } = region.control;
        let mut trips =
            Trips { length: length as u32, begin: vec![], advance: vec![], follow: vec![], alternate: vec![] };
        let workspace = resolve(self, body.workspace(item));
        let mut params: Vec<Pointed> = Vec::new();
        let mut outputs: Vec<Pointed> = Vec::new();
        let moving = |block: &mut Block, trips: &mut Trips, (base, offset): Pointed, bytes: usize| {
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
        let steps = self.steps(inside, &inside.items, &mut |block, place| {
            let (pointer, offset) = match place.memory {
                MemoryOf::Param(i) => params[i],
                MemoryOf::Output(o) => outputs[o],
                MemoryOf::Arena => workspace,
                MemoryOf::Constant(_) => return block.param(place),
            };
            (pointer, offset + place.offset)
        });
        Step::Loop(trips, steps)
    }
}

/// The steps with the pointers of loops behind so many parameters.
fn renumbered(steps: Vec<Step<'_>>, params: usize) -> Vec<Step<'_>> {
    let number = |p: usize| if p >= LOOPS { p - LOOPS + params } else { p };
    let one = |step| match step {
        Step::Kernel(part, args) => {
            Step::Kernel(part, args.into_iter().map(|(p, offset)| (number(p), offset)).collect())
        }
        Step::Loop(trips, body) => {
            let trips = Trips {
                length: trips.length,
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

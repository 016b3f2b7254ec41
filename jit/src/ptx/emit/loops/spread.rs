//! How the rows of a kernel are spread over threads.

use smallvec::SmallVec;

use super::super::THREADS;
use crate::fuse::{Affine, KernelOp, KernelValue, LoopKernel, Order, PARTIALS};
use crate::lower::lane::storage;
use crate::lower::loops::{Block, Effect, Input, Loops, Stmt};
use crate::types::{DType, gcd, product};

/// The most bytes of an access.
pub(super) const ACCESS_BYTES: usize = 16;

/// The fewest rows of a kernel that takes several at a time: with fewer, threads would be idle.
const MIN_ROWS: usize = 1 << 12;

/// A row has a block if its last reduced loop has this many iterations: fewer leave threads idle between two barriers.
const LONG_ROW: usize = 512;

/// And if there are at most so many rows: more of them, with 16 threads each, keep every multiprocessor busy without
/// barriers.
const MANY_ROWS: usize = 1 << 11;

/// Bytes of shared memory that a block has on every GPU.
const SHARED: usize = 48 << 10;

/// Bytes of shared memory in which a block exchanges elements: two buffers.
pub(super) const EXCHANGE: usize = 8 << 10;

/// Bytes of shared memory in which a block keeps elements of a row for later sweeps.
pub(super) const KEPT: usize = 39 << 10;

/// The most reductions of a row that has a block. Each has 8 bytes for its result.
const MAX_REDUCTIONS: usize = 16;

/// The fewest iterations for which a thread of a kernel whose iterations run in order is started, and the most threads:
/// a warp for each scheduler of a large GPU.
const ITERATIONS_PER_OWNER: usize = 8;
const MAX_OWNERS: usize = 1 << 14;

const _: () = assert!(EXCHANGE + KEPT + 8 * MAX_REDUCTIONS <= SHARED && MAX_TILES * TILE * (TILE + 1) * 8 <= SHARED);

/// The rows and the columns of a tile.
pub(super) const TILE: usize = 32;

/// The fewest elements of a kernel with tiles: fewer are served by the caches, and would leave multiprocessors idle.
const MIN_TILED: usize = 1 << 14;

/// The most loads through tiles.
const MAX_TILES: usize = 4;

/// The threads of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Team {
    /// One, for so many adjacent rows.
    Thread(usize),
    /// [`PARTIALS`], half of a warp.
    HalfWarp,
    /// A block. It exchanges so many elements at a time.
    Block(usize),
    /// A block for [`TILE`] by `TILE` rows, of so many tiles.
    Tile(usize),
}

/// How the rows of a kernel are spread over threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::ptx) struct Spread {
    /// The number of rows.
    pub(super) rows: usize,
    pub(super) team: Team,
}

impl Spread {
    /// The number of rows.
    pub(in crate::ptx) fn rows(self) -> usize {
        self.rows
    }

    /// The number of blocks that have something to do, with so many rows if it is another number.
    pub(in crate::ptx) fn blocks(self, rows: Option<usize>) -> usize {
        let rows = rows.unwrap_or(self.rows);
        match self.team {
            Team::Thread(width) => rows.div_ceil(width).div_ceil(THREADS as usize),
            Team::HalfWarp => rows.saturating_mul(PARTIALS).div_ceil(THREADS as usize),
            Team::Block(_) => rows,
            Team::Tile(tiles) => tiles,
        }
    }
}

/// Threads that go through the same iterations in order, each for its share of the elements.
#[derive(Clone, Copy)]
pub(super) struct Owners {
    /// How many there are, a power of two.
    pub(super) count: usize,
    /// Elements are at multiples of this, from which their owners are counted.
    pub(super) unit: usize,
}

/// The owners of the elements that a row of a kernel stores, whose iterations run in order.
///
/// An iteration of which nothing is stored is short: it computes a place. So many threads that each find the iterations
/// of their elements are faster than one that runs all; the order for each element is the same.
pub(super) fn owners(kernel: &LoopKernel, apart: &[usize], rows: usize) -> Owners {
    let one = Owners { count: 1, unit: 1 };
    let [store] = &kernel.stores[..] else { return one };
    let same_place = |value: &KernelValue| match &value.op {
        KernelOp::Load(buffer, index) if *buffer == store.buffer => {
            let by = value.operands.iter().copied().zip(index.by.iter().copied());
            index.base == store.index && by.eq(store.by.iter().copied())
        }
        _ => true,
    };
    if !kernel.serial || !kernel.values.iter().all(same_place) {
        return one;
    }
    let others = (0..kernel.dims.len()).filter(|d| !apart.contains(d));
    let strides = others.clone().map(|d| store.index.strides[d]).chain(store.by.iter().map(|(_, stride)| *stride));
    let unit = strides.fold(0, |a, b| gcd(a, b.unsigned_abs())).max(1);
    let iterations = product(others.map(|d| kernel.dims[d].extent));
    let most = (iterations / ITERATIONS_PER_OWNER).min(MAX_OWNERS / rows.max(1)).max(1);
    Owners { count: 1 << most.ilog2(), unit }
}

/// The elements that a block exchanges at a time, if each row of the kernel has a block.
///
/// A sum in [`PARTIALS`] accumulators is a chain of additions for each, and no more than as many threads can add. What
/// is added is computed by all threads, and read from memory once: the block keeps it for later sweeps.
pub(super) fn exchanged(kernel: &LoopKernel) -> Option<usize> {
    let count = |reduced: bool| product(kernel.dims.iter().filter(|d| d.reduced == reduced).map(|d| d.extent));
    let last = kernel.dims.iter().rfind(|dim| dim.reduced)?.extent;
    let is_long =
        kernel.order == Some(Order::Interleaved) && last >= LONG_ROW && (1..=MANY_ROWS).contains(&count(false));
    let reductions = kernel.values.iter().filter(|value| matches!(value.op, KernelOp::Reduce(_)));
    let sizes: Vec<usize> = reductions.map(|value| storage::accumulator(value.dtype).size()).collect();
    let elements = EXCHANGE / 2 / sizes.iter().sum::<usize>().next_power_of_two();
    (is_long && sizes.len() <= MAX_REDUCTIONS && elements >= THREADS as usize)
        .then_some(elements.min(4 * THREADS as usize))
}

/// Loops over rows, outermost first: extents and dimensions.
pub(super) type Outer = SmallVec<[(usize, usize); 4]>;

/// The elements that make a full access, if they are as large as the largest one.
pub(super) fn full_access(indices: &[(Affine, Access)]) -> usize {
    let sizes = indices.iter().filter_map(|(_, access)| access.dtype()).map(DType::size);
    ACCESS_BYTES / sizes.max().unwrap_or(1).max(4)
}

/// The rows that a thread takes at a time: as many as make a full access, where every store allows it.
pub(super) fn width(outer: &Outer, indices: &[(Affine, Access)]) -> usize {
    let Some(&(extent, last)) = outer.last() else { return 1 };
    if product(outer.iter().map(|(extent, _)| *extent)) < MIN_ROWS {
        return 1;
    }
    let accesses = || indices.iter().filter_map(|(index, access)| access.dtype().map(|dtype| (index, access, dtype)));
    let width = full_access(indices);
    let is_whole = |index: &Affine| is_whole(index, outer, last, width);
    let stores_allow = accesses().all(|(index, access, _)| !matches!(access, Access::Store(_)) || is_whole(index));
    let divides = extent % width == 0 || outer.len() == 1;
    if stores_allow && divides && width > 1 { width } else { 1 }
}

/// Whether `width` rows are adjacent elements that begin at a multiple of `width`.
pub(super) fn is_whole(index: &Affine, outer: &Outer, last: usize, width: usize) -> bool {
    let others = index.strides.iter().enumerate().filter(|(d, _)| outer.iter().any(|(_, o)| o == d) && *d != last);
    let inner = index.strides.iter().enumerate().filter(|(d, _)| outer.iter().all(|(_, o)| o != d));
    let width = width as isize;
    index.strides[last] == 1
        && index.offset % width == 0
        && others.chain(inner).all(|(d, stride)| stride % width == 0 || d == last)
}

/// What an index is for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Access {
    Load(DType),
    /// A load whose position has a computed part, or an index as a value.
    Other,
    Store(DType),
}

impl Access {
    fn dtype(self) -> Option<DType> {
        match self {
            Access::Load(dtype) | Access::Store(dtype) => Some(dtype),
            Access::Other => None,
        }
    }
}

/// The indices in the code of a row.
pub(super) fn indices(body: &[Stmt]) -> Vec<(Affine, Access)> {
    let mut all = Vec::new();
    for stmt in body {
        match stmt {
            Stmt::For { body, .. } | Stmt::Collapsed { body, .. } => all.extend(indices(body)),
            Stmt::Block(block) => {
                all.extend(block.inputs.iter().filter_map(|input| match input {
                    Input::Load { index, dtype, .. } => Some((index.clone(), Access::Load(*dtype))),
                    Input::Table { index, .. } | Input::Iota(index) => Some((index.clone(), Access::Other)),
                    Input::Row(..) => None,
                }));
                all.extend(block.effects.iter().filter_map(|effect| match effect {
                    Effect::Store { index, dtype, .. } => Some((index.clone(), Access::Store(*dtype))),
                    Effect::Accumulate { .. } | Effect::Row { .. } => None,
                }));
            }
            Stmt::Init(_) | Stmt::Combine { .. } => {}
            Stmt::Transpose(_) => unreachable!("a row packs nothing"),
        }
    }
    all
}

/// Tiles of a kernel in which a load follows other rows than the stores.
#[derive(Clone)]
pub(super) struct Tiles {
    /// The loop that loads are contiguous along, by position among those over rows. Stores are along the last.
    pub(super) along: usize,
    /// These loads, by their inputs of the block, with their types.
    pub(super) loads: SmallVec<[(usize, DType); 1]>,
}

/// The tiles of a kernel without reductions, if it is large and its loads and stores allow it.
pub(super) fn tiles(outer: &Outer, loops: &Loops) -> Option<Tiles> {
    let [Stmt::Block(Block { inputs, effects, .. })] = &loops.body[..] else { return None };
    let ((columns, last), before) = outer.split_last()?;
    let is_row_major = |effect: &Effect| match effect {
        Effect::Store { index, offset, .. } => index.strides[*last] == 1 && offset.is_none(),
        Effect::Accumulate { .. } | Effect::Row { .. } => false,
    };
    let large = product(outer.iter().map(|(extent, _)| *extent)) >= MIN_TILED && *columns >= TILE / 2;
    if !large || !effects.iter().all(is_row_major) {
        return None;
    }
    let loads_along = |dim: usize| -> SmallVec<[(usize, DType); 1]> {
        let crosses = |(n, input): (usize, &Input)| match input {
            Input::Load { index, dtype, .. } => {
                (index.strides[dim] == 1 && !matches!(index.strides[*last], 0 | 1)).then_some((n, *dtype))
            }
            Input::Table { .. } | Input::Iota(_) | Input::Row(..) => None,
        };
        inputs.iter().enumerate().filter_map(crosses).collect()
    };
    let along = |(n, &(extent, dim)): (usize, &(usize, usize))| {
        let loads = loads_along(dim);
        (!loads.is_empty() && extent >= TILE / 2 && loads.len() <= MAX_TILES).then_some(Tiles { along: n, loads })
    };
    before.iter().enumerate().find_map(along)
}

/// The number of tiles.
pub(super) fn count(tiles: &Tiles, outer: &Outer) -> usize {
    let last = outer.len() - 1;
    let extent = |(n, (extent, _)): (usize, &(usize, usize))| {
        if n == tiles.along || n == last { extent.div_ceil(TILE) } else { *extent }
    };
    product(outer.iter().enumerate().map(extent))
}

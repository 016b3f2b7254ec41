//! The loops around the microkernel: tasks, blocks of k, packing, and the tiles themselves.
//!
//! In come a planned [`Gemm`], three addresses, scratch and a range of tasks; out comes that part
//! of C.  The plan is only followed here.  Nothing depends on the instruction set: it is compiled
//! once for each register file, which supplies the kernels and the packing.
//!
//! Below, d = x·y is the product as it is run: x is broadcast, y is read in vectors, and d is C, or
//! the transpose of C where the plan swaps the operands.  Pointers move by wrapping arithmetic,
//! because the step past a last panel, or into an operand whose k is 0, may leave the operand; only
//! what a tile describes is read or written.

use super::Gemm;
use super::lanes::{Kernel, Lanes, Source, Term, Tile};

/// A plain product is a batch-reduce of one term.
const ONE_TERM: Term = Term { x: 0, y: 0 };

/// Runs the tasks from `begin` to `end`.
///
/// A task is one row of tiles in one block of lanes of one product.  Tasks are numbered with the
/// rows fastest, so that consecutive ones share a block of y, which is packed once for all of them.
///
/// # Safety
/// See [`super::gemm_range_f32`]; and the machine has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn range<V: Lanes>(
    g: &Gemm,
    a: *const V::Scalar,
    b: *const V::Scalar,
    c: *mut V::Scalar,
    scratch: *mut u8,
    begin: usize,
    end: usize,
) {
    debug_assert_eq!(g.element, size_of::<V::Scalar>(), "planned for another element");
    let end = end.min(g.tasks());
    if begin >= end {
        return;
    }
    let (x, y) = if g.swapped { (b, a) } else { (a, b) };
    // The common call starts at 0 and is short enough to feel three divisions.
    let (mut product, mut block, mut first) = if begin == 0 {
        (0, 0, 0)
    } else {
        let rest = begin / g.row_tiles;
        (rest / g.lane_blocks, rest % g.lane_blocks, begin % g.row_tiles)
    };
    let mut left = end - begin;
    // SAFETY: the plan keeps tiles to `Isa::most_rows`, and counted the three parts of scratch.
    let nest = unsafe {
        Nest::<V> {
            g,
            tall: kernel::<V>(g, g.tile_rows, g.tile_vectors),
            short: kernel::<V>(g, g.tile_rows - 1, g.tile_vectors),
            y_pack: scratch.cast(),
            x_pack: scratch.add(g.y_pack_bytes).cast(),
            stage: scratch.add(g.y_pack_bytes + g.x_pack_bytes).cast(),
        }
    };
    loop {
        let tiles = left.min(g.row_tiles - first);
        let at = product as isize;
        // SAFETY: the caller's promise, and tasks lie within the operands.
        unsafe {
            nest.block(
                x.wrapping_offset(at * g.x[0]),
                y.wrapping_offset(at * g.y[0]),
                c.wrapping_offset(at * g.d[0]),
                block * g.lane_block,
                first,
                first + tiles,
            );
        }
        left -= tiles;
        if left == 0 {
            return;
        }
        first = 0;
        block += 1;
        if block == g.lane_blocks {
            block = 0;
            product += 1;
        }
    }
}

/// What stays the same over a call.
struct Nest<'a, V: Lanes> {
    g: &'a Gemm,
    /// The kernels of tall tiles and of those one row shorter, for panels of full width.
    tall: Kernel<V::Scalar>,
    short: Kernel<V::Scalar>,
    y_pack: *mut V::Scalar,
    x_pack: *mut V::Scalar,
    stage: *mut V::Scalar,
}

impl<V: Lanes> Nest<'_, V> {
    /// Rows of tiles `first..last` of the block of lanes at `lane`, for all of k.
    ///
    /// # Safety
    /// As for [`range`]; `x`, `y` and `d` are those of the product.
    #[inline(always)]
    unsafe fn block(
        &self,
        x: *const V::Scalar,
        y: *const V::Scalar,
        d: *mut V::Scalar,
        lane: usize,
        first: usize,
        last: usize,
    ) {
        let g = self.g;
        let lanes = g.lane_block.min(g.lanes - lane);
        let panel = g.tile_vectors * V::WIDTH;
        // Whole panels, then perhaps a narrower one, whose last vector may be cut short.
        let whole = lanes / panel;
        let edge = lanes % panel;
        let edge_vectors = edge.div_ceil(V::WIDTH);
        let (mut tall_edge, mut short_edge) = (self.tall, self.short);
        if edge > 0 {
            // SAFETY: the edge is no wider than the panel.
            unsafe {
                tall_edge = kernel::<V>(g, g.tile_rows, edge_vectors);
                short_edge = kernel::<V>(g, g.tile_rows - 1, edge_vectors);
            }
        }
        let y = y.wrapping_offset(lane as isize * g.y[2]);
        let d = d.wrapping_offset(lane as isize * g.d[2]);
        let (out, out_row) = if g.staged { (self.stage, g.lane_block as isize) } else { (d, g.d[1]) };
        let mut k = 0;
        loop {
            let depth = g.depth_block.min(g.k - k);
            let y_block = y.wrapping_offset(k as isize * g.y[1]);
            // How y is read from panel to panel, and within a panel and within the edge from k to
            // k, or from lane to lane by strided kernels.
            let (y, y_panel, y_step, y_edge_step) = if g.pack_y {
                let from = Source { at: y_block, lane: g.y[2], k: g.y[1] };
                // SAFETY: scratch holds a block.
                unsafe { V::pack(from, lanes, depth, self.y_pack, panel) };
                let edge_width = (edge_vectors * V::WIDTH) as isize;
                (self.y_pack.cast_const(), (panel * depth) as isize, panel as isize, edge_width)
            } else if g.strided {
                (y_block, panel as isize * g.y[2], g.y[2], g.y[2])
            } else {
                (y_block, panel as isize, g.y[1], g.y[1])
            };
            // While this block is used, the next one is fetched, line by line down its steps of k.
            let k_next = k + depth;
            let y_lanes = if g.pack_y && k_next < g.k { lanes } else { 0 };
            let mut y_ahead = Ahead::new(y_block.wrapping_offset(depth as isize * g.y[1]), y_lanes, g.y[1]);
            let mut x_ahead = Ahead::new(x, 0, 0);
            let mut packed = PackedRows { row: 0, width: 0, left: 0 };
            for tile in first..last {
                let tall = tile < g.tall_tiles;
                let row = first_row(g, tile) as isize;
                let at = |row: usize, k: usize| x.wrapping_offset(row as isize * g.x[1] + k as isize * g.x[2]);
                let x = at(row as usize, k);
                let (x, x_row, x_k) = if g.pack_x {
                    if packed.left == 0 {
                        let end = last.min(tile + g.packed_tiles);
                        let rows = first_row(g, end) - row as usize;
                        packed = PackedRows { row, width: rows.next_multiple_of(V::WIDTH), left: end - tile };
                        let from = Source { at: x, lane: g.x[1], k: g.x[2] };
                        // SAFETY: scratch holds so many tiles.
                        unsafe { V::pack(from, rows, depth, self.x_pack, packed.width) };
                        // The same for the rows after these, or for the first ones at the next steps of k.
                        let (row, k) = if end < last { (first_row(g, end), k) } else { (first_row(g, first), k_next) };
                        let rows = if k < g.k { rows } else { 0 };
                        x_ahead = Ahead::new(at(row, k), rows, g.x[2]);
                    }
                    packed.left -= 1;
                    (self.x_pack.wrapping_offset(row - packed.row).cast_const(), 1, packed.width as isize)
                } else {
                    (x, g.x[1], g.x[2])
                };
                let mut arguments = Tile {
                    k: depth,
                    x,
                    x_row,
                    x_k,
                    y,
                    y_k: y_step,
                    d: out.wrapping_offset(row * out_row),
                    d_row: out_row,
                    last: V::WIDTH,
                    resume: k > 0,
                    far_d: g.far_d,
                    ahead: x,
                    ahead_step: 0,
                    terms: &ONE_TERM,
                    term_count: 1,
                };
                let kernel = if tall { self.tall } else { self.short };
                for _ in 0..whole {
                    (arguments.ahead, arguments.ahead_step) =
                        y_ahead.next().or_else(|| x_ahead.next()).unwrap_or((x, 0));
                    // SAFETY: the tile lies within the product.
                    unsafe { kernel(&arguments) };
                    arguments.y = arguments.y.wrapping_offset(y_panel);
                    arguments.d = arguments.d.wrapping_add(panel);
                }
                if edge > 0 {
                    arguments.y_k = y_edge_step;
                    arguments.last = edge - (edge_vectors - 1) * V::WIDTH;
                    let kernel = if tall { tall_edge } else { short_edge };
                    // SAFETY: as above, and `last` cuts it to the lanes there are.
                    unsafe { kernel(&arguments) };
                }
            }
            k += depth;
            if k >= g.k {
                break;
            }
        }
        if g.staged {
            let (low, high) = (first_row(g, first), first_row(g, last));
            let from = self.stage.wrapping_add(low * g.lane_block);
            // SAFETY: the stage holds the rows of these tiles, and rows of d are contiguous.
            unsafe { V::unpack(from, g.lane_block, high - low, lanes, d.wrapping_add(low), g.d[2]) };
        }
    }
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Lines side by side that are still to be fetched, each of them again for every step of k.
struct Ahead<S> {
    from: *const S,
    lines: usize,
    step: isize,
}

impl<S> Ahead<S> {
    /// The lines of so many scalars.
    #[inline(always)]
    fn new(from: *const S, scalars: usize, step: isize) -> Self {
        Ahead { from, lines: (scalars * size_of::<S>()).div_ceil(LINE), step }
    }

    /// The next line, and how far it is from one step of k to the next.
    #[inline(always)]
    fn next(&mut self) -> Option<(*const S, isize)> {
        self.lines = self.lines.checked_sub(1)?;
        let from = self.from;
        self.from = from.wrapping_byte_add(LINE);
        Some((from, self.step))
    }
}

/// The rows of x in scratch: from which on, how far it is from one k to the next, and how many tiles still use them.
struct PackedRows {
    row: isize,
    width: usize,
    left: usize,
}

/// Where a row of tiles begins.
#[inline(always)]
fn first_row(g: &Gemm, tile: usize) -> usize {
    tile * (g.tile_rows - 1) + tile.min(g.tall_tiles)
}

/// The kernel of a tile; one of no rows is never run.
///
/// # Safety
/// The tile is one that the plan allows.
#[inline(always)]
unsafe fn kernel<V: Lanes>(g: &Gemm, rows: usize, vectors: usize) -> Kernel<V::Scalar> {
    // SAFETY: the caller's promise.
    unsafe { if g.strided { V::strided_kernel(rows.max(1)) } else { V::kernel(rows.max(1), vectors) } }
}

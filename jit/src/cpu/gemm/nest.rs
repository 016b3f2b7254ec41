//! The loops around the microkernel: tasks, taps, blocks of k, packing, and the tiles themselves.
//!
//! Comes in: a planned [`Gemm`], three addresses, scratch memory and a range of tasks. Goes out: the part of C of those
//! tasks. Nothing is decided here: the nest follows the plan. The code is compiled once per register file, which
//! supplies the microkernels and the packing.
//!
//! A, B and C are the operands as run: A is broadcast, B is read in vectors. If the plan transposes the problem, A is
//! the caller's B, B the caller's A, and C is transposed. Pointers advance by wrapping arithmetic, because they may
//! leave an operand after its last panel or if k is 0; only memory that a tile describes is accessed.

use super::Gemm;
use super::vector::{Microkernel, PanelSource, SimdVector, Tile};
use crate::fuse::Tap;

/// The tap of operands that are shifted already.
const ONE_TAP: Tap = Tap { a: 0, b: 0 };

/// Runs the tasks from `begin` to `end`.
///
/// A task is one row of tiles in one block of columns of one product of the batch. Rows vary fastest, so consecutive
/// tasks share a block of B, which is packed once for all of them.
///
/// # Safety
/// See [`super::gemm_range_f32`]; and the machine has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn range<V: SimdVector>(
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
    let (a, b) = if g.transposed { (b, a) } else { (a, b) };
    // Calls from task 0 are common and short; they avoid the divisions.
    let (mut batch_index, mut block, mut first) = if begin == 0 {
        (0, 0, 0)
    } else {
        let rest = begin / g.row_tiles;
        (rest / g.column_blocks, rest % g.column_blocks, begin % g.row_tiles)
    };
    let mut remaining = end - begin;
    // SAFETY: the plan limits tiles to `plan::max_rows`, and scratch memory has its three parts.
    let nest = unsafe {
        Nest::<V> {
            g,
            full: microkernel::<V>(g, g.tile_rows, g.tile_vectors),
            edge: microkernel::<V>(g, g.tile_rows - 1, g.tile_vectors),
            b_pack: scratch.cast(),
            a_pack: scratch.add(g.b_pack_bytes).cast(),
            c_buffer: scratch.add(g.b_pack_bytes + g.a_pack_bytes).cast(),
        }
    };
    loop {
        let tiles = remaining.min(g.row_tiles - first);
        let [at_a, at_b, at_c] = g.offsets(batch_index);
        // SAFETY: the caller's promise, and tasks lie within the operands.
        unsafe {
            nest.block(
                a.wrapping_offset(at_a),
                b.wrapping_offset(at_b),
                c.wrapping_offset(at_c),
                block * g.column_block,
                first,
                first + tiles,
            );
        }
        remaining -= tiles;
        if remaining == 0 {
            return;
        }
        first = 0;
        block += 1;
        if block == g.column_blocks {
            block = 0;
            batch_index += 1;
        }
    }
}

/// The constants of a call.
struct Nest<'a, V: SimdVector> {
    g: &'a Gemm,
    /// The microkernels of full tiles and of edge tiles, which have one row less, for panels of full width.
    full: Microkernel<V::Scalar>,
    edge: Microkernel<V::Scalar>,
    b_pack: *mut V::Scalar,
    a_pack: *mut V::Scalar,
    c_buffer: *mut V::Scalar,
}

impl<V: SimdVector> Nest<'_, V> {
    /// Computes the rows of tiles `first..last` of the block of columns at `column`, for all of k.
    ///
    /// # Safety
    /// As for [`range`]; `a`, `b` and `c` are those of one product of the batch.
    #[inline(always)]
    unsafe fn block(
        &self,
        a: *const V::Scalar,
        b: *const V::Scalar,
        c: *mut V::Scalar,
        column: usize,
        first: usize,
        last: usize,
    ) {
        let g = self.g;
        let columns = g.column_block.min(g.columns - column);
        let panel = g.tile_vectors * V::WIDTH;
        // Whole panels, then an edge panel if columns remain; its last vector may be masked.
        let whole = columns / panel;
        let edge = columns % panel;
        let edge_vectors = edge.div_ceil(V::WIDTH);
        let (mut full_microkernel, mut edge_microkernel) = (self.full, self.edge);
        if edge > 0 {
            // SAFETY: the edge panel is no wider than the panel.
            unsafe {
                full_microkernel = microkernel::<V>(g, g.tile_rows, edge_vectors);
                edge_microkernel = microkernel::<V>(g, g.tile_rows - 1, edge_vectors);
            }
        }
        let from_b = b.wrapping_offset(column as isize * g.run_b[2]);
        let from_a = a;
        let c = c.wrapping_offset(column as isize * g.run_c[2]);
        let (out, out_row) = if g.buffered_c { (self.c_buffer, g.column_block as isize) } else { (c, g.run_c[1]) };
        // All of k for one tap, then for the next, whatever the blocks are.
        for (at, taps) in g.run_taps.chunks(g.joint_taps).enumerate() {
            let resume = at > 0;
            let (a, b, taps) = match taps {
                [tap] => (from_a.wrapping_offset(tap.a), from_b.wrapping_offset(tap.b), &[ONE_TAP][..]),
                taps => (from_a, from_b, taps),
            };
            let mut k = 0;
            loop {
                let depth = g.k_block.min(g.k - k);
                let b_block = b.wrapping_offset(k as isize * g.run_b[1]);
                // The strides of B: between panels, and along k in a panel and in the edge panel (along the columns for
                // strided microkernels).
                let (b, b_panel, b_step, b_edge_step) = if g.pack_b {
                    let from = PanelSource { at: b_block, lane: g.run_b[2], k: g.run_b[1] };
                    // SAFETY: scratch memory holds a block.
                    unsafe { V::pack(from, columns, depth, self.b_pack, panel) };
                    let edge_width = (edge_vectors * V::WIDTH) as isize;
                    (self.b_pack.cast_const(), (panel * depth) as isize, panel as isize, edge_width)
                } else if g.strided {
                    (b_block, panel as isize * g.run_b[2], g.run_b[2], g.run_b[2])
                } else {
                    (b_block, panel as isize, g.run_b[1], g.run_b[1])
                };
                // While a block is used, the next one is prefetched, line by line along its steps of k.
                let k_next = k + depth;
                let b_columns = if g.pack_b && k_next < g.k { columns } else { 0 };
                let mut b_prefetch =
                    Prefetcher::new(b_block.wrapping_offset(depth as isize * g.run_b[1]), b_columns, g.run_b[1]);
                let mut a_prefetch = Prefetcher::new(a, 0, 0);
                let mut packed = PackedRows { row: 0, width: 0, remaining: 0 };
                for tile in first..last {
                    let is_full = tile < g.full_tiles;
                    let row = first_row(g, tile) as isize;
                    let at =
                        |row: usize, k: usize| a.wrapping_offset(row as isize * g.run_a[1] + k as isize * g.run_a[2]);
                    let a = at(row as usize, k);
                    let (a, a_row, a_k) = if g.pack_a {
                        if packed.remaining == 0 {
                            let end = last.min(tile + g.packed_tiles);
                            let rows = first_row(g, end) - row as usize;
                            packed = PackedRows { row, width: rows.next_multiple_of(V::WIDTH), remaining: end - tile };
                            let from = PanelSource { at: a, lane: g.run_a[1], k: g.run_a[2] };
                            // SAFETY: scratch memory holds the packed tiles.
                            unsafe { V::pack(from, rows, depth, self.a_pack, packed.width) };
                            // Prefetches the next rows, or the first rows at the next block of k.
                            let (row, k) =
                                if end < last { (first_row(g, end), k) } else { (first_row(g, first), k_next) };
                            let rows = if k < g.k { rows } else { 0 };
                            a_prefetch = Prefetcher::new(at(row, k), rows, g.run_a[2]);
                        }
                        packed.remaining -= 1;
                        (self.a_pack.wrapping_offset(row - packed.row).cast_const(), 1, packed.width as isize)
                    } else {
                        (a, g.run_a[1], g.run_a[2])
                    };
                    let mut arguments = Tile {
                        k: depth,
                        a,
                        a_row,
                        a_k,
                        b,
                        b_k: b_step,
                        c: out.wrapping_offset(row * out_row),
                        c_row: out_row,
                        last: V::WIDTH,
                        resume: resume || k > 0,
                        non_temporal: g.non_temporal,
                        prefetch: a,
                        prefetch_stride: 0,
                        taps: taps.as_ptr(),
                        tap_count: taps.len(),
                    };
                    let microkernel = if is_full { self.full } else { self.edge };
                    for _ in 0..whole {
                        (arguments.prefetch, arguments.prefetch_stride) =
                            b_prefetch.next().or_else(|| a_prefetch.next()).unwrap_or((a, 0));
                        // SAFETY: the tile lies within the product.
                        unsafe { microkernel(&arguments) };
                        arguments.b = arguments.b.wrapping_offset(b_panel);
                        arguments.c = arguments.c.wrapping_add(panel);
                    }
                    if edge > 0 {
                        arguments.b_k = b_edge_step;
                        arguments.last = edge - (edge_vectors - 1) * V::WIDTH;
                        let microkernel = if is_full { full_microkernel } else { edge_microkernel };
                        // SAFETY: as above, and `last` masks the columns out of bounds.
                        unsafe { microkernel(&arguments) };
                    }
                }
                k += depth;
                if k >= g.k {
                    break;
                }
            }
        }
        if g.buffered_c {
            let (low, high) = (first_row(g, first), first_row(g, last));
            let from = self.c_buffer.wrapping_add(low * g.column_block);
            // SAFETY: the C buffer holds the rows of these tiles, and C is contiguous along its rows as run.
            unsafe { V::unpack(from, g.column_block, high - low, columns, c.wrapping_add(low), g.run_c[2]) };
        }
    }
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// The cache lines to prefetch: contiguous lines, each at every step of k.
struct Prefetcher<S> {
    from: *const S,
    lines: usize,
    step: isize,
}

impl<S> Prefetcher<S> {
    /// The lines of `scalars` contiguous scalars.
    #[inline(always)]
    fn new(from: *const S, scalars: usize, step: isize) -> Self {
        Prefetcher { from, lines: (scalars * size_of::<S>()).div_ceil(LINE), step }
    }

    /// The next line and its stride along k.
    #[inline(always)]
    fn next(&mut self) -> Option<(*const S, isize)> {
        self.lines = self.lines.checked_sub(1)?;
        let from = self.from;
        self.from = from.wrapping_byte_add(LINE);
        Some((from, self.step))
    }
}

/// The packed rows of A: the first row, the stride of k, and the number of tiles that remain to use them.
struct PackedRows {
    row: isize,
    width: usize,
    remaining: usize,
}

/// The first row of a row of tiles.
#[inline(always)]
fn first_row(g: &Gemm, tile: usize) -> usize {
    tile * (g.tile_rows - 1) + tile.min(g.full_tiles)
}

/// The microkernel of a tile. A tile of no rows is never run.
///
/// # Safety
/// The plan allows the tile.
#[inline(always)]
unsafe fn microkernel<V: SimdVector>(g: &Gemm, rows: usize, vectors: usize) -> Microkernel<V::Scalar> {
    // SAFETY: the caller's promise.
    unsafe { if g.strided { V::strided_microkernel(rows.max(1)) } else { V::microkernel(rows.max(1), vectors) } }
}

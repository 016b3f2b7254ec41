//! How a product is run: which operand is broadcast, which tile, what is blocked and what is
//! packed.
//!
//! In come extents and strides; out comes a [`Gemm`].  Every choice here changes speed and never a
//! result. The numbers were measured on Zen 4 and chosen to be sane elsewhere.  Not done here:
//! anything at run time, and any look at the machine beyond its [`Isa`].

use super::super::isa::Isa;
use super::Gemm;
use super::tile::MOST_STRIDED_ROWS;

/// Bytes of y that a block of lanes spans for one block of k: half of a small second-level cache.
const BLOCK_BYTES: usize = 512 << 10;
/// Bytes that a stage may take.
const STAGE_BYTES: usize = 256 << 10;
/// A stride from which each step is likely to need another translation of its address.
const FAR_BYTES: usize = 2048;
/// The most lanes in a block, so that threads have something to divide; fewer where they are
/// staged.
const MOST_LANES: usize = 2048;
const MOST_STAGED_LANES: usize = 512;
/// Rows of x that are packed together, where they lie side by side.
const PACKED_ROWS: usize = 96;
/// So many tasks divide well.
const ENOUGH_TASKS: usize = 16;

/// See [`Gemm::new`].
#[allow(clippy::too_many_arguments)]
pub(super) fn plan(
    batch: usize,
    m: usize,
    n: usize,
    k: usize,
    a: [isize; 3],
    b: [isize; 3],
    c: [isize; 3],
    element: usize,
    isa: Isa,
    may_fold: bool,
) -> Gemm {
    assert!(element == 4 || element == 8, "products are of f32 or f64, not of {element} bytes");
    assert!(c[2] == 1 || n <= 1, "rows of C must be contiguous, not {} apart", c[2]);
    let width = isa.vector_bytes() / element;
    let unfolded = Folded { m, n, a, b, c: [c[0], c[1], 1] };
    let (products, folded) = if may_fold { fold_batch(batch, unfolded) } else { (batch, unfolded) };

    let swapped = swap_pays(&folded, k, width, element);
    let Folded { m: m1, n: n1, a: a1, b: b1, c: c1 } = folded;
    let (rows, lanes, x, mut y, d) = if swapped {
        (n1, m1, [b1[0], b1[2], b1[1]], [a1[0], a1[2], a1[1]], [c1[0], c1[2], c1[1]])
    } else {
        (m1, n1, a1, b1, c1)
    };
    if lanes == 1 {
        // A single lane is contiguous, whatever its stride says.
        y[2] = 1;
    }
    let staged = d[2] != 1 && lanes > 1;
    let strided = y[2] != 1 && y[1] == 1 && rows <= MOST_STRIDED_ROWS;

    let tile_vectors = if strided { 1 } else { choose_vectors(isa, rows, lanes.div_ceil(width), k) };
    let most_rows = if strided { MOST_STRIDED_ROWS } else { most_rows(isa)[tile_vectors - 1] };
    let row_tiles = rows.div_ceil(most_rows);
    let tile_rows = rows.div_ceil(row_tiles.max(1)).max(1);
    let panel = tile_vectors * width;

    // Kernels read y by the panel, which is a walk down a column of far strides.  A copy is worth
    // it when enough rows use it again, and the only way when lanes are not contiguous.
    let far = |stride: isize| stride.unsigned_abs() * element >= FAR_BYTES;
    let pack_y = !strided && (y[2] != 1 || (far(y[1]) && rows >= 32 && k >= 64));
    // Broadcasts mind strides less: only a far stride along k, met again for panel after panel; or where the steps of k
    // lie so that few lines of a cache can hold them, and rows lie side by side, so that a copy of several tiles' rows
    // is cheap.
    let pack_x = far(x[2]) && k >= 64 && (lanes >= 8 * panel || (x[1] == 1 && lanes >= 2 * width));
    let packed_tiles = if x[1] == 1 { (PACKED_ROWS / tile_rows).max(1) } else { 1 };
    // With few rows each y is used little, and a large one streams from memory: short blocks of k
    // over long blocks of lanes read as many streams as there are steps, each as long as the
    // prefetchers like.
    let streams = !pack_y && !strided && rows <= 16 && k * lanes * element >= rows << 20;
    let (depth_block, lane_block) = if strided {
        (k, BLOCK_BYTES / (k.max(1) * element))
    } else if streams {
        (if rows <= 2 { 8 } else { 16 }, MOST_LANES)
    } else {
        (if pack_x { 128 } else { 256 }, BLOCK_BYTES / (k.clamp(1, 256) * element))
    };
    let depth_block = depth_block.min(k);
    let most_lanes = if pack_y && row_tiles < 16 {
        // Threads that divide few rows would each pack all of y: let them divide lanes instead.
        4 * panel
    } else if staged {
        MOST_STAGED_LANES
    } else {
        MOST_LANES
    };
    let mut lane_block = lane_block.clamp(1, most_lanes).min(lanes).next_multiple_of(panel);
    if !pack_y && !streams {
        // Something for threads to divide; and where they divide lanes, none reads all of y.
        let blocks = ENOUGH_TASKS.div_ceil((row_tiles * products).max(1)).min(lanes.div_ceil(panel)).max(1);
        lane_block = lane_block.min(lanes.div_ceil(blocks).next_multiple_of(panel));
    }

    let bytes = |used: bool, scalars: usize| {
        if used { (scalars * element).next_multiple_of(64) } else { 0 }
    };
    Gemm {
        batch,
        m,
        n,
        k,
        a,
        b,
        c,
        isa,
        swapped,
        element,
        products,
        rows,
        lanes,
        x,
        y,
        d,
        tile_rows,
        tall_tiles: rows - row_tiles * (tile_rows - 1),
        row_tiles,
        tile_vectors,
        lane_block,
        lane_blocks: lanes.div_ceil(lane_block.max(1)),
        depth_block,
        pack_x,
        packed_tiles,
        pack_y,
        strided,
        staged,
        far_d: !staged && batch * m * n * element > BLOCK_BYTES,
        y_pack_bytes: bytes(pack_y, lane_block * depth_block),
        x_pack_bytes: bytes(pack_x, (packed_tiles * tile_rows).next_multiple_of(width) * depth_block),
        stage_bytes: bytes(staged, rows * lane_block),
    }
}

/// The extents and strides of a product, perhaps with its batch folded in.
struct Folded {
    m: usize,
    n: usize,
    a: [isize; 3],
    b: [isize; 3],
    c: [isize; 3],
}

/// Makes one larger product of a batch where one operand is shared and the other, like C, goes on
/// from product to product as it does within one: a batch of vectors times one matrix is a matrix
/// product.
fn fold_batch(batch: usize, mut product: Folded) -> (usize, Folded) {
    let Folded { m, n, a, b, c } = &mut product;
    // The stride along an axis of extent 1 is never used, so it may be the one that folds.
    if *m == 1 {
        (a[1], c[1]) = (a[0], c[0]);
    }
    if *n == 1 {
        b[2] = b[0];
    }
    let (rows, columns) = (*m as isize, *n as isize);
    if b[0] == 0 && a[0] == rows * a[1] && c[0] == rows * c[1] {
        *m *= batch;
        return (1, product);
    }
    if a[0] == 0 && b[0] == columns * b[2] && c[0] == columns {
        *n *= batch;
        return (1, product);
    }
    (batch, product)
}

/// Whether lanes should run along m: when n fills vectors badly or B would need a transpose, and
/// what it takes to read A in lanes and to scatter into C does not eat the gain.
fn swap_pays(product: &Folded, k: usize, width: usize, element: usize) -> bool {
    let &Folded { m, n, a, b, c } = product;
    // In vector operations.  A transpose takes log2(width) shuffles a vector, and as much again to
    // load and store when it is not done in registers.
    let shuffles = u128::from(width.ilog2());
    let cost = |rows: usize, lanes: usize, y_lane: isize, y_k: isize, d_lane: isize| {
        let in_registers = y_k == 1 && rows <= MOST_STRIDED_ROWS;
        // The extents of two operands may have a product that no usize holds.
        let [rows, vectors, k] = [rows, lanes.div_ceil(width), k].map(|n| n as u128);
        let read = if y_lane == 1 || lanes == 1 { 0 } else { vectors * k * shuffles * (2 - u128::from(in_registers)) };
        let write = if d_lane == 1 || lanes == 1 { 0 } else { vectors * rows * shuffles * 2 };
        // Fewer sums than four leave the latency of each in the open.
        (rows * vectors).max(4) * k + read + write
    };
    let fits = n * m.min(MOST_STAGED_LANES) * element <= STAGE_BYTES;
    fits && cost(n, m, a[1], a[2], c[1]) < cost(m, n, b[2], b[1], 1)
}

/// The width of a full panel, in vectors, that wastes the least.
fn choose_vectors(isa: Isa, rows: usize, vectors: usize, k: usize) -> usize {
    let cost = |panel: usize| {
        let most = most_rows(isa)[panel - 1];
        let tiles = rows.div_ceil(most).max(1);
        let height = rows.div_ceil(tiles);
        let tile = |width: usize| {
            // A step of k takes its multiplications or its loads, whichever are more, or the
            // latency of a sum, at two of each a cycle.  Loads of y may come from afar, so they
            // count a little by themselves.
            let step = (height * width).max(height + width).max(8);
            k as u128 * (8 * step + height + 3 * width) as u128 / 8 + (30 + height * width) as u128
        };
        let edge = vectors % panel;
        tiles as u128 * ((vectors / panel) as u128 * tile(panel) + if edge > 0 { tile(edge) } else { 0 })
    };
    (1..=4).min_by_key(|&panel| cost(panel)).unwrap_or(1)
}

/// The tallest tile of each width, 1 to 4 vectors, that stays in registers.
fn most_rows(isa: Isa) -> [usize; 4] {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => super::avx512::MOST_ROWS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => super::avx2::MOST_ROWS,
        _ => super::portable::MOST_ROWS,
    }
}

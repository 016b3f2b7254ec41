//! The plan of a product: which operand is broadcast, the tile, the blocks and the packing.
//!
//! Comes in: extents and strides. Goes out: a [`Gemm`].  No choice changes a result. The constants were measured on Zen
//! 4. Not done here: decisions at run time. The plan does not depend on the machine beyond its [`Isa`].

use super::machine::Isa;
use crate::fuse::{Level, Levels, Tap};

/// A batch of products `C[i] = Σ_tap A[i]·B[i]`, `i < batch`, each `m` x `k` times `k` x `n`, with strides in elements,
/// and its plan. A tap shifts both operands.
///
/// Strides are arbitrary: 0 repeats an operand, and a transposed operand has its strides exchanged.
#[repr(C)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gemm {
    /// The number of products.
    pub batch: usize,
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B: the contracted axis.
    pub k: usize,
    /// Strides of A along batch, m, k.
    pub a: [isize; 3],
    /// Strides of B along batch, k, n.
    pub b: [isize; 3],
    /// Strides of C along batch, m, n; the last is 1.
    pub c: [isize; 3],
    /// The instruction set it runs on.
    pub isa: Isa,

    // The plan: the product as run, c[r, l] = Σ_tap Σ_k a[r, k]·b[k, l]. A is broadcast and B is read in vectors of
    // columns. `run_a`, `run_b` and `run_c` are the operands as run.
    /// Whether the transposed problem is run: A is the caller's B, and B the caller's A.
    pub(crate) transposed: bool,
    /// Bytes of an element.
    pub(crate) element: usize,
    /// The batch that remains after it is collapsed into rows or columns if strides allow.
    pub(crate) run_batch: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Strides of A along batch, row, k.
    pub(crate) run_a: [isize; 3],
    /// Strides of B along batch, k, column.
    pub(crate) run_b: [isize; 3],
    /// Strides of C along batch, row, column.
    pub(crate) run_c: [isize; 3],
    /// The loops over the batch, where its strides do not say where the products are.
    pub(crate) run_levels: Levels,
    /// The terms, in the order in which each element of C adds them: all of k for one, then for the next.
    pub(crate) run_taps: Vec<Tap>,
    /// How many of them a microkernel adds at once, while C stays in registers: all if there is one block of k and
    /// nothing is packed, otherwise one.
    pub(crate) joint_taps: usize,
    /// Full tiles have `tile_rows` rows (the first `full_tiles` of `row_tiles`), edge tiles one row less. So no edge
    /// tile is much smaller than the others.
    pub(crate) tile_rows: usize,
    pub(crate) full_tiles: usize,
    pub(crate) row_tiles: usize,
    /// Vectors of a full panel of columns.
    pub(crate) tile_vectors: usize,
    /// The block of columns that shares one packed block of B, and the number of blocks.
    pub(crate) column_block: usize,
    pub(crate) column_blocks: usize,
    /// The block of k.
    pub(crate) k_block: usize,
    /// Whether A is packed into scratch memory.
    pub(crate) pack_a: bool,
    /// The number of tiles whose rows of A are packed together.
    pub(crate) packed_tiles: usize,
    /// Whether B is packed into scratch memory.
    pub(crate) pack_b: bool,
    /// Whether B has strided columns and contiguous k, and is transposed in registers instead of packed.
    pub(crate) strided: bool,
    /// Whether C exceeds the second-level cache.
    pub(crate) non_temporal: bool,
    /// Whether C is buffered in scratch memory and copied out, because its columns as run are strided.
    pub(crate) buffered_c: bool,
    pub(crate) b_pack_bytes: usize,
    pub(crate) a_pack_bytes: usize,
    pub(crate) c_buffer_bytes: usize,
}

impl Gemm {
    /// Bytes of scratch memory of each concurrent call.
    pub fn scratch_bytes(&self) -> usize {
        self.b_pack_bytes + self.a_pack_bytes + self.c_buffer_bytes
    }

    /// The number of floating-point operations; a multiply-add counts as two. Saturates.
    pub fn flops(&self) -> u64 {
        crate::types::product([2, self.batch, self.m, self.n, self.k, self.run_taps.len()]) as u64
    }

    /// The number of tasks.  Any partition of `0..tasks()` into ranges, run in any order or concurrently, each with its
    /// own scratch memory, gives the same C.  Few long ranges pack less than many short ones.
    pub fn tasks(&self) -> usize {
        self.run_batch * self.column_blocks * self.row_tiles
    }
}

/// Bytes of a block of B: half of a small second-level cache.
const BLOCK_BYTES: usize = 512 << 10;
/// The maximum bytes of buffered C.
const MAX_C_BUFFER_BYTES: usize = 256 << 10;
/// The minimum stride at which each step is likely to miss the TLB.
const TLB_MISS_BYTES: usize = 2048;
/// The maximum columns of a block, so that there are enough tasks; fewer if C is buffered.
const MAX_COLUMNS: usize = 2048;
const MAX_BUFFERED_COLUMNS: usize = 512;
/// Rows of A that are packed together if they are contiguous.
const PACKED_ROWS: usize = 96;
/// The number of tasks that gives a good load balance.
const TARGET_TASKS: usize = 16;

impl Gemm {
    /// Plans a product. `taps` are its terms, one without offsets for a plain product. `element` is 4 for `f32` and 8
    /// for `f64`. `collapse_batch` allows the batch to be collapsed into rows or columns. Otherwise every product of
    /// the batch has the same number of tasks, in order.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        batch: usize,
        m: usize,
        n: usize,
        k: usize,
        a: [isize; 3],
        b: [isize; 3],
        c: [isize; 3],
        taps: &[Tap],
        element: usize,
        isa: Isa,
        collapse_batch: bool,
    ) -> Gemm {
        assert!(element == 4 || element == 8, "products are of f32 or f64, not of {element} bytes");
        assert!(!taps.is_empty(), "a product has a term");
        assert!(c[2] == 1 || n <= 1, "rows of C must be contiguous, not {} apart", c[2]);
        let width = isa.vector_bytes() / element;
        let given = Product { m, n, a, b, c: [c[0], c[1], 1] };
        let (run_batch, product) = if collapse_batch { collapse(batch, given) } else { (batch, given) };

        let transposed = transpose_is_profitable(&product, k, width, element);
        let Product { m: m1, n: n1, a: a1, b: b1, c: c1 } = product;
        let (rows, columns, run_a, mut run_b, run_c) = if transposed {
            (n1, m1, [b1[0], b1[2], b1[1]], [a1[0], a1[2], a1[1]], [c1[0], c1[2], c1[1]])
        } else {
            (m1, n1, a1, b1, c1)
        };
        if columns == 1 {
            // A single column is contiguous, whatever its stride.
            run_b[2] = 1;
        }
        let buffered_c = run_c[2] != 1 && columns > 1;
        let strided = run_b[2] != 1 && run_b[1] == 1 && rows <= MAX_STRIDED_ROWS;

        let tile_vectors = if strided { 1 } else { choose_vectors(isa, rows, columns.div_ceil(width), k) };
        let max_rows = if strided { MAX_STRIDED_ROWS } else { max_rows(isa)[tile_vectors - 1] };
        let row_tiles = rows.div_ceil(max_rows);
        let tile_rows = rows.div_ceil(row_tiles.max(1)).max(1);
        let panel = tile_vectors * width;

        // Microkernels read B by panels, along k. If that stride misses the TLB, packing is profitable if enough rows
        // reuse the panel. If columns are strided, packing is required.
        let misses_tlb = |stride: isize| stride.unsigned_abs() * element >= TLB_MISS_BYTES;
        let pack_b = !strided && (run_b[2] != 1 || (misses_tlb(run_b[1]) && rows >= 32 && k >= 64));
        // Broadcasts depend on strides less. Packing A is profitable if its stride along k misses the TLB and many
        // panels reuse it; or if the stride conflicts in the cache and rows are contiguous, so that packing several
        // tiles is cheap.
        let pack_a =
            misses_tlb(run_a[2]) && k >= 64 && (columns >= 8 * panel || (run_a[1] == 1 && columns >= 2 * width));
        let packed_tiles = if run_a[1] == 1 { (PACKED_ROWS / tile_rows).max(1) } else { 1 };
        // With few rows, B has little reuse, and a large B streams from memory. Short blocks of k over long blocks of
        // columns read one stream per step of k, each long enough for the hardware prefetchers.
        let streams = !pack_b && !strided && rows <= 16 && k * columns * element >= rows << 20;
        let (k_block, column_block) = if strided {
            (k, BLOCK_BYTES / (k.max(1) * element))
        } else if streams {
            (if rows <= 2 { 8 } else { 16 }, MAX_COLUMNS)
        } else {
            (if pack_a { 128 } else { 256 }, BLOCK_BYTES / (k.clamp(1, 256) * element))
        };
        let k_block = k_block.min(k);
        let joint_taps = if pack_a || pack_b || strided || k_block < k { 1 } else { taps.len() };
        let as_run = |&Tap { a, b }: &Tap| if transposed { Tap { a: b, b: a } } else { Tap { a, b } };
        let max_columns = if pack_b && row_tiles < 16 {
            // With few tiles of rows, each thread would pack all of B: divide the columns instead.
            4 * panel
        } else if buffered_c {
            MAX_BUFFERED_COLUMNS
        } else {
            MAX_COLUMNS
        };
        let mut column_block = column_block.clamp(1, max_columns).min(columns).next_multiple_of(panel);
        if !pack_b && !streams {
            // Enough tasks for the threads. Threads that divide the columns each read a part of B only.
            let blocks = TARGET_TASKS.div_ceil((row_tiles * run_batch).max(1)).min(columns.div_ceil(panel)).max(1);
            column_block = column_block.min(columns.div_ceil(blocks).next_multiple_of(panel));
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
            transposed,
            element,
            run_batch,
            rows,
            columns,
            run_a,
            run_b,
            run_c,
            run_levels: Levels::default(),
            run_taps: taps.iter().map(as_run).collect(),
            joint_taps,
            tile_rows,
            full_tiles: rows - row_tiles * (tile_rows - 1),
            row_tiles,
            tile_vectors,
            column_block,
            column_blocks: columns.div_ceil(column_block.max(1)),
            k_block,
            pack_a,
            packed_tiles,
            pack_b,
            strided,
            buffered_c,
            non_temporal: !buffered_c && batch * m * n * element > BLOCK_BYTES,
            b_pack_bytes: bytes(pack_b, column_block * k_block),
            a_pack_bytes: bytes(pack_a, (packed_tiles * tile_rows).next_multiple_of(width) * k_block),
            c_buffer_bytes: bytes(buffered_c, rows * column_block),
        }
    }
}

impl Gemm {
    /// The same with these loops over the batch, if there are any. The batch is not collapsed.
    pub fn over(mut self, levels: &Levels) -> Gemm {
        let as_run = |&level: &Level| match self.transposed {
            true => Level { a: level.b, b: level.a, ..level },
            false => level,
        };
        self.run_levels = Levels(levels.0.iter().map(as_run).collect());
        debug_assert!(levels.0.is_empty() || self.run_batch == self.batch, "the batch is not collapsed");
        self
    }

    /// The offsets of the operands and the result, as run, of a product of the batch.
    #[inline]
    pub(crate) fn offsets(&self, at: usize) -> [isize; 3] {
        match self.run_levels.0.is_empty() {
            true => [self.run_a[0], self.run_b[0], self.run_c[0]].map(|stride| stride * at as isize),
            false => self.run_levels.offsets(at),
        }
    }
}

/// The extents and strides of a product.
struct Product {
    m: usize,
    n: usize,
    a: [isize; 3],
    b: [isize; 3],
    c: [isize; 3],
}

/// Collapses the batch into rows or columns if one operand is shared, and the batch stride of the other and of C
/// continues the stride of the rows or columns. A batch of vectors times one matrix is a matrix product.
fn collapse(batch: usize, mut product: Product) -> (usize, Product) {
    let Product { m, n, a, b, c } = &mut product;
    // The stride along an axis of extent 1 is unused, so it may be chosen to collapse.
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

/// Whether to run the transposed problem, with vectors along m. It is profitable if n fills vectors badly or B needs a
/// transpose, and reading A in vectors and writing C transposed costs less than the gain.
fn transpose_is_profitable(product: &Product, k: usize, width: usize, element: usize) -> bool {
    let &Product { m, n, a, b, c } = product;
    // The unit is a vector operation.  A transpose takes log2(width) shuffles per vector, and as many loads and stores
    // if it is not done in registers.
    let shuffles = u128::from(width.ilog2());
    let cost = |rows: usize, columns: usize, b_column: isize, b_k: isize, c_column: isize| {
        let in_registers = b_k == 1 && rows <= MAX_STRIDED_ROWS;
        // The product of the extents may overflow usize.
        let [rows, vectors, k] = [rows, columns.div_ceil(width), k].map(|n| n as u128);
        let read =
            if b_column == 1 || columns == 1 { 0 } else { vectors * k * shuffles * (2 - u128::from(in_registers)) };
        let write = if c_column == 1 || columns == 1 { 0 } else { vectors * rows * shuffles * 2 };
        // Fewer than four accumulators do not hide the latency of the fused multiply-add.
        (rows * vectors).max(4) * k + read + write
    };
    let fits = n * m.min(MAX_BUFFERED_COLUMNS) * element <= MAX_C_BUFFER_BYTES;
    fits && cost(n, m, a[1], a[2], c[1]) < cost(m, n, b[2], b[1], 1)
}

/// The width of a full panel, in vectors, of least cost.
fn choose_vectors(isa: Isa, rows: usize, vectors: usize, k: usize) -> usize {
    let cost = |panel: usize| {
        let max = max_rows(isa)[panel - 1];
        let tiles = rows.div_ceil(max).max(1);
        let height = rows.div_ceil(tiles);
        let tile = |width: usize| {
            // The cost of a step of k is the maximum of its multiply-adds, its loads and the latency of an accumulator,
            // at two per cycle.  Loads of B may miss the cache, so they have an additional cost.
            let step = (height * width).max(height + width).max(8);
            k as u128 * (8 * step + height + 3 * width) as u128 / 8 + (30 + height * width) as u128
        };
        let edge = vectors % panel;
        tiles as u128 * ((vectors / panel) as u128 * tile(panel) + if edge > 0 { tile(edge) } else { 0 })
    };
    (1..=4).min_by_key(|&panel| cost(panel)).unwrap_or(1)
}

/// The maximum rows of B as run for which it is transposed in registers, again for every tile, in place of packing it.
const MAX_STRIDED_ROWS: usize = 4;

/// The maximum rows of a tile of 1 to 4 vectors that fits in registers; the portable one for 32 of them, as on AArch64.
pub(crate) fn max_rows(isa: Isa) -> [usize; 4] {
    match isa {
        Isa::Avx512 => [14, 14, 8, 6],
        Isa::Avx2 => [8, 6, 3, 2],
        Isa::Portable => [8, 8, 6, 5],
    }
}

//! The table of what the interpreter counts, and a model of time that starts from it.

use fulgurite::compiler::ptx::simt::Counts;
use fulgurite::compiler::ptx::{BARRIER, LAUNCH};

use super::run::Executed;

/// What the columns of the table are.
pub(crate) const HEAD: &str = "# workload: launches; of all of them together: instructions of warps, sectors of 32 \
bytes loaded and stored, accesses of shared\n# memory, barriers of blocks and of grids; an estimate of the least time of \
a step on an H100, which is not measured\n";

/// The bandwidth of the memory of an H100 (SXM5), in bytes per second.
const BANDWIDTH: f64 = 3.35e12;

/// Instructions of warps that an H100 issues in a second: four in a cycle on each of 132 multiprocessors, at 1.755 GHz.
const INSTRUCTIONS: f64 = 132.0 * 4.0 * 1.755e9;

/// The least time of a step in seconds: an estimate, of which nothing is measured.
///
/// It is the largest of three bounds: every sector moves between memory and multiprocessors once per access, launches
/// and barriers of grids follow each other, and instructions are issued at the full rate. The first is too high where
/// caches serve accesses. All are too low where a launch has few warps or waits for memory: latency is in none of them.
pub(crate) fn least_time(launches: usize, executed: &Executed) -> f64 {
    let Executed { counts, grid_barriers } = executed;
    let bytes = 32 * (counts.load_sectors + counts.store_sectors);
    let waits = (launches as u64 * LAUNCH as u64 + grid_barriers * BARRIER as u64) as f64 * 1e-9;
    let bounds = [bytes as f64 / BANDWIDTH, waits, counts.instructions as f64 / INSTRUCTIONS];
    bounds.into_iter().fold(0.0, f64::max)
}

/// A row of the table.
pub(crate) fn row(name: &str, launches: usize, executed: &Executed) -> String {
    let Counts { instructions, load_sectors, store_sectors, shared, barriers, .. } = &executed.counts;
    let grid_barriers = executed.grid_barriers;
    let time = least_time(launches, executed) * 1e6;
    format!(
        "{name}: {launches} launches; {instructions} instructions, {load_sectors} sectors loaded, {store_sectors} \
         stored, {shared} shared, {barriers} barriers, {grid_barriers} of grids; about {time:.1} µs (estimate)\n"
    )
}

//! What the time of each launch says: bytes and operations per second, beside what the device does at most.
//!
//! Comes in: a module, the mean time of each of its launches, the device. Goes out: rows, as a table and as spans of a
//! trace. Bytes and operations are those of the kernels, each buffer once: what caches and repeated reads change is not
//! in them.

use std::time::Duration;

use fulgurite_jit::fuse::Kernels;
use fulgurite_jit::ptx::Module;

use super::driver::Properties;
use crate::profile::title;
use crate::trace::Span;

/// Kernels that are timed together: those of one block, the launches of a loop.
struct Row {
    name: String,
    time: Duration,
    bytes: usize,
    operations: usize,
}

/// The rows of a module.
fn rows(module: &Module, times: &[Duration]) -> Vec<Row> {
    let mut rows = Vec::new();
    let timed: Vec<_> = module.launches.iter().zip(times).collect();
    let mut groups = timed.chunk_by(|(one, _), (next, _)| one.kernel == next.kernel).peekable();
    while let Some(group) = groups.next() {
        let first = group[0].0.kernel;
        let end = groups.peek().map_or(module.kernels.kernels.len(), |next| next[0].0.kernel);
        let sum = |of: fn(&Kernels, usize) -> usize| {
            (first..end).map(|k| of(&module.kernels, k)).fold(0, usize::saturating_add)
        };
        let of_first = title(&module.kernels.kernels[first]);
        let name = match (end - first, group.len()) {
            (1, 1) => format!("k{first} {of_first}"),
            (1, launches) => format!("k{first} {of_first}, in {launches} launches"),
            (_, _) => format!("k{first} {of_first}, and on to k{}", end - 1),
        };
        let time = group.iter().map(|(_, time)| **time).sum();
        rows.push(Row { name, time, bytes: sum(Kernels::bytes_moved), operations: sum(Kernels::operations) });
    }
    rows
}

impl Row {
    fn seconds(&self) -> f64 {
        self.time.as_secs_f64().max(1e-9)
    }

    /// The share of the time that the device needs at least: the longer one of its two.
    fn share(&self, device: &Properties) -> f64 {
        // A driver may not tell the clocks.
        let least = |x: usize, peak: f64| if peak > 0.0 { x as f64 / peak } else { 0.0 };
        least(self.bytes, device.bandwidth()).max(least(self.operations, device.operations())) / self.seconds()
    }

    fn line(&self, device: &Properties) -> String {
        let per_second = |x: usize| x as f64 / self.seconds() / 1e9;
        format!(
            "{:10.2} us {:9.2} GB/s {:9.2} GFLOP/s {:6.1} %  {}\n",
            self.time.as_secs_f64() * 1e6,
            per_second(self.bytes),
            per_second(self.operations),
            100.0 * self.share(device),
            self.name
        )
    }
}

/// The table of a program, whose last line is about all launches.
pub(super) fn table(module: &Module, times: &[Duration], device: &Properties) -> String {
    let rows = rows(module, times);
    let all = Row {
        name: format!(
            "all, on {}: {:.0} GB/s, {:.0} GFLOP/s",
            device.name,
            device.bandwidth() / 1e9,
            device.operations() / 1e9
        ),
        time: rows.iter().map(|row| row.time).sum(),
        bytes: rows.iter().map(|row| row.bytes).fold(0, usize::saturating_add),
        operations: rows.iter().map(|row| row.operations).fold(0, usize::saturating_add),
    };
    rows.iter().chain([&all]).map(|row| row.line(device)).collect()
}

/// The spans of a program.
pub(super) fn spans(module: &Module, times: &[Duration], device: &Properties) -> Vec<Span> {
    let span = |row: Row| {
        let share = row.share(device);
        let details = vec![
            ("bytes", row.bytes as f64),
            ("operations", row.operations as f64),
            ("share of the device", (share * 1e4).round() / 1e4),
        ];
        Span { name: row.name, time: row.time, details }
    };
    rows(module, times).into_iter().map(span).collect()
}

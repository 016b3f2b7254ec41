//! Kernels of several segments, as words of the table that the driver reads in a loop.
//!
//! A segment is its first chunk, the chunk after its last, its iterations, and for each argument where its address is:
//! in which array of the launch, at which byte of it, and so many bytes further.

use std::mem::offset_of;

use super::Launch;
use super::table::{Datum, Table};
use crate::lower::Module;
use crate::lower::call::Call;
use crate::lower::memory::Location;

/// The words before the arguments, and those of an argument.
pub(super) const HEADER: usize = 3;
pub(super) const ARGUMENT: usize = 3;

/// The arrays from which addresses are loaded: byte offsets in the launch; the launch itself comes after them.
pub(super) const ARRAYS: [usize; 3] =
    [offset_of!(Launch, params), offset_of!(Launch, outputs), offset_of!(Launch, table)];

/// Adds the words of all kernels of several segments to the table.
pub(super) fn describe(module: &Module, table: &mut Table) {
    for (k, call) in module.calls.iter().enumerate() {
        let Call::Loop { code, segments, .. } = call else { continue };
        if segments.is_empty() {
            continue;
        }
        let loops = &module.loops[*code];
        let mut words = Vec::new();
        let mut first = 0;
        for segment in segments {
            let end = first + loops.segment_chunks(segment);
            let iterations = segment.extent.or(loops.parallel.map(|parallel| parallel.extent));
            words.extend([first, end, iterations.unwrap_or(1)]);
            first = end;
            for b in &segment.buffers {
                words.extend(match module.plan.locations[b.index()] {
                    Location::Param(i) => [0, 8 * i, 0],
                    Location::Output(i) => [8, 8 * i, 0],
                    Location::Constant => [16, 8 * table.index(Datum::Constant(*b)), 0],
                    Location::Arena(at) => [24, offset_of!(Launch, arena), at],
                });
            }
        }
        table.add_words(k, words);
    }
}

//! Copies of operands into the order in which microkernels read them.
//!
//! In comes a part of x or y, by strides; out comes a panel: for each k, one row of whole vectors
//! of lanes.  Which operand is worth a copy is the plan's choice.

use super::lanes::{Lanes, Source};

/// Packs `lanes` in panels of `panel` lanes, the last one cut to as many whole vectors as it needs.
/// Within the panel at lane p, `to[p * depth + i * width + l] = from[(p + l) * lane + i * k]`
/// for step i of k, where width is the panel's own; after the last lane there is padding, of which
/// nothing is promised.
///
/// # Safety
/// The instruction set of `V`; `panel` is in whole vectors; both sides are in bounds.
#[inline(always)]
pub(super) unsafe fn pack<V: Lanes>(
    from: Source<V::Scalar>,
    lanes: usize,
    depth: usize,
    to: *mut V::Scalar,
    panel: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if from.lane == 1 {
            return copy::<V>(from.at, from.k, lanes, depth, to, panel);
        }
        for start in (0..lanes).step_by(panel) {
            let end = lanes.min(start + panel);
            let width = (end - start).next_multiple_of(V::WIDTH);
            for lane in (start..end).step_by(V::WIDTH) {
                let here = V::WIDTH.min(end - lane);
                let at = from.at.offset(lane as isize * from.lane);
                let to = to.add(start * depth + lane - start);
                if from.k == 1 {
                    transpose::<V>(at, from.lane, here, depth, to, width);
                } else {
                    gather::<V>(Source { at, ..from }, here, depth, to, width);
                }
            }
        }
    }
}

/// Lanes are contiguous: rows are copied, each to its end before the next, because that is the
/// order in which memory prefetches.
#[inline(always)]
unsafe fn copy<V: Lanes>(
    from: *const V::Scalar,
    k_stride: isize,
    lanes: usize,
    depth: usize,
    to: *mut V::Scalar,
    panel: usize,
) {
    // The lanes in whole panels, and the whole vectors after them.
    let whole = lanes - lanes % panel;
    let full = lanes - lanes % V::WIDTH;
    let edge = (lanes - whole).next_multiple_of(V::WIDTH);
    // SAFETY: the caller's promise; the last vector of lanes is masked.
    unsafe {
        for k in 0..depth {
            let from = from.offset(k as isize * k_stride);
            for start in (0..whole).step_by(panel) {
                let to = to.add(start * depth + k * panel);
                for lane in (0..panel).step_by(V::WIDTH) {
                    V::load(from.add(start + lane)).store(to.add(lane));
                }
            }
            let to = to.add(whole * depth + k * edge);
            for lane in (whole..full).step_by(V::WIDTH) {
                V::load(from.add(lane)).store(to.add(lane - whole));
            }
            if full < lanes {
                V::load_masked(from.add(full), V::mask(lanes - full)).store(to.add(full - whole));
            }
        }
    }
}

/// K is contiguous: square blocks are transposed in registers.
#[inline(always)]
unsafe fn transpose<V: Lanes>(
    from: *const V::Scalar,
    lane_stride: isize,
    lanes: usize,
    depth: usize,
    to: *mut V::Scalar,
    width: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut k = 0;
        if lanes == V::WIDTH {
            while k + V::WIDTH <= depth {
                let block = V::transpose(from.add(k), lane_stride, V::WIDTH, V::WIDTH);
                for c in 0..V::WIDTH {
                    block.as_ref()[c].store(to.add((k + c) * width));
                }
                k += V::WIDTH;
            }
        }
        while k < depth {
            let columns = V::WIDTH.min(depth - k);
            let block = V::transpose(from.add(k), lane_stride, lanes, columns);
            // The trip count stays constant so that the block stays in registers.
            for c in 0..V::WIDTH {
                if c < columns {
                    block.as_ref()[c].store(to.add((k + c) * width));
                }
            }
            k += columns;
        }
    }
}

/// Nothing is contiguous: one scalar at a time.
#[inline(always)]
unsafe fn gather<V: Lanes>(from: Source<V::Scalar>, lanes: usize, depth: usize, to: *mut V::Scalar, width: usize) {
    for k in 0..depth {
        for l in 0..V::WIDTH {
            // Padding repeats the last lane, as it does when transposing.
            let at = l.min(lanes - 1) as isize * from.lane + k as isize * from.k;
            // SAFETY: the caller's promise.
            unsafe { *to.add(k * width + l) = *from.at.offset(at) }
        }
    }
}

/// `to[l * to_lane + r] = from[r * from_row + l]`: the way back, from a stage into a transposed C.
///
/// # Safety
/// The instruction set of `V`; both sides are in bounds.
#[inline(always)]
pub(super) unsafe fn unpack<V: Lanes>(
    from: *const V::Scalar,
    from_row: usize,
    rows: usize,
    lanes: usize,
    to: *mut V::Scalar,
    to_lane: isize,
) {
    for r in (0..rows).step_by(V::WIDTH) {
        for l in (0..lanes).step_by(V::WIDTH) {
            let (height, columns) = (V::WIDTH.min(rows - r), V::WIDTH.min(lanes - l));
            // SAFETY: the caller's promise; what does not exist is masked.
            unsafe {
                let mask = V::mask(height);
                let block = V::transpose(from.add(r * from_row + l), from_row as isize, height, columns);
                for c in 0..V::WIDTH {
                    if c < columns {
                        block.as_ref()[c].store_masked(to.offset((l + c) as isize * to_lane).add(r), mask);
                    }
                }
            }
        }
    }
}

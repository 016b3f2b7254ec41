//! Packing: copies of operands in the order in which microkernels read them.
//!
//! Comes in: a block of A or B, with its strides. Goes out: panels; each k of a panel is one row of whole vectors. The
//! lanes of a vector are rows of A or columns of B. Which operand is packed is decided by the plan.

use super::vector::{PanelSource, SimdVector};

/// Packs `lanes` lanes in panels of `panel` lanes. The last panel has as many whole vectors as it needs.
/// Within the panel at lane p, `to[p * depth + i * width + l] = from[(p + l) * lane + i * k]`
/// for step i of k, where width is that of the panel. The padding after the last lane is
/// unspecified.
///
/// # Safety
/// The machine has the instruction set of `V`; `panel` is a multiple of the vector width; source and destination are in
/// bounds.
#[inline(always)]
pub(super) unsafe fn pack<V: SimdVector>(
    from: PanelSource<V::Scalar>,
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
                    gather::<V>(PanelSource { at, ..from }, here, depth, to, width);
                }
            }
        }
    }
}

/// Packs contiguous lanes: copies row after row, which is the order that hardware prefetchers follow.
#[inline(always)]
unsafe fn copy<V: SimdVector>(
    from: *const V::Scalar,
    k_stride: isize,
    lanes: usize,
    depth: usize,
    to: *mut V::Scalar,
    panel: usize,
) {
    // The lanes in whole panels, and the lanes in whole vectors.
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

/// Packs contiguous k: transposes square blocks in registers.
#[inline(always)]
unsafe fn transpose<V: SimdVector>(
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
            // A constant trip count keeps the block in registers.
            for c in 0..V::WIDTH {
                if c < columns {
                    block.as_ref()[c].store(to.add((k + c) * width));
                }
            }
            k += columns;
        }
    }
}

/// Packs an operand with no contiguous axis: one scalar at a time.
#[inline(always)]
unsafe fn gather<V: SimdVector>(
    from: PanelSource<V::Scalar>,
    lanes: usize,
    depth: usize,
    to: *mut V::Scalar,
    width: usize,
) {
    for k in 0..depth {
        for l in 0..V::WIDTH {
            // The padding repeats the last lane, as in `transpose`.
            let at = l.min(lanes - 1) as isize * from.lane + k as isize * from.k;
            // SAFETY: the caller's promise.
            unsafe { *to.add(k * width + l) = *from.at.offset(at) }
        }
    }
}

/// `to[l * to_lane + r] = from[r * from_row + l]`: copies buffered C into the transposed C.
///
/// # Safety
/// The machine has the instruction set of `V`; source and destination are in bounds.
#[inline(always)]
pub(super) unsafe fn unpack<V: SimdVector>(
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
            // SAFETY: the caller's promise; lanes out of bounds are masked.
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

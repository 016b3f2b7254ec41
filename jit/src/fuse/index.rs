//! Affine indices: the position of an element as a constant plus a multiple of each induction variable.
//!
//! Comes in: the coordinates of an element and a shape. Goes out: its index, or its coordinates through a reshape.
//! Movement ops (broadcast, transpose, reshape, slice, reverse) are never executed: they change the coordinates at
//! which their operand is read. All of them are affine but for a reshape that needs a division. The operand of such a
//! reshape is materialised; a reshape of it is a view of the same memory. A coordinate that is computed (the operand of
//! a gather is read there) is a dimension like those of the loops until the element is loaded.

use smallvec::SmallVec;

use crate::types::row_major_strides;

/// `offset + Σ strides[d] · i[d]` over the loop dimensions `d` of a kernel.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct Affine {
    /// The constant term.
    pub offset: isize,
    /// The multiple of each induction variable.
    pub strides: SmallVec<[isize; 6]>,
}

impl Clone for Affine {
    // A derived clone pushes the strides one by one.
    fn clone(&self) -> Self {
        Affine { offset: self.offset, strides: SmallVec::from_slice(&self.strides) }
    }
}

impl Affine {
    /// The constant 0 over `dims` dimensions.
    pub fn zero(dims: usize) -> Self {
        Affine { offset: 0, strides: SmallVec::from_elem(0, dims) }
    }

    /// The induction variable of dimension `dim`.
    pub fn induction_variable(dim: usize, dims: usize) -> Self {
        let mut affine = Affine::zero(dims);
        affine.strides[dim] = 1;
        affine
    }

    /// Adds `other · factor`.
    pub fn add_scaled(&mut self, other: &Affine, factor: isize) {
        self.offset += other.offset * factor;
        for (stride, more) in self.strides.iter_mut().zip(&other.strides) {
            *stride += more * factor;
        }
    }

    /// Whether it is a constant.
    pub fn is_constant(&self) -> bool {
        self.strides.iter().all(|&s| s == 0)
    }

    /// The same index with dimension `d` renamed to `map[d]`, over `dims` dimensions.
    pub fn remap(&self, map: &[usize], dims: usize) -> Self {
        let mut affine = Affine { offset: self.offset, strides: SmallVec::from_elem(0, dims) };
        for (&stride, &to) in self.strides.iter().zip(map) {
            affine.strides[to] += stride;
        }
        affine
    }
}

/// The position of an element: an affine index, and a multiple of each of some computed values, which are the operands
/// of the load. Whoever computes them keeps the position within the buffer, whatever the values they depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Index {
    /// The affine part.
    pub base: Affine,
    /// The multiple of each computed value, in elements.
    pub by: SmallVec<[isize; 2]>,
}

impl Index {
    /// The index, if no part of it is computed. An element of which this is not known may be any.
    pub fn affine(&self) -> Option<&Affine> {
        self.by.is_empty().then_some(&self.base)
    }
}

impl From<Affine> for Index {
    fn from(base: Affine) -> Self {
        Index { base, by: SmallVec::new() }
    }
}

/// The coordinates of an element: an index per axis.
pub(super) type Coords = SmallVec<[Affine; 4]>;

/// The row-major position of the element at `coords` of an array of `shape`.
pub(super) fn flatten(coords: &[Affine], shape: &[usize], dims: usize) -> Affine {
    let mut flat = Affine::zero(dims);
    for (coord, &stride) in coords.iter().zip(&row_major_strides(shape)) {
        flat.add_scaled(coord, stride as isize);
    }
    flat
}

/// The coordinates in `from` of the element at `coords` of its reshape to `to`; `None` if they are not affine.
/// `extents` are those of the loop dimensions.
pub(super) fn reshape(coords: &[Affine], to: &[usize], from: &[usize], extents: &[usize]) -> Option<Coords> {
    let dims = extents.len();
    let mut result: Coords = SmallVec::from_elem(Affine::zero(dims), from.len());
    if from.contains(&0) {
        // There are no elements.
        return Some(result);
    }
    let (mut t, mut f) = (0, 0);
    while t < to.len() || f < from.len() {
        // The smallest runs of axes on both sides with the same number of elements.
        let (t0, f0) = (t, f);
        let (mut left, mut right) = (1, 1);
        loop {
            if left == right && (t > t0 || f > f0) {
                break;
            }
            if left <= right && t < to.len() {
                left *= to[t];
                t += 1;
            } else if f < from.len() {
                right *= from[f];
                f += 1;
            } else {
                left *= to[t];
                t += 1;
            }
        }
        let flat = flatten(&coords[t0..t], &to[t0..t], dims);
        unflatten(&flat, &from[f0..f], extents, &mut result[f0..f])?;
    }
    Some(result)
}

/// Splits a flat index into coordinates of `shape`: each term goes to the outermost axis whose stride divides it.
/// `None` if a coordinate could then exceed its extent.
fn unflatten(flat: &Affine, shape: &[usize], extents: &[usize], coords: &mut [Affine]) -> Option<()> {
    let axes: SmallVec<[usize; 4]> = (0..shape.len()).filter(|&a| shape[a] > 1).collect();
    match axes[..] {
        [] => return Some(()),
        [axis] => {
            coords[axis] = flat.clone();
            return Some(());
        }
        _ => {}
    }
    let strides = row_major_strides(shape);
    let mut rest = flat.offset;
    if rest < 0 {
        return None;
    }
    for &axis in &axes {
        let stride = strides[axis] as isize;
        coords[axis].offset = rest / stride;
        rest %= stride;
    }
    for (dim, &step) in flat.strides.iter().enumerate() {
        if step == 0 || extents[dim] <= 1 {
            continue;
        }
        let axis = *axes.iter().find(|&&axis| step > 0 && step % strides[axis] as isize == 0)?;
        coords[axis].strides[dim] = step / strides[axis] as isize;
    }
    for &axis in &axes {
        let reach: isize = coords[axis].strides.iter().zip(extents).map(|(s, &n)| s * (n as isize - 1).max(0)).sum();
        if coords[axis].offset + reach >= shape[axis] as isize {
            return None;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the coordinates of every element with those by division.
    fn check(loops: &[usize], to: &[usize], from: &[usize]) -> bool {
        // Loop dimension d is axis d of `to`.
        let coords: Coords = (0..to.len()).map(|d| Affine::induction_variable(d, loops.len())).collect();
        let Some(found) = reshape(&coords, to, from, loops) else { return false };
        let (ts, fs) = (row_major_strides(to), row_major_strides(from));
        for n in 0..to.iter().product::<usize>() {
            let at = |affine: &Affine| {
                affine.offset + (0..to.len()).map(|d| affine.strides[d] * (n / ts[d] % to[d]) as isize).sum::<isize>()
            };
            for (axis, coord) in found.iter().enumerate() {
                assert_eq!(at(coord) as usize, n / fs[axis] % from[axis], "{to:?} from {from:?}");
            }
        }
        true
    }

    #[test]
    fn reshapes_that_merge_or_add_unit_axes_are_affine() {
        assert!(check(&[2, 3, 4], &[2, 3, 4], &[24]));
        assert!(check(&[2, 3, 4], &[2, 3, 4], &[6, 4]));
        assert!(check(&[5, 1, 4], &[5, 1, 4], &[5, 4]));
        assert!(check(&[5, 4], &[5, 4], &[1, 5, 1, 4, 1]));
        assert!(check(&[1, 1], &[1, 1], &[]));
    }

    #[test]
    fn reshapes_that_split_are_not_affine() {
        assert!(!check(&[24], &[24], &[4, 6]));
        assert!(!check(&[3, 8], &[3, 8], &[6, 4]));
    }

    #[test]
    fn a_split_of_a_merge_is_affine_again() {
        let coords: Coords = (0..3).map(|d| Affine::induction_variable(d, 3)).collect();
        let extents = [5, 16, 51];
        let merged = reshape(&coords, &extents, &[80, 51], &extents).expect("a merge");
        assert_eq!(reshape(&merged, &[80, 51], &[5, 16, 51], &extents), Some(coords));
    }
}

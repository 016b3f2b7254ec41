//! Types of tensors: an element type and a shape.

use std::fmt;

use smallvec::SmallVec;

/// The extents of a tensor's axes, outermost first. Row-major wherever a tensor is stored.
pub type Shape = SmallVec<[usize; 4]>;

/// A list of axes. The op defines the order.
pub type Axes = SmallVec<[usize; 4]>;

/// The type of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// A bool, one byte, 0 or 1.
    Bool,
    /// A 32-bit signed integer.
    I32,
    /// A 32-bit unsigned integer.
    U32,
    /// A 32-bit float.
    F32,
    /// A 64-bit float.
    F64,
}

impl DType {
    /// Every element type.
    pub const ALL: [DType; 5] = [DType::Bool, DType::I32, DType::U32, DType::F32, DType::F64];

    /// Bytes of an element in memory.
    pub fn size(self) -> usize {
        match self {
            DType::Bool => 1,
            DType::I32 | DType::U32 | DType::F32 => 4,
            DType::F64 => 8,
        }
    }

    /// Whether it is `f32` or `f64`.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64)
    }

    /// Whether it is `i32` or `u32`.
    pub fn is_int(self) -> bool {
        matches!(self, DType::I32 | DType::U32)
    }

    /// The name as printed in types: `f32`.
    pub fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::F32 => "f32",
            DType::F64 => "f64",
        }
    }

    /// The element type called `name`.
    pub fn parse(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|d| d.name() == name)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An element type and a shape; prints as `f32[128,784]`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// The type of an element.
    pub dtype: DType,
    /// The extents.
    pub shape: Shape,
}

impl Clone for TensorType {
    // Faster than a derived clone, which pushes the extents one by one. Every pass clones the type of every value.
    fn clone(&self) -> Self {
        TensorType::new(self.dtype, &self.shape)
    }
}

impl TensorType {
    /// A type of `dtype` and `shape`.
    pub fn new(dtype: DType, shape: &[usize]) -> Self {
        TensorType { dtype, shape: Shape::from_slice(shape) }
    }

    /// The type of a scalar.
    pub fn scalar(dtype: DType) -> Self {
        TensorType { dtype, shape: Shape::new() }
    }

    /// The number of axes.
    #[inline]
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements; `usize::MAX` [on overflow](TensorType::check_size).
    #[inline]
    pub fn elements(&self) -> usize {
        product(self.shape.iter().copied())
    }

    /// The size in bytes; `usize::MAX` [on overflow](TensorType::check_size).
    #[inline]
    pub fn bytes(&self) -> usize {
        self.elements().saturating_mul(self.dtype.size())
    }

    /// Checks the size against the limit of the address space. The type of every tensor, array and graph value passes
    /// this check, so products of extents, strides, offsets and sizes in bytes do not overflow an `isize`. Allocation
    /// checks the memory of the machine.
    ///
    /// # Errors
    /// If the tensor takes more than [`MAX_BYTES`]. Extents of 0 count as 1, since the strides must fit too. The
    /// message is the reason alone; the caller adds the op and the source location.
    #[inline]
    pub fn check_size(&self) -> Result<(), String> {
        let bytes = self.shape.iter().try_fold(self.dtype.size(), |n, &extent| n.checked_mul(extent.max(1)));
        if bytes.is_some_and(|bytes| bytes <= MAX_BYTES) { Ok(()) } else { Err(self.too_large()) }
    }

    #[cold]
    fn too_large(&self) -> String {
        format!("{self} is larger than memory can be ({MAX_BYTES} bytes)")
    }

    /// The same shape with another element type.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        TensorType { dtype, shape: self.shape.clone() }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.dtype, join(&self.shape, ","))
    }
}

/// The maximum size of a tensor in bytes: the maximum size of one allocation.
pub const MAX_BYTES: usize = isize::MAX as usize;

/// The product of extents; `usize::MAX` on overflow.
#[inline]
pub fn product(extents: impl IntoIterator<Item = usize>) -> usize {
    extents.into_iter().fold(1, usize::saturating_mul)
}

/// The items, joined by `separator`.
pub fn join<T: fmt::Display>(items: &[T], separator: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

/// The row-major strides of a shape, in elements. The shape must [pass the size check](TensorType::check_size).
pub fn row_major_strides(shape: &[usize]) -> SmallVec<[usize; 4]> {
    let mut strides = SmallVec::from_elem(1, shape.len());
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_checked_with_extents_of_0_as_1() {
        const MAX: usize = isize::MAX as usize;
        let passes = |dtype, shape: &[usize]| TensorType::new(dtype, shape).check_size().is_ok();
        for dtype in DType::ALL {
            assert!(passes(dtype, &[]) && passes(dtype, &[0]) && passes(dtype, &[1; 8]) && passes(dtype, &[0; 8]));
            let most = MAX / dtype.size();
            for axis in 0..4 {
                // The largest extent and one more, among others of 0 and 1.
                for other in [0, 1] {
                    let mut shape = [other; 4];
                    shape[axis] = most;
                    assert!(passes(dtype, &shape), "{dtype} {shape:?}");
                    shape[axis] = most + 1;
                    assert!(!passes(dtype, &shape), "{dtype} {shape:?}");
                }
            }
            for shape in [&[usize::MAX][..], &[1 << 32, 1 << 32], &[(1 << 63) + 1, 2], &[1 << 40, 1 << 40, 0]] {
                assert!(!passes(dtype, shape), "{dtype} {shape:?}");
            }
        }
        let error = TensorType::new(DType::F32, &[1 << 40, 1 << 40, 0]).check_size();
        let expected = "f32[1099511627776,1099511627776,0] is larger than memory can be (9223372036854775807 bytes)";
        assert_eq!(error, Err(expected.into()));
    }

    #[test]
    fn counts_that_overflow_are_as_large_as_can_be() {
        let of = |shape: &[usize]| TensorType::new(DType::F64, shape);
        assert_eq!((of(&[1 << 40, 1 << 40]).elements(), of(&[1 << 62]).bytes()), (usize::MAX, usize::MAX));
        for shape in [[0, 1 << 40, 1 << 40], [1 << 40, 1 << 40, 0]] {
            assert_eq!((of(&shape).elements(), of(&shape).bytes()), (0, 0));
        }
        assert_eq!((of(&[]).elements(), of(&[2, 3]).bytes()), (1, 48));
    }
}

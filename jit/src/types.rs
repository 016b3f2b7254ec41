//! Types of tensors: an element type and a shape.

use std::fmt;

use smallvec::SmallVec;

/// The extents of a tensor's axes, outermost first. Row-major wherever a tensor is stored.
pub type Shape = SmallVec<[usize; 4]>;

/// A list of axes, in the order that the op says.
pub type Axes = SmallVec<[usize; 4]>;

/// The type of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// A truth value, one byte, 0 or 1.
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

    /// Is it `f32` or `f64`?
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64)
    }

    /// Is it `i32` or `u32`?
    pub fn is_int(self) -> bool {
        matches!(self, DType::I32 | DType::U32)
    }

    /// The name in types: `f32`.
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
    // A derived clone pushes the extents one by one; types are cloned for every value in every pass.
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

    /// How many axes it has.
    #[inline]
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// How many elements it has.
    #[inline]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// How many bytes it takes in memory.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.size()
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

/// The items with `separator` between them.
pub fn join<T: fmt::Display>(items: &[T], separator: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

/// The row-major strides of a shape, in elements.
pub fn row_major_strides(shape: &[usize]) -> SmallVec<[usize; 4]> {
    let mut strides = SmallVec::from_elem(1, shape.len());
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

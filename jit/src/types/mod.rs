//! Types of tensors: an element type and a shape. One table describes the element types.
//!
//! What the bits of an element mean is in `scalar.rs`.

pub mod scalar;

use std::fmt;

use smallvec::SmallVec;

use scalar::FloatFormat;

/// The extents of a tensor's axes, outermost first. Row-major wherever a tensor is stored.
pub type Shape = SmallVec<[usize; 4]>;

/// A list of axes. The op defines the order.
pub type Axes = SmallVec<[usize; 4]>;

/// What an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// False or true, stored as 0 or 1.
    Bool,
    /// A two's complement or unsigned integer of all the element's bits.
    Int {
        /// Whether it has a sign.
        signed: bool,
    },
    /// A binary floating-point number.
    Float(FloatFormat),
}

/// What is known of an element type: its row in the table.
#[derive(Clone, Copy, Debug)]
pub struct DTypeInfo {
    /// The name as printed in types: `f32`.
    pub name: &'static str,
    /// Bytes of an element in memory: 1, 2, 4 or 8.
    pub bytes: usize,
    /// What an element is.
    pub kind: Kind,
}

/// The element types: variant, name, bytes and kind. Whatever the library asks of an element type it reads from its
/// row here, except for the lane that it is computed in, which is in `lower/lane/storage.rs`.
macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $bytes:literal $kind:expr;)*) => {
        /// The type of an element.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DType { $($(#[$doc])* $variant),* }

        impl DType {
            /// Every element type.
            pub const ALL: [DType; [$($name),*].len()] = [$(DType::$variant),*];
        }

        static TABLE: [DTypeInfo; DType::ALL.len()] =
            [$(DTypeInfo { name: $name, bytes: $bytes, kind: $kind }),*];
    };
}

const SIGNED: Kind = Kind::Int { signed: true };
const UNSIGNED: Kind = Kind::Int { signed: false };

dtypes! {
    /// A bool, one byte, 0 or 1.
    Bool "bool" 1 Kind::Bool;
    /// An 8-bit signed integer.
    I8 "i8" 1 SIGNED;
    /// An 8-bit unsigned integer.
    U8 "u8" 1 UNSIGNED;
    /// A 16-bit signed integer.
    I16 "i16" 2 SIGNED;
    /// A 16-bit unsigned integer.
    U16 "u16" 2 UNSIGNED;
    /// A 32-bit signed integer.
    I32 "i32" 4 SIGNED;
    /// A 32-bit unsigned integer.
    U32 "u32" 4 UNSIGNED;
    /// A 64-bit signed integer.
    I64 "i64" 8 SIGNED;
    /// A 64-bit unsigned integer.
    U64 "u64" 8 UNSIGNED;
    /// A 16-bit float with the exponents of f32 (bfloat16). Computed in f32, rounded after every op.
    BF16 "bf16" 2 Kind::Float(FloatFormat::BF16);
    /// A 16-bit float of IEEE 754 (half). Computed in f32, rounded after every op.
    F16 "f16" 2 Kind::Float(FloatFormat::F16);
    /// A 32-bit float.
    F32 "f32" 4 Kind::Float(FloatFormat::F32);
    /// A 64-bit float.
    F64 "f64" 8 Kind::Float(FloatFormat::F64);
}

impl DType {
    /// Its row of the table.
    #[inline]
    pub const fn info(self) -> &'static DTypeInfo {
        &TABLE[self as usize]
    }

    /// Bytes of an element in memory.
    #[inline]
    pub fn size(self) -> usize {
        self.info().bytes
    }

    /// Bits of an element in memory.
    pub fn width(self) -> u32 {
        8 * self.size() as u32
    }

    /// What an element is.
    #[inline]
    pub fn kind(self) -> Kind {
        self.info().kind
    }

    /// Whether it is a float.
    #[inline]
    pub fn is_float(self) -> bool {
        self.float().is_some()
    }

    /// Whether it is a float of fewer bits than f32, which it is computed in.
    pub fn is_narrow_float(self) -> bool {
        self.is_float() && self.size() < DType::F32.size()
    }

    /// The format, if it is a float.
    #[inline]
    pub fn float(self) -> Option<FloatFormat> {
        if let Kind::Float(format) = self.kind() { Some(format) } else { None }
    }

    /// Whether it is an integer; bool is none.
    #[inline]
    pub fn is_int(self) -> bool {
        self.is_signed_int() || self.is_unsigned_int()
    }

    /// Whether it is an integer with a sign.
    #[inline]
    pub fn is_signed_int(self) -> bool {
        self.kind() == SIGNED
    }

    /// Whether it is an integer without a sign.
    #[inline]
    pub fn is_unsigned_int(self) -> bool {
        self.kind() == UNSIGNED
    }

    /// The integer type of the same size, with or without a sign.
    pub fn int_of_size(self, signed: bool) -> DType {
        let fits = |to: &DType| to.kind() == Kind::Int { signed } && to.size() == self.size();
        DType::ALL.into_iter().find(fits).expect("there are integers of each size")
    }

    /// Whether every element of `other`, converted to this type, keeps its value.
    pub fn represents(self, other: DType) -> bool {
        match (self.kind(), other.kind()) {
            (_, Kind::Bool) => true,
            (Kind::Bool, Kind::Int { .. } | Kind::Float(_)) | (Kind::Int { .. }, Kind::Float(_)) => false,
            (Kind::Int { signed: true }, Kind::Int { signed: false }) => self.size() > other.size(),
            (Kind::Int { signed: false }, Kind::Int { signed: true }) => false,
            (Kind::Int { .. }, Kind::Int { .. }) => self.size() >= other.size(),
            // The most negative integer is a power of two.
            (Kind::Float(x), Kind::Int { signed }) => {
                let digits = other.width() - u32::from(signed);
                x.fraction + 1 >= digits && x.bias() >= digits as i32
            }
            (Kind::Float(x), Kind::Float(y)) => x.exponent >= y.exponent && x.fraction >= y.fraction,
        }
    }

    /// The name as printed in types: `f32`.
    #[inline]
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The element type called `name`.
    pub fn parse(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|d| d.name() == name)
    }

    /// The names of the element types that `is_listed` accepts, for messages: `f32 or f64`.
    pub(crate) fn names(is_listed: impl Fn(DType) -> bool) -> String {
        let names: Vec<&str> = DType::ALL.into_iter().filter(|&d| is_listed(d)).map(DType::name).collect();
        match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => names.concat(),
        }
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

/// The greatest common divisor; that of 0 and a number is the number.
pub(crate) fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
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

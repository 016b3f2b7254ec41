//! Constants: a scalar and its bits, an array.

use super::family::ReduceOp;
use crate::array::Array;
use crate::types::scalar::Scalar;
use crate::types::{DType, TensorType};

/// A scalar constant: an element type and its bits in the low end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Literal {
    /// The element type.
    pub dtype: DType,
    /// The bits of the element.
    pub bits: u64,
}

impl ReduceOp {
    /// What it gives for no elements.
    pub fn identity(self, dtype: DType) -> Literal {
        match self {
            ReduceOp::Sum | ReduceOp::Or => Literal::new(dtype, 0),
            ReduceOp::Prod => Literal::new(dtype, 1),
            ReduceOp::Max => Literal::least(dtype),
            ReduceOp::Min => Literal::greatest(dtype),
            ReduceOp::And => Literal::ones(dtype),
        }
    }
}

impl Literal {
    /// `value` as an element of `dtype`, converted as by [`DType::bits`].
    pub fn new(dtype: DType, value: impl Into<Scalar>) -> Self {
        Literal { dtype, bits: dtype.bits(value) }
    }

    /// The least element of a type.
    pub fn least(dtype: DType) -> Self {
        Literal::new(dtype, dtype.range().0)
    }

    /// The greatest element of a type.
    pub fn greatest(dtype: DType) -> Self {
        Literal::new(dtype, dtype.range().1)
    }

    /// All bits set; of bool, true.
    pub fn ones(dtype: DType) -> Self {
        Literal { dtype, bits: dtype.ones() }
    }

    /// The constant that a scalar array holds; `None` for an array with axes.
    pub fn of(array: &Array) -> Option<Self> {
        (array.ty().rank() == 0).then(|| Literal { dtype: array.ty().dtype, bits: array.to_bits()[0] })
    }

    /// The scalar array that holds it.
    pub fn array(self) -> Array {
        Array::from_bits(&TensorType::scalar(self.dtype), &[self.bits]).expect("an element of memory is available")
    }

    /// Its value; exact.
    pub fn value(self) -> Scalar {
        self.dtype.value(self.bits)
    }
}

/// A concrete array inside a program. Equal when it is the same memory, or equal bytes of a small array.
#[derive(Clone, Debug)]
pub struct Constant(pub Array);

impl Constant {
    /// Arrays up to this many bytes print their elements and compare by them.
    pub const SMALL: usize = 1024;
}

impl PartialEq for Constant {
    fn eq(&self, other: &Self) -> bool {
        self.0.ty() == other.0.ty()
            && (self.0.buffer().is_same(other.0.buffer())
                || (self.0.ty().bytes() <= Self::SMALL && self.0.bytes() == other.0.bytes()))
    }
}

impl Eq for Constant {}

impl std::hash::Hash for Constant {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.ty().hash(state);
        if self.0.ty().bytes() <= Self::SMALL {
            self.0.bytes().hash(state);
        }
    }
}

//! Constants: a scalar and its bits, an array.

use super::family::ReduceOp;
use crate::array::Array;
use crate::error::Result;
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

    /// The value of a scalar constant; `None` for one with axes.
    pub fn of(constant: &Constant) -> Option<Self> {
        (constant.ty().rank() == 0).then(|| Literal { dtype: constant.ty().dtype, bits: constant.to_bits()[0] })
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

/// A concrete array inside a program, on the host. Equal when it is the same memory, or equal bytes of a small array.
#[derive(Clone, Debug)]
pub struct Constant(Array);

impl Constant {
    /// Arrays up to this many bytes print their elements and compare by them.
    pub const SMALL: usize = 1024;

    /// The constant with these elements.
    ///
    /// # Errors
    /// As [`Array::to_host`].
    pub fn new(array: &Array) -> Result<Self> {
        array.to_host().map(Constant)
    }

    /// The array, on the host.
    pub fn array(&self) -> &Array {
        &self.0
    }

    /// Its type.
    pub fn ty(&self) -> &TensorType {
        self.0.ty()
    }

    /// As [`Array::bytes`].
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes().expect("a constant is on the host")
    }

    /// As [`Array::to_bits`].
    pub fn to_bits(&self) -> Vec<u64> {
        self.0.to_bits().expect("a constant is on the host")
    }
}

impl PartialEq for Constant {
    fn eq(&self, other: &Self) -> bool {
        self.ty() == other.ty()
            && (self.0.buffer().is_same(other.0.buffer())
                || (self.ty().bytes() <= Self::SMALL && self.bytes() == other.bytes()))
    }
}

impl Eq for Constant {}

impl std::hash::Hash for Constant {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.ty().hash(state);
        if self.ty().bytes() <= Self::SMALL {
            self.bytes().hash(state);
        }
    }
}

//! Constants: a scalar and its bits, an array.

use super::family::ReduceOp;
use crate::array::Array;
use crate::types::DType;

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
            ReduceOp::Sum | ReduceOp::Or => Literal::new(dtype, 0.0),
            ReduceOp::Prod => Literal::new(dtype, 1.0),
            ReduceOp::Max => Literal::least(dtype),
            ReduceOp::Min => Literal::greatest(dtype),
            ReduceOp::And => Literal::ones(dtype),
        }
    }
}

impl Literal {
    /// `value` as an element of `dtype`: rounded to nearest for f32, towards zero (saturating) for integers,
    /// `value != 0` for bool.
    pub fn new(dtype: DType, value: f64) -> Self {
        let bits = match dtype {
            DType::Bool => u64::from(value != 0.0),
            DType::I32 => (value as i32) as u32 as u64,
            DType::U32 => (value as u32) as u64,
            DType::F32 => (value as f32).to_bits() as u64,
            DType::F64 => value.to_bits(),
        };
        Literal { dtype, bits }
    }

    /// The least element of a type.
    pub fn least(dtype: DType) -> Self {
        let value = match dtype {
            DType::Bool | DType::U32 => 0.0,
            DType::I32 => f64::from(i32::MIN),
            DType::F32 | DType::F64 => f64::NEG_INFINITY,
        };
        Literal::new(dtype, value)
    }

    /// The greatest element of a type.
    pub fn greatest(dtype: DType) -> Self {
        let value = match dtype {
            DType::Bool => 1.0,
            DType::I32 => f64::from(i32::MAX),
            DType::U32 => f64::from(u32::MAX),
            DType::F32 | DType::F64 => f64::INFINITY,
        };
        Literal::new(dtype, value)
    }

    /// All bits set; of bool, true.
    pub fn ones(dtype: DType) -> Self {
        let bits = match dtype {
            DType::Bool => 1,
            DType::I32 | DType::U32 | DType::F32 => u64::from(u32::MAX),
            DType::F64 => u64::MAX,
        };
        Literal { dtype, bits }
    }

    /// The constant that a scalar array holds; `None` for an array with axes.
    pub fn of(array: &Array) -> Option<Self> {
        let bytes = array.bytes();
        (array.ty().rank() == 0).then(|| {
            let bits = bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte));
            Literal { dtype: array.ty().dtype, bits }
        })
    }

    /// The scalar array that holds it.
    pub fn array(self) -> Array {
        match self.dtype {
            DType::Bool => Array::scalar(self.bits != 0),
            DType::I32 => Array::scalar(self.bits as u32 as i32),
            DType::U32 => Array::scalar(self.bits as u32),
            DType::F32 => Array::scalar(f32::from_bits(self.bits as u32)),
            DType::F64 => Array::scalar(f64::from_bits(self.bits)),
        }
    }

    /// Its value; exact for every element type.
    pub fn value(self) -> f64 {
        match self.dtype {
            DType::Bool => self.bits as f64,
            DType::I32 => (self.bits as u32 as i32) as f64,
            DType::U32 => (self.bits as u32) as f64,
            DType::F32 => f32::from_bits(self.bits as u32) as f64,
            DType::F64 => f64::from_bits(self.bits),
        }
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

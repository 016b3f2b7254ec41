//! Slow paths of functions that few arguments take: sines beyond the range of the vectorised reduction, remainders
//! whose quotient has more digits than a float.
//!
//! In: one or two floats. Out: the correct result. These functions run on one lane at a time, on every machine and in
//! [`eval`](super::eval()); code branches around them unless a lane needs them. Results are those of `libm`, the same
//! on every machine.

use super::LaneType;

/// A function that is called if a lane needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rare {
    /// The sine.
    Sin,
    /// The cosine.
    Cos,
    /// The tangent.
    Tan,
    /// The remainder of the first operand by the second, with the sign of the first.
    Rem,
}

/// A function of one or two f32 operands with the calling convention of machine code.
pub type Single = extern "C" fn(f32, f32) -> f32;

/// The same of f64 lanes.
pub type Double = extern "C" fn(f64, f64) -> f64;

impl Rare {
    /// The function for f32 lanes: computed in f64 where that is more precise, and rounded once.
    pub fn single(self) -> Single {
        match self {
            Rare::Sin => sin_f32,
            Rare::Cos => cos_f32,
            Rare::Tan => tan_f32,
            Rare::Rem => rem_f32,
        }
    }

    /// The function for f64 lanes.
    pub fn double(self) -> Double {
        match self {
            Rare::Sin => sin_f64,
            Rare::Cos => cos_f64,
            Rare::Tan => tan_f64,
            Rare::Rem => rem_f64,
        }
    }

    /// The bits of the result, from those of the operands.
    pub fn bits(self, ty: LaneType, x: u64, y: u64) -> u64 {
        match ty {
            LaneType::F32 => {
                let [x, y] = [x, y].map(|bits| f32::from_bits(bits as u32));
                u64::from(self.single()(x, y).to_bits())
            }
            LaneType::F64 => self.double()(f64::from_bits(x), f64::from_bits(y)).to_bits(),
            LaneType::I32 | LaneType::I64 | LaneType::Bool => panic!("{self:?} of {ty:?} lanes"),
        }
    }
}

extern "C" fn sin_f32(x: f32, _: f32) -> f32 {
    libm::sin(f64::from(x)) as f32
}

extern "C" fn cos_f32(x: f32, _: f32) -> f32 {
    libm::cos(f64::from(x)) as f32
}

extern "C" fn tan_f32(x: f32, _: f32) -> f32 {
    libm::tan(f64::from(x)) as f32
}

extern "C" fn rem_f32(x: f32, y: f32) -> f32 {
    libm::fmodf(x, y)
}

extern "C" fn sin_f64(x: f64, _: f64) -> f64 {
    libm::sin(x)
}

extern "C" fn cos_f64(x: f64, _: f64) -> f64 {
    libm::cos(x)
}

extern "C" fn tan_f64(x: f64, _: f64) -> f64 {
    libm::tan(x)
}

extern "C" fn rem_f64(x: f64, y: f64) -> f64 {
    libm::fmod(x, y)
}

//! Random numbers, and arrays of them, from a seed.

use crate::array::Array;
use crate::types::{DType, TensorType};

/// SplitMix64 (Steele, Lea & Flood 2014).
#[derive(Clone, Debug, Default)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// One of `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (((self.bits() >> 32) * n as u64) >> 32) as usize
    }

    /// True in one of `n` cases.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of the items, of which there is one at least.
    pub fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// The items in any order.
    pub fn shuffled<T>(&mut self, items: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut items: Vec<T> = items.into_iter().collect();
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
        items
    }

    /// An array. Floats are multiples of 1/4 up to 4, whose sums and products are exact; among `wild` ones are
    /// infinities and NaN.
    pub fn array(&mut self, ty: &TensorType, wild: bool) -> Array {
        let small = self.below(3) > 0;
        let float = |random: &mut Random| match wild && random.one_in(4) {
            true => random.one_of(&[f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -0.0]),
            false => (random.below(33) as f64 - 16.0) / 4.0,
        };
        let int = |random: &mut Random| match (small, random.below(8)) {
            (true, _) => random.below(19) as i32 - 9,
            (false, 0) => random.one_of(&[i32::MIN, i32::MAX, 0, -1]),
            (false, _) => random.bits() as i32,
        };
        let mut element = || match ty.dtype {
            dtype if dtype.is_float() => dtype.bits(float(self)),
            dtype if dtype.is_int() => dtype.bits(int(self)),
            dtype => dtype.bits(self.one_in(2)),
        };
        let bits: Vec<u64> = (0..ty.elements()).map(|_| element()).collect();
        Array::from_bits(ty, &bits).expect("as many elements as the type has")
    }

    /// Indices into an axis of `extent` elements, some of them out of range.
    pub fn indices(&mut self, shape: &[usize], extent: usize) -> Array {
        let ty = TensorType::new(DType::I32, shape);
        let index = |random: &mut Random| match random.below(24) {
            0 => random.one_of(&[i32::MIN, i32::MAX]),
            _ => random.below(extent + 4) as i32 - 2,
        };
        let bits: Vec<u64> = (0..ty.elements()).map(|_| DType::I32.bits(index(self))).collect();
        Array::from_bits(&ty, &bits).expect("as many elements as the type has")
    }
}

//! Static values that contain floats, which are not `Hash`: `#[tree(static)] rate: f64`, `#[jit(static)] eps: f32`.
//!
//! They are compared by their bits: 0.0 and -0.0 differ, and a NaN equals itself. The macros use [`Bits`] for a static
//! type that is spelled with a float, and `Hash` for any other.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A value that is compared by the bytes it writes: floats, `Hash` types of the standard library, and options, lists
/// and tuples of these.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a static value with floats in it",
    label = "not compared by its bits",
    note = "floats, integers, names, and options, vectors, arrays and tuples of them can; a struct with floats in it can \
            `#[derive(Tree)]`, with each such field marked `#[tree(static)]`"
)]
pub trait StaticValue: Clone {
    /// Writes the value to `to`. Two values of one type are equal if and only if they write the same bytes.
    fn write(&self, to: &mut dyn Hasher);
}

macro_rules! hashed {
    ($($t:ty),*) => { $(
        impl StaticValue for $t {
            fn write(&self, mut to: &mut dyn Hasher) {
                self.hash(&mut to);
            }
        }
    )* };
}
hashed!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize, bool, char, String, &'static str);

macro_rules! floats {
    ($($t:ty),*) => { $(
        impl StaticValue for $t {
            fn write(&self, mut to: &mut dyn Hasher) {
                self.to_bits().hash(&mut to);
            }
        }
    )* };
}
floats!(f32, f64);

impl<T: StaticValue> StaticValue for Option<T> {
    fn write(&self, to: &mut dyn Hasher) {
        to.write_u8(self.is_some().into());
        if let Some(value) = self {
            value.write(to);
        }
    }
}

impl<T: StaticValue> StaticValue for Vec<T> {
    fn write(&self, to: &mut dyn Hasher) {
        to.write_usize(self.len());
        self.iter().for_each(|value| value.write(to));
    }
}

impl<T: StaticValue, const N: usize> StaticValue for [T; N] {
    fn write(&self, to: &mut dyn Hasher) {
        self.iter().for_each(|value| value.write(to));
    }
}

macro_rules! pointers {
    ($($p:ident),*) => { $(
        impl<T: StaticValue> StaticValue for $p<T> {
            fn write(&self, to: &mut dyn Hasher) {
                (**self).write(to);
            }
        }
    )* };
}
pointers!(Box, Arc);

macro_rules! tuples {
    ($($($t:ident $i:tt),*;)*) => { $(
        impl<$($t: StaticValue),*> StaticValue for ($($t,)*) {
            fn write(&self, to: &mut dyn Hasher) {
                $( self.$i.write(to); )*
            }
        }
    )* };
}
tuples! {
    A 0;
    A 0, B 1;
    A 0, B 1, C 2;
    A 0, B 1, C 2, D 3;
    A 0, B 1, C 2, D 3, E 4;
    A 0, B 1, C 2, D 3, E 4, F 5;
}

/// Compares and hashes a value that contains floats by its bits, for use in [`Static`](crate::Static).
///
/// ```
/// use fulgurite_jit::{Bits, Static, Structure};
///
/// let rate = |rate: f64| Structure::of(&Static(Bits(rate)));
/// assert_eq!(rate(f64::NAN), rate(f64::NAN));
/// assert_ne!(rate(0.0), rate(-0.0));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bits<T>(pub T);

impl<T: StaticValue> Hash for Bits<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.write(state);
    }
}

impl<T: StaticValue> PartialEq for Bits<T> {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |value: &T| {
            let mut bytes = crate::front::tree::Bytes::default();
            value.write(&mut bytes);
            bytes.0
        };
        bytes(&self.0) == bytes(&other.0)
    }
}

impl<T: StaticValue> Eq for Bits<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Static, Structure};

    fn differ<T: StaticValue + std::fmt::Debug>(x: T, y: T) -> bool {
        assert_eq!(Bits(x.clone()), Bits(x.clone()));
        let differ = Bits(x.clone()) != Bits(y.clone());
        assert_eq!(differ, Structure::of(&Static(Bits(x))) != Structure::of(&Static(Bits(y))));
        differ
    }

    #[test]
    fn floats_are_compared_by_their_bits() {
        assert!(differ(0.1f64, 0.2) && differ(0.0f64, -0.0) && differ(0.1f32, 0.100_000_01));
        assert!(!differ(f64::NAN, f64::NAN) && !differ(1.5f32, 1.5));
        assert!(differ(f64::from_bits(0x7ff8_0000_0000_0000), f64::from_bits(0x7ff8_0000_0000_0001)));
    }

    #[test]
    fn containers_are_compared_by_all_of_their_values() {
        assert!(differ(Some(0.0f64), None) && !differ(None::<f64>, None));
        assert!(differ(vec![vec![1.0f32], vec![]], vec![vec![], vec![1.0]]));
        assert!(differ([0.9, 0.99], [0.9, 0.999]) && !differ([0.0f64; 0], []));
        assert!(differ((0.1f32, 3usize, "adam"), (0.1, 3, "sgd")) && differ((0.1f32, 3usize), (0.2, 3)));
        assert!(differ((String::from("a"), String::from("bc"), 0.0), ("ab".into(), "c".into(), 0.0)));
        assert!(
            differ(Box::new(1.0), Box::new(2.0)) && !differ(Arc::new((true, 'c', 2.0)), Arc::new((true, 'c', 2.0)))
        );
    }
}

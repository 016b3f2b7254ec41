//! What the draws of a distribution have in common: a name for f32, and one for any float type.
//!
//! A distribution with its parameters and algorithm comes in, two methods of [`Key`](super::Key) go out.

/// Declares a draw without parameters, and its variant of any element type.
macro_rules! draws {
    ($($(#[$doc:meta])* $name:ident $name_as:ident = |$key:ident, $shape:ident, $dtype:ident| $draw:expr;)*) => {
        impl Key { $(
            $(#[$doc])* #[doc = "\n\nf32 of `shape`."] #[track_caller]
            pub fn $name(&self, shape: &[usize]) -> Tensor {
                self.$name_as(shape, DType::F32)
            }
            $(#[$doc])* #[doc = "\n\nFloats of `shape`; see [`Key::uniform_as`] for f64."] #[track_caller]
            pub fn $name_as(&self, shape: &[usize], dtype: DType) -> Tensor {
                self.sample(stringify!($name), shape, [], dtype, |$key, []| {
                    let ($shape, $dtype) = (shape, dtype);
                    $draw
                })
            }
        )* }
    };
}
/// Declares a draw with parameters, and its variant of any element type.
macro_rules! draws_with {
    ($($(#[$doc:meta])* $name:ident $name_as:ident($($p:ident),*) = |$key:ident, $shape:ident, $dtype:ident| $draw:expr;)*) => {
        impl Key { $(
            $(#[$doc])* #[doc = "\n\nf32 of `shape`, to which the parameters broadcast."] #[track_caller]
            pub fn $name(&self, shape: &[usize], $($p: impl Operand),*) -> Tensor {
                self.$name_as(shape, $($p,)* DType::F32)
            }
            $(#[$doc])*
            #[doc = "\n\nFloats of `shape`, to which the parameters broadcast; see [`Key::uniform_as`] for f64."]
            #[track_caller]
            pub fn $name_as(&self, shape: &[usize], $($p: impl Operand,)* dtype: DType) -> Tensor {
                self.sample(stringify!($name), shape, [$($p.operand()),*], dtype, |$key, [$($p),*]| {
                    let ($shape, $dtype) = (shape, dtype);
                    $draw
                })
            }
        )* }
    };
}

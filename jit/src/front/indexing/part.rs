//! The parts of an index expression, as Rust writes them: integers, ranges, tensors, `NewAxis`, `Ellipsis`.

use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use crate::front::tensor::Tensor;

/// A new axis of extent 1: `None` of NumPy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewAxis;

/// As many whole axes as the other parts leave: `...` of NumPy. Where there is none, it stands at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ellipsis;

/// Every so many elements of a range: `Step(1.., 2)` is `1::2` of NumPy. A negative step goes backwards from `start`:
/// `Step(.., -1)` is `::-1`, `Step(4..1, -1)` is `4:1:-1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<R>(pub R, pub isize);

/// The elements where a mask is true, of which there are at most so many. Where there are fewer, the rest is out of
/// range: what is read there says the mode, and nothing is written.
#[derive(Clone, Copy, Debug)]
pub struct Masked<'a>(pub &'a Tensor, pub usize);

/// A part of an index expression.
#[derive(Clone, Debug)]
pub enum Part {
    /// This element; its axis is removed. A negative number counts from the end.
    At(isize),
    /// The elements `start, start + step, …` before `stop`. Negative numbers count from the end, those beyond an end
    /// are cut off.
    Slice {
        /// The first element; the axis's first in the direction of the step if there is none.
        start: Option<isize>,
        /// What the elements are before; all the rest if there is none.
        stop: Option<isize>,
        /// Not 0.
        step: isize,
    },
    /// See [`NewAxis`].
    NewAxis,
    /// See [`Ellipsis`].
    Ellipsis,
    /// The elements at these indices; or, for as many axes as a tensor of bools has, those where it is true.
    Tensor(Tensor),
    /// See [`Masked`].
    Masked(Tensor, usize),
}

/// What stands for one part of an index expression.
pub trait Index {
    /// The part.
    fn part(self) -> Part;
}

/// An index expression: one part, or a tuple, a vector or an array of parts.
pub trait IntoIndex {
    /// The parts.
    fn parts(self) -> Vec<Part>;
}

/// A number as a signed one; none is as large as an extent that would be cut off.
fn signed<T: TryInto<isize>>(x: T) -> isize {
    x.try_into().unwrap_or(isize::MAX)
}

/// `..=last` is before the element after it, of which there is none after the last.
fn after(last: isize) -> Option<isize> {
    if last == -1 { None } else { Some(last.saturating_add(1)) }
}

macro_rules! single {
    ($({$($generics:tt)*} $ty:ty: |$x:ident| $part:expr;)*) => { $(
        impl<$($generics)*> Index for $ty {
            fn part(self) -> Part {
                let $x = self;
                $part
            }
        }

        impl<$($generics)*> IntoIndex for $ty {
            fn parts(self) -> Vec<Part> {
                vec![self.part()]
            }
        }
    )* };
}

macro_rules! integers {
    ($($ty:ty),*) => { single! { $(
        {} $ty: |x| Part::At(signed(x));
        {} Range<$ty>: |x| Part::Slice { start: Some(signed(x.start)), stop: Some(signed(x.end)), step: 1 };
        {} RangeFrom<$ty>: |x| Part::Slice { start: Some(signed(x.start)), stop: None, step: 1 };
        {} RangeTo<$ty>: |x| Part::Slice { start: None, stop: Some(signed(x.end)), step: 1 };
        {} RangeInclusive<$ty>: |x| {
            Part::Slice { start: Some(signed(*x.start())), stop: after(signed(*x.end())), step: 1 }
        };
        {} RangeToInclusive<$ty>: |x| Part::Slice { start: None, stop: after(signed(x.end)), step: 1 };
    )* } };
}
integers!(i32, i64, isize, usize);

single! {
    {} RangeFull: |_whole| Part::Slice { start: None, stop: None, step: 1 };
    {R: Index} Step<R>: |x| match x.0.part() {
        Part::Slice { start, stop, .. } => Part::Slice { start, stop, step: x.1 },
        other => other,
    };
    {} NewAxis: |_axis| Part::NewAxis;
    {} Ellipsis: |_axes| Part::Ellipsis;
    {} Tensor: |x| Part::Tensor(x);
    {} &Tensor: |x| Part::Tensor(x.clone());
    {'a} Masked<'a>: |x| Part::Masked(x.0.clone(), x.1);
    {} Part: |x| x;
    {} &Part: |x| x.clone();
}

impl IntoIndex for Vec<Part> {
    fn parts(self) -> Vec<Part> {
        self
    }
}

impl<I: Index, const N: usize> IntoIndex for [I; N] {
    fn parts(self) -> Vec<Part> {
        self.into_iter().map(Index::part).collect()
    }
}

impl IntoIndex for () {
    fn parts(self) -> Vec<Part> {
        Vec::new()
    }
}

macro_rules! tuples {
    ($($name:ident)*) => {
        impl<$($name: Index),*> IntoIndex for ($($name,)*) {
            #[allow(non_snake_case, reason = "a name is a type and a variable")]
            fn parts(self) -> Vec<Part> {
                let ($($name,)*) = self;
                vec![$($name.part()),*]
            }
        }
    };
}
tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);

//! Pooling: the largest element or the mean of each window, or of each part of an axis, as in Equinox.
//!
//! Comes in: an example `[channels, d1, …]`, or a batch of them, with axes in front of the channels. Goes out: the same
//! with fewer elements along `d1, …`.

use std::panic::Location;

use fulgurite_jit::{Error, Tensor, Tree, Windows, reduce_window_max, reduce_window_sum};

/// What windows are reduced to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Max,
    Avg,
}

/// `x` with each axis of the last few padded and reduced; or why it cannot be.
#[track_caller]
fn pool(
    x: &Tensor,
    kind: Kind,
    kernel: &[usize],
    stride: &[usize],
    padding: &[(usize, usize)],
    use_ceil: bool,
) -> Result<Tensor, String> {
    let dims = kernel.len();
    let Some(leading) = x.rank().checked_sub(dims).filter(|&leading| leading > 0) else {
        return Err(format!("takes channels and {dims} axes behind them, not {}", x.ty()));
    };
    let mut grown = padding.to_vec();
    for axis in 0..dims {
        let (low, high) = padding[axis];
        // As Equinox does: where the windows do not end with the padding, it grows by a stride.
        let rest = (x.shape()[leading + axis] + low + high) as isize - kernel[axis] as isize;
        if use_ceil && stride[axis] > 0 && rest.rem_euclid(stride[axis] as isize) != 0 {
            grown[axis].1 += stride[axis];
        }
        let (low, high) = grown[axis];
        if low.max(high) > kernel[axis] {
            return Err(format!("a padding of {low} and {high} is more than a window of {}", kernel[axis]));
        }
    }
    let with = |last: &[usize]| [&vec![1; leading][..], last].concat();
    let padding: Vec<(isize, isize)> = std::iter::repeat_n((0, 0), leading)
        .chain(grown.iter().map(|&(low, high)| (low as isize, high as isize)))
        .collect();
    let windows = Windows::new(&with(kernel)).strides(&with(stride)).padding(&padding);
    Ok(match kind {
        Kind::Max => reduce_window_max(x, &windows),
        Kind::Avg => reduce_window_sum(x, &windows) / kernel.iter().product::<usize>() as f64,
    })
}

/// `x` with each axis of the last few as so many parts, each reduced; the first parts have an element more.
#[track_caller]
fn adaptive_pool(x: &Tensor, kind: Kind, target: &[usize]) -> Result<Tensor, String> {
    let dims = target.len();
    let Some(leading) = x.rank().checked_sub(dims).filter(|&leading| leading > 0) else {
        return Err(format!("takes channels and {dims} axes behind them, not {}", x.ty()));
    };
    let mut x = x.clone();
    for (i, &parts) in target.iter().enumerate() {
        let axis = leading + i;
        let extent = x.shape()[axis];
        if parts == 0 || parts > extent {
            return Err(format!("axis {axis} of {} has not {parts} parts", x.ty()));
        }
        let (size, longer) = (extent / parts, extent % parts);
        let mut reduced = Vec::new();
        for (from, count, size) in [(0, longer, size + 1), (longer * (size + 1), parts - longer, size)] {
            if count == 0 {
                continue;
            }
            let mut shape = x.shape().to_vec();
            shape[axis] = count;
            shape.insert(axis + 1, size);
            let split = x.slice_in_dim(axis as isize, from..from + count * size).reshape(&shape);
            reduced.push(match kind {
                Kind::Max => split.max_axes(axis as isize + 1),
                Kind::Avg => split.mean_axes(axis as isize + 1),
            });
        }
        x = match &reduced[..] {
            [all] => all.clone(),
            parts => Tensor::concat(&parts.iter().collect::<Vec<_>>(), axis as isize),
        };
    }
    Ok(x)
}

macro_rules! pools {
    ($($(#[$doc:meta])* $name:ident $dims:literal $kind:ident;)*) => { $(
        $(#[$doc])*
        ///
        /// ```
        /// use fulgurite_jit::Tensor;
        #[doc = concat!("use fulgurite_trainer::nn::", stringify!($name), ";")]
        /// fn halved(x: &Tensor) -> Tensor {
        #[doc = concat!("    ", stringify!($name), "::new([2; ", stringify!($dims), "]).stride([2; ",
            stringify!($dims), "]).call(x)")]
        /// }
        /// ```
        #[derive(Clone, Debug, Tree)]
        pub struct $name {
            /// The extents of a window.
            #[tree(static)]
            pub kernel_size: Vec<usize>,
            /// From one window to the next.
            #[tree(static)]
            pub stride: Vec<usize>,
            /// Before and behind each axis.
            #[tree(static)]
            pub padding: Vec<(usize, usize)>,
            /// Whether a window may begin within the array and end behind its padding.
            #[tree(static)]
            pub use_ceil: bool,
        }

        impl $name {
            /// Windows of this size, at every position, without padding.
            pub fn new(kernel_size: [usize; $dims]) -> Self {
                $name {
                    kernel_size: kernel_size.into(),
                    stride: vec![1; $dims],
                    padding: vec![(0, 0); $dims],
                    use_ceil: false,
                }
            }

            /// From one window to the next.
            pub fn stride(self, stride: [usize; $dims]) -> Self {
                $name { stride: stride.into(), ..self }
            }

            /// Before and behind each axis.
            pub fn padding(self, padding: [(usize, usize); $dims]) -> Self {
                $name { padding: padding.into(), ..self }
            }

            /// Whether a window may begin within the array and end behind its padding.
            pub fn use_ceil(self, use_ceil: bool) -> Self {
                $name { use_ceil, ..self }
            }

            /// `[…, channels, d1, …]` gives as many axes, with an element for each window.
            ///
            /// # Errors
            /// The result stands for an error if `x` has too few axes, if a padding is larger than the window, or if a
            /// number is 0.
            #[track_caller]
            pub fn call(&self, x: &Tensor) -> Tensor {
                let result = pool(x, Kind::$kind, &self.kernel_size, &self.stride, &self.padding, self.use_ceil);
                or_failed(stringify!($name), x, result)
            }
        }
    )* };
}

macro_rules! adaptive_pools {
    ($($(#[$doc:meta])* $name:ident $dims:literal $kind:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, Tree)]
        pub struct $name {
            /// The extents of the result behind the channels.
            #[tree(static)]
            pub target_shape: Vec<usize>,
        }

        impl $name {
            /// As many parts of each axis.
            pub fn new(target_shape: [usize; $dims]) -> Self {
                $name { target_shape: target_shape.into() }
            }

            /// `[…, channels, d1, …]` gives as many axes, of the extents `target_shape` behind the channels.
            ///
            /// # Errors
            /// The result stands for an error if `x` has too few axes, or an axis fewer elements than it is to have.
            #[track_caller]
            pub fn call(&self, x: &Tensor) -> Tensor {
                or_failed(stringify!($name), x, adaptive_pool(x, Kind::$kind, &self.target_shape))
            }
        }
    )* };
}

#[track_caller]
fn or_failed(name: &str, x: &Tensor, result: Result<Tensor, String>) -> Tensor {
    match (result, x.error()) {
        (Ok(result), _) => result,
        (Err(_), Some(_)) => x.clone(),
        (Err(why), None) => Tensor::failed(x.ty().clone(), Error::op(name, why, Location::caller())),
    }
}

pools! {
    /// The largest element of each window along one axis; the first of several has the derivative.
    MaxPool1d 1 Max;
    /// The largest element of each window along two axes; the first of several has the derivative.
    MaxPool2d 2 Max;
    /// The largest element of each window along three axes; the first of several has the derivative.
    MaxPool3d 3 Max;
    /// The mean of each window along one axis; padding counts as zeros.
    AvgPool1d 1 Avg;
    /// The mean of each window along two axes; padding counts as zeros.
    AvgPool2d 2 Avg;
    /// The mean of each window along three axes; padding counts as zeros.
    AvgPool3d 3 Avg;
}

adaptive_pools! {
    /// The largest element of each part of one axis; equal ones share the derivative.
    AdaptiveMaxPool1d 1 Max;
    /// The largest element of each part of two axes; equal ones share the derivative.
    AdaptiveMaxPool2d 2 Max;
    /// The largest element of each part of three axes; equal ones share the derivative.
    AdaptiveMaxPool3d 3 Max;
    /// The mean of each part of one axis.
    AdaptiveAvgPool1d 1 Avg;
    /// The mean of each part of two axes.
    AdaptiveAvgPool2d 2 Avg;
    /// The mean of each part of three axes.
    AdaptiveAvgPool3d 3 Avg;
}

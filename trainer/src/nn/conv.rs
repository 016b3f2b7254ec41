//! Convolutions in one to three spatial axes, and transposed ones, as in Equinox.
//!
//! In: one example, `[channels, …]`; batches by `vmap`. Out: one example. What is not zero around an example, it is
//! padded with before.

use fulgurite_jit::conv::{Conv as How, Padding, conv_general_dilated};
use fulgurite_jit::random::Key;
use fulgurite_jit::trace::poison;
use fulgurite_jit::{DType, Error, Tensor, Tree};
use std::panic::Location;

use super::uniform;

/// The padding of a convolution of `N` spatial axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConvPadding<const N: usize> {
    /// So much that there are `⌈extent / stride⌉` results, the odd one after.
    Same,
    /// As [`ConvPadding::Same`], the odd one before.
    SameLower,
    /// So much before and after, per spatial axis. Zeros are `VALID` in Equinox.
    Explicit([(isize, isize); N]),
}

impl<const N: usize> ConvPadding<N> {
    /// None.
    pub const VALID: Self = ConvPadding::Explicit([(0, 0); N]);
}

impl<const N: usize> From<usize> for ConvPadding<N> {
    /// So much before and after along every axis.
    fn from(pad: usize) -> Self {
        ConvPadding::Explicit([(pad as isize, pad as isize); N])
    }
}

impl<const N: usize> From<[usize; N]> for ConvPadding<N> {
    /// So much before and after, per axis.
    fn from(pads: [usize; N]) -> Self {
        ConvPadding::Explicit(pads.map(|pad| (pad as isize, pad as isize)))
    }
}

impl<const N: usize> From<[(isize, isize); N]> for ConvPadding<N> {
    fn from(pads: [(isize, isize); N]) -> Self {
        ConvPadding::Explicit(pads)
    }
}

/// What is around an example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PaddingMode {
    /// Zeros: `1234` becomes `00123400`.
    #[default]
    Zeros,
    /// Its reflection, without the edge: `1234` becomes `32123432`.
    Reflect,
    /// Its edge: `1234` becomes `11123444`.
    Replicate,
    /// Its other side: `1234` becomes `34123412`.
    Circular,
}

/// How a layer convolves: the keyword arguments of `eqx.nn.Conv`, with its defaults.
///
/// ```
/// use fulgurite_trainer::nn::{ConvConfig, ConvPadding};
/// let halved = ConvConfig { stride: [2, 2], padding: 1.into(), use_bias: false, ..ConvConfig::default() };
/// # let _: ConvConfig<2> = halved;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvConfig<const N: usize> {
    /// How far the window moves.
    pub stride: [usize; N],
    /// How much is around an example.
    pub padding: ConvPadding<N>,
    /// What is around it.
    pub padding_mode: PaddingMode,
    /// Steps from one element of the window to the next.
    pub dilation: [usize; N],
    /// In how many groups the channels are divided.
    pub groups: usize,
    /// Whether there is a bias.
    pub use_bias: bool,
    /// The element type of weight and bias.
    pub dtype: DType,
}

impl<const N: usize> Default for ConvConfig<N> {
    fn default() -> Self {
        ConvConfig {
            stride: [1; N],
            padding: ConvPadding::VALID,
            padding_mode: PaddingMode::Zeros,
            dilation: [1; N],
            groups: 1,
            use_bias: true,
            dtype: DType::F32,
        }
    }
}

/// A convolution of `N` spatial axes: `eqx.nn.Conv`.
///
/// ```
/// use fulgurite_autodiff::vmap;
/// use fulgurite_jit::{Key, Tensor};
/// use fulgurite_trainer::nn::{Conv2d, ConvConfig};
///
/// fn features(images: &Tensor, key: Key) -> Tensor {
///     let layer = Conv2d::new(3, 16, [3, 3], ConvConfig { padding: 1.into(), ..ConvConfig::default() }, key);
///     vmap(|image: Tensor| layer.call(&image), 0)(images.clone()) // [n, 3, h, w] gives [n, 16, h, w]
/// }
/// ```
#[derive(Clone, Debug, Tree)]
pub struct Conv<const N: usize> {
    /// `[out, in / groups, …]`, as in Equinox and PyTorch.
    pub weight: Tensor,
    /// `[out, 1, …]`, where there is one.
    pub bias: Option<Tensor>,
    /// How it convolves.
    #[tree(static)]
    pub config: ConvConfig<N>,
}

/// A convolution of one spatial axis.
pub type Conv1d = Conv<1>;
/// A convolution of two spatial axes.
pub type Conv2d = Conv<2>;
/// A convolution of three spatial axes.
pub type Conv3d = Conv<3>;

impl<const N: usize> Conv<N> {
    /// From `inp` channels to `out`, by windows of these extents; weight and bias uniform in `±1/√(inp · window /
    /// groups)`: the numbers of `eqx.nn.Conv`.
    ///
    /// # Errors
    /// The weight stands for an error if the groups do not divide the channels.
    #[track_caller]
    pub fn new(inp: usize, out: usize, kernel_size: [usize; N], config: ConvConfig<N>, key: Key) -> Self {
        let (weight, bias) = weights("Conv", inp, out, kernel_size, &config, key, Location::caller());
        Conv { weight, bias, config }
    }

    /// `[in, …]` gives `[out, …]`, of the type that input and weight have in common.
    ///
    /// # Errors
    /// As [`conv_general_dilated`]; and if the padding is more than what it is taken from.
    #[track_caller]
    pub fn call(&self, x: &Tensor) -> Tensor {
        let ConvConfig { stride, padding, padding_mode, dilation, groups, .. } = &self.config;
        let (x, weight) = x.promoted(&self.weight);
        let fits = x.rank() == N + 1 && weight.rank() == N + 2;
        let how = |padding| How {
            window_strides: stride,
            padding,
            rhs_dilation: dilation,
            feature_group_count: *groups,
            ..How::default()
        };
        let y = if *padding_mode == PaddingMode::Zeros || !fits {
            convolved(&x, &weight, how(as_given(padding)))
        } else {
            let windows = windows(&weight, dilation);
            let pads = as_given(padding).pads(&x.shape()[1..], &windows, stride);
            convolved(&padded(&x, &pads, *padding_mode), &weight, how(Padding::Valid))
        };
        biased(y, self.bias.as_ref())
    }
}

/// The padding, as the functions have it.
fn as_given<const N: usize>(padding: &ConvPadding<N>) -> Padding<'_> {
    match padding {
        ConvPadding::Same => Padding::Same,
        ConvPadding::SameLower => Padding::SameLower,
        ConvPadding::Explicit(pads) => Padding::Explicit(pads),
    }
}

/// The extents of the windows of a weight, with their dilation.
fn windows(weight: &Tensor, dilation: &[usize]) -> Vec<usize> {
    let window = |(&k, &d): (&usize, &usize)| if k == 0 { 0 } else { (k - 1).saturating_mul(d).saturating_add(1) };
    weight.shape()[2..].iter().zip(dilation).map(window).collect()
}

/// One example convolved.
#[track_caller]
fn convolved(x: &Tensor, weight: &Tensor, how: How<'_>) -> Tensor {
    let y = conv_general_dilated(&x.expand_dims(0), weight, how);
    if y.error().is_some() { y } else { y.squeeze(0) }
}

#[track_caller]
fn biased(y: Tensor, bias: Option<&Tensor>) -> Tensor {
    match bias {
        Some(bias) => y + bias,
        None => y,
    }
}

/// Weight and bias of a layer, or the error of its groups.
fn weights<const N: usize>(
    name: &str,
    inp: usize,
    out: usize,
    kernel_size: [usize; N],
    config: &ConvConfig<N>,
    key: Key,
    location: &'static Location<'static>,
) -> (Tensor, Option<Tensor>) {
    let [weight_key, bias_key] = key.split();
    let &ConvConfig { groups, use_bias, dtype, .. } = config;
    let per_group = inp.checked_div(groups).unwrap_or(0);
    let mut shape = vec![out, per_group];
    shape.extend(kernel_size);
    let fan_in = per_group * kernel_size.iter().product::<usize>();
    let mut weight = uniform(&weight_key, &shape, fan_in, dtype);
    if groups == 0 || !inp.is_multiple_of(groups) || !out.is_multiple_of(groups) {
        let why = format!("{inp} and {out} channels do not divide into {groups} groups");
        weight = poison(weight.ty().clone(), Error::op(name, why, location));
    }
    let mut shape = [1; 8][..=N].to_vec();
    shape[0] = out;
    let bias = use_bias.then(|| uniform(&bias_key, &shape, fan_in, dtype));
    (weight, bias)
}

/// One example with so many elements more before and after each spatial axis, taken from it; negative numbers cut off.
#[track_caller]
fn padded(x: &Tensor, pads: &[(isize, isize)], mode: PaddingMode) -> Tensor {
    pads.iter().enumerate().fold(x.clone(), |x, (axis, &(low, high))| along(&x, axis + 1, [low, high], mode))
}

/// As [`padded`], along one axis: the pieces before and after, which may be longer than the axis.
#[track_caller]
fn along(x: &Tensor, axis: usize, [low, high]: [isize; 2], mode: PaddingMode) -> Tensor {
    let n = x.shape()[axis] as isize;
    let at = axis as isize;
    // What is cut off.
    let (first, last) = ((-low).clamp(0, n), n - (-high).clamp(0, n));
    if first > 0 || last < n {
        let inner = x.slice_in_dim(at, first as usize..last.max(first) as usize);
        return along(&inner, axis, [low.max(0), high.max(0)], mode);
    }
    if low == 0 && high == 0 {
        return x.clone();
    }
    let (before, after) = (low as usize, high as usize);
    let length = n as usize;
    let part = |range: std::ops::Range<usize>| x.slice_in_dim(at, range);
    let reversed = |x: Tensor| x.flip(at);
    let pieces: Vec<Tensor> = match mode {
        PaddingMode::Zeros => vec![x.clone()],
        _ if n == 0 => {
            let why = format!("{} has no elements along axis {axis} to pad with", x.ty());
            return poison(x.ty().clone(), Error::op("Conv", why, Location::caller()));
        }
        PaddingMode::Replicate => {
            let repeated = |x: Tensor, count: usize| {
                let mut shape = x.shape().to_vec();
                shape[axis] = count;
                x.broadcast_to(&shape)
            };
            vec![repeated(part(0..1), before), x.clone(), repeated(part(length - 1..length), after)]
        }
        // Whole turns, then a part of one.
        PaddingMode::Circular => {
            let turns = |count: usize| std::iter::repeat_n(x.clone(), count / length);
            let (head, tail) = (part(length - before % length..length), part(0..after % length));
            [head].into_iter().chain(turns(before)).chain([x.clone()]).chain(turns(after)).chain([tail]).collect()
        }
        PaddingMode::Reflect if length == 1 => return along(x, axis, [low, high], PaddingMode::Replicate),
        // There and back without the edges: a period of 2 (n - 1).
        PaddingMode::Reflect => {
            let most = length - 1;
            let (now, later) = ((before.min(most), after.min(most)), (before, after));
            let once = [reversed(part(1..now.0 + 1)), x.clone(), reversed(part(length - 1 - now.1..length - 1))];
            let whole = Tensor::concat(&once.iter().collect::<Vec<_>>(), at);
            if now == later {
                return whole;
            }
            let rest = [(later.0 - now.0) as isize, (later.1 - now.1) as isize];
            return along(&whole, axis, rest, mode);
        }
    };
    Tensor::concat(&pieces.iter().collect::<Vec<_>>(), at)
}

/// A transposed convolution of `N` spatial axes: `eqx.nn.ConvTranspose`. Its stride, padding and dilation are those of
/// the convolution that goes the other way, from the shape of its results to the shape of its examples.
///
/// ```
/// use fulgurite_jit::{Key, Tensor};
/// use fulgurite_trainer::nn::{ConvConfig, ConvTranspose2d};
///
/// fn twice_as_large(image: &Tensor, key: Key) -> Tensor {
///     let config = ConvConfig { stride: [2, 2], padding: 1.into(), ..ConvConfig::default() };
///     ConvTranspose2d::new(16, 3, [4, 4], [0, 0], config, key).call(image) // [16, h, w] gives [3, 2 h, 2 w]
/// }
/// ```
#[derive(Clone, Debug, Tree)]
pub struct ConvTranspose<const N: usize> {
    /// `[out, in / groups, …]`, as in Equinox.
    pub weight: Tensor,
    /// `[out, 1, …]`, where there is one.
    pub bias: Option<Tensor>,
    /// More padding after each axis: of the results, less than the stride, whose shape would be rounded down.
    #[tree(static)]
    pub output_padding: [usize; N],
    /// How it convolves.
    #[tree(static)]
    pub config: ConvConfig<N>,
}

/// A transposed convolution of one spatial axis.
pub type ConvTranspose1d = ConvTranspose<1>;
/// A transposed convolution of two spatial axes.
pub type ConvTranspose2d = ConvTranspose<2>;
/// A transposed convolution of three spatial axes.
pub type ConvTranspose3d = ConvTranspose<3>;

impl<const N: usize> ConvTranspose<N> {
    /// From `inp` channels to `out`, by windows of these extents, with the numbers of `eqx.nn.ConvTranspose`.
    ///
    /// # Errors
    /// The weight stands for an error if the groups do not divide the channels, if the output padding is not less than
    /// the stride, and, as in Equinox, for a padding mode other than zeros and circular, and for a circular one with
    /// explicit padding or output padding.
    #[track_caller]
    pub fn new(
        inp: usize,
        out: usize,
        kernel_size: [usize; N],
        output_padding: [usize; N],
        config: ConvConfig<N>,
        key: Key,
    ) -> Self {
        let location = Location::caller();
        let (mut weight, bias) = weights("ConvTranspose", inp, out, kernel_size, &config, key, location);
        let too_large = (0..N).any(|axis| output_padding[axis] >= config.stride[axis]);
        let why = match (config.padding_mode, config.padding) {
            _ if too_large => Some("the output padding is less than the stride"),
            (PaddingMode::Reflect | PaddingMode::Replicate, _) => Some("takes zeros or circular padding"),
            (PaddingMode::Circular, ConvPadding::Explicit(_)) => Some("circular padding is `Same` or `SameLower`"),
            (PaddingMode::Circular, _) if output_padding != [0; N] => Some("circular padding has no output padding"),
            _ => None,
        };
        if let (Some(why), None) = (why, weight.error()) {
            weight = poison(weight.ty().clone(), Error::op("ConvTranspose", why, location));
        }
        ConvTranspose { weight, bias, output_padding, config }
    }

    /// `[in, …]` gives `[out, …]`, of the type that input and weight have in common.
    ///
    /// # Errors
    /// As [`conv_general_dilated`].
    #[track_caller]
    pub fn call(&self, x: &Tensor) -> Tensor {
        let (mut x, weight) = x.promoted(&self.weight);
        if weight.rank() != N + 2 || x.rank() != N + 1 {
            return convolved(&x, &weight, How::default());
        }
        let ConvConfig { stride, padding_mode, dilation, groups, .. } = self.config;
        let mut pads = self.pads(&windows(&weight, &dilation));
        if padding_mode == PaddingMode::Circular {
            // Whole strides are elements of the example, the rest is between them.
            let whole: Vec<(isize, isize)> = pads
                .iter()
                .zip(stride)
                .map(|(pads, s)| (pads.0.div_euclid(s as isize), pads.1.div_euclid(s as isize)))
                .collect();
            x = padded(&x, &whole, padding_mode);
            pads.iter_mut().zip(stride).for_each(|(pads, s)| {
                *pads = (pads.0.rem_euclid(s as isize), pads.1.rem_euclid(s as isize));
            });
        }
        let how = How {
            padding: Padding::Explicit(&pads),
            lhs_dilation: &stride,
            rhs_dilation: &dilation,
            feature_group_count: groups,
            ..How::default()
        };
        biased(convolved(&x, &weight, how), self.bias.as_ref())
    }

    /// The padding of the dilated example, for windows of these extents: Dumoulin and Visin, "A guide to convolution
    /// arithmetic for deep learning" (2016), relationship 14. `Same` padding is that of a convolution whose results
    /// the examples would be.
    fn pads(&self, windows: &[usize]) -> [(isize, isize); N] {
        let ConvConfig { stride, padding, .. } = &self.config;
        std::array::from_fn(|axis| {
            let (reach, stride) = (windows[axis] as isize - 1, stride[axis] as isize);
            let mut more = self.output_padding[axis] as isize;
            let (low, high) = match padding {
                ConvPadding::Explicit(pads) => pads[axis],
                ConvPadding::Same | ConvPadding::SameLower => {
                    let total = reach - stride + more + 1;
                    more = (-total).max(0);
                    let total = total.max(0);
                    let low = (total + isize::from(*padding == ConvPadding::SameLower)) / 2;
                    (low, total - low)
                }
            };
            (reach - low, reach - high + more)
        })
    }
}

//! Normalisation of an example by its mean and variance, as in Equinox: layer, root mean square and group norm.
//!
//! Batch norm, which looks at a whole batch and keeps state, is in `batch_norm.rs`.

use std::panic::Location;

use fulgurite_jit::{DType, Error, Tensor, Tree};

/// What is added to variances, as in Equinox.
const EPS: f64 = 1e-5;

/// Layer norm (Ba et al., arXiv 1607.06450): mean 0 and variance 1 over the last axes, then a learned scale and shift.
///
/// ```
/// use fulgurite_jit::{Key, Tensor};
/// use fulgurite_trainer::nn::LayerNorm;
///
/// let norm = LayerNorm::new(&[64]);
/// let x = Key::new(0).normal(&[8, 64]);
/// assert_eq!(norm.call(&x).shape(), [8, 64]);
/// ```
#[derive(Clone, Debug, Tree)]
pub struct LayerNorm {
    /// The scale, of the shape that is normalised.
    pub weight: Option<Tensor>,
    /// The shift, of that shape.
    pub bias: Option<Tensor>,
    /// The extents of the last axes, over which the mean is taken.
    #[tree(static)]
    pub shape: Vec<usize>,
    /// Added to the variance.
    #[tree(static)]
    pub eps: f64,
}

impl LayerNorm {
    /// Over the last axes, of these extents, with a scale of 1 and a shift of 0, f32.
    pub fn new(shape: &[usize]) -> Self {
        LayerNorm {
            weight: Some(Tensor::ones(shape)),
            bias: Some(Tensor::zeros(shape)),
            ..LayerNorm::without_affine(shape)
        }
    }

    /// Without scale and shift.
    pub fn without_affine(shape: &[usize]) -> Self {
        LayerNorm { weight: None, bias: None, shape: shape.to_vec(), eps: EPS }
    }

    /// `[…, shape]` gives the same shape.
    #[track_caller]
    pub fn call(&self, x: &Tensor) -> Tensor {
        if let Some(failed) = wrong_shape("layer_norm", x, &self.shape, Location::caller()) {
            return failed;
        }
        affine(normalised(x, self.shape.len(), self.eps), self.weight.as_ref(), self.bias.as_ref())
    }
}

/// Root mean square norm (Zhang and Sennrich, arXiv 1910.07467): a mean square of 1 over the last axes, then a learned
/// scale (and shift, if there is one).
#[derive(Clone, Debug, Tree)]
pub struct RmsNorm {
    /// The scale, of the shape that is normalised.
    pub weight: Option<Tensor>,
    /// The shift, of that shape.
    pub bias: Option<Tensor>,
    /// The extents of the last axes, over which the mean is taken.
    #[tree(static)]
    pub shape: Vec<usize>,
    /// Added to the mean square.
    #[tree(static)]
    pub eps: f64,
}

impl RmsNorm {
    /// Over the last axes, of these extents, with a scale of 1 and without a shift, f32.
    pub fn new(shape: &[usize]) -> Self {
        RmsNorm { weight: Some(Tensor::ones(shape)), bias: None, shape: shape.to_vec(), eps: EPS }
    }

    /// `[…, shape]` gives the same shape.
    #[track_caller]
    pub fn call(&self, x: &Tensor) -> Tensor {
        if let Some(failed) = wrong_shape("rms_norm", x, &self.shape, Location::caller()) {
            return failed;
        }
        let scale = (x.square().mean_keep(&last(self.shape.len())[..]) + self.eps).rsqrt();
        affine(x * scale, self.weight.as_ref(), self.bias.as_ref())
    }
}

/// Group norm (Wu and He, arXiv 1803.08494): mean 0 and variance 1 over groups of the channels of one example, then a
/// learned scale and shift for each channel.
#[derive(Clone, Debug, Tree)]
pub struct GroupNorm {
    /// `[channels]`.
    pub weight: Option<Tensor>,
    /// `[channels]`.
    pub bias: Option<Tensor>,
    /// How many groups the channels are divided into.
    #[tree(static)]
    pub groups: usize,
    /// Added to the variance.
    #[tree(static)]
    pub eps: f64,
}

impl GroupNorm {
    /// `groups` groups of `channels` channels, with a scale of 1 and a shift of 0, f32.
    pub fn new(groups: usize, channels: usize) -> Self {
        let (weight, bias) = (Tensor::ones(&[channels]), Tensor::zeros(&[channels]));
        GroupNorm { weight: Some(weight), bias: Some(bias), groups, eps: EPS }
    }

    /// One example `[channels, …]`, which the number of groups divides; use `vmap` for a batch.
    #[track_caller]
    pub fn call(&self, x: &Tensor) -> Tensor {
        let channels = x.shape().first().copied().unwrap_or(0);
        let has_channels = |w: &Option<Tensor>| w.as_ref().is_none_or(|w| w.shape() == [channels]);
        let fits = self.groups > 0 && channels.is_multiple_of(self.groups) && x.rank() > 0;
        if x.error().is_none() && !(fits && has_channels(&self.weight) && has_channels(&self.bias)) {
            let of = self.weight.as_ref().map_or(String::new(), |w| format!(" of {}", w.ty()));
            let why = format!("{} has no {} equal groups of channels{of} along its first axis", x.ty(), self.groups);
            return Tensor::failed(x.ty().clone(), Error::op("group_norm", why, Location::caller()));
        }
        let mut grouped = x.shape().to_vec();
        grouped.splice(..1, [self.groups, channels.checked_div(self.groups).unwrap_or(0)]);
        let y = normalised(&x.reshape(&grouped), x.rank(), self.eps).reshape(x.shape());
        let along_channels = |w: &Tensor| {
            let mut shape = vec![1; x.rank()];
            shape[0] = channels;
            w.reshape(&shape)
        };
        affine(y, self.weight.as_ref().map(along_channels).as_ref(), self.bias.as_ref().map(along_channels).as_ref())
    }
}

/// The last `count` axes.
fn last(count: usize) -> Vec<isize> {
    (-(count as isize)..0).collect()
}

/// Mean 0 and variance 1 over the last axes.
#[track_caller]
fn normalised(x: &Tensor, axes: usize, eps: f64) -> Tensor {
    let axes = last(axes);
    (x - x.mean_keep(&axes[..])) * (x.var_keep(&axes[..]) + eps).rsqrt()
}

#[track_caller]
fn affine(x: Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Tensor {
    let x = weight.map_or(x.clone(), |weight| x * weight);
    bias.map_or(x.clone(), |bias| x + bias)
}

/// The poisoned result if the last axes of `x` have other extents.
fn wrong_shape(op: &str, x: &Tensor, shape: &[usize], at: &'static Location<'static>) -> Option<Tensor> {
    if x.error().is_some() || (x.shape().ends_with(shape) && x.dtype().is_float()) {
        return None;
    }
    let why = format!("takes floats whose last axes are {shape:?}, not {}", x.ty());
    let dtype = if x.dtype().is_float() { x.dtype() } else { DType::F32 };
    Some(Tensor::failed(x.ty().with_dtype(dtype), Error::op(op, why, at)))
}

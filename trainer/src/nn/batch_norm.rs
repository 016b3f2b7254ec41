//! Batch norm: the statistics of a batch in training, running means of them afterwards.

use std::panic::Location;

use fulgurite_jit::{Error, Tensor, Tree};

use crate::module::StepCx;

/// Batch norm (Ioffe and Szegedy, arXiv 1502.03167): each channel has mean 0 and variance 1 over the batch and the
/// axes behind the channels, then a learned scale and shift.
///
/// The running statistics are leaves of the model that the optimiser does not train: [`BatchNorm::train`] sets them by
/// [`StepCx::set`], [`BatchNorm::call`] reads them.
///
/// ```
/// use fulgurite_jit::{Key, Tensor, Tree, relu};
/// use fulgurite_trainer::nn::{BatchNorm, Linear};
/// use fulgurite_trainer::{LightningModule, Optimizer, StepCx, optim::sgd};
///
/// #[derive(Tree, Clone)]
/// struct Net { hidden: Linear, norm: BatchNorm }
///
/// #[derive(Clone)]
/// struct Fit;
///
/// impl LightningModule for Fit {
///     type Model = Net;
///     type Batch = Tensor; // [batch, 4]
///     fn init(&self, key: Key) -> Net { Net { hidden: Linear::new(4, 8, key), norm: BatchNorm::new(8) } }
///     fn configure_optimizers(&self) -> impl Optimizer { sgd(0.1) }
///     fn training_step(&self, net: &Net, x: &Tensor, cx: &mut StepCx) -> Tensor {
///         relu(&net.norm.train(&net.hidden.call(x), cx)).mean()
///     }
///     fn validation_step(&self, net: &Net, x: &Tensor, cx: &mut StepCx) {
///         cx.log("val_loss", relu(&net.norm.call(&net.hidden.call(x))).mean());
///     }
/// }
/// ```
#[derive(Clone, Debug, Tree)]
pub struct BatchNorm {
    /// The scale, `[channels]`.
    pub weight: Tensor,
    /// The shift, `[channels]`.
    pub bias: Tensor,
    /// The running mean of the means, `[channels]`.
    pub running_mean: Tensor,
    /// The running mean of the (biased) variances, `[channels]`.
    pub running_var: Tensor,
    /// The axis of the channels.
    #[tree(static)]
    pub axis: isize,
    /// How much of the running statistics a step keeps.
    #[tree(static)]
    pub momentum: f64,
    /// Added to the variance.
    #[tree(static)]
    pub eps: f64,
}

impl BatchNorm {
    /// For batches `[batch, channels, …]`, f32, with the momentum 0.99 of Flax, whose running statistics these are.
    pub fn new(channels: usize) -> Self {
        let (ones, zeros) = (Tensor::ones(&[channels]), Tensor::zeros(&[channels]));
        BatchNorm {
            weight: ones.clone(),
            bias: zeros.clone(),
            running_mean: zeros,
            running_var: ones,
            axis: 1,
            momentum: 0.99,
            eps: 1e-5,
        }
    }

    /// The same with the channels along another axis: -1 for `[batch, …, channels]`.
    pub fn along(self, axis: isize) -> Self {
        BatchNorm { axis, ..self }
    }

    /// The same with another momentum: the part of the running statistics that a step keeps.
    pub fn momentum(self, momentum: f64) -> Self {
        BatchNorm { momentum, ..self }
    }

    /// Normalises a batch by its own statistics, and moves the running ones towards them. The result has the shape of
    /// `x`.
    #[track_caller]
    pub fn train(&self, x: &Tensor, cx: &mut StepCx) -> Tensor {
        let Some(others) = self.other_axes(x) else { return self.wrong_shape(x, Location::caller()) };
        let (mean, var) = (x.mean_keep(&others[..]), x.var_keep(&others[..]));
        for (running, of_batch) in [(&self.running_mean, &mean), (&self.running_var, &var)] {
            let of_batch = of_batch.reshape(running.shape()).stop_gradient();
            let next = running * self.momentum + of_batch * (1.0 - self.momentum);
            cx.set(running, next.convert(running.dtype()));
        }
        self.apply(x, &mean, &var)
    }

    /// Normalises by the running statistics. The result has the shape of `x`.
    #[track_caller]
    pub fn call(&self, x: &Tensor) -> Tensor {
        if self.other_axes(x).is_none() {
            return self.wrong_shape(x, Location::caller());
        }
        let [mean, var] = [&self.running_mean, &self.running_var].map(|x| x.stop_gradient());
        self.apply(x, &self.along_channels(x, &mean), &self.along_channels(x, &var))
    }

    #[track_caller]
    fn apply(&self, x: &Tensor, mean: &Tensor, var: &Tensor) -> Tensor {
        let scale = (var + self.eps).rsqrt() * self.along_channels(x, &self.weight);
        (x - mean) * scale + self.along_channels(x, &self.bias)
    }

    /// A value for each channel as one that broadcasts against `x`.
    #[track_caller]
    fn along_channels(&self, x: &Tensor, of_channels: &Tensor) -> Tensor {
        let mut shape = vec![1; x.rank()];
        if let Some(axis) = self.axis_of(x) {
            shape[axis] = of_channels.elements();
        }
        of_channels.reshape(&shape)
    }

    fn axis_of(&self, x: &Tensor) -> Option<usize> {
        let rank = x.rank() as isize;
        let axis = if self.axis < 0 { self.axis + rank } else { self.axis };
        (0..rank).contains(&axis).then_some(axis as usize)
    }

    /// The axes that are not the channels'; `None` if `x` has other channels.
    fn other_axes(&self, x: &Tensor) -> Option<Vec<isize>> {
        let axis = self.axis_of(x)?;
        let fits = x.dtype().is_float() && self.weight.shape() == [x.shape()[axis]];
        fits.then(|| (0..x.rank() as isize).filter(|&other| other != axis as isize).collect())
    }

    #[cold]
    fn wrong_shape(&self, x: &Tensor, at: &'static Location<'static>) -> Tensor {
        if x.error().is_some() {
            return x.clone();
        }
        let channels = self.weight.elements();
        let why = format!("takes floats with {channels} channels along axis {}, not {}", self.axis, x.ty());
        Tensor::failed(x.ty().clone(), Error::op("batch_norm", why, at))
    }
}

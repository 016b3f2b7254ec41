//! `cnn`: three convolutions, each with batch norm and relu, the mean over each image, and a linear map.

use fulgurite::conv::{Conv, Padding, conv_general_dilated};
use fulgurite::prelude::*;
use fulgurite::{Lowered, relu};

use super::{Run, look, start};

/// Kernel, scale and shift of each convolution; weight and bias of the head.
type Params = (Vec<(Tensor, Tensor, Tensor)>, (Tensor, Tensor));

/// The channels of the convolutions, the first ones those of the images.
const CHANNELS: [usize; 4] = [3, 16, 32, 64];

/// Rows and columns of an image.
const SIDE: usize = 32;

fn state(batch: usize) -> (Params, (Tensor, Tensor)) {
    let layer = |(n, io): (usize, &[usize])| {
        let kernel = Key::new(n as u64).normal(&[io[1], io[0], 3, 3]) / (9.0 * io[0] as f64).sqrt();
        (kernel, Tensor::ones(&[io[1]]), Tensor::zeros(&[io[1]]))
    };
    let layers = CHANNELS.windows(2).enumerate().map(layer).collect();
    let last = CHANNELS[CHANNELS.len() - 1];
    let head = (Key::new(9).normal(&[last, 10]) / (last as f64).sqrt(), Tensor::zeros(&[10]));
    let images = Key::new(11).normal(&[batch, CHANNELS[0], SIDE, SIDE]);
    ((layers, head), (images, Key::new(12).randint(&[batch], 0, 10)))
}

fn loss((layers, (w, b)): &Params, (images, labels): &(Tensor, Tensor)) -> Tensor {
    let mut x = images.clone();
    for (n, (kernel, scale, shift)) in layers.iter().enumerate() {
        let strides = if n == 0 { [1, 1] } else { [2, 2] };
        let how = Conv { window_strides: &strides, padding: Padding::Same, ..Conv::default() };
        x = conv_general_dilated(&x, kernel, how);
        let channel = |v: &Tensor| v.reshape(&[1, v.elements(), 1, 1]);
        let mean = x.mean_axes([0, 2, 3]);
        let centred = &x - channel(&mean);
        let var = centred.square().mean_axes([0, 2, 3]);
        x = relu(&(centred * channel(&(var + 1e-5).rsqrt()) * channel(scale) + channel(shift)));
    }
    let logits = x.mean_axes([2, 3]).matmul(w) + b;
    fulgurite::trainer::loss::cross_entropy(&logits, labels).mean()
}

/// A step of so many images.
pub(super) fn with_batch(batch: usize) -> Run {
    let (params, data) = state(batch);
    start(params, data, 1e-3, loss)
}

/// Every stage of the step.
pub(super) fn lowered() -> Result<Lowered> {
    let (params, data) = state(16);
    look(params, data, 1e-3, loss)
}

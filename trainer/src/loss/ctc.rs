//! Connectionist temporal classification (Graves et al., ICML 2006), as `optax.ctc_loss` defines it: logits of frames
//! and labels come in, a loss for each sequence goes out. It is a `scan` over frames, with derivatives.

use std::panic::Location;

use fulgurite_jit::{DType, Tensor, einsum, log_softmax, one_hot_as, scan};

/// The blank label's number and the logarithm that stands for 0. The default is Optax's: 0 and -1e5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ctc {
    /// The class that means "no label".
    pub blank_id: usize,
    /// The logarithm of the probability of what is impossible.
    pub log_epsilon: f64,
}

impl Default for Ctc {
    fn default() -> Self {
        Ctc { blank_id: 0, log_epsilon: -1e5 }
    }
}

/// `optax.ctc_loss` with its defaults: see [`Ctc::loss`].
///
/// ```
/// # use fulgurite_jit::Tensor;
/// # use fulgurite_trainer::loss::ctc_loss;
/// fn loss(logits: &Tensor, logit_paddings: &Tensor, labels: &Tensor, label_paddings: &Tensor) -> Tensor {
///     ctc_loss(logits, logit_paddings, labels, label_paddings).mean()
/// }
/// ```
#[track_caller]
pub fn ctc_loss(logits: &Tensor, logit_paddings: &Tensor, labels: &Tensor, label_paddings: &Tensor) -> Tensor {
    Ctc::default().loss(logits, logit_paddings, labels, label_paddings)
}

impl Ctc {
    /// The negative log-likelihood of each sequence of labels. Logits `[batch, frames, classes]`, labels `[batch, n]`
    /// (integers), and paddings, floats of the shapes `[batch, frames]` and `[batch, n]`, 1 behind the end of a
    /// sequence and 0 before, give `[batch]`.
    ///
    /// # Errors
    /// The result stands for an error if the shapes do not match or `blank_id` is no class.
    #[track_caller]
    pub fn loss(self, logits: &Tensor, logit_paddings: &Tensor, labels: &Tensor, label_paddings: &Tensor) -> Tensor {
        let fits = match (logits.shape(), labels.shape()) {
            (&[batch, frames, classes], &[of_labels, n]) => {
                batch == of_labels
                    && logit_paddings.shape() == [batch, frames]
                    && label_paddings.shape() == [batch, n]
                    && self.blank_id < classes
            }
            _ => false,
        };
        let failed = [logits, logit_paddings, labels, label_paddings].into_iter().find(|x| x.error().is_some());
        if let Some(failed) = failed {
            return failed.clone();
        }
        if !fits || !logits.dtype().is_float() || !labels.dtype().is_int() {
            let why = format!(
                "takes logits [batch, frames, classes] and labels [batch, n] with paddings of [batch, frames] and \
                 [batch, n], here {} and {}, and a blank that is a class",
                logit_paddings.ty(),
                label_paddings.ty()
            );
            return super::failed("ctc_loss", logits, labels, &why, Location::caller());
        }
        let (dtype, epsilon) = (logits.dtype(), self.log_epsilon);
        let (batch, classes, n) = (logits.shape()[0], logits.shape()[2], labels.shape()[1]);
        let logs = log_softmax(logits, -1);
        // What a frame gives to a blank, and to each label: frames come first.
        let blanks = logs.slice_in_dim(2, self.blank_id..self.blank_id + 1).transpose(&[1, 0, 2]);
        let emits = einsum("btk,bnk->tbn", &[&logs, &one_hot_as(labels, classes, dtype)]);
        // Between two equal labels there has to be a blank.
        let repeats = match n {
            0 => Tensor::full(&[batch, 0], 0.0, dtype),
            _ => {
                let same = labels.slice_in_dim(1, 0..n - 1).equal(labels.slice_in_dim(1, 1..n));
                same.convert(dtype).pad(0.0, &[0, 0], &[0, 1], &[0, 0])
            }
        };
        let add = |phi: &Tensor, scores: &Tensor| {
            Tensor::concat(&[&phi.slice_in_dim(1, 0..1), &logaddexp(&phi.slice_in_dim(1, 1..n + 1), scores)], 1)
        };
        let first = Tensor::iota(DType::I32, &[batch, n + 1], 1).equal(0);
        let init = (
            first.select(0.0, Tensor::full(&[batch, n + 1], epsilon, dtype)),
            Tensor::full(&[batch, n], epsilon, dtype),
        );
        let frames = (emits, blanks, logit_paddings.convert(dtype).t().expand_dims(-1));
        let ((phi, emit), ()) = scan(
            |(phi, emit): (Tensor, Tensor), (log_emit, log_blank, pad): (Tensor, Tensor, Tensor)| {
                let after = add(&phi, &(&emit + &repeats * epsilon));
                let next_emit = logaddexp(&(after.slice_in_dim(1, 0..n) + &log_emit), &(&emit + &log_emit));
                let by_blank = &emit + &log_blank + (1.0 - &repeats) * epsilon;
                let next_phi = add(&(after + &log_blank), &by_blank);
                let keep = |old: &Tensor, new: Tensor| &pad * old + (1.0 - &pad) * new;
                ((keep(&phi, next_phi), keep(&emit, next_emit)), ())
            },
            init,
            frames,
        );
        let last = add(&phi, &emit);
        let lengths = (label_paddings.convert(dtype).sum_axes(1) * -1.0 + n as f64).convert(DType::I32);
        -(last * one_hot_as(&lengths, n + 1, dtype)).sum_axes(1)
    }
}

/// `log(eˣ + eʸ)`. The greater one's derivative is 1 less that of the other, which is exact.
fn logaddexp(x: &Tensor, y: &Tensor) -> Tensor {
    let greater = x.greater(y);
    let (high, low) = (greater.select(x, y), greater.select(y, x));
    &high + (low - &high).softplus()
}

//! Functions made of logarithms and exponentials: entropies, log-odds, sums of exponentials.

use std::f64::consts::{LN_2, PI};

use super::super::operand::IntoAxes;
use super::super::tensor::Tensor;
use super::{common, polynomial};
use crate::graph::ReduceOp;
use crate::types::DType;

/// `ln(p / (1 - p))`.
#[track_caller]
pub fn logit(p: &Tensor) -> Tensor {
    let p = &p.inexact();
    (p / (1.0_f64 - p)).log()
}

/// `1 / (1 + e^-x)`: [`Tensor::sigmoid`].
#[track_caller]
pub fn expit(x: &Tensor) -> Tensor {
    x.inexact().sigmoid()
}

/// `x ln y`; 0 for `x = 0` unless `y` is NaN. The derivative with respect to `x` is `ln y` there too.
#[track_caller]
pub fn xlogy(x: &Tensor, y: &Tensor) -> Tensor {
    match common("xlogy", [x, y]) {
        Ok([x, y]) => {
            let unbounded = y.less_equal(0.0).or(y.equal(f64::INFINITY));
            let y = x.equal(0.0).and(unbounded).select(1.0, y);
            x * y.log()
        }
        Err(poisoned) => poisoned,
    }
}

/// `x ln(1 + y)`; 0 for `x = 0` unless `y` is NaN. The derivative with respect to `x` is `ln(1 + y)` there too.
#[track_caller]
pub fn xlog1py(x: &Tensor, y: &Tensor) -> Tensor {
    match common("xlog1py", [x, y]) {
        Ok([x, y]) => {
            let unbounded = y.less_equal(-1.0).or(y.equal(f64::INFINITY));
            let y = x.equal(0.0).and(unbounded).select(0.0, y);
            x * y.log1p()
        }
        Err(poisoned) => poisoned,
    }
}

/// `-x ln x`, 0 at 0 and minus infinity below.
#[track_caller]
pub fn entr(x: &Tensor) -> Tensor {
    let x = &x.inexact();
    x.less(0.0).select(f64::NEG_INFINITY, -xlogy(x, x))
}

/// `p ln(p / q)`; 0 for `p = 0 <= q`, infinite elsewhere.
#[track_caller]
pub fn rel_entr(p: &Tensor, q: &Tensor) -> Tensor {
    match common("rel_entr", [p, q]) {
        Ok([p, q]) => {
            let inside = p.greater(0.0).and(q.greater(0.0));
            let [safe_p, safe_q] = [&p, &q].map(|x| inside.select(x, 1.0));
            let border = p.equal(0.0).and(q.greater_equal(0.0));
            let outside = border.select(p.zeros_like(), f64::INFINITY);
            inside.select(xlogy(&safe_p, &safe_p) - xlogy(&safe_p, &safe_q), outside)
        }
        Err(poisoned) => poisoned,
    }
}

/// `rel_entr(p, q) - p + q`, a term of the divergence of Kullback and Leibler.
#[track_caller]
pub fn kl_div(p: &Tensor, q: &Tensor) -> Tensor {
    match common("kl_div", [p, q]) {
        Ok([p, q]) => rel_entr(&p, &q) - p + q,
        Err(poisoned) => poisoned,
    }
}

/// The transformation of Box and Cox: `(x^lambda - 1) / lambda`, or `ln x` for `lambda = 0`.
#[track_caller]
pub fn boxcox(x: &Tensor, lambda: &Tensor) -> Tensor {
    match common("boxcox", [x, lambda]) {
        Ok([x, lambda]) => transformed(&x.log(), &lambda),
        Err(poisoned) => poisoned,
    }
}

/// [`boxcox`] of `1 + x`.
#[track_caller]
pub fn boxcox1p(x: &Tensor, lambda: &Tensor) -> Tensor {
    match common("boxcox1p", [x, lambda]) {
        Ok([x, lambda]) => transformed(&x.log1p(), &lambda),
        Err(poisoned) => poisoned,
    }
}

fn transformed(log: &Tensor, lambda: &Tensor) -> Tensor {
    let zero = lambda.equal(0.0);
    let safe = zero.select(1.0, lambda);
    zero.select(log, (log * &safe).expm1() / safe)
}

/// `ln(1 - e^-x)` for a positive `x`: `jax.nn.log1mexp`.
///
/// By `expm1` below `ln 2` and by `log1p` beyond (Mächler, "Accurately computing log(1 - exp(-|a|))", 2012).
#[track_caller]
pub fn log1mexp(x: &Tensor) -> Tensor {
    let x = &x.inexact();
    let near = x.less(LN_2);
    let (small, large) = (near.select(x, 0.5), near.select(1.0, x));
    near.select((-(-small).expm1()).log(), (-(-large).exp()).log1p())
}

/// `ln(e^x + e^y)` without overflow.
#[track_caller]
pub fn logaddexp(x: &Tensor, y: &Tensor) -> Tensor {
    match common("logaddexp", [x, y]) {
        Ok([x, y]) => Tensor::stack(&[&x, &y], 0).logsumexp(0),
        Err(poisoned) => poisoned,
    }
}

/// `log2(2^x + 2^y)` without overflow.
#[track_caller]
pub fn logaddexp2(x: &Tensor, y: &Tensor) -> Tensor {
    match common("logaddexp2", [x, y]) {
        Ok([x, y]) => {
            let both = Tensor::stack(&[&x, &y], 0);
            let max = both.max_keep(0).stop_gradient();
            let max = max.is_finite().select(&max, 0.0);
            let shape = x.shape().to_vec();
            (both - &max).exp2().sum_axes(0).log() / LN_2 + max.reshape(&shape)
        }
        Err(poisoned) => poisoned,
    }
}

/// `√(x^2 + y^2)` without overflow: `jax.numpy.hypot`.
#[track_caller]
pub fn hypot(x: &Tensor, y: &Tensor) -> Tensor {
    match common("hypot", [x, y]) {
        Ok([x, y]) => {
            let (x, y) = (x.abs(), y.abs());
            let infinite = x.equal(f64::INFINITY).or(y.equal(f64::INFINITY));
            let (large, small) = (x.maximum(&y), x.minimum(&y));
            let zero = large.equal(0.0);
            let ratio = small / zero.select(1.0, &large);
            let value = zero.select(&large, &large * (ratio.square() + 1.0).sqrt());
            infinite.select(f64::INFINITY, value)
        }
        Err(poisoned) => poisoned,
    }
}

/// `sin(pi x) / (pi x)`, 1 at 0: `jax.numpy.sinc`. Near 0 by its series, so that all derivatives exist there.
#[track_caller]
pub fn sinc(x: &Tensor) -> Tensor {
    let x = &x.inexact();
    let dtype = x.dtype();
    let near = x.abs().less(0.3);
    let far = near.select(1.0, x) * PI;
    // Σ (-(pi x)^2)^k / (2k + 1)!
    let mut term = 1.0;
    let mut terms: Vec<f64> = (0..11)
        .map(|k| {
            let now = term;
            term /= -f64::from((2 * k + 2) * (2 * k + 3));
            now
        })
        .collect();
    terms.reverse();
    let square = (near.select(x, 0.0) * PI).square().convert(DType::F64);
    near.select(polynomial(&square, &terms).convert(dtype), far.sin() / far)
}

/// `ln Σ b e^x` with the options of `jax.scipy.special.logsumexp`. [`Tensor::logsumexp`] has none.
///
/// ```
/// use fulgurite_jit::{Tensor, special::LogSumExp};
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let x = Tensor::from_vec(&[2], vec![3.0f32, 1.0]).unwrap();
/// let b = Tensor::from_vec(&[2], vec![1.0f32, -1.0]).unwrap();
/// // ln(e^3 - e^1), and the sign of the difference.
/// let (log, sign) = LogSumExp { b: Some(&b), ..LogSumExp::default() }.with_sign(&x, 0);
/// # vec![log, sign]
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LogSumExp<'a> {
    /// The factors of the exponentials.
    pub b: Option<&'a Tensor>,
    /// Which elements are summed.
    pub mask: Option<&'a Tensor>,
    /// Whether the axes stay, with extent 1.
    pub keepdims: bool,
}

impl LogSumExp<'_> {
    /// The logarithm of the sum over `axes`: NaN where the sum is negative.
    #[track_caller]
    pub fn of(self, x: &Tensor, axes: impl IntoAxes + Clone) -> Tensor {
        let (log, sign) = self.with_sign(x, axes);
        if self.b.is_none() { log } else { sign.less(0.0).select(f64::NAN, log) }
    }

    /// The logarithm of the magnitude of the sum over `axes`, and its sign.
    #[track_caller]
    pub fn with_sign(self, x: &Tensor, axes: impl IntoAxes + Clone) -> (Tensor, Tensor) {
        let mut x = x.inexact();
        let mut b = None;
        if let Some(factors) = self.b {
            match common("logsumexp", [&x, factors]) {
                Ok([value, factors]) => {
                    x = factors.equal(0.0).select(f64::NEG_INFINITY, value);
                    b = Some(factors);
                }
                Err(poisoned) => return (poisoned.clone(), poisoned),
            }
        }
        if let Some(mask) = self.mask {
            x = mask.select(x, f64::NEG_INFINITY);
        }
        let max = x.reduce_keep(ReduceOp::Max, axes.clone()).stop_gradient();
        let max = max.is_finite().select(&max, 0.0);
        let mut exp = (x - &max).exp();
        if let Some(b) = b {
            exp = exp * b;
        }
        if let Some(mask) = self.mask {
            exp = mask.select(exp, 0.0);
        }
        let sum = exp.reduce_keep(ReduceOp::Sum, axes.clone());
        let sign = sum.sign();
        let log = sum.abs().log() + max;
        if self.keepdims {
            return (log, sign);
        }
        // Each axis has extent 1 now.
        (log.reduce(ReduceOp::Max, axes.clone()), sign.reduce(ReduceOp::Max, axes))
    }
}

//! Initial values of parameters, with the definitions and the bits of `jax.nn.initializers`.
//!
//! An [`Initializer`] is a recipe; a key and a shape come in, a tensor goes out.

use std::panic::Location;

use fulgurite_jit::random::Key;
use fulgurite_jit::{DType, Error, Tensor, TensorType};

/// How to draw a tensor of parameters. [`Initializer::init`] draws it.
///
/// ```
/// use fulgurite_jit::Key;
/// use fulgurite_trainer::nn::initializers::{glorot_uniform, he_normal};
///
/// let weight = glorot_uniform().init(&Key::new(0), &[128, 64]);
/// // A kernel of a convolution, [out, in, height, width].
/// let kernel = he_normal().in_axis([1]).out_axis([0]).init(&Key::new(1), &[32, 16, 3, 3]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Initializer {
    values: Values,
    in_axis: Vec<isize>,
    out_axis: Vec<isize>,
    batch_axis: Vec<isize>,
}

#[derive(Clone, Debug, PartialEq)]
enum Values {
    Constant(f64),
    Uniform(f64),
    Normal(f64),
    TruncatedNormal { stddev: f64, lower: f64, upper: f64 },
    VarianceScaling { scale: f64, mode: Fan, distribution: Distribution },
    Orthogonal { scale: f64, at_centre: bool },
}

/// What the variance of [`variance_scaling`] is inverse to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fan {
    /// The number of inputs.
    In,
    /// The number of outputs.
    Out,
    /// Their mean.
    Avg,
    /// Their geometric mean.
    GeoAvg,
}

/// The distribution of [`variance_scaling`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Normal, cut at two standard deviations, and scaled to the variance.
    TruncatedNormal,
    /// Normal.
    Normal,
    /// Uniform around 0.
    Uniform,
}

impl Initializer {
    fn new(values: Values) -> Self {
        Initializer { values, in_axis: vec![-2], out_axis: vec![-1], batch_axis: Vec::new() }
    }

    /// The axes of inputs, -2 unless given. Axes that are none of the three kinds are places of a kernel.
    #[must_use]
    pub fn in_axis(mut self, axes: impl Into<Vec<isize>>) -> Self {
        self.in_axis = axes.into();
        self
    }

    /// The axes of outputs, -1 unless given.
    #[must_use]
    pub fn out_axis(mut self, axes: impl Into<Vec<isize>>) -> Self {
        self.out_axis = axes.into();
        self
    }

    /// The axes that number independent tensors, none unless given.
    #[must_use]
    pub fn batch_axis(mut self, axes: impl Into<Vec<isize>>) -> Self {
        self.batch_axis = axes.into();
        self
    }

    /// f32 of `shape`.
    ///
    /// # Errors
    /// The result stands for an error if the shape does not have the axes.
    #[track_caller]
    pub fn init(&self, key: &Key, shape: &[usize]) -> Tensor {
        self.init_as(key, shape, DType::F32)
    }

    /// As [`Initializer::init`], of a float type.
    #[track_caller]
    pub fn init_as(&self, key: &Key, shape: &[usize], dtype: DType) -> Tensor {
        match self.values {
            Values::Constant(value) => Tensor::full(shape, value, dtype),
            Values::Uniform(scale) => key.uniform_as(shape, 0.0, 1.0, dtype) * scale,
            Values::Normal(stddev) => key.normal_as(shape, dtype) * stddev,
            Values::TruncatedNormal { stddev, lower, upper } => {
                // The deviation is that of the truncated distribution's parent, as in JAX.
                key.truncated_normal_as(shape, lower, upper, dtype) * stddev
            }
            Values::Orthogonal { scale, at_centre } => {
                orthogonal_of(key, shape, scale, at_centre, self.out_axis.first().copied().unwrap_or(-1), dtype)
                    .unwrap_or_else(|why| {
                        let error = Error::op("orthogonal", why, Location::caller());
                        Tensor::failed(TensorType::new(dtype, shape), error)
                    })
            }
            Values::VarianceScaling { scale, mode, distribution } => {
                let denominator = match self.fans(shape) {
                    Ok((fan_in, fan_out)) => match mode {
                        Fan::In => fan_in,
                        Fan::Out => fan_out,
                        Fan::Avg => (fan_in + fan_out) / 2.0,
                        Fan::GeoAvg => (fan_in * fan_out).sqrt(),
                    },
                    Err(why) => {
                        let error = Error::op("variance_scaling", why, Location::caller());
                        return Tensor::failed(TensorType::new(dtype, shape), error);
                    }
                };
                let variance = Tensor::literal(scale / denominator, dtype);
                match distribution {
                    Distribution::TruncatedNormal => {
                        // The standard deviation of a standard normal number that is cut at -2 and 2.
                        let stddev = variance.sqrt() / 0.879_625_661_034_239_8;
                        key.truncated_normal_as(shape, -2.0, 2.0, dtype) * stddev
                    }
                    Distribution::Normal => key.normal_as(shape, dtype) * variance.sqrt(),
                    Distribution::Uniform => key.uniform_as(shape, -1.0, 1.0, dtype) * (variance * 3.0).sqrt(),
                }
            }
        }
    }

    /// The numbers of inputs and of outputs of a tensor of this shape.
    fn fans(&self, shape: &[usize]) -> Result<(f64, f64), String> {
        let size = |axes: &[isize]| {
            let extent = |&axis: &isize| {
                let from_start = if axis < 0 { axis + shape.len() as isize } else { axis };
                let extent = usize::try_from(from_start).ok().and_then(|axis| shape.get(axis));
                extent.ok_or_else(|| format!("a tensor of shape {shape:?} has no axis {axis}"))
            };
            axes.iter().try_fold(1.0, |product, axis| Ok::<f64, String>(product * *extent(axis)? as f64))
        };
        let (inputs, outputs, batch) = (size(&self.in_axis)?, size(&self.out_axis)?, size(&self.batch_axis)?);
        let all: f64 = shape.iter().map(|&extent| extent as f64).product();
        let places = all / inputs / outputs / batch;
        Ok((inputs * places, outputs * places))
    }
}

/// `scale` times a matrix with orthonormal rows or columns, whose columns are along `column`; the other axes are its
/// rows. At the centre: the matrix of the last two axes, at the middle of the axes before them, and 0 elsewhere.
#[track_caller]
fn orthogonal_of(
    key: &Key,
    shape: &[usize],
    scale: f64,
    at_centre: bool,
    column: isize,
    dtype: DType,
) -> Result<Tensor, String> {
    let rank = shape.len();
    if rank < 2 || (at_centre && !(3..=5).contains(&rank)) {
        let ranks = if at_centre { "3 to 5 axes" } else { "at least 2 axes" };
        return Err(format!("takes a shape of {ranks}, not {shape:?}"));
    }
    if at_centre {
        let (centre, matrix) = shape.split_at(rank - 2);
        if matrix[1] < matrix[0] {
            return Err(format!("there are more inputs than outputs: {shape:?}"));
        }
        let low: Vec<isize> = centre.iter().map(|&n| (n.max(1) - 1) as isize / 2).chain([0, 0]).collect();
        let high: Vec<isize> = centre.iter().zip(&low).map(|(&n, &low)| n as isize - 1 - low).chain([0, 0]).collect();
        let placed = vec![1; rank - 2].into_iter().chain(matrix.iter().copied()).collect::<Vec<_>>();
        let matrix = orthogonal_of(key, matrix, scale, false, column, dtype)?.reshape(&placed);
        return Ok(matrix.pad(0.0, &low, &high, &vec![0; rank]));
    }
    if shape.contains(&0) {
        return Ok(Tensor::full(shape, 0.0, dtype));
    }
    let along = if column < 0 { column + rank as isize } else { column };
    let along = usize::try_from(along).ok().filter(|&axis| axis < rank);
    let along = along.ok_or_else(|| format!("a tensor of shape {shape:?} has no axis {column}"))?;
    let columns = shape[along];
    let rows = shape.iter().product::<usize>() / columns;
    let mut others = shape.to_vec();
    others.remove(along);
    others.push(columns);
    let matrix = key.orthogonal_as(&[], rows, columns, dtype).reshape(&others);
    Ok(matrix.moveaxis(-1, along as isize) * scale)
}

/// `scale` times a matrix whose rows or columns are orthonormal (Saxe et al., arXiv 1312.6120). The columns are along
/// the first of `out_axis`; all other axes are rows.
pub fn orthogonal(scale: f64) -> Initializer {
    Initializer::new(Values::Orthogonal { scale, at_centre: false })
}

/// [`orthogonal`] in the last two axes at the centre of a kernel `[…places, in, out]`, and 0 elsewhere (Xiao et al.,
/// arXiv 1806.05393).
pub fn delta_orthogonal(scale: f64) -> Initializer {
    Initializer::new(Values::Orthogonal { scale, at_centre: true })
}

/// 0 everywhere.
pub fn zeros() -> Initializer {
    constant(0.0)
}

/// 1 everywhere.
pub fn ones() -> Initializer {
    constant(1.0)
}

/// `value` everywhere.
pub fn constant(value: f64) -> Initializer {
    Initializer::new(Values::Constant(value))
}

/// Uniform in `0..scale`. JAX's default is 0.01.
pub fn uniform(scale: f64) -> Initializer {
    Initializer::new(Values::Uniform(scale))
}

/// Normal with mean 0. JAX's default is a standard deviation of 0.01.
pub fn normal(stddev: f64) -> Initializer {
    Initializer::new(Values::Normal(stddev))
}

/// `stddev` times a standard normal number that is cut at `lower` and `upper`. JAX's defaults are 0.01, -2 and 2.
pub fn truncated_normal(stddev: f64, lower: f64, upper: f64) -> Initializer {
    Initializer::new(Values::TruncatedNormal { stddev, lower, upper })
}

/// Of the variance `scale / fan`.
pub fn variance_scaling(scale: f64, mode: Fan, distribution: Distribution) -> Initializer {
    Initializer::new(Values::VarianceScaling { scale, mode, distribution })
}

macro_rules! scaled {
    ($($(#[$doc:meta])* $name:ident $alias:ident $scale:literal $mode:ident $distribution:ident;)*) => { $(
        $(#[$doc])*
        pub fn $name() -> Initializer {
            variance_scaling($scale, Fan::$mode, Distribution::$distribution)
        }
        scaled!(@alias $name $alias);
    )* };
    (@alias $name:ident none) => {};
    (@alias $name:ident $alias:ident) => {
        #[doc = concat!("Alias of [`", stringify!($name), "`], the other name in JAX.")]
        pub fn $alias() -> Initializer {
            $name()
        }
    };
}
scaled! {
    /// Uniform, of the variance `2 / (inputs + outputs)` (Glorot & Bengio, AISTATS 2010).
    glorot_uniform xavier_uniform 1.0 Avg Uniform;
    /// Truncated normal, of the variance `2 / (inputs + outputs)` (Glorot & Bengio, AISTATS 2010).
    glorot_normal xavier_normal 1.0 Avg TruncatedNormal;
    /// Uniform, of the variance `1 / inputs` (LeCun et al., Efficient BackProp, 1998).
    lecun_uniform none 1.0 In Uniform;
    /// Truncated normal, of the variance `1 / inputs` (LeCun et al., Efficient BackProp, 1998).
    lecun_normal none 1.0 In TruncatedNormal;
    /// Uniform, of the variance `2 / inputs` (He et al., arXiv 1502.01852).
    he_uniform kaiming_uniform 2.0 In Uniform;
    /// Truncated normal, of the variance `2 / inputs` (He et al., arXiv 1502.01852).
    he_normal kaiming_normal 2.0 In TruncatedNormal;
}

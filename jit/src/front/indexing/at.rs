//! Reading and updating by index expressions: `x.i(…)` and `x.at(…)`.
//!
//! What an expression names is read by slices and one gather. An update is of the view that integers and ranges name,
//! by a scatter where there are tensors, and elementwise otherwise; the view is then put back.

use std::panic::Location;

use super::IndexMode;
use super::part::{IntoIndex, Part};
use super::plan::Plan;
use crate::front::control::scan;
use crate::front::operand::{Arg, Operand, promote_types};
use crate::front::tensor::Tensor;
use crate::graph::{BinaryOp, ScatterOp};
use crate::types::DType;

/// The elements of a tensor that an index expression names: what `x.at[index]` is in JAX. A negative index counts from
/// the end. One in a tensor that is out of range reads the nearest element, and writes nothing; [`At::mode`] changes
/// that. Where an element is named several times, updates of it come one after the other.
#[derive(Clone, Debug)]
pub struct At<'a> {
    x: &'a Tensor,
    parts: Vec<Part>,
    mode: Option<IndexMode>,
    unique: bool,
}

impl Tensor {
    /// The elements that a NumPy index expression names: `x[…]` of JAX. The parts are integers, ranges, [`Step`],
    /// [`NewAxis`], [`Ellipsis`], tensors of integers, which broadcast, and masks: constant tensors of bools, or
    /// [`Masked`]. The axes of the tensors take the place of the axes that they index, or come first where other parts
    /// lie between them. Indices in tensors are promised to be in range; [`Tensor::at`] has modes.
    ///
    /// ```
    /// use fulgurite_jit::{Ellipsis, NewAxis, Step, Tensor};
    ///
    /// fn parts(x: &Tensor, rows: &Tensor, columns: &Tensor) -> Vec<Tensor> {
    ///     vec![
    ///         x.i(-1),                         // x[-1]
    ///         x.i((1..3, ..-1)),               // x[1:3, :-1]
    ///         x.i((Ellipsis, 0)),              // x[..., 0]
    ///         x.i((.., NewAxis, Step(.., -2))), // x[:, None, ::-2]
    ///         x.i((rows, columns)),            // x[rows, columns]
    ///     ]
    /// }
    /// # let _ = parts;
    /// ```
    ///
    /// # Errors
    /// The result stands for an error if an integer is out of range, if there are more parts than axes, if tensors do
    /// not broadcast or are of floats, and for a mask that is computed in the trace.
    ///
    /// [`Step`]: crate::Step
    /// [`NewAxis`]: crate::NewAxis
    /// [`Ellipsis`]: crate::Ellipsis
    /// [`Masked`]: crate::Masked
    #[track_caller]
    pub fn i(&self, index: impl IntoIndex) -> Self {
        self.at(index).get()
    }

    /// The elements that an index expression names, to read in any mode and to update: `x.at[…]` of JAX. The
    /// expressions are those of [`Tensor::i`].
    ///
    /// ```
    /// use fulgurite_jit::Tensor;
    ///
    /// fn count(counts: &Tensor, events: &Tensor) -> Tensor {
    ///     counts.at(events).add(1.0)
    /// }
    ///
    /// fn without_border(x: &Tensor) -> Tensor {
    ///     x.at((0, ..)).set(0.0).at((-1, ..)).set(0.0)
    /// }
    /// # let _ = (count, without_border);
    /// ```
    pub fn at(&self, index: impl IntoIndex) -> At<'_> {
        At { x: self, parts: index.parts(), mode: None, unique: false }
    }
}

impl At<'_> {
    /// What an index in a tensor that is out of range does.
    #[must_use]
    pub fn mode(self, mode: IndexMode) -> Self {
        At { mode: Some(mode), ..self }
    }

    /// Promises that no element is named twice, which makes [`At::multiply`] and [`At::apply`] cheaper.
    #[must_use]
    pub fn unique_indices(self, unique: bool) -> Self {
        At { unique, ..self }
    }

    /// The elements.
    #[track_caller]
    pub fn get(self) -> Tensor {
        let plan = match self.plan() {
            Ok(plan) => plan,
            Err(bad) => return bad,
        };
        let (mode, view) = (self.mode.unwrap_or(IndexMode::Clip), plan.view(self.x));
        if view.error().is_some() || !plan.has_indices() {
            return plan.named(&view);
        }
        if let Some(axis) = plan.empty_axis() {
            return match mode.fill(self.x.dtype()) {
                Some(fill) => Tensor::full(&plan.shape, fill, self.x.dtype()),
                None => self.reject(format!("takes elements along the empty axis {axis} of {}", view.ty())),
            };
        }
        if plan.places() == 0 {
            return Tensor::full(&plan.shape, 0, self.x.dtype());
        }
        let (vectors, dims, sizes) = plan.gather();
        plan.named(&view.gather(&vectors, dims, &sizes, mode))
    }

    /// The tensor with these elements replaced by `updates`, which broadcasts. Of several updates of an element the
    /// last is kept.
    #[track_caller]
    pub fn set(self, updates: impl Operand) -> Tensor {
        self.update(ScatterOp::Set, updates.operand())
    }

    /// The tensor with `updates`, which broadcasts, added to these elements.
    #[allow(clippy::should_implement_trait, reason = "the name in JAX")]
    #[track_caller]
    pub fn add(self, updates: impl Operand) -> Tensor {
        self.update(ScatterOp::Add, updates.operand())
    }

    /// The tensor with `updates`, which broadcasts, subtracted from these elements.
    #[track_caller]
    pub fn subtract(self, updates: impl Operand) -> Tensor {
        let (_, updates) = promote_types(Arg::Tensor(self.x.clone()), updates.operand());
        self.update(ScatterOp::Add, Arg::Tensor(-updates))
    }

    /// The tensor with these elements multiplied by `updates`, which broadcasts.
    #[track_caller]
    pub fn multiply(self, updates: impl Operand) -> Tensor {
        if !self.unique {
            return self.update(ScatterOp::Mul, updates.operand());
        }
        let product = self.clone().get() * updates;
        self.set(product)
    }

    /// The tensor with these elements divided by `updates`, which broadcasts; floats.
    #[track_caller]
    pub fn divide(self, updates: impl Operand) -> Tensor {
        let (x, ones) = (self.x, self.x.ones_like());
        x.true_divide(At { x: &ones, ..self }.multiply(updates))
    }

    /// The tensor with these elements raised to the power of `updates`, which broadcasts.
    #[track_caller]
    pub fn power(self, updates: impl Operand) -> Tensor {
        let (x, ones) = (self.x, self.x.ones_like());
        x.pow(At { x: &ones, ..self }.multiply(updates))
    }

    /// The tensor with the smaller of each of these elements and `updates`, which broadcasts. NaN propagates.
    #[track_caller]
    pub fn min(self, updates: impl Operand) -> Tensor {
        self.update(ScatterOp::Min, updates.operand())
    }

    /// The tensor with the larger of each of these elements and `updates`, which broadcasts. NaN propagates.
    #[track_caller]
    pub fn max(self, updates: impl Operand) -> Tensor {
        self.update(ScatterOp::Max, updates.operand())
    }

    /// The tensor with an elementwise function applied to these elements: as many times to an element as it is named,
    /// as in JAX. Where tensors name several elements that is a loop over them, unless they are promised to be
    /// [unique](At::unique_indices).
    #[track_caller]
    pub fn apply(self, f: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        let plan = match self.plan() {
            Ok(plan) => plan,
            Err(bad) => return bad,
        };
        let dtype = self.x.dtype();
        let view = plan.view(self.x);
        if !plan.has_indices() {
            return plan.put(self.x, &f(&view).convert(dtype));
        }
        if plan.empty_axis().is_some() || plan.places() == 0 {
            return self.x.clone();
        }
        let mode = self.mode.unwrap_or(IndexMode::Fill);
        // What is out of range is read somewhere, and not written.
        let reads = if mode.fill(dtype).is_some() { IndexMode::Clip } else { mode };
        if self.unique || plan.places() == 1 {
            let (vectors, dims, sizes) = plan.gather();
            let new = f(&view.gather(&vectors, dims.clone(), &sizes, reads)).convert(dtype);
            return plan.put(self.x, &view.scatter(&vectors, &new, dims, mode));
        }
        let (vectors, dims, sizes) = plan.each();
        let trip = |view: Tensor, vector: Tensor| {
            let new = f(&view.gather(&vector, dims.clone(), &sizes, reads)).convert(dtype);
            (view.scatter(&vector, &new, dims.clone(), mode), ())
        };
        let (applied, ()) = scan(trip, view, vectors);
        plan.put(self.x, &applied)
    }

    #[track_caller]
    fn plan(&self) -> Result<Plan, Tensor> {
        if self.x.error().is_some() {
            return Err(self.x.clone());
        }
        if let Some(bad) = self.parts.iter().find_map(|part| match part {
            Part::Tensor(x) | Part::Masked(x, _) => x.error().and(Some(x)),
            Part::At(_) | Part::Slice { .. } | Part::NewAxis | Part::Ellipsis => None,
        }) {
            return Err(bad.clone());
        }
        Plan::new(self.x, &self.parts).map_err(|why| self.reject(why))
    }

    #[track_caller]
    fn reject(&self, why: String) -> Tensor {
        self.x.reject("at", why, Location::caller())
    }

    #[track_caller]
    fn update(self, combine: ScatterOp, updates: Arg) -> Tensor {
        let dtype = self.x.dtype();
        let (_, updates) = promote_types(Arg::Tensor(self.x.clone()), updates);
        let updates = updates.convert(dtype);
        // Sums and maxima of bools are `or`, products and minima `and`.
        let of_bools = match combine {
            ScatterOp::Add | ScatterOp::Max => ScatterOp::Max,
            ScatterOp::Mul | ScatterOp::Min => ScatterOp::Min,
            ScatterOp::Set => ScatterOp::Set,
        };
        if dtype == DType::Bool && of_bools != ScatterOp::Set {
            let (x, updates) = (self.x.convert(DType::I32), updates.convert(DType::I32));
            return At { x: &x, ..self }.update(of_bools, Arg::Tensor(updates)).not_equal(0);
        }
        if let Some(mask) = self.mask(&updates) {
            let new = elementwise(combine, self.x, &updates);
            return mask.select(new, self.x);
        }
        let plan = match self.plan() {
            Ok(plan) => plan,
            Err(bad) => return bad,
        };
        // Axes of extent 1 before the others do not count.
        let extra = updates.rank().saturating_sub(plan.shape.len());
        let updates = match updates.shape()[..extra].iter().all(|&extent| extent == 1) {
            true => updates.reshape(&updates.shape()[extra..]),
            false => updates,
        };
        let updates = updates.broadcast_to(&plan.shape);
        if updates.error().is_some() {
            return updates;
        }
        if plan.empty_axis().is_some() {
            return self.x.clone();
        }
        let (view, updates) = (plan.view(self.x), plan.updates(&updates));
        if !plan.has_indices() {
            return plan.put(self.x, &elementwise(combine, &view, &updates));
        }
        let (vectors, dims, _) = plan.gather();
        let mode = self.mode.unwrap_or(IndexMode::Fill);
        plan.put(self.x, &view.scatter_by(combine, &vectors, &updates, dims, mode))
    }

    /// A mask that is the whole expression, in the shape of the tensor, where each place has the same update.
    #[track_caller]
    fn mask(&self, updates: &Tensor) -> Option<Tensor> {
        let [Part::Tensor(mask)] = &self.parts[..] else { return None };
        let fits = mask.dtype() == DType::Bool
            && mask.rank() > 0
            && self.x.shape().get(..mask.rank()) == Some(mask.shape())
            && updates.rank() <= self.x.rank() - mask.rank();
        fits.then(|| mask.broadcast_in_dim(self.x.shape(), &(0..mask.rank()).collect::<Vec<_>>()))
    }
}

/// An update of every element.
#[track_caller]
fn elementwise(combine: ScatterOp, x: &Tensor, updates: &Tensor) -> Tensor {
    match combine.binary() {
        Some(op @ (BinaryOp::Min | BinaryOp::Max | BinaryOp::Mul | BinaryOp::Add)) => x.binary(op, updates),
        _ => updates.broadcast_to(x.shape()),
    }
}

//! `Bound`: a compiled function together with the state that goes round with it.
//!
//! A call of a [`Jit`] takes a state apart and puts the next one together, leaf by leaf: some 25 ns for each. Where the
//! program writes every leaf of the next state in the place of the one before, there is nothing to take apart: here the
//! arrays stay where they are, and a call costs what its batch and its other results do.

use std::sync::Arc;

use fulgurite_jit::panics::guarded;
use fulgurite_jit::tree::Structure;
use fulgurite_jit::{Array, Result, Tensor, Tree, leaves, unflatten};

use crate::jit::{Compiled, Inputs, Jit, is_of_kind, kind};

/// A function of a state and something borrowed, and its state: [`Jit::bind`].
///
/// ```
/// use fulgurite_jit::Tensor;
/// use fulgurite_runtime::Jit;
///
/// let step = Jit::with_borrowed("count", |total: Tensor, x: Tensor| {
///     let next = total + &x;
///     (next.clone(), next * 2.0)
/// });
/// let mut counter = step.bind(Tensor::scalar(0.0f32));
/// for i in 1..=4 {
///     let twice = counter.call(Tensor::scalar(i as f32))?;
///     assert_eq!(twice.item::<f32>()?, (i * (i + 1)) as f32);
/// }
/// assert_eq!(counter.into_state().item::<f32>()?, 10.0);
/// # Ok::<(), fulgurite_jit::Error>(())
/// ```
pub struct Bound<S, B, R> {
    jit: Jit<S, B, (S, R)>,
    state: State<S, R>,
}

enum State<S, R> {
    /// As a tree: before the first call, and where a program cannot keep it in place.
    Tree(S),
    /// As arrays that stay where they are.
    Kept(Kept<S, R>),
}

struct Kept<S, R> {
    arrays: Vec<Array>,
    /// What keeps them, for borrowed arguments of the kind `lent`.
    compiled: Arc<Compiled<(S, R)>>,
    lent: Vec<u8>,
}

impl<S: Tree, B: Tree, R: Tree> Jit<S, B, (S, R)> {
    /// Keeps `state` for a loop of calls, each of which takes the state that the last one left: the fastest way to run
    /// a training step again and again.
    pub fn bind(self, state: S) -> Bound<S, B, R> {
        Bound { jit: self, state: State::Tree(state) }
    }
}

impl<S: Tree, B: Tree, R: Tree> Bound<S, B, R> {
    /// Calls the function with the state; the next state takes its place.
    ///
    /// # Errors
    /// As [`Jit::call_with`]; the state is then what it was.
    pub fn call(&mut self, borrowed: B) -> Result<R> {
        let mut lent = Inputs::new();
        if let State::Kept(kept) = &mut self.state
            && is_of_kind(&borrowed, &kept.lent, &mut lent)?
        {
            return kept.call(&lent).map_err(|error| self.jit.named(error));
        }
        drop(lent);
        let state = self.state();
        let (_, compiled) = self.jit.find(&state, &borrowed)?;
        let arrays = leaves(&state).into_iter().map(Tensor::into_array).collect::<Result<Vec<Array>>>()?;
        let mut inputs = Inputs::new();
        let lent = kind(&borrowed, &mut inputs)?;
        if is_alike(&state, &compiled.result.0)
            && compiled.program.keeps_in_place(arrays.len())
            && compiled.program.accepts(arrays.iter().chain(inputs.iter().copied()))
        {
            // What the tree held of the state would be copied.
            drop(state);
            let mut kept = Kept { arrays, compiled, lent };
            let results = kept.call(&inputs);
            self.state = State::Kept(kept);
            return results.map_err(|error| self.jit.named(error));
        }
        drop((inputs, arrays));
        // In place of the one before: only what nobody else holds is overwritten.
        self.state = State::Tree(state);
        let State::Tree(state) = &mut self.state else { unreachable!("it was just put there") };
        let (state, results) = self.jit.run(state, &borrowed)?;
        self.state = State::Tree(state);
        Ok(results)
    }

    /// The state after the last call. It is left alone by later ones, which then begin with a copy of what is still held
    /// of it.
    pub fn state(&self) -> S {
        match &self.state {
            State::Tree(state) => state.map(&mut Tensor::clone),
            State::Kept(kept) => kept.tree(),
        }
    }

    /// Goes on from another state.
    pub fn set_state(&mut self, state: S) {
        self.state = State::Tree(state);
    }

    /// The state after the last call, taken out.
    pub fn into_state(self) -> S {
        self.state()
    }

    /// How often the function has been traced.
    pub fn traces(&self) -> usize {
        self.jit.traces()
    }
}

impl<S: Tree, R: Tree> Kept<S, R> {
    fn call(&mut self, lent: &[&Array]) -> Result<R> {
        let Kept { arrays, compiled, .. } = self;
        // SAFETY: when the arrays were taken over, the program kept so many in place, and accepted them and borrowed ones of
        // the kind that these are.
        let results = guarded("running a program", || unsafe { compiled.program.run_in_place(arrays, lent) })?;
        Ok(unflatten(&compiled.result.1, results.into_iter().map(Tensor::from)))
    }

    fn tree(&self) -> S {
        unflatten(&self.compiled.result.0, self.arrays.iter().cloned().map(Tensor::from))
    }
}

/// Are two trees of one structure, with leaves of the same types?
fn is_alike<S: Tree>(x: &S, y: &S) -> bool {
    let types = |tree: &S| leaves(tree).iter().map(|leaf| leaf.ty().clone()).collect::<Vec<_>>();
    Structure::of(x) == Structure::of(y) && types(x) == types(y)
}

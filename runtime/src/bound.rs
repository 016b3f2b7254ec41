//! `Bound`: a compiled function with its state, for a loop of calls.
//!
//! Comes in: a [`Jit`], a state, and borrowed arguments per call. Goes out: the other results per call, and the last
//! state. Nothing is traced here.
//!
//! A call of a [`Jit`] flattens and rebuilds the state: some 25 ns per leaf. Where the program updates every leaf of
//! the state in place, the state is resident: the arrays stay where they are, and a call costs only its borrowed
//! arguments and other results.

use std::sync::Arc;

use fulgurite_jit::panics::guarded;
use fulgurite_jit::tree::Structure;
use fulgurite_jit::{Array, Result, Tensor, Tree, leaves, unflatten};

use crate::jit::{Compiled, Inputs, Jit, has_signature, signature};

/// A function of a state and borrowed arguments, with its state: [`Jit::bind`].
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
    /// A tree: before the first call, and where the program does not update it in place.
    Tree(S),
    /// Arrays that the program updates in place.
    Resident(Resident<S, R>),
}

struct Resident<S, R> {
    arrays: Vec<Array>,
    /// The program, for borrowed arguments of this signature.
    compiled: Arc<Compiled<(S, R)>>,
    borrowed_signature: Vec<u8>,
}

impl<S: Tree, B: Tree, R: Tree> Jit<S, B, (S, R)> {
    /// Binds `state` for a loop of calls, each of which starts from the state of the last: the fastest way to run a
    /// training step repeatedly.
    pub fn bind(self, state: S) -> Bound<S, B, R> {
        Bound { jit: self, state: State::Tree(state) }
    }
}

impl<S: Tree, B: Tree, R: Tree> Bound<S, B, R> {
    /// Calls the function with the state, and replaces the state by the next.
    ///
    /// # Errors
    /// As [`Jit::call_with`]; the state is then unchanged.
    pub fn call(&mut self, borrowed: B) -> Result<R> {
        let mut inputs = Inputs::new();
        if let State::Resident(resident) = &mut self.state
            && has_signature(&borrowed, &resident.borrowed_signature, &mut inputs)?
        {
            return resident.call(&inputs).map_err(|error| self.jit.with_name(error));
        }
        drop(inputs);
        let state = self.state();
        let (_, compiled) = self.jit.find_or_compile(&state, &borrowed)?;
        let arrays = leaves(&state).into_iter().map(Tensor::into_array).collect::<Result<Vec<Array>>>()?;
        let mut inputs = Inputs::new();
        let borrowed_signature = signature(&borrowed, &mut inputs)?;
        if has_same_types(&state, &compiled.result.0)
            && compiled.program.updates_in_place(arrays.len())
            && compiled.program.accepts(arrays.iter().chain(inputs.iter().copied()))
        {
            // A second handle would cause a copy.
            drop(state);
            let mut resident = Resident { arrays, compiled, borrowed_signature };
            let results = resident.call(&inputs);
            self.state = State::Resident(resident);
            return results.map_err(|error| self.jit.with_name(error));
        }
        drop((inputs, arrays));
        // The state owns its arrays: those without other handles are overwritten.
        self.state = State::Tree(state);
        let State::Tree(state) = &mut self.state else { unreachable!("it was assigned above") };
        let (state, results) = self.jit.run(state, &borrowed)?;
        self.state = State::Tree(state);
        Ok(results)
    }

    /// The state after the last call. Later calls do not change it: they copy the leaves that are still held.
    pub fn state(&self) -> S {
        match &self.state {
            State::Tree(state) => state.map(&mut Tensor::clone),
            State::Resident(resident) => resident.tree(),
        }
    }

    /// Replaces the state.
    pub fn set_state(&mut self, state: S) {
        self.state = State::Tree(state);
    }

    /// The state after the last call, taken out.
    pub fn into_state(self) -> S {
        self.state()
    }

    /// The number of times the function has been traced.
    pub fn traces(&self) -> usize {
        self.jit.traces()
    }
}

impl<S: Tree, R: Tree> Resident<S, R> {
    fn call(&mut self, borrowed: &[&Array]) -> Result<R> {
        let Resident { arrays, compiled, .. } = self;
        // SAFETY: when the state became resident, the program was found to update these arrays in place and to accept
        // them with borrowed ones of this signature.
        let results = guarded("running a program", || unsafe { compiled.program.run_in_place(arrays, borrowed) })?;
        Ok(unflatten(&compiled.result.1, results.into_iter().map(Tensor::from)))
    }

    fn tree(&self) -> S {
        unflatten(&self.compiled.result.0, self.arrays.iter().cloned().map(Tensor::from))
    }
}

/// Have the trees the same structure and leaf types?
fn has_same_types<S: Tree>(x: &S, y: &S) -> bool {
    let types = |tree: &S| leaves(tree).iter().map(|leaf| leaf.ty().clone()).collect::<Vec<_>>();
    Structure::of(x) == Structure::of(y) && types(x) == types(y)
}

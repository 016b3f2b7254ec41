//! `Jit`: a function that is traced and compiled when it is first called with arguments of a new kind.
//!
//! The kind of a call is the structure of the argument trees, the types of their leaves and their static values. It is
//! written into a few hundred bytes and looked up; a call of a known kind costs that, and one call of machine code. The
//! programs of the kinds that were used last are kept, [`PROGRAMS`] of them.

use std::cell::Cell;
use std::hash::Hasher;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fulgurite_jit::dump::{Stage, dump, wants};
use fulgurite_jit::panics::guarded;
use fulgurite_jit::trace::{record_error, trace_call, tracing};
use fulgurite_jit::tree::Bytes;
use fulgurite_jit::types::join;
use fulgurite_jit::{Array, Error, Name, Output, Result, Tensor, TensorType, Tree, Visitor, leaves, unflatten};
use smallvec::SmallVec;

use crate::cache::Cache;
use crate::nested::Nested;
use crate::program::Program;

/// Programs that a function keeps, unless [`Jit::keep_programs`] says otherwise.
const PROGRAMS: usize = 64;

/// A compiled function of donated arguments `A` and borrowed arguments `B`.
///
/// What is passed in `A` may be overwritten: a leaf whose last handle is given away gets its memory reused for a result
/// (a leaf that the caller still holds is copied first). What is passed in `B` is never overwritten.
///
/// ```
/// use fulgurite_jit::Tensor;
/// use fulgurite_runtime::jit;
///
/// let square = jit(|x: Tensor| &x * &x);
/// let y = square.call(Tensor::from_vec(&[3], vec![1.0f32, 2.0, 3.0])?)?;
/// assert_eq!(y.to_vec::<f32>()?, [1.0, 4.0, 9.0]);
/// assert_eq!(square.traces(), 1);
/// # Ok::<(), fulgurite_jit::Error>(())
/// ```
pub struct Jit<A, B, O> {
    name: String,
    function: Box<Function<A, B, O>>,
    compiled: Mutex<Programs<O>>,
    traces: AtomicUsize,
    /// How many leaves the last call had.
    leaves: AtomicUsize,
    last: Mutex<Option<Vec<String>>>,
}

type Function<A, B, O> = dyn Fn(A, B) -> Result<O> + Send + Sync;

/// Compiled functions by the kind of call, and the one that was called last, which mostly is the next again.
struct Programs<O> {
    all: Cache<Key, Known<O>>,
    last: Option<Known<O>>,
    /// How many have been dropped again.
    dropped: usize,
}

/// The kind of a call, as bytes.
type Key = Arc<[u8]>;

/// What was compiled for a kind of call.
type Known<O> = (Key, Arc<Compiled<O>>);

impl<O> Programs<O> {
    fn find(&mut self, key: &[u8]) -> Option<Arc<Compiled<O>>> {
        if let Some((last, compiled)) = &self.last
            && **last == *key
        {
            return Some(compiled.clone());
        }
        self.last = Some(self.all.get(key)?.clone());
        self.last.as_ref().map(|(_, compiled)| compiled.clone())
    }

    /// Keeps what was compiled, unless another thread was faster. Gives it, and what was dropped for it.
    fn insert(&mut self, key: Key, compiled: Compiled<O>) -> (Arc<Compiled<O>>, Vec<Known<O>>) {
        if let Some((_, known)) = self.all.get(&key) {
            return (known.clone(), Vec::new());
        }
        let compiled = Arc::new(compiled);
        let gone = self.all.insert(key.clone(), (key.clone(), compiled.clone()), 1);
        self.dropped += gone.len();
        self.last = Some((key, compiled.clone()));
        (compiled, gone)
    }

    /// What to tell the user, once: as many programs have been dropped as are kept, so this is not one odd batch.
    fn warning(&self, name: &str, dropped_now: usize) -> Option<String> {
        let bound = self.all.bound();
        let is_new = (self.dropped - dropped_now..self.dropped).contains(&(bound.max(1) - 1));
        is_new.then(|| {
            format!(
                "fulgurite: `{name}` was traced and compiled for {} kinds of arguments (shapes, element types, static \
                 values) and keeps the programs of the last {bound}; each that comes again is compiled again. Bring batches \
                 to a few sizes, pass what changes from call to call as a tensor, or keep more (`keep_programs`, \
                 `#[jit(programs = N)]`). FULGURITE_DUMP=cache says what changes.",
                self.dropped + self.all.len()
            )
        })
    }
}

impl<O> Default for Programs<O> {
    fn default() -> Self {
        Programs { all: Cache::new(PROGRAMS), last: None, dropped: 0 }
    }
}

pub(crate) struct Compiled<O> {
    pub(crate) program: Program,
    /// The result's structure; its leaves are stand-ins.
    pub(crate) result: O,
}

/// Compiles `f`, all of whose arguments are donated. It gives a tree, or a [`Result`] of one, so that `?` works inside;
/// a call gives one `Result` in both cases.
///
/// ```
/// use fulgurite_jit::{Result, Tensor};
/// use fulgurite_runtime::jit;
///
/// let halve = jit(|x: Tensor| x / 2.0);
/// let quarter = jit(move |x: Tensor| -> Result<Tensor> { halve.call(halve.call(x)?) });
/// assert_eq!(quarter.call(Tensor::scalar(8.0f32))?.item::<f32>()?, 2.0);
/// # Ok::<(), fulgurite_jit::Error>(())
/// ```
pub fn jit<A: Tree, R: Output>(f: impl Fn(A) -> R + Send + Sync + 'static) -> Jit<A, (), R::Tree> {
    Jit::with_borrowed(std::any::type_name_of_val(&f), move |a, ()| f(a))
}

impl<A: Tree, O: Tree> Jit<A, (), O> {
    /// Calls the function; see [`Jit::call_with`].
    ///
    /// # Errors
    /// As [`Jit::call_with`].
    pub fn call(&self, args: A) -> Result<O> {
        self.call_with(args, ())
    }
}

impl<A: Tree, B: Tree, O: Tree> Jit<A, B, O> {
    /// Compiles `f` of donated and borrowed arguments, which gives a tree or a [`Result`] of one. `name` is what dumps
    /// call it.
    pub fn with_borrowed<R: Output<Tree = O>>(name: &str, f: impl Fn(A, B) -> R + Send + Sync + 'static) -> Self {
        Jit {
            name: name.into(),
            function: Box::new(move |donated, borrowed| f(donated, borrowed).into_result()),
            compiled: Mutex::default(),
            traces: AtomicUsize::new(0),
            leaves: AtomicUsize::new(0),
            last: Mutex::default(),
        }
    }

    /// Keeps the programs of the `count` kinds of arguments that were used last (at least one), in place of 64. A kind
    /// whose program has been dropped is traced and compiled again when it comes again.
    pub fn keep_programs(mut self, count: usize) -> Self {
        let programs = self.compiled.get_mut().unwrap_or_else(PoisonError::into_inner);
        programs.dropped += programs.all.set_bound(count).len();
        self
    }

    /// How many programs are kept at present.
    pub fn programs(&self) -> usize {
        self.compiled().all.len()
    }

    /// No panic leaves the programs half changed.
    fn compiled(&self) -> MutexGuard<'_, Programs<O>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the function: traced and compiled if the arguments are of a new kind, as one machine-code call otherwise.
    /// Inside of another traced function it becomes part of that.
    ///
    /// # Errors
    /// The first mistake that tracing met (wrong shapes, element types, axes, a value read that is not there yet), with
    /// the op and the user's line; an argument that is the result of such a mistake; the function's own error, where it
    /// gives a [`Result`]; a call of itself without end; memory that there is not, with what it was for, its type and
    /// bytes; a bug of fulgurite, in place of a panic.
    ///
    /// # Panics
    /// When the function does, in its own code.
    pub fn call_with(&self, mut donated: A, borrowed: B) -> Result<O> {
        if tracing() {
            let _nested = Nested::enter(&self.name)?;
            return (self.function)(donated, borrowed);
        }
        self.run(&mut donated, &borrowed)
    }

    /// Runs the compiled function, which overwrites what `donated` owns. What was written in place is also the result's;
    /// whoever owns `donated` drops it.
    #[inline]
    pub(crate) fn run(&self, donated: &mut A, borrowed: &B) -> Result<O> {
        match self.run_known(donated, borrowed, |key| self.compiled().find(key))? {
            Some(done) => Ok(done),
            None => self.run_new(donated, borrowed),
        }
    }

    /// [`Jit::run`] for arguments of a new kind.
    #[cold]
    fn run_new(&self, donated: &mut A, borrowed: &B) -> Result<O> {
        let (found, compiled) = self.find(donated, borrowed)?;
        let changed = || self.named(Error::new("an argument shows other leaves each time it is looked at"));
        // Not looked up again: other threads' programs may have taken its place.
        self.run_known(donated, borrowed, |key| (key == found).then_some(compiled))?.ok_or_else(changed)
    }

    /// [`Jit::run`], if `known` has the program for the arguments' key.
    #[inline(always)]
    fn run_known(
        &self,
        donated: &mut A,
        borrowed: &B,
        known: impl FnOnce(&[u8]) -> Option<Arc<Compiled<O>>>,
    ) -> Result<Option<O>> {
        let mut inputs = Inputs::with_capacity(self.leaves.load(Relaxed));
        let mut held = Held::new();
        // Taken out, since a tree's own code may call compiled functions.
        let mut key = KEY.take();
        key.0.clear();
        collect(|collector| donated.visit_mut(collector), &mut key, &mut inputs, Some(&mut held))?;
        collect_borrowed(borrowed, &mut key, &mut inputs)?;
        let known = known(&key.0);
        KEY.set(key);
        let Some(compiled) = known else { return Ok(None) };
        self.leaves.store(inputs.len(), Relaxed);
        // SAFETY: the program was found by the types of these leaves and by how many of them are given away, which the key
        // tells whatever trees write into it. Those that the tree given away owns are borrowed by this call alone, and of
        // its others a handle is held.
        let results = guarded("running a program", || unsafe { compiled.program.run_known(&inputs) });
        drop(held);
        let results = results.map_err(|error| self.named(error))?;
        Ok(Some(unflatten(&compiled.result, results.into_iter().map(Tensor::from))))
    }

    /// What went wrong while the function's program ran.
    #[cold]
    pub(crate) fn named(&self, error: Error) -> Error {
        error.context(format_args!("`{}`", self.name))
    }

    /// The arguments' key and the compiled function for them; traced and compiled if they are of a new kind.
    pub(crate) fn find(&self, donated: &A, borrowed: &B) -> Result<(Vec<u8>, Arc<Compiled<O>>)> {
        let (mut key, mut inputs) = (Bytes::default(), Inputs::new());
        collect(|collector| donated.visit(collector), &mut key, &mut inputs, None)?;
        let given = inputs.len();
        collect_borrowed(borrowed, &mut key, &mut inputs)?;
        let known = self.compiled().find(&key.0);
        let compiled = match known {
            Some(compiled) => compiled,
            None => {
                // Those of the key, whatever the trees show when they are looked at again.
                let types: Vec<TensorType> = inputs.iter().map(|x| x.ty().clone()).collect();
                self.compile(key.0.as_slice().into(), &types, given, donated, borrowed)?
            }
        };
        Ok((key.0, compiled))
    }

    /// Traces and compiles without calling, for leaves of these types, of which so many are `given`.
    fn compile(
        &self,
        key: Key,
        types: &[TensorType],
        given: usize,
        donated: &A,
        borrowed: &B,
    ) -> Result<Arc<Compiled<O>>> {
        self.explain(&types.iter().map(ToString::to_string).collect::<Vec<_>>());
        self.traces.fetch_add(1, Relaxed);
        let mut result = None;
        let traced = trace_call(types, |params| {
            let (first, second) = params.split_at(given);
            let donated = unflatten(donated, first.iter().cloned());
            let borrowed = unflatten(borrowed, second.iter().cloned());
            let output = (self.function)(donated, borrowed)?;
            let outputs = leaves(&output);
            result = Some(output);
            Ok(outputs)
        })?;
        if !traced.captures.is_empty() {
            let why = "it uses a tensor of a function that is being traced, which is no argument of it";
            return Err(self.named(Error::new(why)));
        }
        let donated: Vec<bool> = (0..types.len()).map(|i| i < given).collect();
        let program = Program::compile_paced(&self.name, &traced.graph, &donated)?;
        let result = result.expect("the function was traced");
        let mut programs = self.compiled();
        let (compiled, gone) = programs.insert(key, Compiled { program, result });
        let warning = if gone.is_empty() { None } else { programs.warning(&self.name, gone.len()) };
        drop(programs);
        if !gone.is_empty() {
            dump(
                Stage::Cache,
                &format!("{}: {} of its programs dropped", self.name, gone.len()),
                &"least recently used",
            );
        }
        if let Some(warning) = warning {
            eprintln!("{warning}");
        }
        Ok(compiled)
    }

    /// How often the function has been traced.
    pub fn traces(&self) -> usize {
        self.traces.load(Relaxed)
    }

    /// `FULGURITE_DUMP=cache`: which argument made this call of a new kind.
    fn explain(&self, types: &[String]) {
        if !wants(Stage::Cache) {
            return;
        }
        let Ok(mut last) = self.last.lock() else { return };
        let text = match &*last {
            None => format!("first call with {}", join(types, ", ")),
            Some(before) if before == types => "other structure or static values".into(),
            Some(before) => {
                let changes: Vec<String> = (0..before.len().max(types.len()))
                    .filter(|&i| before.get(i) != types.get(i))
                    .map(|i| {
                        let show = |list: &[String]| list.get(i).cloned().unwrap_or_else(|| "nothing".into());
                        format!("leaf {i}: {} -> {}", show(before), show(types))
                    })
                    .collect();
                changes.join("; ")
            }
        };
        dump(Stage::Cache, &format!("{}: traced", self.name), &text);
        *last = Some(types.to_vec());
    }
}

thread_local! {
    /// The key of the call being made, so that a call allocates none.
    static KEY: Cell<Bytes> = const { Cell::new(Bytes(Vec::new())) };
}

/// The leaves of a call.
pub(crate) type Inputs<'t> = SmallVec<[&'t Array; 32]>;

/// Further handles to leaves that a tree was given with but does not own: while they are held, nothing overwrites these.
type Held = SmallVec<[Array; 2]>;

/// The kind of borrowed arguments, alone; `inputs` become their leaves.
pub(crate) fn kind<'t>(borrowed: &'t impl Tree, inputs: &mut Inputs<'t>) -> Result<Vec<u8>> {
    let mut key = Bytes::default();
    collect(|collector| borrowed.visit(collector), &mut key, inputs, None)?;
    Ok(key.0)
}

/// Are borrowed arguments of the kind `known`? `inputs` become their leaves.
pub(crate) fn is_of_kind<'t>(borrowed: &'t impl Tree, known: &[u8], inputs: &mut Inputs<'t>) -> Result<bool> {
    let mut key = KEY.take();
    key.0.clear();
    collect(|collector| borrowed.visit(collector), &mut key, inputs, None)?;
    let is_known = key.0 == known;
    KEY.set(key);
    Ok(is_known)
}

/// How a part of a key begins: what it is, and how long, or of which type. No part is the begin of another, so that two
/// keys are equal only where all their parts are.
#[inline]
fn word(what: u8, size: usize) -> usize {
    size << 8 | usize::from(what)
}

/// The second half of a call's key, behind what is given away.
fn collect_borrowed<'t>(borrowed: &'t impl Tree, key: &mut Bytes, inputs: &mut Inputs<'t>) -> Result<()> {
    key.write_usize(word(b'|', 0));
    collect(|collector| borrowed.visit(collector), key, inputs, None)
}

/// Writes the kind of what `visit` shows and collects its leaves; those of a donated tree that it does not own are `held`.
fn collect<'t>(
    visit: impl FnOnce(&mut dyn Visitor<'t>),
    key: &mut Bytes,
    inputs: &mut Inputs<'t>,
    held: Option<&mut Held>,
) -> Result<()> {
    struct Collector<'c, 't> {
        key: &'c mut Bytes,
        inputs: &'c mut Inputs<'t>,
        held: Option<&'c mut Held>,
        error: Option<Error>,
    }
    impl<'t> Collector<'_, 't> {
        #[inline]
        fn add(&mut self, tensor: &'t Tensor) {
            let ty = tensor.ty();
            let kind = word(b'*', ty.rank() << 8 | ty.dtype as usize);
            let key = &mut self.key.0;
            key.reserve(size_of::<usize>() * (1 + ty.rank()));
            for word in std::iter::once(&kind).chain(&ty.shape) {
                key.extend_from_slice(&word.to_ne_bytes());
            }
            match tensor.concrete() {
                Some(array) => self.inputs.push(array),
                None => {
                    self.error.get_or_insert_with(|| tensor.no_data());
                }
            }
        }
    }
    impl<'t> Visitor<'t> for Collector<'_, 't> {
        fn leaf(&mut self, tensor: &'t Tensor) {
            self.add(tensor);
            if let (Some(held), Some(array)) = (&mut self.held, tensor.concrete()) {
                held.push(array.clone());
            }
        }
        // Borrowed by this call alone, for as long as the inputs are.
        fn leaf_mut(&mut self, tensor: &'t mut Tensor) {
            self.add(tensor);
        }
        fn enter(&mut self, _: Name) {}
        fn leave(&mut self) {}
        fn structure(&mut self) -> &mut dyn Hasher {
            self
        }
    }
    impl Hasher for Collector<'_, '_> {
        fn finish(&self) -> u64 {
            0
        }
        // What a static value writes is its own affair: it must not pass for a leaf.
        fn write(&mut self, bytes: &[u8]) {
            let key = &mut self.key.0;
            key.reserve(size_of::<usize>() + bytes.len());
            key.extend_from_slice(&word(b's', bytes.len()).to_ne_bytes());
            key.extend_from_slice(bytes);
        }
    }
    let mut collector = Collector { key, inputs, held, error: None };
    visit(&mut collector);
    match collector.error {
        None => Ok(()),
        Some(error) => {
            // Within a trace: an argument that is not there yet.
            record_error(&error);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulgurite_jit::graph::Graph;

    #[test]
    fn a_function_of_ever_new_kinds_is_warned_of_once() {
        for bound in [0, 1, 2, 7] {
            let mut programs = Programs::<()>::default();
            programs.all.set_bound(bound);
            let mut warnings = Vec::new();
            for kind in 0..40u8 {
                let program = Program::compile("empty", &Graph::new(), &[]).expect("nothing to compile");
                let (_, gone) = programs.insert([kind].as_slice().into(), Compiled { program, result: () });
                warnings.extend(programs.warning("step", gone.len()).filter(|_| !gone.is_empty()));
            }
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            let bound = bound.max(1);
            assert!(
                warnings[0].contains(&format!("`step` was traced and compiled for {} kinds", 2 * bound)),
                "{warnings:?}"
            );
        }
    }

    #[test]
    fn a_kind_that_two_threads_compile_is_kept_once() {
        let mut programs = Programs::<()>::default();
        let compiled = || Compiled {
            program: Program::compile("empty", &Graph::new(), &[]).expect("nothing to compile"),
            result: (),
        };
        let (first, _) = programs.insert([1].as_slice().into(), compiled());
        let (second, gone) = programs.insert([1].as_slice().into(), compiled());
        assert!(Arc::ptr_eq(&first, &second) && gone.is_empty() && programs.all.len() == 1);
    }
}

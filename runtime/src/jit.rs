//! `Jit`: a function that is traced and compiled for each new signature of its arguments.
//!
//! Comes in: a function, and trees of arguments per call. Goes out: trees of results. How programs run is in `program`.
//!
//! The signature of a call is the structure of the argument trees, the types of their leaves, their static values, the
//! device and the precision of contractions, as a few hundred bytes. A call of a known signature costs one lookup and
//! one call of machine code. The [`PROGRAMS`] most recently used programs are cached.

use std::cell::Cell;
use std::hash::Hasher;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fulgurite_jit::dump::{Stage, dump, wants};
use fulgurite_jit::panics::guarded;
use fulgurite_jit::trace::{record_error, trace_call, tracing};
use fulgurite_jit::tree::Bytes;
use fulgurite_jit::types::join;
use fulgurite_jit::{
    Array, Error, Name, Output, Result, Tensor, TensorType, Tree, Visitor, leaves, matmul_precision, unflatten, x64,
};
use smallvec::SmallVec;

use crate::cache::Cache;
use crate::device::select::{Opened, current, current_id};
use crate::nested::Nested;
use crate::program::Program;

/// Cached programs of a function, unless set by [`Jit::keep_programs`].
const PROGRAMS: usize = 64;

/// A compiled function of donated arguments `A` and borrowed arguments `B`.
///
/// Donated arguments may be overwritten: the memory of a leaf whose last handle is donated is reused for a result (a
/// leaf that the caller still holds is copied first). Borrowed arguments are never overwritten.
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
    /// The number of leaves of the last call.
    leaves: AtomicUsize,
    last: Mutex<Option<Vec<String>>>,
}

type Function<A, B, O> = dyn Fn(A, B) -> Result<O> + Send + Sync;

/// Compiled functions by signature, and the last one called, which is usually the next.
struct Programs<O> {
    all: Cache<Signature, Cached<O>>,
    last: Option<Cached<O>>,
    /// How many have been dropped.
    dropped: usize,
}

/// The signature of a call, as bytes.
type Signature = Arc<[u8]>;

/// What was compiled for a signature.
type Cached<O> = (Signature, Arc<Compiled<O>>);

impl<O> Programs<O> {
    fn find(&mut self, signature: &[u8]) -> Option<Arc<Compiled<O>>> {
        if let Some((last, compiled)) = &self.last
            && **last == *signature
        {
            return Some(compiled.clone());
        }
        self.last = Some(self.all.get(signature)?.clone());
        self.last.as_ref().map(|(_, compiled)| compiled.clone())
    }

    /// Inserts what was compiled, unless another thread was faster. Returns what is cached, and what was evicted.
    fn insert(&mut self, signature: Signature, compiled: Compiled<O>) -> (Arc<Compiled<O>>, Vec<Cached<O>>) {
        if let Some((_, cached)) = self.all.get(&signature) {
            return (cached.clone(), Vec::new());
        }
        let compiled = Arc::new(compiled);
        let evicted = self.all.insert(signature.clone(), (signature.clone(), compiled.clone()), 1);
        self.dropped += evicted.len();
        self.last = Some((signature, compiled.clone()));
        (compiled, evicted)
    }

    /// A warning, once, when as many programs have been dropped as are cached: more than one odd batch.
    fn warning(&self, name: &str, dropped_now: usize) -> Option<String> {
        let bound = self.all.bound();
        let is_new = (self.dropped - dropped_now..self.dropped).contains(&(bound.max(1) - 1));
        is_new.then(|| {
            format!(
                "fulgurite: `{name}` was traced and compiled for {} argument signatures (shapes, element types, \
                 static values) and keeps the programs of the last {bound}; others are compiled again. Bring batches \
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
    /// The result's structure; its leaves are tracers.
    pub(crate) result: O,
}

/// Compiles `f`, all of whose arguments are donated. It returns a tree, or a [`Result`] of one, so that `?` works
/// inside; a call returns one `Result` in both cases.
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
    /// Compiles `f` of donated and borrowed arguments, which returns a tree or a [`Result`] of one. Dumps and errors
    /// use `name`.
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

    /// Caches the programs of the `count` most recently used signatures (at least one), in place of 64. A function is
    /// traced and compiled again for a signature whose program has been dropped.
    pub fn keep_programs(mut self, count: usize) -> Self {
        let programs = self.compiled.get_mut().unwrap_or_else(PoisonError::into_inner);
        programs.dropped += programs.all.set_bound(count).len();
        self
    }

    /// The number of cached programs.
    pub fn programs(&self) -> usize {
        self.compiled().all.len()
    }

    /// The cache; a panic cannot leave it inconsistent.
    fn compiled(&self) -> MutexGuard<'_, Programs<O>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the function: traces and compiles it for a new signature, else makes one call of machine code. Inside of
    /// another traced function it becomes part of that.
    ///
    /// # Errors
    /// The first error of tracing (wrong shapes, element types, axes, a read of a traced value), with the op and the
    /// user's line; a poisoned argument; the function's own error, where it returns a [`Result`]; unbounded recursion;
    /// an allocation that fails, with its purpose, type and bytes; the device of an argument that fails; a bug of
    /// fulgurite, in place of a panic.
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

    /// Runs the compiled function, which overwrites what `donated` owns. Leaves written in place are also the result's;
    /// the caller drops `donated`.
    #[inline]
    pub(crate) fn run(&self, donated: &mut A, borrowed: &B) -> Result<O> {
        match self.run_cached(donated, borrowed, |signature| self.compiled().find(signature))? {
            Some(done) => Ok(done),
            None => self.compile_and_run(donated, borrowed),
        }
    }

    /// [`Jit::run`] for a new signature.
    #[cold]
    fn compile_and_run(&self, donated: &mut A, borrowed: &B) -> Result<O> {
        let (found, compiled) = self.find_or_compile(donated, borrowed)?;
        let changed = || self.with_name(Error::new("an argument shows other leaves each time it is looked at"));
        // Not looked up again: it may have been evicted.
        self.run_cached(donated, borrowed, |signature| (signature == found).then_some(compiled))?.ok_or_else(changed)
    }

    /// [`Jit::run`], if `cached` returns the program for the signature.
    #[inline(always)]
    fn run_cached(
        &self,
        donated: &mut A,
        borrowed: &B,
        cached: impl FnOnce(&[u8]) -> Option<Arc<Compiled<O>>>,
    ) -> Result<Option<O>> {
        let mut inputs = Inputs::with_capacity(self.leaves.load(Relaxed));
        let mut held = Held::new();
        // Taken: the code of a tree may call compiled functions.
        let mut signature = SIGNATURE.take();
        signature.0.clear();
        collect(|collector| donated.visit_mut(collector), &mut signature, &mut inputs, Some(&mut held))?;
        collect_borrowed(current_id()?, borrowed, &mut signature, &mut inputs)?;
        let cached = cached(&signature.0);
        SIGNATURE.set(signature);
        let Some(compiled) = cached else { return Ok(None) };
        self.leaves.store(inputs.len(), Relaxed);
        // SAFETY: the signature determines the types of these leaves and how many are donated, whatever trees write
        // into it. Leaves that the donated tree owns are borrowed by this call alone; of its others a handle is held.
        let results = guarded("running a program", || unsafe { compiled.program.run_unchecked(&inputs) });
        drop(held);
        let results = results.map_err(|error| self.with_name(error))?;
        Ok(Some(unflatten(&compiled.result, results.into_iter().map(Tensor::from))))
    }

    /// An error of the function's program.
    #[cold]
    pub(crate) fn with_name(&self, error: Error) -> Error {
        error.context(format_args!("`{}`", self.name))
    }

    /// The signature, and its compiled function, which is traced and compiled if the signature is new.
    pub(crate) fn find_or_compile(&self, donated: &A, borrowed: &B) -> Result<(Vec<u8>, Arc<Compiled<O>>)> {
        let (mut signature, mut inputs) = (Bytes::default(), Inputs::new());
        collect(|collector| donated.visit(collector), &mut signature, &mut inputs, None)?;
        let donated_count = inputs.len();
        let device = current()?;
        collect_borrowed(device.id(), borrowed, &mut signature, &mut inputs)?;
        let cached = self.compiled().find(&signature.0);
        let compiled = match cached {
            Some(compiled) => compiled,
            None => {
                // Those of the signature: a tree may show others when it is visited again.
                let types: Vec<TensorType> = inputs.iter().map(|x| x.ty().clone()).collect();
                self.compile(signature.0.as_slice().into(), &types, donated_count, (donated, borrowed), &device)?
            }
        };
        Ok((signature.0, compiled))
    }

    /// Traces and compiles for `device` and leaves of these types, the first `donated_count` of which are donated.
    fn compile(
        &self,
        signature: Signature,
        types: &[TensorType],
        donated_count: usize,
        (donated, borrowed): (&A, &B),
        device: &Opened,
    ) -> Result<Arc<Compiled<O>>> {
        self.dump_change(&types.iter().map(ToString::to_string).collect::<Vec<_>>());
        self.traces.fetch_add(1, Relaxed);
        let mut result = None;
        let traced = trace_call(types, |params| {
            let (first, second) = params.split_at(donated_count);
            let donated = unflatten(donated, first.iter().cloned());
            let borrowed = unflatten(borrowed, second.iter().cloned());
            let output = (self.function)(donated, borrowed)?;
            let outputs = leaves(&output);
            result = Some(output);
            Ok(outputs)
        })?;
        if !traced.captures.is_empty() {
            let reason = "it uses a tensor of a function that is being traced, which is not an argument of it";
            return Err(self.with_name(Error::new(reason)));
        }
        let donated: Vec<bool> = (0..types.len()).map(|i| i < donated_count).collect();
        let program = Program::compile_tuned(&self.name, &traced.graph, &donated, device)?;
        let result = result.expect("the function was traced");
        let mut programs = self.compiled();
        let (compiled, evicted) = programs.insert(signature, Compiled { program, result });
        let warning = if evicted.is_empty() { None } else { programs.warning(&self.name, evicted.len()) };
        drop(programs);
        if !evicted.is_empty() {
            dump(
                Stage::Cache,
                &format!("{}: {} of its programs dropped", self.name, evicted.len()),
                &"least recently used",
            );
        }
        if let Some(warning) = warning {
            eprintln!("{warning}");
        }
        Ok(compiled)
    }

    /// The number of times the function has been traced.
    pub fn traces(&self) -> usize {
        self.traces.load(Relaxed)
    }

    /// `FULGURITE_DUMP=cache`: which argument changed the signature.
    fn dump_change(&self, types: &[String]) {
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
    /// The buffer of the current signature, so that a call does not allocate one.
    static SIGNATURE: Cell<Bytes> = const { Cell::new(Bytes(Vec::new())) };
}

/// The leaves of a call.
pub(crate) type Inputs<'t> = SmallVec<[&'t Array; 32]>;

/// Second handles to leaves that a donated tree does not own, so that they are not overwritten.
type Held = SmallVec<[Array; 2]>;

/// What a trace depends on besides its arguments: the precision of contractions, where one is asked for, and whether
/// the default types have 64 bits.
#[inline]
fn write_scope(signature: &mut Bytes) {
    if let Some(precision) = matmul_precision() {
        signature.write_usize(header(b'p', precision as usize));
    }
    if x64() {
        signature.write_usize(header(b'x', 1));
    }
}

/// The signature of borrowed arguments, without the device: that of a resident state does not change.
/// `inputs` become their leaves.
pub(crate) fn signature<'t>(borrowed: &'t impl Tree, inputs: &mut Inputs<'t>) -> Result<Vec<u8>> {
    let mut signature = Bytes::default();
    write_scope(&mut signature);
    collect(|collector| borrowed.visit(collector), &mut signature, inputs, None)?;
    Ok(signature.0)
}

/// Have borrowed arguments the signature `expected`? `inputs` become their leaves.
pub(crate) fn has_signature<'t>(borrowed: &'t impl Tree, expected: &[u8], inputs: &mut Inputs<'t>) -> Result<bool> {
    let mut signature = SIGNATURE.take();
    signature.0.clear();
    write_scope(&mut signature);
    collect(|collector| borrowed.visit(collector), &mut signature, inputs, None)?;
    let is_same = signature.0 == expected;
    SIGNATURE.set(signature);
    Ok(is_same)
}

/// The first word of a part of a signature: its tag, and its length or type. No part is a prefix of another, so that
/// two signatures are equal only if all their parts are.
#[inline]
fn header(tag: u8, size: usize) -> usize {
    size << 8 | usize::from(tag)
}

/// The second half of a signature, after the donated arguments: the device, the precision of contractions where one is
/// asked for, and the borrowed arguments.
fn collect_borrowed<'t>(
    device: u64,
    borrowed: &'t impl Tree,
    signature: &mut Bytes,
    inputs: &mut Inputs<'t>,
) -> Result<()> {
    // The word that divides the halves, so that the device adds none.
    signature.write_usize(header(b'|', device as usize));
    write_scope(signature);
    collect(|collector| borrowed.visit(collector), signature, inputs, None)
}

/// Appends the signature of what `visit` shows and collects its leaves; leaves that a donated tree does not own are
/// `held`.
fn collect<'t>(
    visit: impl FnOnce(&mut dyn Visitor<'t>),
    signature: &mut Bytes,
    inputs: &mut Inputs<'t>,
    held: Option<&mut Held>,
) -> Result<()> {
    struct Collector<'c, 't> {
        signature: &'c mut Bytes,
        inputs: &'c mut Inputs<'t>,
        held: Option<&'c mut Held>,
        error: Option<Error>,
    }
    impl<'t> Collector<'_, 't> {
        #[inline]
        fn add(&mut self, tensor: &'t Tensor) {
            let ty = tensor.ty();
            let first = header(b'*', ty.rank() << 8 | ty.dtype as usize);
            let signature = &mut self.signature.0;
            signature.reserve(size_of::<usize>() * (1 + ty.rank()));
            for word in std::iter::once(&first).chain(&ty.shape) {
                signature.extend_from_slice(&word.to_ne_bytes());
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
        // Borrowed exclusively, for as long as the inputs.
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
        // The length keeps the bytes of a static value apart from leaves.
        fn write(&mut self, bytes: &[u8]) {
            let signature = &mut self.signature.0;
            signature.reserve(size_of::<usize>() + bytes.len());
            signature.extend_from_slice(&header(b's', bytes.len()).to_ne_bytes());
            signature.extend_from_slice(bytes);
        }
    }
    let mut collector = Collector { signature, inputs, held, error: None };
    visit(&mut collector);
    match collector.error {
        None => Ok(()),
        Some(error) => {
            // Within a trace: an argument without data.
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
    fn a_function_of_many_signatures_is_warned_of_once() {
        for bound in [0, 1, 2, 7] {
            let mut programs = Programs::<()>::default();
            programs.all.set_bound(bound);
            let mut warnings = Vec::new();
            for id in 0..40u8 {
                let program = Program::compile("empty", &Graph::new(), &[]).expect("nothing to compile");
                let (_, evicted) = programs.insert([id].as_slice().into(), Compiled { program, result: () });
                warnings.extend(programs.warning("step", evicted.len()).filter(|_| !evicted.is_empty()));
            }
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            let bound = bound.max(1);
            assert!(
                warnings[0].contains(&format!("`step` was traced and compiled for {} argument signatures", 2 * bound)),
                "{warnings:?}"
            );
        }
    }

    #[test]
    fn a_signature_that_two_threads_compile_is_cached_once() {
        let mut programs = Programs::<()>::default();
        let compiled = || Compiled {
            program: Program::compile("empty", &Graph::new(), &[]).expect("nothing to compile"),
            result: (),
        };
        let (first, _) = programs.insert([1].as_slice().into(), compiled());
        let (second, evicted) = programs.insert([1].as_slice().into(), compiled());
        assert!(Arc::ptr_eq(&first, &second) && evicted.is_empty() && programs.all.len() == 1);
    }
}

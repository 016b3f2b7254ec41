//! `Jit`: a function that is traced and compiled when it is first called with arguments of a new kind.
//!
//! The kind of a call is the structure of the argument trees, the types of their leaves and their static values. It is
//! written into a few hundred bytes and looked up; a call of a known kind costs that, and one call of machine code.

use std::cell::RefCell;
use std::hash::Hasher;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use fulgurite_jit::dump::{Stage, dump, wants};
use fulgurite_jit::trace::{trace, tracing};
use fulgurite_jit::tree::Bytes;
use fulgurite_jit::types::join;
use fulgurite_jit::{Array, Error, Name, Result, Tensor, Tree, Visitor, leaves, unflatten};
use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::program::Program;

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
    function: Box<dyn Fn(A, B) -> O + Send + Sync>,
    compiled: Mutex<Cache<O>>,
    traces: AtomicUsize,
    /// How many leaves the last call had.
    leaves: AtomicUsize,
    last: Mutex<Option<Vec<String>>>,
}

/// Compiled functions by the kind of call, and the one that was called last, which mostly is the next again.
struct Cache<O> {
    all: HashMap<Key, Arc<Compiled<O>>>,
    last: Option<(Key, Arc<Compiled<O>>)>,
}

/// The kind of a call, as bytes.
type Key = Arc<[u8]>;

impl<O> Cache<O> {
    fn find(&mut self, key: &[u8]) -> Option<Arc<Compiled<O>>> {
        if let Some((last, compiled)) = &self.last
            && **last == *key
        {
            return Some(compiled.clone());
        }
        let (key, compiled) = self.all.get_key_value(key)?;
        self.last = Some((key.clone(), compiled.clone()));
        Some(compiled.clone())
    }
}

impl<O> Default for Cache<O> {
    fn default() -> Self {
        Cache { all: HashMap::new(), last: None }
    }
}

pub(crate) struct Compiled<O> {
    pub(crate) program: Program,
    /// The result's structure; its leaves are stand-ins.
    pub(crate) result: O,
}

/// Compiles `f`, all of whose arguments are donated.
pub fn jit<A: Tree, O: Tree>(f: impl Fn(A) -> O + Send + Sync + 'static) -> Jit<A, (), O> {
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
    /// Compiles `f` of donated and borrowed arguments. `name` is what dumps call it.
    pub fn with_borrowed(name: &str, f: impl Fn(A, B) -> O + Send + Sync + 'static) -> Self {
        Jit {
            name: name.into(),
            function: Box::new(f),
            compiled: Mutex::default(),
            traces: AtomicUsize::new(0),
            leaves: AtomicUsize::new(0),
            last: Mutex::default(),
        }
    }

    /// Calls the function: traced and compiled if the arguments are of a new kind, as one machine-code call otherwise.
    /// Inside of another traced function it becomes part of that.
    ///
    /// # Errors
    /// The first mistake that tracing met (wrong shapes, element types, axes), with the op and the user's line; an
    /// argument that is the result of such a mistake.
    pub fn call_with(&self, donated: A, borrowed: B) -> Result<O> {
        if tracing() {
            return Ok((self.function)(donated, borrowed));
        }
        let mut inputs = Inputs::with_capacity(self.leaves.load(Relaxed));
        let compiled = self.find(&donated, &borrowed, &mut inputs)?;
        self.leaves.store(inputs.len(), Relaxed);
        // The key says that the types are those of the program.
        let results = compiled.program.run_known(&inputs);
        // What was written in place is the result's alone.
        drop(inputs);
        drop((donated, borrowed));
        Ok(unflatten(&compiled.result, results.into_iter().map(Tensor::from)))
    }

    /// The compiled function for these arguments, of which `inputs` become the leaves; traced and compiled if they are
    /// of a new kind.
    pub(crate) fn find<'t>(
        &self,
        donated: &'t A,
        borrowed: &'t B,
        inputs: &mut Inputs<'t>,
    ) -> Result<Arc<Compiled<O>>> {
        let known = KEY.with_borrow_mut(|key| {
            key.0.clear();
            collect(donated, key, inputs)?;
            key.write_u8(b'|');
            collect(borrowed, key, inputs)?;
            let mut compiled = self.compiled.lock().map_err(|_| Error::new("a thread panicked while compiling"))?;
            Ok::<_, Error>(compiled.find(&key.0))
        })?;
        match known {
            Some(compiled) => Ok(compiled),
            None => {
                let key = KEY.with_borrow(|key| key.0.clone());
                self.compile(key, donated, borrowed)
            }
        }
    }

    /// Traces and compiles without calling.
    fn compile(&self, key: Vec<u8>, donated: &A, borrowed: &B) -> Result<Arc<Compiled<O>>> {
        let (given, lent) = (leaves(donated), leaves(borrowed));
        let types: Vec<_> = given.iter().chain(&lent).map(|x| x.ty().clone()).collect();
        self.explain(&types.iter().map(ToString::to_string).collect::<Vec<_>>());
        self.traces.fetch_add(1, Relaxed);
        let mut result = None;
        let traced = trace(&types, |params| {
            let (first, second) = params.split_at(given.len());
            let donated = unflatten(donated, first.iter().cloned());
            let borrowed = unflatten(borrowed, second.iter().cloned());
            let output = (self.function)(donated, borrowed);
            let outputs = leaves(&output);
            result = Some(output);
            outputs
        })?;
        let donated: Vec<bool> = (0..types.len()).map(|i| i < given.len()).collect();
        let program = Program::compile(&self.name, &traced.graph, &donated)?;
        let result = result.expect("the function was traced");
        let compiled = Arc::new(Compiled { program, result });
        let mut all = self.compiled.lock().map_err(|_| Error::new("a thread panicked while compiling"))?;
        Ok(all.all.entry(key.into()).or_insert(compiled).clone())
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
    static KEY: RefCell<Bytes> = const { RefCell::new(Bytes(Vec::new())) };
}

/// The leaves of a call.
pub(crate) type Inputs<'t> = SmallVec<[&'t Array; 32]>;

/// The kind of borrowed arguments, alone.
pub(crate) fn kind(borrowed: &impl Tree) -> Result<Vec<u8>> {
    let mut key = Bytes::default();
    collect(borrowed, &mut key, &mut Inputs::new())?;
    Ok(key.0)
}

/// Are borrowed arguments of the kind `known`? `inputs` become their leaves.
pub(crate) fn is_of_kind<'t>(borrowed: &'t impl Tree, known: &[u8], inputs: &mut Inputs<'t>) -> Result<bool> {
    KEY.with_borrow_mut(|key| {
        key.0.clear();
        collect(borrowed, key, inputs)?;
        Ok(key.0 == known)
    })
}

/// Writes the kind of `tree` and collects its leaves.
fn collect<'t>(tree: &'t impl Tree, key: &mut Bytes, inputs: &mut Inputs<'t>) -> Result<()> {
    struct Collector<'c, 't> {
        key: &'c mut Bytes,
        inputs: &'c mut Inputs<'t>,
        error: Option<Error>,
    }
    impl<'t> Visitor<'t> for Collector<'_, 't> {
        fn leaf(&mut self, tensor: &'t Tensor) {
            let ty = tensor.ty();
            // With the rank in front, so that no two types look alike.
            let kind = usize::from(b'*') << 24 | (ty.dtype as usize) << 16 | ty.rank();
            let key = &mut self.key.0;
            key.reserve(size_of::<usize>() * (1 + ty.rank()));
            for word in std::iter::once(&kind).chain(&ty.shape) {
                key.extend_from_slice(&word.to_ne_bytes());
            }
            match tensor.array() {
                Ok(array) => self.inputs.push(array),
                Err(error) => {
                    self.error.get_or_insert(error);
                }
            }
        }
        fn enter(&mut self, _: Name) {}
        fn leave(&mut self) {}
        fn structure(&mut self) -> &mut dyn Hasher {
            self.key
        }
    }
    let mut collector = Collector { key, inputs, error: None };
    tree.visit(&mut collector);
    collector.error.map_or(Ok(()), Err)
}

//! What a step may overwrite: the memory of leaves that were given to it and that no one else can see.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use fulgurite::compiler::cpu::{Isa, Target};
use fulgurite::prelude::*;
use fulgurite::runtime::Program;
use fulgurite::{Array, Element, Visitor, lower};

/// A tree, written by hand, whose leaf others may see too.
#[derive(Clone)]
struct InArc(Arc<Tensor>);

impl Tree for InArc {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        visitor.leaf(&self.0);
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        InArc(Arc::new(f(&self.0)))
    }
}

#[derive(Clone)]
struct Static(&'static Tensor);

impl Tree for Static {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        visitor.leaf(self.0);
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        Static(Box::leak(Box::new(f(self.0))))
    }
}

fn ones() -> Result<Tensor> {
    Tensor::from_vec(&[4], vec![1.0f32; 4])
}

#[test]
fn what_is_in_an_arc_is_not_overwritten() -> Result<()> {
    let step = jit(|x: InArc| InArc(Arc::new(&*x.0 * 2.0)));
    let shared = InArc(Arc::new(ones()?));
    let seen = shared.0.array()?.as_slice::<f32>()?;
    for _ in 0..3 {
        assert_eq!(step.call(shared.clone())?.0.to_vec::<f32>()?, [2.0; 4]);
        assert_eq!(seen, [1.0; 4]);
    }
    // Nor as the state of a bound step.
    let mut bound = Jit::with_borrowed("bound", |x: InArc, ()| (InArc(Arc::new(&*x.0 * 2.0)), ())).bind(shared.clone());
    for _ in 0..3 {
        bound.call(())?;
        assert_eq!(seen, [1.0; 4]);
    }
    assert_eq!(bound.into_state().0.to_vec::<f32>()?, [8.0; 4]);
    Ok(())
}

#[test]
fn what_is_behind_a_static_reference_is_not_overwritten() -> Result<()> {
    let tensor: &'static Tensor = Box::leak(Box::new(ones()?));
    let seen = tensor.array()?.as_slice::<f32>()?;
    let step = jit(|x: Static| x.0 * 2.0);
    for _ in 0..3 {
        assert_eq!(step.call(Static(tensor))?.to_vec::<f32>()?, [2.0; 4]);
        assert_eq!(seen, [1.0; 4]);
    }
    Ok(())
}

#[test]
fn leaves_that_a_tree_owns_are_updated_in_place() -> Result<()> {
    #[derive(Tree, Clone)]
    struct Owned {
        list: Vec<Tensor>,
        optional: Option<Box<Tensor>>,
        pair: (Tensor, [Tensor; 1]),
        #[tree(static)]
        rate: f64,
    }
    #[derive(Tree, Clone)]
    enum Either {
        Owned(Owned),
        #[allow(dead_code, reason = "so that it is an enum of several shapes")]
        Nothing,
    }
    let tree = Either::Owned(Owned {
        list: vec![ones()?, ones()?],
        optional: Some(Box::new(ones()?)),
        pair: (ones()?, [ones()?]),
        rate: 0.5,
    });
    let step = jit(|x: Either| x.map(&mut |leaf| leaf * 2.0));
    let places = |x: &Either| -> Result<Vec<usize>> {
        fulgurite::leaves(x).iter().map(|x| Ok(x.array()?.buffer().start() as usize)).collect()
    };
    let before = places(&tree)?;
    let after = step.call(tree)?;
    assert_eq!(places(&after)?, before);
    Ok(())
}

#[test]
fn a_tree_that_shows_other_leaves_each_time_is_an_error_or_right() -> Result<()> {
    #[derive(Clone)]
    struct Fickle(Arc<AtomicUsize>, Tensor, Tensor);
    impl Tree for Fickle {
        fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
            let first = self.0.fetch_add(1, Relaxed).is_multiple_of(2);
            visitor.leaf(if first { &self.1 } else { &self.2 });
        }
        fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
            let leaf = f(&self.1);
            Fickle(Arc::default(), leaf.clone(), leaf)
        }
    }
    for start in 0..4 {
        let large = Tensor::from_vec(&[4096], vec![1.0f32; 4096])?;
        let fickle = Fickle(Arc::new(AtomicUsize::new(start)), ones()?, large);
        let step = jit(|x: Fickle| x.1.sum());
        for _ in 0..4 {
            if let Ok(sum) = step.call(fickle.clone()) {
                assert!([4.0, 4096.0].contains(&sum.item::<f32>()?));
            }
        }
        let mut bound = Jit::with_borrowed("bound", |x: Tensor, y: Fickle| (&x + &y.1.sum(), ())).bind(ones()?);
        for _ in 0..4 {
            let _ = bound.call(fickle.clone());
        }
        assert_eq!(bound.into_state().shape(), [4]);
    }
    Ok(())
}

#[test]
fn truth_values_are_zero_or_one_however_they_come() -> Result<()> {
    let ty = fulgurite::TensorType::new(DType::Bool, &[3]);
    assert!(Array::from_bytes(&ty, &[0, 1, 2]).is_err());
    let mut array = Array::zeros(&ty)?;
    assert!(array.refill(&ty, |bytes| bytes.copy_from_slice(&[0, 7, 255])));
    assert_eq!(array.as_slice::<bool>()?, [false, true, true]);
    let held = array.clone();
    assert!(!array.refill(&ty, |bytes| bytes.fill(0)), "somebody else holds it");
    assert_eq!(held.as_slice::<bool>()?, [false, true, true]);
    Ok(())
}

/// A tree that writes other bytes where others have leaves.
#[derive(Clone, Default)]
struct Forger {
    before: Vec<u8>,
    leaf: Option<Tensor>,
    after: Vec<u8>,
}

impl Tree for Forger {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        visitor.structure().write(&self.before);
        self.leaf.iter().for_each(|leaf| visitor.leaf(leaf));
        visitor.structure().write(&self.after);
    }
    fn visit_mut<'t>(&'t mut self, visitor: &mut dyn Visitor<'t>) {
        visitor.structure().write(&self.before);
        self.leaf.iter_mut().for_each(|leaf| visitor.leaf_mut(leaf));
        visitor.structure().write(&self.after);
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        Forger { leaf: self.leaf.as_ref().map(f), ..self.clone() }
    }
}

/// Words as a call's key may have them: of 8 bytes, or cut to the first.
fn forgeries(words: &[usize]) -> [Vec<u8>; 2] {
    [words.iter().flat_map(|word| word.to_ne_bytes()).collect(), words.iter().map(|&word| word as u8).collect()]
}

#[test]
fn bytes_that_look_like_a_leaf_are_none() -> Result<()> {
    let dtype = DType::F32 as usize;
    let star = usize::from(b'*');
    // As leaves were written, and as they are.
    for kind in [star << 24 | dtype << 16 | 1, (1 << 8 | dtype) << 8 | star] {
        for bytes in forgeries(&[kind, 4]) {
            let step = jit(|x: Forger| x.leaf.map_or(Tensor::scalar(-1.0f32), |x| x.sum()));
            let real = Forger { leaf: Some(ones()?), ..Forger::default() };
            assert_eq!(step.call(real)?.item::<f32>()?, 4.0);
            let forged = Forger { before: bytes, ..Forger::default() };
            assert_eq!(step.call(forged)?.item::<f32>()?, -1.0);
            assert_eq!(step.traces(), 2);
        }
    }
    Ok(())
}

/// Leaves in an `Arc`, of which a borrowed tree shows some: no further handle keeps them from being overwritten.
#[derive(Clone)]
struct Lent(Arc<Forger>);

impl Tree for Lent {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        self.0.visit(visitor);
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        Lent(Arc::new(self.0.map(f)))
    }
}

#[test]
fn bytes_that_look_like_the_end_of_what_is_given_away_are_none() -> Result<()> {
    for bar in forgeries(&[usize::from(b'|')]) {
        let double = |x: &Forger| x.leaf.as_ref().map(|x| x * 2.0);
        let step = Jit::with_borrowed("double", move |x: Forger, y: Lent| double(&x).or(double(&y.0)));
        // Given away after the bytes, then borrowed before them.
        let given = Forger { before: bar.clone(), leaf: Some(ones()?), ..Forger::default() };
        assert!(step.call_with(given, Lent(Arc::default()))?.is_some());
        let lent = Lent(Arc::new(Forger { leaf: Some(ones()?), after: bar, ..Forger::default() }));
        let doubled = step.call_with(Forger::default(), lent.clone())?.map(|x| x.to_vec::<f32>()).transpose()?;
        assert_eq!(doubled, Some(vec![2.0; 4]));
        assert_eq!(lent.0.leaf.as_ref().map(Tensor::to_vec::<f32>).transpose()?, Some(vec![1.0; 4]));
    }
    Ok(())
}

/// A tree that shows so many of its leaves at first, and so many from then on.
struct Shy {
    looks: AtomicUsize,
    shown: [usize; 2],
    leaves: [Tensor; 2],
}

impl Shy {
    fn new(shown: [usize; 2], leaves: [Tensor; 2]) -> Self {
        Shy { looks: AtomicUsize::new(0), shown, leaves }
    }
}

impl Tree for Shy {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        let look = self.looks.fetch_add(1, Relaxed);
        self.leaves[..self.shown[look.min(1)]].iter().for_each(|leaf| visitor.leaf(leaf));
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        let mut leaves = self.leaves.clone();
        let last = self.looks.load(Relaxed).saturating_sub(1).min(1);
        leaves[..self.shown[last]].iter_mut().for_each(|leaf| *leaf = f(leaf));
        Shy::new(self.shown, leaves)
    }
}

/// The state shows two leaves when the step is compiled and one when it is kept; what is borrowed shows the other then.
#[test]
fn what_is_lent_to_a_bound_step_is_not_overwritten_as_a_state_that_went_missing() -> Result<()> {
    let step = |x: Shy, _: Arced| (Shy::new([1, 1], x.leaves.clone().map(|x| x * 2.0)), &x.leaves[1] * 3.0);
    let mut bound = Jit::with_borrowed("shy", step).bind(Shy::new([2, 1], [ones()?, ones()?]));
    let lent = Arc::new(Shy::new([0, 1], [ones()?, ones()?]));
    let seen = lent.leaves[0].array()?.as_slice::<f32>()?;
    for _ in 0..3 {
        let _ = bound.call(Arced(lent.clone()));
        assert_eq!(seen, [1.0; 4]);
    }
    Ok(())
}

struct Arced(Arc<Shy>);

impl Tree for Arced {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        self.0.visit(visitor);
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        Arced(Arc::new(self.0.map(f)))
    }
}

#[test]
fn a_result_takes_the_place_of_an_argument_of_as_large_elements_alone() -> Result<()> {
    /// Where an argument was, and where the result is that has as many bytes.
    fn places<T: Element>(x: Vec<T>, to: DType) -> Result<[usize; 2]> {
        let x = Tensor::from_vec(&[x.len()], x)?;
        // The product reads a copy as f32, so that all of the argument has been read when the result is written.
        let wide = 16 / to.size();
        let weights = (0..x.shape()[0] * wide).map(|i| i as f32).collect();
        let weights = Tensor::from_vec(&[x.shape()[0], wide], weights)?;
        let step = jit(move |x: Tensor| {
            let read = (x.convert(DType::F32) + 1.0).reshape(&[1, x.shape()[0]]);
            read.matmul(&weights).reshape(&[wide]).convert(to)
        });
        let before = x.array()?.buffer().start() as usize;
        let result = step.call(x)?;
        Ok([before, result.array()?.buffer().start() as usize])
    }
    let is_kept = |[before, after]: [usize; 2]| before == after;
    assert!(is_kept(places(vec![1.0f32; 4], DType::F32)?));
    assert!(is_kept(places(vec![1i32; 4], DType::F32)?));
    assert!(is_kept(places(vec![true; 16], DType::Bool)?));
    assert!(!is_kept(places(vec![true; 16], DType::F32)?));
    assert!(!is_kept(places(vec![1.0f32; 4], DType::Bool)?));
    assert!(!is_kept(places(vec![1.0f32; 4], DType::F64)?));
    assert!(!is_kept(places(vec![1.0f64; 2], DType::U32)?));
    Ok(())
}

#[test]
fn a_key_that_is_given_away_is_updated_in_place() -> Result<()> {
    let place = |key: &Key| key.key_data().array().map(|x| x.buffer().start() as usize);
    let step = jit(|key: Key| Key::wrap_key_data(key.key_data().xor(5u32)));
    let key = Key::new(3);
    let before = place(&key)?;
    assert_eq!(place(&step.call(key)?)?, before);
    Ok(())
}

#[test]
fn memory_is_refilled_with_what_fits_alone() -> Result<()> {
    let ty = |dtype, shape: &[usize]| fulgurite::TensorType::new(dtype, shape);
    let mut array = Array::zeros(&ty(DType::F32, &[4]))?;
    for (dtype, shape, fits) in [
        (DType::F64, &[2][..], true),
        (DType::F64, &[3], false),
        (DType::Bool, &[16], true),
        (DType::Bool, &[17], false),
        (DType::F32, &[0], true),
        (DType::F32, &[0, usize::MAX, 3], false),
        (DType::F32, &[(1 << 63) + 1, 2], false),
        (DType::F32, &[2, 2], true),
    ] {
        let ty = ty(dtype, shape);
        assert_eq!(array.is_only(&ty), fits, "{ty}");
        assert_eq!(array.refill(&ty, |bytes| bytes.fill(1)), fits, "{ty}");
    }
    assert_eq!(array.ty(), &ty(DType::F32, &[2, 2]));
    // Behind the bools there may be anything.
    for (was, elements) in [(DType::U32, 8), (DType::F64, 1), (DType::U32, 0)] {
        let mut array = Array::zeros(&ty(was, &[8]))?;
        assert!(array.refill(&ty(was, &[8]), |bytes| bytes.fill(7)));
        assert!(array.refill(&ty(DType::Bool, &[elements]), |bytes| bytes.fill(1)));
        assert_eq!(array.as_slice::<bool>()?, vec![true; elements]);
        assert_eq!(array.to_f64_vec().unwrap(), vec![1.0; elements]);
        assert_eq!(array.into_ndarray::<bool>()?.len(), elements);
    }
    Ok(())
}

#[test]
fn programs_are_compiled_for_vectors_that_there_are() -> Result<()> {
    let graph = lower(|x: Tensor| x + 1.0, &ones()?)?.graph;
    for isa in [Isa::Avx512, Isa::Avx2, Isa::Portable] {
        let target = Target { isa, ..Target::one_thread() };
        let program = Program::compile_for("vectors", &graph, &[false], target);
        assert_eq!(program.is_ok(), Isa::available().contains(&isa), "{isa:?}");
    }
    Ok(())
}

#[test]
fn programs_are_compiled_for_threads_that_there_can_be() -> Result<()> {
    // Rows that wait in scratch memory, which each thread has its own of.
    let graph = lower(|x: Tensor| softmax(&x.exp(), 1), &Tensor::ones(&[300, 300]))?.graph;
    let x = Array::zeros(&graph.param_types()[0])?;
    for (threads, runs) in [(0, false), (1, true), (7, true), (1024, true), (1025, false), (usize::MAX, false)] {
        let target = Target { threads, ..Target::one_thread() };
        match Program::compile_for("threads", &graph, &[false], target) {
            Ok(program) => {
                assert!(runs, "{threads}");
                assert_eq!(program.run(vec![x.clone()])?[0].to_f64_vec().unwrap()[0], f64::from(1.0f32 / 300.0));
            }
            Err(error) => {
                assert!(!runs, "{threads}: {error}");
                assert!(error.to_string().contains("1 to 1024 threads"), "{error}");
            }
        }
    }
    Ok(())
}

/// Two leaves, of which the second is of another type each third time that it is shown.
#[derive(Clone)]
struct Toggle(Tensor, [Tensor; 2], Arc<AtomicUsize>);

impl Tree for Toggle {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        visitor.leaf(&self.0);
        visitor.leaf(&self.1[usize::from(self.2.fetch_add(1, Relaxed) % 3 == 2)]);
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        Toggle(f(&self.0), [f(&self.1[0]), self.1[1].clone()], self.2.clone())
    }
}

#[test]
fn a_bound_function_of_a_tree_that_changes_ends() -> Result<()> {
    let toggle = Toggle(Tensor::ones(&[1]), [Tensor::ones(&[1]), Tensor::ones(&[2])], Arc::default());
    let step = Jit::with_borrowed("toggle", |s: Tensor, b: Toggle| (&s + b.0.sum(), s.sum()));
    let mut bound = step.bind(Tensor::zeros(&[3]));
    let mut sum = 0.0;
    for _ in 0..12 {
        if let Ok(before) = bound.call(toggle.clone()) {
            assert_eq!(before.item::<f32>()?, 3.0 * sum);
            sum += 1.0;
        }
    }
    assert_eq!(bound.into_state().to_vec::<f32>()?, vec![sum; 3]);
    Ok(())
}

/// Shows one leaf and has its `map` give two.
#[derive(Clone)]
struct Evil(Tensor);

impl Tree for Evil {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        visitor.leaf(&self.0);
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        let first = f(&self.0);
        Evil(first + f(&self.0))
    }
}

#[test]
fn a_tree_that_maps_more_leaves_than_it_shows_is_an_error() {
    let says = |result: Result<Tensor>| {
        let error = result.map_or_else(|e| e.to_string(), |_| "none".into());
        assert!(error.contains("its `map` asks for more than its `visit` shows"), "{error}");
    };
    let read = |x: Tensor| x.to_vec::<f32>().map(|_| x);
    says(jit(|e: Evil| e.0).call(Evil(Tensor::ones(&[2]))));
    says(jit(Evil).call(Tensor::ones(&[2])).and_then(|e| read(e.0)));
    says(read(grad(|e: &Evil| e.0.sum())(&Evil(Tensor::ones(&[2]))).0));
    let bound =
        Jit::with_borrowed("evil", |s: Evil, x: Tensor| (s, x)).bind(Evil(Tensor::ones(&[2]))).call(Tensor::ones(&[2]));
    says(bound.and_then(read));
}

#[test]
fn a_bound_function_that_reaches_into_a_trace_is_an_error() -> Result<()> {
    let outer = Arc::new(Mutex::new(None::<Tensor>));
    let inner = outer.clone();
    let counter = Jit::with_borrowed("counter", move |n: Tensor, x: Tensor| {
        let reached = inner.lock().ok().and_then(|x| x.clone()).unwrap_or_else(|| Tensor::scalar(1.0f32));
        (n + &x * reached, x)
    });
    let counter = Mutex::new(counter.bind(Tensor::scalar(0.0f32)));
    let (error, kept) = (Mutex::new(String::new()), outer.clone());
    let traced = jit(move |x: Tensor| {
        if let (Ok(mut outer), Ok(mut counter), Ok(mut error)) = (kept.lock(), counter.lock(), error.lock()) {
            *outer = Some(x.clone());
            drop(outer);
            *error = counter.call(Tensor::scalar(2.0f32)).map_or_else(|e| e.to_string(), |_| String::new());
            assert!(error.contains("uses a tensor of a function that is being traced"), "{error}");
        }
        x
    });
    assert_eq!(traced.call(Tensor::scalar(3.0f32))?.item::<f32>()?, 3.0);
    Ok(())
}

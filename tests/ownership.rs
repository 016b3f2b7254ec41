//! What a step may overwrite: the memory of leaves that were given to it and that nobody else can see.

use std::sync::Arc;

use fulgurite::prelude::*;
use fulgurite::{Array, Visitor};

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
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
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

//! A resident state has the values that calls with a state argument give.

use fulgurite_jit::{Result, Tensor};
use fulgurite_runtime::Jit;

fn vector(n: usize, first: f32) -> Result<Tensor> {
    Tensor::from_vec(&[n], (0..n).map(|i| first + i as f32).collect())
}

type Pair = (Tensor, Tensor);

/// A running sum and a count; the results are the sum and twice the input.
fn sums((total, count): Pair, x: Tensor) -> (Pair, Pair) {
    let next = &total + x.sum();
    ((next.clone(), count + 1), (next, x * 2.0))
}

#[test]
fn bound_calls_agree_with_calls() -> Result<()> {
    let step = Jit::with_borrowed("sums", sums);
    let start = || Ok::<_, fulgurite_jit::Error>((vector(40, 0.5)?, Tensor::scalar(0i32)));
    let mut state = start()?;
    let mut bound = Jit::with_borrowed("sums", sums).bind(start()?);
    // The last batch of an epoch has other shapes, and the next epoch the first ones again.
    for size in [8, 8, 8, 3, 8, 8, 3, 8] {
        let x = vector(size, 1.0)?;
        let (next, results) = step.call_with(state, x.clone())?;
        state = next;
        let (total, doubled) = bound.call(x)?;
        assert_eq!(total.array()?, results.0.array()?);
        assert_eq!(doubled.array()?, results.1.array()?);
        assert_eq!(bound.state().0.array()?, state.0.array()?);
    }
    assert_eq!(bound.traces(), 2);
    let (total, count) = bound.into_state();
    assert_eq!((total.array()?, count.item::<i32>()?), (state.0.array()?, 8));
    Ok(())
}

#[test]
fn a_resident_state_is_not_moved() -> Result<()> {
    let mut bound = Jit::with_borrowed("sums", sums).bind((vector(40, 0.5)?, Tensor::scalar(0i32)));
    let mut address = |size: usize| {
        bound.call(vector(size, 1.0)?)?;
        Ok::<_, fulgurite_jit::Error>(bound.state().0.array()?.buffer().start())
    };
    let first = address(8)?;
    for size in [8, 3, 3, 8] {
        assert_eq!(address(size)?, first);
    }
    Ok(())
}

#[test]
fn held_states_are_not_overwritten() -> Result<()> {
    let shared = vector(40, 0.0)?;
    let double = |(x, y): Pair, by: Tensor| ((&x * &by, &y + &by), x.sum());
    // Two leaves with one buffer, which the test holds too.
    let mut bound = Jit::with_borrowed("double", double).bind((shared.clone(), shared.clone()));
    let mut seen = vec![];
    for step in 0..4 {
        let sum = bound.call(Tensor::scalar(2.0f32))?.item::<f32>()?;
        assert_eq!(sum, 780.0 * 2f32.powi(step));
        seen.push(bound.state());
    }
    assert_eq!(shared.to_vec::<f32>()?, vector(40, 0.0)?.to_vec::<f32>()?);
    for (step, (x, y)) in seen.iter().enumerate() {
        assert_eq!(x.to_vec::<f32>()?[1], 2f32.powi(step as i32 + 1));
        assert_eq!(y.to_vec::<f32>()?[1], 1.0 + 2.0 * (step + 1) as f32);
    }
    Ok(())
}

#[test]
fn states_that_cannot_be_resident_are_passed_as_trees() -> Result<()> {
    // Leaves are swapped; one is new; a result is the state itself.
    let turn = |(x, y): Pair, (): ()| ((y.clone(), &x + &y), x);
    let mut bound = Jit::with_borrowed("fibonacci", turn).bind((Tensor::scalar(0i32), Tensor::scalar(1i32)));
    let numbers = (0..10).map(|_| bound.call(())?.item::<i32>()).collect::<Result<Vec<_>>>()?;
    assert_eq!(numbers, [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]);
    // The type of the state changes with the first call.
    let widen = |x: Tensor, (): ()| (&x + Tensor::scalar(0.5f32), ());
    let mut bound = Jit::with_borrowed("widen", widen).bind(Tensor::scalar(1i32));
    for _ in 0..3 {
        bound.call(())?;
    }
    assert_eq!(bound.into_state().item::<f32>()?, 2.5);
    Ok(())
}

#[test]
fn an_error_leaves_the_state() -> Result<()> {
    let step = |x: Tensor, y: Tensor| (&x + &y, x.sum());
    let mut bound = Jit::with_borrowed("step", step).bind(vector(3, 0.0)?);
    assert!(bound.call(vector(2, 0.0)?).is_err());
    bound.call(vector(3, 1.0)?)?;
    assert!(bound.call(vector(2, 0.0)?).is_err());
    bound.call(vector(3, 1.0)?)?;
    assert_eq!(bound.state().to_vec::<f32>()?, [2.0, 5.0, 8.0]);
    Ok(())
}

use fulgurite_autodiff::value_and_grad;
use fulgurite_jit::*;
use fulgurite_runtime::Jit;
use fulgurite_trainer::loss::mse;
use fulgurite_trainer::nn::Mlp;
use fulgurite_trainer::optim::adam;
use fulgurite_trainer::*;
use ndarray::Array2;
use std::time::Instant;
fn least(mut f: impl FnMut()) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..80 {
        let s = Instant::now();
        for _ in 0..500 {
            f()
        }
        least = least.min(s.elapsed().as_secs_f64());
    }
    least * 1e9 / 500.0
}
#[derive(Tree, Clone)]
struct M {
    #[tree(static)]
    name: std::sync::Arc<str>,
    value: Tensor,
}
fn main() -> Result<()> {
    let x = Array2::from_shape_fn((1600, 4), |(i, j)| ((i * 5 + j) % 17) as f32 / 17.0);
    let y = Array2::from_shape_fn((1600, 1), |(i, _)| (i % 7) as f32 / 7.0);
    let loader = DataLoader::new(ArrayDataset::new((x, y))?).batch_size(16).shuffle(true);
    let mut it = loader.iter()?;
    let mut e = 0;
    println!(
        "gather {:.0} ns",
        least(|| {
            if it.next().is_none() {
                e += 1;
                it.seek(e, 0);
            }
        })
    );
    println!(
        "now {:.0} ns",
        least(|| {
            std::hint::black_box(Instant::now());
        })
    );
    let model = Mlp::new(4, 1, 1, 2, gelu, Key::new(0));
    let st = adam(1e-3).init(&model);
    let batch = loader.iter()?.next().unwrap()?.0;
    let step = Jit::with_borrowed("bare", |(model, state), (x, y): (Tensor, Tensor)| {
        let (loss, grads) = value_and_grad(|m: &Mlp| mse(&m.call(&x), &y))(&model);
        let (updates, state) = adam(1e-3).update(grads, state, &model);
        ((apply_updates(model, updates), state), loss)
    });
    let own = |m: &Mlp| m.map(&mut |x| Tensor::from(Array::from_bytes(x.ty(), x.array().unwrap().bytes()).unwrap()));
    let mut s = Some((own(&model), st.clone()));
    println!("bare {:.0} ns", least(|| { s = Some(step.call_with(s.take().unwrap(), batch.clone()).unwrap().0) }));
    let name: std::sync::Arc<str> = "loss".into();
    let step = Jit::with_borrowed("full", move |st: TrainState<Mlp, _>, (x, y): (Tensor, Tensor)| {
        let (loss, grads) = value_and_grad(|m: &Mlp| mse(&m.call(&x), &y))(&st.model);
        let (updates, state) = adam(1e-3).update(grads, st.opt_state, &st.model);
        (
            TrainState { model: apply_updates(st.model, updates), opt_state: state, step: st.step + 1, key: st.key },
            vec![M { name: name.clone(), value: loss }],
        )
    });
    let mut s =
        Some(TrainState { model: own(&model), opt_state: st.clone(), step: Tensor::scalar(0i32), key: Key::new(0) });
    println!("state {:.0} ns", least(|| { s = Some(step.call_with(s.take().unwrap(), batch.clone()).unwrap().0) }));
    let mut it = loader.iter()?;
    println!(
        "state+gather {:.0} ns",
        least(|| {
            let b = loop {
                match it.next() {
                    Some(b) => break b.unwrap().0,
                    None => {
                        e += 1;
                        it.seek(e, 0);
                    }
                }
            };
            s = Some(step.call_with(s.take().unwrap(), b).unwrap().0)
        })
    );
    Ok(())
}

//! Training in f64 is f64 throughout: rates, bias corrections, schedules, layers, draws. The numbers are those of Optax
//! 0.2.8 and Equinox with `jax_enable_x64`; where Optax divides an integer count in f32 even then (some schedules, the
//! mean over several steps), of its formula in f64.

use fulgurite_autodiff::grad;
use fulgurite_jit::{DType, Key, Result, Tensor, leaves, relu};
use fulgurite_runtime::jit;
use fulgurite_trainer::loss::{accuracy, binary_cross_entropy, cross_entropy, huber, mse};
use fulgurite_trainer::nn::{Linear, Mlp};
use fulgurite_trainer::optim::schedule::*;
use fulgurite_trainer::optim::*;
use fulgurite_trainer::{apply_updates, chain};

const P: [f64; 3] = [1.4824106, -1.4088244, -1.8183315];
const A: [f64; 3] = [1.8518953, 0.45520797, 1.4909705];
const B: [f64; 3] = [1.0240899, 1.9251139, 1.0139852];

fn vector(x: &[f64]) -> Tensor {
    Tensor::from_vec(&[x.len()], x.to_vec()).expect("as many as there are")
}

#[track_caller]
fn assert_close(what: &str, got: &Tensor, want: &[f64], tolerance: f64) {
    let got = got.to_vec::<f64>().expect("f64");
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= tolerance * want.abs(), "{what}: {got}, not {want}");
    }
}

/// Twelve steps down `sum(a (p - b)²)`.
#[track_caller]
fn check(name: &str, optimizer: impl Optimizer, want: [f64; 3], tolerance: f64) {
    let mut p = vector(&P);
    let mut state = optimizer.init(&p);
    let step = jit(move |(p, state): (Tensor, _)| {
        let slope = grad(|p: &Tensor| ((p - vector(&B)).square() * vector(&A)).sum())(&p);
        let (updates, state) = optimizer.update(slope, state, &p);
        (apply_updates(p, updates), state)
    });
    for _ in 0..12 {
        (p, state) = step.call((p, state)).expect("a step");
    }
    assert_close(name, &p, &want, tolerance);
    assert!(leaves(&state).iter().all(|leaf| leaf.dtype() != DType::F32), "{name}: f32 in the state");
}

#[rustfmt::skip]
#[test]
fn every_optimiser_takes_optaxs_path_in_f64() {
    const EXACT: f64 = 1e-13;
    check("sgd", sgd(0.05), [1.0633407153876715, 0.018972127340242194, 0.6059457393224791], EXACT);
    check("momentum", sgd(0.05).momentum(0.9), [1.1817357008669882, 3.26902103228399, 0.8624944745980925], EXACT);
    check("adam", adam(0.1), [0.8557165355528109, -0.23035290533881286, -0.6449873200736083], EXACT);
    check("nadam", adam(0.1).nesterov(true), [0.9241687318759112, -0.16497544642646292, -0.5839635797801096], EXACT);
    check("adamw", adamw(0.1).weight_decay(1e-2), [0.8546753815325673, -0.22035177861056687, -0.6303198634361395], EXACT);
    check("adabelief", adabelief(0.1), [0.8902142710014892, 0.23110512480891487, -0.1981409028960215], EXACT);
    check("rmsprop", rmsprop(0.05).decay(0.9), [1.0269279915390659, -0.4764607097174677, -0.8966228193140362], EXACT);
    check("adagrad", adagrad(0.3), [1.024096398315269, 0.08254003684809624, -0.3628344075728477], EXACT);
    check("adamax", adamax(0.1), [0.9063321843890361, -0.3141694116580896, -0.742550277687761], EXACT);
    check("lion", lion(0.02), [1.24208125882911, -1.1685127175745642, -1.5779215466808305], EXACT);
    check("lamb", lamb(0.1), [0.9199911765504468, -0.09989755256500624, -0.5160947672336293], EXACT);
    check("adadelta", adadelta(1.0), [1.4427400072723913, -1.368149983794276, -1.7776854356344562], EXACT);
    check("amsgrad", amsgrad(0.1), [0.907384425616317, -0.3196784592161214, -0.7478749726654704], EXACT);
    check("yogi", yogi(0.1), [0.8555654850424641, -0.2325310138617291, -0.6469001754070984], EXACT);
    check("clipped", chain![clip_by_global_norm(1.0), adam(0.1)], [0.9004236196360377, -0.20465877766291893, -0.6180208940499625], EXACT);
    check("every 3", multi_steps(adam(0.1), 3), [1.0977347728646971, -1.0096309209672274, -1.4193100259783316], EXACT);
    check("cosine", adam(cosine_decay(0.1, 10)), [0.9927265018129119, -0.8613557091872012, -1.2714141831535402], EXACT);
    check("radam", radam(0.1), [0.9287913337827334, -0.00827607482472167, 1.192411164266806], EXACT);
    check("warmup", adam(warmup_cosine(0.0, 0.1, 4, 12, 0.01)), [0.9351637502665405, -0.7790638570408889, -1.1896609619170508], EXACT);
    check("exponential", sgd(exponential_decay(0.1, 5, 0.5)), [1.0562599844876681, 0.0720731150130067, 0.6586490678489874], EXACT);
    check("polynomial", sgd(polynomial(0.1, 0.01, 2, 9)), [1.096594636324479, -0.2895495852189132, 0.34418477895162086], EXACT);
    check("piecewise", sgd(piecewise_constant(0.1, [(4, 0.1), (8, 0.5)])), [1.0815611395136788, -0.22925363360743867, 0.4407612053576564], EXACT);
    check("one cycle", sgd(one_cycle(0.1, 20)), [1.0372241050415474, 0.36169428663223235, 0.8322030595142585], EXACT);
}

#[test]
fn first_updates_are_exact() {
    let first = |optimizer: &dyn Fn(Tensor) -> Tensor, g: f64| optimizer(vector(&[g])).to_vec::<f64>().expect("f64")[0];
    let by_adam = |g: Tensor| adam(0.1).update(g.clone(), adam(0.1).init(&g), &g).0;
    let by_sgd = |g: Tensor| sgd(0.1).update(g.clone(), sgd(0.1).init(&g), &g).0;
    assert_eq!(first(&by_adam, 1.0), -0.09999999900000002);
    for g in [1.0, 0.3, -7.7, 1e-9] {
        assert_eq!(first(&by_sgd, g), -0.1 * g);
    }
    // A rate of an f32 parameter is f32, as it was; both in one tree have each their own.
    let pair = (vector(&[1.0]), Tensor::ones(&[1]));
    let (updates, _) = sgd(0.1).update(pair.clone(), sgd(0.1).init(&pair), &pair);
    assert_eq!(updates.0.to_vec::<f64>().expect("f64"), [-0.1]);
    assert_eq!(updates.1.to_vec::<f32>().expect("f32"), [-0.1]);
}

#[test]
fn schedules_of_f64_parameters_are_f64() -> Result<()> {
    use std::f64::consts::PI;
    let cosine = |t: f64| 0.1 * (0.9 * 0.5 * (1.0 + (PI * t.min(10.0) / 10.0).cos()) + 0.1);
    let line = |t: f64| (0.1 - 0.01) * (1.0 - t.min(8.0) / 8.0) + 0.01;
    let power = |t: f64| 0.1 * 0.5f64.powf(t / 5.0);
    let steps = |t: f64| if t < 4.0 { 0.1 } else { 0.1 * 0.1 };
    let joined = |t: f64| if t < 3.0 { line(t) } else { power(t - 3.0) };
    let cases: Vec<(Schedule, &dyn Fn(f64) -> f64)> = vec![
        (constant(0.1), &|_| 0.1),
        (0.1.into(), &|_| 0.1),
        (cosine_decay_to(0.1, 0.1, 10), &cosine),
        (linear(0.1, 0.01, 8), &line),
        (exponential_decay(0.1, 5, 0.5), &power),
        (piecewise_constant(0.1, [(4, 0.1)]), &steps),
        (join_schedules([linear(0.1, 0.01, 8), exponential_decay(0.1, 5, 0.5)], [3]), &joined),
        (Schedule::typed(|count, dtype| 0.1 / (count.convert(dtype) + 1.0)), &|t| 0.1 / (t + 1.0)),
    ];
    for (i, (schedule, want)) in cases.into_iter().enumerate() {
        let at = jit(move |count: Tensor| schedule.at_as(&count, DType::F64));
        for t in 0..14 {
            assert_close(&format!("schedule {i} at {t}"), &at.call(Tensor::scalar(t))?, &[want(f64::from(t))], 1e-15);
        }
    }
    // One that is computed in f32 is converted, and no more.
    let single = Schedule::new(|_| Tensor::scalar(0.1f32)).at_as(&Tensor::scalar(0), DType::F64);
    assert_eq!(single.to_vec::<f64>()?, [f64::from(0.1f32)]);
    Ok(())
}

#[test]
fn layers_of_f64_draw_equinoxs_numbers_and_promote() -> Result<()> {
    let layer = Linear::new_as(3, 2, Key::new(7), DType::F64);
    let weight = [
        0.15869343324738341,
        -0.43392600557478855,
        -0.021267255461072117,
        0.2663491342708929,
        0.29492208283368176,
        0.4251856483711085,
    ];
    assert_close("weight", &layer.weight, &weight, 0.0);
    let bias = layer.bias.clone().expect("there is one");
    assert_close("bias", &bias, &[-0.22944390601019682, -0.14438472257536128], 0.0);
    let bare = Linear::without_bias_as(3, 2, Key::new(7), DType::F64);
    assert_close("without a bias", &bare.weight, &weight, 0.0);
    let mlp = Mlp::new_as(2, 1, 3, 1, relu, Key::new(7), DType::F64);
    let last = [0.2454025848453859, -0.3174243729352079, 0.0516792616428532];
    assert_close("second layer", &mlp.layers[1].weight, &last, 0.0);

    // What a layer gives has the type that its input and weight have in common, as `matmul` has it.
    let types = [DType::F32, DType::F64, DType::I32, DType::U32, DType::Bool];
    for (layer, widest) in [(layer, DType::F64), (Linear::new(3, 2, Key::new(7)), DType::F32)] {
        for dtype in types {
            let x = Tensor::full(&[4, 3], 1.0, dtype);
            let y = jit(|(layer, x): (Linear, Tensor)| layer.call(&x)).call((layer.clone(), x.clone()))?;
            let want = x.matmul(&layer.weight.t()) + layer.bias.clone().expect("there is one");
            assert_eq!(y.ty(), want.ty());
            assert_eq!(y.dtype(), if dtype == DType::F64 { DType::F64 } else { widest });
        }
    }
    Ok(())
}

#[test]
fn losses_of_f64_are_f64() {
    let x = vector(&[0.1, -0.7, 0.3, 1.1]);
    let y = vector(&[0.0, 1.0, 0.5, 0.25]);
    for loss in [mse(&x, &y), binary_cross_entropy(&x, &y), huber(&x, &y, 0.5)] {
        assert_eq!(loss.dtype(), DType::F64);
    }
    assert_close("mse", &mse(&x, &y), &[(0.01 + 1.7 * 1.7 + 0.04 + 0.85 * 0.85) / 4.0], 1e-15);
    let labels = Tensor::from_vec(&[2], vec![0i32, 1]).expect("two");
    let logits = x.reshape(&[2, 2]);
    let want = [(1.0 + (-0.8f64).exp()).ln(), (1.0 + (-0.8f64).exp()).ln()];
    assert_close("cross entropy", &cross_entropy(&logits, &labels), &want, 1e-15);
    assert_eq!(accuracy(&logits, &labels).item::<f32>(), Ok(1.0));
}

//! Twelve steps of every optimiser down `sum(a (p - b)²)`, against Optax 0.2.8 (from `shared/vectors/optim`).

mod common;

use common::assert_close;
use fulgurite_autodiff::grad;
use fulgurite_jit::{Result, Tensor};
use fulgurite_runtime::jit;
use fulgurite_trainer::optim::schedule::*;
use fulgurite_trainer::optim::*;
use fulgurite_trainer::{apply_updates, chain};

const P: [f32; 7] = [1.4824106, -1.4088244, -1.8183315, 1.3186849, 0.017905047, -1.3548282, -1.3541464];
const A: [f32; 7] = [1.8518953, 0.45520797, 1.4909705, 1.5957919, 2.6814272, 1.4381956, 2.2219868];
const B: [f32; 7] = [1.0240899, 1.9251139, 1.0139852, 1.146057, 0.11800916, -1.7751592, -1.7317057];

/// The parameters after the last step.
#[track_caller]
fn check(name: &str, optimizer: impl Optimizer, expected: [f64; 7]) {
    let vector = |x: [f32; 7]| Tensor::from_vec(&[7], x.to_vec());
    let run = || -> Result<Tensor> {
        let (a, b) = (vector(A)?, vector(B)?);
        let mut p = vector(P)?;
        let mut state = optimizer.init(&p);
        let step = jit(move |(p, state): (Tensor, _)| {
            let slope = grad(|p: &Tensor| ((p - &b).square() * &a).sum())(&p);
            let (updates, state) = optimizer.update(slope, state, &p);
            (apply_updates(p, updates), state)
        });
        for _ in 0..12 {
            (p, state) = step.call((p, state))?;
        }
        Ok(p)
    };
    match run() {
        Ok(p) => {
            println!("{name}");
            assert_close(&p, &expected, 2e-4, 1e-5);
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

#[rustfmt::skip]
#[test]
fn every_optimiser_takes_optaxs_path() {
    let clipped = chain![clip_by_global_norm(1.0), adam(0.1)];
    check("sgd", sgd(0.05), [1.0633408, 0.018972088, 0.60594571, 1.1674895, 0.11564559, -1.7099402, -1.7131954]);
    check("momentum", sgd(0.05).momentum(0.9), [1.1817358, 3.2690206, 0.86249435, 1.1716158, 0.066646695, -1.7735792, -1.5391811]);
    check("nesterov", sgd(0.05).momentum(0.9).nesterov(true), [1.0841551, 2.9724517, 0.85501975, 1.1612304, 0.11090927, -1.7596736, -1.6837102]);
    check("adam", adam(0.1), [0.85571545, -0.23036148, -0.64499581, 1.2123246, 0.14410909, -1.9133238, -1.8286668]);
    check("adamw", adamw(0.1).weight_decay(1e-2), [0.85467428, -0.22036014, -0.63032812, 1.2117767, 0.14418873, -1.9086417, -1.8248357]);
    check("adabelief", adabelief(0.1), [0.8902123, 0.23109385, -0.19815186, 1.2046471, 0.15420482, -1.871646, -1.7822134]);
    check("rmsprop", rmsprop(0.05).decay(0.9), [1.0269279, -0.47646067, -0.89662308, 1.146057, 0.11505874, -1.7740916, -1.7314678]);
    check("adagrad", adagrad(0.3), [1.0240965, 0.08254008, -0.36283427, 1.1460583, 0.11800279, -1.7751583, -1.7317057]);
    check("adamax", adamax(0.1), [0.90633225, -0.31416973, -0.74255055, 1.1610063, 0.094216362, -1.8918834, -1.8417453]);
    check("nadam", adam(0.1).nesterov(true), [0.92416739, -0.16498435, -0.58397216, 1.1532868, 0.11881845, -1.8492388, -1.7746779]);
    check("radam", radam(0.1), [0.92880392, -0.0083726859, 1.1923695, 1.1206928, 0.1482978, -1.8013496, -1.8457837]);
    check("lion", lion(0.02), [1.2420813, -1.1685127, -1.5779216, 1.0783949, 0.13787995, -1.5944767, -1.5937951]);
    check("lamb", lamb(0.1), [1.0821111, 0.83664513, 0.39496768, 1.0793927, 0.10308889, -1.6757718, -1.6008341]);
    check("adadelta", adadelta(1.0), [1.44274, -1.3681502, -1.7776853, 1.2809293, 0.053465843, -1.3943939, -1.3935686]);
    check("amsgrad", amsgrad(0.1), [0.90738535, -0.31968507, -0.74788123, 1.1603584, 0.093982935, -1.8910977, -1.8412781]);
    check("yogi", yogi(0.1), [0.85556442, -0.23253955, -0.6469087, 1.2123959, 0.14334096, -1.9137946, -1.8292724]);
    check("clip_global_norm_adam", clipped, [0.90190279, -0.20372392, -0.61700708, 1.1861298, 0.15410325, -1.8630986, -1.7765341]);
    check("clip_value_sgd", chain![clip(0.5), sgd(0.05)], [1.1824108, -1.1088247, -1.5183318, 1.1678659, 0.11558616, -1.6502987, -1.6519347]);
    check("adam_cosine", adam(cosine_decay(0.1, 10)), [0.99272913, -0.86135989, -1.2714182, 1.0892833, 0.1019127, -1.8319302, -1.8121799]);
    check("adam_warmup_cosine", adam(warmup_cosine(0.0, 0.1, 4, 12, 0.01)), [0.93516684, -0.77906859, -1.1896656, 1.0284797, 0.14178641, -1.8879684, -1.8670008]);
    check("sgd_exponential", sgd(exponential_decay(0.1, 5, 0.5)), [1.05626, 0.072073169, 0.65864903, 1.1644232, 0.11644536, -1.717926, -1.7177023]);
    check("sgd_piecewise", sgd(piecewise_constant(0.1, [(4, 0.1), (8, 0.5)])), [1.0815612, -0.22925358, 0.44076118, 1.1766064, 0.11467886, -1.6842674, -1.7042874]);
    check("adam_every_3", multi_steps(adam(0.1), 3), [1.0977374, -1.009634, -1.4193131, 1.0398, 0.16717219, -1.7365648, -1.7312843]);
}

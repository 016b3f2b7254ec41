//! Layers that normalise, embed, drop and recur, against Equinox's numbers; statistics that a step keeps.

mod common;

use common::{assert_close, folder, message, quiet};
use fulgurite_jit::{Key, Result, Tensor, Tree};
use fulgurite_runtime::jit;
use fulgurite_trainer::nn::{BatchNorm, Dropout, Embedding, GroupNorm, GruCell, LayerNorm, LstmCell, RmsNorm};
use fulgurite_trainer::optim::{adamw, sgd};
use fulgurite_trainer::{ArrayDataset, DataLoader, LightningModule, Optimizer, StepCx};
use ndarray::Array2;

/// `jnp.arange(12.).reshape(4, 3) ** 2 / 10`.
fn squares() -> Tensor {
    Tensor::from_vec(&[4, 3], (0..12).map(|i| (i * i) as f32 / 10.0).collect()).expect("12 elements")
}

const LAYER: [f64; 12] = [
    -1.069_951_3,
    -1.044_577,
    -0.968_453_9,
    -0.841_582_2,
    -0.663_961_9,
    -0.435_592_8,
    -0.156_475_05,
    0.173_391_33,
    0.554_006_4,
    0.985_370_2,
    1.467_482_6,
    2.000_343_8,
];
const GROUPS: [f64; 12] = [
    -1.030_418_8,
    -0.918_009_4,
    -0.580_781_46,
    -0.018_734_869,
    0.768_130_36,
    1.779_814_1,
    -1.344_085_6,
    -0.897_963_5,
    -0.383_207_3,
    0.200_183_2,
    0.852_207_6,
    1.572_866_4,
];
const BATCH: [f64; 12] = [
    -0.999_999_5,
    -1.066_435_6,
    -1.111_798,
    -0.714_285_3,
    -0.671_459_44,
    -0.640_126_17,
    0.142_857_1,
    0.197_488_05,
    0.235_835_85,
    1.571_427_8,
    1.540_406_8,
    1.516_088,
];

#[test]
fn norms_are_those_of_equinox() -> Result<()> {
    let x = squares();
    assert_close(&LayerNorm::new(&[4, 3]).call(&x), &LAYER, 1e-5, 1e-6);
    assert_close(&LayerNorm::without_affine(&[4, 3]).call(&x), &LAYER, 1e-5, 1e-6);
    assert_close(&GroupNorm::new(2, 4).call(&x), &GROUPS, 1e-5, 1e-6);
    let root = x.square().mean().to_vec::<f32>()?[0].sqrt();
    let expected: Vec<f64> = x.to_vec::<f32>()?.iter().map(|&x| f64::from(x / root)).collect();
    assert_close(&RmsNorm::new(&[4, 3]).call(&x), &expected, 1e-5, 1e-6);
    // A batch of examples, and no examples.
    let two = Tensor::stack(&[&x, &x], 0);
    assert_close(&LayerNorm::new(&[4, 3]).call(&two), &[LAYER, LAYER].concat(), 1e-5, 1e-6);
    assert_eq!(LayerNorm::new(&[3]).call(&Tensor::zeros(&[0, 3])).shape(), [0, 3]);
    Ok(())
}

#[test]
fn embeddings_cells_and_dropout_draw_what_equinox_draws() -> Result<()> {
    let key = || Key::new(3);
    let table = Embedding::new(3, 2, key());
    let drawn = [-1.446_257, 1.539_381, 0.382_506_25, 1.970_701_8, -0.587_667_4, 0.209_415_63];
    assert_close(&table.weight, &drawn, 1e-5, 1e-6);
    let read = table.call(&Tensor::from_vec(&[2, 2], vec![2i32, 0, 7, -3])?);
    assert_eq!(read.shape(), [2, 2, 2]);
    let rows = [2, 0, 2, 0].map(|row: usize| [drawn[2 * row], drawn[2 * row + 1]]);
    assert_close(&read, &rows.concat(), 1e-5, 1e-6);

    let (ih, hh, bias) = (
        [-0.694_809_7, -0.644_897_7, -0.266_475_98, -0.469_883_56],
        [-0.670_344_77, 0.059_028_01, -0.026_839_45, 0.169_981_43],
        [-0.313_475_28, -0.697_148_8, 0.591_695_07],
    );
    let gru = GruCell::new(2, 2, key());
    let lstm = LstmCell::new(2, 2, key());
    for (w, u, b) in [(&gru.weight_ih, &gru.weight_hh, &gru.bias), (&lstm.weight_ih, &lstm.weight_hh, &lstm.bias)] {
        assert_close(&w.slice_in_dim(0, 0..2), &ih, 1e-5, 1e-6);
        assert_close(&u.slice_in_dim(0, 0..2), &hh, 1e-5, 1e-6);
        assert_close(&b.slice_in_dim(0, 0..3), &bias, 1e-5, 1e-6);
    }
    assert_close(&gru.bias_n, &[-0.320_210_01, 0.657_534_3], 1e-5, 1e-6);

    let x = Tensor::from_vec(&[6], (0..6).map(|i| i as f32).collect())?;
    assert_close(&Dropout::new(0.4).call(&x, key()), &[0., 0., 0., 0., 6.666_666_5, 8.333_333], 1e-6, 0.0);
    assert_close(&Dropout::new(0.0).call(&x, key()), &[0., 1., 2., 3., 4., 5.], 0.0, 0.0);
    Ok(())
}

#[derive(Tree, Clone)]
struct Net {
    scale: Tensor,
    norm: BatchNorm,
}

/// A step whose batch norm has a momentum of 0.9; with weight decay, which must not reach the statistics.
#[derive(Clone)]
struct Normed;

impl LightningModule for Normed {
    type Model = Net;
    type Batch = Tensor;

    fn init(&self, _: Key) -> Net {
        Net { scale: Tensor::ones(&[3]), norm: BatchNorm::new(3).momentum(0.9) }
    }
    fn configure_optimizers(&self) -> impl Optimizer {
        adamw(0.1).weight_decay(0.5)
    }
    fn training_step(&self, net: &Net, x: &Tensor, cx: &mut StepCx) -> Tensor {
        (net.norm.train(x, cx) * &net.scale).square().mean()
    }
    fn validation_step(&self, net: &Net, x: &Tensor, cx: &mut StepCx) {
        cx.log("val", net.norm.call(x).square().mean());
    }
}

fn rows() -> Array2<f32> {
    Array2::from_shape_fn((4, 3), |(i, j)| ((3 * i + j) * (3 * i + j)) as f32 / 10.0)
}

#[test]
fn a_step_keeps_the_statistics_of_its_batches() -> Result<()> {
    let folder = folder();
    let data = DataLoader::new(ArrayDataset::new(rows().into_dyn())?).batch_size(4);
    let fit = quiet(folder.path()).max_steps(1).fit(&Normed, &data)?;
    // Means 3.15, 4.15, 5.35 and variances of equinox: 0.9 + 0.1 var.
    assert_close(&fit.model.norm.running_mean, &[0.315, 0.415, 0.535], 1e-5, 1e-6);
    assert_close(&fit.model.norm.running_var, &[1.892_250_1, 2.342_250_1, 2.882_250_3], 1e-5, 1e-6);
    let many = quiet(folder.path()).max_epochs(200).fit(&Normed, &data)?;
    assert_close(&many.model.norm.running_mean, &[3.15, 4.15, 5.35], 1e-4, 1e-4);
    Ok(())
}

#[test]
fn batch_norm_is_that_of_equinox() -> Result<()> {
    let norm = BatchNorm::new(3);
    let last = BatchNorm::new(3).along(-1);
    let x = squares();
    // In a step of another kind: nothing is set, and the result is that of training.
    let run = jit(move |x: Tensor| {
        let mut cx = StepCx::new(Key::new(0), Tensor::scalar(0i32));
        (norm.train(&x, &mut cx), last.train(&x.reshape(&[2, 2, 3]), &mut cx))
    });
    let (y, z) = run.call(x)?;
    assert_close(&y, &BATCH, 1e-5, 1e-6);
    assert_close(&z, &BATCH, 1e-5, 1e-6);
    Ok(())
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let x = || Tensor::zeros(&[2, 5]);
    let text = message(jit(|x: Tensor| LayerNorm::new(&[4]).call(&x)).call(x()));
    assert!(text.contains("layer_norm: takes floats whose last axes are [4], not f32[2,5]"), "{text}");
    assert!(text.contains("norms.rs"), "{text}");
    let text = message(jit(|x: Tensor| GroupNorm::new(3, 5).call(&x)).call(x()));
    assert!(text.contains("group_norm"), "{text}");
    let text = message(jit(|x: Tensor| BatchNorm::new(4).call(&x)).call(x()));
    assert!(text.contains("batch_norm: takes floats with 4 channels along axis 1, not f32[2,5]"), "{text}");
    let scalar = Tensor::scalar(1.0f32);
    for layer in [|x: Tensor| GroupNorm::new(1, 1).call(&x), |x: Tensor| BatchNorm::new(1).call(&x)] {
        assert!(message(jit(layer).call(scalar.clone())).contains("norm"), "a scalar has no channels");
    }
}

#[test]
fn a_tensor_that_is_no_leaf_cannot_be_set() -> Result<()> {
    #[derive(Clone)]
    struct Wrong;
    impl LightningModule for Wrong {
        type Model = Tensor;
        type Batch = Tensor;
        fn init(&self, _: Key) -> Tensor {
            Tensor::ones(&[3])
        }
        fn configure_optimizers(&self) -> impl Optimizer {
            sgd(0.1)
        }
        fn training_step(&self, model: &Tensor, x: &Tensor, cx: &mut StepCx) -> Tensor {
            cx.set(&(model + 1.0), model * 2.0);
            (x * model).mean()
        }
    }
    let folder = folder();
    let data = DataLoader::new(ArrayDataset::new(rows().into_dyn())?).batch_size(4);
    let text = message(quiet(folder.path()).max_steps(1).fit(&Wrong, &data));
    assert!(text.contains("set: f32[3] is no leaf of the model that the step was given"), "{text}");
    Ok(())
}

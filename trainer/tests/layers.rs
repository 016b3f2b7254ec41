//! Layers and losses against the numbers of Equinox and Optax, and against formulas in f64.

mod common;

use common::{assert_close, message};
use fulgurite_autodiff::grad;
use fulgurite_jit::{Key, Result, Tensor, relu};
use fulgurite_runtime::jit;
use fulgurite_trainer::loss::{accuracy, binary_cross_entropy, cross_entropy, huber, mse};
use fulgurite_trainer::nn::{Linear, Mlp};

/// `eqx.nn.Linear(5, 3, key=jr.PRNGKey(7))`, from the case `linear_init` of `tests/vectors/jax`.
#[test]
fn linear_starts_as_in_equinox() -> Result<()> {
    let weight = [
        0.328_586_16,
        0.050_369_084,
        -0.178_279_85,
        -0.149_824_99,
        0.440_128_12,
        -0.263_240_43,
        -0.062_659_21,
        -0.286_032_7,
        0.309_266_18,
        -0.420_582_32,
        -0.341_828_32,
        0.302_985_6,
        0.179_798_4,
        -0.317_771_7,
        0.171_651_04,
    ];
    let bias = [0.156_644_24, 0.291_741_04, -0.094_821_18];
    let compiled = jit(|key: Key| Linear::new(5, 3, key)).call(Key::new(7))?;
    let eager = Linear::new(5, 3, Key::new(7));
    for layer in [compiled, eager] {
        assert_eq!(layer.weight.shape(), [3, 5]);
        assert_close(&layer.weight, &weight, 1e-6, 1e-7);
        assert_close(layer.bias.as_ref().expect("a bias"), &bias, 1e-6, 1e-7);
    }
    let bare = Linear::without_bias(5, 3, Key::new(7));
    assert_close(&bare.weight, &weight, 1e-6, 1e-7);
    assert!(bare.bias.is_none());
    Ok(())
}

#[test]
fn layers_take_examples_and_batches() -> Result<()> {
    let layer = Linear::new(3, 2, Key::new(0));
    let x = Tensor::from_vec(&[2, 2, 3], (0..12).map(|i| i as f32 * 0.1).collect())?;
    let y = layer.call(&x);
    assert_eq!(y.shape(), [2, 2, 2]);
    let weight = layer.weight.array()?.to_f64_vec().unwrap();
    let bias = layer.bias.as_ref().expect("a bias").array()?.to_f64_vec().unwrap();
    let expected: Vec<f64> = (0..4)
        .flat_map(|row| {
            let (weight, bias) = (&weight, &bias);
            (0..2).map(move |o| {
                bias[o] + (0..3).map(|i| f64::from((row * 3 + i) as f32 * 0.1) * weight[o * 3 + i]).sum::<f64>()
            })
        })
        .collect();
    assert_close(&y, &expected, 1e-5, 1e-6);
    let one = x.index_in_dim(1, 0).index_in_dim(0, 0);
    assert_close(&layer.call(&one), &expected[4..6], 1e-5, 1e-6);

    let deep = Mlp::new(3, 4, 5, 2, relu, Key::new(0));
    let shapes: Vec<_> = deep.layers.iter().map(|layer| layer.weight.shape().to_vec()).collect();
    assert_eq!(shapes, [[5, 3], [5, 5], [4, 5]]);
    assert_eq!(deep.call(&x).shape(), [2, 2, 4]);
    assert_eq!(Mlp::new(3, 4, 5, 0, relu, Key::new(0)).layers[0].weight.shape(), [4, 3]);
    Ok(())
}

#[test]
fn a_wrong_width_is_an_error_with_the_users_line() {
    let layer = Linear::new(3, 2, Key::new(0));
    let text = message(jit(move |x: Tensor| layer.call(&x)).call(Tensor::zeros(&[4, 5])));
    assert!(text.contains("f32[4,5]") && text.contains("f32[2,3]") && text.contains("layers.rs"), "{text}");
}

#[test]
fn cross_entropy_is_that_of_optax() -> Result<()> {
    let logits = [[1.0f32, -2.0, 0.5], [30.0, -40.0, 100.0], [0.0, 0.0, 0.0], [f32::NEG_INFINITY, 0.0, 1.0]];
    let labels = [0i32, 1, 2, 2];
    let expected: Vec<f64> = logits
        .iter()
        .zip(labels)
        .map(|(row, label)| {
            let max = row.iter().fold(f64::NEG_INFINITY, |max, &x| max.max(x.into()));
            let sum: f64 = row.iter().map(|&x| (f64::from(x) - max).exp()).sum();
            max + sum.ln() - f64::from(row[label as usize])
        })
        .collect();
    let x = Tensor::from_vec(&[4, 3], logits.concat())?;
    let y = Tensor::from_vec(&[4], labels.to_vec())?;
    let (x2, y2) = (x.clone(), y.clone());
    assert_close(&jit(|(x, y): (Tensor, Tensor)| cross_entropy(&x, &y)).call((x2, y2))?, &expected, 1e-5, 1e-6);
    assert_close(&accuracy(&x, &y), &[0.5], 0.0, 0.0);

    // The derivative of the first row: softmax minus one-hot.
    let slope = grad(|x: &Tensor| cross_entropy(x, &Tensor::scalar(0i32)))(&x.index_in_dim(0, 0));
    let e: Vec<f64> = logits[0].iter().map(|&x| f64::from(x).exp()).collect();
    let sum: f64 = e.iter().sum();
    assert_close(&slope, &[e[0] / sum - 1.0, e[1] / sum, e[2] / sum], 1e-5, 1e-6);

    let outside = Tensor::from_vec(&[4], vec![0i32, 3, -1, 1])?;
    let nan = cross_entropy(&x, &outside).to_vec::<f32>()?;
    assert_eq!(nan.iter().map(|x| x.is_nan()).collect::<Vec<_>>(), [false, true, true, false]);
    Ok(())
}

#[test]
fn other_losses() -> Result<()> {
    let x = Tensor::from_vec(&[4], vec![-3.0f32, -0.5, 0.25, 200.0])?;
    let t = Tensor::from_vec(&[4], vec![0.0f32, 1.0, 0.5, 1.0])?;
    let bce = |x: f64, t: f64| t * (-x).exp().ln_1p() + (1.0 - t) * x.exp().ln_1p();
    let expected = [bce(-3.0, 0.0), bce(-0.5, 1.0), bce(0.25, 0.5), 0.0];
    assert_close(&binary_cross_entropy(&x, &t), &expected, 1e-5, 1e-6);
    assert_close(&huber(&x, &t, 1.0), &[2.5, 1.0, 0.03125, 198.5], 1e-6, 0.0);
    assert_close(&mse(&x, &t), &[(9.0 + 2.25 + 0.0625 + 199.0 * 199.0) / 4.0], 1e-6, 0.0);
    Ok(())
}

#[test]
fn shapes_that_would_broadcast_are_mistakes() {
    let (column, row) = (Tensor::zeros(&[4, 1]), Tensor::zeros(&[4]));
    let text = message(jit(|(x, y): (Tensor, Tensor)| mse(&x, &y)).call((column.clone(), row.clone())));
    assert!(text.contains("mse: f32[4,1] and f32[4]") && text.contains("layers.rs"), "{text}");
    let text = message(cross_entropy(&column, &row).to_vec::<f32>());
    assert!(text.contains("integers"), "{text}");
    let text = message(cross_entropy(&row, &row).to_vec::<f32>());
    assert!(text.contains("one label per row"), "{text}");
}

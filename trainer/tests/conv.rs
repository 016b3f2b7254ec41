//! Layers of convolutions, and convolutions of arrays, against the numbers of Equinox, NumPy and SciPy in JAX 0.10.2.

mod common;

use common::{assert_close, message};
use fulgurite_autodiff::vmap;
use fulgurite_jit::conv::{Mode, convolve, convolve2d, correlate, correlate2d};
use fulgurite_jit::{Key, Result, Tensor};
use fulgurite_runtime::jit;
use fulgurite_trainer::nn::{
    Conv, Conv1d, Conv2d, ConvConfig, ConvPadding, ConvTranspose, ConvTranspose1d, PaddingMode,
};

fn counted(shape: &[usize], first: f32, step: f32) -> Result<Tensor> {
    Tensor::from_vec(shape, (0..shape.iter().product::<usize>()).map(|i| first + step * i as f32).collect())
}

/// `eqx.nn.Conv2d(4, 2, (2, 1), groups=2, key=jr.PRNGKey(7))`, `eqx.nn.ConvTranspose1d(2, 2, 3, 2, key=jr.PRNGKey(3))`.
#[test]
fn layers_start_as_in_equinox() {
    let layer = Conv2d::new(4, 2, [2, 1], ConvConfig { groups: 2, ..ConvConfig::default() }, Key::new(7));
    assert_eq!(layer.weight.shape(), [2, 2, 2, 1]);
    let weight = [0.3673705, 0.05631435, -0.1993229, -0.1675094, 0.4920782, -0.2943118, -0.07005513, -0.3197943];
    assert_close(&layer.weight, &weight, 1e-6, 1e-7);
    let bias = layer.bias.expect("a bias");
    assert_eq!(bias.shape(), [2, 1, 1]);
    assert_close(&bias, &[0.1751336, 0.3261764], 1e-6, 1e-7);

    let config = ConvConfig { stride: [2], ..ConvConfig::default() };
    let layer = ConvTranspose1d::new(2, 2, [3], [0], config, Key::new(3));
    let weight = [
        -0.4011486, -0.3723319, -0.15385, -0.2712874, 0.0615871, 0.2999312, 0.2238445, -0.3945614, 0.4022766,
        -0.3024364, -0.4063721, 0.1289349,
    ];
    assert_close(&layer.weight, &weight, 1e-6, 1e-7);
    assert_close(&layer.bias.expect("a bias"), &[-0.3870237, 0.03407984], 1e-6, 1e-7);
}

/// A kernel of 1, 10, 100 shows what is read; padding may be longer than the example.
#[test]
fn padding_modes_are_those_of_equinox() -> Result<()> {
    use PaddingMode::{Circular, Reflect, Replicate};
    let x = counted(&[1, 4], 1.0, 1.0)?;
    let long = ConvPadding::Explicit([(7, 5)]);
    for (padding_mode, padding, stride, expected) in [
        (Reflect, 2.into(), 1, &[123.0, 212.0, 321.0, 432.0, 343.0, 234.0][..]),
        (Reflect, long, 1, &[212., 321., 432., 343., 234., 123., 212., 321., 432., 343., 234., 123., 212., 321.]),
        (Reflect, ConvPadding::Same, 2, &[321.0, 343.0]),
        (Reflect, ConvPadding::SameLower, 2, &[212.0, 432.0]),
        (Replicate, 2.into(), 1, &[111.0, 211.0, 321.0, 432.0, 443.0, 444.0]),
        (Replicate, long, 1, &[111., 111., 111., 111., 111., 111., 211., 321., 432., 443., 444., 444., 444., 444.]),
        (Replicate, [(1, 0)].into(), 1, &[211.0, 321.0, 432.0]),
        (Circular, 2.into(), 1, &[143.0, 214.0, 321.0, 432.0, 143.0, 214.0]),
        (Circular, long, 1, &[432., 143., 214., 321., 432., 143., 214., 321., 432., 143., 214., 321., 432., 143.]),
        (Circular, ConvPadding::Same, 2, &[321.0, 143.0]),
    ] {
        let config = ConvConfig { padding, padding_mode, stride: [stride], use_bias: false, ..ConvConfig::default() };
        let layer = Conv1d { weight: Tensor::from_vec(&[1, 1, 3], vec![1.0f32, 10.0, 100.0])?, bias: None, config };
        assert_close(&layer.call(&x), expected, 1e-6, 0.0);
    }
    // One element reflects itself, as in NumPy.
    let config = ConvConfig { padding: 2.into(), padding_mode: Reflect, ..ConvConfig::default() };
    let layer = Conv1d { weight: Tensor::ones(&[1, 1, 5]), bias: None, config };
    assert_close(&layer.call(&Tensor::ones(&[1, 1])), &[5.0], 0.0, 0.0);
    Ok(())
}

#[test]
fn three_axes() -> Result<()> {
    let config = ConvConfig { padding: [(0, 1), (1, 0), (0, 0)].into(), ..ConvConfig::default() };
    let layer = Conv::<3> { weight: counted(&[1, 1, 2, 2, 2], 0.1, 0.1)?, bias: None, config };
    let y = layer.call(&counted(&[1, 2, 3, 4], 0.0, 0.1)?);
    assert_eq!(y.shape(), [1, 2, 3, 3]);
    let expected =
        [1.92, 2.14, 2.36, 4.2, 4.56, 4.92, 5.64, 6.0, 6.36, 0.88, 0.95, 1.02, 1.54, 1.64, 1.74, 1.94, 2.04, 2.14];
    assert_close(&y, &expected, 1e-5, 1e-6);
    Ok(())
}

#[test]
fn transposed_layers_are_those_of_equinox() -> Result<()> {
    use ConvPadding::{Same, SameLower};
    use PaddingMode::{Circular, Zeros};
    let x = counted(&[1, 4], 1.0, 1.0)?;
    for (padding, padding_mode, stride, more, dilation, expected) in [
        (Same, Zeros, 2, 1, 1, &[10.0, 201.0, 20.0, 302.0, 30.0, 403.0, 40.0][..]),
        (SameLower, Zeros, 2, 0, 1, &[10.0, 201.0, 20.0, 302.0, 30.0, 403.0, 40.0, 4.0]),
        (Same, Circular, 2, 0, 1, &[104.0, 10.0, 201.0, 20.0, 302.0, 30.0, 403.0, 40.0]),
        (SameLower, Circular, 1, 0, 2, &[313.0, 424.0, 131.0, 242.0]),
        (ConvPadding::VALID, Zeros, 3, 2, 1, &[100., 10., 1., 200., 20., 2., 300., 30., 3., 400., 40., 4., 0., 0.]),
        (1.into(), Zeros, 2, 1, 1, &[10.0, 201.0, 20.0, 302.0, 30.0, 403.0, 40.0, 4.0]),
        (
            Same,
            Zeros,
            5,
            0,
            1,
            &[100., 10., 1., 0., 0., 200., 20., 2., 0., 0., 300., 30., 3., 0., 0., 400., 40., 4., 0., 0.],
        ),
    ] {
        let config =
            ConvConfig { stride: [stride], padding, padding_mode, dilation: [dilation], ..ConvConfig::default() };
        let weight = Tensor::from_vec(&[1, 1, 3], vec![1.0f32, 10.0, 100.0])?;
        let layer = ConvTranspose::<1> { weight, bias: None, output_padding: [more], config };
        assert_close(&layer.call(&x), expected, 1e-6, 0.0);
    }
    Ok(())
}

/// A batch by `vmap` is the examples one by one, compiled as one convolution.
#[test]
fn examples_are_batched() -> Result<()> {
    let config = ConvConfig { padding: ConvPadding::Same, stride: [2, 1], ..ConvConfig::default() };
    let layer = Conv2d::new(3, 5, [3, 2], config, Key::new(1));
    let images = Key::new(2).normal(&[4, 3, 6, 5]);
    let batched = jit(|(layer, images): (Conv2d, Tensor)| vmap(|image: Tensor| layer.call(&image), 0)(images));
    let all = batched.call((layer.clone(), images.clone()))?;
    assert_eq!(all.shape(), [4, 5, 3, 5]);
    for i in 0..4 {
        let one = layer.call(&images.index_in_dim(i, 0)).array()?.to_f64_vec().expect("floats");
        assert_close(&all.index_in_dim(i, 0), &one, 1e-5, 1e-6);
    }
    Ok(())
}

#[test]
fn mistakes_are_errors() {
    let config = ConvConfig { groups: 2, ..ConvConfig::default() };
    let error = |x: &Tensor| message(x.array());
    let text = error(&Conv1d::new(3, 4, [3], config, Key::new(0)).weight);
    assert!(text.contains("Conv: 3 and 4 channels do not divide into 2 groups"), "{text}");
    let config = ConvConfig { padding_mode: PaddingMode::Reflect, ..ConvConfig::default() };
    let text = error(&ConvTranspose1d::new(1, 1, [3], [0], config, Key::new(0)).weight);
    assert!(text.contains("takes zeros or circular padding"), "{text}");
    let text = error(&ConvTranspose1d::new(1, 1, [3], [1], ConvConfig::default(), Key::new(0)).weight);
    assert!(text.contains("the output padding is less than the stride"), "{text}");
    let layer = Conv2d::new(3, 5, [3, 3], ConvConfig::default(), Key::new(1));
    for shape in [&[3, 6][..], &[2, 3, 6, 6], &[4, 6, 6]] {
        let text = error(&layer.call(&Tensor::ones(shape)));
        assert!(text.contains("conv"), "{text}");
    }
    // Too small for the window: no results.
    assert_eq!(layer.call(&Tensor::ones(&[3, 2, 6])).shape(), [5, 0, 4]);
}

#[test]
fn arrays_are_convolved_as_in_numpy_and_scipy() -> Result<()> {
    let (a, v) = (counted(&[5], 1.0, 1.0)?, Tensor::from_vec(&[3], vec![1.0f32, 0.5, -1.0])?);
    let check = |got: Tensor, expected: &[f64]| assert_close(&got, expected, 1e-6, 1e-6);
    check(convolve(&v, &a, Mode::Full), &[1.0, 2.5, 3.0, 3.5, 4.0, -1.5, -5.0]);
    check(convolve(&v, &a, Mode::Same), &[2.5, 3.0, 3.5, 4.0, -1.5]);
    check(convolve(&v, &a, Mode::Valid), &[3.0, 3.5, 4.0]);
    check(correlate(&v, &a, Mode::Full), &[5.0, 6.5, 0.0, -0.5, -1.0, -1.5, -1.0]);
    check(correlate(&v, &a, Mode::Same), &[6.5, 0.0, -0.5, -1.0, -1.5]);
    check(correlate(&v, &a, Mode::Valid), &[0.0, -0.5, -1.0]);

    let (a, v) = (counted(&[3, 4], 0.0, 1.0)?, Tensor::from_vec(&[2, 2], vec![1.0f32, 2.0, -1.0, 0.5])?);
    let full = [
        0.0, 1.0, 4.0, 7.0, 6.0, 4.0, 12.0, 14.5, 17.0, 15.5, 4.0, 22.0, 24.5, 27.0, 25.5, -8.0, -5.0, -5.5, -6.0, 5.5,
    ];
    check(convolve2d(&a, &v, Mode::Full), &full);
    check(convolve2d(&v, &a, Mode::Full), &full);
    check(convolve2d(&a, &v, Mode::Same), &[0.0, 1.0, 4.0, 7.0, 4.0, 12.0, 14.5, 17.0, 4.0, 22.0, 24.5, 27.0]);
    check(convolve2d(&v, &a, Mode::Same), &[12.0, 14.5, 22.0, 24.5]);
    check(convolve2d(&v, &a, Mode::Valid), &[12.0, 14.5, 17.0, 22.0, 24.5, 27.0]);
    check(correlate2d(&a, &v, Mode::Same), &[0.5, 3.0, 5.5, -4.0, 10.5, 13.0, 15.5, -4.0, 26.0, 29.0, 32.0, 11.0]);
    check(correlate2d(&v, &a, Mode::Same), &[13.0, 10.5, 3.0, 0.5]);
    check(correlate2d(&a, &v, Mode::Valid), &[0.5, 3.0, 5.5, 10.5, 13.0, 15.5]);
    check(correlate2d(&v, &a, Mode::Valid), &[15.5, 13.0, 10.5, 5.5, 3.0, 0.5]);
    let full = [
        11.0, 32.0, 29.0, 26.0, 16.0, -4.0, 15.5, 13.0, 10.5, 12.0, -4.0, 5.5, 3.0, 0.5, 2.0, -3.0, -0.5, 0.0, 0.5, 0.0,
    ];
    check(correlate2d(&v, &a, Mode::Full), &full);
    let why = message(convolve2d(&a, &Tensor::ones(&[5, 1]), Mode::Full).array());
    assert!(why.contains("the smaller along every axis"), "{why}");
    Ok(())
}

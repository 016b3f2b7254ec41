//! Random draws against JAX's, of every element type and range: the numbers are what `jax.random` 0.10.2 gives, with
//! `jax_enable_x64` for f64 and for bounds beyond the 32-bit integers.

use fulgurite::prelude::*;
use fulgurite::{Element, TensorType};

/// `draw` of the key of `seed`, compiled; it has to be the same when it is called outside of a step.
fn drawn<T: Element + PartialEq>(seed: u64, draw: impl Fn(&Key) -> Tensor + Send + Sync + 'static) -> Vec<T> {
    let eager = draw(&Key::new(seed)).to_vec::<T>().expect("drawn");
    let compiled = jit(move |key: Key| draw(&key)).call(Key::new(seed)).expect("compiles");
    assert!(compiled.to_vec::<T>().expect("drawn") == eager, "eager and compiled draws differ");
    eager
}

#[test]
fn integers_of_any_range_are_jaxs() {
    let signed = |low: i64, high: i64| drawn::<i32>(1, move |key| key.randint(&[4], low, high));
    for (low, high, want) in [
        (i64::from(i32::MIN), i64::from(i32::MAX), [-413835524, 210002863, -1191255328, -1392002199]),
        (i64::from(i32::MIN), 1 << 31, [-413835524, 210002863, -1191255328, -1392002199]),
        (-(1 << 40), 1 << 40, [-413835524, 210002863, -1191255328, -1392002199]),
        (-5, i64::from(i32::MAX), [1733648119, 210002854, 956228315, 755481444]),
        (-1, i64::from(i32::MAX), [1733648123, 210002862, 956228319, 755481448]),
        (i64::from(i32::MIN), 0, [-413835524, -1937480785, -1191255328, -1392002199]),
        (i64::from(i32::MIN), i64::from(i32::MIN) + 1, [i32::MIN; 4]),
        (0, 10, [6, 7, 0, 3]),
        // None between the bounds: the lower one. Beyond the type: what is nearest.
        (5, 5, [5; 4]),
        (7, 3, [7; 4]),
        (1 << 31, (1 << 31) + 5, [i32::MAX; 4]),
    ] {
        assert_eq!(signed(low, high), want, "{low}..{high}");
    }
    let unsigned = |low: i64, high: i64| drawn::<u32>(1, move |key| key.randint_as(&[4], low, high, DType::U32));
    for (low, high, want) in [
        (0, 1i64 << 32, [1733648124u32, 2357486511, 956228320, 755481449]),
        (3, 1 << 32, [1733648127, 2357486514, 956228323, 755481452]),
        (-3, 10, [6, 7, 0, 3]),
        (7, 3, [7; 4]),
        (-10, -5, [0; 4]),
        (1 << 32, (1 << 32) + 1, [u32::MAX; 4]),
    ] {
        assert_eq!(unsigned(low, high), want, "{low}..{high}");
    }
    // The call, with bounds of the type itself, and shapes without elements or axes.
    let all = drawn::<i32>(1, |key| key.randint(&[8], i32::MIN, i32::MAX));
    assert_eq!(all[4..], [1638955424, 283554476, -1708536554, -1843864171]);
    assert_eq!(drawn::<i32>(1, |key| key.randint(&[2, 0], i32::MIN, i32::MAX)), Vec::<i32>::new());
    assert_eq!(drawn::<i32>(1, |key| key.randint(&[], 0, 1)), [0]);
}

#[test]
fn doubles_have_jaxs_64_bits() {
    let uniform = |low, high| drawn::<f64>(7, move |key| key.uniform_as(&[4], low, high, DType::F64));
    let unit = [0.8441069450823528, 0.04541258512665647, 0.22498462569285382, 0.06438560513366842];
    assert_eq!(uniform(0.0, 1.0), unit);
    assert_eq!(uniform(-1.0, 1.0), [0.6882138901647057, -0.9091748297466871, -0.5500307486142924, -0.8712287897326632]);
    assert_eq!(uniform(-1.0, 3.0), [2.3764277803294114, -0.8183496594933741, -0.1000614972285847, -0.7424575794653263]);
    let close = |got: Vec<f64>, want: [f64; 4]| {
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() <= 4e-16 * want.abs().max(1.0), "{got}, not {want}");
        }
    };
    close(
        drawn(7, |key| key.normal_as(&[4], DType::F64)),
        [1.0114813355590866, -1.6910609087906374, -0.7554662899926428, -1.5189653807511148],
    );
    close(
        drawn(7, |key| key.truncated_normal_as(&[4], -2.0, 2.0, DType::F64)),
        [0.9480578128259236, -1.5055105562914621, -0.7143742413919303, -1.377323185122234],
    );
    close(
        drawn(7, |key| key.exponential_as(&[4], DType::F64)),
        [1.8585850522259963, 0.04647605816229587, 0.2548724120098844, 0.06655185868468777],
    );
    close(
        drawn(7, |key| key.gumbel_as(&[4], DType::F64)),
        [1.7750434817033711, -1.12880713678253, -0.3999319680607421, -1.0090030651502209],
    );
    let classes = |dtype| drawn::<i32>(7, move |key| key.categorical(&Tensor::full(&[8, 3], 0.0, dtype)));
    assert_eq!(classes(DType::F64), [0, 2, 2, 1, 0, 2, 0, 1]);
    assert_eq!(classes(DType::F32), [1, 1, 0, 2, 2, 2, 1, 2]);
}

#[test]
fn draws_and_initialisers_are_the_same_in_a_step_and_outside() {
    for n in [1usize, 7, 64, 1000] {
        drawn::<f32>(3, move |key| key.uniform(&[n], -0.3, 0.7));
        drawn::<f32>(3, move |key| key.normal(&[n]));
        drawn::<f32>(3, move |key| key.truncated_normal(&[n], -1.5, 2.0));
        drawn::<f32>(3, move |key| key.exponential(&[n]));
        drawn::<f32>(3, move |key| key.gumbel(&[n]));
        drawn::<f64>(3, move |key| key.normal_as(&[n], DType::F64));
        drawn::<f32>(3, move |key| Linear::new(n, 17, key.clone()).weight);
        drawn::<f32>(3, move |key| Linear::new(n, 17, key.clone()).bias.expect("there is one"));
    }
    for shape in [&[0usize][..], &[], &[1], &[2, 0, 3], &[1, 1, 1, 1, 1, 1, 1, 2]] {
        let elements = drawn::<f32>(3, move |key| key.normal(shape)).len();
        assert_eq!(elements, shape.iter().product::<usize>());
    }
}

#[test]
fn a_draw_of_no_such_type_is_an_error_with_the_users_line() {
    let line = line!() + 1;
    let rejected = |key: &Key| [key.normal_as(&[2], DType::I32), key.uniform_as(&[2], 0.0, 1.0, DType::Bool)];
    for (tensor, want) in rejected(&Key::new(0)).into_iter().zip([
        "normal: draws floats (bf16, f16, f32 or f64), not i32, at tests/draws.rs",
        "uniform: draws floats (bf16, f16, f32 or f64), not bool, at tests/draws.rs",
    ]) {
        assert_eq!(tensor.error().expect("a mistake").to_string(), format!("{want}:{line}"));
    }
    let floats = Key::new(0).randint_as(&[2], 0, 3, DType::F32);
    assert!(
        floats
            .error()
            .expect("a mistake")
            .to_string()
            .starts_with("randint: draws integers (i8, u8, i16, u16, i32, u32, i64 or u64), not f32")
    );
    let many = Key::new(0).bits(&[1 << 40, 1 << 40]);
    assert!(many.error().expect("too many").to_string().contains("more elements than a key has numbers"));
    // The same within a step.
    let normal = jit(|key: Key| key.normal_as(&[2], DType::U32)).call(Key::new(0)).expect_err("a mistake");
    assert!(normal.to_string().contains("not u32, at tests/draws.rs"), "{normal}");
    assert_eq!(floats.ty(), &TensorType::new(DType::F32, &[2]));
}

#[test]
fn one_hot_rows_of_every_type() -> Result<()> {
    use fulgurite::one_hot_as;
    let labels = Tensor::from_vec(&[3], vec![0i32, 2, 5])?;
    assert_eq!(one_hot_as(&labels, 3, DType::F64).to_vec::<f64>()?, [1., 0., 0., 0., 0., 1., 0., 0., 0.]);
    assert_eq!(one_hot_as(&labels, 2, DType::I32).to_vec::<i32>()?, [1, 0, 0, 0, 0, 0]);
    assert_eq!(one_hot_as(&labels, 1, DType::Bool).to_vec::<bool>()?, [true, false, false]);
    assert_eq!(one_hot_as(&labels, 0, DType::F64).shape(), [3, 0]);
    Ok(())
}

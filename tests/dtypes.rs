//! Element types: every one through arrays, conversions, fused code and derivatives; 64-bit defaults.

use fulgurite::{Array, DType, Result, Tensor, TensorType, bf16, f16, gcd, grad, jit, lcm, lower, with_x64};
use ndarray::{ArrayD, IxDyn, arr0, arr1};

/// Shapes of each rank, with extents of 0 and 1 among them, and lengths on both sides of a vector.
const SHAPES: &[&[usize]] = &[
    &[],
    &[0],
    &[1],
    &[7],
    &[16],
    &[37],
    &[3, 0],
    &[1, 1],
    &[5, 9],
    &[2, 1, 33],
    &[2, 3, 4, 5],
    &[1, 2, 1, 3, 2],
    &[2, 1, 2, 1, 2, 3],
    &[1, 2, 2, 1, 2, 1, 5],
    &[2, 1, 1, 2, 1, 3, 1, 17],
];

/// Small numbers that every type but bool has, in a type and shape.
fn numbers(dtype: DType, shape: &[usize]) -> Tensor {
    let ty = TensorType::new(dtype, shape);
    let bits: Vec<u64> = (0..ty.elements()).map(|i| dtype.bits(i as i64 * 5 % 11)).collect();
    Array::from_bits(&ty, &bits).expect("as many elements").into()
}

fn values(x: &Tensor) -> Vec<f64> {
    x.array().expect("no error").to_f64_vec().expect("on the host")
}

#[test]
fn every_type_through_code_in_every_shape() -> Result<()> {
    for dtype in DType::ALL.into_iter().filter(|&dtype| dtype != DType::Bool) {
        let step = jit(|(x, y): (Tensor, Tensor)| {
            let sum = &x * &y + &x;
            let rest = x.rank() as isize - 1;
            let transposed = sum.transpose(&(0..sum.rank()).rev().collect::<Vec<_>>());
            let total = if rest < 0 { sum.clone() } else { sum.max_axes(rest) };
            (sum, transposed, total)
        });
        for shape in SHAPES.iter().filter(|shape| shape.last() != Some(&0)) {
            let (x, y) = (numbers(dtype, shape), numbers(dtype, shape));
            let (sum, transposed, total) = step.call((x.clone(), y.clone()))?;
            assert!([&sum, &transposed, &total].iter().all(|x| x.dtype() == dtype), "{dtype} {shape:?}");
            // Up to 110, which i8 has and bf16 and f16 have exactly.
            let expected: Vec<f64> = values(&x).iter().zip(values(&y)).map(|(x, y)| x * y + x).collect();
            assert_eq!(values(&sum), expected, "{dtype} {shape:?}");
            assert_eq!(values(&transposed.transpose(&(0..shape.len()).rev().collect::<Vec<_>>())), expected);
            let last = shape.last().copied().unwrap_or(1);
            let most: Vec<f64> = expected.chunks(last).map(|row| row.iter().fold(0.0, |a: f64, &b| a.max(b))).collect();
            assert_eq!(values(&total), most, "{dtype} {shape:?}");
        }
        let empty = step.call((numbers(dtype, &[2, 0, 3]), numbers(dtype, &[2, 0, 3])))?;
        assert_eq!((empty.0.shape(), empty.2.shape()), (&[2, 0, 3][..], &[2, 0][..]));
    }
    Ok(())
}

/// Neighbours in memory are not written: rows of odd lengths at odd places, strided reads and writes.
#[test]
fn narrow_elements_at_odd_places() -> Result<()> {
    for dtype in DType::ALL {
        for n in [1usize, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 65] {
            let x = numbers(dtype, &[3, n]);
            let step = jit(move |x: Tensor| {
                let odd = x.slice_in_dim(-1, n / 3..n);
                let twice = Tensor::concat(&[&odd, &x, &odd.rev(&[1])], 1);
                (twice.t(), x.slice(&[0, 0], &[3, n], &[2, 2]))
            });
            let (turned, strided) = step.call(x.clone())?;
            let rows: Vec<Vec<f64>> = values(&x).chunks(n).map(<[f64]>::to_vec).collect();
            let joined =
                |row: &Vec<f64>| [&row[n / 3..], row, &row[n / 3..].iter().rev().copied().collect::<Vec<_>>()].concat();
            let joined: Vec<Vec<f64>> = rows.iter().map(joined).collect();
            let expected: Vec<f64> = (0..joined[0].len()).flat_map(|i| joined.iter().map(move |row| row[i])).collect();
            assert_eq!(values(&turned), expected, "{dtype} {n}");
            let expected: Vec<f64> = rows.iter().step_by(2).flat_map(|row| row.iter().copied().step_by(2)).collect();
            assert_eq!(values(&strided), expected, "{dtype} {n}");
        }
    }
    Ok(())
}

#[test]
fn arrays_of_the_types_of_half() -> Result<()> {
    let x = arr1(&[1.0, -2.5, 65504.0, 1e9]).mapv(f16::from_f64);
    let tensor: Tensor = x.clone().into();
    assert_eq!((tensor.dtype(), values(&tensor)[3]), (DType::F16, f64::INFINITY));
    assert_eq!(tensor.into_array()?.into_ndarray::<f16>()?, x.into_dyn());
    let x = ArrayD::from_shape_fn(IxDyn(&[3, 2]), |i| bf16::from_f32((i[0] * 2 + i[1]) as f32 * 0.1));
    let doubled = jit(|x: Tensor| &x + &x).call(Tensor::from(x.clone()))?;
    assert_eq!(doubled.into_array()?.into_ndarray::<bf16>()?, x.mapv(|x| x + x));
    let scalar: Tensor = arr0(bf16::from_f32(1.5)).into();
    assert_eq!(scalar.item::<bf16>()?, bf16::from_f32(1.5));
    let error = Tensor::from(arr1(&[1u8, 2])).into_array()?.into_ndarray::<i8>().expect_err("another type");
    assert!(error.to_string().contains("u8[2] cannot be read as i8"), "{error}");
    Ok(())
}

/// Each op rounds, fused or not.
#[test]
fn fusion_rounds_after_each_op() -> Result<()> {
    for dtype in [DType::BF16, DType::F16] {
        let x = (Tensor::arange(DType::F32, 1000) * 0.0137 + 0.1).convert(dtype);
        let ops: [fn(&Tensor) -> Tensor; 4] = [|x| x * x, |x| x.exp(), |x| x + 0.3, |x| x / 7.0];
        let one_by_one = ops.iter().fold(x.clone(), |x, op| op(&x));
        let fused = jit(move |x: Tensor| ops.iter().fold(x, |x, op| op(&x))).call(x)?;
        assert_eq!(fused.array()?, one_by_one.array()?, "{dtype}");
    }
    Ok(())
}

/// A running sum in 8 or 11 bits would stop at 256 and 2048.
#[test]
fn narrow_floats_are_added_in_f32() -> Result<()> {
    for dtype in [DType::BF16, DType::F16] {
        let ones = Tensor::full(&[4096], 1.0, dtype);
        let step = jit(|x: Tensor| (x.sum(), x.cumsum(0), x.reshape(&[1, 4096]).matmul(&x.reshape(&[4096, 1]))));
        let (sum, running, product) = step.call(ones)?;
        let exact = |n: usize| dtype.value(dtype.bits(n)).to_f64();
        assert_eq!((values(&sum)[0], values(&product)[0]), (4096.0, 4096.0), "{dtype}");
        let expected: Vec<f64> = (1..=4096).map(exact).collect();
        assert_eq!(values(&running), expected, "{dtype}");
    }
    Ok(())
}

#[test]
fn derivatives_have_the_type_of_their_argument() -> Result<()> {
    for dtype in [DType::BF16, DType::F16, DType::F32, DType::F64] {
        let x = Tensor::full(&[5], 0.5, dtype);
        let slope = jit(|x: Tensor| grad(|x: &Tensor| (x.tanh() * x).convert(DType::F32).sum())(&x)).call(x)?;
        let (t, s) = (0.5f64.tanh(), 1.0 - 0.5f64.tanh().powi(2));
        assert_eq!(slope.dtype(), dtype);
        assert!(values(&slope).iter().all(|x| (x - (t + 0.5 * s)).abs() < 0.01), "{slope:?}");
    }
    Ok(())
}

#[test]
fn wide_integers() -> Result<()> {
    let x = Tensor::from(arr1(&[i64::MAX, i64::MIN, -7, 3, 1 << 40]));
    let y = Tensor::from(arr1(&[2i64, -1, 2, 0, 1 << 20]));
    let step = jit(|(x, y): (Tensor, Tensor)| (&x * &y, &x / &y, &x % &y, x.maximum(&y), x.abs(), x.sum()));
    let (product, quotient, rest, larger, magnitude, sum) = step.call((x, y))?;
    let of = |x: &Tensor| x.to_vec::<i64>();
    assert_eq!(of(&product)?, [-2, i64::MIN, -14, 0, 1 << 60]);
    assert_eq!(of(&quotient)?, [i64::MAX / 2, i64::MIN, -3, -1, 1 << 20]);
    assert_eq!(of(&rest)?, [1, 0, -1, 3, 0]);
    assert_eq!(of(&larger)?, [i64::MAX, -1, 2, 3, 1 << 40]);
    assert_eq!(of(&magnitude)?, [i64::MAX, i64::MIN, 7, 3, 1 << 40]);
    assert_eq!(sum.item::<i64>()?, -5 + (1 << 40));
    // Beyond i32 an index is beyond the array.
    let table = Tensor::arange(DType::F32, 5);
    let indices = Tensor::from(arr1(&[1i64 << 32, -1, -(1 << 40), 2]));
    assert_eq!(table.take(&indices, 0).to_vec::<f32>()?.iter().filter(|x| x.is_nan()).count(), 2);
    Ok(())
}

#[test]
fn defaults_of_64_bits_are_scoped() -> Result<()> {
    let x = Tensor::full(&[3], true, DType::Bool);
    let count = jit(|x: Tensor| (x.sum(), &x + 1.5));
    for _ in 0..2 {
        let (narrow, wide) = (count.call(x.clone())?, with_x64(true, || count.call(x.clone()))?);
        assert_eq!((narrow.0.dtype(), narrow.1.dtype()), (DType::I32, DType::F32));
        assert_eq!((wide.0.dtype(), wide.1.dtype()), (DType::I64, DType::F64));
        assert_eq!(with_x64(true, || with_x64(false, || count.call(x.clone())))?.0.dtype(), DType::I32);
    }
    let [i, u] = [DType::I32, DType::U32].map(|dtype| Tensor::full(&[2], 1, dtype));
    assert_eq!((&i + &u).dtype(), DType::I32);
    assert_eq!(with_x64(true, || &i + &u).dtype(), DType::I64);
    Ok(())
}

#[test]
fn functions_of_bits() -> Result<()> {
    let x = Tensor::from(arr1(&[12i32, -8, 0, 0, 7]));
    let y = Tensor::from(arr1(&[18i32, 12, 5, 0, -7]));
    assert_eq!(gcd(&x, &y).to_vec::<i32>()?, [6, 4, 5, 0, 7]);
    assert_eq!(lcm(&x, &y).to_vec::<i32>()?, [36, 24, 0, 0, 7]);
    let bits = Tensor::from(arr1(&[0u64, 1, u64::MAX, 1 << 40]));
    assert_eq!(bits.population_count().to_vec::<u64>()?, [0, 1, 64, 1]);
    assert_eq!(bits.clz().to_vec::<u64>()?, [64, 63, 0, 23]);
    let bytes = Tensor::from(arr1(&[1.0f32, -2.0])).bitcast(DType::U8);
    assert_eq!((bytes.shape(), bytes.to_vec::<u8>()?), (&[2, 4][..], vec![0, 0, 128, 63, 0, 0, 0, 192]));
    assert_eq!(bytes.bitcast(DType::F32).to_vec::<f32>()?, [1.0, -2.0]);
    let error = bytes.bitcast(DType::BF16).error().expect("an axis of 4").to_string();
    assert!(error.starts_with("bitcast: u8[2,4] as bf16 needs a last axis of 2"), "{error}");
    let empty = Tensor::zeros(&[0]).bitcast(DType::U16);
    assert_eq!(empty.shape(), [0, 2]);
    for (op, x) in [("population_count", Tensor::zeros(&[2]).population_count()), ("clz", Tensor::zeros(&[]).clz())] {
        let error = x.error().expect("floats").to_string();
        assert!(error.starts_with(&format!("{op}: takes integers, not f32")), "{error}");
    }
    let large = Tensor::scalar(2f32.powi(-100)).ldexp(150);
    assert_eq!(large.item::<f32>()?, 2f32.powi(50));
    Ok(())
}

/// The code for each instruction set is encoded on any machine, whether it has those vectors or not.
#[test]
fn every_instruction_set_moves_every_type() -> Result<()> {
    use fulgurite::compiler::cpu::{Isa, Parallelism, Target, replay};
    use fulgurite::compiler::lower::lower as to_module;
    let program = |(x, wide): (Tensor, Tensor)| {
        let twice = Tensor::concat(&[&x.slice_in_dim(-1, 7..40), &x.rev(&[1])], 1);
        let mixed = &x.slice(&[0, 0], &[33, 40], &[1, 3]).convert(DType::F64) + &wide;
        (twice.t(), x.slice(&[0, 0], &[33, 40], &[2, 3]), mixed.convert(x.dtype()), x.max_axes(0), x.max_axes(1))
    };
    for dtype in DType::ALL {
        let inputs = (numbers(dtype, &[33, 40]), numbers(DType::F64, &[33, 14]));
        let kernels = lower(program, &inputs)?.kernels;
        for isa in [Isa::Avx512, Isa::Avx2, Isa::Portable] {
            let target = Target { isa, threads: 1, parallelism: Parallelism::Auto };
            let donated = vec![false; kernels.params.len()];
            let code = replay(&to_module(kernels.clone(), &donated, target.into())?)?;
            assert!(!code.is_empty(), "{dtype} {isa:?}");
        }
    }
    Ok(())
}

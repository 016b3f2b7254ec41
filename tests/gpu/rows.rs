//! Rows by how many threads compute one, transposed reads, and scatters: the bits of the CPU at the borders of each,
//! and what memory is accessed.

use fulgurite::compiler::ptx::simt::{Counts, Options};
use fulgurite::prelude::*;
use fulgurite::{Array, TensorType, lower, softmax, where_};

use super::{EDGES, Numbers, run};

/// What a run on random inputs executes, after a comparison with the CPU. Integers are from -3 to 60: indices of which
/// some are out of range.
fn check<A: Tree>(name: &str, args: &A, f: impl Fn(A) -> Vec<Tensor>) -> Result<Counts> {
    let graph = lower(f, args)?.graph;
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let range = |dtype: DType| if dtype.is_int() { (-3.0, 60.0) } else { (-1.0, 1.0) };
    let inputs: Vec<_> = graph.param_types().iter().map(|ty| numbers.array(ty, range(ty.dtype))).collect();
    let options = Options { order: Some(7), interleave: Some(7), ..Options::default() };
    Ok(run::compare(&graph, &inputs, &options).unwrap_or_else(|fault| panic!("{name}: {fault}")).counts)
}

fn zeros(dtype: DType, shape: &[usize]) -> Tensor {
    Tensor::full(shape, 0.0, dtype)
}

#[test]
fn rows_of_any_length() -> Result<()> {
    for columns in [0, 1, 15, 16, 17, 255, 257, 511, 512, 513, 1024, 1100, 2047, 4097, 8192] {
        for dtype in [DType::F32, DType::F64, DType::I32, DType::Bool] {
            let name = format!("{dtype}[3,{columns}]");
            check(&name, &zeros(dtype, &[3, columns]), |x: Tensor| match dtype {
                DType::Bool => vec![x.any_axes(-1), x.all_axes(-1)],
                _ => vec![x.sum_axes(-1), (&x * &x).sum_axes(-1)],
            })?;
        }
        if columns > 0 {
            check(&format!("softmax of {columns}"), &zeros(DType::F32, &[2, columns]), |x: Tensor| {
                vec![softmax(&x, -1), x.argmax(-1), x.max_axes(-1)]
            })?;
        }
    }
    Ok(())
}

#[test]
fn long_rows_of_any_rank() -> Result<()> {
    for shape in [&[600][..], &[1, 600], &[2, 3, 600], &[2, 1, 1, 3, 600], &[1, 2, 1, 1, 2, 1, 2, 700]] {
        check(&format!("last of {shape:?}"), &zeros(DType::F32, shape), |x: Tensor| {
            let (mean, variance) = (x.mean_keep(-1), x.var_keep(-1));
            vec![(&x - mean) * (variance + 1e-5).rsqrt(), x.sum_axes(-1)]
        })?;
    }
    check("two axes", &zeros(DType::F32, &[3, 5, 600]), |x: Tensor| {
        vec![x.sum_axes([1, 2]), (&x * 2.0).sum_axes([0, 2])]
    })?;
    check("a long sum", &zeros(DType::F32, &[48_000]), |x: Tensor| vec![x.sum(), (&x * &x).mean()])?;
    check("many reductions", &zeros(DType::F64, &[2, 520]), |x: Tensor| {
        (1..12).map(|n| (&x * f64::from(n)).sum_axes(-1)).collect()
    })?;
    Ok(())
}

/// The order in which a block takes minima and maxima does not show: not in the sign of zeros, in infinities or NaNs.
#[test]
fn minima_and_maxima_have_no_order() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        // Rows of zeros of both signs, of these and infinities, of all edge values.
        let first = |e: usize| [0.0, -0.0][e % 3 % 2];
        let second = |e: usize| [0.0, f64::NEG_INFINITY, -0.0, f64::NEG_INFINITY][e * e % 4];
        let third = |e: usize| EDGES[e % EDGES.len()];
        let values = (0..3 * 1100).map(|i| [first(i % 1100), second(i % 1100), third(i % 1100)][i / 1100]);
        let bits: Vec<u64> = values.map(|x| dtype.bits(x)).collect();
        let input = Array::from_bits(&TensorType::new(dtype, &[3, 1100]), &bits)?;
        let graph = lower(|x: Tensor| vec![x.max_axes(-1), x.min_axes(-1)], &zeros(dtype, &[3, 1100]))?.graph;
        run::compare(&graph, &[input], &Options::default()).unwrap_or_else(|fault| panic!("{dtype}: {fault}"));
    }
    Ok(())
}

/// A block loads a long row once, for however many sweeps.
#[test]
fn long_rows_are_loaded_once() -> Result<()> {
    if run::on_device() {
        return Ok(());
    }
    let counts = check("softmax", &zeros(DType::F32, &[4, 4096]), |x: Tensor| vec![softmax(&x, -1)])?;
    assert_eq!(counts.load_sectors, 4 * 4096 * 4 / 32);
    assert_eq!(counts.store_sectors, 4 * 4096 * 4 / 32);
    assert_eq!(counts.bank_conflicts, 0);
    Ok(())
}

#[test]
fn transposed_reads() -> Result<()> {
    for dtype in [DType::F32, DType::F64, DType::I32, DType::Bool] {
        for shape in [&[128, 128][..], &[130, 257], &[16, 1024], &[15, 2000], &[3, 64, 100], &[100, 3, 65]] {
            let reversed: Vec<usize> = shape.iter().rev().copied().collect();
            let args = (zeros(dtype, shape), zeros(dtype, &reversed));
            let axes: Vec<usize> = (0..shape.len()).rev().collect();
            check(&format!("{dtype}{shape:?}"), &args, |(x, y)| {
                let x = x.transpose(&axes);
                vec![where_(&x.equal(&y), &x, &y)]
            })?;
        }
    }
    check("sum with the transpose", &zeros(DType::F32, &[160, 160]), |x: Tensor| vec![&x + x.t()])?;
    check("two transposes", &(zeros(DType::F32, &[150, 140]), zeros(DType::F32, &[150, 140])), |(x, y)| {
        vec![x.t().tanh() * y.t(), x.t() - y.t()]
    })?;
    Ok(())
}

/// A transposed read moves each sector once, and no bank of shared memory is waited for.
#[test]
fn transposed_reads_move_every_sector_once() -> Result<()> {
    if run::on_device() {
        return Ok(());
    }
    for dtype in [DType::F32, DType::F64] {
        let counts = check("transpose", &zeros(dtype, &[256, 192]), |x: Tensor| vec![x.t() * 2.0])?;
        let sectors = (256 * 192 * dtype.size() / 32) as u64;
        assert_eq!(
            (counts.load_sectors, counts.store_sectors, counts.bank_conflicts),
            (sectors, sectors, 0),
            "{dtype}"
        );
    }
    Ok(())
}

#[test]
fn scatters_with_repeated_indices() -> Result<()> {
    for dtype in [DType::F32, DType::F64, DType::I32] {
        for (rows, columns, updates) in [(50, 8, 20), (50, 1, 300), (7, 33, 300), (1, 300, 40), (50, 16, 0)] {
            let args =
                (zeros(dtype, &[rows, columns]), zeros(DType::I32, &[updates]), zeros(dtype, &[updates, columns]));
            check(&format!("{dtype}[{rows},{columns}], {updates} rows"), &args, |(x, i, u)| {
                vec![x.at(&i).add(&u), x.at(&i).set(&u)]
            })?;
        }
        let args = (zeros(dtype, &[60]), zeros(DType::I32, &[700]), zeros(dtype, &[700]));
        check(&format!("{dtype}[60]"), &args, |(x, i, u)| vec![x.at(&i).add(&u)])?;
        let args = (zeros(dtype, &[6, 9, 4]), zeros(DType::I32, &[5, 30]), zeros(dtype, &[5, 30, 9, 4]));
        check(&format!("{dtype}[6,9,4]"), &args, |(x, i, u)| vec![x.at(&i).add(&u)])?;
    }
    check("gradient of rows", &(zeros(DType::F32, &[40, 24]), zeros(DType::I32, &[90])), |(x, i)| {
        let loss = |x: &Tensor| x.take(&i, 0).tanh().square().sum();
        vec![grad(loss)(&x)]
    })?;
    Ok(())
}

/// Updates of rows are spread over columns and over rows of the result.
#[test]
fn scatters_have_many_threads() -> Result<()> {
    let args = (zeros(DType::F32, &[1000, 64]), zeros(DType::I32, &[4096]), zeros(DType::F32, &[4096, 64]));
    let graph = lower(|(x, i, u): (Tensor, Tensor, Tensor)| x.at(&i).add(&u), &args)?.graph;
    let launches = run::lower(&graph, false)?.launches;
    assert_eq!(launches.iter().map(|launch| launch.grid).collect::<Vec<_>>(), [63, 64]);
    Ok(())
}

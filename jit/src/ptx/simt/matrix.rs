//! Matrices that the lanes of a warp hold together: `ldmatrix` and `mma.sync`, by the fragment layouts of the manual.
//!
//! Of a product, the elements are exact in f64, the accumulator is added first, then the products in ascending order,
//! each sum in f64; the result is rounded to f32 once. Hardware adds in an order and a precision that is not
//! specified.

use super::access::{addresses, bank_conflicts};
use super::code::Place;
use super::context::Context;
use super::float::{BF16, F16, f32_of, from_f32, widen};
use super::memory::Span;
use super::race::Mode;
use super::warp::{Run, Warp, fault, lanes};
use crate::ptx::inst::{MmaShape, Type};

/// That all threads of the warp run the instruction.
fn all(warp: &Warp, exec: u32) -> Run<()> {
    if exec == !0 {
        return Ok(());
    }
    let missing = !exec;
    let what = if missing & !warp.exists != 0 { "the warp has less than 32 threads" } else { "the warp is divergent" };
    fault(exec, format!("all threads of the warp must run it together: {what}"))
}

/// `ldmatrix`. A matrix has 8 rows of 16 bytes, at the addresses of 8 lanes. Every lane counts as reading all of them.
pub(super) fn load(
    warp: &mut Warp,
    ctx: &mut Context<'_>,
    place: Place,
    (rows, transposed): (&[u32], bool),
    exec: u32,
) -> Run<()> {
    all(warp, exec)?;
    // Of fewer than 4 matrices, the other lanes' addresses are not used.
    let used = if rows.len() == 4 { !0 } else { (1 << (8 * rows.len())) - 1 };
    let at = addresses(warp, ctx, place, 16, used)?;
    ctx.counts.shared += 1;
    ctx.counts.bank_conflicts += bank_conflicts(&at, used, 16);
    let order = warp.order.take();
    let now = ctx.now(warp.index, warp.barrier, order.as_deref(), true);
    let mut matrices = [[[0_u64; 8]; 8]; 4];
    for lane in lanes(used) {
        let Some(Span { at: offset, len }) = ctx.block.shared.span(at[lane], 16) else {
            return fault(1 << lane, format!("16 bytes at {:#x} are not inside of shared memory", at[lane]));
        };
        if let Err(mistake) = ctx.block.shared.access(Span { at: offset, len }, now.as_ref(), !0, Mode::Read(false)) {
            return fault(1 << lane, ctx.explain(at[lane], mistake));
        }
        for (i, element) in matrices[lane / 8][lane % 8].iter_mut().enumerate() {
            *element = ctx.block.shared.value(offset + 2 * i, 2);
        }
    }
    warp.order = order;
    for (&row, matrix) in rows.iter().zip(&matrices) {
        // A lane has two adjacent elements of a row, or of a column.
        let values = std::array::from_fn(|lane| {
            let (i, j) = (lane / 4, lane % 4 * 2);
            let (low, high) =
                if transposed { (matrix[j][i], matrix[j + 1][i]) } else { (matrix[i][j], matrix[i][j + 1]) };
            low | high << 16
        });
        warp.set(row, &values, !0);
    }
    Ok(())
}

/// `mma.sync`: the rows of d, a, b and c.
pub(super) fn multiply(
    warp: &mut Warp,
    ctx: &mut Context<'_>,
    (shape, ty): (MmaShape, Type),
    (d, a, b, c): (&[u32; 4], &[u32; 4], &[u32; 2], &[u32; 4]),
    exec: u32,
) -> Run<()> {
    all(warp, exec)?;
    ctx.counts.mma += 1;
    let mut left = [[0.0; 16]; 16];
    let mut right = [[0.0; 16]; 8];
    let format = if ty == Type::F16 { F16 } else { BF16 };
    for (i, &row) in a.iter().enumerate() {
        let values = warp.row(ctx.code, row, exec)?;
        for (lane, &bits) in values.iter().enumerate() {
            let (m, k) = (lane / 4 + i % 2 * 8, lane % 4);
            match shape {
                MmaShape::M16N8K8 => left[m][k + i / 2 * 4] = tf32(bits),
                MmaShape::M16N8K16 => {
                    let k = 2 * k + i / 2 * 8;
                    left[m][k] = widen(bits & 0xffff, format);
                    left[m][k + 1] = widen(bits >> 16 & 0xffff, format);
                }
            }
        }
    }
    for (i, &row) in b.iter().enumerate() {
        let values = warp.row(ctx.code, row, exec)?;
        for (lane, &bits) in values.iter().enumerate() {
            let (n, k) = (lane / 4, lane % 4);
            match shape {
                MmaShape::M16N8K8 => right[n][k + i * 4] = tf32(bits),
                MmaShape::M16N8K16 => {
                    let k = 2 * k + i * 8;
                    right[n][k] = widen(bits & 0xffff, format);
                    right[n][k + 1] = widen(bits >> 16 & 0xffff, format);
                }
            }
        }
    }
    let depth = if shape == MmaShape::M16N8K8 { 8 } else { 16 };
    let mut results = [[0; 32]; 4];
    for (i, (&row, results)) in c.iter().zip(&mut results).enumerate() {
        let values = warp.row(ctx.code, row, exec)?;
        for (lane, (&bits, result)) in values.iter().zip(results).enumerate() {
            let (m, n) = (lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2);
            let products = left[m][..depth].iter().zip(&right[n]).map(|(a, b)| a * b);
            *result = from_f32(products.fold(f64::from(f32_of(bits)), |sum, product| sum + product) as f32);
        }
    }
    for (&row, results) in d.iter().zip(&results) {
        warp.set(row, results, exec);
    }
    Ok(())
}

/// The value of a tf32: the last 13 bits do not count.
fn tf32(bits: u64) -> f64 {
    f64::from(f32::from_bits(bits as u32 & !0x1fff))
}

//! A sum of products as a product of matrices with taps.
//!
//! In: the loops of a sum. Out: which of them are rows, columns and terms of the matrices; the other terms are taps,
//! and the others are loops over the batch. Not done here: tiles, packing, and which matrix is transposed.

use smallvec::SmallVec;

use super::{Loop, Role, Sum};
use crate::fuse::build::KernelBuilder;
use crate::fuse::index::{Affine, flatten};
use crate::fuse::kernel::{GemmKernel, Kernel, Level, Levels, Tap};
use crate::types::{Shape, TensorType, product};

/// Rows of adjacent results, from this number on, are preferred to more rows that are apart.
const ROWS: usize = 7;

impl KernelBuilder<'_> {
    /// A sum of floats as a product. Its loops are merged.
    pub(super) fn product(&mut self, sum: Sum) {
        let sum = sum.merged();
        match sum.gemm() {
            Some(gemm) => self.result.kernels.push(Kernel::Gemm(gemm)),
            None => self.apart(sum),
        }
    }

    /// A result none of whose loops of a matrix has adjacent elements is computed elsewhere, and copied.
    fn apart(&mut self, sum: Sum) {
        let mut kept: Vec<usize> = (0..sum.loops.len()).filter(|&l| sum.loops[l].role != Role::Term).collect();
        // The features, or else the last loop through space, become adjacent.
        let rank = |l: &Loop| (l.role == Role::Group, l.role == Role::Rows, l.z);
        kept.sort_by_key(|&l| std::cmp::Reverse(rank(&sum.loops[l])));
        if let Some(last) = kept.iter().rposition(|&l| sum.loops[l].role != Role::Group) {
            let last = kept.remove(last);
            kept.push(last);
        }
        let shape: Shape = kept.iter().map(|&l| sum.loops[l].extent).collect();
        let buffer = self.new_buffer(TensorType::new(sum.dtype, &shape));
        let mut elsewhere = Sum { z: (buffer, 0), ..sum.clone() };
        let mut step = 1;
        for &l in kept.iter().rev() {
            elsewhere.loops[l].z = step;
            step *= sum.loops[l].extent as isize;
        }
        let gemm = elsewhere.merged().gemm().expect("adjacent elements are those of rows or columns");
        self.result.kernels.push(Kernel::Gemm(gemm));

        let mut body = self.body(&shape, &[]);
        let index = flatten(&body.identity_coords(), &shape, shape.len());
        let value = body.load(buffer, &index, sum.dtype);
        let strides = kept.iter().map(|&l| sum.loops[l].z).collect();
        self.finish(body, value, sum.z.0, Affine { offset: sum.z.1, strides });
    }
}

/// A loop without iterations of its own.
fn unit(role: Role) -> Loop {
    Loop { extent: 1, role, x: 0, w: 0, z: 0 }
}

impl Sum {
    /// The product; `None` if no loop through rows or columns has adjacent results.
    fn gemm(&self) -> Option<GemmKernel> {
        let of = |role: Role| self.loops.iter().copied().filter(move |l| l.role == role);
        let mut rest: Vec<Loop> = self.loops.iter().copied().filter(|l| l.role != Role::Term).collect();
        let adjacent = |l: &Loop| l.z == 1 && matches!(l.role, Role::Rows | Role::Columns);
        let n = match rest.iter().position(adjacent) {
            Some(n) => rest.remove(n),
            None if rest.iter().all(|l| l.role == Role::Group) => unit(Role::Columns),
            None => return None,
        };
        let other = if n.role == Role::Columns { Role::Rows } else { Role::Columns };
        // The rows: those whose results are near each other, or else the most.
        let candidates = || rest.iter().enumerate().filter(|(_, l)| l.role == other);
        let near = candidates().filter(|(_, l)| l.extent >= ROWS).min_by_key(|(_, l)| l.z.unsigned_abs());
        let m = near.or(candidates().max_by_key(|(_, l)| l.extent)).map(|(at, _)| at);
        let m = m.map_or(unit(other), |m| rest.remove(m));

        let mut terms: Vec<Loop> = of(Role::Term).collect();
        let k = terms.pop().unwrap_or(unit(Role::Term));
        let outer: Shape = terms.iter().map(|l| l.extent).collect();
        let tap = |number: usize| {
            let mut rest = number;
            let mut tap = Tap::default();
            for l in terms.iter().rev() {
                let i = (rest % l.extent) as isize;
                rest /= l.extent;
                tap = Tap { a: tap.a + i * l.x, b: tap.b + i * l.w };
            }
            tap
        };
        let taps: SmallVec<[Tap; 1]> = (0..product(outer)).map(tap).collect();

        rest.sort_by_key(|l| std::cmp::Reverse(l.z));
        let batch = product(rest.iter().map(|l| l.extent));
        let level = |l: &Loop| Level { extent: l.extent, a: l.x, b: l.w, c: l.z };
        let mut levels: SmallVec<[Level; 2]> = rest.iter().map(level).collect();
        // One loop is a plain batch.
        let plain = if levels.len() == 1 { levels.pop().unwrap_or_default() } else { Level::default() };
        let gemm = GemmKernel {
            extents: [batch, m.extent, n.extent, k.extent],
            dtype: self.dtype,
            precision: self.precision,
            a: (self.x.0, self.x.1, [plain.a, m.x, k.x]),
            b: (self.w.0, self.w.1, [plain.b, k.w, n.w]),
            taps,
            c: (self.z.0, self.z.1, [plain.c, m.z, 1]),
            levels: Levels(levels),
        };
        Some(if n.role == Role::Columns { gemm } else { self.turned(gemm, [m, n, k], plain) })
    }

    /// The product with the kernel as its left operand, whose rows are features, and columns in space.
    fn turned(&self, gemm: GemmKernel, [m, n, k]: [Loop; 3], plain: Level) -> GemmKernel {
        let turn = |&Level { extent, a, b, c }: &Level| Level { extent, a: b, b: a, c };
        GemmKernel {
            a: (self.w.0, self.w.1, [plain.b, m.w, k.w]),
            b: (self.x.0, self.x.1, [plain.a, k.x, n.x]),
            taps: gemm.taps.iter().map(|&Tap { a, b }| Tap { a: b, b: a }).collect(),
            levels: Levels(gemm.levels.0.iter().map(turn).collect()),
            ..gemm
        }
    }
}

//! The operations of routines on matrices, on this processor: values are arrays of `W` elements, one of each matrix, of
//! which the compiler makes vectors; with one matrix, it makes them of the loops.

use std::ops::{Add, Div, Mul, Range, Sub};

use crate::fuse::MatrixRoutine;
use crate::lower::matrices::{Backend, Sign, run};

/// An element.
pub(super) trait Float:
    Copy + PartialOrd + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    fn new(x: f64) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
}

macro_rules! floats {
    ($($ty:ident),*) => { $(
        impl Float for $ty {
            #[inline(always)]
            fn new(x: f64) -> $ty {
                x as $ty
            }
            #[inline(always)]
            fn sqrt(self) -> $ty {
                $ty::sqrt(self)
            }
            #[inline(always)]
            fn abs(self) -> $ty {
                $ty::abs(self)
            }
        }
    )* };
}

floats!(f32, f64);

/// Adds to each element, or subtracts from it, the product of another and `by`: not contracted.
#[inline(always)]
fn add<T: Float, const W: usize>(to: &mut [[T; W]], from: &[[T; W]], by: [T; W], sign: Sign) {
    for (to, from) in to.iter_mut().zip(from) {
        for lane in 0..W {
            let product = by[lane] * from[lane];
            to[lane] = if sign == Sign::Plus { to[lane] + product } else { to[lane] - product };
        }
    }
}

/// The most operands, or results, of a routine.
const BUFFERS: usize = 4;

/// A buffer, and its elements of each matrix.
type Buffer = (*mut u8, usize);

/// Matrices that are worked on together.
struct Lanes<T, const W: usize> {
    operands: [Buffer; BUFFERS],
    results: [Buffer; BUFFERS],
    /// The first of the matrices.
    first: usize,
    /// How many there are; lanes after the last repeat it.
    count: usize,
    /// What is left of the scratch memory.
    scratch: *mut [T; W],
}

/// Computes the matrices of a range of tasks, with the vectors that the processor has. Nothing is contracted: they do
/// not change the bits.
///
/// # Safety
/// The buffers, operands and then results, have all matrices; `scratch` has [`MatrixRoutine::scratch_bytes`] and is
/// aligned to 64 bytes.
pub(super) unsafe fn run_matrices(
    routine: &MatrixRoutine,
    buffers: *const *mut u8,
    scratch: *mut u8,
    tasks: Range<usize>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            return with_avx2(routine, buffers, scratch, tasks);
        }
        of_type(routine, buffers, scratch, tasks);
    }
}

/// # Safety
/// As [`run_matrices`], on a processor with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn with_avx2(routine: &MatrixRoutine, buffers: *const *mut u8, scratch: *mut u8, tasks: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { of_type(routine, buffers, scratch, tasks) }
}

/// # Safety
/// As [`run_matrices`].
#[inline(always)]
unsafe fn of_type(routine: &MatrixRoutine, buffers: *const *mut u8, scratch: *mut u8, tasks: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe {
        match (routine.dtype.size(), routine.lanes()) {
            (4, 1) => matrices::<f32, 1>(routine, buffers, scratch, tasks),
            (4, _) => matrices::<f32, 16>(routine, buffers, scratch, tasks),
            (_, 1) => matrices::<f64, 1>(routine, buffers, scratch, tasks),
            (_, _) => matrices::<f64, 8>(routine, buffers, scratch, tasks),
        }
    }
}

/// # Safety
/// As [`run_matrices`]; W is [`MatrixRoutine::lanes`].
#[inline(always)]
unsafe fn matrices<T: Float, const W: usize>(
    routine: &MatrixRoutine,
    buffers: *const *mut u8,
    scratch: *mut u8,
    tasks: Range<usize>,
) {
    let (operands, results) = routine.extents();
    let list = |extents: &[usize], offset: usize| {
        let mut all: [Buffer; BUFFERS] = [(std::ptr::null_mut(), 0); BUFFERS];
        for (i, (&extent, buffer)) in extents.iter().zip(&mut all).enumerate() {
            // SAFETY: the caller's promise.
            *buffer = (unsafe { *buffers.add(offset + i) }, extent);
        }
        all
    };
    let [operands, results] = [list(&operands, 0), list(&results, operands.len())];
    for task in tasks {
        let first = task * W;
        let count = (routine.batch - first).min(W);
        run(&mut Lanes::<T, W> { operands, results, first, count, scratch: scratch.cast() }, routine);
    }
}

impl<T: Float, const W: usize> Lanes<T, W> {
    /// Element `i` of a buffer of `E`, of the matrix in a lane.
    #[inline(always)]
    fn element<E>(&self, (start, extent): Buffer, lane: usize, i: usize) -> *mut E {
        start.cast::<E>().wrapping_add((self.first + lane.min(self.count - 1)) * extent + i)
    }

    /// The value in each lane.
    #[inline(always)]
    fn map<V>(f: impl FnMut(usize) -> V) -> [V; W] {
        std::array::from_fn(f)
    }
}

// SAFETY of all accesses: what `run` computes stays within the extents and the memory that the routine says, of which
// the caller of `matrices` has made sure; picks are rows of a matrix. Working memory is this task's alone.
impl<T: Float, const W: usize> Backend for Lanes<T, W> {
    type Index = usize;
    type Pick = [u32; W];
    type Real = [T; W];
    type Bool = [bool; W];
    type Array = *mut [T; W];
    type Picks = *mut [u32; W];
    type Span = [usize; 2];

    #[inline(always)]
    fn index(&mut self, i: usize) -> usize {
        i
    }
    #[inline(always)]
    fn plus(&mut self, i: usize, j: usize) -> usize {
        i + j
    }
    #[inline(always)]
    fn minus(&mut self, i: usize, j: usize) -> usize {
        i - j
    }
    #[inline(always)]
    fn at(&mut self, i: usize, by: usize, offset: usize) -> usize {
        i * by + offset
    }
    #[inline(always)]
    fn modulo(&mut self, i: usize, by: usize) -> usize {
        i % by
    }
    #[inline(always)]
    fn ordered(&mut self, i: usize, j: usize) -> [usize; 2] {
        [i.min(j), i.max(j)]
    }
    #[inline(always)]
    fn if_zero(&mut self, i: usize, x: usize, y: usize) -> usize {
        if i == 0 { x } else { y }
    }
    #[inline(always)]
    fn precedes(&mut self, i: usize, j: usize) -> [bool; W] {
        [i < j; W]
    }

    #[inline(always)]
    fn pick(&mut self, i: usize) -> [u32; W] {
        [i as u32; W]
    }
    #[inline(always)]
    fn select_pick(&mut self, condition: [bool; W], x: [u32; W], y: [u32; W]) -> [u32; W] {
        Self::map(|l| if condition[l] { x[l] } else { y[l] })
    }

    #[inline(always)]
    fn real(&mut self, x: f64) -> [T; W] {
        [T::new(x); W]
    }
    #[inline(always)]
    fn add(&mut self, x: [T; W], y: [T; W]) -> [T; W] {
        Self::map(|l| x[l] + y[l])
    }
    #[inline(always)]
    fn sub(&mut self, x: [T; W], y: [T; W]) -> [T; W] {
        Self::map(|l| x[l] - y[l])
    }
    #[inline(always)]
    fn mul(&mut self, x: [T; W], y: [T; W]) -> [T; W] {
        Self::map(|l| x[l] * y[l])
    }
    #[inline(always)]
    fn div(&mut self, x: [T; W], y: [T; W]) -> [T; W] {
        Self::map(|l| x[l] / y[l])
    }
    #[inline(always)]
    fn sqrt(&mut self, x: [T; W]) -> [T; W] {
        Self::map(|l| x[l].sqrt())
    }
    #[inline(always)]
    fn abs(&mut self, x: [T; W]) -> [T; W] {
        Self::map(|l| x[l].abs())
    }
    #[inline(always)]
    fn less(&mut self, x: [T; W], y: [T; W]) -> [bool; W] {
        Self::map(|l| x[l] < y[l])
    }
    #[inline(always)]
    fn equal(&mut self, x: [T; W], y: [T; W]) -> [bool; W] {
        Self::map(|l| x[l] == y[l])
    }
    #[inline(always)]
    fn or(&mut self, x: [bool; W], y: [bool; W]) -> [bool; W] {
        Self::map(|l| x[l] | y[l])
    }
    #[inline(always)]
    fn select(&mut self, condition: [bool; W], x: [T; W], y: [T; W]) -> [T; W] {
        Self::map(|l| if condition[l] { x[l] } else { y[l] })
    }

    #[inline(always)]
    fn reals(&mut self, count: usize) -> *mut [T; W] {
        let array = self.scratch;
        self.scratch = array.wrapping_add(count);
        array
    }
    #[inline(always)]
    fn picks(&mut self, count: usize) -> *mut [u32; W] {
        let array = self.scratch.cast::<[u32; W]>();
        self.scratch = array.wrapping_add(count).cast();
        array
    }
    #[inline(always)]
    fn load(&mut self, from: *mut [T; W], i: usize) -> [T; W] {
        // SAFETY: see above.
        unsafe { from.add(i).read() }
    }
    #[inline(always)]
    fn load_at(&mut self, from: *mut [T; W], i: [u32; W], by: usize, offset: usize) -> [T; W] {
        // SAFETY: see above.
        Self::map(|l| unsafe { (&raw const (*from.add(i[l] as usize * by + offset))[l]).read() })
    }
    #[inline(always)]
    fn store(&mut self, to: *mut [T; W], i: usize, x: [T; W]) {
        // SAFETY: see above.
        unsafe { to.add(i).write(x) }
    }
    #[inline(always)]
    fn store_if(&mut self, condition: [bool; W], to: *mut [T; W], i: usize, x: [T; W]) {
        let old = self.load(to, i);
        let new = self.select(condition, x, old);
        self.store(to, i, new);
    }
    #[inline(always)]
    fn store_at(&mut self, to: *mut [T; W], i: [u32; W], by: usize, offset: usize, x: [T; W]) {
        for l in 0..W {
            // SAFETY: see above.
            unsafe { (&raw mut (*to.add(i[l] as usize * by + offset))[l]).write(x[l]) }
        }
    }
    #[inline(always)]
    fn load_pick(&mut self, from: *mut [u32; W], i: usize) -> [u32; W] {
        // SAFETY: see above.
        unsafe { from.add(i).read() }
    }
    #[inline(always)]
    fn load_pick_at(&mut self, from: *mut [u32; W], i: [u32; W]) -> [u32; W] {
        // SAFETY: see above.
        Self::map(|l| unsafe { (&raw const (*from.add(i[l] as usize))[l]).read() })
    }
    #[inline(always)]
    fn store_pick(&mut self, to: *mut [u32; W], i: usize, x: [u32; W]) {
        // SAFETY: see above.
        unsafe { to.add(i).write(x) }
    }
    #[inline(always)]
    fn store_pick_at(&mut self, to: *mut [u32; W], i: [u32; W], x: [u32; W]) {
        for l in 0..W {
            // SAFETY: see above.
            unsafe { (&raw mut (*to.add(i[l] as usize))[l]).write(x[l]) }
        }
    }

    #[inline(always)]
    fn read(&mut self, operand: usize, i: usize) -> [T; W] {
        // SAFETY: see above.
        Self::map(|l| unsafe { self.element::<T>(self.operands[operand], l, i).read() })
    }
    #[inline(always)]
    fn read_at(&mut self, operand: usize, i: [u32; W], by: usize, offset: usize) -> [T; W] {
        let at = |l: usize| i[l] as usize * by + offset;
        // SAFETY: see above.
        Self::map(|l| unsafe { self.element::<T>(self.operands[operand], l, at(l)).read() })
    }
    #[inline(always)]
    fn write(&mut self, result: usize, i: usize, x: [T; W]) {
        for (l, &x) in x.iter().enumerate().take(self.count) {
            // SAFETY: see above.
            unsafe { self.element::<T>(self.results[result], l, i).write(x) }
        }
    }
    #[inline(always)]
    fn write_at(&mut self, result: usize, i: [u32; W], by: usize, offset: usize, x: [T; W]) {
        for l in 0..self.count {
            let at = i[l] as usize * by + offset;
            // SAFETY: see above.
            unsafe { self.element::<T>(self.results[result], l, at).write(x[l]) }
        }
    }
    #[inline(always)]
    fn write_pick(&mut self, result: usize, i: usize, x: [u32; W]) {
        for (l, &x) in x.iter().enumerate().take(self.count) {
            // SAFETY: see above.
            unsafe { self.element::<u32>(self.results[result], l, i).write(x) }
        }
    }

    #[inline(always)]
    fn in_order(&mut self, from: usize, to: usize, mut f: impl FnMut(&mut Self, usize)) {
        for i in from..to {
            f(self, i);
        }
    }
    #[inline(always)]
    fn each(&mut self, from: usize, to: usize, f: impl FnMut(&mut Self, usize)) {
        self.in_order(from, to, f);
    }
    #[inline(always)]
    fn grid<R: Copy>(
        &mut self,
        rows: [usize; 2],
        columns: [usize; 2],
        mut of_row: impl FnMut(&mut Self, usize) -> R,
        mut f: impl FnMut(&mut Self, usize, usize, R),
    ) {
        for i in rows[0]..rows[1] {
            let row = of_row(self, i);
            for j in columns[0]..columns[1] {
                f(self, i, j, row);
            }
        }
    }
    #[inline(always)]
    fn columns(&mut self, from: usize, to: usize, mut f: impl FnMut(&mut Self, [usize; 2])) {
        if from < to {
            f(self, [from, to]);
        }
    }
    #[inline(always)]
    fn rows(&mut self, rows: [usize; 2], columns: [usize; 2], mut f: impl FnMut(&mut Self, usize, [usize; 2])) {
        if columns[0] < columns[1] {
            self.in_order(rows[0], rows[1], |b, i| f(b, i, columns));
        }
    }
    #[inline(always)]
    fn span(&mut self, [from, to]: [usize; 2], mut f: impl FnMut(&mut Self, usize)) {
        for j in from..to {
            f(self, j);
        }
    }
    #[inline(always)]
    fn add_row(
        &mut self,
        [first, end]: [usize; 2],
        sign: Sign,
        by: [T; W],
        (to, mut place): (*mut [T; W], impl FnMut(&mut Self, usize) -> usize),
        (from, mut other): (*mut [T; W], impl FnMut(&mut Self, usize) -> usize),
    ) {
        if first < end {
            let (to, from) = (to.wrapping_add(place(self, first)), from.wrapping_add(other(self, first)));
            // SAFETY: see above; the rows have no element in common.
            unsafe {
                add(
                    std::slice::from_raw_parts_mut(to, end - first),
                    std::slice::from_raw_parts(from, end - first),
                    by,
                    sign,
                );
            }
        }
    }
    #[inline(always)]
    fn add_rows(
        &mut self,
        [first, end]: [usize; 2],
        rows: [usize; 2],
        sign: Sign,
        (to, mut place): (*mut [T; W], impl FnMut(&mut Self, usize) -> usize),
        (from, mut other): (*mut [T; W], impl FnMut(&mut Self, usize, usize) -> usize),
        mut by: impl FnMut(&mut Self, usize) -> [T; W],
    ) {
        // So many elements of the row stay in registers.
        const BLOCK: usize = 32;
        let mut column = first;
        while W == 1 && column + BLOCK <= end {
            // SAFETY: see above; the row and the others have no element in common.
            let row = unsafe { &mut *to.wrapping_add(place(self, column)).cast::<[[T; W]; BLOCK]>() };
            let mut sums = *row;
            for k in rows[0]..rows[1] {
                let by = by(self, k);
                // SAFETY: as above.
                let other = unsafe { &*from.wrapping_add(other(self, k, column)).cast::<[[T; W]; BLOCK]>() };
                add(&mut sums, other, by, sign);
            }
            *row = sums;
            column += BLOCK;
        }
        if column < end {
            for k in rows[0]..rows[1] {
                let by = by(self, k);
                self.add_row([column, end], sign, by, (to, &mut place), (from, |b: &mut Self, j| other(b, k, j)));
            }
        }
    }
    #[inline(always)]
    fn once(&mut self, f: impl FnOnce(&mut Self)) {
        f(self);
    }
    #[inline(always)]
    fn sync(&mut self) {}
    #[inline(always)]
    fn when(&mut self, condition: [bool; W], f: impl FnOnce(&mut Self)) {
        if condition.contains(&true) {
            f(self);
        }
    }
    #[inline(always)]
    fn repeat(&mut self, most: usize, mut f: impl FnMut(&mut Self) -> [bool; W]) {
        for _ in 0..most {
            if !f(self).contains(&true) {
                break;
            }
        }
    }
    #[inline(always)]
    fn fold<const N: usize>(
        &mut self,
        from: usize,
        to: usize,
        x: [[T; W]; N],
        mut f: impl FnMut(&mut Self, usize, [[T; W]; N]) -> [[T; W]; N],
    ) -> [[T; W]; N] {
        (from..to).fold(x, |x, i| f(self, i, x))
    }
    #[inline(always)]
    fn fold_pick(
        &mut self,
        from: usize,
        to: usize,
        x: ([T; W], [u32; W]),
        mut f: impl FnMut(&mut Self, usize, ([T; W], [u32; W])) -> ([T; W], [u32; W]),
    ) -> ([T; W], [u32; W]) {
        (from..to).fold(x, |x, i| f(self, i, x))
    }
}

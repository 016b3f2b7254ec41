//! Programs with products by tensor cores. On whole numbers that the precision holds they are exact, so they have the
//! bits of the CPU: of operands in any layout, with derivatives, epilogues and loops around them. What is rounded, and
//! how memory is accessed, unit tests of the emitter check.

use fulgurite::compiler::graph::Graph;
use fulgurite::compiler::ptx::Target;
use fulgurite::compiler::ptx::simt::Options;
use fulgurite::compiler::trace::trace;
use fulgurite::runtime::Program;
use fulgurite::{Array, DType, Precision, Result, Tensor, TensorType, grad, relu, scan, with_matmul_precision};

use super::{Numbers, run};

/// The precisions below the highest.
const PRECISIONS: [Precision; 3] = [Precision::Tf32, Precision::Bf16, Precision::F16];

/// How a batch of matrices lies in its array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Layout {
    Rows,
    Columns,
    /// Rows that are longer than the matrix is wide.
    Part,
    /// Every other element of rows, from the second row on.
    Strided,
    /// Rows from their end.
    Reversed,
    /// One matrix for all of a batch.
    Shared,
}

impl Layout {
    /// The shape of the array of a batch of matrices of so many rows and columns.
    fn shape(self, [batch, rows, columns]: [usize; 3]) -> [usize; 3] {
        match self {
            Layout::Rows | Layout::Reversed => [batch, rows, columns],
            Layout::Columns => [batch, columns, rows],
            Layout::Part => [batch, rows, columns + 4],
            Layout::Strided => [batch, rows + 1, 2 * columns + 1],
            Layout::Shared => [1, rows, columns],
        }
    }

    /// The matrices of an array.
    fn of(self, x: &Tensor, [batch, rows, columns]: [usize; 3]) -> Tensor {
        match self {
            Layout::Rows => x.clone(),
            Layout::Columns => x.transpose(&[0, 2, 1]),
            Layout::Part => x.slice(&[0, 0, 4], &[batch, rows, columns + 4], &[1, 1, 1]),
            Layout::Strided => x.slice(&[0, 1, 1], &[batch, rows + 1, 2 * columns + 1], &[1, 1, 2]),
            Layout::Reversed => x.rev(&[2]),
            Layout::Shared => x.reshape(&[rows, columns]).broadcast_in_dim(&[batch, rows, columns], &[1, 2]),
        }
    }
}

/// The products of operands in these layouts, of these extents of batch, m, n, k.
pub(crate) fn product(precision: Precision, [batch, m, n, k]: [usize; 4], layouts: [Layout; 2]) -> Result<Graph> {
    let matrices = [[batch, m, k], [batch, k, n]];
    let ty = |i: usize| TensorType::new(DType::F32, &layouts[i].shape(matrices[i]));
    let traced = trace(&[ty(0), ty(1)], |x| {
        let [a, b] = [0, 1].map(|i| layouts[i].of(&x[i], matrices[i]));
        vec![with_matmul_precision(precision, || a.matmul(&b))]
    })?;
    Ok(traced.graph)
}

/// Checks that a graph has the bits of the CPU, on whole numbers up to `most`.
fn check(what: &str, graph: &Graph, numbers: &mut Numbers, most: f64) -> Result<()> {
    let mut whole = || ((numbers.next() * 2.0 - 1.0) * most).round() as f32;
    let mut array = |ty: &TensorType| Array::from_vec(&ty.shape, (0..ty.elements()).map(|_| whole()).collect());
    let inputs: Vec<Array> = graph.param_types().iter().map(&mut array).collect::<Result<_>>()?;
    let want = Program::compile("cpu", graph, &vec![false; inputs.len()])?.run(inputs.clone())?;
    for multiprocessors in [1, 132] {
        let target = Target { capability: 80, multiprocessors, ..Target::default() };
        let got = run::results(graph, &inputs, target, &Options::default())?.0;
        for (got, want) in got.iter().zip(&want) {
            // A zero may have the other sign: the order of the sums is not the same.
            assert_eq!(got.to_f64_vec()?, want.to_f64_vec()?, "{what}\n{graph}");
        }
    }
    Ok(())
}

#[test]
fn layouts_of_operands() -> Result<()> {
    let mut numbers = Numbers(0x51ed_2701_9abc_def1);
    let layouts = [Layout::Rows, Layout::Columns, Layout::Part, Layout::Strided, Layout::Reversed, Layout::Shared];
    for (n, (a, b)) in layouts.iter().flat_map(|&a| layouts.map(|b| (a, b))).enumerate() {
        for (e, extents) in [[2, 20, 36, 40], [3, 17, 5, 33], [1, 70, 66, 12]].into_iter().enumerate() {
            let precision = PRECISIONS[(n + e) % 3];
            let what = format!("{precision:?}, {a:?} and {b:?}");
            check(&what, &product(precision, extents, [a, b])?, &mut numbers, 16.0)?;
        }
    }
    Ok(())
}

#[test]
fn derivatives_epilogues_and_loops() -> Result<()> {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    for precision in PRECISIONS {
        let ty = |shape: &[usize]| TensorType::new(DType::F32, shape);
        let types = [ty(&[24, 20]), ty(&[20, 36]), ty(&[36]), ty(&[36, 8]), ty(&[24, 8])];
        let gradients = trace(&types, |x| {
            let loss = |(w, b, v): &(Tensor, Tensor, Tensor)| (relu(&(x[0].matmul(w) + b)).matmul(v) * &x[4]).sum();
            let (w, b, v) =
                with_matmul_precision(precision, || grad(loss)(&(x[1].clone(), x[2].clone(), x[3].clone())));
            vec![&x[1] - w, b, v]
        })?;
        check(&format!("{precision:?}, gradients"), &gradients.graph, &mut numbers, 1.0)?;
        let loops = trace(&[ty(&[5, 20]), ty(&[20, 20]), ty(&[3, 5, 20])], |x| {
            let step = |h: Tensor, input: Tensor| {
                let next = (h.matmul(&x[1]) + input).clip(-8.0, 8.0);
                (next.clone(), next)
            };
            let (last, all) = with_matmul_precision(precision, || scan(step, x[0].clone(), x[2].clone()));
            vec![last, all]
        })?;
        check(&format!("{precision:?}, a loop"), &loops.graph, &mut numbers, 8.0)?;
    }
    Ok(())
}

//! Golden PTX: `golden/ptx/NAME.ptx` has the launches and the code of one program for each case that the emitter
//! treats differently. `UPDATE=1` rewrites the files.

use std::fmt::Write;

use fulgurite::compiler::graph::Graph;
use fulgurite::compiler::linalg::{Triangular, cholesky, triangular_solve};
use fulgurite::compiler::ptx::{Module, Target};
use fulgurite::compiler::trace::trace;
use fulgurite::prelude::*;
use fulgurite::trainer::loss::cross_entropy;
use fulgurite::{IndexMode, Precision, Scan, TensorType, scan, softmax, sort, where_, with_matmul_precision};

use super::{common, run};

/// A small program.
pub(crate) struct Program {
    /// The name of its file.
    pub(crate) name: &'static str,
    inputs: &'static [(DType, &'static [usize])],
    f: fn(&[Tensor]) -> Vec<Tensor>,
}

impl Program {
    /// The program as a graph.
    pub(crate) fn graph(&self) -> Result<Graph> {
        let inputs: Vec<TensorType> = self.inputs.iter().map(|(dtype, shape)| TensorType::new(*dtype, shape)).collect();
        Ok(trace(&inputs, self.f)?.graph)
    }

    /// The program for a GPU.
    pub(crate) fn module(&self) -> Result<Module> {
        run::lower(&self.graph()?, false)
    }
}

/// Extents are as small as the code allows: the tests of races run every thread.
pub(crate) const PROGRAMS: &[Program] = &[
    Program {
        name: "elementwise",
        inputs: &[(DType::F32, &[4096]), (DType::F32, &[4096])],
        f: |x| vec![&x[0] * 2.0 + &x[1]],
    },
    Program {
        name: "elementwise_tail",
        inputs: &[(DType::F32, &[4099]), (DType::F32, &[4099])],
        f: |x| vec![&x[0] * 2.0 + &x[1]],
    },
    Program { name: "elementwise_short", inputs: &[(DType::F32, &[100])], f: |x| vec![x[0].tanh()] },
    Program {
        name: "broadcast",
        inputs: &[(DType::F32, &[64, 64]), (DType::F32, &[64]), (DType::F32, &[64, 1])],
        f: |x| vec![&x[0] * &x[1] + &x[2]],
    },
    // The result of the product is in registers alone.
    Program {
        name: "product_epilogue",
        inputs: &[(DType::F32, &[48, 32]), (DType::F32, &[32, 48]), (DType::F32, &[48]), (DType::F32, &[48, 48])],
        f: |x| vec![(x[0].matmul(&x[1]) + &x[2]).tanh() + &x[3]],
    },
    Program {
        name: "concurrent",
        inputs: &[(DType::F32, &[6000]), (DType::F32, &[2000, 10])],
        f: |x| vec![x[0].sqrt(), x[1].sum_axes(1)],
    },
    Program {
        name: "cooperative_product",
        inputs: &[(DType::F32, &[80, 80]), (DType::F32, &[80, 80])],
        f: |x| {
            let w = x[1].clone();
            vec![
                Scan { length: Some(20), ..Scan::default() }
                    .run(|h: Tensor, _: ()| (h.matmul(&w).tanh(), ()), x[0].clone(), ())
                    .0,
            ]
        },
    },
    Program {
        name: "transposed_read",
        inputs: &[(DType::F32, &[64, 96]), (DType::F32, &[96, 64])],
        f: |x| vec![x[0].t() + &x[1]],
    },
    Program {
        name: "gather",
        inputs: &[(DType::F32, &[50, 8]), (DType::I32, &[20])],
        f: |x| vec![x[0].take_with(&x[1], 0, IndexMode::Clip)],
    },
    Program {
        name: "scatter",
        inputs: &[(DType::F32, &[50, 8]), (DType::I32, &[20]), (DType::F32, &[20, 8])],
        f: |x| vec![x[0].at(&x[1]).add(&x[2])],
    },
    Program {
        name: "scatter_flat",
        inputs: &[(DType::F32, &[50]), (DType::I32, &[70]), (DType::F32, &[70])],
        f: |x| vec![x[0].at(&x[1]).add(&x[2])],
    },
    Program {
        name: "bool_mask",
        inputs: &[(DType::Bool, &[128]), (DType::F32, &[128]), (DType::F32, &[128])],
        f: |x| vec![where_(&x[0], &x[1], &x[2]), x[1].less(&x[2])],
    },
    Program {
        name: "f64",
        inputs: &[(DType::F64, &[128]), (DType::F64, &[128])],
        f: |x| vec![&x[0] / &x[1] + x[1].sqrt()],
    },
    Program {
        name: "threefry",
        inputs: &[(DType::U32, &[2])],
        f: |x| vec![Key::wrap_key_data(x[0].clone()).bits(&[64])],
    },
    Program { name: "row_sum_7", inputs: &[(DType::F32, &[33, 7])], f: |x| vec![x[0].sum_axes(-1)] },
    Program { name: "row_sum_100", inputs: &[(DType::F32, &[9, 100])], f: |x| vec![x[0].sum_axes(-1)] },
    Program { name: "row_sum_1000", inputs: &[(DType::F32, &[5, 1000])], f: |x| vec![x[0].sum_axes(-1)] },
    Program { name: "row_sum_block", inputs: &[(DType::F32, &[3, 2600])], f: |x| vec![x[0].sum_axes(-1)] },
    Program { name: "softmax_block", inputs: &[(DType::F32, &[2, 600])], f: |x| vec![softmax(&x[0], -1)] },
    Program {
        name: "transpose_tiles",
        inputs: &[(DType::F32, &[128, 130]), (DType::F32, &[130, 128])],
        f: |x| vec![x[0].t() + &x[1]],
    },
    Program { name: "column_sum", inputs: &[(DType::F32, &[100, 40])], f: |x| vec![x[0].sum_axes(0)] },
    Program { name: "softmax", inputs: &[(DType::F32, &[9, 100])], f: |x| vec![softmax(&x[0], -1)] },
    Program {
        name: "layer_norm",
        inputs: &[(DType::F32, &[9, 100]), (DType::F32, &[100]), (DType::F32, &[100])],
        f: |x| {
            let (mean, variance) = (x[0].mean_keep(-1), x[0].var_keep(-1));
            vec![(&x[0] - mean) * (variance + 1e-5).rsqrt() * &x[1] + &x[2]]
        },
    },
    Program {
        name: "cross_entropy",
        inputs: &[(DType::F32, &[16, 10]), (DType::I32, &[16])],
        f: |x| vec![cross_entropy(&x[0], &x[1])],
    },
    Program { name: "argmax", inputs: &[(DType::F32, &[9, 40])], f: |x| vec![x[0].argmax(-1)] },
    Program {
        name: "product",
        inputs: &[(DType::F32, &[64, 64]), (DType::F32, &[64, 64])],
        f: |x| vec![x[0].matmul(&x[1])],
    },
    Program {
        name: "batched_product",
        inputs: &[(DType::F32, &[3, 20, 17]), (DType::F32, &[3, 24, 17])],
        f: |x| vec![x[0].matmul(&x[1].transpose(&[0, 2, 1]))],
    },
    Program { name: "sort", inputs: &[(DType::F32, &[5, 33])], f: |x| sort(&[&x[0]], -1, 1) },
    Program { name: "cholesky", inputs: &[(DType::F32, &[2, 8, 8])], f: |x| vec![cholesky(&x[0])] },
    Program {
        name: "triangular_solve",
        inputs: &[(DType::F32, &[2, 8, 8]), (DType::F32, &[2, 8, 3])],
        f: |x| {
            let how = Triangular { left_side: true, lower: true, ..Triangular::default() };
            vec![triangular_solve(&x[0], &x[1], how)]
        },
    },
    Program {
        name: "scan",
        inputs: &[(DType::F32, &[16]), (DType::F32, &[16]), (DType::F32, &[3, 16])],
        f: |x| {
            let (w, xs) = (x[1].clone(), x[2].clone());
            let step = move |h: Tensor, x: Tensor| {
                let h = h * &w + x;
                (h.clone(), h)
            };
            let (last, all) = scan(step, x[0].clone(), xs);
            vec![last, all]
        },
    },
    Program {
        name: "scan_of_blocks",
        inputs: &[(DType::F32, &[1500]), (DType::F32, &[10])],
        f: |x| vec![scan(|h: Tensor, x: Tensor| (h.flip(0) + x, ()), x[0].clone(), x[1].clone()).0],
    },
];

/// Products by tensor cores, for sm_80. Fewer tiles would be smaller ones.
pub(crate) const TENSOR_CORES: &[Program] = &[
    Program {
        name: "product_tf32",
        inputs: &[(DType::F32, &[1536, 64]), (DType::F32, &[64, 1536])],
        f: |x| vec![with_matmul_precision(Precision::Tf32, || x[0].matmul(&x[1]))],
    },
    Program {
        name: "product_bf16",
        inputs: &[(DType::F32, &[1536, 64]), (DType::F32, &[64, 1536])],
        f: |x| vec![with_matmul_precision(Precision::Bf16, || x[0].matmul(&x[1]))],
    },
    Program {
        name: "product_f16_ragged",
        inputs: &[(DType::F32, &[3, 35, 17]), (DType::F32, &[3, 65, 17])],
        f: |x| vec![with_matmul_precision(Precision::F16, || x[0].matmul(&x[1].transpose(&[0, 2, 1])))],
    },
];

#[test]
fn the_code_of_telling_programs() -> Result<()> {
    let of_volta = PROGRAMS.iter().map(|program| (program, Target::default()));
    let of_ampere = TENSOR_CORES.iter().map(|program| (program, Target { capability: 80, ..Target::default() }));
    for (program, target) in of_volta.chain(of_ampere) {
        let module = run::lower_for(&program.graph()?, false, target)?;
        let mut text = String::new();
        for launch in &module.launches {
            writeln!(text, "// {launch}").expect("a string");
        }
        common::golden(&format!("ptx/{}.ptx", program.name), &format!("{text}{}", module.ptx));
    }
    Ok(())
}

//! The GPU back end without a GPU: modules run by the SIMT interpreter, which checks every access, against the bits of
//! the CPU; and assembled by `ptxas`, where there is one (`FULGURITE_PTXAS`). `FULGURITE_GPU_TESTS=device` runs the
//! same programs on the GPU of this machine (`benches/gpu.sh tests`).

#[path = "../common/mod.rs"]
mod common;
mod concurrent;
mod control;
mod counts;
mod golden;
mod loops;
mod precision;
mod products;
mod ptxas;
mod races;
mod rows;
mod run;
mod shapes;
mod steps;
mod workloads;
mod zluda;

use std::panic::{AssertUnwindSafe, catch_unwind};

use fulgurite::compiler::graph::{Graph, Node, Op, Sample, samples};
use fulgurite::compiler::ptx::simt::Options;
use fulgurite::{Array, TensorType};
use fulgurite_jit::testing::{Config, program, shrink};

/// A small generator (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn array(&mut self, ty: &TensorType, (low, high): (f64, f64)) -> Array {
        let mut draw = || low + (high - low) * self.next();
        let mut bits = || match draw() {
            x if ty.dtype.is_float() => ty.dtype.bits(x),
            x if ty.dtype.is_signed_int() => ty.dtype.bits(x.round()),
            x if ty.dtype.is_int() => ty.dtype.bits(x.round().abs()),
            x => ty.dtype.bits(x > (low + high) / 2.0),
        };
        let bits: Vec<u64> = (0..ty.elements()).map(|_| bits()).collect();
        Array::from_bits(ty, &bits).expect("as many elements as the type has")
    }

    fn inputs(&mut self, sample: &Sample) -> Vec<Array> {
        let operand = |(i, ty)| sample.conditioned(i, self.array(ty, sample.range), None);
        (0..).zip(&sample.operands).map(operand).collect()
    }
}

/// The difference and the graph, if there is a difference.
fn compare(graph: &Graph, inputs: &[Array]) -> Result<(), String> {
    run::compare(graph, inputs, &Options::default()).map(drop).map_err(|fault| format!("{fault}\n{graph}"))
}

#[test]
fn every_op_has_the_bits_of_the_cpu() {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let cases = samples().into_iter().map(|sample| (sample.graph(), numbers.inputs(&sample)));
    let faults = run::each(cases, |(graph, inputs)| compare(&graph, &inputs));
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

/// Values at the borders of formats, and arguments that take slow paths.
const EDGES: [f64; 34] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    1.2e-38,
    1e-30,
    3.4e38,
    -3.4e38,
    88.0,
    -88.0,
    104.0,
    -104.0,
    0.5,
    2.5,
    -0.5,
    1.5,
    std::f64::consts::PI,
    1e4,
    -123_456.789,
    1e6,
    33_554_432.0,
    1e9,
    -2.5e12,
    8.1e19,
    -1.7e25,
    3.0e33,
    2_147_483_647.0,
    -2_147_483_648.0,
    4_294_967_295.0,
    1e-3,
    710.0,
];

/// The op of a sample on every pair of edge values, if it is an elementwise one of floats.
fn edges(sample: &Sample) -> Option<(Graph, Vec<Array>)> {
    let [elementwise, float] = [
        matches!(sample.op, Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Convert(_)),
        sample.operands.iter().any(|ty| ty.dtype.is_float()),
    ];
    if !elementwise || !float || sample.operands[0].rank() == 0 {
        return None;
    }
    let n = EDGES.len();
    let operands: Vec<TensorType> = sample.operands.iter().map(|ty| TensorType::new(ty.dtype, &[n, n])).collect();
    let mut graph = Graph::new();
    let params: Vec<_> = operands.iter().map(|ty| graph.param(ty.clone())).collect();
    let ty = graph.infer(&sample.op, &params).ok()?;
    let id = graph.push(Node { op: sample.op.clone(), operands: params.into_iter().collect(), ty, location: None });
    graph.outputs = vec![id];
    let array = |(i, ty): (usize, &TensorType)| {
        let value = |e: usize| EDGES[if i % 2 == 0 { e / n } else { (e % n + i) % n }];
        let bits: Vec<u64> = (0..n * n).map(|e| ty.dtype.bits(value(e))).collect();
        Array::from_bits(ty, &bits).expect("as many elements as the type has")
    };
    let inputs = operands.iter().enumerate().map(array).collect();
    Some((graph, inputs))
}

#[test]
fn edge_values_have_the_bits_of_the_cpu() {
    let cases = samples();
    let faults = run::each(cases.iter().filter_map(edges), |(graph, inputs)| compare(&graph, &inputs));
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

/// How many random programs run; `FULGURITE_GPU_PROGRAMS` and `FULGURITE_GPU_SEED` choose others.
const PROGRAMS: u64 = 60;

#[test]
fn random_programs_have_the_bits_of_the_cpu() {
    let first = run::number("FULGURITE_GPU_SEED", 1);
    let programs = run::number("FULGURITE_GPU_PROGRAMS", PROGRAMS);
    let faults = run::each(first..first + programs, |seed| {
        let (graph, inputs) = program(seed, &Config { large: 0, ..Config::COMPILED });
        let fails = |graph: &Graph, inputs: &[Array]| {
            let result = catch_unwind(AssertUnwindSafe(|| run::compare(graph, inputs, &Options::default())));
            result.unwrap_or_else(|_| Err("panic".into())).err()
        };
        let Some(fault) = fails(&graph, &inputs) else { return Ok(()) };
        // Nothing runs after an error that the device is lost by, so the program stays as it is.
        let (small, small_inputs) = if run::is_lost(&fault) {
            (graph, inputs)
        } else {
            shrink(&graph, &inputs, |graph, inputs| fails(graph, inputs).is_some())
        };
        let now = if run::is_lost(&fault) { String::new() } else { fails(&small, &small_inputs).unwrap_or_default() };
        println!("seed {seed}: {fault}\nat its smallest: {now}\n{small}");
        for (i, input) in small_inputs.iter().enumerate().filter(|(_, input)| input.ty().elements() <= 100) {
            println!("input {i}: {input}");
        }
        Err(format!("seed {seed}: {fault}"))
    });
    assert!(faults.is_empty(), "of {programs} programs {} failed, see above\n{}", faults.len(), faults.join("\n"));
}

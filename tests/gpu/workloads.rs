//! The workloads that are timed, and steps with loops and donated inputs, on random inputs: the interpreter has the
//! bits of the CPU. What it counts is a stored table.

use std::time::Instant;

use fulgurite::compiler::graph::Graph;
use fulgurite::compiler::ptx::simt::Options;
use fulgurite::prelude::*;
use fulgurite::runtime::Program;
use fulgurite::{Array, TensorType, lower, scan};
use fulgurite_benches::{WORKLOADS, Workload};

use super::golden::PROGRAMS;
use super::{Numbers, common, counts, run};

/// The workloads that take the interpreter minutes: they run if `FULGURITE_GPU_LONG` is set.
const LONG: [&str; 2] = ["mixer", "transformer"];

/// Large workloads are not searched for races, which takes several times as long.
fn options(name: &str) -> Options {
    let large = ["cnn", "mixer", "mixer_b4", "elementwise_big", "transformer"].contains(&name);
    if large { Options { races: false, limit: 1 << 40, ..Options::default() } } else { Options::default() }
}

/// How many arrays the parameters of a workload are. Adam's state lies behind them: a counter, running means, and
/// running means of squares, which are not negative. A workload without state has none.
fn parameters(name: &str) -> usize {
    match name {
        "bnn" => 20,
        "mlp" | "mlp_f64" | "mlp_tiny" => 6,
        "cnn" => 11,
        "graph" => 14,
        "adam_many" => 100,
        "mixer" | "mixer_b4" | "transformer" => 54,
        _ => 0,
    }
}

/// Random inputs of these types: small floats, integers that are labels of ten classes or counts, words of keys.
fn inputs(types: &[TensorType], parameters: usize) -> Vec<Array> {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let squares = 2 * parameters + 1..3 * parameters + 1;
    let range = |(i, ty): (usize, &TensorType)| match ty.dtype {
        dtype if dtype.is_float() && squares.contains(&i) => (0.01, 0.25),
        DType::U32 => (0.0, f64::from(u32::MAX)),
        dtype if dtype.is_int() => (0.0, 9.0),
        _ => (-0.5, 0.5),
    };
    types.iter().enumerate().map(|at| numbers.array(at.1, range(at))).collect()
}

/// Runs a graph on both, and says how long that took; or what differs.
fn check(
    name: &str,
    graph: &Graph,
    parameters: usize,
    options: &Options,
) -> std::result::Result<run::Executed, String> {
    let inputs = inputs(&graph.param_types(), parameters);
    // What is NaN on both shows nothing.
    let results = Program::compile("cpu", graph, &vec![false; inputs.len()]).and_then(|p| p.run(inputs.clone()));
    for result in results.unwrap_or_else(|e| panic!("{name}: {e}")) {
        let values = result.to_f64_vec().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(values.iter().all(|x| x.is_finite()), "{name}: a result is not finite");
    }
    let start = Instant::now();
    let executed = run::compare(graph, &inputs, options).map_err(|fault| format!("{name}: {fault}"))?;
    println!("{name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(executed)
}

/// Checks a workload.
fn check_workload(workload: &Workload) -> std::result::Result<run::Executed, String> {
    let graph = (workload.lower)().map_err(|e| format!("{}: {e}", workload.name))?.graph;
    check(workload.name, &graph, parameters(workload.name), &options(workload.name))
}

/// Checks a workload, and says what was executed.
fn row(workload: &Workload) -> Result<String> {
    let graph = (workload.lower)()?.graph;
    let executed = check_workload(workload).unwrap_or_else(|fault| panic!("{fault}"));
    Ok(counts::row(workload.name, run::lower(&graph, false)?.launches.len(), &executed))
}

fn workload(name: &str) -> &'static Workload {
    WORKLOADS.iter().find(|workload| workload.name == name).expect("a workload")
}

#[test]
fn workloads_have_the_bits_of_the_cpu() -> Result<()> {
    if run::on_device() {
        let faults = run::each(WORKLOADS, |workload| check_workload(workload).map(drop));
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
        return Ok(());
    }
    let rows = WORKLOADS.iter().filter(|workload| !LONG.contains(&workload.name)).map(row);
    let table = std::iter::once(Ok(counts::HEAD.into())).chain(rows).collect::<Result<String>>()?;
    common::golden("gpu_counts.txt", &table);
    Ok(())
}

#[test]
fn the_largest_workloads_have_the_bits_of_the_cpu() -> Result<()> {
    if run::on_device() || std::env::var_os("FULGURITE_GPU_LONG").is_none() {
        println!("skipped: on a device it is among the others; elsewhere FULGURITE_GPU_LONG is not set");
        return Ok(());
    }
    for name in LONG {
        print!("{}", row(workload(name))?);
    }
    Ok(())
}

#[test]
fn the_gradient_of_a_loop_has_the_bits_of_the_cpu() -> Result<()> {
    type Args = (Tensor, Tensor, Tensor);
    let loss = |(h, w, xs): &Args| {
        let w = w.clone();
        scan(move |h: Tensor, x: Tensor| ((h * &w + x).tanh(), ()), h.clone(), xs.clone()).0.square().sum()
    };
    let args = (Tensor::zeros(&[16]), Tensor::zeros(&[16]), Tensor::zeros(&[30, 16]));
    let graph = lower(move |args: Args| value_and_grad(loss)(&args), &args)?.graph;
    check("gradient of a loop", &graph, 0, &Options::default()).unwrap_or_else(|fault| panic!("{fault}"));
    Ok(())
}

/// Neither the order of blocks nor that of warps changes a bit.
#[test]
fn golden_programs_have_the_bits_of_the_cpu_in_any_order() -> Result<()> {
    // A device has its own order.
    let seeds = if run::on_device() { 1..=1 } else { 1..=3 };
    let cases = PROGRAMS.iter().flat_map(|program| seeds.clone().map(move |seed| (program, seed)));
    let faults = run::each(cases, |(program, seed)| {
        let describe = |fault: String| format!("{}: {fault}", program.name);
        let graph = program.graph().map_err(|e| describe(e.to_string()))?;
        let options = Options { order: Some(seed), interleave: Some(seed), ..Options::default() };
        let inputs = inputs(&graph.param_types(), 0);
        run::compare(&graph, &inputs, &options).map(drop).map_err(describe)
    });
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    Ok(())
}

#[test]
fn donated_inputs_change_no_bit() -> Result<()> {
    for name in ["mlp_tiny", "bnn", "adam_many"] {
        let graph = (workload(name).lower)()?.graph;
        let inputs = inputs(&graph.param_types(), parameters(name));
        let [kept, donated] = [false, true].map(|donated| run::lower(&graph, donated));
        let (kept, donated) = (kept?, donated?);
        assert!(donated.plan.aliases.iter().any(Option::is_some), "{name}: results lie where inputs were");
        // On a device, every comparison runs with donated inputs too.
        let bits = |module| -> Result<Vec<Vec<u64>>> {
            run::run(module, &inputs, &Options::default())?.0.iter().map(Array::to_bits).collect()
        };
        assert_eq!(bits(&kept)?, bits(&donated)?, "{name}");
    }
    Ok(())
}

//! JAX as a second oracle: random programs, written as StableHLO, run by JAX's compiler.
//!
//! `FULGURITE_JAX` names a Python that has JAX; without it the test is skipped, and says so. `FULGURITE_FUZZ_SEED` is
//! the first seed, `FULGURITE_JAX_PROGRAMS` says how many programs (500). Programs with decompositions of matrices,
//! which StableHLO has no op for, are left out. Programs that end in a fault of XLA's (it rewrites a remainder by a
//! constant 0 with an instruction that traps) are counted, and few.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fulgurite::compiler::export::stablehlo;
use fulgurite::compiler::testing::{Config, close, interpreted, program};
use fulgurite::{Array, Error, Result, TensorType};

/// The ops that StableHLO and chlo lack.
const LIBRARY: [&str; 6] = ["lu", "solve", "qr", "eigh", "svd", "bessel_i0e"];

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/run_stablehlo.py")
}

fn bytes(arrays: &[Array]) -> Vec<u8> {
    arrays.iter().flat_map(|x| x.bytes().expect("on the host").to_vec()).collect()
}

/// The arrays of these types, one after the other.
fn arrays(types: &[TensorType], bytes: &[u8]) -> Result<Vec<Array>> {
    let mut at = 0;
    let array = |ty: &TensorType| {
        let size = ty.dtype.size();
        let element = |bytes: &[u8]| bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte));
        let part = bytes.get(at..at + ty.bytes()).ok_or_else(|| Error::new("too few bytes"))?;
        at += ty.bytes();
        Array::from_bits(ty, &part.chunks(size).map(element).collect::<Vec<_>>())
    };
    types.iter().map(array).collect()
}

fn json(types: &[TensorType]) -> String {
    let types: Vec<String> = types.iter().map(|ty| format!("[\"{}\", {:?}]", ty.dtype, &ty.shape[..])).collect();
    format!("[{}]", types.join(", "))
}

struct Case {
    seed: u64,
    results: Vec<Array>,
    bounds: Option<Vec<f64>>,
}

#[test]
fn programs_have_jaxs_answers() -> Result<()> {
    let Some(python) = std::env::var_os("FULGURITE_JAX") else {
        println!("skipped: FULGURITE_JAX names no Python with JAX");
        return Ok(());
    };
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |x| x.parse().expect("a number"));
    let (first, count) = (number("FULGURITE_FUZZ_SEED", 0), number("FULGURITE_JAX_PROGRAMS", 500));
    let folder = std::env::temp_dir().join(format!("fulgurite-jax-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let config = Config { large: 0, ..Config::COMPILED };
    let (mut cases, mut left_out) = (Vec::new(), 0);
    for seed in first..first + count {
        let (graph, inputs) = program(seed, &config);
        if graph.nodes.iter().any(|node| LIBRARY.contains(&node.op.name())) {
            left_out += 1;
            continue;
        }
        let (results, bounds) = interpreted(&graph, &inputs, config.bound)?;
        let types: Vec<TensorType> = results.iter().map(|x| x.ty().clone()).collect();
        let file = |ending: &str| folder.join(format!("{seed:06}.{ending}"));
        fs::write(file("mlir"), stablehlo(&graph)).expect("a file");
        fs::write(file("in"), bytes(&inputs)).expect("a file");
        let types = format!("{{\"inputs\": {}, \"outputs\": {}}}", json(&graph.param_types()), json(&types));
        fs::write(file("json"), types).expect("a file");
        cases.push(Case { seed, results, bounds });
    }
    let status = Command::new(python).arg(script()).arg(&folder).status().expect("Python starts");
    assert!(status.success(), "{status}");
    let (mut failed, mut unanswered) = (Vec::new(), Vec::new());
    for Case { seed, results, bounds } in &cases {
        let file = |ending: &str| folder.join(format!("{seed:06}.{ending}"));
        let types: Vec<TensorType> = results.iter().map(|x| x.ty().clone()).collect();
        let outcome = match fs::read(file("out")) {
            Ok(bytes) => {
                arrays(&types, &bytes).and_then(|got| close(&format!("{seed}"), &got, results, bounds.as_deref()))
            }
            Err(_) => {
                let why = fs::read_to_string(file("err")).unwrap_or_default();
                if why.starts_with("it ended") || why.starts_with("JaxRuntimeError: INTERNAL") {
                    unanswered.push(format!("program {seed}: {}", why.lines().next().unwrap_or_default()));
                    continue;
                }
                Err(Error::new(why))
            }
        };
        if let Err(error) = outcome {
            failed.push(format!("program {seed}: {}", error.to_string().chars().take(400).collect::<String>()));
        }
    }
    println!("XLA's faults:\n{}", unanswered.join("\n"));
    let (ran, unanswered) = (cases.len() - unanswered.len(), unanswered.len());
    println!("{ran} programs run by JAX, {unanswered} end in XLA, {left_out} left out, {} differ", failed.len());
    assert!(unanswered <= ran / 10, "too few programs have an answer");
    assert!(failed.is_empty(), "see {}\n{}", folder.display(), failed.join("\n"));
    fs::remove_dir_all(&folder).expect("the folder can be removed");
    Ok(())
}

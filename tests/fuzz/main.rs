//! Random programs: what compiled code gives is what the interpreter gives.
//!
//! Each program is run as it is and optimised, twice, with its inputs lent, given away, and given away but still held,
//! with vectors of every width and on 1, 2 and 3 threads.
//! Compiled results are compared with the interpreter's within the bound of `bound` (most are to be equal); among each
//! other, those of one program are to be equal to the bit. A program that fails is made as small as possible and printed.
//!
//! The programs run in processes of their own, so that one that ends its process is named by its seed. Variables:
//! - `FULGURITE_FUZZ_SEED`: the first seed (0);
//! - `FULGURITE_FUZZ_PROGRAMS`: how many programs (300);
//! - `FULGURITE_FUZZ_PROCESSES`: how many processes share them (2).
//!
//! The hunt of 100,000 programs, with every buffer between pages that may not be touched:
//! `FULGURITE_FUZZ_PROGRAMS=100000 cargo test --release --features fence --test fuzz -- --nocapture compiled_programs`

mod bound;
mod program;
mod shrink;

use std::panic::{AssertUnwindSafe, catch_unwind};

use fulgurite::compiler::array::{Buffer, Shared};
use fulgurite::compiler::cpu::{self, Isa, Sharing, Target};
use fulgurite::compiler::fuse::{Output, fuse};
use fulgurite::compiler::graph::Graph;
use fulgurite::compiler::interp::{interpret, interpret_each};
use fulgurite::compiler::memory::Place;
use fulgurite::compiler::opt::optimise;
use fulgurite::runtime::Program;
use fulgurite::{Array, DType, Element, Error, Result};

use bound::bounds;
use program::program;
use shrink::shrink;

/// Programs that a run of the tests looks at.
const PROGRAMS: u64 = 300;
/// Set for the processes that run the programs: the first seed, the seed behind the last, the step, and the file that
/// holds the seed at work.
const PART: &str = "FULGURITE_FUZZ_PART";

#[test]
fn compiled_programs_mean_what_they_say() {
    if let Ok(part) = std::env::var(PART) {
        return run_part(&part);
    }
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")),
        Err(_) => default,
    };
    let first = number("FULGURITE_FUZZ_SEED", 0);
    let programs = number("FULGURITE_FUZZ_PROGRAMS", PROGRAMS);
    let processes = number("FULGURITE_FUZZ_PROCESSES", 2).max(1);
    let end = first.checked_add(programs).expect("seeds of 64 bits");
    let failed: Vec<String> = std::thread::scope(|scope| {
        let parts: Vec<_> =
            (0..processes).map(|i| scope.spawn(move || watch_part(first + i, end, processes))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("it only watches")).collect()
    });
    assert!(failed.is_empty(), "of {programs} programs failed, see above: {failed:?}");
}

/// Has seeds `first`, `first + step`, … run by a process, and by another from the next one if a program ends it. What
/// failed.
fn watch_part(mut first: u64, end: u64, step: u64) -> Vec<String> {
    let mut failed = Vec::new();
    let id = std::process::id();
    let at = std::env::temp_dir().join(format!("fulgurite-fuzz-{id}-{}", first % step));
    while first < end {
        let _ = std::fs::remove_file(&at);
        let this = std::env::current_exe().expect("a test has a file");
        let output = std::process::Command::new(this)
            .args(["--exact", "compiled_programs_mean_what_they_say", "--nocapture"])
            .env(PART, format!("{first} {end} {step} {}", at.display()))
            .output()
            .expect("a process starts");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // A process that came to its end has written so; one that ran nothing has not.
        let seed = std::fs::read_to_string(&at).unwrap_or_default();
        if output.status.success() && seed == "done" {
            break;
        }
        println!("{out}{err}");
        failed.extend(
            out.lines().filter_map(|line| line.strip_prefix("seed ")).map(|line| line.chars().take(90).collect()),
        );
        if seed == "done" {
            break;
        }
        failed.push(format!("{seed}: ended its process, {}", output.status));
        let Ok(seed) = seed.parse::<u64>() else { break };
        first = seed + step;
    }
    let _ = std::fs::remove_file(&at);
    failed
}

/// Runs the programs of one process.
fn run_part(part: &str) {
    let mut words = part.splitn(4, ' ');
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number");
    let (first, end, step) = (number(), number(), number());
    let at = words.next().expect("a file");
    let mut failed = Vec::new();
    for seed in (first..end).step_by(step as usize) {
        std::fs::write(at, seed.to_string()).expect("the file of the seed at work");
        let (graph, inputs) = program(seed);
        let Err(why) = check(&graph, &inputs) else { continue };
        println!("seed {seed}: {why}");
        let (small, small_inputs) = shrink(&graph, &inputs, |graph, inputs| check(graph, inputs).is_err());
        let now = check(&small, &small_inputs).err().unwrap_or_default();
        println!("at its smallest: {now}\n{small}");
        for (i, input) in small_inputs.iter().enumerate().filter(|(_, input)| input.ty().elements() <= 100) {
            println!("input {i}: {input}");
        }
        println!("kernels:\n{}", optimise(&small).map_or_else(|e| e.to_string(), |graph| fuse(&graph).to_string()));
        failed.push(seed);
    }
    std::fs::write(at, "done").expect("the file of the seed at work");
    assert!(failed.is_empty(), "seeds {failed:?} failed, see above");
}

/// Runs a program in all ways, and compares; what is wrong, if anything is. A panic is a fault like another.
fn check(graph: &Graph, inputs: &[Array]) -> std::result::Result<(), String> {
    let result = catch_unwind(AssertUnwindSafe(|| compare(graph, inputs)));
    match result {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", text.unwrap_or("?")))
        }
    }
}

fn compare(graph: &Graph, inputs: &[Array]) -> Result<()> {
    let mut values = Vec::new();
    let want = interpret_each(graph, inputs, &mut |_, value| {
        values.push(value.clone());
        Ok(())
    })?;
    let Some(bounds) = bounds(graph, &values) else { return Ok(()) };
    let bounds: Vec<f64> = graph.outputs.iter().map(|x| bounds[x.index()]).collect();

    close("the optimised graph, interpreted", &interpret(&optimise(graph)?, inputs)?, &want, &bounds)?;
    close("compiled without the optimiser", &run_as_it_is(graph, inputs)?, &want, &bounds)?;

    let lent = Program::compile("lent", graph, &vec![false; inputs.len()])?;
    let got = lent.run(inputs.to_vec())?;
    close("compiled", &got, &want, &bounds)?;
    same("run again", &lent.run(inputs.to_vec())?, &got)?;

    // Two threads in one program, three in the next.
    let several = 2 + graph.nodes.len() % 2;
    for (isa, threads) in Isa::available().iter().flat_map(|&isa| [(isa, 1), (isa, several)]) {
        let target = Target { isa, threads, sharing: Sharing::Everything };
        let other = Program::compile_for("other", graph, &vec![false; inputs.len()], target)?;
        let title = format!("with vectors of {isa:?} and {threads} threads");
        same(&title, &one_nan(&other.run(inputs.to_vec())?)?, &one_nan(&got)?)?;
    }

    let given = Program::compile("given", graph, &vec![true; inputs.len()])?;
    let copies = || inputs.iter().map(|x| Array::from_bytes(x.ty(), x.bytes())).collect::<Result<Vec<_>>>();
    same("with inputs given away", &given.run(copies()?)?, &got)?;
    let held = copies()?;
    same("with inputs given away but held", &given.run(held.clone())?, &got)?;
    same("what was held", &held, inputs)?;
    // Some given away, others not.
    let some: Vec<bool> = (0..inputs.len()).map(|i| i % 2 == graph.nodes.len() % 2).collect();
    same("with some inputs given away", &Program::compile("some", graph, &some)?.run(copies()?)?, &got)
}

/// The results of a graph, compiled as it stands, in memory that holds anything.
fn run_as_it_is(graph: &Graph, inputs: &[Array]) -> Result<Vec<Array>> {
    let target = Target { isa: Isa::Portable, ..Target::one_thread() };
    let code = cpu::compile(fuse(graph), &vec![false; inputs.len()], target)?;
    let anything = |bytes: usize| {
        let mut buffer = Buffer::zeroed(bytes, || "the fuzzer".into()).expect("small");
        buffer.bytes_mut().fill(0x5a);
        buffer
    };
    let outputs = &code.kernels.outputs;
    let memory: Vec<Buffer> = graph.outputs.iter().map(|&x| anything(graph.ty(x).bytes())).collect();
    let working = anything(code.memory(1));
    let params: Vec<*mut u8> = inputs.iter().map(|x| x.buffer().start()).collect();
    let results: Vec<*mut u8> = memory.iter().map(Buffer::start).collect();
    let launch = code.alone(&params, &results, working.start());
    // SAFETY: inputs and outputs are of the types that the code was compiled for, and the working memory is as large as
    // it says; no input is donated, so only memory of this function is written.
    unsafe { code.entry()(&launch) }
    let memory: Vec<_> = memory.into_iter().map(Shared::new).collect();
    let result = |output: &Output| match output {
        Output::Param(i, ty) => inputs[*i].reshaped(ty.clone()),
        Output::Constant(array) => array.clone(),
        Output::Computed(b, ty) => match code.plan.places[b.index()] {
            // SAFETY: the code has written all of it.
            Place::Output(o) => unsafe { Array::new(ty.clone(), memory[o].clone()) },
            Place::Param(_) | Place::Constant | Place::Arena(_) => panic!("an output lies in an output's memory"),
        },
    };
    Ok(outputs.iter().map(result).collect())
}

/// Equal within the bounds?
fn close(what: &str, got: &[Array], want: &[Array], bounds: &[f64]) -> Result<()> {
    for (o, ((got, want), bound)) in got.iter().zip(want).zip(bounds).enumerate() {
        if got.ty() != want.ty() {
            return Err(Error::new(format!("{what}: result {o} is {}, not {}", got.ty(), want.ty())));
        }
        for (i, (x, y)) in got.to_f64_vec().into_iter().zip(want.to_f64_vec()).enumerate() {
            let equal = x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 2.0 * bound;
            if !equal {
                return Err(Error::new(format!("{what}: element {i} of result {o} is {x}, not {y} ± {bound}")));
            }
        }
    }
    Ok(())
}

/// The same numbers with every NaN the same one: which it is depends on the machine.
fn one_nan(arrays: &[Array]) -> Result<Vec<Array>> {
    fn replaced<T: Element>(array: &Array, nan: T, is_nan: fn(T) -> bool) -> Result<Array> {
        let elements = array.as_slice::<T>()?.iter().map(|&x| if is_nan(x) { nan } else { x });
        Array::from_vec(&array.ty().shape, elements.collect())
    }
    let array = |array: &Array| match array.ty().dtype {
        DType::F32 => replaced(array, f32::NAN, f32::is_nan),
        DType::F64 => replaced(array, f64::NAN, f64::is_nan),
        DType::Bool | DType::I32 | DType::U32 => Ok(array.clone()),
    };
    arrays.iter().map(array).collect()
}

/// Equal to the bit?
fn same(what: &str, got: &[Array], want: &[Array]) -> Result<()> {
    match got.iter().zip(want).position(|(got, want)| got != want) {
        None => Ok(()),
        Some(o) => Err(Error::new(format!("{what}: result {o} has other bits: {} {}", got[o], want[o]))),
    }
}

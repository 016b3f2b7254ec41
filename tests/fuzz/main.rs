//! Random programs: what compiled code gives is what the interpreter gives.
//!
//! The programs and the bounds are those of `fulgurite_jit::testing`. Each program is run as it is and optimised,
//! twice, with its inputs borrowed, donated, and donated but still held, with vectors of every width and on 1, 2 and 3
//! threads; some are run op by op, too. Compiled results are compared with the interpreter's within their bounds (most
//! are to be equal); among each other, those of one program are to be equal to the bit. The same is asked of what a
//! transform makes of each program (`transform`), and a `Bound` is to give what calls give. A program that fails is
//! made as small as possible and printed.
//!
//! The programs run in other processes, so that one that ends its process is named by its seed. Variables:
//! - `FULGURITE_FUZZ_SEED`: the first seed (0);
//! - `FULGURITE_FUZZ_PROGRAMS`: how many programs (300);
//! - `FULGURITE_FUZZ_PROCESSES`: how many processes share them (2).
//!
//! The hunt of 100,000 programs, with every buffer between pages that may not be touched:
//! `FULGURITE_FUZZ_PROGRAMS=100000 cargo test --release --features fence --test fuzz -- --nocapture compiled_programs`

mod jax;
mod transform;

use std::panic::{AssertUnwindSafe, catch_unwind};

use fulgurite::compiler::array::{Buffer, Shared};
use fulgurite::compiler::cpu::{self, Isa, Parallelism, Target};
use fulgurite::compiler::fuse::{Output, fuse};
use fulgurite::compiler::graph::Graph;
use fulgurite::compiler::interp::interpret;
use fulgurite::compiler::lower::lower;
use fulgurite::compiler::lower::memory::Location;
use fulgurite::compiler::opt::optimise;
use fulgurite::compiler::testing::{Config, close, interpreted, program, shrink};
use fulgurite::compiler::trace::inline;
use fulgurite::runtime::Program;
use fulgurite::{Array, Error, Jit, Result, Tensor};

use transform::Transform;

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
        let (graph, inputs) = program(seed, &Config::COMPILED);
        let transform = Transform::of(seed);
        let mut holds = reported(seed, "", &graph, &inputs, compare);
        holds &= reported(seed, "bound", &graph, &inputs, |graph, inputs| bound_calls_are_calls(graph, inputs, seed));
        // What a transform makes of a program is a program, too.
        let of_transform = |graph: &Graph, inputs: &[Array]| transform.holds(graph, inputs);
        holds &= reported(seed, &format!("{transform:?}"), &graph, &inputs, of_transform);
        if let Ok(Ok((graph, inputs))) = caught(|| transform.apply(&graph, &inputs)) {
            holds &= reported(seed, &format!("{transform:?}, as a program"), &graph, &inputs, compare);
        }
        if !holds {
            failed.push(seed);
        }
    }
    std::fs::write(at, "done").expect("the file of the seed at work");
    assert!(failed.is_empty(), "seeds {failed:?} failed, see above");
}

/// Does the program stand the `test`? If it does not, it is printed at its smallest.
fn reported(
    seed: u64,
    what: &str,
    graph: &Graph,
    inputs: &[Array],
    test: impl Fn(&Graph, &[Array]) -> Result<()>,
) -> bool {
    let test = |graph: &Graph, inputs: &[Array]| match caught(|| test(graph, inputs)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => Err(panic),
    };
    let Err(why) = test(graph, inputs) else { return true };
    println!("seed {seed}: {what} {why}");
    let (small, small_inputs) = shrink(graph, inputs, |graph, inputs| test(graph, inputs).is_err());
    let now = test(&small, &small_inputs).err().unwrap_or_default();
    println!("at its smallest: {now}\n{small}");
    for (i, input) in small_inputs.iter().enumerate().filter(|(_, input)| input.ty().elements() <= 100) {
        println!("input {i}: {input}");
    }
    println!("kernels:\n{}", optimise(&small).map_or_else(|e| e.to_string(), |graph| fuse(&graph).to_string()));
    false
}

/// What `f` gives, or how it panicked: a fault like another.
fn caught<R>(f: impl FnOnce() -> R) -> std::result::Result<R, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        format!("panic: {}", text.unwrap_or("?"))
    })
}

fn compare(graph: &Graph, inputs: &[Array]) -> Result<()> {
    let (want, bounds) = interpreted(graph, inputs, Config::COMPILED.bound)?;
    let near = |what: &str, got: &[Array]| close(what, got, &want, bounds.as_deref());
    near("the optimised graph, interpreted", &interpret(&optimise(graph)?, inputs)?)?;
    near("compiled without the optimiser", &run_as_it_is(graph, inputs)?)?;
    // Some of them op by op: each is a program.
    if graph.nodes.len().is_multiple_of(8) {
        let tensors: Vec<Tensor> = inputs.iter().cloned().map(Tensor::from).collect();
        let results = inline(graph, &tensors).into_iter().map(Tensor::into_array).collect::<Result<Vec<_>>>()?;
        near("op by op", &results)?;
    }

    let lent = Program::compile("lent", graph, &vec![false; inputs.len()])?;
    let got = lent.run(inputs.to_vec())?;
    near("compiled", &got)?;
    same("run again", &lent.run(inputs.to_vec())?, &got)?;

    // Two threads in one program, three in the next.
    let several = 2 + graph.nodes.len() % 2;
    for (isa, threads) in Isa::available().iter().flat_map(|&isa| [(isa, 1), (isa, several)]) {
        let target = Target { isa, threads, parallelism: Parallelism::Always };
        let other = Program::compile_for("other", graph, &vec![false; inputs.len()], target)?;
        let title = format!("with vectors of {isa:?} and {threads} threads");
        same(&title, &one_nan(&other.run(inputs.to_vec())?)?, &one_nan(&got)?)?;
    }

    let given = Program::compile("given", graph, &vec![true; inputs.len()])?;
    let copies = || inputs.iter().map(|x| Array::from_bytes(x.ty(), x.bytes()?)).collect::<Result<Vec<_>>>();
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
    let code = cpu::compile(lower(fuse(graph), &vec![false; inputs.len()], target.into())?)?;
    let anything = |bytes: usize| {
        let mut buffer = Buffer::zeroed(bytes, || "the fuzzer".into()).expect("small");
        buffer.bytes_mut().fill(0x5a);
        buffer
    };
    let outputs = &code.module().kernels.outputs;
    let memory: Vec<Buffer> = graph.outputs.iter().map(|&x| anything(graph.ty(x).bytes())).collect();
    let working = anything(code.memory(1));
    let params: Vec<*mut u8> = inputs.iter().map(|x| x.buffer().start()).collect();
    let results: Vec<*mut u8> = memory.iter().map(Buffer::start).collect();
    let launch = code.serial_launch(&params, &results, working.start());
    // SAFETY: inputs and outputs are of the types that the code was compiled for, and the working memory is as large as
    // it says; no input is donated, so only memory of this function is written.
    unsafe { code.entry()(&launch) }
    let memory: Vec<_> = memory.into_iter().map(Shared::new).collect();
    let result = |output: &Output| match output {
        Output::Param(i, ty) => inputs[*i].reshaped(ty.clone()),
        Output::Constant(array) => array.clone(),
        Output::Computed(b, ty) => match code.module().plan.locations[b.index()] {
            // SAFETY: the code has written all of it.
            Location::Output(o) => unsafe { Array::new(ty.clone(), memory[o].clone()) },
            Location::Param(_) | Location::Constant | Location::Arena(_) => {
                panic!("an output lies in an output's memory")
            }
        },
    };
    Ok(outputs.iter().map(result).collect())
}

/// Calls of a [`Bound`](fulgurite::Bound), whose state goes round in place, give what calls of the same function give.
fn bound_calls_are_calls(graph: &Graph, inputs: &[Array], seed: u64) -> Result<()> {
    // The state is every other input of which there is a result of its type; what it becomes is the first such result.
    let types = graph.output_types();
    let next = |i: usize| types.iter().position(|ty| ty == inputs[i].ty());
    let is_state = |i: usize| i as u64 % 2 == seed % 2 && next(i).is_some();
    let (kept, lent): (Vec<usize>, Vec<usize>) = (0..inputs.len()).partition(|&i| is_state(i));
    let step = {
        let (graph, kept, lent) = (graph.clone(), kept.clone(), lent.clone());
        let next: Vec<usize> = kept.iter().filter_map(|&i| next(i)).collect();
        move |state: Vec<Tensor>, others: Vec<Tensor>| {
            let mut all: Vec<(usize, Tensor)> =
                kept.iter().copied().zip(state).chain(lent.iter().copied().zip(others)).collect();
            all.sort_by_key(|(i, _)| *i);
            let results = inline(&graph, &all.into_iter().map(|(_, x)| x).collect::<Vec<_>>());
            (next.iter().map(|&o| results[o].clone()).collect::<Vec<_>>(), results)
        }
    };
    let tensors = |of: &[usize]| -> Result<Vec<Tensor>> {
        of.iter().map(|&i| Ok(Tensor::from(Array::from_bytes(inputs[i].ty(), inputs[i].bytes()?)?))).collect()
    };
    let arrays =
        |tensors: &[Tensor]| -> Result<Vec<Array>> { tensors.iter().map(|x| x.clone().into_array()).collect() };
    let mut bound = Jit::with_borrowed("bound", step.clone()).bind(tensors(&kept)?);
    let jit = Jit::with_borrowed("called", step);
    let mut state = tensors(&kept)?;
    let mut held = Vec::new();
    for call in 0..3 {
        let others = tensors(&lent)?;
        let (next, want) = jit.call_with(state, others.clone())?;
        let got = bound.call(others.clone())?;
        same(&format!("bound, call {call}"), &arrays(&got)?, &arrays(&want)?)?;
        same("what was lent", &arrays(&others)?, &lent.iter().map(|&i| inputs[i].clone()).collect::<Vec<_>>())?;
        same("its state", &arrays(&bound.state())?, &arrays(&next)?)?;
        state = next;
        // Held over the next call, which then must not write over it.
        if call == 1 {
            held = vec![(bound.state(), state.clone())];
        }
    }
    held.iter().try_for_each(|(got, want)| same("state that was held", &arrays(got)?, &arrays(want)?))
}

/// The same numbers with every NaN the same one: which it is depends on the machine.
fn one_nan(arrays: &[Array]) -> Result<Vec<Array>> {
    let array = |array: &Array| {
        let Some(format) = array.ty().dtype.float() else { return Ok(array.clone()) };
        let one = |bits| if format.is_nan(bits) { format.nan() } else { bits };
        let bits: Vec<u64> = array.to_bits().expect("a result is on the host").into_iter().map(one).collect();
        Array::from_bits(array.ty(), &bits)
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

//! Graphs run on a GPU, and compared with the CPU: as a module in the SIMT interpreter, from its text, or with
//! `FULGURITE_GPU_TESTS=device` as a program on the GPU of this machine (feature `cuda`).

use std::sync::OnceLock;

use fulgurite::compiler::fuse::Output;
use fulgurite::compiler::graph::Graph;
use fulgurite::compiler::lower::memory::Location;
use fulgurite::compiler::opt::optimise;
use fulgurite::compiler::ptx::parse::parse;
use fulgurite::compiler::ptx::simt::{Counts, Launch, Memory, Options, run_with};
use fulgurite::compiler::ptx::{MemoryOf, Module, Place, THREADS, Target};
use fulgurite::compiler::trace::trace;
use fulgurite::runtime::Program;
use fulgurite::{Array, DType, Device, Result, TensorType, with_device};
use fulgurite_runtime::testing::{compile, put, with_fake_devices};

/// The GPU of this machine.
const GPU: Device = Device::Cuda(0);

/// The number in a variable of the environment.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: no number")))
}

/// Does the GPU of this machine run the graphs? It is opened here, and a test fails where it cannot be.
pub(crate) fn on_device() -> bool {
    static CHOICE: OnceLock<std::result::Result<bool, String>> = OnceLock::new();
    let choose = || match std::env::var("FULGURITE_GPU_TESTS").as_deref() {
        Err(_) | Ok("" | "interpreter") => Ok(false),
        Ok("device") => with_device(GPU, || true).map_err(|e| e.to_string()),
        Ok(other) => Err(format!("FULGURITE_GPU_TESTS is {other:?}; it is `interpreter` or `device`")),
    };
    CHOICE.get_or_init(choose).clone().unwrap_or_else(|why| panic!("{why}"))
}

/// Does a fault say that nothing runs on the device any more?
pub(crate) fn is_lost(fault: &str) -> bool {
    fault.contains(" is lost, ")
}

/// Checks cases one after the other, and returns the faults. `FULGURITE_GPU_FROM` is the number of the first case that
/// is checked, 0 unless given: after a case that the device is lost in, a new process checks the others.
pub(crate) fn each<C>(
    cases: impl IntoIterator<Item = C>,
    mut check: impl FnMut(C) -> std::result::Result<(), String>,
) -> Vec<String> {
    let (mut faults, mut count) = (Vec::new(), 0);
    let from = number("FULGURITE_GPU_FROM", 0) as usize;
    for (i, case) in cases.into_iter().enumerate().skip(from) {
        count += 1;
        let Err(fault) = check(case) else { continue };
        let lost = is_lost(&fault);
        faults.push(format!("case {i}: {fault}"));
        if lost {
            println!("the device is lost; FULGURITE_GPU_FROM={} goes on", i + 1);
            break;
        }
    }
    println!("{count} cases, {} faults", faults.len());
    faults
}

/// The module of a graph, whose inputs are all `donated` or none.
pub(crate) fn lower(graph: &Graph, donated: bool) -> Result<Module> {
    lower_for(graph, donated, Target::default())
}

/// The same for a GPU.
pub(crate) fn lower_for(graph: &Graph, donated: bool, target: Target) -> Result<Module> {
    let kernels = fulgurite::compiler::fuse::fuse(&optimise(graph)?);
    let donated = vec![donated; graph.param_types().len()];
    Module::lower(kernels, &donated, target)
}

/// The results on a GPU, and what was executed, of which nothing is counted on a device.
pub(crate) fn results(
    graph: &Graph,
    inputs: &[Array],
    target: Target,
    options: &Options,
) -> Result<(Vec<Array>, Executed)> {
    if on_device() {
        return Ok((run_on_device(graph, inputs)?.swap_remove(0), Executed::default()));
    }
    run(&lower_for(graph, false, target)?, inputs, options)
}

/// What was executed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Executed {
    /// Of all launches.
    pub(crate) counts: Counts,
    /// Barriers of the grids of cooperative launches.
    pub(crate) grid_barriers: u64,
}

/// The results of a run, and what was executed.
pub(crate) fn run(module: &Module, inputs: &[Array], options: &Options) -> Result<(Vec<Array>, Executed)> {
    let text = parse(&module.ptx.to_string())?;
    assert_eq!(text, module.ptx, "the text reads back");
    let mut memory = Memory::new();
    let params: Vec<u64> = inputs.iter().map(|x| Ok(memory.alloc(x.bytes()?))).collect::<Result<_>>()?;
    let constants: Vec<u64> = module.constants.iter().map(|x| Ok(memory.alloc(x.bytes()?))).collect::<Result<_>>()?;
    let arena = memory.alloc_unwritten(module.plan.arena);
    let barrier = memory.alloc(&[0; 4]);
    let mut outputs: Vec<u64> = Vec::new();
    for (o, output) in module.kernels.outputs.iter().enumerate() {
        outputs.push(match output {
            Output::Param(i, _) => params[*i],
            Output::Constant(array) => memory.alloc(array.bytes()?),
            Output::Computed(b, ty) => match (module.plan.locations[b.index()], module.plan.aliases[o]) {
                (Location::Output(same), _) if same != o => outputs[same],
                (_, Some(i)) => params[i],
                (_, None) => memory.alloc_unwritten(ty.bytes()),
            },
        });
    }
    let address = |place: &Place| {
        let base = match place.memory {
            MemoryOf::Param(i) => params[i],
            MemoryOf::Output(o) => outputs[o],
            MemoryOf::Constant(c) => constants[c],
            MemoryOf::Arena => arena,
            MemoryOf::Barrier => barrier,
        };
        base.wrapping_add_signed(place.offset)
    };
    let Executed { mut counts, mut grid_barriers } = Executed::default();
    for launch in &module.launches {
        let entry = &text.entries[launch.entry];
        let params: Vec<u64> = launch.args.iter().map(address).collect();
        let (grid, cooperative) = (launch.grid, launch.cooperative);
        let launch = Launch { entry, grid, block: THREADS, cooperative, params: &params };
        let of_launch = run_with(&mut memory, &launch, options)?;
        // Every block has as many fences, two at a barrier of the grid.
        grid_barriers += of_launch.fences / 2 / u64::from(grid);
        counts += of_launch;
    }
    let results = module.kernels.outputs.iter().zip(outputs).map(|(output, address)| {
        let mut bytes = vec![0; output.ty().bytes()];
        memory.read(address, &mut bytes)?;
        Array::from_bytes(output.ty(), &bytes)
    });
    Ok((results.collect::<Result<_>>()?, Executed { counts, grid_barriers }))
}

/// The results of runs on the GPU of this machine: of inputs from the host, of inputs that are there and are held, and
/// of inputs that are given away, without and with donation. Earlier results are held, so that each run writes
/// elsewhere.
fn run_on_device(graph: &Graph, inputs: &[Array]) -> Result<Vec<Vec<Array>>> {
    let mut results = Vec::new();
    for donated in [false, true] {
        let program = compile(graph, &vec![donated; inputs.len()], GPU)?;
        results.push(program.run(inputs.to_vec())?);
        let there = inputs.iter().map(|x| put(x, GPU)).collect::<Result<Vec<_>>>()?;
        results.push(program.run(there.clone())?);
        let held = there.iter().map(Array::to_host).collect::<Result<Vec<_>>>()?;
        if let Some(difference) = difference("held input", &held, inputs)? {
            return Err(fulgurite::Error::new(difference));
        }
        results.push(program.run(there)?);
    }
    Ok(results)
}

/// The bits of an array as they are compared. One NaN is as good as another. The CPU flushes subnormal numbers of f64
/// too, which a GPU cannot.
fn bits(array: &Array) -> Result<Vec<u64>> {
    let dtype = array.ty().dtype;
    let one_nan = |bits: u64| match dtype.float() {
        Some(format) if format.is_nan(bits) => format.nan(),
        Some(format) if dtype == DType::F64 && format.is_subnormal(bits) => bits & 1 << 63,
        _ => bits,
    };
    Ok(array.to_bits()?.into_iter().map(one_nan).collect())
}

/// The first element that differs, with both values.
fn difference(what: &str, got: &[Array], want: &[Array]) -> Result<Option<String>> {
    for (o, (got, want)) in got.iter().zip(want).enumerate() {
        let ty = want.ty();
        let (got, want) = (bits(got)?, bits(want)?);
        if let Some(i) = got.iter().zip(&want).position(|(x, y)| x != y) {
            let show = |bits: u64| format!("{} ({bits:#x})", ty.dtype.value(bits).to_f64());
            let count = got.iter().zip(&want).filter(|(x, y)| x != y).count();
            return Ok(Some(format!(
                "{what} {o}: {ty}, element {i}: {} on the GPU, {} on the CPU; {count} of {} differ",
                show(got[i]),
                show(want[i]),
                got.len()
            )));
        }
    }
    Ok(None)
}

/// Runs a graph on both devices and compares the bits, those of NaNs and of subnormal numbers of f64 aside. Returns
/// what was executed, of which nothing is counted on a device; or the difference, if there is one.
pub(crate) fn compare(graph: &Graph, inputs: &[Array], options: &Options) -> std::result::Result<Executed, String> {
    compare_as(graph, inputs, options, lower)
}

/// The same of the modules that `lower` makes; on a device, those are the runtime's.
pub(crate) fn compare_as(
    graph: &Graph,
    inputs: &[Array],
    options: &Options,
    lower: impl Fn(&Graph, bool) -> Result<Module>,
) -> std::result::Result<Executed, String> {
    let compare = || {
        let (results, executed) = if on_device() {
            (run_on_device(graph, inputs)?, Executed::default())
        } else {
            let (results, executed) = run(&lower(graph, false)?, inputs, options)?;
            // Half of them also with results in place of inputs.
            let in_place = graph.nodes.len().is_multiple_of(2);
            let in_place = in_place.then(|| run(&lower(graph, true)?, inputs, options)).transpose()?;
            (std::iter::once(results).chain(in_place.map(|(results, _)| results)).collect(), executed)
        };
        let program = Program::compile("cpu", graph, &vec![false; inputs.len()])?;
        let want = program.run(inputs.to_vec())?;
        for (r, got) in results.iter().enumerate() {
            if let Some(difference) = difference("output", got, &want)? {
                let run = if r == 0 { String::new() } else { format!("run {r}, ") };
                return Ok(Err(run + &difference));
            }
        }
        Ok(Ok(executed))
    };
    compare().unwrap_or_else(|e: fulgurite::Error| Err(e.to_string()))
}

/// Runs on a device are those of the interpreter, if the device is one, and a difference is found and described.
#[test]
fn runs_on_a_device_are_compared() -> Result<()> {
    let graph = trace(&[TensorType::new(DType::F32, &[5])], |x| vec![-&x[0]])?.graph;
    let inputs = [Array::from_vec(&[5], vec![1.0f32, 2.0, 3.0, 4.0, 5.0])?];
    let results = with_fake_devices(1, |_| run_on_device(&graph, &inputs))?;
    assert_eq!(results.len(), 6);
    let want = Program::compile("cpu", &graph, &[false])?.run(inputs.to_vec())?;
    for got in &results {
        assert_eq!(difference("output", got, &want)?, None);
    }
    let other = [Array::from_vec(&[5], vec![-1.0f32, -2.0, 3.5, -4.0, 5.0])?];
    let expected =
        "output 0: f32[5], element 2: 3.5 (0x40600000) on the GPU, -3 (0xc0400000) on the CPU; 2 of 5 differ";
    assert_eq!(difference("output", &other, &want)?.as_deref(), Some(expected));
    Ok(())
}

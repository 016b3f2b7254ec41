//! A module run by the SIMT interpreter, from its text.

use fulgurite::compiler::fuse::Output;
use fulgurite::compiler::graph::Graph;
use fulgurite::compiler::lower::memory::Location;
use fulgurite::compiler::opt::optimise;
use fulgurite::compiler::ptx::parse::parse;
use fulgurite::compiler::ptx::simt::{Counts, Launch, Memory, Options, run_with};
use fulgurite::compiler::ptx::{MemoryOf, Module, Place, THREADS, Target};
use fulgurite::runtime::Program;
use fulgurite::{Array, DType, Result};

/// The module of a graph, whose inputs are all `donated` or none.
pub(crate) fn lower(graph: &Graph, donated: bool) -> Result<Module> {
    let kernels = fulgurite::compiler::fuse::fuse(&optimise(graph)?);
    let donated = vec![donated; graph.param_types().len()];
    Module::lower(kernels, &donated, Target::default())
}

/// The results of a run, and what was executed.
pub(crate) fn run(module: &Module, inputs: &[Array], options: &Options) -> Result<(Vec<Array>, Counts)> {
    let text = parse(&module.ptx.to_string())?;
    assert_eq!(text, module.ptx, "the text reads back");
    let mut memory = Memory::new();
    let params: Vec<u64> = inputs.iter().map(|x| Ok(memory.alloc(x.bytes()?))).collect::<Result<_>>()?;
    let constants: Vec<u64> = module.constants.iter().map(|x| Ok(memory.alloc(x.bytes()?))).collect::<Result<_>>()?;
    let arena = memory.alloc_unwritten(module.plan.arena);
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
        };
        base.wrapping_add_signed(place.offset)
    };
    let mut counts = Counts::default();
    for launch in &module.launches {
        let entry = &text.entries[launch.entry];
        let params: Vec<u64> = launch.args.iter().map(address).collect();
        let launch = Launch { entry, grid: launch.grid, block: THREADS, params: &params };
        counts += run_with(&mut memory, &launch, options)?;
    }
    let results = module.kernels.outputs.iter().zip(outputs).map(|(output, address)| {
        let mut bytes = vec![0; output.ty().bytes()];
        memory.read(address, &mut bytes)?;
        Array::from_bytes(output.ty(), &bytes)
    });
    Ok((results.collect::<Result<_>>()?, counts))
}

/// Runs a graph on both devices and compares the bits, those of NaNs and of subnormal numbers of f64 aside. Returns
/// the difference, if there is one.
pub(crate) fn compare(graph: &Graph, inputs: &[Array], options: &Options) -> std::result::Result<Counts, String> {
    let describe = |e: fulgurite::Error| e.to_string();
    let module = lower(graph, false).map_err(describe)?;
    let (got, counts) = run(&module, inputs, options).map_err(describe)?;
    let program = Program::compile("cpu", graph, &vec![false; inputs.len()]).map_err(describe)?;
    let want = program.run(inputs.to_vec()).map_err(describe)?;
    for (o, (got, want)) in got.iter().zip(&want).enumerate() {
        let dtype = want.ty().dtype;
        // One NaN is as good as another. The CPU flushes subnormal numbers of f64 too, which a GPU cannot.
        let one_nan = |bits: u64| match dtype.float() {
            Some(format) if format.is_nan(bits) => format.nan(),
            Some(format) if dtype == DType::F64 && format.is_subnormal(bits) => bits & 1 << 63,
            _ => bits,
        };
        let [got, want] = [got, want].map(|x| x.to_bits().map_err(describe));
        let (got, want) = (got?, want?);
        let differs = got.iter().zip(&want).position(|(x, y)| one_nan(*x) != one_nan(*y));
        if let Some(i) = differs {
            let show = |bits: u64| format!("{} ({bits:#x})", dtype.value(bits).to_f64());
            let count = got.iter().zip(&want).filter(|(x, y)| one_nan(**x) != one_nan(**y)).count();
            return Err(format!(
                "output {o}, element {i}: {} on the GPU, {} on the CPU; {count} of {} differ",
                show(got[i]),
                show(want[i]),
                got.len()
            ));
        }
    }
    Ok(counts)
}

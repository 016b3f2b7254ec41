//! File tests: `filetests/STAGE/*.ful`, each a graph's text and what a stage of the compiler makes of it.
//!
//! A case begins with `// test: STAGE OPTIONS`; the stage is the name of its folder. The graph's text follows, then a
//! line `----`, then the expected text. Where an error is expected, there is no such line: the line at fault ends with
//! `// error: MESSAGE`. `UPDATE=1` rewrites both. A case is the same on every machine.
//!
//! | stage | text | options |
//! |---|---|---|
//! | `parse` | the graph as it prints | |
//! | `verify` | the fault that the verifier finds in a graph that was read without checks | |
//! | `opt` | the optimised graph | `pass=NAME`: of one pass |
//! | `fuse` | kernels | `opt`: of the optimised graph, as in all stages below |
//! | `loops` | the loops of each kernel | |
//! | `memory` | phases and memory plan | `donate=0,1`: inputs; `threads=N`; `always`: every kernel is parallel |
//! | `grad` | derivatives | `jvp` or `vjp` |
//! | `vmap` | the graph for a batch | `axes=0,_`: the axis of each input, `_` for none |

use std::fmt::Write;
use std::path::{Path, PathBuf};

use fulgurite::autodiff::{InAxes, TreeDef};
use fulgurite::compiler::cpu::{Isa, Parallelism, Target};
use fulgurite::compiler::fuse::{Kernel, Kernels, fuse};
use fulgurite::compiler::graph::{Graph, parse, parse_unchecked, verify};
use fulgurite::compiler::lower::call::Call;
use fulgurite::compiler::lower::{Module, lower};
use fulgurite::compiler::opt::{cse, dce, fold, optimise, simplify};
use fulgurite::compiler::trace::{inline, trace};
use fulgurite::{Result, Tensor, TensorType, jvp, vjp, vmap};

/// With what is wrong with a file.
type Checked<T> = std::result::Result<T, String>;

/// The line between a graph and what is made of it.
const SEPARATOR: &str = "----";
/// What begins the message of an expected error.
const ERROR: &str = "// error: ";
/// The examples of a batch.
const EXAMPLES: usize = 3;

#[test]
fn every_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests");
    let update = std::env::var("UPDATE").is_ok_and(|update| update == "1");
    let (mut failed, files) = (String::new(), files(&root));
    assert!(files.len() > 40, "{} holds {} cases", root.display(), files.len());
    for file in files {
        let name = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
        let stored = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        let stage = file.parent().and_then(Path::file_name).and_then(|stage| stage.to_str()).unwrap_or_default();
        match Case::of(&stored, stage).and_then(|case| case.run()) {
            Ok(now) if now == stored => {}
            Ok(now) if update => std::fs::write(&file, now).unwrap_or_else(|e| panic!("{name}: {e}")),
            Ok(now) => {
                write!(failed, "\ntests/filetests/{name}:\n{}", crate::common::diff(&stored, &now)).expect("a string")
            }
            Err(why) => write!(failed, "\ntests/filetests/{name}: {why}\n").expect("a string"),
        }
    }
    assert!(failed.is_empty(), "{failed}\nUPDATE=1 rewrites the files; `git diff` is the review");
}

/// All cases, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry of the folder").path()).collect();
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A file without what is expected.
struct Case<'a> {
    stage: &'a str,
    options: Vec<&'a str>,
    /// The lines above the separator, without expected errors.
    lines: Vec<&'a str>,
}

impl<'a> Case<'a> {
    fn of(text: &'a str, folder: &str) -> Checked<Self> {
        let header = text.lines().next().and_then(|line| line.strip_prefix("// test: "));
        let mut words = header.ok_or("the first line is no `// test: STAGE OPTIONS`")?.split_whitespace();
        let stage = words.next().unwrap_or_default();
        if stage != folder {
            return Err(format!("a test of `{stage}` in the folder `{folder}`"));
        }
        let above = text.lines().take_while(|line| *line != SEPARATOR);
        let lines = above.map(|line| line.split(ERROR).next().unwrap_or_default().trim_end()).collect();
        Ok(Case { stage, options: words.collect(), lines })
    }

    /// The file as it should be.
    fn run(&self) -> Checked<String> {
        let text = self.lines.join("\n");
        match self.result(&text) {
            Ok(result) => Ok(format!("{text}\n{SEPARATOR}\n{}\n", result.trim_end())),
            Err(error) => {
                let (line, why) = self.fault(&error.to_string())?;
                let marked =
                    self.lines.iter().enumerate().map(|(i, text)| {
                        if i == line { format!("{text} {ERROR}{why}\n") } else { format!("{text}\n") }
                    });
                Ok(marked.collect())
            }
        }
    }

    /// The line that an error is about, and the rest of its message.
    fn fault(&self, error: &str) -> Checked<(usize, String)> {
        let begins = |start: &str| self.lines.iter().position(|line| line.trim_start().starts_with(start));
        let elsewhere = || format!("an error that is at no line: {error}");
        if let Some(rest) = error.strip_prefix("graph text, line ") {
            let (number, why) = rest.split_once(": ").ok_or_else(elsewhere)?;
            return Ok((number.parse::<usize>().map_err(|_| elsewhere())? - 1, why.into()));
        }
        if let Some(why) = error.strip_prefix("graph text: ") {
            return Ok((self.lines.len() - 1, why.into()));
        }
        // The verifier prints the value, `%2: f32[4] = neg %0`, and why; one that is not there is a result.
        let value = error.find('%').map(|at| &error[at..]).ok_or_else(elsewhere)?;
        let name = value.split([':', ' ']).next().unwrap_or_default();
        let defined = begins(&format!("{name}:"));
        let line = defined.or_else(|| begins("return")).ok_or_else(elsewhere)?;
        let why = value.splitn(if defined.is_some() { 3 } else { 2 }, ": ").last().unwrap_or_default();
        Ok((line, why.split(" (this is a bug").next().unwrap_or_default().into()))
    }

    fn has(&self, option: &str) -> bool {
        self.options.contains(&option)
    }

    /// What follows `name=`.
    fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }

    /// The text that the stage makes of a graph's.
    fn result(&self, text: &str) -> Result<String> {
        if self.stage == "verify" {
            let graph = parse_unchecked(text)?;
            return verify(&graph, "reading").map(|()| graph.to_string());
        }
        let graph = parse(text)?;
        Ok(match self.stage {
            "parse" => graph.to_string(),
            "opt" => match self.option("pass") {
                None => optimise(&graph)?,
                Some("simplify") => simplify(&graph),
                Some("fold") => fold(&graph),
                Some("cse") => cse(&graph),
                Some("dce") => dce(&graph),
                Some(pass) => panic!("there is no pass `{pass}`"),
            }
            .to_string(),
            "fuse" => fuse(&self.optimised(graph)?).to_string(),
            "loops" => loops(&self.lowered(fuse(&self.optimised(graph)?))?),
            "memory" => memory(&self.lowered(fuse(&self.optimised(graph)?))?),
            "grad" => self.optimised(self.derivative(&graph)?)?.to_string(),
            "vmap" => self.optimised(self.batch(&graph)?)?.to_string(),
            stage => panic!("there is no stage `{stage}`"),
        })
    }

    fn optimised(&self, graph: Graph) -> Result<Graph> {
        if self.has("opt") { optimise(&graph) } else { Ok(graph) }
    }

    /// The program as it is for the portable vectors.
    fn lowered(&self, kernels: Kernels) -> Result<Module> {
        let number = |text: &str| text.parse::<usize>().unwrap_or_else(|e| panic!("{text}: {e}"));
        let donated: Vec<usize> = self.option("donate").map_or(vec![], |list| list.split(',').map(number).collect());
        let donated: Vec<bool> = (0..kernels.params.len()).map(|i| donated.contains(&i)).collect();
        let parallelism = if self.has("always") { Parallelism::Always } else { Parallelism::Auto };
        let target = Target { isa: Isa::Portable, threads: self.option("threads").map_or(1, number), parallelism };
        lower(kernels, &donated, target.into())
    }

    /// The results and their tangents, or the cotangents of the inputs.
    fn derivative(&self, graph: &Graph) -> Result<Graph> {
        let mut inputs = graph.param_types();
        let count = inputs.len();
        if self.has("jvp") {
            inputs.extend(graph.param_types());
            return on_tracers(&inputs, |xs| {
                let (xs, dxs) = xs.split_at(count);
                let (ys, dys) = jvp(|xs: &Vec<Tensor>| inline(graph, xs), &xs.to_vec(), &dxs.to_vec());
                [ys, dys].concat()
            });
        }
        assert!(self.has("vjp"), "a derivative is `jvp` or `vjp`");
        inputs.extend(graph.output_types());
        on_tracers(&inputs, |xs| {
            let (xs, cts) = xs.split_at(count);
            let (_, pullback) = vjp(|xs: &Vec<Tensor>| inline(graph, xs), &xs.to_vec());
            pullback(&cts.to_vec())
        })
    }

    /// The graph for a batch.
    fn batch(&self, graph: &Graph) -> Result<Graph> {
        let axes: Vec<Option<isize>> =
            self.option("axes").unwrap_or_default().split(',').map(|axis| axis.parse().ok()).collect();
        let mut inputs = graph.param_types();
        for (ty, axis) in inputs.iter_mut().zip(&axes) {
            if let Some(axis) = axis {
                ty.shape.insert(*axis as usize, EXAMPLES);
            }
        }
        on_tracers(&inputs, |xs| vmap(|xs: Vec<Tensor>| inline(graph, &xs), Axes(axes))(xs.to_vec()))
    }
}

/// The graph of a function.
fn on_tracers(inputs: &[TensorType], f: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> Result<Graph> {
    Ok(trace(inputs, f)?.graph)
}

/// The axes of a list of tensors.
struct Axes(Vec<Option<isize>>);

impl InAxes for Axes {
    fn axes(&self, _: &TreeDef) -> Checked<Vec<Option<isize>>> {
        Ok(self.0.clone())
    }
}

/// The loops of each loop kernel; equal kernels share them.
fn loops(module: &Module) -> String {
    let each = module.loops.iter().enumerate().map(|(number, loops)| {
        let is_it = |call: &&(usize, &Call)| matches!(call.1, Call::Loop { code, .. } if *code == number);
        let calls: Vec<(usize, &Call)> = module.calls.iter().enumerate().collect();
        let kernels: String = calls.iter().filter(is_it).map(|(k, _)| format!("k{k} ")).collect();
        format!("{}:\n{}\n", kernels.trim_end(), loops.to_string().trim_end())
    });
    each.collect()
}

/// The phases and the memory plan.
fn memory(module: &Module) -> String {
    let kernels: String = module.kernels.kernels.iter().enumerate().map(|(k, kernel)| summary(k, kernel)).collect();
    let phases: String = module.phases.iter().map(|phase| format!("{phase}\n")).collect();
    format!("{kernels}{phases}{}", module.plan)
}

/// The head of a kernel: what it reads and writes.
fn summary(k: usize, kernel: &Kernel) -> String {
    let list = |buffers: &[_]| buffers.iter().map(|b| format!(" {b}")).collect::<String>();
    let kind = match kernel {
        Kernel::Loop(_) => "loop",
        Kernel::Gemm(_) => "matrix product",
        Kernel::Routine(_) => "routine",
        Kernel::Region(_) => "region",
    };
    format!("k{k}: {kind}, reads{}, writes{}\n", list(&kernel.reads()), list(&kernel.writes()))
}

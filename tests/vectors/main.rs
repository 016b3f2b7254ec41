//! JAX's answers: every case of the vectors, through compiled code.
//!
//! The cases are those of `jax` and `jax-edge` here, or of another folder of either form, which `FULGURITE_VECTORS`
//! names. What an op is, `ops` says, in the files that it names (`steps` has those that are loops of compiled steps); a
//! case whose op is neither there nor listed in `not_yet` fails. All failures of a group are listed before its test
//! fails. Tolerances are the case's own.

mod case;
mod compare;
mod control;
mod conv;
mod dtypes;
mod edge;
mod fourier;
mod indexing;
mod linalg;
mod models;
mod nn;
mod not_yet;
mod op;
mod ops;
mod order;
mod random;
mod special;
mod steps;
mod windows;

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fulgurite::autodiff::{InAxes, TreeDef};
use fulgurite::{Tensor, jit, jvp, vjp, vmap};

use case::{Arrays, Case};
use compare::compare;
use not_yet::NOT_YET;
use op::Op;

macro_rules! groups {
    ($($group:ident)*) => {
        /// The groups that have a test each.
        const GROUPS: &[&str] = &[$(stringify!($group)),*];
        $(
            #[test]
            fn $group() {
                check_group(stringify!($group));
            }
        )*
    };
}
groups! {
    elementwise reduce shape contract linalg transform layers random optim control solve train
    edge_indexing edge_sort edge_cumulative edge_conv edge_window edge_linalg edge_control edge_dtype edge_special
    edge_random edge_nn edge_transform
}

/// Whatever else there is in the folder.
#[test]
fn others() {
    let groups = case::groups();
    assert!(!groups.is_empty(), "no vectors in {:?}", case::folders());
    for group in groups.iter().filter(|group| !GROUPS.contains(&group.as_str())) {
        check_group(group);
    }
}

/// The list has no entry twice, none for an op that is there, and of the repository's cases none that is not there.
#[test]
fn the_list_of_what_waits_is_not_stale() {
    let mut names = HashSet::new();
    for group in case::groups() {
        let (cases, _) = case::read(&group).expect("a group of a folder");
        names.extend(cases.into_iter().flat_map(|case| [format!("{group}/{}", case.name), case.op]));
    }
    let mut seen = HashSet::new();
    for name in NOT_YET.iter().flat_map(|(_, names)| *names) {
        assert!(seen.insert(name), "{name} is listed twice");
        assert!(ops::find(name).is_none(), "{name} is listed as not yet there, and is there");
        assert!(names.contains(*name) || !case::is_ours(), "{name} is listed, and no case has that name");
    }
}

/// Checks all that the group has, and panics with a list of the failures if there are any.
fn check_group(group: &str) {
    let Some((cases, arrays)) = case::read(group) else { return report(&format!("{group}: not in the folder")) };
    let (mut passed, mut checks, mut failures) = (0, 0, Vec::new());
    let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
    for case in &cases {
        let op = ops::find(&case.op);
        let waits = not_yet::reason(&format!("{group}/{}", case.name));
        let why_not = if op.is_some() { waits } else { waits.or(not_yet::reason(&case.op)) };
        if let Some(why_not) = why_not {
            *missing.entry(why_not).or_default() += 1;
        }
        match op {
            // A single case may pass with the values of another seed.
            Some(op) if why_not.is_some() && case::is_ours() => {
                if case.checks.iter().all(|check| check_case(case, check, op, &arrays).is_ok()) {
                    failures.push(format!("{}: passes, and is listed as not yet there", case.name));
                }
            }
            Some(op) if why_not.is_none() => {
                let before = failures.len();
                for check in &case.checks {
                    match check_case(case, check, op, &arrays) {
                        Ok(()) => checks += 1,
                        Err(why) => failures.push(format!("{}, {check}: {why}", case.name)),
                    }
                }
                passed += usize::from(failures.len() == before);
            }
            None if why_not.is_none() => failures.push(format!("{}: the harness does not know {}", case.name, case.op)),
            Some(_) | None => {}
        }
    }
    let not_yet: usize = missing.values().sum();
    let mut text = format!("{group}: {passed} of {} cases pass ({checks} checks)", cases.len());
    if not_yet > 0 {
        let reasons: Vec<String> = missing.iter().map(|(reason, cases)| format!("{reason} {cases}")).collect();
        text += &format!("; {not_yet} wait: {}", reasons.join(", "));
    }
    report(&text);
    assert!(failures.is_empty(), "failures in {group}: {}\n  {}", failures.len(), failures.join("\n  "));
}

/// To standard error, whether the test fails or not: `eprintln!` is shown only when it does.
fn report(text: &str) {
    writeln!(std::io::stderr(), "{text}").expect("standard error can be written to");
}

/// One check of a case. A panic is a failure like any other.
fn check_case(case: &Case, check: &str, op: Op, arrays: &Arrays) -> Result<(), String> {
    let run = || match check {
        "value" => value(case, op, arrays),
        "jvp" => tangents(case, op, arrays),
        "vjp" => cotangents(case, op, arrays),
        "vmap" => batch(case, op, arrays),
        _ => Err("the harness does not know this check".into()),
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn value(case: &Case, op: Op, arrays: &Arrays) -> Result<(), String> {
    let inputs = arrays.all(case, "in", 0..case.inputs());
    let params = case.params.clone();
    let results = match op {
        Op::Loop(run) => run(&params, &inputs),
        op => jit(move |xs: Vec<Tensor>| op.apply(&params, &xs)).call(inputs),
    };
    expect(case, results, &arrays.all(case, "out", 0..case.outputs()))
}

fn tangents(case: &Case, op: Op, arrays: &Arrays) -> Result<(), String> {
    let (params, outputs) = (case.params.clone(), case.list("jvp_outputs"));
    let inputs = arrays.all(case, "in", 0..case.inputs());
    // Inputs that are not floats have no tangents; whatever stands in their place is ignored.
    let mut directions = inputs.clone();
    for i in case.list("jvp_inputs") {
        directions[i] = arrays.get(case, "tan", i);
    }
    let expected = arrays.all(case, "jvp", outputs.iter().copied());
    let program = jit(move |(xs, dxs): (Vec<Tensor>, Vec<Tensor>)| {
        let (_, dys) = jvp(|xs: &Vec<Tensor>| op.apply(&params, xs), &xs, &dxs);
        pick(&dys, &outputs)
    });
    expect(case, program.call((inputs, directions)), &expected)
}

fn cotangents(case: &Case, op: Op, arrays: &Arrays) -> Result<(), String> {
    let params = case.params.clone();
    let (inputs, outputs) = (case.list("vjp_inputs"), case.list("vjp_outputs"));
    let cts = arrays.all(case, "ct", outputs.iter().copied());
    let expected = arrays.all(case, "vjp", inputs.iter().copied());
    let program = jit(move |(xs, cts): (Vec<Tensor>, Vec<Tensor>)| {
        let (ys, pullback) = vjp(|xs: &Vec<Tensor>| op.apply(&params, xs), &xs);
        let mut all = ys;
        for (&i, ct) in outputs.iter().zip(cts) {
            all[i] = ct;
        }
        pick(&pullback(&all), &inputs)
    });
    expect(case, program.call((arrays.all(case, "in", 0..case.inputs()), cts)), &expected)
}

fn batch(case: &Case, op: Op, arrays: &Arrays) -> Result<(), String> {
    let (params, axes) = (case.params.clone(), case.vmap_axes());
    let program = jit(move |xs: Vec<Tensor>| vmap(|xs: Vec<Tensor>| op.apply(&params, &xs), Each(axes.clone()))(xs));
    let results = program.call(arrays.all(case, "vin", 0..case.inputs()));
    expect(case, results, &arrays.all(case, "vout", 0..case.outputs()))
}

/// An axis for each element of a list.
struct Each(Vec<Option<isize>>);

impl InAxes for Each {
    fn axes(&self, _: &TreeDef) -> Result<Vec<Option<isize>>, String> {
        Ok(self.0.clone())
    }
}

fn pick(tensors: &[Tensor], numbers: &[usize]) -> Vec<Tensor> {
    numbers.iter().map(|&i| tensors[i].clone()).collect()
}

fn expect(case: &Case, results: fulgurite::Result<Vec<Tensor>>, expected: &[Tensor]) -> Result<(), String> {
    let results = results.map_err(|error| error.to_string())?;
    if results.len() != expected.len() {
        return Err(format!("{} results instead of {}", results.len(), expected.len()));
    }
    for (i, (got, want)) in results.iter().zip(expected).enumerate() {
        compare(got, want, case.rtol, case.atol).map_err(|why| format!("result {i}: {why}"))?;
    }
    Ok(())
}

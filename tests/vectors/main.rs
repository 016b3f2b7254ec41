//! JAX's answers: every case of the vectors, through compiled code.
//!
//! The folder is `FULGURITE_VECTORS`, else `../shared/vectors`, else the copy of a few cases in `tests/vectors-small`.
//! What an op is, `ops` says (and `steps` for those that are loops of compiled steps); a case of an op that is neither
//! there nor listed in `NOT_YET` fails. All failures of a group are listed before its test fails. Tolerances are the
//! case's own.

mod case;
mod compare;
mod models;
mod ops;
mod steps;

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fulgurite::autodiff::{InAxes, TreeDef};
use fulgurite::{Tensor, jit, jvp, vjp, vmap};

use case::{Arrays, Case};
use compare::compare;
use ops::{NOT_YET, Op};

macro_rules! groups {
    ($($group:ident)*) => {
        /// The groups that have a test of their own.
        const GROUPS: &[&str] = &[$(stringify!($group)),*];
        $(
            #[test]
            fn $group() {
                check_group(stringify!($group));
            }
        )*
    };
}
groups!(elementwise reduce shape contract transform layers random optim train);

/// Whatever else there is in the folder.
#[test]
fn others() {
    for group in case::groups().iter().filter(|group| !GROUPS.contains(&group.as_str())) {
        check_group(group);
    }
}

#[test]
fn no_op_is_both_there_and_not_yet() {
    for (op, _) in NOT_YET {
        assert!(ops::find(op).is_none(), "{op} is in NOT_YET, but it is there");
    }
}

/// Checks all that the group has, and panics with a list of the failures if there are any.
fn check_group(group: &str) {
    let (cases, arrays) = case::read(group);
    let (mut passed, mut checks, mut failures) = (0, 0, Vec::new());
    let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
    for case in &cases {
        let Some(op) = ops::find(&case.op) else {
            match NOT_YET.iter().find(|(op, _)| *op == case.op) {
                Some((op, _)) => *missing.entry(op).or_default() += 1,
                None => failures.push(format!("{}: the harness does not know {}", case.name, case.op)),
            }
            continue;
        };
        let before = failures.len();
        for check in &case.checks {
            match check_case(case, check, op, &arrays) {
                Ok(()) => checks += 1,
                Err(why) => failures.push(format!("{}, {check}: {why}", case.name)),
            }
        }
        passed += usize::from(failures.len() == before);
    }
    let not_yet: usize = missing.values().sum();
    let mut report = format!("{group}: {passed} of {} cases pass ({checks} checks)", cases.len());
    if not_yet > 0 {
        let names: Vec<String> = missing.iter().map(|(op, cases)| format!("{op} {cases}")).collect();
        report += &format!("; not yet there are the ops of {not_yet}: {}", names.join(", "));
    }
    // Not `eprintln!`, which the test runner shows only when a test fails.
    writeln!(std::io::stderr(), "{report}").expect("standard error can be written to");
    assert!(failures.is_empty(), "failures in {group}: {}\n  {}", failures.len(), failures.join("\n  "));
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

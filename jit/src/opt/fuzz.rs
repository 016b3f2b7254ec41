//! Fuzzing: every pass preserves the results of random programs, whose floats are exact in every order of evaluation.

use crate::array::Array;
use crate::graph::Graph;
use crate::interp::interpret;
use crate::opt::{MAX_ROUNDS, PASSES, optimise_with};
use crate::testing::{Config, close, interpreted, program, shrink};
use crate::{Error, Result};

#[test]
fn optimised_programs_mean_the_same() {
    let mut progs = vec![0u32; super::simplify::rules().count()];
    let mut ops = 0;
    for seed in 0..3000 {
        let (graph, inputs) = program(seed, &Config::PASSES);
        ops += graph.nodes.len();
        for (i, n) in super::simplify::simplify_counting(&graph).1.into_iter().enumerate() {
            progs[i] += u32::from(n > 0);
        }
        let Err(why) = check(&graph, &inputs) else { continue };
        let (small, inputs) = shrink(&graph, &inputs, |graph, inputs| check(graph, inputs).is_err());
        let now = check(&small, &inputs).expect_err("it still fails");
        let inputs: Vec<String> = inputs.iter().map(ToString::to_string).collect();
        panic!("seed {seed}: {why}\nat its smallest: {now}\n{small}{inputs:?}");
    }
    for (rule, m) in super::simplify::rules().zip(&progs) {
        println!("RULE {} 0 {m}", rule.name);
    }
    println!("OPS {ops}");
}

/// Does each pass keep the results, and do the passes end?
fn check(graph: &Graph, inputs: &[Array]) -> Result<()> {
    let (want, Some(bounds)) = interpreted(graph, inputs, Config::PASSES.bound)? else { return Ok(()) };
    let (mut passes, mut same) = (0, Ok(()));
    let optimised = optimise_with(graph, &mut |pass, next, _, changed| {
        passes += 1;
        if changed && same.is_ok() {
            same = interpret(next, inputs).and_then(|got| close(pass, &got, &want, Some(&bounds)));
        }
    })?;
    same?;
    if passes == PASSES.len() * MAX_ROUNDS {
        return Err(Error::new(format!("it does not end by itself:\n{optimised}")));
    }
    if optimised.nodes.len() > graph.nodes.len() * 2 {
        return Err(Error::new(format!("it becomes longer:\n{optimised}")));
    }
    Ok(())
}

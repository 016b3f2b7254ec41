//! One function through every stage that does not depend on the machine, and its gradient: the text of all of them.

use fulgurite::prelude::*;
use fulgurite::{Lowered, lower};

use crate::common;

/// The function of `examples/hello.rs`.
fn f(x: &Tensor) -> Tensor {
    ((x + 2.0).square() + 3.0).mean()
}

fn stages(title: &str, lowered: &Lowered) -> String {
    let Lowered { graph, optimised, kernels, module, listing } = lowered;
    let mut text = format!("==== {title}\n\n-- graph\n{graph}\n-- optimised graph\n{optimised}\n-- kernels\n{kernels}");
    for kernel in listing {
        text += &format!("\n-- {}: loops\n{}", kernel.name, kernel.loops);
        assert!(!kernel.clif.is_empty() && !kernel.asm.is_empty(), "{title}: {} has code", kernel.name);
    }
    // Where a sum adds and what lies where does not depend on the machine.
    let phases: Vec<String> = module.phases.iter().map(ToString::to_string).collect();
    text + &format!("\n-- phases\n{}\n-- memory\n{}\n", phases.join("\n"), module.plan)
}

#[test]
fn every_stage_of_hello() -> Result<()> {
    let x = Tensor::zeros(&[8]);
    let value = lower(|x: Tensor| f(&x), &x)?;
    let gradient = lower(|x: Tensor| grad(f)(&x), &x)?;
    common::golden("hello.txt", &(stages("mean((x + 2)^2 + 3)", &value) + &stages("its gradient", &gradient)));
    // Lowering is a function: the same text again.
    assert_eq!(lower(|x: Tensor| f(&x), &x)?.to_string(), value.to_string());
    Ok(())
}

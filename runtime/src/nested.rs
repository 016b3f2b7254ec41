//! The depth limit of compiled functions that call compiled functions while they are traced.
//!
//! Comes in: the name of each nested call. Goes out: an error when they use too much stack, in place of the overflow
//! that an unbounded recursion ends in. The stack is measured, not the number of calls: a bounded recursion may be as
//! deep as it fits. Calls outside of a trace do not nest.

use std::cell::RefCell;

use fulgurite_jit::trace::record_error;
use fulgurite_jit::types::join;
use fulgurite_jit::{Error, Result};

/// Bytes of stack for nested calls: half of the default stack of a thread.
const STACK_LIMIT: usize = 1 << 20;

/// Names of the innermost calls in the error.
const SHOWN_NAMES: usize = 4;

#[derive(Default)]
struct Calls {
    /// The stack address at the outermost call.
    base: usize,
    names: Vec<String>,
    /// Set until the outermost call returns: a function that calls itself twice would otherwise recurse again.
    error: Option<Error>,
}

thread_local! {
    static CALLS: RefCell<Calls> = const { RefCell::new(Calls { base: 0, names: Vec::new(), error: None }) };
}

/// A guard: one nested call.
pub(crate) struct Nested(());

impl Nested {
    /// Enters the function `name`.
    ///
    /// # Errors
    /// When calls are nested too deep; the trace records it.
    pub(crate) fn enter(name: &str) -> Result<Nested> {
        let here = 0u8;
        let here = (&raw const here).addr();
        CALLS.with_borrow_mut(|calls| {
            if calls.names.is_empty() {
                calls.base = here;
            }
            if calls.error.is_none() && calls.base.abs_diff(here) > STACK_LIMIT {
                calls.error = Some(too_deep(name, &calls.names));
            }
            match &calls.error {
                Some(error) => {
                    record_error(error);
                    Err(error.clone())
                }
                None => {
                    calls.names.push(name.into());
                    Ok(Nested(()))
                }
            }
        })
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        CALLS.with_borrow_mut(|calls| {
            calls.names.pop();
            if calls.names.is_empty() {
                calls.error = None;
            }
        });
    }
}

fn too_deep(name: &str, names: &[String]) -> Error {
    let depth = names.len();
    let mut chain: Vec<&str> = Vec::new();
    for name in names.iter().rev().map(String::as_str).chain([name]) {
        if !chain.contains(&name) && chain.len() < SHOWN_NAMES {
            chain.push(name);
        }
    }
    Error::new(format!(
        "jit: {depth} calls of compiled functions ({}) are nested in each other, and the stack ends: a function that calls \
         itself must come to an end by what is known while it is traced, such as a `#[jit(static)]` count",
        join(&chain, ", ")
    ))
}

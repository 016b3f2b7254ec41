//! Compiled functions that are called within compiled functions, while they are traced: how deep that goes.
//!
//! Such a call becomes part of the trace around it, so a function that calls itself without end would do so until the
//! stack is full, which ends the process. Here it ends before, with an error. What counts is the stack that the calls
//! take, since a recursion with an end may be as deep as it likes while it fits.

use std::cell::RefCell;

use fulgurite_jit::trace::record_error;
use fulgurite_jit::types::join;
use fulgurite_jit::{Error, Result};

/// Bytes of stack that calls within calls may take: half of what a thread has unless it was given more.
const DEEP: usize = 1 << 20;

/// Names at the end of the chain of calls that an error tells.
const TOLD: usize = 4;

#[derive(Default)]
struct Calls {
    /// Where the stack was at the first.
    base: usize,
    names: Vec<String>,
    /// Once it was too deep no call goes deep again, or one that calls itself twice would go on for ever.
    error: Option<Error>,
}

thread_local! {
    static CALLS: RefCell<Calls> = const { RefCell::new(Calls { base: 0, names: Vec::new(), error: None }) };
}

/// A call within another; until it is dropped.
pub(crate) struct Nested(());

impl Nested {
    /// Notes that the function `name` is called.
    ///
    /// # Errors
    /// When calls are nested too deep; the trace keeps it.
    pub(crate) fn enter(name: &str) -> Result<Nested> {
        let here = 0u8;
        let here = (&raw const here).addr();
        CALLS.with_borrow_mut(|calls| {
            if calls.names.is_empty() {
                calls.base = here;
            }
            if calls.error.is_none() && calls.base.abs_diff(here) > DEEP {
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
        if !chain.contains(&name) && chain.len() < TOLD {
            chain.push(name);
        }
    }
    Error::new(format!(
        "jit: {depth} calls of compiled functions ({}) are nested in each other, and the stack ends: a function that calls \
         itself must come to an end by what is known while it is traced, such as a `#[jit(static)]` count",
        join(&chain, ", ")
    ))
}

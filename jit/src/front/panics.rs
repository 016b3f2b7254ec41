//! Internal panics become errors; panics of the user's functions are propagated.
//!
//! A panic in the code of these crates is a bug and never crosses a call: it becomes an [`Error::compiler`]. In a
//! trace, where user code runs too, the source location of the panic tells the two apart. Only the panic hook sees the
//! location, so the first trace installs a hook that records it per thread and then calls the previous hook. If the
//! hook is replaced later, a panic in a trace counts as the user's.
//!
//! Not done here: cleanup after unwinding. Each guard (the stack of traces, borrowed memory, locks) does its own.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;

use crate::error::{Error, Result};

/// The source location of a panic.
#[derive(Clone, Debug)]
struct Position {
    file: String,
    line: u32,
}

thread_local! {
    /// The location of the last panic of this thread.
    static LAST: Cell<Option<Position>> = const { Cell::new(None) };
}

/// A caught panic.
#[derive(Debug)]
pub(crate) struct Panic {
    payload: Box<dyn Any + Send>,
    position: Option<Position>,
}

/// Installs the hook that records the locations of panics.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    if ONCE.is_completed() || std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let position = info.location().map(|at| Position { file: at.file().into(), line: at.line() });
            // The thread-local is gone while a thread shuts down.
            let _ = LAST.try_with(|last| last.set(position));
            before(info);
        }));
    });
}

/// Runs `f`, which may run user code, and catches a panic.
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> std::result::Result<R, Panic> {
    LAST.set(None);
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| Panic { payload, position: LAST.take() })
}

/// Runs `f`, which runs no user code. A panic becomes an error that names the current activity.
///
/// # Errors
/// The error of `f`; a compiler error for a panic.
#[inline]
pub fn guarded<R>(doing: &str, f: impl FnOnce() -> Result<R>) -> Result<R> {
    // Every call runs this: the fast path does nothing else.
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result,
        Err(payload) => Err(fault(payload, doing)),
    }
}

#[cold]
fn fault(payload: Box<dyn Any + Send>, doing: &str) -> Error {
    Panic { payload, position: LAST.take() }.error(doing)
}

impl Panic {
    /// Whether the panic was raised in these crates.
    pub(crate) fn is_internal(&self) -> bool {
        self.position.as_ref().is_some_and(|position| is_internal(&position.file, file!()))
    }

    /// Whether it is the `unwrap` or `expect` of `error`.
    pub(crate) fn is_of(&self, error: &Error) -> bool {
        self.text().ends_with(&format!("{error:?}"))
    }

    /// Converts to a compiler error.
    pub(crate) fn error(&self, doing: &str) -> Error {
        let at =
            self.position.as_ref().map_or_else(String::new, |Position { file, line }| format!(", at {file}:{line}"));
        Error::panicked(doing, format_args!("{}{at}", self.text()))
    }

    /// Resumes unwinding.
    pub(crate) fn resume(self) -> ! {
        // `resume_unwind` does not call the hook again.
        LAST.set(self.position);
        resume_unwind(self.payload)
    }

    fn text(&self) -> &str {
        let text = self.payload.downcast_ref::<&str>().copied();
        text.or_else(|| self.payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text")
    }
}

/// Whether `file` belongs to these crates. `here` is this file's path as the compiler prints it:
/// `jit/src/front/panics.rs` in the workspace, `…/fulgurite-jit-0.1.0/src/front/panics.rs` from a registry.
fn is_internal(file: &str, here: &str) -> bool {
    let (file, here) = (file.replace('\\', "/"), here.replace('\\', "/"));
    let Some((before, after)) = here.strip_suffix("/front/panics.rs").and_then(|here| here.rsplit_once("jit")) else {
        return false;
    };
    ["jit", "autodiff", "runtime", "trainer"].iter().any(|name| {
        file.strip_prefix(before)
            .and_then(|file| file.strip_prefix(name)?.strip_prefix(after))
            .is_some_and(|file| file.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::front::trace::{trace, trace_call, tracing};

    #[test]
    fn files_of_the_crates_are_internal() {
        for here in
            ["jit/src/front/panics.rs", "/home/me/fulgurite/jit/src/front/panics.rs", "jit\\src\\front\\panics.rs"]
        {
            let root = here.split_at(here.len() - "jit/src/front/panics.rs".len()).0;
            for internal in
                ["jit/src/tensor.rs", "autodiff/src/grad.rs", "runtime/src/jit.rs", "trainer/src/optim/adam.rs"]
            {
                assert!(is_internal(&format!("{root}{internal}"), here), "{here} {internal}");
            }
            for other in ["src/main.rs", "tests/jit/src.rs", "jit/tests/a.rs", "jit/srcs/a.rs", "jitter/src/a.rs"] {
                assert!(!is_internal(&format!("{root}{other}"), here), "{here} {other}");
            }
        }
        let registry = "/r/fulgurite-jit-0.1.0/src/front/panics.rs";
        assert!(is_internal("/r/fulgurite-runtime-0.1.0/src/jit.rs", registry));
        assert!(!is_internal("/r/smallvec-1.15.0/src/lib.rs", registry));
        assert!(!is_internal("src/main.rs", registry));
    }

    #[test]
    fn an_internal_panic_becomes_an_error_with_its_text_and_line() {
        install_hook();
        let line = line!() + 1;
        let error = guarded("fuse", || -> Result<()> { panic!("no such {}", "kernel") }).unwrap_err();
        let expected =
            format!("compiler error in fuse: no such kernel, at {}:{line} (this is a bug of fulgurite)", file!());
        assert_eq!(error.to_string(), expected);
        assert_eq!(guarded("fuse", || Ok(3)), Ok(3));
    }

    #[test]
    fn an_internal_panic_in_a_trace_is_the_error_of_the_call() {
        // A panic raised in this file is internal.
        let line = line!() + 1;
        let error = trace_call(&[], |_| panic!("an axis too many")).expect_err("the panic");
        let expected =
            format!("compiler error in tracing: an axis too many, at {}:{line} (this is a bug of fulgurite)", file!());
        assert_eq!(error.to_string(), expected);
        // An earlier error may be the cause.
        let earlier = trace_call(&[], |_| {
            let wrong = Tensor::ones(&[2]) + Tensor::ones(&[3]);
            panic!("no such shape: {}", wrong.ty())
        });
        assert!(earlier.expect_err("the error").to_string().starts_with("add: cannot broadcast"));
        let nested = trace_call(&[], |_| trace(&[], |_| panic!("deep inside")).map(|_| Vec::new()));
        assert!(nested.expect_err("the panic").to_string().contains("deep inside, at "));
        assert!(!tracing());
    }

    #[test]
    fn the_unwrap_of_an_error_differs_from_other_panics() {
        let error = Error::new("no data");
        let failed: Result<()> = Err(error.clone());
        let caught = |f: &dyn Fn()| catch(f).expect_err("a panic");
        assert!(caught(&|| failed.clone().unwrap()).is_of(&error));
        assert!(caught(&|| failed.clone().expect("a number")).is_of(&error));
        assert!(!caught(&|| panic!("no data here")).is_of(&error));
        assert!(!caught(&|| std::panic::panic_any(7)).is_of(&error));
    }
}

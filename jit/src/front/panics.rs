//! Panics: which are ours, and what becomes of them.
//!
//! A panic in our code is a bug, and never crosses a call: it becomes an [`Error::compiler`]. A panic in a function of
//! the user's passes through as it is. Where both run, as in a trace, the line tells them apart. It is known to the
//! panic hook only, so the first trace puts a hook in front of the one there is, which notes the line, for this thread,
//! and hands the panic on; where somebody has replaced it since, a panic in a trace counts as the user's.
//!
//! Not done here: what a call leaves behind when it is unwound. Every guard (the stack of traces, lent memory, locks)
//! sees to that where it is.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;

use crate::error::{Error, Result};

/// Where a panic was raised.
#[derive(Clone, Debug)]
struct Place {
    file: String,
    line: u32,
}

thread_local! {
    /// Where this thread panicked last.
    static LAST: Cell<Option<Place>> = const { Cell::new(None) };
}

/// What is caught of a panic.
#[derive(Debug)]
pub(crate) struct Panic {
    payload: Box<dyn Any + Send>,
    place: Option<Place>,
}

/// Has panics noted from now on.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    if ONCE.is_completed() || std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map(|at| Place { file: at.file().into(), line: at.line() });
            // A thread that is about to end has no such place any more.
            let _ = LAST.try_with(|last| last.set(place));
            before(info);
        }));
    });
}

/// Runs `f`, which may run functions of the user's.
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> std::result::Result<R, Panic> {
    LAST.set(None);
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| Panic { payload, place: LAST.take() })
}

/// Runs `f`, in which nothing of the user's runs: a panic is ours, and becomes an error that says what was being done.
///
/// # Errors
/// Those of `f`, and a fault of the compiler in place of a panic.
#[inline]
pub fn guarded<R>(doing: &str, f: impl FnOnce() -> Result<R>) -> Result<R> {
    // On the way of every call, so it does nothing but this.
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result,
        Err(payload) => Err(fault(payload, doing)),
    }
}

#[cold]
fn fault(payload: Box<dyn Any + Send>, doing: &str) -> Error {
    Panic { payload, place: LAST.take() }.error(doing)
}

impl Panic {
    /// Is it of our own code?
    pub(crate) fn is_ours(&self) -> bool {
        self.place.as_ref().is_some_and(|place| is_ours(&place.file, file!()))
    }

    /// Is it the `unwrap` of `error`, or an `expect`?
    pub(crate) fn is_of(&self, error: &Error) -> bool {
        self.text().ends_with(&format!("{error:?}"))
    }

    /// As the bug of ours that it is.
    pub(crate) fn error(&self, doing: &str) -> Error {
        let at = self.place.as_ref().map_or_else(String::new, |Place { file, line }| format!(", at {file}:{line}"));
        Error::panicked(doing, format_args!("{}{at}", self.text()))
    }

    /// Goes on unwinding.
    pub(crate) fn resume(self) -> ! {
        // No hook sees it again.
        LAST.set(self.place);
        resume_unwind(self.payload)
    }

    fn text(&self) -> &str {
        let text = self.payload.downcast_ref::<&str>().copied();
        text.or_else(|| self.payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text")
    }
}

/// Is `file` one of the libraries', as the compiler names them? `here` is the name of this file: `jit/src/panics.rs`
/// in the folder of the workspace, `…/fulgurite-jit-0.1.0/src/panics.rs` where the crates come from a registry.
fn is_ours(file: &str, here: &str) -> bool {
    let (file, here) = (file.replace('\\', "/"), here.replace('\\', "/"));
    let Some((before, after)) = here.strip_suffix("/panics.rs").and_then(|here| here.rsplit_once("jit")) else {
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
    fn files_of_the_libraries_are_ours() {
        for here in ["jit/src/panics.rs", "/home/me/fulgurite/jit/src/panics.rs", "jit\\src\\panics.rs"] {
            let root = here.split_at(here.len() - "jit/src/panics.rs".len()).0;
            for ours in ["jit/src/tensor.rs", "autodiff/src/grad.rs", "runtime/src/jit.rs", "trainer/src/optim/adam.rs"]
            {
                assert!(is_ours(&format!("{root}{ours}"), here), "{here} {ours}");
            }
            for other in ["src/main.rs", "tests/jit/src.rs", "jit/tests/a.rs", "jit/srcs/a.rs", "jitter/src/a.rs"] {
                assert!(!is_ours(&format!("{root}{other}"), here), "{here} {other}");
            }
        }
        let registry = "/r/fulgurite-jit-0.1.0/src/panics.rs";
        assert!(is_ours("/r/fulgurite-runtime-0.1.0/src/jit.rs", registry));
        assert!(!is_ours("/r/smallvec-1.15.0/src/lib.rs", registry));
        assert!(!is_ours("src/main.rs", registry));
    }

    #[test]
    fn a_panic_of_ours_becomes_an_error_with_its_text_and_line() {
        watch();
        let line = line!() + 1;
        let error = guarded("fuse", || -> Result<()> { panic!("no such {}", "kernel") }).unwrap_err();
        let expected =
            format!("compiler error in fuse: no such kernel, at {}:{line} (this is a bug of fulgurite)", file!());
        assert_eq!(error.to_string(), expected);
        assert_eq!(guarded("fuse", || Ok(3)), Ok(3));
    }

    #[test]
    fn a_panic_of_ours_in_a_trace_is_the_error_of_the_call() {
        // In this file every panic is ours.
        let line = line!() + 1;
        let error = trace_call(&[], |_| panic!("an axis too many")).expect_err("the panic");
        let expected =
            format!("compiler error in tracing: an axis too many, at {}:{line} (this is a bug of fulgurite)", file!());
        assert_eq!(error.to_string(), expected);
        // What went wrong before may be the reason.
        let mistake = trace_call(&[], |_| {
            let wrong = Tensor::ones(&[2]) + Tensor::ones(&[3]);
            panic!("no such shape: {}", wrong.ty())
        });
        assert!(mistake.expect_err("the mistake").to_string().starts_with("add: cannot broadcast"));
        let nested = trace_call(&[], |_| trace(&[], |_| panic!("deep inside")).map(|_| Vec::new()));
        assert!(nested.expect_err("the panic").to_string().contains("deep inside, at "));
        assert!(!tracing());
    }

    #[test]
    fn the_unwrap_of_an_error_is_told_from_other_panics() {
        let error = Error::new("no data");
        let failed: Result<()> = Err(error.clone());
        let caught = |f: &dyn Fn()| catch(f).expect_err("a panic");
        assert!(caught(&|| failed.clone().unwrap()).is_of(&error));
        assert!(caught(&|| failed.clone().expect("a number")).is_of(&error));
        assert!(!caught(&|| panic!("no data here")).is_of(&error));
        assert!(!caught(&|| std::panic::panic_any(7)).is_of(&error));
    }
}

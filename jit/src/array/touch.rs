//! Test support for memory guards: child processes that access memory out of bounds.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use super::Buffer;

/// Set in the child processes.
const WHICH: &str = "FULGURITE_GUARD_TOUCH";

/// The access that this process must make, if it is a child process.
pub(super) fn which() -> Option<String> {
    std::env::var(WHICH).ok()
}

/// Runs the test of this name in a child process, which makes the access `which`. Returns the signal that killed it.
pub(super) fn signal(test: &str, which: &str) -> Option<i32> {
    let this = std::env::current_exe().expect("a test has a file");
    let name = format!("array::{test}");
    let output = Command::new(this).args(["--exact", &name]).env(WHICH, which).output().expect("a process starts");
    // Guards against a child process that ran no test.
    let passed = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert_eq!(passed, output.status.signal().is_none(), "{which}: {output:?}");
    output.status.signal()
}

pub(super) fn made(bytes: usize) -> Buffer {
    Buffer::zeroed(bytes, || "a test".to_owned()).expect("a few bytes")
}

//! For tests of the guards around memory: processes that touch what they may not.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use super::Buffer;

/// Set in the processes that touch what they may not.
const WHICH: &str = "FULGURITE_GUARD_TOUCH";

/// What this process is to touch, if it is one of these.
pub(super) fn which() -> Option<String> {
    std::env::var(WHICH).ok()
}

/// Runs the test of this name in a process of its own, which touches `which`; the signal that ended it.
pub(super) fn signal(test: &str, which: &str) -> Option<i32> {
    let this = std::env::current_exe().expect("a test has a file");
    let name = format!("array::{test}");
    let output = Command::new(this).args(["--exact", &name]).env(WHICH, which).output().expect("a process starts");
    // A process that ran another test, or none, says nothing.
    let passed = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert_eq!(passed, output.status.signal().is_none(), "{which}: {output:?}");
    output.status.signal()
}

pub(super) fn made(bytes: usize) -> Buffer {
    Buffer::zeroed(bytes, || "a test".to_owned()).expect("a few bytes")
}

//! What tests share: texts that are compared with stored ones, and a folder to write to.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::{Path, PathBuf};

/// Compares `text` with `tests/golden/NAME`, or rewrites that where `UPDATE` is 1.
#[track_caller]
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if std::env::var("UPDATE").is_ok_and(|update| update == "1") {
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        return;
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    if stored == text {
        return;
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (stored.lines().collect(), text.lines().collect());
    let at = (0..).find(|&i| old.get(i) != new.get(i) || i > old.len()).unwrap_or_default();
    let line = |lines: &[&str]| lines.get(at).map_or("(the end)", |line| *line).to_string();
    panic!(
        "tests/golden/{name}, line {}:\n  stored {}\n  now    {}\nUPDATE=1 rewrites it; `git diff` is the review",
        at + 1,
        line(&old),
        line(&new)
    );
}

/// An empty folder of this name, below cargo's folder for such.
pub(crate) fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    match std::fs::remove_dir_all(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{}: {e}", path.display()),
        Ok(()) | Err(_) => {}
    }
    std::fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    path
}

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

/// The lines that are not common to two texts, each with a line before and after it.
pub(crate) fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    // The longest common subsequence of the ends from each pair of lines.
    let mut common = vec![vec![0u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] =
                if old[i] == new[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    let near = |at: usize| lines[at.saturating_sub(1)..(at + 2).min(lines.len())].iter().any(|(sign, _)| *sign != ' ');
    (0..lines.len()).filter(|&at| near(at)).map(|at| format!("  {} {}\n", lines[at].0, lines[at].1)).collect()
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

//! The files of the repository as the rules see them.
//!
//! In: the folders that hold them. Out: every `.rs`, `.md` and `Cargo.toml` file; a Rust file also as code without
//! comments and literals, and as comments without code, line by line. Not done: parsing.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Folders of the root that are read. Others (builds, runs, environments of Python) are not ours.
const FOLDERS: [&str; 10] =
    ["autodiff", "benches", "docs", "examples", "fuzz", "jit", "runtime", "src", "tests", "trainer"];

/// A file. `path` is relative to the root, with `/`.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
    /// For `.rs`: the text with spaces in place of comments and of what literals hold.
    pub(crate) code: String,
    /// For `.rs`: the text with spaces in place of all that is no comment.
    pub(crate) comments: String,
}

/// All files, read once.
pub(crate) static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    let mut paths = Vec::new();
    collect(&root(), false, &mut paths);
    FOLDERS.iter().for_each(|folder| collect(&root().join(folder), true, &mut paths));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
});

/// The files whose names end in `end`.
pub(crate) fn files(end: &str) -> impl Iterator<Item = &'static File> {
    FILES.iter().filter(move |file| file.path.ends_with(end))
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a folder of the root").into()
}

/// The lines of a text, with their numbers.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, line)| (i + 1, line))
}

fn collect(folder: &Path, recursive: bool, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            let name = entry.file_name();
            if recursive && name != "target" && !name.to_string_lossy().starts_with('.') {
                collect(&path, true, paths);
            }
        } else if [".rs", ".md", "Cargo.toml"].iter().any(|end| path.to_string_lossy().ends_with(end)) {
            paths.push(path);
        }
    }
}

fn read(path: &Path) -> File {
    let text = std::fs::read_to_string(path).expect("text");
    let relative = path.strip_prefix(root()).expect("inside of the root");
    let path = relative.to_string_lossy().replace('\\', "/");
    let (code, comments) = if path.ends_with(".rs") { separate(&text) } else { Default::default() };
    File { path, text, code, comments }
}

/// What a character is part of.
#[derive(Clone, Copy)]
enum Part {
    Code,
    Comment,
    Literal,
}

/// Code and comments of Rust, each with the lines and columns of the text.
fn separate(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let mut i = 0;
    while i < chars.len() {
        let (part, end) = part(&chars, i);
        for (at, &c) in chars[i..end].iter().enumerate() {
            let blank = if c == '\n' { c } else { ' ' };
            // The quotes of a literal stay, so that an attribute or a call has an argument.
            let edge = at == 0 || i + at + 1 == end;
            code.push(if matches!(part, Part::Code) || matches!(part, Part::Literal) && edge { c } else { blank });
            comments.push(if matches!(part, Part::Comment) { c } else { blank });
        }
        i = end;
    }
    (code, comments)
}

/// What begins at `i`, and where that ends.
fn part(chars: &[char], i: usize) -> (Part, usize) {
    let at = |i: usize| chars.get(i).copied().unwrap_or('\n');
    let until = |mut j: usize, is_end: &dyn Fn(usize) -> bool| {
        while j < chars.len() && !is_end(j) {
            j += if at(j) == '\\' { 2 } else { 1 };
        }
        (j + 1).min(chars.len())
    };
    let begins_word = i == 0 || !(at(i - 1).is_alphanumeric() || at(i - 1) == '_');
    match at(i) {
        '/' if at(i + 1) == '/' => {
            let length = chars[i..].iter().position(|&c| c == '\n').unwrap_or(chars.len() - i);
            (Part::Comment, i + length)
        }
        '"' => (Part::Literal, until(i + 1, &|j| at(j) == '"')),
        '\'' if at(i + 1) == '\\' => (Part::Literal, until(i + 1, &|j| at(j) == '\'')),
        '\'' if at(i + 2) == '\'' => (Part::Literal, i + 3),
        'r' if begins_word || i > 0 && at(i - 1) == 'b' => {
            let hashes = chars[i + 1..].iter().take_while(|&&c| c == '#').count();
            if at(i + 1 + hashes) != '"' {
                return (Part::Code, i + 1);
            }
            let closes = |j: &usize| at(*j) == '"' && (1..=hashes).all(|k| at(j + k) == '#');
            let end = (i + 2 + hashes..chars.len()).find(closes).unwrap_or(chars.len());
            (Part::Literal, (end + 1 + hashes).min(chars.len()))
        }
        _ => (Part::Code, i + 1),
    }
}

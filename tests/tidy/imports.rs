//! Which file imports from which: no cycles inside a crate, and in the compiler only the arrows of a table.
//!
//! An import is a path that begins with `crate`, `super`, `self` or a child module, in a `use` or in code. A name that
//! a module only re-exports belongs to the file that it comes from. Code under `#[cfg(test)]` is left out, and so is
//! what a `mod.rs` and the files below it import from each other: a folder is one module with private parts.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{File, files};

/// The folders and files of `jit/src`, in the order of the data, and those from which each may import.
/// docs/ARCHITECTURE.md has the same table.
pub(crate) const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("error", &["types"]),
    ("dump", &[]),
    ("array", &["types", "error"]),
    ("graph", &["types", "error", "array"]),
    ("export", &["types", "graph"]),
    ("interp", &["types", "error", "array", "graph"]),
    ("front", &["types", "error", "array", "graph"]),
    ("fuse", &["types", "error", "array", "graph"]),
    ("lower", &["types", "error", "array", "graph", "fuse"]),
    ("opt", &["types", "error", "array", "graph", "interp", "lower"]),
    ("cpu", &["types", "error", "dump", "array", "graph", "interp", "fuse", "lower"]),
    ("ptx", &["types", "error", "array", "graph", "fuse", "lower"]),
    ("testing", &["types", "error", "array", "graph", "interp", "front"]),
];

/// The sources of the crates, and of the test programs of several files.
const CRATES: [&str; 9] = [
    "src/",
    "jit/src/",
    "jit/macros/src/",
    "autodiff/src/",
    "runtime/src/",
    "trainer/src/",
    "tests/fuzz/",
    "tests/tidy/",
    "tests/vectors/",
];

type Module = Vec<String>;

/// The files of a crate as modules.
struct Crate {
    modules: BTreeMap<Module, Imports>,
}

struct Imports {
    file: &'static File,
    /// Absolute paths, with the names that `use` gives them, and their lines.
    paths: Vec<(Module, Option<String>, usize)>,
}

/// An import: from, to, line.
type Arrow = (&'static str, &'static str, usize);

/// Files that import from each other.
pub(crate) fn cycles() -> Vec<String> {
    let mut found = Vec::new();
    for folder in CRATES {
        let arrows = Crate::read(folder).arrows();
        let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (from, ..) in &arrows {
            let mut open = vec![*from];
            let mut seen = BTreeSet::new();
            while let Some(file) = open.pop() {
                open.extend(arrows.iter().filter(|(a, b, _)| *a == file && seen.insert(*b)).map(|(_, b, _)| *b));
            }
            reach.insert(from, seen);
        }
        let in_cycle = |(from, to, _): &&Arrow| reach.get(to).is_some_and(|seen| seen.contains(from));
        found.extend(arrows.iter().filter(in_cycle).map(|(from, to, line)| {
            format!("{from}:{line}: imports from {to}, which imports from here, directly or not")
        }));
    }
    found
}

/// Imports of the compiler against the table.
pub(crate) fn against_the_order() -> Vec<String> {
    let folder = |file: &'static str| {
        let name = file.trim_start_matches("jit/src/").split(['/', '.']).next();
        name.expect("split gives one part at least")
    };
    let mut found = Vec::new();
    for (from, to, line) in Crate::read("jit/src/").arrows() {
        let (a, b) = (folder(from), folder(to));
        let allowed = ARROWS.iter().find(|(name, _)| *name == a).is_some_and(|(_, allowed)| allowed.contains(&b));
        if a != b && !allowed {
            found.push(format!("{from}:{line}: {a} may not import from {b} ({to})"));
        }
    }
    found
}

/// The rows of the table as docs/ARCHITECTURE.md has them.
pub(crate) fn rows() -> impl Iterator<Item = String> {
    ARROWS.iter().map(|(name, allowed)| {
        let allowed: Vec<String> = allowed.iter().map(|name| format!("`{name}`")).collect();
        format!("| `{name}` | {} |", if allowed.is_empty() { "nothing".into() } else { allowed.join(", ") })
    })
}

impl Crate {
    fn read(folder: &str) -> Crate {
        let is_of_crate = |file: &&File| file.path.starts_with(folder);
        let module = |file: &File| {
            let path = file.path.trim_start_matches(folder).trim_end_matches(".rs");
            let mut module: Module = path.split('/').map(String::from).collect();
            if module.last().is_some_and(|name| ["mod", "lib", "main"].contains(&&**name)) {
                module.pop();
            }
            module
        };
        let sources: Vec<_> = files(".rs").filter(is_of_crate).map(|file| (module(file), file)).collect();
        let known: BTreeSet<Module> = sources.iter().map(|(module, _)| module.clone()).collect();
        let mut tests: Vec<Module> = Vec::new();
        let mut modules = BTreeMap::new();
        for (module, file) in sources {
            let (code, test_files) = without_tests(&file.code);
            tests.extend(test_files.into_iter().map(|name| [&module[..], &[name]].concat()));
            let paths = paths(&code)
                .into_iter()
                .filter_map(|(path, name, line)| Some((absolute(&module, path, &known)?, name, line)))
                .collect();
            modules.insert(module, Imports { file, paths });
        }
        modules.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        Crate { modules }
    }

    /// Imports between files, without those between a module and what is inside of it.
    fn arrows(&self) -> Vec<Arrow> {
        let mut arrows = BTreeMap::new();
        for (module, imports) in &self.modules {
            for (path, _, line) in &imports.paths {
                let target = self.owner(path, 8);
                if !target.starts_with(module) && !module.starts_with(&target) {
                    arrows.entry((&*imports.file.path, &*self.modules[&target].file.path)).or_insert(*line);
                }
            }
        }
        arrows.into_iter().map(|((from, to), line)| (from, to, line)).collect()
    }

    /// The module that a path's item belongs to, through at most `depth` re-exports.
    fn owner(&self, path: &[String], depth: usize) -> Module {
        let length = (0..=path.len()).rev().find(|&n| self.modules.contains_key(&path[..n])).unwrap_or(0);
        let (module, rest) = path.split_at(length);
        let Some((name, rest)) = rest.split_first() else { return module.to_vec() };
        let is_name = |(_, alias, _): &&(Module, Option<String>, usize)| alias.as_ref() == Some(name);
        match self.modules[module].paths.iter().find(is_name) {
            Some((target, ..)) if depth > 0 && target != path => self.owner(&[&target[..], rest].concat(), depth - 1),
            Some(_) | None => module.to_vec(),
        }
    }
}

/// Code without its items for tests (`#[cfg(test)]`, `#[cfg(all(test, …))]`), and the modules among them that are
/// files.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let mut code = code.to_string();
    let mut files = Vec::new();
    let mut rest = 0;
    while let Some(offset) = code[rest..].find("#[cfg(") {
        let begin = rest + offset;
        let length = code[begin..].find(")]").map_or(code.len() - begin, |at| at + 2);
        let is_for_tests = code[begin..begin + length].split(|c: char| !c.is_alphanumeric()).any(|word| word == "test");
        rest = begin + length;
        if !is_for_tests {
            continue;
        }
        let item = &code[rest..];
        let mut depth = 0;
        let mut length = item.len();
        for (i, c) in item.char_indices() {
            depth += match c {
                '{' | '[' | '(' => 1,
                '}' | ']' | ')' => -1,
                _ => 0,
            };
            if depth == 0 && (c == ';' || c == '}') {
                length = i + 1;
                break;
            }
        }
        if let Some(name) = item[..length].trim().strip_prefix("mod ").and_then(|name| name.strip_suffix(';')) {
            files.push(name.to_string());
        }
        let end = rest + length;
        let blank: String = code[begin..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        code.replace_range(begin..end, &blank);
    }
    (code, files)
}

/// The paths of `use` items with the names they give, and those in code, with their lines.
fn paths(code: &str) -> Vec<(Module, Option<String>, usize)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut paths = Vec::new();
    let (mut rest, mut line, mut counted) = (0, 1, 0);
    while let Some(offset) = code[rest..].find(is_part) {
        let begin = rest + offset;
        let tail = &code[begin..];
        let word = &tail[..tail.find(|c| !is_part(c)).unwrap_or(tail.len())];
        line += code[counted..begin].matches('\n').count();
        counted = begin;
        rest = begin + word.len();
        if word == "use" && tail[word.len()..].starts_with(char::is_whitespace) {
            let end = tail.find(';').unwrap_or(tail.len());
            let tree: String = tail[word.len()..end].split_whitespace().collect::<Vec<_>>().join(" ");
            leaves(&[], &tree, line, &mut paths);
            rest = begin + end;
        } else if ["crate", "super", "self"].contains(&word) && tail[word.len()..].starts_with("::") {
            let path = &tail[..tail.find(|c| !is_part(c) && c != ':').unwrap_or(tail.len())];
            let path = path.split("::").filter(|part| !part.is_empty());
            paths.push((path.map(String::from).collect(), None, line));
            rest = begin + word.len();
            rest += code[rest..].find(|c| !is_part(c) && c != ':').unwrap_or(0);
        }
    }
    paths
}

/// The leaves of a `use` tree.
fn leaves(prefix: &[String], tree: &str, line: usize, out: &mut Vec<(Module, Option<String>, usize)>) {
    let mut depth = 0;
    let top_level_comma = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    };
    for part in tree.split(top_level_comma).map(str::trim).filter(|part| !part.is_empty()) {
        let segments = |text: &str| {
            let names = text.split("::").map(str::trim).filter(|name| !name.is_empty());
            [prefix, &names.map(String::from).collect::<Vec<_>>()].concat()
        };
        if let Some((head, group)) = part.split_once('{') {
            leaves(&segments(head), group.strip_suffix('}').unwrap_or(group), line, out);
            continue;
        }
        let (path, alias) = part.split_once(" as ").map_or((part, None), |(path, alias)| (path, Some(alias)));
        let mut path = segments(path);
        if path.len() > 1 && path.last().is_some_and(|name| name == "self") {
            path.pop();
        }
        let name = alias.map(String::from).or_else(|| path.last().cloned());
        out.push((path, name, line));
    }
}

/// A path from the root of the crate; `None` for other crates.
fn absolute(module: &[String], path: Module, known: &BTreeSet<Module>) -> Option<Module> {
    let supers = path.iter().take_while(|name| *name == "super").count();
    let first = path.first()?;
    match first.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([module, &path[1..]].concat()),
        "super" => Some([&module[..module.len().saturating_sub(supers)], &path[supers..]].concat()),
        _ => {
            let child = [module, std::slice::from_ref(first)].concat();
            known.contains(&child).then(|| [module, &path].concat())
        }
    }
}

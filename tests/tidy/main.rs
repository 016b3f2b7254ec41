//! House style, as far as a program can check it.
//!
//! In: the files of the repository. Out: per rule, the places that break it, as `file:line: rule`. Not done here: what
//! rustfmt, rustc and clippy check. CONTRIBUTING.md says what the rules are for.

mod docs;
mod imports;
mod source;
mod words;

use source::{File, files, lines};

/// The limits on lines of a file, and on columns of a comment.
const LINES: usize = 800;
const COLUMNS: usize = 120;

#[track_caller]
fn none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The lines of Rust files that break a rule. It is given the file, the number of a line, the line, and its code.
fn broken(rule: &str, is_broken: impl Fn(&File, usize, &str, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for file in files(".rs") {
        for ((number, line), code) in lines(&file.text).zip(file.code.lines()) {
            if is_broken(file, number, line, code) {
                found.push(format!("{}:{number}: {rule}", file.path));
            }
        }
    }
    found
}

#[test]
fn files_open_with_what_they_are() {
    none(broken("the file does not open with //!", |_, number, line, _| number == 1 && !line.starts_with("//! ")));
}

#[test]
fn files_are_short() {
    none(broken("the file has more than 800 lines", |_, number, _, _| number == LINES + 1));
}

#[test]
fn modules_with_parts_are_mod_rs() {
    // A folder beside a test may hold its data.
    let is_beside_folder = |file: &File| {
        let folder = source::root().join(file.path.trim_end_matches(".rs"));
        let mut names = file.code.lines().filter_map(|line| line.split("mod ").nth(1)?.strip_suffix(';'));
        names.any(|name| folder.join(name).is_dir() || folder.join(format!("{name}.rs")).is_file())
    };
    none(broken("the module's folder lies beside it; make it mod.rs", |file, number, _, _| {
        number == 1 && is_beside_folder(file)
    }));
}

/// A table may be wider: its rows cannot be broken.
#[test]
fn comments_fit() {
    none(broken("the comment is wider than 120 columns", |_, _, line, _| {
        let comment = line.trim_start();
        let is_table = comment.trim_start_matches(['/', '!', ' ']).starts_with('|');
        comment.starts_with("//") && !is_table && line.chars().count() > COLUMNS
    }));
}

#[test]
fn words_are_standard() {
    let here = "tests/tidy/words.rs";
    let read = files(".rs").chain(files(".md")).filter(|file| file.path != here);
    none(read.flat_map(words::hits).collect());
}

#[test]
fn files_do_not_import_from_each_other() {
    none(imports::cycles());
}

#[test]
fn the_compilers_folders_import_in_order() {
    none(imports::against_the_order());
    let map = files("docs/ARCHITECTURE.md").next().expect("the map");
    let missing = imports::rows().filter(|row| !map.text.contains(row));
    none(missing.map(|row| format!("docs/ARCHITECTURE.md:1: the table of imports lacks {row}")).collect());
}

#[test]
fn rules_list_every_op() {
    none(broken("a rule lists the ops that it is not for", |file, _, _, code| {
        file.path.starts_with("autodiff/src/rules/") && code.trim_start().starts_with("_ =>")
    }));
}

/// Clippy asks for the comments too, but not inside of macros. One comment may stand for all blocks of an item, above
/// the attribute that says so to Clippy.
#[test]
fn unsafe_code_says_why_it_is_safe() {
    for file in files(".rs") {
        none(without_safety(file));
    }
}

fn without_safety(file: &File) -> Vec<String> {
    let code: Vec<&str> = file.code.lines().collect();
    let comments: Vec<&str> = file.comments.lines().collect();
    // Whether a comment stands above the statement that ends at a line.
    let is_explained = |line: usize| {
        let ends_before = |i: &usize| {
            let is_blank = code[*i].trim().is_empty() && comments[*i].trim().is_empty();
            *i < line && (is_blank || code[*i].trim_end().ends_with([';', '}']))
        };
        let mut statement = (0..=line).rev().take_while(|i| !ends_before(i));
        statement.any(|i| comments[i].contains("SAFETY:"))
    };
    let mut found = Vec::new();
    let mut is_covered = false;
    for (i, line) in code.iter().enumerate() {
        if line.starts_with("#[allow(clippy::undocumented_unsafe_blocks)]") {
            is_covered = is_explained(i);
        }
        let is_unsafe = line.contains("unsafe {") || line.contains("unsafe impl ");
        if is_unsafe && !is_covered && !is_explained(i) {
            found.push(format!("{}:{}: unsafe without a // SAFETY: comment above", file.path, i + 1));
        }
        is_covered &= !line.starts_with('}');
    }
    found
}

#[test]
fn nothing_is_left_to_do() {
    let names = ["todo!(", "unimplemented!("];
    none(broken("left to do, or not run", |_, _, _, code| {
        names.iter().any(|&name| code.contains(name)) || code.contains("#[ignore")
    }));
}

#[test]
fn links_lead_somewhere() {
    none(docs::dead_links());
}

#[test]
fn files_that_are_named_exist() {
    none(docs::unknown_files());
}

#[test]
fn documents_name_tests_that_exist() {
    none(docs::unknown_tests());
}

#[test]
fn dependencies_have_reasons() {
    none(docs::without_reason());
}

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

/// A line for each line of a Rust file that breaks a rule.
fn broken(rule: &str, is_broken: impl Fn(&File, usize, &str) -> bool) -> Vec<String> {
    let in_file = |file: &'static File| {
        let broken = lines(&file.text).filter(|(number, line)| is_broken(file, *number, line));
        broken.map(|(number, _)| format!("{}:{number}: {rule}", file.path)).collect::<Vec<_>>()
    };
    files(".rs").flat_map(in_file).collect()
}

/// The line of `code`, without comments and literals.
fn code(file: &File, number: usize) -> &str {
    file.code.lines().nth(number - 1).unwrap_or_default()
}

#[test]
fn files_open_with_what_they_are() {
    none(broken("the file does not open with //!", |_, number, line| number == 1 && !line.starts_with("//! ")));
}

#[test]
fn files_are_short() {
    none(broken("the file has more than 800 lines", |_, number, _| number == LINES + 1));
}

#[test]
fn modules_with_parts_are_mod_rs() {
    let is_beside_folder = |file: &File| source::root().join(file.path.trim_end_matches(".rs")).is_dir();
    none(broken("the module's folder lies beside it; make it mod.rs", |file, number, _| {
        number == 1 && is_beside_folder(file)
    }));
}

#[test]
fn comments_fit() {
    none(broken("the comment is wider than 120 columns", |_, _, line| {
        line.trim_start().starts_with("//") && line.chars().count() > COLUMNS
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
    none(broken("a rule lists the ops that it is not for", |file, number, _| {
        file.path.starts_with("autodiff/src/rules/") && code(file, number).trim_start().starts_with("_ =>")
    }));
}

/// Clippy asks for the comments too, but not inside of macros. The comment stands above the statement.
#[test]
fn unsafe_code_says_why_it_is_safe() {
    none(broken("unsafe without a // SAFETY: comment above", |file, number, _| {
        let line = code(file, number);
        let begins = ["unsafe {", "unsafe impl "].iter().any(|begin| line.contains(begin));
        begins && !is_explained(file, number)
    }));
}

fn is_explained(file: &File, number: usize) -> bool {
    let comments: Vec<&str> = file.comments.lines().collect();
    let code: Vec<&str> = file.code.lines().collect();
    for i in (0..number).rev() {
        if comments[i].contains("SAFETY:") {
            return true;
        }
        // Up to the end of the statement before.
        let ends =
            code[i].trim_end().ends_with([';', '}']) || code[i].trim().is_empty() && comments[i].trim().is_empty();
        if ends && i + 1 < number {
            return false;
        }
    }
    false
}

#[test]
fn nothing_is_left_to_do() {
    // Put together, so that this file does not break the rule.
    let names = ["todo", "unimplemented"].map(|name| format!("{name}!("));
    none(broken("left to do, or not run", |file, number, _| {
        let line = code(file, number);
        names.iter().any(|name| line.contains(name)) || line.contains("#[ignore")
    }));
}

#[test]
fn links_lead_somewhere() {
    none(docs::dead_links());
}

#[test]
fn documents_name_tests_that_exist() {
    none(docs::unknown_tests());
}

#[test]
fn dependencies_have_reasons() {
    none(docs::without_reason());
}

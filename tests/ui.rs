//! What users of `#[jit]` and `#[derive(Tree)]` read when they write something else than these take.
//!
//! `ui/*.rs` are crates that do not compile, each with what rustc says of it in `*.stderr`: messages, labels and notes,
//! without pictures of the source. A case without that file compiles. `UPDATE=1` rewrites the files. The messages of
//! rustc around ours change with its version, so other versions than the one below only have to agree on which cases
//! compile.
//!
//! Each case is a run of rustc on the library that this test is linked with, so that nothing is built anew.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::SystemTime;

use serde_json::Value;

/// The version of rustc that wrote the stored messages.
const VERSION: &str = "rustc 1.95";

#[test]
fn messages() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
    let library = library();
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry of the folder").path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    cases.sort();
    let (next, failed) = (Mutex::new(cases.into_iter()), Mutex::new(String::new()));
    let take = || next.lock().expect("no thread panics with it").next();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                while let Some(case) = take() {
                    if let Err(why) = check(&case, &library) {
                        *failed.lock().expect("no thread panics with it") += &why;
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no thread panics with it");
    assert!(failed.is_empty(), "{failed}\nUPDATE=1 rewrites the files; `git diff` is the review");
}

/// The library that this program is linked with: the latest that is no younger.
fn library() -> PathBuf {
    let this = std::env::current_exe().expect("a test has a file");
    let written =
        |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let limit = written(&this);
    let entries = std::fs::read_dir(this.parent().expect("a file is in a folder")).expect("its folder");
    let named = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix("libfulgurite-").is_some_and(|rest| rest.ends_with(".rlib"))
    };
    let libraries = entries.flatten().map(|entry| entry.path()).filter(|path| named(path) && written(path) <= limit);
    libraries.max_by_key(|path| written(path)).expect("the library lies beside the test")
}

/// Compares what rustc says of a case with what is stored.
fn check(case: &Path, library: &Path) -> Result<(), String> {
    let name = case.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let said = messages_of(case, name, library);
    let file = case.with_extension("stderr");
    let stored = std::fs::read_to_string(&file).unwrap_or_default();
    if said == stored {
        return Ok(());
    }
    if std::env::var("UPDATE").is_ok_and(|update| update == "1") {
        let written = if said.is_empty() { std::fs::remove_file(&file) } else { std::fs::write(&file, said) };
        return written.map_err(|e| format!("{}: {e}", file.display()));
    }
    if !version().starts_with(VERSION) && said.is_empty() == stored.is_empty() {
        println!("{name}: the messages are those of {VERSION}, and are not compared");
        return Ok(());
    }
    Err(format!("\ntests/ui/{name}:\n{}", crate::common::diff(&stored, &said)))
}

fn rustc() -> Command {
    Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()))
}

fn version() -> String {
    let output = rustc().arg("--version").output().expect("rustc runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The errors of a case, as text.
fn messages_of(case: &Path, name: &str, library: &Path) -> String {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("rmeta");
    let output = rustc()
        .current_dir(case.parent().expect("a file is in a folder"))
        // Where the macros look for the name of the library.
        .env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
        .args([
            "--edition=2024",
            "--crate-type=lib",
            "--emit=metadata",
            "--error-format=json",
            "-Awarnings",
            name,
            "-o",
        ])
        .arg(out)
        .arg("-L")
        .arg(format!("dependency={}", library.parent().expect("a file is in a folder").display()))
        .arg("--extern")
        .arg(format!("fulgurite={}", library.display()))
        .output()
        .unwrap_or_else(|e| panic!("rustc: {e}"));
    let lines = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut text = String::new();
    for line in lines.lines() {
        let message: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}"));
        // What has no span counts the errors.
        if message["level"] == "error" && message["spans"].as_array().is_some_and(|spans| !spans.is_empty()) {
            describe(&message, name, &mut text);
        }
    }
    text
}

/// A message with its labels and notes.
fn describe(message: &Value, file: &str, text: &mut String) {
    let string = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let code = message["code"]["code"].as_str().map_or(String::new(), |code| format!("[{code}]"));
    writeln!(text, "error{code}: {}", string(&message["message"])).expect("a string takes all text");
    for span in message["spans"].as_array().into_iter().flatten().filter(|span| span["file_name"] == file) {
        let label = span["label"].as_str().map_or(String::new(), |label| format!(": {label}"));
        let (line, column) = (&span["line_start"], &span["column_start"]);
        writeln!(text, "  {line}:{column} `{}`{label}", source(span)).expect("a string takes all text");
    }
    for child in message["children"].as_array().into_iter().flatten() {
        let (level, note) = (string(&child["level"]), string(&child["message"]));
        // A list of whatever there is: it changes with every type that is added.
        if !note.contains("other types implement trait") {
            writeln!(text, "  {level}: {}", note.replace('\n', "\n    ")).expect("a string takes all text");
        }
    }
}

/// The first line of the source that a span marks.
fn source(span: &Value) -> String {
    let Some(line) = span["text"].get(0) else { return String::new() };
    let number = |name: &str| line[name].as_u64().map_or(0, |n| n as usize - 1);
    let (start, end) = (number("highlight_start"), number("highlight_end"));
    line["text"].as_str().unwrap_or_default().chars().skip(start).take(end - start).collect()
}

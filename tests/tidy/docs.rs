//! What documents and manifests promise: links lead somewhere, names of tests are names of tests, dependencies have
//! reasons.

use super::source::{File, files, lines, root};

/// The documents that name tests.
const NAME_TESTS: [&str; 2] = ["docs/ARCHITECTURE.md", "docs/testing.md"];

/// Relative links of documents that lead nowhere: to a file, and to a heading of it.
pub(crate) fn dead_links() -> Vec<String> {
    let mut found = Vec::new();
    for file in files(".md") {
        for (number, line) in lines(&file.text) {
            let prose: String = line.split('`').step_by(2).collect();
            for link in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if link.contains("://") || link.starts_with("mailto:") {
                    continue;
                }
                let (path, heading) = link.split_once('#').unwrap_or((link, ""));
                let from = root().join(&file.path);
                let target = if path.is_empty() { from } else { from.with_file_name("").join(path) };
                let text = std::fs::read_to_string(&target).unwrap_or_default();
                if !target.exists() || !heading.is_empty() && !headings(&text).any(|found| found == heading) {
                    found.push(format!("{}:{number}: {link} does not exist", file.path));
                }
            }
        }
    }
    found
}

/// The headings of a document, as links name them.
fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// Names of source files, in backticks, that no file has. A name may leave out the folders before it.
pub(crate) fn unknown_files() -> Vec<String> {
    let mut found = Vec::new();
    for file in files(".md").chain(files(".rs")).filter(|file| file.path != "CHANGELOG.md") {
        let text = if file.path.ends_with(".md") { &file.text } else { &file.comments };
        for (number, line) in lines(text) {
            for name in line.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs")) {
                let name = name.trim_start_matches("../");
                // Not a pattern, an abbreviation of another project's path, or an extension.
                let is_name = !name.contains(['*', ' ', '…', '<']) && !name.starts_with("CL/") && name != ".rs";
                let exists = files(".rs").any(|file| {
                    file.path.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('/'))
                });
                if is_name && !exists {
                    found.push(format!("{}:{number}: there is no file {name}", file.path));
                }
            }
        }
    }
    found
}

/// Names of tests that no test has: `binary::test` and `module::test`, what follows "Held by", and what the commands of
/// `.ci/run` and docs/testing.md ask for.
pub(crate) fn unknown_tests() -> Vec<String> {
    let tests = tests();
    let is_module = |name: &str| tests.iter().any(|(path, _)| is_in(path, name));
    let is_test = |name: &str| tests.iter().any(|(_, test)| test == name);
    let mut found = Vec::new();
    for file in files(".md").filter(|file| NAME_TESTS.contains(&&*file.path)) {
        for (number, line) in lines(&file.text) {
            let mut report = |name: &str| found.push(format!("{}:{number}: there is no test {name}", file.path));
            for (i, quoted) in line.split('`').enumerate().filter(|(i, _)| i % 2 == 1) {
                let held = line.split('`').take(i).any(|text| text.contains("Held by"));
                let is_path = quoted.contains(['/', '.', ' ', '=']) && !quoted.starts_with("fulgurite-");
                let name = quoted.split_once(": ").map_or(quoted, |(_, name)| name);
                let exists = match name.split_once("::") {
                    Some((module, name)) if is_module(module) => {
                        tests.iter().any(|(path, test)| is_in(path, module) && test == name)
                    }
                    // A lint, or a Rust path.
                    Some(_) => continue,
                    None => is_test(name) || is_module(name) || name == "fence",
                };
                if (held || name.contains("::")) && !is_path && !exists {
                    report(name);
                }
            }
        }
    }
    let script = std::fs::read_to_string(root().join(".ci/run")).expect(".ci/run");
    let testing = files("docs/testing.md").map(|file| (&*file.path, &*file.text));
    for (path, text) in testing.chain([(".ci/run", &*script)]) {
        for (number, line) in lines(text) {
            // The command ends with its quotes, a comment or another command.
            for command in line.split("cargo test").skip(1).filter_map(|rest| rest.split(['`', '#', '|', ';']).next()) {
                let mut words = command.split_whitespace();
                while let Some(word) = words.next() {
                    match word {
                        "--test" => {
                            let name = words.next().unwrap_or_default();
                            if name != "NAME" && !is_binary(name) {
                                found.push(format!("{path}:{number}: there is no test binary {name}"));
                            }
                        }
                        "--" => {
                            for name in words.by_ref().filter(|word| !word.starts_with("--")) {
                                let is_filter = name
                                    .strip_suffix("::")
                                    .map_or_else(|| tests.iter().any(|(_, test)| test.contains(name)), is_module);
                                if !is_filter {
                                    found.push(format!("{path}:{number}: no test matches {name}"));
                                }
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

/// Every test: the path of its file, and its name.
fn tests() -> Vec<(&'static str, String)> {
    let mut tests = Vec::new();
    for file in files(".rs") {
        let mut after_attribute = false;
        for (_, line) in lines(&file.code) {
            after_attribute |= line.trim() == "#[test]";
            if let Some(rest) = line.trim().strip_prefix("fn ").filter(|_| after_attribute) {
                tests.push((&*file.path, rest.split('(').next().unwrap_or_default().to_string()));
                after_attribute = false;
            }
        }
    }
    tests
}

/// Is the file that of a module or test binary?
fn is_in(path: &str, module: &str) -> bool {
    path.trim_end_matches(".rs").split('/').any(|part| part == module)
}

/// A test binary: a file in the folder `tests` of a crate, or an entry of a manifest.
fn is_binary(name: &str) -> bool {
    let entry = format!("[[test]]\nname = \"{name}\"\n");
    files(".rs").any(|file| file.path.ends_with(&format!("/tests/{name}.rs")))
        || files("Cargo.toml").any(|file| file.text.contains(&entry))
}

/// Dependencies without a reason. Members of the workspace need none; nor does `NAME.workspace = true`, since the
/// reason stands in the workspace's table. Crates of one family (`cranelift-*`) share one.
pub(crate) fn without_reason() -> Vec<String> {
    files("Cargo.toml").flat_map(without_reason_in).collect()
}

fn without_reason_in(manifest: &File) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_table = false;
    let mut previous = "";
    // The families that the comment just above covers.
    let mut explained = String::new();
    for (number, line) in lines(&manifest.text) {
        if line.starts_with('[') {
            in_table = line.contains("dependencies]");
        } else if in_table && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            let family = name.split('-').next().unwrap_or_default();
            if previous.starts_with('#') {
                explained = family.into();
            }
            let is_ours =
                family == "fulgurite" || line.contains(".workspace = true") || line.contains("workspace = true,");
            if !is_ours && explained != family {
                found.push(format!("{}:{number}: {name} has no reason in a comment above it", manifest.path));
            }
        }
        previous = line;
    }
    found
}

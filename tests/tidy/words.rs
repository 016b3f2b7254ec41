//! Words that comments and documents do not use: each has a standard word that readers of XLA, LLVM or Halide know.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::source::{File, lines};

/// A word or phrase, and what to write.
const WORDS: &[(&str, &str)] = &[
    // Cost.
    ("dear", "expensive"),
    ("dearer", "more expensive"),
    ("worth", "profitable"),
    ("pays", "is profitable"),
    // Threads.
    ("meeting", "barrier"),
    ("team", "workers"),
    ("helper thread", "worker"),
    ("helper threads", "workers"),
    ("pace", "policy"),
    ("trial", "probe"),
    ("all threads run at once", "run in parallel"),
    // Regions and fusion.
    ("slice after slice", "tile by tile"),
    ("drawn forward", "hoisted"),
    ("sideways", "horizontal"),
    ("forced", "must be materialised"),
    ("partly written", "partial write"),
    ("hangs together", "is fused"),
    // Loops.
    ("walked", "interchanged"),
    ("crossed", "packed"),
    ("staged", "packed, or traced as one program"),
    ("scattered", "strided"),
    ("whence", "the input source"),
    // Lanes and the emitters.
    ("truth value", "bool, or mask"),
    ("truth values", "bools, or masks"),
    ("side by side", "contiguous, or concatenated"),
    ("lie apart", "are strided"),
    ("lies apart", "is strided"),
    ("spare", "scratch"),
    ("pinned", "locked"),
    // Memory.
    ("in the place of", "aliases, or instead of"),
    ("replacements", "input-output aliasing"),
    ("lent", "borrowed"),
    // Front and calls.
    ("stand-in", "tracer"),
    ("refuse", "reject"),
    ("refused", "rejected"),
    ("refuses", "rejects"),
    ("refusal", "rejection"),
    ("in the company of", "given the other operand's dtype"),
    ("what it meets", "the other operand"),
    ("kind of a call", "signature"),
    ("kind of call", "signature"),
    // Prose.
    ("nobody", "no thread, no one else, nothing"),
    ("somebody", "a user, another thread"),
    ("sees to", "does"),
    ("of its own", "own, separate"),
    ("of their own", "own, separate"),
    ("for good", "permanently"),
    ("for nothing", "at no cost"),
    ("afar", "beyond the cache"),
    ("to and fro", "back and forth"),
    ("as large as it is long", "square"),
    ("as far as each other", "equally strided"),
];

/// What follows the last token of a file.
static END: (usize, String) = (0, String::new());

static BY_FIRST_WORD: LazyLock<HashMap<&str, Vec<(&str, &str)>>> = LazyLock::new(|| {
    let mut words: HashMap<&str, Vec<(&str, &str)>> = HashMap::new();
    for &(phrase, standard) in WORDS {
        let first = phrase.split(' ').next().unwrap_or_default();
        words.entry(first).or_default().push((phrase, standard));
    }
    words
});

/// Hits in the comments of a Rust file, or in a document. A phrase may run over the end of a line.
pub(crate) fn hits(file: &File) -> Vec<String> {
    let text = if file.path.ends_with(".rs") { &file.comments } else { &file.text };
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-' || c == '\'';
    let tokens: Vec<(usize, String)> = lines(text)
        .flat_map(|(number, line)| {
            let words = line.split(move |c| !is_part(c)).filter(|word| !word.is_empty());
            words.map(move |word| (number, word.to_lowercase()))
        })
        .collect();
    let mut hits = Vec::new();
    for (i, (number, first)) in tokens.iter().enumerate() {
        for (phrase, standard) in BY_FIRST_WORD.get(&**first).into_iter().flatten() {
            let mut words = phrase.split(' ').zip(tokens[i..].iter().chain(std::iter::repeat(&END)));
            if words.all(|(word, (_, token))| word == token) {
                hits.push(format!("{}:{number}: \"{phrase}\"; write: {standard}", file.path));
            }
        }
    }
    hits
}

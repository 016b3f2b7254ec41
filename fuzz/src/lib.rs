//! What reads foreign bytes, as functions of bytes.
//!
//! Any bytes come in. Nothing goes out: a function panics if what it calls panics, or breaks a promise. The fuzz
//! targets (`fuzz_targets/`) and `tests/foreign.rs` call these functions; how inputs are made is theirs.

use std::path::PathBuf;

use fulgurite::compiler::graph::{parse, parse_unchecked, verify};
use fulgurite::compiler::trace::trace;
use fulgurite::trainer::Checkpoint;
use fulgurite::trainer::data::read_idx;
use fulgurite::{DType, Tensor, TensorType, einsum};

/// A function of bytes, and what its inputs are made of.
pub struct Target {
    /// The name of its fuzz target and of its corpus.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
    /// Pieces that mutations insert.
    pub tokens: &'static [&'static str],
}

/// All targets.
pub const TARGETS: [Target; 4] = [
    Target {
        name: "graph",
        run: graph,
        tokens: &[
            "fn f(",
            ") -> (",
            "%0",
            "%1",
            "%9",
            ": f32[2]",
            "f64[]",
            "i32[0]",
            "bool[1,1]",
            " = ",
            "literal ",
            "constant {",
            "bits:0x",
            "nan",
            "-inf",
            "true",
            "add ",
            "reduce_sum ",
            "dot_general ",
            "threefry ",
            "result ",
            "pad ",
            "broadcast_in_dim ",
            "[axes=0]",
            "[shape=",
            ", dims=0",
            "contract=0:0",
            "index=1",
            "low=-1",
            "@f1",
            "return",
            "}\n",
            "\n",
            "//",
            "…",
        ],
    },
    Target {
        name: "checkpoint",
        run: checkpoint,
        tokens: &[
            "{",
            "}",
            "[",
            "]",
            "\"",
            ":",
            ",",
            "null",
            "\"dtype\":\"F32\"",
            "\"BOOL\"",
            "\"F16\"",
            "\"shape\":[",
            "0,",
            "\"data_offsets\":[0,",
            "\"__metadata__\"",
            "\"fulgurite\"",
            "\\\"format\\\":1",
            "\\\"step\\\":",
            "\\u0000",
        ],
    },
    Target {
        name: "idx",
        run: idx,
        tokens: &["\x00\x00\x08\x01", "\x00\x00\x08\x03", "\x00\x00\x0d\x00", "\x00\x00\x00\x01", "\x1f", "\x08"],
    },
    Target {
        name: "einsum",
        run: einsum_of,
        tokens: &["->", ",", "i", "j", "ij", "zz", "A", "...", " ", "\n", "2", "0", "1,3", "é"],
    },
];

/// The text of a graph: it is read or rejected. One that is read verifies, and reads back from what it prints as.
pub fn graph(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(graph) = parse(&text) {
        verify(&graph, "parsing").unwrap_or_else(|e| panic!("a graph that parses verifies: {e}"));
        let printed = graph.to_string();
        // Of a large constant, a hash is printed.
        if !printed.contains('…') {
            let again =
                parse(&printed).unwrap_or_else(|e| panic!("what a graph prints as can be read: {e}\n{printed}"));
            assert!(again == graph, "another graph was read from\n{printed}");
        }
    }
    // A graph that breaks its invariants prints, and is rejected.
    if let Ok(graph) = parse_unchecked(&text) {
        let _ = (graph.to_string(), verify(&graph, "parsing"));
    }
}

/// A checkpoint: the bytes; and the bytes with the length that their header has.
pub fn checkpoint(bytes: &[u8]) {
    let file = Scratch::new("checkpoint");
    file.read(bytes, |path| drop(Checkpoint::read(path)));
    if let (Some(rest), Some(end)) = (bytes.get(8..), bytes.iter().rposition(|&b| b == b'}')) {
        let length = (end + 1).saturating_sub(8) as u64;
        file.read(&[&length.to_le_bytes(), rest].concat(), |path| drop(Checkpoint::read(path)));
    }
}

/// An IDX file, compressed or not.
pub fn idx(bytes: &[u8]) {
    Scratch::new("idx").read(bytes, |path| drop(read_idx(path)));
}

/// Subscripts on the first line, the shape of an operand on each of the others.
pub fn einsum_of(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let spec = lines.next().unwrap_or_default();
    let shape = |line: &str| line.split(',').filter_map(|extent| extent.trim().parse().ok()).collect::<Vec<usize>>();
    let types: Vec<TensorType> = lines.map(|line| TensorType::new(DType::F32, &shape(line))).collect();
    let traced = trace(&types, |xs| vec![einsum(spec, &xs.iter().collect::<Vec<&Tensor>>())]);
    if let Ok(traced) = traced {
        verify(&traced.graph, "einsum").unwrap_or_else(|e| panic!("einsum makes a graph that verifies: {e}"));
    }
}

/// A file for bytes that are read from files.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Scratch(std::env::temp_dir().join(format!("fulgurite-{name}-{}", std::process::id())))
    }

    fn read(&self, bytes: &[u8], read: impl FnOnce(&PathBuf)) {
        std::fs::write(&self.0, bytes).unwrap_or_else(|e| panic!("{}: {e}", self.0.display()));
        read(&self.0);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

//! Reads a group of vectors: `GROUP.json`, a list of cases, and `GROUP.npz`, their arrays.
//!
//! In: the folder. Out: [`Case`]s and their arrays as tensors. What a case means is in the README beside the vectors.

use std::collections::HashMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use fulgurite::compiler::types::Axes;
use fulgurite::{DType, Tensor};
use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use serde_json::Value;

/// One case.
pub(crate) struct Case {
    pub(crate) name: String,
    /// What to compute.
    pub(crate) op: String,
    pub(crate) params: Params,
    /// `value`, `jvp`, `vjp`, `vmap`.
    pub(crate) checks: Vec<String>,
    pub(crate) rtol: f64,
    pub(crate) atol: f64,
    json: Value,
}

impl Case {
    /// How many inputs it has.
    pub(crate) fn inputs(&self) -> usize {
        self.json["inputs"].as_u64().expect("a number of inputs") as usize
    }

    /// How many outputs it has.
    pub(crate) fn outputs(&self) -> usize {
        self.json["outputs"].as_u64().expect("a number of outputs") as usize
    }

    /// The list of input or output numbers called `field`: `jvp_inputs` and the like.
    pub(crate) fn list(&self, field: &str) -> Axes {
        axes(&self.json[field])
    }

    /// For each input the axis that `vmap` maps over, if it does.
    pub(crate) fn vmap_axes(&self) -> Vec<Option<isize>> {
        let axes = self.json["vmap_axes"].as_array().expect("a list of axes");
        axes.iter().map(|axis| axis.as_i64().map(|axis| axis as isize)).collect()
    }
}

/// The static parameters of an op. A parameter that is missing is a mistake in the harness: it panics.
#[derive(Clone)]
pub(crate) struct Params(Value);

impl Params {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    /// Is it Python's `None`, or missing?
    pub(crate) fn is_none(&self, name: &str) -> bool {
        self.0.get(name).is_none_or(Value::is_null)
    }

    /// A parameter that is of no one type.
    pub(crate) fn json(&self, name: &str) -> &Value {
        self.get(name)
    }

    /// A bool, false where it is missing.
    pub(crate) fn flag(&self, name: &str) -> bool {
        !self.is_none(name) && self.get(name).as_bool().expect("a truth value")
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<&str> {
        let list = self.get(name).as_array().expect("a list");
        list.iter().map(|x| x.as_str().expect("a string")).collect()
    }

    pub(crate) fn axes(&self, name: &str) -> Axes {
        axes(self.get(name))
    }

    pub(crate) fn ints(&self, name: &str) -> Vec<isize> {
        let list = self.get(name).as_array().expect("a list");
        list.iter().map(|x| x.as_i64().expect("an integer") as isize).collect()
    }

    /// One integer or a list of them.
    pub(crate) fn ints_of(&self, name: &str) -> Vec<isize> {
        if self.get(name).is_array() { self.ints(name) } else { vec![self.int(name)] }
    }

    pub(crate) fn int(&self, name: &str) -> isize {
        self.get(name).as_i64().expect("an integer") as isize
    }

    pub(crate) fn float(&self, name: &str) -> f64 {
        self.get(name).as_f64().expect("a number")
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).as_str().expect("a string")
    }

    pub(crate) fn dtype(&self, name: &str) -> DType {
        DType::parse(self.text(name)).expect("an element type")
    }

    /// Pairs of axes, which the vectors hold as a pair of lists.
    pub(crate) fn pairs<T: FromIterator<(usize, usize)>>(&self, name: &str) -> T {
        let lists = self.get(name);
        axes(&lists[0]).into_iter().zip(axes(&lists[1])).collect()
    }

    fn get(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or_else(|| panic!("the case has no parameter {name}"))
    }
}

fn axes(list: &Value) -> Axes {
    let list = list.as_array().expect("a list");
    list.iter().map(|x| x.as_u64().expect("a natural number") as usize).collect()
}

/// The folders of the vectors: that of `FULGURITE_VECTORS`, or the repository's.
pub(crate) fn folders() -> Vec<PathBuf> {
    match std::env::var_os("FULGURITE_VECTORS") {
        Some(folder) => vec![folder.into()],
        None => ["jax", "jax-edge"].map(|set| Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(set)).into(),
    }
}

/// Are they the repository's?
pub(crate) fn is_ours() -> bool {
    std::env::var_os("FULGURITE_VECTORS").is_none()
}

/// The names of the groups in the folders.
pub(crate) fn groups() -> Vec<String> {
    let files = |folder: PathBuf| {
        let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        files.map(|file| file.expect("an entry of the folder").path())
    };
    let json = folders().into_iter().flat_map(files).filter(|path| path.extension().is_some_and(|e| e == "json"));
    json.map(|path| path.file_stem().expect("a file has a name").to_string_lossy().into_owned()).collect()
}

/// The cases of a group and their arrays by name. `None` where no folder has the group.
pub(crate) fn read(group: &str) -> Option<(Vec<Case>, Arrays)> {
    let folder = folders().into_iter().find(|folder| folder.join(format!("{group}.json")).exists())?;
    let open = |extension| {
        let path = folder.join(format!("{group}.{extension}"));
        fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let arrays = Arrays::read(open("npz"));
    let cases: Vec<Value> = serde_json::from_slice(&open("json")).expect("a list of cases");
    let case = |json: Value| {
        let text = |field: &str| json[field].as_str().expect("a string").to_string();
        let checks = json["check"].as_array().expect("a list of checks");
        Case {
            name: text("name"),
            op: text("op"),
            params: Params(json["params"].clone()),
            checks: checks.iter().map(|check| check.as_str().expect("a string").into()).collect(),
            rtol: json["rtol"].as_f64().expect("a tolerance"),
            atol: json["atol"].as_f64().expect("a tolerance"),
            json,
        }
    };
    Some((cases.into_iter().map(case).collect(), arrays))
}

/// Arrays by name.
pub(crate) struct Arrays(HashMap<String, Tensor>);

impl Arrays {
    /// The array `CASE/KINDi` (`exp/in0`).
    pub(crate) fn get(&self, case: &Case, kind: &str, i: usize) -> Tensor {
        let name = format!("{}/{kind}{i}", case.name);
        self.0.get(&name).unwrap_or_else(|| panic!("there is no array {name}")).clone()
    }

    /// The arrays `CASE/KINDi` of these numbers.
    pub(crate) fn all(&self, case: &Case, kind: &str, numbers: impl IntoIterator<Item = usize>) -> Vec<Tensor> {
        numbers.into_iter().map(|i| self.get(case, kind, i)).collect()
    }

    fn read(npz: Vec<u8>) -> Self {
        let mut zip = zip::ZipArchive::new(Cursor::new(npz)).expect("a zip file");
        let entries = zip.len();
        let entry = |i| {
            let mut file = zip.by_index(i).expect("an entry of the zip file");
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).expect("an entry that can be unpacked");
            (file.name().trim_end_matches(".npy").to_string(), npy(&bytes))
        };
        Arrays((0..entries).map(entry).collect())
    }
}

/// The array of a `.npy` file, format 1.0: magic, version, the header's length as u16, the header, the elements
/// (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).
fn npy(file: &[u8]) -> Tensor {
    assert_eq!(file[..8], *b"\x93NUMPY\x01\x00", "a .npy file of version 1.0");
    let length = u16::from_le_bytes([file[8], file[9]]) as usize;
    let (header, data) = file[10..].split_at(length);
    // {'descr': '<f4', 'fortran_order': False, 'shape': (3, 7), }
    let header = std::str::from_utf8(header).expect("a header in ASCII");
    let after = |key: &str| header.split_once(&format!("'{key}': ")).expect("a header with all fields").1;
    let until = |text: &'static str| move |s: &str| s.split_once(text).expect("a closed field").0.to_string();
    let dtype = until("'")(&after("descr")[1..]);
    let column_major = after("fortran_order").starts_with("True");
    let shape = until(")")(&after("shape")[1..]);
    let shape: Vec<usize> = shape.split(',').filter_map(|n| n.trim().parse().ok()).collect();

    fn elements<T: fulgurite::Element, const N: usize>(
        data: &[u8],
        shape: Vec<usize>,
        column_major: bool,
        element: impl Fn([u8; N]) -> T,
    ) -> Tensor {
        let (chunks, []) = data.as_chunks() else { panic!("{} bytes are no whole elements", data.len()) };
        let elements = chunks.iter().map(|&chunk| element(chunk)).collect();
        let shape = IxDyn(&shape).set_f(column_major);
        ArrayD::from_shape_vec(shape, elements).expect("as many elements as the shape has").into()
    }
    match dtype.as_str() {
        "<f4" => elements(data, shape, column_major, f32::from_le_bytes),
        "<f8" => elements(data, shape, column_major, f64::from_le_bytes),
        "<i4" => elements(data, shape, column_major, i32::from_le_bytes),
        "<u4" => elements(data, shape, column_major, u32::from_le_bytes),
        "|b1" => elements(data, shape, column_major, |[byte]| byte != 0),
        "|u1" => elements(data, shape, column_major, u8::from_le_bytes),
        "|i1" => elements(data, shape, column_major, i8::from_le_bytes),
        "<u2" => elements(data, shape, column_major, u16::from_le_bytes),
        "<i8" => elements(data, shape, column_major, i64::from_le_bytes),
        "<u8" => elements(data, shape, column_major, u64::from_le_bytes),
        other => panic!("no elements of type {other} are expected in the vectors"),
    }
}

//! Checkpoints: one safetensors file with the leaves of a tree under their paths (`model.layers.0.weight`), and the
//! host's part of a run as JSON in its metadata.
//!
//! The bytes are a function of the state alone: no times, no paths, one order. A file appears whole or not at all: it
//! is written beside its place, under a name that no other writer has, synced, and renamed into it; so a full disk leaves
//! the old one as it was, and of two runs that write one file each leaves a whole one. What is there and is no regular
//! file (a link, a device, a pipe) is left alone.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fulgurite_jit::{Array, DType, Error, Result, Tensor, TensorType, Tree, named_leaves, unflatten};
use safetensors::tensor::{Dtype, SafeTensors, View, serialize};
use serde_json::{Value, json};

use crate::data::bounded;

/// Writes a tree of tensors.
///
/// ```
/// # fn main() -> fulgurite_jit::Result<()> {
/// use fulgurite_jit::Tensor;
/// use fulgurite_trainer::checkpoint::{load, save};
///
/// let file = std::env::temp_dir().join("fulgurite-doc.safetensors");
/// let model = (Tensor::from_vec(&[2], vec![1.0f32, 2.0])?, Tensor::scalar(3i32));
/// save(&file, &model)?;
/// let again = load(&file, &model)?; // any tree of the same structure and types will do as a pattern
/// assert_eq!(again.0.to_vec::<f32>()?, [1.0, 2.0]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When the file cannot be written (what was there before stays), or a leaf has no data.
pub fn save(path: impl AsRef<Path>, tree: &impl Tree) -> Result<()> {
    write(path.as_ref(), named_leaves(tree), &HostState::default())
}

/// Reads a tree of tensors of the structure and types of `like`.
///
/// # Errors
/// When the file cannot be read, is no such file, or holds other leaves: the error names each and both types.
pub fn load<T: Tree>(path: impl AsRef<Path>, like: &T) -> Result<T> {
    Checkpoint::read(path)?.restore(like, "")
}

/// A checkpoint that was read.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, Array>,
    host: HostState,
}

/// The host's part of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HostState {
    /// Steps taken.
    pub(crate) step: usize,
    /// The epoch to go on in, and the batch of it to go on with.
    pub(crate) position: (usize, usize),
    /// What the order of the data depends on.
    pub(crate) loader: String,
    /// Validations so far.
    pub(crate) validations: usize,
    /// [`Metrics`](crate::Metrics) as JSON.
    pub(crate) metrics: Value,
    /// Name and state of each callback.
    pub(crate) callbacks: Vec<(String, Value)>,
}

impl Checkpoint {
    /// Reads a checkpoint.
    ///
    /// # Errors
    /// When there is no such file, or it is no checkpoint.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = bounded::read(path).map_err(|e| e.context(format!("checkpoint {}", path.display())))?;
        let (tensors, host) =
            parse(&bytes).map_err(|why| Error::new(format!("checkpoint {}: {why}", path.display())))?;
        Ok(Checkpoint { path: path.to_path_buf(), tensors, host })
    }

    /// The model of a run, in the structure and types of `like` (that of `init` will do).
    ///
    /// # Errors
    /// As [`load`].
    pub fn model<M: Tree>(&self, like: &M) -> Result<M> {
        self.restore(like, "model")
    }

    /// Steps that the run had taken.
    pub fn step(&self) -> usize {
        self.host.step
    }

    /// The epoch (from 0) in which the run goes on.
    pub fn epoch(&self) -> usize {
        self.host.position.0
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names and types of the tensors.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.tensors.iter().map(|(name, array)| (name.as_str(), array.ty()))
    }

    pub(crate) fn host(&self) -> &HostState {
        &self.host
    }

    /// The tensors whose names begin with `prefix` (all, where it is empty), in the structure of `like`.
    pub(crate) fn restore<T: Tree>(&self, like: &T, prefix: &str) -> Result<T> {
        let mut faults = Vec::new();
        let mut found = Vec::new();
        let wanted = named_leaves(like);
        for (name, leaf) in &wanted {
            let name = join(prefix, name);
            match self.tensors.get(&name) {
                None => faults.push(format!("`{name}` ({}) is missing in the file", leaf.ty())),
                Some(array) if array.ty() != leaf.ty() => {
                    faults.push(format!("`{name}` is {} in the file, {} in the model", array.ty(), leaf.ty()));
                }
                Some(array) => found.push(own(array)?),
            }
        }
        let belongs = |name: &str| prefix.is_empty() || name == prefix || name.starts_with(&format!("{prefix}."));
        for name in self.tensors.keys().filter(|name| belongs(name)) {
            if !wanted.iter().any(|(wanted, _)| join(prefix, wanted) == *name) {
                faults.push(format!("`{name}` is in the file, but not in the model"));
            }
        }
        if faults.is_empty() {
            return Ok(unflatten(like, found));
        }
        const SHOWN: usize = 8;
        let more = faults.len().saturating_sub(SHOWN);
        faults.truncate(SHOWN);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let hint = match (prefix, self.is_of_a_run()) {
            ("", true) if !wanted.iter().any(|(name, _)| name.starts_with("model")) => {
                ". It is the checkpoint of a run: its model is `Checkpoint::read(path)?.model(&like)`"
            }
            ("", false) if wanted.iter().any(|(name, _)| name.starts_with("opt_state")) => {
                ". It holds a tree that `checkpoint::save` wrote, not a run to go on from: read it by `checkpoint::load`"
            }
            ("model", false) => ". It holds a tree that `checkpoint::save` wrote: read it by `checkpoint::load`",
            _ => "",
        };
        Err(Error::new(format!("checkpoint {} does not fit: {}{more}{hint}", self.path.display(), faults.join("; "))))
    }

    /// Was it written by a run?
    fn is_of_a_run(&self) -> bool {
        self.tensors.contains_key("step") && self.tensors.keys().any(|name| name.starts_with("model"))
    }
}

/// A copy that nothing else holds: a step may overwrite it, and the checkpoint can be restored from again.
fn own(array: &Array) -> Result<Tensor> {
    Array::from_bytes(array.ty(), array.bytes()).map(Tensor::from)
}

fn join(prefix: &str, name: &str) -> String {
    match (prefix, name) {
        ("", name) => name.to_string(),
        (prefix, "") => prefix.to_string(),
        (prefix, name) => format!("{prefix}.{name}"),
    }
}

// ---- writing

/// The one key of the metadata: a map of several would be written in a different order by every process.
const KEY: &str = "fulgurite";

/// Writes leaves and the host's part.
pub(crate) fn write(path: &Path, leaves: Vec<(String, Tensor)>, host: &HostState) -> Result<()> {
    let context = |e: Error| e.context(format!("cannot write the checkpoint {}", path.display()));
    let arrays = leaves.into_iter().map(|(name, leaf)| Ok((name, Stored(leaf.into_array()?))));
    let arrays: Vec<(String, Stored)> = arrays.collect::<Result<_>>().map_err(context)?;
    let metadata = HashMap::from([(KEY.to_string(), host.to_json().to_string())]);
    let bytes = serialize(arrays, Some(metadata)).map_err(|e| context(Error::new(e.to_string())))?;
    replace(path, &bytes).map_err(|e| context(e.into()))
}

/// Writes a file beside `path`, and puts it in its place once it is safely on the disk.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidFilename)?.to_string_lossy();
    fs::create_dir_all(folder)?;
    if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        let why = "what is there is a link, a folder, a device or a pipe, and is not replaced";
        return Err(std::io::Error::new(std::io::ErrorKind::AlreadyExists, why));
    }
    remove_abandoned(folder, &name);
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    let own = format!("{}-{}", std::process::id(), WRITTEN.fetch_add(1, Relaxed));
    let temporary = folder.join(format!(".{name}.{own}.tmp"));
    let result = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_folder(folder));
    if result.is_err() {
        // Best effort: the error that matters is the one above.
        drop(fs::remove_file(&temporary));
    }
    result
}

/// Removes what writers of this file have left that were killed: their process is no more. (Where processes cannot be
/// looked up, nothing.)
fn remove_abandoned(folder: &Path, name: &str) {
    let processes = Path::new("/proc");
    let Ok(entries) = fs::read_dir(folder) else { return };
    if !processes.join("self").exists() {
        return;
    }
    for entry in entries.flatten() {
        let file = entry.file_name();
        let own = file.to_str().and_then(|file| {
            file.strip_prefix('.')?.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".tmp")?.split_once('-')
        });
        if let Some((process, _)) = own
            && process.parse::<u32>().is_ok()
            && !processes.join(process).exists()
        {
            // Best effort: it is only in the way.
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// A new name is on the disk only when its folder is. (Elsewhere than on Unix a folder cannot be opened.)
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// An array as safetensors sees it.
struct Stored(Array);

impl View for Stored {
    fn dtype(&self) -> Dtype {
        match self.0.ty().dtype {
            DType::Bool => Dtype::BOOL,
            DType::I32 => Dtype::I32,
            DType::U32 => Dtype::U32,
            DType::F32 => Dtype::F32,
            DType::F64 => Dtype::F64,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.0.ty().shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.0.bytes().into()
    }

    fn data_len(&self) -> usize {
        self.0.ty().bytes()
    }
}

// ---- reading

type Parsed = (BTreeMap<String, Array>, HostState);

fn parse(bytes: &[u8]) -> std::result::Result<Parsed, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| format!("is no safetensors file ({e})"))?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
    let host = match text {
        Some(text) => {
            let json = serde_json::from_str(text).map_err(|e| format!("has broken metadata ({e})"))?;
            HostState::from_json(&json).ok_or("has metadata of another version of fulgurite")?
        }
        // Written by another program: tensors only.
        None => HostState::default(),
    };
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("is damaged ({e})"))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let dtype = match view.dtype() {
            Dtype::BOOL => DType::Bool,
            Dtype::I32 => DType::I32,
            Dtype::U32 => DType::U32,
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            other => return Err(format!("holds `{name}` of type {other:?}, which fulgurite does not have")),
        };
        let ty = TensorType::new(dtype, view.shape());
        let array = Array::from_bytes(&ty, view.data()).map_err(|e| format!("`{name}`: {e}"))?;
        tensors.insert(name, array);
    }
    Ok((tensors, host))
}

/// Counted up when the metadata changes in a way that older programs cannot read.
const FORMAT: u64 = 1;

impl HostState {
    fn to_json(&self) -> Value {
        let callbacks: Vec<Value> = self.callbacks.iter().map(|(name, state)| json!([name, state])).collect();
        json!({
            "format": FORMAT,
            "step": self.step,
            "epoch": self.position.0,
            "batch": self.position.1,
            "loader": self.loader,
            "validations": self.validations,
            "metrics": self.metrics,
            "callbacks": callbacks,
        })
    }

    fn from_json(json: &Value) -> Option<Self> {
        if json.get("format")?.as_u64()? != FORMAT {
            return None;
        }
        let count = |name: &str| Some(json.get(name)?.as_u64()? as usize);
        let callback = |value: &Value| Some((value.get(0)?.as_str()?.to_string(), value.get(1)?.clone()));
        Some(HostState {
            step: count("step")?,
            position: (count("epoch")?, count("batch")?),
            loader: json.get("loader")?.as_str()?.to_string(),
            validations: count("validations")?,
            metrics: json.get("metrics")?.clone(),
            callbacks: json.get("callbacks")?.as_array()?.iter().map(callback).collect::<Option<_>>()?,
        })
    }
}

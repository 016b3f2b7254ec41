//! Checkpoints: one safetensors file with the leaves of a tree under their paths (`model.layers.0.weight`), the tensors
//! of callbacks (`callbacks.0.NAME`), and the host state of a run as JSON in its metadata.
//!
//! The bytes are a function of the state alone: no times, no paths, one order. Writing is atomic: a file is written
//! under a unique temporary name in the same folder, synced, and renamed. A full disk leaves the old file as it was,
//! and concurrent writers of one file leave a complete one. A path that is not a regular file (a link, a device, a
//! pipe) is not replaced.
//!
//! Files are not trusted: the header is read and checked against the length of the file before the rest is read.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fulgurite_jit::{Array, DType, Error, Result, Tensor, TensorType, Tree, named_leaves, unflatten};
use safetensors::tensor::{Dtype, SafeTensors, View, serialize};
use serde_json::{Value, json};

use crate::callback::StateDict;
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
/// let again = load(&file, &model)?; // any tree of the same structure and types can be the pattern
/// assert_eq!(again.0.to_vec::<f32>()?, [1.0, 2.0]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When the file cannot be written (an old file is kept), or a leaf has no data.
pub fn save(path: impl AsRef<Path>, tree: &impl Tree) -> Result<()> {
    write(path.as_ref(), named_leaves(tree), &HostState::default())
}

/// Reads a tree of tensors of the structure and types of `like`.
///
/// # Errors
/// When the file cannot be read, is not a checkpoint, or holds other leaves. The error names each leaf and both types,
/// and the function to call where the file is that of a run.
pub fn load<T: Tree>(path: impl AsRef<Path>, like: &T) -> Result<T> {
    Checkpoint::read(path)?.restore(like, "", Reader::Load)
}

/// A checkpoint that was read.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, Array>,
    host: HostState,
}

/// How a checkpoint is read. The hint in an error depends on it, where the file is of the other kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reader {
    /// [`load`], for a tree that [`save`] wrote.
    Load,
    /// A part of a run, or all of it.
    Run,
}

/// The host state of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HostState {
    /// Steps taken.
    pub(crate) step: usize,
    /// The epoch and the batch to continue with.
    pub(crate) position: (usize, usize),
    /// What the order of the data depends on.
    pub(crate) loader: String,
    /// Validations so far.
    pub(crate) validations: usize,
    /// [`Metrics`](crate::Metrics) as JSON.
    pub(crate) metrics: Value,
    /// Name and JSON state of each callback that has a state.
    pub(crate) callbacks: Vec<(String, Value)>,
}

impl Checkpoint {
    /// Reads a checkpoint.
    ///
    /// # Errors
    /// When there is no such file, or it is not a checkpoint.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = contents(path).map_err(|e| e.context(format!("checkpoint {}", path.display())))?;
        let (tensors, host) =
            parse(&bytes).map_err(|reason| Error::new(format!("checkpoint {}: {reason}", path.display())))?;
        Ok(Checkpoint { path: path.to_path_buf(), tensors, host })
    }

    /// The model of a run, in the structure and types of `like` (such as that of `init`).
    ///
    /// # Errors
    /// As [`load`].
    pub fn model<M: Tree>(&self, like: &M) -> Result<M> {
        self.restore(like, "model", Reader::Run)
    }

    /// Steps that the run had taken.
    pub fn step(&self) -> usize {
        self.host.step
    }

    /// The epoch (from 0) with which the run continues.
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

    /// The state of the callback `name`, if it has one.
    pub(crate) fn callback(&self, name: &str) -> Result<Option<StateDict>> {
        let Some(i) = self.host.callbacks.iter().position(|(saved, _)| saved == name) else { return Ok(None) };
        let prefix = format!("{CALLBACKS}{i}.");
        let mut tensors = Vec::new();
        for (name, array) in &self.tensors {
            if let Some(name) = name.strip_prefix(&prefix) {
                tensors.push((name.to_string(), own(array)?));
            }
        }
        Ok(Some(StateDict { value: self.host.callbacks[i].1.clone(), tensors }))
    }

    /// The tensors whose names begin with `prefix` (all, where it is empty), in the structure of `like`.
    pub(crate) fn restore<T: Tree>(&self, like: &T, prefix: &str, reader: Reader) -> Result<T> {
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
        let is_in = |name: &str| prefix.is_empty() || name == prefix || name.starts_with(&format!("{prefix}."));
        let is_of_callbacks = |name: &str| reader == Reader::Run && name.starts_with(CALLBACKS);
        let belongs = |name: &str| is_in(name) && !is_of_callbacks(name);
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
        let hint = match (reader, self.is_of_a_run()) {
            (Reader::Load, true) => {
                ". It is the checkpoint of a run: its model is `Checkpoint::read(path)?.model(&like)`, and \
                 `Trainer::ckpt_path` resumes it"
            }
            (Reader::Run, false) => {
                ". It holds a tree that `checkpoint::save` wrote, not a run to resume: read it by `checkpoint::load`"
            }
            _ => "",
        };
        Err(Error::new(format!("checkpoint {} does not fit: {}{more}{hint}", self.path.display(), faults.join("; "))))
    }

    /// Was it written by a run? [`save`] writes no host state.
    fn is_of_a_run(&self) -> bool {
        self.host != HostState::default()
    }
}

/// A copy with one handle: a step may overwrite it, and the checkpoint stays as it is.
fn own(array: &Array) -> Result<Tensor> {
    Array::from_bytes(array.ty(), array.bytes()?).map(Tensor::from)
}

fn join(prefix: &str, name: &str) -> String {
    match (prefix, name) {
        ("", name) => name.to_string(),
        (prefix, "") => prefix.to_string(),
        (prefix, name) => format!("{prefix}.{name}"),
    }
}

// ---- writing

/// The only key of the metadata: the order of several would differ between processes.
const KEY: &str = "fulgurite";

/// The prefix of the tensors of callbacks; the index of the callback follows.
const CALLBACKS: &str = "callbacks.";

/// Writes the leaves of a run, its host state, and the states of its callbacks.
pub(crate) fn write_run(
    path: &Path,
    mut leaves: Vec<(String, Tensor)>,
    mut host: HostState,
    callbacks: impl Iterator<Item = (String, StateDict)>,
) -> Result<()> {
    for (i, (name, state)) in callbacks.filter(|(_, state)| !state.is_empty()).enumerate() {
        let tensors = state.tensors.into_iter();
        leaves.extend(tensors.map(|(tensor, value)| (format!("{CALLBACKS}{i}.{tensor}"), value)));
        host.callbacks.push((name, state.value));
    }
    write(path, leaves, &host)
}

/// Writes leaves and the host state.
pub(crate) fn write(path: &Path, leaves: Vec<(String, Tensor)>, host: &HostState) -> Result<()> {
    let context = |e: Error| e.context(format!("cannot write the checkpoint {}", path.display()));
    let arrays = leaves.into_iter().map(|(name, leaf)| Ok((name, Stored(leaf.into_array()?.to_host()?))));
    let arrays: Vec<(String, Stored)> = arrays.collect::<Result<_>>().map_err(context)?;
    let metadata = HashMap::from([(KEY.to_string(), host.to_json().to_string())]);
    let bytes = serialize(arrays, Some(metadata)).map_err(|e| context(Error::new(e.to_string())))?;
    replace(path, &bytes).map_err(|e| context(e.into()))
}

/// Writes a temporary file in the folder of `path`, syncs it, and renames it to `path`.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidFilename)?.to_string_lossy();
    fs::create_dir_all(folder)?;
    if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        let reason = "what is there is a link, a folder, a device or a pipe, and is not replaced";
        return Err(std::io::Error::new(std::io::ErrorKind::AlreadyExists, reason));
    }
    remove_abandoned(folder, &name);
    let (temporary, mut file) = create_own(folder, &name)?;
    let result = file.write_all(bytes).and_then(|()| file.sync_all());
    let result = result.and_then(|()| fs::rename(&temporary, path)).and_then(|()| sync_folder(folder));
    if result.is_err() {
        // Best effort: the error to report is the one above.
        drop(fs::remove_file(&temporary));
    }
    result
}

/// A new temporary file for `name`, which is locked while it is open.
fn create_own(folder: &Path, name: &str) -> std::io::Result<(PathBuf, File)> {
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    loop {
        let own = format!("{}-{}", std::process::id(), WRITTEN.fetch_add(1, Relaxed));
        let temporary = folder.join(format!(".{name}.{own}.tmp"));
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => {
                // Best effort: where files cannot be locked, none is removed as abandoned either.
                drop(file.try_lock());
                return Ok((temporary, file));
            }
            // Of a process with the same id in another container.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

/// Links the checkpoint `from` to `to`, or copies it where the file system has no links. A regular file at `to` is
/// replaced.
pub(crate) fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    let context =
        |e: std::io::Error| Error::from(e).context(format!("cannot link {} to {}", from.display(), to.display()));
    let folder = to.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).map_err(context)?;
    // A hard link to a symbolic link is a symbolic link: only regular files are linked.
    let is_linked = fs::symlink_metadata(from).is_ok_and(|there| there.is_file()) && fs::hard_link(from, to).is_ok();
    if is_linked {
        return sync_folder(folder).map_err(context);
    }
    replace(to, &contents(from)?).map_err(context)
}

/// Removes the temporary files that killed writers of this file have left: their process does not exist, and no process
/// (of another container, with other process ids) holds a lock. Does nothing where there is no `/proc`.
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
            && entry.file_type().is_ok_and(|kind| kind.is_file())
            && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok())
        {
            // Best effort: the file does no harm.
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// A rename is durable once the folder is synced. (A folder can be opened on Unix only.)
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// What safetensors calls an element type.
fn named(dtype: DType) -> Dtype {
    match dtype {
        DType::Bool => Dtype::BOOL,
        DType::I8 => Dtype::I8,
        DType::U8 => Dtype::U8,
        DType::I16 => Dtype::I16,
        DType::U16 => Dtype::U16,
        DType::I32 => Dtype::I32,
        DType::U32 => Dtype::U32,
        DType::I64 => Dtype::I64,
        DType::U64 => Dtype::U64,
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
    }
}

/// An array on the host, as safetensors sees it.
struct Stored(Array);

impl View for Stored {
    fn dtype(&self) -> Dtype {
        named(self.0.ty().dtype)
    }

    fn shape(&self) -> &[usize] {
        &self.0.ty().shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.0.bytes().expect("it is on the host").into()
    }

    fn data_len(&self) -> usize {
        self.0.ty().bytes()
    }
}

// ---- reading

/// The largest header, as in other readers of safetensors.
const MAX_HEADER: u64 = 100_000_000;

/// The first bytes of a file, up to the end of its header, and the header, whose sizes add up to `length`.
fn header(file: &mut File, length: u64) -> std::result::Result<(Vec<u8>, Value), String> {
    const COUNT: u64 = size_of::<u64>() as u64;
    let no_file = |reason: &dyn std::fmt::Display| format!("is no safetensors file ({reason})");
    let mut count = [0; COUNT as usize];
    file.read_exact(&mut count).map_err(|e| no_file(&e))?;
    let header = u64::from_le_bytes(count);
    let rest = length.saturating_sub(COUNT);
    if header > rest.min(MAX_HEADER) {
        return Err(no_file(&format!("it says that its header has {header} bytes; {rest} follow")));
    }
    let mut bytes = count.to_vec();
    file.take(header).read_to_end(&mut bytes).map_err(|e| no_file(&e))?;
    let json: Value = serde_json::from_slice(&bytes[COUNT as usize..]).map_err(|e| no_file(&e))?;
    let entries = json.as_object().ok_or_else(|| no_file(&"its header is no JSON object"))?;
    let end = |(name, entry): (&String, &Value)| match entry.pointer("/data_offsets/1").and_then(Value::as_u64) {
        _ if name == "__metadata__" => Ok(0),
        Some(end) => Ok(end),
        None => Err(no_file(&format!("it does not say where `{name}` is"))),
    };
    let ends: Vec<u64> = entries.iter().map(end).collect::<std::result::Result<_, _>>()?;
    let (data, said) = (rest - header, ends.into_iter().max().unwrap_or(0));
    if data != said {
        return Err(format!("is damaged (its header speaks of {said} bytes of tensors, and {data} follow)"));
    }
    Ok((bytes, json))
}

/// The bytes of a file whose header fits its length.
fn contents(path: &Path) -> Result<Vec<u8>> {
    let (mut file, length) = bounded::open(path)?;
    let (mut bytes, _) = header(&mut file, length).map_err(Error::new)?;
    let more = usize::try_from(length).unwrap_or(usize::MAX) - bytes.len();
    bytes.try_reserve_exact(more).map_err(|_| Error::new(format!("there is no memory for its {length} bytes")))?;
    file.take(more as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The step count of the run that wrote this file; `None` where it cannot be read or is not of a run.
pub(crate) fn step_of(path: &Path) -> Option<usize> {
    let (mut file, length) = bounded::open(path).ok()?;
    let (_, header) = header(&mut file, length).ok()?;
    let host = serde_json::from_str(header.get("__metadata__")?.get(KEY)?.as_str()?).ok()?;
    HostState::from_json(&host).filter(|host| *host != HostState::default()).map(|host| host.step)
}

type Parsed = (BTreeMap<String, Array>, HostState);

fn parse(bytes: &[u8]) -> std::result::Result<Parsed, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| format!("is no safetensors file ({e})"))?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
    let host = match text {
        Some(text) => {
            let json = serde_json::from_str(text).map_err(|e| format!("has broken metadata ({e})"))?;
            HostState::from_json(&json).ok_or("has metadata of another version of fulgurite, or that are damaged")?
        }
        // Written by another program: tensors only.
        None => HostState::default(),
    };
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("is damaged ({e})"))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let dtype = DType::ALL
            .into_iter()
            .find(|&dtype| named(dtype) == view.dtype())
            .ok_or_else(|| format!("holds `{name}` of type {:?}, which fulgurite does not have", view.dtype()))?;
        let ty = TensorType::new(dtype, view.shape());
        let array = Array::from_bytes(&ty, view.data()).map_err(|e| format!("`{name}`: {e}"))?;
        tensors.insert(name, array);
    }
    Ok((tensors, host))
}

/// Incremented when the metadata changes in a way that older versions cannot read.
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
        // At most `i64::MAX`, so that counting on from them does not overflow.
        let count = |name: &str| usize::try_from(json.get(name)?.as_i64()?).ok();
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

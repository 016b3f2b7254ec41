//! Compiled modules, which are kept on disk for later processes.
//!
//! Comes in: what the driver is asked to compile, then what it has made of it. Goes out: the same bytes for the same
//! question, to any process. Nothing here fails: what cannot be read is compiled again, and what cannot be written is
//! not kept.
//!
//! A file has the name of its [`Key`]. It appears whole or not at all, by a rename, and says how long it is and what
//! its bytes hash to, so that what is damaged is not used. `FULGURITE_CACHE_DIR` names the folder, by default that of
//! the platform for such files, and `FULGURITE_CACHE=0` turns it off. It is made for the user alone; one that others
//! own or may write is not used, as the driver takes its files for machine code.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use super::driver::Properties;

/// The most bytes of all files.
const BYTES: u64 = 256 << 20;

/// What a file begins with, and its version.
const MAGIC: &[u8; 16] = b"fulgurite-cubin1";

/// Bytes before those of the module: the magic, the key, the length, the hash.
const HEAD: usize = MAGIC.len() + 16 + 8 + 16;

/// What the files are called.
const ENDING: &str = "cubin";

/// A file that is being written has another ending; one so old has been left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// The identity of a module: a hash of its text, and of the device and the driver that it is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(u128);

impl Key {
    /// The key of a text for a device.
    pub(crate) fn new(text: &str, device: &Properties) -> Key {
        let Properties { name, capability, driver, .. } = device;
        // No part is a prefix of another that differs: the name has its length before it.
        Key(hash(format!("{capability} {driver} {} {name}{text}", name.len()).as_bytes()))
    }
}

/// A folder of compiled modules.
#[derive(Debug)]
pub(crate) struct Cubins {
    folder: PathBuf,
    /// The most bytes of all files.
    bound: u64,
}

impl Cubins {
    /// Those of a folder, of at most so many bytes.
    pub(crate) fn new(folder: PathBuf, bound: u64) -> Self {
        Cubins { folder, bound }
    }

    /// Those that the environment names, unless they are turned off or there is no folder for them.
    pub(crate) fn of_environment() -> Option<Self> {
        let folder = folder(&|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))?;
        Some(Cubins::new(folder, BYTES))
    }

    /// The module that has been kept.
    pub(crate) fn find(&self, key: Key) -> Option<Vec<u8>> {
        if !is_own(&self.folder) {
            return None;
        }
        let path = self.path(key);
        let mut bytes = fs::read(&path).ok()?;
        if bytes.len() < HEAD || bytes[..HEAD] != head(key, &bytes[HEAD..]) {
            return None;
        }
        // When it was last used.
        let _ = fs::File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(bytes.split_off(HEAD))
    }

    /// Keeps a module, and removes those that were not used for longest where there are too many.
    pub(crate) fn keep(&self, key: Key, module: &[u8]) {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        if (HEAD + module.len()) as u64 > self.bound || make(&self.folder).is_err() || !is_own(&self.folder) {
            return;
        }
        let number = NUMBER.fetch_add(1, Relaxed);
        let new = self.path(key).with_extension(format!("{}-{number}.new", std::process::id()));
        let written = fs::File::create_new(&new).and_then(|mut file| {
            file.write_all(&head(key, module))?;
            file.write_all(module)
        });
        if written.and_then(|()| fs::rename(&new, self.path(key))).is_err() {
            let _ = fs::remove_file(&new);
        }
        self.shrink();
    }

    fn path(&self, key: Key) -> PathBuf {
        self.folder.join(format!("{:032x}.{ENDING}", key.0))
    }

    /// Removes the files that were not used for longest until the others are within the bound. Only files of a key's
    /// name are looked at.
    fn shrink(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let now = SystemTime::now();
        let mut files = Vec::new();
        for entry in entries.flatten() {
            let (path, Ok(data)) = (entry.path(), entry.metadata()) else { continue };
            let used = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            match ending(&path) {
                Some(ENDING) => files.push((used, data.len(), path)),
                Some(_) if now.duration_since(used).is_ok_and(|age| age > LEFT_BEHIND) => {
                    let _ = fs::remove_file(path);
                }
                _ => {}
            }
        }
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        files.sort();
        for (_, size, path) in files {
            if bytes <= self.bound {
                return;
            }
            // Another process may have been faster.
            let _ = fs::remove_file(path);
            bytes -= size;
        }
    }
}

/// Makes a folder, and those above it, for the user alone.
fn make(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Is there such a folder, of the user, which no one else may write?
#[cfg(unix)]
fn is_own(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(data) = fs::metadata(folder) else { return false };
    // The user of this process, where the system tells it so.
    let user = fs::metadata("/proc/self").ok().map(|process| process.uid());
    data.mode() & 0o022 == 0 && user.is_none_or(|user| user == data.uid())
}

/// Elsewhere, the folders of users are closed to others.
#[cfg(not(unix))]
fn is_own(folder: &Path) -> bool {
    folder.is_dir()
}

/// What follows the key in the name of a file, if it is one of this folder's.
fn ending(path: &Path) -> Option<&str> {
    let (key, ending) = path.file_name()?.to_str()?.split_once('.')?;
    let is_key = key.len() == 32 && key.bytes().all(|b| b.is_ascii_hexdigit());
    (is_key && (ending == ENDING || ending.ends_with(".new"))).then_some(ending)
}

/// What stands before the bytes of a module.
fn head(key: Key, module: &[u8]) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend(key.0.to_le_bytes());
    head.extend((module.len() as u64).to_le_bytes());
    head.extend(hash(module).to_le_bytes());
    head
}

/// FNV-1a of 128 bits: against damage and chance, not against intent.
fn hash(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(OFFSET, |hash, &byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

/// The folder, by the variables of the environment.
fn folder(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if variable("FULGURITE_CACHE").is_some_and(|value| value.as_os_str() == "0") {
        return None;
    }
    if let Some(folder) = variable("FULGURITE_CACHE_DIR") {
        return Some(folder.join("cubins"));
    }
    let of_user = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else {
        // The specification of the variable has others than absolute paths ignored.
        let cache = variable("XDG_CACHE_HOME").filter(|folder| folder.is_absolute());
        cache.or_else(|| variable("HOME").map(|home| home.join(".cache")))
    };
    Some(of_user?.join("fulgurite").join("cubins"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, capability: u32, driver: u32) -> Properties {
        Properties { name: name.into(), capability, driver, ..Properties::default() }
    }

    /// An empty folder below the temporary one.
    fn empty(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("fulgurite-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_key_is_of_all_that_a_module_depends_on() {
        let keys = [
            Key::new("text", &device("GPU", 80, 12040)),
            Key::new("texts", &device("GPU", 80, 12040)),
            Key::new("stext", &device("GPU", 80, 12040)),
            Key::new("text", &device("GPUs", 80, 12040)),
            Key::new("text", &device("GPU", 90, 12040)),
            Key::new("text", &device("GPU", 80, 12041)),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key), "{i}");
        }
        assert_eq!(keys[0], Key::new("text", &device("GPU", 80, 12040)));
        // The values of the authors of the function.
        assert_eq!(hash(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(hash(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
        assert_eq!(hash(b"foobar"), 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }

    #[test]
    fn what_is_not_whole_is_not_found() -> std::io::Result<()> {
        let cubins = Cubins::new(empty("whole"), 1000);
        let key = Key(17);
        assert_eq!(cubins.find(key), None);
        for module in [&b"a module"[..], b""] {
            cubins.keep(key, module);
            assert_eq!(cubins.find(key).as_deref(), Some(module));
            let whole = fs::read(cubins.path(key))?;
            for length in 0..whole.len() {
                fs::write(cubins.path(key), &whole[..length])?;
                assert_eq!(cubins.find(key), None, "{length} bytes");
            }
            for byte in 0..whole.len() {
                let mut damaged = whole.clone();
                damaged[byte] ^= 1;
                fs::write(cubins.path(key), damaged)?;
                assert_eq!(cubins.find(key), None, "byte {byte}");
            }
            fs::write(cubins.path(key), [&whole[..], b"more"].concat())?;
            assert_eq!(cubins.find(key), None);
            // That of another key, under this name.
            fs::write(cubins.path(Key(18)), &whole)?;
            assert_eq!(cubins.find(Key(18)), None);
        }
        cubins.keep(key, b"again");
        assert_eq!(cubins.find(key).as_deref(), Some(&b"again"[..]));
        fs::remove_dir_all(&cubins.folder)
    }

    #[test]
    fn the_least_recently_used_is_removed() -> std::io::Result<()> {
        let size = HEAD as u64 + 100;
        let cubins = Cubins::new(empty("bound"), 3 * size + 10);
        let used = |key: u128, seconds: u64| {
            let when = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            fs::File::options().append(true).open(cubins.path(Key(key)))?.set_modified(when)
        };
        for key in 0..3u128 {
            cubins.keep(Key(key), &[key as u8; 100]);
            used(key, 1000 + key as u64)?;
        }
        // Files of others, and one that a process is writing.
        let [foreign, writing, left] =
            ["notes.cubin".to_owned(), format!("{:032x}.7-0.new", 99), format!("{:032x}.8-0.new", 99)]
                .map(|name| cubins.folder.join(name));
        for path in [&foreign, &writing, &left] {
            fs::write(path, [0; 5000])?;
        }
        let long_ago = SystemTime::now() - 2 * LEFT_BEHIND;
        fs::File::options().append(true).open(&left)?.set_modified(long_ago)?;

        assert!(cubins.find(Key(0)).is_some(), "it is the newest now");
        cubins.keep(Key(3), &[3; 100]);
        let there = |key| cubins.find(Key(key)).is_some();
        assert_eq!([there(0), there(1), there(2), there(3)], [true, false, true, true]);
        assert_eq!([foreign.exists(), writing.exists(), left.exists()], [true, true, false]);
        // More than all may have is not kept, and removes nothing.
        cubins.keep(Key(4), &[4; 1000]);
        assert_eq!([there(0), there(2), there(3), there(4)], [true, true, true, false]);
        fs::remove_dir_all(&cubins.folder)
    }

    #[test]
    fn a_folder_that_cannot_be_written_keeps_nothing() -> std::io::Result<()> {
        let file = empty("file");
        fs::write(&file, b"no folder")?;
        let cubins = Cubins::new(file.join("cubins"), 1000);
        cubins.keep(Key(1), b"module");
        assert_eq!(cubins.find(Key(1)), None);
        fs::remove_file(file)
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_may_write_is_not_used() -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let above = empty("open");
        let cubins = Cubins::new(above.join("cubins"), 1000);
        let set = |mode| fs::set_permissions(&cubins.folder, fs::Permissions::from_mode(mode));
        cubins.keep(Key(1), b"module");
        for folder in [&above, &cubins.folder] {
            assert_eq!(fs::metadata(folder)?.permissions().mode() & 0o777, 0o700);
        }
        for (mode, is_used) in [(0o777, false), (0o770, false), (0o722, false), (0o755, true), (0o700, true)] {
            set(mode)?;
            assert_eq!(cubins.find(Key(1)).is_some(), is_used, "{mode:o}");
            cubins.keep(Key(2), b"other");
            assert_eq!(cubins.path(Key(2)).exists(), is_used, "{mode:o}");
        }
        fs::remove_dir_all(above)
    }

    #[test]
    fn folders() {
        let of = |variables: &[(&str, &str)]| {
            folder(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into()))
        };
        assert_eq!(of(&[("FULGURITE_CACHE", "0"), ("FULGURITE_CACHE_DIR", "/x"), ("HOME", "/h")]), None);
        let by_name = of(&[("FULGURITE_CACHE", "1"), ("FULGURITE_CACHE_DIR", "x"), ("HOME", "/h")]);
        assert_eq!(by_name, Some("x/cubins".into()));
        if cfg!(unix) {
            assert_eq!(of(&[("HOME", "/h")]), Some("/h/.cache/fulgurite/cubins".into()));
            assert_eq!(of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]), Some("/c/fulgurite/cubins".into()));
            assert_eq!(of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "c")]), Some("/h/.cache/fulgurite/cubins".into()));
            assert_eq!(of(&[]), None);
        }
    }
}

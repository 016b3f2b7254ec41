//! Reads whole files: regular ones only, up to a limit.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use fulgurite_jit::{Error, Result};

/// The largest data file, also after decompression: 16 GiB.
pub(crate) const MAX_BYTES: u64 = 16 << 30;

/// A regular file and its length. Reading a pipe or a device might not end.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(Error::new("is no regular file"));
    }
    Ok((File::open(path)?, metadata.len()))
}

/// The contents of a regular file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let (file, length) = open(path)?;
    read_at_most(file, MAX_BYTES.min(length.saturating_add(1)))
}

/// The bytes of `from`.
///
/// # Errors
/// When there are `max` bytes or more.
pub(crate) fn read_at_most(from: impl Read, max: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(max).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == max {
        return Err(Error::new(format!("has more than the {} bytes that are read of it", max - 1)));
    }
    Ok(bytes)
}

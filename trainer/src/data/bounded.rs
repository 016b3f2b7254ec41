//! Files that are read whole: regular ones only, and no more of them than a bound.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use fulgurite_jit::{Error, Result};

/// The most bytes that a file of data may have, or become when it is decompressed: 16 GiB.
pub(crate) const MOST_BYTES: u64 = 16 << 30;

/// A regular file and its length. A pipe would be waited for, and a device may have no end.
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
    read_at_most(file, MOST_BYTES.min(length.saturating_add(1)))
}

/// All that `from` gives.
///
/// # Errors
/// When that is `most` bytes or more.
pub(crate) fn read_at_most(from: impl Read, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == most {
        return Err(Error::new(format!("has more than the {} bytes that are read of it", most - 1)));
    }
    Ok(bytes)
}

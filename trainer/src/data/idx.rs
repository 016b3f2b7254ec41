//! The IDX format of MNIST and similar data sets: a magic number, the extents, the bytes; plain or compressed with
//! gzip.

use std::path::Path;

use fulgurite_jit::{Error, Result};
use ndarray::{ArrayD, IxDyn};

use super::bounded;

/// The largest ratio of decompressed to compressed length. (MNIST's is 6.)
const MAX_EXPANSION: u64 = 200;

/// Reads an IDX file of bytes, compressed or not (its first bytes tell). MNIST's images are `[examples, 28, 28]`, its
/// labels `[examples]`.
///
/// # Errors
/// When the file cannot be read, is no IDX file of unsigned bytes, has more than 16 GiB, or becomes more than 200
/// times as long (and more than 4 MiB) when it is decompressed.
pub fn read_idx(path: impl AsRef<Path>) -> Result<ArrayD<u8>> {
    let path = path.as_ref();
    let context = |e: Error| e.context(path.display());
    let stored = bounded::read(path).map_err(context)?;
    let bytes = if stored.starts_with(&[0x1f, 0x8b]) {
        // Deflate expands a byte to at most 1032; real data are far from that.
        let max = bounded::MAX_BYTES.min((stored.len() as u64).saturating_mul(MAX_EXPANSION).max(1 << 22));
        let decoder = flate2::read::GzDecoder::new(&stored[..]);
        bounded::read_at_most(decoder, max).map_err(|e| context(e.context("cannot be decompressed")))?
    } else {
        stored
    };
    parse(&bytes).map_err(|reason| context(Error::new(reason)))
}

fn parse(bytes: &[u8]) -> std::result::Result<ArrayD<u8>, String> {
    // Two zeros, the element type, the number of axes, then each extent as a big-endian u32.
    let [0, 0, kind, rank, rest @ ..] = bytes else {
        return Err("is no IDX file: it does not begin with two zero bytes".into());
    };
    if *kind != 0x08 {
        return Err(format!("holds elements of IDX type {kind:#04x}; only unsigned bytes (0x08) are read"));
    }
    let rank = usize::from(*rank);
    let Some((header, data)) = rest.split_at_checked(rank * 4) else {
        return Err("ends within the IDX header".into());
    };
    let extent = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    let shape: Vec<usize> = header.chunks_exact(4).map(extent).collect();
    let elements = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
    if elements != Some(data.len()) {
        return Err(format!("has {} bytes of data, which do not fill {shape:?}: is the file whole?", data.len()));
    }
    ArrayD::from_shape_vec(IxDyn(&shape), data.to_vec()).map_err(|e| e.to_string())
}

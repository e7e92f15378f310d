//! An empty qcow2 file over a backing file: what is written goes here, what is not comes from there.

use std::path::Path;

use nodekiln_words::{Failure, Result};

use super::table::encode;
use super::write::standalone_header;
use crate::disk::{CLUSTER, CLUSTER_LENGTH};
use crate::output::Output;

/// Longest backing file name that qcow2 takes, in bytes.
const MAX_NAME: usize = 1023;

/// Writes an overlay of `virtual_size` bytes over `backing` to `path`.
///
/// `backing_format` is `raw` or `qcow2`; it is stored, so that nobody has to guess it from content
/// that a guest may have written. A relative name is relative to the folder of `path`. The virtual
/// size may exceed that of the backing file; the rest reads as zeros.
///
/// # Errors
/// When the name is no UTF-8 or longer than 1023 bytes, the format is another, the size is no
/// multiple of 512, or the file cannot be written.
pub fn write_overlay(
    path: &Path,
    backing: &Path,
    backing_format: &str,
    virtual_size: u64,
) -> Result<()> {
    let shown = backing.display();
    let name = backing.to_str().filter(|name| (1..=MAX_NAME).contains(&name.len()));
    let name = name.ok_or_else(|| {
        Failure::input(format!("backing file name {shown} is no UTF-8 of 1 to {MAX_NAME} bytes"))
    })?;
    if !matches!(backing_format, "raw" | "qcow2") {
        return Err(Failure::input(format!("backing format `{backing_format}` of {shown}"))
            .with_help("use raw or qcow2"));
    }
    if !virtual_size.is_multiple_of(512) {
        return Err(Failure::input(format!(
            "overlay of {virtual_size} bytes is not whole sectors"
        )));
    }
    let mut header = standalone_header(virtual_size, 0);
    header.backing_file = Some(name.to_owned());
    header.backing_format = Some(backing_format.to_owned());
    let l1_clusters = header.l1_bytes().div_ceil(CLUSTER);
    header.refcount_offset = (1 + l1_clusters) * CLUSTER;
    header.refcount_clusters = 1;
    let block = header.refcount_offset + CLUSTER;
    let used = usize::try_from(block / CLUSTER + 1).unwrap_or(usize::MAX);
    if used > CLUSTER_LENGTH / 2 {
        return Err(Failure::input(format!("overlay of {virtual_size} bytes is too large")));
    }
    let counts: Vec<u8> = std::iter::repeat_n(1_u16.to_be_bytes(), used).flatten().collect();
    let output = Output::create(path)?;
    output.set_length(block + CLUSTER)?;
    output.write_at(0, &header.encode())?;
    output.write_at(header.refcount_offset, &encode(&[block]))?;
    output.write_at(block, &counts)?;
    output.sync()
}

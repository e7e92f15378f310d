//! An empty qcow2 file over a backing file: what is written goes here, what is not comes from there.

use std::ops::Range;
use std::path::{Path, PathBuf};

use nodekiln_words::{Failure, Result};
use serde_json::json;

use super::table::encode;
use super::write::standalone_header;
use crate::disk::{CLUSTER, CLUSTER_LENGTH};
use crate::output::Output;

/// Longest backing file name that qcow2 takes, in bytes.
const MAX_NAME: usize = 1023;

/// Where an overlay finds what was not written to it.
///
/// The kind is stored with the name, so that nobody has to guess it from content that a guest may have
/// written. A name that is relative is relative to the folder of the overlay; where the disk is a part of
/// a file, the name has to be absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A file with the bytes of the disk and nothing else.
    Raw(PathBuf),
    /// A qcow2 file.
    Qcow2(PathBuf),
    /// A file whose first `length` bytes are the disk's: a fixed VHD without its footer.
    Part {
        /// The file.
        file: PathBuf,
        /// Bytes of the disk.
        length: u64,
    },
    /// A VMDK extent that is a range of a file, as in an OVA.
    Vmdk {
        /// The file.
        file: PathBuf,
        /// Where in it the extent lies, in bytes.
        range: Range<u64>,
    },
}

impl Backing {
    /// QEMU's word for the format.
    #[must_use]
    pub const fn format(&self) -> &'static str {
        match self {
            Self::Raw(_) | Self::Part { .. } => "raw",
            Self::Qcow2(_) => "qcow2",
            Self::Vmdk { .. } => "vmdk",
        }
    }

    fn file(&self) -> &Path {
        match self {
            Self::Raw(file) | Self::Qcow2(file) => file,
            Self::Part { file, .. } | Self::Vmdk { file, .. } => file,
        }
    }

    /// What stands in the overlay's header: a file's name, or QEMU's description of a part of one.
    fn name(&self, file: &str) -> String {
        let part = |offset: u64, length: u64| {
            json!({
                "driver": "raw", "offset": offset, "size": length,
                "file": { "driver": "file", "filename": file },
            })
        };
        let described = match self {
            Self::Raw(_) | Self::Qcow2(_) => return file.to_owned(),
            Self::Part { length, .. } => part(0, *length),
            Self::Vmdk { range, .. } => {
                json!({ "driver": "vmdk", "file": part(range.start, range.end - range.start) })
            }
        };
        format!("json:{described}")
    }
}

/// Writes an overlay of `virtual_size` bytes over `backing` to `path`. The virtual size may exceed that of
/// the backing disk; the rest reads as zeros.
///
/// # Errors
/// When the backing file's name is no UTF-8 or takes more than 1023 bytes, the size is no multiple of 512,
/// or the file cannot be written.
pub fn write_overlay(path: &Path, backing: &Backing, virtual_size: u64) -> Result<()> {
    let shown = backing.file().display();
    let name = backing.file().to_str().filter(|file| !file.is_empty());
    let name = name.map(|file| backing.name(file)).filter(|name| name.len() <= MAX_NAME);
    let name = name.ok_or_else(|| {
        Failure::input(format!("backing file name {shown} is no UTF-8 of 1 to {MAX_NAME} bytes"))
            .with_help("give the file a shorter path")
    })?;
    if !virtual_size.is_multiple_of(512) {
        return Err(Failure::input(format!(
            "overlay of {virtual_size} bytes is not whole sectors"
        )));
    }
    let mut header = standalone_header(virtual_size, 0);
    header.backing_file = Some(name);
    header.backing_format = Some(backing.format().to_owned());
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

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
/// Each driver is named, so that nobody has to guess it from content that a guest or a stranger may have
/// written, and no other file is opened, whatever the image says of a parent. Names of files are absolute.
///
/// What a header of VMDK or qcow2 can make QEMU open besides is for [`open`](crate::open) to refuse: a VMDK
/// without a disk of its own, whose descriptor lists files, and qcow2 with an external data file.
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

    /// What stands in the overlay's header: QEMU's description of the disk below.
    fn described(&self, file: &str) -> String {
        let bytes = json!({ "driver": "file", "filename": file });
        let part = |range: &Range<u64>| {
            let (offset, size) = (range.start, range.end - range.start);
            json!({ "driver": "raw", "offset": offset, "size": size, "file": bytes })
        };
        // Without `backing` QEMU follows the parent that the image itself names.
        let described = match self {
            Self::Raw(_) => json!({ "driver": "raw", "file": bytes }),
            Self::Qcow2(_) => json!({ "driver": "qcow2", "backing": null, "file": bytes }),
            Self::Part { length, .. } => part(&(0..*length)),
            Self::Vmdk { range, .. } => {
                json!({ "driver": "vmdk", "backing": null, "file": part(range) })
            }
        };
        format!("json:{described}")
    }
}

/// Writes an overlay of `virtual_size` bytes over `backing` to `path`. The virtual size may exceed that of
/// the backing disk; the rest reads as zeros.
///
/// # Errors
/// When the backing file's name is not absolute, no UTF-8 or takes, with what is said of it, more than 1023
/// bytes, the size is no multiple of 512, or the file cannot be written.
pub fn write_overlay(path: &Path, backing: &Backing, virtual_size: u64) -> Result<()> {
    let file = backing.file();
    if !file.is_absolute() {
        return Err(Failure::input(format!(
            "backing file name {} is not absolute",
            file.display()
        )));
    }
    let name = file.to_str().map(|file| backing.described(file));
    let name = name.filter(|name| name.len() <= MAX_NAME).ok_or_else(|| {
        let shown = file.display();
        Failure::input(format!("the backing file name {shown} is no UTF-8, or too long for qcow2"))
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

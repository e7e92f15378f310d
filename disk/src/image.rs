//! Opening an image file, whoever wrote it: raw or qcow2, told by content.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use nodekiln_words::{Cancel, Failure, Progress, Result, ResultExt, Sha256};

use crate::disk::{Disk, Extent, Source, is_zero};
use crate::fields::{bytes, le16};
use crate::{gpt, qcow2};

/// Bytes of a file's start that tell its format: enough for ISO 9660's descriptor at 32,768.
const PROBE: u64 = 40 << 10;

/// Formats of image files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The bytes of the disk.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

impl Format {
    /// The name that QEMU knows it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// An open image file and the disk inside it.
#[derive(Clone, Debug)]
pub struct Image {
    format: Format,
    disk: Disk,
    reader: Option<Arc<qcow2::Reader>>,
}

/// Opens the image file at `path`.
///
/// # Errors
/// When it cannot be read, or holds no disk: neither qcow2 nor a partition table at its start. The
/// message says what it looks like instead.
pub fn open(path: &Path) -> Result<Image> {
    let shown = path.display();
    let file = File::open(path).or_io(|| format!("cannot open {shown}"))?;
    let kind = file.metadata().or_io(|| format!("cannot look at {shown}"))?;
    if kind.is_dir() {
        return Err(no_disk_image(path, "a folder"));
    }
    let length = kind.len();
    let mut start = vec![0; usize::try_from(length.min(PROBE)).unwrap_or(0)];
    file.read_exact_at(&mut start, 0).or_io(|| format!("cannot read {shown}"))?;
    let file = Arc::new(file);
    if start.starts_with(&qcow2::MAGIC) {
        let reader = qcow2::Reader::new(file, length)
            .map_err(|failure| failure.context(shown.to_string()))?;
        return Image::over_qcow2(Arc::new(reader))
            .map_err(|failure| failure.context(shown.to_string()));
    }
    if !has_partition_table(&start) {
        return Err(no_disk_image(path, appearance(&start)));
    }
    Ok(Image { format: Format::Raw, disk: Disk::over_file(&file, length), reader: None })
}

impl Image {
    fn over_qcow2(reader: Arc<qcow2::Reader>) -> Result<Self> {
        let extents = reader.data_ranges()?.into_iter().map(|range| Extent {
            start: range.start,
            length: range.end - range.start,
            source: Source::Qcow2 { reader: Arc::clone(&reader), offset: range.start },
        });
        let disk = Disk::new(reader.size(), extents.collect())?;
        Ok(Self { format: Format::Qcow2, disk, reader: Some(reader) })
    }

    /// Its format.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The disk inside, for any writer to take.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Size of the disk in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.disk.size()
    }

    /// Fills `buffer` with the bytes at `offset` of the disk.
    ///
    /// # Errors
    /// When the range leaves the disk or the file is damaged there.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.disk.read_at(offset, buffer)
    }

    /// SHA-256 of the disk's bytes, zeros included: the same for every format of one disk.
    ///
    /// # Errors
    /// When the file is damaged or somebody asked to stop.
    pub fn payload_digest(&self, progress: &dyn Progress, cancel: &Cancel) -> Result<Sha256> {
        self.disk.digest(progress, cancel)
    }

    /// What is wrong with the container and the partition table; empty when both are sound.
    ///
    /// # Errors
    /// When the file cannot be read or somebody asked to stop.
    pub fn check(&self, cancel: &Cancel) -> Result<Vec<String>> {
        let mut problems = match &self.reader {
            Some(reader) => reader.check(cancel)?.problems,
            None => Vec::new(),
        };
        if problems.is_empty() {
            problems.extend(gpt::problems(&self.disk)?);
        }
        Ok(problems)
    }
}

/// Whether the start of a disk has the signature of an MBR (which a GPT has as well).
fn has_partition_table(start: &[u8]) -> bool {
    let boot_sector = le16(start, 510) == Some(0xAA55);
    // A FAT or NTFS volume has the same signature, and no partition entry with a known length.
    let entries = start.get(446..510).unwrap_or_default();
    let plausible = entries.chunks_exact(16).all(|entry| matches!(entry[0], 0 | 0x80));
    boot_sector && plausible && !is_zero(entries)
}

fn no_disk_image(path: &Path, found: &str) -> Failure {
    Failure::input(format!("{} is no disk image: it is {found}", path.display()))
        .with_help("give a qcow2 file, or a raw disk with a GPT or MBR partition table")
}

/// What a file that is no disk image looks like.
fn appearance(start: &[u8]) -> &'static str {
    let starts: [(&[u8], &str); 12] = [
        (b"\x1f\x8b", "gzip data; unpack it first"),
        (b"\x28\xb5\x2f\xfd", "zstd data; unpack it first"),
        (b"\xfd7zXZ\0", "xz data; unpack it first"),
        (b"BZh", "bzip2 data; unpack it first"),
        (b"PK\x03\x04", "a zip archive"),
        (b"KDMV", "a VMDK disk"),
        (b"# Disk DescriptorFile", "a VMDK descriptor"),
        (b"vhdxfile", "a VHDX disk"),
        (b"conectix", "a dynamic VHD disk"),
        (b"\x7fELF", "an ELF program"),
        (b"LUKS\xba\xbe", "a LUKS volume"),
        (b"hsqs", "a squashfs file system"),
    ];
    if start.is_empty() {
        return "empty";
    }
    if let Some((_, name)) = starts.iter().find(|(magic, _)| start.starts_with(magic)) {
        return name;
    }
    if bytes::<5>(start, 257) == Some(*b"ustar") {
        return "a tar archive";
    }
    if bytes::<5>(start, 32_769) == Some(*b"CD001") {
        return "an ISO 9660 image";
    }
    if le16(start, 1080) == Some(0xEF53) {
        return "an ext file system without partition table";
    }
    if is_zero(start) {
        return "zeros where a partition table should be";
    }
    let text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..);
    if start.iter().take(4096).all(text) { "text" } else { "data without partition table" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_disk_is_named() {
        for (content, name) in [
            (&b""[..], "empty"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"apiVersion: v1\n", "text"),
            (&[0; 4096], "zeros"),
            (b"\x01\x02\x03", "data"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("image");
            std::fs::write(&path, content).unwrap();
            let failure = open(&path).unwrap_err();
            assert!(failure.to_string().contains("is no disk image"), "{failure}");
            assert!(failure.to_string().contains(name), "{failure}");
        }
    }
}

//! Opening an image file, whoever wrote it: its format is told by its content.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use nodekiln_words::{Cancel, Class, Failure, Progress, Result, ResultExt, Sha256};

use crate::disk::{Disk, Extent, ReadAt, Source, is_zero};
use crate::fields::{bytes, le16};
use crate::{gpt, ova, qcow2, tar_gz, vhd, vmdk};

/// Bytes of a file's start that tell its format: enough for ISO 9660's descriptor at 32,768.
const PROBE: u64 = 40 << 10;
/// What gzip data start with (RFC 1952).
const GZIP: [u8; 2] = [0x1F, 0x8B];

/// Formats of image files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The bytes of the disk.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
    /// Microsoft's fixed disk.
    Vhd,
    /// VMware's sparse extent.
    Vmdk,
    /// An OVF package in one file, with a VMDK disk.
    Ova,
    /// Google Compute Engine's archive.
    TarGz,
}

impl Format {
    /// The name that people know it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Vmdk => "vmdk",
            Self::Ova => "ova",
            Self::TarGz => "tar.gz",
        }
    }
}

/// An open image file and the disk inside it.
#[derive(Clone, Debug)]
pub struct Image {
    format: Format,
    disk: Disk,
    inside: Inside,
}

/// What a format tells besides the disk.
#[derive(Clone, Debug)]
enum Inside {
    Nothing,
    /// The bytes of the disk that an archive was unpacked to.
    Unpacked(Arc<File>),
    Qcow2(Arc<qcow2::Reader>),
    Vmdk(Arc<vmdk::Reader>),
    Ova(ova::Contents, Arc<vmdk::Reader>),
}

/// How much of a file is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What tells where things are: fast, whatever the size.
    Tables,
    /// All bytes: clusters are decompressed, digests taken.
    Bytes,
}

/// Where and how a compressed archive is unpacked.
#[derive(Clone, Copy)]
pub struct Unpacking<'a> {
    /// Folder for a nameless file as large as the disk's data, which is gone when the image is closed.
    pub folder: &'a Path,
    /// Told how far it is.
    pub progress: &'a dyn Progress,
    /// Asked whether to stop.
    pub cancel: &'a Cancel,
}

/// Whether the file at `path` is compressed as a whole, so that [`open_with`] has to unpack it.
///
/// # Errors
/// When it cannot be read.
pub fn is_packed(path: &Path) -> Result<bool> {
    let shown = path.display();
    let file = File::open(path).or_io(|| format!("cannot open {shown}"))?;
    if file.metadata().or_io(|| format!("cannot look at {shown}"))?.is_dir() {
        return Ok(false);
    }
    let mut start = [0; GZIP.len()];
    match file.read_exact_at(&mut start, 0) {
        Ok(()) => Ok(start == GZIP),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error).or_io(|| format!("cannot read {shown}")),
    }
}

/// Opens the image file at `path`. An archive that has to be unpacked is refused.
///
/// # Errors
/// When it cannot be read, or holds no disk: none of the formats, nor a partition table at its start. The
/// message says what it looks like instead.
pub fn open(path: &Path) -> Result<Image> {
    open_with(path, None)
}

/// As [`open`]; a `.tar.gz` is unpacked as `unpacking` says.
///
/// # Errors
/// As [`open`], and when unpacking fails.
pub fn open_with(path: &Path, unpacking: Option<Unpacking<'_>>) -> Result<Image> {
    let shown = path.display();
    let file = File::open(path).or_io(|| format!("cannot open {shown}"))?;
    let kind = file.metadata().or_io(|| format!("cannot look at {shown}"))?;
    if kind.is_dir() {
        return Err(no_disk_image(path, "a folder"));
    }
    let length = kind.len();
    let read = |at: u64, length: u64| {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, at).or_io(|| format!("cannot read {shown}"))?;
        Ok::<_, Failure>(bytes)
    };
    let start = read(0, length.min(PROBE))?;
    let end = read(length.saturating_sub(vhd::FOOTER), length.min(vhd::FOOTER))?;
    let file = Arc::new(file);
    let opened = if start.starts_with(&qcow2::MAGIC) {
        Image::over_qcow2(file, length)
    } else if start.starts_with(vmdk::MAGIC) {
        Image::over_vmdk(file, 0..length)
    } else if end.starts_with(vhd::COOKIE) && !start.starts_with(vhd::COOKIE) {
        Image::over_vhd(&file, &end, length)
    } else if ova::looks_like(&start) {
        Image::over_ova(file)
    } else if let (true, Some(unpacking)) = (start.starts_with(&GZIP), unpacking) {
        return tar_gz::unpack(path, unpacking).map(|(file, disk)| Image {
            format: Format::TarGz,
            disk,
            inside: Inside::Unpacked(file),
        });
    } else if has_partition_table(&start) {
        let disk = Disk::over_file(&file, length);
        Ok(Image { format: Format::Raw, disk, inside: Inside::Nothing })
    } else {
        return Err(no_disk_image(path, appearance(&start)));
    };
    opened.map_err(|failure| failure.context(shown.to_string()))
}

impl Image {
    fn over_qcow2(file: Arc<File>, length: u64) -> Result<Self> {
        let reader = Arc::new(qcow2::Reader::new(file, length)?);
        let disk = inside(&reader, reader.size(), reader.data_ranges()?)?;
        Ok(Self { format: Format::Qcow2, disk, inside: Inside::Qcow2(reader) })
    }

    fn over_vmdk(file: Arc<File>, range: Range<u64>) -> Result<Self> {
        let reader = Arc::new(vmdk::Reader::new(file, range)?);
        let disk = inside(&reader, reader.size(), reader.data_ranges())?;
        Ok(Self { format: Format::Vmdk, disk, inside: Inside::Vmdk(reader) })
    }

    fn over_vhd(file: &Arc<File>, footer: &[u8], length: u64) -> Result<Self> {
        let footer = vhd::Footer::decode(footer, length)?;
        let disk = Disk::over_file(file, footer.size);
        Ok(Self { format: Format::Vhd, disk, inside: Inside::Nothing })
    }

    fn over_ova(file: Arc<File>) -> Result<Self> {
        let contents = ova::Contents::read(&file)?;
        let reader = Arc::new(vmdk::Reader::new(file, contents.extent.clone())?);
        let disk = inside(&reader, reader.size(), reader.data_ranges())?;
        Ok(Self { format: Format::Ova, disk, inside: Inside::Ova(contents, reader) })
    }

    /// The OVF package around the disk, where there is one.
    #[must_use]
    pub fn package(&self) -> Option<&ova::Contents> {
        match &self.inside {
            Inside::Ova(contents, _) => Some(contents),
            _ => None,
        }
    }

    /// The file that an archive was unpacked to: the bytes of the disk, open as long as the image is.
    #[must_use]
    pub fn unpacked(&self) -> Option<&File> {
        match &self.inside {
            Inside::Unpacked(file) => Some(file),
            _ => None,
        }
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

    /// What is wrong with the container and the partition table, as far as `depth` looks; empty when
    /// both are sound. That something could not be looked at is one of the problems.
    ///
    /// # Errors
    /// When somebody asked to stop.
    pub fn check(&self, depth: Depth, cancel: &Cancel) -> Result<Vec<String>> {
        let mut problems = self.container_problems(depth, cancel)?;
        if problems.is_empty() {
            problems.extend(told(gpt::problems(&self.disk))?);
        }
        Ok(problems)
    }

    /// What is wrong with the container alone, as far as `depth` looks.
    ///
    /// # Errors
    /// When somebody asked to stop.
    pub fn container_problems(&self, depth: Depth, cancel: &Cancel) -> Result<Vec<String>> {
        let size = self.size();
        Ok(match (&self.inside, depth) {
            (Inside::Qcow2(reader), _) if reader.header().backing_file.is_some() => {
                let name = reader.header().backing_file.as_deref().unwrap_or_default();
                vec![format!("it is an overlay: what it lacks is in another file, `{name}`")]
            }
            (Inside::Qcow2(reader), Depth::Bytes) => {
                told(reader.check(cancel).map(|report| report.problems))?
            }
            (Inside::Vmdk(reader), Depth::Bytes) => told(reader.problems(cancel))?,
            (Inside::Ova(contents, reader), _) => {
                let mut problems = told(contents.problems(depth, cancel))?;
                if depth == Depth::Bytes {
                    problems.extend(told(reader.problems(cancel))?);
                }
                problems
            }
            (Inside::Nothing, _) if self.format == Format::Vhd => vhd::problems(size),
            (Inside::Unpacked(_), _) => tar_gz::problems(size),
            (Inside::Qcow2(_) | Inside::Vmdk(_), Depth::Tables) | (Inside::Nothing, _) => {
                Vec::new()
            }
        })
    }
}

/// Problems, among which that they could not be looked for.
fn told(problems: Result<Vec<String>>) -> Result<Vec<String>> {
    match problems {
        Err(failure) if failure.class() == Class::Interrupted => Err(failure),
        Err(failure) => Ok(vec![failure.chain().join(": ")]),
        found => found,
    }
}

/// A disk of `size` bytes whose bytes in `ranges` come from `reader`.
fn inside<R: ReadAt + 'static>(
    reader: &Arc<R>,
    size: u64,
    ranges: Vec<Range<u64>>,
) -> Result<Disk> {
    let extent = |range: Range<u64>| {
        let reader: Arc<dyn ReadAt> = Arc::<R>::clone(reader);
        let source = Source::Inside { reader, offset: range.start };
        Extent { start: range.start, length: range.end - range.start, source }
    };
    Disk::new(size, ranges.into_iter().map(extent).collect())
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
        .with_help("give a qcow2, VHD, VMDK or OVA file, a `.tar.gz` with a `disk.raw`, or a raw disk with a GPT or MBR partition table")
}

/// What a file that is no disk image looks like.
fn appearance(start: &[u8]) -> &'static str {
    let starts: [(&[u8], &str); 11] = [
        (&GZIP, "gzip data; unpack it first"),
        (b"\x28\xb5\x2f\xfd", "zstd data; unpack it first"),
        (b"\xfd7zXZ\0", "xz data; unpack it first"),
        (b"BZh", "bzip2 data; unpack it first"),
        (b"PK\x03\x04", "a zip archive"),
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

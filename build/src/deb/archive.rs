//! A `.deb` file opened: its control files and its file tree as a stream.
//!
//! Format: deb(5), version 2.x: an `ar` container of `debian-binary`, `control.tar` and `data.tar`,
//! the latter two plain or compressed with gzip, xz or zstd.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Take};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err::File;
use nodekiln_words::{Class, Failure, Result, ResultExt};

use super::ar::{self, Malformed, Member};
use super::control::Control;

/// Bytes read from the file at a time.
const READ_BUFFER: usize = 128 << 10;
/// Bytes that all control files of a package may have; the largest in Debian have about 1 MiB.
const LARGEST_CONTROL: u64 = 64 << 20;

/// An opened `.deb`.
#[derive(Clone, Debug)]
pub struct Deb {
    label: String,
    path: PathBuf,
    control: Part,
    data: Part,
    /// The file tree decompressed already.
    decompressed: Option<Decompressed>,
}

/// A tar stream in a file that several readers may read at the same time.
#[derive(Clone, Debug)]
struct Decompressed {
    file: Arc<std::fs::File>,
    /// Bytes read, and bytes there are.
    at: u64,
    length: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    start: u64,
    size: u64,
    compression: Compression,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
}

/// The bytes of a package's `data.tar` or `control.tar`.
pub(crate) type TarBytes = Box<dyn Read + Send>;

impl Deb {
    /// Opens the file at `path`, which messages call `label`, and finds its parts.
    ///
    /// # Errors
    /// Names the label and the offset where the container is malformed, truncated, of another format
    /// version, or compressed in a way that deb(5) no longer knows.
    pub fn open(path: &Path, label: &str) -> Result<Self> {
        let mut file = open(path, label)?;
        let length = file.metadata().or_io(|| format!("package {label}: no length"))?.len();
        let malformed = |error: Malformed| {
            Failure::io(format!("package {label} is damaged")).with_source(error)
        };
        let members = ar::members(&mut file, length).map_err(malformed)?;
        let (version, rest) = members
            .split_first()
            .filter(|(first, _)| first.name == "debian-binary")
            .ok_or_else(|| malformed(Malformed::new(0, "no member `debian-binary`")))?;
        check_version(&mut file, version, label)?;
        // deb(5): members whose names begin with an underscore may stand anywhere and are skipped.
        let mut parts = rest.iter().filter(|member| !member.name.starts_with('_'));
        let mut part = |stem: &str| match parts.next() {
            Some(member) => Part::of(member, stem, label),
            None => Err(malformed(Malformed::new(length, format!("no member `{stem}`")))),
        };
        let (control, data) = (part("control.tar")?, part("data.tar")?);
        Ok(Self {
            label: label.to_owned(),
            path: path.to_owned(),
            control,
            data,
            decompressed: None,
        })
    }

    /// What messages call this package.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Size of the compressed file tree in bytes.
    #[must_use]
    pub fn data_size(&self) -> u64 {
        self.data.size
    }

    /// The control files.
    ///
    /// # Errors
    /// Where the control archive is damaged, has folders, or its `control` has no valid fields.
    pub fn control(&self) -> Result<Control> {
        let bytes = self.bytes(self.control)?.take(LARGEST_CONTROL);
        Control::read(bytes, &self.label)
    }

    /// The bytes of the file tree, an uncompressed tar stream.
    pub(crate) fn data(&self) -> Result<TarBytes> {
        match &self.decompressed {
            Some(bytes) => Ok(Box::new(BufReader::with_capacity(READ_BUFFER, bytes.clone()))),
            None => self.bytes(self.data),
        }
    }

    /// From now on the file tree's bytes are those of `file`, which [`Deb::data`] gave: `length` bytes.
    pub(crate) fn read_data_from(&mut self, file: Arc<std::fs::File>, length: u64) {
        self.decompressed = Some(Decompressed { file, at: 0, length });
    }

    fn bytes(&self, part: Part) -> Result<TarBytes> {
        let mut file = open(&self.path, &self.label)?;
        file.seek(SeekFrom::Start(part.start))
            .or_io(|| format!("package {}: no offset {}", self.label, part.start))?;
        let raw = BufReader::with_capacity(READ_BUFFER, file.take(part.size));
        decoder(raw, part.compression).or_io(|| format!("package {}: no decoder", self.label))
    }
}

impl Read for Decompressed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        if read == 0 && self.at < self.length && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read as u64;
        Ok(read)
    }
}

impl Part {
    fn of(member: &Member, stem: &str, label: &str) -> Result<Self> {
        let compression = match member.name.strip_prefix(stem) {
            Some("") => Compression::None,
            Some(".gz") => Compression::Gzip,
            Some(".xz") => Compression::Xz,
            Some(".zst") => Compression::Zstd,
            Some(".bz2" | ".lzma") => {
                let message =
                    format!("package {label}: `{}` is an abandoned compression", member.name);
                return Err(Failure::new(Class::Unsupported, message).with_help(
                    "rebuild the package with a current dpkg-deb, which compresses with xz or zstd",
                ));
            }
            _ => {
                let found = format!("member `{}` where `{stem}` should be", member.name);
                let malformed = Malformed::new(member.start, found);
                return Err(
                    Failure::io(format!("package {label} is damaged")).with_source(malformed)
                );
            }
        };
        Ok(Self { start: member.start, size: member.size, compression })
    }
}

fn open(path: &Path, label: &str) -> Result<File> {
    File::open(path).or_io(|| format!("package {label} cannot be opened"))
}

/// Any 2.x: a minor version adds members that old readers skip.
fn check_version(file: &mut File, member: &Member, label: &str) -> Result<()> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(member.start))
        .and_then(|_| file.by_ref().take(member.size.min(64)).read_to_string(&mut text))
        .or_io(|| format!("package {label}: format version cannot be read"))?;
    if text.starts_with("2.") && text.ends_with('\n') {
        return Ok(());
    }
    let message = format!("package {label} has format version {:?}, not 2.x", text.trim_end());
    Err(Failure::new(Class::Unsupported, message))
}

fn decoder(raw: BufReader<Take<File>>, compression: Compression) -> io::Result<TarBytes> {
    Ok(match compression {
        Compression::None => Box::new(raw),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
        Compression::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(raw)),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(raw)?;
            // What dpkg-deb -Zzstd may use at its highest level: windows of 128 MiB.
            decoder.window_log_max(27)?;
            Box::new(decoder)
        }
    })
}

/// Reads what follows a tar archive's last entry, so that the compressed stream's checksum is
/// verified. Only padding may stand there.
pub(crate) fn drain(bytes: impl Read) -> io::Result<()> {
    let mut bytes = BufReader::with_capacity(READ_BUFFER, bytes);
    loop {
        let block = bytes.fill_buf()?;
        if block.is_empty() {
            return Ok(());
        }
        if block.iter().any(|byte| *byte != 0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "data after the end of the tar archive",
            ));
        }
        let length = block.len();
        bytes.consume(length);
    }
}

//! A file's content as a stream.

use std::io::{self, Read, Seek, SeekFrom};

use nodekiln_words::Result;

use crate::{ext4, xfs};

use super::fat::{Fat, Stream};
use super::tree::Found;

/// The content of a file of any size, read piece by piece: give it large buffers, it keeps none but for FAT.
/// Holes are zeros that nobody reads. Errors of the file system are those of `std::io`, of the kind
/// [`io::ErrorKind::Other`] around a [`nodekiln_words::Failure`].
pub struct FileReader<'a> {
    source: Source<'a>,
    size: u64,
    at: u64,
}

enum Source<'a> {
    Ext(&'a ext4::Volume, ext4::Body),
    Xfs(&'a xfs::Volume, xfs::Body),
    Fat(Stream<'a>),
}

impl<'a> FileReader<'a> {
    pub(super) fn ext(volume: &'a ext4::Volume, found: Found<ext4::Body>) -> Self {
        Self { source: Source::Ext(volume, found.body), size: found.size, at: 0 }
    }

    pub(super) fn xfs(volume: &'a xfs::Volume, found: Found<xfs::Body>) -> Self {
        Self { source: Source::Xfs(volume, found.body), size: found.size, at: 0 }
    }

    pub(super) fn fat(fat: &'a Fat, path: &str, size: u64) -> Self {
        Self { source: Source::Fat(Stream::new(fat, path)), size, at: 0 }
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` with the bytes from where it is, which the file has; it stays there.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        match &mut self.source {
            _ if buffer.is_empty() => Ok(()),
            Source::Ext(volume, body) => volume.read_body(body, self.at, buffer),
            Source::Xfs(volume, body) => volume.read_body(body, self.at, buffer),
            Source::Fat(stream) => stream.read_at(self.at, buffer, self.size),
        }
    }
}

impl Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        self.fill(&mut buffer[..length]).map_err(io::Error::other)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for FileReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

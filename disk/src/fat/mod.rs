//! FAT32 volumes made in memory (Microsoft FAT specification 1.03), with nothing in them that varies.
//!
//! Files lie one after the other in the order given, each in one run of clusters; directories are
//! made as paths need them; every time stamp is the source date. `fatfs`, which reads volumes back,
//! is not used to write them: it gives `.` and `..` long names, which fsck.fat calls damage.

mod names;
mod stamp;
mod write;

use std::io::{Cursor, Read};

use fatfs::{FileSystem, FsOptions};
use nodekiln_words::{Class, Failure, Result, ResultExt, SourceDate};

pub use write::build;

/// Deepest nesting of directories that is read; a damaged volume may hold a loop.
const MAX_DEPTH: usize = 16;
/// Entries that are read; a damaged volume may hold the same directory many times.
const MAX_ENTRIES: usize = 10_000;

/// A volume to make.
#[derive(Clone, Copy, Debug)]
pub struct Volume<'a> {
    /// Path (names with `/` between them) and content of each file, in the order in which they lie.
    pub files: &'a [(String, Vec<u8>)],
    /// Size in bytes: a multiple of 512 between 33 MiB and 1 GiB.
    pub size: u64,
    /// Serial of the volume.
    pub serial: u32,
    /// Label: at most 11 upper-case letters, digits or spaces.
    pub label: &'a str,
    /// Every time stamp, in UTC.
    pub source_date: SourceDate,
}

/// Reads the files of a FAT volume: path and content, sorted by path.
///
/// # Errors
/// When `volume` holds no sound FAT file system.
pub fn files(volume: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let length = volume.len() as u64;
    let options = FsOptions::new().update_accessed_date(false);
    let volume = FileSystem::new(Cursor::new(volume.to_vec()), options)
        .or_fail(Class::Input, || "no FAT file system".to_owned())?;
    let mut found = Vec::new();
    let mut left = MAX_ENTRIES;
    let mut waiting = vec![(String::new(), volume.root_dir())];
    while let Some((parent, directory)) = waiting.pop() {
        for entry in directory.iter() {
            let entry = entry.or_io(|| format!("cannot read the FAT directory `{parent}/`"))?;
            let name = entry.file_name();
            if matches!(name.as_str(), "." | "..") {
                continue;
            }
            let path = if parent.is_empty() { name } else { format!("{parent}/{name}") };
            left = left.saturating_sub(1);
            if left == 0 || path.matches('/').count() > MAX_DEPTH {
                return Err(Failure::input(format!("FAT directories loop at `{path}`")));
            }
            if entry.is_dir() {
                waiting.push((path, entry.to_dir()));
                continue;
            }
            let mut content = Vec::new();
            let read = entry.to_file().take(length).read_to_end(&mut content);
            read.or_io(|| format!("cannot read `{path}` in the FAT volume"))?;
            found.push((path, content));
        }
    }
    found.sort();
    Ok(found)
}

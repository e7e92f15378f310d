//! How much the store holds, by kind.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nodekiln_words::{Bytes, Result, ResultExt};
use rayon::prelude::*;
use serde::Serialize;

use super::{Store, clusters};

/// A number of things and the disk space that they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// How many.
    pub number: u64,
    /// Space on the disk, holes not counted.
    pub size: Bytes,
}

/// What the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Fetched files.
    pub blobs: Count,
    /// Results of nodes.
    pub nodes: Count,
    /// Work under way.
    pub scratch: Count,
    /// Files fetched in part.
    pub partial: Count,
    /// What can be lost and made again.
    pub index: Count,
    /// What was found damaged and moved aside.
    pub damaged: Count,
    /// Working folders of failed nodes that somebody asked to keep.
    pub failed: Count,
}

impl Store {
    /// Counts what the store holds.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        let partial = self.scratch_root().join("partial");
        let mut scratch = count(&self.scratch_root(), 0, space)?;
        let partial = count(&partial, 0, space)?;
        // The folder for parts stands in the scratch folder and is counted for itself.
        scratch.number = scratch.number.saturating_sub(1);
        scratch.size.0 = scratch.size.0.saturating_sub(partial.size.0);
        Ok(Stats {
            blobs: count(&self.blobs(), 1, space)?,
            nodes: count(&self.root().join("nodes"), 0, space)?,
            scratch,
            partial,
            index: count(&self.root().join("index"), 1, clusters::space_in_index)?,
            damaged: count(&self.root().join("damaged"), 0, space)?,
            failed: count(&self.failed_root(), 0, space)?,
        })
    }
}

/// Counts the entries `depth` folders below `folder` and all the space that they take.
fn count(folder: &Path, depth: usize, space: fn(&Path) -> u64) -> Result<Count> {
    let mut folders = vec![folder.to_owned()];
    for _ in 0..depth {
        folders = entries_of(&folders)?;
    }
    let entries = entries_of(&folders)?;
    let size = entries.par_iter().map(|path| space(path)).sum();
    Ok(Count { number: entries.len() as u64, size: Bytes(size) })
}

pub(super) fn entries_of(folders: &[std::path::PathBuf]) -> Result<Vec<std::path::PathBuf>> {
    let mut paths = Vec::new();
    for folder in folders {
        for entry in fs_err::read_dir(folder).or_io(|| "the store".into())? {
            paths.push(entry.or_io(|| "the store".into())?.path());
        }
    }
    Ok(paths)
}

/// Disk space of a tree in bytes. What goes away or cannot be read meanwhile counts nothing.
pub(super) fn space(path: &Path) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else {
        return 0;
    };
    // st_blocks counts 512 bytes each, whatever the file system's own block size (stat(2)).
    let own = metadata.blocks() * 512;
    if !metadata.is_dir() {
        return own;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    own + entries.map(|entry| space(&entry.path())).sum::<u64>()
}

//! Scratch: folders and files under way, each with a lock that shows whether its maker lives.
//!
//! A folder `NAME` stands beside a locked file `NAME.lock`, so that the folder itself can be renamed
//! into place; a single file `NAME.blob` carries the lock itself. Whoever opens the store removes
//! what nobody holds any more.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nodekiln_words::Result;

use super::{FileLock, Store, remove_tree};

/// A folder under way, on the same file system as the nodes. Dropping it removes it.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    _lock: FileLock,
}

impl ScratchDir {
    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // What cannot be removed now is tried again by whoever opens the store next.
        drop(remove_tree(&self.path));
    }
}

/// A file under way. Dropping it removes it, unless it was renamed.
#[derive(Debug)]
pub(super) struct TempFile(FileLock);

impl TempFile {
    /// An empty file in the folder `scratch`.
    pub(super) fn new(scratch: &Path) -> io::Result<Self> {
        let name = |number| format!("file-{}-{number}.blob", std::process::id());
        FileLock::exclusive_new(|number| scratch.join(name(number))).map(Self)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn file(&self) -> &File {
        self.0.file()
    }
}

impl Store {
    /// Makes an empty scratch folder; `label` tells people what it is for.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch_dir(&self, label: &str) -> Result<ScratchDir> {
        let label: String = label
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(60)
            .collect();
        let lock_path = |number| {
            self.scratch_root().join(format!("{label}-{}-{number}.lock", std::process::id()))
        };
        let make = || {
            let lock = FileLock::exclusive_new(lock_path)?;
            let path = lock.path().with_extension("");
            fs_err::create_dir(&path).map(|()| ScratchDir { path, _lock: lock })
        };
        make().map_err(|error| self.failed("make a scratch folder", error))
    }

    /// Removes scratch and session files whose makers are gone. What cannot be removed is told and
    /// left: it takes space and nothing else.
    pub(super) fn remove_leftovers(&self) {
        let sessions = self.remove_dead_sessions();
        let scratch = self.remove_dead_scratch();
        if let Err(error) = sessions.and(scratch) {
            self.warn(format!("leftovers in {} remain: {error}", self.scratch_root().display()));
        }
    }

    fn remove_dead_sessions(&self) -> io::Result<()> {
        for entry in fs_err::read_dir(self.root().join("locks"))? {
            let path = entry?.path();
            if file_name(&path).starts_with("session-")
                && let Some(mut dead) = FileLock::try_exclusive(&path)?
            {
                dead.remove_when_done();
            }
        }
        Ok(())
    }

    fn remove_dead_scratch(&self) -> io::Result<()> {
        let mut first_error = Ok(());
        for entry in fs_err::read_dir(self.scratch_root())? {
            let path = entry?.path();
            let name = file_name(&path);
            let lock = if name == "partial" {
                continue;
            } else if name.ends_with(".lock") || name.ends_with(".blob") {
                path.clone()
            } else {
                path.with_file_name(format!("{name}.lock"))
            };
            first_error = first_error.and(remove_if_dead(&lock));
        }
        first_error
    }
}

/// Removes what `lock` stands for, and the lock's file, if nobody holds it.
fn remove_if_dead(lock: &Path) -> io::Result<()> {
    let Some(mut dead) = FileLock::try_exclusive(lock)? else {
        return Ok(());
    };
    if let Some(name) = file_name(lock).strip_suffix(".lock") {
        remove_tree(&lock.with_file_name(name))?;
    }
    dead.remove_when_done();
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_goes_away_and_leftovers_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let scratch = store.scratch_dir("a label/with slash").unwrap();
        let path = scratch.path().to_owned();
        fs_err::write(path.join("file"), "x").unwrap();
        let orphan = folder.path().join("scratch/orphan-1-1");
        fs_err::create_dir(&orphan).unwrap();
        fs_err::write(folder.path().join("scratch/lost-1-2.blob"), "x").unwrap();
        let second = Store::open(folder.path()).unwrap();
        assert!(path.join("file").exists(), "a live process keeps its scratch");
        assert!(!orphan.exists(), "an orphan is removed");
        drop(scratch);
        drop(second);
        let left: Vec<_> = fs_err::read_dir(folder.path().join("scratch")).unwrap().collect();
        assert_eq!(left.len(), 1, "only the folder for partial downloads: {left:?}");
    }
}

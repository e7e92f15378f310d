//! Lock files: `flock(2)` on a file of its own, let go by the kernel when the process ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nodekiln_words::{Cancel, Result};

use super::next_number;

/// How often a lock that another process holds is tried again.
const POLL: Duration = Duration::from_millis(50);

/// A lock that is held. Dropping it lets go; the file stays unless it was taken with
/// [`FileLock::exclusive_new`].
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
    remove: bool,
}

impl FileLock {
    /// Takes the exclusive lock at `path` if nobody holds it.
    ///
    /// # Errors
    /// When the file cannot be opened or locked for another reason than a holder.
    pub fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if stands_at(&file, path)? {
                return Ok(Some(Self { file, path: path.to_owned(), remove: false }));
            }
        }
    }

    /// Takes the exclusive lock at `path`, waiting as long as it takes; `waiting` is called once if
    /// somebody else holds it.
    ///
    /// # Errors
    /// When asked to stop, or when the file cannot be opened or locked; the error of the operating
    /// system is passed to `failed`.
    pub fn exclusive(
        path: &Path,
        cancel: &Cancel,
        waiting: impl FnOnce(),
        failed: impl Fn(io::Error) -> nodekiln_words::Failure,
    ) -> Result<Self> {
        let mut waiting = Some(waiting);
        loop {
            cancel.check()?;
            if let Some(lock) = Self::try_exclusive(path).map_err(&failed)? {
                return Ok(lock);
            }
            if let Some(waiting) = waiting.take() {
                waiting();
            }
            std::thread::sleep(POLL);
        }
    }

    /// Takes a lock file that goes away with the lock, at the first of the paths that `path` gives for
    /// a new number where nobody holds one: a process of the same id in another pid namespace may, and
    /// so may somebody who looks for what dead processes left.
    pub(super) fn exclusive_new(path: impl Fn(u64) -> PathBuf) -> io::Result<Self> {
        loop {
            if let Some(mut lock) = Self::try_exclusive(&path(next_number()))? {
                lock.remove = true;
                return Ok(lock);
            }
        }
    }

    /// Waits for a short critical section: exclusive for `true`, else shared. The file is never
    /// removed.
    pub(super) fn gate(path: &Path, exclusive: bool) -> io::Result<Self> {
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        if exclusive {
            file.lock()?;
        } else {
            file.lock_shared()?;
        }
        Ok(Self { file, path: path.to_owned(), remove: false })
    }

    /// The file that is locked.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Where it stands, or stood before it was renamed.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Has the lock's file removed when the lock is let go.
    pub(crate) fn remove_when_done(&mut self) {
        self.remove = true;
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if self.remove {
            // Still locked: whoever waits for it finds another file, or none, at the path.
            drop(std::fs::remove_file(&self.path));
        }
        drop(self.file.unlock());
    }
}

/// Whether `path` still names the file that was opened: its holder may have removed it meanwhile.
fn stands_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok(open.dev() == named.dev() && open.ino() == named.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_waits_until_the_first_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = FileLock::try_exclusive(&path).unwrap().unwrap();
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        drop(first);
        assert!(FileLock::try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn waiting_ends_when_asked_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let _first = FileLock::try_exclusive(&path).unwrap().unwrap();
        let cancel = Cancel::default();
        let stop = cancel.clone();
        let outcome = FileLock::exclusive(
            &path,
            &cancel,
            || stop.cancel(),
            |error| nodekiln_words::Failure::io("lock").with_source(error),
        );
        assert_eq!(outcome.unwrap_err().class(), nodekiln_words::Class::Interrupted);
    }

    #[test]
    fn a_temporary_lock_file_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        drop(FileLock::exclusive_new(|_| path.clone()).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_temporary_lock_file_that_somebody_holds_is_passed_by() {
        let folder = tempfile::tempdir().unwrap();
        let first = std::cell::Cell::new(None::<u64>);
        let path = |number: u64| {
            first.set(first.get().or(Some(number)));
            folder.path().join((number - first.get().unwrap()).to_string())
        };
        let _held = FileLock::try_exclusive(&folder.path().join("0")).unwrap().unwrap();
        let lock = FileLock::exclusive_new(path).unwrap();
        assert_ne!(lock.path(), folder.path().join("0"));
    }
}

//! The folders in which plugins work: locked as long as somebody uses them, swept away by a later run where
//! nobody could clean up.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nodekiln_words::{Result, ResultExt as _};
use rustix::fs::{Mode, OFlags};

/// What they are called by; [`LETTERS`] random letters and digits follow.
pub(crate) const PREFIX: &str = ".nodekiln-plugin-";
/// How many of them there are.
const LETTERS: usize = 6;

/// A folder for a while: removed when dropped.
///
/// It is locked as long as this process lives. The lock ends with a process that is killed, by which its folder
/// is told from one that is in use.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    folder: tempfile::TempDir,
    _lock: Option<File>,
}

impl WorkFolder {
    /// Makes one in the folder `parent`, after those there that nobody uses any more are removed.
    ///
    /// # Errors
    /// When `parent` cannot be written to.
    pub(crate) fn within(parent: &Path) -> Result<Self> {
        sweep(parent);
        let cannot = || format!("cannot make a folder in {}", parent.display());
        loop {
            let mut named = tempfile::Builder::new();
            let named = named.prefix(PREFIX).rand_bytes(LETTERS);
            let folder = named.tempdir_in(parent).or_io(cannot)?;
            // Where there are no locks, nobody sweeps either.
            let lock = open(folder.path()).and_then(|open| open.lock().map(|()| open)).ok();
            // Somebody who swept between making and locking took it for abandoned.
            if folder.path().exists() {
                return Ok(Self { folder, _lock: lock });
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Opens a folder, and nothing that a link leads to.
fn open(folder: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(folder, flags, Mode::empty())?))
}

/// Removes the folders in `parent` that plugins' runs of this user left when they were killed. What cannot be
/// removed is left: it is in nobody's way.
fn sweep(parent: &Path) {
    for entry in parent.read_dir().into_iter().flatten().flatten() {
        if !entry.file_name().to_str().is_some_and(is_ours) {
            continue;
        }
        let Ok(folder) = open(&entry.path()) else { continue };
        // Other users' folders, in a place for all, are theirs.
        let own = folder.metadata().is_ok_and(|m| m.uid() == rustix::process::geteuid().as_raw());
        // The lock is held until it is gone.
        if own && folder.try_lock().is_ok() {
            let _ = fs_err::remove_dir_all(entry.path());
        }
    }
}

/// Whether a file of this name can be none but a plugin's folder.
fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|letters| {
        letters.len() == LETTERS && letters.chars().all(|c| c.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_and_locked_until_it_is_dropped() {
        let parent = tempfile::tempdir().unwrap();
        let work = WorkFolder::within(parent.path()).unwrap();
        let path = work.path().to_owned();
        assert!(is_ours(path.file_name().unwrap().to_str().unwrap()), "{}", path.display());
        fs_err::write(path.join("file"), "").unwrap();
        assert!(open(&path).unwrap().try_lock().is_err());
        let other = WorkFolder::within(parent.path()).unwrap();
        assert!(path.join("file").exists(), "it was in use");
        drop(other);
        drop(work);
        assert_eq!(parent.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn what_killed_runs_left_is_swept_away_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let place = |name: &str| parent.path().join(name);
        let dead = place(".nodekiln-plugin-Ab0Zz9");
        fs_err::create_dir_all(dead.join("out/deep")).unwrap();
        fs_err::write(dead.join("out/deep/file"), "").unwrap();
        let others = [
            ".nodekiln-plugin-short",
            ".nodekiln-plugin-longer7",
            ".nodekiln-plugin-Ab0-z9",
            ".nodekiln-plugin-",
            ".nodekiln-build-Ab0Zz9",
            "nodekiln-plugin-Ab0Zz9",
        ];
        for name in others {
            fs_err::create_dir(place(name)).unwrap();
        }
        fs_err::write(place(".nodekiln-plugin-file00"), "").unwrap();
        fs_err::create_dir(place("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", place(".nodekiln-plugin-link00")).unwrap();
        let foreign = place(".nodekiln-plugin-other0");
        if rustix::process::geteuid().is_root() {
            fs_err::create_dir(&foreign).unwrap();
            std::os::unix::fs::chown(&foreign, Some(65534), None).unwrap();
        }
        drop(WorkFolder::within(parent.path()).unwrap());
        assert!(!dead.exists());
        assert_eq!(foreign.exists(), rustix::process::geteuid().is_root(), "it is somebody else's");
        let more = [".nodekiln-plugin-file00", ".nodekiln-plugin-link00", "elsewhere"];
        for name in others.into_iter().chain(more) {
            assert!(place(name).symlink_metadata().is_ok(), "{name} is none of ours");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_told() {
        let failure = WorkFolder::within(Path::new("/no/such/folder")).unwrap_err();
        assert_eq!(failure.to_string(), "cannot make a folder in /no/such/folder");
    }
}

//! Removing a file tree that may hold anything: links out of it, read-only folders, mounts.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Removes the tree at `path`; nothing there is no error.
///
/// Symbolic links are removed, never followed. Another file system mounted inside is neither
/// entered nor unmounted: it is left with the folders above it, and the error says so.
///
/// # Errors
/// When something cannot be removed. Everything else is gone then.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let parent = match rustix::fs::open(parent, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        parent => parent?,
    };
    let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(name))?;
    remove_entry(parent.as_fd(), &name, FileType::Unknown)
}

fn remove_entry(parent: impl AsFd + Copy, name: &CStr, kind: FileType) -> io::Result<()> {
    if !matches!(kind, FileType::Directory | FileType::Unknown) {
        return gone(rustix::fs::unlinkat(parent, name, AtFlags::empty()));
    }
    match open_folder(parent, name) {
        Ok(folder) => {
            remove_content(&folder)?;
            gone(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR))
        }
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            gone(rustix::fs::unlinkat(parent, name, AtFlags::empty()))
        }
        Err(Errno::XDEV) => {
            Err(io::Error::other(format!("something is mounted at `{}`", name.to_string_lossy())))
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder to be emptied, without following a link or crossing into a mount.
fn open_folder(parent: impl AsFd + Copy, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve) {
        Err(Errno::ACCESS) => {
            // A folder that its owner may not read; opened as a path first so that the mode of
            // nothing but this very folder is changed.
            let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = rustix::fs::openat2(parent, name, path, Mode::empty(), resolve)?;
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&folder));
            rustix::fs::chmodat(CWD, link, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)
        }
        opened => opened,
    }
}

fn remove_content(folder: &OwnedFd) -> io::Result<()> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            entries.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    let mut first_error = Ok(());
    let mut made_writable = false;
    for (name, kind) in entries {
        let mut removed = remove_entry(folder.as_fd(), &name, kind);
        if is_denied(&removed) && !made_writable {
            made_writable = true;
            rustix::fs::fchmod(folder, Mode::RWXU)?;
            removed = remove_entry(folder.as_fd(), &name, kind);
        }
        first_error = first_error.and(removed);
    }
    first_error
}

fn is_denied(outcome: &io::Result<()>) -> bool {
    matches!(outcome, Err(error) if error.kind() == io::ErrorKind::PermissionDenied)
}

fn gone(outcome: rustix::io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(Errno::NOENT) => Ok(()),
        outcome => Ok(outcome?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn links_out_of_the_tree_are_removed_and_their_targets_stay() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs_err::create_dir(&outside).unwrap();
        fs_err::write(outside.join("kept"), "kept").unwrap();
        let tree = folder.path().join("tree");
        fs_err::create_dir_all(tree.join("a/b")).unwrap();
        symlink(&outside, tree.join("a/folder")).unwrap();
        symlink(outside.join("kept"), tree.join("a/b/file")).unwrap();
        let closed = tree.join("closed");
        fs_err::create_dir(&closed).unwrap();
        fs_err::write(closed.join("file"), "x").unwrap();
        fs_err::set_permissions(&closed, std::fs::Permissions::from_mode(0o500)).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs_err::read_to_string(outside.join("kept")).unwrap(), "kept");
    }

    #[test]
    fn a_link_in_the_place_of_the_tree_is_removed_alone() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs_err::create_dir(&outside).unwrap();
        fs_err::write(outside.join("kept"), "kept").unwrap();
        symlink(&outside, folder.path().join("tree")).unwrap();
        remove_tree(&folder.path().join("tree")).unwrap();
        assert!(outside.join("kept").exists());
        assert!(!folder.path().join("tree").is_symlink());
    }

    #[test]
    fn what_is_not_there_needs_no_removing() {
        let folder = tempfile::tempdir().unwrap();
        remove_tree(&folder.path().join("nothing")).unwrap();
        remove_tree(&folder.path().join("nothing/below")).unwrap();
    }
}

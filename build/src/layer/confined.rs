//! File operations that cannot leave a folder.
//!
//! Every path is looked up by `openat2(2)` with `RESOLVE_IN_ROOT`, so that an absolute link or `..`
//! inside a tree means what it will mean once the tree is a machine's root, and nothing in a tree
//! can point the builder at a file of this machine. Magic links of `/proc` are refused.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps,
};

/// Times that another process may rename a directory under a lookup before it is given up.
/// `openat2(2)` answers `EAGAIN` when it cannot tell whether `..` stayed inside.
const LOOKUP_ATTEMPTS: usize = 16;

/// A folder taken as root: paths are absolute within it and never lead out of it.
#[derive(Debug)]
pub struct Confined {
    root: OwnedFd,
}

/// A directory within the folder and a name in it, which is not followed when it is a link.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) directory: OwnedFd,
    pub(crate) name: OsString,
}

impl Confined {
    /// Takes `folder` as root.
    ///
    /// # Errors
    /// When it cannot be opened as a directory.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::openat(CWD, folder, flags, Mode::empty())? })
    }

    /// The root itself, opened with `O_PATH`.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens what stands at `path`; links are followed within the folder.
    ///
    /// # Errors
    /// Those of `openat2(2)`.
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
        let path = path.as_ref();
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        for _ in 1..LOOKUP_ATTEMPTS {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Err(rustix::io::Errno::AGAIN) => {}
                answer => return Ok(answer?),
            }
        }
        Ok(rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)?)
    }

    /// Opens the directory at `path` for lookups beneath it.
    pub(crate) fn directory(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// The directory that holds `path`, and the last name, which is not followed.
    pub(crate) fn place(&self, path: &Path) -> io::Result<Place> {
        let (parent, name) = split(path)?;
        Ok(Place { directory: self.directory(parent)?, name: name.to_owned() })
    }

    /// Metadata of what stands at `path`; a link is described, not followed.
    ///
    /// # Errors
    /// Those of the lookup, `NotFound` among them.
    pub fn stat(&self, path: impl AsRef<Path>) -> io::Result<Stat> {
        let file = self.open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        Ok(rustix::fs::fstat(file)?)
    }

    /// Metadata of what `path` leads to, through links within the folder.
    ///
    /// # Errors
    /// Those of the lookup.
    pub fn stat_followed(&self, path: impl AsRef<Path>) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(self.open(path, OFlags::PATH)?)?)
    }

    /// Opens the regular file that `path` leads to; `None` where there is no regular file.
    ///
    /// Nothing else is opened, not even to look at it: a device node of the tree would be a device
    /// of this machine, which some drivers act upon when they are opened.
    ///
    /// # Errors
    /// Those of the lookup, apart from "there is none".
    pub fn open_file(&self, path: impl AsRef<Path>) -> io::Result<Option<File>> {
        // A place in the tree, not yet what stands there (open(2), O_PATH).
        let place = match self.open(path, OFlags::PATH) {
            Ok(place) => place,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if kind(&rustix::fs::fstat(&place)?) != FileType::RegularFile {
            return Ok(None);
        }
        // Leads to the very file that was looked at, whatever its name stands for by now.
        File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).map(Some)
    }

    /// The bytes of the regular file that `path` leads to; `None` where there is none.
    ///
    /// # Errors
    /// Those of the lookup and of reading.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open_file(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The target of the link at `path`; `None` where no link stands.
    ///
    /// # Errors
    /// Those of the lookup.
    pub fn read_link(&self, path: impl AsRef<Path>) -> io::Result<Option<OsString>> {
        let place = match self.place(path.as_ref()) {
            Ok(place) => place,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        match rustix::fs::readlinkat(&place.directory, &place.name, Vec::new()) {
            Ok(target) => Ok(Some(OsStr::from_bytes(target.as_bytes()).to_owned())),
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in the directory that `path` leads to, sorted bytewise; empty where there is none.
    ///
    /// # Errors
    /// Those of the lookup and of reading.
    pub fn list(&self, path: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
        let directory = match self.open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(directory) => directory,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        names(directory)
    }

    /// Makes the directory `path` and those above it that are missing, each 0755 and root's.
    ///
    /// # Errors
    /// Where something else than a directory is in the way.
    pub fn make_directories(&self, path: &Path) -> io::Result<()> {
        self.descend(path, Place::make_directory)
    }

    /// Walks down to the directory `path` and calls `make` for each place on the way where nothing
    /// stands, after which a directory must stand there.
    pub(crate) fn descend(
        &self,
        path: &Path,
        mut make: impl FnMut(&Place) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut walked = PathBuf::from("/");
        for component in path.components() {
            check(component)?;
            let Component::Normal(name) = component else {
                continue;
            };
            let place = Place { directory: self.directory(&walked)?, name: name.to_owned() };
            match place.stat() {
                Ok(_) => {}
                Err(error) if is_absent(&error) => make(&place)?,
                Err(error) => return Err(error),
            }
            walked.push(name);
        }
        self.directory(&walked).map(|_| ())
    }

    /// Deletes what stands at `path`, directories with all below; `false` where nothing stood.
    /// Links are deleted, not followed. Returns whether something was deleted.
    ///
    /// # Errors
    /// Those of the lookup and of deleting.
    pub fn remove(&self, path: &Path) -> io::Result<bool> {
        let place = match self.place(path) {
            Ok(place) => place,
            Err(error) if is_absent(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        place.remove()
    }
}

impl Place {
    /// Metadata; a link is described, not followed.
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes a directory, 0755 whatever the umask.
    pub(crate) fn make_directory(&self) -> io::Result<()> {
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::mkdirat(&self.directory, &self.name, mode)?;
        rustix::fs::chmodat(&self.directory, &self.name, mode, AtFlags::empty())?;
        Ok(())
    }

    /// Deletes what stands here, directories with all below.
    pub(crate) fn remove(&self) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(rustix::io::Errno::ISDIR) => {
                self.remove_below()?;
                rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::REMOVEDIR)?;
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes everything in the directory that stands here.
    pub(crate) fn remove_below(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&self.directory, &self.name, flags, Mode::empty());
        for name in names(open()?)? {
            Place { directory: open()?, name }.remove()?;
        }
        Ok(())
    }

    /// Sets owner and permission bits; bits are left alone on links, which have none.
    pub(crate) fn own(&self, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
        let (owner, group) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&self.directory, &self.name, Some(owner), Some(group), nofollow)?;
        if kind(&self.stat()?) != FileType::Symlink {
            // After chown, which clears set-id bits.
            let mode = Mode::from_raw_mode(mode);
            rustix::fs::chmodat(&self.directory, &self.name, mode, AtFlags::empty())?;
        }
        Ok(())
    }
}

/// The kind of file that `stat` describes.
pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The time stamps that `stat` describes, for setting them again.
pub(crate) fn times(stat: &Stat) -> Timestamps {
    let moment = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps {
        last_access: moment(stat.st_atime, stat.st_atime_nsec as _),
        last_modification: moment(stat.st_mtime, stat.st_mtime_nsec as _),
    }
}

/// Whether the error means "nothing stands there".
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The names in an open directory, without `.` and `..`, sorted bytewise.
pub(crate) fn names(directory: OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::new(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn check(component: Component<'_>) -> io::Result<()> {
    match component {
        Component::ParentDir => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a path in a tree is absolute and has no `..`",
        )),
        _ => Ok(()),
    }
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    path.components().try_for_each(check)?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new("/") } else { parent };
            Ok((parent, name))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "the root itself cannot be replaced")),
    }
}

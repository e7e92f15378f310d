//! A tree to work in: layers from below, and one new layer that takes what is written.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nodekiln_recipes::inventory::TreeReader;
use nodekiln_words::{Class, Failure, Result, ResultExt as _};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use super::confined::{Confined, Place, is_absent, kind};

/// Owner and permission bits of something to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, with set-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Attributes {
    /// `mode`, owned by root.
    #[must_use]
    pub const fn root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }
}

/// Layers assembled into one tree. What is written goes to `output`, the layer in the making.
///
/// The tree is mounted while this value lives; in a process that called [`private_mounts`] the
/// kernel takes the mount away with the process, however it ends.
#[derive(Debug)]
pub struct Root {
    confined: Confined,
    path: PathBuf,
    output: Option<PathBuf>,
    lowers: Vec<PathBuf>,
    mount: Option<Mount>,
}

/// A mounted folder, unmounted when dropped.
#[derive(Debug)]
struct Mount(PathBuf);

/// Gives the calling thread, and the threads and children it makes later, a private mount
/// namespace: what is mounted from here on is seen by nobody else and vanishes with the process.
/// Call it once, before other threads exist.
///
/// # Errors
/// Without the privilege to do so (`CAP_SYS_ADMIN`).
pub fn private_mounts() -> Result<()> {
    unshare(UnshareFlags::NEWNS)
        .and_then(|()| {
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private)
        })
        .map_err(|error| {
            let failure = Failure::new(Class::Unsupported, "no private mount namespace to be had");
            failure.with_source(error).with_help("building needs root (CAP_SYS_ADMIN)")
        })
}

/// A file system in memory, unmounted when dropped.
pub struct Memory {
    _mount: Mount,
}

/// Mounts an empty file system in memory (tmpfs) on `folder`.
///
/// # Errors
/// Without the privilege to do so (`CAP_SYS_ADMIN`).
pub fn mount_memory(folder: &Path) -> Result<Memory> {
    rustix::mount::mount("none", folder, "tmpfs", MountFlags::empty(), None)
        .map_err(io::Error::from)
        .or_io(|| format!("cannot mount a file system in memory on {}", folder.display()))?;
    Ok(Memory { _mount: Mount(folder.to_owned()) })
}

/// `unshare(2)` for namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    #[expect(
        deprecated,
        reason = "the replacement is unsafe because of UnshareFlags::FILES alone, which no caller passes"
    )]
    rustix::thread::unshare(flags)
}

impl Root {
    /// Assembles `lowers` (bottom first) and an empty new layer, `<scratch>/output`. The tree is at
    /// `<scratch>/root`; without lowers it is the new layer itself, and nothing is mounted.
    ///
    /// # Errors
    /// When a layer is missing, or when the file system of `scratch` cannot hold a layer.
    pub fn assemble(lowers: &[PathBuf], scratch: &Path) -> Result<Self> {
        let output = scratch.join("output");
        make_folder(&output)?;
        if lowers.is_empty() {
            // The root of a tree, whatever anybody's umask is.
            fs_err::set_permissions(&output, Permissions::from_mode(0o755))
                .or_io(|| "cannot set the bits of a new tree's root".to_owned())?;
            let confined = open_folder(&output)?;
            return Ok(Self {
                confined,
                path: output.clone(),
                output: Some(output),
                lowers: Vec::new(),
                mount: None,
            });
        }
        let work = scratch.join("overlay-work");
        make_folder(&work)?;
        copy_root_attributes(lowers, &output)?;
        Self::mounted(lowers, Some((output, &work)), scratch)
    }

    /// Assembles `lowers` (bottom first) into a tree that cannot be written to.
    ///
    /// # Errors
    /// When a layer is missing or cannot be mounted.
    pub fn read_only(lowers: &[PathBuf], scratch: &Path) -> Result<Self> {
        Self::mounted(lowers, None, scratch)
    }

    fn mounted(
        lowers: &[PathBuf],
        upper: Option<(PathBuf, &Path)>,
        scratch: &Path,
    ) -> Result<Self> {
        let path = scratch.join("root");
        make_folder(&path)?;
        match (lowers, &upper) {
            ([], _) => return Err(Failure::input("a tree needs at least one layer")),
            ([only], None) => bind_read_only(only, &path)?,
            _ => mount_overlay(
                lowers,
                upper.as_ref().map(|(output, work)| (&**output, *work)),
                &path,
            )?,
        }
        let mount = Mount(path.clone());
        let confined = open_folder(&path)?;
        let output = upper.map(|(output, _)| output);
        Ok(Self { confined, path, output, lowers: lowers.to_vec(), mount: Some(mount) })
    }

    /// Where the tree is mounted, seen from this process.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tree's confined file operations.
    #[must_use]
    pub fn confined(&self) -> &Confined {
        &self.confined
    }

    /// Writes a file, replacing a file or link of that name (a link is not followed). Missing
    /// directories above it are made 0755 and root's.
    ///
    /// # Errors
    /// When a directory stands there, or writing fails.
    pub fn write_file(&self, path: &str, bytes: &[u8], attributes: Attributes) -> Result<()> {
        self.create(path, attributes, |file| file.write_all(bytes))
    }

    /// Writes a file with the bytes of this machine's file `from`, as [`Root::write_file`] does; the
    /// file system shares the bytes where it can.
    ///
    /// # Errors
    /// When `from` cannot be read, a directory stands there, or writing fails.
    pub fn copy_file(&self, path: &str, from: &Path, attributes: Attributes) -> Result<()> {
        let mut source = fs_err::File::open(from).or_io(|| format!("cannot copy to {path}"))?;
        self.create(path, attributes, |file| io::copy(source.file_mut(), file).map(|_| ()))
    }

    fn create(
        &self,
        path: &str,
        attributes: Attributes,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<()> {
        let write = || -> io::Result<()> {
            let place = self.make_way(path)?;
            let mut file = place.create()?;
            fill(&mut file)?;
            place.own(attributes.mode, attributes.uid, attributes.gid)
        };
        write().or_io(|| format!("cannot write {path} in the tree"))
    }

    /// Makes a directory, or gives one that stands there these attributes.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn make_directory(&self, path: &str, attributes: Attributes) -> Result<()> {
        let make = || -> io::Result<()> {
            self.confined.make_directories(Path::new(path))?;
            let place = self.confined.place(Path::new(path))?;
            place.own(attributes.mode, attributes.uid, attributes.gid)
        };
        make().or_io(|| format!("cannot make the directory {path} in the tree"))
    }

    /// Makes a symbolic link to `target`, replacing a file or link of that name.
    ///
    /// # Errors
    /// When a directory stands there.
    pub fn make_link(&self, path: &str, target: &str, uid: u32, gid: u32) -> Result<()> {
        let make = || -> io::Result<()> {
            let place = self.make_way(path)?;
            rustix::fs::symlinkat(target, &place.directory, &place.name)?;
            place.own(0o777, uid, gid)
        };
        make().or_io(|| format!("cannot make the link {path} in the tree"))
    }

    /// Deletes what stands at `path`, directories with all below; returns whether anything stood.
    ///
    /// # Errors
    /// When deleting fails.
    pub fn remove(&self, path: &str) -> Result<bool> {
        self.confined.remove(Path::new(path)).or_io(|| format!("cannot delete {path} in the tree"))
    }

    /// Whether anything stands at `path`; a link counts whether or not it leads anywhere.
    ///
    /// # Errors
    /// When looking fails.
    pub fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.attributes(path)?.is_some())
    }

    /// Owner and permission bits of what stands at `path`; links are not followed.
    ///
    /// # Errors
    /// When looking fails.
    pub fn attributes(&self, path: &str) -> Result<Option<Attributes>> {
        match self.confined.stat(path) {
            Ok(stat) => Ok(Some(Attributes {
                mode: stat.st_mode & 0o7777,
                uid: stat.st_uid,
                gid: stat.st_gid,
            })),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error).or_io(|| format!("cannot look at {path} in the tree")),
        }
    }

    /// The names in the directory at `path`, sorted bytewise; empty where there is none. Names that
    /// are not UTF-8 have replacement characters.
    ///
    /// # Errors
    /// When reading fails.
    pub fn list(&self, path: &str) -> Result<Vec<String>> {
        let names = self.confined.list(path).or_io(|| format!("cannot list {path} in the tree"))?;
        Ok(names.iter().map(|name| name.to_string_lossy().into_owned()).collect())
    }

    /// The bytes of the regular file at `path`, links followed within the tree.
    ///
    /// # Errors
    /// When reading fails.
    pub fn read_file(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.confined.read(path).or_io(|| format!("cannot read {path} in the tree"))
    }

    /// The target of the link at `path`; `None` where no link stands.
    ///
    /// # Errors
    /// When reading fails.
    pub fn read_link(&self, path: &str) -> Result<Option<String>> {
        let target = self.confined.read_link(path);
        let target = target.or_io(|| format!("cannot read the link {path} in the tree"))?;
        Ok(target.map(|target| target.to_string_lossy().into_owned()))
    }

    /// The place of `path` with its directories made and nothing standing there.
    fn make_way(&self, path: &str) -> io::Result<Place> {
        let path = Path::new(path);
        if let Some(parent) = path.parent() {
            self.confined.make_directories(parent)?;
        }
        let place = self.confined.place(path)?;
        match place.stat() {
            Ok(stat) if kind(&stat) == rustix::fs::FileType::Directory => {
                Err(io::Error::new(io::ErrorKind::IsADirectory, "a directory stands there"))
            }
            Ok(_) => place.remove().map(|_| place),
            Err(error) if is_absent(&error) => Ok(place),
            Err(error) => Err(error),
        }
    }

    /// Unmounts the tree; the layer is complete. Returns the layer's folder and the layers below.
    pub(super) fn unmount(self) -> Result<(Option<PathBuf>, Vec<PathBuf>)> {
        let Self { confined, output, lowers, mount, .. } = self;
        drop(confined); // an open folder keeps a mount busy
        if let Some(mount) = mount {
            mount.unmount()?;
        }
        Ok((output, lowers))
    }
}

impl TreeReader for Root {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.confined.read(path)
    }
}

impl Place {
    /// Creates a file that nobody else can open yet.
    pub(crate) fn create(&self) -> io::Result<File> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file: OwnedFd =
            rustix::fs::openat(&self.directory, &self.name, flags, Mode::from_raw_mode(0o600))?;
        Ok(File::from(file))
    }
}

impl Mount {
    fn unmount(self) -> Result<()> {
        let path = self.0.clone();
        std::mem::forget(self);
        // NOFOLLOW: the mount point is a directory that this process made.
        rustix::mount::unmount(&path, UnmountFlags::NOFOLLOW)
            .or_else(|_| {
                rustix::mount::unmount(&path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
            })
            .or_io(|| format!("cannot unmount {}", path.display()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A failed build ends here; the mount also ends with the process.
        let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
        rustix::mount::unmount(&self.0, flags).ok();
    }
}

fn make_folder(path: &Path) -> Result<()> {
    fs_err::create_dir_all(path).or_io(|| "cannot make a folder to build in".to_owned())
}

fn open_folder(path: &Path) -> Result<Confined> {
    Confined::new(path).or_io(|| format!("cannot open the tree {}", path.display()))
}

/// The new layer's root takes owner and bits of the top layer's, else it would change them.
fn copy_root_attributes(lowers: &[PathBuf], output: &Path) -> Result<()> {
    let Some(top) = lowers.last() else {
        return Ok(());
    };
    let copy = || -> io::Result<()> {
        let stat = rustix::fs::stat(top)?;
        let (uid, gid) =
            (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::chown(output, Some(uid), Some(gid))?;
        rustix::fs::chmod(output, Mode::from_raw_mode(stat.st_mode))?;
        Ok(())
    };
    copy().or_io(|| format!("cannot take over the attributes of the layer {}", top.display()))
}

/// What a tree's mount forbids. Device nodes and set-user-id programs of a tree are data: on this
/// machine nobody is to open the ones or gain by the others. The sandbox takes its devices from
/// elsewhere, and its programs are root's anyway.
const RESTRICTED: MountFlags = MountFlags::NODEV.union(MountFlags::NOSUID);

/// A tree of one layer needs no overlay, which wants at least two.
fn bind_read_only(layer: &Path, path: &Path) -> Result<()> {
    let bind = || -> rustix::io::Result<()> {
        rustix::mount::mount_bind(layer, path)?;
        let flags = MountFlags::BIND | MountFlags::RDONLY | RESTRICTED;
        rustix::mount::mount_remount(path, flags, c"")
    };
    bind().map_err(|error| no_overlay(error, path, &[layer.to_path_buf()]))
}

/// Mounts an overlay of `lowers` (bottom first) at `path`.
///
/// The option page of `mount(2)` holds 4096 bytes, so layers are named by `/proc/self/fd/N`, which
/// also spares escaping commas and colons. `redirect_dir`, `metacopy`, `index` and `xino` are off so
/// that a layer holds whole files and whole directories and can be read without an overlay.
/// `volatile` leaves flushing to whoever commits the layer.
fn mount_overlay(lowers: &[PathBuf], upper: Option<(&Path, &Path)>, path: &Path) -> Result<()> {
    let mut held = Vec::new();
    let mut hold = |folder: &Path| -> Result<String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())
            .or_io(|| format!("cannot open the layer {}", folder.display()))?;
        let name = format!("/proc/self/fd/{}", folder.as_raw_fd());
        held.push(folder);
        Ok(name)
    };
    // overlayfs lists the topmost first.
    let names = lowers.iter().rev().map(|layer| hold(layer)).collect::<Result<Vec<_>>>()?;
    let mut options = format!("lowerdir={}", names.join(":"));
    if let Some((output, work)) = upper {
        let (output, work) = (hold(output)?, hold(work)?);
        options += &format!(",upperdir={output},workdir={work},index=off,volatile");
    }
    options += ",redirect_dir=off,metacopy=off,xino=off";
    let options = std::ffi::CString::new(options).or_io(|| "mount options".to_owned())?;
    rustix::mount::mount("nodekiln", path, "overlay", RESTRICTED, options.as_c_str())
        .map_err(|error| no_overlay(error, path, lowers))
}

/// Explains why layers could not be mounted, by errno and by what file system lies below.
fn no_overlay(error: rustix::io::Errno, path: &Path, lowers: &[PathBuf]) -> Failure {
    let message = format!("cannot assemble {} layers at {}", lowers.len(), path.display());
    let help = match error {
        rustix::io::Errno::PERM => "building needs root (CAP_SYS_ADMIN)",
        rustix::io::Errno::NODEV => "the kernel has no overlayfs; load the module `overlay`",
        _ => {
            "the file system of the store must be able to hold an overlay's upper folder (ext4, xfs, \
             btrfs, tmpfs; not another overlay, not NFS): point NODEKILN_CACHE at one that can"
        }
    };
    Failure::new(Class::Unsupported, message).with_source(error).with_help(help)
}

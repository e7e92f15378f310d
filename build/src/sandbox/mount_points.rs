//! Mount points that a tree lacks: made before the command, taken away after it, so that the layer
//! holds no trace of them. Directories keep the modification times that they had.

use std::io;
use std::path::Path;

use nodekiln_words::{Class, Failure, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timestamps};

use super::SandboxCommand;
use super::guest::POLICY;
use crate::layer::confined::{Confined, Place, is_absent, kind, times};

/// Folders that the sandbox mounts something of its own on.
const ALWAYS: [&str; 4] = ["/proc", "/dev", "/run", "/tmp"];
const SYS: &str = "/sys";

/// Mount points made in a tree, taken away when dropped.
pub(crate) struct MountPoints {
    made: Vec<(Place, FileType)>,
    /// Whether the policy that forbids starting services has a mount point.
    pub(crate) policy: bool,
}

impl MountPoints {
    /// Makes what `command` needs and its tree lacks.
    pub(crate) fn make(command: &SandboxCommand) -> Result<Self> {
        let mut points = Self { made: Vec::new(), policy: false };
        let at = |path: &str| {
            let message = format!("cannot mount {path} in the tree {}", command.root.display());
            move |error: io::Error| {
                Failure::new(Class::Io, message).with_source(error).with_help(
                    "a tree that cannot be written to must have the folders /proc, /dev, /run, /tmp \
                     and a place for each bind",
                )
            }
        };
        let tree = Confined::new(&command.root).map_err(at("anything"))?;
        let sys = command.sys.then_some(SYS);
        for path in ALWAYS.into_iter().chain(sys) {
            points.make_one(&tree, Path::new(path), FileType::Directory).map_err(at(path))?;
        }
        for bind in command.binds.iter().filter(|bind| !is_on_a_mount(&bind.guest)) {
            let found =
                rustix::fs::stat(&bind.host).map_err(io::Error::from).map_err(at(&bind.guest))?;
            let kind = match kind(&found) {
                FileType::Directory => FileType::Directory,
                _ => FileType::RegularFile,
            };
            points.make_one(&tree, Path::new(&bind.guest), kind).map_err(at(&bind.guest))?;
        }
        points.policy = points.make_policy(&tree).map_err(at(POLICY))?;
        Ok(points)
    }

    /// Only a tree that has the folder for it can start services.
    fn make_policy(&mut self, tree: &Confined) -> io::Result<bool> {
        let policy = Path::new(POLICY);
        let folder = policy.parent().is_some_and(|folder| tree.directory(folder).is_ok());
        if !folder {
            return Ok(false);
        }
        match self.make_one(tree, policy, FileType::RegularFile) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn make_one(&mut self, tree: &Confined, path: &Path, kind: FileType) -> io::Result<()> {
        match tree.stat_followed(path) {
            Ok(_) => return Ok(()),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
        let folder = if kind == FileType::Directory { path } else { path.parent().unwrap_or(path) };
        let mut made = Vec::new();
        let walked = tree.descend(folder, |place| {
            keeping_times(place, Place::make_directory)?;
            let directory = rustix::io::dup(&place.directory)?;
            made.push((Place { directory, name: place.name.clone() }, FileType::Directory));
            Ok(())
        });
        self.made.append(&mut made);
        walked?;
        if kind != FileType::Directory {
            let place = tree.place(path)?;
            keeping_times(&place, make_file)?;
            self.made.push((place, kind));
        }
        Ok(())
    }
}

impl Drop for MountPoints {
    fn drop(&mut self) {
        while let Some((place, kind)) = self.made.pop() {
            let flags = match kind {
                FileType::Directory => AtFlags::REMOVEDIR,
                _ => AtFlags::empty(),
            };
            // A directory that is no longer empty belongs to the command.
            keeping_times(&place, |place| {
                Ok(rustix::fs::unlinkat(&place.directory, &place.name, flags)?)
            })
            .ok();
        }
    }
}

fn is_on_a_mount(path: &str) -> bool {
    ALWAYS.into_iter().chain([SYS]).any(|mount| Path::new(path).starts_with(mount))
}

fn make_file(place: &Place) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&place.directory, &place.name, flags, Mode::from_raw_mode(0o644))?;
    Ok(())
}

/// Changes something in a directory and gives it back the times that it had.
fn keeping_times(place: &Place, change: impl FnOnce(&Place) -> io::Result<()>) -> io::Result<()> {
    let before: Timestamps = times(&rustix::fs::fstat(&place.directory)?);
    change(place)?;
    rustix::fs::utimensat(&place.directory, ".", &before, AtFlags::empty())?;
    Ok(())
}

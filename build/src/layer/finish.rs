//! Makes a finished layer depend on what was written alone: time stamps no later than the source
//! date, no directories that a write beside them merely touched, and no labels of this machine.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nodekiln_words::{Class, Failure, Result, ResultExt as _, SourceDate};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::extended::{extended, is_opaque, remove_machine_label};
use super::layered::LayeredTree;
use super::root::Root;

impl Root {
    /// Ends the work on the tree: unmounts it, takes SELinux labels of this machine off the new
    /// layer's files, takes directories out that say nothing, and sets every modification time after
    /// `source_date` to it.
    ///
    /// # Errors
    /// When the tree cannot be unmounted or the layer cannot be changed; of class `Unsupported` when
    /// a label cannot be taken off, which SELinux forbids where it is active.
    pub fn finish(self, source_date: SourceDate) -> Result<()> {
        let (output, lowers) = self.unmount()?;
        let Some(output) = output else { return Ok(()) };
        remove_labels(&output)?;
        let settle = || -> io::Result<()> {
            let limit = i64::try_from(source_date.unix()).map_err(io::Error::other)?;
            let below = (!lowers.is_empty()).then(|| LayeredTree::new(lowers));
            let settling = Settling { layer: output.clone(), below, limit };
            settling.settle(Path::new("/"), &fs::symlink_metadata(&output)?, false).map(|_| ())
        };
        settle().or_io(|| format!("cannot settle the layer {}", output.display()))
    }
}

/// Takes this machine's labels off `path` and all below it.
fn remove_labels(path: &Path) -> Result<()> {
    remove_machine_label(path).map_err(|error| labelled(path, error))?;
    let listing = || format!("cannot list {}", path.display());
    if !fs::symlink_metadata(path).or_io(listing)?.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(path).or_io(listing)? {
        remove_labels(&entry.or_io(listing)?.path())?;
    }
    Ok(())
}

fn labelled(path: &Path, error: io::Error) -> Failure {
    let message = format!("the SELinux label of {} cannot be removed", path.display());
    Failure::new(Class::Unsupported, message).with_source(error).with_help(
        "labels of this machine would get into the image: build where SELinux is off (kernel \
         parameter selinux=0), or point NODEKILN_CACHE at a file system that is mounted with \
         `context=`, which stores no labels",
    )
}

struct Settling {
    layer: PathBuf,
    /// What the new layer lies upon.
    below: Option<LayeredTree>,
    /// The latest modification time, in UTC seconds.
    limit: i64,
}

impl Settling {
    /// Settles what stands at `path` of the layer and all below it, bottom-up, so that removing a
    /// directory does not undo its parent's time. `hidden`: lower layers cannot be seen here.
    fn settle(&self, path: &Path, metadata: &Metadata, hidden: bool) -> io::Result<()> {
        let place = self.place(path);
        if metadata.is_dir() {
            let hidden = hidden || is_opaque(&place)?;
            for entry in fs::read_dir(&place)? {
                let entry = entry?;
                self.settle(&path.join(entry.file_name()), &entry.metadata()?, hidden)?;
            }
            if !hidden && self.says_nothing(path, metadata)? {
                return fs::remove_dir(&place);
            }
        }
        self.clamp(&place, metadata)
    }

    fn place(&self, path: &Path) -> PathBuf {
        self.layer.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether the directory is empty and as the layers below have it, its time apart: overlayfs
    /// copies a directory up as soon as a name in it comes or goes, even if both.
    fn says_nothing(&self, path: &Path, metadata: &Metadata) -> io::Result<bool> {
        let Some(below) = self.below.as_ref().filter(|_| path != Path::new("/")) else {
            return Ok(false);
        };
        let place = self.place(path);
        if fs::read_dir(&place)?.next().is_some() {
            return Ok(false);
        }
        let Some((lower, lower_metadata)) = below.find(path)? else {
            return Ok(false);
        };
        let owner = |of: &Metadata| (of.mode(), of.uid(), of.gid());
        Ok(owner(metadata) == owner(&lower_metadata) && extended(&place)? == extended(&lower)?)
    }

    fn clamp(&self, place: &Path, metadata: &Metadata) -> io::Result<()> {
        // Removing entries has changed a directory's time since `metadata` was read.
        let now = if metadata.is_dir() { fs::symlink_metadata(place)? } else { metadata.clone() };
        let (seconds, nanoseconds) = (now.mtime(), now.mtime_nsec());
        if seconds < self.limit || seconds == self.limit && nanoseconds == 0 {
            return Ok(());
        }
        let moment = Timespec { tv_sec: self.limit, tv_nsec: 0 };
        let times = Timestamps { last_access: moment, last_modification: moment };
        rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }
}

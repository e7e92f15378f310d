//! What layers change in the tree below them, in the order in which it is written into a file system.
//!
//! Layer by layer: what a lower layer brings then stands at the same place whatever lies above it, and
//! disks that share layers share blocks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nodekiln_disk::ext4::Totals;
use nodekiln_words::Cancel;

use crate::layer::{extended, is_opaque, is_whiteout};

/// One change.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A name goes; a directory is empty by then.
    Remove {
        /// Absolute path in the tree.
        path: PathBuf,
        /// Whether it is a directory.
        directory: bool,
    },
    /// A name comes that was not there, or not any more.
    Add(Item),
    /// A further name of a file that was added before.
    Link {
        /// Absolute path in the tree.
        path: PathBuf,
        /// The file's first name.
        first: PathBuf,
    },
    /// A directory that stays gets other attributes.
    Set {
        /// As it is to be.
        item: Item,
        /// Names of extended attributes that it loses.
        lost: Vec<String>,
    },
}

/// What stands in the tree.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Absolute path in the tree.
    pub(super) path: PathBuf,
    /// Its metadata; of a file with several names `names` is their number.
    pub(super) metadata: Metadata,
    /// How many names it gets.
    pub(super) names: u64,
    /// Where a link points.
    pub(super) target: Option<PathBuf>,
    /// Extended attributes.
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
}

/// All changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// In the order in which they are made.
    pub(super) list: Vec<Change>,
    /// For each of `list`, the number from the bottom of the layer that brings it.
    layers: Vec<usize>,
    /// What is removed and takes room until then.
    pub(super) removed: Totals,
}

impl Changes {
    /// The topmost layer that brings a change which `is` true of.
    pub(super) fn topmost(&self, is: impl Fn(&Change) -> bool) -> Option<usize> {
        let layers = self.list.iter().zip(&self.layers).filter(|(change, _)| is(change));
        layers.map(|(_, layer)| *layer).max()
    }
}

/// What `layers`, bottom first, change in the tree seen at `base`; with them it is the one at `tree`.
///
/// # Errors
/// When a tree or a layer cannot be read; `Interrupted` on cancellation.
pub(super) fn between(
    base: &Path,
    tree: &Path,
    layers: &[PathBuf],
    cancel: &Cancel,
) -> io::Result<Changes> {
    let mut comparison =
        Comparison { base, tree, cancel, found: Vec::new(), removed: Totals::default() };
    let layers: Vec<_> = layers.iter().cloned().enumerate().collect();
    let root = Folder { path: PathBuf::new(), layers, in_base: true, hides: false };
    comparison.same_directory(&root.path, 0)?;
    comparison.folder(&root)?;
    let Comparison { mut found, removed, .. } = comparison;
    found.sort_by(|a, b| a.order().cmp(&b.order()));
    let (layers, mut list): (Vec<_>, Vec<_>) =
        found.into_iter().map(|found| (found.layer, found.change)).unzip();
    join_names(&mut list);
    Ok(Changes { list, layers, removed })
}

/// A folder of the tree, and what has a say in it.
struct Folder {
    /// Path without the slash in front.
    path: PathBuf,
    /// The layers that have it, each with its number from the bottom, bottom first.
    layers: Vec<(usize, PathBuf)>,
    /// Whether the base has a directory there.
    in_base: bool,
    /// Whether the base's names in it are hidden.
    hides: bool,
}

/// What the layers say of one name.
#[derive(Default)]
struct Said {
    /// The topmost that says anything.
    top: Option<usize>,
    /// Those that have a directory there which is part of the tree's, bottom first.
    directories: Vec<(usize, PathBuf)>,
    /// Whether what is below is hidden.
    hides: bool,
}

struct Found {
    /// Number of the layer in whose turn it is made.
    layer: usize,
    change: Change,
}

impl Found {
    /// Removals come before additions, what is deepest first; the attributes of directories that stay
    /// come when all else is done.
    fn order(&self) -> (usize, usize, std::cmp::Reverse<Option<&Path>>, Option<&Path>) {
        use std::cmp::Reverse;
        match &self.change {
            Change::Remove { path, .. } => (self.layer, 0, Reverse(Some(path)), None),
            Change::Add(Item { path, .. }) | Change::Link { path, .. } => {
                (self.layer, 1, Reverse(None), Some(path))
            }
            Change::Set { item, .. } => (usize::MAX, 2, Reverse(None), Some(&item.path)),
        }
    }
}

struct Comparison<'a> {
    base: &'a Path,
    tree: &'a Path,
    cancel: &'a Cancel,
    found: Vec<Found>,
    removed: Totals,
}

impl Comparison<'_> {
    /// Compares what stands in a folder.
    fn folder(&mut self, folder: &Folder) -> io::Result<()> {
        if self.cancel.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut names = BTreeSet::new();
        for (_, place) in &folder.layers {
            list(place, &mut names)?;
        }
        if folder.in_base && folder.hides {
            list(&self.base.join(&folder.path), &mut names)?;
        }
        names.iter().try_for_each(|name| self.name(folder, name))
    }

    /// Compares what stands at a name in a folder.
    fn name(&mut self, folder: &Folder, name: &OsStr) -> io::Result<()> {
        let path = folder.path.join(name);
        let said = said(&folder.layers, name)?;
        let lowest = folder.layers.first().map_or(0, |(number, _)| *number);
        let layer = said.top.unwrap_or(lowest);
        let before = if folder.in_base { present(&self.base.join(&path))? } else { None };
        let after = present(&self.tree.join(&path))?;
        let both = |is: fn(&Metadata) -> bool| {
            before.as_ref().is_some_and(is) && after.as_ref().is_some_and(is)
        };
        let inside = Folder {
            in_base: before.as_ref().is_some_and(Metadata::is_dir),
            hides: folder.hides || said.hides,
            layers: said.directories,
            path: path.clone(),
        };
        if both(Metadata::is_dir) {
            self.same_directory(&path, layer)?;
            return self.folder(&inside);
        }
        if let (Some(before), Some(after)) = (&before, &after)
            && self.is_equal(&path, before, after)?
        {
            return Ok(());
        }
        let first = self.found.len();
        if let Some(before) = &before {
            self.remove(&path, before, layer)?;
        }
        let Some(after) = after else { return Ok(()) };
        let is_directory = after.is_dir();
        let item = self.item(&path, after)?;
        self.found.push(Found { layer, change: Change::Add(item) });
        if is_directory {
            self.folder(&Folder { in_base: false, ..inside })?;
            // A directory is there before what the lowest layer has in it.
            let found = self.found.get_mut(first..).unwrap_or_default();
            let lowest = found.iter().map(|found| found.layer).min().unwrap_or(layer);
            let own = found.iter_mut().filter(|found| match &found.change {
                Change::Remove { .. } => true,
                Change::Add(item) => item.path == absolute(&path),
                _ => false,
            });
            own.for_each(|found| found.layer = lowest);
        }
        Ok(())
    }

    /// A directory in both: its attributes may differ.
    fn same_directory(&mut self, path: &Path, layer: usize) -> io::Result<()> {
        let (before, after) = (self.base.join(path), self.tree.join(path));
        let (old, new) = (before.symlink_metadata()?, after.symlink_metadata()?);
        let old_xattrs = extended(&before)?;
        let item = self.item(path, new)?;
        if attributes(&old) != attributes(&item.metadata) || old_xattrs != item.xattrs {
            let lost = old_xattrs.into_keys().filter(|name| !item.xattrs.contains_key(name));
            let lost = lost.collect();
            self.found.push(Found { layer, change: Change::Set { item, lost } });
        }
        Ok(())
    }

    /// Removes what the base has at `path`, with all that is below.
    fn remove(&mut self, path: &Path, metadata: &Metadata, layer: usize) -> io::Result<()> {
        let directory = metadata.is_dir();
        if directory {
            self.removed.directories += 1;
            let mut names = BTreeSet::new();
            list(&self.base.join(path), &mut names)?;
            for name in names {
                let path = path.join(name);
                let metadata = self.base.join(&path).symlink_metadata()?;
                self.remove(&path, &metadata, layer)?;
            }
        } else {
            self.removed.files += 1;
            self.removed.bytes += if metadata.is_file() { metadata.len() } else { 0 };
        }
        self.found
            .push(Found { layer, change: Change::Remove { path: absolute(path), directory } });
        Ok(())
    }

    fn item(&self, path: &Path, metadata: Metadata) -> io::Result<Item> {
        let place = self.tree.join(path);
        let target = metadata.is_symlink().then(|| std::fs::read_link(&place)).transpose()?;
        let xattrs = extended(&place)?;
        Ok(Item { path: absolute(path), metadata, names: 1, target, xattrs })
    }

    /// Whether two entries that are not both directories are the same. A file with several names is
    /// taken for another one.
    fn is_equal(&self, path: &Path, before: &Metadata, after: &Metadata) -> io::Result<bool> {
        let (old, new) = (self.base.join(path), self.tree.join(path));
        let alike = attributes(before) == attributes(after)
            && (before.nlink(), after.nlink()) == (1, 1)
            && before.rdev() == after.rdev()
            && extended(&old)? == extended(&new)?;
        Ok(alike
            && match (before.is_file(), before.is_symlink()) {
                (true, _) => before.len() == after.len() && has_equal_bytes(&old, &new)?,
                (_, true) => std::fs::read_link(old)? == std::fs::read_link(new)?,
                _ => true,
            })
    }
}

/// Kind and bits, owner, group, modification time in seconds.
fn attributes(metadata: &Metadata) -> (u32, u32, u32, i64) {
    (metadata.mode(), metadata.uid(), metadata.gid(), metadata.mtime())
}

/// What `layers` say of `name`, from the top down until one hides the others.
fn said(layers: &[(usize, PathBuf)], name: &OsStr) -> io::Result<Said> {
    let mut said = Said::default();
    for (number, folder) in layers.iter().rev() {
        let place = folder.join(name);
        let Some(metadata) = present(&place)? else { continue };
        said.top.get_or_insert(*number);
        let directory = metadata.is_dir() && !is_whiteout(&metadata);
        said.hides = !directory || is_opaque(&place)?;
        if directory {
            said.directories.insert(0, (*number, place));
        }
        if said.hides {
            break;
        }
    }
    Ok(said)
}

/// Names of a file that is added under several become links to the first of them.
fn join_names(list: &mut [Change]) {
    let mut firsts: HashMap<(u64, u64), usize> = HashMap::new();
    for at in 0..list.len() {
        let Some(Change::Add(item)) = list.get(at) else { continue };
        if item.metadata.is_dir() || item.metadata.nlink() == 1 {
            continue;
        }
        let path = item.path.clone();
        let first = *firsts.entry((item.metadata.dev(), item.metadata.ino())).or_insert(at);
        if first == at {
            continue;
        }
        let Some(Change::Add(item)) = list.get_mut(first) else { continue };
        item.names += 1;
        let first = item.path.clone();
        if let Some(change) = list.get_mut(at) {
            *change = Change::Link { path, first };
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

fn list(folder: &Path, names: &mut BTreeSet<OsString>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        names.insert(entry?.file_name());
    }
    Ok(())
}

fn present(place: &Path) -> io::Result<Option<Metadata>> {
    match place.symlink_metadata() {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn has_equal_bytes(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        let read = (&mut a).take(1 << 18).read_to_end(&mut left)?;
        (&mut b).take(1 << 18).read_to_end(&mut right)?;
        if left != right || read == 0 {
            return Ok(left == right);
        }
    }
}

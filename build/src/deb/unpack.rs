//! Unpacks the file trees of many packages into one folder, on all cores.
//!
//! The result depends on the list of packages alone, not on which worker is where when: see
//! [`super::claims`]. Nothing is flushed to disk.

use std::collections::HashMap;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use nodekiln_words::{Cancel, Progress, Result, ResultExt, TaskId};
use rustix::fs::{self, AtFlags};

use super::archive::Deb;
use super::claims::Claims;
use super::control::Control;
use super::diversions::Decisions;
use super::extract::Extraction;
use super::installed;
use super::tree::{Tree, split};

/// A package ready to be unpacked.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// The file.
    pub deb: Deb,
    /// Its control files.
    pub control: Control,
}

impl Parcel {
    /// Opens the `.deb` at `path` and reads its control files; messages call it `label`.
    ///
    /// # Errors
    /// As [`Deb::open`] and [`Deb::control`].
    pub fn open(path: &Path, label: &str) -> Result<Self> {
        let deb = Deb::open(path, label)?;
        let control = deb.control()?;
        Ok(Self { deb, control })
    }
}

/// How files are laid into the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conffiles {
    /// As `PATH.dpkg-new`; dpkg moves them into place when it configures the package.
    Pending,
    /// Under their own names, for trees that are never configured.
    InPlace,
}

/// What unpacking left behind, for the database.
#[derive(Clone, Debug, Default)]
pub struct Unpacked {
    /// For each package in the order given, the paths that belong to it, in its archive's order;
    /// its root is `/.`.
    pub lists: Vec<Vec<Vec<u8>>>,
    /// Paths that packages of earlier calls lost, by package name as the database has it.
    pub lost: Vec<(String, Vec<u8>)>,
}

/// Unpacks packages into a tree, perhaps in several calls.
#[derive(Debug)]
pub struct Unpacker {
    pub(crate) tree: Tree,
    claims: Claims,
    /// All packages so far; claims name them by index.
    packages: Vec<Control>,
    conffiles: Conffiles,
    workers: usize,
}

/// What the workers of one call share.
pub(crate) struct Shared<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) claims: &'a Claims,
    pub(crate) packages: &'a [Control],
    pub(crate) decisions: &'a Decisions,
    pub(crate) conffiles: Conffiles,
    pub(crate) cancel: &'a Cancel,
    /// Owner and path of what was written first and then taken over by another package.
    pub(crate) lost: Mutex<Vec<(usize, Vec<u8>)>>,
}

impl Unpacker {
    /// Unpacks into the folder at `root`, which exists.
    ///
    /// # Errors
    /// Where the folder cannot be opened.
    pub fn new(root: &Path, conffiles: Conffiles) -> Result<Self> {
        let tree = Tree::open(root)?;
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self { tree, claims: Claims::default(), packages: Vec::new(), conffiles, workers })
    }

    /// Unpacks into the tree at `root`, which has packages already: what is theirs stays theirs, unless a
    /// new package replaces it.
    ///
    /// # Errors
    /// Where the tree cannot be opened, or its database cannot be read.
    pub fn over(root: &Path, conffiles: Conffiles) -> Result<Self> {
        let mut unpacker = Self::new(root, conffiles)?;
        unpacker.packages = installed::packages(&unpacker.tree)?;
        installed::claim(&unpacker.tree, &unpacker.packages, &unpacker.claims)?;
        Ok(unpacker)
    }

    /// As many packages at a time instead of one for each core; the result is the same.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Makes the links of a merged `/usr`, which packages of the release expect before the first is
    /// unpacked: `/bin`, `/sbin`, `/lib` and `/lib64` lead into `/usr`.
    ///
    /// # Errors
    /// Where they cannot be made.
    pub fn merge_usr(&self) -> Result<()> {
        for name in ["bin", "sbin", "lib", "lib64"] {
            let target = format!("usr/{name}");
            self.tree.make_folders(&format!("/{target}"))?;
            let root =
                self.tree.folder(b"").or_io(|| "the tree's root cannot be opened".to_owned())?;
            fs::symlinkat(&target, root.fd(), name)
                .or_io(|| format!("link /{name} cannot be made"))?;
        }
        Ok(())
    }

    /// Unpacks `parcels`, honouring the diversions and overrides in the tree's database.
    ///
    /// # Errors
    /// The failure of the first package in the list that failed: a damaged archive, a path that two
    /// packages claim and neither replaces, a full disk.
    pub fn unpack(
        &mut self,
        parcels: &[Parcel],
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Unpacked> {
        let first = self.packages.len();
        self.packages.extend(parcels.iter().map(|parcel| parcel.control.clone()));
        let decisions = Decisions::read(&self.tree)?;
        let shared = Shared {
            tree: &self.tree,
            claims: &self.claims,
            packages: &self.packages,
            decisions: &decisions,
            conffiles: self.conffiles,
            cancel,
            lost: Mutex::default(),
        };
        let mut lists = extract_all(parcels, first, self.workers, &shared, progress)?;
        let lost = shared.lost.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.dress_folders()?;
        let lost = self.take_from_lists(&mut lists, first, lost);
        Ok(Unpacked { lists, lost })
    }

    /// Gives new folders their attributes, now that nothing more is put into them.
    fn dress_folders(&mut self) -> Result<()> {
        for (path, attributes) in self.claims.settle_new() {
            let (parent, name) = split(&path);
            let dress = || -> std::io::Result<()> {
                let parent = self.tree.folder(parent)?;
                let name = if name.is_empty() { std::ffi::OsStr::new(".") } else { name };
                let (uid, gid) = attributes.owner();
                fs::chownat(parent.fd(), name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
                fs::chmodat(parent.fd(), name, attributes.permissions(), AtFlags::empty())?;
                Ok(fs::utimensat(
                    parent.fd(),
                    name,
                    &attributes.times(),
                    AtFlags::SYMLINK_NOFOLLOW,
                )?)
            };
            dress().or_io(|| {
                format!("folder {}: attributes cannot be set", String::from_utf8_lossy(&path))
            })?;
        }
        Ok(())
    }

    fn take_from_lists(
        &self,
        lists: &mut [Vec<Vec<u8>>],
        first: usize,
        lost: Vec<(usize, Vec<u8>)>,
    ) -> Vec<(String, Vec<u8>)> {
        let mut by_owner: HashMap<usize, Vec<Vec<u8>>> = HashMap::new();
        for (owner, path) in lost {
            by_owner.entry(owner).or_default().push(path);
        }
        let mut earlier = Vec::new();
        for (owner, paths) in by_owner {
            match owner.checked_sub(first).and_then(|index| lists.get_mut(index)) {
                Some(list) => list.retain(|path| !paths.contains(path)),
                None => {
                    let name = self.packages.get(owner).map(Control::database_name);
                    earlier
                        .extend(paths.into_iter().filter_map(|path| Some((name.clone()?, path))));
                }
            }
        }
        earlier.sort_unstable();
        earlier
    }
}

/// Extracts on all cores, the largest archives first, so that none is left alone at the end.
fn extract_all(
    parcels: &[Parcel],
    first: usize,
    workers: usize,
    shared: &Shared,
    progress: &dyn Progress,
) -> Result<Vec<Vec<Vec<u8>>>> {
    let mut order: Vec<usize> = (0..parcels.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(parcels[index].deb.data_size()));
    let total = parcels.iter().map(|parcel| parcel.deb.data_size()).sum();
    let task = progress.start(&format!("unpack {} packages", parcels.len()), Some(total), "B");
    let queue =
        Queue { order, next: AtomicUsize::new(0), bytes: AtomicU64::new(0), task, progress };
    let results: Vec<Slot> = parcels.iter().map(|_| Mutex::default()).collect();
    thread::scope(|scope| {
        for _ in 0..workers.min(parcels.len()) {
            scope.spawn(|| queue.work(parcels, first, shared, &results));
        }
    });
    let lists = results
        .into_iter()
        .filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect::<Result<Vec<_>>>();
    match lists {
        Ok(lists) => {
            progress.finish(task, &format!("{} packages", parcels.len()));
            Ok(lists)
        }
        Err(failure) => {
            progress.fail(task);
            Err(failure)
        }
    }
}

struct Queue<'a> {
    order: Vec<usize>,
    next: AtomicUsize,
    /// Compressed bytes of the packages that are done.
    bytes: AtomicU64,
    task: TaskId,
    progress: &'a dyn Progress,
}

/// What became of a package: nothing yet, or its paths, or its failure.
type Slot = Mutex<Option<Result<Vec<Vec<u8>>>>>;

impl Queue<'_> {
    /// Takes packages off the queue until it is empty or one of them failed.
    fn work(&self, parcels: &[Parcel], first: usize, shared: &Shared, results: &[Slot]) {
        while let Some(&index) = self.order.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let parcel = &parcels[index];
            let result = Extraction::run(&parcel.deb, first + index, shared);
            if result.is_err() {
                self.next.store(self.order.len(), Ordering::Relaxed);
            }
            *results[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            let size = parcel.deb.data_size();
            let done = self.bytes.fetch_add(size, Ordering::Relaxed) + size;
            self.progress.advance(self.task, done);
        }
    }
}

//! The content store: everything that was fetched or built, kept on disk by digest.
//!
//! - a *blob* is a file named by the SHA-256 of its bytes,
//! - a *node* is a node's result, a folder named by the node's id: record, inventory and output,
//! - *scratch* is where both are made before a rename puts them into place,
//! - the *index* holds what can be lost: validators of fetched texts, digests of parsed indexes.
//!
//! ```text
//! <root>/blobs/sha256/ab/<64 hex digits>     nodes/<id>/{record.json,inventory.jsonl,output/}
//!        scratch/  scratch/partial/          locks/   index/   damaged/   failed/   keys/
//! ```
//!
//! Trees hold what a machine must not offer its users: set-user-id programs of root's, device nodes,
//! keys. So a new store is closed to all but its owner, and the folders with trees always are, and so is
//! the one with the key that signs what is given to a remote store.
//!
//! Nothing appears under its final name before it is complete and on the disk, and nothing is
//! trusted before it was read and compared with its digest once in this process, so that a killed
//! process, a full disk or a second process at the same work can cost time but not correctness.
//! Several processes may use one store; their agreements are `flock(2)` locks, which the kernel
//! releases however a process ends.

mod blob;
mod clusters;
mod lock;
mod node;
mod prune;
mod remove;
mod scratch;
mod stats;
mod verify;

use std::collections::HashSet;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nodekiln_recipes::plan::NodeId;
use nodekiln_words::{Bytes, Class, Event, Failure, Progress, Result, ResultExt, Sha256, Silent};

pub use blob::BlobWriter;
pub use lock::FileLock;
pub(crate) use node::first_difference;
pub use node::{Begun, NodeInProgress, NodeRecord, Scan, StoredNode};
pub use prune::{Keep, Pruned};
pub use remove::remove_tree;
pub use scratch::ScratchDir;
use scratch::TempFile;
pub use stats::{Count, Stats};
pub use verify::{Damage, Verified};

/// The environment variable that names the store's folder.
pub const CACHE_VARIABLE: &str = "NODEKILN_CACHE";

/// The content store of one folder. Clones share what they know to be intact.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    root: PathBuf,
    progress: Arc<dyn Progress>,
    /// Held as long as this store is open: what was used since its file's time stamp is in use.
    session: FileLock,
    /// Blobs and nodes whose bytes this process compared with their digests.
    intact_blobs: Mutex<HashSet<Sha256>>,
    intact_nodes: Mutex<HashSet<NodeId>>,
}

impl Store {
    /// The folder that `NODEKILN_CACHE` names, else `nodekiln` in the user's cache folder
    /// (`XDG_CACHE_HOME` or `~/.cache`).
    ///
    /// # Errors
    /// When none of these variables is set.
    pub fn default_root() -> Result<PathBuf> {
        let folder = |name: &str| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        folder(CACHE_VARIABLE)
            .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("nodekiln")))
            .or_else(|| folder("HOME").map(|home| home.join(".cache/nodekiln")))
            .ok_or_else(|| {
                Failure::input("no folder for the content store")
                    .with_help(format!("set {CACHE_VARIABLE} to a folder on a large disk"))
            })
    }

    /// Opens the store at `root` and makes it where it is missing; see [`Store::open_with`].
    ///
    /// # Errors
    /// When the folders cannot be made or written.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, Arc::new(Silent))
    }

    /// Opens the store at `root`, makes it where it is missing and removes the scratch of processes
    /// that died. Damage and waiting are told to `progress`.
    ///
    /// # Errors
    /// When the folders cannot be made or written.
    pub fn open_with(root: &Path, progress: Arc<dyn Progress>) -> Result<Self> {
        make_folders(root).map_err(|error| failed(root, "make the content store", error))?;
        let root = root.canonicalize().or_io(|| format!("{}", root.display()))?;
        let name = |number| format!("session-{}-{number}", std::process::id());
        let session = FileLock::exclusive_new(|number| root.join("locks").join(name(number)))
            .map_err(|error| failed(&root, "write the content store", error))?;
        let inner = Inner {
            root,
            progress,
            session,
            intact_blobs: Mutex::default(),
            intact_nodes: Mutex::default(),
        };
        let store = Self(Arc::new(inner));
        store.remove_leftovers();
        Ok(store)
    }

    /// The store's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// The folder for what can be lost and made again; `kind` is one path component.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn index_dir(&self, kind: &str) -> Result<PathBuf> {
        let folder = self.root().join("index").join(kind);
        fs_err::create_dir_all(&folder).map_err(|error| self.failed("write the index", error))?;
        Ok(folder)
    }

    /// Writes `bytes` to a file of the index so that readers see the old file or the new one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_index(&self, kind: &str, name: &str, bytes: &[u8]) -> Result<()> {
        let target = self.index_dir(kind)?.join(name);
        let temporary = TempFile::new(&self.scratch_root());
        temporary
            .and_then(|temporary| {
                fs_err::write(temporary.path(), bytes)?;
                fs_err::rename(temporary.path(), &target)
            })
            .map_err(|error| self.failed("write the index", error))
    }

    /// What [`Store::write_index`] wrote, if it is there and can be read.
    #[must_use]
    pub fn read_index(&self, kind: &str, name: &str) -> Option<Vec<u8>> {
        fs_err::read(self.root().join("index").join(kind).join(name)).ok()
    }

    fn failed(&self, action: &str, error: io::Error) -> Failure {
        failed(self.root(), action, error)
    }

    fn warn(&self, text: String) {
        self.0.progress.event(Event::Warning(text));
    }

    fn scratch_root(&self) -> PathBuf {
        self.root().join("scratch")
    }

    /// The folder of this store's signing key, closed to all but its owner.
    pub(crate) fn keys_root(&self) -> PathBuf {
        self.root().join(KEYS)
    }

    /// Where the working folders of failed nodes are kept.
    fn failed_root(&self) -> PathBuf {
        self.root().join("failed")
    }

    /// Moves what is damaged out of the way, beside earlier damage, and says so.
    fn move_aside(&self, path: &Path, why: &str) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = self.root().join("damaged").join(format!(
            "{name}-{}-{}",
            std::process::id(),
            next_number()
        ));
        match fs_err::rename(path, &target) {
            Ok(()) => self.warn(format!("{why}; moved to {}", target.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.warn(format!("{why}; it could not be moved aside: {error}")),
        }
    }
}

/// Folders that hold trees, in whole or in parts, or a private key.
const PRIVATE: [&str; 5] = ["nodes", "scratch", "damaged", "failed", KEYS];

/// The folder of the key that signs what is given to a remote store.
const KEYS: &str = "keys";

/// Bits of a folder that nobody but its owner lists or enters.
const CLOSED: u32 = 0o700;

/// Makes the store's folders that are missing, and closes those with trees.
fn make_folders(root: &Path) -> io::Result<()> {
    if let Some(parent) = root.parent() {
        fs_err::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new().mode(CLOSED).create(root) {
        // A folder that the user made keeps the bits that the user gave it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    for folder in ["blobs/sha256", "locks", "index"].iter().chain(&PRIVATE) {
        fs_err::create_dir_all(root.join(folder))?;
    }
    fs_err::create_dir_all(root.join("scratch/partial"))?;
    PRIVATE.iter().try_for_each(|folder| close(&root.join(folder)))
}

/// Closes a folder that an earlier version, or somebody else, left open.
fn close(folder: &Path) -> io::Result<()> {
    let mode = fs_err::metadata(folder)?.permissions().mode();
    if mode & 0o7777 == CLOSED {
        return Ok(());
    }
    fs_err::set_permissions(folder, Permissions::from_mode(CLOSED))
}

/// A number that no other part of this process was given; with the process id it names scratch.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The content of a mutex, also when another thread died with it in hand: the sets kept in mutexes
/// here are valid after every single step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A failure of writing below `root`, which names the space left when the disk is full.
pub(crate) fn failed(root: &Path, action: &str, error: io::Error) -> Failure {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    if !full {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let failure = Failure::new(Class::Io, format!("cannot {action} in {}", root.display()))
            .with_source(error);
        if denied {
            let help =
                format!("run as the owner of the store, or set {CACHE_VARIABLE} to another folder");
            return failure.with_help(help);
        }
        return failure;
    }
    let free = rustix::fs::statvfs(root).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
    Failure::new(
        Class::Io,
        format!(
            "no space left to {action}: {} free on the file system of {}",
            Bytes(free),
            root.display()
        ),
    )
    .with_source(error)
    .with_help(format!(
        "free some space, prune the store, or set {CACHE_VARIABLE} to a folder on a larger disk"
    ))
}

/// `None` for what is not there, or was removed meanwhile.
pub(crate) fn unless_gone<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Writes a folder's entries to the disk, so that a rename in it survives a power cut.
fn sync_folder(folder: &Path) -> io::Result<()> {
    fs_err::File::open(folder)?.sync_all()
}

/// Notes that `path` was used just now, for pruning.
fn touch(path: &Path) -> io::Result<()> {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags)?)
}

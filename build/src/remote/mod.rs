//! The remote store: nodes and inputs that machines share through a bucket or a folder.
//!
//! ```text
//! nodekiln-store                       what this is, and the layout's number
//! blobs/sha256/ab/<64 hex digits>      an input, named by its digest
//! packs/sha256/<64 hex digits>         a node's output (pack), named by its digest
//! nodes/<node's id>/<key's name>       a signed record: id, inventory, pack (record)
//! ```
//!
//! - An input is pinned by the lock, so it may come from anywhere.
//! - A node's output follows from its id only for who executes it. So a record is signed, and is read
//!   from the places of trusted keys alone; each key has its own, so that builders that do not trust
//!   each other can share a bucket. A pack is read when its digest is the one that was signed.
//! - Whatever is missing, cut short, changed or put in another's place is told, made on this machine,
//!   and replaced there. A remote store that fails half-way costs its help and nothing else.
//!
//! Objects are pushed before the record that names them, and are read as they are needed: below a
//! node that was pulled, nothing is asked for.

mod keys;
mod pack;
mod parallel;
mod place;
mod pull;
mod push;
mod record;
mod transfer;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nodekiln_recipes::plan::NodeId;
use nodekiln_words::{Cancel, Class, Event, Failure, Progress, Result, ResultExt as _, Sha256};
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode};
use serde::Serialize;

pub use keys::public_line;
pub use push::Shared;

use self::keys::Keys;
use self::place::{Patience, Place};
use self::record::Offer;
use self::trouble::{Tried, Trouble, reason};
use crate::fetch::cancelled;
use crate::store::Store;

/// The object that tells what a place is for.
const MARKER: &str = "nodekiln-store";
/// What it holds; the number is raised when older versions could not read the store.
const LAYOUT: &str = "nodekiln remote store 1\n";
/// What it holds in every version.
const LAYOUT_START: &str = "nodekiln remote store ";
/// How long the first answer may take: what is wrong with address or credentials is told at once.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// What buckets that do not exist are answered by, in each cloud.
const NO_BUCKET: [&str; 4] =
    ["NoSuchBucket", "ContainerNotFound", "bucket does not exist", "container does not exist"];

/// Which remote store, and how it is used.
#[derive(Clone, Debug, Default)]
pub struct RemoteSettings {
    /// Its address: `s3://BUCKET/PREFIX`, `gs://…`, `az://…` or `file:///FOLDER`.
    pub address: String,
    /// Pull only.
    pub read_only: bool,
    /// Private key that signs what is pushed; by default the store's own.
    pub key: Option<PathBuf>,
    /// Files of public keys whose signatures are believed besides.
    pub trust: Vec<PathBuf>,
    /// A PEM file of certificate authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// A remote store in use.
pub struct Remote {
    address: String,
    objects: Arc<dyn ObjectStore>,
    store: Store,
    progress: Arc<dyn Progress>,
    cancel: Cancel,
    keys: Keys,
    read_only: bool,
    state: Mutex<State>,
    /// `Some` until dropped; taken then, because a runtime must not be dropped in async code.
    runtime: Option<tokio::runtime::Runtime>,
}

/// What was learned and done so far.
#[derive(Default)]
struct State {
    /// It failed, and is not asked again.
    lost: bool,
    /// It was said that some objects may not be looked at.
    refused: bool,
    /// Objects that are not what they should be.
    bad: BTreeSet<String>,
    /// What it has of the nodes that were asked for.
    offers: BTreeMap<NodeId, Option<Offer>>,
    /// Names of keys that are not trusted and have signed what was wanted; whether that was told.
    foreign: BTreeSet<Sha256>,
    told_foreign: bool,
    traffic: Traffic,
}

/// What went to and fro.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// What came from the remote store.
    pub pulled: Moved,
    /// What it was given.
    pub pushed: Moved,
}

/// What went in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Nodes, by name.
    pub nodes: BTreeSet<String>,
    /// Number of inputs.
    pub inputs: u64,
    /// Sum of the lengths of all objects.
    pub bytes: u64,
}

impl Remote {
    /// The remote store that `settings` name, for `store`.
    ///
    /// # Errors
    /// At once where the address, a key file or the credentials are wrong, where the bucket or folder
    /// is missing, and where it cannot be written although it is to be.
    pub fn connect(
        settings: &RemoteSettings,
        store: &Store,
        progress: Arc<dyn Progress>,
        cancel: Cancel,
    ) -> Result<Self> {
        let place: Place = settings.address.parse()?;
        let ca_file = settings.ca_file.as_deref();
        let objects = place.open(Patience::Little, ca_file)?;
        let mut remote = Self::over(objects, settings, store, progress, cancel)?;
        remote.greet(place.remedy())?;
        remote.objects = place.open(Patience::Much, ca_file)?;
        Ok(remote)
    }

    /// A remote store whose objects are in `objects`, which is not asked yet.
    ///
    /// # Errors
    /// Where a key file is wrong or a key cannot be made.
    pub fn over(
        objects: Arc<dyn ObjectStore>,
        settings: &RemoteSettings,
        store: &Store,
        progress: Arc<dyn Progress>,
        cancel: Cancel,
    ) -> Result<Self> {
        let make = !settings.read_only;
        let keys = Keys::of(store, settings.key.as_deref(), &settings.trust, make)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("remote")
            .enable_all()
            .build()
            .or_io(|| "cannot start threads for the remote store".into())?;
        Ok(Self {
            address: settings.address.clone(),
            objects,
            store: store.clone(),
            progress,
            cancel,
            keys,
            read_only: settings.read_only,
            state: Mutex::default(),
            runtime: Some(runtime),
        })
    }

    /// What was pulled and pushed so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.state().traffic.clone()
    }

    /// Whether nothing may be pushed.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Looks whether this is a store, and makes it one where it is empty.
    fn greet(&self, remedy: &str) -> Result<()> {
        let answer = self.wait(async {
            let answer = tokio::time::timeout(FIRST_ANSWER, async {
                self.objects.get(&MARKER.into()).await?.bytes().await
            });
            answer.await.unwrap_or_else(|_| Err(unanswered()))
        });
        let found = match answer? {
            Ok(bytes) => Some(bytes),
            Err(object_store::Error::NotFound { source, .. }) if !names_no_bucket(&*source) => None,
            Err(error) => return Err(self.unusable(&error, remedy)),
        };
        match found.as_deref().map(String::from_utf8_lossy) {
            Some(text) if text == LAYOUT => return Ok(()),
            Some(text) if text.starts_with(LAYOUT_START) => {
                let message = format!("the remote store {} has another layout", self.address);
                return Err(Failure::new(Class::Unsupported, message)
                    .with_help("use a newer nodekiln, or another bucket or prefix"));
            }
            Some(_) => self.warn(format!(
                "{MARKER} of the remote store is not what nodekiln wrote; nothing else is believed \
                 unless it is signed or pinned"
            )),
            None if self.read_only => {
                let text = format!("the remote store {} is empty so far", self.address);
                self.progress.event(Event::Note(text));
            }
            None => {}
        }
        if self.read_only {
            return Ok(());
        }
        let layout = LAYOUT.as_bytes().to_vec().into();
        match self.wait(self.objects.put_opts(&MARKER.into(), layout, PutMode::Overwrite.into()))? {
            Ok(_) => Ok(()),
            Err(error @ object_store::Error::PermissionDenied { .. }) => {
                let message = format!("the remote store {} may not be written", self.address);
                Err(Failure::input(message)
                    .with_source(std::io::Error::other(reason(&error)))
                    .with_help("use --cache-remote-read-only, or credentials that may write"))
            }
            Err(error) => Err(self.unusable(&error, remedy)),
        }
    }

    /// Why the remote store cannot be used at all.
    fn unusable(&self, error: &object_store::Error, remedy: &str) -> Failure {
        let why = reason(error);
        let insecure = why.contains("scheme is not allowed");
        let signs = ["credential", "metadata", "169.254.169.254", "token"];
        let lower = why.to_lowercase();
        let nobody = || signs.iter().any(|sign| lower.contains(sign));
        let (class, what, remedy) = match error {
            _ if insecure => (
                Class::Input,
                "its address is not https",
                "set AWS_ALLOW_HTTP=true (or AZURE_…, GOOGLE_…) where nobody else can listen",
            ),
            object_store::Error::NotFound { .. } => (
                Class::Input,
                "there is no such bucket",
                "make the bucket or container first, or name another",
            ),
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => {
                (Class::Input, "the credentials are refused, or may not read it", remedy)
            }
            _ if nobody() => (Class::Input, "there are no credentials that it would take", remedy),
            _ => (
                Class::Missing,
                "it does not answer",
                "check the address, the region and the network; a server of your own is named by \
                 AWS_ENDPOINT_URL, AZURE_STORAGE_ENDPOINT or GOOGLE_BASE_URL",
            ),
        };
        let message = format!("cannot use the remote store {}: {what}", self.address);
        Failure::new(class, message).with_source(std::io::Error::other(why)).with_help(remedy)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn(&self, text: String) {
        self.progress.event(Event::Warning(text));
    }

    /// Whether it is still asked.
    fn is_lost(&self) -> bool {
        self.state().lost
    }

    /// Waits for an answer, or until somebody asks to stop.
    fn wait<T>(&self, answer: impl Future<Output = T>) -> Result<T> {
        let Some(runtime) = &self.runtime else { return Err(Failure::interrupted()) };
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = cancelled(&self.cancel) => Err(Failure::interrupted()),
                answer = answer => Ok(answer),
            }
        })
    }

    /// What an attempt at `object` came to; all but trouble on this machine is told and passed over.
    fn settled<T>(&self, object: &str, outcome: Tried<T>) -> Result<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(Trouble::Here(failure)) => Err(failure),
            Err(Trouble::Object(why)) => {
                self.state().bad.insert(object.to_owned());
                self.warn(format!("{object} of the remote store is not used: {why}"));
                Ok(None)
            }
            Err(Trouble::Remote(why)) => {
                let was_lost = std::mem::replace(&mut self.state().lost, true);
                if !was_lost {
                    let address = &self.address;
                    self.warn(format!("going on without the remote store {address}: {why}"));
                }
                Ok(None)
            }
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn names_no_bucket(error: &(dyn std::error::Error + 'static)) -> bool {
    let why = reason(error);
    NO_BUCKET.iter().any(|sign| why.contains(sign))
}

fn unanswered() -> object_store::Error {
    let text = format!("no answer within {} s", FIRST_ANSWER.as_secs());
    object_store::Error::Generic { store: "remote", source: text.into() }
}

/// Where the record of a node that a key signed is.
fn record_path(id: NodeId, key: &Sha256) -> String {
    format!("nodes/{id}/{key}")
}

/// Where a pack is.
fn pack_path(digest: &Sha256) -> String {
    format!("packs/sha256/{digest}")
}

/// Where a blob is. The two digits in between keep folders short where the store is one.
fn blob_path(digest: &Sha256) -> String {
    let hex = digest.to_string();
    format!("blobs/sha256/{}/{hex}", hex.get(..2).unwrap_or_default())
}

#[cfg(test)]
mod tests;

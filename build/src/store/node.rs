//! Results of nodes: a folder with record, inventory and output, put into place by one rename.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nodekiln_recipes::inventory::Inventory;
use nodekiln_recipes::plan::NodeId;
use nodekiln_words::{Cancel, Class, Event, Failure, Result, ResultExt, Sha256};
use serde::{Deserialize, Serialize};

use super::{FileLock, ScratchDir, Store, locked, sync_folder, touch};

const RECORD: &str = "record.json";
/// The digest of the record, in hexadecimal: facts stand nowhere else.
const RECORD_DIGEST: &str = "record.sha256";
const INVENTORY: &str = "inventory.jsonl";
const OUTPUT: &str = "output";

/// Lists what stands in a folder, with a digest of every file; overlay whiteouts are understood.
pub type Scan<'a> = &'a (dyn Fn(&Path, &Inventory, &Cancel) -> Result<Inventory> + Sync);

/// What is known about a node's result without reading it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRecord {
    /// The node's name in its plan.
    pub name: String,
    /// What the id is the digest of; compared field by field to explain a miss.
    pub preimage: String,
    /// Digest of the inventory, and so of everything in the output.
    pub output: Sha256,
    /// Number of regular files, each name of a file counted.
    pub files: u64,
    /// Sum of their lengths in bytes.
    pub bytes: u64,
    /// How long the work took.
    pub seconds: f64,
    /// What later nodes want to know, such as `containerd.version`.
    pub facts: BTreeMap<String, String>,
}

/// A node's result in the store.
#[derive(Clone)]
pub struct StoredNode {
    /// The node.
    pub id: NodeId,
    /// What is known about it.
    pub record: NodeRecord,
    folder: PathBuf,
    store: Store,
}

/// What [`Store::begin_node`] found.
pub enum Begun {
    /// Somebody has done the work.
    AlreadyThere(StoredNode),
    /// The work is the caller's; others wait meanwhile.
    Mine(NodeInProgress),
}

/// A node's result under way. Dropping it without [`NodeInProgress::commit`] removes it.
pub struct NodeInProgress {
    id: NodeId,
    store: Store,
    scratch: ScratchDir,
    /// Others wait on it until the node stands in its place.
    _lock: FileLock,
}

impl Store {
    /// The result of the node `id`, if it is there. A record or inventory that cannot be right is
    /// moved to `damaged/` with its output, and counts as missing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn node(&self, id: NodeId) -> Result<Option<StoredNode>> {
        let folder = self.node_folder(id);
        if !self.note_use(&folder)? {
            return Ok(None);
        }
        self.read_node(id, folder)
    }

    /// The node in `folder`, which is moved aside if it is damaged.
    pub(super) fn read_node(&self, id: NodeId, folder: PathBuf) -> Result<Option<StoredNode>> {
        match read_record(&folder) {
            Ok(record) => Ok(Some(StoredNode { id, record, folder, store: self.clone() })),
            Err(failure) => {
                self.move_aside(&folder, &format!("node {id} is damaged: {failure}"));
                Ok(None)
            }
        }
    }

    /// The result of the node `id`, or the right to make it. While another process makes it, this
    /// one waits and says so.
    ///
    /// # Errors
    /// When asked to stop, or when the store cannot be written.
    pub fn begin_node(&self, id: NodeId, cancel: &Cancel) -> Result<Begun> {
        if let Some(node) = self.node(id)? {
            return Ok(Begun::AlreadyThere(node));
        }
        let waiting = || {
            let text = format!("waiting for another process that makes node {}", id.0.short());
            self.0.progress.event(Event::Note(text));
        };
        let path = self.root().join("locks").join(format!("node-{id}"));
        let mut lock =
            FileLock::exclusive(&path, cancel, waiting, |error| self.failed("lock a node", error))?;
        lock.remove_when_done();
        if let Some(node) = self.node(id)? {
            return Ok(Begun::AlreadyThere(node));
        }
        let scratch = self.scratch_dir(&format!("node-{}", id.0.short()))?;
        Ok(Begun::Mine(NodeInProgress { id, store: self.clone(), scratch, _lock: lock }))
    }

    /// The records of all nodes by id, for comparing; damaged ones are left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn records(&self) -> Result<BTreeMap<NodeId, NodeRecord>> {
        let ids = self.node_ids()?;
        let record = |id| read_record(&self.node_folder(id)).ok().map(|record| (id, record));
        Ok(ids.into_iter().filter_map(record).collect())
    }

    pub(super) fn node_folder(&self, id: NodeId) -> PathBuf {
        self.root().join("nodes").join(id.to_string())
    }

    pub(super) fn node_ids(&self) -> Result<Vec<NodeId>> {
        let mut ids = Vec::new();
        for entry in fs_err::read_dir(self.root().join("nodes")).or_io(|| "the store".into())? {
            let name = entry.or_io(|| "the store".into())?.file_name();
            ids.extend(name.to_str().and_then(|name| name.parse().ok()).map(NodeId));
        }
        ids.sort_unstable();
        Ok(ids)
    }
}

impl StoredNode {
    /// The folder of the output: a layer, or files for other nodes.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.folder.join(OUTPUT)
    }

    /// What stands in the output.
    ///
    /// # Errors
    /// When the inventory is not the one that the record names.
    pub fn inventory(&self) -> Result<Inventory> {
        let name = || format!("inventory of node `{}` ({})", self.record.name, self.id.0.short());
        let text = fs_err::read_to_string(self.folder.join(INVENTORY)).or_io(name)?;
        let found = Sha256::of(&text);
        if found != self.record.output {
            let wrong =
                format!("{}: expected sha256 {}, found {found}", name(), self.record.output);
            self.store.move_aside(&self.folder, &wrong);
            return Err(Failure::io(wrong).with_help("run again: the node is made anew"));
        }
        Inventory::from_lines(&text).or_io(name)
    }

    /// Compares the output with its inventory, file by file, once per process. A node that differs
    /// is moved to `damaged/`.
    ///
    /// # Errors
    /// When something differs, naming the first such path.
    pub fn verify(&self, scan: Scan<'_>, cancel: &Cancel) -> Result<()> {
        if locked(&self.store.0.intact_nodes).contains(&self.id) {
            return Ok(());
        }
        if let Some(damage) = self.damage(scan, cancel)? {
            let wrong = format!("node `{}` ({}) is damaged: {damage}", self.record.name, self.id);
            self.store.move_aside(&self.folder, &wrong);
            return Err(Failure::new(Class::Io, wrong)
                .with_help("run again: the node is made anew; if this returns, check the disk"));
        }
        locked(&self.store.0.intact_nodes).insert(self.id);
        Ok(())
    }

    /// The first difference between output and inventory.
    pub(super) fn damage(&self, scan: Scan<'_>, cancel: &Cancel) -> Result<Option<String>> {
        let expected = self.inventory()?;
        let found = scan(&self.output(), &expected, cancel)?;
        Ok(first_difference(&expected, &found))
    }
}

impl NodeInProgress {
    /// The scratch folder; the work leaves its result in `output/` below it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// Gives the scratch folder up to the caller, who looks into it; nothing removes it any more.
    ///
    /// # Errors
    /// When the folder cannot be renamed.
    pub fn keep(self) -> Result<PathBuf> {
        let kept = self.store.failed_root().join(self.id.0.short());
        let keep = || {
            super::remove_tree(&kept)?;
            fs_err::rename(self.scratch.path(), &kept)?;
            touch(&kept)
        };
        keep().map_err(|error| self.store.failed("keep a failed node's folder", error))?;
        Ok(kept)
    }

    /// Where to log what may fail and has no build whose logs it could be among: a file beside the kept
    /// folders of failed nodes, which outlives the scratch folder. Another try has the same.
    #[must_use]
    pub fn lasting_log(&self) -> PathBuf {
        self.store.failed_root().join(format!("{}.log", self.id.0.short()))
    }

    /// Puts the result into place: everything flushed to the disk, then one rename. What else the
    /// work left in its scratch folder is dropped.
    ///
    /// # Errors
    /// When the record does not fit the inventory, or something cannot be written.
    pub fn commit(self, record: NodeRecord, inventory: &Inventory) -> Result<StoredNode> {
        let text = inventory.lines().fold(String::new(), |text, line| text + &line + "\n");
        let found = Sha256::of(&text);
        if found != record.output {
            return Err(Failure::io(format!(
                "node `{}`: its record names the output {}, its inventory is {found}",
                record.name, record.output
            )));
        }
        let result = self.store.scratch_dir(&format!("done-{}", self.id.0.short()))?;
        let folder = self.store.node_folder(self.id);
        self.assemble(result.path(), &record, &text)
            .and_then(|()| fs_err::rename(result.path(), &folder))
            .and_then(|()| sync_folder(&self.store.root().join("nodes")))
            .map_err(|error| self.store.failed("keep a node", error))?;
        locked(&self.store.0.intact_nodes).insert(self.id);
        Ok(StoredNode { id: self.id, record, folder, store: self.store.clone() })
    }

    fn assemble(&self, result: &Path, record: &NodeRecord, text: &str) -> std::io::Result<()> {
        fs_err::rename(self.dir().join(OUTPUT), result.join(OUTPUT))?;
        fs_err::write(result.join(INVENTORY), text)?;
        let record = serde_json::to_vec_pretty(record)?;
        fs_err::write(result.join(RECORD_DIGEST), Sha256::of(&record).to_string())?;
        fs_err::write(result.join(RECORD), record)?;
        // One call for the thousands of files of a layer, in place of one fsync for each.
        rustix::fs::syncfs(fs_err::File::open(result)?.file())?;
        Ok(())
    }
}

fn read_record(folder: &Path) -> Result<NodeRecord> {
    let bytes = fs_err::read(folder.join(RECORD)).or_io(|| "no record".into())?;
    let expected = fs_err::read_to_string(folder.join(RECORD_DIGEST)).unwrap_or_default();
    let found = Sha256::of(&bytes);
    if expected != found.to_string() {
        return Err(Failure::io(format!("its record's digest is {found}, not {expected}")));
    }
    let record = serde_json::from_slice(&bytes).or_io(|| "its record cannot be read".into())?;
    if !folder.join(INVENTORY).is_file() || !folder.join(OUTPUT).is_dir() {
        return Err(Failure::io("its inventory or output is missing"));
    }
    Ok(record)
}

/// The first path, in order, of which the two say different things, and what.
pub(crate) fn first_difference(expected: &Inventory, found: &Inventory) -> Option<String> {
    let expected_only = expected
        .entries
        .iter()
        .find(|(path, entry)| found.entries.get(*path) != Some(entry))
        .map(|(path, _)| path);
    let found_only = found.entries.keys().find(|path| !expected.entries.contains_key(*path));
    let path = expected_only.into_iter().chain(found_only).min()?;
    let describe = |inventory: &Inventory| match inventory.entries.get(path) {
        Some(entry) => serde_json::to_string(entry).unwrap_or_default(),
        None => "nothing".to_owned(),
    };
    Some(format!("`{path}` should be {}, found {}", describe(expected), describe(found)))
}

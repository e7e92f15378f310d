//! What an executor needs, set up in a temporary folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nodekiln_build::execution::Execution;
use nodekiln_build::layer::private_mounts;
use nodekiln_build::sandbox::Sandbox;
use nodekiln_build::store::{Begun, NodeRecord, Store, StoredNode};
use nodekiln_recipes::Inventory;
use nodekiln_recipes::plan::NodeId;
use nodekiln_words::{Cancel, Sha256, Silent, SourceDate};

/// A store, a sandbox and folders, gone when dropped.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) sandbox: Sandbox,
    pub(crate) cancel: Cancel,
    pub(crate) log: PathBuf,
}

pub(crate) fn source_date() -> SourceDate {
    SourceDate::from_unix(1_700_000_000).unwrap()
}

impl Bench {
    /// Mounts are private to the test's thread.
    pub(crate) fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// The same below `parent`, which may be of another file system.
    pub(crate) fn within(parent: &Path) -> Self {
        private_mounts().unwrap();
        let folder = tempfile::tempdir_in(parent).unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let log = folder.path().join("log");
        let launcher = PathBuf::from(env!("CARGO_BIN_EXE_nodekiln-sandbox"));
        Self {
            folder,
            store,
            sandbox: Sandbox { launcher, clock: None },
            cancel: Cancel::default(),
            log,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `work` in the new scratch folder `name`, over `below`, with `uses`, and returns its
    /// output folder and result.
    pub(crate) fn execute<T>(
        &self,
        name: &str,
        below: &[&Path],
        facts: &BTreeMap<String, String>,
        uses: &[&StoredNode],
        work: impl FnOnce(&Execution<'_>) -> T,
    ) -> (PathBuf, T) {
        let scratch = self.path(name);
        std::fs::create_dir(&scratch).unwrap();
        let uses = uses.iter().map(|node| (node.record.name.clone(), (*node).clone())).collect();
        let execution = Execution {
            store: &self.store,
            sandbox: &self.sandbox,
            progress: &Silent,
            cancel: &self.cancel,
            source_date: source_date(),
            scratch: &scratch,
            log: &self.log,
            below: below.iter().map(|path| path.to_path_buf()).collect(),
            below_facts: facts,
            uses,
            shell_on_failure: false,
        };
        let result = work(&execution);
        (scratch.join("output"), result)
    }

    /// A stored node whose output `fill` makes.
    pub(crate) fn stored(&self, name: &str, fill: impl FnOnce(&Path)) -> StoredNode {
        let id = NodeId(Sha256::of(name));
        let Begun::Mine(node) = self.store.begin_node(id, &self.cancel).unwrap() else {
            panic!("{name} is there already")
        };
        let output = node.dir().join("output");
        std::fs::create_dir_all(&output).unwrap();
        fill(&output);
        let inventory = Inventory::default();
        let record = NodeRecord {
            name: name.to_owned(),
            preimage: String::new(),
            output: inventory.digest(),
            files: 0,
            bytes: 0,
            seconds: 0.0,
            facts: BTreeMap::new(),
        };
        node.commit(record, &inventory).unwrap()
    }
}

//! Steps in small trees.

mod debian;
mod simple;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nodekiln_build::execution::Execution;
use nodekiln_build::layer::{private_mounts, scan};
use nodekiln_build::sandbox::Sandbox;
use nodekiln_build::store::Store;
use nodekiln_recipes::Inventory;
use nodekiln_words::{Cancel, Progress, Result, Silent};

use crate::place::source_date;

/// Where one node is executed.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    pub(crate) store: Store,
    sandbox: Sandbox,
    pub(crate) below: Vec<PathBuf>,
    scratches: usize,
}

impl Bench {
    /// With this tree as the only layer below.
    pub(crate) fn over(below: &Path) -> Self {
        private_mounts().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let launcher = PathBuf::from(env!("CARGO_BIN_EXE_nodekiln-sandbox"));
        let below = vec![below.to_path_buf()];
        Self { folder, store, sandbox: Sandbox { launcher, clock: None }, below, scratches: 0 }
    }

    /// With an own tree, filled by `fill`, as the only layer below.
    pub(crate) fn with(fill: impl FnOnce(&Path)) -> Self {
        let mut bench = Self::over(Path::new("/nonexistent"));
        let tree = bench.folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fill(&tree);
        bench.below = vec![tree];
        bench
    }

    /// Executes a step; on success its layer lies upon those below from then on.
    pub(crate) fn run(
        &mut self,
        step: impl FnOnce(&Execution<'_>) -> Result<BTreeMap<String, String>>,
    ) -> Result<(BTreeMap<String, String>, Inventory)> {
        self.run_with(&Silent, step)
    }

    pub(crate) fn run_with(
        &mut self,
        progress: &dyn Progress,
        step: impl FnOnce(&Execution<'_>) -> Result<BTreeMap<String, String>>,
    ) -> Result<(BTreeMap<String, String>, Inventory)> {
        self.scratches += 1;
        let scratch = self.folder.path().join(format!("node-{}", self.scratches));
        fs::create_dir(&scratch).unwrap();
        let facts = step(&Execution {
            store: &self.store,
            sandbox: &self.sandbox,
            progress,
            cancel: &Cancel::default(),
            source_date: source_date(),
            scratch: &scratch,
            log: &scratch.join("log"),
            below: self.below.clone(),
            below_facts: &BTreeMap::new(),
            uses: BTreeMap::new(),
            shell_on_failure: false,
        })?;
        self.below.push(scratch.join("output"));
        let inventory = scan(&scratch.join("output"), true, &Cancel::default())?;
        Ok((facts, inventory))
    }
}

pub(crate) fn write(tree: &Path, path: &str, text: &str) {
    let path = tree.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub(crate) fn paths(inventory: &Inventory) -> Vec<&str> {
    inventory.entries.keys().map(String::as_str).collect()
}

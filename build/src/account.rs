//! The account of a finished tree: every path with its digest, the node that wrote it last, and a
//! reader for its files, all from the store and without a mount.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use nodekiln_recipes::inventory::{EntryKind, TreeReader};
use nodekiln_recipes::plan::Plan;
use nodekiln_recipes::{Inventory, NodeId};
use nodekiln_words::{Failure, Result};

use crate::layer::Confined;
use crate::store::StoredNode;

/// A finished tree, accounted for.
pub struct Account {
    /// Every path of the tree.
    pub inventory: Inventory,
    /// Name of the node whose layer wrote a path last, by path.
    pub owners: BTreeMap<String, String>,
    /// What the nodes of the tree found out; a higher layer has the last word.
    pub facts: BTreeMap<String, String>,
    /// Layer folders by node name.
    folders: BTreeMap<String, PathBuf>,
}

impl Account {
    /// The account of the tree that `provider`'s disk is made from.
    ///
    /// # Errors
    /// When the plan has no disk for that provider, or a layer is not among `nodes` or unreadable.
    pub fn of(plan: &Plan, provider: &str, nodes: &BTreeMap<String, StoredNode>) -> Result<Self> {
        let top = plan.disk_for(provider).and_then(|disk| disk.below.as_deref());
        let top =
            top.ok_or_else(|| Failure::io(format!("the plan has no tree for `{provider}`")))?;
        let mut account = Self {
            inventory: Inventory::default(),
            owners: BTreeMap::new(),
            facts: BTreeMap::new(),
            folders: BTreeMap::new(),
        };
        for layer in plan.chain(top) {
            let stored = nodes.get(&layer.name).ok_or_else(|| missing(&layer.name, layer.id))?;
            account.lay_over(&layer.name, stored)?;
        }
        account.owners.retain(|path, _| account.inventory.entries.contains_key(path));
        Ok(account)
    }

    fn lay_over(&mut self, name: &str, stored: &StoredNode) -> Result<()> {
        let upper = stored.inventory()?;
        for (path, entry) in &upper.entries {
            // A layer names each folder on the way to its files; only a new folder is its own.
            let is_folder = matches!(entry.kind, EntryKind::Directory { .. });
            if !(is_folder && self.owners.contains_key(path)) {
                self.owners.insert(path.clone(), name.to_owned());
            }
        }
        self.inventory.lay_over(&upper);
        self.facts.extend(stored.record.facts.clone());
        self.folders.insert(name.to_owned(), stored.output());
        Ok(())
    }

    /// The path at which `path` ends once every link in it is followed within the tree.
    fn resolve(&self, path: &str) -> Option<String> {
        let mut rest: Vec<String> = parts(path).rev().collect();
        let mut resolved = String::new();
        let mut followed = 0;
        while let Some(part) = rest.pop() {
            if part == ".." {
                resolved.truncate(resolved.rfind('/').unwrap_or(0));
                continue;
            }
            let next = format!("{resolved}/{part}");
            match self.inventory.entries.get(&next).map(|entry| &entry.kind) {
                Some(EntryKind::Link { target }) => {
                    followed += 1;
                    if followed > MOST_LINKS {
                        return None;
                    }
                    if target.starts_with('/') {
                        resolved.clear();
                    }
                    rest.extend(parts(target).rev());
                }
                Some(_) => resolved = next,
                None => return None,
            }
        }
        Some(resolved)
    }
}

/// As many links as Linux follows in one path (`MAXSYMLINKS`, path_resolution(7)).
const MOST_LINKS: usize = 40;

/// The components of a path that move anywhere.
fn parts(path: &str) -> impl DoubleEndedIterator<Item = String> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned)
}

fn missing(name: &str, id: NodeId) -> Failure {
    Failure::io(format!("the layer `{name}` ({id}) is not in the store"))
        .with_help("it was removed meanwhile; build again")
}

impl TreeReader for Account {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(path) = self.resolve(path) else { return Ok(None) };
        let is_file = matches!(
            self.inventory.entries.get(&path).map(|entry| &entry.kind),
            Some(EntryKind::File { .. })
        );
        let folder = self.owners.get(&path).and_then(|owner| self.folders.get(owner));
        match folder {
            Some(folder) if is_file => Confined::new(folder)?.read(&path),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nodekiln_recipes::inventory::Entry;
    use nodekiln_words::Sha256;

    use super::*;

    fn account(entries: &[(&str, EntryKind)]) -> Account {
        let entry = |kind: &EntryKind| Entry {
            kind: kind.clone(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: BTreeMap::new(),
        };
        let entries = entries.iter().map(|(path, kind)| ((*path).to_owned(), entry(kind)));
        Account {
            inventory: Inventory { entries: entries.collect() },
            owners: BTreeMap::new(),
            facts: BTreeMap::new(),
            folders: BTreeMap::new(),
        }
    }

    fn link(target: &str) -> EntryKind {
        EntryKind::Link { target: target.to_owned() }
    }

    #[test]
    fn links_are_followed_within_the_tree_only() {
        let folder = || EntryKind::Directory { opaque: false };
        let file = || EntryKind::File { size: 0, sha256: Sha256::of("") };
        let account = account(&[
            ("/usr", folder()),
            ("/usr/bin", folder()),
            ("/usr/bin/sh", link("dash")),
            ("/usr/bin/dash", file()),
            ("/bin", link("usr/bin")),
            ("/out", link("../../../usr/bin/dash")),
            ("/loop", link("/loop")),
        ]);
        assert_eq!(account.resolve("/bin/sh").as_deref(), Some("/usr/bin/dash"));
        assert_eq!(account.resolve("/out").as_deref(), Some("/usr/bin/dash"));
        assert_eq!(account.resolve("/bin/.././bin/sh").as_deref(), Some("/usr/bin/dash"));
        assert_eq!(account.resolve("/loop"), None);
        assert_eq!(account.resolve("/absent"), None);
    }
}

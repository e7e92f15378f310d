//! Finds where two stores' results of one plan differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;

use nodekiln_disk::gpt::Table;
use nodekiln_disk::{Disk, SECTOR};
use nodekiln_recipes::inventory::{Entry, EntryKind};
use nodekiln_recipes::plan::{Node, Plan, Work};
use nodekiln_words::{Cancel, Failure, Result, ResultExt as _};

use super::cause::{Evidence, likely};
use super::{Comparison, Conditions, Difference, Kind};
use crate::layer::Confined;
use crate::store::{Store, StoredNode};

/// Differences told for one node; a script that fills a folder with chance would have thousands.
const TOLD: usize = 50;
/// Bytes of a file that are looked at for a cause.
const LOOKED_AT: usize = 4 << 20;
/// Where every file of a tree ends up.
const ROOT: &str = "partition root";

/// Holds the results of `plan`'s nodes in `first` against those in `second`, which were built under the
/// conditions given. A node that one of the stores lacks was not needed there and is passed over.
///
/// # Errors
/// When a store cannot be read.
pub fn compare(
    plan: &Plan,
    first: &Store,
    second: &Store,
    conditions: &Conditions,
    cancel: &Cancel,
) -> Result<Comparison> {
    let mut comparison = Comparison::default();
    let mut unequal: BTreeSet<&str> = BTreeSet::new();
    for node in &plan.nodes {
        cancel.check()?;
        let (Some(one), Some(other)) = (first.node(node.id)?, second.node(node.id)?) else {
            continue;
        };
        comparison.nodes += 1;
        if one.record.output == other.record.output {
            continue;
        }
        let below = node.below.as_deref().map(|below| plan.chain(below)).unwrap_or_default();
        let mut parents =
            below.iter().map(|node| node.name.as_str()).chain(node.uses.iter().map(String::as_str));
        if parents.any(|parent| unequal.contains(parent)) {
            comparison.consequences.push(node.name.clone());
        } else {
            let pair = Pair { node, one, other, conditions, cancel };
            comparison.differences.extend(pair.differences()?);
        }
        unequal.insert(&node.name);
    }
    Ok(comparison)
}

/// One node made twice.
struct Pair<'a> {
    node: &'a Node,
    one: StoredNode,
    other: StoredNode,
    conditions: &'a Conditions,
    cancel: &'a Cancel,
}

impl Pair<'_> {
    fn differences(&self) -> Result<Vec<Difference>> {
        let (one, other) = (self.one.inventory()?.entries, self.other.inventory()?.entries);
        let paths: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        let differ = paths.into_iter().filter(|path| one.get(*path) != other.get(*path));
        let mut differences = Vec::new();
        for path in differ.take(TOLD) {
            differences.push(self.difference(path, &one, &other)?);
        }
        // A folder's own time tells nothing that the entry in it does not tell better.
        let telling = |difference: &Difference| !matches!(difference.kind, Kind::Attributes { .. });
        if differences.iter().any(telling) {
            differences.retain(|difference| {
                let path = difference.path.as_deref().unwrap_or_default();
                let is_folder = |entry: &Entry| matches!(entry.kind, EntryKind::Directory { .. });
                telling(difference) || !one.get(path).is_some_and(is_folder)
            });
        }
        Ok(differences)
    }

    fn difference(
        &self,
        path: &str,
        one: &BTreeMap<String, Entry>,
        other: &BTreeMap<String, Entry>,
    ) -> Result<Difference> {
        let (one, other) = (one.get(path), other.get(path));
        if let (Work::Disk { .. }, Some(EntryKind::Disk { .. }), Some(EntryKind::Disk { .. })) =
            (&self.node.work, one.map(|entry| &entry.kind), other.map(|entry| &entry.kind))
        {
            return self.disks(path);
        }
        let bytes = |stored: &StoredNode, entry: Option<&Entry>| -> Result<Vec<u8>> {
            match entry.map(|entry| &entry.kind) {
                Some(EntryKind::File { .. }) => head_of(stored, path),
                _ => Ok(Vec::new()),
            }
        };
        let (first, second) = (bytes(&self.one, one)?, bytes(&self.other, other)?);
        let kind = match (one, other) {
            (Some(_), None) => Kind::OnlyFirst,
            (None, _) => Kind::OnlySecond,
            (Some(one), Some(other)) => kind(one, other, &first, &second),
        };
        let evidence = Evidence { path, kind: &kind, first: &first, second: &second };
        let cause = likely(&evidence, self.conditions);
        Ok(Difference {
            node: self.node.name.clone(),
            partition: ROOT.to_owned(),
            file_system: "ext4".to_owned(),
            path: Some(path.to_owned()),
            kind,
            cause,
        })
    }

    /// The trees are equal and the disks are not.
    fn disks(&self, path: &str) -> Result<Difference> {
        let open = |stored: &StoredNode| -> Result<Disk> {
            let path = stored.output().join(path.trim_start_matches('/'));
            let file = File::open(&path).or_io(|| format!("cannot open {}", path.display()))?;
            let length = file.metadata().or_io(|| "cannot read a disk".to_owned())?.len();
            Ok(Disk::over_file(&Arc::new(file), length))
        };
        let (one, other) = (open(&self.one)?, open(&self.other)?);
        let offset = one.first_difference(&other, self.cancel)?.unwrap_or(0);
        let partition = partition_of(&one, offset);
        let file_system = match partition.as_str() {
            ROOT => "ext4, its own structures",
            _ => "its own bytes",
        };
        Ok(Difference {
            node: self.node.name.clone(),
            partition,
            file_system: file_system.to_owned(),
            path: None,
            kind: Kind::Content { offset },
            cause: Some(
                "what lays out the disk: mke2fs, the boot loader, the partition table".into(),
            ),
        })
    }
}

/// In what two entries of one path differ.
fn kind(one: &Entry, other: &Entry, first: &[u8], second: &[u8]) -> Kind {
    match (&one.kind, &other.kind) {
        (EntryKind::File { sha256: a, .. }, EntryKind::File { sha256: b, .. }) if a != b => {
            let same = first.iter().zip(second).take_while(|(a, b)| a == b).count();
            Kind::Content { offset: same as u64 }
        }
        (a, b) if a != b => Kind::Type,
        _ => {
            let owner = |entry: &Entry| (entry.uid, entry.gid);
            let differ = [
                ("mode", one.mode != other.mode),
                ("owner", owner(one) != owner(other)),
                ("time", one.mtime != other.mtime),
                ("xattrs", one.xattrs != other.xattrs),
            ];
            let names = differ.into_iter().filter(|(_, differ)| *differ).map(|(name, _)| name);
            Kind::Attributes { names: names.collect() }
        }
    }
}

/// The first bytes of a file in a node's output.
fn head_of(stored: &StoredNode, path: &str) -> Result<Vec<u8>> {
    let cannot = || format!("cannot read {path} of node `{}`", stored.record.name);
    let output = stored.output();
    let mut bytes = Confined::new(&output)
        .and_then(|confined| confined.read(path))
        .or_io(cannot)?
        .ok_or_else(|| Failure::io(cannot()))?;
    bytes.truncate(LOOKED_AT);
    Ok(bytes)
}

/// The partition of `disk` that has the byte at `offset`, as people call it.
#[must_use]
pub fn partition_of(disk: &Disk, offset: u64) -> String {
    let sector = offset / SECTOR;
    let Ok(table) = Table::read(disk) else { return "no partition".to_owned() };
    let found = table.entries.iter().find(|entry| (entry.first..=entry.last).contains(&sector));
    found.map_or("partition table".to_owned(), |entry| format!("partition {}", entry.name))
}

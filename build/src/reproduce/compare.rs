//! Finds where two stores' results of one plan differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
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
/// Bytes of a file that are looked at for a cause, from shortly before the first difference on.
const LOOKED_AT: usize = 1 << 20;
/// Bytes before it.
const BEFORE: u64 = 4096;
/// Bytes compared at a time.
const PIECE: usize = 1 << 18;
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
            let (differences, untold) = pair.differences()?;
            comparison.differences.extend(differences);
            comparison.untold += untold;
        }
        unequal.insert(&node.name);
    }
    Ok(comparison)
}

/// Two files from shortly before their first difference on.
#[derive(Default)]
struct Heads {
    offset: u64,
    first: Vec<u8>,
    second: Vec<u8>,
}

/// Reads up to `length` bytes of `file` from `offset` on.
fn piece(file: &File, offset: u64, length: usize, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    let mut file = file;
    bytes.clear();
    file.seek(SeekFrom::Start(offset))?;
    file.take(length as u64).read_to_end(bytes)?;
    Ok(())
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
    /// The first differences, and how many more there are.
    fn differences(&self) -> Result<(Vec<Difference>, usize)> {
        let (one, other) = (self.one.inventory()?.entries, self.other.inventory()?.entries);
        let paths: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        let differ = paths.into_iter().filter(|path| one.get(*path) != other.get(*path));
        let differ: Vec<&String> = differ.collect();
        let mut differences = Vec::new();
        for path in differ.iter().take(TOLD) {
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
        Ok((differences, differ.len().saturating_sub(TOLD)))
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
        let is_file =
            |entry: Option<&Entry>| entry.is_some_and(|e| matches!(e.kind, EntryKind::File { .. }));
        let heads = if is_file(one) && is_file(other) {
            self.around_difference(path)?
        } else {
            Heads::default()
        };
        let kind = match (one, other) {
            (Some(_), None) => Kind::OnlyFirst,
            (None, _) => Kind::OnlySecond,
            (Some(one), Some(other)) => kind(one, other, heads.offset),
        };
        let (first, second) = (&heads.first[..], &heads.second[..]);
        let evidence = Evidence { path, kind: &kind, first, second };
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

    /// Where the two files at `path` first differ, and what stands around it.
    fn around_difference(&self, path: &str) -> Result<Heads> {
        let cannot = || format!("cannot read {path} of node `{}`", self.node.name);
        let open = |stored: &StoredNode| -> Result<File> {
            let file = Confined::new(&stored.output()).and_then(|folder| folder.open_file(path));
            file.or_io(cannot)?.ok_or_else(|| Failure::io(cannot()))
        };
        let (one, other) = (open(&self.one)?, open(&self.other)?);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let mut offset = 0;
        loop {
            self.cancel.check()?;
            piece(&one, offset, PIECE, &mut first).or_io(cannot)?;
            piece(&other, offset, PIECE, &mut second).or_io(cannot)?;
            let same = first.iter().zip(&second).take_while(|(a, b)| a == b).count();
            offset += same as u64;
            if same < PIECE {
                break; // they differ here, or one of them ends
            }
        }
        let from = offset.saturating_sub(BEFORE);
        piece(&one, from, LOOKED_AT, &mut first).or_io(cannot)?;
        piece(&other, from, LOOKED_AT, &mut second).or_io(cannot)?;
        Ok(Heads { offset, first, second })
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
fn kind(one: &Entry, other: &Entry, offset: u64) -> Kind {
    match (&one.kind, &other.kind) {
        (EntryKind::File { sha256: a, .. }, EntryKind::File { sha256: b, .. }) if a != b => {
            Kind::Content { offset }
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

/// The partition of `disk` that has the byte at `offset`, as people call it.
#[must_use]
pub(super) fn partition_of(disk: &Disk, offset: u64) -> String {
    let sector = offset / SECTOR;
    let Ok(table) = Table::read(disk) else { return "no partition".to_owned() };
    let found = table.entries.iter().find(|entry| (entry.first..=entry.last).contains(&sector));
    found.map_or("partition table".to_owned(), |entry| format!("partition {}", entry.name))
}

#[cfg(test)]
mod tests {
    use nodekiln_disk::{BootMode, Extent, Ids, Layout};
    use nodekiln_words::Bytes;

    use super::*;

    /// A disk of 256 MiB with nothing on it but its partition table.
    fn partitioned(mode: BootMode) -> (Layout, Disk) {
        let size = 256 << 20;
        let layout = Layout::plan(Bytes(size), mode).unwrap();
        let table = Table::of(&layout, &Ids::derive(uuid::Uuid::nil()));
        let ends = table.encode(size / SECTOR, &[]).unwrap();
        let tail = Extent::memory(size - ends.tail.len() as u64, ends.tail);
        (layout, Disk::new(size, vec![Extent::memory(0, ends.head), tail]).unwrap())
    }

    #[test]
    fn each_byte_of_a_disk_is_in_the_partition_that_has_it() {
        for mode in [BootMode::Hybrid, BootMode::Bios, BootMode::Uefi, BootMode::Nothing] {
            let (layout, disk) = partitioned(mode);
            let mut names = Vec::new();
            for partition in &layout.partitions {
                let last = partition.start + partition.length - 1;
                let name = partition_of(&disk, partition.start);
                assert_eq!(name, partition_of(&disk, last), "{mode:?}");
                names.push(name);
            }
            assert_eq!(names.iter().filter(|name| *name == ROOT).count(), 1, "{names:?}");
            assert_eq!(partition_of(&disk, 600), "partition table");
        }
    }

    #[test]
    fn two_disks_differ_at_the_byte_that_was_changed() {
        let (layout, disk) = partitioned(BootMode::Hybrid);
        let never = Cancel::default();
        assert_eq!(disk.first_difference(&disk, &never).unwrap(), None);
        for partition in &layout.partitions {
            let at = partition.start + 1024;
            let mut extents = disk.extents().to_vec();
            extents.push(Extent::memory(at, vec![7]));
            let other = Disk::new(disk.size(), extents).unwrap();
            assert_eq!(disk.first_difference(&other, &never).unwrap(), Some(at));
        }
    }
}

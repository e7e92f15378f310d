//! Numbers of snapshots, and how large they are said to be.
//!
//! A snapshot is a layer unpacked over the layers below it. Its key in `meta.db` is the chain's digest;
//! there it has a name, `k8s.io/NUMBER/KEY`, which is its key in the snapshotter's database, where it
//! has a number of its own, which is its folder. containerd draws both numbers as it goes, one for each
//! attempt; here both are the snapshot's place in an order that the keys alone give.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nodekiln_words::{Failure, Result, ResultExt};

use super::encoding::{read_uvarint, uvarint, varint};
use super::unknown;
use nodekiln_bolt::{Bucket, Item};

/// `snapshots.KindCommitted`: unpacked whole, and not to be changed any more.
const COMMITTED: [u8; 1] = [3];
/// What a file is reckoned in, in bytes; also what a directory is reckoned as.
const BLOCK: u64 = 4096;

/// Gives the snapshots of both databases and the folders in `folder` their numbers and sizes anew.
///
/// # Errors
/// When one of the three has a snapshot that another has not, or that is not unpacked whole; when
/// folders cannot be read or renamed.
pub(super) fn renumber(
    metadata: &mut Bucket,
    snapshotter: &mut Bucket,
    folder: &Path,
) -> Result<()> {
    let mut none = Bucket::default();
    let records = metadata
        .bucket_mut("v1")
        .and_then(|v1| v1.bucket_mut("k8s.io"))
        .and_then(|namespace| namespace.bucket_mut("snapshots"))
        .and_then(|snapshots| snapshots.bucket_mut("overlayfs"))
        .unwrap_or(&mut none);
    let mut no_backend = Bucket::default();
    let backend = snapshotter.bucket_mut("v1").unwrap_or(&mut no_backend);
    let mut old = std::mem::take(backend.bucket_mut("snapshots").unwrap_or(&mut Bucket::default()));
    let mut folders = numbered_folders(folder)?;

    let mut new = Numbered::default();
    for key in in_order(records)? {
        let record = bucket_at(records, &key)?;
        let number = new.names.len() as u64 + 1;
        let name = record.value("name").unwrap_or_default().to_vec();
        let Some(Item::Bucket(mut entry)) = old.entries.remove(&name) else {
            return Err(differ(&format!("the snapshotter does not have {}", text(&name))));
        };
        if entry.value("kind") != Some(&COMMITTED) {
            return Err(differ(&format!("the snapshot {} is not unpacked whole", text(&key))));
        }
        let parent = record.value("parent").map(<[u8]>::to_vec);
        let from = entry.value("id").and_then(read_uvarint).filter(|id| folders.remove(id));
        let Some(from) = from else {
            return Err(differ(&format!("the snapshot {} has no folder", text(&key))));
        };
        new.moves.push((from, number));
        let place = folder.join(from.to_string()).join("fs");
        let usage = Usage::of(&place).or_io(|| format!("reading {}", place.display()))?;
        let new_name = [format!("k8s.io/{number}/").as_bytes(), &key].concat();
        record.put("name", new_name.clone());
        usage.put(&mut entry)?;
        entry.put("id", uvarint(number));
        new.add(&key, &name, new_name, parent.as_deref(), entry)?;
    }
    if let Some(name) = old.entries.keys().next() {
        return Err(differ(&format!("the snapshotter has {}, which nobody knows", text(name))));
    }
    if let Some(number) = folders.first() {
        return Err(differ(&format!("the folder snapshots/{number} is of no snapshot")));
    }
    let moves = new.put(records, backend)?;
    rename(folder, &moves)
}

/// Snapshots with their numbers.
#[derive(Default)]
struct Numbered {
    /// Key to old and new name and number.
    names: BTreeMap<Vec<u8>, (Vec<u8>, Vec<u8>, u64)>,
    /// Keys by their parent's.
    children: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    /// The snapshotter's records by new name.
    entries: BTreeMap<Vec<u8>, Item>,
    /// The snapshotter's links from parent to child.
    links: BTreeMap<Vec<u8>, Item>,
    /// Old and new numbers.
    moves: Vec<(u64, u64)>,
}

impl Numbered {
    fn add(
        &mut self,
        key: &[u8],
        old_name: &[u8],
        new_name: Vec<u8>,
        parent: Option<&[u8]>,
        mut entry: Bucket,
    ) -> Result<()> {
        let number = self.names.len() as u64 + 1;
        let above = match parent {
            Some(parent) => Some(
                self.names
                    .get(parent)
                    .ok_or_else(|| differ(&format!("{} has no parent", text(key))))?,
            ),
            None => None,
        };
        if entry.value("parent") != above.map(|(old, _, _)| old.as_slice()) {
            return Err(differ(&format!("{} has two parents", text(key))));
        }
        if let (Some(parent), Some((_, name, above))) = (parent, above) {
            entry.put("parent", name.clone());
            // The snapshotter's `parentKey`.
            let link = [uvarint(*above), vec![0], uvarint(number)].concat();
            self.links.insert(link, Item::Value(new_name.clone()));
            self.children.entry(parent.to_vec()).or_default().push(key.to_vec());
        }
        self.entries.insert(new_name.clone(), Item::Bucket(entry));
        self.names.insert(key.to_vec(), (old_name.to_vec(), new_name, number));
        Ok(())
    }

    /// Puts what was gathered into both databases, and returns the old and new numbers.
    fn put(self, records: &mut Bucket, backend: &mut Bucket) -> Result<Vec<(u64, u64)>> {
        let last = self.names.len() as u64;
        records.sequence = last;
        for key in self.names.keys() {
            let record = bucket_at(records, key)?;
            record.entries.remove(&b"children"[..]);
            if let Some(children) = self.children.get(key) {
                let nothing = |key: &Vec<u8>| (key.clone(), Item::Value(Vec::new()));
                let entries = children.iter().map(nothing).collect();
                let children = Item::Bucket(Bucket { sequence: 0, entries });
                record.entries.insert(b"children".to_vec(), children);
            }
        }
        let bucket = |sequence, entries| Item::Bucket(Bucket { sequence, entries });
        for (name, item) in
            [("snapshots", bucket(last, self.entries)), ("parents", bucket(0, self.links))]
        {
            if let Some(place) = backend.entries.get_mut(name.as_bytes()) {
                *place = item;
            }
        }
        Ok(self.moves)
    }
}

fn bucket_at<'a>(of: &'a mut Bucket, key: &[u8]) -> Result<&'a mut Bucket> {
    match of.entries.get_mut(key) {
        Some(Item::Bucket(bucket)) => Ok(bucket),
        _ => Err(differ(&format!("{} is no record", text(key)))),
    }
}

/// The keys, each after its parent, and else as they sort.
fn in_order(records: &Bucket) -> Result<Vec<Vec<u8>>> {
    let mut left: BTreeMap<&[u8], Option<&[u8]>> = BTreeMap::new();
    for (key, item) in &records.entries {
        if let Item::Bucket(record) = item {
            left.insert(key, record.value("parent"));
        }
    }
    // Chains of one length are numbered together: a parent's chain is the shorter one.
    let mut order: Vec<Vec<u8>> = Vec::new();
    let mut done: BTreeSet<&[u8]> = BTreeSet::new();
    while !left.is_empty() {
        let ready = |parent: &Option<&[u8]>| parent.is_none_or(|parent| done.contains(parent));
        let next: Vec<&[u8]> =
            left.iter().filter(|(_, parent)| ready(parent)).map(|(key, _)| *key).collect();
        if let (true, Some(key)) = (next.is_empty(), left.keys().next()) {
            return Err(differ(&format!("{} has no parent", text(key))));
        }
        for key in next {
            left.remove(key);
            done.insert(key);
            order.push(key.to_vec());
        }
    }
    Ok(order)
}

/// The numbers that are names in `folder`.
fn numbered_folders(folder: &Path) -> Result<BTreeSet<u64>> {
    let reading = || format!("listing {}", folder.display());
    let mut numbers = BTreeSet::new();
    if !folder.try_exists().or_io(reading)? {
        return Ok(numbers);
    }
    for entry in fs_err::read_dir(folder).or_io(reading)? {
        let name = entry.or_io(reading)?.file_name().to_string_lossy().into_owned();
        let number = name.parse().ok().filter(|number: &u64| number.to_string() == name);
        let Some(number) = number else {
            return Err(differ(&format!("the folder snapshots/{name} is of no snapshot")));
        };
        numbers.insert(number);
    }
    Ok(numbers)
}

/// Gives folders their new numbers, by names that are none in between.
fn rename(folder: &Path, moves: &[(u64, u64)]) -> Result<()> {
    let renaming = || format!("renaming folders in {}", folder.display());
    let between = |to: &u64| folder.join(format!(".{to}"));
    for (from, to) in moves {
        fs_err::rename(folder.join(from.to_string()), between(to)).or_io(renaming)?;
    }
    for (_, to) in moves {
        fs_err::rename(between(to), folder.join(to.to_string())).or_io(renaming)?;
    }
    Ok(())
}

/// What a snapshot takes, in a way that only its files decide.
///
/// containerd asks the file system for the blocks in use, which another file system, or the same on
/// another day, answers differently. These numbers are estimates on a node too: CRI's `ImageFsInfo` adds
/// them up for `crictl imagefsinfo` and the kubelet's statistics, and when to collect images the kubelet
/// decides by the file system's free space.
#[derive(Debug, Default, PartialEq, Eq)]
struct Usage {
    inodes: u64,
    /// Bytes: contents of files rounded up to whole blocks, and a block for each directory; links and
    /// devices have none.
    size: u64,
}

impl Usage {
    /// The usage of `path` and all below it; a file with several names counts once.
    fn of(path: &Path) -> std::io::Result<Self> {
        let (mut usage, mut linked) = (Self::default(), BTreeSet::new());
        let mut left = vec![path.to_owned()];
        while let Some(path) = left.pop() {
            let metadata = fs_err::symlink_metadata(&path)?;
            if metadata.is_dir() {
                usage.size += BLOCK;
                for entry in fs_err::read_dir(&path)? {
                    left.push(entry?.path());
                }
            } else if metadata.nlink() > 1 && !linked.insert((metadata.dev(), metadata.ino())) {
                continue;
            } else if metadata.is_file() {
                usage.size += metadata.len().div_ceil(BLOCK) * BLOCK;
            }
            usage.inodes += 1;
        }
        Ok(usage)
    }

    /// Writes it into the snapshotter's record.
    fn put(&self, entry: &mut Bucket) -> Result<()> {
        for (key, number) in [("inodes", self.inodes), ("size", self.size)] {
            let number = i64::try_from(number).or_io(|| "the size of a snapshot".to_owned())?;
            entry.put(key, varint(number));
        }
        Ok(())
    }
}

fn text(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

fn differ(what: &str) -> Failure {
    unknown(format!("the snapshots of containerd's store are not as they should be: {what}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn usage_is_of_contents_not_of_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("one"), [1]).unwrap();
        std::fs::write(path("empty"), []).unwrap();
        std::fs::hard_link(path("one"), path("same")).unwrap();
        symlink("one", path("link")).unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        std::fs::File::create(path("folder/hole")).unwrap().set_len(BLOCK * 10 + 1).unwrap();
        // Two directories, one file of a block, one of eleven; an empty file and a link without any.
        let usage = Usage { inodes: 6, size: (2 + 1 + 11) * BLOCK };
        assert_eq!(Usage::of(folder.path()).unwrap(), usage);
    }
}

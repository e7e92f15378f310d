//! The inventory: what stands in a file tree, path by path, with a digest of every file.

use std::collections::BTreeMap;

use nodekiln_words::Sha256;
use serde::{Deserialize, Serialize};

/// The entries of a tree or of a layer, sorted bytewise by path.
///
/// Paths are absolute within the tree (`/etc/fstab`), without `.`, `..` or a trailing slash; the
/// root itself is `/`. A path that is not UTF-8 has each offending byte written as `\xHH` and each
/// backslash as `\\`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The entries by path.
    pub entries: BTreeMap<String, Entry>,
}

/// What stands at one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its kind and what only that kind has.
    #[serde(flatten)]
    pub kind: EntryKind,
    /// Permission bits, including set-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in UTC seconds.
    pub mtime: i64,
    /// Extended attributes by name, values in lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

/// Kinds of entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// Digest of its content.
        sha256: Sha256,
    },
    /// A disk image, mostly holes.
    Disk {
        /// Length in bytes.
        size: u64,
        /// Digest over the digests of its blocks, as the disk room's `Disk::block_digest` makes it:
        /// holes need not be read, and blocks are read on all cores.
        blocks: Sha256,
    },
    /// A directory. In a layer, `opaque` hides everything that lower layers have below it.
    Directory {
        /// Hides lower layers.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        opaque: bool,
    },
    /// A symbolic link.
    Link {
        /// Its target, escaped as paths are.
        target: String,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// In a layer only: lower layers' entry of this name is gone.
    Whiteout,
}

/// Reads files of a tree, wherever it lives.
pub trait TreeReader {
    /// The bytes of the regular file at `path` (absolute within the tree; links are followed within
    /// the tree), or `None` where there is no such file.
    fn read(&self, path: &str) -> std::io::Result<Option<Vec<u8>>>;
}

impl Inventory {
    /// Lays `upper` over `self` as an overlay file system would.
    pub fn lay_over(&mut self, upper: &Inventory) {
        for (path, entry) in &upper.entries {
            let replaces_directory = !matches!(entry.kind, EntryKind::Directory { opaque: false });
            if replaces_directory {
                let below = format!("{}/", path.trim_end_matches('/'));
                let hidden: Vec<String> = self
                    .entries
                    .range(below.clone()..)
                    .take_while(|(lower, _)| lower.starts_with(&below))
                    .map(|(lower, _)| lower.clone())
                    .collect();
                for lower in hidden {
                    self.entries.remove(&lower);
                }
            }
            match entry.kind {
                EntryKind::Whiteout => {
                    self.entries.remove(path);
                }
                EntryKind::Directory { .. } => {
                    let kind = EntryKind::Directory { opaque: false };
                    self.entries.insert(path.clone(), Entry { kind, ..entry.clone() });
                }
                _ => {
                    self.entries.insert(path.clone(), entry.clone());
                }
            }
        }
    }

    /// Sum of the lengths of all regular files, in bytes; hard links count each time.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.entries
            .values()
            .map(|entry| match entry.kind {
                EntryKind::File { size, .. } | EntryKind::Disk { size, .. } => size,
                _ => 0,
            })
            .sum()
    }

    /// The digest that stands for the whole inventory: SHA-256 over its lines, each a JSON object
    /// with the path, in bytewise order.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        let mut digester = nodekiln_words::Digester::default();
        for line in self.lines() {
            digester.update(line.as_bytes());
            digester.update(b"\n");
        }
        digester.finish()
    }

    /// The inventory as JSON lines, `["/path", {entry}]`, in bytewise order of path.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.entries.iter().map(|pair| serde_json::to_string(&pair).unwrap_or_default())
    }

    /// Reads what [`Inventory::lines`] wrote.
    ///
    /// # Errors
    /// On the first line that is no such object.
    pub fn from_lines(text: &str) -> serde_json::Result<Self> {
        let entries = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: EntryKind) -> Entry {
        Entry { kind, mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
    }

    fn file(content: &str) -> Entry {
        entry(EntryKind::File { size: content.len() as u64, sha256: Sha256::of(content) })
    }

    fn inventory(entries: &[(&str, Entry)]) -> Inventory {
        let entries = entries.iter().map(|(path, entry)| ((*path).to_owned(), entry.clone()));
        Inventory { entries: entries.collect() }
    }

    #[test]
    fn a_whiteout_removes_what_is_below_it_and_no_neighbour() {
        let directory = || entry(EntryKind::Directory { opaque: false });
        let mut tree = inventory(&[
            ("/a", directory()),
            ("/a/x", file("x")),
            ("/ab", file("ab")),
            ("/b", file("b")),
        ]);
        tree.lay_over(&inventory(&[("/a", entry(EntryKind::Whiteout)), ("/b", file("new"))]));
        assert_eq!(tree, inventory(&[("/ab", file("ab")), ("/b", file("new"))]));
    }

    #[test]
    fn an_opaque_directory_hides_lower_entries() {
        let mut tree = inventory(&[
            ("/a", entry(EntryKind::Directory { opaque: false })),
            ("/a/old", file("old")),
        ]);
        tree.lay_over(&inventory(&[
            ("/a", entry(EntryKind::Directory { opaque: true })),
            ("/a/new", file("new")),
        ]));
        assert_eq!(tree.entries.keys().collect::<Vec<_>>(), ["/a", "/a/new"]);
    }

    #[test]
    fn lines_round_trip() {
        let tree =
            inventory(&[("/", entry(EntryKind::Directory { opaque: false })), ("/f", file("f"))]);
        let text: Vec<String> = tree.lines().collect();
        assert_eq!(Inventory::from_lines(&text.join("\n")).unwrap(), tree);
    }
}

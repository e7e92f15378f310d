//! What a pack says of an inventory's files: which content comes when, and which names share a file.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use nodekiln_recipes::Inventory;
use nodekiln_recipes::inventory::{Entry, EntryKind};
use nodekiln_words::Sha256;

use super::malformed;

/// A content by its digest. A disk's is of another kind than a file's, and so never the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    File(Sha256),
    Disk(Sha256),
}

/// The content of an entry and its length, where it has any.
pub(super) fn content_of(entry: &Entry) -> Option<(Content, u64)> {
    match entry.kind {
        EntryKind::File { size, sha256 } => Some((Content::File(sha256), size)),
        EntryKind::Disk { size, blocks } => Some((Content::Disk(blocks), size)),
        _ => None,
    }
}

/// The distinct contents in the order in which a pack has them, with their lengths and paths.
pub(super) fn contents(inventory: &Inventory) -> Vec<(Content, u64, Vec<&str>)> {
    let mut order = Vec::new();
    let mut paths: BTreeMap<(Content, u64), Vec<&str>> = BTreeMap::new();
    for (path, entry) in &inventory.entries {
        if let Some(content) = content_of(entry) {
            let known = paths.entry(content).or_default();
            if known.is_empty() {
                order.push(content);
            }
            known.push(path);
        }
    }
    let with_paths = |content| (content, paths.remove(&content).unwrap_or_default());
    order
        .into_iter()
        .map(with_paths)
        .map(|((content, size), paths)| (content, size, paths))
        .collect()
}

/// Which names are names of one file: lists of paths in order, the lists by their first path.
#[derive(Default)]
pub(super) struct Links(pub(super) Vec<Vec<String>>);

impl Links {
    /// For each path that is not the first name of its file: the first one.
    ///
    /// # Errors
    /// When a list cannot be right: names of what has but one, names of different things, or one
    /// name twice.
    pub(super) fn first_names<'a>(
        &'a self,
        inventory: &Inventory,
    ) -> io::Result<BTreeMap<&'a str, &'a str>> {
        let mut first_names = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for names in &self.0 {
            let (Some(first), true) = (names.first(), names.len() > 1) else {
                return Err(malformed("a file with several names has fewer than two"));
            };
            for name in names {
                let wrong = || malformed(format!("`{name}` and `{first}` cannot be one file"));
                let entries = (inventory.entries.get(first), inventory.entries.get(name));
                let (Some(one), Some(other)) = entries else { return Err(wrong()) };
                if one != other || !may_have_names(one) || !seen.insert(name) {
                    return Err(wrong());
                }
                if name != first {
                    first_names.insert(name.as_str(), first.as_str());
                }
            }
        }
        Ok(first_names)
    }
}

/// Whether such a thing can have several names that matter: overlayfs makes all whiteouts of a layer
/// one file, or not, as it pleases.
pub(super) fn may_have_names(entry: &Entry) -> bool {
    !matches!(entry.kind, EntryKind::Directory { .. } | EntryKind::Whiteout)
}

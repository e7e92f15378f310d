//! Files as components, nested under their owners.

use std::collections::BTreeMap;
use std::sync::Arc;

use nodekiln_recipes::Inventory;
use nodekiln_recipes::inventory::{Entry, EntryKind};

use super::model::{Component, Hash, Kind};
use crate::attribution::{Attribution, Owned, Ownership};

/// The files of one owner.
#[derive(Default)]
pub(super) struct Held {
    /// How many.
    pub(super) count: u64,
    /// As components, sorted by path; without those of known owners where only counts are asked for.
    pub(super) components: Vec<Component>,
    /// In which way they are owned, for owners that are nothing but a group of files.
    pub(super) ownership: Option<Ownership>,
}

/// Files by their owner's reference.
pub(super) type ByOwner = BTreeMap<Arc<str>, Held>;

/// Groups all files by owner. Files without a known owner are always listed.
pub(super) fn by_owner(
    attribution: &Attribution,
    inventory: &Inventory,
    with_files: bool,
) -> ByOwner {
    let mut all = ByOwner::new();
    for (path, owned) in &attribution.files {
        let held = all.entry(Arc::clone(&owned.owner)).or_default();
        held.count += 1;
        held.ownership = Some(owned.ownership);
        if let Some(entry) = inventory.entries.get(path)
            && (with_files || owned.ownership == Ownership::Unknown)
        {
            held.components.push(component(path, entry, owned));
        }
    }
    all
}

fn component(path: &str, entry: &Entry, owned: &Owned) -> Component {
    let hashes = match &entry.kind {
        EntryKind::File { sha256, .. } => vec![Hash::from(sha256)],
        _ => Vec::new(),
    };
    Component {
        bom_ref: Some(format!("file:{path}")),
        hashes,
        kind: Kind::File,
        name: path.to_owned(),
        ..Component::default()
    }
    .with_properties(properties(entry, owned))
}

/// What is not obvious from a file's owner: how it is owned if not as the package brought it, and
/// what gives it powers of its own.
fn properties<'a>(entry: &Entry, owned: &Owned) -> Vec<(&'a str, String)> {
    let mut all = Vec::new();
    if owned.ownership != Ownership::Package {
        all.push(("ownership", owned.ownership.to_string()));
    }
    if let Some(generator) = owned.generator {
        all.push(("generator", generator.to_owned()));
    }
    if let Some(step) = &owned.step {
        all.push(("step", step.to_string()));
    }
    if entry.mode & 0o7000 != 0 {
        all.push(("mode", format!("{:04o}", entry.mode)));
    }
    if let Some(value) = entry.xattrs.get("security.capability") {
        all.push(("capability", value.clone()));
    }
    all.extend(special(&entry.kind));
    all
}

fn special<'a>(kind: &EntryKind) -> Option<(&'a str, String)> {
    match kind {
        EntryKind::Link { target } => Some(("link", target.clone())),
        EntryKind::CharDevice { major, minor } => {
            Some(("character-device", format!("{major}:{minor}")))
        }
        EntryKind::BlockDevice { major, minor } => {
            Some(("block-device", format!("{major}:{minor}")))
        }
        EntryKind::Fifo => Some(("special", "fifo".to_owned())),
        EntryKind::Socket => Some(("special", "socket".to_owned())),
        EntryKind::File { .. }
        | EntryKind::Disk { .. }
        | EntryKind::Directory { .. }
        | EntryKind::Whiteout => None,
    }
}

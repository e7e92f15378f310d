//! Rules on what one machine leaves behind and clones must not share: identity, state, and the traces of a build.

pub(super) mod first_boot;
pub(super) mod identity;
pub(super) mod instance;
pub(super) mod residue;
pub(super) mod sources;

use crate::rules::Rule;
use crate::tree::{Entry, Kind, Tree};

/// All of them.
pub(super) const RULES: [&[Rule]; 5] =
    [identity::RULES, instance::RULES, first_boot::RULES, residue::RULES, sources::RULES];

#[cfg(test)]
pub(super) const MUTATIONS: [&[super::corpus::Mutation]; 5] = [
    identity::MUTATIONS,
    instance::MUTATIONS,
    first_boot::MUTATIONS,
    residue::MUTATIONS,
    sources::MUTATIONS,
];

/// What `patterns` stand for that is more than an empty file or folder, with all below it, once each. A pattern
/// may stand for a link to the folder that is meant.
pub(super) fn leftovers(tree: &Tree, patterns: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in patterns.iter().flat_map(|pattern| tree.glob(pattern)) {
        let Some(entry) = tree.entry(&path) else { continue };
        match tree.resolve(&path) {
            Some((folder, target)) if target.kind == Kind::Folder => found.extend(
                tree.below(&folder)
                    .filter(|(_, entry)| entry.kind != Kind::Folder && !is_empty(entry))
                    .map(|(path, _)| path.to_owned()),
            ),
            _ if is_empty(entry) => {}
            _ => found.push(path),
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Whether it is a file without bytes, or a link to nothing that keeps any.
fn is_empty(entry: &Entry) -> bool {
    (entry.kind == Kind::File && entry.size == 0) || entry.target.as_deref() == Some("/dev/null")
}

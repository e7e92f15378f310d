//! Who put what where, when several packages are unpacked at once.
//!
//! dpkg unpacks one package after the other and judges each path by what is there. Here the order of
//! writing is left to the machine, so the judgement may not depend on it: of two packages with the
//! same path the one wins that replaces the other (the later one in the list if both do), and two
//! folders are one folder with the attributes that the first package in the list gives it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::tree::Attributes;

/// Locks that the paths are spread over.
const SHARDS: usize = 64;

/// Claims by link-free path.
#[derive(Debug)]
pub(crate) struct Claims {
    shards: Vec<Mutex<HashMap<Vec<u8>, Claim>>>,
    hasher: RandomState,
}

/// What is known of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Index of the package.
    pub(crate) owner: usize,
    /// The path as the package has it.
    pub(crate) literal: Vec<u8>,
    pub(crate) kind: Kind,
    /// Whether its owner has a hard link to it in this unpacking. Whoever took the path over would do
    /// so before or after the link is made, and so decide what is at the link; so nobody may.
    pub(crate) linked: bool,
}

impl Claim {
    pub(crate) fn new(owner: usize, literal: Vec<u8>, kind: Kind) -> Self {
        Self { owner, literal, kind, linked: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A folder; with the attributes it is to get if it was made during this unpacking. What is no
    /// folder and has the same path in another package excludes it then, as below.
    Folder(Option<Attributes>),
    /// A symbolic link that was not there before this unpacking. Another package's folder of the same
    /// path would be the link's target or the link's replacement, depending on who comes first, so
    /// the two exclude each other.
    NewLink,
    /// Anything else.
    Other,
}

/// What a package that comes to a claimed path has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Nobody else was here, or the other gives way.
    Write,
    /// Leave what is there; the path does not belong to this package.
    Keep,
    /// Neither replaces the other.
    Conflict,
}

impl Default for Claims {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new() }
    }
}

impl Claims {
    /// Locks the claims among which `path` belongs.
    pub(crate) fn lock(&self, path: &[u8]) -> MutexGuard<'_, HashMap<Vec<u8>, Claim>> {
        let hash = self.hasher.hash_one(path);
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash do")]
        let shard = &self.shards[hash as usize % SHARDS];
        // A panic elsewhere ends the unpacking; a claim is valid at any moment.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends an unpacking: takes the attributes that folders made during it are to get, by path.
    pub(crate) fn settle_new(&mut self) -> Vec<(Vec<u8>, Attributes)> {
        let mut folders = Vec::new();
        for shard in &mut self.shards {
            let shard = shard.get_mut().unwrap_or_else(PoisonError::into_inner);
            for (path, claim) in shard {
                claim.linked = false;
                match &mut claim.kind {
                    Kind::Folder(attributes) => {
                        folders
                            .extend(attributes.take().map(|attributes| (path.clone(), attributes)));
                    }
                    Kind::NewLink => claim.kind = Kind::Other,
                    Kind::Other => {}
                }
            }
        }
        folders.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        folders
    }
}

/// Judges between the package `newcomer` and the `owner` of a claim that is no shared folder.
pub(crate) fn judge(
    newcomer: usize,
    owner: usize,
    replaces: impl Fn(usize, usize) -> bool,
) -> Judgement {
    if newcomer == owner {
        return Judgement::Write;
    }
    let (new_replaces, old_replaces) = (replaces(newcomer, owner), replaces(owner, newcomer));
    match (new_replaces, old_replaces) {
        (true, true) if newcomer > owner => Judgement::Write,
        (true, true) | (false, true) => Judgement::Keep,
        (true, false) => Judgement::Write,
        (false, false) => Judgement::Conflict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_judgement_does_not_depend_on_who_comes_first() {
        for replacements in [vec![(0, 1)], vec![(1, 0)], vec![(0, 1), (1, 0)]] {
            let replaces = |a, b| replacements.contains(&(a, b));
            let winner = |newcomer: usize, owner: usize| match judge(newcomer, owner, replaces) {
                Judgement::Write => newcomer,
                _ => owner,
            };
            assert_eq!(winner(0, 1), winner(1, 0), "{replacements:?}");
        }
        assert_eq!(judge(0, 1, |_, _| false), Judgement::Conflict);
    }
}

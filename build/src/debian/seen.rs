//! What was believed before: for each address of a signed index, the newest one that was.
//!
//! An old index is as well signed as a new one. Whoever is on the path of http could serve it for as
//! long as it is valid, and take away the updates that came since; so none is believed that is older
//! than the one before it.

use nodekiln_words::{Failure, Result, Sha256};
use serde::{Deserialize, Serialize};

use crate::store::Store;

/// Folder of the store's index that the notes are kept in.
const INDEX: &str = "suites";

/// The newest index that was believed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Where it came from. Mirrors of one suite lag behind each other, so each has its own.
    pub(super) url: String,
    /// When it was made, in seconds since 1970.
    pub(super) date: i64,
    /// Digest of the signed text.
    pub(super) sha256: Sha256,
}

impl Seen {
    /// What was believed last from `url`.
    pub(super) fn at(url: &str, store: &Store) -> Option<Self> {
        let bytes = store.read_index(INDEX, &Sha256::of(url).to_string())?;
        serde_json::from_slice(&bytes).ok().filter(|seen: &Self| seen.url == url)
    }

    /// Notes that this one is believed, which comes after `before`.
    ///
    /// # Errors
    /// When it is older than that, or cannot be noted.
    pub(super) fn follow(self, before: Option<&Self>, store: &Store) -> Result<()> {
        match before {
            Some(before) if before.date > self.date => Err(self.set_back(before, store)),
            Some(before) if *before == self => Ok(()),
            _ => {
                let bytes = serde_json::to_vec(&self).unwrap_or_default();
                store.write_index(INDEX, &Sha256::of(&self.url).to_string(), &bytes)
            }
        }
    }

    fn set_back(&self, before: &Self, store: &Store) -> Failure {
        let hours = (before.date - self.date).unsigned_abs().div_ceil(3600);
        let notes = store.root().join("index").join(INDEX);
        Failure::io(format!("{} is {hours} h older than the one seen there before", self.url))
            .with_help(format!(
                "the mirror lags, or somebody on the way to it answers with an old index: try again \
                 later, or name another mirror in os.mirrors; if it was set back on purpose, remove \
                 {}",
                notes.display()
            ))
    }
}

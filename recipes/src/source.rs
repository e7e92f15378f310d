//! The texts that a recipe was read from, and places in them.

use std::path::PathBuf;

use nodekiln_words::Sha256;
use serde::Serialize;

/// One YAML text that took part in a recipe, as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceText {
    /// The file's path as it was reached, `library/NAME.yaml`, `PROVIDER/layer.yaml`, or `--set`.
    pub name: String,
    /// Digest of the text.
    pub sha256: Sha256,
    /// The text.
    #[serde(skip)]
    pub text: String,
    /// Where it came from.
    #[serde(skip)]
    pub(crate) origin: Origin,
}

/// Where a text came from, which decides what its relative paths are relative to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file of the recipe library.
    Library(&'static str),
    /// A file, by its canonical path.
    File(PathBuf),
    /// The layer that a provider declares; it has no folder.
    Layer,
    /// A `--set` argument; relative paths start at the current directory.
    Argument,
}

/// Index of a text in [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SourceId(pub(crate) usize);

/// A stretch of one line: lines and columns count from 1, columns and length in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) source: SourceId,
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) length: usize,
}

/// All texts of one recipe: the file asked for, then its parents, then the providers' layers, then the
/// `--set` arguments.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<SourceText>);

impl SourceText {
    pub(crate) fn new(name: String, text: String, origin: Origin) -> Self {
        Self { name, sha256: Sha256::of(&text), text, origin }
    }
}

impl Sources {
    pub(crate) fn add(&mut self, source: SourceText) -> SourceId {
        self.0.push(source);
        SourceId(self.0.len() - 1)
    }

    /// The text with this id. Ids come from [`Sources::add`] alone and nothing is ever removed.
    pub(crate) fn get(&self, id: SourceId) -> Option<&SourceText> {
        self.0.get(id.0)
    }

    pub(crate) fn into_texts(self) -> Vec<SourceText> {
        self.0
    }

    /// Whether what `one` says was merged before (is a parent of) what `other` says.
    pub(crate) fn is_parent_of(&self, one: SourceId, other: SourceId) -> bool {
        let rank = |id: SourceId| match self.get(id).map(|source| &source.origin) {
            Some(Origin::Argument) => (1, id.0),
            // Files are read child first, so later ones are parents.
            _ => (0, usize::MAX - id.0),
        };
        rank(one) < rank(other)
    }
}

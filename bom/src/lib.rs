//! The bill of materials: what an image consists of, and who owns each of its files.
//!
//! [`cyclonedx`] takes one finished image as plain data and a reader for its tree, and writes a
//! CycloneDX 1.6 document: the same bytes for the same image, whatever the order of the input, the
//! machine or the hour. [`attribute`] gives the owners alone. This room knows recipes, locks and
//! inventories; it may not know how an image is built, stored or laid out on a disk.

mod attribution;
mod document;
mod dpkg;
mod go;
mod input;
mod licences;
mod packages;
mod path;
mod purl;
mod summary;

pub use attribution::{Attribution, Owned, Ownership};
pub use document::Draft;
pub use input::{
    Artifact, Binary, BinarySource, BomInput, NodeRole, PreloadedImage, Shipped, roles,
};
pub use summary::{Summary, summary};

use nodekiln_recipes::inventory::TreeReader;
use nodekiln_words::Result;

/// The bill of materials of an image: CycloneDX 1.6 as canonical JSON, keys and arrays sorted, in
/// one line that ends in `\n`.
///
/// # Errors
/// `Verdict` where tree and lock disagree about packages, or files of packages were changed by
/// nobody; `Input` where the tree has no dpkg database, a package is not installed completely, or
/// what the input names (binary, locked file, node) is not there; `Io` where the tree cannot be
/// read or a blob is damaged.
pub fn cyclonedx(
    input: &BomInput<'_>,
    shipped: &Shipped,
    tree: &dyn TreeReader,
) -> Result<Vec<u8>> {
    draft(input, tree)?.with(shipped)
}

/// The bill of materials of an image whose artifacts are still being written: all that the tree
/// says. [`Draft::with`] completes it.
///
/// # Errors
/// As [`cyclonedx`].
pub fn draft(input: &BomInput<'_>, tree: &dyn TreeReader) -> Result<Draft> {
    document::with_findings(input, tree, |findings| Draft::of(input, &findings, tree))
}

/// The owner of every file of an image's tree.
///
/// # Errors
/// As [`cyclonedx`].
pub fn attribute(input: &BomInput<'_>, tree: &dyn TreeReader) -> Result<Attribution> {
    document::with_findings(input, tree, |findings| Ok(findings.into_attribution()))
}

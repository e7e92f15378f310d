//! Debian packages unpacked and not configured: programs for nodekiln to run.
//!
//! No script runs and there is no database: programs of such a tree find their libraries by the
//! dynamic linker's default path, which includes Debian's multi-architecture folders.

use std::collections::BTreeMap;

use nodekiln_recipes::plan::PlannedPackage;
use nodekiln_words::{Failure, Result};

use super::packages::open;
use crate::deb::{Conffiles, Unpacker};
use crate::execution::Execution;

/// Unpacks `packages`, with all that they depend on among them, into `<scratch>/output`.
///
/// Facts: `version.NAME` of each package.
///
/// # Errors
/// Of a damaged package or of two packages with the same file.
pub fn run(
    packages: &[PlannedPackage],
    execution: &Execution<'_>,
) -> Result<BTreeMap<String, String>> {
    if !execution.below.is_empty() {
        return Err(Failure::input("tools are unpacked into an empty tree, not over a layer"));
    }
    let parcels = open(packages, execution.store)?;
    let root = execution.root()?;
    let mut unpacker = Unpacker::new(root.path(), Conffiles::InPlace)?;
    unpacker.merge_usr()?;
    unpacker.unpack(&parcels, execution.progress, execution.cancel)?;
    root.finish(execution.source_date)?;
    let version =
        |package: &PlannedPackage| (format!("version.{}", package.name), package.version.clone());
    Ok(packages.iter().map(version).collect())
}

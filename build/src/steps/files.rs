//! Files, directories and links of a recipe.

use std::collections::BTreeMap;

use nodekiln_recipes::plan::{PlannedFile, PlannedFileNode};
use nodekiln_words::Result;

use crate::execution::Execution;
use crate::layer::{Attributes, Root};

/// Writes `files` in order; a later one replaces an earlier one at the same path.
///
/// # Errors
/// When an owner or group is unknown in the tree, or a file is in a directory's place.
pub fn run(files: &[PlannedFile], execution: &Execution<'_>) -> Result<BTreeMap<String, String>> {
    let root = execution.root()?;
    for file in files {
        execution.cancel.check()?;
        write(file, &root, execution)
            .map_err(|failure| failure.context(format!("file {}", file.path)))?;
    }
    root.finish(execution.source_date)?;
    Ok(BTreeMap::new())
}

fn write(file: &PlannedFile, root: &Root, execution: &Execution<'_>) -> Result<()> {
    let (uid, gid) = (root.uid(&file.owner)?, root.gid(&file.group)?);
    let attributes = Attributes { mode: file.mode, uid, gid };
    match &file.node {
        PlannedFileNode::File(content) => {
            root.copy_file(&file.path, &execution.store.blob_path(content)?, attributes)
        }
        PlannedFileNode::Directory => root.make_directory(&file.path, attributes),
        PlannedFileNode::Link(target) => root.make_link(&file.path, target, uid, gid),
    }
}

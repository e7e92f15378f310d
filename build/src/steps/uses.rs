//! What the nodes that a node uses have to offer.

use std::path::PathBuf;

use nodekiln_words::{Failure, Result, ResultExt};

use crate::execution::Execution;
use crate::oci::{Image, archive, read};

/// Images are made and read for this architecture.
pub(super) const ARCHITECTURE: &str = "amd64";

/// Where nodes keep image archives, below their output.
const IMAGES: &str = "images";

/// The output, among the used nodes', that has something at `path`.
pub(super) fn output_with(execution: &Execution<'_>, path: &str) -> Result<PathBuf> {
    let mut outputs = execution.uses.values().map(crate::store::StoredNode::output);
    outputs.find(|output| output.join(path).symlink_metadata().is_ok()).ok_or_else(|| {
        let names: Vec<&str> = execution.uses.keys().map(String::as_str).collect();
        Failure::input(format!("none of the used nodes ({}) has {path}", names.join(", ")))
    })
}

/// Writes one archive an image below the output.
pub(super) fn write_archives(images: &[Image], execution: &Execution<'_>) -> Result<()> {
    let folder = execution.scratch.join("output").join(IMAGES);
    fs_err::create_dir_all(&folder).or_io(|| "making the output".to_owned())?;
    images.iter().try_for_each(|image| {
        let path = folder.join(format!("{}.tar", image.reference.file_name()));
        archive::write(std::slice::from_ref(image), execution.source_date, &path, execution.cancel)
    })
}

/// The images in the used nodes' archives with each one's archive, sorted by reference.
pub(super) fn read_archives(execution: &Execution<'_>) -> Result<Vec<(Image, PathBuf)>> {
    let mut images = Vec::new();
    for node in execution.uses.values() {
        let folder = node.output().join(IMAGES);
        if !folder.is_dir() {
            continue;
        }
        let listing = || "listing image archives".to_owned();
        let entries = fs_err::read_dir(&folder).or_io(listing)?;
        let mut paths = entries
            .map(|entry| Ok(entry.or_io(listing)?.path()))
            .collect::<Result<Vec<PathBuf>>>()?;
        // Of two archives with an image of one name the first is taken, whatever the folder's order.
        paths.sort();
        for path in paths {
            execution.cancel.check()?;
            let read = read::archive(&path, ARCHITECTURE)?;
            images.extend(read.into_iter().map(|image| (image, path.clone())));
        }
    }
    images.sort_by(|(a, _), (b, _)| a.reference.cmp(&b.reference));
    Ok(images)
}

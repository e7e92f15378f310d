//! Images that delete files of their own lower layers.
//!
//! Unpacked, such a deletion is a mark of overlayfs's, and the store lies inside a layer of the tree,
//! where the mark would be one of the tree's own: the file it stands for would come back. So these
//! images keep their layers packed, and CRI unpacks them on the node at first use (containerd's
//! pkg/cri/opts `WithNewSnapshot`).

use std::collections::BTreeSet;
use std::path::PathBuf;

use nodekiln_words::{Cancel, Event, Result};

use super::check::Preloaded;
use crate::execution::Execution;
use crate::oci::Image;
use crate::oci::layer::first_deletion;

/// Decides of each image whether it can be unpacked, and tells of those that cannot.
pub(super) fn keep_packed(preloads: &mut [Preloaded], execution: &Execution<'_>) -> Result<()> {
    // ctr imports all images of an archive at once.
    let mut packed: BTreeSet<PathBuf> = BTreeSet::new();
    for Preloaded { image, archive, .. } in &*preloads {
        if let Some(path) = deletion(image, execution.cancel)? {
            packed.insert(archive.clone());
            execution.progress.event(Event::Note(format!(
                "{} is unpacked by the node at first use: it deletes files of its own lower layers, \
                 {path} first, which a tree cannot hold",
                image.reference
            )));
        }
    }
    for preload in preloads {
        preload.unpack = !packed.contains(&preload.archive);
    }
    Ok(())
}

/// The first path by which a layer of the image deletes something.
fn deletion(image: &Image, cancel: &Cancel) -> Result<Option<String>> {
    for layer in &image.layers {
        let found = first_deletion(layer, cancel)
            .map_err(|failure| failure.context(format!("image {}", image.reference)))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

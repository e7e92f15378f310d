//! Makes archives of images that were fetched from a registry into the store.

use std::collections::BTreeMap;
use std::path::Path;

use nodekiln_recipes::lock::LockedImage;
use nodekiln_words::{Result, ResultExt, Sha256};

use super::uses::{ARCHITECTURE, write_archives};
use crate::execution::Execution;
use crate::oci::{Blob, Content, Image, Reference, document_blob};

/// Writes one archive an image.
///
/// # Errors
/// When a blob is not in the store, or the documents do not lead to the manifest that the lock
/// names.
pub fn run(
    images: &BTreeMap<String, LockedImage>,
    execution: &Execution<'_>,
) -> Result<BTreeMap<String, String>> {
    let images = images
        .iter()
        .map(|(reference, locked)| {
            image(&reference.parse()?, locked, execution)
                .map_err(|failure| failure.context(format!("image {reference}")))
        })
        .collect::<Result<Vec<_>>>()?;
    write_archives(&images, execution)?;
    Ok(BTreeMap::new())
}

fn image(reference: &Reference, locked: &LockedImage, execution: &Execution<'_>) -> Result<Image> {
    let path = |digest: &Sha256| execution.store.blob_path(digest);
    let target = document(&path(&locked.index.unwrap_or(locked.manifest))?)?;
    let image = Image::follow(reference, target, ARCHITECTURE, &|wanted| {
        let content = Content::File { path: path(&wanted.digest)?, offset: 0 };
        let media_type = wanted.media_type.clone();
        Ok(Blob { media_type, digest: wanted.digest, size: wanted.size, content })
    })?;
    if image.manifest.digest == locked.manifest {
        return Ok(image);
    }
    let (found, expected) = (image.manifest.digest, locked.manifest);
    Err(nodekiln_words::Failure::input(format!(
        "its index leads to the manifest sha256:{found}, the lock names sha256:{expected}"
    ))
    .with_help("build again: what the image stands for is asked anew"))
}

fn document(path: &Path) -> Result<Blob> {
    let bytes = fs_err::read(path).or_io(|| "reading a manifest from the store".to_owned())?;
    document_blob(bytes)
}

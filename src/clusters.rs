//! Clusters of earlier qcow2 artifacts, so that those of a new one are compressed only where they differ.

use std::path::Path;
use std::sync::Arc;

use nodekiln_build::store::Store;
use nodekiln_disk::qcow2::Clusters;
use nodekiln_providers::{Artifact, Compression};
use nodekiln_words::{Bytes, Event, Progress, Result};

/// What the store knows of clusters compressed in this way; `None` where nothing is compressed.
pub(crate) fn known(store: &Store, compression: Compression) -> Result<Option<Arc<Clusters>>> {
    if compression == Compression::None {
        return Ok(None);
    }
    let mut clusters = Clusters::new(compression.of_clusters())?;
    for (index, file) in store.kept_clusters() {
        clusters.learn(&index, &file);
    }
    Ok(Some(Arc::new(clusters)))
}

/// Keeps the clusters of the qcow2 artifact in `folder` for the next build of any image. Where they
/// cannot be kept, that is told: the artifact is as good without.
pub(crate) fn keep(
    clusters: &Clusters,
    artifacts: &[Artifact],
    (image, compression): (&str, Compression),
    folder: &Path,
    store: &Store,
    progress: &dyn Progress,
) {
    let Some(artifact) = artifacts.iter().find(|artifact| artifact.format == "qcow2") else {
        return;
    };
    let reused = clusters.reused();
    if reused > 0 {
        let text = format!("{} of {} were compressed before", Bytes(reused), artifact.file);
        progress.event(Event::Note(text));
    }
    let way = match compression {
        Compression::Zlib => "zlib",
        Compression::Zstd => "zstd",
        Compression::None => return,
    };
    let (name, path) = (format!("{image}-{way}"), folder.join(&artifact.file));
    let why = match store.keep_clusters(&name, &clusters.index(), &path) {
        Ok(true) => return,
        Ok(false) => "store and output folder are on different file systems".to_owned(),
        Err(failure) => failure.chain().join(": "),
    };
    progress.event(Event::Note(format!("the next build compresses everything anew: {why}")));
}

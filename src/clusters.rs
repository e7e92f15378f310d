//! Clusters of earlier qcow2 artifacts, so that those of a new one are compressed only where they differ.

use std::path::Path;
use std::sync::Arc;

use nodekiln_build::store::Store;
use nodekiln_disk::qcow2::Clusters;
use nodekiln_providers::{Artifact, Compression};
use nodekiln_words::{Bytes, Event, Progress, Result};

/// What the store knows of clusters that are compressed in one way, and where those of a new artifact
/// are kept.
pub(crate) struct KnownClusters<'a> {
    store: &'a Store,
    clusters: Arc<Clusters>,
    /// What they are kept as.
    name: String,
}

impl<'a> KnownClusters<'a> {
    /// For the artifact of `image`; `None` where nothing is compressed.
    pub(crate) fn of(
        store: &'a Store,
        image: &str,
        compression: Compression,
    ) -> Result<Option<Self>> {
        if compression == Compression::None {
            return Ok(None);
        }
        let mut clusters = Clusters::new(compression.of_clusters())?;
        for (index, file) in store.kept_clusters() {
            clusters.learn(&index, &file);
        }
        Ok(Some(Self {
            store,
            clusters: Arc::new(clusters),
            name: format!("{image}-{}", compression.word()),
        }))
    }

    /// For the writer of an artifact.
    pub(crate) fn share(&self) -> Arc<Clusters> {
        Arc::clone(&self.clusters)
    }

    /// Keeps the clusters of the first qcow2 artifact in `folder` for the next build of any image. Where they
    /// cannot be kept, that is told: the artifact is as good without.
    pub(crate) fn keep(&self, artifacts: &[Artifact], folder: &Path, progress: &dyn Progress) {
        let Some(artifact) = artifacts.iter().find(|artifact| artifact.format == "qcow2") else {
            return;
        };
        let reused = self.clusters.reused();
        if reused > 0 {
            let text = format!("{} of {} were compressed before", Bytes(reused), artifact.file);
            progress.event(Event::Note(text));
        }
        let path = folder.join(&artifact.file);
        // Other qcow2 artifacts may be of another disk; most of what they have is in this one too.
        let index = self.clusters.index(&path);
        let why = match self.store.keep_clusters(&self.name, &index, &path) {
            Ok(true) => return,
            Ok(false) => "store and output folder are on different file systems".to_owned(),
            Err(failure) => failure.chain().join(": "),
        };
        progress.event(Event::Note(format!("the next build compresses everything anew: {why}")));
    }
}

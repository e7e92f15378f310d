use nodekiln_words::{Class, Failure, Result, ResultExt, Sha256};

use super::json::{Config, Descriptor, Index, Manifest, media_type};
use super::{Blob, Image, Reference};

/// Finds the blob that a descriptor points to.
pub type FindBlob<'a> = dyn Fn(&Descriptor) -> Result<Blob> + 'a;

impl Image {
    /// Follows `target` (an index or a manifest) to the image for `linux` on `architecture`.
    ///
    /// `find` gives each blob; manifest and config are read and checked, layers are not read.
    ///
    /// # Errors
    /// When there is no manifest for the platform, a document is none, or config and manifest do
    /// not agree on the number of layers.
    pub fn follow(
        reference: &Reference,
        target: Blob,
        architecture: &str,
        find: &FindBlob<'_>,
    ) -> Result<Self> {
        let within = |failure: Failure| failure.context(format!("image {reference}"));
        let (index, manifest) = if media_type::is_index(&target.media_type) {
            let manifest = platform_manifest(&target, architecture).map_err(within)?;
            (Some(target), find(&manifest).map_err(within)?)
        } else {
            (None, target)
        };
        let parsed: Manifest = parse(&manifest).map_err(within)?;
        let config = find(&parsed.config).map_err(within)?;
        let layers = parsed.layers.iter().map(find).collect::<Result<Vec<_>>>().map_err(within)?;
        let image = Self { reference: reference.clone(), index, manifest, config, layers };
        image.agree(architecture).map_err(within)?;
        Ok(image)
    }

    /// The digests of the uncompressed layers, lowest first, from the config.
    ///
    /// # Errors
    /// When the config is none.
    pub fn diff_ids(&self) -> Result<Vec<Sha256>> {
        let config: Config = parse(&self.config)?;
        let digest = |text: &String| {
            text.parse().or_fail(Class::Input, || format!("config sha256:{}", self.config.digest))
        };
        config.rootfs.diff_ids.iter().map(digest).collect()
    }

    /// Reads every blob once and compares it with its digest.
    ///
    /// # Errors
    /// Names the blob that is missing or damaged.
    pub fn verify(&self) -> Result<()> {
        self.blobs().try_for_each(|blob| {
            blob.copy_to(&mut std::io::sink())
                .map_err(|failure| failure.context(format!("image {}", self.reference)))
        })
    }

    pub(super) fn agree(&self, architecture: &str) -> Result<()> {
        let config: Config = parse(&self.config)?;
        if (config.os.as_str(), config.architecture.as_str()) != ("linux", architecture) {
            return Err(Failure::input(format!(
                "it is for {}/{}, wanted linux/{architecture}",
                config.os, config.architecture
            )));
        }
        let (ids, layers) = (config.rootfs.diff_ids.len(), self.layers.len());
        if ids == layers {
            return Ok(());
        }
        Err(Failure::input(format!("its config names {ids} layers, its manifest {layers}")))
    }
}

/// The descriptor in `index` of the manifest for `linux` on `architecture`.
pub(super) fn platform_manifest(index: &Blob, architecture: &str) -> Result<Descriptor> {
    let parsed: Index = parse(index)?;
    let fits = |entry: &&Descriptor| {
        let platform = entry.platform.as_ref();
        media_type::is_manifest(&entry.media_type)
            && platform.is_some_and(|p| p.os == "linux" && p.architecture == architecture)
    };
    parsed.manifests.iter().find(fits).cloned().ok_or_else(|| {
        Failure::input(format!(
            "index sha256:{} has no manifest for linux/{architecture}",
            index.digest
        ))
    })
}

pub(super) fn parse<T>(blob: &Blob) -> Result<T>
where
    T: serde::de::DeserializeOwned,
{
    let bytes = blob.document()?;
    let class = Class::Input;
    serde_json::from_slice(&bytes)
        .or_fail(class, || format!("document sha256:{} ({})", blob.digest, blob.media_type))
}

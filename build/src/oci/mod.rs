//! Container images: references, layers, image layout archives and registries.
//!
//! An [`Image`] is a manifest, its config and its layers, each a [`Blob`] known by digest. It comes
//! from [`build()`] (a new image from files), [`read`] (an archive) or [`registry`] (a server),
//! and goes to [`archive`], which writes the archives that containerd imports. Formats: OCI image
//! specification 1.0 (manifest, index, config, layout), OCI distribution specification 1.0, and the
//! older archive that `docker save` writes.

pub mod archive;
mod blob;
mod build;
mod json;
pub mod layer;
pub mod read;
mod reference;
pub mod registry;
mod walk;

pub use blob::{Blob, Content, document_blob};
pub use build::{ImageSpec, build};
pub use json::{Descriptor, Index, Manifest, Platform, media_type};
pub use reference::Reference;
pub use walk::FindBlob;

/// One image for one platform.
#[derive(Clone, Debug)]
pub struct Image {
    /// The name it goes by.
    pub reference: Reference,
    /// The index through which it was found, byte for byte; images made here have none.
    pub index: Option<Blob>,
    /// The manifest, byte for byte.
    pub manifest: Blob,
    /// The config, byte for byte.
    pub config: Blob,
    /// The layers as transferred, lowest first.
    pub layers: Vec<Blob>,
}

impl Image {
    /// What the name stands for: the index where there is one, else the manifest.
    #[must_use]
    pub fn target(&self) -> &Blob {
        self.index.as_ref().unwrap_or(&self.manifest)
    }

    /// Every blob of the image, the target first and the layers last.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.index.iter().chain([&self.manifest, &self.config]).chain(&self.layers)
    }
}

//! A provider: who runs the image, the layer that it needs, the machine that it runs on, and the file it
//! wants.
//!
//! A provider is plain data, a layer ([`Provider::layer`]) and a machine ([`MachineProfile`]), and one
//! function, [`Provider::write`], from a disk to an artifact. Here are those without a cloud of their own
//! and the words in which all are described; each cloud has a crate beside this one, such as
//! `providers/aws`, with its layer in `layer.yaml` and the provider in `src/lib.rs`. The command line
//! crate, which alone knows them all, lists them. This room may not know how a tree is built, and nothing
//! in it may start a program or reach a network.

mod machine;
mod openstack;
mod qemu;
mod raw;
mod smbios;

use std::path::PathBuf;
use std::sync::Arc;

use nodekiln_disk::{Disk, Payload, qcow2};
use nodekiln_words::{Cancel, Progress, Result, Sha256};
use serde::{Deserialize, Serialize};

pub use machine::{DiskBus, Firmware, MachineProfile, NetworkCard};
pub use nodekiln_recipes::provider::DiskRules;
pub use openstack::OpenStack;
pub use qemu::Qemu;
pub use raw::Raw;
pub use smbios::{Board, Chassis, Fields, Smbios, System, UuidRule};

/// The layer of providers without a cloud of their own: one text, so that they share one disk.
const COMMON_LAYER: &str = include_str!("../layer.yaml");

/// How a qcow2 artifact's clusters are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Raw deflate, readable by every QEMU.
    #[default]
    Zlib,
    /// Zstandard, readable from QEMU 5.1 on.
    Zstd,
    /// Stored as they are.
    None,
}

/// What a provider needs to know to write its artifact.
#[derive(Clone, Debug)]
pub struct ArtifactRequest {
    /// Name of the image; the artifact's file is called after it.
    pub name: String,
    /// Folder to write into; it exists.
    pub folder: PathBuf,
    /// Compression, for formats that have any.
    pub compression: Compression,
    /// Compressed clusters of earlier qcow2 files, for a format that is one; for this compression.
    pub clusters: Option<Arc<qcow2::Clusters>>,
}

impl ArtifactRequest {
    /// The path of the file called `file` in the folder.
    #[must_use]
    pub fn path_of(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }
}

impl Compression {
    /// As the qcow2 writer calls it.
    #[must_use]
    pub fn of_clusters(self) -> qcow2::Compression {
        match self {
            Self::Zlib => qcow2::Compression::zlib(),
            Self::Zstd => qcow2::Compression::zstd(),
            Self::None => qcow2::Compression::None,
        }
    }
}

/// One file of an artifact, written and flushed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The provider.
    pub provider: String,
    /// Format in the field's word: `raw`, `qcow2`.
    pub format: String,
    /// File name within the request's folder.
    pub file: String,
    /// Length of the file in bytes, holes included.
    pub size: u64,
    /// Digest of the file.
    pub sha256: Sha256,
}

/// Who runs the image.
pub trait Provider: Sync {
    /// Its name on the command line and under `providers:` in recipes.
    fn name(&self) -> &'static str;

    /// One line for `provider list`.
    fn description(&self) -> &'static str;

    /// What its image has besides everything else: YAML with the keys of `providers.NAME` in a recipe,
    /// which are merged over it.
    fn layer(&self) -> &'static str;

    /// The machine that it boots the image on.
    fn machine(&self) -> MachineProfile;

    /// The file that [`Provider::write`] makes for an image of this name.
    fn file_name(&self, image: &str) -> String;

    /// Writes the artifact of `disk`, whose content has the digest `payload`; a format that does not
    /// need it need not ask for it.
    ///
    /// # Errors
    /// When the folder cannot be written or has no room; nothing of the file is left to be mistaken
    /// for a whole one as long as the caller gives a folder of its own and renames afterwards.
    fn write(
        &self,
        disk: &Disk,
        payload: &Payload,
        request: &ArtifactRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Artifact>;
}

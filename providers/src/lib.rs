//! A provider: who runs the image, the layer that it needs, the machine that it runs on, and the file it
//! wants.
//!
//! A provider is plain data, a layer ([`Provider::layer`]) and a machine ([`MachineProfile`]), and one
//! function, [`Provider::begin`], from a disk to the writer of an artifact, which also tells what it takes
//! to register it. Here are those without a cloud of their own
//! and the words in which all are described; each cloud has a crate beside this one, such as
//! `providers/aws`, with its layer in `layer.yaml` and the provider in `src/lib.rs`. The command line
//! crate, which alone knows them all, lists them. This room may not know how a tree is built, and nothing
//! in it may start a program or reach a network: providers that are programs of others are the business of
//! `plugins/`.

mod artifact;
mod glance;
mod lookup;
mod machine;
mod openstack;
mod qemu;
mod raw;
mod smbios;
mod writer;

use nodekiln_disk::Disk;
use nodekiln_words::{Cancel, Result, Sha256};
use serde::{Deserialize, Serialize};

pub use artifact::{Artifact, ArtifactRequest, Compression, FileName, ImageFacts};
pub use glance::GlanceImage;
pub use machine::{DiskBus, Firmware, MachineProfile, NetworkCard};
pub use nodekiln_recipes::provider::DiskRules;
pub use nodekiln_recipes::recipe::BootMode;
pub use openstack::OpenStack;
pub use qemu::Qemu;
pub use raw::{MetalImage, Raw};
pub use smbios::{Bios, Board, Chassis, Fields, Smbios, System, UuidRule};
pub use writer::{ArtifactWriter, Made, OneFile, Parameters};

/// The layer of providers without a cloud of their own: one text, so that they share one disk.
const COMMON_LAYER: &str = include_str!("../layer.yaml");

/// Who runs the image.
pub trait Provider: Send + Sync {
    /// Its name on the command line and under `providers:` in recipes.
    fn name(&self) -> &str;

    /// One line for `provider list`.
    fn description(&self) -> &str;

    /// What its image has besides everything else: YAML with the keys of `providers.NAME` in a recipe,
    /// which are merged over it.
    fn layer(&self) -> &str;

    /// The machine that it boots the image on.
    fn machine(&self) -> MachineProfile;

    /// The files that [`Provider::begin`] writes for an image of this name, at least one.
    fn files(&self, image: &str) -> Vec<FileName>;

    /// Names of the documents ([`Made::documents`]) that belong beside those files; most have none.
    fn documents(&self, _image: &str) -> Vec<String> {
        Vec::new()
    }

    /// Which program it is, if it is not part of nodekiln.
    fn plugin(&self) -> Option<Plugin> {
        None
    }

    /// Creates the artifact's files for `disk`. Its bytes come by a pass that the writer joins.
    ///
    /// # Errors
    /// When the folder cannot be written, or the provider does not take such a disk. Nothing of the file is
    /// left to be mistaken for a whole one as long as the caller gives a folder of its own and renames
    /// afterwards.
    fn begin(
        &self,
        disk: &Disk,
        request: &ArtifactRequest,
        cancel: &Cancel,
    ) -> Result<Box<dyn ArtifactWriter>>;
}

/// A provider that is a program of somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    /// The version that it gives itself.
    pub version: String,
    /// Digest of its executable file.
    pub sha256: Sha256,
}

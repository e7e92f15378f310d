//! A provider: who runs the image, the layer that it needs, the machine that it runs on, and the file it
//! wants.
//!
//! A provider is plain data, a layer ([`Provider::layer`]) and a machine ([`MachineProfile`]), and one
//! function, [`Provider::begin`], from a disk to the writer of an artifact. Here are those without a cloud of their own
//! and the words in which all are described; each cloud has a crate beside this one, such as
//! `providers/aws`, with its layer in `layer.yaml` and the provider in `src/lib.rs`. The command line
//! crate, which alone knows them all, lists them. This room may not know how a tree is built, and nothing
//! in it may start a program or reach a network.

mod artifact;
mod machine;
mod openstack;
mod qemu;
mod raw;
mod smbios;

use nodekiln_disk::{Disk, FileWriter};
use nodekiln_words::{Cancel, Result};

pub use artifact::{Artifact, ArtifactRequest, Compression, ImageFacts};
pub use machine::{DiskBus, Firmware, MachineProfile, NetworkCard};
pub use nodekiln_recipes::provider::DiskRules;
pub use openstack::OpenStack;
pub use qemu::Qemu;
pub use raw::Raw;
pub use smbios::{Bios, Board, Chassis, Fields, Smbios, System, UuidRule};

/// The layer of providers without a cloud of their own: one text, so that they share one disk.
const COMMON_LAYER: &str = include_str!("../layer.yaml");

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

    /// Format of its artifact in the field's word: `raw`, `qcow2`.
    fn format(&self) -> &'static str;

    /// The file that [`Provider::begin`] creates for an image of this name.
    fn file_name(&self, image: &str) -> String;

    /// Creates the artifact's file for `disk`. Its bytes come by a pass that the writer joins.
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
    ) -> Result<Box<dyn FileWriter>>;
}

//! A provider: who runs the image, the machine that it runs on, and the file it wants.
//!
//! A provider is plain data ([`MachineProfile`]) and one function, [`Provider::write`], from a disk
//! to an artifact. The registry [`all`] lists those in the tree. This room may not know how a tree is
//! built, and nothing in it may start a program or reach a network.

mod machine;
mod qemu;
mod raw;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln_disk::{Disk, Payload, qcow2};
use nodekiln_words::{Cancel, Class, Failure, Progress, Result, Sha256};
use serde::{Deserialize, Serialize};

pub use machine::{DiskBus, Firmware, MachineProfile, NetworkCard};
pub use qemu::Qemu;
pub use raw::Raw;

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

/// The providers in the tree, by name.
#[must_use]
pub fn all() -> &'static [&'static dyn Provider] {
    &[&Qemu, &Raw]
}

/// The provider called `name`.
///
/// # Errors
/// When there is none; the help lists those there are.
pub fn by_name(name: &str) -> Result<&'static dyn Provider> {
    all().iter().copied().find(|provider| provider.name() == name).ok_or_else(|| {
        let names: Vec<_> = all().iter().map(|provider| provider.name()).collect();
        Failure::new(Class::Input, format!("there is no provider `{name}`"))
            .with_help(format!("the providers are: {}", names.join(", ")))
    })
}

/// Path of the file called `file` in the request's folder.
fn target(request: &ArtifactRequest, file: &str) -> PathBuf {
    Path::new(&request.folder).join(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_sorted() {
        let names: Vec<_> = all().iter().map(|provider| provider.name()).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
    }

    #[test]
    fn an_unknown_provider_is_refused_with_the_list() {
        let Err(failure) = by_name("nimbus") else { panic!("nimbus is no provider") };
        assert_eq!(failure.class(), Class::Input);
        assert_eq!(failure.help(), Some("the providers are: qemu, raw"));
    }
}

//! What a provider is told of an artifact, and what comes of it.

use std::path::PathBuf;
use std::sync::Arc;

use nodekiln_disk::{Deflate, qcow2};
use nodekiln_recipes::recipe::BootMode;
use nodekiln_words::Sha256;
use serde::{Deserialize, Serialize};

/// How artifacts are compressed, in formats that have any compression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Deflate, each block once for all formats.
    Fast,
    /// Deflate, each block once for qcow2 and once for the other formats, whose readers remember more.
    #[default]
    Default,
    /// As the default, with more effort.
    Small,
    /// qcow2 in Zstandard, readable from QEMU 5.1 on; deflate in formats that have nothing else.
    Zstd,
    /// qcow2 as it is; deflate in formats that have nothing else.
    None,
}

/// What a provider needs to know to write its artifact.
#[derive(Clone, Debug, Default)]
pub struct ArtifactRequest {
    /// Name of the image; the artifact's file is called after it.
    pub name: String,
    /// Folder to write into; it exists.
    pub folder: PathBuf,
    /// Compression, for formats that have any.
    pub compression: Compression,
    /// Compressed clusters of earlier qcow2 files, for a format that is one; for this compression.
    pub clusters: Option<Arc<qcow2::Clusters>>,
    /// Time in formats that have one, in seconds since 1970: the recipe's source date.
    pub created: u64,
    /// How the disk is made to boot.
    pub boot: BootMode,
    /// What the image is, for formats that tell.
    pub facts: ImageFacts,
}

/// What an image is, by which it is looked up in a cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// The distribution, as os-release's `ID` has it: `debian`.
    pub distribution: String,
    /// Its version, as `VERSION_ID` has it: `12`.
    pub distribution_version: String,
    /// Machine architecture in Go's word: `amd64`.
    pub architecture: String,
    /// Version of Kubernetes, with a leading `v`.
    pub kubernetes: Option<String>,
    /// Where Kubernetes came from: `release`, `source`, `directory`.
    pub kubernetes_source: Option<String>,
    /// Upstream version of containerd.
    pub containerd: Option<String>,
    /// Upstream version of the network plugins.
    pub cni: Option<String>,
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
            Self::Fast => qcow2::Compression::Shared { level: FAST },
            Self::Default => qcow2::Compression::zlib(),
            Self::Small => qcow2::Compression::Zlib { level: SMALL },
            Self::Zstd => qcow2::Compression::zstd(),
            Self::None => qcow2::Compression::None,
        }
    }

    /// As the writers of VMDK and gzip call it.
    #[must_use]
    pub fn of_pieces(self) -> Deflate {
        match self {
            Self::Fast => Deflate::narrow(FAST),
            Self::Default => Deflate::wide(5),
            Self::Small => Deflate::wide(SMALL),
            Self::Zstd => Deflate::wide(3),
            Self::None => Deflate::wide(1),
        }
    }

    /// The word for it, as users type it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Default => "default",
            Self::Small => "small",
            Self::Zstd => "zstd",
            Self::None => "none",
        }
    }
}

/// Levels of deflate.
const FAST: i32 = 3;
const SMALL: i32 = 9;

/// A file that a provider writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileName {
    /// Its name, without a folder.
    pub file: String,
    /// Its format in the field's word: `raw`, `qcow2`.
    pub format: String,
}

impl FileName {
    /// The file `file` of this format.
    #[must_use]
    pub fn new(file: String, format: &str) -> Self {
        Self { file, format: format.to_owned() }
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

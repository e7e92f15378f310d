//! The lock: every package, file and image that a plan takes in, by digest.
//!
//! [`LockFile`] is the lock as it stands beside a recipe; [`moved()`] compares two locks, and
//! [`Lock::misfits`] tells in what a lock is not one of a recipe.

mod file;
mod fits;
mod moved;

use std::collections::BTreeMap;

use nodekiln_words::{Sha256, SourceDate};
use serde::{Deserialize, Serialize};

use crate::recipe::{Kubernetes, KubernetesSource, ReleaseImages, Version};

pub use file::LockFile;
pub use fits::{WantedTree, url_name, urls};
pub use moved::{Change, Moved, moved};

/// Everything that enters a build. A tree is a set of packages with a name: `image` is the image's
/// own, `image@PROVIDER` what a provider has besides, `tools/…` are those nodekiln runs programs from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lock {
    /// What vouched for the packages: suites by name.
    pub archives: BTreeMap<String, LockedSuite>,
    /// Package sets by tree name.
    pub trees: BTreeMap<String, LockedTree>,
    /// Single files by name: `kubernetes/kubelet`, `source/kubernetes_1.20.2.orig.tar.gz`, …
    pub files: BTreeMap<String, LockedFile>,
    /// Container images fetched from a registry, by reference.
    pub images: BTreeMap<String, LockedImage>,
    /// What of the recipe's Kubernetes decided the files and images; `None` without Kubernetes.
    pub kubernetes: Option<LockedKubernetes>,
    /// References of the images that kubeadm asks for, sorted; empty without Kubernetes.
    pub kubeadm_images: Vec<String>,
}

impl Lock {
    /// The sandbox ("pause") image among those that kubeadm asks for.
    #[must_use]
    pub fn pause(&self) -> Option<&str> {
        let name = |reference: &&String| {
            let last = reference.rsplit('/').next().unwrap_or_default();
            last.split([':', '@']).next() == Some("pause")
        };
        self.kubeadm_images.iter().find(name).map(String::as_str)
    }
}

/// A suite of an archive whose signed index named packages or sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedSuite {
    /// Base URL that served the signed index.
    pub base: String,
    /// When the index was made.
    pub date: SourceDate,
    /// Digest of the signed index, `InRelease`.
    pub sha256: Sha256,
    /// Fingerprint of the key whose signature on it was verified.
    pub signed_by: String,
}

/// What Kubernetes a lock is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedKubernetes {
    /// The version.
    pub version: Version,
    /// Kind of source: `source`, `directory` or `release`.
    pub source: String,
    /// Registry and path of the control-plane images.
    pub image_repository: String,
    /// Where its files come from: a source package and its release, or a release server and where its
    /// images come from; nothing for a folder, whose files are compared themselves.
    pub origin: String,
}

impl From<&Kubernetes> for LockedKubernetes {
    fn from(kubernetes: &Kubernetes) -> Self {
        let origin = match &kubernetes.source {
            KubernetesSource::Source { package, release } => format!("{package} of {release}"),
            KubernetesSource::Directory { .. } => String::new(),
            KubernetesSource::Release { url, images, .. } => {
                let images = match images {
                    ReleaseImages::Registry => "registry",
                    ReleaseImages::Archives => "archives",
                };
                format!("{url}, images from {images}")
            }
        };
        Self {
            version: kubernetes.version,
            source: kubernetes.source.as_str().to_owned(),
            image_repository: kubernetes.image_repository.clone(),
            origin,
        }
    }
}

/// The packages of one tree, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedTree {
    /// Release that the packages come from.
    pub release: String,
    /// What was asked for, `NAME` or `NAME=VERSION`, sorted; the rest are dependencies.
    pub asked: Vec<String>,
    /// The packages.
    pub packages: Vec<LockedPackage>,
}

/// One binary package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedPackage {
    /// Binary package name.
    pub name: String,
    /// Version with epoch.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Digest of the `.deb`.
    pub sha256: Sha256,
    /// Size of the `.deb` in bytes.
    pub size: u64,
    /// Suite whose index named it, such as `bookworm-security`.
    pub suite: String,
    /// Archive component.
    pub component: String,
    /// Path below the archive's base URL.
    pub path: String,
    /// Source package.
    pub source: String,
    /// Source version.
    pub source_version: String,
    /// Marked `Essential: yes`, or pre-required by such a package: configured before all others.
    pub essential: bool,
    /// Asked for by name, not only by another package's dependency.
    pub requested: bool,
}

/// One file that is fetched by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedFile {
    /// Where it was found; for files of an archive the path below its base URL.
    pub url: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Its size in bytes, where it is known before fetching.
    pub size: Option<u64>,
}

/// One container image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedImage {
    /// Digest of the manifest for this platform.
    pub manifest: Sha256,
    /// Digest of the index through which it was found, if any.
    pub index: Option<Sha256>,
    /// Config and layer blobs: digest to size in bytes.
    pub blobs: BTreeMap<Sha256, u64>,
}

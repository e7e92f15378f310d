//! The lock: every package, file and image that a plan takes in, by digest.

use std::collections::BTreeMap;

use nodekiln_words::Sha256;
use serde::{Deserialize, Serialize};

/// Everything that enters a build. A tree is a set of packages with a name: `image` is the image's
/// own, `tools/…` are those nodekiln runs programs from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Package sets by tree name.
    pub trees: BTreeMap<String, LockedTree>,
    /// Single files by name: `kubernetes/kubelet`, `source/kubernetes_1.20.2.orig.tar.gz`, …
    pub files: BTreeMap<String, LockedFile>,
    /// Container images fetched from a registry, by reference.
    pub images: BTreeMap<String, LockedImage>,
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

/// The packages of one tree, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedTree {
    /// Release that the packages come from.
    pub release: String,
    /// The packages.
    pub packages: Vec<LockedPackage>,
}

/// One binary package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
#[serde(deny_unknown_fields)]
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
#[serde(deny_unknown_fields)]
pub struct LockedImage {
    /// Digest of the manifest for this platform.
    pub manifest: Sha256,
    /// Digest of the index through which it was found, if any.
    pub index: Option<Sha256>,
    /// Config and layer blobs: digest to size in bytes.
    pub blobs: BTreeMap<Sha256, u64>,
}

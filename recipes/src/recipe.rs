//! The recipe, resolved: every `extends` followed, every default filled in, every value typed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nodekiln_words::{Bytes, Sha256, SourceDate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A whole recipe. Lists keep the order in which they were written, parents first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recipe {
    /// The image's name; also the name of its folder under `out/`.
    pub name: String,
    /// One line for `recipe list`.
    pub description: String,
    /// The distribution.
    pub os: Os,
    /// The one moment that the image knows.
    pub source_date: SourceDate,
    /// Which Kubernetes, and where it comes from; `None` for an image without Kubernetes.
    pub kubernetes: Option<Kubernetes>,
    /// The container runtime's settings; `None` for an image without a runtime.
    pub containerd: Option<Containerd>,
    /// Packages to install, besides the essential ones.
    pub packages: Vec<String>,
    /// Packages whose version is held (`hold` in dpkg's selections).
    pub holds: Vec<String>,
    /// Kernel modules to load at boot.
    pub modules: Vec<String>,
    /// Kernel parameters to set at boot, by name.
    pub sysctls: BTreeMap<String, String>,
    /// Users and groups to add.
    pub users: Vec<User>,
    /// Files, directories and links to write.
    pub files: Vec<FileStep>,
    /// systemd units to enable, disable or mask.
    pub units: Units,
    /// Scripts by the hook at which they run.
    pub scripts: BTreeMap<Hook, Vec<Script>>,
    /// Container images to preload besides those that kubeadm lists.
    pub images: Vec<String>,
    /// What to take away again before sysprep.
    pub remove: Remove,
    /// Kernel package and arguments.
    pub kernel: Kernel,
    /// The disk.
    pub disk: DiskSpec,
    /// What differs by provider: provider name to its additions.
    pub providers: BTreeMap<String, ProviderSpec>,
}

/// The distribution and where its packages come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Os {
    /// The family, which decides the package format.
    pub family: Family,
    /// Code name of the release, such as `bookworm`.
    pub release: String,
    /// Machine architecture in the distribution's word.
    pub architecture: Architecture,
    /// Archive components, such as `main`.
    pub components: Vec<String>,
    /// Base URLs of archives; empty means "those this machine's own package manager uses".
    pub mirrors: Vec<String>,
    /// Base URLs of archives that keep what the mirrors no longer have. `{archive}` stands for `debian`
    /// or `debian-security`, `{timestamp}` for the date of the locked index (`20261101T000000Z`).
    pub snapshots: Vec<String>,
    /// An armored or binary OpenPGP keyring to trust instead of the built-in one.
    pub keyring: Option<PathBuf>,
}

/// Distribution families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Debian and its releases.
    Debian,
}

impl Family {
    /// The word for it, as os-release's `ID` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debian => "debian",
        }
    }
}

/// Machine architectures, in Debian's words.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// 64-bit x86.
    Amd64,
}

impl Architecture {
    /// Debian's word for it; Kubernetes and OCI use the same.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
        }
    }
}

/// Which Kubernetes, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kubernetes {
    /// The version, without a leading `v`.
    pub version: Version,
    /// Where the binaries and images come from.
    pub source: KubernetesSource,
    /// Registry and path in front of the control-plane images' names, such as `registry.k8s.io`.
    pub image_repository: String,
}

/// A Kubernetes version `MAJOR.MINOR.PATCH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Major version; 1.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
    /// Patch version.
    pub patch: u32,
}

/// The four sources of Kubernetes' binaries and control-plane images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum KubernetesSource {
    /// A Debian source package, compiled in the sandbox.
    Source {
        /// Name of the source package.
        package: String,
        /// Release whose archive has it and whose compiler builds it.
        release: String,
    },
    /// Prebuilt files: `bin/NAME` and `images/*.tar` (OCI or docker archives).
    Directory {
        /// The folder.
        path: PathBuf,
    },
    /// Upstream's release server and registry.
    Release {
        /// Base URL; below it `vVERSION/bin/linux/ARCH/NAME` and `NAME.sha256`.
        url: String,
        /// URL of the registry that serves the image repository; `None` derives it.
        registry: Option<String>,
        /// Expected digests by binary name, where the recipe pins them.
        sha256: BTreeMap<String, Sha256>,
        /// Where Kubernetes' own images come from.
        images: ReleaseImages,
    },
}

/// Where the images of Kubernetes' own programs come from; pause, etcd and CoreDNS always come from
/// the registry, since the release server does not have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseImages {
    /// From the registry, as the others.
    Registry,
    /// From the archives (`kube-apiserver.tar`, …) that stand beside the binaries.
    Archives,
}

impl ReleaseImages {
    /// The word for it in recipes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Archives => "archives",
        }
    }
}

/// Settings of the container runtime that are not derived from versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Containerd {
    /// Who puts containers into cgroups.
    pub cgroup_driver: CgroupDriver,
    /// The sandbox ("pause") image; `None` means the one that kubeadm lists.
    pub sandbox_image: Option<String>,
}

/// Who puts containers into cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupDriver {
    /// What kubeadm and kubelet of this Kubernetes version assume when nobody says.
    Auto,
    /// systemd slices and scopes.
    Systemd,
    /// Plain cgroup directories.
    Cgroupfs,
}

/// A user to add, with a group of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Numeric id; `None` lets the distribution's `useradd` choose.
    pub uid: Option<u32>,
    /// Supplementary groups, which must exist.
    pub groups: Vec<String>,
    /// Login shell.
    pub shell: String,
    /// Home directory; `None` means `/home/NAME`.
    pub home: Option<String>,
    /// A system account (low id, no ageing).
    pub system: bool,
    /// Lines of `~/.ssh/authorized_keys`.
    pub ssh_authorized_keys: Vec<String>,
}

/// One file, directory or link to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileStep {
    /// Absolute path in the image.
    pub path: String,
    /// What stands there.
    pub node: FileNode,
    /// Permission bits.
    pub mode: u32,
    /// Owner's name or number.
    pub owner: String,
    /// Group's name or number.
    pub group: String,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileNode {
    /// A regular file.
    File(Content),
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Link(String),
}

/// Where bytes come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Written in the recipe.
    Inline(String),
    /// A file beside the recipe; the path is absolute.
    Local(PathBuf),
    /// Fetched and checked.
    Url {
        /// Where from.
        url: String,
        /// What it must be.
        sha256: Sha256,
    },
}

/// Points in a build at which scripts run, in this order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// After the packages, before anything else is set up.
    Pre,
    /// After the node's own files, users and kernel settings.
    Node,
    /// After the provider's layer.
    Provider,
    /// After the container runtime is configured.
    Containerd,
    /// After Kubernetes and the container images are in place.
    Kubernetes,
    /// Before sysprep.
    Post,
    /// Right after sysprep's own cleaning.
    Sysprep,
    /// After sysprep; nothing is cleaned after it.
    PostSysprep,
}

impl Hook {
    /// The hook's name in recipes and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pre => "pre",
            Self::Node => "node",
            Self::Provider => "provider",
            Self::Containerd => "containerd",
            Self::Kubernetes => "kubernetes",
            Self::Post => "post",
            Self::Sysprep => "sysprep",
            Self::PostSysprep => "post-sysprep",
        }
    }
}

impl KubernetesSource {
    /// The kind of source, as written in recipes.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Source { .. } => "source",
            Self::Directory { .. } => "directory",
            Self::Release { .. } => "release",
        }
    }
}

/// A script that runs in the sandbox, as root, without a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Script {
    /// Its name in output and logs.
    pub name: String,
    /// The script, starting with `#!`; without that line it is run by `/bin/sh -eu`.
    pub content: Content,
    /// Variables besides the fixed ones.
    pub environment: BTreeMap<String, String>,
}

/// systemd units to enable, disable or mask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Units {
    /// `systemctl enable`.
    pub enable: Vec<String>,
    /// `systemctl disable`.
    pub disable: Vec<String>,
    /// `systemctl mask`.
    pub mask: Vec<String>,
}

/// What to take away again before sysprep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Remove {
    /// Packages to purge.
    pub packages: Vec<String>,
    /// Paths to delete, directories with all below.
    pub paths: Vec<String>,
}

/// Kernel package and arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// The package that brings the kernel; `None` for an image that does not boot by itself.
    pub package: Option<String>,
    /// Arguments besides `root=`.
    pub args: Vec<String>,
}

/// The disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskSpec {
    /// Virtual size, a whole number of MiB.
    pub size: Bytes,
    /// Root file system.
    pub root: RootFileSystem,
    /// Firmware that it boots by.
    pub boot: BootMode,
}

/// Root file systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RootFileSystem {
    /// ext4.
    Ext4,
}

/// Firmware that a disk boots by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BootMode {
    /// BIOS and UEFI.
    #[default]
    Hybrid,
    /// BIOS alone.
    Bios,
    /// UEFI alone.
    Uefi,
}

impl BootMode {
    /// The word for it in recipes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hybrid => "hybrid",
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        }
    }
}

/// What one provider adds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProviderSpec {
    /// More packages.
    pub packages: Vec<String>,
    /// More files.
    pub files: Vec<FileStep>,
    /// More kernel arguments.
    pub kernel_args: Vec<String>,
    /// More units.
    pub units: Units,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl std::str::FromStr for Version {
    type Err = String;

    /// Takes `1.36.1` or `v1.36.1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a Kubernetes version such as 1.36.1");
        let parts: Vec<u32> = text
            .strip_prefix('v')
            .unwrap_or(text)
            .split('.')
            .map(|part| part.parse().map_err(|_| wrong()))
            .collect::<Result<_, _>>()?;
        match parts[..] {
            [major, minor, patch] => Ok(Self { major, minor, patch }),
            _ => Err(wrong()),
        }
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_three_numbers() {
        assert_eq!("v1.20.2".parse(), Ok(Version { major: 1, minor: 20, patch: 2 }));
        for text in ["", "1.20", "1.20.2.1", "1.20.x", "latest"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}

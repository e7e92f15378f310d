//! The plan: a recipe resolved into a graph of nodes, each with a derived id.

use std::collections::BTreeMap;
use std::fmt;

use nodekiln_words::{Bytes, Sha256, SourceDate};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::lock::{LockedFile, LockedImage, LockedPackage};
use crate::recipe::{BootMode, CgroupDriver, Hook, Units, User, Version};

/// A node's id: SHA-256 over everything that can change what the node leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub Sha256);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A recipe resolved: nodes in an order in which they can be executed, parents first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The recipe's name.
    pub name: String,
    /// The one moment that the image knows.
    pub source_date: SourceDate,
    /// What all ids in the image are derived from.
    pub seed: Uuid,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Name of the disk node that each provider's artifact is written from; equal disks are one node.
    pub disks: BTreeMap<String, String>,
}

/// One piece of work and what it stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Unique within the plan and stable between plans, such as `packages` or `script/post/harden`.
    pub name: String,
    /// What is done.
    pub work: Work,
    /// The node whose tree this one's layer lies upon; `None` starts from an empty tree.
    pub below: Option<String>,
    /// Further nodes whose outputs it reads.
    pub uses: Vec<String>,
    /// Derived from all of the above and the parents' ids.
    pub id: NodeId,
}

/// The kinds of work. What a variant holds is what its executor may depend on, and no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Work {
    /// Debian packages unpacked and configured: an operating system tree.
    Packages {
        /// Release code name.
        release: String,
        /// The packages, by name.
        packages: Vec<PlannedPackage>,
        /// Packages to mark `hold`.
        holds: Vec<String>,
    },
    /// Debian packages unpacked and configured over the tree below, which has what else they depend on.
    AddedPackages {
        /// The packages, by name.
        packages: Vec<PlannedPackage>,
    },
    /// Debian packages unpacked and not configured: programs for nodekiln to run.
    ToolsTree {
        /// The packages, by name.
        packages: Vec<PlannedPackage>,
    },
    /// Files, directories and links.
    Files {
        /// In the recipe's order.
        files: Vec<PlannedFile>,
    },
    /// Users and groups.
    Users {
        /// In the recipe's order.
        users: Vec<User>,
    },
    /// systemd units enabled, disabled and masked.
    Units {
        /// The units.
        units: Units,
    },
    /// A script of the recipe.
    Script {
        /// When it runs.
        hook: Hook,
        /// Its name.
        name: String,
        /// Its text.
        content: Sha256,
        /// Variables besides the fixed ones.
        environment: BTreeMap<String, String>,
    },
    /// containerd's configuration, derived from the version found in the tree.
    Containerd {
        /// Kubernetes version, which decides the cgroup driver.
        kubernetes: Option<Version>,
        /// What the recipe says.
        cgroup_driver: CgroupDriver,
        /// The sandbox image.
        sandbox_image: Option<String>,
    },
    /// Kubernetes compiled from a Debian source package, in the tree below; output `bin/*`.
    KubernetesCompile {
        /// The version that it reports.
        version: Version,
        /// Files of the source package by name.
        sources: BTreeMap<String, LockedFile>,
    },
    /// Prebuilt Kubernetes files taken from blobs; output `bin/*` and `images/*.tar`.
    KubernetesFiles {
        /// The version that they should report.
        version: Version,
        /// Blobs by path below the output.
        files: BTreeMap<String, Sha256>,
    },
    /// kubeadm, kubelet, kubectl, their units and configuration put into the tree.
    KubernetesInstall {
        /// The version.
        version: Version,
    },
    /// OCI archives of the control-plane images, made from binaries and packages.
    ControlPlaneImages {
        /// The version.
        version: Version,
        /// References of the images that kubeadm asks for.
        images: Vec<String>,
    },
    /// The suite for node conformance compiled from a Debian source package, in the tree below, with the
    /// programs of its images; output `bin/*` and `specs.json`.
    ConformanceSuite {
        /// The version of Kubernetes.
        version: Version,
        /// Files of the source package by name.
        sources: BTreeMap<String, LockedFile>,
    },
    /// OCI archives of the images that the suite's specs run, made from programs and packages.
    ConformanceImages {
        /// Their references.
        images: Vec<String>,
    },
    /// OCI archives of images fetched from a registry.
    FetchedImages {
        /// By reference.
        images: BTreeMap<String, LockedImage>,
    },
    /// Images imported into containerd's store by running containerd in the sandbox.
    Preload {
        /// Kubernetes version whose image list must be met; `None` preloads the extras alone.
        kubernetes: Option<Version>,
        /// Kind of source, which decides what it may lack: `source`, `directory` or `release`.
        source: String,
        /// Registry and path of the control-plane images.
        image_repository: String,
        /// References that kubeadm is expected to list.
        kubeadm_images: Vec<String>,
        /// Extra references.
        images: Vec<String>,
    },
    /// The initial RAM disk, made once.
    Initramfs,
    /// Packages purged and paths deleted.
    Remove {
        /// Packages.
        packages: Vec<String>,
        /// Paths.
        paths: Vec<String>,
    },
    /// The boot loader's menu, `/etc/fstab` and what else names the disk's ids.
    Boot {
        /// Firmware.
        boot: BootMode,
        /// Kernel arguments besides `root=`.
        kernel_args: Vec<String>,
        /// What the disk's ids are derived from.
        seed: Uuid,
    },
    /// Everything machine-specific or left over taken out.
    Sysprep {
        /// Paths that the recipe writes, which stay.
        keep: Vec<String>,
    },
    /// Partition table, boot loader and file systems over the tree; output `disk.raw`, sparse.
    Disk {
        /// Virtual size.
        size: Bytes,
        /// Firmware; `None` for a disk that does not boot by itself.
        boot: Option<BootMode>,
        /// What the disk's ids are derived from.
        seed: Uuid,
        /// How many layers of the tree, from the bottom, change least often: the file system is filled with
        /// about these at once, and what the others change is written into it afterwards.
        base: usize,
    },
}

/// A package, as far as it can change what installing it leaves behind: where an archive has it, and
/// for which reason it was chosen, does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedPackage {
    /// Binary package name.
    pub name: String,
    /// Version with epoch.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Digest of the `.deb`.
    pub sha256: Sha256,
    /// Configured before all others.
    pub essential: bool,
}

impl From<&LockedPackage> for PlannedPackage {
    fn from(locked: &LockedPackage) -> Self {
        Self {
            name: locked.name.clone(),
            version: locked.version.clone(),
            architecture: locked.architecture.clone(),
            sha256: locked.sha256,
            essential: locked.essential,
        }
    }
}

/// A file with its content's digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedFile {
    /// Absolute path in the image.
    pub path: String,
    /// What stands there.
    pub node: PlannedFileNode,
    /// Permission bits.
    pub mode: u32,
    /// Owner's name or number.
    pub owner: String,
    /// Group's name or number.
    pub group: String,
}

/// What stands at a planned path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlannedFileNode {
    /// A regular file with this content, a blob of the store.
    File(Sha256),
    /// A directory.
    Directory,
    /// A symbolic link.
    Link(String),
}

impl Work {
    /// Version of the executor of this kind: raised whenever its code would leave other bytes or
    /// another record behind for the same declared inputs.
    #[must_use]
    pub const fn executor(&self) -> u32 {
        match self {
            Self::AddedPackages { .. }
            | Self::ToolsTree { .. }
            | Self::Files { .. }
            | Self::Users { .. }
            | Self::Units { .. }
            | Self::Script { .. }
            | Self::Containerd { .. }
            | Self::KubernetesCompile { .. }
            | Self::ControlPlaneImages { .. }
            | Self::ConformanceImages { .. }
            | Self::FetchedImages { .. }
            | Self::Remove { .. }
            | Self::Boot { .. }
            | Self::Sysprep { .. } => 1,
            Self::Packages { .. }
            | Self::Initramfs
            | Self::KubernetesFiles { .. }
            | Self::ConformanceSuite { .. } => 2,
            Self::KubernetesInstall { .. } => 3,
            Self::Preload { .. } => 4,
            Self::Disk { .. } => 6,
        }
    }

    /// Whether the output is a layer to lie upon `below`; else it is a folder of files for others.
    #[must_use]
    pub const fn makes_layer(&self) -> bool {
        !matches!(
            self,
            Self::KubernetesCompile { .. }
                | Self::KubernetesFiles { .. }
                | Self::ControlPlaneImages { .. }
                | Self::ConformanceSuite { .. }
                | Self::ConformanceImages { .. }
                | Self::FetchedImages { .. }
                | Self::Disk { .. }
        )
    }
}

impl Plan {
    /// The node called `name`.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The text whose digest the id of `node`, one of this plan, is.
    #[must_use]
    pub fn preimage(&self, node: &Node) -> String {
        let id_of = |name: &str| self.node(name).map(|node| node.id);
        let uses: Vec<_> = node.uses.iter().filter_map(|name| id_of(name)).collect();
        Node::preimage(&node.work, self.source_date, node.below.as_deref().and_then(id_of), &uses)
    }

    /// The disk node that `provider`'s artifact is written from.
    #[must_use]
    pub fn disk_for(&self, provider: &str) -> Option<&Node> {
        self.disks.get(provider).and_then(|name| self.node(name))
    }

    /// The nodes whose layers make up the tree that ends with `name`, bottom first.
    #[must_use]
    pub fn chain(&self, name: &str) -> Vec<&Node> {
        let mut chain = Vec::new();
        let mut next = self.node(name);
        while let Some(node) = next {
            if node.work.makes_layer() {
                chain.push(node);
            }
            next = node.below.as_deref().and_then(|below| self.node(below));
        }
        chain.reverse();
        chain
    }
}

impl Node {
    /// What the id is the digest of: one JSON object with sorted parents' ids. Kept beside each
    /// result, so that a miss can be explained field by field.
    #[must_use]
    pub fn preimage(
        work: &Work,
        source_date: SourceDate,
        below: Option<NodeId>,
        uses: &[NodeId],
    ) -> String {
        #[derive(Serialize)]
        struct Preimage<'a> {
            schema: &'static str,
            executor: u32,
            work: &'a Work,
            source_date: SourceDate,
            below: Option<NodeId>,
            uses: &'a [NodeId],
        }
        let preimage = Preimage {
            schema: "nodekiln node 1",
            executor: work.executor(),
            work,
            source_date,
            below,
            uses,
        };
        serde_json::to_string(&preimage).unwrap_or_default()
    }
}

//! What system-validators asks of a kernel, by its version.
//!
//! Two of its versions are known here: that of Kubernetes 1.20 and that of 1.35. A Kubernetes between them is judged by
//! the first, and the verdict says so.

use nodekiln_recipes::recipe::Version;

use crate::at_rest::cgroups::Hierarchy;

/// An option of the kernel: its names, without `CONFIG_`, each with the module that it is where it is one.
pub(super) struct KernelOption {
    pub(super) names: &'static [(&'static str, &'static str)],
}

/// How much a kernel's version weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Fine,
    Warned,
    Refused,
}

/// What one version of system-validators asks.
pub(super) struct Edition {
    /// Its version.
    version: &'static str,
    /// The first minor version of Kubernetes that is known to have it.
    minor: u32,
    /// The kernels that it takes, in words.
    pub(super) kernels: &'static str,
    weigh: fn(u32, u32) -> Weight,
    required: &'static [KernelOption],
    required_v1: &'static [KernelOption],
    required_v2: &'static [KernelOption],
    advised: &'static [KernelOption],
}

/// An option that is no module, or never one.
macro_rules! yes {
    ($name:literal) => {
        KernelOption { names: &[($name, "")] }
    };
}

/// Of both; what is a module is named as its file.
const NAMESPACES: KernelOption = yes!("NAMESPACES");
const NET_NS: KernelOption = yes!("NET_NS");
const PID_NS: KernelOption = yes!("PID_NS");
const IPC_NS: KernelOption = yes!("IPC_NS");
const UTS_NS: KernelOption = yes!("UTS_NS");
const CPUSETS: KernelOption = yes!("CPUSETS");
const MEMCG: KernelOption = yes!("MEMCG");
const INET: KernelOption = yes!("INET");
const PROC_FS: KernelOption = yes!("PROC_FS");
const CGROUPS: KernelOption = yes!("CGROUPS");
const CGROUP_CPUACCT: KernelOption = yes!("CGROUP_CPUACCT");
const CGROUP_DEVICE: KernelOption = yes!("CGROUP_DEVICE");
const CGROUP_FREEZER: KernelOption = yes!("CGROUP_FREEZER");
const CGROUP_SCHED: KernelOption = yes!("CGROUP_SCHED");
const CGROUP_PIDS: KernelOption = yes!("CGROUP_PIDS");
const EXT4_FS: KernelOption = KernelOption { names: &[("EXT4_FS", "ext4")] };
const REDIRECT: KernelOption = KernelOption {
    names: &[
        ("NETFILTER_XT_TARGET_REDIRECT", "xt_REDIRECT"),
        ("IP_NF_TARGET_REDIRECT", "ipt_REDIRECT"),
    ],
};
const COMMENT: KernelOption =
    KernelOption { names: &[("NETFILTER_XT_MATCH_COMMENT", "xt_comment")] };
const OVERLAY_FS: KernelOption =
    KernelOption { names: &[("OVERLAY_FS", "overlay"), ("OVERLAYFS_FS", "overlayfs")] };
const BLK_DEV_DM: KernelOption = KernelOption { names: &[("BLK_DEV_DM", "dm_mod")] };

/// Kubernetes 1.20 has system-validators 1.2.0 (`KernelSpec` in types_unix.go). Its option AUFS_FS is left out: no
/// kernel of Linux itself has it, and containerd's overlays do not use it.
const V1_2: Edition = Edition {
    version: "1.2.0",
    minor: 20,
    kernels: "3.10 and later",
    weigh: |major, minor| if (major, minor) >= (3, 10) { Weight::Fine } else { Weight::Refused },
    required: &[
        NAMESPACES,
        NET_NS,
        PID_NS,
        IPC_NS,
        UTS_NS,
        CGROUPS,
        CGROUP_CPUACCT,
        CGROUP_DEVICE,
        CGROUP_FREEZER,
        CGROUP_SCHED,
        CPUSETS,
        MEMCG,
        INET,
        EXT4_FS,
        PROC_FS,
        REDIRECT,
        COMMENT,
    ],
    required_v1: &[],
    required_v2: &[],
    advised: &[OVERLAY_FS, BLK_DEV_DM],
};

/// Kubernetes 1.35 has system-validators 1.12.
const V1_12: Edition = Edition {
    version: "1.12",
    minor: 35,
    kernels: "5.4, 5.10, 5.15, and 6 and later",
    weigh: |major, minor| match (major, minor) {
        (5, 4 | 10 | 15) | (6.., _) => Weight::Fine,
        _ => Weight::Warned,
    },
    required: &[
        NAMESPACES,
        NET_NS,
        PID_NS,
        IPC_NS,
        UTS_NS,
        CPUSETS,
        MEMCG,
        INET,
        EXT4_FS,
        PROC_FS,
        REDIRECT,
        COMMENT,
        yes!("FAIR_GROUP_SCHED"),
    ],
    required_v1: &[
        CGROUPS,
        CGROUP_CPUACCT,
        CGROUP_DEVICE,
        CGROUP_FREEZER,
        CGROUP_PIDS,
        CGROUP_SCHED,
    ],
    required_v2: &[CGROUPS, yes!("CGROUP_BPF"), CGROUP_PIDS, CGROUP_SCHED],
    advised: &[
        OVERLAY_FS,
        BLK_DEV_DM,
        yes!("CFS_BANDWIDTH"),
        yes!("SECCOMP"),
        yes!("SECCOMP_FILTER"),
        yes!("CGROUP_HUGETLB"),
    ],
};

impl Edition {
    /// The one that judges for `kubernetes`; the older one where nobody knows its version.
    pub(super) fn of(kubernetes: Option<Version>) -> &'static Self {
        match kubernetes {
            Some(version) if version.minor >= V1_12.minor => &V1_12,
            _ => &V1_2,
        }
    }

    /// Which table it is, and for which Kubernetes that is known.
    pub(super) fn told(&self, kubernetes: Option<Version>) -> String {
        let table = format!(
            "the table of system-validators {} (Kubernetes 1.{})",
            self.version, self.minor
        );
        match kubernetes {
            Some(version) if version.minor != self.minor => {
                format!("{table}, the nearest that is known for {version}")
            }
            _ => table,
        }
    }

    /// What it requires on this hierarchy; what belongs to one hierarchy alone is left out where it is not known.
    pub(super) fn required(
        &self,
        hierarchy: Option<Hierarchy>,
    ) -> impl Iterator<Item = &'static KernelOption> {
        let (common, v1, v2) = (self.required, self.required_v1, self.required_v2);
        let own: &'static [KernelOption] = match hierarchy {
            Some(Hierarchy::V1) => v1,
            Some(Hierarchy::V2) => v2,
            None => &[],
        };
        common.iter().chain(own)
    }

    /// What it advises.
    pub(super) fn advised(&self) -> impl Iterator<Item = &'static KernelOption> {
        let advised = self.advised;
        advised.iter()
    }

    /// How much it minds a kernel of this version.
    pub(super) fn weighs(&self, major: u32, minor: u32) -> Weight {
        (self.weigh)(major, minor)
    }
}

impl KernelOption {
    /// Its names as they stand in a config.
    pub(super) fn title(&self) -> String {
        let names: Vec<String> =
            self.names.iter().map(|(name, _)| format!("CONFIG_{name}")).collect();
        names.join(" or ")
    }
}

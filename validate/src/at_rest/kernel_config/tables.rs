//! What system-validators asks of a kernel, by its version.
//!
//! Known here are those that Kubernetes 1.20 to 1.35 have in their go.mod; a later one is judged by the last, and the
//! verdict says so.

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
    /// The releases of Kubernetes that are known to have it, in words.
    of: &'static str,
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
const CGROUP_BPF: KernelOption = yes!("CGROUP_BPF");
const CGROUP_HUGETLB: KernelOption = yes!("CGROUP_HUGETLB");
const FAIR_GROUP_SCHED: KernelOption = yes!("FAIR_GROUP_SCHED");
const CFS_BANDWIDTH: KernelOption = yes!("CFS_BANDWIDTH");
const SECCOMP: KernelOption = yes!("SECCOMP");
const SECCOMP_FILTER: KernelOption = yes!("SECCOMP_FILTER");
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
    of: "1.20",
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

/// Kubernetes 1.21 has system-validators 1.4.0 (kubernetes#98977), with the options of 1.3.0 (kubernetes#96378).
const V1_4: Edition = Edition {
    version: "1.4.0",
    of: "1.21",
    kernels: V1_2.kernels,
    weigh: V1_2.weigh,
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
        CGROUP_PIDS,
        CGROUP_SCHED,
        CPUSETS,
        MEMCG,
        INET,
        EXT4_FS,
        PROC_FS,
        REDIRECT,
        COMMENT,
        FAIR_GROUP_SCHED,
    ],
    required_v1: &[],
    required_v2: &[],
    advised: &[OVERLAY_FS, BLK_DEV_DM, CFS_BANDWIDTH, CGROUP_HUGETLB],
};

/// From 1.22 on 1.5.0, 1.6.0, 1.7.0 and 1.8.0, which ask the same of a kernel (kubernetes#103390, #106323, #108988,
/// #112026); 1.31 still has the last of them (kubernetes#134097).
const V1_5: Edition = Edition {
    version: "1.5.0 to 1.8.0",
    of: "1.22 to 1.31",
    advised: &[OVERLAY_FS, BLK_DEV_DM, CFS_BANDWIDTH, CGROUP_HUGETLB, SECCOMP, SECCOMP_FILTER],
    ..V1_4
};

/// Kubernetes 1.32 and 1.33 began with 1.9.1 (kubernetes#128533), which refuses kernels before 4.19
/// (system-validators#37) and asks for CGROUP_BPF (system-validators#41).
const V1_9_1: Edition = Edition {
    version: "1.9.1",
    of: "1.32.0 to 1.32.9 and 1.33.0 to 1.33.5",
    kernels: "4.19 and later",
    weigh: |major, minor| if (major, minor) >= (4, 19) { Weight::Fine } else { Weight::Refused },
    required: &[
        NAMESPACES,
        NET_NS,
        PID_NS,
        IPC_NS,
        UTS_NS,
        CGROUPS,
        CGROUP_BPF,
        CGROUP_CPUACCT,
        CGROUP_DEVICE,
        CGROUP_FREEZER,
        CGROUP_PIDS,
        CGROUP_SCHED,
        CPUSETS,
        MEMCG,
        INET,
        EXT4_FS,
        PROC_FS,
        REDIRECT,
        COMMENT,
        FAIR_GROUP_SCHED,
    ],
    ..V1_5
};

/// Their later releases have 1.9.2, which leaves all options that one hierarchy alone needs to the list of controllers
/// (kubernetes#134090 and #134086, system-validators#53 and #54).
const V1_9_2: Edition = Edition {
    version: "1.9.2",
    of: "1.32.10 and later, and 1.33.6 and later",
    required: &[
        NAMESPACES,
        NET_NS,
        PID_NS,
        IPC_NS,
        UTS_NS,
        CGROUPS,
        CPUSETS,
        MEMCG,
        INET,
        EXT4_FS,
        PROC_FS,
        REDIRECT,
        COMMENT,
        FAIR_GROUP_SCHED,
    ],
    advised: &[OVERLAY_FS, BLK_DEV_DM, CFS_BANDWIDTH, SECCOMP, SECCOMP_FILTER],
    ..V1_9_1
};

/// Kubernetes 1.34 began with 1.10.1, which only warns of a kernel (kubernetes#131881 and #131919).
const V1_10: Edition =
    Edition { version: "1.10.1", of: "1.34", kernels: V1_12.kernels, weigh: V1_12.weigh, ..V1_9_1 };

/// Kubernetes 1.35 has system-validators 1.12.
const V1_12: Edition = Edition {
    version: "1.12",
    of: "1.35",
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
        FAIR_GROUP_SCHED,
    ],
    required_v1: &[
        CGROUPS,
        CGROUP_CPUACCT,
        CGROUP_DEVICE,
        CGROUP_FREEZER,
        CGROUP_PIDS,
        CGROUP_SCHED,
    ],
    required_v2: &[CGROUPS, CGROUP_BPF, CGROUP_PIDS, CGROUP_SCHED],
    advised: &[OVERLAY_FS, BLK_DEV_DM, CFS_BANDWIDTH, SECCOMP, SECCOMP_FILTER, CGROUP_HUGETLB],
};

impl Edition {
    /// The one that judges for `kubernetes`; the oldest where nobody knows its version.
    pub(super) fn of(kubernetes: Option<Version>) -> &'static Self {
        let Some(Version { minor, patch, .. }) = kubernetes else { return &V1_2 };
        match (minor, patch) {
            (..=20, _) => &V1_2,
            (21, _) => &V1_4,
            (22..=31, _) => &V1_5,
            (32, ..10) | (33, ..6) => &V1_9_1,
            (32 | 33, _) => &V1_9_2,
            (34, _) => &V1_10,
            (35.., _) => &V1_12,
        }
    }

    /// Which table it is, and for which Kubernetes that is known.
    pub(super) fn told(&self, kubernetes: Option<Version>) -> String {
        let Self { version, of, .. } = self;
        let table = format!("the table of system-validators {version} (Kubernetes {of})");
        match kubernetes {
            Some(known) if !(20..=35).contains(&known.minor) => {
                format!("{table}, the nearest that is known for {known}")
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

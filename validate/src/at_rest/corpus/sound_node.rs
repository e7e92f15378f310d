//! What makes a node of a sound tree: a kernel with its modules, the programs that kubeadm looks for, the kubelet with
//! its service, and the settings of all of them.

use nodekiln_recipes::recipe::Version;

use crate::at_rest::{Examined, images};
use crate::rules::Family;
use crate::tree::Tree;

/// What enables the kubelet.
pub(crate) const LINK_KUBELET: &str = "/etc/systemd/system/multi-user.target.wants/kubelet.service";
/// Makes systemd boot with the first hierarchy of control groups.
pub(crate) const V1_ARGUMENT: &str = "systemd.unified_cgroup_hierarchy=0";

/// Options of Debian's cloud kernel that rules ask for.
const CONFIG: &str = "CONFIG_CGROUPS=y\nCONFIG_MEMCG=y\nCONFIG_CGROUP_SCHED=y\nCONFIG_FAIR_GROUP_SCHED=y\n\
    CONFIG_CFS_BANDWIDTH=y\nCONFIG_CGROUP_PIDS=y\nCONFIG_CGROUP_FREEZER=y\nCONFIG_CGROUP_HUGETLB=y\nCONFIG_CPUSETS=y\n\
    CONFIG_CGROUP_DEVICE=y\nCONFIG_CGROUP_CPUACCT=y\nCONFIG_CGROUP_BPF=y\nCONFIG_NAMESPACES=y\nCONFIG_UTS_NS=y\n\
    CONFIG_IPC_NS=y\nCONFIG_PID_NS=y\nCONFIG_NET_NS=y\nCONFIG_SECCOMP=y\nCONFIG_SECCOMP_FILTER=y\nCONFIG_INET=y\n\
    CONFIG_NETFILTER_XT_TARGET_REDIRECT=m\nCONFIG_NETFILTER_XT_MATCH_COMMENT=m\nCONFIG_BLK_DEV_DM=m\nCONFIG_EXT4_FS=y\n\
    CONFIG_OVERLAY_FS=m\nCONFIG_PROC_FS=y\n# CONFIG_CGROUP_DEBUG is not set\n";
/// Modules that rules ask for, below `kernel/`.
const MODULES: [&str; 5] = [
    "net/bridge/br_netfilter",
    "net/netfilter/xt_REDIRECT",
    "net/netfilter/xt_comment",
    "fs/overlayfs/overlay",
    "drivers/md/dm-mod",
];

/// Puts all of it into `tree`.
pub(super) fn node(tree: &mut Tree, family: Family) {
    programs(tree);
    settings(tree);
    services(tree);
    match family {
        Family::Debian => debian(tree),
        Family::Rpm => rpm(tree),
    }
}

/// A program as Go's linker makes it with `-X …version.gitVersion=VERSION`.
pub(crate) fn go_program(version: &str) -> Vec<u8> {
    format!("\x7fELF utilde;v1.19.0v1.18.0v1.Time\0archive\0{version}\0archive\0{version}\0\x0f")
        .into_bytes()
}

/// Makes the image one of Kubernetes 1.`minor`.0, with its images.
pub(crate) fn of_kubernetes(examined: &mut Examined<'static>, minor: u32) {
    let version = Version { major: 1, minor, patch: 0 };
    examined.facts.kubernetes = Some(version);
    examined.expect.kubernetes = Some(version);
    for program in ["kubelet", "kubeadm"] {
        examined.tree.write(
            &format!("/usr/bin/{program}"),
            0o755,
            go_program(&format!("v{version}")),
        );
    }
    examined.tree.write("/etc/kubernetes-version", 0o644, format!("v{version}\n"));
    // Both sides of the cgroup driver are systemd's from 1.22 on.
    let config = "/etc/containerd/config.toml";
    if examined
        .tree
        .text(config)
        .unwrap()
        .is_some_and(|text| text.contains("SystemdCgroup = false"))
    {
        examined.tree.replace(config, "SystemdCgroup = false", "SystemdCgroup = true");
    }
    images::fill(examined);
}

fn programs(tree: &mut Tree) {
    for program in [
        "/usr/bin/mount",
        "/usr/bin/nsenter",
        "/usr/bin/crictl",
        "/usr/bin/socat",
        "/usr/bin/touch",
        "/usr/bin/cp",
        "/usr/sbin/losetup",
    ] {
        tree.write(program, 0o755, "elf");
    }
    for program in ["/usr/bin/ip", "/usr/sbin/conntrack", "/usr/sbin/ethtool", "/usr/sbin/tc"] {
        tree.write(program, 0o755, "elf");
    }
    // Alternatives, as both kinds of distributions have them.
    tree.write("/usr/sbin/xtables-nft-multi", 0o755, "elf");
    for name in ["iptables", "ebtables"] {
        tree.link(&format!("/usr/sbin/{name}-nft"), "xtables-nft-multi");
        tree.link(&format!("/etc/alternatives/{name}"), &format!("/usr/sbin/{name}-nft"));
        tree.link(&format!("/usr/sbin/{name}"), &format!("/etc/alternatives/{name}"));
    }
    tree.write("/usr/bin/kubelet", 0o755, go_program("v1.20.2"));
    tree.write("/usr/bin/kubeadm", 0o755, go_program("v1.20.2"));
    tree.write("/etc/kubernetes-version", 0o644, "v1.20.2\n");
}

fn settings(tree: &mut Tree) {
    let text = "net.bridge.bridge-nf-call-ip6tables = 1\nnet.bridge.bridge-nf-call-iptables = 1\n\
                net.ipv4.ip_forward = 1\nnet.ipv6.conf.all.forwarding = 1\n";
    tree.write("/etc/sysctl.d/99-kubernetes.conf", 0o644, text);
    tree.write("/etc/modules-load.d/kubernetes.conf", 0o644, "overlay\nbr_netfilter\n");
    tree.write("/etc/nsswitch.conf", 0o644, "passwd: files\nhosts: files dns myhostname\n");
    tree.write(
        "/etc/fstab",
        0o644,
        "UUID=fb9bbee3-f56d-5fae-b0e0-6447f03c6d64 / ext4 defaults 0 1\n",
    );
    for folder in ["/etc/kubernetes/manifests", "/etc/cni/net.d"] {
        tree.folder(folder, 0o755);
    }
    tree.write("/etc/machine-id", 0o444, "");
}

fn services(tree: &mut Tree) {
    let unit = "/usr/lib/systemd/system/kubelet.service";
    tree.write(
        unit,
        0o644,
        "[Unit]\nWants=network-online.target\n[Service]\nExecStart=/usr/bin/kubelet\nRestart=always\n\
         [Install]\nWantedBy=multi-user.target\n",
    );
    tree.write(
        "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
        0o644,
        "[Service]\nEnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env\nEnvironmentFile=-/etc/default/kubelet\n\
         ExecStart=\nExecStart=/usr/bin/kubelet $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS\n",
    );
    tree.link(LINK_KUBELET, "/lib/systemd/system/kubelet.service");
    if tree.entry("/usr/lib/systemd/system/containerd.service").is_none() {
        let text =
            "[Service]\nExecStart=/usr/bin/containerd\n[Install]\nWantedBy=multi-user.target\n";
        tree.write("/usr/lib/systemd/system/containerd.service", 0o644, text);
    }
}

fn debian(tree: &mut Tree) {
    let release = "6.1.0-56-cloud-amd64";
    kernel(tree, release, "6.1.170", "ko");
    tree.write(
        "/boot/grub/grub.cfg",
        0o644,
        format!("menuentry \"Debian\" {{\n  linux /boot/vmlinuz-{release} root=UUID=fb9bbee3-f56d-5fae-b0e0-6447f03c6d64 ro console=tty1 console=ttyS0\n}}\n"),
    );
    let folder = "/usr/lib/x86_64-linux-gnu";
    tree.write(&format!("{folder}/systemd/libsystemd-shared-252.so"), 0o644, "elf");
    tree.write(&format!("{folder}/libnss_myhostname.so.2"), 0o644, "elf");
    tree.link("/etc/sysctl.d/99-sysctl.conf", "../sysctl.conf");
    tree.write("/etc/sysctl.conf", 0o644, "#net.ipv4.ip_forward=1\n");
}

fn rpm(tree: &mut Tree) {
    let release = "5.14.0-427.13.1.el9_4.x86_64";
    kernel(tree, release, "5.14.0-427.13.1.el9_4.x86_64", "ko.xz");
    tree.write("/boot/grub2/grub.cfg", 0o644, "blscfg\n");
    tree.write(
        "/boot/grub2/grubenv",
        0o644,
        "# GRUB Environment Block\nkernelopts=ro console=tty1 console=ttyS0\n",
    );
    tree.write(
        "/boot/loader/entries/a.conf",
        0o644,
        format!("title Rocky\nlinux /boot/vmlinuz-{release}\noptions root=UUID=fb9bbee3-f56d-5fae-b0e0-6447f03c6d64 $kernelopts\n"),
    );
    tree.write("/usr/lib/systemd/libsystemd-shared-252-32.el9.so", 0o755, "elf");
    tree.write("/usr/lib64/libnss_myhostname.so.2", 0o755, "elf");
}

/// The kernel `release`, whose config says that it is of `version`, with modules whose names end in `ending`.
fn kernel(tree: &mut Tree, release: &str, version: &str, ending: &str) {
    tree.write(&format!("/boot/vmlinuz-{release}"), 0o644, "bzImage");
    let head = "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/x86 ";
    tree.write(
        &format!("/boot/config-{release}"),
        0o644,
        format!("{head}{version} Kernel Configuration\n#\n{CONFIG}"),
    );
    let folder = format!("/usr/lib/modules/{release}");
    tree.write(&format!("{folder}/modules.builtin"), 0o644, "kernel/fs/ext4/ext4.ko\n");
    for module in MODULES {
        tree.write(&format!("{folder}/kernel/{module}.{ending}"), 0o644, "elf");
    }
}

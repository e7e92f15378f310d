//! What only a running node has, and swap: none of it may be in an image.

use nodekiln_words::Result;

use super::{Examined, findings};
use crate::Tier;
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};
use crate::tree::fstab::Mount;
use crate::tree::loader::Loader;
use crate::tree::units::{Enablement, Units, parse};
use crate::tree::{Kind, Tree, cloud_config, drop_ins};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "swap-configured",
        title: "Nothing turns swap on at boot",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "the partition table",
            "/etc/fstab",
            "/etc/systemd/system",
            "/etc/systemd/zram-generator.conf",
            "/etc/waagent.conf",
            "/etc/cloud/cloud.cfg",
        ],
        why: "the kubelet does not start with swap on unless it is told to, and memory limits mean something else",
        remedy: "remove swap from the disk, /etc/fstab, swap units, zram generators and agents' settings, or mask swap.target",
        source: "kubeadm preflight: Swap; systemd.swap(5), systemd-fstab-generator(8), systemd-gpt-auto-generator(8), \
                 zram-generator.conf(5)",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(swap),
    },
    Rule {
        id: "no-manifests",
        title: "There are no static pods",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/etc/kubernetes/manifests"],
        why: "the kubelet runs what it finds there, and kubeadm refuses to write over it",
        remedy: "remove the files; kubeadm writes its own",
        source: "kubeadm preflight: FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml, \
                 FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml, \
                 FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml, \
                 FileAvailable--etc-kubernetes-manifests-etcd.yaml, DirAvailable--etc-kubernetes-manifests",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(manifests),
    },
    Rule {
        id: "etcd-empty",
        title: "etcd has no data",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/var/lib/etcd"],
        why: "kubeadm refuses a folder with data, and a cluster would begin with another one's",
        remedy: "remove /var/lib/etcd, or what is in it",
        source: "kubeadm preflight: DirAvailable--var-lib-etcd",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(etcd),
    },
    Rule {
        id: "node-state-absent",
        title: "No node has been made of it yet",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/etc/kubernetes", "/var/lib/kubelet", "/etc/cni/net.d", "/var/lib/cni"],
        why: "credentials, checkpoints and networks of one node in every node of an image are a leak and a conflict",
        remedy: "run `kubeadm reset` where the image is made, or do not run kubeadm there; the cluster's network plugin \
                 writes /etc/cni/net.d",
        source: "kubeadm preflight: FileAvailable--etc-kubernetes-kubelet.conf, \
                 FileAvailable--etc-kubernetes-bootstrap-kubelet.conf, FileAvailable--etc-kubernetes-pki-ca.crt; \
                 the kubelet's state and CNI's",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(state),
    },
];

/// Services that make swap themselves, whatever becomes of swap.target: zram-tools, dphys-swapfile, zram-config.
const SWAP_SERVICES: [&str; 4] =
    ["zramswap.service", "dphys-swapfile.service", "zram-config.service", "zram-swap.service"];
/// What the target wants that turns swap on.
const SWAP_TARGET: &str = "swap.target";
/// Configurations of zram-generator, the one that counts first.
const ZRAM: [&str; 3] = [
    "/etc/systemd/zram-generator.conf",
    "/usr/local/lib/systemd/zram-generator.conf",
    "/usr/lib/systemd/zram-generator.conf",
];
/// The type of a GPT's partition for swap (UAPI group, Discoverable Partitions Specification).
const SWAP_TYPE: &str = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f";
/// The program that reads them.
const ZRAM_GENERATOR: &str = "/usr/lib/systemd/system-generators/zram-generator";
/// The last minor version whose kubeadm does not join where /etc/kubernetes/manifests has any file.
const LAST_EMPTY_MANIFESTS: u32 = 20;

fn swap(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let units = Units::of(tree);
    let mut wrong = Vec::new();
    // 1. What makes swap by itself.
    for service in SWAP_SERVICES {
        if let Some(by) = units.enablement(service)?.by() {
            wrong.push(format!("{service} is enabled by {by}"));
        }
    }
    let agent = drop_ins::variables(
        &tree.text("/etc/waagent.conf")?.unwrap_or_default().replace('.', "_"),
        "",
    );
    let swaps = |set: &&drop_ins::Set| {
        set.key == "ResourceDisk_EnableSwap" && set.value.eq_ignore_ascii_case("y")
    };
    if let Some(set) = agent.iter().rfind(swaps) {
        wrong.push(format!("/etc/waagent.conf:{} has ResourceDisk.EnableSwap=y", set.line));
    }
    // 2. What systemd turns on by its target, unless that is masked.
    let mut wanted = fstab(tree)?;
    for unit in units.ending(".swap") {
        if let Some(by) = units.enablement(unit)?.by() {
            wanted.push(format!("{unit} is enabled by {by}"));
        }
    }
    wanted.extend(zram(tree)?);
    wanted.extend(partitions(examined)?);
    let seen = match units.enablement(SWAP_TARGET)? {
        Enablement::Masked(mask) if wanted.is_empty() => format!("{mask} masks {SWAP_TARGET}"),
        Enablement::Masked(mask) => {
            let idle = findings::some(&wanted);
            format!("{mask} masks {SWAP_TARGET}, so that this does nothing: {idle}")
        }
        _ => {
            wrong.extend(wanted);
            "no swap in partitions, /etc/fstab, units, zram generators and agents".to_owned()
        }
    };
    // 3. What cloud-init turns on by itself.
    if let Some((value, path)) = cloud_config::value(tree, "swap")? {
        let none =
            |size: &serde_json::Value| size.as_u64() == Some(0) || size.as_str() == Some("0");
        if !value.is_null() && !value.get("size").is_some_and(none) {
            wrong.push(format!("{path} has cloud-init make swap"));
        }
    }
    Ok(Verdict::of(&wrong, seen))
}

/// The lines of fstab that turn swap on at boot.
fn fstab(tree: &Tree) -> Result<Vec<String>> {
    let text = tree.text("/etc/fstab")?.unwrap_or_default();
    let swaps = Mount::of(&text).filter(|mount| mount.kind == "swap" && !mount.has("noauto"));
    Ok(swaps.map(|mount| format!("/etc/fstab:{} has swap on {}", mount.line, mount.what)).collect())
}

/// Partitions of the disk that systemd-gpt-auto-generator turns on by their type, or that anybody would by what is in
/// them. The generator leaves them alone where fstab has swap of its own, and where the kernel's arguments say so.
fn partitions(examined: &Examined) -> Result<Vec<String>> {
    let tree = &examined.tree;
    let text = tree.text("/etc/fstab")?.unwrap_or_default();
    let told = Mount::of(&text).any(|mount| mount.kind == "swap");
    let entries = Loader::of(tree)?.entries;
    let off = |arguments: &str| {
        let mut words = arguments.split_whitespace();
        words.any(|word| ["systemd.gpt_auto=0", "systemd.gpt_auto=no", "noswap"].contains(&word))
    };
    let idle = told || (!entries.is_empty() && entries.iter().all(|entry| off(&entry.arguments)));
    let found = examined.partitions.iter().filter_map(|part| {
        let number = part.number;
        if part.kind.eq_ignore_ascii_case(SWAP_TYPE) && !idle {
            return Some(format!("partition {number} is one of swap by its type"));
        }
        (part.content.as_deref() == Some("swap")).then(|| format!("partition {number} holds swap"))
    });
    Ok(found.collect())
}

/// The devices that zram-generator makes swap of, if it is there.
fn zram(tree: &Tree) -> Result<Vec<String>> {
    if tree.resolve(ZRAM_GENERATOR).is_none() {
        return Ok(Vec::new());
    }
    let main = ZRAM.iter().find(|path| tree.resolve(path).is_some()).map(|path| (*path).to_owned());
    let mut found: Vec<String> = Vec::new();
    for path in
        main.into_iter().chain(drop_ins::files(tree, "systemd/zram-generator.conf.d", ".conf"))
    {
        let text = tree.text(&path)?.unwrap_or_default();
        let settings = parse(&text, &path);
        for (at, line) in text.lines().enumerate() {
            let device = line.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let Some(device) = device.filter(|device| device.starts_with("zram")) else { continue };
            // A device with a file system is no swap.
            let mounted = ["mount-point", "fs-type"];
            let mounted = mounted
                .iter()
                .any(|key| settings.iter().any(|set| set.is(device, key) && set.value != "swap"));
            if !mounted {
                found.push(format!("{path}:{} has swap on {device}", at + 1));
            }
        }
    }
    Ok(found)
}

fn manifests(examined: &Examined) -> Result<Verdict> {
    let folder = "/etc/kubernetes/manifests";
    let strict =
        examined.facts.kubernetes.is_none_or(|version| version.minor <= LAST_EMPTY_MANIFESTS);
    let names = examined.tree.names(folder).into_iter();
    // The kubelet leaves files alone that begin with a dot; old kubeadms count them.
    let found = names.filter(|name| strict || !name.starts_with('.'));
    let found: Vec<String> = found.map(|name| format!("{folder}/{name}")).collect();
    Ok(absent(&found, format!("nothing in {folder}")))
}

fn etcd(examined: &Examined) -> Result<Verdict> {
    let folder = "/var/lib/etcd";
    let names = examined.tree.names(folder).into_iter();
    let found: Vec<String> = names.map(|name| format!("{folder}/{name}")).collect();
    Ok(absent(&found, format!("nothing in {folder}")))
}

fn state(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let within = |folder: &str, is_one: &dyn Fn(&str) -> bool| -> Vec<String> {
        let names = tree.names(folder).into_iter().filter(|name| is_one(name));
        names.map(|name| format!("{folder}/{name}")).collect()
    };
    let mut found = within("/etc/kubernetes", &|name| name.ends_with(".conf"));
    found.extend(within("/etc/kubernetes/pki", &|_| true));
    let of_kubelet = [
        "config.yaml",
        "kubeadm-flags.env",
        "instance-config.yaml",
        "pki",
        "pods",
        "cpu_manager_state",
        "memory_manager_state",
        "device-plugins",
    ];
    found.extend(within("/var/lib/kubelet", &|name| of_kubelet.contains(&name)));
    let networks = [".conf", ".conflist", ".json"];
    found.extend(within("/etc/cni/net.d", &|name| {
        networks.iter().any(|ending| name.ends_with(ending))
    }));
    found.extend(within("/var/lib/cni", &|_| true));
    // An empty folder is no state.
    found.retain(|path| {
        tree.resolve(path)
            .is_none_or(|(path, entry)| entry.kind != Kind::Folder || !tree.names(&path).is_empty())
    });
    Ok(absent(
        &found,
        "no node's files in /etc/kubernetes, /var/lib/kubelet, /etc/cni/net.d, /var/lib/cni"
            .to_owned(),
    ))
}

/// A "no" where anything was found.
fn absent(found: &[String], seen: String) -> Verdict {
    if found.is_empty() {
        Verdict::Pass(seen)
    } else {
        Verdict::Fail(format!("there is {}", findings::some(found)))
    }
}

#[cfg(test)]
pub(super) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::{Examined, Mutation};
    use crate::inspect::Partition;

    fn append(examined: &mut Examined<'static>, path: &str, line: &str) {
        let before = examined.tree.text(path).unwrap().unwrap_or_default();
        examined.tree.write(path, 0o644, format!("{before}{line}\n"));
    }

    fn plant(examined: &mut Examined<'static>, path: &str) {
        examined.tree.write(path, 0o600, "x\n");
    }

    fn swap_partition(examined: &mut Examined<'static>, kind: &str, content: Option<&str>) {
        examined.partitions.push(Partition {
            number: 4,
            kind: kind.to_owned(),
            content: content.map(str::to_owned),
            ..Partition::default()
        });
    }

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new("swap in fstab", &["swap-configured"], "has swap on /swap.img", |examined| {
            append(examined, "/etc/fstab", "/swap.img none swap sw 0 0");
        })
        .incident("swap on"),
        Mutation::new(
            "a partition whose type is that of swap",
            &["swap-configured"],
            "partition 4 is one of swap by its type",
            |examined| swap_partition(examined, super::SWAP_TYPE, None),
        ),
        Mutation::new(
            "a partition with the signature of swap",
            &["swap-configured"],
            "partition 4 holds swap",
            |examined| swap_partition(examined, "0x83", Some("swap")),
        ),
        Mutation::new(
            "a swap unit",
            &["swap-configured"],
            "dev-vdb.swap is enabled by",
            |examined| {
                let unit = "[Swap]\nWhat=/dev/vdb\n[Install]\nWantedBy=swap.target\n";
                examined.tree.write("/etc/systemd/system/dev-vdb.swap", 0o644, unit);
                examined
                    .tree
                    .link("/etc/systemd/system/swap.target.wants/dev-vdb.swap", "../dev-vdb.swap");
            },
        ),
        Mutation::new(
            "zram as swap",
            &["swap-configured"],
            "zram-generator.conf:1 has swap on zram0",
            |examined| {
                examined.tree.write(super::ZRAM_GENERATOR, 0o755, "elf");
                let text = "[zram0]\nzram-size = min(ram, 8192)\n";
                examined.tree.write("/usr/lib/systemd/zram-generator.conf", 0o644, text);
            },
        ),
        Mutation::new(
            "zram-tools, though the target is masked",
            &["swap-configured"],
            "zramswap.service",
            |examined| {
                let unit = "[Service]\nExecStart=/usr/sbin/zramswap start\n[Install]\nWantedBy=multi-user.target\n";
                examined.tree.write("/usr/lib/systemd/system/zramswap.service", 0o644, unit);
                let link = "/etc/systemd/system/multi-user.target.wants/zramswap.service";
                examined.tree.link(link, "/usr/lib/systemd/system/zramswap.service");
                examined.tree.link("/etc/systemd/system/swap.target", "/dev/null");
            },
        ),
        Mutation::new(
            "Azure's agent makes swap",
            &["swap-configured"],
            "/etc/waagent.conf:1",
            |examined| {
                examined.tree.write("/etc/waagent.conf", 0o644, "ResourceDisk.EnableSwap=y\n");
            },
        ),
        Mutation::new(
            "cloud-init makes swap",
            &["swap-configured"],
            "99-swap.cfg has cloud-init",
            |examined| {
                let text = "swap:\n  filename: /swap.img\n  size: auto\n";
                examined.tree.write("/etc/cloud/cloud.cfg.d/99-swap.cfg", 0o644, text);
            },
        ),
        Mutation::new("a manifest of etcd", &["no-manifests"], "manifests/etcd.yaml", |examined| {
            plant(examined, "/etc/kubernetes/manifests/etcd.yaml");
        }),
        Mutation::new(
            "a hidden file where kubeadm 1.20 wants none",
            &["no-manifests"],
            "/.keep",
            |examined| {
                plant(examined, "/etc/kubernetes/manifests/.keep");
            },
        ),
        Mutation::new("data of etcd", &["etcd-empty"], "/var/lib/etcd/member", |examined| {
            plant(examined, "/var/lib/etcd/member/snap/db");
        }),
        Mutation::new(
            "a kubelet's configuration",
            &["node-state-absent"],
            "kubelet/config.yaml",
            |examined| {
                plant(examined, "/var/lib/kubelet/config.yaml");
            },
        ),
        Mutation::new(
            "a kubelet's checkpoint",
            &["node-state-absent"],
            "cpu_manager_state",
            |examined| {
                plant(examined, "/var/lib/kubelet/cpu_manager_state");
            },
        ),
        Mutation::new(
            "a network of flannel",
            &["node-state-absent"],
            "10-flannel.conflist",
            |examined| {
                plant(examined, "/etc/cni/net.d/10-flannel.conflist");
            },
        ),
        Mutation::new(
            "addresses that a plugin gave out",
            &["node-state-absent"],
            "/var/lib/cni/networks",
            |examined| {
                plant(examined, "/var/lib/cni/networks/cbr0/10.85.0.2");
            },
        ),
        // Rules on secrets may see the same file as what it holds is one; these bytes are none.
        Mutation::new(
            "a node's certificate",
            &["node-state-absent"],
            "/etc/kubernetes/pki/ca.crt",
            |examined| {
                plant(examined, "/etc/kubernetes/pki/ca.crt");
            },
        ),
        Mutation::new(
            "a node's kubeconfig",
            &["node-state-absent"],
            "/etc/kubernetes/kubelet.conf",
            |examined| {
                plant(examined, "/etc/kubernetes/kubelet.conf");
            },
        ),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;
    use nodekiln_recipes::recipe::Version;

    #[test]
    fn swap_that_nothing_turns_on_is_none() {
        let mut examined = sound(Family::Debian);
        let tree = &mut examined.tree;
        tree.write(
            "/etc/fstab",
            0o644,
            "# /x none swap sw 0 0\n/y none swap noauto,pri=1 0 0\n/swap /mnt ext4 rw 0 0\n",
        );
        tree.write("/etc/systemd/system/dev-vdb.swap", 0o644, "[Swap]\nWhat=/dev/vdb\n");
        tree.write("/etc/systemd/zram-generator.conf", 0o644, "[zram0]\n");
        tree.write(
            "/etc/waagent.conf",
            0o644,
            "# ResourceDisk.EnableSwap=y\nResourceDisk.EnableSwap=n\n",
        );
        tree.write("/etc/cloud/cloud.cfg.d/99-swap.cfg", 0o644, "swap:\n  size: 0\n");
        assert!(matches!(swap(&examined).unwrap(), Verdict::Pass(_)), "{:?}", swap(&examined));
        // Partitions of swap, where fstab has a word on swap: the generator leaves them alone.
        examined.partitions[2].kind = SWAP_TYPE.to_owned();
        assert!(matches!(swap(&examined).unwrap(), Verdict::Pass(_)), "{:?}", swap(&examined));
        examined.tree.write("/etc/fstab", 0o644, "");
        assert!(matches!(swap(&examined).unwrap(), Verdict::Fail(_)));
        examined.tree.replace("/boot/grub/grub.cfg", " ro ", " ro systemd.gpt_auto=0 ");
        assert!(matches!(swap(&examined).unwrap(), Verdict::Pass(_)), "{:?}", swap(&examined));
        // The generator's own file in /etc replaces the packaged one.
        let tree = &mut examined.tree;
        tree.write(ZRAM_GENERATOR, 0o755, "elf");
        tree.write("/usr/lib/systemd/zram-generator.conf", 0o644, "[zram0]\n");
        tree.write("/etc/systemd/zram-generator.conf", 0o644, "");
        assert!(matches!(swap(&examined).unwrap(), Verdict::Pass(_)));
        examined.tree.write(
            "/etc/systemd/zram-generator.conf",
            0o644,
            "[zram1]\nmount-point = /tmp\n",
        );
        assert!(matches!(swap(&examined).unwrap(), Verdict::Pass(_)));
    }

    #[test]
    fn a_masked_target_turns_nothing_on_and_says_what() {
        let mut examined = sound(Family::Debian);
        examined.tree.write("/etc/fstab", 0o644, "/dev/sdb none swap sw 0 0\n");
        assert!(matches!(swap(&examined).unwrap(), Verdict::Fail(_)));
        examined.tree.link("/etc/systemd/system/swap.target", "/dev/null");
        let verdict = swap(&examined).unwrap();
        assert!(
            matches!(&verdict, Verdict::Pass(seen) if seen.contains("/etc/fstab:1")),
            "{verdict:?}"
        );
    }

    #[test]
    fn empty_folders_and_files_that_only_keep_a_folder_are_no_state() {
        let mut examined = sound(Family::Debian);
        let tree = &mut examined.tree;
        tree.write("/etc/cni/net.d/.kubernetes-cni-keep", 0o644, "");
        tree.folder("/var/lib/kubelet/pki", 0o700);
        tree.folder("/var/lib/etcd", 0o700);
        tree.folder("/etc/kubernetes/pki", 0o755);
        for verdict in [state(&examined), etcd(&examined)] {
            assert!(matches!(verdict, Ok(Verdict::Pass(_))), "{verdict:?}");
        }
        examined.tree.write("/etc/kubernetes/manifests/.keep", 0o644, "");
        examined.facts.kubernetes = Some(Version { major: 1, minor: 30, patch: 0 });
        assert!(matches!(manifests(&examined).unwrap(), Verdict::Pass(_)));
    }
}

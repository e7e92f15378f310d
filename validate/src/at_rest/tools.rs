//! Programs that kubeadm looks for on root's PATH.

use nodekiln_recipes::recipe::Version;
use nodekiln_words::Result;

use super::Examined;
use crate::Tier;
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};
use crate::tree::{Kind, ROOT_PATH, Tree};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "tools-required",
        title: "The programs that kubeadm insists on can be executed",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"],
        why: "Kubernetes' packages no longer bring what kubeadm, kubelet and kube-proxy call, and kubeadm refuses a \
              node without it",
        remedy: "name the packages: mount, util-linux and coreutils; below 1.33 iproute2 and iptables, below 1.32 \
                 conntrack, and below 1.31 cri-tools",
        source: "kubeadm preflight: FileExisting-conntrack, FileExisting-crictl, FileExisting-ip, \
                 FileExisting-iptables, FileExisting-mount, FileExisting-nsenter, FileExisting-losetup, \
                 FileExisting-cp; kubernetes/kubeadm#3064 on crictl, kubernetes#126953, #129131, #129450 and #130045",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(required),
    },
    Rule {
        id: "tools-advised",
        title: "The programs that kubeadm advises can be executed",
        tier: Tier::Static,
        severity: Severity::Advisory,
        reads: &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"],
        why: "without socat there is no port-forward to old runtimes, without tc and ethtool some network plugins fail",
        remedy: "name the packages: ebtables and socat below 1.28.15, ethtool, iproute2 (iproute-tc) and coreutils \
                 below 1.33",
        source: "kubeadm preflight: FileExisting-ebtables, FileExisting-ethtool, FileExisting-socat, \
                 FileExisting-tc, FileExisting-touch; kubernetes#127151, #129131 and #129317",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(advised),
    },
];

/// A program that kubeadm looks for.
struct Program {
    name: &'static str,
    /// The first minor version that does.
    from: u32,
    /// The first release of each minor version that does so no longer, as far as it does at all; later minors do not
    /// either.
    gone: &'static [(u32, u32)],
}

/// kubernetes#126953: from 1.32 on kube-proxy asks the kernel itself.
const FROM_1_32: &[(u32, u32)] = &[(32, 0)];
/// kubernetes#129131, #129317 and #129450.
const FROM_1_33: &[(u32, u32)] = &[(33, 0)];
/// kubernetes#127151, in patch releases of October 2024 by #127413 to #127416.
const FROM_1_28_15: &[(u32, u32)] = &[(28, 15), (29, 10), (30, 6), (31, 2), (32, 0)];

const fn program(name: &'static str, from: u32, gone: &'static [(u32, u32)]) -> Program {
    Program { name, from, gone }
}

/// Those without which it does not go on.
const REQUIRED: [Program; 8] = [
    program("conntrack", 0, FROM_1_32),
    // Asked over its own socket from 1.31 on, which only warns.
    program("crictl", 0, &[(31, 0)]),
    // A host whose kube-proxy writes nftables needs neither of these two.
    program("ip", 0, FROM_1_33),
    program("iptables", 0, FROM_1_33),
    program("mount", 0, &[]),
    program("nsenter", 0, FROM_1_33),
    // The kubelet keeps block devices open by it (kubernetes#129450).
    program("losetup", 33, &[]),
    // kubeadm copies etcd's folder by it (kubernetes#130045).
    program("cp", 33, &[]),
];
/// Those without which it warns.
const ADVISED: [Program; 5] = [
    program("ebtables", 0, FROM_1_28_15),
    program("ethtool", 0, FROM_1_33),
    program("socat", 0, FROM_1_28_15),
    program("tc", 0, FROM_1_33),
    program("touch", 0, FROM_1_33),
];

impl Program {
    /// Whether kubeadm of this version looks for it; where nobody knows the version, it may.
    fn is_looked_for(&self, version: Option<Version>) -> bool {
        let Some(Version { minor, patch, .. }) = version else { return true };
        let last = self.gone.last().is_some_and(|(last, _)| minor > *last);
        let gone = self.gone.iter().any(|(of, first)| minor == *of && patch >= *first);
        minor >= self.from && !last && !gone
    }
}

fn required(examined: &Examined) -> Result<Verdict> {
    Ok(looked_for(examined, &REQUIRED))
}

fn advised(examined: &Examined) -> Result<Verdict> {
    Ok(looked_for(examined, &ADVISED))
}

fn looked_for(examined: &Examined, programs: &[Program]) -> Verdict {
    let version = examined.facts.kubernetes;
    let looked_for = programs.iter().filter(|program| program.is_looked_for(version));
    let names: Vec<&str> = looked_for.map(|program| program.name).collect();
    match (names.is_empty(), version) {
        (true, Some(version)) => Verdict::Skipped(format!("kubeadm {version} looks for none")),
        _ => judge(&examined.tree, &names),
    }
}

fn judge(tree: &Tree, names: &[&str]) -> Verdict {
    let wrong: Vec<String> = names.iter().filter_map(|name| fault(tree, name)).collect();
    Verdict::of(&wrong, names.join(", "))
}

/// Why root cannot execute `name`, if it cannot.
fn fault(tree: &Tree, name: &str) -> Option<String> {
    if tree.program(name).is_some() {
        return None;
    }
    for folder in ROOT_PATH {
        let path = format!("{folder}/{name}");
        let Some((folder, _)) = tree.resolve(folder) else { continue };
        let Some(own) = tree.entry(&format!("{folder}/{name}")) else { continue };
        return Some(match (tree.resolve(&path), &own.target) {
            (None, Some(target)) => format!("{path} is a link to {target}, which leads nowhere"),
            (Some((_, entry)), _) if entry.kind == Kind::File => {
                format!("{path} has mode {:04o} and cannot be executed", entry.mode)
            }
            _ => format!("{path} is no program"),
        });
    }
    Some(format!("no {name} on root's PATH"))
}

#[cfg(test)]
pub(super) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::Mutation;
    use crate::at_rest::corpus::sound_node::of_kubernetes;
    use nodekiln_recipes::recipe::Version;

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new("no conntrack", &["tools-required"], "no conntrack", |examined| {
            examined.tree.remove("/usr/sbin/conntrack");
        }),
        Mutation::new(
            "an alternative that is gone",
            &["tools-required"],
            "/usr/sbin/iptables",
            |examined| {
                examined.tree.remove("/usr/sbin/iptables-nft");
            },
        ),
        Mutation::new(
            "crictl without its executable bit",
            &["tools-required"],
            "mode 0644",
            |examined| {
                examined.tree.change("/usr/bin/crictl", |entry| entry.mode = 0o644);
            },
        ),
        Mutation::new(
            "a folder called nsenter",
            &["tools-required"],
            "/usr/bin/nsenter is no",
            |examined| {
                examined.tree.remove("/usr/bin/nsenter");
                examined.tree.folder("/usr/bin/nsenter", 0o755);
            },
        ),
        Mutation::new("no ip, whose need does not end", &["tools-required"], "no ip", |examined| {
            examined.facts.kubernetes = Some(Version { major: 1, minor: 20, patch: 2 });
            examined.tree.remove("/usr/bin/ip");
        }),
        Mutation::new(
            "no losetup for a kubeadm that looks for it",
            &["tools-required", "kubelet-files-mode"],
            "no losetup",
            |examined| {
                of_kubernetes(examined, 33);
                examined.tree.remove("/usr/sbin/losetup");
            },
        ),
        Mutation::new("no socat", &["tools-advised"], "no socat", |examined| {
            examined.tree.remove("/usr/bin/socat");
        }),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;
    use nodekiln_recipes::recipe::Version;

    #[test]
    fn what_a_kubeadm_no_longer_needs_may_be_absent() {
        let mut examined = sound(Family::Debian);
        examined.tree.remove("/usr/sbin/conntrack");
        examined.tree.remove("/usr/bin/crictl");
        for (minor, lacks) in [(30, "conntrack, crictl"), (31, "conntrack"), (32, ""), (33, "")] {
            examined.facts.kubernetes = Some(Version { major: 1, minor, patch: 0 });
            let verdict = required(&examined).unwrap();
            assert_eq!(
                matches!(verdict, Verdict::Pass(_)),
                lacks.is_empty(),
                "{minor}: {verdict:?}"
            );
            for name in lacks.split(", ").filter(|name| !name.is_empty()) {
                assert!(verdict.seen().contains(&format!("no {name}")), "{minor}: {verdict:?}");
            }
        }
        // Nobody knows which kubeadm it is.
        examined.facts.kubernetes = None;
        assert!(matches!(required(&examined).unwrap(), Verdict::Fail(_)));
    }

    #[test]
    fn each_release_looks_for_what_its_preflight_names() {
        let names = |programs: &[Program], text: &str| {
            let version = Some(text.parse::<Version>().unwrap());
            let found = programs.iter().filter(|program| program.is_looked_for(version));
            found.map(|program| program.name).collect::<Vec<_>>().join(" ")
        };
        let all = "ebtables ethtool socat tc touch";
        for (version, advised) in [
            ("1.20.2", all),
            ("1.27.16", all),
            ("1.28.14", all),
            ("1.28.15", "ethtool tc touch"),
            ("1.29.9", all),
            ("1.29.10", "ethtool tc touch"),
            ("1.30.5", all),
            ("1.30.6", "ethtool tc touch"),
            ("1.31.1", all),
            ("1.31.2", "ethtool tc touch"),
            ("1.32.0", "ethtool tc touch"),
            ("1.33.0", ""),
            ("1.36.1", ""),
        ] {
            assert_eq!(names(&ADVISED, version), advised, "{version}");
        }
        for (version, required) in [
            ("1.20.2", "conntrack crictl ip iptables mount nsenter"),
            ("1.31.4", "conntrack ip iptables mount nsenter"),
            ("1.32.9", "ip iptables mount nsenter"),
            ("1.33.0", "mount losetup cp"),
            ("1.36.1", "mount losetup cp"),
        ] {
            assert_eq!(names(&REQUIRED, version), required, "{version}");
        }
        assert!(ADVISED.iter().chain(&REQUIRED).all(|program| program.is_looked_for(None)));
    }

    #[test]
    fn a_host_of_nftables_is_fine_where_kubeadm_looks_for_no_iptables() {
        let mut examined = sound(Family::Debian);
        for path in ["/usr/sbin/iptables", "/usr/sbin/tc", "/usr/bin/ip", "/usr/bin/nsenter"] {
            examined.tree.remove(path);
        }
        assert!(matches!(required(&examined).unwrap(), Verdict::Fail(_)));
        examined.facts.kubernetes = Some(Version { major: 1, minor: 33, patch: 2 });
        assert!(matches!(required(&examined).unwrap(), Verdict::Pass(_)));
        assert!(matches!(advised(&examined).unwrap(), Verdict::Skipped(_)));
    }

    #[test]
    fn a_program_in_usr_local_will_do() {
        let mut examined = sound(Family::Debian);
        examined.tree.remove("/usr/bin/socat");
        examined.tree.write("/usr/local/bin/socat", 0o755, "elf");
        assert!(matches!(advised(&examined).unwrap(), Verdict::Pass(_)));
    }
}

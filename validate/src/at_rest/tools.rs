//! Programs that kubeadm looks for on root's PATH.

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
        remedy: "name the packages: conntrack, iproute2, iptables, mount, util-linux, and cri-tools below 1.31",
        source: "kubeadm preflight: FileExisting-conntrack, FileExisting-crictl, FileExisting-ip, \
                 FileExisting-iptables, FileExisting-mount, FileExisting-nsenter; kubernetes/kubeadm#3064 on crictl",
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
        remedy: "name the packages: ebtables, ethtool, socat, iproute2 (iproute-tc), coreutils",
        source: "kubeadm preflight: FileExisting-ebtables, FileExisting-ethtool, FileExisting-socat, \
                 FileExisting-tc, FileExisting-touch",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(advised),
    },
];

/// Programs and the last minor version whose kubeadm does not go on without them.
const REQUIRED: [(&str, u32); 6] = [
    ("conntrack", 31),
    // Asked over its own socket from 1.31 on, which only warns.
    ("crictl", 30),
    ("ip", u32::MAX),
    ("iptables", u32::MAX),
    ("mount", u32::MAX),
    ("nsenter", u32::MAX),
];
/// Programs without which kubeadm warns.
const ADVISED: [&str; 5] = ["ebtables", "ethtool", "socat", "tc", "touch"];

fn required(examined: &Examined) -> Result<Verdict> {
    let wanted = |last: u32| examined.facts.kubernetes.is_none_or(|version| version.minor <= last);
    let names = REQUIRED.iter().filter(|(_, last)| wanted(*last)).map(|(name, _)| *name);
    Ok(judge(&examined.tree, &names.collect::<Vec<_>>()))
}

fn advised(examined: &Examined) -> Result<Verdict> {
    Ok(judge(&examined.tree, &ADVISED))
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
        for (minor, lacks) in [(30, "conntrack, crictl"), (31, "conntrack"), (32, "")] {
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
    fn a_program_in_usr_local_will_do() {
        let mut examined = sound(Family::Debian);
        examined.tree.remove("/usr/bin/socat");
        examined.tree.write("/usr/local/bin/socat", 0o755, "elf");
        assert!(matches!(advised(&examined).unwrap(), Verdict::Pass(_)));
    }
}

//! The kubelet: its service, and whether its version is everybody's.

use std::collections::BTreeSet;

use nodekiln_recipes::recipe::Version;
use nodekiln_words::Result;

use super::{Examined, findings};
use crate::Tier;
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};
use crate::tree::units::{Enablement, Units};
use crate::tree::{Kind, OPT, Tree, leading};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "kubelet-service",
        title: "The kubelet is started at boot",
        tier: Tier::Static,
        severity: Severity::Advisory,
        reads: &["/etc/systemd/system", "/usr/lib/systemd/system"],
        why: "kubeadm starts the kubelet once; after a reboot only an enabled unit brings the node back",
        remedy: "enable kubelet.service, and let its ExecStart name a program that is there",
        source: "kubeadm preflight: Service-Kubelet; systemd.unit(5), systemd.service(5)",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(service),
    },
    Rule {
        id: "kubelet-version",
        title: "kubelet, kubeadm, packages and claims have one version",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "kubelet",
            "kubeadm",
            "/etc/kubernetes-version",
            "/var/lib/dpkg/status",
            "manifest.json",
        ],
        why: "kubeadm refuses a kubelet that is newer than the control plane or too old for it, and a node of another \
              version than its image's name is found out in a cluster",
        remedy: "install kubelet and kubeadm of one version, the one that the recipe names",
        source: "kubeadm preflight: KubeletVersion, KubernetesVersion; Kubernetes' version skew policy",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(version),
    },
];

const UNIT: &str = "kubelet.service";

fn service(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let units = Units::of(tree);
    let by = match units.enablement(UNIT)? {
        Enablement::Enabled(by) | Enablement::Preset(by) => by,
        Enablement::Absent => return Ok(Verdict::Fail(format!("there is no {UNIT}"))),
        Enablement::Masked(by) => return Ok(Verdict::Fail(format!("{by} masks {UNIT}"))),
        Enablement::Static | Enablement::Disabled => {
            return Ok(Verdict::Fail(format!("nothing wants {UNIT}: it is not enabled")));
        }
    };
    let unit = units.unit(UNIT)?.unwrap_or_default();
    let programs = unit.programs();
    let Some((program, setting)) = programs.last() else {
        return Ok(Verdict::Fail(format!("{} has no ExecStart", unit.path)));
    };
    let there = match program.starts_with('/') {
        true => tree
            .resolve(program)
            .is_some_and(|(_, entry)| entry.kind == Kind::File && entry.mode & 0o111 != 0),
        false => tree.program(program).is_some(),
    };
    if !there {
        let why = format!(
            "{} starts {program}, which is no program that can be executed",
            setting.place()
        );
        return Ok(Verdict::Fail(why));
    }
    Ok(Verdict::Pass(format!("{by}; {} starts {program}", setting.place())))
}

fn version(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let (mut found, mut open) = (Vec::new(), Vec::new());
    // 1. What the programs say of themselves.
    for name in ["kubelet", "kubeadm"] {
        let Some(path) = tree.kubernetes_program(name) else {
            return Ok(Verdict::Fail(format!("no {name} on root's PATH nor in {OPT}")));
        };
        let versions = tree.linked_versions(&path)?;
        if versions.is_empty() {
            open.push(format!("{path} has no version linked into it"));
        }
        found.extend(versions.iter().map(|version| (path.clone(), *version)));
    }
    // 2. What the image says of itself.
    let stated = tree.text("/etc/kubernetes-version")?;
    found.extend(
        stated.and_then(|text| leading(&text)).map(|it| ("/etc/kubernetes-version".to_owned(), it)),
    );
    found.extend(packages(tree)?);
    found.extend(examined.expect.kubernetes.map(|version| ("the claims".to_owned(), version)));
    // 3. All of it is one version.
    let each: Vec<String> =
        found.iter().map(|(place, version)| format!("{place}: {version}")).collect();
    let versions: BTreeSet<Version> = found.iter().map(|(_, version)| *version).collect();
    Ok(match (versions.len(), open.is_empty()) {
        (2.., _) => Verdict::Fail(each.join(", ")),
        (_, false) => Verdict::NotProven(findings::some(&open)),
        (_, true) => Verdict::Pass(each.join(", ")),
    })
}

/// The versions of Kubernetes' packages, without epoch and revision.
fn packages(tree: &Tree) -> Result<Vec<(String, Version)>> {
    let installed = tree.packages()?;
    let version = |name: &str| {
        let version = &installed.named(name)?.version;
        let version = version.rsplit(':').next().unwrap_or(version);
        Some((format!("package {name}"), leading(version)?))
    };
    Ok(["kubelet", "kubeadm"].into_iter().filter_map(version).collect())
}

#[cfg(test)]
pub(super) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::sound_node::{LINK_KUBELET, go_program};
    use crate::at_rest::corpus::{Examined, Mutation};

    const UNIT: &str = "/usr/lib/systemd/system/kubelet.service";
    const MASK: &str = "/etc/systemd/system/kubelet.service";

    fn package(examined: &mut Examined<'static>, paragraph: &str) {
        let path = "/var/lib/dpkg/status";
        let before = examined.tree.text(path).unwrap().unwrap_or_default();
        examined.tree.write(path, 0o644, format!("{before}\n{paragraph}"));
    }

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new(
            "the kubelet is not enabled",
            &["kubelet-service"],
            "nothing wants kubelet",
            |examined| {
                examined.tree.remove(LINK_KUBELET);
            },
        ),
        Mutation::new("the kubelet is masked", &["kubelet-service"], MASK, |examined| {
            examined.tree.link(MASK, "/dev/null");
        }),
        Mutation::new(
            "no unit of the kubelet",
            &["kubelet-service"],
            "no kubelet.service",
            |examined| {
                examined.tree.remove(UNIT);
            },
        ),
        Mutation::new(
            "the kubelet's unit starts nothing",
            &["kubelet-service"],
            "no ExecStart",
            |examined| {
                examined.tree.write(
                    "/etc/systemd/system/kubelet.service.d/99.conf",
                    0o644,
                    "[Service]\nExecStart=\n",
                );
            },
        ),
        Mutation::new(
            "a drop-in starts what is not there",
            &["kubelet-service"],
            "99.conf:3 starts",
            |examined| {
                let text =
                    "[Service]\nExecStart=\nExecStart=/usr/local/bin/kubelet $KUBELET_EXTRA_ARGS\n";
                examined.tree.write("/etc/systemd/system/kubelet.service.d/99.conf", 0o644, text);
            },
        ),
        Mutation::new(
            "a kubelet of another minor",
            &["kubelet-version"],
            "/usr/bin/kubelet: 1.21.0",
            |examined| {
                examined.tree.write("/usr/bin/kubelet", 0o755, go_program("v1.21.0"));
            },
        ),
        Mutation::new(
            "a kubeadm of another patch",
            &["kubelet-version"],
            "/usr/bin/kubeadm: 1.20.3",
            |examined| {
                examined.tree.write("/usr/bin/kubeadm", 0o755, go_program("v1.20.3-rc.0+ab"));
            },
        ),
        Mutation::new("no kubeadm", &["kubelet-version"], "no kubeadm", |examined| {
            examined.tree.remove("/usr/bin/kubeadm");
        }),
        Mutation::new(
            "the image names another version",
            &["kubelet-version"],
            "kubernetes-version: 1.20.1",
            |examined| {
                examined.tree.write("/etc/kubernetes-version", 0o644, "v1.20.1\n");
            },
        ),
        Mutation::new(
            "a package of another version",
            &["kubelet-version"],
            "package kubelet: 1.19.16",
            |examined| {
                package(
                    examined,
                    "Package: kubelet\nStatus: hold ok installed\nVersion: 1.19.16-00\n",
                );
            },
        ),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::at_rest::corpus::sound_node::go_program;
    use crate::rules::Family;

    #[test]
    fn a_program_without_a_version_shows_nothing() {
        let mut examined = sound(Family::Debian);
        examined.tree.write("/usr/bin/kubelet", 0o755, "elf");
        let verdict = version(&examined).unwrap();
        assert!(
            matches!(&verdict, Verdict::NotProven(why) if why.contains("/usr/bin/kubelet")),
            "{verdict:?}"
        );
        // Yet what contradicts itself does.
        examined.tree.write("/usr/bin/kubeadm", 0o755, go_program("v1.21.0"));
        assert!(matches!(version(&examined).unwrap(), Verdict::Fail(_)));
    }

    #[test]
    fn a_package_that_is_gone_has_no_say_and_opt_is_looked_into() {
        let mut examined = sound(Family::Debian);
        let tree = &mut examined.tree;
        let text = "Package: kubelet\nStatus: deinstall ok config-files\nVersion: 1.19.0-00\n\n\
                    Package: kubeadm\nStatus: install ok installed\nVersion: 1:1.20.2-1.1\n";
        tree.write("/var/lib/dpkg/status", 0o644, text);
        tree.remove("/usr/bin/kubeadm");
        tree.write("/opt/bin/kubeadm", 0o755, go_program("v1.20.2"));
        let verdict = version(&examined).unwrap();
        assert!(
            matches!(&verdict, Verdict::Pass(seen) if seen.contains("package kubeadm: 1.20.2")),
            "{verdict:?}"
        );
    }
}

//! Who may write Kubernetes' files, as the CIS benchmark for worker nodes has it.

use nodekiln_words::Result;

use crate::Tier;
use crate::at_rest::Examined;
use crate::at_rest::findings::Findings;
use crate::rules::benchmark::{Edition, PACKAGED, edition};
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};
use crate::tree::{Entry, Kind};

pub(in crate::at_rest) const RULES: &[Rule] = &[
    Rule {
        id: "kubelet-files-mode",
        title: "The kubelet's unit and drop-ins are root's to write",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["kubelet.service", "kubelet.service.d/*.conf"],
        why: "whoever writes the unit runs what they like as root",
        remedy: "`chown root:root` and mode 0644; the benchmark's 0600 from 1.24 on contradicts what packages ship",
        source: "CIS Kubernetes benchmark, 4.1.1 and 4.1.2",
        applies: KUBERNETES,
        stops_boot: false,
        judge: Judge::Tree(kubelet_files),
    },
    Rule {
        id: "proxy-kubeconfig-mode",
        title: "kube-proxy's kubeconfig is root's",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "/etc/kubernetes/kube-proxy.conf",
            "/etc/kubernetes/proxy.conf",
            "/var/lib/kube-proxy/kubeconfig",
        ],
        why: "whoever writes it decides which API server the node's services come from",
        remedy: "`chown root:root` and the benchmark's mode",
        source: "CIS Kubernetes benchmark, 4.1.3 and 4.1.4",
        applies: KUBERNETES,
        stops_boot: false,
        judge: Judge::Tree(proxy_kubeconfig),
    },
    Rule {
        id: "kubelet-conf-mode",
        title: "The kubelet's kubeconfig is root's",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/etc/kubernetes/kubelet.conf", "/etc/kubernetes/bootstrap-kubelet.conf"],
        why: "whoever writes it decides which API server the kubelet obeys",
        remedy: "`chown root:root` and the benchmark's mode",
        source: "CIS Kubernetes benchmark, 4.1.5 and 4.1.6",
        applies: KUBERNETES,
        stops_boot: false,
        judge: Judge::Tree(kubelet_conf),
    },
    Rule {
        id: "ca-file-mode",
        title: "The clients' certificate authority is root's",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/etc/kubernetes/pki/ca.crt"],
        why: "whoever writes it decides whom the kubelet believes",
        remedy: "`chown root:root` and the benchmark's mode",
        source: "CIS Kubernetes benchmark, 4.1.7 and 4.1.8",
        applies: KUBERNETES,
        stops_boot: false,
        judge: Judge::Tree(ca_file),
    },
    Rule {
        id: "kubelet-config-mode",
        title: "The kubelet's configuration is root's",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/var/lib/kubelet/config.yaml"],
        why: "whoever writes it switches the kubelet's authorisation off",
        remedy: "`chown root:root` and the benchmark's mode",
        source: "CIS Kubernetes benchmark, 4.1.9 and 4.1.10",
        applies: KUBERNETES,
        stops_boot: false,
        judge: Judge::Tree(kubelet_config),
    },
];

const KUBERNETES: Applies = Applies::with(&[Software::Kubernetes]);

/// Where systemd finds units, the first of a name counting.
const UNITS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

fn kubelet_files(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let mut paths = Vec::new();
    for folder in UNITS {
        for pattern in ["kubelet.service", "kubelet.service.d/*.conf"] {
            let found = tree.glob(&format!("{folder}/{pattern}"));
            // /lib is a link to /usr/lib on all but old systems.
            paths.extend(found.iter().filter_map(|path| tree.resolve(path)).map(|(path, _)| path));
        }
    }
    paths.sort();
    paths.dedup();
    paths.retain(|path| path != "/dev/null");
    if paths.is_empty() {
        return Ok(Verdict::NotProven("there is no kubelet.service".into()));
    }
    Ok(judged(examined, &paths, |edition| edition.files))
}

fn proxy_kubeconfig(examined: &Examined) -> Result<Verdict> {
    let paths = [
        "/etc/kubernetes/kube-proxy.conf",
        "/etc/kubernetes/proxy.conf",
        "/var/lib/kube-proxy/kubeconfig",
    ];
    Ok(later(examined, &paths, "kube-proxy gets its own from the cluster", |edition| edition.files))
}

fn kubelet_conf(examined: &Examined) -> Result<Verdict> {
    let paths = ["/etc/kubernetes/kubelet.conf", "/etc/kubernetes/bootstrap-kubelet.conf"];
    Ok(later(examined, &paths, "kubeadm writes it on each node", |edition| edition.files))
}

fn ca_file(examined: &Examined) -> Result<Verdict> {
    let paths = ["/etc/kubernetes/pki/ca.crt"];
    Ok(later(examined, &paths, "kubeadm writes it on each node", |edition| edition.authority))
}

fn kubelet_config(examined: &Examined) -> Result<Verdict> {
    let paths = ["/var/lib/kubelet/config.yaml"];
    Ok(later(examined, &paths, "kubeadm writes it on each node", |edition| edition.files))
}

/// Judges those of `paths` that are there; where none is, they come `later`.
fn later(examined: &Examined, paths: &[&str], when: &str, wanted: fn(&Edition) -> u32) -> Verdict {
    let there = paths.iter().filter(|path| examined.tree.resolve(path).is_some());
    let there: Vec<String> = there.map(|path| (*path).to_owned()).collect();
    if there.is_empty() {
        let path = paths.first().copied().unwrap_or_default();
        return Verdict::Skipped(format!("not applicable yet: no {path}; {when}"));
    }
    judged(examined, &there, wanted)
}

fn judged(examined: &Examined, paths: &[String], wanted: fn(&Edition) -> u32) -> Verdict {
    let mut findings = Findings::default();
    let edition = examined.facts.kubernetes.map(edition);
    for path in paths {
        let Some((real, entry)) = examined.tree.resolve(path) else { continue };
        let Entry { kind, mode, uid, gid, .. } = entry;
        if *kind != Kind::File {
            findings.wrong(format!("{path} is no file"));
        }
        if !entry.is_roots() {
            findings.wrong(format!("{real} is of user {uid} and group {gid}, not root's"));
        }
        if mode & !PACKAGED != 0 {
            findings.wrong(format!("{real} has mode {mode:04o}, more than 0644"));
            continue;
        }
        match edition {
            Some(edition) if mode & !wanted(edition) != 0 => findings.worth_telling(format!(
                "{real} has mode {mode:04o}, as packages have it; {} asks for {:04o}",
                edition.name,
                wanted(edition)
            )),
            Some(_) => {}
            None => {
                findings.unknown("the version of Kubernetes, and so the benchmark's, is not known");
            }
        }
    }
    let name = edition.map_or("the benchmark", |edition| edition.name);
    findings.verdict(format!("{} files as {name} asks, root's", paths.len()))
}

#[cfg(test)]
pub(in crate::at_rest) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::Mutation;
    use crate::at_rest::{Examined, images};
    use nodekiln_recipes::recipe::Version;

    const UNIT: &str = "/usr/lib/systemd/system/kubelet.service";
    const DROP_IN: &str = "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf";

    fn chown(examined: &mut Examined<'static>, path: &str) {
        examined.tree.write(path, 0o600, "a: b\n");
        examined.tree.change(path, |entry| entry.uid = 1000);
    }

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new(
            "a unit that all may write",
            &["kubelet-files-mode"],
            "kubelet.service has mode 0666",
            |e| {
                e.tree.change(UNIT, |entry| entry.mode = 0o666);
            },
        ),
        Mutation::new(
            "a drop-in of somebody's",
            &["kubelet-files-mode"],
            "10-kubeadm.conf is of user 1000",
            |e| {
                e.tree.change(DROP_IN, |entry| entry.uid = 1000);
            },
        ),
        Mutation::new("a drop-in of some group's", &["kubelet-files-mode"], "group 1000", |e| {
            e.tree.change(DROP_IN, |entry| entry.gid = 1000);
        }),
        Mutation::new(
            "a drop-in of the administrator's",
            &["kubelet-files-mode"],
            "/etc/systemd/system/kubelet.service.d/20-x.conf",
            |e| {
                e.tree.write(
                    "/etc/systemd/system/kubelet.service.d/20-x.conf",
                    0o664,
                    "[Service]\n",
                );
            },
        ),
        Mutation::new("a drop-in that is none", &["kubelet-files-mode"], "is no file", |e| {
            e.tree.folder("/etc/systemd/system/kubelet.service.d/20-x.conf", 0o600);
        }),
        Mutation::new(
            "a packaged mode where the benchmark asks for less",
            &["cgroup-driver-agrees", "kubelet-files-mode"],
            "cis-1.24 asks for 0600",
            |e| {
                e.facts.kubernetes = Some(Version { major: 1, minor: 24, patch: 0 });
                images::fill(e);
            },
        ),
        Mutation::new("kube-proxy's kubeconfig for all", &["proxy-kubeconfig-mode"], "0666", |e| {
            e.tree.write("/var/lib/kube-proxy/kubeconfig", 0o666, "a: b\n");
        }),
        Mutation::new(
            "somebody's kubeconfig of kube-proxy",
            &["proxy-kubeconfig-mode"],
            "user 1000",
            |e| {
                chown(e, "/var/lib/kube-proxy/kubeconfig");
            },
        ),
        Mutation::new(
            "the kubelet's kubeconfig for all",
            &["kubelet-conf-mode", "node-state-absent"],
            "0666",
            |e| {
                e.tree.write("/etc/kubernetes/kubelet.conf", 0o666, "a: b\n");
            },
        ),
        Mutation::new(
            "somebody's kubeconfig of the kubelet",
            &["kubelet-conf-mode", "node-state-absent"],
            "user 1000",
            |e| {
                chown(e, "/etc/kubernetes/kubelet.conf");
            },
        ),
        Mutation::new(
            "an authority for all",
            &["ca-file-mode", "node-state-absent"],
            "0666",
            |e| {
                e.tree.write("/etc/kubernetes/pki/ca.crt", 0o666, "certificate");
            },
        ),
        Mutation::new(
            "somebody's authority",
            &["ca-file-mode", "node-state-absent"],
            "user 1000",
            |e| {
                chown(e, "/etc/kubernetes/pki/ca.crt");
            },
        ),
        Mutation::new(
            "the kubelet's configuration for all",
            &["kubelet-config-mode", "node-state-absent"],
            "0666",
            |e| {
                e.tree.write("/var/lib/kubelet/config.yaml", 0o666, "a: b\n");
            },
        ),
        Mutation::new(
            "somebody's configuration of the kubelet",
            &["kubelet-config-mode", "node-state-absent"],
            "user 1000",
            |e| {
                chown(e, "/var/lib/kubelet/config.yaml");
            },
        ),
    ];
}

#[cfg(test)]
mod tests {
    use nodekiln_recipes::recipe::Version;

    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    #[test]
    fn an_authority_may_be_read_by_all_where_its_edition_says_so() {
        for (minor, fine) in [(20, true), (24, false), (28, false), (29, true)] {
            let mut examined = sound(Family::Debian);
            examined.facts.kubernetes = Some(Version { major: 1, minor, patch: 0 });
            examined.tree.write("/etc/kubernetes/pki/ca.crt", 0o644, "certificate");
            let passed = matches!(ca_file(&examined).unwrap(), Verdict::Pass(_));
            assert_eq!(passed, fine, "{minor}");
        }
    }

    #[test]
    fn files_that_come_later_are_not_judged_and_an_unknown_version_is_not_proven() {
        let mut examined = sound(Family::Debian);
        for judge in [proxy_kubeconfig, kubelet_conf, ca_file, kubelet_config] {
            assert!(
                matches!(judge(&examined).unwrap(), Verdict::Skipped(why) if why.starts_with("not applicable yet"))
            );
        }
        examined.facts.kubernetes = None;
        assert!(matches!(kubelet_files(&examined).unwrap(), Verdict::NotProven(_)));
        examined.tree.remove("/usr/lib/systemd");
        assert!(matches!(kubelet_files(&examined).unwrap(), Verdict::NotProven(_)));
    }
}

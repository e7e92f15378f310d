//! Rules on the container runtime: containerd, its configuration, its plugins, and whether it fits the kubelet.

mod driver;
mod fits;
#[cfg(test)]
mod mutations;
mod service;

use nodekiln_words::Result;

#[cfg(test)]
pub(super) use mutations::MUTATIONS;

use super::{Examined, findings};
use crate::Tier;
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};
use crate::tree::containerd::{CONFIG, Settings};
use crate::tree::{Kind, Tree};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "containerd-config",
        title: "containerd reads its configuration as it was meant",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/etc/containerd/config.toml", "its imports", "containerd's unit"],
        why: "containerd does not start with a file that it cannot parse, and skips a key in the wrong section with \
              no more than a line in its log",
        remedy: "write the file for the containerd of the image: `containerd config default` shows its sections",
        source: "containerd, docs/cri/config.md and docs/containerd-2.0.md; kubeadm preflight CRI",
        applies: Applies::with(&[Software::Containerd]),
        stops_boot: false,
        judge: Judge::Tree(config),
    },
    Rule {
        id: "containerd-enabled",
        title: "One containerd starts at boot",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["containerd.service and its drop-ins", "*.wants", "root's PATH"],
        why: "a runtime that does not come up takes the node with it, and of two programs of one name the unit may \
              start the older one",
        remedy: "enable containerd.service, let its ExecStart name the one containerd there is, and remove every \
                 second containerd, runc and crictl",
        source: "systemd.unit(5); containerd.service of containerd",
        applies: Applies::with(&[Software::Containerd]),
        stops_boot: false,
        judge: Judge::Tree(service::enabled),
    },
    Rule {
        id: "runtime-fits",
        title: "kubelet and containerd speak the same CRI",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["the version of containerd", "the version of Kubernetes"],
        why: "a kubelet that speaks no version of CRI that its runtime serves never becomes Ready",
        remedy: "take containerd 1.x for Kubernetes up to 1.22, and containerd 1.6 or later from Kubernetes 1.26 on",
        source: "kubernetes#106501 and kubernetes#110618 (CRI v1 and the end of v1alpha2); docs/containerd-2.0.md",
        applies: Applies::with(&[Software::Kubernetes, Software::Containerd]),
        stops_boot: false,
        judge: Judge::Tree(fits::runtime_fits),
    },
    Rule {
        id: "cgroup-driver-agrees",
        title: "kubelet and containerd make cgroups by the same driver",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "/etc/containerd/config.toml and its imports",
            "kubelet's unit, its drop-ins and their files",
            "/var/lib/kubelet/config.yaml",
            "the versions of both",
        ],
        why: "containerd on systemd refuses the pods of a kubelet on cgroupfs, and the reverse silently puts all of \
              them into one flat folder",
        remedy: "set `SystemdCgroup` to what kubeadm of this version makes of the kubelet: false up to 1.20, true later",
        source: "kubernetes#99471, kubernetes#102133, KEP-4033",
        applies: Applies::with(&[Software::Kubernetes, Software::Containerd]),
        stops_boot: false,
        judge: Judge::Tree(driver::agrees),
    },
    Rule {
        id: "cni-plugins",
        title: "containerd finds the usual CNI plugins",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/etc/containerd/config.toml", "/opt/cni/bin"],
        why: "without the plugin called loopback no pod starts, and cluster networks build on the others or put \
              their own into /opt/cni/bin",
        remedy: "install the CNI plugins, and let `bin_dir` be /opt/cni/bin with links to where a distribution has \
                 them",
        source: "containerd, docs/cri/config.md (cni); containernetworking/plugins",
        applies: Applies::with(&[Software::Kubernetes, Software::Containerd]),
        stops_boot: false,
        judge: Judge::Tree(plugins),
    },
    Rule {
        id: "crictl-endpoint",
        title: "crictl asks the containerd that the kubelet asks",
        tier: Tier::Static,
        severity: Severity::Advisory,
        reads: &["/etc/crictl.yaml", "/etc/containerd/config.toml"],
        why: "without its endpoint crictl tries the sockets of runtimes that are not there, one after another",
        remedy: "write `runtime-endpoint: unix:///run/containerd/containerd.sock` into /etc/crictl.yaml",
        source: "cri-tools, docs/crictl.md",
        applies: Applies::with(&[Software::Kubernetes, Software::Containerd]),
        stops_boot: false,
        judge: Judge::Tree(crictl),
    },
];

/// Plugins that every node has: containerd itself calls the first for each pod, the others are those that the
/// common networks call (flannel, kubenet, kindnet, Canal).
const PLUGINS: [&str; 4] = ["loopback", "bridge", "host-local", "portmap"];
/// Where clusters' networks put plugins of their own.
const OPT_CNI: &str = "/opt/cni/bin";
const CRICTL: &str = "/etc/crictl.yaml";

fn config(examined: &Examined) -> Result<Verdict> {
    if let Some(other) = service::other_config(&examined.tree)? {
        let text = format!("{other} starts containerd with another file, which is not read here");
        return Ok(Verdict::NotProven(text));
    }
    let settings = Settings::of(&examined.tree)?;
    if settings.files.is_empty() && settings.problems.is_empty() {
        let text = format!("there is no {CONFIG}: what containerd has built in counts");
        return Ok(Verdict::NotProven(text));
    }
    let reader = match settings.release {
        Some(release) => format!("containerd {release}"),
        None => "a containerd of unknown version".to_owned(),
    };
    let seen = format!("{}: version {}, for {reader}", settings.files.join(", "), settings.schema);
    Ok(findings::verdict(&settings.problems, seen))
}

fn plugins(examined: &Examined) -> Result<Verdict> {
    let Examined { tree, .. } = examined;
    let settings = Settings::of(tree)?;
    let folders = &settings.cni_bin;
    let lacks =
        PLUGINS.iter().filter(|name| !folders.iter().any(|at| runs(tree, &format!("{at}/{name}"))));
    let shown = folders.join(", ");
    let mut wrong: Vec<String> =
        lacks.map(|name| format!("{shown} has no {name} that runs")).collect();
    if !folders.iter().any(|folder| folder.trim_end_matches('/') == OPT_CNI) {
        let path = settings.path();
        wrong.push(format!(
            "{path}: containerd looks for plugins in {shown} alone, and networks put theirs into {OPT_CNI}"
        ));
    }
    Ok(Verdict::of(&wrong, format!("{shown}: {}", PLUGINS.join(", "))))
}

fn runs(tree: &Tree, path: &str) -> bool {
    let there = tree.resolve(path);
    there.is_some_and(|(_, entry)| entry.kind == Kind::File && entry.mode & 0o111 != 0)
}

/// The keys of crictl's configuration that are read here.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Crictl {
    runtime_endpoint: Option<String>,
    image_endpoint: Option<String>,
}

fn crictl(examined: &Examined) -> Result<Verdict> {
    let socket = format!("unix://{}", Settings::of(&examined.tree)?.socket);
    let Some(text) = examined.tree.text(CRICTL)? else {
        return Ok(Verdict::Fail(format!("there is no {CRICTL}")));
    };
    let Ok(Crictl { runtime_endpoint, image_endpoint }) = serde_saphyr::from_str(&text) else {
        return Ok(Verdict::Fail(format!("{CRICTL} is no YAML that crictl reads")));
    };
    let Some(runtime) = runtime_endpoint else {
        return Ok(Verdict::Fail(format!("{CRICTL} has no runtime-endpoint")));
    };
    let named = [("runtime-endpoint", Some(runtime)), ("image-endpoint", image_endpoint)];
    let wrong: Vec<String> = named
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?)))
        .filter(|(_, value)| without_var(value) != without_var(&socket))
        .map(|(key, value)| {
            format!("{CRICTL}: {key} is {value}, and containerd listens at {socket}")
        })
        .collect();
    Ok(Verdict::of(&wrong, format!("{CRICTL}: {socket}")))
}

/// An endpoint without the folder that is a link to /run.
fn without_var(endpoint: &str) -> String {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    path.strip_prefix("/var").filter(|rest| rest.starts_with("/run/")).unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    #[test]
    fn an_endpoint_below_var_run_is_the_same_socket() {
        let mut examined = sound(Family::Debian);
        let text = "runtime-endpoint: /var/run/containerd/containerd.sock\ntimeout: 10\n";
        examined.tree.write(CRICTL, 0o644, text);
        assert!(matches!(crictl(&examined).unwrap(), Verdict::Pass(_)));
    }

    #[test]
    fn a_containerd_without_a_file_is_not_shown_to_be_well() {
        let mut examined = sound(Family::Debian);
        examined.tree.remove(CONFIG);
        assert!(
            matches!(config(&examined).unwrap(), Verdict::NotProven(seen) if seen.contains(CONFIG))
        );
        examined.tree.write(
            "/etc/systemd/system/containerd.service.d/50-file.conf",
            0o644,
            "[Service]\nExecStart=\nExecStart=/usr/bin/containerd -c /etc/own.toml\n",
        );
        assert!(
            matches!(config(&examined).unwrap(), Verdict::NotProven(seen) if seen.contains("/etc/own.toml"))
        );
    }
}

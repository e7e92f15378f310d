//! What stands between a node and its cluster: its own name, firewalls and taken ports.

use nodekiln_words::Result;

use super::Examined;
use crate::Tier;
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};
use crate::tree::units::{Enablement, Units};
use crate::tree::{Tree, cloud_config};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "hostname-resolves",
        title: "The node finds its own name",
        tier: Tier::Static,
        severity: Severity::Advisory,
        reads: &["/etc/nsswitch.conf", "/etc/hosts", "/etc/resolv.conf", "/etc/cloud/cloud.cfg"],
        why: "a node that does not find its own name waits for DNS at every turn, and kubeadm warns",
        remedy: "add `myhostname` or `resolve` with its library to hosts in /etc/nsswitch.conf, use systemd-resolved's \
                 stub, or set `manage_etc_hosts` for cloud-init",
        source: "kubeadm preflight: Hostname; nss-myhostname(8), systemd-resolved.service(8)",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(hostname),
    },
    Rule {
        id: "firewalld-off",
        title: "firewalld is not started",
        tier: Tier::Static,
        severity: Severity::Advisory,
        reads: &["/etc/systemd/system", "/usr/lib/systemd/system"],
        why: "its rules close the ports of the control plane and flush those of network plugins",
        remedy: "disable or mask firewalld.service, or open the ports that Kubernetes lists",
        source: "kubeadm preflight: Firewalld",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(firewalld),
    },
    Rule {
        id: "ports-free",
        title: "Nothing that starts at boot takes the control plane's ports",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/etc/systemd/system", "/usr/lib/systemd/system"],
        why: "kubeadm refuses a node where somebody listens on one of its ports",
        remedy: "disable the unit that the report names",
        source: "kubeadm preflight: Port-6443, Port-10259, Port-10257, Port-10250, Port-2379, Port-2380; \
                 systemd.socket(5)",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(ports),
    },
];

/// What the stub of systemd-resolved is called in /run; it answers for the machine's own name.
const STUB: &str = "systemd/resolve/stub-resolv.conf";
/// The stub's address.
const STUB_ADDRESS: &str = "127.0.0.53";
/// Services that listen on ports that kubeadm wants: those of other makers' clusters, and Kubernetes' own as services.
const LISTENERS: [(&str, &[u16]); 13] = [
    ("etcd.service", &[2379, 2380]),
    ("etcd2.service", &[2379, 2380]),
    ("etcd-member.service", &[2379, 2380]),
    ("kube-apiserver.service", &[6443]),
    ("kube-controller-manager.service", &[10257]),
    ("kube-scheduler.service", &[10259]),
    ("k3s.service", &[6443, 10250]),
    ("k3s-agent.service", &[10250]),
    ("rke2-server.service", &[6443, 2379, 2380, 10250]),
    ("rke2-agent.service", &[10250]),
    ("k0scontroller.service", &[6443, 2380]),
    ("k0sworker.service", &[10250]),
    ("snap.microk8s.daemon-kubelite.service", &[10250, 10257, 10259]),
];
/// The ports that kubeadm checks for a control plane.
const PORTS: [u16; 6] = [6443, 10259, 10257, 10250, 2379, 2380];

fn hostname(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let switch = tree.text("/etc/nsswitch.conf")?.unwrap_or_default();
    let hosts = switch.lines().find_map(|line| line.trim().strip_prefix("hosts:"));
    // What glibc does without a word on it.
    let words: Vec<&str> = hosts.unwrap_or("files dns").split_whitespace().collect();
    // 1. A module that knows the name, where its library is there.
    for module in ["myhostname", "resolve"] {
        if words.contains(&module) && has_library(tree, module) {
            return Ok(Verdict::Pass(format!("hosts in /etc/nsswitch.conf has {module}")));
        }
    }
    // 2. The stub of systemd-resolved, which does.
    let text = tree.text("/etc/resolv.conf")?.unwrap_or_default();
    let target = tree.entry("/etc/resolv.conf").and_then(|entry| entry.target.as_deref());
    let by_stub = target.is_some_and(|target| target.ends_with(STUB))
        || text.lines().any(|line| line.split_whitespace().eq(["nameserver", STUB_ADDRESS]));
    let resolved = Units::of(tree).enablement("systemd-resolved.service")?;
    if let Some(by) = resolved.by().filter(|_| words.contains(&"dns") && by_stub) {
        return Ok(Verdict::Pass(format!(
            "/etc/resolv.conf is that of systemd-resolved, enabled by {by}"
        )));
    }
    // 3. A line of /etc/hosts, which cloud-init writes if it is told to.
    if let Some((value, path)) = cloud_config::value(tree, "manage_etc_hosts")?
        && (value.as_bool() == Some(true)
            || matches!(value.as_str(), Some("localhost" | "template")))
    {
        return Ok(Verdict::Pass(format!("{path} has cloud-init write the name into /etc/hosts")));
    }
    let name = tree.text("/etc/hostname")?.unwrap_or_default().trim().to_owned();
    let lines = tree.text("/etc/hosts")?.unwrap_or_default();
    let named = |line: &str| {
        !line.trim().starts_with('#') && line.split_whitespace().skip(1).any(|word| word == name)
    };
    if !name.is_empty() && lines.lines().any(named) {
        return Ok(Verdict::Pass(format!("/etc/hosts has {name}, the name in /etc/hostname")));
    }
    let words = words.join(" ");
    let why = format!(
        "hosts in /etc/nsswitch.conf is `{words}`, and neither systemd-resolved's stub nor /etc/hosts helps"
    );
    Ok(Verdict::Fail(why))
}

/// Whether the library of a module of the name service switch is there.
fn has_library(tree: &Tree, module: &str) -> bool {
    let file = format!("libnss_{module}.so.2");
    let of_machines =
        tree.names("/usr/lib").into_iter().filter(|name| name.ends_with("-linux-gnu"));
    let folders = of_machines.map(|name| format!("/usr/lib/{name}"));
    let folders =
        ["/usr/lib64", "/lib64", "/usr/lib", "/lib"].map(str::to_owned).into_iter().chain(folders);
    folders.into_iter().any(|folder| tree.resolve(&format!("{folder}/{file}")).is_some())
}

fn firewalld(examined: &Examined) -> Result<Verdict> {
    Ok(match Units::of(&examined.tree).enablement("firewalld.service")? {
        Enablement::Enabled(by) | Enablement::Preset(by) => {
            Verdict::Fail(format!("firewalld.service is enabled by {by}"))
        }
        Enablement::Absent => Verdict::Pass("there is no firewalld.service".to_owned()),
        Enablement::Masked(by) => Verdict::Pass(format!("{by} masks firewalld.service")),
        Enablement::Static | Enablement::Disabled => {
            Verdict::Pass("nothing wants firewalld.service".to_owned())
        }
    })
}

fn ports(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let units = Units::of(tree);
    let mut wrong = Vec::new();
    for (service, ports) in LISTENERS {
        if let Some(by) = units.enablement(service)?.by() {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            wrong.push(format!("{service} listens on {}, enabled by {by}", ports.join(", ")));
        }
    }
    let sockets: Vec<&str> = units.wanted().filter(|name| name.ends_with(".socket")).collect();
    for name in sockets {
        let Some(unit) = units.unit(name)?.filter(|unit| !unit.masked) else { continue };
        for setting in unit.values("Socket", "ListenStream") {
            let port = setting.value.rsplit(':').next().and_then(|port| port.parse().ok());
            if let Some(port) = port.filter(|port| PORTS.contains(port)) {
                wrong.push(format!("{} listens on {port}", setting.place()));
            }
        }
    }
    let ports: Vec<String> = PORTS.iter().map(u16::to_string).collect();
    Ok(Verdict::of(
        &wrong,
        format!("no enabled unit that is known to listen on {}", ports.join(", ")),
    ))
}

#[cfg(test)]
pub(super) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::{Examined, Mutation};

    fn enable(examined: &mut Examined<'static>, name: &str, wants: &str, text: &str) {
        let unit = format!("/usr/lib/systemd/system/{name}");
        examined.tree.write(&unit, 0o644, text);
        examined.tree.link(&format!("/etc/systemd/system/{wants}.wants/{name}"), &unit);
    }

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new(
            "no way to the own name",
            &["hostname-resolves"],
            "`files dns`",
            |examined| {
                examined.tree.replace("/etc/nsswitch.conf", " myhostname", "");
            },
        ),
        Mutation::new(
            "a module without its library",
            &["hostname-resolves"],
            "myhostname`",
            |examined| {
                examined.tree.remove("/usr/lib/x86_64-linux-gnu/libnss_myhostname.so.2");
            },
        ),
        Mutation::new(
            "the stub without its service",
            &["hostname-resolves"],
            "`files dns`",
            |examined| {
                examined.tree.replace("/etc/nsswitch.conf", " myhostname", "");
                examined.tree.link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
            },
        ),
        Mutation::new(
            "firewalld is enabled",
            &["firewalld-off"],
            "multi-user.target.wants",
            |examined| {
                let unit = "[Service]\nExecStart=/usr/sbin/firewalld\n[Install]\nWantedBy=multi-user.target\n";
                enable(examined, "firewalld.service", "multi-user.target", unit);
            },
        ),
        Mutation::new(
            "an etcd of the distribution",
            &["ports-free"],
            "etcd.service listens on 2379",
            |examined| {
                let unit =
                    "[Service]\nExecStart=/usr/bin/etcd\n[Install]\nWantedBy=multi-user.target\n";
                enable(examined, "etcd.service", "multi-user.target", unit);
            },
        ),
        Mutation::new(
            "a socket on the API server's port",
            &["ports-free"],
            "a.socket:2 listens on 6443",
            |examined| {
                enable(
                    examined,
                    "a.socket",
                    "sockets.target",
                    "[Socket]\nListenStream=0.0.0.0:6443\n",
                );
            },
        ),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    fn passes(verdict: &Result<Verdict>) -> bool {
        matches!(verdict, Ok(Verdict::Pass(_)))
    }

    #[test]
    fn every_way_to_the_own_name_will_do() {
        let without = || {
            let mut examined = sound(Family::Debian);
            examined.tree.write("/etc/nsswitch.conf", 0o644, "hosts: files dns\n");
            examined
        };
        assert!(!passes(&hostname(&without())));
        let mut examined = without();
        examined.tree.link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
        let unit = "/usr/lib/systemd/system/systemd-resolved.service";
        examined.tree.write(
            unit,
            0o644,
            "[Service]\nExecStart=/a\n[Install]\nWantedBy=sysinit.target\n",
        );
        examined
            .tree
            .link("/etc/systemd/system/sysinit.target.wants/systemd-resolved.service", unit);
        assert!(passes(&hostname(&examined)));
        examined.tree.write("/etc/nsswitch.conf", 0o644, "hosts: files\n");
        assert!(!passes(&hostname(&examined)), "DNS is not asked");
        examined.tree.write("/etc/nsswitch.conf", 0o644, "hosts: files dns\n");
        examined.tree.write("/etc/resolv.conf", 0o644, "nameserver 10.0.0.1\n");
        assert!(!passes(&hostname(&examined)), "another server is asked");
        examined.tree.write("/etc/resolv.conf", 0o644, "nameserver 127.0.0.53\n");
        assert!(passes(&hostname(&examined)));
        let mut examined = without();
        examined.tree.write(
            "/etc/cloud/cloud.cfg.d/10.cfg",
            0o644,
            "manage_etc_hosts: localhost\n",
        );
        assert!(passes(&hostname(&examined)));
        let mut examined = without();
        examined.tree.write("/etc/hostname", 0o644, "node\n");
        examined.tree.write(
            "/etc/hosts",
            0o644,
            "127.0.0.1 localhost\n127.0.1.1 node.example node\n",
        );
        assert!(passes(&hostname(&examined)));
        examined.tree.write("/etc/hosts", 0o644, "127.0.0.1 localhost nodes\n# 127.0.1.1 node\n");
        assert!(!passes(&hostname(&examined)));
    }

    #[test]
    fn what_is_installed_and_does_not_start_takes_no_port() {
        let mut examined = sound(Family::Debian);
        let unit = "[Service]\nExecStart=/usr/bin/etcd\n[Install]\nWantedBy=multi-user.target\n";
        examined.tree.write("/usr/lib/systemd/system/etcd.service", 0o644, unit);
        examined.tree.write(
            "/usr/lib/systemd/system/a.socket",
            0o644,
            "[Socket]\nListenStream=6443\n",
        );
        examined.tree.link(
            "/etc/systemd/system/sockets.target.wants/b.socket",
            "/usr/lib/systemd/system/b.socket",
        );
        examined.tree.write(
            "/usr/lib/systemd/system/b.socket",
            0o644,
            "[Socket]\nListenStream=64430\nListenStream=/run/6443\n",
        );
        examined.tree.write("/usr/lib/systemd/system/firewalld.service", 0o644, unit);
        assert!(passes(&ports(&examined)), "{:?}", ports(&examined));
        assert!(passes(&firewalld(&examined)));
    }
}

//! Proxies that a build left behind.

use nodekiln_words::Result;

use super::{Examined, findings};
use crate::Tier;
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};
use crate::tree::units::{Units, assignments, parse};
use crate::tree::{Kind, Tree, drop_ins};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "proxy-variables",
    title: "No proxy is left in the image",
    tier: Tier::Static,
    severity: Severity::Fatal,
    reads: &[
        "/etc/environment",
        "/etc/profile.d",
        "/etc/systemd/system",
        "/etc/systemd/system.conf",
        "/etc/apt/apt.conf.d",
        "/etc/dnf/dnf.conf",
    ],
    why: "a proxy of the place where an image was built is not there where it runs, and one for the API server's \
          address breaks the cluster; in what the kubelet or containerd is given it fails, elsewhere it warns",
    remedy: "remove the line or the drop-in; give proxies to the build alone, and to nodes by their user-data",
    source: "kubeadm preflight: HTTPProxy, HTTPProxyCIDR; systemd.exec(5), apt.conf(5), dnf.conf(5)",
    applies: Applies::with(&[Software::Kubernetes]),
    stops_boot: false,
    judge: Judge::Tree(proxies),
}];

/// Units whose proxy is the node's.
const OF_THE_NODE: [&str; 4] =
    ["kubelet.service", "containerd.service", "crio.service", "docker.service"];
/// Variables that name a proxy, in small letters.
const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "ftp_proxy", "all_proxy"];
fn proxies(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let units = Units::of(tree);
    // 1. What the node's own services are given.
    let mut worst = Vec::new();
    for name in OF_THE_NODE {
        let Some(unit) = units.unit(name)? else { continue };
        for (key, value, setting) in unit.environment() {
            worst.extend(proxy(&key, &value, &setting.place()));
        }
        for path in unit.environment_files() {
            let text = tree.text(path)?.unwrap_or_default();
            worst.extend(of_variables(&drop_ins::variables(&text, path)));
        }
    }
    // 2. What logins, other services of the administrator and package managers are given.
    let mut mild = of_variables(&drop_ins::login_variables(tree)?);
    mild.extend(of_administrator(tree)?);
    mild.extend(of_packages(tree)?);
    mild.retain(|found| !worst.contains(found));
    Ok(match (worst.is_empty(), mild.is_empty()) {
        (true, true) => {
            Verdict::Pass("no proxy in variables, units and package managers".to_owned())
        }
        (true, false) => Verdict::Warn(findings::each(&mild)),
        (false, _) => Verdict::Fail(findings::each(&[worst, mild].concat())),
    })
}

/// A finding, where the variable names a proxy. What it is set to may have a password and is not told.
fn proxy(key: &str, value: &str, place: &str) -> Option<String> {
    let names_one = PROXIES.contains(&key.to_lowercase().as_str()) && !value.trim().is_empty();
    names_one.then(|| format!("{place} sets {key}"))
}

fn of_variables(sets: &[drop_ins::Set]) -> Vec<String> {
    sets.iter().filter_map(|set| proxy(&set.key, &set.value, &set.place())).collect()
}

/// Proxies in /etc/systemd: units, drop-ins and what every service is given.
fn of_administrator(tree: &Tree) -> Result<Vec<String>> {
    let folder = "/etc/systemd/system";
    let mut paths = vec!["/etc/systemd/system.conf".to_owned()];
    paths.extend(drop_ins::files(tree, "systemd/system.conf.d", ".conf"));
    let files = tree.below(folder).filter(|(path, entry)| {
        entry.kind == Kind::File && (path.ends_with(".conf") || path.ends_with(".service"))
    });
    paths.extend(files.map(|(path, _)| path.to_owned()));
    let mut found = Vec::new();
    for path in paths {
        for setting in parse(&tree.text(&path)?.unwrap_or_default(), &path) {
            if ["Environment", "DefaultEnvironment"].contains(&&*setting.key) {
                let pairs = assignments(&setting.value);
                found.extend(
                    pairs.iter().filter_map(|(key, value)| proxy(key, value, &setting.place())),
                );
            }
        }
    }
    Ok(found)
}

/// Proxies of apt and dnf.
fn of_packages(tree: &Tree) -> Result<Vec<String>> {
    let within = |folder: &str| {
        let names = tree.names(folder).into_iter();
        names.map(|name| format!("{folder}/{name}")).collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    for path in [vec!["/etc/apt/apt.conf".to_owned()], within("/etc/apt/apt.conf.d")].concat() {
        let text = tree.text(&path)?.unwrap_or_default();
        for (at, line) in text.lines().enumerate() {
            if names_proxy_of_apt(line) {
                found.push(format!("{path}:{} gives apt a proxy", at + 1));
            }
        }
    }
    let configurations =
        ["/etc/dnf/dnf.conf", "/etc/yum.conf", "/etc/tdnf/tdnf.conf"].map(str::to_owned).to_vec();
    for path in [configurations, within("/etc/yum.repos.d")].concat() {
        for setting in parse(&tree.text(&path)?.unwrap_or_default(), &path) {
            if setting.key == "proxy" && !matches!(&*setting.value, "" | "_none_") {
                found.push(format!("{} gives dnf a proxy", setting.place()));
            }
        }
    }
    Ok(found)
}

/// Whether a line of apt's configuration names a proxy: `Acquire::http::Proxy "…";`, or `Proxy "…";` in braces.
fn names_proxy_of_apt(line: &str) -> bool {
    let line = line.trim();
    if line.starts_with("//") || line.starts_with('#') {
        return false;
    }
    let small = line.to_lowercase();
    let Some((before, after)) = small.split_once("proxy") else { return false };
    let whole = before.is_empty() || before.ends_with([':', ' ', '\t', '{']);
    let mut quoted = after.split('"');
    let between = quoted.next().unwrap_or_default();
    let blank = between.starts_with("::") || between.starts_with(char::is_whitespace);
    let value = quoted.next().unwrap_or_default();
    whole && blank && !matches!(value, "" | "direct" | "false")
}

#[cfg(test)]
pub(super) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::Mutation;

    const PROXY: &str = "http://10.0.0.2:3128";

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new(
            "a build's proxy for containerd",
            &["proxy-variables"],
            "http-proxy.conf:2",
            |examined| {
                let text = format!("[Service]\nEnvironment=\"HTTPS_PROXY={PROXY}\"\n");
                examined.tree.write(
                    "/etc/systemd/system/containerd.service.d/http-proxy.conf",
                    0o644,
                    text,
                );
            },
        ),
        Mutation::new(
            "a proxy in the kubelet's variables",
            &["proxy-variables"],
            "/etc/default/kubelet:1",
            |examined| {
                examined.tree.write("/etc/default/kubelet", 0o644, format!("http_proxy={PROXY}\n"));
            },
        ),
        Mutation::new(
            "a proxy of logins",
            &["proxy-variables"],
            "/etc/environment:1",
            |examined| {
                examined.tree.write("/etc/environment", 0o644, format!("http_proxy=\"{PROXY}\"\n"));
            },
        ),
        Mutation::new(
            "a proxy of shells",
            &["proxy-variables"],
            "/etc/profile.d/proxy.sh:1",
            |examined| {
                examined.tree.write(
                    "/etc/profile.d/proxy.sh",
                    0o644,
                    format!("export https_proxy={PROXY}\n"),
                );
            },
        ),
        Mutation::new(
            "a proxy of every service",
            &["proxy-variables"],
            "system.conf.d/p.conf:2",
            |examined| {
                let text = format!("[Manager]\nDefaultEnvironment=ALL_PROXY={PROXY}\n");
                examined.tree.write("/etc/systemd/system.conf.d/p.conf", 0o644, text);
            },
        ),
        Mutation::new(
            "a proxy of cloud-init's services",
            &["proxy-variables"],
            "cloud-final.service.d/p",
            |examined| {
                let text = format!("[Service]\nEnvironment=HTTP_PROXY={PROXY}\n");
                examined.tree.write(
                    "/etc/systemd/system/cloud-final.service.d/p.conf",
                    0o644,
                    text,
                );
            },
        ),
        Mutation::new("a proxy of apt", &["proxy-variables"], "01proxy:1 gives apt", |examined| {
            let text = format!("Acquire::http::Proxy \"{PROXY}\";\n");
            examined.tree.write("/etc/apt/apt.conf.d/01proxy", 0o644, text);
        }),
        Mutation::new("a proxy of dnf", &["proxy-variables"], "/etc/dnf/dnf.conf:2", |examined| {
            examined.tree.write("/etc/dnf/dnf.conf", 0o644, format!("[main]\nproxy={PROXY}\n"));
        }),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    #[test]
    fn proxies_that_name_none_stay_green_and_those_of_the_node_weigh_more() {
        let mut examined = sound(Family::Debian);
        let tree = &mut examined.tree;
        tree.write(
            "/etc/environment",
            0o644,
            "http_proxy=\nNO_PROXY=10.0.0.0/8\n# https_proxy=http://x\n",
        );
        tree.write(
            "/etc/apt/apt.conf.d/a",
            0o644,
            "// Acquire::http::Proxy \"http://x\";\nAcquire::http::Proxy \"DIRECT\";\n",
        );
        tree.write("/etc/dnf/dnf.conf", 0o644, "[main]\nproxy=_none_\n");
        assert!(matches!(proxies(&examined), Ok(Verdict::Pass(_))), "{:?}", proxies(&examined));
        examined.tree.write("/etc/environment", 0o644, "http_proxy=http://user:secret@x\n");
        let verdict = proxies(&examined).unwrap();
        assert!(matches!(&verdict, Verdict::Warn(seen) if !seen.contains("secret")), "{verdict:?}");
        examined.tree.write("/etc/default/kubelet", 0o644, "HTTP_PROXY=http://x\n");
        assert!(matches!(proxies(&examined).unwrap(), Verdict::Fail(_)));
    }

    #[test]
    fn apt_writes_its_proxy_in_two_ways() {
        for line in [
            "Acquire::http::Proxy \"http://x\";",
            "  Proxy \"http://x\";",
            "Acquire::HTTP::proxy::host \"http://x\";",
        ] {
            assert!(names_proxy_of_apt(line), "{line}");
        }
        for line in [
            "Acquire::http::ProxyAutoDetect \"/x\";",
            "#Proxy \"x\";",
            "Acquire::http::Proxy \"false\";",
            "Dir \"x\";",
        ] {
            assert!(!names_proxy_of_apt(line), "{line}");
        }
    }
}

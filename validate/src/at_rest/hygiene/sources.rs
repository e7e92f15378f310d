//! Where the image's own package manager fetches from: the archives of the distribution, not those of the build.

use std::net::IpAddr;

use nodekiln_words::Result;
use url::{Host, Url};

use crate::Tier;
use crate::at_rest::Examined;
use crate::at_rest::findings::Findings;
use crate::rules::{Applies, Judge, Rule, Severity, Verdict};

pub(in crate::at_rest) const RULES: &[Rule] = &[Rule {
    id: "build-mirror",
    title: "Packages come from public archives or declared ones",
    tier: Tier::Static,
    severity: Severity::Fatal,
    reads: &[
        "/etc/apt/sources.list",
        "/etc/apt/sources.list.d",
        "/etc/yum.repos.d",
        "/etc/dnf/dnf.conf",
    ],
    why: "a mirror of the build cannot be reached from a node, and whoever owns its name there installs packages",
    remedy: "take the build's sources out, or write the list in the recipe's `files`",
    source: "sources.list(5), dnf.conf(5); image-builder issues 2007 and 2008",
    applies: Applies::ALL,
    stops_boot: false,
    judge: Judge::Tree(build_mirror),
}];

/// Domains of archives that distributions, Kubernetes and container runtimes publish themselves. A domain where
/// anybody may keep a bucket, a page or a repository is none of them.
const PUBLIC: [&str; 20] = [
    "debian.org",
    "ubuntu.com",
    "canonical.com",
    "k8s.io",
    "kubernetes.io",
    "packages.cloud.google.com",
    "docker.com",
    "fedoraproject.org",
    "centos.org",
    "rockylinux.org",
    "almalinux.org",
    "redhat.com",
    "oracle.com",
    "opensuse.org",
    "suse.com",
    "amazonlinux.com",
    "microsoft.com",
    "vmware.com",
    "broadcom.com",
    "nvidia.com",
];
/// Names that no public resolver answers for.
const PRIVATE: [&str; 9] =
    ["local", "localhost", "localdomain", "internal", "intranet", "lan", "home", "corp", "test"];

/// A place that packages are fetched from, and where that stands.
struct Place {
    at: String,
    address: String,
    trusted: bool,
}

fn build_mirror(examined: &Examined) -> Result<Verdict> {
    let mut findings = Findings::default();
    let places = places(examined)?;
    for Place { at, address, trusted } in &places {
        if let Some(why) = unreachable(address) {
            findings.wrong(format!("{at}: {} {why}", shown(address)));
        } else if *trusted {
            findings.wrong(format!("{at}: {} is taken without a signature", shown(address)));
        } else if !is_public(address) {
            let told = format!("{at}: {} is no archive of the distribution's", shown(address));
            if examined.claimed { findings.wrong(told) } else { findings.unknown(told) }
        }
    }
    Ok(findings.verdict(format!("{} places, all public or declared", places.len())))
}

/// Every place in lists that the recipe does not write itself.
fn places(examined: &Examined) -> Result<Vec<Place>> {
    let tree = &examined.tree;
    let mut places = Vec::new();
    let lists = [
        "/etc/apt/sources.list",
        "/etc/apt/sources.list.d/*",
        "/etc/yum.repos.d/*.repo",
        "/etc/dnf/dnf.conf",
        "/etc/yum.conf",
        "/etc/tdnf/tdnf.conf",
    ];
    for path in lists.iter().flat_map(|pattern| tree.glob(pattern)) {
        if examined.expect.files.contains(&path) {
            continue;
        }
        let text = tree.text(&path)?.unwrap_or_default();
        if path.ends_with(".sources") {
            deb822(&path, &text, &mut places);
        } else if path.ends_with(".list") {
            one_line(&path, &text, &mut places);
        } else if path.ends_with(".repo") || path.ends_with(".conf") {
            repositories(&path, &text, &mut places);
        }
    }
    Ok(places)
}

/// Lines such as `deb [trusted=yes] http://deb.debian.org/debian bookworm main`.
fn one_line(path: &str, text: &str, places: &mut Vec<Place>) {
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = ["deb-src", "deb"].iter().find_map(|kind| line.strip_prefix(kind)) else {
            continue;
        };
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']').unwrap_or((rest, "")),
            None => ("", rest),
        };
        if let Some(address) = rest.split_whitespace().next() {
            let trusted = options.split_whitespace().any(|option| option == "trusted=yes");
            let (at, address) = (format!("{path}:{}", at + 1), address.to_owned());
            places.push(Place { at, address, trusted });
        }
    }
}

/// Paragraphs with `URIs:`, which may be continued on lines that begin with a space.
fn deb822(path: &str, text: &str, places: &mut Vec<Place>) {
    let mut from = 0;
    for paragraph in text.split("\n\n") {
        let first = from + 1;
        from += paragraph.matches('\n').count() + 2;
        let (mut key, mut off, mut trusted) = (String::new(), false, false);
        let mut found = Vec::new();
        for (at, line) in paragraph.lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let value = match line.split_once(':') {
                Some((name, value)) if !line.starts_with([' ', '\t']) => {
                    key = name.trim().to_ascii_lowercase();
                    value
                }
                _ => line,
            };
            let value = value.trim();
            match key.as_str() {
                "enabled" => off |= value.eq_ignore_ascii_case("no"),
                "trusted" => trusted |= value.eq_ignore_ascii_case("yes"),
                "uris" => found.extend(
                    value
                        .split_whitespace()
                        .map(|uri| (format!("{path}:{}", first + at), uri.to_owned())),
                ),
                _ => {}
            }
        }
        if !off {
            let found = found.into_iter();
            places.extend(found.map(|(at, address)| Place { at, address, trusted }));
        }
    }
}

/// Sections of dnf's with `baseurl`, `mirrorlist` or `metalink`.
fn repositories(path: &str, text: &str, places: &mut Vec<Place>) {
    let mut section = Vec::new();
    let mut off = false;
    let mut key = String::new();
    for (at, line) in text.lines().enumerate() {
        if line.starts_with('[') {
            places.extend(std::mem::take(&mut section).into_iter().filter(|_| !off));
            off = false;
            continue;
        }
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        let value = match line.split_once('=') {
            Some((name, value)) if !line.starts_with([' ', '\t']) => {
                key = name.trim().to_ascii_lowercase();
                value
            }
            _ => line,
        };
        match key.as_str() {
            "enabled" => off |= matches!(value.trim(), "0" | "no" | "false" | "off"),
            "baseurl" | "mirrorlist" | "metalink" => section.extend(
                value.split([' ', '\t', ',']).filter(|address| !address.is_empty()).map(
                    |address| Place {
                        at: format!("{path}:{}", at + 1),
                        address: address.to_owned(),
                        trusted: false,
                    },
                ),
            ),
            _ => {}
        }
    }
    places.extend(section.into_iter().filter(|_| !off));
}

/// The address without what somebody logs in with.
fn shown(address: &str) -> String {
    match address
        .split_once("://")
        .and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?.1)))
    {
        Some((scheme, rest)) => format!("{scheme}://…@{rest}"),
        None => address.to_owned(),
    }
}

/// What an address says after apt's own words in front of it (`mirror+https`, `tor+http`).
fn parsed(address: &str) -> Option<Url> {
    let plain =
        address.split_once("://").map(|(scheme, _)| scheme).and_then(|scheme| scheme.rfind('+'));
    Url::parse(&address[plain.map_or(0, |at| at + 1)..]).ok()
}

/// Why a node cannot fetch from there, or must not; nothing where it may.
fn unreachable(address: &str) -> Option<&'static str> {
    let Some(url) = parsed(address) else { return Some("is no address") };
    if !url.username().is_empty() || url.password().is_some() {
        return Some("has a login in it");
    }
    if !matches!(url.scheme(), "http" | "https" | "ftp") {
        return Some("is on the machine that built the image");
    }
    match url.host() {
        Some(Host::Ipv4(ip)) if is_private(ip.into()) => Some("is a private address"),
        Some(Host::Ipv6(ip)) if is_private(ip.into()) => Some("is a private address"),
        Some(Host::Domain(name)) => {
            let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
            let private = PRIVATE.contains(&last) || !name.contains('.');
            private.then_some("is a name of a private network")
        }
        None => Some("has no host"),
        _ => None,
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

fn is_public(address: &str) -> bool {
    // Variables of dnf's in a host (`$awsregion`) leave its domain.
    let url = parsed(address);
    let Some(Host::Domain(host)) = url.as_ref().and_then(Url::host) else { return false };
    PUBLIC.iter().any(|domain| {
        host == *domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    })
}

#[cfg(test)]
pub(in crate::at_rest) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::Mutation;

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new(
            "the build's mirror",
            &["build-mirror"],
            "http://10.0.0.2/debian is a private",
            |e| {
                e.tree.write(
                    "/etc/apt/sources.list",
                    0o644,
                    "deb http://10.0.0.2/debian bookworm main\n",
                );
            },
        )
        .incident("image-builder issue 2007"),
        Mutation::new(
            "the build's mirror in paragraphs",
            &["build-mirror"],
            "debian.sources:3: http://mirror",
            |e| {
                let text = "# build\nTypes: deb\nURIs: http://mirror/debian\nSuites: bookworm\n";
                e.tree.write("/etc/apt/sources.list.d/debian.sources", 0o644, text);
            },
        )
        .incident("image-builder issue 2008"),
        Mutation::new(
            "a folder of the build",
            &["build-mirror"],
            "file:/var/repo is on the machine",
            |e| {
                e.tree.write(
                    "/etc/apt/sources.list.d/a.list",
                    0o644,
                    "deb [trusted=yes] file:/var/repo ./\n",
                );
            },
        ),
        Mutation::new(
            "a source that nobody signed",
            &["build-mirror"],
            "without a signature",
            |e| {
                let text =
                    "deb [ arch=amd64 trusted=yes ] https://deb.debian.org/debian bookworm main\n";
                e.tree.write("/etc/apt/sources.list.d/a.list", 0o644, text);
            },
        ),
        Mutation::new(
            "an archive that nobody declared",
            &["build-mirror"],
            "no archive of the distribution's",
            |e| {
                let text = "deb https://packages.example.com/apt stable main\n";
                e.tree.write("/etc/apt/sources.list.d/a.list", 0o644, text);
            },
        ),
        Mutation::new(
            "a bucket of somebody's",
            &["build-mirror"],
            "no archive of the distribution's",
            |e| {
                let text = "deb https://build.s3.amazonaws.com/apt stable main\n";
                e.tree.write("/etc/apt/sources.list.d/a.list", 0o644, text);
            },
        ),
        Mutation::new(
            "a repository of the build",
            &["build-mirror"],
            "build.repo:3: http://repo.corp",
            |e| {
                let text = "[build]\nname=build\nbaseurl=http://repo.corp/el9\n";
                e.tree.write("/etc/yum.repos.d/build.repo", 0o644, text);
            },
        ),
        Mutation::new("what is no address", &["build-mirror"], "is no address", |e| {
            e.tree.write("/etc/apt/sources.list", 0o644, "deb debian bookworm main\n");
        }),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    #[test]
    fn public_and_declared_archives_are_fine_and_what_is_switched_off_is_none() {
        let mut examined = sound(Family::Debian);
        let tree = &mut examined.tree;
        let lines = "# deb http://10.0.0.2/debian a main\ndeb [signed-by=/k] https://pkgs.k8s.io/core:/stable:/v1.30/deb/ /\n\
                     deb mirror+https://deb.debian.org/mirrors.txt bookworm main\n";
        tree.write("/etc/apt/sources.list", 0o644, lines);
        let paragraphs = "Types: deb\nURIs: https://deb.debian.org/debian\n https://security.debian.org/\n\n\
                          Enabled: no\nURIs: http://10.0.0.2/debian\n";
        tree.write("/etc/apt/sources.list.d/debian.sources", 0o644, paragraphs);
        tree.write("/etc/apt/sources.list.d/own.list", 0o644, "deb http://10.0.0.9/own ./\n");
        let sections = "[baseos]\nmirrorlist=https://mirrors.rockylinux.org/mirrorlist?arch=$basearch\n\
                        [off]\nbaseurl=http://10.0.0.2/el9\nenabled=0\n[amazon]\n\
                        baseurl=https://cdn.amazonlinux.com/al2023/$releasever\n";
        tree.write("/etc/yum.repos.d/rocky.repo", 0o644, sections);
        examined.expect.files.insert("/etc/apt/sources.list.d/own.list".into());
        let verdict = build_mirror(&examined).unwrap();
        assert!(
            matches!(&verdict, Verdict::Pass(seen) if seen.starts_with("6 places")),
            "{verdict:?}"
        );
    }

    #[test]
    fn without_claims_a_foreign_archive_is_not_proven() {
        let mut examined = sound(Family::Debian);
        examined.claimed = false;
        examined.tree.write(
            "/etc/apt/sources.list",
            0o644,
            "deb https://packages.example.com/ a b\n",
        );
        assert!(matches!(build_mirror(&examined).unwrap(), Verdict::NotProven(_)));
    }

    #[test]
    fn a_login_is_told_of_and_not_shown() {
        let mut examined = sound(Family::Debian);
        let list = "deb https://builder:hunter2@deb.debian.org/debian bookworm main\n";
        examined.tree.write("/etc/apt/sources.list", 0o644, list);
        let verdict = build_mirror(&examined).unwrap();
        let seen = verdict.seen();
        assert!(seen.contains("has a login") && !seen.contains("hunter2"), "{seen}");
    }
}

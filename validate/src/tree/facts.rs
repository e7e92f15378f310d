//! What a tree tells of its image, by which it is decided which rules are for it.

use std::collections::BTreeSet;
use std::rc::Rc;

use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Class, Result};

use super::packages::Packages;
use super::{Files as _, Tree};
use crate::metadata::Cloud;
use crate::rules::{Facts, Family, Software};

/// Words of os-release's `ID` and `ID_LIKE`, with the packages of the distributions that have them.
const FAMILIES: [(&str, Family); 14] = [
    ("debian", Family::Debian),
    ("ubuntu", Family::Debian),
    ("rhel", Family::Rpm),
    ("fedora", Family::Rpm),
    ("centos", Family::Rpm),
    ("rocky", Family::Rpm),
    ("almalinux", Family::Rpm),
    ("amzn", Family::Rpm),
    ("photon", Family::Rpm),
    ("azurelinux", Family::Rpm),
    ("mariner", Family::Rpm),
    ("suse", Family::Rpm),
    ("opensuse", Family::Rpm),
    ("sles", Family::Rpm),
];
/// Where an image names its Kubernetes: as nodekiln and image-builder write them.
const VERSION: &str = "/etc/kubernetes-version";
const RELEASE: &str = "/etc/image-builder-release";
/// Packages of Kubernetes, whose version is its own, and the programs in them.
const PACKAGES: [&str; 2] = ["kubelet", "kubeadm"];

impl Facts {
    /// What `tree` tells of an image that is judged for a machine of `cloud`.
    ///
    /// # Errors
    /// When a file of it cannot be read.
    pub fn of(tree: &Tree, cloud: Option<Cloud>) -> Result<Self> {
        // A database that is damaged or not read is for the rules on packages to tell.
        let packages = match tree.packages() {
            Err(failure) if matches!(failure.class(), Class::Input | Class::Unsupported) => {
                Rc::default()
            }
            packages => packages?,
        };
        Ok(Self {
            family: family(tree)?,
            kubernetes: kubernetes(tree, &packages)?,
            cloud,
            software: Some(software(tree)),
        })
    }
}

/// By os-release, and without one that is known by the database of packages.
fn family(tree: &Tree) -> Result<Option<Family>> {
    let release = match tree.text("/etc/os-release")? {
        None => tree.text("/usr/lib/os-release")?,
        found => found,
    };
    let release = release.unwrap_or_default();
    let value = |key: &str| {
        let value =
            release.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    let words = format!("{} {}", value("ID"), value("ID_LIKE"));
    let known = words.split_whitespace().find_map(|word| {
        let word = word.split('-').next()?;
        FAMILIES.iter().find(|(name, _)| *name == word).map(|(_, family)| *family)
    });
    let databases = [
        ("/var/lib/dpkg/status", Family::Debian),
        ("/usr/lib/sysimage/rpm", Family::Rpm),
        ("/var/lib/rpm", Family::Rpm),
    ];
    let by_database = || {
        databases.iter().find(|(path, _)| tree.resolve(path).is_some()).map(|(_, family)| *family)
    };
    Ok(known.or_else(by_database))
}

/// The version that the image states, or that of its packages, or the one linked into its programs.
fn kubernetes(tree: &Tree, packages: &Packages) -> Result<Option<Version>> {
    let stated = tree.text(VERSION)?.and_then(|text| parsed(&text));
    let release = tree.text(RELEASE)?.unwrap_or_default();
    let line = || release.lines().find_map(|line| line.strip_prefix("KUBERNETES_VERSION="));
    let of_release = || parsed(line()?.trim_matches(['"', '\'']));
    let of_packages = || PACKAGES.iter().find_map(|name| parsed(&packages.named(name)?.version));
    match stated.or_else(of_release).or_else(of_packages) {
        None => linked(tree),
        known => Ok(known),
    }
}

/// The one version that the linker wrote into the kubelet or kubeadm, where they came as plain programs.
fn linked(tree: &Tree) -> Result<Option<Version>> {
    for path in PACKAGES.iter().filter_map(|name| tree.kubernetes_program(name)) {
        let versions = match tree.linked_versions(&path) {
            // A program that is damaged is for the rule on its version to tell.
            Err(failure) if matches!(failure.class(), Class::Input | Class::Unsupported) => {
                continue;
            }
            versions => versions?,
        };
        if let [version] = versions.iter().copied().collect::<Vec<_>>()[..] {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

/// The version at the start of `v1.30.2`, `1.30.2-1.1` or `0:1.30.2-150500.1.1`.
fn parsed(text: &str) -> Option<Version> {
    let text = text.trim();
    let text = text.split_once(':').map_or(text, |(_, version)| version).trim_start_matches('v');
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text[..end].parse().ok()
}

fn software(tree: &Tree) -> BTreeSet<Software> {
    let program = |name: &str| tree.kubernetes_program(name).is_some();
    let found = [
        (Software::Kubernetes, program("kubelet") || program("kubeadm")),
        (Software::Containerd, program("containerd")),
        (Software::CloudInit, program("cloud-init") || is_there(tree, "/etc/cloud/cloud.cfg")),
        (Software::SshServer, program("sshd")),
        (
            Software::Systemd,
            is_there(tree, "/usr/lib/systemd/systemd") || is_there(tree, "/lib/systemd/systemd"),
        ),
    ];
    found.into_iter().filter(|(_, there)| *there).map(|(software, _)| software).collect()
}

fn is_there(tree: &Tree, path: &str) -> bool {
    tree.exists(path).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(files: &[(&str, &str)]) -> Facts {
        let mut tree = Tree::default();
        for (path, text) in files {
            tree.write(path, 0o755, text);
        }
        Facts::of(&tree, None).unwrap()
    }

    #[test]
    fn a_distribution_is_told_by_its_own_name_or_by_whom_it_is_like() {
        let family = |text: &str| facts(&[("/etc/os-release", text)]).family;
        assert_eq!(family("ID=debian\n"), Some(Family::Debian));
        assert_eq!(family("ID=pop\nID_LIKE=\"ubuntu debian\"\n"), Some(Family::Debian));
        assert_eq!(family("ID=\"ol\"\nID_LIKE=\"fedora\"\n"), Some(Family::Rpm));
        assert_eq!(family("ID=\"opensuse-leap\"\n"), Some(Family::Rpm));
        assert_eq!(family("ID=flatcar\nID_LIKE=coreos\n"), None);
        let unnamed = facts(&[("/var/lib/rpm/Packages", "x"), ("/usr/lib/os-release", "ID=own\n")]);
        assert_eq!(unnamed.family, Some(Family::Rpm));
    }

    #[test]
    fn a_version_is_what_the_image_states_before_its_packages() {
        let status = "Package: kubelet\nStatus: install ok installed\nVersion: 1.30.2-1.1\n";
        let version = |files: &[(&str, &str)]| facts(files).kubernetes.map(|v| v.to_string());
        let packages = ("/var/lib/dpkg/status", status);
        assert_eq!(version(&[packages]).as_deref(), Some("1.30.2"));
        assert_eq!(version(&[packages, (VERSION, "v1.20.2\n")]).as_deref(), Some("1.20.2"));
        let release = (RELEASE, "A=b\nKUBERNETES_VERSION=\"v1.36.1\"\n");
        assert_eq!(version(&[packages, release]).as_deref(), Some("1.36.1"));
        assert_eq!(version(&[(VERSION, "latest\n")]), None);
    }

    #[test]
    fn plain_programs_tell_the_version_that_is_linked_into_them() {
        let version = |files: &[(&str, &str)]| facts(files).kubernetes.map(|v| v.to_string());
        for path in ["/usr/bin/kubelet", "/usr/local/bin/kubeadm", "/opt/bin/kubelet"] {
            assert_eq!(version(&[(path, "\0v1.33.4\0")]).as_deref(), Some("1.33.4"), "{path}");
        }
        let kubelet = ("/usr/bin/kubelet", "\0v1.33.4\0");
        assert_eq!(version(&[kubelet, (VERSION, "v1.20.2\n")]).as_deref(), Some("1.20.2"));
        // One that tells nothing, or two things, leaves the word to the other.
        for silent in ["elf", "\0v1.33.4\0v1.33.5\0"] {
            let files = [("/usr/bin/kubelet", silent), ("/opt/bin/kubeadm", "\0v1.32.0\0")];
            assert_eq!(version(&files).as_deref(), Some("1.32.0"), "{silent:?}");
        }
        assert_eq!(version(&[("/usr/bin/kubelet", "elf")]), None);
    }

    #[test]
    fn software_is_what_can_be_started() {
        let tree = [
            ("/usr/bin/kubelet", "elf"),
            ("/usr/sbin/sshd", "elf"),
            ("/usr/lib/systemd/systemd", "elf"),
        ];
        let software = facts(&tree).software.unwrap();
        let all = [Software::Kubernetes, Software::SshServer, Software::Systemd];
        assert_eq!(software, all.into());
        assert_eq!(facts(&[]).software, Some(BTreeSet::new()));
    }
}

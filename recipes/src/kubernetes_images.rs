//! The images of a control plane that kubeadm asks for, by its version.
//!
//! The list is a pure function of kubeadm's version, and of its patch release too, since etcd and pause moved
//! within minors. It is known here for the versions whose source was read; for any other nobody but its kubeadm
//! can tell.

use crate::recipe::Version;

/// Images made from the Kubernetes binary of the same name.
pub const KUBERNETES_IMAGES: [&str; 4] =
    ["kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler"];

/// The tags of the images that are not Kubernetes' own, as kubeadm of some version has them.
struct Tags {
    /// The minor version that has them in every patch release known here.
    minor: u32,
    /// `DefaultImageRepository` of cmd/kubeadm/app/apis/kubeadm/v1beta2/defaults.go.
    repository: &'static str,
    pause: &'static str,
    etcd: &'static str,
    coredns: &'static str,
}

/// Source: cmd/kubeadm/app/constants/constants.go of the version (`PauseVersion`, `DefaultEtcdVersion`,
/// `CoreDNSVersion`); for 1.20 that of Debian's source package 1.20.2.
const TAGS: [Tags; 1] = [Tags {
    minor: 20,
    repository: "k8s.gcr.io",
    pause: "3.2",
    etcd: "3.4.13-0",
    coredns: "1.7.0",
}];

/// Registries under which kubeadm puts CoreDNS into a folder of its own, from 1.21 on (kubernetes#101160,
/// cmd/kubeadm/app/images/images.go).
const DEFAULT_REPOSITORIES: [&str; 2] = ["k8s.gcr.io", "registry.k8s.io"];

/// Where kubeadm of `version` takes its images from when nobody says; nothing where the version is not in the table.
#[must_use]
pub fn default_repository(version: Version) -> Option<&'static str> {
    tags(version).map(|tags| tags.repository)
}

/// References of the images that kubeadm of `version` asks for below `repository`; nothing where the version is
/// not in the table.
#[must_use]
pub fn listed(version: Version, repository: &str) -> Option<Vec<String>> {
    let tags = tags(version)?;
    let own = KUBERNETES_IMAGES.iter().map(|name| format!("{repository}/{name}:v{version}"));
    let coredns = format!("{}:{}", coredns_name(version, repository), tags.coredns);
    let etcd = format!("{repository}/etcd:{}", tags.etcd);
    Some(own.chain([etcd, coredns]).chain(pause(version, repository)).collect())
}

/// The sandbox image that kubeadm of `version` names below `repository`; nothing where the version is not in the
/// table.
#[must_use]
pub fn pause(version: Version, repository: &str) -> Option<String> {
    Some(format!("{repository}/pause:{}", tags(version)?.pause))
}

fn tags(version: Version) -> Option<&'static Tags> {
    TAGS.iter().find(|tags| (1, tags.minor) == (version.major, version.minor))
}

fn coredns_name(version: Version, repository: &str) -> String {
    if version.minor > 20 && DEFAULT_REPOSITORIES.contains(&repository) {
        format!("{repository}/coredns/coredns")
    } else {
        format!("{repository}/coredns")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version = Version { major: 1, minor: 20, patch: 2 };

    #[test]
    fn what_is_not_in_the_table_is_not_guessed() {
        let later = Version { minor: 31, ..VERSION };
        assert_eq!(listed(later, "registry.k8s.io"), None);
        assert_eq!(pause(later, "registry.k8s.io"), None);
        assert_eq!(default_repository(later), None);
        assert_eq!(default_repository(VERSION), Some("k8s.gcr.io"));
        assert_eq!(pause(VERSION, "k8s.gcr.io").as_deref(), Some("k8s.gcr.io/pause:3.2"));
    }

    #[test]
    fn coredns_has_a_folder_in_default_registries_only() {
        let later = Version { minor: 31, ..VERSION };
        assert_eq!(coredns_name(later, "registry.k8s.io"), "registry.k8s.io/coredns/coredns");
        assert_eq!(coredns_name(later, "mirror.example/k8s"), "mirror.example/k8s/coredns");
        assert_eq!(coredns_name(VERSION, "k8s.gcr.io"), "k8s.gcr.io/coredns");
    }
}

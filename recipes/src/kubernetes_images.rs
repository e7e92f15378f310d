//! The images of a control plane that kubeadm asks for, by its version.
//!
//! The list is a pure function of kubeadm's version, and of its patch release too, since etcd and CoreDNS moved
//! within minors. Where it is not certain which tag a patch release has, that is said of the one image; of a minor
//! version that is not in the table nobody but its kubeadm can tell.

use crate::recipe::Version;

/// Images made from the Kubernetes binary of the same name.
pub const KUBERNETES_IMAGES: [&str; 4] =
    ["kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler"];

/// What kubeadm of some version asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// References whose tags are known.
    pub names: Vec<String>,
    /// Names without a tag, of those whose tag is not certain for this patch release.
    pub open: Vec<String>,
}

/// Tags by the first patch release that has them; nothing where it is not certain from that release on.
type Moves = &'static [(u32, Option<&'static str>)];

/// The tags of the images that are not Kubernetes' own, as kubeadm of some minor version has them.
struct Tags {
    minor: u32,
    pause: Moves,
    etcd: Moves,
    coredns: Moves,
}

const fn since(patch: u32, tag: &'static str) -> (u32, Option<&'static str>) {
    (patch, Some(tag))
}

const fn uncertain(patch: u32) -> (u32, Option<&'static str>) {
    (patch, None)
}

/// Source: `PauseVersion`, `DefaultEtcdVersion` and `CoreDNSVersion` of cmd/kubeadm/app/constants/constants.go; for 1.20
/// that of Debian's source package 1.20.2, for patch releases of 1.21 to 1.31 as minikube keeps them
/// (pkg/minikube/constants/constants_kubeadm_images.go), for later ones what `kubeadm config images list` printed in
/// public: 1.31.14, 1.32.13, 1.33.0 and .3, 1.34.0 and .10, 1.35.0, 1.36.4; and the manifests of 1.33.7, 1.34.3 and
/// 1.35.8. A tag holds between two releases that have it; kubernetes#135018 to #135020 moved etcd in between.
const TAGS: [Tags; 17] = [
    Tags {
        minor: 20,
        pause: &[since(0, "3.2")],
        etcd: &[since(0, "3.4.13-0")],
        coredns: &[since(0, "1.7.0")],
    },
    Tags {
        minor: 21,
        pause: &[since(0, "3.4.1")],
        etcd: &[since(0, "3.4.13-0")],
        coredns: &[since(0, "v1.8.0")],
    },
    Tags {
        minor: 22,
        pause: &[since(0, "3.5")],
        etcd: &[since(0, "3.5.0-0"), since(17, "3.5.6-0")],
        coredns: &[since(0, "v1.8.4")],
    },
    Tags {
        minor: 23,
        pause: &[since(0, "3.6")],
        etcd: &[since(0, "3.5.1-0"), since(14, "3.5.5-0"), since(15, "3.5.6-0")],
        coredns: &[since(0, "v1.8.6")],
    },
    Tags {
        minor: 24,
        pause: &[since(0, "3.7")],
        etcd: &[since(0, "3.5.3-0"), since(8, "3.5.5-0"), since(9, "3.5.6-0")],
        coredns: &[since(0, "v1.8.6")],
    },
    Tags {
        minor: 25,
        pause: &[since(0, "3.8")],
        etcd: &[
            since(0, "3.5.4-0"),
            since(4, "3.5.5-0"),
            since(5, "3.5.6-0"),
            since(15, "3.5.9-0"),
        ],
        coredns: &[since(0, "v1.9.3")],
    },
    Tags {
        minor: 26,
        pause: &[since(0, "3.9")],
        etcd: &[since(0, "3.5.6-0"), since(10, "3.5.9-0"), since(13, "3.5.10-0")],
        coredns: &[since(0, "v1.9.3")],
    },
    Tags {
        minor: 27,
        pause: &[since(0, "3.9")],
        etcd: &[
            since(0, "3.5.7-0"),
            since(7, "3.5.9-0"),
            since(10, "3.5.10-0"),
            since(12, "3.5.12-0"),
        ],
        coredns: &[since(0, "v1.10.1")],
    },
    Tags {
        minor: 28,
        pause: &[since(0, "3.9")],
        etcd: &[
            since(0, "3.5.9-0"),
            since(6, "3.5.10-0"),
            since(8, "3.5.12-0"),
            since(14, "3.5.15-0"),
        ],
        coredns: &[since(0, "v1.10.1")],
    },
    Tags {
        minor: 29,
        pause: &[since(0, "3.9")],
        etcd: &[since(0, "3.5.10-0"), since(3, "3.5.12-0"), since(9, "3.5.15-0"), uncertain(11)],
        coredns: &[since(0, "v1.11.1"), uncertain(11)],
    },
    Tags {
        minor: 30,
        pause: &[since(0, "3.9")],
        etcd: &[since(0, "3.5.12-0"), since(5, "3.5.15-0"), uncertain(9)],
        coredns: &[since(0, "v1.11.1"), since(5, "v1.11.3"), uncertain(7)],
    },
    Tags {
        minor: 31,
        pause: &[since(0, "3.10")],
        etcd: &[since(0, "3.5.15-0"), uncertain(3), since(14, "3.5.24-0")],
        coredns: &[since(0, "v1.11.1"), since(1, "v1.11.3")],
    },
    Tags {
        minor: 32,
        pause: &[since(0, "3.10")],
        etcd: &[since(0, "3.5.16-0"), uncertain(1), since(13, "3.5.24-0"), uncertain(14)],
        coredns: &[since(0, "v1.11.3"), uncertain(14)],
    },
    Tags {
        minor: 33,
        pause: &[since(0, "3.10")],
        etcd: &[since(0, "3.5.21-0"), uncertain(4), since(7, "3.5.24-0"), uncertain(8)],
        coredns: &[since(0, "v1.12.0"), uncertain(8)],
    },
    Tags {
        minor: 34,
        pause: &[since(0, "3.10.1")],
        etcd: &[since(0, "3.6.4-0"), uncertain(1), since(3, "3.6.5-0"), uncertain(11)],
        coredns: &[since(0, "v1.12.1"), uncertain(11)],
    },
    Tags {
        minor: 35,
        pause: &[since(0, "3.10.1")],
        etcd: &[since(0, "3.6.6-0"), uncertain(9)],
        coredns: &[since(0, "v1.13.1"), uncertain(3)],
    },
    Tags {
        minor: 36,
        pause: &[uncertain(0), since(3, "3.10.2")],
        etcd: &[uncertain(0), since(3, "3.6.8-0"), uncertain(5)],
        coredns: &[uncertain(0), since(3, "v1.14.2"), uncertain(5)],
    },
];

/// Registries under which kubeadm puts CoreDNS into a folder of its own, from 1.21 on (kubernetes#101160,
/// cmd/kubeadm/app/images/images.go).
const DEFAULT_REPOSITORIES: [&str; 2] = ["k8s.gcr.io", "registry.k8s.io"];

/// Where kubeadm of `version` takes its images from when nobody says: registry.k8s.io from 1.25 on, and from some patch
/// release of the three minor versions before (kubernetes/kubeadm#2671, kubernetes#113393 and #113395).
#[must_use]
pub fn default_repository(version: Version) -> &'static str {
    let first_patch = match (version.major, version.minor) {
        (0, _) | (1, ..22) => u32::MAX,
        (1, 22) => 17,
        (1, 23) => 15,
        (1, 24) => 9,
        _ => 0,
    };
    if version.patch < first_patch { "k8s.gcr.io" } else { "registry.k8s.io" }
}

/// The images that kubeadm of `version` asks for below `repository`, and which of their tags are not certain; nothing
/// where the minor version is not in the table.
#[must_use]
pub fn listing(version: Version, repository: &str) -> Option<Listing> {
    let tags = tags(version)?;
    let own = KUBERNETES_IMAGES.iter().map(|name| format!("{repository}/{name}:v{version}"));
    let mut listing = Listing { names: own.collect(), open: Vec::new() };
    for (name, moves) in [
        (format!("{repository}/etcd"), tags.etcd),
        (coredns_name(version, repository), tags.coredns),
        (format!("{repository}/pause"), tags.pause),
    ] {
        match tag(moves, version.patch) {
            Some(tag) => listing.names.push(format!("{name}:{tag}")),
            None => listing.open.push(name),
        }
    }
    Some(listing)
}

/// References of the images that kubeadm of `version` asks for below `repository`; nothing where one of them is not
/// certain.
#[must_use]
pub fn listed(version: Version, repository: &str) -> Option<Vec<String>> {
    let Listing { names, open } = listing(version, repository)?;
    open.is_empty().then_some(names)
}

/// The sandbox image that kubeadm of `version` names below `repository`; nothing where that is not certain.
#[must_use]
pub fn pause(version: Version, repository: &str) -> Option<String> {
    Some(format!("{repository}/pause:{}", tag(tags(version)?.pause, version.patch)?))
}

fn tags(version: Version) -> Option<&'static Tags> {
    TAGS.iter().find(|tags| (1, tags.minor) == (version.major, version.minor))
}

/// The tag that patch release `patch` has.
fn tag(moves: Moves, patch: u32) -> Option<&'static str> {
    moves.iter().rfind(|(first, _)| *first <= patch)?.1
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

    fn of(minor: u32, patch: u32) -> Version {
        Version { minor, patch, ..VERSION }
    }

    #[test]
    fn what_is_not_in_the_table_is_not_guessed() {
        for version in [of(19, 0), of(37, 0), Version { major: 2, ..VERSION }] {
            assert_eq!(listing(version, "registry.k8s.io"), None);
            assert_eq!(pause(version, "registry.k8s.io"), None);
        }
        assert_eq!(pause(VERSION, "k8s.gcr.io").as_deref(), Some("k8s.gcr.io/pause:3.2"));
    }

    #[test]
    fn each_patch_release_has_its_own_tags() {
        for (version, etcd, coredns, pause) in [
            (of(20, 15), "3.4.13-0", ":1.7.0", "3.2"),
            (of(22, 16), "3.5.0-0", "/coredns:v1.8.4", "3.5"),
            (of(22, 17), "3.5.6-0", "/coredns:v1.8.4", "3.5"),
            (of(28, 5), "3.5.9-0", "/coredns:v1.10.1", "3.9"),
            (of(28, 13), "3.5.12-0", "/coredns:v1.10.1", "3.9"),
            (of(30, 4), "3.5.12-0", "/coredns:v1.11.1", "3.9"),
            (of(30, 5), "3.5.15-0", "/coredns:v1.11.3", "3.9"),
            (of(31, 14), "3.5.24-0", "/coredns:v1.11.3", "3.10"),
            (of(33, 3), "3.5.21-0", "/coredns:v1.12.0", "3.10"),
            (of(34, 10), "3.6.5-0", "/coredns:v1.12.1", "3.10.1"),
            (of(35, 2), "3.6.6-0", "/coredns:v1.13.1", "3.10.1"),
            (of(36, 4), "3.6.8-0", "/coredns:v1.14.2", "3.10.2"),
        ] {
            let repository = default_repository(version);
            let names = listed(version, repository).unwrap();
            let kubernetes =
                KUBERNETES_IMAGES.map(|name| format!("{repository}/{name}:v{version}"));
            let others = [
                format!("{repository}/etcd:{etcd}"),
                format!("{repository}/coredns{coredns}"),
                format!("{repository}/pause:{pause}"),
            ];
            assert_eq!(names, [kubernetes.as_slice(), &others].concat(), "{version}");
        }
    }

    #[test]
    fn a_tag_that_is_not_certain_is_open_and_the_others_are_not() {
        let Listing { names, open } = listing(of(33, 6), "registry.k8s.io").unwrap();
        assert_eq!(open, ["registry.k8s.io/etcd"]);
        assert_eq!(names.len(), 6);
        assert_eq!(listed(of(33, 6), "registry.k8s.io"), None);
        assert_eq!(listing(of(36, 0), "registry.k8s.io").unwrap().open.len(), 3);
        assert_eq!(pause(of(36, 0), "registry.k8s.io"), None);
    }

    #[test]
    fn the_table_is_sorted_and_its_minors_follow_each_other() {
        for (tags, minor) in TAGS.iter().zip(20..) {
            assert_eq!(tags.minor, minor);
            for moves in [tags.pause, tags.etcd, tags.coredns] {
                assert_eq!(moves.first().map(|(patch, _)| *patch), Some(0), "1.{minor}");
                assert!(moves.windows(2).all(|pair| pair[0].0 < pair[1].0), "1.{minor}");
                assert!(moves.windows(2).all(|pair| pair[0].1 != pair[1].1), "1.{minor}");
            }
        }
    }

    #[test]
    fn the_registry_moved_within_three_minors() {
        for (minor, last_old) in [(22, 16), (23, 14), (24, 8)] {
            assert_eq!(default_repository(of(minor, last_old)), "k8s.gcr.io");
            assert_eq!(default_repository(of(minor, last_old + 1)), "registry.k8s.io");
        }
        for old in [of(9, 0), VERSION, of(21, 99)] {
            assert_eq!(default_repository(old), "k8s.gcr.io");
        }
        for new in [of(25, 0), of(36, 1), Version { major: 2, minor: 0, patch: 0 }] {
            assert_eq!(default_repository(new), "registry.k8s.io");
        }
    }

    #[test]
    fn coredns_has_a_folder_in_default_registries_only() {
        let later = of(31, 0);
        assert_eq!(coredns_name(later, "registry.k8s.io"), "registry.k8s.io/coredns/coredns");
        assert_eq!(coredns_name(later, "mirror.example/k8s"), "mirror.example/k8s/coredns");
        assert_eq!(coredns_name(VERSION, "k8s.gcr.io"), "k8s.gcr.io/coredns");
    }
}

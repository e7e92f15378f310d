//! Which modes the CIS benchmark for Kubernetes asks for, by the version of Kubernetes.

use nodekiln_recipes::recipe::Version;

/// An edition of the benchmark and the modes it asks for.
pub(crate) struct Edition {
    /// As kube-bench names it.
    pub(crate) name: &'static str,
    /// Of the kubelet's files, kubeconfigs, configuration and static pods.
    pub(crate) files: u32,
    /// Of the certificate authority's file.
    pub(crate) authority: u32,
}

/// Editions by the first minor version of Kubernetes that they are for (kube-bench, `version_mapping`).
const EDITIONS: [(u32, Edition); 9] = [
    (0, Edition { name: "cis-1.20", files: 0o644, authority: 0o644 }),
    (22, Edition { name: "cis-1.23", files: 0o644, authority: 0o644 }),
    (24, Edition { name: "cis-1.24", files: 0o600, authority: 0o600 }),
    (25, Edition { name: "cis-1.7", files: 0o600, authority: 0o600 }),
    (26, Edition { name: "cis-1.8", files: 0o600, authority: 0o600 }),
    (27, Edition { name: "cis-1.9", files: 0o600, authority: 0o600 }),
    (28, Edition { name: "cis-1.10", files: 0o600, authority: 0o600 }),
    (29, Edition { name: "cis-1.11", files: 0o600, authority: 0o644 }),
    (32, Edition { name: "cis-1.12", files: 0o600, authority: 0o644 }),
];

/// What packages give a unit file, and the most that no edition lets pass.
pub(crate) const PACKAGED: u32 = 0o644;

/// The edition for `version`: the newest that is known of a minor version which none is for yet.
pub(crate) fn edition(version: Version) -> &'static Edition {
    let fits = EDITIONS.iter().rev().find(|(first, _)| *first <= version.minor);
    &fits.unwrap_or(&EDITIONS[0]).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editions_go_with_minor_versions() {
        let name = |minor| edition(Version { major: 1, minor, patch: 0 }).name;
        let told = [
            (18, "cis-1.20"),
            (21, "cis-1.20"),
            (23, "cis-1.23"),
            (24, "cis-1.24"),
            (28, "cis-1.10"),
            (31, "cis-1.11"),
            (34, "cis-1.12"),
            (40, "cis-1.12"),
        ];
        for (minor, expected) in told {
            assert_eq!(name(minor), expected, "{minor}");
        }
        assert!(EDITIONS.is_sorted_by_key(|(first, _)| first));
    }
}

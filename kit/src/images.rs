//! The container images that the specs of [`FOCUS`](crate::FOCUS) run, by minor version.

use std::collections::BTreeMap;

/// An image of the suite's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed {
    /// The minor version whose suite names it so.
    pub minor: u32,
    /// The key of `KUBE_TEST_REPO_LIST` that moves its registry.
    pub key: &'static str,
    /// Its registry and path, where nobody moved it.
    pub registry: &'static str,
    /// Its name below that.
    pub name: &'static str,
    /// Its tag.
    pub tag: &'static str,
}

/// Source: test/utils/image/manifest.go of Kubernetes 1.20.2, and which of them the specs use (test/e2e/common,
/// test/e2e_node). The five specs that pull from registries take others too; they cannot be judged offline.
const TABLE: [Needed; 7] = [
    needed("promoterE2eRegistry", "k8s.gcr.io/e2e-test-images", "agnhost", "2.21"),
    needed("dockerLibraryRegistry", "docker.io/library", "busybox", "1.29"),
    needed("dockerLibraryRegistry", "docker.io/library", "httpd", "2.4.38-alpine"),
    needed("dockerLibraryRegistry", "docker.io/library", "nginx", "1.14-alpine"),
    needed("e2eRegistry", "gcr.io/kubernetes-e2e-test-images", "nonewprivs", "1.0"),
    needed("e2eRegistry", "gcr.io/kubernetes-e2e-test-images", "nonroot", "1.0"),
    needed("gcRegistry", "k8s.gcr.io", "pause", "3.2"),
];

const fn needed(
    key: &'static str,
    registry: &'static str,
    name: &'static str,
    tag: &'static str,
) -> Needed {
    Needed { minor: 20, key, registry, name, tag }
}

impl Needed {
    /// Its whole reference.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}/{}:{}", self.registry, self.name, self.tag)
    }
}

/// The images that the suite of minor version `minor` needs; nothing where its list was not read.
#[must_use]
pub fn of(minor: u32) -> Vec<Needed> {
    TABLE.iter().filter(|needed| needed.minor == minor).copied().collect()
}

/// What `KUBE_TEST_REPO_LIST` says of the registries of `images`.
#[must_use]
pub fn repositories(images: &[Needed]) -> BTreeMap<String, String> {
    images.iter().map(|needed| (needed.key.to_owned(), needed.registry.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_for_one_registry() {
        for one in of(20) {
            for other in of(20).iter().filter(|other| other.key == one.key) {
                assert_eq!(one.registry, other.registry);
            }
        }
        let references: Vec<String> = of(20).iter().map(Needed::reference).collect();
        assert!(references.contains(&"k8s.gcr.io/e2e-test-images/agnhost:2.21".to_owned()));
        assert_eq!(repositories(&of(20)).len(), 4);
        assert!(of(36).is_empty());
    }
}

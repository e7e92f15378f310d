//! What an image claims about itself: the side against which the booted guest is judged.
//!
//! The claims come from the `manifest.json` that a build leaves beside its artifact. Without it the
//! rules that compare say "skipped" and name the missing claim; they never pass on its absence.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Class, Result, ResultExt as _, Sha256};
use serde::{Deserialize, Serialize};

/// What the booted guest is compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expectations {
    /// Version of kubeadm and kubelet.
    pub kubernetes: Option<Version>,
    /// Registry and path in front of the control-plane images' names, such as `registry.k8s.io`.
    pub image_repository: Option<String>,
    /// Version of containerd, such as `1.6.20`; the guest's may have a distribution's suffix.
    pub containerd: Option<String>,
    /// Kernel settings by key in dotted form.
    pub sysctls: BTreeMap<String, String>,
    /// Kernel modules that are loaded at boot.
    pub modules: Vec<String>,
    /// Preloaded container images: manifest digest by reference.
    pub images: BTreeMap<String, Sha256>,
    /// Images that kubeadm lists and that could not be had, with the reason of each.
    pub unavailable_images: BTreeMap<String, String>,
    /// Image of the pod that the kubeadm tier schedules; `None` takes the preloaded etcd.
    pub pod_image: Option<String>,
    /// Accounts besides those that packages bring, by name.
    pub users: BTreeMap<String, User>,
    /// Files and links that were written on purpose: what is at these paths is no residue.
    pub files: BTreeSet<String>,
}

/// An account that the image should have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// Its home directory.
    pub home: String,
    /// Whether somebody may log in to it by keys that the image has.
    pub keys: bool,
}

/// The part of a build's `manifest.json` that is read here.
#[derive(Deserialize)]
struct Manifest {
    expect: Expectations,
}

impl Expectations {
    /// Reads the claims from the manifest at `path`; what else it says is left alone.
    ///
    /// # Errors
    /// When the file cannot be read, makes no claims, or one has the wrong form.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs_err::read(path).or_io(|| format!("read claims from {}", path.display()))?;
        let manifest: Manifest = serde_json::from_slice(&text).or_fail(Class::Input, || {
            format!("{} does not hold an image's claims", path.display())
        })?;
        Ok(manifest.expect)
    }

    /// The image that the kubeadm tier runs as a pod of its own: a server that is preloaded anyway.
    #[must_use]
    pub fn pod_image(&self) -> Option<&str> {
        let is_etcd = |reference: &&String| name_of(reference) == "etcd";
        self.pod_image.as_deref().or_else(|| self.images.keys().find(is_etcd).map(String::as_str))
    }

    /// Why the image called `name` (`coredns`, …) is not in the store, if it is known not to be.
    #[must_use]
    pub fn unavailable(&self, name: &str) -> Option<&str> {
        let found =
            self.unavailable_images.iter().find(|(reference, _)| name_of(reference) == name);
        found.map(|(_, reason)| reason.as_str())
    }
}

/// The last path component of an image reference without tag or digest.
#[must_use]
pub fn name_of(reference: &str) -> &str {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    last.split(['@', ':']).next().unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_registry_tag_and_digest() {
        assert_eq!(name_of("k8s.gcr.io/etcd:3.4.13-0"), "etcd");
        assert_eq!(name_of("localhost:5000/a/coredns@sha256:00"), "coredns");
        assert_eq!(name_of("pause"), "pause");
    }

    #[test]
    fn the_pod_image_is_the_preloaded_etcd_unless_one_is_named() {
        let mut expect = Expectations::default();
        assert_eq!(expect.pod_image(), None);
        expect.images.insert("r/kube-proxy:v1".into(), Sha256::of("p"));
        expect.images.insert("r/etcd:3".into(), Sha256::of("e"));
        assert_eq!(expect.pod_image(), Some("r/etcd:3"));
        expect.pod_image = Some("r/server:1".into());
        assert_eq!(expect.pod_image(), Some("r/server:1"));
    }

    #[test]
    fn claims_are_read_from_a_manifest_and_its_other_keys_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        let manifest = r#"{"schema":"nodekiln/manifest-1","kubernetes":"1.20.2 from sources","artifacts":[],
            "expect":{"kubernetes":"1.20.2","modules":["overlay"],
            "users":{"alice":{"home":"/home/alice","keys":true}},"files":["/etc/crictl.yaml"]}}"#;
        fs_err::write(&path, manifest).unwrap();
        let expect = Expectations::read(&path).unwrap();
        assert_eq!(expect.kubernetes.unwrap().to_string(), "1.20.2");
        assert_eq!(expect.modules, ["overlay"]);
        assert!(expect.users["alice"].keys && expect.files.contains("/etc/crictl.yaml"));
        for wrong in [r#"{"expect":{"kubernetes":"latest"}}"#, r#"{"kubernetes":"1.20.2"}"#] {
            fs_err::write(&path, wrong).unwrap();
            assert_eq!(Expectations::read(&path).unwrap_err().class(), Class::Input, "{wrong}");
        }
    }
}

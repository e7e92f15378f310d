//! The names and tags by which Cluster API's providers, and people, look images up: those that
//! image-builder gives.

use std::collections::BTreeMap;

use crate::{ArtifactRequest, ImageFacts};

impl ImageFacts {
    /// The system as AMI names have it: `debian-12`, `ubuntu-24.04`.
    #[must_use]
    pub fn system(&self) -> String {
        format!("{}-{}", self.distribution, self.distribution_version)
    }

    /// The system where a name may have no dots: `debian-12`, `ubuntu-2404`.
    #[must_use]
    pub fn system_without_dots(&self) -> String {
        self.system().replace('.', "")
    }

    /// Version of Kubernetes without the leading `v`.
    #[must_use]
    pub fn kubernetes_number(&self) -> Option<&str> {
        let version = self.kubernetes.as_deref()?;
        Some(version.strip_prefix('v').unwrap_or(version))
    }

    /// What tags and labels say of the image; `created` is in seconds since 1970.
    #[must_use]
    pub fn tags(&self, created: u64) -> BTreeMap<String, String> {
        let always = [
            ("arch", Some(self.architecture.clone())),
            ("build_timestamp", Some(created.to_string())),
            ("containerd_version", self.containerd.clone()),
            ("distribution", Some(self.distribution.clone())),
            ("distribution_version", Some(self.distribution_version.clone())),
            ("kubernetes_cni_version", self.cni.clone().map(|version| format!("v{version}"))),
            ("kubernetes_version", self.kubernetes.clone()),
        ];
        always.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

impl ArtifactRequest {
    /// The name of a template, OVA or image file: `debian-12-kube-v1.36.1`, or the image's own where it has
    /// no Kubernetes.
    #[must_use]
    pub fn template_name(&self) -> String {
        match &self.facts.kubernetes {
            Some(version) => format!("{}-kube-{version}", self.facts.system_without_dots()),
            None => self.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_called_as_image_builder_calls_them() {
        let facts = ImageFacts {
            distribution: "ubuntu".to_owned(),
            distribution_version: "24.04".to_owned(),
            kubernetes: Some("v1.36.0".to_owned()),
            ..ImageFacts::default()
        };
        let mut request =
            ArtifactRequest { name: "node".to_owned(), facts, ..ArtifactRequest::default() };
        assert_eq!(request.template_name(), "ubuntu-2404-kube-v1.36.0");
        assert_eq!(request.facts.kubernetes_number(), Some("1.36.0"));
        request.facts.kubernetes = None;
        assert_eq!(request.template_name(), "node");
    }

    #[test]
    fn what_is_not_known_has_no_tag() {
        let tags = ImageFacts { cni: Some("1.1.1".to_owned()), ..ImageFacts::default() }.tags(7);
        let keys: Vec<&str> = tags.keys().map(String::as_str).collect();
        let expected = [
            "arch",
            "build_timestamp",
            "distribution",
            "distribution_version",
            "kubernetes_cni_version",
        ];
        assert_eq!(keys, expected);
        assert_eq!(tags["kubernetes_cni_version"], "v1.1.1");
    }
}

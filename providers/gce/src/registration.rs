//! An image as Compute Engine's `images.insert` takes it.

use std::collections::BTreeMap;

use nodekiln_providers::{ArtifactRequest, BootMode};
use nodekiln_words::Bytes;
use serde::{Deserialize, Serialize};

/// Longest name of a resource, and longest value of a label.
const LONGEST: usize = 63;

/// The body of `POST …/global/images`, but for the address of the archive, which there is once it lies in a
/// bucket (`rawDisk.source`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InsertImage {
    /// `cluster-api-OS-VERSION-vKUBERNETES-TIMESTAMP`, with dashes for dots.
    pub name: String,
    /// Words for people.
    pub description: String,
    /// `capi-OS-VERSION-k8s-vMAJOR-MINOR`: Cluster API's provider takes the newest image of a family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// `X86_64` or `ARM64`.
    pub architecture: String,
    /// Size of the disk in GiB; the service takes 64-bit numbers as text.
    pub disk_size_gb: String,
    /// What machines may have.
    pub guest_os_features: Vec<GuestFeature>,
    /// The archive.
    pub raw_disk: RawDisk,
    /// Labels: lower-case letters, digits, `_` and `-`.
    pub labels: BTreeMap<String, String>,
}

/// Something that a machine may have because the image can make use of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestFeature {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The archive that an image is imported from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RawDisk {
    /// `TAR`, with gzip around it.
    pub container_type: String,
}

impl InsertImage {
    /// For the image that is asked for, on a disk of `size`.
    #[must_use]
    pub fn of(request: &ArtifactRequest, size: Bytes) -> Self {
        let (facts, created) = (&request.facts, request.created);
        let system = facts.system_without_dots();
        let (name, description) = match &facts.kubernetes {
            Some(version) => (
                format!("cluster-api-{system}-{version}-{created}"),
                format!("Cluster API node, {}, Kubernetes {version}", facts.system()),
            ),
            None => (format!("{}-{created}", request.name), facts.system()),
        };
        let series = facts.kubernetes.as_deref().and_then(|version| version.rsplit_once('.'));
        let family = series.map(|(series, _)| dashed(&format!("capi-{system}-k8s-{series}")));
        // The kernel has gve and the many queues of virtio-scsi.
        let uefi = (request.boot != BootMode::Bios).then_some("UEFI_COMPATIBLE");
        let features = [uefi, Some("GVNIC"), Some("VIRTIO_SCSI_MULTIQUEUE")];
        let labels = facts.tags(created).into_iter().map(|(key, value)| (key, dashed(&value)));
        Self {
            name: dashed(&name),
            description,
            family,
            architecture: match facts.architecture.as_str() {
                "amd64" => "X86_64".to_owned(),
                other => other.to_uppercase(),
            },
            disk_size_gb: size.get().div_ceil(Bytes::GIB).to_string(),
            guest_os_features: features
                .into_iter()
                .flatten()
                .map(|kind| GuestFeature { kind: kind.to_owned() })
                .collect(),
            raw_disk: RawDisk { container_type: "TAR".to_owned() },
            labels: labels.collect(),
        }
    }
}

/// `text` as names and labels may be: lower-case, dashes for what else there is, not too long.
fn dashed(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let lower = text.to_ascii_lowercase();
    let dashed = lower.chars().map(|c| if allowed(c) { c } else { '-' });
    dashed.take(LONGEST).collect::<String>().trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use nodekiln_providers::ImageFacts;

    use super::*;

    fn request() -> ArtifactRequest {
        ArtifactRequest {
            name: "node".to_owned(),
            created: 1_793_491_200,
            facts: ImageFacts {
                distribution: "ubuntu".to_owned(),
                distribution_version: "24.04".to_owned(),
                architecture: "amd64".to_owned(),
                kubernetes: Some("v1.36.1".to_owned()),
                cni: Some("1.1.1".to_owned()),
                ..ImageFacts::default()
            },
            ..ArtifactRequest::default()
        }
    }

    #[test]
    fn the_registration_is_what_compute_engine_takes() {
        let image = InsertImage::of(&request(), Bytes(8 * Bytes::GIB));
        let text = serde_json::to_string_pretty(&image).unwrap();
        assert_eq!(text, include_str!("../golden/insert-image.json").trim_end());
    }

    #[test]
    fn only_a_disk_that_uefi_starts_says_so() {
        let request = ArtifactRequest { boot: BootMode::Bios, ..request() };
        let features = InsertImage::of(&request, Bytes(Bytes::GIB)).guest_os_features;
        assert!(features.iter().all(|feature| feature.kind != "UEFI_COMPATIBLE"), "{features:?}");
    }

    #[test]
    fn names_and_labels_are_such_as_the_service_takes() {
        assert_eq!(dashed("v1.36.1+Build~1"), "v1-36-1-build-1");
        assert_eq!(dashed(&"a.".repeat(60)).len(), 63);
        assert_eq!(dashed(&"ab".repeat(31).replacen('a', "a-", 1)).len(), 63);
        assert!(!dashed(&format!("{}..", "a".repeat(62))).ends_with('-'));
    }
}

//! An image as Compute Engine's `images.insert` takes it.

use std::collections::BTreeMap;

use nodekiln_providers::{ArtifactRequest, BootMode};
use nodekiln_words::Bytes;
use serde::{Deserialize, Serialize};

/// Longest name of a resource, and longest value of a label.
const LONGEST: usize = 63;
/// What stands in front of a name that begins with no letter.
const LETTERS: &str = "image-";

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
        let (stem, description) = match &facts.kubernetes {
            Some(version) => (
                format!("cluster-api-{system}-{version}"),
                format!("Cluster API node, {}, Kubernetes {version}", facts.system()),
            ),
            None => (request.name.clone(), facts.system()),
        };
        let family = facts
            .kubernetes
            .as_deref()
            .and_then(series)
            .map(|series| resource_name(&format!("capi-{system}"), &format!("-k8s-{series}")));
        // The kernel has gve and the many queues of virtio-scsi.
        let uefi = (request.boot != BootMode::Bios).then_some("UEFI_COMPATIBLE");
        let features = [uefi, Some("GVNIC"), Some("VIRTIO_SCSI_MULTIQUEUE")];
        let labels = facts.tags(created).into_iter().map(|(key, value)| (key, label(&value)));
        Self {
            name: resource_name(&stem, &format!("-{created}")),
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

/// Major and minor of a version: `v1.36` of `v1.36.1`, and of `v1.36.0-rc.1`.
fn series(version: &str) -> Option<String> {
    let mut parts = version.split('.');
    Some(format!("{}.{}", parts.next()?, parts.next()?))
}

/// A resource's name of `stem` and `ending`: `[a-z]([-a-z0-9]*[a-z0-9])?`, at most 63 letters (RFC 1035, as the
/// service says). Where they are too long, it is the stem that is shortened: the ending tells one from another.
fn resource_name(stem: &str, ending: &str) -> String {
    let (stem, ending) = (dashed(stem, ""), dashed(ending, ""));
    let stem = stem.trim_start_matches('-');
    let letters = if stem.starts_with(|c: char| c.is_ascii_lowercase()) { "" } else { LETTERS };
    let room = LONGEST.saturating_sub(ending.len());
    let stem: String = letters.chars().chain(stem.chars()).take(room).collect();
    let name: String =
        stem.trim_end_matches('-').chars().chain(ending.chars()).take(LONGEST).collect();
    name.trim_end_matches('-').to_owned()
}

/// `text` as the value of a label: letters, digits, `_` and `-`, at most 63 of them.
fn label(text: &str) -> String {
    dashed(text, "_").chars().take(LONGEST).collect::<String>().trim_end_matches('-').to_owned()
}

/// `text` in lower case, with dashes for what is neither a letter, a digit nor one of `besides`.
fn dashed(text: &str, besides: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || besides.contains(c);
    let lower = text.to_ascii_lowercase();
    lower.chars().map(|c| if allowed(c) { c } else { '-' }).collect()
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
    fn labels_are_such_as_the_service_takes() {
        assert_eq!(label("v1.36.1+Build~1_a"), "v1-36-1-build-1_a");
        assert_eq!(label(&"a.".repeat(60)).len(), 63);
        assert!(!label(&format!("{}..", "a".repeat(62))).ends_with('-'));
        for (key, value) in InsertImage::of(&request(), Bytes(Bytes::GIB)).labels {
            assert!(key.starts_with(|c: char| c.is_ascii_lowercase()), "{key}");
            assert_eq!((&label(&key), &label(&value)), (&key, &value));
        }
    }

    /// Whether the service takes it: `[a-z]([-a-z0-9]*[a-z0-9])?`, at most 63.
    fn is_name(name: &str) -> bool {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        (1..=63).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.ends_with(plain)
            && name.chars().all(|c| plain(c) || c == '-')
    }

    /// Names of images are `[a-z0-9][a-z0-9._-]{0,62}`.
    #[test]
    fn every_name_of_an_image_gives_one_that_the_service_takes() {
        let of = |name: &str, created| {
            let facts = ImageFacts { kubernetes: None, ..request().facts };
            let request = ArtifactRequest { name: name.to_owned(), created, facts, ..request() };
            InsertImage::of(&request, Bytes(Bytes::GIB)).name
        };
        assert_eq!(of("node", 7), "node-7");
        assert_eq!(of("my_node.2", 7), "my-node-2-7");
        assert_eq!(of("2nd", 7), "image-2nd-7");
        assert_eq!(of("node_", 7), "node-7");
        let longest = ["a", "1", "a.", "a_", "1-"].map(|text| text.repeat(63)[..63].to_owned());
        for name in longest.iter().map(String::as_str).chain(["node", "0", "a__", "9.._-"]) {
            let (one, other) = (of(name, 1_793_491_200), of(name, 1_793_491_201));
            assert!(is_name(&one), "{one}");
            assert!(one.ends_with("-1793491200"), "{one}");
            assert_ne!(one, other, "two builds are two images");
        }
    }

    #[test]
    fn a_long_version_keeps_time_and_family_whole() {
        let mut request = request();
        request.facts.kubernetes = Some(format!("v1.36.1-{}", "rc.1_".repeat(20)));
        let InsertImage { name, family, .. } = InsertImage::of(&request, Bytes(Bytes::GIB));
        assert!(is_name(&name) && name.ends_with("-1793491200"), "{name}");
        request.facts.distribution_version = "24_04.".repeat(20);
        let long = InsertImage::of(&request, Bytes(Bytes::GIB)).family.unwrap();
        assert!(is_name(&long) && long.ends_with("-k8s-v1-36"), "{long}");
        assert_eq!(family.as_deref(), Some("capi-ubuntu-2404-k8s-v1-36"));
    }
}

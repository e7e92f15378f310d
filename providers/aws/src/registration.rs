//! An image as EC2's `RegisterImage` takes it.

use nodekiln_providers::{ArtifactRequest, BootMode};
use nodekiln_words::Bytes;
use serde::{Deserialize, Serialize};

/// The root device of an AMI, as Debian's own AMIs name it.
const ROOT_DEVICE: &str = "/dev/xvda";

/// What `aws ec2 register-image --cli-input-json` takes, but for the snapshot's id, which there is once the
/// artifact has become one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct RegisterImage {
    /// `capa-ami-OS-VERSION-vKUBERNETES-TIMESTAMP`: Cluster API's provider looks for
    /// `capa-ami-{{.BaseOS}}-?{{.K8sVersion}}-*`, where `?` stands for the `v`.
    pub name: String,
    /// Words for people.
    pub description: String,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// The device that the snapshot becomes.
    pub root_device_name: String,
    /// `hvm`; there is no other for new instance types.
    pub virtualization_type: String,
    /// The kernel has Amazon's network driver.
    pub ena_support: bool,
    /// The kernel has the driver of older instance types' virtual functions (ixgbevf).
    pub sriov_net_support: String,
    /// `legacy-bios`, `uefi` or `uefi-preferred`.
    pub boot_mode: String,
    /// `v2.0`: instances hand out metadata against a token only.
    pub imds_support: String,
    /// The root volume.
    pub block_device_mappings: Vec<BlockDevice>,
    /// Tags of the AMI.
    pub tag_specifications: Vec<TagSpecification>,
}

/// A volume of an AMI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct BlockDevice {
    /// Its device.
    pub device_name: String,
    /// The volume.
    pub ebs: Ebs,
}

/// A volume of EBS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Ebs {
    /// Its size in GiB.
    pub volume_size: u64,
    /// Its kind.
    pub volume_type: String,
    /// Whether it goes with its instance.
    pub delete_on_termination: bool,
}

/// Tags of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct TagSpecification {
    /// Kind of the resource.
    pub resource_type: String,
    /// Its tags, by name.
    pub tags: Vec<Tag>,
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Tag {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl RegisterImage {
    /// For the image that is asked for, on a disk of `size`.
    #[must_use]
    pub fn of(request: &ArtifactRequest, size: Bytes) -> Self {
        let (facts, created) = (&request.facts, request.created);
        let (name, description) = match &facts.kubernetes {
            Some(version) => (
                format!("capa-ami-{}-{version}-{created}", facts.system()),
                format!("Cluster API node, {}, Kubernetes {version}", facts.system()),
            ),
            None => (format!("{}-{created}", request.name), facts.system()),
        };
        let tags = [("Name".to_owned(), name.clone())].into_iter().chain(facts.tags(created));
        Self {
            name,
            description,
            architecture: match facts.architecture.as_str() {
                "amd64" => "x86_64".to_owned(),
                other => other.to_owned(),
            },
            root_device_name: ROOT_DEVICE.to_owned(),
            virtualization_type: "hvm".to_owned(),
            ena_support: true,
            sriov_net_support: "simple".to_owned(),
            boot_mode: match request.boot {
                BootMode::Hybrid => "uefi-preferred".to_owned(),
                BootMode::Uefi => "uefi".to_owned(),
                BootMode::Bios => "legacy-bios".to_owned(),
            },
            imds_support: "v2.0".to_owned(),
            block_device_mappings: vec![BlockDevice {
                device_name: ROOT_DEVICE.to_owned(),
                ebs: Ebs {
                    volume_size: size.get().div_ceil(Bytes::GIB),
                    volume_type: "gp3".to_owned(),
                    delete_on_termination: true,
                },
            }],
            tag_specifications: vec![TagSpecification {
                resource_type: "image".to_owned(),
                tags: tags.map(|(key, value)| Tag { key, value }).collect(),
            }],
        }
    }
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
                containerd: Some("2.3.2".to_owned()),
                ..ImageFacts::default()
            },
            ..ArtifactRequest::default()
        }
    }

    #[test]
    fn the_registration_is_what_ec2_takes() {
        let image = RegisterImage::of(&request(), Bytes(8 * Bytes::GIB));
        let text = serde_json::to_string_pretty(&image).unwrap();
        assert_eq!(text, include_str!("../golden/register-image.json").trim_end());
    }

    /// `capa-ami-{{.BaseOS}}-?{{.K8sVersion}}-*`, where `?` is one character (EC2's filters) and the version has
    /// no `v`.
    #[test]
    fn cluster_api_finds_the_name() {
        let RegisterImage { name, .. } = RegisterImage::of(&request(), Bytes(Bytes::GIB));
        let rest = name.strip_prefix("capa-ami-ubuntu-24.04-").unwrap();
        let mut rest = rest.chars();
        assert_eq!(rest.next(), Some('v'));
        assert!(rest.as_str().starts_with("1.36.1-"), "{name}");
        assert!((3..=128).contains(&name.len()), "{name}");
    }

    #[test]
    fn the_boot_mode_is_the_disks() {
        let of = |boot| {
            RegisterImage::of(&ArtifactRequest { boot, ..request() }, Bytes(Bytes::GIB)).boot_mode
        };
        assert_eq!(of(BootMode::Hybrid), "uefi-preferred");
        assert_eq!(of(BootMode::Uefi), "uefi");
        assert_eq!(of(BootMode::Bios), "legacy-bios");
    }
}

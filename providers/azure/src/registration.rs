//! An image as Azure's Compute Gallery takes it.

use std::collections::BTreeMap;

use nodekiln_providers::{ArtifactRequest, Firmware};
use nodekiln_words::SourceDate;
use serde::{Deserialize, Serialize};

use crate::machine::machine;

/// Definitions and version of an image in a Compute Gallery.
///
/// A disk that boots by BIOS and by UEFI goes into two definitions, one for each generation of machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Gallery {
    /// The definitions that the disk suits.
    pub definitions: Vec<Definition>,
    /// Version under each: that of Kubernetes, without `v`, as Cluster API's provider asks for it. A gallery
    /// never changes a version, so another build of the same Kubernetes goes into another gallery or
    /// definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Tags of the version.
    pub tags: BTreeMap<String, String>,
}

/// A definition: its name, and what `PUT …/galleries/GALLERY/images/NAME` takes as `properties`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Definition {
    /// `capi-OS-VERSION`, with `-gen2` for machines of the second generation.
    pub name: String,
    /// What machines it is for.
    pub properties: Properties,
}

/// What a definition says of its machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Properties {
    /// `Linux`.
    pub os_type: String,
    /// `Generalized`: every machine makes its own identity at its first start.
    pub os_state: String,
    /// `V1` (BIOS) or `V2` (UEFI).
    pub hyper_v_generation: String,
    /// `x64` or `Arm64`.
    pub architecture: String,
    /// By what a gallery tells definitions apart.
    pub identifier: Identifier,
    /// What else machines may have.
    pub features: Vec<Feature>,
}

/// By what a gallery tells definitions apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Identifier {
    /// Who publishes it.
    pub publisher: String,
    /// What it is.
    pub offer: String,
    /// Which one.
    pub sku: String,
}

/// A feature of machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The generation of machines that this firmware starts, with the ending of its definition's name.
fn generation(firmware: Firmware) -> (&'static str, &'static str) {
    match firmware {
        Firmware::Uefi => ("V2", "-gen2"),
        Firmware::Bios => ("V1", ""),
    }
}

impl Gallery {
    /// For the image that is asked for.
    #[must_use]
    pub fn of(request: &ArtifactRequest) -> Self {
        let facts = &request.facts;
        let generations = machine().starting(request.boot).firmware.into_iter().map(generation);
        let mut tags = facts.tags(request.created);
        if let Some(date) = SourceDate::from_unix(request.created) {
            // Who cleans up old images goes by it.
            tags.insert("creationTimestamp".to_owned(), date.to_string());
        }
        Self {
            definitions: generations.map(|pair| definition(request, pair)).collect(),
            version: facts.kubernetes_number().map(str::to_owned),
            tags,
        }
    }
}

fn definition(request: &ArtifactRequest, (generation, ending): (&str, &str)) -> Definition {
    let facts = &request.facts;
    let (system, name) = match facts.kubernetes {
        Some(_) => (facts.system_without_dots(), format!("capi-{}", facts.system_without_dots())),
        None => (request.name.clone(), request.name.clone()),
    };
    Definition {
        name: format!("{name}{ending}"),
        properties: Properties {
            os_type: "Linux".to_owned(),
            os_state: "Generalized".to_owned(),
            hyper_v_generation: generation.to_owned(),
            architecture: match facts.architecture.as_str() {
                "amd64" => "x64".to_owned(),
                "arm64" => "Arm64".to_owned(),
                other => other.to_owned(),
            },
            identifier: Identifier {
                publisher: "nodekiln".to_owned(),
                offer: name,
                sku: format!("{system}{ending}"),
            },
            features: [
                // The kernel has the drivers of the virtual functions (mlx4, mlx5, mana).
                ("IsAcceleratedNetworkSupported", "True"),
                ("DiskControllerTypes", "SCSI"),
            ]
            .map(|(name, value)| Feature { name: name.to_owned(), value: value.to_owned() })
            .to_vec(),
        },
    }
}

#[cfg(test)]
mod tests {
    use nodekiln_providers::{BootMode, ImageFacts};

    use super::*;

    fn request(boot: BootMode) -> ArtifactRequest {
        ArtifactRequest {
            name: "node".to_owned(),
            created: 1_793_491_200,
            boot,
            facts: ImageFacts {
                distribution: "ubuntu".to_owned(),
                distribution_version: "24.04".to_owned(),
                architecture: "amd64".to_owned(),
                kubernetes: Some("v1.36.1".to_owned()),
                ..ImageFacts::default()
            },
            ..ArtifactRequest::default()
        }
    }

    #[test]
    fn the_registration_is_what_a_gallery_takes() {
        let text = serde_json::to_string_pretty(&Gallery::of(&request(BootMode::Uefi))).unwrap();
        assert_eq!(text, include_str!("../golden/gallery.json").trim_end());
    }

    #[test]
    fn a_disk_goes_into_a_definition_for_each_generation_that_it_starts_on() {
        let names = |boot| -> Vec<(String, String)> {
            let definitions = Gallery::of(&request(boot)).definitions;
            definitions.into_iter().map(|d| (d.name, d.properties.hyper_v_generation)).collect()
        };
        let pair = |name: &str, generation: &str| (name.to_owned(), generation.to_owned());
        let (old, new) = (pair("capi-ubuntu-2404", "V1"), pair("capi-ubuntu-2404-gen2", "V2"));
        assert_eq!(names(BootMode::Hybrid), [new.clone(), old.clone()]);
        assert_eq!(names(BootMode::Bios), [old]);
        assert_eq!(names(BootMode::Uefi), [new]);
    }

    /// A version of a gallery is three whole numbers.
    #[test]
    fn the_version_is_that_of_kubernetes_without_a_letter() {
        let Gallery { version, .. } = Gallery::of(&request(BootMode::Hybrid));
        let version = version.unwrap();
        let numbers: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
        assert_eq!(numbers, [1, 36, 1]);
    }
}

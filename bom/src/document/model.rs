//! The part of CycloneDX 1.6 that is written, as types.
//!
//! Fields stand in the bytewise order of their JSON names, so that serialising gives sorted keys;
//! a test compares every document with itself sorted. Source: the JSON Schema `bom-1.6`.

use nodekiln_words::Sha256;
use serde::Serialize;

/// A whole document.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Bom {
    #[serde(rename = "$schema")]
    pub(crate) schema: &'static str,
    #[serde(rename = "bomFormat")]
    pub(crate) bom_format: &'static str,
    pub(crate) components: Vec<Component>,
    pub(crate) compositions: Vec<Composition>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) metadata: Metadata,
    #[serde(rename = "serialNumber", skip_serializing_if = "Option::is_none")]
    pub(crate) serial_number: Option<String>,
    #[serde(rename = "specVersion")]
    pub(crate) spec_version: &'static str,
    pub(crate) version: u32,
}

/// What the document is about and what made it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Metadata {
    pub(crate) component: Component,
    pub(crate) lifecycles: Vec<Lifecycle>,
    pub(crate) properties: Vec<Property>,
    pub(crate) timestamp: String,
    pub(crate) tools: Tools,
}

/// A phase in which the document was made.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Lifecycle {
    pub(crate) phase: &'static str,
}

/// The programs that made the document.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Tools {
    pub(crate) components: Vec<Component>,
}

/// A thing that is in the image, or that such a thing descends from.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Component {
    #[serde(rename = "bom-ref", skip_serializing_if = "Option::is_none")]
    pub(crate) bom_ref: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) components: Vec<Component>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) data: Vec<Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(rename = "externalReferences", skip_serializing_if = "Vec::is_empty")]
    pub(crate) external_references: Vec<ExternalReference>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) licenses: Vec<LicenseChoice>,
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pedigree: Option<Pedigree>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) properties: Vec<Property>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) purl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) supplier: Option<Organization>,
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
}

/// Component types that are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Application,
    Container,
    Data,
    #[default]
    File,
    Firmware,
    Library,
    OperatingSystem,
}

/// What a component of type `data` is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Data {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
}

/// Where a component is to be had.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ExternalReference {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) hashes: Vec<Hash>,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) url: String,
}

/// A digest.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Hash {
    pub(crate) alg: &'static str,
    pub(crate) content: Sha256,
}

impl From<&Sha256> for Hash {
    fn from(sha256: &Sha256) -> Self {
        Self { alg: "SHA-256", content: *sha256 }
    }
}

/// One licence.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LicenseChoice {
    pub(crate) license: License,
}

/// A licence by its SPDX identifier.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct License {
    pub(crate) acknowledgement: &'static str,
    pub(crate) id: &'static str,
}

/// Whoever supplies a component.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Organization {
    pub(crate) name: String,
}

/// What a component descends from.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Pedigree {
    pub(crate) ancestors: Vec<Component>,
}

/// A name and a value; names of this project begin with `nodekiln:`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Property {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// What a component needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Dependency {
    #[serde(rename = "dependsOn", skip_serializing_if = "Vec::is_empty")]
    pub(crate) depends_on: Vec<String>,
    #[serde(rename = "ref")]
    pub(crate) reference: String,
}

/// How complete the lists of parts and of dependencies are.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Composition {
    pub(crate) aggregate: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) assemblies: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dependencies: Vec<String>,
}

impl Component {
    /// Gives the component its properties, sorted, each name with the prefix `nodekiln:`.
    pub(crate) fn with_properties(mut self, properties: Vec<(&str, String)>) -> Self {
        let named = properties
            .into_iter()
            .map(|(name, value)| Property { name: format!("nodekiln:{name}"), value });
        self.properties.extend(named);
        self.properties.sort();
        self
    }
}

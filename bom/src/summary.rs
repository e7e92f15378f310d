//! A document's contents in numbers, for a terminal.

use std::collections::BTreeMap;
use std::fmt;

use nodekiln_words::{Class, Result, ResultExt as _};
use serde::Deserialize;

/// How much of what a document holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Serial number, as `urn:uuid:…`.
    pub serial: String,
    /// Debian packages.
    pub packages: u64,
    /// Binaries that no package brought.
    pub binaries: u64,
    /// Container images.
    pub images: u64,
    /// Components by CycloneDX type, nested ones included.
    pub components: BTreeMap<String, u64>,
    /// Files by kind of ownership, whether they are listed or only counted.
    pub files: BTreeMap<String, u64>,
    /// Whether the list of parts claims to be complete.
    pub complete: bool,
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "serialNumber", default)]
    serial: String,
    #[serde(default)]
    components: Vec<Part>,
    #[serde(default)]
    compositions: Vec<Composition>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    properties: Vec<Property>,
}

#[derive(Deserialize)]
struct Property {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct Composition {
    aggregate: String,
    #[serde(default)]
    assemblies: Vec<String>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    purl: String,
    #[serde(default)]
    components: Vec<Part>,
}

/// Counts what a document of [`crate::cyclonedx`] holds.
///
/// # Errors
/// `Input` where the bytes are no such document.
pub fn summary(document: &[u8]) -> Result<Summary> {
    let document: Document = serde_json::from_slice(document)
        .or_fail(Class::Input, || "the bill of materials is no CycloneDX JSON".to_owned())?;
    let with_purl = |kind: &str| {
        document.components.iter().filter(|part| part.purl.starts_with(kind)).count() as u64
    };
    let mut summary = Summary {
        packages: with_purl("pkg:deb/"),
        binaries: with_purl("pkg:generic/"),
        images: with_purl("pkg:oci/"),
        complete: document.compositions.iter().any(claims_the_whole_image),
        serial: document.serial,
        ..Summary::default()
    };
    count(&document.components, &mut summary.components);
    for Property { name, value } in document.metadata.properties {
        if let Some(kind) = name.strip_prefix("nodekiln:files:") {
            let number = value
                .parse()
                .or_fail(Class::Input, || format!("{name} of the bill of materials: `{value}`"))?;
            summary.files.insert(kind.to_owned(), number);
        }
    }
    Ok(summary)
}

fn claims_the_whole_image(composition: &Composition) -> bool {
    let of_image = composition.assemblies.iter().any(|reference| reference.starts_with("image:"));
    composition.aggregate == "complete" && of_image
}

fn count(parts: &[Part], counts: &mut BTreeMap<String, u64>) {
    for part in parts {
        *counts.entry(part.kind.clone()).or_default() += 1;
        count(&part.components, counts);
    }
}

impl fmt::Display for Summary {
    /// One line: packages, binaries, images, files, and how many of those have no owner.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: u64 = self.files.values().sum();
        let unknown = self.files.get("unknown").copied().unwrap_or_default();
        write!(
            f,
            "{} packages, {} binaries, {} container images, {files} files, {unknown} without owner",
            self.packages, self.binaries, self.images
        )
    }
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn what_is_no_document_is_refused() {
        assert!(summary(b"{}").is_err());
        assert!(summary(b"not json").is_err());
    }
}

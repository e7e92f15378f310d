//! Debian packages as components.

use nodekiln_recipes::inventory::TreeReader;
use nodekiln_words::Result;

use super::files::Held;
use super::model::{Component, ExternalReference, Hash, Kind, Organization, Pedigree};
use crate::licences;
use crate::packages::Known;
use crate::purl;

/// A package with its files. `missing` is the number of files that it lists and the tree lacks.
pub(super) fn component(
    known: &Known<'_>,
    held: Held,
    missing: u64,
    unmet: &[String],
    tree: &dyn TreeReader,
) -> Result<Component> {
    let (installed, locked) = (known.installed(), known.locked);
    let hashes = vec![Hash::from(&locked.sha256)];
    let mut component = Component {
        bom_ref: Some(known.purl.clone()),
        components: held.components,
        description: Some(installed.summary.clone()).filter(|text| !text.is_empty()),
        external_references: vec![ExternalReference {
            hashes: hashes.clone(),
            kind: "distribution",
            url: locked.path.clone(),
        }],
        hashes,
        kind: kind(&installed.section),
        licenses: licences::of_package(&installed.name, tree)?,
        name: installed.name.clone(),
        pedigree: Some(Pedigree { ancestors: vec![source(known)] }),
        purl: Some(known.purl.clone()),
        supplier: supplier(&installed.maintainer),
        version: Some(installed.version.clone()),
        ..Component::default()
    }
    .with_properties(properties(known, held.count));
    let more = unmet.iter().map(|group| ("unmet-dependency", group.clone()));
    let missing = (missing > 0).then(|| ("files-missing", missing.to_string()));
    component = component.with_properties(more.chain(missing).collect());
    Ok(component)
}

fn properties<'a>(known: &Known<'_>, files: u64) -> Vec<(&'a str, String)> {
    let (installed, locked) = (known.installed(), known.locked);
    let mut all = vec![
        ("archive-component", locked.component.clone()),
        ("architecture", installed.architecture.clone()),
        ("deb-size", locked.size.to_string()),
        ("files", files.to_string()),
        ("release", known.release.to_owned()),
        ("source", format!("{} {}", installed.source, installed.source_version)),
        ("suite", locked.suite.clone()),
    ];
    let optional = [
        ("built-using", installed.built_using.clone()),
        ("section", installed.section.clone()),
        ("essential", flag(installed.essential)),
        ("requested", flag(locked.requested)),
    ];
    all.extend(optional.into_iter().filter(|(_, value)| !value.is_empty()));
    all
}

fn flag(set: bool) -> String {
    if set { "true".to_owned() } else { String::new() }
}

/// The source package that a binary package was built from. CycloneDX has no relation for this, so
/// it stands among the ancestors.
fn source(known: &Known<'_>) -> Component {
    let installed = known.installed();
    Component {
        kind: kind(&installed.section),
        name: installed.source.clone(),
        purl: Some(purl::deb(
            &installed.source,
            &installed.source_version,
            "source",
            known.release,
        )),
        version: Some(installed.source_version.clone()),
        ..Component::default()
    }
}

/// A component type by archive section, whose part before a slash names the archive's area.
fn kind(section: &str) -> Kind {
    match section.rsplit('/').next().unwrap_or(section) {
        "libs" | "libdevel" | "oldlibs" | "perl" | "python" | "ruby" | "java" | "rust" => {
            Kind::Library
        }
        _ if section.starts_with("non-free-firmware/") => Kind::Firmware,
        _ => Kind::Application,
    }
}

/// The maintainer's name, without the mail address.
fn supplier(maintainer: &str) -> Option<Organization> {
    let name = maintainer.split('<').next().unwrap_or_default().trim().trim_matches('"');
    (!name.is_empty()).then(|| Organization { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_and_maintainer_become_type_and_supplier() {
        assert_eq!(kind("libs"), Kind::Library);
        assert_eq!(kind("non-free-firmware/kernel"), Kind::Firmware);
        assert_eq!(kind("admin"), Kind::Application);
        let name = supplier("Debian Foo <foo@example.org>").map(|o| o.name);
        assert_eq!(name.as_deref(), Some("Debian Foo"));
        assert!(supplier("").is_none());
    }
}

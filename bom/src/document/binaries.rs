//! Binaries that no package brought, as components.

use nodekiln_recipes::Inventory;
use nodekiln_recipes::inventory::{EntryKind, TreeReader};
use nodekiln_recipes::lock::Lock;
use nodekiln_words::{Failure, Result, Sha256};

use super::files::Held;
use super::model::{Component, ExternalReference, Hash, Kind, Pedigree};
use crate::dpkg::read;
use crate::go::{self, BuildInfo, Module};
use crate::input::{Binary, BinarySource};
use crate::path::split;
use crate::purl;

/// The digest of the file that a binary is.
fn sha256(binary: &Binary, inventory: &Inventory) -> Result<Sha256> {
    match inventory.entries.get(&binary.path).map(|entry| &entry.kind) {
        Some(EntryKind::File { sha256, .. }) => Ok(*sha256),
        _ => Err(Failure::input(format!("the tree has no binary {}", binary.path))),
    }
}

/// The reference of a binary in the document.
pub(super) fn reference(binary: &Binary, inventory: &Inventory) -> Result<String> {
    let (_, name) = split(&binary.path);
    Ok(purl::generic(name, &binary.version, &sha256(binary, inventory)?))
}

/// A binary with its origin, what it was compiled from, and the Go modules it says it contains.
pub(super) fn component(
    binary: &Binary,
    reference: &str,
    held: Held,
    inventory: &Inventory,
    lock: &Lock,
    tree: &dyn TreeReader,
) -> Result<Component> {
    let bytes = read(tree, &binary.path)?.unwrap_or_default();
    let info = go::build_info(&bytes);
    let mut components = held.components;
    let modules = info.iter().flat_map(|info| &info.modules);
    components.extend(modules.map(|module| module_component(reference, module)));
    components.sort_by(|a, b| a.bom_ref.cmp(&b.bom_ref));
    components.dedup_by(|a, b| a.bom_ref == b.bom_ref);
    let pedigree = match &binary.source {
        Some(source) => Some(Pedigree { ancestors: vec![ancestor(source, lock)?] }),
        None => None,
    };
    Ok(Component {
        bom_ref: Some(reference.to_owned()),
        components,
        hashes: vec![Hash::from(&sha256(binary, inventory)?)],
        kind: Kind::Application,
        name: split(&binary.path).1.to_owned(),
        pedigree,
        purl: Some(reference.to_owned()),
        version: Some(binary.version.clone()),
        ..Component::default()
    }
    .with_properties(properties(binary, info.as_ref())))
}

fn properties<'a>(binary: &Binary, info: Option<&BuildInfo>) -> Vec<(&'a str, String)> {
    let mut all = vec![("origin", binary.origin.clone()), ("path", binary.path.clone())];
    if let Some(info) = info {
        all.push(("go-version", info.go_version.clone()));
        all.extend(info.path.iter().map(|path| ("go-path", path.clone())));
        all.extend(info.settings.iter().map(|setting| ("go-build", setting.clone())));
    }
    all
}

fn module_component(binary: &str, module: &Module) -> Component {
    let purl = purl::golang(&module.path, &module.version);
    let sum = module.sum.iter().map(|sum| ("go-sum", sum.clone())).collect();
    Component {
        bom_ref: Some(format!("{binary}#{purl}")),
        kind: Kind::Library,
        name: module.path.clone(),
        purl: Some(purl),
        version: Some(module.version.clone()).filter(|version| !version.is_empty()),
        ..Component::default()
    }
    .with_properties(sum)
}

/// The source package that a binary was compiled from, with the digests of its files.
fn ancestor(source: &BinarySource, lock: &Lock) -> Result<Component> {
    let mut files = Vec::new();
    for name in &source.files {
        let locked = lock.files.get(name).ok_or_else(|| {
            Failure::input(format!("source {}: the lock has no file `{name}`", source.package))
        })?;
        files.push(ExternalReference {
            hashes: vec![Hash::from(&locked.sha256)],
            kind: "source-distribution",
            url: locked.url.clone(),
        });
    }
    files.sort_by(|a, b| a.url.cmp(&b.url));
    Ok(Component {
        external_references: files,
        kind: Kind::Application,
        name: source.package.clone(),
        purl: Some(purl::deb(&source.package, &source.version, "source", &source.release)),
        version: Some(source.version.clone()),
        ..Component::default()
    })
}

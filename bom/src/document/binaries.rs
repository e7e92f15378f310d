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
    components.extend(modules.map(|module| module_component(reference, module, &binary.version)));
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

/// Whether a binary's component says which modules it contains. The modules of one that was built
/// outside of module mode, or by another compiler, are not known.
pub(super) fn says_its_modules(component: &Component) -> bool {
    component.components.iter().any(|part| part.kind == Kind::Library)
}

/// A module in `binary`, whose own `version` is that of its main module where the linker wrote none.
fn module_component(binary: &str, module: &Module, version: &str) -> Component {
    let version = match module.version.as_str() {
        "" if module.main => go_version(version),
        version => version.to_owned(),
    };
    let purl = purl::golang(&module.path, &version);
    let sum = module.sum.iter().map(|sum| ("go-sum", sum.clone())).collect();
    Component {
        bom_ref: Some(format!("{binary}#{purl}")),
        kind: Kind::Library,
        name: module.path.clone(),
        purl: Some(purl),
        version: Some(version).filter(|version| !version.is_empty()),
        ..Component::default()
    }
    .with_properties(sum)
}

/// A version in Go's spelling, with `v` in front.
fn go_version(version: &str) -> String {
    let bare = version.starts_with(|c: char| c.is_ascii_digit());
    if bare { format!("v{version}") } else { version.to_owned() }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use nodekiln_recipes::inventory::Entry;

    use super::*;
    use crate::go::tests::program;

    /// A tree with one file.
    struct Tree(Vec<u8>);

    impl TreeReader for Tree {
        fn read(&self, _: &str) -> io::Result<Option<Vec<u8>>> {
            Ok(Some(self.0.clone()))
        }
    }

    /// The component of a kubelet of version 1.36.1 with these bytes.
    fn kubelet(bytes: Vec<u8>) -> Component {
        let binary = Binary {
            path: "/usr/bin/kubelet".to_owned(),
            version: "1.36.1".to_owned(),
            origin: "release".to_owned(),
            source: None,
        };
        let kind = EntryKind::File { size: bytes.len() as u64, sha256: Sha256::of(&bytes) };
        let entry = Entry { kind, mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() };
        let inventory = Inventory { entries: [(binary.path.clone(), entry)].into() };
        let held = Held::default();
        component(&binary, "kubelet", held, &inventory, &Lock::default(), &Tree(bytes)).unwrap()
    }

    #[test]
    fn modules_have_the_version_that_is_known_and_no_folder_is_one() {
        let component = kubelet(program(
            "go1.24.2",
            "mod\tk8s.io/kubernetes\t(devel)\t\ndep\tk8s.io/api\tv0.0.0\n\
             =>\t./staging/src/k8s.io/api\t(devel)\t\ndep\tgolang.org/x/sys\tv0.30.0\th1:x=\n",
        ));
        let parts: Vec<_> = component
            .components
            .iter()
            .map(|part| (part.purl.as_deref().unwrap(), part.version.as_deref()))
            .collect();
        let expected = [
            ("pkg:golang/golang.org/x/sys@v0.30.0", Some("v0.30.0")),
            ("pkg:golang/k8s.io/api", None),
            ("pkg:golang/k8s.io/kubernetes@v1.36.1", Some("v1.36.1")),
        ];
        assert_eq!(parts, expected);
        assert!(says_its_modules(&component));
    }

    #[test]
    fn a_main_module_keeps_the_version_that_the_linker_wrote() {
        let component = kubelet(program("go1.24.2", "mod\tk8s.io/kubernetes\tv1.36.1+dirty\t\n"));
        assert_eq!(component.components[0].version.as_deref(), Some("v1.36.1+dirty"));
    }

    #[test]
    fn a_binary_without_build_information_or_modules_does_not_say_them() {
        assert!(!says_its_modules(&kubelet(b"#!/bin/sh".to_vec())));
        assert!(!says_its_modules(&kubelet(program("go1.15.15", "path\tcommand-line\n"))));
    }
}

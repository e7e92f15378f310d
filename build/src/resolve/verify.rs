//! Verifying a lock: everything in it held against those it came from, as they answer today.

use std::collections::BTreeMap;

use nodekiln_recipes::lock::{Lock, LockedPackage};
use nodekiln_recipes::recipe::{KubernetesSource, Recipe};
use nodekiln_words::{Class, Result, Sha256};
use serde::Serialize;

use super::kubernetes;
use crate::debian::{Archive, ArchiveSpec};
use crate::fetch::Fetcher;
use crate::kubernetes::release;
use crate::oci::Reference;
use crate::oci::registry::Registry;
use crate::store::Store;

/// One thing of a lock that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What: a tree and package, a file, an image.
    pub what: String,
    /// How it differs.
    pub how: String,
    /// Whether somebody vouches for other bytes under the same name. Else it is no longer there, which
    /// a snapshot archive or the store can make up for.
    pub contradicts: bool,
}

/// Holds `lock` against the archives' signed indexes, verified anew, the release server's digests and
/// the registries' manifests. Returns what is not confirmed; nothing of it is changed.
///
/// # Errors
/// When a server cannot be reached or trusted at all.
pub fn verify(
    recipe: &Recipe,
    lock: &Lock,
    fetcher: &Fetcher,
    store: &Store,
    now: u64,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut archives: BTreeMap<&str, Archive> = BTreeMap::new();
    for (name, tree) in &lock.trees {
        let archive = opened(&mut archives, &tree.release, recipe, fetcher, store, now)?;
        let packages = tree.packages.iter();
        findings.extend(packages.filter_map(|package| not_listed(name, package, archive)));
    }
    match recipe.kubernetes.as_ref().map(|kubernetes| (&kubernetes.source, kubernetes.version)) {
        Some((KubernetesSource::Source { package, release }, _)) => {
            let archive = opened(&mut archives, release, recipe, fetcher, store, now)?;
            let found = archive.source(package)?.into_iter();
            let found: BTreeMap<String, Sha256> =
                found.map(|(name, file)| (format!("source/{name}"), file.sha256)).collect();
            findings.extend(differing(lock, "source/", &found));
        }
        Some((KubernetesSource::Release { url, sha256, .. }, version)) => {
            let architecture = recipe.os.architecture;
            let text = |url: &str| fetcher.fetch_text(url);
            let mut found = release::resolve(version, architecture, url, sha256, &text)?;
            if lock.files.keys().any(|name| name.starts_with("kubernetes/images/")) {
                found.extend(release::resolve_image_archives(version, architecture, url, &text)?);
            }
            let found: BTreeMap<String, Sha256> =
                found.into_iter().map(|(name, file)| (name, file.sha256)).collect();
            findings.extend(differing(lock, "kubernetes/", &found));
        }
        Some((KubernetesSource::Directory { path }, _)) => {
            let found = kubernetes::files_of(path, store)?.into_iter();
            let found: BTreeMap<String, Sha256> =
                found.map(|(name, file)| (name, file.sha256)).collect();
            findings.extend(differing(lock, "kubernetes/", &found));
        }
        None => {}
    }
    for reference in lock.images.keys() {
        findings.extend(image(reference, recipe, lock, fetcher)?);
    }
    Ok(findings)
}

fn opened<'a, 'b>(
    archives: &'b mut BTreeMap<&'a str, Archive>,
    release: &'a str,
    recipe: &Recipe,
    fetcher: &Fetcher,
    store: &Store,
    now: u64,
) -> Result<&'b Archive> {
    use std::collections::btree_map::Entry;
    Ok(match archives.entry(release) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => {
            let spec =
                ArchiveSpec { release: release.to_owned(), ..ArchiveSpec::of(&recipe.os, now) };
            place.insert(Archive::open(&spec, fetcher, store)?)
        }
    })
}

fn not_listed(tree: &str, package: &LockedPackage, archive: &Archive) -> Option<Finding> {
    let LockedPackage { name, version, sha256, size, suite, .. } = package;
    let what = format!("{tree}: {name} {version}");
    match archive.listed(name, version) {
        Some(found) if found == (*sha256, *size) => None,
        Some((found, _)) => Some(Finding {
            what,
            how: format!("{suite} lists the sha256 {found}, locked is {sha256}"),
            contradicts: true,
        }),
        None => Some(Finding {
            what,
            how: format!("no suite of the release lists it any more (locked from {suite})"),
            contradicts: false,
        }),
    }
}

/// The locked files below `prefix` that are not `found` as they are locked.
fn differing(lock: &Lock, prefix: &str, found: &BTreeMap<String, Sha256>) -> Vec<Finding> {
    let locked = lock.files.iter().filter(|(name, _)| name.starts_with(prefix));
    locked
        .filter_map(|(name, file)| match found.get(name) {
            Some(found) if *found == file.sha256 => None,
            Some(found) => Some(Finding {
                what: name.clone(),
                how: format!("its sha256 is {found} now, locked is {}", file.sha256),
                contradicts: true,
            }),
            None => Some(Finding {
                what: name.clone(),
                how: "it is no longer offered under this name".to_owned(),
                contradicts: false,
            }),
        })
        .collect()
}

/// Whether the registry still has an image's manifest. That its tag may stand for another one by now is
/// what tags are for.
fn image(
    reference: &str,
    recipe: &Recipe,
    lock: &Lock,
    fetcher: &Fetcher,
) -> Result<Option<Finding>> {
    let Some(locked) = lock.images.get(reference) else { return Ok(None) };
    let parsed: Reference = reference.parse()?;
    let base = super::follow::registry_base(recipe);
    let base = base.filter(|_| !recipe.images.iter().any(|extra| extra == reference));
    let registry = Registry::new(&parsed.registry, base, fetcher)?;
    match registry.document(&parsed.repository, locked.manifest) {
        Ok(_) => Ok(None),
        // Nobody was asked, or nobody answered: that says nothing about the lock.
        Err(failure) if matches!(failure.class(), Class::Interrupted | Class::Missing) => {
            Err(failure)
        }
        // It is not there any more, or it is something else.
        Err(failure) => Ok(Some(Finding {
            what: reference.to_owned(),
            contradicts: failure.class() != Class::Input,
            how: format!("its manifest cannot be had: {failure}"),
        })),
    }
}

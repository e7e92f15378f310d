//! Installed packages joined with the lock: what is in the tree must be what was locked.

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_recipes::lock::{Lock, LockedPackage};
use nodekiln_words::{Class, Failure, Result};

use crate::dpkg::{Database, Installed, Package};
use crate::input::BomInput;
use crate::purl;

/// An installed package and the lock's entry for it.
pub(crate) struct Known<'a> {
    /// Its package URL, which is also its reference in the document.
    pub(crate) purl: String,
    /// What dpkg says.
    pub(crate) package: &'a Package,
    /// What the lock says.
    pub(crate) locked: &'a LockedPackage,
    /// The release that it comes from.
    pub(crate) release: &'a str,
}

impl Known<'_> {
    /// The status file's entry.
    pub(crate) fn installed(&self) -> &Installed {
        &self.package.installed
    }
}

type Key<'a> = (&'a str, &'a str);
type Locked<'a> = BTreeMap<Key<'a>, (&'a LockedPackage, &'a str)>;

/// Joins database and lock, sorted by name and architecture.
///
/// Fails with all differences: locked and not installed (unless a step purged it), installed and
/// not locked, or in another version.
pub(crate) fn join<'a>(database: &'a Database, input: &BomInput<'a>) -> Result<Vec<Known<'a>>> {
    let locked = locked(input.lock, &input.trees)?;
    let mut differences = Vec::new();
    let mut known = Vec::new();
    for package in &database.packages {
        let Installed { name, architecture, version, .. } = &package.installed;
        match locked.get(&(name.as_str(), architecture.as_str())) {
            None => differences.push(format!("{name} {version} is installed and not locked")),
            Some((locked, _)) if locked.version != *version => differences
                .push(format!("{name} is locked as {} and installed as {version}", locked.version)),
            Some((locked, release)) => known.push(Known {
                purl: purl::deb(name, version, architecture, release),
                package,
                locked,
                release,
            }),
        }
    }
    differences.extend(not_installed(database, &locked, &input.removed));
    if differences.is_empty() {
        Ok(known)
    } else {
        Err(Failure::new(
            Class::Verdict,
            format!("tree and lock disagree about packages: {}", differences.join("; ")),
        )
        .with_help("packages come from the lock alone: name them in the recipe and lock again"))
    }
}

fn locked<'a>(lock: &'a Lock, trees: &[String]) -> Result<Locked<'a>> {
    let mut all = BTreeMap::new();
    for name in trees {
        let tree = lock
            .trees
            .get(name)
            .ok_or_else(|| Failure::input(format!("the lock has no tree `{name}`")))?;
        for package in &tree.packages {
            let key = (package.name.as_str(), package.architecture.as_str());
            all.insert(key, (package, tree.release.as_str()));
        }
    }
    Ok(all)
}

fn not_installed(
    database: &Database,
    locked: &Locked<'_>,
    removed: &BTreeSet<String>,
) -> Vec<String> {
    let installed: BTreeSet<Key<'_>> = database
        .packages
        .iter()
        .map(|package| (package.installed.name.as_str(), package.installed.architecture.as_str()))
        .collect();
    let missing =
        locked.iter().filter(|(key, _)| !installed.contains(*key) && !removed.contains(key.0));
    missing
        .map(|((name, _), (package, _))| {
            format!("{name} {} is locked and not installed", package.version)
        })
        .collect()
}

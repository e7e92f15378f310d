//! What differs between two locks of one recipe, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::{Lock, LockedPackage, LockedTree};

/// What moved from one lock to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Each thing that is another one, packages first, sorted by tree and name.
    pub changes: Vec<Change>,
    /// Source packages with a version from a security suite that was not locked before, with that
    /// version: what a scanner is to be asked about.
    pub security: BTreeMap<String, String>,
}

/// One thing that was added, removed or replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where: a tree's name, `files`, `images` or `kubernetes`.
    pub place: String,
    /// What: a package, file or reference.
    pub name: String,
    /// What it was; `None` for what is new.
    pub earlier: Option<String>,
    /// What it is; `None` for what is gone.
    pub now: Option<String>,
    /// Why, where the locks tell.
    pub why: String,
}

/// Compares two locks.
#[must_use]
pub fn moved(earlier: &Lock, now: &Lock) -> Moved {
    let mut moved = Moved::default();
    let names: BTreeSet<&String> = earlier.trees.keys().chain(now.trees.keys()).collect();
    let none = LockedTree::default();
    for name in names {
        let (old, new) = (earlier.trees.get(name), now.trees.get(name));
        moved.tree(name, old.unwrap_or(&none), new.unwrap_or(&none));
    }
    let digest = |text: &dyn fmt::Display| format!("sha256:{text}");
    let kubernetes = |lock: &Lock| lock.kubernetes.as_ref().map(|k| k.version.to_string());
    moved.version("kubernetes", kubernetes(earlier), kubernetes(now));
    moved.map(
        "files",
        &earlier.files.iter().map(|(name, file)| (name, digest(&file.sha256))).collect(),
        &now.files.iter().map(|(name, file)| (name, digest(&file.sha256))).collect(),
    );
    moved.map(
        "images",
        &earlier.images.iter().map(|(name, image)| (name, digest(&image.manifest))).collect(),
        &now.images.iter().map(|(name, image)| (name, digest(&image.manifest))).collect(),
    );
    moved
}

impl Moved {
    /// Whether nothing moved.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn tree(&mut self, place: &str, earlier: &LockedTree, now: &LockedTree) {
        let by_name = |tree: &LockedTree| -> BTreeMap<String, LockedPackage> {
            tree.packages.iter().map(|package| (package.name.clone(), package.clone())).collect()
        };
        let (earlier, now) = (by_name(earlier), by_name(now));
        let names: BTreeSet<&String> = earlier.keys().chain(now.keys()).collect();
        for name in names {
            let (old, new) = (earlier.get(name), now.get(name));
            let same = |old: &LockedPackage, new: &LockedPackage| {
                old.version == new.version && old.sha256 == new.sha256
            };
            if old.zip(new).is_some_and(|(old, new)| same(old, new)) {
                continue;
            }
            let security = new.filter(|new| new.suite.ends_with("-security"));
            if let Some(package) = security {
                self.security.insert(package.source.clone(), package.source_version.clone());
            }
            self.changes.push(Change {
                place: place.to_owned(),
                name: name.clone(),
                earlier: old.map(|package| package.version.clone()),
                now: new.map(|package| package.version.clone()),
                why: why(old, new),
            });
        }
    }

    fn version(&mut self, place: &str, earlier: Option<String>, now: Option<String>) {
        if earlier != now {
            let (name, why) = ("version".to_owned(), "the recipe says so".to_owned());
            self.changes.push(Change { place: place.to_owned(), name, earlier, now, why });
        }
    }

    fn map(
        &mut self,
        place: &str,
        earlier: &BTreeMap<&String, String>,
        now: &BTreeMap<&String, String>,
    ) {
        let names: BTreeSet<&&String> = earlier.keys().chain(now.keys()).collect();
        for name in names {
            let (old, new) = (earlier.get(*name), now.get(*name));
            if old != new {
                let why = match (old, new) {
                    (None, _) => "needed now",
                    (_, None) => "no longer needed",
                    _ => "other bytes under this name",
                };
                self.changes.push(Change {
                    place: place.to_owned(),
                    name: (**name).clone(),
                    earlier: old.cloned(),
                    now: new.cloned(),
                    why: why.to_owned(),
                });
            }
        }
    }
}

fn why(earlier: Option<&LockedPackage>, now: Option<&LockedPackage>) -> String {
    match (earlier, now) {
        (None, Some(now)) if now.requested => "asked for now".to_owned(),
        (None, Some(_)) => "a dependency now".to_owned(),
        (Some(earlier), None) if earlier.requested => "no longer asked for".to_owned(),
        (Some(_), None) => "no longer a dependency".to_owned(),
        (Some(earlier), Some(now)) if earlier.version == now.version => {
            "other bytes under this version".to_owned()
        }
        (Some(_), Some(now)) => format!("{} has this version", now.suite),
        (None, None) => String::new(),
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Change { place, name, earlier, now, why } in &self.changes {
            let value = |value: &Option<String>| value.clone().unwrap_or("none".to_owned());
            writeln!(f, "{place}: {name} {} → {} ({why})", value(earlier), value(now))?;
        }
        if !self.security.is_empty() {
            writeln!(f, "from security suites, by source:")?;
            for (source, version) in &self.security {
                writeln!(f, "  {source} {version}")?;
            }
        }
        Ok(())
    }
}

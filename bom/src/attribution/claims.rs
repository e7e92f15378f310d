//! Which package lists which path, links and diversions resolved.

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_recipes::Inventory;
use nodekiln_recipes::inventory::{EntryKind, TreeReader};
use nodekiln_words::Result;

use crate::dpkg::{Database, Package, read};
use crate::packages::Known;
use crate::path::{Folders, split};

/// A package's claim on a path.
pub(super) struct Claim<'a> {
    /// The package's reference.
    pub(super) package: &'a str,
    /// MD5 in hexadecimal of what it shipped, where dpkg knows it.
    pub(super) digest: Option<&'a str>,
    /// The administrator may change it.
    pub(super) conffile: bool,
}

/// All claims on files of a tree.
pub(super) struct Claims<'a> {
    by_path: BTreeMap<String, Claim<'a>>,
    by_info_name: BTreeMap<&'a str, &'a str>,
    ucf: BTreeMap<String, &'a str>,
    /// Number of listed paths that the tree lacks, by package.
    pub(super) missing: BTreeMap<String, u64>,
}

/// Resolved paths to the package that diverted them and where the others' file went.
type Diverted<'a> = BTreeMap<String, (Option<&'a str>, String)>;

impl<'a> Claims<'a> {
    /// Reads the claims of all packages, in their order; the first one on a path holds.
    pub(super) fn gather(
        inventory: &Inventory,
        database: &'a Database,
        packages: &'a [Known<'a>],
        tree: &dyn TreeReader,
    ) -> Result<Self> {
        let mut folders = Folders::new(inventory);
        let diverted = diverted(database, &mut folders);
        let mut claims = Self {
            by_path: BTreeMap::new(),
            by_info_name: BTreeMap::new(),
            ucf: registry(tree, packages)?,
            missing: BTreeMap::new(),
        };
        for known in packages {
            claims.by_info_name.insert(&known.package.info_name, &known.purl);
            let parents: BTreeSet<&str> =
                known.package.list.iter().map(|listed| split(listed).0).collect();
            // A folder of the package, even where the tree has a link in its place.
            for listed in paths(known.package).filter(|path| !parents.contains(path.as_str())) {
                let mut path = folders.resolve(listed);
                if let Some((_, to)) = diverted
                    .get(&path)
                    .filter(|(package, _)| *package != Some(known.installed().name.as_str()))
                {
                    path.clone_from(to);
                }
                claims.add(inventory, known, listed, path);
            }
        }
        Ok(claims)
    }

    fn add(&mut self, inventory: &Inventory, known: &'a Known<'a>, listed: &str, path: String) {
        let package = known.purl.as_str();
        match inventory.entries.get(&path).map(|entry| &entry.kind) {
            None => *self.missing.entry(package.to_owned()).or_default() += 1,
            Some(EntryKind::Directory { .. }) => {}
            Some(_) => {
                let claim = Claim {
                    package,
                    digest: known.package.digests.get(listed).map(String::as_str),
                    conffile: known.installed().conffiles.contains_key(listed),
                };
                self.by_path.entry(path).or_insert(claim);
            }
        }
    }

    /// The claim on a path.
    pub(super) fn of(&self, path: &str) -> Option<&Claim<'a>> {
        self.by_path.get(path)
    }

    /// The package that a generated file belongs to, and its generator: byte code of a package's
    /// Python module, dpkg's record of a package, a configuration file that ucf keeps.
    pub(super) fn derived(&self, path: &str) -> Option<(&'a str, &'static str)> {
        if let Some(source) = python_source(path) {
            return self.of(&source).map(|claim| (claim.package, "py3compile"));
        }
        if let Some(name) = path.strip_prefix("/var/lib/dpkg/info/") {
            let (name, _) = name.rsplit_once('.')?;
            return self.by_info_name.get(name).map(|package| (*package, "dpkg"));
        }
        self.ucf.get(path).map(|package| (*package, "ucf"))
    }
}

/// What a package lists, and configuration files that it once listed and still records.
fn paths(package: &Package) -> impl Iterator<Item = &String> {
    let obsolete = package.installed.conffiles.keys().filter(|path| !package.list.contains(path));
    package.list.iter().chain(obsolete)
}

fn diverted<'a>(database: &'a Database, folders: &mut Folders<'_>) -> Diverted<'a> {
    let diversion = |diversion: &'a crate::dpkg::Diversion| {
        let (from, to) = (folders.resolve(&diversion.from), folders.resolve(&diversion.to));
        (from, (diversion.package.as_deref(), to))
    };
    database.diversions.iter().map(diversion).collect()
}

/// `DIR/NAME.py` for `DIR/__pycache__/NAME.TAG.pyc` (PEP 3147).
fn python_source(path: &str) -> Option<String> {
    let (folder, name) = split(path.strip_suffix(".pyc")?);
    let folder = folder.strip_suffix("/__pycache__")?;
    let (module, _) = name.split_once('.')?;
    Some(format!("{folder}/{module}.py"))
}

/// ucf(1)'s registry, `PACKAGE PATH` a line, for the packages that are installed.
fn registry<'a>(
    tree: &dyn TreeReader,
    packages: &'a [Known<'a>],
) -> Result<BTreeMap<String, &'a str>> {
    let text = read(tree, "/var/lib/ucf/registry")?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = |line: &str| {
        let (name, path) = line.split_once(char::is_whitespace)?;
        let known = packages.iter().find(|known| known.installed().name == name)?;
        Some((path.trim().to_owned(), known.purl.as_str()))
    };
    Ok(text.lines().filter_map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::python_source;

    #[test]
    fn byte_code_leads_to_its_module() {
        assert_eq!(
            python_source("/usr/lib/python3/a/__pycache__/b.cpython-311.opt-1.pyc").as_deref(),
            Some("/usr/lib/python3/a/b.py")
        );
        assert_eq!(python_source("/usr/lib/python3/a/b.pyc"), None);
        assert_eq!(python_source("/usr/lib/python3/a/__pycache__/b.txt"), None);
    }
}

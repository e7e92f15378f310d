use std::collections::BTreeMap;

use nodekiln_recipes::Inventory;
use nodekiln_recipes::inventory::TreeReader;
use nodekiln_words::{Failure, Result, ResultExt as _};

use super::{Diversion, Installed, State, diversions, list, md5sums, status};

const ROOT: &str = "/var/lib/dpkg";

/// Everything dpkg knows about a tree.
pub(crate) struct Database {
    /// Installed packages, sorted by name and architecture.
    pub(crate) packages: Vec<Package>,
    /// Diverted paths.
    pub(crate) diversions: Vec<Diversion>,
}

/// An installed package with its own files.
pub(crate) struct Package {
    /// The status file's entry.
    pub(crate) installed: Installed,
    /// `name` or `name:arch`, as its files below `info` are called.
    pub(crate) info_name: String,
    /// Paths as the package lists them, directories included, links not resolved.
    pub(crate) list: Vec<String>,
    /// MD5 in hexadecimal by path, configuration files included.
    pub(crate) digests: BTreeMap<String, String>,
}

impl Database {
    /// Reads the database of a tree.
    pub(crate) fn read(tree: &dyn TreeReader, inventory: &Inventory) -> Result<Self> {
        let path = format!("{ROOT}/status");
        let text = read(tree, &path)?.ok_or_else(|| {
            Failure::input(format!("the tree has no {path}"))
                .with_help("a bill of materials needs a tree with a dpkg database")
        })?;
        let mut packages = Vec::new();
        for (installed, state) in status(&String::from_utf8_lossy(&text))? {
            if state == State::Installed {
                packages.push(package(installed, tree, inventory)?);
            }
        }
        let diverted = read(tree, &format!("{ROOT}/diversions"))?.unwrap_or_default();
        Ok(Self { packages, diversions: diversions(&diverted) })
    }
}

/// `Multi-Arch: same` packages have their architecture in the names of their info files.
fn package(installed: Installed, tree: &dyn TreeReader, inventory: &Inventory) -> Result<Package> {
    let with_architecture = format!("{}:{}", installed.name, installed.architecture);
    let has_list = |name: &str| inventory.entries.contains_key(&info(name, "list"));
    let info_name = [&with_architecture, &installed.name]
        .into_iter()
        .find(|name| has_list(name))
        .ok_or_else(|| {
            Failure::input(format!(
                "package {} is installed, but {} is missing",
                installed.name,
                info(&installed.name, "list")
            ))
        })?
        .clone();
    let listed = read(tree, &info(&info_name, "list"))?.unwrap_or_default();
    let mut digests = md5sums(&read(tree, &info(&info_name, "md5sums"))?.unwrap_or_default());
    digests.extend(installed.conffiles.iter().map(|(path, sum)| (path.clone(), sum.clone())));
    Ok(Package { list: list(&listed), digests, info_name, installed })
}

fn info(name: &str, kind: &str) -> String {
    format!("{ROOT}/info/{name}.{kind}")
}

/// A file of the tree, with its path in the failure.
pub(crate) fn read(tree: &dyn TreeReader, path: &str) -> Result<Option<Vec<u8>>> {
    tree.read(path).or_io(|| format!("cannot read {path} of the tree"))
}

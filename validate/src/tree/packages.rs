//! The packages that a system's own database names as installed.

mod header;
mod rpm;

use std::rc::Rc;

use nodekiln_words::Result;

use super::{Files, Tree};
#[cfg(test)]
pub(crate) use header::of_package;
#[cfg(test)]
pub(crate) use rpm::database as rpm_database;

/// dpkg's database, and where images without a package manager keep a paragraph a package (distroless).
const DPKG_STATUS: &str = "/var/lib/dpkg/status";
const DPKG_PARAGRAPHS: &str = "/var/lib/dpkg/status.d";

/// An installed package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version as the package manager writes it: of dpkg `[EPOCH:]VERSION[-REVISION]`, of RPM
    /// `[EPOCH:]VERSION-RELEASE`.
    pub version: String,
    /// Its architecture; empty where it has none, as keys that RPM keeps among the packages.
    pub architecture: String,
}

/// What the databases of a system tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packages {
    /// The installed packages, sorted; nothing where there is no database that can be read.
    pub installed: Option<Vec<Package>>,
    /// Databases that are there and are not read, each with the reason.
    pub unread: Vec<String>,
}

impl Packages {
    /// Reads every database that `files` have.
    ///
    /// # Errors
    /// When a file cannot be read, or a database is damaged.
    pub fn of(files: &dyn Files) -> Result<Self> {
        let mut packages = Self::default();
        packages.read_dpkg(files)?;
        rpm::read(files, &mut packages)?;
        if let Some(installed) = &mut packages.installed {
            installed.sort();
            installed.dedup();
        }
        Ok(packages)
    }

    /// The installed package called `name`.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Package> {
        self.installed.iter().flatten().find(|package| package.name == name)
    }

    /// Why nothing can be said of packages; nothing where it can.
    #[must_use]
    pub fn unknown(&self) -> Option<String> {
        match (&self.installed, self.unread.is_empty()) {
            (Some(_), _) => None,
            (None, true) => Some("there is no database of packages".to_owned()),
            (None, false) => Some(self.unread.join("; ")),
        }
    }

    fn add(&mut self, package: Package) {
        self.installed.get_or_insert_default().push(package);
    }

    fn read_dpkg(&mut self, files: &dyn Files) -> Result<()> {
        if let Some(status) = files.text(DPKG_STATUS)? {
            self.installed.get_or_insert_default();
            for paragraph in status.split("\n\n") {
                // What was removed keeps its paragraph as long as its configuration is there.
                let state = field(paragraph, "Status");
                if state.is_some_and(|state| state.ends_with(" installed")) {
                    self.add_paragraph(paragraph);
                }
            }
        }
        for name in files.list(DPKG_PARAGRAPHS)? {
            if name.ends_with(".md5sums") {
                continue;
            }
            if let Some(paragraph) = files.text(&format!("{DPKG_PARAGRAPHS}/{name}"))? {
                self.add_paragraph(&paragraph);
            }
        }
        Ok(())
    }

    fn add_paragraph(&mut self, paragraph: &str) {
        let owned = |name| field(paragraph, name).map(str::to_owned);
        if let (Some(name), Some(version)) = (owned("Package"), owned("Version")) {
            let architecture = owned("Architecture").unwrap_or_default();
            self.add(Package { name, version, architecture });
        }
    }
}

impl Tree<'_> {
    /// The packages that the tree's databases name, which are read once.
    ///
    /// # Errors
    /// As [`Packages::of`].
    pub fn packages(&self) -> Result<Rc<Packages>> {
        if let Some(known) = self.packages.get() {
            return Ok(Rc::clone(known));
        }
        let found = Rc::new(Packages::of(self)?);
        Ok(Rc::clone(self.packages.get_or_init(|| found)))
    }
}

/// A field of one line of a paragraph (deb822(5)).
fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = paragraph.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: runc\nStatus: hold ok installed\nVersion: 1.1.5\nArchitecture: amd64\n\n\
        Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
        Package: containerd\nStatus: install ok installed\nVersion: 1.6.20~ds1-1+deb12u3\nArchitecture: amd64\n";

    #[test]
    fn what_is_held_is_installed_and_what_was_removed_is_not() {
        let mut tree = Tree::default();
        tree.write(DPKG_STATUS, 0o644, STATUS);
        tree.write("/var/lib/dpkg/status.d/base", 0o644, "Package: base-files\nVersion: 12.4\n");
        tree.write("/var/lib/dpkg/status.d/base.md5sums", 0o644, "Package: none\nVersion: 0\n");
        let packages = Packages::of(&tree).unwrap();
        let names: Vec<&str> =
            packages.installed.iter().flatten().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["base-files", "containerd", "runc"]);
        assert_eq!(packages.named("containerd").unwrap().version, "1.6.20~ds1-1+deb12u3");
        assert_eq!(packages.named("gone"), None);
        assert_eq!(packages.unknown(), None);
    }

    #[test]
    fn what_is_known_of_packages_is_read_again_after_a_change() {
        let mut tree = Tree::default();
        tree.write(DPKG_STATUS, 0o644, STATUS);
        assert!(tree.packages().unwrap().named("runc").is_some());
        tree.replace(DPKG_STATUS, "hold ok installed", "deinstall ok config-files");
        assert!(tree.packages().unwrap().named("runc").is_none());
        tree.remove("/var/lib/dpkg");
        assert_eq!(tree.packages().unwrap().installed, None);
    }

    #[test]
    fn a_system_without_a_database_has_no_empty_list() {
        let packages = Packages::of(&Tree::default()).unwrap();
        assert_eq!(packages.installed, None);
        assert!(packages.unknown().unwrap().contains("no database"));
    }
}

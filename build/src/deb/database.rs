//! dpkg's database, written as dpkg would have left it after unpacking.
//!
//! Layout: dpkg(1), deb-triggers(5) and dpkg's own data folder `/var/lib/dpkg`, format 1. Where dpkg
//! notes what a trigger activation means for each package at once, this leaves the activation in
//! `triggers/Unincorp`, from which dpkg takes it when it starts.

use std::path::Path;

use md5::{Digest as _, Md5};
use nodekiln_words::{Result, ResultExt};

use super::control::Control;
use super::extract::PENDING;
use super::stanza::{Clause, Stanza};
use super::tree::Tree;
use super::triggers::{Interests, Pending};
use super::unpack::{Parcel, Unpacked};

const ROOT: &str = "/var/lib/dpkg";
const STATUS: &str = "/var/lib/dpkg/status";
const INFO: &str = "/var/lib/dpkg/info";
const TRIGGERS: &str = "/var/lib/dpkg/triggers";

/// Fields that dpkg knows, in the order in which it writes them. `Status` and `Conffiles` are not the
/// package's own; what dpkg does not know follows in the package's order.
const FIELDS: [&str; 25] = [
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
    "Conffiles",
    "Description",
];
/// Those of them that are relations, and are written in one normal form.
const RELATIONS: [&str; 9] = [
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
];

/// The dpkg database of a tree.
#[derive(Debug)]
pub struct Database {
    tree: Tree,
}

impl Database {
    /// The database of the tree at `root`; what is missing of it is made.
    ///
    /// # Errors
    /// Where the tree cannot be opened or written.
    pub fn open(root: &Path) -> Result<Self> {
        let tree = Tree::open(root)?;
        for folder in ["info", "triggers", "updates"] {
            tree.make_folders(&format!("{ROOT}/{folder}"))?;
        }
        for (file, content) in [("status", ""), ("info/format", "1\n")] {
            let path = format!("{ROOT}/{file}");
            if tree.read(&path)?.is_none() {
                tree.write(&path, content.as_bytes(), 0o644, None)?;
            }
        }
        Ok(Self { tree })
    }

    /// Enters `parcels`, whose files were `unpacked`, as `install ok unpacked`. What the database remembers of
    /// packages that had these names and are gone is replaced; settings that they left are in their place
    /// still, and stay when the package is configured.
    ///
    /// # Errors
    /// Where the database cannot be read or written.
    pub fn enter(&self, parcels: &[Parcel], unpacked: &Unpacked) -> Result<()> {
        let status = self.tree.read_text(STATUS)?;
        let mut paragraphs: Vec<String> =
            status.split_inclusive("\n\n").map(str::to_owned).collect();
        for (parcel, list) in parcels.iter().zip(&unpacked.lists) {
            let head = format!("Package: {}\n", parcel.control.name);
            paragraphs.retain(|paragraph| !paragraph.starts_with(&head));
            self.write_info(&parcel.control, list)?;
            paragraphs.push(paragraph(&parcel.control, list));
        }
        // Each begins with the package's name.
        paragraphs.sort_by(|a, b| a.lines().next().cmp(&b.lines().next()));
        self.drop_lost(&unpacked.lost)?;
        self.write_triggers(parcels, unpacked)?;
        self.tree.write(STATUS, paragraphs.concat().as_bytes(), 0o644, None)
    }

    /// Marks the packages `hold`, as `dpkg --set-selections` does.
    ///
    /// # Errors
    /// Where the database cannot be read or written, or knows no package of a name.
    pub fn hold(&self, names: &[String]) -> Result<()> {
        let status = self.tree.read_text(STATUS)?;
        let mut paragraphs: Vec<String> =
            status.split_inclusive("\n\n").map(str::to_owned).collect();
        for name in names {
            let head = format!("Package: {name}\n");
            let paragraph = paragraphs.iter_mut().find(|paragraph| paragraph.starts_with(&head));
            let paragraph = paragraph.ok_or_else(|| {
                nodekiln_words::Failure::input(format!(
                    "package {name} is to be held but is not installed"
                ))
                .with_help(format!("add {name} to the packages, or do not hold it"))
            })?;
            *paragraph = paragraph.replacen("\nStatus: install ", "\nStatus: hold ", 1);
        }
        self.tree.write(STATUS, paragraphs.concat().as_bytes(), 0o644, None)
    }

    fn write_info(&self, control: &Control, list: &[Vec<u8>]) -> Result<()> {
        let name = control.database_name();
        self.remove_info(&format!("{name}.postrm"))?; // what is left of a package that was removed
        let mut lines = list.join(&b'\n');
        lines.push(b'\n');
        self.tree.write(&format!("{INFO}/{name}.list"), &lines, 0o644, Some(control.mtime))?;
        let files = control.files.iter().filter(|(kind, _)| *kind != "control");
        for (kind, file) in files {
            let path = format!("{INFO}/{name}.{kind}");
            self.tree.write(&path, &file.bytes, file.mode, Some(file.mtime))?;
        }
        if !control.files.contains_key("md5sums") {
            let md5sums = self.md5sums(control, list)?;
            self.tree.write(
                &format!("{INFO}/{name}.md5sums"),
                &md5sums,
                0o644,
                Some(control.mtime),
            )?;
        }
        Ok(())
    }

    /// Removes a file of the database, if it is there.
    fn remove_info(&self, file: &str) -> Result<()> {
        let folder = self.tree.folder(INFO.as_bytes());
        folder
            .and_then(|folder| folder.remove(file.as_ref()))
            .or_io(|| format!("{INFO}/{file} in the tree cannot be removed"))
    }

    /// Digests of the package's files, which dpkg makes for a package that brings none, and misses
    /// where there are none (deb-md5sums(5)).
    fn md5sums(&self, control: &Control, list: &[Vec<u8>]) -> Result<Vec<u8>> {
        let conffile = |path: &[u8]| control.conffiles.iter().any(|c| c.path.as_bytes() == path);
        let mut lines = Vec::new();
        for path in list {
            let pending = if conffile(path) { PENDING.as_bytes() } else { b"" };
            if let Some(bytes) = self.tree.read_unlinked(&[path, pending].concat())? {
                for byte in Md5::digest(bytes) {
                    lines.extend(format!("{byte:02x}").bytes());
                }
                lines.extend(b"  ");
                lines.extend(path.strip_prefix(b"/").unwrap_or(path));
                lines.push(b'\n');
            }
        }
        Ok(lines)
    }

    /// Writes a package's control files into a new folder `name` of the database, from where its
    /// `preinst` can run before the package is entered.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn lay_out_control(&self, control: &Control, name: &str) -> Result<()> {
        let folder = format!("{ROOT}/{name}");
        self.tree.make_folders(&folder)?;
        for (kind, file) in &control.files {
            let path = format!("{folder}/{kind}");
            self.tree.write(&path, &file.bytes, file.mode, Some(file.mtime))?;
        }
        Ok(())
    }

    /// Takes paths out of the lists of packages that lost them to others.
    fn drop_lost(&self, lost: &[(String, Vec<u8>)]) -> Result<()> {
        for (name, path) in lost {
            let list = format!("{INFO}/{name}.list");
            let lines = self.tree.read(&list)?.unwrap_or_default();
            let mut kept = lines.split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>();
            kept.retain(|line| line.strip_suffix(b"\n").unwrap_or(line) != path.as_slice());
            self.tree.write(&list, &kept.concat(), 0o644, None)?;
        }
        Ok(())
    }

    fn write_triggers(&self, parcels: &[Parcel], unpacked: &Unpacked) -> Result<()> {
        let mut interests = Interests::default();
        interests.read_paths(&self.tree.read_text(&format!("{TRIGGERS}/File"))?);
        let mut pending = Pending::read(&self.tree.read_text(&format!("{TRIGGERS}/Unincorp"))?);
        for parcel in parcels {
            interests.register(&parcel.control.database_name(), &parcel.control.triggers);
        }
        for (parcel, list) in parcels.iter().zip(&unpacked.lists) {
            let name = parcel.control.database_name();
            let paths = list.iter().map(Vec::as_slice);
            pending.unpacked(&name, &parcel.control.triggers, paths, &interests);
        }
        for (trigger, packages) in &interests.names {
            let path = format!("{TRIGGERS}/{trigger}");
            let mut text = self.tree.read_text(&path)?;
            packages.iter().for_each(|package| text.extend([package, "\n"]));
            self.tree.write(&path, text.as_bytes(), 0o644, None)?;
        }
        let line = |(path, package): &(String, String)| format!("{path} {package}\n");
        let paths: String = interests.paths.iter().map(line).collect();
        self.tree.write(&format!("{TRIGGERS}/File"), paths.as_bytes(), 0o644, None)?;
        self.tree.write(&format!("{TRIGGERS}/Unincorp"), pending.text().as_bytes(), 0o644, None)
    }

    /// The packages' states: name and the three words of `Status`.
    ///
    /// # Errors
    /// Where the database cannot be read or has paragraphs that are not dpkg's.
    pub fn states(&self) -> Result<Vec<(String, String)>> {
        let status = self.tree.read_text(STATUS)?;
        status
            .split("\n\n")
            .filter(|paragraph| !paragraph.trim().is_empty())
            .map(|paragraph| {
                let stanza = Stanza::parse(paragraph, "in dpkg's status file")?;
                let field = |name| stanza.get(name).unwrap_or_default().to_owned();
                Ok((field("Package"), field("Status")))
            })
            .collect::<Result<_>>()
            .or_io(|| format!("{STATUS} in the tree is damaged"))
    }
}

/// The package's paragraph in the status file, with the empty line behind it.
fn paragraph(control: &Control, list: &[Vec<u8>]) -> String {
    let stanza = &control.stanza;
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            let blank = if value.starts_with('\n') { "" } else { " " };
            text.extend([name, ":", blank, value, "\n"]);
        }
    };
    for name in FIELDS {
        match name {
            "Status" => field(name, "install ok unpacked"),
            "Conffiles" => field(name, &conffiles(control, list)),
            _ => field(name, &known(stanza, name)),
        }
    }
    let unknown =
        stanza.fields().filter(|(name, _)| !FIELDS.iter().any(|f| f.eq_ignore_ascii_case(name)));
    for (name, value) in unknown {
        field(name, value);
    }
    text.push('\n');
    text
}

/// The value of a field that dpkg knows, in its normal form; empty where it is not written.
fn known(stanza: &Stanza, name: &str) -> String {
    let value = stanza.get(name).unwrap_or_default();
    match name {
        "Essential" | "Protected" | "Multi-Arch" if value == "no" => String::new(),
        "Priority" => value.to_ascii_lowercase(),
        name if RELATIONS.contains(&name) => {
            let clauses: Vec<_> = stanza.relation(name).iter().map(Clause::normal).collect();
            clauses.join(", ")
        }
        _ => value.to_owned(),
    }
}

/// One line per conffile; the digest is unknown until the package is configured.
fn conffiles(control: &Control, list: &[Vec<u8>]) -> String {
    let line = |conffile: &super::control::Conffile| {
        let flag = if conffile.removed { " remove-on-upgrade" } else { "" };
        format!("\n {} newconffile{flag}", conffile.path)
    };
    let there = |conffile: &&super::control::Conffile| {
        conffile.removed || list.iter().any(|path| path == conffile.path.as_bytes())
    };
    control.conffiles.iter().filter(there).map(line).collect()
}

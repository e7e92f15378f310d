//! A package's control files: fields, conffiles, triggers, maintainer scripts.

use std::collections::BTreeMap;
use std::io::Read;

use nodekiln_words::{Failure, Result, ResultExt};

use super::archive::drain;
use super::stanza::Stanza;
use super::triggers::Directive;

/// What a package's `control.tar` holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The fields of the file `control`.
    pub stanza: Stanza,
    /// Package name.
    pub name: String,
    /// Version with epoch.
    pub version: String,
    /// Architecture, such as `amd64` or `all`.
    pub architecture: String,
    /// Configuration files that dpkg looks after, in the package's order.
    pub conffiles: Vec<Conffile>,
    /// Triggers that it is interested in or activates.
    pub triggers: Vec<Directive>,
    /// All files, by name.
    pub files: BTreeMap<String, ControlFile>,
    /// Modification time of `control` in UTC seconds.
    pub mtime: u64,
}

/// One control file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlFile {
    /// Content.
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Modification time in UTC seconds.
    pub mtime: u64,
}

/// A line of the file `conffiles`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conffile {
    /// Absolute path.
    pub path: String,
    /// Flagged `remove-on-upgrade`: named here, but not shipped.
    pub removed: bool,
}

impl Control {
    /// Reads the control archive from its uncompressed bytes.
    pub(crate) fn read(bytes: impl Read, label: &str) -> Result<Self> {
        let files = read_files(bytes, label)?;
        let control = files
            .get("control")
            .ok_or_else(|| Failure::io(format!("package {label} has no control file")))?;
        let mtime = control.mtime;
        let text = std::str::from_utf8(&control.bytes)
            .or_io(|| format!("package {label}: its control file is not UTF-8"))?;
        let stanza = Stanza::parse(text, label)?;
        let field = |name: &str| {
            let value = stanza.get(name).map(str::to_owned);
            value.ok_or_else(|| {
                Failure::io(format!("package {label}: its control file lacks `{name}`"))
            })
        };
        let name = plain_name(field("Package")?, label)?;
        let conffiles = conffiles(lines(&files, "conffiles", label)?, label)?;
        let triggers = Directive::parse_all(lines(&files, "triggers", label)?, label)?;
        Ok(Self {
            version: field("Version")?,
            architecture: plain_name(field("Architecture")?, label)?,
            conffiles,
            triggers,
            name,
            stanza,
            files,
            mtime,
        })
    }

    /// Marked `Multi-Arch: same`, so that dpkg's database has the architecture in its file names.
    #[must_use]
    pub fn multi_arch_same(&self) -> bool {
        self.stanza.get("Multi-Arch") == Some("same")
    }

    /// Marked `Essential: yes`.
    #[must_use]
    pub fn essential(&self) -> bool {
        self.stanza.get("Essential") == Some("yes")
    }

    /// Name of the package's files in dpkg's database: `NAME` or `NAME:ARCH`.
    #[must_use]
    pub fn database_name(&self) -> String {
        if self.multi_arch_same() {
            format!("{}:{}", self.name, self.architecture)
        } else {
            self.name.clone()
        }
    }

    /// Whether its `Replaces` allows it to take files over from `other`. A provided name does not
    /// count, as with dpkg.
    #[must_use]
    pub fn replaces(&self, other: &Control) -> bool {
        let replaced = self.stanza.relation("Replaces");
        replaced
            .iter()
            .flat_map(|clause| &clause.0)
            .any(|possibility| possibility.name == other.name && possibility.admits(&other.version))
    }
}

fn read_files(bytes: impl Read, label: &str) -> Result<BTreeMap<String, ControlFile>> {
    let damaged = || format!("package {label}: its control archive is damaged");
    let mut archive = tar::Archive::new(bytes);
    let mut files = BTreeMap::new();
    for entry in archive.entries().or_io(damaged)? {
        let mut entry = entry.or_io(damaged)?;
        let path = entry.path_bytes().into_owned();
        let name = String::from_utf8(path).or_io(damaged)?;
        let name = name.trim_start_matches("./").to_owned();
        if name.is_empty() || name == "." {
            continue;
        }
        if !entry.header().entry_type().is_file() || name.contains('/') || name == ".." {
            return Err(Failure::io(format!(
                "package {label}: control archive has `{name}`, not a plain file"
            )));
        }
        let mode = entry.header().mode().or_io(damaged)? & 0o7777;
        let mtime = entry.header().mtime().or_io(damaged)?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).or_io(damaged)?;
        files.insert(name, ControlFile { bytes, mode, mtime });
    }
    drain(archive.into_inner()).or_io(damaged)?;
    Ok(files)
}

/// Name and architecture become parts of file names, so they may hold nothing but what policy allows.
fn plain_name(name: String, label: &str) -> Result<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if name.bytes().all(allowed) && name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Ok(name)
    } else {
        Err(Failure::io(format!("package {label}: `{name}` is no package or architecture name")))
    }
}

fn lines<'a>(
    files: &'a BTreeMap<String, ControlFile>,
    name: &str,
    label: &str,
) -> Result<impl Iterator<Item = &'a str> + use<'a>> {
    let bytes = files.get(name).map_or(&[][..], |file| file.bytes.as_slice());
    let text = std::str::from_utf8(bytes)
        .or_io(|| format!("package {label}: its file `{name}` is not UTF-8"))?;
    Ok(text.lines().map(str::trim_end).filter(|line| !line.is_empty()))
}

/// deb-conffiles(5).
fn conffiles<'a>(lines: impl Iterator<Item = &'a str>, label: &str) -> Result<Vec<Conffile>> {
    lines
        .map(|line| {
            let (path, removed) = match line.strip_prefix("remove-on-upgrade ") {
                Some(path) => (path.trim_start(), true),
                None => (line, false),
            };
            if path.starts_with('/') {
                Ok(Conffile { path: path.to_owned(), removed })
            } else {
                Err(Failure::io(format!("package {label}: conffile `{line}` is no absolute path")))
            }
        })
        .collect()
}

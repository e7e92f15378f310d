//! The packages that a tree has already, so that more can be unpacked over them: who they are, and which
//! paths are theirs.

use nodekiln_words::{Failure, Result, ResultExt};
use rustix::fs::{self, AtFlags, FileType};
use rustix::io::Errno;

use super::claims::{Claim, Claims, Kind};
use super::control::Control;
use super::diversions::Decisions;
use super::extract::PENDING;
use super::stanza::Stanza;
use super::tree::{Folders, Tree, split};

const STATUS: &str = "/var/lib/dpkg/status";

/// The packages of the tree's database, as far as other packages may ask about them.
pub(super) fn packages(tree: &Tree) -> Result<Vec<Control>> {
    let status = tree.read_text(STATUS)?;
    let paragraphs = status.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty());
    let stanzas = paragraphs.map(|paragraph| Stanza::parse(paragraph, "in dpkg's status file"));
    let there = |stanza: &Result<Stanza>| {
        !stanza.as_ref().is_ok_and(|stanza| is_gone(stanza.get("Status").unwrap_or_default()))
    };
    stanzas
        .filter(there)
        .map(|stanza| {
            let stanza = stanza?;
            let field = |name: &str| {
                stanza.get(name).map(str::to_owned).ok_or_else(|| {
                    Failure::io(format!("{STATUS} in the tree has a package without `{name}`"))
                })
            };
            Ok(Control {
                name: field("Package")?,
                version: field("Version")?,
                architecture: field("Architecture")?,
                conffiles: Vec::new(),
                triggers: Vec::new(),
                files: Default::default(),
                mtime: 0,
                stanza,
            })
        })
        .collect()
}

/// Whether a package of this `Status` has no files but settings, which another one takes over without a
/// word, or not even these: it was removed or purged, or was chosen once and never installed.
pub(crate) fn is_gone(status: &str) -> bool {
    matches!(status.rsplit(' ').next(), Some("config-files" | "not-installed"))
}

/// Claims for each package what its list names and is no folder; `packages` are the first that the
/// claims know.
pub(super) fn claim(tree: &Tree, packages: &[Control], claims: &Claims) -> Result<()> {
    let decisions = Decisions::read(tree)?;
    let folders = Folders::new(tree);
    for (owner, package) in packages.iter().enumerate() {
        let list = format!("/var/lib/dpkg/info/{}.list", package.database_name());
        let list = tree.read(&list)?.unwrap_or_default();
        for literal in list.split(|byte| *byte == b'\n').filter(|line| line.len() > 1) {
            let used = decisions.place(literal, &package.name);
            let (parent, name) = split(used);
            // What a later step removed is nobody's.
            let Ok(folder) = folders.get(parent) else { continue };
            match fs::statat(folder.fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    continue;
                }
                Err(Errno::NOENT) => continue,
                found => {
                    found.or_io(|| format!("{} in the tree", String::from_utf8_lossy(used)))?
                }
            };
            let path = folder.path_of(name);
            // A new package's conffile stands under the second name until it is configured.
            for path in [[path.as_slice(), PENDING.as_bytes()].concat(), path] {
                let claim = Claim::new(owner, literal.to_vec(), Kind::Other);
                claims.lock(&path).insert(path.clone(), claim);
            }
        }
    }
    Ok(())
}

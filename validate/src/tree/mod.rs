//! The files of an image's root, as one tree: what the static rules on files judge.
//!
//! A tree is an index of every path with its attributes, and a way to the bytes behind them. It is made once of
//! an image's file systems and answers most questions without reading again. It is a value that can be changed:
//! a mutated tree is a sound one with something written, removed or given to somebody else, which is how each
//! rule is shown to go red.

pub mod accounts;
pub mod boot_menu;
pub mod cloud_config;
pub mod containerd;
pub mod drop_ins;
mod edit;
mod entry;
mod facts;
mod files;
pub mod fstab;
mod glob;
mod linked;
pub mod loader;
pub mod modules;
pub mod packages;
mod programs;
mod root;
pub mod sshd;
pub mod sudoers;
pub mod units;
mod versions;

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;
use std::rc::Rc;

use nodekiln_recipes::recipe::Version;
use nodekiln_words::Result;

pub use entry::{Entry, Kind};
pub use files::Files;
pub(crate) use glob::fits;
pub use glob::matches;
pub(crate) use linked::{OPT, leading};
pub use root::Root;

/// Most links that lead from one to the next (Linux, `MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// Where root's programs are looked for: the `PATH` of Debian's and Fedora's systemd for services, without the
/// folders of /usr/local that the kubelet's unit would not see first.
pub(crate) const ROOT_PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The files of an image's root.
#[derive(Clone, Default)]
pub struct Tree<'a> {
    /// By absolute path without a slash at the end; the root itself is `/`.
    entries: BTreeMap<String, Entry>,
    /// Bytes of files that are not where the others are.
    written: BTreeMap<String, Vec<u8>>,
    /// Where the bytes of the others are; `None` where there are no others.
    source: Option<&'a dyn Files>,
    /// What its databases of packages tell; empty until somebody asks, and again after a change.
    packages: OnceCell<Rc<packages::Packages>>,
    /// Versions linked into programs that somebody asked for, by path; dropped by a change.
    linked: RefCell<BTreeMap<String, Rc<BTreeSet<Version>>>>,
}

impl<'a> Tree<'a> {
    /// A tree of `entries`, by absolute path, whose bytes `source` has.
    #[must_use]
    pub fn new(entries: BTreeMap<String, Entry>, source: &'a dyn Files) -> Self {
        Self { entries, source: Some(source), ..Self::default() }
    }

    /// What is at `path` itself: a link is told as a link.
    #[must_use]
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// What `path` leads to and where that is, every link followed, also those on the way; nothing where it
    /// leads nowhere or in circles.
    #[must_use]
    pub fn resolve(&self, path: &str) -> Option<(String, &Entry)> {
        let mut left: Vec<String> = parts(path).rev().map(str::to_owned).collect();
        let mut at = String::new();
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            let next = format!("{at}/{part}");
            let entry = self.entries.get(&next)?;
            let Some(target) = &entry.target else {
                at = next;
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return None;
            }
            if target.starts_with('/') {
                at.clear();
            }
            left.extend(parts(target).rev().map(str::to_owned));
        }
        let at = if at.is_empty() { "/".to_owned() } else { at };
        let entry = self.entries.get(&at)?;
        Some((at, entry))
    }

    /// The bytes of the file that `path` leads to; nothing where that is no file.
    ///
    /// # Errors
    /// When its file system is damaged there, or it is too large to be held.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some((path, entry)) = self.resolve(path) else { return Ok(None) };
        if entry.kind != Kind::File {
            return Ok(None);
        }
        if let Some(bytes) = self.written.get(&path) {
            return Ok(Some(bytes.clone()));
        }
        match self.source {
            Some(source) => source.read(&path),
            None => Ok(None),
        }
    }

    /// The bytes of the file that `path` leads to, one after the other; nothing where that is no file.
    ///
    /// # Errors
    /// When its file system is damaged there.
    pub fn open(&self, path: &str) -> Result<Option<Box<dyn io::Read + '_>>> {
        let Some((path, entry)) = self.resolve(path) else { return Ok(None) };
        if entry.kind != Kind::File {
            return Ok(None);
        }
        if let Some(bytes) = self.written.get(&path) {
            return Ok(Some(Box::new(bytes.as_slice())));
        }
        self.source.map_or(Ok(None), |source| source.open(&path))
    }

    /// As [`Tree::read`], as text; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub fn text(&self, path: &str) -> Result<Option<String>> {
        Ok(self.read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Names in the folder that `path` leads to, sorted; none where that is no folder.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<&str> {
        let Some((folder, _)) = self.resolve(path) else { return Vec::new() };
        let prefix = if folder == "/" { folder } else { format!("{folder}/") };
        let length = prefix.len();
        self.under(prefix)
            .filter_map(|(path, _)| {
                let name = &path[length..];
                (!name.is_empty() && !name.contains('/')).then_some(name)
            })
            .collect()
    }

    /// Everything below the folder `path`, not itself, in the order of paths. Links are neither followed on the
    /// way to it nor below it.
    pub fn below(&self, path: &str) -> impl Iterator<Item = (&str, &Entry)> {
        let prefix = if path == "/" { path.to_owned() } else { format!("{path}/") };
        self.under(prefix).filter(|(path, _)| *path != "/")
    }

    /// Every path with what is there, in their order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Where `program` is that root would start by its name; nothing where there is none that can be executed.
    #[must_use]
    pub fn program(&self, program: &str) -> Option<String> {
        ROOT_PATH.iter().find_map(|folder| {
            let (path, entry) = self.resolve(&format!("{folder}/{program}"))?;
            (entry.kind == Kind::File && entry.mode & 0o111 != 0).then_some(path)
        })
    }

    fn under(&self, prefix: String) -> impl Iterator<Item = (&str, &Entry)> {
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let from = self.entries.range::<str, _>(from);
        from.take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, entry)| (path.as_str(), entry))
    }
}

/// The names in a path, without those that stand for nothing.
fn parts(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tree<'static> {
        let mut tree = Tree::default();
        tree.write("/usr/bin/mount", 0o4755, "elf");
        tree.write("/usr/bin/notes", 0o644, "text");
        tree.link("/bin", "usr/bin");
        tree.link("/sbin", "/usr/sbin");
        tree.write("/usr/sbin/xtables", 0o755, "elf");
        tree.link("/etc/alternatives/iptables", "/usr/sbin/xtables");
        tree.link("/usr/sbin/iptables", "/etc/alternatives/iptables");
        tree.link("/usr/sbin/ip", "../bin/missing");
        tree.link("/loop", "loop");
        tree
    }

    #[test]
    fn links_are_followed_on_the_way_and_at_the_end() {
        let tree = sample();
        let found = |path: &str| tree.resolve(path).map(|(path, _)| path);
        assert_eq!(found("/bin/mount").as_deref(), Some("/usr/bin/mount"));
        assert_eq!(found("/sbin/iptables").as_deref(), Some("/usr/sbin/xtables"));
        assert_eq!(found("/usr/sbin/../bin/./mount").as_deref(), Some("/usr/bin/mount"));
        assert_eq!(found("/").as_deref(), Some("/"));
        assert_eq!(found("/../..").as_deref(), Some("/"));
        assert_eq!(found("/usr/sbin/ip"), None);
        assert_eq!(found("/loop"), None);
        assert_eq!(found("/usr/bin/mount/x"), None);
    }

    #[test]
    fn a_program_is_one_that_can_be_executed() {
        let tree = sample();
        assert_eq!(tree.program("mount").as_deref(), Some("/usr/bin/mount"));
        assert_eq!(tree.program("iptables").as_deref(), Some("/usr/sbin/xtables"));
        assert_eq!(tree.program("notes"), None);
        assert_eq!(tree.program("ip"), None);
    }

    #[test]
    fn names_and_what_is_below_are_those_of_the_folder_alone() {
        let mut tree = sample();
        tree.write("/usr/bin-old/mount", 0o755, "elf");
        assert_eq!(tree.names("/bin"), ["mount", "notes"]);
        assert_eq!(tree.names("/"), ["bin", "etc", "loop", "sbin", "usr"]);
        let below: Vec<&str> = tree.below("/usr/bin").map(|(path, _)| path).collect();
        assert_eq!(below, ["/usr/bin/mount", "/usr/bin/notes"]);
        assert!(tree.names("/none").is_empty());
    }

    #[test]
    fn bytes_are_read_through_links_and_folders_have_none() {
        let tree = sample();
        assert_eq!(tree.text("/bin/notes").unwrap().as_deref(), Some("text"));
        assert_eq!(tree.text("/usr/bin").unwrap(), None);
        assert_eq!(tree.text("/none").unwrap(), None);
    }
}

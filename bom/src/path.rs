//! Paths as the inventory writes them, and directory links resolved.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nodekiln_recipes::Inventory;
use nodekiln_recipes::inventory::EntryKind;

/// Bytes of a path as text: each byte that is not UTF-8 becomes `\xHH`, each backslash `\\`, as
/// [`Inventory`] has it.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The folder a path stands in, without a trailing slash (empty for the root), and its last name.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Links followed before a path leads nowhere; as many as Linux follows (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// Resolves links in the folder part of paths, as in `/bin/x` where `/bin` points to `usr/bin`.
///
/// Each folder is resolved once. Package lists name many files by way of such links, so without
/// this a ninth of the files of a tree with merged `/usr` would look lost.
pub(crate) struct Folders<'a> {
    inventory: &'a Inventory,
    known: BTreeMap<String, String>,
}

impl<'a> Folders<'a> {
    /// Resolves within this inventory.
    pub(crate) fn new(inventory: &'a Inventory) -> Self {
        Self { inventory, known: BTreeMap::new() }
    }

    /// The path with every link in its folder part followed; its last name stays as it is.
    pub(crate) fn resolve(&mut self, path: &str) -> String {
        let (folder, name) = split(path);
        format!("{}/{name}", self.folder(folder, MOST_LINKS))
    }

    /// A folder (empty for the root) with every link followed, its last name included.
    fn folder(&mut self, folder: &str, links: u32) -> String {
        if folder.is_empty() {
            return String::new();
        }
        if let Some(known) = self.known.get(folder) {
            return known.clone();
        }
        let (parent, name) = split(folder);
        let parent = self.folder(parent, links);
        let here = format!("{parent}/{name}");
        let resolved = match self.inventory.entries.get(&here).map(|entry| &entry.kind) {
            Some(EntryKind::Link { target }) if links > 0 => {
                let target = join(&parent, target);
                self.folder(&target, links - 1)
            }
            _ => here,
        };
        self.known.insert(folder.to_owned(), resolved.clone());
        resolved
    }
}

/// A link's target seen from the folder the link stands in, without `.` and `..`.
pub(crate) fn join(folder: &str, target: &str) -> String {
    let start = if target.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = start.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.iter().fold(String::new(), |path, part| path + "/" + part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nodekiln_recipes::inventory::Entry;

    fn links(links: &[(&str, &str)]) -> Inventory {
        let entry = |target: &str| Entry {
            kind: EntryKind::Link { target: target.to_owned() },
            mode: 0o777,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: BTreeMap::new(),
        };
        let entries = links.iter().map(|(path, target)| ((*path).to_owned(), entry(target)));
        Inventory { entries: entries.collect() }
    }

    #[test]
    fn links_of_folders_are_followed_and_the_last_name_is_not() {
        let tree = links(&[
            ("/lib", "usr/lib"),
            ("/usr/lib/a", "../share/a"),
            ("/usr/share/a/x", "/nowhere"),
        ]);
        let mut folders = Folders::new(&tree);
        assert_eq!(folders.resolve("/lib/a/x"), "/usr/share/a/x");
        assert_eq!(folders.resolve("/lib"), "/lib");
        assert_eq!(folders.resolve("/etc/x"), "/etc/x");
    }

    #[test]
    fn links_in_a_circle_end() {
        let tree = links(&[("/a", "b"), ("/b", "a")]);
        let resolved = Folders::new(&tree).resolve("/a/x");
        assert!(resolved == "/a/x" || resolved == "/b/x", "{resolved}");
    }

    #[test]
    fn bytes_that_are_no_text_are_written_reversibly() {
        assert_eq!(escape(b"/a\\x2db\xff/\xc3\xa9"), "/a\\\\x2db\\xff/\u{e9}");
    }
}

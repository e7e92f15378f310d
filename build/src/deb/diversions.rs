//! What the administrator or another package decided about single paths: diversions and ownership
//! overrides.
//!
//! Formats: dpkg-divert(1), three lines per diversion in `/var/lib/dpkg/diversions`;
//! dpkg-statoverride(1), `USER GROUP MODE PATH` lines in `/var/lib/dpkg/statoverride`.

use std::collections::HashMap;

use nodekiln_words::{Failure, Result};

use super::tree::{Attributes, Tree};

/// By path: where to put it instead, and the package for which this does not hold.
type Diversions = HashMap<Vec<u8>, (Vec<u8>, String)>;

/// Diversions and overrides of a tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decisions {
    diversions: Diversions,
    /// By path: permission bits, owner, group.
    overrides: HashMap<Vec<u8>, (u32, u32, u32)>,
}

impl Decisions {
    pub(crate) fn read(tree: &Tree) -> Result<Self> {
        let overrides = tree.read_text("/var/lib/dpkg/statoverride")?;
        let (users, groups) = if overrides.is_empty() {
            Default::default()
        } else {
            (ids(&tree.read_text("/etc/passwd")?), ids(&tree.read_text("/etc/group")?))
        };
        Ok(Self {
            diversions: diversions(&tree.read_text("/var/lib/dpkg/diversions")?)?,
            overrides: overrides
                .lines()
                .map(|line| stat_override(line, &users, &groups))
                .collect::<Result<_>>()?,
        })
    }

    /// Where `package` is to put what it has at `path`.
    pub(crate) fn place<'a>(&'a self, path: &'a [u8], package: &str) -> &'a [u8] {
        match self.diversions.get(path) {
            Some((instead, diverting)) if diverting != package => instead,
            _ => path,
        }
    }

    /// The attributes that what a package has at `path` is to get.
    pub(crate) fn attributes(&self, path: &[u8], own: Attributes) -> Attributes {
        match self.overrides.get(path) {
            Some(&(mode, uid, gid)) => Attributes { mode, uid, gid, mtime: own.mtime },
            None => own,
        }
    }
}

fn diversions(text: &str) -> Result<Diversions> {
    let lines: Vec<_> = text.lines().collect();
    let (triples, rest) = lines.as_chunks::<3>();
    if !rest.is_empty() {
        return Err(Failure::io("/var/lib/dpkg/diversions in the tree ends within a diversion"));
    }
    let entry = |[from, to, package]: &[&str; 3]| {
        (from.as_bytes().to_vec(), (to.as_bytes().to_vec(), (*package).to_owned()))
    };
    Ok(triples.iter().map(entry).collect())
}

type Ids = HashMap<String, u32>;

/// Numbers by name, from the third column of `/etc/passwd` or `/etc/group`.
fn ids(text: &str) -> Ids {
    let entry = |line: &str| {
        let mut columns = line.split(':');
        Some((columns.next()?.to_owned(), columns.nth(1)?.parse().ok()?))
    };
    text.lines().filter_map(entry).collect()
}

fn stat_override(line: &str, users: &Ids, groups: &Ids) -> Result<(Vec<u8>, (u32, u32, u32))> {
    let id = |name: &str, ids: &Ids| match name.strip_prefix('#') {
        Some(number) => number.parse().ok(),
        None => ids.get(name).copied(),
    };
    let parsed = || {
        let mut columns = line.splitn(4, ' ');
        let uid = id(columns.next()?, users)?;
        let gid = id(columns.next()?, groups)?;
        let mode = u32::from_str_radix(columns.next()?, 8).ok()?;
        Some((columns.next()?.as_bytes().to_vec(), (mode, uid, gid)))
    };
    parsed().ok_or_else(|| {
        Failure::io(format!("/var/lib/dpkg/statoverride in the tree has an unknown line `{line}`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diversion_holds_for_all_but_the_diverting_package() {
        let diversions = diversions("/bin/x\n/bin/x.real\nmine\n").unwrap();
        let decisions = Decisions { diversions, ..Decisions::default() };
        assert_eq!(decisions.place(b"/bin/x", "other"), b"/bin/x.real");
        assert_eq!(decisions.place(b"/bin/x", "mine"), b"/bin/x");
        assert_eq!(decisions.place(b"/bin/y", "other"), b"/bin/y");
    }

    #[test]
    fn an_incomplete_diversion_is_refused() {
        assert!(diversions("/bin/x\n/bin/x.real\n").is_err());
    }

    #[test]
    fn overrides_name_owners_by_name_or_number() {
        let ids = ids("root:x:0:0:\nman:x:6:12:\n");
        let read = |line| stat_override(line, &ids, &ids).ok();
        assert_eq!(read("man #9 4755 /bin/a b"), Some((b"/bin/a b".to_vec(), (0o4755, 6, 9))));
        assert_eq!(read("nobody root 755 /x"), None);
        assert_eq!(read("root root"), None);
    }
}

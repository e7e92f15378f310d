//! Accounts, groups and their subordinate ids, from the text files that `getpwent(3)` and shadow read.
//!
//! A line that does not have the form that its manual asks for is no entry: programs skip it or stop at it. It is
//! kept with its number, so that a rule can tell of it instead of passing it over.

use std::collections::BTreeSet;
use std::str::FromStr;

use nodekiln_words::Result;

use super::{Kind, Tree};

/// An account (passwd(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// `x` where the password is in /etc/shadow.
    pub password: String,
    /// Numeric id.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// Login shell; empty stands for /bin/sh.
    pub shell: String,
    /// Number of its line, from 1.
    pub line: usize,
}

/// A password (shadow(5), gshadow(5)): only the two fields that rules judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Password {
    /// Name of the account or group.
    pub name: String,
    /// What stands for the password.
    pub field: String,
    /// Number of its line, from 1.
    pub line: usize,
}

/// A group (group(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// `x` where the password is in /etc/gshadow.
    pub password: String,
    /// Numeric id.
    pub gid: u32,
    /// Accounts that have it as a further group.
    pub members: Vec<String>,
    /// Number of its line, from 1.
    pub line: usize,
}

/// A range of subordinate ids (subuid(5), subgid(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subordinate {
    /// Login name, or numeric id as text.
    pub owner: String,
    /// First id.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Number of its line, from 1.
    pub line: usize,
}

/// What a file has: its entries, and the lines that are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines<T> {
    /// The entries in order.
    pub entries: Vec<T>,
    /// Numbers of the lines that do not have the form, from 1.
    pub damaged: Vec<usize>,
}

/// One line's entry.
pub trait Entry: Sized {
    /// The entry that `fields`, which stood between colons in line `line`, tell of.
    fn of(fields: &[&str], line: usize) -> Option<Self>;
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), damaged: Vec::new() }
    }
}

impl<T: Entry> Lines<T> {
    /// The entries of `text`. Empty lines and comments are none, as glibc has it.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut lines = Self::default();
        for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let fields: Vec<&str> = line.split(':').collect();
            match T::of(&fields, number) {
                Some(entry) => lines.entries.push(entry),
                None => lines.damaged.push(number),
            }
        }
        lines
    }
}

/// A name that is one: not empty, and no entry of the old NIS form (`+`, `-@group`).
fn name(text: &str) -> Option<String> {
    let fine =
        !text.is_empty() && !text.starts_with(['+', '-']) && !text.contains(char::is_whitespace);
    fine.then(|| text.to_owned())
}

/// A number as `strtoul(3)` takes it here: digits alone.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| u32::from_str(text).ok()).flatten()
}

impl Entry for Account {
    fn of(fields: &[&str], line: usize) -> Option<Self> {
        let &[account, password, uid, gid, _gecos, home, shell] = fields else { return None };
        Some(Self {
            name: name(account)?,
            password: password.to_owned(),
            uid: number(uid)?,
            gid: number(gid)?,
            home: home.to_owned(),
            shell: shell.trim_end().to_owned(),
            line,
        })
    }
}

impl Entry for Password {
    fn of(fields: &[&str], line: usize) -> Option<Self> {
        // shadow has nine fields, gshadow four.
        let (&[account, field, ..], 4 | 9) = (fields, fields.len()) else { return None };
        Some(Self { name: name(account)?, field: field.to_owned(), line })
    }
}

impl Entry for Group {
    fn of(fields: &[&str], line: usize) -> Option<Self> {
        let &[group, password, gid, members] = fields else { return None };
        let members = members.split(',').map(str::trim).filter(|member| !member.is_empty());
        Some(Self {
            name: name(group)?,
            password: password.to_owned(),
            gid: number(gid)?,
            members: members.map(str::to_owned).collect(),
            line,
        })
    }
}

impl Entry for Subordinate {
    fn of(fields: &[&str], line: usize) -> Option<Self> {
        let &[owner, first, count] = fields else { return None };
        let (first, count) = (number(first)?, number(count.trim_end())?);
        Some(Self { owner: name(owner)?, first, count, line })
    }
}

impl Tree<'_> {
    /// The entries of the file at `path`; nothing where there is none.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub fn lines_of<T: Entry>(&self, path: &str) -> Result<Option<Lines<T>>> {
        Ok(self.text(path)?.map(|text| Lines::of(&text)))
    }

    /// Every folder that is somebody's home: those of /etc/passwd that are there, root's, and all of /home.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub fn homes(&self) -> Result<BTreeSet<String>> {
        let accounts = self.lines_of::<Account>("/etc/passwd")?.unwrap_or_default();
        let named = accounts.entries.into_iter().map(|account| account.home);
        let usual = ["/root", "/etc/skel"].map(str::to_owned);
        let kept = self.names("/home").into_iter().map(|name| format!("/home/{name}"));
        let all = named.chain(usual).chain(kept).filter(|home| home.starts_with('/'));
        let folders = all.filter_map(|home| match self.resolve(&home) {
            Some((path, entry)) if entry.kind == Kind::Folder => Some(path),
            _ => None,
        });
        Ok(folders.collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accounts_are_read_with_their_lines() {
        let lines = Lines::<Account>::of(
            "# local\nroot:x:0:0:root:/root:/bin/bash\n\nnobody:x:65534:65534::/nonexistent:\n",
        );
        assert!(lines.damaged.is_empty());
        let [root, nobody] = &lines.entries[..] else { panic!("{lines:?}") };
        assert_eq!((root.name.as_str(), root.uid, root.line), ("root", 0, 2));
        assert_eq!((nobody.uid, nobody.shell.as_str(), nobody.line), (65534, "", 4));
    }

    #[test]
    fn lines_without_the_form_are_told_by_their_numbers() {
        let passwd = "root:x:0:0:root:/root\n+::::::\nx:x:-1:0::/:/bin/sh\n:x:0:0::/:/bin/sh\n\
                      y:x:4294967296:0::/:/bin/sh\nz:x::0::/:/bin/sh\na b:x:1:1::/:/bin/sh\n";
        assert_eq!(Lines::<Account>::of(passwd).damaged, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(Lines::<Password>::of("root:*:1:0:99999:7:::\nroot:*\n").damaged, [2]);
        assert_eq!(Lines::<Group>::of("adm:x:4:a, b,\nadm:x:four:\n").damaged, [2]);
        assert_eq!(Lines::<Subordinate>::of("a:100000:65536\na:100000\na:x:1\n").damaged, [2, 3]);
    }

    #[test]
    fn members_and_ranges_are_read() {
        let groups = Lines::<Group>::of("adm:x:4:syslog, debian,\n");
        assert_eq!(groups.entries[0].members, ["syslog", "debian"]);
        let ranges = Lines::<Subordinate>::of("builder:100000:65536\n");
        assert_eq!((ranges.entries[0].first, ranges.entries[0].count), (100_000, 65536));
        let gshadow = Lines::<Password>::of("sudo:!::debian\n");
        assert_eq!(gshadow.entries[0].field, "!");
    }

    #[test]
    fn homes_are_those_that_are_there() {
        let mut tree = Tree::default();
        let passwd = "root:x:0:0::/root:/bin/bash\nbin:x:2:2::/bin:/sbin/nologin\n\
                      a:x:1000:1000::/home/a:/bin/sh\nn:x:1:1::/nonexistent:/bin/sh\n";
        tree.write("/etc/passwd", 0o644, passwd);
        tree.folder("/root", 0o700);
        tree.folder("/home/b", 0o755);
        tree.folder("/usr/bin", 0o755);
        tree.link("/bin", "usr/bin");
        let homes: Vec<String> = tree.homes().unwrap().into_iter().collect();
        assert_eq!(homes, ["/home/b", "/root", "/usr/bin"]);
    }

    proptest! {
        #[test]
        fn every_line_is_an_entry_or_damaged_or_a_comment(text in "[a-z0-9:,#+\n -]{0,200}") {
            let counted = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
            let lines = Lines::<Group>::of(&text);
            prop_assert_eq!(lines.entries.len() + lines.damaged.len(), counted.count());
        }
    }
}

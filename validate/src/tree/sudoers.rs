//! Who may do what as whom, from sudo's files (sudoers(5)).

use std::collections::BTreeMap;

use nodekiln_words::Result;

use super::Tree;

/// Most files that include one another (sudo, `MAX_SUDOERS_DEPTH`).
const MOST_DEPTH: usize = 128;

/// A line that lets somebody do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Users as they are written, aliases resolved: `root`, `%sudo`, `#1000`, `ALL`.
    pub who: Vec<String>,
    /// Whether some command needs no password.
    pub without_password: bool,
    /// The file that it is in.
    pub path: String,
    /// Its first line there, from 1.
    pub line: usize,
}

/// A `Defaults` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// What follows the word, such as `env_reset` or `:alice !authenticate`.
    pub text: String,
    /// The file that it is in.
    pub path: String,
    /// Its first line there, from 1.
    pub line: usize,
}

/// What sudo's files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sudoers {
    /// Who may do what.
    pub grants: Vec<Grant>,
    /// Settings.
    pub defaults: Vec<Defaults>,
    /// Lines that are neither, as `path:line`.
    pub damaged: Vec<String>,
    /// Files that were read, in order.
    pub files: Vec<String>,
    aliases: BTreeMap<String, Vec<String>>,
}

impl Sudoers {
    /// What the file at `path` says, with those that it includes; nothing where there is none.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub fn read(tree: &Tree, path: &str) -> Result<Option<Self>> {
        let mut sudoers = Self::default();
        if !sudoers.take(tree, path, 0)? {
            return Ok(None);
        }
        // Aliases may be told of behind their use.
        let aliases = std::mem::take(&mut sudoers.aliases);
        for grant in &mut sudoers.grants {
            let named =
                |who: &String| aliases.get(who).cloned().unwrap_or_else(|| vec![who.clone()]);
            grant.who = grant.who.iter().flat_map(named).collect();
        }
        Ok(Some(sudoers))
    }

    fn take(&mut self, tree: &Tree, path: &str, depth: usize) -> Result<bool> {
        let Some(text) = tree.text(path)? else { return Ok(false) };
        self.files.push(path.to_owned());
        for (line, text) in logical(&text) {
            if let Some(included) = directive(&text, "include") {
                if let Some(path) = absolute(included, path) {
                    self.include(tree, &path, depth)?;
                }
            } else if let Some(folder) = directive(&text, "includedir") {
                if let Some(folder) = absolute(folder, path) {
                    // sudo passes over names with a period, as editors and packages leave them, and those with a
                    // tilde at the end.
                    let names = tree.names(&folder).into_iter();
                    let names = names.filter(|name| !name.contains('.') && !name.ends_with('~'));
                    for path in names.map(|name| format!("{folder}/{name}")).collect::<Vec<_>>() {
                        self.include(tree, &path, depth)?;
                    }
                }
            } else {
                self.line(&text, path, line);
            }
        }
        Ok(true)
    }

    fn include(&mut self, tree: &Tree, path: &str, depth: usize) -> Result<()> {
        if depth < MOST_DEPTH && !self.files.iter().any(|read| read == path) {
            self.take(tree, path, depth + 1)?;
        }
        Ok(())
    }

    fn line(&mut self, text: &str, path: &str, line: usize) {
        let text = without_comment(text);
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        let path = path.to_owned();
        if let Some(text) = text.strip_prefix("Defaults") {
            return self.defaults.push(Defaults { text: text.trim().to_owned(), path, line });
        }
        let word = text.split_whitespace().next().unwrap_or_default();
        if let Some(kind) = word.strip_suffix("_Alias") {
            for alias in text[word.len()..].split(':').filter(|_| kind == "User") {
                if let Some((name, members)) = alias.split_once('=') {
                    self.aliases.insert(name.trim().to_owned(), list(members));
                }
            }
            return;
        }
        let Some((who, commands)) = text.split_once('=') else {
            return self.damaged.push(format!("{path}:{line}"));
        };
        let who = users(who);
        let tag = |part: &str| part.trim_end().ends_with("NOPASSWD");
        let parts: Vec<&str> = commands.split(':').collect();
        let without_password =
            parts.split_last().is_some_and(|(_, tags)| tags.iter().any(|part| tag(part)));
        self.grants.push(Grant { who, without_password, path, line });
    }
}

/// Lines with those that they are continued on, and the number of the first.
fn logical(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        let (part, goes_on) = match line.strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        match lines.last_mut() {
            Some((_, whole)) if open => whole.push_str(part),
            _ => lines.push((number, part.to_owned())),
        }
        open = goes_on;
    }
    lines
}

/// What the directive `name` names, written with an at sign or, as of old, a number sign.
fn directive<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let rest = text.trim_start().strip_prefix(['@', '#'])?.strip_prefix(name)?;
    rest.starts_with(char::is_whitespace).then(|| rest.trim().trim_matches('"'))
}

/// The file that `path` names in the file `including`.
fn absolute(path: &str, including: &str) -> Option<String> {
    if path.starts_with('/') {
        return Some(path.to_owned());
    }
    let (folder, _) = including.rsplit_once('/')?;
    Some(format!("{folder}/{path}"))
}

/// `text` up to its comment: a number sign that no digit follows, for `#1000` is a user.
fn without_comment(text: &str) -> &str {
    let starts = text.match_indices('#').map(|(at, _)| at);
    let mut comments = starts.filter(|at| {
        let escaped = text[..*at].ends_with('\\');
        let id = text[at + 1..].starts_with(|sign: char| sign.is_ascii_digit())
            || text[..*at].ends_with('%');
        !escaped && !id
    });
    comments.next().map_or(text, |at| &text[..at])
}

/// The users in front of the host.
fn users(text: &str) -> Vec<String> {
    let mut joined = String::new();
    let (mut quoted, mut list_goes_on) = (false, false);
    let mut signs = text.trim().chars().peekable();
    while let Some(sign) = signs.next() {
        match sign {
            '"' => quoted = !quoted,
            '\\' => joined.extend(signs.next()),
            _ if sign.is_whitespace() && !quoted => {
                let next = signs.peek().copied();
                if next.is_some_and(char::is_whitespace) || next == Some(',') || list_goes_on {
                    continue;
                }
                break; // the host follows
            }
            _ => joined.push(sign),
        }
        list_goes_on = sign == ',';
    }
    list(&joined)
}

/// The names in a list.
fn list(text: &str) -> Vec<String> {
    let names = text.split(',').map(|name| name.trim().trim_matches('"'));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(main: &str, drop_ins: &[(&str, &str)]) -> Sudoers {
        let mut tree = Tree::default();
        tree.write("/etc/sudoers", 0o440, main);
        for (name, text) in drop_ins {
            tree.write(&format!("/etc/sudoers.d/{name}"), 0o440, text);
        }
        Sudoers::read(&tree, "/etc/sudoers").unwrap().unwrap()
    }

    #[test]
    fn grants_are_told_with_their_users_and_places() {
        let found = read(
            "# policy\nDefaults\tenv_reset\nroot ALL=(ALL:ALL) ALL\n%sudo, %admin\tALL=(ALL) NOPASSWD: ALL\n\
             #1000 ALL=(ALL) NOPASSWD:SETENV: /bin/ls, PASSWD: /bin/cat # a comment\n",
            &[],
        );
        let told: Vec<_> = found
            .grants
            .iter()
            .map(|grant| (grant.who.join("+"), grant.without_password))
            .collect();
        let expected = [("root", false), ("%sudo+%admin", true), ("#1000", true)];
        assert_eq!(told, expected.map(|(who, without)| (who.to_owned(), without)));
        assert_eq!(found.defaults[0].text, "env_reset");
        assert_eq!(found.grants[1].line, 4);
    }

    #[test]
    fn drop_ins_are_read_by_both_signs_and_passed_over_by_their_names() {
        for sign in ["@", "#"] {
            let found = read(
                &format!("{sign}includedir /etc/sudoers.d\n{sign}include sudoers.d/b.conf\n"),
                &[
                    ("90-cloud-init-users", "debian ALL=(ALL) NOPASSWD:ALL\n"),
                    ("a.dpkg-old", "x ALL=ALL\n"),
                    ("a~", "x ALL=ALL\n"),
                    ("b.conf", "c ALL=(ALL) /bin/ls\n"),
                ],
            );
            let who: Vec<_> = found.grants.iter().flat_map(|grant| grant.who.clone()).collect();
            assert_eq!(who, ["debian", "c"]);
        }
        assert_eq!(read("#include_me not\n", &[]).grants, []);
    }

    #[test]
    fn aliases_continued_lines_and_quotes_are_resolved() {
        let found = read(
            "User_Alias ADMINS = alice, bob : OTHERS = carol\nADMINS ALL = \\\n  NOPASSWD : ALL\n\
             \"%domain admins\" ALL=ALL\nOTHERS , dave host = ALL\nCmnd_Alias LS = /bin/ls\n",
            &[],
        );
        assert_eq!(found.grants[0].who, ["alice", "bob"]);
        assert!(found.grants[0].without_password);
        assert_eq!(found.grants[1].who, ["%domain admins"]);
        assert_eq!(found.grants[2].who, ["carol", "dave"]);
        assert!(found.damaged.is_empty());
    }

    #[test]
    fn what_is_no_line_of_sudos_is_told_and_files_that_include_themselves_end() {
        let found = read("@include /etc/sudoers\nnonsense\n", &[]);
        assert_eq!(found.damaged, ["/etc/sudoers:2"]);
        // `NOPASSWD` in a path or an argument is no tag.
        let found = read("a ALL=(ALL) /bin/NOPASSWD, /bin/x NOPASSWD\n", &[]);
        assert!(!found.grants[0].without_password);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([A-Za-z#@=:,%\"\\\\! \t*/.]{0,24}\n){0,8}") {
            read(&text, &[]);
        }
    }
}

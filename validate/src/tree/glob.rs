//! Paths by patterns, as glob(3) has them.

use super::Tree;

impl Tree<'_> {
    /// Every path that `pattern` stands for, sorted: `*`, `?`, `[a-z]` and `[!a-z]` within one name, `\` before a
    /// sign that is meant. A period that begins a name has to be written. A link at the end is told as it is.
    #[must_use]
    pub fn glob(&self, pattern: &str) -> Vec<String> {
        self.expand(pattern, matches)
    }

    /// As [`Tree::glob`], where a wildcard stands for a period that begins a name too, as Go's `filepath.Glob` has it.
    #[must_use]
    pub(super) fn glob_with_dots(&self, pattern: &str) -> Vec<String> {
        self.expand(pattern, fits)
    }

    fn expand(&self, pattern: &str, fits: fn(&str, &str) -> bool) -> Vec<String> {
        let mut found = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            for folder in &found {
                if !part.contains(['*', '?', '[', '\\']) {
                    next.push(format!("{folder}/{part}"));
                    continue;
                }
                let at = if folder.is_empty() { "/" } else { folder };
                let names = self.names(at).into_iter().filter(|name| fits(part, name));
                next.extend(names.map(|name| format!("{folder}/{name}")));
            }
            found = next;
        }
        found.retain(|path| self.entry(path).is_some() || self.resolve(path).is_some());
        found
    }
}

/// Whether the name is one that `pattern` stands for: a period that begins it has to be written.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    (pattern.starts_with('.') || !name.starts_with('.')) && fits(pattern, name)
}

/// Whether `pattern` stands for the text, whatever begins it (fnmatch(3) without flags).
#[must_use]
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    // Where to go on when the signs after the last star do not fit: one more sign belongs to the star.
    let (mut at, mut from, mut star) = (0, 0, None);
    while at < name.len() {
        if pattern.get(from) == Some(&'*') {
            star = Some((from + 1, at));
            from += 1;
            continue;
        }
        match step(&pattern[from..], name[at]) {
            Some(length) => (at, from) = (at + 1, from + length),
            None => match &mut star {
                Some((after, start)) => {
                    *start += 1;
                    (at, from) = (*start, *after);
                }
                None => return false,
            },
        }
    }
    pattern[from..].iter().all(|sign| *sign == '*')
}

/// How many signs of `pattern` stand for `sign`; nothing where they do not.
fn step(pattern: &[char], sign: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', meant, ..] => (*meant == sign).then_some(2),
        ['[', set @ ..] => match class(set, sign) {
            Some((true, length)) => Some(1 + length),
            Some((false, _)) => None,
            None => (sign == '[').then_some(1), // never closed: itself
        },
        [own, ..] => (*own == sign).then_some(1),
        [] => None,
    }
}

/// Whether `sign` is in the set that begins behind its bracket, and the set's length with the closing one.
fn class(set: &[char], sign: char) -> Option<(bool, usize)> {
    let inverted = matches!(set.first(), Some('!' | '^'));
    let first = usize::from(inverted);
    // A closing bracket that comes first is one of the set.
    let end = (first + 1..set.len()).find(|at| set[*at] == ']')?;
    let (mut at, mut found) = (first, false);
    while at < end {
        if at + 2 < end && set[at + 1] == '-' {
            found |= (set[at]..=set[at + 2]).contains(&sign);
            at += 3;
        } else {
            found |= set[at] == sign;
            at += 1;
        }
    }
    Some((found != inverted, end + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_fit_as_the_shell_has_it() {
        for (pattern, name) in [
            ("*.conf", "10-node.conf"),
            ("*", "a"),
            ("a*b*c", "aXbYbZc"),
            ("[0-9]*", "7x"),
            ("[!0-9]x", "ax"),
            ("[]]", "]"),
            ("a?c", "abc"),
            ("\\*", "*"),
            (".*_history", ".bash_history"),
            ("[a", "[a"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*.conf", "10-node.conf.bak"),
            ("*", ".hidden"),
            ("?x", ".x"),
            ("[!0-9]x", "1x"),
            ("\\*", "a"),
            ("a*b", "ac"),
            ("", "a"),
            ("a", "ab"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_star_stands_for_a_part_of_one_name_also_of_a_hidden_one() {
        let mut tree = Tree::default();
        for path in ["/c/b.toml", "/c/a.toml", "/c/x.toml.bak", "/.d/a.toml", "/d/a.toml"] {
            tree.write(path, 0o644, "");
        }
        tree.link("/c/gone.toml", "nowhere");
        // filepath.Glob takes a link for there whatever it leads to.
        assert_eq!(tree.glob_with_dots("/c/*.toml"), ["/c/a.toml", "/c/b.toml", "/c/gone.toml"]);
        assert_eq!(tree.glob_with_dots("/*/a.toml"), ["/.d/a.toml", "/c/a.toml", "/d/a.toml"]);
        assert_eq!(tree.glob_with_dots("/c/?.toml").len(), 2);
        assert!(tree.glob_with_dots("/none/*").is_empty());
        assert!(fits("a*b", "aXbXb") && !fits("a*b", "aXbc") && fits("*", "") && !fits("?", ""));
    }

    #[test]
    fn patterns_go_through_folders_and_links() {
        let mut tree = Tree::default();
        tree.write("/etc/ssh/sshd_config.d/10-a.conf", 0o644, "");
        tree.write("/etc/ssh/sshd_config.d/05-b.conf", 0o644, "");
        tree.write("/etc/ssh/sshd_config.d/.hidden.conf", 0o644, "");
        tree.write("/etc/ssh/sshd_config.d/README", 0o644, "");
        tree.link("/ssh", "etc/ssh");
        tree.link("/etc/ssh/gone", "/nowhere");
        let both = ["/ssh/sshd_config.d/05-b.conf", "/ssh/sshd_config.d/10-a.conf"];
        assert_eq!(tree.glob("/ssh/sshd_config.d/*.conf"), both);
        assert_eq!(tree.glob("/etc/*/READ?E"), Vec::<String>::new());
        assert_eq!(tree.glob("/*/*/README"), ["/ssh/sshd_config.d/README"]);
        assert_eq!(tree.glob("/etc/ssh/gone"), ["/etc/ssh/gone"]);
        assert_eq!(tree.glob("/etc/none"), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn a_name_fits_itself_and_a_star(name in "[a-z.0-9-]{1,12}", tail in "[a-z]{0,4}") {
            prop_assert!(matches(&name, &name));
            let dots = name.starts_with('.');
            let joined = format!("{name}{tail}");
            let pattern = format!("{name}*");
            prop_assert!(matches(&pattern, &joined));
            prop_assert_eq!(matches("*", &joined), !dots);
        }

        #[test]
        fn any_pattern_ends(pattern in "[]a*?!\\[-]{0,12}", name in "[a-c*]{0,12}") {
            let _ = matches(&pattern, &name);
        }
    }
}

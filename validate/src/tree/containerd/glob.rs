//! File names with wildcards, as Go's `filepath.Glob` takes them.

use crate::tree::Tree;

/// Paths of `tree` that match `pattern`, sorted: `*` stands for any characters of one name and `?` for one.
pub(super) fn matches(tree: &Tree, pattern: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let below = |folder: String| -> Vec<String> {
            if !part.contains(['*', '?']) {
                return vec![format!("{folder}/{part}")];
            }
            let place = if folder.is_empty() { "/" } else { &folder };
            let names = tree.names(place).into_iter().filter(|name| fits(name, part));
            names.map(|name| format!("{folder}/{name}")).collect()
        };
        found = found.into_iter().flat_map(below).collect();
    }
    found.retain(|path| tree.resolve(path).is_some());
    found
}

/// Whether `name` is one of `pattern`: every star is tried from where the last one began.
fn fits(name: &str, pattern: &str) -> bool {
    let (name, pattern): (Vec<char>, Vec<char>) =
        (name.chars().collect(), pattern.chars().collect());
    let (mut at, mut of) = (0, 0);
    let mut star = None;
    while at < name.len() {
        match pattern.get(of) {
            Some('*') => {
                star = Some((at, of));
                of += 1;
            }
            Some(letter) if *letter == '?' || *letter == name[at] => {
                at += 1;
                of += 1;
            }
            _ => match star {
                Some((taken, place)) => {
                    star = Some((taken + 1, place));
                    (at, of) = (taken + 1, place + 1);
                }
                None => return false,
            },
        }
    }
    pattern[of..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_a_part_of_one_name() {
        let mut tree = Tree::default();
        for path in ["/c/b.toml", "/c/a.toml", "/c/x.toml.bak", "/c/sub/d.toml", "/d/a.toml"] {
            tree.write(path, 0o644, "");
        }
        tree.link("/c/gone.toml", "nowhere");
        assert_eq!(matches(&tree, "/c/*.toml"), ["/c/a.toml", "/c/b.toml"]);
        assert_eq!(matches(&tree, "/*/a.toml"), ["/c/a.toml", "/d/a.toml"]);
        assert_eq!(matches(&tree, "/c/?.toml").len(), 2);
        assert!(matches(&tree, "/none/*").is_empty());
        assert!(fits("aXbXb", "a*b") && !fits("aXbc", "a*b") && fits("", "*") && !fits("", "?"));
    }
}

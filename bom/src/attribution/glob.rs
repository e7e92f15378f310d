/// Whether a path matches a pattern: `*` stands for any characters but `/`, `**` for any at all.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    matches_bytes(pattern.as_bytes(), path.as_bytes())
}

fn matches_bytes(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', rest @ ..] => tails(path, path.len()).any(|tail| matches_bytes(rest, tail)),
        [b'*', rest @ ..] => {
            let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            tails(path, end).any(|tail| matches_bytes(rest, tail))
        }
        [first, rest @ ..] => match path {
            [byte, path @ ..] => byte == first && matches_bytes(rest, path),
            [] => false,
        },
    }
}

/// What is left of a path after 0 to `most` bytes.
fn tails(path: &[u8], most: usize) -> impl Iterator<Item = &[u8]> {
    (0..=most).filter_map(|start| path.get(start..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_stays_in_its_folder_and_two_do_not() {
        assert!(matches("/a/*.conf", "/a/b.conf"));
        assert!(!matches("/a/*.conf", "/a/b/c.conf"));
        assert!(matches("/a/**", "/a/b/c.conf"));
        assert!(matches("/a/**/x", "/a/b/c/x"));
        assert!(!matches("/a", "/a/b"));
        assert!(matches("/etc/rc*.d/*", "/etc/rc3.d/S01x"));
    }
}

//! Paths of inventories as paths of a file system, none of which leads out of the tree.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use nodekiln_recipes::Inventory;
use nodekiln_recipes::inventory::EntryKind;

use super::malformed;
use crate::layer::escape;

/// The absolute path within the tree that `path` of an inventory stands for.
///
/// # Errors
/// When it is no path that an inventory has: not absolute, with `.`, `..` or empty names, or escaped
/// otherwise than an inventory escapes, so that two texts could stand for one path.
pub(super) fn place(path: &str) -> io::Result<PathBuf> {
    let bad = || malformed(format!("`{path}` is no path of a tree"));
    let bytes = unescape(path).ok_or_else(bad)?;
    if escape(&bytes) != path || bytes.contains(&0) {
        return Err(bad());
    }
    let names = bytes.strip_prefix(b"/").ok_or_else(bad)?;
    let sound = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    if !names.is_empty() && !names.split(|byte| *byte == b'/').all(sound) {
        return Err(bad());
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

/// The target of a link, which may be anything but empty.
///
/// # Errors
/// When it is not escaped as an inventory escapes.
pub(super) fn target(text: &str) -> io::Result<PathBuf> {
    let bytes = unescape(text).filter(|bytes| !bytes.is_empty() && !bytes.contains(&0));
    bytes
        .filter(|bytes| escape(bytes) == text)
        .map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
        .ok_or_else(|| malformed(format!("`{text}` is no target of a link")))
}

/// Fails unless every path stands in a directory of the same inventory. Then no name on the way to
/// any path can be a link.
pub(super) fn refuse_strays(inventory: &Inventory) -> io::Result<()> {
    let directory = |path: &str| {
        let entry = inventory.entries.get(path);
        entry.is_some_and(|entry| matches!(entry.kind, EntryKind::Directory { .. }))
    };
    if !directory("/") {
        return Err(malformed("its tree has no root"));
    }
    for path in inventory.entries.keys().filter(|path| *path != "/") {
        place(path)?;
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        if !directory(if parent.is_empty() { "/" } else { parent }) {
            return Err(malformed(format!("`{path}` does not stand in a directory")));
        }
    }
    Ok(())
}

/// Takes back what an inventory does to bytes that are no text, and to backslashes.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        match rest {
            [b'\\', after @ ..] => {
                bytes.push(b'\\');
                rest = after;
            }
            [b'x', high, low, after @ ..] => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after;
            }
            _ => return None,
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn paths_that_climb_out_or_have_two_spellings_are_refused() {
        for path in [
            "",
            "etc",
            "/../etc",
            "/a/..",
            "/a//b",
            "/a/",
            "/./a",
            "/a\\x41",
            "/a\\",
            "/\\x2E\\x2E",
        ] {
            assert!(place(path).is_err(), "{path}");
        }
        assert!(place("/a\0b").is_err());
        assert_eq!(place("/").unwrap(), PathBuf::from("/"));
        assert_eq!(place("/a\\\\b/..c").unwrap(), PathBuf::from("/a\\b/..c"));
    }

    proptest::proptest! {
        #[test]
        fn what_an_inventory_escapes_comes_back(name in proptest::collection::vec(1u8.., 1..20)) {
            proptest::prop_assert_eq!(unescape(&escape(&name)), Some(name.clone()));
            let target = target(&escape(&name)).unwrap();
            proptest::prop_assert_eq!(target.as_os_str().as_bytes(), &name[..]);
        }
    }
}

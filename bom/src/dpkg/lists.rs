use std::collections::BTreeMap;

use crate::path::escape;

/// Reads `info/PACKAGE.list`: one absolute path a line, the root as `/.`, which is left out.
pub(crate) fn list(bytes: &[u8]) -> Vec<String> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| line.starts_with(b"/") && *line != b"/.")
        .map(escape)
        .collect()
}

/// Reads `info/PACKAGE.md5sums`: `MD5  PATH` with the path relative to the root. Returns the digest
/// in lower-case hexadecimal by absolute path.
pub(crate) fn md5sums(bytes: &[u8]) -> BTreeMap<String, String> {
    let line = |line: &[u8]| {
        let (digest, path) = (line.get(..32)?, line.get(34..)?);
        let digest = std::str::from_utf8(digest).ok()?.to_ascii_lowercase();
        let is_digest = digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let path = path.strip_prefix(b"./").unwrap_or(path);
        (is_digest && !path.is_empty())
            .then(|| (format!("/{}", escape(path).trim_start_matches('/')), digest))
    };
    bytes.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// One entry of `/var/lib/dpkg/diversions`: where other packages' file of this path really goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diversion {
    /// The path that packages list.
    pub(crate) from: String,
    /// Where their file stands.
    pub(crate) to: String,
    /// The package whose own file stays at `from`; `None` for a diversion by the administrator.
    pub(crate) package: Option<String>,
}

/// Reads the diversions file: three lines each, with `:` in place of a package for local ones.
pub(crate) fn diversions(bytes: &[u8]) -> Vec<Diversion> {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let triples = lines.chunks_exact(3);
    triples
        .map(|triple| Diversion {
            from: escape(triple[0]),
            to: escape(triple[1]),
            package: (triple[2] != b":").then(|| escape(triple[2])),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_root_is_no_file_of_a_package() {
        assert_eq!(list(b"/.\n/etc\n/etc/a b\n"), ["/etc", "/etc/a b"]);
    }

    #[test]
    fn digests_are_by_absolute_path() {
        let sums = md5sums(b"D41D8CD98F00B204E9800998ECF8427E  usr/x y\nshort  z\n");
        assert_eq!(sums["/usr/x y"], "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(sums.len(), 1);
    }

    #[test]
    fn diversions_name_package_or_administrator() {
        let read = diversions(b"/bin/sh\n/bin/sh.distrib\ndash\n/a\n/b\n:\n");
        assert_eq!(read[0].package.as_deref(), Some("dash"));
        assert_eq!(read[1].package, None);
        assert_eq!(read[1].to, "/b");
        assert_eq!(read.len(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = (list(&bytes), md5sums(&bytes), diversions(&bytes));
        }

        #[test]
        fn listed_paths_are_read_back(paths in proptest::collection::vec("(/[ -\\[\\]-~]{1,9}){1,4}", 0..20)) {
            let text: String = paths.iter().map(|path| format!("{path}\n")).collect();
            let expected: Vec<String> =
                paths.iter().filter(|path| *path != "/.").cloned().collect();
            prop_assert_eq!(list(text.as_bytes()), expected);
        }

        #[test]
        fn md5sums_are_read_back(files in proptest::collection::btree_map("[a-z]{1,5}/[a-z ]{1,8}", "[0-9a-f]{32}", 0..20)) {
            let text: String = files.iter().map(|(path, sum)| format!("{sum}  {path}\n")).collect();
            let expected: BTreeMap<String, String> =
                files.iter().map(|(path, sum)| (format!("/{path}"), sum.clone())).collect();
            prop_assert_eq!(md5sums(text.as_bytes()), expected);
        }
    }
}

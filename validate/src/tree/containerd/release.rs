//! Which containerd a tree has.

use std::fmt;

use memchr::memmem;
use nodekiln_words::{Class, Result};

use crate::tree::Tree;

/// Major and minor version of a containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// Major version.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
}

/// Packages that bring it: those of the distributions, and that of Docker's archive.
const PACKAGES: [&str; 2] = ["containerd", "containerd.io"];
/// What the linker is told in front of the version, as Go keeps it in the program (`LDFLAGS` of the Makefile).
const LINKED: &[u8] = b"/version.Version=";
/// Longest version that is looked for.
const LONGEST: usize = 40;

impl Release {
    /// The containerd that root starts by its name in `tree`: by its package where that brought it, else by what its
    /// own program says.
    ///
    /// # Errors
    /// When the database of packages or the program cannot be read.
    pub fn of(tree: &Tree) -> Result<Option<Self>> {
        let Some(path) = tree.program("containerd") else { return Ok(None) };
        // Packages leave /usr/local and /opt alone.
        if !path.starts_with("/usr/local/") && !path.starts_with("/opt/") {
            let packages = tree.packages()?;
            let version = PACKAGES.iter().find_map(|name| packages.named(name));
            if let Some(release) = version.and_then(|package| Self::parse(&package.version)) {
                return Ok(Some(release));
            }
        }
        let program = match tree.read(&path) {
            // A program that is too large to be held is of no known version.
            Err(failure) if failure.class() == Class::Unsupported => None,
            read => read?,
        };
        Ok(program.and_then(|bytes| Self::linked(&bytes)))
    }

    /// The release of a version such as `1.6.20~ds1-1+deb12u3`, `v2.0.1` or `1:2.1.4`.
    #[must_use]
    pub fn parse(version: &str) -> Option<Self> {
        let upstream = version.split_once(':').map_or(version, |(_, upstream)| upstream);
        let upstream = upstream.trim_start_matches('v');
        let mut numbers = upstream.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some(Self { major, minor }),
            _ => None,
        }
    }

    /// The release that was linked into a program.
    fn linked(program: &[u8]) -> Option<Self> {
        memmem::find_iter(program, LINKED).find_map(|at| {
            let rest = program.get(at + LINKED.len()..)?;
            let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b".-+~".contains(byte);
            let text: Vec<u8> = rest.iter().take(LONGEST).take_while(is_part).copied().collect();
            Self::parse(str::from_utf8(&text).ok()?)
        })
    }

    /// The newest `version` of a file that it reads, where that is known.
    #[must_use]
    pub const fn newest_schema(self) -> Option<i64> {
        match (self.major, self.minor) {
            (1, _) => Some(2),
            (2, 0..=2) => Some(3),
            _ => None,
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        "Package: containerd\nStatus: install ok installed\nVersion: 1.6.20~ds1-1\n";

    fn release(tree: &Tree) -> Option<String> {
        Release::of(tree).unwrap().map(|release| release.to_string())
    }

    #[test]
    fn the_package_tells_unless_another_program_comes_first() {
        let mut tree = Tree::default();
        tree.write("/var/lib/dpkg/status", 0o644, STATUS);
        assert_eq!(release(&tree), None, "a package without its program");
        tree.write("/usr/bin/containerd", 0o755, "elf");
        assert_eq!(release(&tree).as_deref(), Some("1.6"));
        let flags = "-X github.com/containerd/containerd/v2/version.Version=v2.1.4 -X x";
        tree.write("/usr/local/bin/containerd", 0o755, format!("elf\0{flags}\0"));
        assert_eq!(release(&tree).as_deref(), Some("2.1"));
        tree.write("/usr/local/bin/containerd", 0o755, "elf");
        assert_eq!(release(&tree), None);
    }

    #[test]
    fn versions_of_distributions_and_of_upstream_are_read() {
        for (text, release) in [("1:2.1.4", (2, 1)), ("v1.7.24", (1, 7)), ("1.6.20~ds1-1", (1, 6))]
        {
            let parsed = Release::parse(text).unwrap();
            assert_eq!((parsed.major, parsed.minor), release, "{text}");
        }
        assert_eq!(Release::parse("unknown"), None);
    }
}

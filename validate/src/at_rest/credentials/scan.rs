//! The files in which somebody's secrets are found: settings, homes and state, and none of what packages and
//! container images bring.

use nodekiln_words::Result;

use crate::tree::{Kind, Tree};

/// Folders that are looked through.
const FOLDERS: [&str; 8] =
    ["/etc", "/root", "/home", "/var/lib", "/usr/local", "/srv", "/opt", "/var/spool"];
/// Folders among them that hold what others published: package databases, lists, and the files of images.
const PUBLISHED: [&str; 12] = [
    "/etc/ssl/certs",
    "/etc/ca-certificates",
    "/etc/pki/ca-trust",
    "/etc/alternatives",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/dpkg",
    "/var/lib/rpm",
    "/var/lib/apt",
    "/var/lib/selinux",
    "/var/lib/systemd/catalog",
];
/// Longer files are programs, databases and archives: a key and a token take a few KB.
const MOST_BYTES: u64 = 256 << 10;

/// Gives `see` the path and the bytes of each.
///
/// # Errors
/// As [`Tree::read`].
pub(super) fn each(tree: &Tree, mut see: impl FnMut(&str, &[u8])) -> Result<()> {
    for folder in FOLDERS {
        let files = tree.below(folder).filter(|(path, entry)| {
            entry.kind == Kind::File
                && (1..=MOST_BYTES).contains(&entry.size)
                && !PUBLISHED.iter().any(|published| is_below(path, published))
        });
        for (path, _) in files {
            let bytes = tree.read(path)?.unwrap_or_default();
            if !bytes.starts_with(b"\x7fELF") {
                see(path, &bytes);
            }
        }
    }
    Ok(())
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// The number of the line in which the byte at `at` stands, from 1.
pub(super) fn line_of(bytes: &[u8], at: usize) -> usize {
    bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Where `words` begins in `bytes`, from `from` on.
pub(super) fn find(bytes: &[u8], words: &[u8], from: usize) -> Option<usize> {
    let first = *words.first()?;
    let mut at = from;
    while let Some(next) = bytes.get(at..)?.iter().position(|byte| *byte == first) {
        at += next;
        if bytes[at..].starts_with(words) {
            return Some(at);
        }
        at += 1;
    }
    None
}

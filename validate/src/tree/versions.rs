//! Versions that programs carry in their own files, so that no package database has to be read.

use nodekiln_words::Result;

use super::{Kind, Tree};

/// Where systemd's own library lies: Debian's folders by architecture, and those of the other families.
const SYSTEMD: [&str; 4] =
    ["/usr/lib/*/systemd", "/usr/lib64/systemd", "/usr/lib/systemd", "/lib/systemd"];

/// What a version of OpenSSH begins with in the server's own bytes (`SSH_VERSION` in its version.h).
const OPENSSH: &[u8] = b"OpenSSH_";

impl Tree<'_> {
    /// The major version of systemd, from the name of its library (`libsystemd-shared-252.so`).
    #[must_use]
    pub fn systemd_version(&self) -> Option<u32> {
        let named = SYSTEMD
            .iter()
            .flat_map(|folder| self.glob(&format!("{folder}/libsystemd-shared-*.so")));
        let versions = named.filter_map(|path| {
            let (_, version) = path.rsplit_once("shared-")?;
            let end = version.find(|sign: char| !sign.is_ascii_digit())?;
            version[..end].parse().ok()
        });
        versions.max()
    }

    /// Major and minor version of OpenSSH's server, from its bytes.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub fn openssh_version(&self) -> Result<Option<(u32, u32)>> {
        let path = "/usr/sbin/sshd";
        if self.resolve(path).is_none_or(|(_, entry)| entry.kind != Kind::File) {
            return Ok(None);
        }
        let bytes = self.read(path)?.unwrap_or_default();
        let found =
            bytes.windows(OPENSSH.len()).enumerate().filter(|(_, window)| *window == OPENSSH);
        // Patterns of other versions (`OpenSSH_6.6.1*`), which name bugs, have no patch level.
        Ok(found.into_iter().find_map(|(at, _)| release(&bytes[at + OPENSSH.len()..])))
    }
}

/// `9.2p1` at the beginning of `bytes`.
fn release(bytes: &[u8]) -> Option<(u32, u32)> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let (major, minor) = text.split_once('.')?;
    let patched = bytes[end] == b'p' && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
    patched.then(|| Some((major.parse().ok()?, minor.parse().ok()?))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_tells_its_version_by_its_librarys_name() {
        for (path, version) in [
            ("/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so", Some(252)),
            ("/usr/lib64/systemd/libsystemd-shared-252-46.el9.so", Some(252)),
            ("/lib/systemd/libsystemd-shared-241.so", Some(241)),
            ("/usr/lib/systemd/libsystemd-shared-.so", None),
            ("/usr/lib/systemd/libsystemd-core-252.so", None),
        ] {
            let mut tree = Tree::default();
            tree.write(path, 0o644, "");
            assert_eq!(tree.systemd_version(), version, "{path}");
        }
    }

    #[test]
    fn openssh_tells_its_version_by_its_bytes_and_not_by_those_it_knows_bugs_of() {
        let told = |bytes: &[u8]| {
            let mut tree = Tree::default();
            tree.write("/usr/sbin/sshd", 0o755, bytes);
            tree.openssh_version().unwrap()
        };
        assert_eq!(told(b"\x7fELF\0OpenSSH_6.6.1*\0OpenSSH_9.2p1 Debian-2\0"), Some((9, 2)));
        assert_eq!(told(b"OpenSSH_10.0p2"), Some((10, 0)));
        assert_eq!(told(b"OpenSSH_7.0*,OpenSSH_7.1*"), None);
        assert_eq!(told(b"OpenSSH_9.2"), None);
        assert_eq!(told(b"OpenSSH_"), None);
        assert_eq!(Tree::default().openssh_version().unwrap(), None);
    }
}

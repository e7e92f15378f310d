//! The public key by which an SSH server is known.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use nodekiln_words::{Failure, Result, ResultExt as _, Sha256};

/// A host's public key.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey {
    kind: String,
    blob: Vec<u8>,
}

impl HostKey {
    /// The key that SSH transports as `blob`, which begins with its kind (RFC 4253, 6.6).
    pub(crate) fn of_blob(blob: &[u8]) -> Option<Self> {
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let kind = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let kind = std::str::from_utf8(kind).ok()?;
        let plain = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_graphic());
        plain.then(|| Self { kind: kind.to_owned(), blob: blob.to_owned() })
    }

    /// The keys of `text`: one line of OpenSSH's, or a file of them.
    ///
    /// # Errors
    /// When it is neither, or a line of the file is no key.
    pub fn read(text: &str) -> Result<Vec<Self>> {
        if let Ok(key) = text.parse::<Self>() {
            return Ok(vec![key]);
        }
        let path = Path::new(text);
        if text.contains(' ') && !path.exists() {
            return text.parse::<Self>().map(|key| vec![key]);
        }
        let file = fs_err::read_to_string(path).or_io(|| "read the host key".into())?;
        let lines =
            file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys = lines.map(str::parse::<Self>).collect::<Result<Vec<Self>>>();
        let keys =
            keys.map_err(|failure| failure.context(format!("cannot take keys from {text}")))?;
        if keys.is_empty() {
            return Err(Failure::input(format!("{text} holds no host key")));
        }
        Ok(keys)
    }

    /// `ssh-ed25519`, `ecdsa-sha2-nistp256`, `ssh-rsa`, …
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// `SHA256:…`, as OpenSSH prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::of(&self.blob).as_bytes()))
    }

    /// Kind and fingerprint, for people.
    #[must_use]
    pub fn told(&self) -> String {
        format!("{} {}", self.kind, self.fingerprint())
    }
}

impl FromStr for HostKey {
    type Err = Failure;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let (kind, body) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let key = BASE64_STANDARD.decode(body).ok().and_then(|blob| Self::of_blob(&blob));
        key.filter(|key| key.kind == kind).ok_or_else(|| {
            Failure::input("a host key is not one of OpenSSH's lines")
                .with_help("a line is `ssh-ed25519 AAAA…`, as in /etc/ssh/ssh_host_ed25519_key.pub of the host")
        })
    }
}

/// The line that OpenSSH writes, without a comment.
impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, BASE64_STANDARD.encode(&self.blob))
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.told())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::keys::KeyPair;

    #[test]
    fn lines_are_read_and_files_of_them_and_nothing_else() {
        let (one, two) =
            (KeyPair::from_seed([1; 32]).unwrap(), KeyPair::from_seed([2; 32]).unwrap());
        let key: HostKey = format!("{} a comment", one.public).parse().unwrap();
        assert_eq!(key.kind(), "ssh-ed25519");
        assert!(one.public.starts_with(&key.to_string()), "{key}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        fs_err::write(&path, format!("# ours\n{}\n\n{}\n", one.public, two.public)).unwrap();
        let name = path.to_string_lossy();
        assert_eq!(HostKey::read(&name).unwrap().len(), 2);
        assert_eq!(HostKey::read(&one.public).unwrap(), [key]);
        fs_err::write(&path, format!("{}\nnothing\n", one.public)).unwrap();
        assert!(HostKey::read(&name).is_err());
        fs_err::write(&path, "# none\n").unwrap();
        assert!(HostKey::read(&name).unwrap_err().to_string().contains("no host key"));
        for wrong in
            ["ssh-ed25519", "ssh-ed25519 !!", "ssh-rsa AAAA", "ssh-ed25519 AAAAB3NzaC1yc2E="]
        {
            assert!(wrong.parse::<HostKey>().is_err(), "{wrong}");
        }
        assert!(HostKey::read("ssh-ed25519 !!").unwrap_err().help().is_some());
    }

    #[test]
    fn the_fingerprint_is_the_one_that_openssh_prints() {
        let pair = KeyPair::from_seed([3; 32]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pub");
        fs_err::write(&path, format!("{}\n", pair.public)).unwrap();
        let output = Command::new("ssh-keygen").arg("-l").arg("-f").arg(&path).output();
        let output =
            output.expect("ssh-keygen is missing: install Debian's package openssh-client");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let key: HostKey = pair.public.parse().unwrap();
        assert!(told.contains(&key.fingerprint()), "{told}");
    }
}

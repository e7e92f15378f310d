//! The keys of one run: fresh for each, since they open a guest that listens on this machine.

use nodekiln_words::{Class, Result, ResultExt as _};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};

/// The user whom the seed adds and through whom the guest is asked.
pub const USER: &str = "nodekiln";

/// Key pairs of one run.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Opens the guest by way of the user-data; nobody else has it.
    pub login: KeyPair,
    /// The guest's host key, pinned: whoever answers without it is not our guest.
    pub host: KeyPair,
}

/// An Ed25519 key pair in OpenSSH's formats.
#[derive(Clone)]
pub struct KeyPair {
    /// `-----BEGIN OPENSSH PRIVATE KEY-----` …
    pub private: String,
    /// `ssh-ed25519 AAAA…`, without a line end.
    pub public: String,
    /// The public key as SSH transports it (RFC 8709).
    pub blob: Vec<u8>,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPair({})", self.public)
    }
}

impl Keys {
    /// New keys from the kernel's random numbers.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub fn generate() -> Result<Self> {
        Ok(Self { login: KeyPair::generate()?, host: KeyPair::generate()? })
    }
}

/// Bytes that nobody else knows: keys, and names that no image can have by itself.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    use std::io::Read as _;
    let mut seed = [0; N];
    fs_err::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut seed))
        .or_io(|| "draw keys for the guest".into())?;
    Ok(seed)
}

impl KeyPair {
    /// A new key pair.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub fn generate() -> Result<Self> {
        Self::from_seed(random()?)
    }

    /// The key pair that belongs to `seed` (RFC 8032, the private key's 32 bytes).
    ///
    /// # Errors
    /// When the key cannot be written in OpenSSH's format.
    pub fn from_seed(seed: [u8; 32]) -> Result<Self> {
        let failed = || "write a key in OpenSSH's format".to_owned();
        let data = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
        let key = PrivateKey::new(data, USER).or_fail(Class::Io, failed)?;
        let private = key.to_openssh(LineEnding::LF).or_fail(Class::Io, failed)?.to_string();
        let public = key.public_key().to_openssh().or_fail(Class::Io, failed)?;
        let blob = key.public_key().to_bytes().or_fail(Class::Io, failed)?;
        Ok(Self { private, public, blob })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn openssh_reads_the_private_key_and_finds_the_same_public_key() {
        use std::os::unix::fs::OpenOptionsExt as _;
        let pair = KeyPair::from_seed([7; 32]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let mut file = std::fs::OpenOptions::new()
            .mode(0o600)
            .create_new(true)
            .write(true)
            .open(&path)
            .unwrap();
        std::io::Write::write_all(&mut file, pair.private.as_bytes()).unwrap();
        let output = Command::new("ssh-keygen").args(["-y", "-f"]).arg(&path).output();
        let output =
            output.expect("ssh-keygen is missing: install Debian's package openssh-client");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), pair.public);
    }

    #[test]
    fn two_runs_have_different_keys_and_debug_hides_the_secret() {
        let (one, two) = (Keys::generate().unwrap(), Keys::generate().unwrap());
        assert_ne!(one.login.public, two.login.public);
        assert_ne!(one.login.public, one.host.public);
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }
}

//! The keys of one run: fresh for each, since they open a guest that listens on this machine.

use std::sync::{Arc, OnceLock};

use nodekiln_words::{Class, Result, ResultExt as _};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};

use crate::ssh::HostKey;

/// The user whom the seed adds and through whom the guest is asked.
pub const USER: &str = "nodekiln";

/// Key pairs of one run.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Opens the guest by way of the user-data; nobody else has it.
    pub login: KeyPair,
    /// By what the guest is recognised.
    pub host: Host,
}

/// The guest's host key.
#[derive(Clone, Debug)]
pub enum Host {
    /// It is given this one by way of the user-data, and makes none: whoever answers without it is not our guest.
    Given(KeyPair),
    /// It makes its own, as machines in a cloud do. The one that it shows when it lets [`Keys::login`] in, which nobody
    /// else knows, is the one by which it is recognised from then on, also after a loss of power.
    Own(Arc<OnceLock<HostKey>>),
}

impl Host {
    /// A new key for the guest.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub fn given() -> Result<Self> {
        KeyPair::generate().map(Self::Given)
    }

    /// One that nobody knows yet.
    #[must_use]
    pub fn own() -> Self {
        Self::Own(Arc::default())
    }

    /// The key that the guest has to show; `None` where it may show any.
    pub(crate) fn known(&self) -> Option<HostKey> {
        match self {
            Self::Given(pair) => HostKey::of_blob(&pair.blob),
            Self::Own(shown) => shown.get().cloned(),
        }
    }

    /// Takes down what the guest has `shown` when it let the run in.
    pub(crate) fn seen(&self, shown: HostKey) {
        if let Self::Own(first) = self {
            first.get_or_init(|| shown);
        }
    }
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
    /// A new login from the kernel's random numbers, to a guest that is recognised by `host`.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub fn generate(host: Host) -> Result<Self> {
        Ok(Self { login: KeyPair::generate()?, host })
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
        let keys = || Keys::generate(Host::given().unwrap()).unwrap();
        let (one, two) = (keys(), keys());
        assert_ne!(one.login.public, two.login.public);
        assert_ne!(one.host.known(), two.host.known());
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_guest_is_known_by_the_key_that_it_is_given_or_by_the_first_that_it_shows() {
        let key = || HostKey::of_blob(&KeyPair::generate().unwrap().blob).unwrap();
        let given = Host::given().unwrap();
        let known = given.known().unwrap();
        given.seen(key());
        assert_eq!(given.known(), Some(known));
        let (own, first) = (Host::own(), key());
        let later = own.clone();
        assert_eq!(own.known(), None);
        own.seen(first.clone());
        own.seen(key());
        assert_eq!(later.known(), Some(first));
    }
}

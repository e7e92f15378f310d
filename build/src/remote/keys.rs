//! Who signs what is pushed, and whose signatures are believed.
//!
//! A blob is proved by its digest, which the lock names. What a node leaves behind follows from its id
//! only for who executes it, so somebody has to be believed: the store's own key, and the keys that
//! this machine was told to trust. Keys are Ed25519 in OpenSSH's formats.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use nodekiln_words::{Class, Failure, Result, ResultExt as _, Sha256};
use ssh_key::authorized_keys::Entry;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey};

use crate::store::Store;

/// The store's own private key, in its folder for keys.
const OWN_KEY: &str = "signing";

/// What a public key's line ends with, for people.
const COMMENT: &str = "nodekiln";

/// The longest file of keys that is read, in bytes; a mistaken name may be that of a disk.
const FILE_LIMIT: u64 = 1 << 20;

/// The key that signs, and all keys that are believed.
pub(super) struct Keys {
    /// `None` where nothing is pushed and no key was ever made.
    pub(super) signing: Option<PrivateKey>,
    /// By [`name_of`], the signing key's among them.
    pub(super) trusted: BTreeMap<Sha256, PublicKey>,
}

impl Keys {
    /// The keys of `store` or of the file `own`, and those in the files `trust`. With `make`, a store
    /// without a key is given one.
    pub(super) fn of(
        store: &Store,
        own: Option<&Path>,
        trust: &[impl AsRef<Path>],
        make: bool,
    ) -> Result<Self> {
        let signing = match own {
            Some(path) => Some(private_key(path)?),
            None if make => Some(own_key(store)?),
            None => existing_key(store)?,
        };
        let mut trusted = BTreeMap::new();
        for path in trust {
            for key in public_keys(path.as_ref())? {
                trusted.insert(name_of(&key), key);
            }
        }
        if let Some(key) = &signing {
            trusted.insert(name_of(key.public_key()), key.public_key().clone());
        }
        Ok(Self { signing, trusted })
    }
}

/// What a key is called in a remote store: the SHA-256 of its public half as SSH transports it, which
/// `ssh-keygen -l` shows in base64.
pub(super) fn name_of(key: &PublicKey) -> Sha256 {
    let fingerprint = key.fingerprint(HashAlg::Sha256).sha256();
    fingerprint.map_or_else(|| Sha256::of(""), Sha256::from_bytes)
}

/// A key's name as `ssh-keygen -l` shows it.
pub(super) fn fingerprint(name: &Sha256) -> String {
    ssh_key::Fingerprint::Sha256(*name.as_bytes()).to_string()
}

/// The line by which another machine can be told to trust what `store` signs. A store without a key
/// is given one.
///
/// # Errors
/// When the key cannot be made or read.
pub fn public_line(store: &Store) -> Result<String> {
    let key = own_key(store)?;
    key.public_key().to_openssh().or_io(|| "cannot write a public key".to_owned())
}

fn existing_key(store: &Store) -> Result<Option<PrivateKey>> {
    let path = store.keys_root().join(OWN_KEY);
    if path.exists() { private_key(&path).map(Some) } else { Ok(None) }
}

/// The key of `store`, which is made where it is missing. Of two processes that make one, the second
/// takes the first one's.
fn own_key(store: &Store) -> Result<PrivateKey> {
    if let Some(key) = existing_key(store)? {
        return Ok(key);
    }
    let folder = store.keys_root();
    let make = || -> io::Result<()> {
        let mut seed = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
        let data = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
        let key = PrivateKey::new(data, COMMENT).map_err(io::Error::other)?;
        let text = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
        let mut file = tempfile::NamedTempFile::new_in(&folder)?; // 0600
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(folder.join(OWN_KEY)) {
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
            _ => Ok(()),
        }
    };
    make().or_io(|| format!("cannot make a signing key in {}", folder.display()))?;
    private_key(&folder.join(OWN_KEY))
}

/// The text of a file that should hold keys.
fn text_of(path: &Path) -> Result<String> {
    let cannot = || format!("cannot read the key file {}", path.display());
    let read = || {
        let mut text = String::new();
        std::fs::File::open(path)?.take(FILE_LIMIT).read_to_string(&mut text)?;
        Ok::<_, io::Error>(text)
    };
    let help = "name a file of OpenSSH keys that this user may read";
    read().or_fail(Class::Input, cannot).map_err(|failure| failure.with_help(help))
}

fn private_key(path: &Path) -> Result<PrivateKey> {
    let unfit = |why: &str| {
        let message = format!("{} is no key to sign with: {why}", path.display());
        Failure::input(message)
            .with_help("make one with `ssh-keygen -t ed25519 -N '' -f FILE` and name FILE")
    };
    let key = PrivateKey::from_openssh(text_of(path)?)
        .map_err(|error| unfit("it is not in OpenSSH's format").with_source(error))?;
    match key.algorithm() {
        _ if key.is_encrypted() => Err(unfit("it is locked by a passphrase")),
        Algorithm::Ed25519 => Ok(key),
        _ => Err(unfit("it is not an Ed25519 key")),
    }
}

/// The keys in a file of OpenSSH's public key lines, comments and empty lines between them.
fn public_keys(path: &Path) -> Result<Vec<PublicKey>> {
    let help = "each line is an Ed25519 public key such as `nodekiln cache key` prints: \
                `ssh-ed25519 AAAA…`";
    let mut keys = Vec::new();
    for (number, line) in text_of(path)?.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let message = || format!("{}:{}: no Ed25519 public key", path.display(), number + 1);
        let unfit = || Failure::input(message()).with_help(help);
        let entry: Entry =
            line.parse().map_err(|error: ssh_key::Error| unfit().with_source(error))?;
        let key = entry.public_key().clone();
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(unfit());
        }
        keys.push(key);
    }
    if keys.is_empty() {
        let message = format!("the key file {} names no key", path.display());
        return Err(Failure::input(message).with_help(help));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    fn place() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        (folder, store)
    }

    #[test]
    fn a_store_has_one_key_that_is_its_owners_alone() {
        let (_folder, store) = place();
        let no_files: &[&Path] = &[];
        assert!(Keys::of(&store, None, no_files, false).unwrap().signing.is_none());
        let lines: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| public_line(&store).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(lines.iter().all(|line| *line == lines[0]), "{lines:?}");
        let file = store.keys_root().join(OWN_KEY);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        let above = std::fs::metadata(store.keys_root()).unwrap();
        assert_eq!(above.permissions().mode() & 0o7777, 0o700);
        assert_eq!(std::fs::read_dir(store.keys_root()).unwrap().count(), 1);
        let keys = Keys::of(&store, None, no_files, false).unwrap();
        assert_eq!(keys.trusted.len(), 1);
        // OpenSSH finds the same key, and calls it by the same name.
        let says = |arguments: &[&str]| {
            let output = Command::new("ssh-keygen").args(arguments).arg("-f").arg(&file).output();
            let output = output.expect("ssh-keygen is missing: install openssh-client");
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(says(&["-y"]).trim().starts_with(lines[0].rsplit_once(' ').unwrap().0));
        let name = name_of(keys.signing.unwrap().public_key());
        assert!(says(&["-l"]).contains(&fingerprint(&name)));
    }

    #[test]
    fn keys_that_cannot_be_used_are_refused_with_the_line_and_a_remedy() {
        let (folder, store) = place();
        let file = folder.path().join("keys");
        let line = public_line(&store).unwrap();
        let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAwEAAQ==";
        for text in ["", "# nobody\n", "hello\n", rsa, &line[..40]] {
            std::fs::write(&file, format!("{text}\n")).unwrap();
            let failure = Keys::of(&store, None, &[&file], false).err().unwrap();
            assert_eq!(failure.class(), Class::Input, "{text}");
            assert!(failure.help().is_some() && failure.to_string().contains("keys"), "{text}");
        }
        std::fs::write(&file, format!("# them\n\nno-pty {line}\n{line} again\n")).unwrap();
        assert_eq!(Keys::of(&store, None, &[&file], false).unwrap().trusted.len(), 1);
        std::fs::write(&file, format!("{line}\n{}", &line[..30])).unwrap();
        let failure = Keys::of(&store, None, &[&file], false).err().unwrap();
        assert!(failure.to_string().contains("keys:2:"), "{failure}");

        let private = |arguments: &[&str], name: &str| {
            let path = folder.path().join(name);
            let status = Command::new("ssh-keygen").args(arguments).arg("-qf").arg(&path).status();
            assert!(status.unwrap().success());
            path
        };
        let none: &[&Path] = &[];
        let own = |path: &Path| Keys::of(&store, Some(path), none, true);
        assert!(own(&private(&["-t", "ed25519", "-N", ""], "good")).is_ok());
        let locked = own(&private(&["-t", "ed25519", "-N", "secret"], "locked")).err().unwrap();
        assert!(locked.to_string().contains("passphrase"), "{locked}");
        assert!(own(&private(&["-t", "ecdsa", "-N", ""], "other")).is_err());
        assert_eq!(own(&file).err().unwrap().class(), Class::Input);
        assert_eq!(own(Path::new("/nowhere")).err().unwrap().class(), Class::Input);
    }
}

//! Logging in by keys: of files, or of the agent.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nodekiln_words::{Class, Failure, Result, ResultExt as _};
use ssh2::{Agent, ErrorCode, Session};

use super::link::AGAIN;
use super::{Link, TICK, within};

/// `LIBSSH2_ERROR_AUTHENTICATION_FAILED`: the server does not take this key.
const REFUSED: ErrorCode = ErrorCode::Session(-18);
/// `LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED`: it does not take the signature.
const UNVERIFIED: ErrorCode = ErrorCode::Session(-19);
/// `LIBSSH2_ERROR_FILE`: the key cannot be read, or not with this passphrase.
const UNREADABLE: ErrorCode = ErrorCode::Session(-16);

/// What opens a host.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// Private keys. Where there are any the agent is not asked: a server hangs up after a few wrong keys.
    pub identities: Vec<Identity>,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
}

/// A private key.
#[derive(Clone)]
pub struct Identity {
    path: PathBuf,
    private: String,
    passphrase: Option<String>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.path.display())
    }
}

impl Identity {
    /// Reads the private key at `path`; `ask` is called for its passphrase where it has one.
    ///
    /// # Errors
    /// When there is no private key there, and those of `ask`.
    pub fn read(path: &Path, ask: &dyn Fn(&Path) -> Result<String>) -> Result<Self> {
        let private = fs_err::read_to_string(path).or_io(|| "read the private key".into())?;
        if !private.contains("PRIVATE KEY-----") {
            let text = format!("{} is no private key", path.display());
            return Err(
                Failure::input(text).with_help("`--identity` wants the file without `.pub`")
            );
        }
        let passphrase = is_encrypted(&private).then(|| ask(path)).transpose()?;
        Ok(Self { path: path.to_owned(), private, passphrase })
    }
}

/// Whether a private key in PEM is encrypted: PKCS 8 and the older form say so in words, OpenSSH's in its body, whose
/// first string names the cipher.
fn is_encrypted(private: &str) -> bool {
    const MAGIC: &[u8] = b"openssh-key-v1\0\0\0\0\x04none";
    if !private.contains("BEGIN OPENSSH PRIVATE KEY") {
        return private.contains("ENCRYPTED");
    }
    let body: String =
        private.lines().filter(|line| !line.starts_with('-')).map(str::trim).collect();
    BASE64_STANDARD.decode(body).is_ok_and(|body| !body.starts_with(MAGIC))
}

/// Logs `user` in; `place` is the host in words.
///
/// # Errors
/// When the server takes no key that there is, or hangs up.
pub(crate) fn log_in(
    link: &Link,
    user: &str,
    place: &str,
    login: &Login,
    deadline: Duration,
) -> Result<()> {
    let session = link.session();
    let methods = link.poll(deadline, "ask for ways to log in", || {
        session.auth_methods(user).map(str::to_owned)
    })?;
    if session.authenticated() {
        return Ok(()); // it lets everybody in, which the rule ssh-passwords tells
    }
    if !methods.split(',').any(|method| method == "publickey") {
        let text = format!("{place} lets {user} in by {methods} alone");
        return Err(Failure::new(Class::Unsupported, text)
            .with_help("nodekiln logs in by keys: have the server take one"));
    }
    let mut tried = Vec::new();
    for identity in &login.identities {
        match offer(link, user, identity, deadline)? {
            None => return Ok(()),
            Some(why) => tried.push(format!("{}: {why}", identity.path.display())),
        }
    }
    if login.identities.is_empty() {
        let Some(socket) = &login.agent else { return Err(keyless(place)) };
        let (session, socket, user) = (session.clone(), socket.clone(), user.to_owned());
        let sign = move || ask_agent(&session, &socket, &user, deadline);
        match within(link.life(), deadline, "get an answer of the SSH agent", sign)?? {
            None => return Ok(()),
            Some(why) => tried.push(why),
        }
    }
    let text = format!("{place} does not let {user} in: {}", tried.join("; "));
    Err(Failure::io(text).with_help(
        "put the public key into the user's ~/.ssh/authorized_keys there, or name another key by `--identity` or \
         another user by `user@`",
    ))
}

fn keyless(place: &str) -> Failure {
    Failure::input(format!("there is no key to log in to {place} with"))
        .with_help("name one by `--identity FILE`, or have an agent at SSH_AUTH_SOCK (`ssh-add`)")
}

/// Why the server does not take the key; nothing where it does.
fn offer(
    link: &Link,
    user: &str,
    identity: &Identity,
    deadline: Duration,
) -> Result<Option<String>> {
    let (session, passphrase) = (link.session(), identity.passphrase.as_deref());
    let done = link.try_poll(deadline, "log in", || {
        session.userauth_pubkey_memory(user, None, &identity.private, passphrase)
    })?;
    let Err(error) = done else { return Ok(None) };
    Ok(Some(match error.code() {
        REFUSED | UNVERIFIED => "refused".to_owned(),
        UNREADABLE if passphrase.is_some() => "not opened by this passphrase".to_owned(),
        UNREADABLE => "no key that libssh2 reads".to_owned(),
        _ => error.message().to_owned(),
    }))
}

/// The same for the agent's keys, one after the other. A conversation with an agent blocks.
fn ask_agent(
    session: &Session,
    socket: &Path,
    user: &str,
    deadline: Duration,
) -> Result<Option<String>> {
    let failed = |error: ssh2::Error| {
        Failure::io(format!("the SSH agent at {} does not answer", socket.display()))
            .with_source(error)
    };
    let mut agent = session.agent().map_err(failed)?;
    agent.set_identity_path(socket).map_err(failed)?;
    agent.connect().map_err(failed)?;
    agent.list_identities().map_err(failed)?;
    let keys = agent.identities().map_err(failed)?;
    for key in &keys {
        if signed(&agent, user, key, deadline).is_ok() {
            return Ok(None);
        }
    }
    Ok(Some(match keys.len() {
        0 => "the agent has no keys".to_owned(),
        1 => "the agent's key is refused".to_owned(),
        count => format!("the agent's {count} keys are refused"),
    }))
}

fn signed(
    agent: &Agent,
    user: &str,
    key: &ssh2::PublicKey,
    deadline: Duration,
) -> std::result::Result<(), ssh2::Error> {
    let started = Instant::now();
    loop {
        match agent.userauth(user, key) {
            Err(error) if error.code() == AGAIN && started.elapsed() < deadline => {
                std::thread::sleep(TICK);
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_passphrase_is_asked_for_where_the_key_has_one() {
        let folder = tempfile::tempdir().unwrap();
        for (kind, form) in
            [("ed25519", "RFC4716"), ("rsa", "RFC4716"), ("rsa", "PEM"), ("rsa", "PKCS8")]
        {
            for secret in ["", "open sesame"] {
                let path = folder.path().join(format!("{kind}-{form}-{}", secret.len()));
                let mut command = Command::new("ssh-keygen");
                command.args(["-q", "-t", kind, "-m", form, "-N", secret, "-f"]).arg(&path);
                assert!(command.status().expect("ssh-keygen is missing").success());
                let asked = std::cell::Cell::new(false);
                let ask = |_: &Path| {
                    asked.set(true);
                    Ok(secret.to_owned())
                };
                let identity = Identity::read(&path, &ask).unwrap();
                assert_eq!(asked.get(), !secret.is_empty(), "{kind} {form}");
                assert!(!format!("{identity:?}").contains("sesame"));
                let public = path.with_extension("pub");
                assert!(Identity::read(&public, &ask).unwrap_err().help().is_some());
            }
        }
    }
}

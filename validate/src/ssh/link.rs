//! One session with an SSH server, from its greeting on.

use std::os::fd::AsRawFd;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use nodekiln_words::{Failure, Result, ResultExt as _};
use ssh2::{ErrorCode, MethodType, Session};

use super::HostKey;
use crate::guest::Life;

/// `LIBSSH2_ERROR_EAGAIN`: come again.
pub(super) const AGAIN: ErrorCode = ErrorCode::Session(-37);
/// How long nothing is done while there is nothing to do.
pub(crate) const TICK: Duration = Duration::from_millis(15);

/// A session with a server that was greeted.
pub(crate) struct Link<'a> {
    session: Session,
    life: &'a dyn Life,
}

impl<'a> Link<'a> {
    /// Exchanges keys with the server at the other end of `stream`. Of a server with keys of several `kinds` the first
    /// of these that it has is asked for; any of the others may be shown by one that has none of them.
    pub(crate) fn greet(
        stream: impl AsRawFd + 'static,
        kinds: &[&str],
        life: &'a dyn Life,
        deadline: Duration,
    ) -> Result<Self> {
        let cannot = || "start an SSH session".to_owned();
        let mut session = Session::new().or_io(cannot)?;
        session.set_tcp_stream(stream);
        session.set_blocking(false);
        if !kinds.is_empty() {
            let supported = session.supported_algs(MethodType::HostKey).or_io(cannot)?;
            session
                .method_pref(MethodType::HostKey, &preferred(kinds, &supported))
                .or_io(|| "ask for the host key that is known".into())?;
        }
        let started = Instant::now();
        while let Err(error) = session.handshake() {
            if error.code() != AGAIN {
                return Err(Failure::io("greet the SSH server").with_source(error));
            }
            pause(life, started, deadline, "greet the SSH server")?;
        }
        Ok(Self { session, life })
    }

    /// libssh2's session.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Whether waiting is still worth it.
    pub(crate) fn life(&self) -> &'a dyn Life {
        self.life
    }

    /// The key that the server has shown, whose private half it has.
    pub(crate) fn shown(&self) -> Option<HostKey> {
        self.session.host_key().and_then(|(blob, _)| HostKey::of_blob(blob))
    }

    /// Takes `step` again and again until it has come to its end.
    pub(crate) fn poll<T>(
        &self,
        deadline: Duration,
        what: &str,
        mut step: impl FnMut() -> std::result::Result<T, ssh2::Error>,
    ) -> Result<T> {
        let failed = |error: ssh2::Error| {
            Failure::io(format!("could not {what} over SSH")).with_source(error)
        };
        self.try_poll(deadline, what, &mut step)?.map_err(failed)
    }

    /// The same, where the caller wants to know what libssh2 says against it.
    pub(crate) fn try_poll<T>(
        &self,
        deadline: Duration,
        what: &str,
        mut step: impl FnMut() -> std::result::Result<T, ssh2::Error>,
    ) -> Result<std::result::Result<T, ssh2::Error>> {
        let started = Instant::now();
        loop {
            match step() {
                Err(error) if error.code() == AGAIN => pause(self.life, started, deadline, what)?,
                done => return Ok(done),
            }
        }
    }
}

/// The host key algorithms that go with `kinds` first, then the rest of `supported`.
fn preferred(kinds: &[&str], supported: &[&str]) -> String {
    // The key is one and the same, whichever digest is signed with it.
    let of_kind = |algorithm: &&&str| {
        kinds.contains(*algorithm)
            || (kinds.contains(&"ssh-rsa") && algorithm.starts_with("rsa-sha2-"))
    };
    let (first, rest): (Vec<&&str>, Vec<&&str>) = supported.iter().partition(of_kind);
    first.into_iter().chain(rest).copied().collect::<Vec<_>>().join(",")
}

fn pause(life: &dyn Life, started: Instant, deadline: Duration, what: &str) -> Result<()> {
    life.check()?;
    if started.elapsed() > deadline {
        return Err(Failure::io(format!("did not {what} within {} s", deadline.as_secs())));
    }
    std::thread::sleep(TICK);
    Ok(())
}

/// Does in a thread of its own what cannot be interrupted, as looking up a name. Where it does not end by `deadline`
/// the thread is left to itself.
pub(crate) fn within<T: Send + 'static>(
    life: &dyn Life,
    deadline: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = mpsc::channel();
    let started = Instant::now();
    std::thread::Builder::new()
        .spawn(move || drop(sender.send(work())))
        .or_io(|| "start a thread".into())?;
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(done) => return Ok(done),
            Err(RecvTimeoutError::Timeout) => pause(life, started, deadline, what)?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::io(format!("could not {what}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nodekiln_words::Cancel;

    #[test]
    fn known_kinds_are_asked_for_first_and_none_is_left_out() {
        let supported = ["ecdsa-sha2-nistp256", "ssh-ed25519", "rsa-sha2-512", "ssh-rsa"];
        assert_eq!(
            preferred(&["ssh-ed25519"], &supported),
            "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512,ssh-rsa"
        );
        assert_eq!(
            preferred(&["ssh-rsa"], &supported),
            "rsa-sha2-512,ssh-rsa,ecdsa-sha2-nistp256,ssh-ed25519"
        );
        assert_eq!(preferred(&["sk-odd"], &supported), supported.join(","));
    }

    #[test]
    fn what_does_not_end_is_left_at_the_deadline_and_at_an_interruption() {
        let (cancel, second) = (Cancel::default(), Duration::from_secs(60));
        assert_eq!(within(&cancel, second, "count", || 7).unwrap(), 7);
        let sleep = || std::thread::sleep(Duration::from_secs(60));
        let late = within(&cancel, Duration::from_millis(50), "wait", sleep).unwrap_err();
        assert!(late.to_string().contains("did not wait"), "{late:?}");
        cancel.cancel();
        let stopped = within(&cancel, second, "wait", sleep).unwrap_err();
        assert_eq!(stopped.class(), nodekiln_words::Class::Interrupted);
    }
}

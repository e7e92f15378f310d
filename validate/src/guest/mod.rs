//! Commands in the guest, over SSH with the host key pinned.
//!
//! libssh2 is used without blocking, so that every wait looks at the deadline and at the guest's
//! life: a panic, a cancelled run or a QEMU that ended is noticed within a tenth of a second.

mod shell;

use std::cell::RefCell;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nodekiln_words::{Failure, Result, ResultExt as _};
use ssh2::{Channel, ErrorCode, MethodType, Session};

use self::shell::{Shell, Wire, patient};
use crate::keys::{Keys, USER};

/// `LIBSSH2_ERROR_EAGAIN`: come again.
const AGAIN: ErrorCode = ErrorCode::Session(-37);
/// One attempt to log in; a guest whose SSH server is not up yet lets it wait in vain.
const ATTEMPT: Duration = Duration::from_secs(20);
/// How long nothing is done while there is nothing to do.
const TICK: Duration = Duration::from_millis(15);
/// Output of one command beyond this is an error: nothing that is asked prints as much.
const MOST_OUTPUT: usize = 32 << 20;

/// What a command said and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Bytes of standard output.
    pub stdout: Vec<u8>,
    /// Bytes of standard error.
    pub stderr: Vec<u8>,
    /// Exit status.
    pub status: i32,
}

impl Output {
    /// Standard output as text, without the last line end.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Standard error as text, without the last line end.
    #[must_use]
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim_end().to_owned()
    }
}

/// Says whether it is still worth waiting for the guest: fails with the reason once it is not.
pub trait Life {
    /// Fails when the guest is dead or the run cancelled.
    ///
    /// # Errors
    /// With the cause found.
    fn check(&self) -> Result<()>;
}

/// A logged-in session.
pub struct Guest<'a> {
    session: Session,
    life: &'a dyn Life,
    port: u16,
    /// The host key that every session with this guest is held to.
    host: Vec<u8>,
    /// The shell that commands are sent to, once there was one.
    shell: RefCell<Option<Shell<Channel>>>,
}

impl std::fmt::Debug for Guest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guest(127.0.0.1:{})", self.port)
    }
}

impl<'a> Guest<'a> {
    /// Logs in, trying again until `deadline` has passed.
    ///
    /// # Errors
    /// When the guest is dead, or the deadline passed; the last attempt's error is the cause.
    pub fn login(port: u16, keys: &Keys, life: &'a dyn Life, deadline: Duration) -> Result<Self> {
        let started = Instant::now();
        loop {
            life.check()?;
            let attempt = ATTEMPT.min(deadline.saturating_sub(started.elapsed()));
            let failure = match Self::attempt(port, keys, life, attempt) {
                Ok(guest) => return Ok(guest),
                Err(failure) => failure,
            };
            life.check()?;
            if started.elapsed() > deadline {
                let text = format!("no login over SSH within {} s", deadline.as_secs());
                return Err(Failure::io(text).with_source(failure));
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    fn attempt(port: u16, keys: &Keys, life: &'a dyn Life, deadline: Duration) -> Result<Self> {
        let guest = Self::connect(port, &keys.host.blob, life, deadline)?;
        let session = guest.session.clone();
        guest.poll(deadline, "log in", || {
            session.userauth_pubkey_memory(USER, None, &keys.login.private, None)
        })?;
        Ok(guest)
    }

    /// Exchanges keys with the SSH server, and makes sure that it is our guest's: the only way to a
    /// session, for the run's user and for a stranger alike.
    fn connect(port: u16, host: &[u8], life: &'a dyn Life, deadline: Duration) -> Result<Self> {
        let session = open_session(port)?;
        let (host, shell) = (host.to_owned(), RefCell::default());
        let mut guest = Self { session, life, port, host, shell };
        guest.greet(deadline)?;
        recognise(guest.session.host_key().map(|(key, _)| key), &guest.host)?;
        Ok(guest)
    }

    fn greet(&mut self, deadline: Duration) -> Result<()> {
        let started = Instant::now();
        while let Err(error) = self.session.handshake() {
            if error.code() != AGAIN {
                return Err(Failure::io("greet the guest's SSH server").with_source(error));
            }
            self.pause(started, deadline, "greet the SSH server")?;
        }
        Ok(())
    }

    /// Ways of logging in that the guest offers to a stranger.
    ///
    /// # Errors
    /// When the guest cannot be asked.
    pub fn offered_methods(&self, deadline: Duration) -> Result<String> {
        let stranger = Guest::connect(self.port, &self.host, self.life, deadline)?;
        let session = stranger.session.clone();
        stranger.poll(deadline, "ask for ways to log in", || {
            session.auth_methods("root").map(str::to_owned)
        })
    }

    /// Runs `argv` as root and waits for its end. The words arrive as they are. The commands of a session run in
    /// one shell, one after the other.
    ///
    /// # Errors
    /// When the command cannot be started or does not end by `deadline`; not when it fails.
    pub fn run(&self, argv: &[&str], deadline: Duration) -> Result<Output> {
        let title = argv.join(" ");
        let title = title.lines().next().unwrap_or_default().to_owned();
        self.execute(argv, &[], deadline)
            .map_err(|failure| failure.context(format!("in the guest: {title}")))
    }

    /// The same with `input`, which has no byte 0, as standard input. Failures do not name the words: they are a user's.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn run_fed(&self, argv: &[&str], input: &[u8], deadline: Duration) -> Result<Output> {
        self.execute(argv, input, deadline).map_err(|failure| failure.context("in the guest"))
    }

    fn execute(&self, argv: &[&str], input: &[u8], deadline: Duration) -> Result<Output> {
        let pause = patient(Instant::now(), deadline, || self.life.check());
        let mut kept = self.shell.borrow_mut();
        // One that failed in the middle of an answer is not asked again.
        let mut shell = match kept.take() {
            Some(shell) => shell,
            None => Shell::start(self.root_shell(deadline)?, &pause)?,
        };
        let output = shell.run(argv, input, &pause)?;
        *kept = Some(shell);
        Ok(output)
    }

    /// A shell of root's that reads commands from its standard input.
    fn root_shell(&self, deadline: Duration) -> Result<Channel> {
        let mut channel =
            self.poll(deadline, "open a channel", || self.session.channel_session())?;
        self.poll(deadline, "start a shell", || channel.exec("sudo -n -- sh"))?;
        Ok(channel)
    }

    fn poll<T>(
        &self,
        deadline: Duration,
        what: &str,
        mut step: impl FnMut() -> std::result::Result<T, ssh2::Error>,
    ) -> Result<T> {
        let started = Instant::now();
        loop {
            match step() {
                Ok(value) => return Ok(value),
                Err(error) if error.code() == AGAIN => self.pause(started, deadline, what)?,
                Err(error) => {
                    return Err(
                        Failure::io(format!("could not {what} over SSH")).with_source(error)
                    );
                }
            }
        }
    }

    fn pause(&self, started: Instant, deadline: Duration, what: &str) -> Result<()> {
        self.life.check()?;
        if started.elapsed() > deadline {
            return Err(Failure::io(format!("did not {what} within {} s", deadline.as_secs())));
        }
        std::thread::sleep(TICK);
        Ok(())
    }
}

/// Refuses a server that shows another host key than the pinned one.
fn recognise(shown: Option<&[u8]>, pinned: &[u8]) -> Result<()> {
    if shown == Some(pinned) {
        return Ok(());
    }
    Err(Failure::io("the SSH server does not have the host key that the seed gave it")
        .with_help("cloud-init did not apply the user-data: look for it on the console"))
}

fn open_session(port: u16) -> Result<Session> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
        .or_io(|| format!("connect to the guest's SSH port at {address}"))?;
    let mut session = Session::new().or_io(|| "start an SSH session".into())?;
    session.set_tcp_stream(stream);
    // The pinned key is of this kind, and the image may have others besides.
    session
        .method_pref(MethodType::HostKey, "ssh-ed25519")
        .or_io(|| "start an SSH session".into())?;
    session.set_blocking(false);
    Ok(session)
}

impl Wire for Channel {
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.write(bytes)
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> Result<bool> {
        // What the shell itself says of a command that it cannot start is in that command's answer.
        drain(&mut self.stderr(), &mut Vec::new())?;
        drain(&mut self.stream(0), into)
    }

    fn ended(&self) -> bool {
        self.eof()
    }
}

/// Takes what is there; `true` when something was.
fn drain(stream: &mut ssh2::Stream, into: &mut Vec<u8>) -> Result<bool> {
    let mut buffer = [0; 16384];
    let mut got = false;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(got),
            Ok(count) => {
                into.extend_from_slice(&buffer[..count]);
                got = true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(got),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::io("read the command's output").with_source(error)),
        }
    }
}

/// One line for the guest's login shell that stands for exactly these words: SSH transports a
/// line, not a vector, so each word is quoted (POSIX shell, single quotes).
#[must_use]
pub fn shell_words(words: &[&str]) -> String {
    let quoted: Vec<String> =
        words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_shell_gives_the_words_back_as_they_were(words in prop::collection::vec("[^\0]{0,12}", 1..4)) {
            let mut line = vec!["printf", "%s\\0"];
            line.extend(words.iter().map(String::as_str));
            let output = Command::new("sh").arg("-c").arg(shell_words(&line)).output().unwrap();
            let mut expected: Vec<u8> = Vec::new();
            for word in &words {
                expected.extend_from_slice(word.as_bytes());
                expected.push(0);
            }
            prop_assert_eq!(output.stdout, expected);
        }
    }

    struct Alive;
    impl Life for Alive {
        fn check(&self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_server_that_never_greets_is_given_up_at_the_deadline() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let keys = Keys::generate().unwrap();
        let started = Instant::now();
        let failure = Guest::login(port, &keys, &Alive, Duration::from_millis(700)).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(failure.to_string().contains("no login"), "{failure:?}");
    }

    #[test]
    fn only_the_pinned_host_key_is_recognised() {
        assert!(recognise(Some(b"ours"), b"ours").is_ok());
        for other in [None, Some(&b"another"[..]), Some(b"")] {
            assert!(recognise(other, b"ours").is_err());
        }
    }

    #[test]
    fn a_dead_guest_ends_the_wait_at_once() {
        struct Dead;
        impl Life for Dead {
            fn check(&self) -> Result<()> {
                Err(Failure::io("kernel panic"))
            }
        }
        let keys = Keys::generate().unwrap();
        let failure = Guest::login(9, &keys, &Dead, Duration::from_secs(60)).unwrap_err();
        assert_eq!(failure.to_string(), "kernel panic");
    }
}

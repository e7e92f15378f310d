//! Commands on a machine, over SSH with the host key pinned.

mod shell;

use std::cell::{OnceCell, RefCell};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nodekiln_words::{Cancel, Failure, Result, ResultExt as _};
use ssh2::Channel;

use self::shell::{Shell, Wire, patient};
use crate::keys::{Host, Keys, USER};
use crate::ssh::{HostKey, Link, Route, TICK};

/// One attempt to log in; a guest whose SSH server is not up yet lets it wait in vain.
const ATTEMPT: Duration = Duration::from_secs(20);
/// Output of one command beyond this is an error: nothing that is asked prints as much.
const MOST_OUTPUT: usize = 32 << 20;
/// Starts a shell of root's for the user whom the seed adds.
const BY_SUDO: &str = "sudo -n -- sh";

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

/// Life for as long as nobody has asked to stop.
impl Life for Cancel {
    fn check(&self) -> Result<()> {
        Cancel::check(self)
    }
}

/// A logged-in session: with a guest of the run's own, or with a host.
pub struct Guest<'a> {
    link: Link<'a>,
    /// The way on which the session came about, for another one.
    route: Box<dyn Route + 'a>,
    /// The line that starts a shell of root's.
    root: String,
    /// The shell that commands are sent to, once there was one.
    shell: RefCell<Option<Shell<Line>>>,
    /// Why there can be no shell any more.
    lost: OnceCell<String>,
}

impl std::fmt::Debug for Guest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guest")
    }
}

/// A guest of the run's own behind a port of this machine's.
struct Forwarded {
    port: u16,
    /// By what it is recognised.
    host: Host,
}

impl Route for Forwarded {
    fn connect<'a>(&self, life: &'a dyn Life, deadline: Duration) -> Result<Link<'a>> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
            .or_io(|| format!("connect to the guest's SSH port at {address}"))?;
        let known = self.host.known();
        let kinds: Vec<&str> = known.iter().map(HostKey::kind).collect();
        let link = Link::greet(stream, &kinds, life, deadline)?;
        if let Some(known) = &known {
            recognise(link.shown().as_ref(), known, &self.host)?;
        }
        Ok(link)
    }
}

impl<'a> Guest<'a> {
    /// Logs in to a guest of the run's own, trying again until `deadline` has passed.
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
        let route = Forwarded { port, host: keys.host.clone() };
        let link = route.connect(life, deadline)?;
        link.poll(deadline, "log in", || {
            link.session().userauth_pubkey_memory(USER, None, &keys.login.private, None)
        })?;
        if let Some(shown) = link.shown() {
            keys.host.seen(shown);
        }
        Ok(Self::over(link, Box::new(route), BY_SUDO.to_owned()))
    }

    /// The machine at the other end of `link`, which came about by `route` and where somebody is logged in for whom the
    /// line `root` starts a shell of root's.
    pub(crate) fn over(link: Link<'a>, route: Box<dyn Route + 'a>, root: String) -> Self {
        Self { link, route, root, shell: RefCell::default(), lost: OnceCell::new() }
    }

    /// Ways of logging in that the machine offers to a stranger.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn offered_methods(&self, deadline: Duration) -> Result<String> {
        let stranger = self.route.connect(self.link.life(), deadline)?;
        stranger.poll(deadline, "ask for ways to log in", || {
            stranger.session().auth_methods("root").map(str::to_owned)
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
        let life = self.link.life();
        let pause = patient(Instant::now(), deadline, || life.check());
        let mut kept = self.shell.borrow_mut();
        // One that failed in the middle of an answer is not asked again.
        let mut shell = match kept.take() {
            Some(shell) => shell,
            None => self.start_shell(deadline)?,
        };
        let output = shell.run(argv, input, &pause)?;
        *kept = Some(shell);
        Ok(output)
    }

    /// Where no shell can be had once, none is tried for again: each try on a silent line would take its deadline.
    fn start_shell(&self, deadline: Duration) -> Result<Shell<Line>> {
        if let Some(lost) = self.lost.get() {
            return Err(Failure::io(format!("there is no shell of root's any more: {lost}")));
        }
        let life = self.link.life();
        let pause = patient(Instant::now(), deadline, || life.check());
        let started = self.root_shell(deadline).and_then(|line| Shell::start(line, &pause));
        if let Err(failure) = &started {
            let _ = self.lost.set(failure.chain().join(": "));
        }
        started
    }

    /// A shell of root's that reads commands from its standard input.
    fn root_shell(&self, deadline: Duration) -> Result<Line> {
        let session = self.link.session();
        let mut channel =
            self.link.poll(deadline, "open a channel", || session.channel_session())?;
        self.link.poll(deadline, "start a shell", || channel.exec(&self.root))?;
        Ok(Line { channel, errors: Vec::new() })
    }
}

/// Refuses a server that shows another host key than the one that is `known`.
fn recognise(shown: Option<&HostKey>, known: &HostKey, host: &Host) -> Result<()> {
    if shown == Some(known) {
        return Ok(());
    }
    Err(match host {
        Host::Given(_) => {
            Failure::io("the SSH server does not have the host key that the seed gave it")
                .with_help("cloud-init did not apply the user-data: look for it on the console")
        }
        Host::Own(_) => Failure::io("the SSH server does not have the host key that it had before")
            .with_help("something in the image makes host keys anew at each start"),
    })
}

/// A shell's channel.
struct Line {
    channel: Channel,
    /// What has come by standard error.
    errors: Vec<u8>,
}

/// Most bytes of a shell's own errors that are kept.
const MOST_ERRORS: usize = 4096;

impl Wire for Line {
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.channel.write(bytes)
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> Result<bool> {
        // What the shell itself says of a command that it cannot start is in that command's answer.
        drain(&mut self.channel.stderr(), &mut self.errors)?;
        let excess = self.errors.len().saturating_sub(MOST_ERRORS);
        self.errors.drain(..excess);
        drain(&mut self.channel.stream(0), into)
    }

    fn ended(&self) -> bool {
        self.channel.eof()
    }

    fn errors(&self) -> String {
        String::from_utf8_lossy(&self.errors).trim().to_owned()
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
        let keys = Keys::generate(Host::own()).unwrap();
        let started = Instant::now();
        let failure = Guest::login(port, &keys, &Alive, Duration::from_millis(700)).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(failure.to_string().contains("no login"), "{failure:?}");
    }

    #[test]
    fn only_the_pinned_host_key_is_recognised() {
        let (given, own) = (Host::given().unwrap(), Host::own());
        let (ours, another) = (given.known().unwrap(), Host::given().unwrap().known());
        for host in [given, own] {
            assert!(recognise(Some(&ours), &ours, &host).is_ok());
            for other in [None, another.as_ref()] {
                let refused = recognise(other, &ours, &host).unwrap_err();
                assert!(refused.help().is_some(), "{refused:?}");
            }
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
        let keys = Keys::generate(Host::given().unwrap()).unwrap();
        let failure = Guest::login(9, &keys, &Dead, Duration::from_secs(60)).unwrap_err();
        assert_eq!(failure.to_string(), "kernel panic");
    }
}

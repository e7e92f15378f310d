//! One shell of root's in the guest that runs a command after the other.
//!
//! A session, a PAM stack, `sudo` and a login shell for every question cost seconds each under emulation. Here they are
//! paid for once: commands go to the standard input of a shell that stays, and each answer comes back as a line
//! with its status and two lengths, then that many bytes of standard output and of standard error. Commands have
//! a standard input of their own, if any, and cannot break the order: what they read and print goes through files in
//! memory.

use std::io::ErrorKind;
use std::time::Instant;

use nodekiln_words::{Class, Failure, Result, ResultExt as _};

use super::{MOST_OUTPUT, Output, shell_words};

/// Longest line in front of an answer.
const MOST_HEAD: usize = 200;

/// What the shell is told first. /run is memory on every machine with systemd.
const HELLO: &str = "\
    PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH\n\
    d=$(mktemp -d /run/nodekiln.XXXXXX 2>/dev/null || mktemp -d) || exit 1\n\
    trap 'rm -rf \"$d\"' EXIT HUP TERM\n\
    answer() {\n\
      set -- \"$1\" $(stat -c %s \"$d/o\" \"$d/e\")\n\
      printf 'answer %s %s %s\\n' \"$@\"; cat \"$d/o\" \"$d/e\"\n\
    }\n\
    echo nodekiln-ready\n";

/// The line by which the shell says that it has understood. What comes before is chatter of a login.
const READY: &[u8] = b"nodekiln-ready\n";
/// Most chatter.
const MOST_CHATTER: usize = 64 << 10;

/// The two ends of a shell's pipes, neither of which blocks.
pub(super) trait Wire {
    /// Takes some of `bytes`; says how many.
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<usize>;
    /// Adds to `into` what has come; says whether anything has.
    fn receive(&mut self, into: &mut Vec<u8>) -> Result<bool>;
    /// Whether nothing more will come.
    fn ended(&self) -> bool;
    /// What the other end has said of errors.
    fn errors(&self) -> String;
}

/// A shell that waits for commands.
pub(super) struct Shell<W> {
    wire: W,
    /// What has come and is not taken yet.
    pending: Vec<u8>,
}

impl<W: Wire> Shell<W> {
    /// A shell at the other end of `wire`, which has just been started. `pause` is called while there is
    /// nothing to do and fails once there is no use in waiting.
    pub(super) fn start(wire: W, pause: &dyn Fn() -> Result<()>) -> Result<Self> {
        let mut shell = Self { wire, pending: Vec::new() };
        let ready = shell.send(HELLO.as_bytes(), pause).and_then(|()| shell.ready(pause));
        let Err(failure) = ready else { return Ok(shell) };
        // What it has said to the end, which a command that cannot be sent would hide.
        while shell.pending.len() <= MOST_CHATTER
            && shell.wire.receive(&mut shell.pending).is_ok_and(|more| more)
        {}
        Err(if shell.wire.ended() { shell.never_started() } else { failure })
    }

    /// Waits until the shell reads commands.
    fn ready(&mut self, pause: &dyn Fn() -> Result<()>) -> Result<()> {
        loop {
            let end = memchr::memmem::find(&self.pending, READY).map(|at| at + READY.len());
            if let Some(end) = end {
                self.pending.drain(..end);
                return Ok(());
            }
            if self.pending.len() > MOST_CHATTER {
                return Err(Failure::io("the login talks without end and starts no shell"));
            }
            self.more(pause)?;
        }
    }

    /// Why a shell ended before it was ready, by its last word.
    fn never_started(&self) -> Failure {
        let (errors, chatter) = (self.wire.errors(), String::from_utf8_lossy(&self.pending));
        let said = [errors.as_str(), chatter.as_ref()]
            .into_iter()
            .find_map(|text| text.trim().lines().last());
        let said = said.map_or_else(String::new, |said| format!(": {said}"));
        Failure::new(Class::Unsupported, format!("no shell of root's was started{said}"))
    }

    /// Runs `argv` with `input` as its standard input, which has no byte 0, and waits for its end.
    pub(super) fn run(
        &mut self,
        argv: &[&str],
        input: &[u8],
        pause: &dyn Fn() -> Result<()>,
    ) -> Result<Output> {
        let words = shell_words(argv);
        let line = match input {
            [] => format!("{words} </dev/null >\"$d/o\" 2>\"$d/e\"; answer $?\n"),
            // The shell's own printf: no list of processes shows what may be a password.
            input => format!(
                "printf %s {} >\"$d/i\"; {words} <\"$d/i\" >\"$d/o\" 2>\"$d/e\"; answer $?; rm -f \"$d/i\"\n",
                shell_words(&[&String::from_utf8_lossy(input)])
            ),
        };
        self.send(line.as_bytes(), pause)?;
        let (status, out, err) = self.head(pause)?;
        let stdout = self.take(out, pause)?;
        let stderr = self.take(err, pause)?;
        Ok(Output { stdout, stderr, status })
    }

    fn send(&mut self, mut bytes: &[u8], pause: &dyn Fn() -> Result<()>) -> Result<()> {
        while !bytes.is_empty() {
            match self.wire.send(bytes) {
                Ok(0) => return Err(gone()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => pause()?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).or_io(|| "send the command".into()),
            }
        }
        Ok(())
    }

    /// Status and the lengths of standard output and standard error.
    fn head(&mut self, pause: &dyn Fn() -> Result<()>) -> Result<(i32, usize, usize)> {
        let end = loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                break end;
            }
            if self.pending.len() > MOST_HEAD {
                return Err(Failure::io("the guest's shell answers in a strange way"));
            }
            self.more(pause)?;
        };
        let line: Vec<u8> = self.pending.drain(..=end).collect();
        let line = String::from_utf8_lossy(&line).into_owned();
        let words: Vec<&str> = line.split_whitespace().collect();
        let head = match words[..] {
            ["answer", status, out, err] => {
                let lengths = (status.parse(), out.parse::<usize>(), err.parse::<usize>());
                let (Ok(status), Ok(out), Ok(err)) = lengths else { return Err(strange(&line)) };
                (status, out, err)
            }
            _ => return Err(strange(&line)),
        };
        match head.1.checked_add(head.2) {
            Some(length) if length <= MOST_OUTPUT => Ok(head),
            _ => Err(Failure::io("it printed more than 32 MiB")),
        }
    }

    fn take(&mut self, length: usize, pause: &dyn Fn() -> Result<()>) -> Result<Vec<u8>> {
        while self.pending.len() < length {
            self.more(pause)?;
        }
        let rest = self.pending.split_off(length);
        Ok(std::mem::replace(&mut self.pending, rest))
    }

    fn more(&mut self, pause: &dyn Fn() -> Result<()>) -> Result<()> {
        if self.wire.receive(&mut self.pending)? {
            return Ok(());
        }
        if self.wire.ended() { Err(gone()) } else { pause() }
    }
}

fn gone() -> Failure {
    Failure::io("the guest's shell has ended")
}

fn strange(line: &str) -> Failure {
    Failure::io(format!("the guest's shell answered `{}`", line.trim_end()))
}

/// Waits a little, until `deadline` seconds after `started` have passed or `check` fails.
pub(super) fn patient<'a>(
    started: Instant,
    deadline: std::time::Duration,
    check: impl Fn() -> Result<()> + 'a,
) -> impl Fn() -> Result<()> + 'a {
    move || {
        check()?;
        if started.elapsed() > deadline {
            return Err(Failure::io(format!("did not finish within {} s", deadline.as_secs())));
        }
        std::thread::sleep(super::TICK);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
    use std::time::Duration;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    use super::*;

    /// A shell of this machine, by pipes that do not block.
    struct Local {
        child: Child,
        stdin: ChildStdin,
        stdout: ChildStdout,
        at_end: bool,
    }

    impl Local {
        fn start() -> Self {
            Self::of("exec sh")
        }

        /// What `script` makes of a shell.
        fn of(script: &str) -> Self {
            let mut child = Command::new("sh")
                .args(["-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            let flags = fcntl_getfl(&stdin).unwrap() | OFlags::NONBLOCK;
            fcntl_setfl(&stdin, flags).unwrap();
            let flags = fcntl_getfl(&stdout).unwrap() | OFlags::NONBLOCK;
            fcntl_setfl(&stdout, flags).unwrap();
            Self { child, stdin, stdout, at_end: false }
        }
    }

    impl Drop for Local {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    impl Wire for Local {
        fn send(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.stdin.write(&bytes[..bytes.len().min(1000)])
        }
        fn receive(&mut self, into: &mut Vec<u8>) -> Result<bool> {
            let mut buffer = [0; 700];
            match self.stdout.read(&mut buffer) {
                Ok(0) => {
                    self.at_end = true;
                    Ok(false)
                }
                Ok(count) => {
                    into.extend_from_slice(&buffer[..count]);
                    Ok(true)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
                Err(error) => Err(error).or_io(|| "read".into()),
            }
        }
        fn ended(&self) -> bool {
            self.at_end
        }
        fn errors(&self) -> String {
            String::new()
        }
    }

    fn within(seconds: u64) -> impl Fn() -> Result<()> {
        patient(Instant::now(), Duration::from_secs(seconds), || Ok(()))
    }

    #[test]
    fn answers_come_in_order_whatever_they_hold() {
        let mut shell = Shell::start(Local::start(), &within(20)).unwrap();
        let mut run = |script: &str| shell.run(&["sh", "-c", script], &[], &within(20)).unwrap();
        let answer = run("printf 'answer 0 1 1\\n\\000\\377'; echo bad >&2; exit 7");
        assert_eq!(answer.stdout, b"answer 0 1 1\n\0\xff");
        assert_eq!((answer.stderr.as_slice(), answer.status), (b"bad\n".as_slice(), 7));
        assert_eq!(run("cat").stdout, b"", "a command reads no other command");
        assert_eq!(run("kill -9 $$").status, 137);
        assert_eq!(run("exit 0"), Output::default());
        let large = run("head -c 300000 /dev/zero; head -c 5 /dev/zero >&2");
        assert_eq!((large.stdout.len(), large.stderr.len()), (300_000, 5));
        let words = ["printf", "%s|", "a b", "it's", "\n$d", ""];
        let words = shell.run(&words, &[], &within(20)).unwrap();
        assert_eq!(words.stdout, b"a b|it's|\n$d||");
    }

    #[test]
    fn a_command_reads_its_own_input_and_nothing_of_it_stays() {
        let mut shell = Shell::start(Local::start(), &within(20)).unwrap();
        let input = "user = \"me:it's $d `id`\"\n%s \\n\n";
        let mut run = |script: &str, input: &[u8]| {
            shell.run(&["sh", "-c", script], input, &within(20)).unwrap()
        };
        assert_eq!(run("cat", input.as_bytes()).text() + "\n", input);
        assert_eq!(run("cat", &[]).stdout, b"");
        let left =
            run("for d in /run/nodekiln.* /tmp/tmp.*; do cat \"$d/i\"; done 2>/dev/null", &[]);
        assert!(!left.text().contains("me:it"), "{left:?}");
    }

    #[test]
    fn a_command_that_does_not_end_is_given_up_and_one_that_is_absent_says_so() {
        let mut shell = Shell::start(Local::start(), &within(20)).unwrap();
        let absent = shell.run(&["no-such-program"], &[], &within(20)).unwrap();
        assert_eq!(absent.status, 127);
        assert!(absent.error_text().contains("not found"), "{absent:?}");
        let failure = shell.run(&["sleep", "30"], &[], &within(0)).unwrap_err();
        assert!(failure.to_string().contains("did not finish"), "{failure:?}");
    }

    #[test]
    fn a_shell_that_is_gone_is_an_error_at_once() {
        let mut shell = Shell::start(Local::start(), &within(20)).unwrap();
        let failure = shell.run(&["sh", "-c", "kill -9 $PPID"], &[], &within(20)).unwrap_err();
        assert!(failure.to_string().contains("ended"), "{failure:?}");
    }

    #[test]
    fn chatter_before_the_shell_is_no_answer() {
        let mut shell =
            Shell::start(Local::of("echo Welcome; echo; exec sh"), &within(20)).unwrap();
        assert_eq!(shell.run(&["echo", "x"], &[], &within(20)).unwrap().stdout, b"x\n");
        let endless = Shell::start(Local::of("exec yes"), &within(20)).err().unwrap();
        assert!(endless.to_string().contains("starts no shell"), "{endless:?}");
    }

    #[test]
    fn a_shell_that_does_not_start_tells_the_last_word() {
        let refused = Local::of("echo Hello; echo This account is not available.; exit 1");
        let failure = Shell::start(refused, &within(20)).err().unwrap();
        let wanted = "no shell of root's was started: This account is not available.";
        assert_eq!(failure.to_string(), wanted);
    }
}

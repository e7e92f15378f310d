//! A plugin's process: started, listened to, and ended with all that it started.
//!
//! Three guards, since no one of them covers all: dropping [`Process`] kills its process group and reaps it;
//! `setpriv --pdeathsig KILL`, which sets PR_SET_PDEATHSIG and becomes the plugin, has the kernel kill it when
//! nodekiln itself is killed; and its standard input ends then, too. That signal is tied to the thread that
//! starts the plugin, so it is started on the thread that waits for it.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nodekiln_plugin_protocol::LONGEST_LINE;
use nodekiln_words::{Cancel, Class, Failure, Result};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// How often a waiting thread looks up.
const INTERVAL: Duration = Duration::from_millis(20);
/// How much of what a plugin writes to standard error is kept: the end.
const KEPT: usize = 16 << 10;
/// Lines that a plugin may be ahead; then it waits.
const AHEAD: usize = 16;
/// Sets the signal and becomes the plugin (util-linux).
const SETPRIV: &str = "setpriv";

/// What was heard of a plugin.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A line, without its line feed.
    Line(Vec<u8>),
    /// More than [`LONGEST_LINE`] bytes without a line feed.
    TooLong,
    /// Its output ended; some bytes without a line feed may have come before.
    End,
    /// Nothing, as long as there was time.
    Silence,
    /// Nothing that counts: somebody asked to stop.
    Cancelled,
}

/// A running plugin; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    group: Option<Pid>,
    input: Option<ChildStdin>,
    output: Receiver<Heard>,
    errors: Arc<Mutex<Vec<u8>>>,
    errors_end: Receiver<()>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts the program at `path` in `folder`, with nothing in its environment but `environment`.
    pub(crate) fn start(
        path: &Path,
        folder: &Path,
        environment: &[(String, OsString)],
    ) -> Result<Self> {
        let mut command = Command::new(SETPRIV);
        command.args(["--pdeathsig", "KILL", "--"]).arg(path).current_dir(folder).env_clear();
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: the terminal's Ctrl-C reaches nodekiln alone, which then cancels in order.
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::new(
                Class::Missing,
                format!("`{SETPRIV}` is missing, which provider plugins are started with"),
            )
            .with_help("install util-linux"),
            _ => Failure::io(format!("cannot start {}", path.display())).with_source(error),
        })?;
        let (said, output) = sync_channel(AHEAD);
        let (over, errors_end) = sync_channel(1);
        let errors = Arc::<Mutex<Vec<u8>>>::default();
        if let Some(pipe) = child.stdout.take() {
            std::thread::spawn(move || listen(pipe, &said));
        }
        if let Some(pipe) = child.stderr.take() {
            let kept = Arc::clone(&errors);
            std::thread::spawn(move || {
                keep_end(pipe, &kept);
                let _ = over.send(());
            });
        }
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let input = child.stdin.take();
        Ok(Self { child, group, input, output, errors, errors_end, ended: None })
    }

    /// Says a line. A plugin that does not listen any more is found out by what it says.
    pub(crate) fn say(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(line.as_bytes()).and_then(|()| input.flush());
        }
    }

    /// Ends its standard input.
    pub(crate) fn hang_up(&mut self) {
        self.input = None;
    }

    /// What it says next, within `patience`. Who listens for more than one line within a time of its own has to
    /// look at that time itself: what was said already is heard without patience, too.
    pub(crate) fn hear(&self, patience: Duration, cancel: &Cancel) -> Heard {
        let since = Instant::now();
        loop {
            if cancel.is_cancelled() {
                return Heard::Cancelled;
            }
            let left = patience.saturating_sub(since.elapsed());
            match self.output.recv_timeout(left.min(INTERVAL)) {
                Ok(heard) => return heard,
                Err(RecvTimeoutError::Disconnected) => return Heard::End,
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Heard::Silence,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Lets it end by itself within `patience`, whatever it still says, and tells how it did.
    pub(crate) fn ends_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let since = Instant::now();
        loop {
            // Nobody is kept from ending by a full pipe, and nobody is listened to for ever.
            while self.output.try_recv().is_ok() && since.elapsed() <= patience {}
            if self.has_ended() {
                return self.reap();
            }
            if since.elapsed() > patience {
                return None;
            }
            std::thread::sleep(INTERVAL);
        }
    }

    /// Ends it: by SIGTERM, and where that does not do it within `patience`, by SIGKILL.
    pub(crate) fn terminate(&mut self, patience: Duration) {
        self.hang_up();
        self.signal(Signal::TERM);
        if self.ends_within(patience).is_none() {
            self.reap();
        }
    }

    /// Whether it has ended; it stays to be reaped, so that its number is nobody else's.
    fn has_ended(&self) -> bool {
        let Some(id) = self.group else { return true };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.ended.is_some() || !matches!(waitid(WaitId::Pid(id), options), Ok(None))
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group.filter(|_| self.ended.is_none()) {
            let _ = kill_process_group(group, signal); // one that is gone needs none
        }
    }

    /// Kills what there still is of its group, and tells how it ended.
    fn reap(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.signal(Signal::KILL);
            self.ended = self.child.wait().ok();
        }
        self.ended
    }

    /// The last lines that it wrote to standard error.
    pub(crate) fn errors(&self) -> String {
        // They may be on their way; a process that outlived its group may hold the pipe.
        let _ = self.errors_end.recv_timeout(Duration::from_millis(500));
        let kept = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(10)..).unwrap_or_default();
        printable(&tail.join("\n"))
    }
}

/// What a plugin says, without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c == '\n' || !c.is_control() { c } else { '\u{fffd}' }).collect()
}

impl Drop for Process {
    fn drop(&mut self) {
        self.reap();
    }
}

/// Hands over the lines of `pipe` until it ends, or one is too long.
fn listen(pipe: impl Read, said: &SyncSender<Heard>) {
    let mut pipe = BufReader::new(pipe);
    let limit = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
    loop {
        let mut line = Vec::new();
        let heard = match pipe.by_ref().take(limit).read_until(b'\n', &mut line) {
            Ok(_) if line.last() == Some(&b'\n') => {
                line.pop();
                Heard::Line(line)
            }
            Ok(length) if length == LONGEST_LINE => Heard::TooLong,
            Ok(_) | Err(_) => Heard::End,
        };
        let last = !matches!(heard, Heard::Line(_));
        if said.send(heard).is_err() || last {
            // What comes now is nobody's; the plugin may wait for ever, and is killed.
            return;
        }
    }
}

/// Keeps the end of what comes out of `pipe`.
fn keep_end(mut pipe: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut piece) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(piece.get(..count).unwrap_or_default());
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> (Process, tempfile::TempDir) {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs_err::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let environment = [("PATH".to_owned(), OsString::from("/usr/bin:/bin"))];
        (Process::start(&path, folder.path(), &environment).unwrap(), folder)
    }

    #[test]
    fn lines_come_and_then_the_end() {
        let (process, _folder) = shell("echo one; echo two; printf three");
        let hear = || process.hear(PATIENCE, &Cancel::default());
        assert!(matches!(hear(), Heard::Line(line) if line == b"one"));
        assert!(matches!(hear(), Heard::Line(line) if line == b"two"));
        assert!(matches!(hear(), Heard::End));
        assert!(matches!(hear(), Heard::End));
    }

    #[test]
    fn a_flood_of_errors_is_drained_and_its_end_is_kept() {
        let (mut process, _folder) = shell(
            "i=0; while [ $i -lt 9000 ]; do echo 'a line of words' >&2; i=$((i+1)); done; printf 'last\\033[1m' >&2",
        );
        assert!(process.ends_within(PATIENCE).unwrap().success());
        let errors = process.errors();
        assert!(errors.ends_with("a line of words\nlast\u{fffd}[1m"), "{errors}");
        assert_eq!(errors.lines().count(), 10);
    }

    #[test]
    fn what_ignores_a_signal_is_killed_and_so_is_what_it_started() {
        let (mut process, folder) = shell(
            "trap '' TERM; sleep 1000 & echo $! > child; echo ready; while :; do sleep 1; done",
        );
        assert!(matches!(process.hear(PATIENCE, &Cancel::default()), Heard::Line(_)));
        let child = fs_err::read_to_string(folder.path().join("child")).unwrap();
        let child = Path::new("/proc").join(child.trim());
        assert!(child.exists());
        process.terminate(Duration::from_millis(50));
        // Init, or whoever stands in for it, reaps the orphan some time later.
        let gone = || {
            let stat = fs_err::read_to_string(child.join("stat")).unwrap_or_default();
            !child.exists() || stat.contains(") Z ")
        };
        let since = Instant::now();
        while !gone() && since.elapsed() < PATIENCE {
            std::thread::sleep(INTERVAL);
        }
        assert!(gone());
    }

    /// The lines that are heard of `bytes`, and what comes after them.
    fn heard(bytes: &[u8]) -> (Vec<Vec<u8>>, Option<Heard>) {
        let (said, output) = sync_channel(bytes.len() + 1);
        listen(bytes, &said);
        drop(said);
        let (mut lines, mut last) = (Vec::new(), None);
        for heard in output {
            match heard {
                Heard::Line(line) => lines.push(line),
                other => last = Some(other),
            }
        }
        (lines, last)
    }

    proptest::proptest! {
        #[test]
        fn lines_are_what_ends_with_a_line_feed(
            parts in proptest::collection::vec("[a-z\\r{}\u{0}\u{e4}]{0,20}", 0..20),
            rest in "[a-z]{0,5}",
        ) {
            let text: String = parts.iter().map(|part| format!("{part}\n")).collect();
            let (lines, last) = heard((text + &rest).as_bytes());
            let expected: Vec<Vec<u8>> = parts.iter().map(|part| part.as_bytes().to_vec()).collect();
            proptest::prop_assert_eq!(lines, expected);
            proptest::prop_assert!(matches!(last, Some(Heard::End)));
        }
    }

    #[test]
    fn the_longest_line_is_heard_and_one_byte_more_is_not() {
        let mut line = vec![b'x'; LONGEST_LINE - 1];
        line.push(b'\n');
        let (lines, last) = heard(&line);
        assert_eq!(lines[0].len(), LONGEST_LINE - 1);
        assert!(matches!(last, Some(Heard::End)), "{last:?}");
        line.insert(0, b'x');
        let (lines, last) = heard(&line);
        assert!(lines.is_empty() && matches!(last, Some(Heard::TooLong)), "{last:?}");
    }

    #[test]
    fn nothing_of_our_environment_is_seen() {
        let (process, _folder) =
            shell("env | grep -v '^\\(PATH\\|PWD\\|SHLVL\\|_\\|OLDPWD\\)='; echo over");
        let heard = process.hear(PATIENCE, &Cancel::default());
        assert!(matches!(&heard, Heard::Line(line) if line == b"over"), "{heard:?}");
    }
}

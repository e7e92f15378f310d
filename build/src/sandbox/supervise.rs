//! The supervisor: starts stage one, copies output to the log, watches for cancellation, and says
//! how the command ended.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, IsTerminal as _, PipeWriter, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use nodekiln_words::{Cancel, Class, Failure, Result, ResultExt as _};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::launch::Line;
use super::mount_points::MountPoints;
use super::request::{Report, Request, anonymous_file};
use super::{OtherClock, Output, STAGE_NAME, Sandbox, SandboxCommand};

/// How long to wait for output before looking at the cancel flag again.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Lines shown with a failure.
const LAST_LINES: usize = 20;

/// Bytes of an unfinished line that are kept for showing.
const LINE_LIMIT: usize = 4096;

/// Where programs are looked up: Debian's order for root.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// See [`Sandbox::run`].
pub(crate) fn run(sandbox: &Sandbox, command: &SandboxCommand, cancel: &Cancel) -> Result<Output> {
    cancel.check()?;
    let mut log = open_log(command)?;
    // Taken away again when this function returns, after all processes inside have ended.
    let mount_points = MountPoints::make(command)?;
    let request = request(command, sandbox.clock.as_ref(), mount_points.policy);
    let mut running = start(sandbox, &request)
        .or_io(|| format!("cannot start the sandbox for {}", command.title))?;
    let mut capture = Capture::default();
    let copied = capture.copy(&mut running.stage_one, &mut log, cancel);
    // A command that is not at its end is ended by this. Stage one waits for it and for all that it
    // started, also for what does not hold the output open, so nothing writes to the tree any more.
    drop(running.hold);
    let waited = running.stage_one.wait();
    copied?;
    waited.or_io(|| "cannot wait for the sandbox".to_owned())?;
    let report = Report::read(&mut running.line.report);
    let report = report.or_io(|| "cannot read the report".to_owned())?;
    verdict(report, command, &capture)?;
    Ok(Output { stdout: capture.stdout, stderr: capture.stderr })
}

/// The environment: fixed, apart from what the command declares.
fn environment(command: &SandboxCommand) -> BTreeMap<String, String> {
    let fixed = [
        ("PATH", PATH),
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
        ("LC_ALL", "C.UTF-8"),
        ("TZ", "UTC"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
    ];
    let mut all: BTreeMap<String, String> =
        fixed.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    all.insert("SOURCE_DATE_EPOCH".to_owned(), command.source_date.unix().to_string());
    all.extend(command.environment.clone());
    all
}

fn request(command: &SandboxCommand, clock: Option<&OtherClock>, policy: bool) -> Request {
    let mut environment = environment(command);
    let mut binds = command.binds.clone();
    if let Some(clock) = clock {
        environment.extend(clock.environment());
        binds.push(clock.bind());
    }
    Request {
        root: command.root.clone(),
        argv: command.argv.clone(),
        environment,
        binds,
        stdin: command.stdin.clone(),
        folder: command.folder.clone(),
        may_mount: command.may_mount,
        sys: command.sys,
        shell: command.shell_on_failure && io::stdin().is_terminal(),
        policy,
    }
}

fn open_log(command: &SandboxCommand) -> Result<File> {
    let mut open = fs_err::File::options();
    let mut log = open
        .append(true)
        .create(true)
        .open(&command.log)
        .or_io(|| format!("cannot log {}", command.title))?;
    let words: Vec<_> = command.argv.iter().map(|word| word.to_string_lossy()).collect();
    writeln!(log, "# {}: {}", command.title, words.join(" "))
        .or_io(|| format!("cannot log {}", command.title))?;
    Ok(log.into_parts().0)
}

/// A sandbox under way.
struct Running {
    stage_one: Child,
    line: Line,
    /// The writing end of the line's pipe; stage one ends all inside once it is dropped.
    hold: PipeWriter,
}

fn start(sandbox: &Sandbox, request: &Request) -> io::Result<Running> {
    let text = serde_json::to_vec(request)?;
    let (held, hold) = io::pipe()?;
    let line = Line {
        request: anonymous_file("request", &text)?,
        report: anonymous_file("report", b"")?,
        hold: File::from(OwnedFd::from(held)),
    };
    let mut stage_one = Command::new(&sandbox.launcher);
    stage_one.arg0(STAGE_NAME).args(line.arguments("one"));
    stage_one.stdout(Stdio::piped()).stderr(Stdio::piped());
    if request.shell {
        // Stays in the terminal's foreground group, or its shell could not read.
        stage_one.stdin(Stdio::inherit());
    } else {
        // The terminal's Ctrl-C reaches this process alone, which then cancels in order.
        stage_one.stdin(Stdio::null()).process_group(0);
    }
    Ok(Running { stage_one: stage_one.spawn()?, line, hold })
}

/// What the command wrote, as far as it is kept.
#[derive(Default)]
struct Capture {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    last_lines: VecDeque<Vec<u8>>,
    unfinished: Vec<u8>,
}

impl Capture {
    /// Copies both outputs to `log` until all writers have ended.
    fn copy(&mut self, child: &mut Child, log: &mut File, cancel: &Cancel) -> Result<()> {
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let mut buffer = vec![0; 1 << 16];
        while stdout.is_some() || stderr.is_some() {
            cancel.check()?;
            let [from_stdout, from_stderr] = readable(stdout.as_ref(), stderr.as_ref())
                .or_io(|| "cannot wait for the sandbox's output".to_owned())?;
            // Of what came at once, errors are the last: they tell why a command ended.
            if from_stdout {
                let bytes = take(&mut stdout, &mut buffer)?;
                remember(&mut self.stdout, bytes);
                self.keep(bytes, log)?;
            }
            if from_stderr {
                let bytes = take(&mut stderr, &mut buffer)?;
                remember(&mut self.stderr, bytes);
                self.keep(bytes, log)?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8], log: &mut File) -> Result<()> {
        log.write_all(bytes).or_io(|| "cannot write the log".to_owned())?;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_LIMIT.saturating_sub(self.unfinished.len()).min(piece.len());
            self.unfinished.extend_from_slice(piece.get(..room).unwrap_or_default());
            if piece.ends_with(b"\n") {
                self.finish_line();
            }
        }
        Ok(())
    }

    fn finish_line(&mut self) {
        if self.last_lines.len() == LAST_LINES {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(std::mem::take(&mut self.unfinished));
    }

    /// The last lines, each indented, without control characters.
    fn tail(&self) -> String {
        let unfinished = Some(&self.unfinished).filter(|line| !line.is_empty());
        let lines = self.last_lines.iter().chain(unfinished).map(|line| {
            let line = String::from_utf8_lossy(line);
            let plain: String = line.trim_end().chars().filter(|c| !c.is_control()).collect();
            format!("  {plain}")
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Adds `bytes` to `kept` as far as they are kept in memory.
fn remember(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = Output::LIMIT.saturating_sub(kept.len()).min(bytes.len());
    kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
}

/// Which of the two can be read without waiting; at most [`PATIENCE`] passes.
fn readable(
    stdout: Option<&std::process::ChildStdout>,
    stderr: Option<&std::process::ChildStderr>,
) -> io::Result<[bool; 2]> {
    let fds = [stdout.map(|pipe| pipe.as_fd()), stderr.map(|pipe| pipe.as_fd())];
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    match rustix::event::poll(&mut polled, Some(&PATIENCE)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut ready = polled.iter().map(|fd| !fd.revents().is_empty());
    Ok(fds.map(|fd| fd.is_some() && ready.next().unwrap_or(false)))
}

/// Reads once; at the end of the stream the pipe is closed.
fn take<'a, R: io::Read>(pipe: &mut Option<R>, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    let Some(reader) = pipe else { return Ok(&[]) };
    let length = match reader.read(buffer) {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(&[]),
        Err(error) => return Err(error).or_io(|| "cannot read the sandbox's output".to_owned()),
    };
    if length == 0 {
        *pipe = None;
    }
    Ok(buffer.get(..length).unwrap_or_default())
}

fn verdict(report: Option<Report>, command: &SandboxCommand, capture: &Capture) -> Result<()> {
    let title = &command.title;
    let ended = match report {
        Some(Report::Exited(0)) => return Ok(()),
        Some(Report::Exited(code)) => format!("{title} failed with exit status {code}"),
        Some(Report::Signalled(signal)) => format!("{title} was ended by {}", name(signal)),
        Some(Report::NoProgram(program)) => {
            let message = format!("{title} failed: the tree has no program `{program}`");
            let help = "add the package that brings it to the recipe";
            return Err(Failure::new(Class::Missing, message).with_help(help));
        }
        Some(Report::Unstartable(program, error)) => {
            let message = format!("{title} failed: `{program}` cannot be started: {error}");
            let help = "a script needs mode 0755 and an interpreter that the tree has";
            return Err(Failure::new(Class::Verdict, message).with_help(help));
        }
        Some(Report::NoSandbox(step, error)) => {
            let message = format!("no sandbox for {title}: cannot {step}: {error}");
            let help = "building needs root (CAP_SYS_ADMIN) and Linux 5.10 or newer";
            return Err(Failure::new(Class::Unsupported, message).with_help(help));
        }
        None => format!("{title} was ended together with its sandbox"),
    };
    let log = command.log.display();
    let tail = capture.tail();
    let help = if tail.is_empty() {
        format!("it wrote nothing; the log is {log}")
    } else {
        format!("its last lines:\n{tail}\nall of its output: {log}")
    };
    Err(Failure::new(Class::Verdict, ended).with_help(help))
}

/// A signal by name where it has a common one.
fn name(signal: i32) -> String {
    use rustix::process::Signal;
    let known = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::ILL, "SIGILL"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::TERM, "SIGTERM"),
    ];
    let named = known.iter().find(|(known, _)| known.as_raw() == signal);
    named
        .map_or_else(|| format!("signal {signal}"), |(_, name)| format!("signal {signal} ({name})"))
}

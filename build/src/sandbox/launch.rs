//! Stage one: leaves this machine's namespaces and starts stage two in new ones.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};

use rustix::event::{PollFd, PollFlags};
use rustix::mount::MountPropagationFlags;
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::UnshareFlags;

use super::request::{Report, Request};
use super::{STAGE_NAME, inherited, init};
use crate::layer::unshare;

/// Exit code of a stage that could not do its work; the report says why, if it could be written.
const STAGE_FAILED: u8 = 125;

/// The files that a stage shares with its parent.
pub(crate) struct Line {
    pub(crate) request: File,
    pub(crate) report: File,
    /// The reading end of a pipe that the supervisor holds open for writing as long as the command
    /// shall run.
    pub(crate) hold: File,
}

/// Runs as a stage of the sandbox if this process was started as one (its name is
/// `nodekiln-sandbox`). Call it first in `main`, before any thread exists or anything is opened (it
/// closes all files but the standard ones), and exit with what it returns.
#[must_use]
pub fn enter_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let name = arguments.next()?;
    if Path::new(&name).file_name()? != STAGE_NAME {
        return None;
    }
    Some(ExitCode::from(enter(&arguments.collect::<Vec<_>>())))
}

fn enter(arguments: &[OsString]) -> u8 {
    let closed = inherited::close();
    let texts: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    let [stage, parent, request, report, hold] = texts[..] else {
        return STAGE_FAILED;
    };
    let Ok(mut line) = Line::open(parent, [request, report, hold]) else {
        return STAGE_FAILED;
    };
    if let Err(error) = closed {
        return line.refuse("close inherited files", &error).unwrap_or(STAGE_FAILED);
    }
    let done = match stage {
        "one" => stage_one(&mut line),
        "two" => stage_two(&mut line),
        _ => return STAGE_FAILED,
    };
    done.unwrap_or(STAGE_FAILED)
}

impl Line {
    /// Dies with the parent from here on, and takes the files that the parent holds open.
    fn open(parent: &str, [request, report, hold]: [&str; 3]) -> io::Result<Self> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // These fail if the parent died before the death signal was set.
        let shared = |number: &str| format!("/proc/{parent}/fd/{number}");
        let request = File::open(shared(request))?;
        let report = File::options().read(true).write(true).open(shared(report))?;
        let hold = File::open(shared(hold))?;
        Ok(Self { request, report, hold })
    }

    /// The arguments by which a child of this process finds the same files.
    pub(crate) fn arguments(&self, stage: &str) -> [String; 5] {
        let own = std::process::id().to_string();
        let number = |file: &File| file.as_raw_fd().to_string();
        let Self { request, report, hold } = self;
        [stage.to_owned(), own, number(request), number(report), number(hold)]
    }

    /// Reports that there is no sandbox because `what` failed.
    fn refuse(&mut self, what: &str, error: &io::Error) -> io::Result<u8> {
        Report::NoSandbox(what.to_owned(), error.to_string()).write(&mut self.report)?;
        Ok(STAGE_FAILED)
    }
}

fn stage_one(line: &mut Line) -> io::Result<u8> {
    let namespaces = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWIPC;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    let left = unshare(namespaces).and_then(|()| rustix::mount::mount_change("/", private));
    if let Err(error) = left {
        return line.refuse("leave this machine's namespaces", &error.into());
    }
    let mut stage_two = Command::new("/proc/self/exe");
    stage_two.arg0(STAGE_NAME).args(line.arguments("two"));
    let status = wait_or_end(stage_two.spawn()?, &line.hold)?;
    Ok(exit_code(status.code(), status.signal()))
}

/// Waits for stage two; once `hold` is let go of, it is killed. The kernel kills what is left in a
/// pid namespace with its process 1, and lets that one be waited for when all others are gone
/// (pid_namespaces(7)): whoever waited for stage one knows that nothing of the sandbox runs.
fn wait_or_end(mut stage_two: Child, hold: &File) -> io::Result<ExitStatus> {
    let pidfd = rustix::process::pidfd_open(Pid::from_child(&stage_two), PidfdFlags::empty())?;
    // Nothing is ever written: the end of the pipe is all that can be seen there.
    let mut polled =
        [pidfd.as_fd(), hold.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    while let Err(error) = rustix::event::poll(&mut polled, None) {
        if error != rustix::io::Errno::INTR {
            return Err(error.into());
        }
    }
    let [ended, let_go] = polled.map(|fd| !fd.revents().is_empty());
    if let_go && !ended {
        stage_two.kill()?;
    }
    stage_two.wait()
}

fn stage_two(line: &mut Line) -> io::Result<u8> {
    let request = Request::read(&mut line.request)?;
    let report = init::run(&request);
    report.write(&mut line.report)?;
    Ok(match report {
        Report::Exited(code) => exit_code(Some(code), None),
        Report::Signalled(signal) => exit_code(None, Some(signal)),
        Report::NoProgram(_) | Report::Unstartable(..) | Report::NoSandbox(..) => STAGE_FAILED,
    })
}

/// The exit code that passes a status on, a signal as shells do: 128 and its number.
fn exit_code(code: Option<i32>, signal: Option<i32>) -> u8 {
    let passed = code.or_else(|| signal.map(|signal| signal.saturating_add(128)));
    passed.and_then(|code| u8::try_from(code).ok()).unwrap_or(STAGE_FAILED)
}

//! Stage one: leaves this machine's namespaces and starts stage two in new ones.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::mount::MountPropagationFlags;
use rustix::process::Signal;
use rustix::thread::UnshareFlags;

use super::request::{Report, Request};
use super::{STAGE_NAME, init};
use crate::layer::unshare;

/// Exit code of a stage that could not do its work; the report says why, if it could be written.
const STAGE_FAILED: u8 = 125;

/// The files that a stage shares with its parent.
pub(crate) struct Line {
    pub(crate) request: File,
    pub(crate) report: File,
}

/// Runs as a stage of the sandbox if this process was started as one (its name is
/// `nodekiln-sandbox`). Call it first in `main`, before any thread exists, and exit with what it
/// returns.
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
    let texts: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    let [stage, parent, request, report] = texts[..] else {
        return STAGE_FAILED;
    };
    let Ok(mut line) = Line::open(parent, request, report) else {
        return STAGE_FAILED;
    };
    let done = match stage {
        "one" => stage_one(&mut line),
        "two" => stage_two(&mut line),
        _ => return STAGE_FAILED,
    };
    done.unwrap_or(STAGE_FAILED)
}

impl Line {
    /// Dies with the parent from here on, and takes the files that the parent holds open.
    fn open(parent: &str, request: &str, report: &str) -> io::Result<Self> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // These fail if the parent died before the death signal was set.
        let shared = |number: &str| format!("/proc/{parent}/fd/{number}");
        let request = File::open(shared(request))?;
        let report = File::options().read(true).write(true).open(shared(report))?;
        Ok(Self { request, report })
    }

    /// The arguments by which a child of this process finds the same files.
    pub(crate) fn arguments(&self, stage: &str) -> [String; 4] {
        let own = std::process::id().to_string();
        let number = |file: &File| file.as_raw_fd().to_string();
        [stage.to_owned(), own, number(&self.request), number(&self.report)]
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
        let what = "leave this machine's namespaces".to_owned();
        Report::NoSandbox(what, error.to_string()).write(&mut line.report)?;
        return Ok(STAGE_FAILED);
    }
    let mut stage_two = Command::new("/proc/self/exe");
    stage_two.arg0(STAGE_NAME).args(line.arguments("two"));
    let status = stage_two.spawn()?.wait()?;
    Ok(exit_code(status.code(), status.signal()))
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

//! Stage two: process 1 of the sandbox.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, WaitOptions};

use super::request::{Report, Request, anonymous_file};
use super::{HOST_NAME, capabilities, guest, loopback, seccomp};

/// Open files that a process may have, softly and at most. Programs that close every possible
/// descriptor one by one take minutes when the limit is that of a modern service manager.
const OPEN_FILES: (u64, u64) = (1024, 1 << 19);

/// A step of setting up that failed, named as it reads after "cannot".
type Step<T> = Result<T, (&'static str, io::Error)>;

/// Sets the sandbox up, runs the command and waits for its end.
pub(crate) fn run(request: &Request) -> Report {
    if let Err((step, error)) = set_up(request) {
        return Report::NoSandbox(step.to_owned(), error.to_string());
    }
    let report = match start(request) {
        Ok(Ok(child)) => reap_until(child),
        Ok(Err(report)) => return report,
        Err(error) => return Report::NoSandbox("start the command".to_owned(), error.to_string()),
    };
    if request.shell && report != Report::Exited(0) {
        // What happens in the shell does not change the command's verdict.
        shell(request).ok();
    }
    report
}

fn set_up(request: &Request) -> Step<()> {
    let at = |step| move |error: io::Error| (step, error);
    if !request.shell {
        // No controlling terminal: nothing inside can ask or type on the user's.
        rustix::process::setsid().map_err(|error| ("start a session", error.into()))?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::system::sethostname(HOST_NAME.as_bytes())
        .map_err(|error| ("set the host name", error.into()))?;
    loopback::bring_up().map_err(at("bring the loopback interface up"))?;
    guest::enter(request)?;
    limits().map_err(at("set resource limits"))?;
    capabilities::drop_all_but_needed(request.may_mount).map_err(at("drop capabilities"))?;
    // Last: it also applies to this process.
    seccomp::filter_calls().map_err(at("filter system calls"))
}

fn limits() -> io::Result<()> {
    let (soft, hard) = OPEN_FILES;
    let hard =
        rustix::process::getrlimit(Resource::Nofile).maximum.map_or(hard, |own| own.min(hard));
    let limit = Rlimit { current: Some(soft.min(hard)), maximum: Some(hard) };
    rustix::process::setrlimit(Resource::Nofile, limit)?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// Starts the command; the inner error is a report of a command that cannot be run.
fn start(request: &Request) -> io::Result<Result<u32, Report>> {
    let Some((name, arguments)) = request.argv.split_first() else {
        return Ok(Err(Report::NoProgram(String::new())));
    };
    let missing = || Report::NoProgram(name.to_string_lossy().into_owned());
    let Some(program) = find(Path::new(name), request) else {
        return Ok(Err(missing()));
    };
    let stdin = match &request.stdin {
        Some(bytes) => Stdio::from(anonymous_file("stdin", bytes)?),
        None => Stdio::from(File::open("/dev/null")?),
    };
    std::env::set_current_dir(&request.folder)?;
    let mut command = Command::new(program);
    command.arg0(name).args(arguments).env_clear().envs(&request.environment).stdin(stdin);
    Ok(command.spawn().map(|child| child.id()).map_err(|error| {
        Report::Unstartable(name.to_string_lossy().into_owned(), error.to_string())
    }))
}

/// The program's path; a name without a slash is looked up on the command's own `PATH`.
fn find(name: &Path, request: &Request) -> Option<PathBuf> {
    if name.components().count() > 1 {
        let path = Path::new(&request.folder).join(name);
        return path.exists().then_some(path);
    }
    let path = request.environment.get("PATH")?;
    path.split(':').map(|folder| Path::new(folder).join(name)).find(|program| program.is_file())
}

/// Waits for every child, orphans adopted by process 1 among them, until `child` has ended.
fn reap_until(child: u32) -> Report {
    loop {
        let ended = match rustix::process::wait(WaitOptions::empty()) {
            Ok(ended) => ended,
            Err(rustix::io::Errno::INTR) => None,
            Err(error) => return Report::NoSandbox("wait".to_owned(), error.to_string()),
        };
        let Some((pid, status)) = ended else { continue };
        if pid.as_raw_nonzero().get().cast_unsigned() != child {
            continue;
        }
        if let Some(code) = status.exit_status() {
            return Report::Exited(code);
        }
        if let Some(signal) = status.terminating_signal() {
            return Report::Signalled(signal);
        }
    }
}

/// A shell on the user's terminal, which standard input is.
fn shell(request: &Request) -> io::Result<()> {
    let Some(program) = ["bash", "sh"].iter().find_map(|name| find(Path::new(name), request))
    else {
        return Ok(());
    };
    let terminal = || rustix::io::dup(rustix::stdio::stdin()).map(Stdio::from);
    let mut command = Command::new(program);
    command.arg("-i").env_clear().envs(&request.environment).env("PS1", "nodekiln sandbox # ");
    command.stdin(Stdio::inherit()).stdout(terminal()?).stderr(terminal()?);
    reap_until(command.spawn()?.id());
    Ok(())
}

//! How the program ends: exit codes, the printing of failures, and signals.

use std::process::ExitCode;

use crate::arguments::{Global, ProgressStyle};
use nodekiln_words::{Cancel, Class, Failure, Result, ResultExt as _};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The exit code of each class of failure; listed in `--help` and in docs/cli.md.
fn code_of(class: Class) -> u8 {
    match class {
        Class::Verdict => 1,
        Class::Input => 2,
        Class::Unsupported => 3,
        Class::Missing => 4,
        Class::Io => 5,
        Class::Interrupted => 130,
    }
}

/// Prints a failure with its causes and remedy to standard error, and gives its exit code.
pub(crate) fn report(failure: &Failure, global: &Global) -> ExitCode {
    if global.progress == ProgressStyle::Json {
        let chain = failure.chain();
        let event = serde_json::json!({
            "event": "error",
            "text": chain[0],
            "because": chain[1..],
            "help": failure.help(),
            "code": code_of(failure.class()),
        });
        print_error(&format!("{event}\n"));
    } else {
        print_error(&text(failure, global.color()));
    }
    ExitCode::from(code_of(failure.class()))
}

fn text(failure: &Failure, color: bool) -> String {
    let (red, dim, off) = if color { ("\x1b[1;31m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
    let chain = failure.chain();
    let mut text = format!("{red}error:{off} {}\n", chain[0]);
    for cause in &chain[1..] {
        text.push_str(&format!("  {dim}because{off} {}\n", cause.trim_end()));
    }
    if let Some(help) = failure.help() {
        let help = help.trim_end().replace('\n', "\n        ");
        text.push_str(&format!("  {dim}help:{off} {help}\n"));
    }
    text
}

/// Writes to standard error; a closed standard error is no reason to fail.
pub(crate) fn print_error(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Writes to standard output.
///
/// # Errors
/// When standard output cannot be written; a reader that went away (`| head`) is a normal end.
pub(crate) fn print(text: &str) -> Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.or_io(|| "cannot write to standard output".to_owned()),
    }
}

/// Prints `value` as indented JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&json(value)?)
}

/// `value` as indented JSON and a line end.
///
/// # Errors
/// When it holds what JSON cannot tell, such as a path that is no UTF-8.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String> {
    let cannot = || "cannot write JSON".to_owned();
    let text = serde_json::to_string_pretty(value).or_fail(Class::Input, cannot)?;
    Ok(format!("{text}\n"))
}

/// Makes SIGINT, SIGTERM and SIGHUP ask for an orderly stop; the second one ends at once. A signal
/// that this process was started to ignore (`nohup`) stays ignored.
///
/// What an immediate end leaves behind is harmless: sandboxes and guests die with this process, and
/// their mounts with them.
pub(crate) fn stop_on_signals(cancel: &Cancel) -> Result<()> {
    let cancel = cancel.clone();
    let cannot = || "cannot install a signal handler".to_owned();
    let ignored = fs_err::read_to_string("/proc/self/status").map_or(0, |status| ignored(&status));
    let wanted = [SIGINT, SIGTERM, SIGHUP];
    let wanted = wanted.iter().filter(|signal| ignored & (1 << (**signal - 1)) == 0);
    let mut signals = Signals::new(wanted).or_io(cannot)?;
    let wait = move || {
        for _ in signals.forever() {
            if cancel.is_cancelled() {
                std::process::exit(i32::from(code_of(Class::Interrupted)));
            }
            cancel.cancel();
            print_error("\nstopping; once more ends at once\n");
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop).or_io(cannot)
}

/// Has the kernel ask for an orderly stop when the thread that started this process ends, however it ends
/// (prctl(2), `PR_SET_PDEATHSIG`).
pub(crate) fn end_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        .map_err(std::io::Error::from)
        .or_io(|| "cannot ask for an end with the program that started this one".to_owned())
}

/// The signals that a process ignores, bit 0 for signal 1 (proc(5), `SigIgn`).
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"), 0x1001);
        assert_eq!(ignored(""), 0);
    }

    #[test]
    fn the_code_follows_the_class_through_wrapping() {
        let inner = Failure::new(Class::Missing, "no qemu");
        assert_eq!(code_of(inner.context("cannot boot").class()), 4);
        assert_eq!(code_of(Class::Interrupted), 130);
    }
}

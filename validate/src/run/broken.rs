//! Faults of what a guest runs on: QEMU, the engine, the host's disk.

use std::process::ExitStatus;

use nodekiln_words::Failure;

/// States of the machine that are the guest's own doing; QEMU ends a moment after `shutdown`.
pub(super) const OWN_STATES: [&str; 4] = ["running", "shutdown", "suspended", "guest-panicked"];

/// A failure of what the guest runs on: it says nothing about the image.
#[derive(Debug)]
pub struct Broken {
    /// What failed, with a remedy.
    pub failure: Failure,
    /// Whether the engine that runs the guest's processors is suspect.
    pub engine: bool,
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self { failure, engine: false }
    }
}

impl Broken {
    /// QEMU ended otherwise than a guest can make it end.
    pub(super) fn died(status: ExitStatus, said: &str) -> Self {
        let failure = Failure::io(format!("QEMU ended with {status}: {said}")).with_help(
            "the image was not judged: look for QEMU in the host's kernel log; where memory was short, \
             give the guest less with `--memory`",
        );
        Self { failure, engine: true }
    }

    /// QEMU is in `state`, into which no guest brings itself.
    pub(super) fn stopped(state: &str) -> Self {
        let text = format!("QEMU has stopped the guest: its state is `{state}`");
        let help = match state {
            "io-error" => {
                "the image was not judged: the host could not write the overlay; make room in the \
                 output folder, or choose another with `--out`"
            }
            "internal-error" => {
                "the image was not judged: the engine failed; choose another with `--accelerator tcg`"
            }
            _ => "the image was not judged: something on the host paused QEMU; validate it again",
        };
        Self { failure: Failure::io(text).with_help(help), engine: state == "internal-error" }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use nodekiln_words::Class;

    use super::*;

    #[test]
    fn a_full_disk_is_the_hosts_fault_and_an_internal_error_the_engines() {
        let full = Broken::stopped("io-error");
        assert!(!full.engine && full.failure.class() == Class::Io);
        assert!(full.failure.help().is_some_and(|help| help.contains("make room")));
        assert!(Broken::stopped("internal-error").engine);
        assert!(Broken::died(ExitStatus::from_raw(6), "abort").engine);
    }
}

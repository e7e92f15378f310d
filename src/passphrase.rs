//! Asks for a passphrase on the terminal, where nobody can read along.

use std::io::{Read as _, Write as _};
use std::path::Path;

use nodekiln_words::{Cancel, Class, Result, ResultExt as _};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The terminal of this process, wherever its standard input and output lead.
const TERMINAL: &str = "/dev/tty";
/// How often it is looked whether somebody asked to stop.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The passphrase of the private key at `path`.
///
/// # Errors
/// [`Class::Input`] where there is no terminal to ask on; [`Class::Interrupted`] where somebody asked to stop.
pub(crate) fn ask(path: &Path, cancel: &Cancel) -> Result<String> {
    let terminal = fs_err::OpenOptions::new().read(true).write(true).open(TERMINAL);
    let terminal = terminal.or_fail(Class::Input, || {
        format!("{} has a passphrase, and there is no terminal to ask for it", path.display())
    });
    let mut terminal = terminal.map_err(|failure| {
        failure.with_help("put the key into an agent (`ssh-add`) and leave out `--identity`")
    })?;
    let cannot = || "ask for a passphrase".to_owned();
    write!(terminal, "passphrase of {}: ", path.display()).or_io(cannot)?;
    let mut terminal = terminal.file();
    let _silent = Silent::make(terminal)?;
    let mut line = Vec::new();
    loop {
        cancel.check()?;
        let mut wait = [PollFd::new(terminal, PollFlags::IN)];
        // A signal ends the wait; what it asks for is seen above.
        if !matches!(poll(&mut wait, Some(&TICK)), Ok(1..)) {
            continue;
        }
        let mut buffer = [0; 256];
        let count = terminal.read(&mut buffer).or_io(cannot)?;
        line.extend_from_slice(&buffer[..count]);
        if count == 0 || line.ends_with(b"\n") {
            break;
        }
    }
    let line = String::from_utf8(line)
        .or_fail(Class::Input, || "the passphrase is no UTF-8".to_owned())?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that does not show what is typed, until the value is dropped.
struct Silent<'a> {
    terminal: &'a std::fs::File,
    before: Termios,
}

impl<'a> Silent<'a> {
    fn make(terminal: &'a std::fs::File) -> Result<Self> {
        let cannot = || "keep the terminal from showing a passphrase".to_owned();
        let before = tcgetattr(terminal).map_err(std::io::Error::from).or_io(cannot)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL); // the line's end is shown
        tcsetattr(terminal, OptionalActions::Flush, &silent)
            .map_err(std::io::Error::from)
            .or_io(cannot)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

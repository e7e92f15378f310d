//! Calls of two slow programs are noted while packages are configured, and made once, on all cores,
//! when all packages are.
//!
//! dpkg configures one package after the other, while the other cores have nothing to do. The script
//! of each Python package calls py3compile(1) for that package; what one call leaves depends on the
//! package's own modules alone. The scripts of ca-certificates call update-ca-certificates(8) twice,
//! which lists all certificates anew each time; what it leaves depends on the certificates that are
//! there in the end. A program that a script runs meanwhile reads its modules' sources, and finds no
//! certificates; it has no network either.

use std::path::{Path, PathBuf};

use nodekiln_words::{Failure, Result, ResultExt as _};

use super::Installation;
use super::stand_ins::StandIns;
use crate::layer::Root;
use crate::sandbox::Bind;

/// Where the notes are seen in the sandbox.
const FOLDER: &str = "/run/nodekiln/deferred";
/// What the noted calls come to, one a line, as xargs(1) reads them.
const CALLS: &str = "calls";
/// The same for calls that must be made one after the other.
const CALLS_IN_ORDER: &str = "calls-in-order";
/// Ends an argument in a note; a line is a call.
const UNIT_SEPARATOR: char = '\u{1f}';

/// A program whose calls can wait.
struct Program {
    path: &'static str,
    /// What its calls are good for, as a title.
    purpose: &'static str,
    /// What the noted calls come to.
    settle: fn(Vec<Call>) -> Settled,
}

/// The arguments of one call.
type Call = Vec<String>;

/// Calls as xargs(1) reads them, and what they are good for.
#[derive(Default)]
struct Lines {
    text: String,
    purposes: Vec<&'static str>,
}

/// Calls that are still to be made.
enum Settled {
    /// At the same time.
    Together(Vec<Call>),
    /// In this order.
    InOrder(Vec<Call>),
}

/// The slowest first, so that the others are made beside it.
const PROGRAMS: [Program; 2] = [
    Program {
        path: "/usr/sbin/update-ca-certificates",
        purpose: "list the certificates",
        settle: once,
    },
    Program {
        path: "/usr/bin/py3compile",
        purpose: "compile the Python modules",
        settle: Settled::Together,
    },
];

/// One call of update-ca-certificates(8) in place of many. `--fresh` makes all links anew, which
/// includes what a call without it does; a call with the folder of hooks runs them, which includes
/// what one without them does. A call with any other option may be about other certificates.
fn once(calls: Vec<Call>) -> Settled {
    let (mut fresh, mut hooks) = (false, false);
    for call in &calls {
        let call: Vec<&str> = call.iter().map(String::as_str).collect();
        let options = call.strip_prefix(&["--hooksdir", ""]);
        hooks |= options.is_none();
        match options.unwrap_or(&call) {
            [] => {}
            ["--fresh"] => fresh = true,
            _ => return Settled::InOrder(calls),
        }
    }
    if calls.is_empty() {
        return Settled::Together(calls);
    }
    let no_hooks = ["--hooksdir", ""].into_iter().filter(|_| !hooks);
    let call = no_hooks.chain(fresh.then_some("--fresh")).map(str::to_owned).collect();
    Settled::Together(vec![call])
}

/// The calls noted so far, in a folder of this machine.
pub(super) struct Deferred<'a> {
    notes: PathBuf,
    stand_ins: &'a StandIns,
    /// Programs whose calls are noted and left to others to make.
    left: Vec<&'static str>,
}

impl<'a> Deferred<'a> {
    /// None yet; `scratch` receives a folder, and `stand_ins` the scripts that take the notes.
    pub(super) fn new(scratch: &Path, stand_ins: &'a StandIns) -> Result<Self> {
        let notes = scratch.join("deferred");
        fs_err::create_dir_all(&notes).or_io(writing)?;
        for Program { path, .. } in PROGRAMS {
            stand_ins.add(path, &noting_script(path))?;
        }
        Ok(Self { notes, stand_ins, left: Vec::new() })
    }

    /// Notes calls of the program at `path` as well, which are not made.
    pub(super) fn noting(mut self, path: &'static str) -> Result<Self> {
        self.stand_ins.add(path, &noting_script(path))?;
        self.left.push(path);
        Ok(self)
    }

    /// Whether the program at `path` was called.
    pub(super) fn was_called(&self, path: &str) -> Result<bool> {
        Ok(!self.noted(name(path))?.is_empty())
    }

    /// What a command that configures packages is to see.
    pub(super) fn binds(&self, root: &Root) -> Result<Vec<Bind>> {
        let notes = Bind { host: self.notes.clone(), guest: FOLDER.to_owned(), read_only: false };
        let mut binds = vec![notes];
        for path in PROGRAMS.iter().map(|program| program.path).chain(self.left.iter().copied()) {
            binds.extend(self.stand_ins.bind(root, path)?);
        }
        Ok(binds)
    }

    /// Makes the calls, as many at a time as there are cores.
    pub(super) fn make(&self, installation: &Installation<'_>) -> Result<()> {
        let (mut together, mut in_order) = (Lines::default(), Lines::default());
        for Program { path, purpose, settle } in PROGRAMS {
            let (lines, calls) = match settle(self.noted(name(path))?) {
                Settled::Together(calls) => (&mut together, calls),
                Settled::InOrder(calls) => (&mut in_order, calls),
            };
            if !calls.is_empty() {
                lines.purposes.push(purpose);
            }
            for call in calls {
                lines.text.push_str(&line(path, &call)?);
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.run(installation, CALLS_IN_ORDER, &in_order, 1)?;
        self.run(installation, CALLS, &together, cores)
    }

    /// The calls of the program `name`.
    fn noted(&self, name: &str) -> Result<Vec<Call>> {
        let notes = match fs_err::read_to_string(self.notes.join(name)) {
            Ok(notes) => notes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).or_io(|| "cannot read the noted calls".to_owned()),
        };
        let arguments =
            |line: &str| line.split_terminator(UNIT_SEPARATOR).map(str::to_owned).collect();
        Ok(notes.lines().map(arguments).collect())
    }

    /// Makes the calls of `lines`, `jobs` at a time.
    fn run(
        &self,
        installation: &Installation<'_>,
        file: &str,
        lines: &Lines,
        jobs: usize,
    ) -> Result<()> {
        if lines.text.is_empty() {
            return Ok(());
        }
        fs_err::write(self.notes.join(file), &lines.text).or_io(writing)?;
        let title = lines.purposes.join(", ");
        let task = installation.progress.start(&title, None, "");
        let file = format!("{FOLDER}/{file}");
        let jobs = jobs.to_string();
        let argv = ["xargs", "-a", &file, "-L", "1", "-P", &jobs, "env"];
        let mut command = installation.command(&title, argv.map(str::to_owned).to_vec());
        let (host, guest) = (self.notes.clone(), FOLDER.to_owned());
        command.binds.push(Bind { host, guest, read_only: true });
        let outcome = installation.sandbox.run(&command, installation.cancel);
        match &outcome {
            Ok(_) => installation.progress.finish(task, ""),
            Err(_) => installation.progress.fail(task),
        }
        outcome.map(drop)
    }
}

/// A script that notes its call in the place of the program at `path`.
fn noting_script(path: &str) -> String {
    format!(
        "#!/bin/sh\n# Notes the call; nodekiln makes it when all packages are configured.\n\
         {{ [ $# = 0 ] || printf '%s\\037' \"$@\"; echo; }} >> {FOLDER}/{}\n",
        name(path)
    )
}

/// The name of the program at `path`, which its notes have as well.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A call as a line that xargs(1) takes apart again: within quotes all characters but the quote and
/// the line's end stand for themselves.
fn line(path: &str, call: &[String]) -> Result<String> {
    let mut line = path.to_owned();
    for argument in call {
        if argument.contains(['"', '\n']) {
            let message = format!("a package's script calls {path} with the argument {argument:?}");
            return Err(Failure::input(message)
                .with_help("arguments with quotes or line ends are not understood here"));
        }
        line.push_str(&format!(" \"{argument}\""));
    }
    line.push('\n');
    Ok(line)
}

fn writing() -> String {
    "cannot write to the scratch folder".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(calls: &[&[&str]]) -> (bool, Vec<Call>) {
        let owned = |call: &&[&str]| call.iter().map(|argument| (*argument).to_owned()).collect();
        match once(calls.iter().map(owned).collect()) {
            Settled::Together(calls) => (false, calls),
            Settled::InOrder(calls) => (true, calls),
        }
    }

    #[test]
    fn certificates_are_listed_once_with_all_that_was_asked_for() {
        let none: [&str; 0] = [];
        assert_eq!(settled(&[]), (false, vec![]));
        assert_eq!(settled(&[&["--hooksdir", ""], &[]]), (false, vec![vec![]]));
        let (_, calls) = settled(&[&["--hooksdir", "", "--fresh"], &none]);
        assert_eq!(calls, [["--fresh"]]);
        let (_, calls) = settled(&[&["--hooksdir", ""], &["--hooksdir", ""]]);
        assert_eq!(calls, [["--hooksdir", ""]]);
        let (_, calls) = settled(&[&["--hooksdir", "", "--fresh"]]);
        assert_eq!(calls, [["--hooksdir", "", "--fresh"]]);
    }

    #[test]
    fn calls_about_other_certificates_are_made_as_they_came() {
        let (in_order, calls) = settled(&[&[], &["--etccertsdir", "/opt/certs"], &["--fresh"]]);
        assert!(in_order);
        assert_eq!(calls.len(), 3);
    }

    #[test]
    fn arguments_reach_the_program_as_they_were() {
        let call = ["--hooksdir", "", "a b"].map(str::to_owned);
        assert_eq!(line("/bin/x", &call).unwrap(), "/bin/x \"--hooksdir\" \"\" \"a b\"\n");
        assert!(line("/bin/x", &["a\"b".to_owned()]).is_err());
    }
}

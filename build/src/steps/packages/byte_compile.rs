//! Python modules are compiled on all cores once all packages are configured.
//!
//! The script of each Python package calls py3compile(1) for that package, dozens of them one after
//! the other, while the other cores have nothing to do. What one call leaves depends on the package's
//! own modules alone, so the calls are noted while packages are configured and made afterwards, several
//! at a time. A program that a script runs meanwhile reads its modules' sources.

use std::path::{Path, PathBuf};

use nodekiln_words::{Result, ResultExt as _};

use super::Installation;
use crate::sandbox::Bind;

/// The program of Debian's package python3-minimal.
const PROGRAM: &str = "/usr/bin/py3compile";
/// Where the notes are seen in the sandbox.
const FOLDER: &str = "/run/nodekiln/py3compile";
/// One call a line. Packages give names, versions and folders, none of which has a blank.
const CALLS: &str = "calls";

/// Stands in for the program while packages are configured.
const NOTE: &str = "#!/bin/sh
# Notes the call; nodekiln makes it when all packages are configured.
echo \"$*\" >> /run/nodekiln/py3compile/calls
";

/// The calls noted so far, in folders of this machine.
pub(super) struct Calls {
    notes: PathBuf,
    stand_in: PathBuf,
}

impl Calls {
    /// None yet; `scratch` receives a file and a folder.
    pub(super) fn new(scratch: &Path) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let (notes, stand_in) = (scratch.join("py3compile"), scratch.join("py3compile.sh"));
        let writing = || "cannot write to the scratch folder".to_owned();
        fs_err::create_dir_all(&notes).or_io(writing)?;
        fs_err::write(&stand_in, NOTE).or_io(writing)?;
        let executable = std::fs::Permissions::from_mode(0o755);
        fs_err::set_permissions(&stand_in, executable).or_io(writing)?;
        Ok(Self { notes, stand_in })
    }

    /// What a command that configures packages is to see.
    pub(super) fn binds(&self, installation: &Installation<'_>) -> Result<Vec<Bind>> {
        if !installation.root.exists(PROGRAM)? {
            return Ok(Vec::new());
        }
        let (notes, stand_in) = (self.notes.clone(), self.stand_in.clone());
        Ok(vec![
            Bind { host: notes, guest: FOLDER.to_owned(), read_only: false },
            Bind { host: stand_in, guest: PROGRAM.to_owned(), read_only: true },
        ])
    }

    /// Makes the calls, as many at a time as there are cores.
    pub(super) fn make(&self, installation: &Installation<'_>) -> Result<()> {
        let calls = match fs_err::read_to_string(self.notes.join(CALLS)) {
            Ok(calls) => calls,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).or_io(|| "cannot read the noted calls".to_owned()),
        };
        let title = format!("compile the Python modules of {} packages", calls.lines().count());
        let task = installation.progress.start(&title, None, "");
        let jobs = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        let file = format!("{FOLDER}/{CALLS}");
        let argv = ["xargs", "-a", &file, "-L", "1", "-P", &jobs, PROGRAM];
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

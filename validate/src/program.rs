//! The programs of this machine that a run needs, and what to install where one is missing.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nodekiln_words::{Class, Failure, Result, ResultExt as _};

/// QEMU's system emulator.
pub(crate) const QEMU: Program = Program { name: "qemu-system-x86_64", package: "qemu-system-x86" };
/// Starts programs so that the kernel kills them when nodekiln dies.
pub(crate) const SETPRIV: Program = Program { name: "setpriv", package: "util-linux" };

/// OVMF's code and variable store in the 4 MiB layout, from Debian's package `ovmf`.
const OVMF: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"];

/// A program and the Debian package that brings it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    /// Its name on `PATH`.
    pub(crate) name: &'static str,
    /// The package.
    pub(crate) package: &'static str,
}

impl Program {
    /// Finds the program on `PATH`.
    ///
    /// # Errors
    /// [`Class::Missing`] with the package to install.
    pub(crate) fn find(self) -> Result<PathBuf> {
        self.find_in(&std::env::var_os("PATH").unwrap_or_default())
    }

    /// A command that runs the program and dies with the thread that starts it ([`mortal`]).
    ///
    /// # Errors
    /// [`Class::Missing`] without the program or `setpriv`.
    pub(crate) fn mortal(self) -> Result<Command> {
        mortal(&self.find()?)
    }

    fn find_in(self, path: &OsStr) -> Result<PathBuf> {
        let candidates = std::env::split_paths(path).map(|folder| folder.join(self.name));
        let found = candidates.into_iter().find(|file| is_executable(file));
        found.ok_or_else(|| missing(self.name, self.package))
    }
}

/// A command that runs `program` and that the kernel kills with the thread that starts it, however that ends
/// (`PR_SET_PDEATHSIG`). What the program itself starts is not killed with it.
///
/// # Errors
/// [`Class::Missing`] without `setpriv`, which sets this and becomes the program. Whether there is such a program
/// is known when the command has run: 127 is `setpriv`'s exit code where there is none.
pub fn mortal(program: &Path) -> Result<Command> {
    let mut command = Command::new(SETPRIV.find()?);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    Ok(command)
}

fn is_executable(file: &Path) -> bool {
    rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
}

fn missing(what: &str, package: &str) -> Failure {
    Failure::new(Class::Missing, format!("{what} is not installed"))
        .with_help(format!("install Debian's package {package}: apt-get install {package}"))
}

/// The UEFI firmware: code, which is only read, and the variable store's template.
///
/// # Errors
/// [`Class::Missing`] when the package `ovmf` is not installed.
pub(crate) fn ovmf() -> Result<(PathBuf, PathBuf)> {
    match OVMF.map(PathBuf::from) {
        [code, variables] if code.is_file() && variables.is_file() => Ok((code, variables)),
        [code, _] => Err(missing(&format!("UEFI firmware {}", code.display()), "ovmf")),
    }
}

/// The first line of `qemu-system-x86_64 --version`.
///
/// # Errors
/// When QEMU is missing or does not run.
pub(crate) fn qemu_version() -> Result<String> {
    let program = QEMU.find()?;
    let output = Command::new(&program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .or_fail(Class::Missing, || format!("run {} --version", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default();
    Ok(line.strip_prefix("QEMU emulator version ").unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let failure = QEMU.find_in(OsStr::new("/nonexistent")).unwrap_err();
        assert_eq!(failure.class(), Class::Missing);
        assert!(failure.help().is_some_and(|help| help.contains("qemu-system-x86")), "{failure:?}");
    }

    #[test]
    fn a_mortal_program_dies_with_the_thread_that_started_it() {
        use std::io::{BufRead as _, BufReader};
        use std::os::unix::process::ExitStatusExt as _;
        let start = || {
            let mut command = mortal(Path::new("sh")).unwrap();
            command.args(["-c", "echo started; exec sleep 600"]).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "started\n");
            child
        };
        let mut child = std::thread::spawn(start).join().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9)); // or it takes ten minutes
    }

    #[test]
    fn a_folder_of_that_name_is_no_program() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir(folder.path().join("setpriv")).unwrap();
        assert!(SETPRIV.find_in(folder.path().as_os_str()).is_err());
    }
}

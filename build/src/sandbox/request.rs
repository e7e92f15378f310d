//! What the supervisor and the stages tell each other, as JSON in anonymous files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::PathBuf;

use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

use super::Bind;

/// What stage two is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) root: PathBuf,
    pub(crate) argv: Vec<OsString>,
    /// The whole environment.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) binds: Vec<Bind>,
    pub(crate) stdin: Option<Vec<u8>>,
    pub(crate) folder: String,
    pub(crate) may_mount: bool,
    pub(crate) sys: bool,
    /// Opens a shell on standard input, a terminal, when the command fails.
    pub(crate) shell: bool,
    /// Mounts the policy that forbids starting services at this path of the tree.
    pub(crate) policy: bool,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Report {
    /// The command ran and exited.
    Exited(i32),
    /// The command was ended by a signal.
    Signalled(i32),
    /// The tree has no such program.
    NoProgram(String),
    /// The tree has the program, but it cannot be started: its name, and the error's text.
    Unstartable(String, String),
    /// The sandbox could not be set up: what was being done, and the error's text.
    NoSandbox(String, String),
}

/// An anonymous file with `content`, positioned at its start.
pub(crate) fn anonymous_file(name: &str, content: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

impl Request {
    /// Reads a request from an anonymous file.
    pub(crate) fn read(file: &mut File) -> io::Result<Self> {
        Ok(serde_json::from_reader(file)?)
    }
}

impl Report {
    /// Writes the report over whatever the file holds.
    pub(crate) fn write(&self, file: &mut File) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&text)
    }

    /// The report, where one was written.
    pub(crate) fn read(file: &mut File) -> io::Result<Option<Self>> {
        let mut text = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text).ok())
    }
}

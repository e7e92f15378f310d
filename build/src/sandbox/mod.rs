//! The sandbox: runs one command in a tree, cut off from this machine.
//!
//! Glossary and course of one run:
//!
//! - The *supervisor* is this process. It makes missing mount points in the tree, starts the
//!   launcher, copies the command's output to the log, and watches for cancellation.
//! - *Stage one* is the launcher started as `nodekiln-sandbox one`: single-threaded, so it may
//!   unshare the mount, pid, net, uts and ipc namespaces. It dies with the supervisor, and ends stage
//!   two when the supervisor asks for it.
//! - *Stage two* is the same program as process 1 of the new pid namespace: it mounts what the
//!   command may see, makes the tree its root, starts the command, reaps orphans, and reports how the
//!   command ended. It dies with stage one, and the kernel kills all that is left with it.
//!
//! A stage finds its request and its report as open files of its parent, `/proc/PARENT/fd/N`. They
//! cannot be opened once the parent is dead, which closes the gap before the death signal is set.

mod capabilities;
mod clock;
mod devices;
mod guest;
mod inherited;
mod init;
mod launch;
mod loopback;
mod mount_points;
mod request;
mod seccomp;
mod supervise;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use nodekiln_words::{Cancel, Result, SourceDate};

pub use clock::OtherClock;
pub use launch::enter_if_asked;

/// The program's name, by which it knows that it was started as a stage.
const STAGE_NAME: &str = "nodekiln-sandbox";

/// Host name inside.
const HOST_NAME: &str = "nodekiln";

/// Runs commands in trees.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The program that becomes the sandbox's stages: one whose `main` calls [`enter_if_asked`].
    pub launcher: PathBuf,
    /// The clock that commands see in place of this machine's.
    pub clock: Option<OtherClock>,
}

/// A command to run in a tree.
#[derive(Clone, Debug)]
pub struct SandboxCommand {
    /// What it does, for messages: "configure packages".
    pub title: String,
    /// The tree that becomes its root, writable unless mounted otherwise.
    pub root: PathBuf,
    /// Program and arguments; a program without a slash is looked up on the sandbox's `PATH`.
    pub argv: Vec<OsString>,
    /// Variables besides the fixed ones, which they may override.
    pub environment: BTreeMap<String, String>,
    /// Files and folders of this machine that it may see.
    pub binds: Vec<Bind>,
    /// Its standard input; empty where `None`.
    pub stdin: Option<Vec<u8>>,
    /// Its working directory in the tree.
    pub folder: String,
    /// File on this machine that its output is appended to.
    pub log: PathBuf,
    /// `SOURCE_DATE_EPOCH`.
    pub source_date: SourceDate,
    /// Keeps `CAP_SYS_ADMIN`, so that it may mount. It can then undo some of the sandbox's walls;
    /// meant for programs that nodekiln itself chose (containerd), not for a recipe's scripts.
    pub may_mount: bool,
    /// Gives it a read-only `/sys`.
    pub sys: bool,
    /// Opens a shell in the sandbox when the command fails, if there is a terminal.
    pub shell_on_failure: bool,
}

/// A file or folder of this machine shown at a place in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bind {
    /// Path on this machine.
    pub host: PathBuf,
    /// Absolute path in the sandbox; made as a mount point where it is missing.
    pub guest: String,
    /// Forbids writing.
    pub read_only: bool,
}

/// What a command that ended well wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its standard output, up to [`Output::LIMIT`] bytes; the log has all.
    pub stdout: Vec<u8>,
    /// Its standard error, likewise.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Bytes of each that are kept in memory.
    pub const LIMIT: usize = 64 << 20;
}

impl SandboxCommand {
    /// A command with an empty standard input, no binds, and `/` as its folder.
    pub fn new<A: Into<OsString>>(
        title: impl Into<String>,
        root: impl Into<PathBuf>,
        argv: impl IntoIterator<Item = A>,
        log: impl Into<PathBuf>,
        source_date: SourceDate,
    ) -> Self {
        Self {
            title: title.into(),
            root: root.into(),
            argv: argv.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
            binds: Vec::new(),
            stdin: None,
            folder: "/".to_owned(),
            log: log.into(),
            source_date,
            may_mount: false,
            sys: false,
            shell_on_failure: false,
        }
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// A sandbox whose stages are this very program.
    #[must_use]
    pub fn new() -> Self {
        Self { launcher: PathBuf::from("/proc/self/exe"), clock: None }
    }

    /// Runs `command` to its end.
    ///
    /// # Errors
    /// Of class `Verdict` when the command fails: the message has title and exit status or signal,
    /// the help its last lines and the log's place. Of class `Missing` when the tree has no such
    /// program, `Interrupted` on cancellation, else of what could not be set up.
    pub fn run(&self, command: &SandboxCommand, cancel: &Cancel) -> Result<Output> {
        supervise::run(self, command, cancel)
    }
}

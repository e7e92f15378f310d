//! What a resource asks of a machine, running or at rest.

use std::net::IpAddr;

use crate::resource::{Command, Port, Request};

/// An answer, or why there is none.
pub type Known<T> = Result<T, Unknown>;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It cannot be known here, for this reason: the attribute is skipped.
    NotHere(String),
    /// It should be known and could not be found out, for this reason: the attribute fails.
    Failed(String),
}

impl Unknown {
    /// It cannot be known here, because of `reason`.
    pub fn not_here(reason: impl Into<String>) -> Self {
        Self::NotHere(reason.into())
    }

    /// It could not be found out, because of `reason`.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed(reason.into())
    }
}

/// A machine, or the tree of one.
///
/// What only a running machine knows has an answer already: that it cannot be known here.
pub trait Target {
    /// What stands at `path`, links not followed; `None` where nothing does. A path may start with `~` or `~NAME`,
    /// which stand for root's and NAME's home directory; so it is with the next two.
    ///
    /// # Errors
    /// See [`Unknown`]; so it is with all questions.
    fn file(&self, path: &str) -> Known<Option<FileFacts>>;

    /// The bytes of the file at `path`, links followed.
    ///
    /// # Errors
    /// Also where it is no file.
    fn contents(&self, path: &str) -> Known<Vec<u8>>;

    /// Its digest in lower-case hexadecimal.
    ///
    /// # Errors
    /// Also where it is no file.
    fn digest(&self, path: &str, algorithm: Algorithm) -> Known<String>;

    /// The versions of a package that are installed.
    ///
    /// # Errors
    /// See [`Unknown`].
    fn package(&self, name: &str) -> Known<PackageFacts>;

    /// Whether a unit starts at boot. A name without a suffix is that of a service.
    ///
    /// # Errors
    /// See [`Unknown`].
    fn enabled(&self, unit: &str) -> Known<bool>;

    /// A user of `/etc/passwd`; `None` where there is none of that name.
    ///
    /// # Errors
    /// See [`Unknown`].
    fn user(&self, name: &str) -> Known<Option<UserFacts>>;

    /// The id of a group of `/etc/group`; `None` where there is none of that name.
    ///
    /// # Errors
    /// See [`Unknown`].
    fn group(&self, name: &str) -> Known<Option<u32>>;

    /// Whether a unit is active now.
    ///
    /// # Errors
    /// See [`Unknown`].
    fn running(&self, _unit: &str) -> Known<bool> {
        Err(needs_a_machine())
    }

    /// What a command does.
    ///
    /// # Errors
    /// Also where it takes longer than it may.
    fn command(&self, _command: &Command) -> Known<Output> {
        Err(needs_a_machine())
    }

    /// The value of a kernel parameter, without the white space around it.
    ///
    /// # Errors
    /// Also where the kernel has none of that name.
    fn kernel_param(&self, _name: &str) -> Known<String> {
        Err(needs_a_machine())
    }

    /// What is mounted at `mountpoint`; `None` where nothing is.
    ///
    /// # Errors
    /// See [`Unknown`].
    fn mount(&self, _mountpoint: &str) -> Known<Option<MountFacts>> {
        Err(needs_a_machine())
    }

    /// The percentage of blocks in use of the file system at `mountpoint`.
    ///
    /// # Errors
    /// See [`Unknown`].
    fn usage(&self, _mountpoint: &str) -> Known<u64> {
        Err(needs_a_machine())
    }

    /// The addresses on which something listens at `port`; none where nothing does.
    ///
    /// # Errors
    /// See [`Unknown`].
    fn port(&self, _port: Port) -> Known<Vec<IpAddr>> {
        Err(needs_a_machine())
    }

    /// The answer to a request.
    ///
    /// # Errors
    /// Also where there is no answer.
    fn http(&self, _request: &Request) -> Known<Response> {
        Err(needs_a_machine())
    }
}

fn needs_a_machine() -> Unknown {
    Unknown::not_here("it needs a running machine")
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// The owner's name, or the number where it has none.
    pub owner: String,
    /// The group's name, or the number where it has none.
    pub group: String,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// What a symbolic link says.
    pub link: Option<String>,
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A socket.
    Socket,
    /// A named pipe.
    Pipe,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
}

impl FileKind {
    /// As goss calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Socket => "socket",
            Self::Pipe => "pipe",
            Self::CharacterDevice => "character-device",
            Self::BlockDevice => "block-device",
        }
    }

    /// From the mode that stat(2) gives.
    #[must_use]
    pub fn of_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o140_000 => Self::Socket,
            0o010_000 => Self::Pipe,
            0o020_000 => Self::CharacterDevice,
            0o060_000 => Self::BlockDevice,
            _ => return None,
        })
    }
}

/// A digest that goss knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// MD5.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// What a package manager says of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageFacts {
    /// The versions that are installed, several where architectures or RPM allow it: Debian's whole version, or RPM's
    /// `[EPOCH:]VERSION-RELEASE`. None where it is not installed.
    pub versions: Vec<String>,
    /// Whether RPM says so.
    pub rpm: bool,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserFacts {
    /// Numeric id.
    pub uid: u32,
    /// Numeric id of the primary group.
    pub gid: u32,
    /// Names of all groups, the primary one first.
    pub groups: Vec<String>,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFacts {
    /// Options of the mount.
    pub options: Vec<String>,
    /// Options of the file system.
    pub super_options: Vec<String>,
    /// What is mounted.
    pub source: String,
    /// Type of the file system.
    pub file_system: String,
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit status.
    pub status: i32,
    /// Its output.
    pub stdout: Vec<u8>,
    /// Its error output.
    pub stderr: Vec<u8>,
}

/// An answer over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// Headers, `Name: value`, names with capitals as in `Content-Type`.
    pub headers: Vec<String>,
    /// Body.
    pub body: Vec<u8>,
}

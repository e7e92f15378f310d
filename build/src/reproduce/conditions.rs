//! What differs between the two builds of a check: the circumstances that must not matter.

use std::fmt;
use std::process::Command;

use nodekiln_words::{Class, Result, ResultExt as _};
use rustix::fs::Mode;
use rustix::thread::{CpuSet, UnshareFlags, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::layer::unshare;

/// One circumstance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// How many processors may be used: all, then one.
    Cores,
    /// Language, time zone, home folder and user name.
    Environment,
    /// The host's name.
    Hostname,
    /// Bits that new files lack.
    Umask,
    /// The store's file system, and with it the order in which folders list their entries.
    FileSystem,
}

/// The circumstances that differ, and the values that a build could have taken up from them.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// What differs.
    pub varied: Vec<Condition>,
    /// For each value that the first build saw, what the second one saw instead.
    pub values: Vec<(Condition, String, String)>,
}

/// Host name and variables of the second build.
const OTHER_HOST: &str = "other-host-of-nodekiln";
const OTHER_ENVIRONMENT: [(&str, &str); 7] = [
    ("LANG", "tr_TR.UTF-8"),
    ("LC_ALL", "tr_TR.UTF-8"),
    ("TZ", "Asia/Kathmandu"),
    ("HOME", "/nonexistent/home-of-another"),
    ("USER", "another-user"),
    ("LOGNAME", "another-user"),
    ("XDG_CACHE_HOME", "/nonexistent/cache-of-another"),
];
/// Bits that the second build's new files lack.
const OTHER_UMASK: u32 = 0o077;

impl Condition {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Cores, Self::Environment, Self::Hostname, Self::Umask, Self::FileSystem];

    /// Its word on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cores => "cores",
            Self::Environment => "environment",
            Self::Hostname => "hostname",
            Self::Umask => "umask",
            Self::FileSystem => "file-system",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Conditions {
    /// What the second build sees where `varied` differ from the first, which sees this process's. What
    /// is the same here whatever is done is left out: one processor cannot be fewer.
    #[must_use]
    pub fn of(varied: &[Condition]) -> Self {
        let mut values = Vec::new();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let varies = |condition: &&Condition| **condition != Condition::Cores || cores > 1;
        let varied: Vec<Condition> = varied.iter().filter(varies).copied().collect();
        for condition in &varied {
            match condition {
                Condition::Hostname => {
                    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
                    values.push((*condition, name, OTHER_HOST.to_owned()));
                }
                Condition::Environment => {
                    for (name, other) in OTHER_ENVIRONMENT {
                        let own = std::env::var(name).unwrap_or_default();
                        values.push((*condition, own, other.to_owned()));
                    }
                }
                Condition::Cores => {
                    values.push((*condition, cores.to_string(), "1".to_owned()));
                }
                Condition::Umask | Condition::FileSystem => {}
            }
        }
        Self { varied, values }
    }

    /// Runs `start`, which starts the second build with `command`, under the other circumstances. What
    /// they change of this thread and process is put back, but for the host's name, which is that of a
    /// namespace of this thread's own.
    ///
    /// # Errors
    /// When a circumstance cannot be changed, and of `start`.
    pub fn otherwise<T>(
        &self,
        command: &mut Command,
        start: impl FnOnce(&mut Command) -> Result<T>,
    ) -> Result<T> {
        let varies = |condition| self.varied.contains(&condition);
        if varies(Condition::Environment) {
            command.envs(OTHER_ENVIRONMENT);
        }
        if varies(Condition::Hostname) {
            let cannot = || "cannot change the host's name for one build".to_owned();
            unshare(UnshareFlags::NEWUTS)
                .map_err(std::io::Error::from)
                .or_fail(Class::Unsupported, cannot)?;
            rustix::system::sethostname(OTHER_HOST.as_bytes())
                .map_err(std::io::Error::from)
                .or_fail(Class::Unsupported, cannot)?;
        }
        let cores = varies(Condition::Cores).then(one_core).transpose()?;
        let umask = varies(Condition::Umask)
            .then(|| rustix::process::umask(Mode::from_raw_mode(OTHER_UMASK)));
        let started = start(command);
        if let Some(umask) = umask {
            rustix::process::umask(umask);
        }
        if let Some(cores) = cores {
            // Fewer cores for the comparison that follows would do no harm.
            sched_setaffinity(None, &cores).ok();
        }
        started
    }
}

/// Lets this thread and what it starts run on one processor; returns those that it could run on.
fn one_core() -> Result<CpuSet> {
    let cannot = || "cannot keep a build to one processor".to_owned();
    let all = sched_getaffinity(None).map_err(std::io::Error::from).or_io(cannot)?;
    let mut one = CpuSet::new();
    if let Some(first) = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)) {
        one.set(first);
    }
    sched_setaffinity(None, &one).map_err(std::io::Error::from).or_io(cannot)?;
    Ok(all)
}

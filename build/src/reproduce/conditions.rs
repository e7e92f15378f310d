//! What differs between the two builds of a check: the circumstances that must not matter.

use std::fmt;
use std::path::Path;
use std::process::Command;

use nodekiln_recipes::Lock;
use nodekiln_words::{Class, Failure, Result, ResultExt as _, SourceDate};
use rustix::fs::Mode;
use rustix::thread::{CpuSet, UnshareFlags, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::layer::unshare;
use crate::sandbox::OtherClock;

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
    /// The time of day that programs in the sandbox see.
    Clock,
}

/// A circumstance that was to differ and does not, on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Same {
    /// Which.
    pub condition: Condition,
    /// Why.
    pub why: String,
}

/// The circumstances that differ, and the values that a build could have taken up from them.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// What differs.
    pub varied: Vec<Condition>,
    /// What was to differ and does not.
    pub same: Vec<Same>,
    /// The second build's clock.
    pub clock: Option<OtherClock>,
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
/// What a file system in memory calls itself (statfs(2)).
const TMPFS: i64 = 0x0102_1994;
/// Bits that the second build's new files lack: the first ones that are not this process's.
const OTHER_UMASKS: [u32; 2] = [0o077, 0o027];

impl Condition {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Cores,
        Self::Environment,
        Self::Hostname,
        Self::Umask,
        Self::FileSystem,
        Self::Clock,
    ];

    /// Its word on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cores => "cores",
            Self::Environment => "environment",
            Self::Hostname => "hostname",
            Self::Umask => "umask",
            Self::FileSystem => "file-system",
            Self::Clock => "clock",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Conditions {
    /// What the second build sees where `wanted` differ from the first, which sees this process's and has
    /// its store below `place`. What is the same on this machine whatever is done is not among `varied`:
    /// one processor cannot be fewer.
    ///
    /// # Errors
    /// When this machine's own circumstances cannot be read.
    pub fn of(wanted: &[Condition], place: &Path, lock: &Lock) -> Result<Self> {
        let mut conditions = Self::default();
        for condition in wanted {
            match conditions.vary(*condition, place, lock)? {
                None => conditions.varied.push(*condition),
                Some(why) => conditions.same.push(Same { condition: *condition, why }),
            }
        }
        Ok(conditions)
    }

    /// Notes what differs, or returns why nothing does.
    fn vary(&mut self, condition: Condition, place: &Path, lock: &Lock) -> Result<Option<String>> {
        let mut values = Vec::new();
        match condition {
            Condition::Hostname => {
                let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
                values.push((name, OTHER_HOST.to_owned()));
            }
            Condition::Environment => {
                for (name, other) in OTHER_ENVIRONMENT {
                    let own = std::env::var(name).unwrap_or_default();
                    values.push((own, other.to_owned()));
                }
            }
            Condition::Cores => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                if cores == 1 {
                    return Ok(Some("only one core".to_owned()));
                }
                values.push((cores.to_string(), "1".to_owned()));
            }
            Condition::FileSystem => {
                let cannot = || format!("cannot look at {}", place.display());
                let own = rustix::fs::statfs(place).map_err(std::io::Error::from).or_io(cannot)?;
                if own.f_type == TMPFS {
                    return Ok(Some("the store is in memory already".to_owned()));
                }
            }
            Condition::Clock => {
                let clock = OtherClock::ahead();
                match clock.and_then(|clock| clock.fits(lock).map(|()| clock)) {
                    Ok(clock) => {
                        values = dates(now(), now() + u64::from(clock.ahead));
                        self.clock = Some(clock);
                    }
                    Err(failure) if failure.class() == Class::Io => return Err(failure),
                    Err(failure) => return Ok(Some(told(&failure))),
                }
            }
            Condition::Umask => {}
        }
        self.values.extend(values.into_iter().map(|(one, other)| (condition, one, other)));
        Ok(None)
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
        let umask = varies(Condition::Umask).then(other_umask);
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

/// Takes bits from new files that they do not lack yet; returns those that they lacked.
fn other_umask() -> Mode {
    let [first, second] = OTHER_UMASKS.map(Mode::from_raw_mode);
    let own = rustix::process::umask(first);
    if own == first {
        rustix::process::umask(second);
    }
    own
}

/// Seconds since 1970, now.
fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// How a program could write the two times, as far as some days do not change it: the year, and how
/// seconds since 1970 begin.
fn dates(first: u64, second: u64) -> Vec<(String, String)> {
    let year = |unix| {
        let date = SourceDate::from_unix(unix).map(|date| date.to_string()).unwrap_or_default();
        date.split('-').next().unwrap_or_default().to_owned()
    };
    // Of ten digits the first four are the same for eleven days.
    let begin = |unix: u64| (unix / 1_000_000).to_string();
    vec![(year(first), year(second)), (begin(first), begin(second))]
}

/// A failure in one line, with its remedy.
fn told(failure: &Failure) -> String {
    failure.help().map_or(failure.to_string(), |help| format!("{failure}; {help}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn same(condition: Condition, place: &str) -> Option<String> {
        let conditions = Conditions::of(&[condition], Path::new(place), &Lock::default()).unwrap();
        match (&conditions.varied[..], &conditions.same[..]) {
            ([varied], []) if *varied == condition => None,
            ([], [same]) if same.condition == condition => Some(same.why.clone()),
            _ => panic!("{conditions:?}"),
        }
    }

    #[test]
    fn a_store_that_is_in_memory_already_cannot_be_put_there() {
        assert_eq!(same(Condition::FileSystem, "/proc"), None);
        let why = same(Condition::FileSystem, "/dev/shm").unwrap();
        assert!(why.contains("in memory already"), "{why}");
    }

    #[test]
    fn one_core_cannot_be_fewer() {
        // The processors that a thread may use are its own.
        let why = std::thread::spawn(|| {
            one_core().unwrap();
            same(Condition::Cores, "/")
        });
        assert_eq!(why.join().unwrap().unwrap(), "only one core");
    }

    #[test]
    fn a_time_is_looked_for_as_a_year_and_as_seconds() {
        let dates = dates(1_795_276_800, 1_843_036_800);
        let expected = [("2026", "2028"), ("1795", "1843")];
        assert_eq!(dates, expected.map(|(one, other)| (one.to_owned(), other.to_owned())));
    }
}

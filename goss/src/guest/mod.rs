//! A running guest: what to run in it, and what its answers say.
//!
//! ```text
//! resources ──plan──▶ asks ──somebody runs them──▶ answers ──Answers──▶ judge
//! ```
//!
//! Each [`Ask`] is a POSIX shell script of nodekiln's own with arguments. What a user wrote (paths, names, a command)
//! is an argument or standard input and never part of the script. The scripts are run as root, need a shell and the
//! core utilities, and change nothing; a `command` resource does what its author wants.

mod answers;
mod curl;
mod parse;
mod scripts;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::resource::{Command, Request, Resource, Subject};
use crate::target::Algorithm;

pub use answers::Answers;

/// How long a script of nodekiln's own may take; each reads a file or asks a daemon.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked of a guest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// What stands at a path.
    File(String),
    /// The bytes at a path.
    Contents(String),
    /// Their digest.
    Digest(String, Algorithm),
    /// What the package manager says of a name.
    Package(String),
    /// Whether a unit starts at boot.
    Enabled(String),
    /// Whether a unit is active.
    Running(String),
    /// What a command does.
    Command(Command),
    /// The value of a kernel parameter.
    KernelParam(String),
    /// All mounts.
    Mounts,
    /// Blocks in use at a mount point.
    Usage(String),
    /// `/etc/passwd`.
    Users,
    /// `/etc/group`.
    Groups,
    /// All sockets of TCP and UDP.
    Sockets,
    /// A request over HTTP.
    Http(Box<Request>),
}

/// One thing to run in a guest, as root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What it answers.
    pub question: Question,
    /// A POSIX shell script; `$1` and on are the arguments.
    pub script: &'static str,
    /// Its arguments; none has a character of code 0.
    pub arguments: Vec<String>,
    /// What it reads from standard input; may hold a password.
    pub input: Input,
    /// After this time it is to be ended, and the answer is [`Answer::timed_out`].
    pub timeout: Duration,
}

/// Standard input; not shown by `Debug`, since a request's password may be in it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Input(pub Vec<u8>);

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What came of an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The exit status; `None` where it was ended before its end.
    pub status: Option<i32>,
    /// Its output.
    pub stdout: Vec<u8>,
    /// Its error output.
    pub stderr: Vec<u8>,
}

impl Answer {
    /// The answer of an ask that took longer than it may.
    #[must_use]
    pub fn timed_out() -> Self {
        Self { status: None, stdout: Vec::new(), stderr: Vec::new() }
    }
}

/// The name by which a script knows itself in its error messages.
const SELF: &str = "nodekiln-goss";

impl Ask {
    /// What to execute: the shell with the script and its arguments.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        let fixed = ["sh", "-c", self.script, SELF];
        fixed.into_iter().map(str::to_owned).chain(self.arguments.iter().cloned()).collect()
    }

    /// The same as one line for a shell, as SSH wants it: every word in single quotes, which leave nothing in it to
    /// the shell.
    #[must_use]
    pub fn command_line(&self) -> String {
        let words = self.argv();
        words
            .iter()
            .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// What to ask a guest so that `resources` can be judged: each question once, in the order in which it comes up first.
/// Resources to be skipped ask nothing.
#[must_use]
pub fn plan(resources: &[Resource]) -> Vec<Ask> {
    let mut asked = BTreeSet::new();
    let questions = resources.iter().filter(|resource| !resource.skip).flat_map(questions);
    questions.filter(|question| asked.insert(question.clone())).map(scripts::ask).collect()
}

fn questions(resource: &Resource) -> Vec<Question> {
    let when = |names: &[&str], question: Question| {
        names.iter().any(|name| resource.wants(name)).then_some(question)
    };
    let some = match &resource.subject {
        Subject::File(path) => {
            let facts =
                ["exists", "mode", "owner", "uid", "group", "gid", "linked-to", "filetype", "size"];
            let digest =
                |name: &str, algorithm| when(&[name], Question::Digest(path.clone(), algorithm));
            vec![
                when(&facts, Question::File(path.clone())),
                when(&["contents"], Question::Contents(path.clone())),
                digest("md5", Algorithm::Md5),
                digest("sha256", Algorithm::Sha256),
                digest("sha512", Algorithm::Sha512),
            ]
        }
        Subject::Package(name) => vec![Some(Question::Package(name.clone()))],
        Subject::Service(name) => vec![
            when(&["enabled"], Question::Enabled(name.clone())),
            when(&["running"], Question::Running(name.clone())),
        ],
        Subject::Command(command) => vec![Some(Question::Command(command.clone()))],
        Subject::KernelParam(name) => vec![Some(Question::KernelParam(name.clone()))],
        Subject::Mount(mountpoint) => {
            vec![Some(Question::Mounts), when(&["usage"], Question::Usage(mountpoint.clone()))]
        }
        Subject::User(_) => vec![Some(Question::Users), when(&["groups"], Question::Groups)],
        Subject::Group(_) => vec![Some(Question::Groups)],
        Subject::Port(_) => vec![Some(Question::Sockets)],
        Subject::Http(request) => vec![Some(Question::Http(request.clone()))],
        Subject::Matching(_) | Subject::Skipped(_) => Vec::new(),
    };
    some.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_a_user_reaches_the_shell() {
        let question = Question::Command(Command {
            exec: "echo '; rm -rf /' $HOME `id` \"x\" \\".to_owned(),
            timeout: PATIENCE,
        });
        let ask = scripts::ask(question);
        let argv = ask.argv();
        assert!(!argv[2].contains("rm -rf"), "the script is nodekiln's own");
        let command = format!("printf '%s\\0' {}", ask.command_line());
        let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
        let words: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
        assert_eq!(words.len(), argv.len() + 1);
        assert!(words.iter().zip(&argv).all(|(word, wanted)| *word == wanted.as_bytes()));
    }
}

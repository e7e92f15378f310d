//! One conversation with a plugin: the handshake, one request, its answers, the end. Whatever goes wrong in it
//! becomes a failure that says what the plugin did, with the end of what it wrote to standard error.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nodekiln_plugin_protocol::{
    Answer, Description, Done, Handshake, LONGEST_LINE, Problem, Progress, Request, Write, line,
};
use nodekiln_words::{Cancel, Class, Failure, Result, ResultExt as _};

use crate::process::{Heard, Process, printable};
use crate::{Executable, Limits, PROGRAM};

/// How much of a line that is no message is shown.
const SHOWN: usize = 120;

/// A plugin that has shaken hands.
#[derive(Debug)]
pub(crate) struct Session {
    name: String,
    process: Process,
    limits: Limits,
    cancel: Cancel,
}

impl Session {
    /// Starts the plugin in `folder` and shakes hands.
    pub(crate) fn start(
        executable: &Executable,
        folder: &Path,
        environment: &[(String, OsString)],
        limits: Limits,
        cancel: &Cancel,
    ) -> Result<Self> {
        let (mut session, theirs) = Self::introduce(
            executable,
            folder,
            environment,
            limits,
            cancel,
            &Handshake::of(PROGRAM),
        )?;
        let ours = Handshake::of(PROGRAM);
        if ours.agreed(&theirs).is_none() {
            let name = &session.name;
            let text = format!(
                "provider plugin `{name}` speaks version {} of the protocol, and nodekiln {}",
                theirs.versions(),
                ours.versions()
            );
            let newer = theirs.oldest() > ours.nodekiln_provider;
            let which = if newer { "nodekiln" } else { "the plugin" };
            let help = format!("install a newer version of {which}");
            return Err(session.failure(Class::Unsupported, text, Some(help)));
        }
        Ok(session)
    }

    /// Starts the plugin, says `ours` and gives what it answers.
    pub(crate) fn introduce(
        executable: &Executable,
        folder: &Path,
        environment: &[(String, OsString)],
        limits: Limits,
        cancel: &Cancel,
        ours: &Handshake,
    ) -> Result<(Self, Handshake)> {
        let process = Process::start(&executable.path, folder, environment)?;
        let (name, cancel) = (executable.name.clone(), cancel.clone());
        let mut session = Self { name, process, limits, cancel };
        session.process.say(&text(ours)?);
        let heard = session.line(limits.handshake, "before it shook hands")?;
        let theirs = serde_json::from_slice::<Handshake>(&heard)
            .map_err(|error| session.garbage(&heard, &error, "as its handshake"))?;
        Ok((session, theirs))
    }

    /// Asks the plugin what it is.
    pub(crate) fn describe(mut self) -> Result<Description> {
        self.ask(&Request::Describe {})?;
        let when = "when it was asked what it is";
        match self.answer(self.limits.describe, when)? {
            Answer::Description(description) => {
                self.end()?;
                Ok(*description)
            }
            Answer::Error(problem) => Err(self.refused("say what it is", &problem)),
            other => Err(self.unexpected(&other, when)),
        }
    }

    /// Has the plugin write its artifact; `told` gets its progress.
    pub(crate) fn write(
        mut self,
        request: &Write,
        told: &mut dyn FnMut(&Progress),
    ) -> Result<Done> {
        self.ask(&Request::Write(Box::new(request.clone())))?;
        let when = "while it wrote its artifact";
        loop {
            match self.answer(self.limits.silence, when) {
                Ok(Answer::Progress(progress)) => told(&progress),
                Ok(Answer::Done(done)) => {
                    self.end()?;
                    return Ok(done);
                }
                Ok(Answer::Error(problem)) => {
                    return Err(self.refused("write its artifact", &problem));
                }
                Ok(other) => return Err(self.unexpected(&other, when)),
                Err(failure) if failure.class() == Class::Interrupted => {
                    self.give_up();
                    return Err(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Asks for something.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<()> {
        let line = text(request)?;
        self.process.say(&line);
        Ok(())
    }

    /// Says something that is no request.
    pub(crate) fn say(&mut self, line: &str) {
        self.process.say(line);
    }

    /// Ends the plugin's input and lets it end by itself.
    pub(crate) fn hang_up(&mut self) -> Option<ExitStatus> {
        self.process.hang_up();
        self.process.ends_within(self.limits.end)
    }

    /// Tells the plugin to stop writing, and what it answers within its time; `None` where it does not end by
    /// itself then.
    pub(crate) fn stop(&mut self) -> Option<Answer> {
        self.process.say(&text(&Request::Cancel {}).ok()?);
        let deadline = Instant::now() + self.limits.cancel;
        let mut last = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None; // however much it still has to say
            }
            match self.process.hear(left, &Cancel::default()) {
                Heard::Line(line) => match serde_json::from_slice(&line) {
                    Ok(Answer::Progress(_)) => {}
                    Ok(answer) => last = Some(answer),
                    Err(_) => return None,
                },
                Heard::End => break,
                Heard::TooLong | Heard::Silence | Heard::Cancelled => return None,
            }
        }
        self.process.hang_up();
        let left = deadline.saturating_duration_since(Instant::now());
        self.process.ends_within(left.max(Duration::from_millis(100))).and(last)
    }

    /// Ends a plugin whose work nobody wants any more: by a message, a signal, and one that nobody ignores.
    fn give_up(&mut self) {
        if self.stop().is_none() {
            self.process.terminate(self.limits.terminate);
        }
    }

    /// The next answer.
    pub(crate) fn answer(&mut self, patience: Duration, when: &str) -> Result<Answer> {
        let heard = self.line(patience, when)?;
        serde_json::from_slice(&heard).map_err(|error| self.garbage(&heard, &error, when))
    }

    fn line(&mut self, patience: Duration, when: &str) -> Result<Vec<u8>> {
        let name = self.name.clone();
        match self.process.hear(patience, &self.cancel) {
            Heard::Line(line) => Ok(line),
            Heard::Cancelled => Err(Failure::interrupted()),
            Heard::TooLong => {
                let text = format!(
                    "provider plugin `{name}` sent a line of more than {LONGEST_LINE} bytes {when}"
                );
                Err(self.failure(Class::Io, text, Some(self.author())))
            }
            Heard::Silence => {
                let seconds = patience.as_secs_f64();
                let text = format!("provider plugin `{name}` said nothing for {seconds} s {when}");
                Err(self.failure(Class::Missing, text, Some(self.author())))
            }
            Heard::End => {
                let how = self.how_it_ended();
                let text = format!("provider plugin `{name}` ended {when}: {how}");
                Err(self.failure(Class::Verdict, text, Some(self.author())))
            }
        }
    }

    /// After the last answer: it ends by itself, with 0 and without another word.
    fn end(&mut self) -> Result<()> {
        let name = self.name.clone();
        self.process.hang_up();
        match self.process.hear(self.limits.end, &self.cancel) {
            Heard::End => {}
            Heard::Line(line) => {
                let text = format!(
                    "provider plugin `{name}` said more after its last answer: {}",
                    shown(&line)
                );
                return Err(self.failure(Class::Io, text, Some(self.author())));
            }
            Heard::Cancelled => return Err(Failure::interrupted()),
            Heard::TooLong | Heard::Silence => return Err(self.lingers()),
        }
        match self.process.ends_within(self.limits.end) {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                let text =
                    format!("provider plugin `{name}` failed after its last answer: {status}");
                Err(self.failure(Class::Verdict, text, Some(self.author())))
            }
            None => Err(self.lingers()),
        }
    }

    fn lingers(&mut self) -> Failure {
        let (name, seconds) = (self.name.clone(), self.limits.end.as_secs_f64());
        let text =
            format!("provider plugin `{name}` did not end within {seconds} s of its last answer");
        self.failure(Class::Missing, text, Some(self.author()))
    }

    fn how_it_ended(&mut self) -> String {
        self.process.hang_up();
        match self.process.ends_within(self.limits.terminate) {
            Some(status) => status.to_string(),
            None => "it closed its output".to_owned(),
        }
    }

    fn refused(&mut self, what: &str, problem: &Problem) -> Failure {
        let message = printable(problem.message.trim());
        let text = format!("provider plugin `{}` cannot {what}: {message}", self.name);
        self.failure(Class::Verdict, text, problem.remedy.as_deref().map(printable))
    }

    fn unexpected(&mut self, answer: &Answer, when: &str) -> Failure {
        let (name, word) = (&self.name, word(answer));
        let text = format!("provider plugin `{name}` answered `{word}` {when}");
        self.failure(Class::Io, text, Some(self.author()))
    }

    fn garbage(&mut self, line: &[u8], error: &serde_json::Error, when: &str) -> Failure {
        let name = &self.name;
        let text =
            format!("provider plugin `{name}` sent what is no message {when}: {}", shown(line));
        let help = format!("{}\n{}", printable(&error.to_string()), self.author());
        self.failure(Class::Io, text, Some(help))
    }

    /// The remedy for what only the plugin's author can put right.
    fn author(&self) -> String {
        format!("`nodekiln provider check {}` tells its author more", self.name)
    }

    /// Ends the plugin; the failure has the end of its standard error as its cause.
    pub(crate) fn failure(&mut self, class: Class, text: String, help: Option<String>) -> Failure {
        self.process.terminate(self.limits.terminate);
        let errors = self.process.errors();
        let mut failure = Failure::new(class, text);
        if let Some(help) = help {
            failure = failure.with_help(help);
        }
        match errors.trim() {
            "" => failure,
            errors => failure.with_source(format!("it wrote to standard error: {errors}")),
        }
    }
}

/// An answer's word in the protocol.
pub(crate) fn word(answer: &Answer) -> &'static str {
    match answer {
        Answer::Description(_) => "description",
        Answer::Progress(_) => "progress",
        Answer::Done(_) => "done",
        Answer::Cancelled {} => "cancelled",
        Answer::Error(_) => "error",
    }
}

fn text(message: &impl serde::Serialize) -> Result<String> {
    line(message).or_io(|| "cannot write a message as JSON".to_owned())
}

/// The beginning of a line, for a message.
fn shown(line: &[u8]) -> String {
    let text = printable(&String::from_utf8_lossy(line));
    let short: String = text.chars().take(SHOWN).collect();
    if text.chars().count() > SHOWN { format!("`{short}…`") } else { format!("`{short}`") }
}

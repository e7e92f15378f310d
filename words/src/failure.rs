use std::error::Error;
use std::fmt;

/// What kind of failure this is; the command line turns it into an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// What the user wrote is wrong: a recipe, an argument, an image file.
    Input,
    /// The request is understood but cannot be served by this version or on this machine.
    Unsupported,
    /// A program or service that is needed is missing or does not answer.
    Missing,
    /// Reading, writing or transferring failed, or bytes are not what they should be.
    Io,
    /// The work was done and its verdict is "failed": a step, a rule, a tier.
    Verdict,
    /// The user or the system asked to stop.
    Interrupted,
}

/// A failure at the border of a room: what went wrong, the cause beneath it, and a remedy.
///
/// The message is a lower-case fragment that reads after `error:` and names the path, package, step
/// or address concerned; the cause is in [`Error::source`] only; `help` says what to do about it.
pub struct Failure(Box<Inner>);

struct Inner {
    class: Class,
    message: String,
    help: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// A result whose error is a [`Failure`].
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure of `class` described by `message`.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { class, message: message.into(), help: None, source: None }))
    }

    /// A failure for which the user's input is to blame.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Class::Input, message)
    }

    /// A failure of reading, writing or transferring.
    pub fn io(message: impl Into<String>) -> Self {
        Self::new(Class::Io, message)
    }

    /// The failure that stands for "asked to stop".
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(Class::Interrupted, "interrupted")
    }

    /// The same failure with a remedy.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// The same failure with the cause beneath it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Wraps this failure in a message of the caller; class and help stay those of the cause.
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        let class = self.0.class;
        let help = self.0.help.clone();
        Self(Box::new(Inner { class, message: message.into(), help, source: Some(Box::new(self)) }))
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn class(&self) -> Class {
        self.0.class
    }

    /// What to do about it, where something is known.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// The message and each cause beneath it, outermost first.
    #[must_use]
    pub fn chain(&self) -> Vec<String> {
        let mut texts = vec![self.to_string()];
        let mut cause = self.source();
        while let Some(error) = cause {
            texts.push(error.to_string());
            cause = error.source();
        }
        texts
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.class, self.chain().join(": "))?;
        match &self.0.help {
            Some(help) => write!(f, " (help: {help})"),
            None => Ok(()),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Turns any error into a [`Failure`] where it is known what was being done.
pub trait ResultExt<T> {
    /// On error: a failure of [`Class::Io`] with `message` over the cause.
    fn or_io(self, message: impl FnOnce() -> String) -> Result<T>;
    /// On error: a failure of `class` with `message` over the cause.
    fn or_fail(self, class: Class, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> ResultExt<T> for std::result::Result<T, E> {
    fn or_io(self, message: impl FnOnce() -> String) -> Result<T> {
        self.or_fail(Class::Io, message)
    }
    fn or_fail(self, class: Class, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Failure::new(class, message()).with_source(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_keeps_class_and_help_and_chains_causes() {
        let failure = Failure::input("no such suite").with_help("try bookworm").context("recipe a");
        assert_eq!(failure.class(), Class::Input);
        assert_eq!(failure.help(), Some("try bookworm"));
        assert_eq!(failure.chain(), ["recipe a", "no such suite"]);
    }
}

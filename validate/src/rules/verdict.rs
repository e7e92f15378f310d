//! What a rule says, and how much it weighs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much a rule's "no" weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The image fails.
    Fatal,
    /// The image passes, with a warning.
    Advisory,
}

/// What a rule says, with what was seen or why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "seen")]
pub enum Verdict {
    /// As it should be.
    Pass(String),
    /// Acceptable, yet worth telling.
    Warn(String),
    /// Not as it should be.
    Fail(String),
    /// Could not be shown with this image; the reason is known and accepted.
    NotProven(String),
    /// Not applicable to this image or this run.
    Skipped(String),
    /// Not as it should be, or worth telling, which a waiver of a user's lets pass; with its reason and end.
    Waived(String),
}

impl Severity {
    /// The word that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fatal => "fatal",
            Self::Advisory => "advisory",
        }
    }

    /// What a rule of this severity says: an advisory one's "no" is a warning.
    pub(crate) fn weigh(self, verdict: Verdict) -> Verdict {
        match (self, verdict) {
            (Self::Advisory, Verdict::Fail(seen)) => Verdict::Warn(seen),
            (_, verdict) => verdict,
        }
    }
}

impl Verdict {
    /// Pass when nothing is wrong, else fail with all of it.
    pub(crate) fn of(wrong: &[String], seen: impl Into<String>) -> Self {
        if wrong.is_empty() { Self::Pass(seen.into()) } else { Self::Fail(wrong.join("; ")) }
    }

    /// What was seen, or the reason.
    #[must_use]
    pub fn seen(&self) -> &str {
        match self {
            Self::Pass(text)
            | Self::Warn(text)
            | Self::Fail(text)
            | Self::NotProven(text)
            | Self::Skipped(text)
            | Self::Waived(text) => text,
        }
    }

    /// One word for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Pass(_) => "pass",
            Self::Warn(_) => "warn",
            Self::Fail(_) => "FAIL",
            Self::NotProven(_) => "not proven",
            Self::Skipped(_) => "skipped",
            Self::Waived(_) => "waived",
        }
    }
}

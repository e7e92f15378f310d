//! What a rule says, and how much it weighs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Stands between the findings of a verdict.
pub(crate) const SEPARATOR: &str = "; ";
/// Most findings that a line for people tells.
const MOST_TOLD: usize = 8;

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
        if wrong.is_empty() { Self::Pass(seen.into()) } else { Self::Fail(wrong.join(SEPARATOR)) }
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

    /// What it found, one by one, where it says no or warns.
    pub(crate) fn findings(&self) -> impl Iterator<Item = &str> {
        let text = match self {
            Self::Fail(text) | Self::Warn(text) => Some(text),
            _ => None,
        };
        text.into_iter().flat_map(|text| text.split(SEPARATOR))
    }

    /// The same as [`Verdict::seen`] in a line for people: of many findings the first, and how many there are besides.
    #[must_use]
    pub fn told(&self) -> String {
        match self.findings().count() {
            0 => self.seen().to_owned(),
            _ => few(&self.findings().collect::<Vec<_>>()),
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

/// The first of `findings`, and how many there are besides.
pub(crate) fn few(findings: &[&str]) -> String {
    // To say that there is one more takes as much room as to tell it.
    if findings.len() <= MOST_TOLD + 1 {
        return findings.join(SEPARATOR);
    }
    let more = findings.len() - MOST_TOLD;
    format!("{}{SEPARATOR}and {more} more", findings[..MOST_TOLD].join(SEPARATOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_the_first_findings_and_programs_all() {
        let all: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        let red = Verdict::of(&all, "fine");
        assert_eq!(red.findings().count(), 10);
        assert_eq!(red.told(), "0; 1; 2; 3; 4; 5; 6; 7; and 2 more");
        assert_eq!(Verdict::of(&all[1..], "fine").told(), "1; 2; 3; 4; 5; 6; 7; 8; 9");
        let pass = Verdict::Pass(all.join(SEPARATOR));
        assert_eq!((pass.findings().count(), pass.told().as_str()), (0, pass.seen()));
    }
}

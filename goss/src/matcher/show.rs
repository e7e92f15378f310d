//! A mismatch in words.

use std::fmt;

use serde::Serialize;
use serde_json::Value as Json;

use super::{Matcher, Want};

/// Characters of a found value that are shown.
const LONGEST: usize = 600;

/// What was wanted, what was found, and why the two do not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// The matcher as it was written, in JSON.
    pub wanted: String,
    /// The value, in JSON; shortened where it is long.
    pub found: String,
    /// What is amiss, where more is known than that the two differ.
    pub because: Option<String>,
}

impl Mismatch {
    pub(super) fn new(matcher: &Matcher, found: &Json, complaint: Option<String>) -> Self {
        Self {
            wanted: matcher.written().to_string(),
            found: shortened(&found.to_string()),
            because: complaint.or_else(|| reason(matcher.want(), found)),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wanted {}, found {}", self.wanted, self.found)?;
        match &self.because {
            Some(because) => write!(f, " ({because})"),
            None => Ok(()),
        }
    }
}

/// Which part of a larger matcher is at fault.
fn reason(want: &Want, found: &Json) -> Option<String> {
    match want {
        Want::HavePatterns(patterns) => {
            let text = super::value::text(found);
            let wrong: Vec<String> = patterns
                .iter()
                .filter(|pattern| !pattern.holds(&text))
                .map(|pattern| match pattern.line(&text).filter(|_| pattern.negated()) {
                    Some((number, line)) => {
                        let line = shortened(&super::value::quoted(line));
                        format!("line {number} is {line}, against `{}`", pattern.written())
                    }
                    None => format!("no line fits `{}`", pattern.written()),
                })
                .collect();
            Some(wrong.join("; ")).filter(|text| !text.is_empty())
        }
        Want::ContainElements(wanted) | Want::ContainEach(wanted) | Want::ConsistOf(wanted) => {
            let items = super::value::list(found).ok()?;
            let fits = |want: &Want| items.iter().any(|item| want.holds(item) == Ok(true));
            let missing: Vec<String> = wanted
                .iter()
                .enumerate()
                .filter(|(_, want)| !fits(want))
                .map(|(index, _)| (index + 1).to_string())
                .collect();
            let noun = if missing.len() == 1 { "element" } else { "elements" };
            (!missing.is_empty())
                .then(|| format!("nothing fits wanted {noun} {}", missing.join(", ")))
        }
        _ => None,
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => {
            let more = text[end..].chars().count();
            format!("{}… and {more} more characters", &text[..end])
        }
        None => text.to_owned(),
    }
}

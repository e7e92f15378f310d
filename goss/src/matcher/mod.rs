//! What is wanted of a value: goss 0.4's matchers.
//!
//! A matcher is read once ([`Matcher::of_value`], [`Matcher::of_output`]) and asked whether a found value meets it
//! ([`Matcher::test`]). Values are those of JSON: what a machine tells is a boolean, a number, a text or a list of
//! texts; `matching` may hold anything. A matcher that cannot be applied to what was found (a number was wanted and
//! the text is none) is a complaint, and that is a failure also under `not`.

mod lines;
mod path;
mod read;
mod show;
mod test;
mod value;

use regex::Regex;
use serde_json::Value as Json;

use crate::version::Constraint;
pub(crate) use lines::LinePattern;
pub(crate) use path::Path;
pub use show::Mismatch;

/// Which goss's rules hold where 0.3 and 0.4 differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Of a list each element must be found, the same one perhaps several times; the version of an RPM package is
    /// its version alone.
    Goss03,
    /// Each element of a list needs an element of its own; the version of an RPM package is
    /// `[EPOCH:]VERSION-RELEASE`.
    #[default]
    Goss04,
}

/// What is wanted of a value.
#[derive(Clone, Debug)]
pub struct Matcher {
    want: Want,
    /// As it was written.
    written: Json,
}

/// The matchers.
#[derive(Clone, Debug)]
pub(crate) enum Want {
    /// The value as a text is this.
    Text(String),
    /// The value as a number is this.
    Number(f64),
    /// The value is this, and a boolean.
    Boolean(bool),
    /// The value is this, and of the same kind.
    Equal(Json),
    HavePrefix(String),
    HaveSuffix(String),
    MatchRegexp(Regex),
    ContainSubstring(String),
    Compare(Order, f64),
    /// Elements of a list, entries of a mapping or bytes of a text.
    HaveLen(usize),
    /// Each pattern fits a line, or none where it is negated.
    HavePatterns(Vec<LinePattern>),
    /// A mapping has such a key.
    HaveKey(Box<Want>),
    /// A mapping has these keys with such values; of goss 0.3.
    HaveKeyWithValue(Vec<(String, Want)>),
    ContainElement(Box<Want>),
    /// Each wanted one has an element of its own.
    ContainElements(Vec<Want>),
    /// Each wanted one is met by some element; of goss 0.3.
    ContainEach(Vec<Want>),
    /// As `ContainElements`, and nothing is left over.
    ConsistOf(Vec<Want>),
    Not(Box<Want>),
    And(Vec<Want>),
    Or(Vec<Want>),
    Semver(Constraint),
    /// What stands at each path of a JSON text.
    Gjson(Vec<(Path, Want)>),
}

/// How numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// Why a value does not meet a matcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// The two do not fit.
    Mismatch(Mismatch),
    /// nodekiln cannot tell whether they do, for this reason.
    Untold(String),
}

/// Why it cannot be said whether a value is as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// That cannot be asked of such a value, for this reason; it is a failure.
    Unfit(String),
    /// nodekiln cannot tell, for this reason.
    Untold(String),
}

impl From<String> for Complaint {
    fn from(reason: String) -> Self {
        Self::Unfit(reason)
    }
}

impl Matcher {
    /// Whether `found` meets it.
    ///
    /// # Errors
    /// What was wanted and what was found, or why nobody can tell.
    pub fn test(&self, found: &Json) -> Result<(), Unmet> {
        let because = match self.want.holds(found) {
            Ok(true) => return Ok(()),
            Ok(false) => None,
            Err(Complaint::Unfit(reason)) => Some(reason),
            Err(Complaint::Untold(reason)) => return Err(Unmet::Untold(reason)),
        };
        Err(Unmet::Mismatch(Mismatch::new(self, found, because)))
    }

    /// Why a part of it can never be judged, where that is so.
    pub(crate) fn unsupported(&self) -> Option<&str> {
        self.want.unsupported()
    }

    /// As it was written, in JSON.
    #[must_use]
    pub fn written(&self) -> &Json {
        &self.written
    }

    pub(crate) fn want(&self) -> &Want {
        &self.want
    }
}

impl Want {
    fn unsupported(&self) -> Option<&str> {
        match self {
            Self::Gjson(paths) => paths
                .iter()
                .find_map(|(path, wanted)| path.unsupported().or_else(|| wanted.unsupported())),
            Self::HaveKey(wanted) | Self::ContainElement(wanted) | Self::Not(wanted) => {
                wanted.unsupported()
            }
            Self::HaveKeyWithValue(pairs) => {
                pairs.iter().find_map(|(_, wanted)| wanted.unsupported())
            }
            Self::ContainElements(all)
            | Self::ContainEach(all)
            | Self::ConsistOf(all)
            | Self::And(all)
            | Self::Or(all) => all.iter().find_map(Self::unsupported),
            _ => None,
        }
    }
}

//! Where something stands in a file, and what is wrong there.

use std::fmt;
use std::sync::Arc;

use nodekiln_words::Failure;
use serde::{Serialize, Serializer};

/// A place in a file that a person wrote: lines and columns count from 1, columns in characters.
///
/// In a file that is a template this is the place in the template, as far as it is known: the line is that
/// of the text around the action, and the column is 1 where the line has an action in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file, as its path was given.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One problem at one place, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong, as a fragment in lower case.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl Problem {
    pub(crate) fn new(place: &Place, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { place: place.clone(), message: message.into(), help: help.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Problems of one reading, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Problems(Vec<Problem>);

/// Problems beyond this many are not kept: whoever has that many reads no further.
const MOST: usize = 100;

impl Problems {
    /// Adds one; beyond a hundred they are not kept.
    pub fn push(&mut self, problem: Problem) {
        if self.0.len() < MOST {
            self.0.push(problem);
        }
    }

    /// The problems.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Problems {
    /// A line for each problem, and a line with its remedy below.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}\n  help: {}", problem.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Problems::from(problem).into()
    }
}

impl From<Problems> for Failure {
    /// A failure of class input that names the first problem; where there are more, all are its source.
    fn from(problems: Problems) -> Self {
        let Some(first) = problems.0.first() else {
            return Self::input("the file is wrong");
        };
        let failure = |text: String| Self::input(text).with_help(first.help.clone());
        match problems.0.len() {
            1 => failure(first.to_string()),
            count => {
                let more = count - 1;
                let noun = if more == 1 { "problem" } else { "problems" };
                failure(format!("{first}, and {more} more {noun}")).with_source(problems)
            }
        }
    }
}

/// The word among `words` that `text` was perhaps meant to be.
#[must_use]
pub fn nearest<'a>(text: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    words
        .map(|word| (strsim::damerau_levenshtein(text, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len().min(text.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// A remedy for an unknown word: the nearest known one, or all of them.
pub(crate) fn did_you_mean(text: &str, words: &[&str]) -> String {
    match nearest(text, words.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("known here: {}", words.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_place_and_keeps_all_problems() {
        let place = Place { file: "a.yaml".into(), line: 3, column: 5 };
        let one = Problem::new(&place, "odd", "make it even");
        let failure = Failure::from(one.clone());
        assert_eq!(failure.to_string(), "a.yaml:3:5: odd");
        assert_eq!(failure.help(), Some("make it even"));
        let mut problems = Problems::from(one.clone());
        problems.push(one);
        let failure = Failure::from(problems);
        assert_eq!(failure.to_string(), "a.yaml:3:5: odd, and 1 more problem");
        assert_eq!(failure.chain()[1].lines().count(), 4);
    }

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        assert_eq!(did_you_mean("exist", &["exists", "mode"]), "did you mean `exists`?");
        assert_eq!(did_you_mean("zebra", &["exists", "mode"]), "known here: exists, mode");
    }
}

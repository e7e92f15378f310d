//! What is looked for on a console, and how grave it is.
//!
//! Each pattern carries a line that it must match and one that nearly matches and must not; the
//! test walks the whole table. The first seventeen classes are those that the CoreOS harness
//! watches; the others come from boots of node images that went wrong.

mod boot;
mod kernel;
mod services;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Gravity {
    /// The guest will not get any further: stop waiting.
    Fatal,
    /// The image is bad.
    Bad,
    /// Worth telling.
    Suspicious,
}

/// One thing to look for: `needles` must occur in a line, in this order.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// Stable name.
    pub id: &'static str,
    /// How grave a match is.
    pub gravity: Gravity,
    /// Texts that a matching line holds, in order.
    pub needles: &'static [&'static str],
    /// Texts of which a matching line holds none.
    pub without: &'static [&'static str],
    /// What it means.
    pub meaning: &'static str,
    /// A recorded line that matches.
    pub matching: &'static str,
    /// A line that nearly matches.
    pub near_miss: &'static str,
}

impl Pattern {
    /// Whether `line`, free of control sequences, matches.
    #[must_use]
    pub fn matches(&self, line: &str) -> bool {
        let mut rest = line;
        for needle in self.needles {
            match rest.find(needle) {
                Some(at) => rest = &rest[at + needle.len()..],
                None => return false,
            }
        }
        !self.without.iter().any(|text| line.contains(text))
    }
}

const fn pattern(
    id: &'static str,
    gravity: Gravity,
    needles: &'static [&'static str],
    meaning: &'static str,
    matching: &'static str,
    near_miss: &'static str,
) -> Pattern {
    Pattern { id, gravity, needles, without: &[], meaning, matching, near_miss }
}

/// Everything that is looked for, in the order in which a boot could show it.
pub fn patterns() -> impl Iterator<Item = &'static Pattern> {
    [boot::PATTERNS, kernel::PATTERNS, services::PATTERNS].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pattern_matches_its_line_and_not_the_near_miss() {
        for pattern in patterns() {
            assert!(pattern.matches(pattern.matching), "{}", pattern.id);
            assert!(!pattern.matches(pattern.near_miss), "{}", pattern.id);
        }
    }

    #[test]
    fn no_near_miss_matches_any_grave_pattern() {
        for near in patterns() {
            let grave = patterns().filter(|pattern| pattern.gravity == Gravity::Fatal);
            for pattern in grave {
                assert!(!pattern.matches(near.near_miss), "{} on {}", pattern.id, near.near_miss);
            }
        }
    }

    #[test]
    fn ids_are_unique() {
        let mut ids: Vec<_> = patterns().map(|pattern| pattern.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), patterns().count());
    }
}

//! Which specs of a suite a run takes.

use std::fmt;

use nodekiln_words::{Class, Failure, Result, ResultExt as _};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::Manifest;
use crate::offline;

/// The specs that every node should pass: those that upstream marks so.
pub const FOCUS: &str = r"\[NodeConformance\]";
/// What is left out of them: what is known to fail by chance, and what needs the node for itself.
pub const SKIP: &str = r"\[Flaky\]|\[Serial\]";

/// What is wanted of a suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Regular expression that narrows [`FOCUS`] down.
    pub focus: Option<String>,
    /// The part that one guest runs; `None` is all.
    pub shard: Option<Shard>,
}

/// One of several parts of equal length, `2/3` for instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    number: usize,
    of: usize,
}

impl Shard {
    /// The part `number` (from 1) of `of`.
    ///
    /// # Errors
    /// When there is no such part.
    pub fn new(number: usize, of: usize) -> Result<Self> {
        if (1..=of).contains(&number) {
            return Ok(Self { number, of });
        }
        Err(Failure::input(format!("there is no shard {number} of {of}")).with_help(
            "shards are counted from 1: `--shards 3 --shard 1` to `--shards 3 --shard 3`",
        ))
    }

    /// This part of `list`.
    fn part<T>(self, list: Vec<T>) -> Vec<T> {
        list.into_iter().skip(self.number - 1).step_by(self.of).collect()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// The specs of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// To be run, in the order of their texts.
    pub run: Vec<String>,
    /// In the focus but left out.
    pub skipped: Vec<Skipped>,
}

/// A spec that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The spec.
    pub spec: String,
    /// Why.
    pub reason: String,
}

impl Manifest {
    /// The specs of [`FOCUS`] that `wanted` names, without [`SKIP`] and what cannot be judged offline. Specs
    /// go to shards by turns, so that long ones, which stand together, are shared out.
    ///
    /// # Errors
    /// When the expression is none, or no spec is left to run.
    pub fn select(&self, wanted: &Wanted) -> Result<Selected> {
        let (conformance, skip) = (expression(FOCUS)?, expression(SKIP)?);
        let focus = wanted.focus.as_deref().map(expression).transpose()?;
        let mut selected = Selected { run: Vec::new(), skipped: Vec::new() };
        for spec in &self.specs {
            if !conformance.is_match(spec) || focus.as_ref().is_some_and(|own| !own.is_match(spec))
            {
                continue;
            }
            let marked = skip.find(spec).map(|mark| format!("is marked {}", mark.as_str()));
            match marked.or_else(|| offline::reason(spec).map(str::to_owned)) {
                Some(reason) => selected.skipped.push(Skipped { spec: spec.clone(), reason }),
                None => selected.run.push(spec.clone()),
            }
        }
        if let Some(shard) = wanted.shard {
            selected.run = shard.part(selected.run);
            selected.skipped = shard.part(selected.skipped);
        }
        if selected.run.is_empty() {
            return Err(self.nothing(wanted, &selected));
        }
        Ok(selected)
    }

    fn nothing(&self, wanted: &Wanted, selected: &Selected) -> Failure {
        let (all, version) = (self.specs.len(), self.kubernetes);
        let text = match (&wanted.focus, selected.skipped.first()) {
            (_, Some(Skipped { spec, reason })) => {
                format!("no spec is left to run: `{spec}` {reason}")
            }
            (Some(focus), None) => format!(
                "no spec of the {all} of Kubernetes {version} matches `{FOCUS}` and `{focus}`"
            ),
            (None, None) => format!("no spec of the {all} of Kubernetes {version} is left to run"),
        };
        Failure::input(text).with_help("`nodekiln kit --list KIT` prints the specs of a kit")
    }
}

/// A regular expression.
fn expression(text: &str) -> Result<Regex> {
    Regex::new(text).or_fail(Class::Input, || format!("`{text}` is no regular expression"))
}

/// The expression by which the suite runs just `specs`: it holds the expression against the suite's name and the
/// spec's whole text.
#[must_use]
pub fn pattern(specs: &[String]) -> String {
    let texts: Vec<String> = specs.iter().map(|spec| escaped(spec)).collect();
    format!(" (?:{})$", texts.join("|"))
}

/// `text` so that Go's regular expressions take it as it is: they know no escaped space or hyphen.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if r"\.+*?()|[]{}^$".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::testing::manifest;

    const SPECS: [&str; 6] = [
        "[k8s.io] Container Runtime should be able to pull image [NodeConformance]",
        "[k8s.io] Pods a [NodeConformance]",
        "[k8s.io] Pods b [NodeConformance] [Conformance]",
        "[k8s.io] Pods c [NodeConformance]",
        "[k8s.io] Pods d [Serial] [NodeConformance]",
        "[k8s.io] Pods e",
    ];

    fn select(focus: Option<&str>, shard: Option<Shard>) -> Result<Selected> {
        let wanted = Wanted { focus: focus.map(str::to_owned), shard };
        manifest(&SPECS).select(&wanted)
    }

    #[test]
    fn what_is_left_out_has_its_reason_and_what_is_no_conformance_is_not_there() {
        let selected = select(None, None).unwrap();
        assert_eq!(selected.run, [SPECS[1], SPECS[2], SPECS[3]]);
        let reasons: Vec<&str> = selected.skipped.iter().map(|one| one.reason.as_str()).collect();
        assert!(reasons[0].starts_with("needs a network"), "{reasons:?}");
        assert_eq!(reasons[1], "is marked [Serial]");
        assert_eq!(select(Some("Pods b"), None).unwrap().run, [SPECS[2]]);
    }

    #[test]
    fn shards_share_all_specs_and_none_twice() {
        let all = select(None, None).unwrap();
        for of in 1..=3 {
            let parts: Vec<Selected> =
                (1..=of).map(|n| select(None, Some(Shard::new(n, of).unwrap())).unwrap()).collect();
            let mut run: Vec<String> = parts.iter().flat_map(|part| part.run.clone()).collect();
            run.sort();
            assert_eq!(run, all.run);
            let skipped: usize = parts.iter().map(|part| part.skipped.len()).sum();
            assert_eq!(skipped, all.skipped.len());
        }
        for (number, of) in [(0, 3), (4, 3), (1, 0)] {
            assert!(Shard::new(number, of).is_err(), "{number}/{of}");
        }
    }

    #[test]
    fn a_focus_that_leaves_nothing_to_run_is_an_error_that_says_why() {
        let says = |focus| select(Some(focus), None).unwrap_err().to_string();
        assert!(says("no such spec").contains("matches"));
        assert!(says("pull image").contains("needs a network"));
        assert!(says("Pods e").contains("matches"));
        assert!(says("(").contains("no regular expression"));
    }

    #[test]
    fn the_suites_pattern_matches_its_specs_and_no_others() {
        let pattern = Regex::new(&pattern(&[SPECS[1].to_owned(), SPECS[2].to_owned()])).unwrap();
        let told = |spec: &str| format!("E2eNode Suite [Top Level] {spec}");
        for (spec, wanted) in SPECS.iter().zip([false, true, true, false, false, false]) {
            assert_eq!(pattern.is_match(&told(spec)), wanted, "{spec}");
        }
        assert!(!pattern.is_match(&told("[k8s.io] Pods a [NodeConformance] and more")));
    }
}

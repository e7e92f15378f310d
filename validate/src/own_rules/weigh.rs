//! From what was found of a rule's resources to what comes of the rule.

use nodekiln_goss::{Open, Outcome as Found, Resource, Target, Verdict as Said, judge};

use crate::report::Outcome;
use crate::rules::Verdict;

/// What comes of a rule whose check is `check`, by `target`; `last` where nobody else is asked for the rule.
pub(super) fn outcome(check: &[Resource], target: &dyn Target, last: bool) -> Outcome {
    let found: Vec<Found> = check.iter().map(|resource| judge(resource, target)).collect();
    of_all(&found, last)
}

/// A rule passes where all that it wants was judged and is as wanted. One attribute that is not fails it; one that could
/// not be judged leaves it unproven until somebody else is asked, and not asked where there is nobody. What another
/// attribute settles (the mode of a file that is absent, as wanted) and what the file says to skip is no matter.
fn of_all(found: &[Found], last: bool) -> Outcome {
    let mut attributes = Attributes::default();
    for one in found {
        let of = match found.len() {
            1 => String::new(),
            _ => format!("{} {}: ", one.kind, one.id),
        };
        attributes.take(one, &of);
    }
    let Attributes { wrong, open, never, skipped, good } = attributes;
    let good = good.join("; ");
    let not_judged = |why: &[String]| {
        let seen = if good.is_empty() { String::new() } else { format!("{good}; ") };
        format!("{seen}not judged: {}", why.join("; "))
    };
    Outcome::Judged(if !wrong.is_empty() {
        Verdict::Fail(wrong.join("; "))
    } else if !never.is_empty() || (last && !open.is_empty()) {
        return Outcome::Unasked(not_judged(&[never, open].concat()));
    } else if !open.is_empty() {
        Verdict::NotProven(not_judged(&open))
    } else if good.is_empty() {
        Verdict::Skipped(skipped.join("; "))
    } else {
        Verdict::Pass(good)
    })
}

/// What was found of the attributes of a rule's resources.
#[derive(Default)]
struct Attributes {
    wrong: Vec<String>,
    /// Those that somebody else could judge.
    open: Vec<String>,
    /// Those that nodekiln does not judge.
    never: Vec<String>,
    skipped: Vec<String>,
    good: Vec<String>,
}

impl Attributes {
    /// Takes what was found of one resource; `of` stands before each text.
    fn take(&mut self, found: &Found, of: &str) {
        let mut as_wanted = Vec::new();
        for result in &found.results {
            let told = |text: &dyn std::fmt::Display| match result.attribute {
                "*" => format!("{of}{text}"),
                attribute => format!("{of}{attribute}: {text}"),
            };
            match &result.verdict {
                Said::Pass => as_wanted.push(result.attribute),
                Said::Fail(mismatch) => self.wrong.push(told(mismatch)),
                Said::Skipped { reason, open } => match open {
                    Open::Settled => self.skipped.push(told(reason)),
                    Open::Here => self.open.push(told(reason)),
                    Open::Everywhere => self.never.push(told(reason)),
                },
            }
        }
        if !as_wanted.is_empty() {
            self.good.push(format!("{of}{} as wanted", as_wanted.join(", ")));
        }
    }
}

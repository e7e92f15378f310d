//! From what was found of a rule's resources to the rule's verdict.

use nodekiln_goss::{Outcome, Resource, Target, Verdict as Said, judge};

use crate::rules::Verdict;

/// What a rule says whose check is `check`, of `target`.
pub(super) fn verdict(check: &[Resource], target: &dyn Target) -> Verdict {
    let outcomes: Vec<Outcome> = check.iter().map(|resource| judge(resource, target)).collect();
    of_outcomes(&outcomes)
}

/// A rule passes where all that it wants was judged and is as wanted. One attribute that is not fails it; one that could
/// not be judged leaves it unproven. What another attribute settles (the mode of a file that is absent, as wanted) and what the
/// file says to skip is no matter.
fn of_outcomes(outcomes: &[Outcome]) -> Verdict {
    let (mut wrong, mut open, mut skipped, mut good) = (vec![], vec![], vec![], vec![]);
    for outcome in outcomes {
        let of = match outcomes.len() {
            1 => String::new(),
            _ => format!("{} {}: ", outcome.kind, outcome.id),
        };
        let mut as_wanted = Vec::new();
        for result in &outcome.results {
            let told = |text: &dyn std::fmt::Display| match result.attribute {
                "*" => format!("{of}{text}"),
                attribute => format!("{of}{attribute}: {text}"),
            };
            match &result.verdict {
                Said::Pass => as_wanted.push(result.attribute),
                Said::Fail(mismatch) => wrong.push(told(mismatch)),
                Said::Skipped { reason, open: true } => open.push(told(reason)),
                Said::Skipped { reason, open: false } => skipped.push(told(reason)),
            }
        }
        if !as_wanted.is_empty() {
            good.push(format!("{of}{} as wanted", as_wanted.join(", ")));
        }
    }
    let good = good.join("; ");
    if !wrong.is_empty() {
        Verdict::Fail(wrong.join("; "))
    } else if !open.is_empty() {
        let seen = if good.is_empty() { good } else { format!("{good}; ") };
        Verdict::NotProven(format!("{seen}not judged: {}", open.join("; ")))
    } else if good.is_empty() {
        Verdict::Skipped(skipped.join("; "))
    } else {
        Verdict::Pass(good)
    }
}

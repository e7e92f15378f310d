//! The rule on Kubernetes' own suite for nodes.

use nodekiln_words::Result;

use super::{Applies, Ask, Context, Judge, Rule, Severity, Software, Verdict};
use crate::Tier;
use crate::guest::Output;

/// Specs that are named where several failed.
const NAMED: usize = 3;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "node-conformance",
    title: "Kubernetes' own specs for nodes hold",
    tier: Tier::Conformance,
    severity: Severity::Fatal,
    reads: &["e2e_node.test of the kit"],
    why: "these specs are upstream's word for what a node must do: pods, probes, volumes, limits, exec and logs",
    remedy: "`conformance/batch-*.log` in the evidence has what the suite said; `--focus` runs one spec again",
    source: "Kubernetes, test/e2e_node: [NodeConformance]",
    applies: Applies::with(&[Software::Kubernetes]),
    stops_boot: false,
    judge: Judge::Machine(Ask::Nothing, specs),
}];

fn specs(_: &Output, context: &Context) -> Result<Verdict> {
    let Some(found) = context.conformance else {
        return Ok(Verdict::Skipped("the suite was not started".to_owned()));
    };
    let (failed, left) = (found.failed(), found.not_run());
    let (passed, skipped) = (found.passed().len(), found.skipped().len());
    let all = passed + failed.len() + left.len();
    Ok(match (failed.as_slice(), left.len()) {
        ([], 0) if passed > 0 => {
            let again = match found.passed_again()[..] {
                [] => String::new(),
                ref again => format!(" ({} at the second attempt)", again.len()),
            };
            Verdict::Pass(format!("{passed} specs passed{again}, {skipped} were left out"))
        }
        ([], 0) => Verdict::Fail(format!("no spec passed: all {skipped} were left out")),
        ([], left) => Verdict::Fail(format!("{left} of {all} specs were not run")),
        (failed, left) => {
            let named: Vec<&str> = failed.iter().take(NAMED).copied().collect();
            let more = match failed.len() - named.len() {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            let left = if left == 0 { String::new() } else { format!("; {left} were not run") };
            let (count, named) = (failed.len(), named.join("; "));
            Verdict::Fail(format!("{count} of {all} specs failed: {named}{more}{left}"))
        }
    })
}

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use crate::checks::corpus::{Answer, Mutation, Scene};
    use crate::conformance::{Outcome, Spec};

    fn spec(guest: &mut Scene, name: &str, outcome: Outcome) {
        guest.conformance.specs.insert(name.to_owned(), Spec::once(outcome, 1.0));
    }

    pub(in crate::checks) const ANSWERS: &[Answer] = &[Answer::new(
        "node-conformance",
        "",
        &[
            Mutation::new(
                "a probe is not asked",
                "1 of 2 specs failed: [k8s.io] Probing",
                |guest| {
                    spec(guest, "[k8s.io] Probing", Outcome::Failed("expected 1 restart".into()));
                },
            ),
            Mutation::new("the guest died half-way", "1 of 2 specs were not run", |guest| {
                spec(guest, "[k8s.io] Probing", Outcome::NotRun);
            }),
            Mutation::new("every spec left itself out", "no spec passed", |guest| {
                guest.conformance.specs.clear();
                spec(guest, "[k8s.io] Pods", Outcome::Skipped("no runtime".into()));
            }),
            Mutation::new("a wrong focus", "no spec passed", |guest| {
                guest.conformance.specs.clear();
            }),
        ],
    )
    .given(|guest| spec(guest, "[k8s.io] Pods", Outcome::Passed))];
}

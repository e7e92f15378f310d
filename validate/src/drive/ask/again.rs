//! Asks what failed beside other questions about the cluster once more, alone.
//!
//! Programs that start in pods take most of a slow machine's processors from each other, so that a question may run into a
//! limit of what it asks that no machine of its own would let it reach: an etcd that answers late, a connection that is
//! given up. A cluster that is at fault fails alone too. What failed first stays in the report.

use nodekiln_words::{Failure, Result};

use super::{AT_ONCE, ask_together, fine, judge};
use crate::checks::{self, Ask, Context, Question, Turn};
use crate::guest::Guest;
use crate::report::{Judged, Outcome};
use crate::rules::{Rule, Verdict};
use crate::run::Running;

/// That many of the questions that are asked at once may fail for each other's sake; more fail for the cluster's.
const BY_CHANCE: usize = AT_ONCE - 1;

/// Asks the rules of `judged` that look at the cluster and failed there once more, one by one, where they are few.
///
/// # Errors
/// When the run is cancelled.
pub(super) fn ask_alone(
    judged: &mut [Judged],
    guest: &Guest,
    context: &Context,
    running: &Running,
) -> Result<()> {
    for (place, rule, question) in chances(judged, context) {
        running.tell(rule.title);
        let asked = ask_together(&[(rule.id, question.python)], guest, running)?;
        let answer = asked.into_iter().next().map(|(_, answer)| answer);
        let answer = answer.unwrap_or_else(|| Err("the guest does not answer".to_owned()));
        let answer = answer.map(|(answer, asked)| (answer, Some(asked))).map_err(Failure::io);
        let alone = judge(rule, answer, context)?;
        judged[place] = weighed(&judged[place], alone);
    }
    Ok(())
}

/// Which of `judged` are asked again: none where more than [`BY_CHANCE`] failed.
fn chances(judged: &[Judged], context: &Context) -> Vec<(usize, &'static Rule, Question)> {
    let looks = |rule: &&'static Rule| match checks::ask(rule) {
        Ask::Cluster(question) if question.turn == Turn::Look => Some((*rule, question)),
        _ => None,
    };
    let failed: Vec<_> = checks::rules_of(context.tier)
        .filter_map(|rule| looks(&rule))
        .filter_map(|(rule, question)| {
            let place = judged.iter().position(|judged| judged.rule.id == rule.id)?;
            (!fine(&judged[place])).then_some((place, rule, question))
        })
        .collect();
    if failed.len() > BY_CHANCE { Vec::new() } else { failed }
}

/// What counts of the two: what was said alone, with what had been said `beside` other questions.
fn weighed(beside: &Judged, alone: Judged) -> Judged {
    let outcome = match alone.outcome {
        Outcome::Judged(Verdict::Pass(seen)) => Outcome::Judged(Verdict::Pass(format!(
            "{seen}, asked alone; beside other questions it had said: {}",
            beside.seen()
        ))),
        other => other,
    };
    Judged { outcome, ..alone }
}

#[cfg(test)]
mod tests {
    use crate::Tier;
    use crate::checks::testing;
    use crate::expect::Expectations;

    use super::*;

    /// The rules of the kubeadm tier, of which `failed` fail, and `unasked` could not be asked.
    fn judged(failed: &[&str], unasked: &[&str]) -> Vec<Judged> {
        let outcome = |id: &str| {
            if failed.contains(&id) {
                Outcome::Judged(Verdict::Fail("no".into()))
            } else if unasked.contains(&id) {
                Outcome::Unasked("timed out".into())
            } else {
                Outcome::Judged(Verdict::Pass("yes".into()))
            }
        };
        checks::rules_of(Tier::Kubeadm).map(|rule| Judged::new(rule, outcome(rule.id))).collect()
    }

    fn asked_again(failed: &[&str], unasked: &[&str]) -> Vec<&'static str> {
        let expect = Expectations::default();
        let context = testing::context(&expect, Tier::Kubeadm);
        let chances = chances(&judged(failed, unasked), &context);
        chances.into_iter().map(|(_, rule, _)| rule.id).collect()
    }

    #[test]
    fn one_or_two_that_failed_beside_others_are_asked_alone() {
        assert_eq!(asked_again(&["pod-to-pod"], &[]), ["pod-to-pod"]);
        assert_eq!(asked_again(&["pod-to-pod"], &["pod-exec"]), ["pod-exec", "pod-to-pod"]);
    }

    #[test]
    fn where_many_fail_the_cluster_is_at_fault() {
        assert!(asked_again(&["pod-to-pod", "host-port"], &["pod-exec"]).is_empty());
    }

    #[test]
    fn what_ends_something_or_asks_no_cluster_is_not_asked_again() {
        assert!(asked_again(&["pod-restart", "system-state"], &["pod-eviction"]).is_empty());
    }

    #[test]
    fn what_is_said_alone_counts_and_the_first_answer_is_told() {
        let rule = checks::rules().find(|rule| rule.id == "pod-to-pod").unwrap();
        let said = |verdict: Verdict| Judged::new(rule, Outcome::Judged(verdict));
        let beside = said(Verdict::Fail("the pod is not reached".into()));
        let counted = weighed(&beside, said(Verdict::Pass("reached".into())));
        assert!(!counted.failed());
        assert_eq!(
            counted.seen(),
            "reached, asked alone; beside other questions it had said: the pod is not reached"
        );
        let counted = weighed(&beside, said(Verdict::Fail("still not".into())));
        assert!(counted.failed());
        assert_eq!(counted.seen(), "still not");
    }
}

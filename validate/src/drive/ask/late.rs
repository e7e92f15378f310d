//! Questions that are asked after the others: of a cluster that a second machine has joined, and of its end.

use std::time::{Duration, SystemTime};

use nodekiln_words::{Class, Result};

use super::unasked_or_judged;
use crate::Tier;
use crate::checks::{self, Ask, Asked, Context, rules_of};
use crate::deadlines::Stage;
use crate::guest::{Guest, Output};
use crate::report::{Judged, Outcome};
use crate::rules::{Rule, Verdict};
use crate::run::Running;

/// What came of the questions that are asked after the others, by rule: answers and when they were asked for, or why
/// there are none.
pub(in crate::drive) type Late =
    Vec<(&'static Rule, std::result::Result<(Output, Asked), Outcome>)>;

/// Asks what ends the cluster of the machine that it calls `node`: nothing can be asked of it afterwards.
pub(in crate::drive) fn ends(
    guest: &Guest,
    running: &Running,
    tier: Tier,
    node: &str,
) -> Result<Late> {
    let limit = running.deadlines().of(Stage::Rules);
    late(guest, running, tier, ["end", node], limit, |ask| match ask {
        Ask::End(script) => Some(script),
        _ => None,
    })
}

/// Asks about the node that has joined the guest's cluster.
pub(in crate::drive) fn joined(
    guest: &Guest,
    running: &Running,
    tier: Tier,
    node: &str,
) -> Result<Late> {
    let limit = running.deadlines().of(Stage::Joined);
    late(guest, running, tier, ["joined", node], limit, |ask| match ask {
        Ask::Joined(script) => Some(script),
        _ => None,
    })
}

fn late(
    guest: &Guest,
    running: &Running,
    tier: Tier,
    [name, node]: [&str; 2],
    limit: Duration,
    chosen: impl Fn(Ask) -> Option<&'static str>,
) -> Result<Late> {
    let mut late = Late::new();
    for rule in rules_of(tier) {
        let Some(script) = chosen(checks::ask(rule)) else { continue };
        let patience = running.deadlines().patience().to_string();
        let before = SystemTime::now();
        let answer = match guest.run(&["sh", "-c", script, name, node, &patience], limit) {
            Err(failure) if failure.class() == Class::Interrupted => return Err(failure),
            answer => answer.map_err(|failure| Outcome::Unasked(failure.chain().join(": "))),
        };
        let asked = Asked { before, after: SystemTime::now() };
        late.push((rule, answer.map(|output| (output, asked))));
    }
    Ok(late)
}

/// `outcome` for each rule on a second node.
pub(in crate::drive) fn unjoined(tier: Tier, outcome: &Outcome) -> Late {
    let rules = rules_of(tier).filter(|rule| matches!(checks::ask(rule), Ask::Joined(_)));
    rules.map(|rule| (rule, Err(outcome.clone()))).collect()
}

/// Whether none of the answers that came late turns its rule red.
pub(in crate::drive) fn sound(late: &Late, context: &Context) -> bool {
    late.iter().all(|(rule, answer)| match answer {
        Ok((answer, _)) => {
            !matches!(checks::verdict(rule, answer, context), Err(_) | Ok(Verdict::Fail(_)))
        }
        Err(outcome) => !matches!(outcome, Outcome::Unasked(_) | Outcome::Judged(Verdict::Fail(_))),
    })
}

/// Judges the rules of the questions that were asked after the others.
pub(in crate::drive) fn judge_late(rules: &mut [Judged], late: &Late, context: &Context) {
    for (rule, answer) in late {
        let (outcome, took) = match answer {
            Err(outcome) => (outcome.clone(), None),
            Ok((answer, asked)) => {
                (unasked_or_judged(checks::verdict(rule, answer, context)), Some(asked.seconds()))
            }
        };
        for judged in rules.iter_mut().filter(|judged| judged.rule.id == rule.id) {
            (judged.outcome, judged.took) = (outcome.clone(), took);
        }
    }
}

//! Users' rules in a running guest: what is asked of it, each question once, and the verdicts on its answers.

use std::collections::BTreeMap;

use nodekiln_goss::guest::{Answer, Answers, Ask, Question, plan};
use nodekiln_goss::{Resource, Subject};
use nodekiln_words::{Class, Result};

use super::{OwnRule, OwnRules, Where, weigh};
use crate::Tier;
use crate::deadlines::Deadlines;
use crate::report::Judged;
use crate::rules::Verdict;

/// Judges the rules that a run of `tier` asks a guest about. `run` runs one thing in it. A rule whose question the guest
/// could not be asked counts as not asked; so does what is left when it dies meanwhile.
///
/// # Errors
/// When somebody asked to stop.
pub(crate) fn judge(
    own: &OwnRules,
    tier: Tier,
    cluster: bool,
    deadlines: Deadlines,
    run: &mut dyn FnMut(&Ask) -> Result<Answer>,
) -> Result<Vec<Judged>> {
    let mut guest = Asked::default();
    let mut judged = Vec::new();
    for rule in own.in_guest(tier) {
        if rule.judged == Where::Cluster && !cluster {
            let reason = "kubeadm init did not succeed: see bootstrap-sentinel";
            judged.push(rule.says(Verdict::Skipped(reason.into())));
            continue;
        }
        judged.push(guest.judge(rule, deadlines, run)?);
    }
    Ok(judged)
}

/// What a guest was asked.
#[derive(Default)]
struct Asked {
    answers: Answers,
    /// Why there is no answer, by the question; nothing where there is one.
    asked: BTreeMap<Question, Option<String>>,
}

impl Asked {
    fn judge(
        &mut self,
        rule: &OwnRule,
        deadlines: Deadlines,
        run: &mut dyn FnMut(&Ask) -> Result<Answer>,
    ) -> Result<Judged> {
        let check: Vec<Resource> =
            rule.check.iter().map(|resource| stretched(resource, deadlines)).collect();
        for ask in plan(&check) {
            if let Some(why) = self.ask(ask, run)? {
                return Ok(rule.unasked(why));
            }
        }
        Ok(rule.comes_to(weigh::outcome(&check, &self.answers, true)))
    }

    /// Asks what was not asked before; why there is no answer, if there is none.
    fn ask(
        &mut self,
        ask: Ask,
        run: &mut dyn FnMut(&Ask) -> Result<Answer>,
    ) -> Result<Option<String>> {
        if let Some(known) = self.asked.get(&ask.question) {
            return Ok(known.clone());
        }
        let why = match run(&ask) {
            Ok(answer) => {
                self.answers.insert(ask.question.clone(), answer);
                None
            }
            Err(failure) if failure.class() == Class::Interrupted => return Err(failure),
            Err(failure) => Some(failure.chain().join(": ")),
        };
        self.asked.insert(ask.question, why.clone());
        Ok(why)
    }
}

/// The resource with the time that its user gives it, as a guest of this speed needs it.
fn stretched(resource: &Resource, deadlines: Deadlines) -> Resource {
    let mut resource = resource.clone();
    match &mut resource.subject {
        Subject::Command(command) => command.timeout = deadlines.stretched(command.timeout),
        Subject::Http(request) => request.timeout = deadlines.stretched(request.timeout),
        _ => {}
    }
    resource
}

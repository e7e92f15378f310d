//! Which rules may fail, for what reason and until when, and what became of each waiver in a run.

use nodekiln_goss::rules::{Day, Waiver};

use crate::report::{self, Judged, Outcome, WaiverState};
use crate::rules::{SEPARATOR, Verdict, few};

/// What waivers are held against: the image, and the day of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    /// Name of the image's provider, where it is known.
    pub(crate) provider: Option<&'a str>,
    /// Name of the image's recipe, where it is known.
    pub(crate) image: Option<&'a str>,
    /// The day of the run.
    pub(crate) today: Day,
}

/// The waivers of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waivers<'a> {
    pub(crate) list: &'a [Waiver],
    pub(crate) scope: Scope<'a>,
}

impl<'a> Waivers<'a> {
    /// Whether today's waivers let pass what a rule found.
    pub(crate) fn let_pass(self, judged: &Judged) -> bool {
        matches!(self.outcome(judged), Some(Outcome::Judged(Verdict::Waived(_))))
    }

    /// Has the rules that fail, warn or could not be asked pass where waivers hold, and tells in the others' verdicts
    /// what of it is waived and that their waiver has ended. What became of each waiver comes back.
    pub(crate) fn apply(self, rules: &mut [Judged]) -> Vec<report::Waiver> {
        let told = self.list.iter().map(|waiver| self.told(waiver, rules)).collect();
        for judged in rules.iter_mut() {
            if let Some(outcome) = self.outcome(judged) {
                judged.outcome = outcome;
            }
        }
        told
    }

    /// What waivers make of a rule's outcome; nothing where they change nothing.
    fn outcome(self, judged: &Judged) -> Option<Outcome> {
        let id = judged.rule.id.as_str();
        let whole = self.of(id).filter(|waiver| waiver.finding.is_none());
        let whole = whole.max_by_key(|waiver| waiver.until);
        let holds = whole.filter(|waiver| self.holds(waiver));
        match (&judged.outcome, holds) {
            (Outcome::Judged(verdict @ (Verdict::Fail(_) | Verdict::Warn(_))), holds) => {
                let verdict = match holds {
                    Some(waiver) => {
                        Verdict::Waived(format!("{} ({})", judged.told(), until(waiver)))
                    }
                    None => self.in_parts(id, verdict, whole)?,
                };
                Some(Outcome::Judged(verdict))
            }
            // Whatever the answer had been, it would have been let pass.
            (Outcome::Unasked(why), Some(waiver)) => {
                let seen = format!("not asked: {why} ({})", until(waiver));
                Some(Outcome::Judged(Verdict::Waived(seen)))
            }
            _ => None,
        }
    }

    /// What is left of a verdict without the findings that have a waiver of their own; `whole` is one that has ended.
    fn in_parts(self, id: &str, verdict: &Verdict, whole: Option<&Waiver>) -> Option<Verdict> {
        let waiver_of = |finding: &str| self.of(id).find(|one| self.lets(one, finding));
        let (waived, left): (Vec<&str>, Vec<&str>) =
            verdict.findings().partition(|finding| waiver_of(finding).is_some());
        let of = |waiver: &Waiver| -> Vec<&str> {
            let own = waived.iter().filter(|finding| waiver_of(finding) == Some(waiver));
            own.copied().collect()
        };
        let used =
            self.of(id).map(|waiver| (waiver, of(waiver))).filter(|(_, own)| !own.is_empty());
        if left.is_empty() {
            let told = used.map(|(waiver, own)| format!("{} ({})", few(&own), until(waiver)));
            return Some(Verdict::Waived(told.collect::<Vec<_>>().join(SEPARATOR)));
        }
        let used = used.map(|(waiver, own)| format!(" ({}: {})", until(waiver), own.join(", ")));
        let for_left = |one: &&Waiver| one.finding.is_some() && left.iter().any(|f| one.is_for(f));
        let ended =
            self.of(id).filter(for_left).chain(whole).map(|Waiver { until, reason, .. }| {
                format!(" (its waiver ended on {until}: {reason})")
            });
        let tail: String = used.chain(ended).collect();
        let seen = Some(format!("{}{tail}", left.join(SEPARATOR))).filter(|_| !tail.is_empty())?;
        Some(match verdict {
            Verdict::Warn(_) => Verdict::Warn(seen),
            _ => Verdict::Fail(seen),
        })
    }

    /// The waivers of the rule `id` that are for this image.
    fn of(self, id: &str) -> impl Iterator<Item = &'a Waiver> {
        self.list.iter().filter(move |waiver| waiver.rule == id && self.covers(waiver))
    }

    /// One for a provider or an image is not for those that nobody knows.
    fn covers(self, waiver: &Waiver) -> bool {
        let Scope { provider, image, .. } = self.scope;
        waiver.covers(provider.unwrap_or_default(), image.unwrap_or_default())
    }

    fn holds(self, waiver: &Waiver) -> bool {
        !waiver.expired(self.scope.today)
    }

    /// Whether it is for this finding in particular, and holds.
    fn lets(self, waiver: &Waiver, finding: &str) -> bool {
        waiver.finding.is_some() && self.holds(waiver) && waiver.is_for(finding)
    }

    fn told(self, waiver: &Waiver, rules: &[Judged]) -> report::Waiver {
        let judged = rules.iter().find(|judged| judged.rule.id == waiver.rule);
        let state = match judged {
            _ if !self.covers(waiver) => WaiverState::Elsewhere,
            Some(judged) => self.state(waiver, judged),
            None => WaiverState::NotJudged,
        };
        report::Waiver {
            rule: waiver.rule.clone(),
            reason: waiver.reason.clone(),
            until: waiver.until.to_string(),
            provider: waiver.provider.clone(),
            image: waiver.image.clone(),
            finding: waiver.finding.clone(),
            place: waiver.place.to_string(),
            state,
        }
    }

    /// What became of a waiver for this image.
    fn state(self, waiver: &Waiver, judged: &Judged) -> WaiverState {
        let found = match &judged.outcome {
            Outcome::Judged(verdict @ (Verdict::Fail(_) | Verdict::Warn(_))) => {
                verdict.findings().any(|finding| waiver.is_for(finding))
            }
            Outcome::Unasked(_) if waiver.finding.is_none() && self.holds(waiver) => true,
            Outcome::Judged(Verdict::Pass(_)) => false,
            _ => return WaiverState::NotJudged,
        };
        match (found, self.holds(waiver)) {
            (true, true) => WaiverState::Used,
            (true, false) if !self.let_pass(judged) => WaiverState::Expired,
            _ => WaiverState::NotNeeded,
        }
    }
}

fn until(waiver: &Waiver) -> String {
    format!("waived until {}: {}", waiver.until, waiver.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::sample;

    fn waivers(text: &str) -> Vec<Waiver> {
        nodekiln_goss::rules::of_text("n.rules.yaml", text).unwrap().waivers
    }

    fn scope(today: &str) -> Scope<'static> {
        Scope { provider: Some("qemu"), image: Some("node"), today: today.parse().unwrap() }
    }

    /// The sample report under these waivers on this day: the rule `id`, and what became of each waiver.
    fn applied(text: &str, today: &str, id: &str) -> (Judged, Vec<WaiverState>, bool) {
        let (mut report, list, scope) = (sample(), waivers(text), scope(today));
        report.rules.retain(|judged| !matches!(judged.outcome, Outcome::Unasked(_)));
        report.waivers = Waivers { list: &list, scope }.apply(&mut report.rules);
        let judged = report.rules.iter().find(|judged| judged.rule.id == id).unwrap().clone();
        let states = report.waivers.iter().map(|waiver| waiver.state).collect();
        (judged, states, report.passed())
    }

    const SWAP: &str = "waivers:\n- {rule: swap, reason: zram is wanted, until: 2027-01-31}\n";

    #[test]
    fn a_waived_failure_does_not_fail_the_image_and_tells_reason_and_end() {
        for today in ["2026-11-22", "2027-01-31"] {
            let (judged, states, passed) = applied(SWAP, today, "swap");
            assert_eq!(
                judged.outcome,
                Outcome::Judged(Verdict::Waived(
                    "swap is on: /dev/zram0 (waived until 2027-01-31: zram is wanted)".into()
                ))
            );
            assert_eq!((states.as_slice(), passed), (&[WaiverState::Used][..], true));
        }
    }

    #[test]
    fn from_the_day_after_its_end_on_a_waiver_fails_the_image_and_says_so() {
        let (judged, states, passed) = applied(SWAP, "2027-02-01", "swap");
        assert!(judged.failed(), "{judged:?}");
        assert!(
            judged.seen().ends_with("(its waiver ended on 2027-01-31: zram is wanted)"),
            "{judged:?}"
        );
        assert_eq!((states.as_slice(), passed), (&[WaiverState::Expired][..], false));
    }

    #[test]
    fn a_waiver_of_a_rule_that_passes_is_not_needed() {
        let text = SWAP.replace("swap", "multi-user");
        for today in ["2026-11-22", "2027-02-01"] {
            let (judged, states, passed) = applied(&text, today, "multi-user");
            assert!(matches!(judged.verdict(), Some(Verdict::Pass(_))));
            assert_eq!((states.as_slice(), passed), (&[WaiverState::NotNeeded][..], false));
        }
    }

    #[test]
    fn what_was_not_judged_neither_needs_a_waiver_nor_could_do_without() {
        let not_proven = SWAP.replace("swap", "cluster-dns");
        assert_eq!(applied(&not_proven, "2026-11-22", "swap").1, [WaiverState::NotJudged]);
        let absent = SWAP.replace("swap", "kubelet-up");
        assert_eq!(applied(&absent, "2026-11-22", "swap").1, [WaiverState::NotJudged]);
    }

    #[test]
    fn a_warning_can_be_waived_too() {
        let text = SWAP.replace("swap", "journal");
        let (judged, states, _) = applied(&text, "2026-11-22", "journal");
        assert!(matches!(judged.verdict(), Some(Verdict::Waived(_))), "{judged:?}");
        assert_eq!(states, [WaiverState::Used]);
        let (judged, ..) = applied(&text, "2027-02-01", "journal");
        assert!(matches!(judged.verdict(), Some(Verdict::Warn(seen)) if seen.contains("ended on")));
    }

    #[test]
    fn a_waiver_holds_for_its_provider_and_image_alone() {
        for (other, state) in [
            ("provider: qemu", WaiverState::Used),
            ("image: node", WaiverState::Used),
            ("provider: aws", WaiverState::Elsewhere),
            ("provider: qemu, image: other", WaiverState::Elsewhere),
        ] {
            let text = SWAP.replace("}", &format!(", {other}}}"));
            let (judged, states, passed) = applied(&text, "2026-11-22", "swap");
            assert_eq!(states, [state], "{other}");
            assert_eq!(passed, state == WaiverState::Used, "{other}");
            assert_eq!(judged.failed(), !passed);
        }
        // What nobody knows is no provider's.
        let list = waivers(&SWAP.replace("}", ", provider: qemu}"));
        let nobody = Scope { provider: None, ..scope("2026-11-22") };
        let report = sample();
        let swap = report.rules.iter().find(|judged| judged.rule.id == "swap").unwrap();
        assert!(Waivers { list: &list, scope: scope("2026-11-22") }.let_pass(swap));
        assert!(!Waivers { list: &list, scope: nobody }.let_pass(swap));
    }

    #[test]
    fn of_two_waivers_the_one_that_holds_counts() {
        let text = format!("{SWAP}- {{rule: swap, reason: later, until: 2028-01-31}}\n");
        let (judged, states, passed) = applied(&text, "2027-02-01", "swap");
        assert!(judged.seen().ends_with("(waived until 2028-01-31: later)"), "{judged:?}");
        assert_eq!(states, [WaiverState::NotNeeded, WaiverState::Used]);
        assert!(passed);
    }

    /// The rule `swap` where it found these, under these waivers, and what became of each.
    fn found(findings: &[&str], text: &str, today: &str) -> (Verdict, Vec<WaiverState>) {
        let (list, scope) = (waivers(text), scope(today));
        let mut rules = sample().rules;
        rules.retain(|judged| judged.rule.id == "swap");
        let all: Vec<String> = findings.iter().map(|one| (*one).to_owned()).collect();
        rules[0].outcome = Outcome::Judged(Verdict::of(&all, "none"));
        let told = Waivers { list: &list, scope }.apply(&mut rules);
        let states = told.iter().map(|waiver| waiver.state).collect();
        (rules[0].verdict().unwrap().clone(), states)
    }

    const ONE: &str = "waivers:\n- {rule: swap, finding: /opt/a, reason: x, until: 2027-01-31}\n";

    #[test]
    fn a_waiver_for_a_finding_is_for_no_other() {
        let (verdict, states) = found(&["/opt/a is set-uid"], ONE, "2026-11-22");
        let waived = "/opt/a is set-uid (waived until 2027-01-31: x)";
        assert_eq!(verdict, Verdict::Waived(waived.into()));
        assert_eq!(states, [WaiverState::Used]);
        let both = ["/opt/a is set-uid", "/opt/ab is set-uid"];
        let (verdict, states) = found(&both, ONE, "2026-11-22");
        let left = "/opt/ab is set-uid (waived until 2027-01-31: x: /opt/a is set-uid)";
        assert_eq!(verdict, Verdict::Fail(left.into()));
        assert_eq!(states, [WaiverState::Used]);
        let (verdict, states) = found(&both[1..], ONE, "2026-11-22");
        assert_eq!(verdict, Verdict::Fail(both[1].into()));
        assert_eq!(states, [WaiverState::NotNeeded]);
        let (verdict, states) = found(&both, ONE, "2027-02-01");
        assert!(
            matches!(&verdict, Verdict::Fail(seen) if seen.starts_with("/opt/a is set-uid; /opt/ab")
                && seen.ends_with("(its waiver ended on 2027-01-31: x)")),
            "{verdict:?}"
        );
        assert_eq!(states, [WaiverState::Expired]);
        assert_eq!(found(&[], ONE, "2026-11-22").1, [WaiverState::NotNeeded]);
    }

    #[test]
    fn several_waivers_let_their_own_findings_pass_and_one_for_all_the_rest() {
        let two = format!("{ONE}- {{rule: swap, finding: zram, reason: y, until: 2027-06-30}}\n");
        let both = ["/opt/a is set-uid", "swap on zram0"];
        let (verdict, states) = found(&both, &two, "2026-11-22");
        let waived = "/opt/a is set-uid (waived until 2027-01-31: x); swap on zram0 (waived until 2027-06-30: y)";
        assert_eq!(verdict, Verdict::Waived(waived.into()));
        assert_eq!(states, [WaiverState::Used, WaiverState::Used]);
        let (verdict, _) = found(&both, &two, "2027-02-01");
        let left = "/opt/a is set-uid (waived until 2027-06-30: y: swap on zram0) (its waiver ended on 2027-01-31: x)";
        assert_eq!(verdict, Verdict::Fail(left.into()));
        let all = format!("{ONE}- {{rule: swap, reason: y, until: 2027-06-30}}\n");
        let (verdict, states) = found(&both, &all, "2027-02-01");
        assert!(matches!(verdict, Verdict::Waived(_)), "{verdict:?}");
        assert_eq!(states, [WaiverState::NotNeeded, WaiverState::Used]);
    }

    #[test]
    fn a_rule_that_may_fail_may_as_well_not_be_asked_but_for_a_waiver_of_one_finding() {
        let of = |text: &str| {
            let (mut rules, list) = (sample().rules, waivers(text));
            rules.retain(|judged| judged.rule.id == "hostname");
            let told = Waivers { list: &list, scope: scope("2026-11-22") }.apply(&mut rules);
            (rules[0].outcome.clone(), told[0].state)
        };
        let (outcome, state) = of(&SWAP.replace("swap", "hostname"));
        let waived = "not asked: no answer (waived until 2027-01-31: zram is wanted)";
        assert_eq!(outcome, Outcome::Judged(Verdict::Waived(waived.into())));
        assert_eq!(state, WaiverState::Used);
        let (outcome, state) = of(&ONE.replace("swap", "hostname"));
        assert!(matches!(outcome, Outcome::Unasked(_)));
        assert_eq!(state, WaiverState::NotJudged);
    }
}

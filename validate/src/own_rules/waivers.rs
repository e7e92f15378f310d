//! Which rules may fail, for what reason and until when, and what became of each waiver in a run.

use nodekiln_goss::rules::{Day, Waiver};

use crate::report::{self, Judged, Outcome, WaiverState};
use crate::rules::Verdict;

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
    /// The waiver by which the rule `id` may fail today; of several the one that ends last.
    pub(crate) fn holds(self, id: &str) -> Option<&'a Waiver> {
        let today = self.scope.today;
        self.of(id).filter(|waiver| !waiver.expired(today)).max_by_key(|waiver| waiver.until)
    }

    /// Has the rules that fail, or warn, pass where a waiver holds, and tells in the others' verdicts that their waiver
    /// has ended. What became of each waiver comes back.
    pub(crate) fn apply(self, rules: &mut [Judged]) -> Vec<report::Waiver> {
        let told = self.list.iter().map(|waiver| self.told(waiver, rules)).collect();
        for judged in rules.iter_mut().filter(|judged| wants_waiver(judged)) {
            let id = judged.rule.id.as_str();
            let (waiver, holds) = match (self.holds(id), self.of(id).max_by_key(|one| one.until)) {
                (Some(waiver), _) => (waiver, true),
                (None, Some(ended)) => (ended, false),
                (None, None) => continue,
            };
            let Waiver { until, reason, .. } = waiver;
            let seen = judged.seen().to_owned();
            judged.outcome = Outcome::Judged(match (holds, judged.failed()) {
                (true, _) => Verdict::Waived(format!("{seen} (waived until {until}: {reason})")),
                (false, true) => Verdict::Fail(ended(&seen, *until, reason)),
                (false, false) => Verdict::Warn(ended(&seen, *until, reason)),
            });
        }
        told
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

    fn told(self, waiver: &Waiver, rules: &[Judged]) -> report::Waiver {
        let judged = rules.iter().find(|judged| judged.rule.id == waiver.rule);
        let state = match judged {
            _ if !self.covers(waiver) => WaiverState::Elsewhere,
            Some(judged) if wants_waiver(judged) => match self.holds(&waiver.rule) {
                Some(_) if waiver.expired(self.scope.today) => WaiverState::NotNeeded,
                Some(_) => WaiverState::Used,
                None => WaiverState::Expired,
            },
            Some(judged) if matches!(judged.verdict(), Some(Verdict::Pass(_))) => {
                WaiverState::NotNeeded
            }
            _ => WaiverState::NotJudged,
        };
        report::Waiver {
            rule: waiver.rule.clone(),
            reason: waiver.reason.clone(),
            until: waiver.until.to_string(),
            provider: waiver.provider.clone(),
            image: waiver.image.clone(),
            place: waiver.place.to_string(),
            state,
        }
    }
}

/// Whether a rule says no, or warns.
fn wants_waiver(judged: &Judged) -> bool {
    matches!(judged.verdict(), Some(Verdict::Fail(_) | Verdict::Warn(_)))
}

fn ended(seen: &str, until: Day, reason: &str) -> String {
    format!("{seen} (its waiver ended on {until}: {reason})")
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
        assert!(Waivers { list: &list, scope: nobody }.holds("swap").is_none());
    }

    #[test]
    fn of_two_waivers_the_one_that_holds_counts() {
        let text = format!("{SWAP}- {{rule: swap, reason: later, until: 2028-01-31}}\n");
        let (judged, states, passed) = applied(&text, "2027-02-01", "swap");
        assert!(judged.seen().ends_with("(waived until 2028-01-31: later)"), "{judged:?}");
        assert_eq!(states, [WaiverState::NotNeeded, WaiverState::Used]);
        assert!(passed);
    }
}

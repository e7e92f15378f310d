//! Rules that users bring: goss files and `NAME.rules.yaml`, which the room `goss` reads, judged here beside
//! nodekiln's own: on the image's tree (`tree`), and in its running guest (`guest`).
//!
//! A resource of a goss file is one rule, called `KIND:KEY`; goss asks a running machine, so what the guest says of it
//! holds where there is one. A rule of a rules file has its own id and one or more resources. Waivers (`waivers`) say which rules, of users' or nodekiln's own, may fail for a time.

mod guest;
mod read;
mod record;
#[cfg(test)]
mod tests;
mod tree;
mod volatile;
mod waivers;
mod weigh;

use nodekiln_goss::{Kind, Place, Problem, Problems, Resource, needs_a_running_machine};
use nodekiln_words::Result;

pub(crate) use guest::judge as judge_in_guest;
pub use nodekiln_goss::Dialect;
pub use nodekiln_goss::file::Settings;
pub use nodekiln_goss::rules::{Day, Waiver};
pub use read::Sources;
pub(crate) use waivers::{Scope, Waivers};

use crate::Tier;
use crate::report::{Judged, Outcome};
use crate::rules::{Record, Severity, Verdict};
use crate::tree::Tree;

/// The rules and waivers of users' files.
#[derive(Clone, Debug, Default)]
pub struct OwnRules {
    rules: Vec<OwnRule>,
    waivers: Vec<Waiver>,
}

/// One rule.
#[derive(Clone, Debug)]
pub(crate) struct OwnRule {
    record: Record,
    check: Vec<Resource>,
    judged: Where,
    /// Where its file says it.
    place: Place,
}

/// Where a rule is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// On the tree.
    Tree,
    /// On the tree as far as that tells what a running machine would, and once more in a guest, whose answer holds.
    TreeAndGuest,
    /// In the guest.
    Guest,
    /// In the guest, as a node of a cluster.
    Cluster,
}

impl Where {
    /// Where `check` is judged whose rule names no tier: without a boot, as far as a tree can answer.
    fn of(check: &[Resource]) -> Self {
        let whole = |resource: &Resource| {
            let runs = resource.kind() == Some(Kind::Service) && resource.wants("running");
            !needs_a_running_machine(resource) && !runs && !volatile::is_about(resource)
        };
        if check.iter().all(whole) {
            Self::Tree
        } else if check.iter().all(needs_a_running_machine) {
            Self::Guest
        } else {
            Self::TreeAndGuest
        }
    }

    /// Where a resource of a goss file is judged.
    fn of_goss(resource: &Resource) -> Self {
        match resource.kind() {
            _ if resource.skip => Self::Tree,
            // Nothing that a machine knows is in it.
            None | Some(Kind::Matching) => Self::Tree,
            Some(_) if needs_a_running_machine(resource) => Self::Guest,
            Some(_) => Self::TreeAndGuest,
        }
    }

    /// The lowest tier that judges it.
    fn tier(self) -> Tier {
        match self {
            Self::Tree | Self::TreeAndGuest => Tier::Static,
            Self::Guest => Tier::Boot,
            Self::Cluster => Tier::Kubeadm,
        }
    }
}

impl OwnRules {
    /// What each rule is, in the order of the files.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.rules.iter().map(|rule| &rule.record)
    }

    /// The waivers, in the order of the files.
    #[must_use]
    pub fn waivers(&self) -> &[Waiver] {
        &self.waivers
    }

    /// Refuses waivers that are to hold for years from `today` on.
    ///
    /// # Errors
    /// With the place of each, where there are any.
    pub(crate) fn bounded(&self, today: Day) -> Result<()> {
        let mut problems = Problems::default();
        for waiver in self.waivers.iter().filter(|waiver| waiver.too_long(today)) {
            let message = format!("the waiver of `{}` holds until {}", waiver.rule, waiver.until);
            let help = "write a day within two years; for good, change the image or the rule";
            problems.push(Problem { place: waiver.place.clone(), message, help: help.to_owned() });
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
    }

    /// How many rules a run of `tier` does not judge.
    pub(crate) fn beyond(&self, tier: Tier) -> usize {
        self.rules.iter().filter(|rule| !tier.judges(rule.record.tier)).count()
    }

    /// What the rules say that a tree can answer.
    pub(crate) fn judge_tree(&self, tree: &Tree) -> Vec<Judged> {
        let (as_is, before_a_boot) = (tree::AtRest::of(tree), tree::AtRest::before_a_boot(tree));
        let judge = |rule: &OwnRule| match rule.judged {
            Where::Tree => rule.comes_to(weigh::outcome(&rule.check, &as_is, true)),
            _ => rule.comes_to(weigh::outcome(&rule.check, &before_a_boot, false)),
        };
        self.at_rest().map(judge).collect()
    }

    /// The same where there is no tree to be judged, for what was found instead.
    pub(crate) fn without_tree(&self, verdict: &Verdict) -> Vec<Judged> {
        let judge = |rule: &OwnRule| match (rule.judged, verdict) {
            // No other tier asks for it.
            (Where::Tree, Verdict::NotProven(why)) => rule.comes_to(Outcome::Unasked(why.clone())),
            _ => rule.says(verdict.clone()),
        };
        self.at_rest().map(judge).collect()
    }

    /// The rules on a running machine where there is none that answers, because of `why`. What was judged on the tree
    /// stays as it is.
    pub(crate) fn without_guest(&self, tier: Tier, why: &str) -> Vec<Judged> {
        let rules = self.in_guest(tier).filter(|rule| rule.judged != Where::TreeAndGuest);
        rules.map(|rule| rule.says(Verdict::Skipped(why.to_owned()))).collect()
    }

    fn at_rest(&self) -> impl Iterator<Item = &OwnRule> {
        self.rules.iter().filter(|rule| matches!(rule.judged, Where::Tree | Where::TreeAndGuest))
    }

    /// The rules that a run of `tier` asks a guest about.
    fn in_guest(&self, tier: Tier) -> impl Iterator<Item = &OwnRule> {
        self.rules.iter().filter(move |rule| match rule.judged {
            Where::Tree => false,
            Where::TreeAndGuest | Where::Guest => tier.boots(),
            Where::Cluster => tier.clusters(),
        })
    }
}

impl OwnRule {
    /// The rule with what it says, weighed by its severity.
    fn says(&self, verdict: Verdict) -> Judged {
        let verdict = self.record.severity.weigh(verdict);
        Judged::of(self.record.clone(), Outcome::Judged(verdict))
    }

    /// The rule with what came of it. What cannot be judged leaves a run incomplete unless the rule is advisory.
    fn comes_to(&self, outcome: Outcome) -> Judged {
        match outcome {
            Outcome::Judged(verdict) => self.says(verdict),
            Outcome::Unasked(why) if self.record.severity == Severity::Advisory => {
                self.says(Verdict::NotProven(why))
            }
            Outcome::Unasked(why) => self.unasked(why),
        }
    }

    fn unasked(&self, why: String) -> Judged {
        Judged::of(self.record.clone(), Outcome::Unasked(why))
    }
}

/// Adds `later` to `rules`; what is judged for a second time stands where it was.
pub(crate) fn add(rules: &mut Vec<Judged>, later: Vec<Judged>) {
    for judged in later {
        match rules.iter_mut().find(|known| known.rule.id == judged.rule.id) {
            Some(known) => *known = judged,
            None => rules.push(judged),
        }
    }
}

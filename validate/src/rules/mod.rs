//! What a rule is: a record that says what is judged, when, from what, and what to do about a "no".
//!
//! The records stand in tables beside what judges them: [`crate::at_rest`] has those on an image as it lies in
//! its file, [`crate::checks`] those on a running machine. [`all`] has them in the order of reports; from it
//! come `validate --list-rules` and `docs/rules.md`.

mod applies;
pub(crate) mod benchmark;
#[cfg(test)]
mod incidents;
mod record;
mod verdict;

use nodekiln_words::Result;

pub use applies::{Applies, Facts, Family, Software};
pub use record::{Record, markdown};
pub(crate) use verdict::{SEPARATOR, few};
pub use verdict::{Severity, Verdict};

use crate::Tier;
use crate::at_rest::{Examined, Said, Subject};
use crate::checks::{Ask, Context, Pair};
use crate::guest::Output;
use crate::power_on::PowerOn;

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Stable name: reports, waivers and mutations call it by this.
    pub id: &'static str,
    /// What holds where it passes, in a few words.
    pub title: &'static str,
    /// The lowest tier that judges it.
    pub tier: Tier,
    /// How much a "no" weighs.
    pub severity: Severity,
    /// The paths, tables, commands and logs that the judgement is made of.
    pub reads: &'static [&'static str],
    /// Why it matters.
    pub why: &'static str,
    /// What to do about a "no".
    pub remedy: &'static str,
    /// Where it comes from: a manual, a specification, an incident.
    pub source: &'static str,
    /// Which images it is for.
    pub applies: Applies,
    /// Whether a "no" makes a boot pointless: the guest could only tell the same later and worse.
    pub stops_boot: bool,
    /// How it is judged.
    pub judge: Judge,
}

/// How a rule is judged. Every judgement is a function of what it is given, so that each is tested on values
/// that pass and on mutated ones that do not.
#[derive(Clone, Copy, Debug)]
pub enum Judge {
    /// From the image's file: its container, its disk, its kernels.
    Image(fn(&Subject) -> Result<Said>),
    /// From the files of the image's root.
    Tree(fn(&Examined) -> Result<Verdict>),
    /// From what a running machine answers.
    Machine(Ask, fn(&Output, &Context) -> Result<Verdict>),
    /// From what a running machine says of itself and what one says that was powered on besides.
    Pair(PowerOn, fn(&Pair, &Context) -> Result<Verdict>),
}

/// Every rule, in the order in which they are judged and reported.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    crate::at_rest::rules().chain(crate::checks::rules())
}

impl Rule {
    /// What the rule is, without how it is judged.
    #[must_use]
    pub fn record(&self) -> Record {
        let owned = |text: &str| text.to_owned();
        Record {
            id: owned(self.id),
            title: owned(self.title),
            tier: self.tier,
            severity: self.severity,
            reads: self.reads.iter().map(|read| owned(read)).collect(),
            why: owned(self.why),
            remedy: owned(self.remedy),
            source: owned(self.source),
            applies: self.applies.to_string(),
            stops_boot: self.stops_boot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_every_record_is_filled_in() {
        let mut ids: Vec<_> = all().map(|rule| rule.id).collect();
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count);
        for rule in all() {
            let texts = [rule.id, rule.title, rule.why, rule.remedy, rule.source];
            assert!(texts.iter().all(|text| !text.is_empty()), "{rule:?}");
            assert!(!rule.reads.is_empty(), "{}", rule.id);
            assert!(rule.id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
        }
    }

    #[test]
    fn what_is_judged_at_rest_is_static_and_what_is_asked_is_not() {
        for rule in all() {
            let asked = matches!(rule.judge, Judge::Machine(..) | Judge::Pair(..));
            assert_eq!(rule.tier != Tier::Static, asked, "{}", rule.id);
            assert!(!(asked && rule.stops_boot), "{}", rule.id);
        }
    }
}

//! What a rule found in a tree: what is wrong, and what cannot be told.

use crate::rules::{SEPARATOR, Verdict};

/// Most findings that a text spells out where they are not what is wrong; the others are counted.
const MOST_TOLD: usize = 4;
/// The same of what is wrong: as many as a waiver could be for, few enough for a report.
const MOST_WRONG: usize = 200;

/// What a rule found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    wrong: Vec<String>,
    worth_telling: Vec<String>,
    unknown: Vec<String>,
}

impl Findings {
    /// Something is not as it should be.
    pub(super) fn wrong(&mut self, what: impl Into<String>) {
        self.wrong.push(what.into());
    }

    /// Something is acceptable, yet worth telling.
    pub(super) fn worth_telling(&mut self, what: impl Into<String>) {
        self.worth_telling.push(what.into());
    }

    /// Nobody can tell whether something is as it should be.
    pub(super) fn unknown(&mut self, what: impl Into<String>) {
        self.unknown.push(what.into());
    }

    /// All of them, the worst alone; `sound` is what was seen where there are none.
    pub(super) fn verdict(self, sound: impl Into<String>) -> Verdict {
        if !self.wrong.is_empty() {
            return Verdict::Fail(each(&self.wrong));
        }
        if !self.worth_telling.is_empty() {
            return Verdict::Warn(each(&self.worth_telling));
        }
        match self.unknown.is_empty() {
            true => Verdict::Pass(sound.into()),
            false => Verdict::NotProven(some(&self.unknown)),
        }
    }
}

/// Pass with what was `seen` where nothing is wrong, else fail with all of it.
pub(super) fn verdict(wrong: &[String], seen: impl Into<String>) -> Verdict {
    if wrong.is_empty() { Verdict::Pass(seen.into()) } else { Verdict::Fail(each(wrong)) }
}

/// All that is wrong, so that each is seen by waivers; reports for people cut it.
pub(super) fn each(all: &[String]) -> String {
    listed(all, MOST_WRONG)
}

/// The first few of `all`, and how many there are besides.
pub(super) fn some(all: &[String]) -> String {
    listed(all, MOST_TOLD)
}

fn listed(all: &[String], most: usize) -> String {
    let mut told = all[..all.len().min(most)].join(SEPARATOR);
    if all.len() > most {
        told.push_str(&format!("{SEPARATOR}and {} more", all.len() - most));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_told_whole_and_of_the_rest_no_more_than_a_few() {
        let mut findings = Findings::default();
        findings.unknown("nobody knows");
        assert!(matches!(findings.verdict("fine"), Verdict::NotProven(_)));
        let mut findings = Findings::default();
        findings.unknown("nobody knows");
        findings.worth_telling("odd");
        assert_eq!(findings.verdict("fine"), Verdict::Warn("odd".into()));
        let mut findings = Findings::default();
        findings.worth_telling("odd");
        (0..6).for_each(|number| findings.wrong(number.to_string()));
        assert_eq!(findings.verdict("fine"), Verdict::Fail("0; 1; 2; 3; 4; 5".into()));
        let mut findings = Findings::default();
        (0..6).for_each(|number| findings.unknown(number.to_string()));
        let few = Verdict::NotProven("0; 1; 2; 3; and 2 more".into());
        assert_eq!(findings.verdict("fine"), few);
        let many: Vec<String> = (0..202).map(|number| number.to_string()).collect();
        assert!(each(&many).ends_with("; 199; and 2 more"));
        assert_eq!(Findings::default().verdict("fine"), Verdict::Pass("fine".into()));
    }
}

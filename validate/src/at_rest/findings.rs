//! What a rule found in a tree: what is wrong, and what cannot be told.

use crate::rules::Verdict;

/// Most findings that a verdict spells out; the others are counted.
const MOST_TOLD: usize = 4;

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
            return Verdict::Fail(some(&self.wrong));
        }
        if !self.worth_telling.is_empty() {
            return Verdict::Warn(some(&self.worth_telling));
        }
        match self.unknown.is_empty() {
            true => Verdict::Pass(sound.into()),
            false => Verdict::NotProven(some(&self.unknown)),
        }
    }
}

/// Pass with what was `seen` where nothing is wrong, else fail with the first few.
pub(super) fn verdict(wrong: &[String], seen: impl Into<String>) -> Verdict {
    if wrong.is_empty() { Verdict::Pass(seen.into()) } else { Verdict::Fail(some(wrong)) }
}

/// The first few of `all`, and how many there are besides.
pub(super) fn some(all: &[String]) -> String {
    let mut told = all[..all.len().min(MOST_TOLD)].join("; ");
    if all.len() > MOST_TOLD {
        told.push_str(&format!("; and {} more", all.len() - MOST_TOLD));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_told_and_no_more_than_a_few() {
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
        assert_eq!(findings.verdict("fine"), Verdict::Fail("0; 1; 2; 3; and 2 more".into()));
        assert_eq!(Findings::default().verdict("fine"), Verdict::Pass("fine".into()));
    }
}

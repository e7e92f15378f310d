//! The mutation corpus of the rules on files: for every rule at least one change that turns it red, and no other.
//!
//! A mutation is a change to a sound tree. The rules that it names have to go from green to red, and all others
//! have to say what they said before. A rule without a mutation fails the build: it could not fail at all.

mod sound;
mod sound_runtime;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use sound::sound;

use super::{Examined, judge_files, rules};
use crate::rules::{Family, Judge, Verdict};

/// A change that rules have to notice.
pub(crate) struct Mutation {
    /// What was done, in words.
    pub(crate) name: &'static str,
    /// The rules that it turns red, all of them.
    pub(crate) turns: &'static [&'static str],
    /// Words of what they say of it: the path or the value.
    pub(crate) says: &'static str,
    /// The public incident that it stands for, where it does.
    pub(crate) incident: Option<&'static str>,
    /// Does it.
    pub(crate) change: fn(&mut Examined<'static>),
}

impl Mutation {
    /// A change that turns `turns` red, which say the words `says`.
    pub(crate) const fn new(
        name: &'static str,
        turns: &'static [&'static str],
        says: &'static str,
        change: fn(&mut Examined<'static>),
    ) -> Self {
        Self { name, turns, says, incident: None, change }
    }

    /// The same, as one that happened in public.
    pub(crate) const fn incident(mut self, incident: &'static str) -> Self {
        self.incident = Some(incident);
        self
    }
}

/// Every mutation of a tree of Debian packages.
fn mutations() -> impl Iterator<Item = &'static Mutation> {
    let tables = [super::runtime::MUTATIONS, super::images::MUTATIONS, super::start::MUTATIONS];
    tables.into_iter().flatten()
}

fn verdicts(examined: &Examined) -> BTreeMap<&'static str, Verdict> {
    let files = rules().filter(|rule| matches!(rule.judge, Judge::Tree(_)));
    files.map(|rule| (rule.id, judge_files(rule, examined).unwrap())).collect()
}

fn is_red(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Fail(_) | Verdict::Warn(_))
}

#[test]
fn a_sound_tree_passes_every_rule() {
    for family in [Family::Debian, Family::Rpm] {
        for (id, verdict) in verdicts(&sound(family)) {
            let fine = matches!(verdict, Verdict::Pass(_) | Verdict::Skipped(_));
            assert!(fine, "{family:?}: {id}: {verdict:?}");
        }
    }
}

#[test]
fn every_rule_on_files_judges_a_sound_tree_of_debian_packages() {
    for (id, verdict) in verdicts(&sound(Family::Debian)) {
        assert!(matches!(verdict, Verdict::Pass(_)), "{id}: {verdict:?}");
    }
}

#[test]
fn every_mutation_turns_its_rules_red_and_no_others() {
    let before = verdicts(&sound(Family::Debian));
    for Mutation { name, turns, says, change, .. } in mutations() {
        let mut mutated = sound(Family::Debian);
        change(&mut mutated);
        let after = verdicts(&mutated);
        let red: BTreeSet<&str> =
            after.iter().filter(|(_, verdict)| is_red(verdict)).map(|(id, _)| *id).collect();
        let told: Vec<&Verdict> = red.iter().map(|id| &after[id]).collect();
        assert_eq!(red, turns.iter().copied().collect(), "{name}: {told:?}");
        for id in *turns {
            assert!(after[id].seen().contains(says), "{name}: {id}: {:?}", after[id]);
            assert!(!is_red(&before[id]), "{name}: {id} was red before");
        }
    }
}

#[test]
fn every_rule_on_files_has_a_mutation() {
    let shown: BTreeSet<&str> = mutations().flat_map(|mutation| mutation.turns).copied().collect();
    let files = rules().filter(|rule| matches!(rule.judge, Judge::Tree(_)));
    let without: Vec<&str> = files.map(|rule| rule.id).filter(|id| !shown.contains(id)).collect();
    assert!(without.is_empty(), "without a mutation: {without:?}");
}

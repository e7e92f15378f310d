//! The mutation corpus of the rules on running machines: for every rule what a sound guest answers, which passes, and
//! changes of that, each of which turns it red.
//!
//! An answer is what the rule's script prints, from the first byte to the last. A rule without one fails the build:
//! nobody would know that it can pass, or that it can fail. What real guests say is for `ci/mutations`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use nodekiln_words::{Result, Sha256};

use super::{Asked, Context, Pair, Tier, pair_verdict, rules, testing, verdict};
use crate::conformance::Conformance;
use crate::console::Scanner;
use crate::expect::Expectations;
use crate::guest::Output;
use crate::metadata::Observed;
use crate::provisioning::Told;
use crate::rules::{Judge, Rule, Severity, Verdict};
use crate::traffic::Traffic;

/// What a sound guest answers to one rule, and what becomes of it.
pub(super) struct Answer {
    /// The rule's id.
    rule: &'static str,
    /// What its script prints; nothing where it asks nothing.
    prints: &'static str,
    /// What else is known of the guest, where the rule needs more than [`Scene::sound`] has.
    given: fn(&mut Scene),
    /// Changes that turn it red.
    mutations: &'static [Mutation],
}

impl Answer {
    /// What a sound guest `prints` when `rule` asks, and changes of it.
    pub(super) const fn new(
        rule: &'static str,
        prints: &'static str,
        mutations: &'static [Mutation],
    ) -> Self {
        Self { rule, prints, given: |_| (), mutations }
    }

    /// The same, of a guest of which more is known.
    pub(super) const fn given(mut self, given: fn(&mut Scene)) -> Self {
        self.given = given;
        self
    }
}

/// A change that the rule has to notice.
pub(super) struct Mutation {
    /// What happened to the guest, in words.
    name: &'static str,
    /// Words of what the rule says of it: the path or the value.
    says: &'static str,
    /// The public incident that it stands for, where it does.
    incident: Option<&'static str>,
    /// Does it.
    change: fn(&mut Scene),
}

impl Mutation {
    /// A change of which the rule says the words `says`.
    pub(super) const fn new(
        name: &'static str,
        says: &'static str,
        change: fn(&mut Scene),
    ) -> Self {
        Self { name, says, incident: None, change }
    }

    /// The same, as one that happened in public.
    pub(super) const fn incident(mut self, incident: &'static str) -> Self {
        self.incident = Some(incident);
        self
    }
}

/// A guest as one rule sees it: its answer, and what is known besides.
pub(super) struct Scene {
    pub(super) prints: String,
    pub(super) expect: Expectations,
    pub(super) tier: Tier,
    pub(super) told: Told,
    pub(super) observed: Observed,
    /// The serial console's text.
    pub(super) console: String,
    /// What it reached for over its network.
    pub(super) traffic: Traffic,
    /// What became of the suite's specs.
    pub(super) conformance: Conformance,
}

/// When every guest is asked: seconds since 1970 of the moments before and after.
const ASKED: [u64; 2] = [1_790_000_000, 1_790_000_005];

/// What the sound guest's store holds: reference and manifest digest.
const IMAGES: [(&str, &str); 6] = [
    (
        "k8s.gcr.io/etcd:3.4.13-0",
        "1111111111111111111111111111111111111111111111111111111111111111",
    ),
    (
        "k8s.gcr.io/kube-apiserver:v1.20.2",
        "2222222222222222222222222222222222222222222222222222222222222222",
    ),
    (
        "k8s.gcr.io/kube-controller-manager:v1.20.2",
        "3333333333333333333333333333333333333333333333333333333333333333",
    ),
    (
        "k8s.gcr.io/kube-proxy:v1.20.2",
        "4444444444444444444444444444444444444444444444444444444444444444",
    ),
    (
        "k8s.gcr.io/kube-scheduler:v1.20.2",
        "5555555555555555555555555555555555555555555555555555555555555555",
    ),
    ("k8s.gcr.io/pause:3.2", "6666666666666666666666666666666666666666666666666666666666666666"),
];

impl Scene {
    /// A control-plane node whose cluster came up, booted from an image that claims what it has.
    fn sound() -> Self {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let images = IMAGES.map(|(name, digest)| {
            let digest: Sha256 = digest.parse().unwrap();
            (name.to_owned(), digest)
        });
        let expect = Expectations {
            kubernetes: Some("1.20.2".parse().unwrap()),
            containerd: Some("1.6.20".into()),
            sysctls: [("net.ipv4.ip_forward", "1"), ("net.bridge.bridge-nf-call-iptables", "1")]
                .map(owned)
                .into(),
            modules: vec!["overlay".into(), "br_netfilter".into()],
            images: images.into(),
            ..Expectations::default()
        };
        Self {
            prints: String::new(),
            expect,
            tier: Tier::Kubeadm,
            told: testing::told().clone(),
            observed: Observed::default(),
            console: String::new(),
            traffic: Traffic::default(),
            conformance: Conformance::default(),
        }
    }

    /// Puts other words into the answer.
    pub(super) fn replace(&mut self, from: &str, to: &str) {
        assert!(self.prints.contains(from), "the answer has no `{from}`");
        self.prints = self.prints.replace(from, to);
    }

    /// Puts another answer in its place.
    pub(super) fn print(&mut self, text: &str) {
        self.prints = text.to_owned();
    }

    /// What `rule` says, and with how much weight.
    fn judged(&self, rule: &Rule, status: i32) -> Result<Verdict> {
        let mut scanner = Scanner::default();
        scanner.push(self.console.as_bytes());
        let [before, after] = ASKED.map(|at| UNIX_EPOCH + Duration::from_secs(at));
        let context = Context {
            expect: &self.expect,
            claimed: true,
            tier: self.tier,
            told: &self.told,
            observed: Some(&self.observed),
            console: scanner.findings(),
            traffic: Some(&self.traffic),
            asked: Some(Asked { before, after }),
            conformance: Some(&self.conformance),
        };
        let stdout = self.prints.clone().into_bytes();
        let answer = Output { stdout, stderr: Vec::new(), status };
        let Judge::Pair(other, _) = rule.judge else { return verdict(rule, &answer, &context) };
        // What the scene prints is the other machine's answer; the first one is sound.
        let first = Output { stdout: super::portrait::testing::SOUND.into(), ..Output::default() };
        let pair = Pair { first: &first, other: &answer, console: scanner.findings() };
        pair_verdict(rule, other, &pair, &context).unwrap()
    }
}

/// Every answer of a sound guest.
fn answers() -> impl Iterator<Item = &'static Answer> {
    [
        super::system::ANSWERS,
        super::cloud_init::ANSWERS,
        super::provisioning::ANSWERS,
        super::identity::ANSWERS,
        super::kernel::ANSWERS,
        super::clock::ANSWERS,
        super::network::ANSWERS,
        super::access::ANSWERS,
        super::runtime::ANSWERS,
        super::power_ons::ANSWERS,
        super::cluster::ANSWERS,
        super::cluster_pods::ANSWERS,
        super::cluster_traffic::ANSWERS,
        super::cluster_files::ANSWERS,
        super::cluster_ends::ANSWERS,
        super::cluster_join::ANSWERS,
        super::cluster_reset::ANSWERS,
        super::conformance::ANSWERS,
    ]
    .into_iter()
    .flatten()
}

/// The public incidents that mutations stand for.
pub(crate) fn incidents() -> BTreeSet<&'static str> {
    answers().flat_map(|answer| answer.mutations).filter_map(|mutation| mutation.incident).collect()
}

fn rule(id: &str) -> &'static Rule {
    rules().find(|rule| rule.id == id).unwrap_or_else(|| panic!("there is no rule {id}"))
}

fn sound(answer: &Answer) -> Scene {
    let mut scene = Scene { prints: answer.prints.to_owned(), ..Scene::sound() };
    (answer.given)(&mut scene);
    scene
}

#[test]
fn every_rule_has_one_answer_with_mutations_and_every_answer_its_rule() {
    let mut entries: BTreeMap<&str, usize> = BTreeMap::new();
    for answer in answers() {
        assert!(!answer.mutations.is_empty(), "{} has no mutation", answer.rule);
        *entries.entry(answer.rule).or_default() += 1;
    }
    let twice: Vec<_> = entries.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "more than one answer: {twice:?}");
    let (known, ids): (BTreeSet<&str>, BTreeSet<&str>) =
        (entries.into_keys().collect(), rules().map(|rule| rule.id).collect());
    let without: Vec<_> = ids.difference(&known).collect();
    let unknown: Vec<_> = known.difference(&ids).collect();
    assert!(without.is_empty(), "rules without an answer: {without:?}");
    assert!(unknown.is_empty(), "answers without a rule: {unknown:?}");
}

#[test]
fn every_rule_passes_a_sound_guest() {
    for answer in answers() {
        let verdict = sound(answer).judged(rule(answer.rule), 0).unwrap();
        assert!(matches!(verdict, Verdict::Pass(_)), "{}: {verdict:?}", answer.rule);
    }
}

#[test]
fn every_mutation_turns_its_rule_red_and_is_named() {
    let mut wrong = Vec::new();
    for answer in answers() {
        let rule = rule(answer.rule);
        for Mutation { name, says, change, .. } in answer.mutations {
            let mut scene = sound(answer);
            change(&mut scene);
            let verdict = scene.judged(rule, 0);
            let red = match (&verdict, rule.severity) {
                (Ok(Verdict::Fail(seen)), Severity::Fatal)
                | (Ok(Verdict::Warn(seen)), Severity::Advisory) => seen.contains(says),
                _ => false,
            };
            if !red {
                wrong.push(format!("{}: {name}: not red with `{says}`: {verdict:?}", rule.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A program that is not in the image must be no reason for a "yes".
#[test]
fn a_command_that_failed_is_no_verdict() {
    for answer in answers().filter(|answer| asks(answer.rule)) {
        let mut scene = sound(answer);
        scene.print("");
        let verdict = scene.judged(rule(answer.rule), 127);
        assert!(verdict.is_err(), "{}: {verdict:?}", answer.rule);
    }
}

fn asks(id: &str) -> bool {
    !matches!(super::ask(rule(id)), super::Ask::Nothing)
}

#[test]
fn mutations_of_a_rule_have_names_of_their_own() {
    for answer in answers() {
        let names: BTreeSet<&str> = answer.mutations.iter().map(|one| one.name).collect();
        assert_eq!(names.len(), answer.mutations.len(), "{}", answer.rule);
    }
}

//! The table of mutations of real guests, which `ci/mutations` boots, held against the rules: each rule on running
//! machines is turned red by one of them. A rule without one fails the build.

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_validate::Tier;
use nodekiln_validate::rules::{self, Judge, Rule};
use serde::Deserialize;

const TABLE: &str = "../ci/guest-mutations.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    guest: Vec<Guest>,
}

/// A guest, and what its rules have to say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Guest {
    name: String,
    tier: Tier,
    /// Whose machine it is, where not a plain one.
    #[serde(default)]
    provider: String,
    /// More words for `validate`.
    #[serde(default)]
    options: Vec<String>,
    /// Whether it is powered on again after a power cut, and a second machine is made of the image.
    #[serde(default)]
    further: bool,
    /// The public incidents that it stands for.
    #[serde(default)]
    incidents: Vec<String>,
    #[serde(default)]
    changes: Vec<BTreeMap<String, toml::Value>>,
    /// What the rules say that have to turn red.
    #[serde(default)]
    red: BTreeMap<String, String>,
    /// Rules that may turn red because others do.
    #[serde(default)]
    besides: Vec<String>,
}

fn guests() -> Vec<Guest> {
    let text = std::fs::read_to_string(TABLE).unwrap();
    let table: Table = toml::from_str(&text).unwrap();
    table.guest
}

/// The public incidents that guests stand for.
pub(crate) fn incidents() -> BTreeSet<String> {
    guests().into_iter().flat_map(|guest| guest.incidents).collect()
}

/// The keys of each kind of change; those behind the bar may be left out.
const CHANGES: [&str; 7] = [
    "write text|mode",
    "replace from with",
    "remove",
    "link to",
    "unit run|after before",
    "claim value",
    "unclaim",
];

#[test]
fn every_rule_on_running_machines_is_turned_red_by_a_guest() {
    let red: BTreeSet<String> =
        guests().into_iter().flat_map(|guest| guest.red.into_keys()).collect();
    let machine =
        rules::all().filter(|rule| matches!(rule.judge, Judge::Machine(..) | Judge::Pair(..)));
    let mut without: Vec<&str> =
        machine.map(|rule| rule.id).filter(|id| !red.contains(*id)).collect();
    without.sort_unstable();
    assert!(without.is_empty(), "without a guest in {TABLE}: {without:?}");
}

#[test]
fn guests_name_rules_that_their_tier_judges_and_words_of_each() {
    let known: BTreeMap<&str, &Rule> = rules::all().map(|rule| (rule.id, rule)).collect();
    let mut names = BTreeSet::new();
    for guest in guests() {
        let name = &guest.name;
        assert!(names.insert(name.clone()), "{name} is there twice");
        assert!(guest.tier.boots(), "{name} is not booted");
        assert_eq!(guest.red.is_empty(), guest.changes.is_empty(), "{name}");
        for id in guest.red.keys().chain(&guest.besides) {
            let rule = known.get(&**id).unwrap_or_else(|| panic!("{name}: there is no rule {id}"));
            assert!(guest.tier.judges(rule.tier), "{name}: {id} is of a later tier");
            let pair = matches!(rule.judge, Judge::Pair(..));
            assert!(!pair || guest.further, "{name}: {id} wants further power-ons");
        }
        assert!(guest.red.values().all(|words| !words.is_empty()), "{name}");
        assert!(guest.besides.iter().all(|id| !guest.red.contains_key(id)), "{name}");
        let words = guest.options.iter().chain(&guest.incidents);
        assert!(words.chain([&guest.provider]).all(|word| word.trim() == word), "{name}");
    }
    // Without a sound guest of each tier nobody knows what the change did.
    for tier in [Tier::Boot, Tier::Kubeadm, Tier::Conformance] {
        assert!(
            guests().iter().any(|guest| guest.tier == tier && guest.red.is_empty()),
            "{tier:?}"
        );
    }
}

#[test]
fn every_change_is_one_that_can_be_made() {
    for guest in guests() {
        for change in &guest.changes {
            let keys: BTreeSet<&str> = change.keys().map(String::as_str).collect();
            let fits = CHANGES.iter().any(|kind| {
                let (needed, free) = kind.split_once('|').unwrap_or((kind, ""));
                let set = |text: &'static str| text.split(' ').collect::<BTreeSet<&str>>();
                let (needed, free) = (set(needed), set(free));
                needed.is_subset(&keys)
                    && keys.iter().all(|key| needed.contains(key) || free.contains(key))
            });
            assert!(fits, "{}: no such change: {keys:?}", guest.name);
            // It stands between single quotes in a unit, where systemd fills in what begins with these.
            let command = change.get("run").and_then(toml::Value::as_str).unwrap_or_default();
            assert!(!command.contains(['\'', '%', '$', '\\', '\n']), "{}: {command}", guest.name);
        }
    }
}

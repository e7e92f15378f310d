//! `docs/goss.md` against the code: its examples are read, its lists are complete.

use std::collections::BTreeSet;

use nodekiln_goss::rules::{self, Severity};
use nodekiln_goss::{Overall, judge};

use crate::fake::{Fake, Nothing, suite};

fn text() -> String {
    std::fs::read_to_string("../docs/goss.md").unwrap()
}

/// The words in backquotes between a comment of this name and the next end.
fn listed(name: &str) -> BTreeSet<String> {
    let text = text();
    let (_, rest) = text.split_once(&format!("<!-- {name} -->")).unwrap();
    let (list, _) = rest.split_once("<!-- end -->").unwrap();
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_worked_example_is_read_and_judged() {
    let text = text();
    let example = text.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let rules =
        rules::of_text("node.rules.yaml", example).unwrap_or_else(|problems| panic!("{problems}"));
    let ids: Vec<&str> = rules.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids, ["sshd-no-root", "kubelet-version", "time-is-kept"]);
    assert_eq!(rules.rules[1].severity, Severity::Warn);
    assert!(
        rules.rules.iter().all(|rule| judge(&rule.check[0], &Nothing).overall() == Overall::Fail)
    );
    let waiver = &rules.waivers[0];
    assert!(
        !waiver.expired("2027-01-31".parse().unwrap())
            && waiver.expired("2027-02-01".parse().unwrap())
    );

    let mut fake = Fake::default();
    let content = b"PermitRootLogin no\n".to_vec();
    fake.files.insert(
        "/etc/ssh/sshd_config.d/10-acme.conf".into(),
        (nodekiln_goss::FileKind::File, 0o644, content),
    );
    let versions = vec!["1.36.1-1.1".to_owned()];
    fake.packages.insert("kubelet".into(), nodekiln_goss::PackageFacts { versions, rpm: false });
    fake.enabled.push("chrony".into());
    fake.running.push("chrony".into());
    assert!(rules.rules.iter().all(|rule| judge(&rule.check[0], &fake).overall() == Overall::Pass));
}

#[test]
fn the_functions_of_templates_are_those_that_there_are() {
    // An unknown function is answered with the list of those that there are.
    let failure = suite("a: {{nothing}}\n").map(|_| ()).unwrap_err();
    let help = failure.help().unwrap();
    let known: BTreeSet<&str> = help.split_once(": ").unwrap().1.split(", ").collect();
    let goss =
        ["mkSlice", "getEnv", "readFile", "regexMatch", "toLower", "toUpper", "findStringSubmatch"];
    let documented = listed("functions");
    let all: BTreeSet<&str> = documented.iter().map(String::as_str).chain(goss).collect();
    assert_eq!(all, known);
}

#[test]
fn every_kind_and_attribute_is_in_the_table() {
    let text = text();
    let schema = serde_json::to_value(rules::schema()).unwrap();
    let kinds =
        schema["$defs"]["Rule"]["properties"]["check"]["properties"].as_object().unwrap().clone();
    assert_eq!(kinds.len(), 11);
    for (kind, below) in kinds {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{kind}` |"))).unwrap();
        for name in below["additionalProperties"]["properties"].as_object().unwrap().keys() {
            let elsewhere = matches!(name.as_str(), "title" | "meta" | "content" | "runlevels")
                || (kind == "mount" && name == "timeout");
            assert!(elsewhere || row.contains(&format!("`{name}`")), "{kind}: {name}");
        }
    }
    for kind in listed("skipped") {
        let suite = suite(&format!("{kind}:\n  x: {{}}\n")).unwrap();
        assert_eq!(judge(&suite.resources[0], &Nothing).overall(), Overall::Skipped, "{kind}");
    }
}

//! Rules files: what is read, and what is refused with which words.

use nodekiln_goss::rules::{self, Day, Severity, Tier};

fn problems(text: &str) -> String {
    match rules::of_text("n.rules.yaml", text) {
        Ok(_) => panic!("is read: {text}"),
        Err(problems) => problems.to_string(),
    }
}

/// A rule that is right, around the given check.
fn with_check(check: &str) -> String {
    format!("rules:\n- id: a\n  title: A\n  severity: fail\n  check: {check}\n")
}

#[test]
fn a_rule_has_what_it_says() {
    let text = "rules:\n- id: motd\n  title: no message\n  severity: warn\n  why: it tells too much\n  \
                remedy: remove it\n  tier: boot\n  check:\n    file:\n      /etc/motd: {exists: false}\n      \
                /etc/issue: {exists: false}\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n.rules.yaml");
    std::fs::write(&path, text).unwrap();
    let read = rules::read(&path).unwrap();
    let rule = &read.rules[0];
    assert_eq!((rule.severity, rule.tier), (Severity::Warn, Some(Tier::Boot)));
    assert_eq!(
        (rule.why.as_deref(), rule.remedy.as_deref()),
        (Some("it tells too much"), Some("remove it"))
    );
    assert_eq!(rule.check.len(), 2);
    assert_eq!(rule.place.line, 2);
    assert_eq!(rule.check[1].place.line, 11);
    assert!(read.waivers.is_empty() && read.file == path);
    assert!(rules::read(&folder.path().join("gone")).is_err());
}

#[test]
fn mistakes_are_told_at_their_places_with_remedies() {
    for (text, expected) in [
        ("rule: []\n", "n.rules.yaml:1:1: the file has no `rule`\n  help: did you mean `rules`?"),
        ("[]\n", "n.rules.yaml:1:1: the file is a list"),
        ("", "n.rules.yaml:1:1: the file has neither rules nor waivers"),
        ("rules: {}\n", "n.rules.yaml:1:8: `rules` is a mapping"),
        (
            "rules:\n- id: a\n  severty: fail\n",
            "n.rules.yaml:3:3: a rule has no `severty`\n  help: did you mean `severity`?",
        ),
        ("rules:\n- {id: a}\n", "a rule needs `title`\n  help: add `title:`"),
        ("rules:\n- {id: a}\n", "a rule needs `severity`"),
        ("rules:\n- {id: a}\n", "a rule needs `check`"),
        ("rules:\n- {id: A b}\n", "n.rules.yaml:2:8: `A b` is no id"),
        (
            "rules:\n- {id: a}\n- {id: a}\n",
            "n.rules.yaml:3:8: the id `a` is given twice, first in line 2",
        ),
        ("rules:\n- {id: 7}\n", "n.rules.yaml:2:8: `id` is a number"),
        ("rules:\n- {title: ''}\n", "n.rules.yaml:2:11: `title` is empty"),
        (
            "rules:\n- {severity: failed}\n",
            "n.rules.yaml:2:14: `severity` is `failed`\n  help: did you mean `fail`?",
        ),
        ("rules:\n- {tier: booted}\n", "n.rules.yaml:2:10: `tier` is `booted`"),
        ("a: &x 1\n", "anchors and aliases are not part of a rules file"),
        ("rules: []\nrules: []\n", "n.rules.yaml:2:1: key `rules` is given twice, first in line 1"),
        ("rules: [\n", "not YAML"),
        (
            "waivers:\n- {rule: a, reason: b, until: 2027-02-30}\n",
            "n.rules.yaml:2:31: `2027-02-30` is no day such as 2027-01-31",
        ),
        ("waivers:\n- {rule: a, reason: b, until: tomorrow}\n", "`tomorrow` is no day"),
        ("waivers:\n- {rule: a, until: 2027-01-31}\n", "a waiver needs `reason`"),
        ("waivers:\n- {rule: a, reason: b}\n", "a waiver needs `until`"),
        (
            "waivers:\n- {rule: a, reason: b, until: 2027-01-31, cloud: aws}\n",
            "a waiver has no `cloud`",
        ),
    ] {
        let found = problems(text);
        assert!(found.contains(expected), "{text}: {found}");
        assert!(found.lines().filter(|line| line.starts_with("  help: ")).count() > 0, "{found}");
    }
}

#[test]
fn checks_are_typed() {
    for (check, expected) in [
        ("{}", "5:10: `check` is a mapping"),
        ("{file: {/a: {exists: true}}, user: {b: {exists: true}}}", "5:10: `check` has 2 kinds"),
        (
            "{fil: {/a: {exists: true}}}",
            "5:11: `fil` is no kind of resource\n  help: did you mean `file`?",
        ),
        ("{dns: {a: {resolvable: true}}}", "without a network"),
        ("{file: {}}", "5:11: `file` has a mapping below it"),
        (
            "{file: {/a: {exist: true}}}",
            "5:23: a file has no attribute `exist`\n  help: did you mean `exists`?",
        ),
        ("{file: {/a: {mode: '0644'}}}", "5:18: the file does not say `exists`"),
        (
            "{file: {/a: {exists: yes}}}",
            "5:31: `exists` is a text\n  help: give it `true` or `false`",
        ),
        (
            "{file: {/a: {exists: true, mode: 0644}}}",
            "`mode` is a number\n  help: give it four octal digits in quotes",
        ),
        ("{file: {/a: {exists: true, mode: '644'}}}", "`mode` is a text"),
        (
            "{file: {/a: {exists: true, size: big}}}",
            "`size` is a text\n  help: give it a whole number",
        ),
        (
            "{file: {/a: {exists: true, contains: [a]}}}",
            "a file has no attribute `contains`\n  help: it is called `contents`",
        ),
        ("{file: {/a: {exists: [true]}}}", "`exists` is a list"),
        ("{package: {a: {installed: true, versions: 1.2}}}", "`versions` is a number"),
        ("{file: {/a: {exists: true, skip: true}}}", "is skipped, so the rule says nothing"),
        ("{matching: {a: {content: '{}', matches: {gjson: {'@pretty': 1}}}}}", "modifiers"),
        ("{port: {sctp:1: {listening: true}}}", "`sctp:1` is no port"),
        ("{command: {a: {exit-status: 0, timeout: -1}}}", "`timeout` is a number"),
        ("{file: {/a: {exists: {gt: x}}}}", "`gt` has a text after it"),
    ] {
        let found = problems(&with_check(check));
        assert!(found.contains(expected), "{check}: {found}");
    }
    for check in [
        "{file: {/a: {exists: true, mode: {match-regexp: '^06'}, size: {lt: 10}, contents: [x, '!/y/']}}}",
        "{kernel-param: {a: {value: 1}}}",
        "{port: {ssh: {port: tcp:22, listening: true, ip: ['0.0.0.0']}}}",
        "{command: {a: {exit-status: {le: 1}, stdout: {gjson: {a.b: c}}, timeout: 500}}}",
    ] {
        let text = with_check(check);
        assert!(rules::of_text("n", &text).is_ok(), "{}", problems(&text));
    }
    let fixed = with_check("{command: {a: {exit-status: 0}}}")
        .replace("  check", "  tier: static\n  check");
    assert!(problems(&fixed).contains("a command needs a running machine"), "{}", problems(&fixed));
    let fixed = with_check("{service: {a: {enabled: true, running: true}}}")
        .replace("  check", "  tier: static\n  check");
    assert!(problems(&fixed).contains("`running` needs a running machine"), "{}", problems(&fixed));
}

#[test]
fn a_waiver_holds_through_its_last_day_and_within_its_scope() {
    let text = "waivers:\n- {rule: a, reason: later, until: 2028-02-29}\n\
                - {rule: a, reason: later, until: 2028-02-29, provider: aws, image: node}\n";
    let waivers = rules::of_text("n", text).unwrap().waivers;
    let day = |text: &str| text.parse::<Day>().unwrap();
    assert!(!waivers[0].expired(day("2028-02-28")) && !waivers[0].expired(day("2028-02-29")));
    assert!(waivers[0].expired(day("2028-03-01")) && waivers[0].expired(day("2029-01-01")));
    assert!(waivers[0].covers("gce", "any") && waivers[1].covers("aws", "node"));
    assert!(!waivers[1].covers("gce", "node") && !waivers[1].covers("aws", "other"));
    for text in
        ["2027-1-31", "2027-13-01", "20270131", "2027-01-31T00:00", "+027-01-31", "", "2027-01-3x"]
    {
        assert!(text.parse::<Day>().is_err(), "{text}");
    }
}

/// `NODEKILN_BLESS=1 cargo test -p nodekiln-goss` writes the schema anew; review the difference.
#[test]
fn the_schema_is_as_reviewed() {
    let path = "../docs/rules.schema.json";
    let actual = serde_json::to_string_pretty(&rules::schema()).unwrap() + "\n";
    if std::env::var_os("NODEKILN_BLESS").is_some() {
        std::fs::write(path, &actual).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap_or_default() == actual,
        "write {path} anew with NODEKILN_BLESS=1"
    );
}

#[test]
fn the_schema_and_the_reader_agree() {
    let schema = serde_json::to_value(rules::schema()).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let file = |rule: serde_json::Value| serde_json::json!({ "rules": [rule] });
    let rule = |check: serde_json::Value| {
        file(serde_json::json!({ "id": "a", "title": "A", "severity": "fail", "check": check }))
    };
    let cases = [
        (serde_json::json!({}), false),
        (serde_json::json!({ "rules": [], "waivers": [] }), true),
        (
            serde_json::json!({ "waivers": [{ "rule": "a", "reason": "b", "until": "2027-01-31", "image": "x" }] }),
            true,
        ),
        (
            serde_json::json!({ "waivers": [{ "rule": "a", "reason": "b", "until": "soon" }] }),
            false,
        ),
        (serde_json::json!({ "waivers": [{ "rule": "a", "until": "2027-01-31" }] }), false),
        (file(serde_json::json!({ "id": "a" })), false),
        (rule(serde_json::json!({ "file": { "/a": { "exists": true, "mode": "0644" } } })), true),
        (rule(serde_json::json!({ "file": { "/a": { "exists": true, "mode": 420 } } })), false),
        (rule(serde_json::json!({ "file": { "/a": { "exists": "yes" } } })), false),
        (
            rule(serde_json::json!({ "file": { "/a": { "exists": true, "size": { "gt": 1 } } } })),
            true,
        ),
        (rule(serde_json::json!({ "file": { "/a": { "exists": true, "sise": 1 } } })), false),
        (rule(serde_json::json!({ "file": { "/a": { "mode": "0644" } } })), false),
        (rule(serde_json::json!({ "file": {} })), false),
        (rule(serde_json::json!({ "dns": { "a": { "resolvable": true } } })), false),
        (
            rule(
                serde_json::json!({ "command": { "a": { "exit-status": 0, "stdout": ["x"], "timeout": 5 } } }),
            ),
            true,
        ),
        (rule(serde_json::json!({ "kernel-param": { "a": { "value": 1 } } })), true),
    ];
    for (value, expected) in cases {
        // JSON is YAML, so both can be asked the same. That something is in the file only the reader asks for.
        let read = rules::of_text("n", &value.to_string());
        assert_eq!(read.is_ok(), expected, "{value}: {read:?}");
        let empty = value == serde_json::json!({});
        assert_eq!(schema.is_valid(&value), expected || empty, "{value}");
    }
}

#[test]
fn a_waiver_for_a_path_is_not_for_one_that_it_is_a_part_of() {
    let waiver = |finding: &str| {
        let text = format!(
            "waivers:\n- {{rule: suid-list, finding: '{finding}', reason: x, until: 2027-01-31}}\n"
        );
        rules::of_text("n", &text).unwrap().waivers.remove(0)
    };
    let path = waiver("/opt/a");
    for finding in [
        "/opt/a runs as root",
        "found /opt/a: 4755",
        "`/opt/a`",
        "there is /opt/a.",
        "/opt/b, /opt/a",
    ] {
        assert!(path.is_for(finding), "{finding}");
    }
    for finding in
        ["/opt/ab runs", "/opt/a/b runs", "/srv/opt/a runs", "/opt/a.sh", "/opt/a-1", "opt/a", ""]
    {
        assert!(!path.is_for(finding), "{finding}");
    }
    let text = waiver("zram");
    assert!(text.is_for("swap on zram0") && !text.is_for("swap on sda2"));
    let all = rules::of_text("n", "waivers:\n- {rule: a, reason: x, until: 2027-01-31}\n").unwrap();
    assert!(all.waivers[0].is_for("anything"));
    let empty = "waivers:\n- {rule: a, finding: '', reason: x, until: 2027-01-31}\n";
    assert!(rules::of_text("n", empty).unwrap_err().to_string().contains("`finding` is empty"));
}

//! `check`, which holds plugins against the protocol: each point fails for a plugin that does not keep it.

use std::time::Duration;

use nodekiln_plugins::check::{Outcome, Report, check};
use nodekiln_plugins::{Executable, Limits};
use nodekiln_words::Cancel;

use crate::script::{COPY, Script, TALKATIVE, description, impatient, patient, write_program};

fn report(script: &Script, limits: Limits) -> Report {
    check(&script.place().executable(), limits, &Cancel::default(), &mut |_| ()).unwrap()
}

/// Names of the points with this outcome.
fn points(report: &Report, outcome: Outcome) -> Vec<&'static str> {
    let of = report.points.iter().filter(|point| point.outcome == outcome);
    of.map(|point| point.point).collect()
}

/// Has `script` fail at `point`, with this detail.
fn fails(script: &Script, limits: Limits, point: &str, text: &str) {
    let report = report(script, limits);
    let found = report.points.iter().find(|known| known.point == point).unwrap();
    assert_eq!(found.outcome, Outcome::Failed, "{point}: {report:#?}");
    assert!(found.detail.contains(text), "{point}: {}", found.detail);
}

#[test]
fn a_good_plugin_passes_every_point() {
    let mut told = Vec::new();
    let placed = Script::default().place();
    let report = check(&placed.executable(), patient(), &Cancel::default(), &mut |point| {
        told.push(point.point);
    });
    let report = report.unwrap();
    assert_eq!(points(&report, Outcome::Passed).len(), report.points.len(), "{report:#?}");
    assert_eq!(told.len(), report.points.len());
    assert_eq!((report.name.as_str(), report.version.as_deref()), ("x", Some("1.2")));
}

/// The plugin that docs/plugins.md shows.
#[test]
fn the_documented_sample_is_a_good_plugin() {
    let text = include_str!("../../../docs/plugins.md");
    let sample = text.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodekiln-provider-plain");
    write_program(&path, sample);
    let executable = Executable::at(&path).unwrap();
    let report = check(&executable, patient(), &Cancel::default(), &mut |_| ()).unwrap();
    assert_eq!(points(&report, Outcome::Passed).len(), report.points.len(), "{report:#?}");
}

#[test]
fn without_a_description_the_rest_is_not_looked_at() {
    let script = Script { describe: "say '{}'".to_owned(), ..Script::default() };
    let report = report(&script, patient());
    assert_eq!(points(&report, Outcome::Failed), ["description"]);
    let skipped = points(&report, Outcome::Skipped);
    assert_eq!(skipped.first(), Some(&"same-description"));
    assert_eq!(skipped.len(), 8, "{skipped:?}");
}

#[test]
fn each_broken_rule_is_found() {
    let good = description("raw");
    let write = Script::writing;
    fails(&Script::greeting("exit 1"), patient(), "handshake", "exit status: 1");
    let ends_badly = "say '{\"nodekiln_provider\":1}'; IFS= read -r request || exit 3; exec <<END\n$request\nEND\n";
    fails(&Script::greeting(ends_badly), patient(), "no-request", "exit status: 3");
    let any = "case $hello in *4294967295*) say '{\"nodekiln_provider\":4294967295}'; exit 0 ;; esac; say '{\"nodekiln_provider\":1}'";
    fails(&Script::greeting(any), patient(), "other-version", "speaks version 4294967295");
    let singer = Script {
        hello: "say '{\"nodekiln_provider\":1}'; IFS= read -r request || exit 0; case $request in *no-such*) say '{\"answer\":\"cancelled\"}'; exit 0 ;; esac; exec <<END\n$request\nEND\n".to_owned(),
        ..Script::default()
    };
    fails(&singer, patient(), "unknown-request", "`cancelled`");
    let nameless =
        Script { describe: format!("say '{}'", good.replace("1.2", "")), ..Script::default() };
    fails(&nameless, patient(), "description", "`version` is not one line");
    let moody =
        Script { describe: format!("say '{good}' | sed \"s/a test/$$/\""), ..Script::default() };
    fails(&moody, patient(), "same-description", "another");
    let layer = good.replace("kernel-args", "kernel-arks");
    let layer = Script { describe: format!("say '{layer}'"), ..Script::default() };
    fails(&layer, patient(), "layer", "kernel-arks");
    fails(
        &write("echo a >node.x; done_with node.x"),
        patient(),
        "write",
        "where `conformance.x` was announced",
    );
    let dated = "date +%s >\"$name.x\"; [ -e \"$disk\" ] || exit 1; done_with \"$name.x\"";
    fails(&write(dated), patient(), "same-bytes", "other bytes the second time");
    let placed = "pwd >\"$name.x\"; done_with \"$name.x\"";
    fails(&write(placed), patient(), "same-bytes", "other bytes the second time");
    let greedy = format!("chmod u+w \"$disk\" 2>/dev/null; echo more >>\"$disk\"; {COPY}");
    fails(&write(&greedy), patient(), "input-untouched", "not what it was");
    let careless = "echo a >\"$name.x\"; done_with \"$name.x\"";
    fails(&write(careless), patient(), "missing-input", "`done`");
    let mute = "[ -e \"$disk\" ] || { say '{\"answer\":\"error\",\"message\":\"\"}'; exit 1; }; cp \"$disk\" \"$name.x\"; done_with \"$name.x\"";
    fails(&write(mute), patient(), "missing-input", "no message");
}

/// A plugin that ends at its leisure, held to limits that it misses at the end of each write and nowhere else.
#[test]
fn who_does_not_stop_is_found() {
    // Both point at a write whose input nobody reads any more.
    let stubborn = format!("{COPY}\nexec >&-; [ -n \"$nobody\" ] || sleep 1000");
    let limits = Limits { cancel: impatient().cancel, end: Duration::from_secs(3), ..patient() };
    let report = report(&Script::writing(&stubborn), limits);
    let failed = points(&report, Outcome::Failed);
    assert!(failed.contains(&"cancel") && failed.contains(&"abandoned"), "{report:#?}");
}

/// Of a plugin that writes twice as it should, and then ends with `word`: the third write is to be given up.
fn giving_up_with(word: &str) -> Report {
    let write = format!(
        "[ ! -e \"$disk\" ] || echo >>\"$0.writes\"; [ $(wc -l <\"$0.writes\") -le 2 ] || {{ say '{word}'; exit 1; }}\n{COPY}"
    );
    report(&Script::writing(&write), patient())
}

#[test]
fn a_write_may_be_given_up_with_an_error_and_with_nothing_that_answers_something_else() {
    let report = giving_up_with("{\"answer\":\"error\",\"message\":\"told to stop\"}");
    assert_eq!(points(&report, Outcome::Failed), [""; 0], "{report:#?}");
    let good = description("raw");
    assert_eq!(points(&giving_up_with(&good), Outcome::Failed), ["cancel"]);
}

/// Writes twice as it should, and from then on always has something to say.
#[test]
fn who_talks_for_ever_is_found() {
    let write = format!(
        "echo >>\"$0.writes\"; [ $(wc -l <\"$0.writes\") -le 2 ] || {{ {TALKATIVE}; }}\n{COPY}"
    );
    let limits = Limits {
        silence: Duration::from_secs(10), // the two writes keep to it on a busy machine, too
        cancel: Duration::from_secs(3),   // until then it has begun to talk
        end: Duration::from_secs(3),
        ..patient()
    };
    let report = report(&Script::writing(&write), limits);
    let failed: Vec<(&str, &str)> = report
        .points
        .iter()
        .filter(|point| point.outcome == Outcome::Failed)
        .map(|point| (point.point, point.detail.as_str()))
        .collect();
    let expected = [
        ("missing-input", "it told of progress for 10 s"),
        ("cancel", "it did not end well within 3 s"),
        ("abandoned", "it did not end"),
    ];
    assert_eq!(failed, expected);
}

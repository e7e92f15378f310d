//! Regular expressions as Go itself reads them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nodekiln_goss::{Overall, judge};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value as Json, json};

use crate::fake::{Nothing, suite};

/// How many expressions are compared; each takes some tenths of a millisecond.
const CASES: usize = 4000;

/// What Go says of each.
fn go(cases: &[(String, String)]) -> Vec<String> {
    let list =
        cases.iter().map(|(expression, text)| json!({"Expression": expression, "Text": text}));
    let mut child = Command::new("go")
        .args(["run", "tests/it/expressions.go"])
        .envs([("GO111MODULE", "off"), ("CGO_ENABLED", "0")])
        .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("go of the package golang-go");
    let list = list.collect::<Json>().to_string();
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn ours(expression: &str, text: &str) -> Result<bool, String> {
    let matching =
        json!({"matching": {"x": {"content": text, "matches": {"match-regexp": expression}}}});
    // Two braces would begin an action of a template.
    let file = matching.to_string().replace("{{", "{\\u007b");
    let suite = suite(&file).map_err(|failure| failure.to_string())?;
    Ok(judge(&suite.resources[0], &Nothing).overall() == Overall::Pass)
}

/// Expressions of the signs in which the two engines could differ, of some length each.
fn expression() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        "1",
        "é",
        "{",
        "}",
        "{2}",
        "{,2}",
        "{1,}",
        "{02}",
        ",",
        "-",
        "[",
        "]",
        "[^",
        "^",
        "$",
        "(",
        ")",
        "|",
        "*",
        "?",
        ".",
        "\\",
        "\\d",
        "\\W",
        "\\s",
        "\\b",
        "\\B",
        "\\Q",
        "\\E",
        "\\A",
        "\\z",
        "\\x61",
        "\\x{e9}",
        "\\101",
        "\\0",
        "\\pN",
        "\\p{^L}",
        "\\P{Greek}",
        "[:alpha:]",
        "[:^digit:]",
        "[[:word:]]",
        "&&",
        "~~",
        "--",
        "\\-",
        "\\{",
        "\\<",
        "\\ ",
        "(?i:a)",
        "_",
        "/",
        " ",
        "\\n",
    ]);
    prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

#[test]
fn what_go_takes_is_taken_and_fits_the_same_texts() {
    let mut runner = TestRunner::deterministic();
    let text = prop::collection::vec(
        prop::sample::select(vec![
            "a", "b", "A", "1", "é", "{", "}", "2", ",", "-", "&", "~", "[", "]", "^", "_", " ",
            "\\",
        ]),
        0..4,
    );
    let case = (expression(), text.prop_map(|signs| signs.concat()));
    let cases: Vec<(String, String)> =
        (0..CASES).map(|_| case.new_tree(&mut runner).unwrap().current()).collect();
    let mut compared = [0, 0];
    for ((expression, text), said) in cases.iter().zip(go(&cases)) {
        if said == "refused" {
            continue;
        }
        let wanted = said == "yes";
        assert_eq!(ours(expression, text), Ok(wanted), "{expression:?} on {text:?}");
        compared[usize::from(wanted)] += 1;
    }
    assert!(compared.iter().all(|count| *count > CASES / 20), "{compared:?}");
}

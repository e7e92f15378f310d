//! The published schema: made from the types, and held against what is really said.

use std::path::PathBuf;

use jsonschema::Validator;
use nodekiln_plugins::check::{Outcome, check};
use nodekiln_words::Cancel;
use serde_json::{Value, json};

use crate::script::{COPY, Script, description, patient};

fn published() -> PathBuf {
    PathBuf::from("../docs/plugin.schema.json")
}

fn validator() -> Validator {
    let text = fs_err::read_to_string(published()).unwrap();
    jsonschema::draft202012::new(&serde_json::from_str(&text).unwrap()).unwrap()
}

#[test]
fn the_published_schema_is_that_of_the_types() {
    let schema = serde_json::to_value(nodekiln_plugin_protocol::schema()).unwrap();
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("NODEKILN_BLESS").is_some() {
        fs_err::write(published(), &text).unwrap();
    }
    assert!(
        fs_err::read_to_string(published()).unwrap_or_default() == text,
        "write it anew with NODEKILN_BLESS=1, and raise the version of the protocol where it says something else"
    );
    assert!(jsonschema::draft202012::meta::is_valid(&schema));
}

/// All lines of all conversations of a check, both ways, of a plugin that keeps what it hears and says.
#[test]
fn what_is_really_said_fits_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let keep = format!(
        "printf '%s\\n' \"$hello\" >>{log}; say() {{ printf '%s\\n' \"$1\" | tee -a {log}; }}",
        log = log.display()
    );
    let script = Script {
        hello: format!("{keep}; say '{{\"nodekiln_provider\":1}}'"),
        describe: format!(
            "printf '%s\\n' \"$request\" >>{}; say '{}'",
            log.display(),
            description("qcow2")
        ),
        write: format!(
            "printf '%s\\n' \"$request\" >>{}; say '{{\"answer\":\"progress\",\"done\":1}}'; {COPY}",
            log.display()
        ),
    };
    let report =
        check(&script.place().executable(), patient(), &Cancel::default(), &mut |_| ()).unwrap();
    assert_eq!(report.count(Outcome::Passed), report.points.len(), "{report:#?}");
    let said = fs_err::read_to_string(&log).unwrap();
    let validator = validator();
    let mut kinds = std::collections::BTreeSet::new();
    for line in said.lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&message).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{line}: {errors:?}");
        let kind = ["request", "answer"].iter().find_map(|key| message[key].as_str());
        kinds.insert(kind.unwrap_or("handshake").to_owned());
    }
    let expected = ["describe", "description", "done", "error", "handshake", "progress", "write"];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn what_nobody_says_does_not_fit() {
    let validator = validator();
    for good in [
        json!({"request": "cancel"}),
        json!({"answer": "cancelled"}),
        json!({"nodekiln_provider": 1}),
    ] {
        assert!(validator.is_valid(&good), "{good}");
    }
    let strange = [
        json!({}),
        json!({"request": "sing"}),
        json!({"request": "cancel", "now": true}),
        json!({"answer": "progress"}),
        json!({"answer": "progress", "done": -1}),
        json!({"answer": "progress", "done": 1, "mood": 2}),
        json!({"answer": "done", "artifacts": [{"file": "x", "bytes": 1}]}),
        json!({"nodekiln_provider": "1"}),
        json!([1]),
    ];
    for message in strange {
        assert!(!validator.is_valid(&message), "{message}");
    }
}

//! Judgement of documents and package URLs by CycloneDX's own library.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// The Python of the environment that `ci/peers cyclonedx` makes.
fn python() -> PathBuf {
    let cache = std::env::var_os("NODEKILN_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/nodekiln"),
        PathBuf::from,
    );
    let python = cache.join("venv-cyclonedx/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run `ci/peers cyclonedx` (needs Debian's python3-venv)",
        python.display()
    );
    python
}

fn ask(requests: &[Value]) -> Vec<Value> {
    let script = "tests/validate_cyclonedx.py";
    let mut child = Command::new(python())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text: String = requests.iter().map(|request| format!("{request}\n")).collect();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{script} ended with {}", output.status);
    let answers: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), requests.len());
    answers
}

/// What is wrong with each document.
pub(crate) fn document_errors(documents: &[Vec<u8>]) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let write = |(index, document): (usize, &Vec<u8>)| {
        let path = folder.path().join(format!("{index}.json"));
        fs::write(&path, document).unwrap();
        json!({ "document": path })
    };
    let requests: Vec<Value> = documents.iter().enumerate().map(write).collect();
    let errors = |answer: Value| serde_json::from_value(answer["errors"].clone()).unwrap();
    ask(&requests).into_iter().map(errors).collect()
}

/// The parts and canonical form of each package URL.
pub(crate) fn purls(purls: &[String]) -> Vec<Value> {
    ask(&purls.iter().map(|purl| json!({ "purl": purl })).collect::<Vec<_>>())
}

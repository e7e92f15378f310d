//! The plugin as nodekiln runs it.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests are named as sentences, and end at the first surprise"
)]

use std::path::Path;
use std::process::{Command, Stdio};

use nodekiln_plugins::check::{Outcome, check};
use nodekiln_plugins::{Executable, Limits};
use nodekiln_providers::{OpenStack, Provider, Qemu, Raw};
use nodekiln_words::Cancel;

const PLUGIN: &str = env!("CARGO_BIN_EXE_nodekiln-provider-kubevirt");

#[test]
fn it_keeps_to_the_protocol() {
    let executable = Executable::at(Path::new(PLUGIN)).unwrap();
    let report = check(&executable, Limits::default(), &Cancel::default(), &mut |_| ()).unwrap();
    let broken: Vec<_> =
        report.points.iter().filter(|point| point.outcome != Outcome::Passed).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert_eq!(report.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
}

/// Not a word of the two may differ but in comments: then their disks would, too.
#[test]
fn its_layer_is_that_of_nodekilns_own_providers_of_virtual_machines() {
    let parsed = |text: &str| serde_saphyr::from_str::<serde_json::Value>(text).unwrap();
    let own = parsed(include_str!("../../layer.yaml"));
    assert!(own["files"].as_array().is_some_and(|files| !files.is_empty()), "{own}");
    for other in [&Qemu as &dyn Provider, &Raw, &OpenStack] {
        assert_eq!(own, parsed(other.layer()), "{}", other.name());
    }
}

#[test]
fn who_starts_it_by_hand_is_told_what_it_is() {
    let mut child = Command::new(PLUGIN);
    let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"help\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("this is a provider plugin, which nodekiln starts"), "{errors}");
}

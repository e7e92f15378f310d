//! One object of the remote store is not what it should be: it is told, made here, and replaced.

use std::path::Path;

use nodekiln_build::remote::RemoteSettings;
use nodekiln_words::Sha256;

use super::{ALL, Common, Machine, names};

/// Changes a remote store in which everything is well.
type Fault = fn(&Filled);

/// A remote store with everything in it.
struct Filled {
    common: Common,
    first: Machine,
    key: Sha256,
}

impl Filled {
    fn new() -> Self {
        let common = Common::new();
        let first = Machine::new();
        first.build(&first.connect(&common.settings()).unwrap());
        let key = common.key_name();
        Self { common, first, key }
    }

    fn place(&self, object: &str) -> std::path::PathBuf {
        self.common.path().join(object)
    }

    fn record(&self, name: &str) -> std::path::PathBuf {
        self.place(&self.first.record(name, &self.key))
    }

    /// The pack that the record of a node names.
    fn pack(&self, name: &str) -> std::path::PathBuf {
        let record = std::fs::read_to_string(self.record(name)).unwrap();
        let json: serde_json::Value = serde_json::from_str(record.lines().nth(1).unwrap()).unwrap();
        let digest = json["pack"]["sha256"].as_str().unwrap();
        self.place(&format!("packs/sha256/{digest}"))
    }
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(path, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}

fn truncate(path: &Path) {
    let length = std::fs::metadata(path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length / 2).unwrap();
}

/// What happens to the node `one`, and what the warning names.
const FAULTS: [(&str, Fault, Option<&str>); 13] = [
    ("a pack is poisoned", |filled| flip(&filled.pack("one")), Some("its digest is")),
    ("a pack is cut short", |filled| truncate(&filled.pack("one")), Some("bytes, not")),
    (
        "a pack is too long",
        |filled| {
            let mut bytes = std::fs::read(filled.pack("one")).unwrap();
            bytes.push(0);
            std::fs::write(filled.pack("one"), bytes).unwrap();
        },
        Some("bytes, not"),
    ),
    (
        "a pack is missing",
        |filled| std::fs::remove_file(filled.pack("one")).unwrap(),
        Some("it is missing"),
    ),
    (
        "a pack is another's",
        |filled| copy(&filled.pack("two"), &filled.pack("one")),
        Some("bytes, not"),
    ),
    ("a record is poisoned", |filled| flip(&filled.record("one")), Some("signature")),
    ("a record is cut short", |filled| truncate(&filled.record("one")), Some("no signature")),
    (
        "a record is empty",
        |filled| std::fs::write(filled.record("one"), "").unwrap(),
        Some("begins"),
    ),
    ("a record is missing", |filled| std::fs::remove_file(filled.record("one")).unwrap(), None),
    (
        "a record is another node's",
        |filled| copy(&filled.record("two"), &filled.record("one")),
        Some("another node"),
    ),
    (
        "a record names another's pack",
        |filled| {
            let pack = |name: &str| {
                let text = std::fs::read_to_string(filled.record(name)).unwrap();
                let at = text.find(r#""pack":"#).unwrap();
                let end = at + text[at..].find('}').unwrap();
                (text.clone(), text[at..end].to_owned())
            };
            let ((text, own), (_, other)) = (pack("one"), pack("two"));
            std::fs::write(filled.record("one"), text.replace(&own, &other)).unwrap();
        },
        Some("signature is wrong"),
    ),
    (
        "a record is signed by a stranger",
        |filled| {
            let stranger = Common::new();
            let machine = Machine::new();
            machine.build(&machine.connect(&stranger.settings()).unwrap());
            let record = machine.record("one", &stranger.key_name());
            std::fs::copy(stranger.path().join(record), filled.record("one")).unwrap();
        },
        Some("signature is wrong"),
    ),
    (
        "a record is a text of any kind",
        |filled| std::fs::write(filled.record("one"), "<html>not found</html>").unwrap(),
        Some("begins with `<html>"),
    ),
];

#[test]
fn whatever_is_wrong_with_an_object_the_node_is_made_here_and_the_object_replaced() {
    for (what, fault, told) in FAULTS {
        let filled = Filled::new();
        fault(&filled);
        let second = Machine::new();
        let remote = second.connect(&filled.common.settings()).unwrap();
        let ran = second.build(&remote);
        assert_eq!(names(&ran.executed), ["one"], "{what}");
        assert_eq!(second.inventories(), filled.first.inventories(), "{what}");
        let warnings = second.told.warnings();
        match told {
            Some(told) => {
                let [warning] = &warnings[..] else { panic!("{what}: {warnings:?}") };
                assert!(warning.contains(told), "{what}: {warning}");
                assert!(warning.contains("packs/") || warning.contains("nodes/"), "{warning}");
            }
            None => assert_eq!(warnings, Vec::<String>::new(), "{what}"),
        }
        let third = Machine::new();
        let ran = third.run(&ALL, &third.connect(&filled.common.settings()).unwrap()).unwrap();
        assert_eq!(names(&ran.executed), Vec::<&str>::new(), "{what} is not replaced");
        assert_eq!(third.told.warnings(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn what_a_bad_node_stands_on_is_pulled_in_its_turn() {
    let filled = Filled::new();
    flip(&filled.pack("two"));
    let second = Machine::new();
    let remote = second.connect(&filled.common.settings()).unwrap();
    let ran = second.run(&["two"], &remote).unwrap();
    assert_eq!(names(&ran.executed), ["two"]);
    assert_eq!(names(&ran.pulled), ["one", "shell"], "nobody knew that they would be needed");
}

#[test]
fn a_short_pack_that_nobody_read_is_replaced_by_whoever_pushes() {
    let filled = Filled::new();
    truncate(&filled.pack("two"));
    // The first machine has the node itself and never asks for the pack.
    filled.first.build(&filled.first.connect(&filled.common.settings()).unwrap());
    let second = Machine::new();
    let remote = second.connect(&filled.common.settings()).unwrap();
    assert_eq!(names(&second.run(&["two"], &remote).unwrap().pulled), ["two"]);
}

#[test]
fn an_input_is_taken_by_its_digest_or_not_at_all() {
    let filled = Filled::new();
    let second = Machine::new();
    // In another store's blobs, where nothing was fetched yet.
    let folder = tempfile::tempdir().unwrap();
    let store = nodekiln_build::store::Store::open(&folder.path().join("store")).unwrap();
    let settings = filled.common.settings();
    let told = std::sync::Arc::clone(&second.told);
    let remote = nodekiln_build::remote::Remote::connect(
        &settings,
        &store,
        told.clone(),
        nodekiln_words::Cancel::default(),
    )
    .unwrap();
    let scripts: Vec<Sha256> =
        ["one", "two", "big"].iter().flat_map(|name| super::scripts(&second.plan, name)).collect();
    let place = |digest: &Sha256| {
        let hex = digest.to_string();
        filled.place(&format!("blobs/sha256/{}/{hex}", &hex[..2]))
    };
    flip(&place(&scripts[1]));
    let length = std::fs::metadata(place(&scripts[2])).unwrap().len();
    truncate(&place(&scripts[2]));
    let missing = Sha256::of("nowhere");
    let wanted =
        [(scripts[0], None), (scripts[1], None), (scripts[2], Some(length)), (missing, None)];
    remote.pull_inputs(&wanted.into()).unwrap();
    let there: Vec<bool> = scripts.iter().map(|digest| store.has_blob(digest)).collect();
    assert_eq!(there, [true, false, false]);
    assert!(!store.has_blob(&missing));
    assert_eq!(remote.traffic().pulled.inputs, 1);
    let warnings = told.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.contains("its digest is")), "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.contains("bytes, not")), "{warnings:?}");
    assert_eq!(std::fs::read_dir(store.root().join("scratch")).unwrap().count(), 1);

    // Whoever has them, and pushes what is made from them, puts them right.
    let third = Machine::new();
    for name in ["one", "two", "big"] {
        std::fs::remove_file(filled.record(name)).unwrap();
    }
    let remote = third.connect(&RemoteSettings { ..settings }).unwrap();
    let bad = [(scripts[1], None), (scripts[2], None)];
    remote.pull_inputs(&bad.into()).unwrap(); // there already: nothing is asked
    third.build(&remote);
    let short = std::fs::read(place(&scripts[2])).unwrap();
    assert_eq!(Sha256::of(short), scripts[2], "a length that is wrong is seen by whoever pushes");
}

//! Databases that bbolt itself wrote and reads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test, to unwrap is to assert"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nodekiln_bolt::{Bucket, Item, read, write};

/// The peer, compiled from Debian's sources of bbolt.
struct Peer {
    folder: tempfile::TempDir,
}

impl Peer {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
        let status = Command::new("go")
            .args(["build", "-o"])
            .arg(folder.path().join("peer"))
            .arg("tests/it/peer.go")
            .envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode"), ("CGO_ENABLED", "0")])
            .env("GOCACHE", kept)
            .status();
        let status = status.expect("go of the package golang-go");
        assert!(status.success(), "is the package golang-github-coreos-bbolt-dev installed?");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the peer prints when run so.
    fn run(&self, arguments: &[&str]) -> String {
        let [verb, file, more @ ..] = arguments else { panic!("a verb and a file") };
        let output = Command::new(self.path("peer"))
            .arg(verb)
            .arg(self.path(file))
            .args(more)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn write(&self, file: &str, root: &Bucket) {
        std::fs::write(self.path(file), write(root).unwrap()).unwrap();
    }

    fn read(&self, file: &str) -> Bucket {
        read(&std::fs::read(self.path(file)).unwrap()).unwrap()
    }
}

/// A bucket in the peer's words.
fn dump(path: &str, bucket: &Bucket, into: &mut String) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    writeln!(into, "{path}/ {}", bucket.sequence).unwrap();
    for (key, item) in &bucket.entries {
        let below = format!("{path}/{}", hex(key));
        match item {
            Item::Bucket(inner) => dump(&below, inner, into),
            Item::Value(value) => writeln!(into, "{below} {}", hex(value)).unwrap(),
        }
    }
}

fn dumped(root: &Bucket) -> String {
    let mut text = String::new();
    dump("", root, &mut text);
    text
}

fn bucket(sequence: u64, entries: impl IntoIterator<Item = (String, Item)>) -> Item {
    let entries = entries.into_iter().map(|(key, item)| (key.into_bytes(), item)).collect();
    Item::Bucket(Bucket { sequence, entries })
}

/// A database of three levels of pages, large values, small and large buckets in each other.
fn rich() -> Bucket {
    let value = |length: usize| Item::Value(vec![7; length]);
    let many = (0..30_000).map(|number| (format!("key {number:06}"), value(number % 50)));
    let sizes = (0..200).map(|number| (format!("{number}"), value(number * 97 % 6000)));
    let small = bucket(0, [("a".to_owned(), value(0)), ("b".to_owned(), value(10))]);
    let root = bucket(
        0,
        [
            ("many".to_owned(), bucket(5, many)),
            ("sizes".to_owned(), bucket(0, sizes)),
            ("large".to_owned(), bucket(0, [("value".to_owned(), value(70_000))])),
            ("nested".to_owned(), bucket(0, [("small".to_owned(), small)])),
            ("none".to_owned(), bucket(9, [])),
        ],
    );
    let Item::Bucket(root) = root else { unreachable!() };
    root
}

#[test]
fn bbolt_finds_no_fault_with_what_is_written_and_reads_the_same() {
    let peer = Peer::new();
    for (file, root) in [("rich", rich()), ("nothing", Bucket::default())] {
        peer.write(file, &root);
        assert!(peer.run(&["dump", file]) == dumped(&root), "bbolt reads {file} in another way");
    }
}

#[test]
fn bbolt_goes_on_writing_what_is_written() {
    let peer = Peer::new();
    for no_freelist in [&[][..], &["no-freelist"]] {
        peer.write("rich", &rich());
        peer.run(&[&["change", "rich"], no_freelist].concat());
        let root = peer.read("rich");
        assert_eq!(root.bucket("many").unwrap().sequence, 6);
        assert!(root.bucket("large").is_none());
        assert!(peer.run(&["dump", "rich"]) == dumped(&root), "the two read it in two ways");
    }
}

#[test]
fn what_bbolt_writes_is_read_as_bbolt_reads_it() {
    let peer = Peer::new();
    for (file, no_freelist) in [("with", &[][..]), ("without", &["no-freelist"])] {
        peer.run(&[&["make", file], no_freelist].concat());
        let root = peer.read(file);
        assert_eq!(root.bucket("many").unwrap().entries.len(), 4000);
        assert!(peer.run(&["dump", file]) == dumped(&root), "the two read {file} in two ways");
        // Written again it is smaller, and the same to bbolt.
        let before = std::fs::metadata(peer.path(file)).unwrap().len();
        peer.write(file, &root);
        assert!(std::fs::metadata(peer.path(file)).unwrap().len() < before / 2);
        assert!(peer.run(&["dump", file]) == dumped(&root));
    }
}

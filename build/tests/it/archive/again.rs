//! Opening an archive again: offline, later, and at a mirror that was set back.

use nodekiln_build::debian::{Archive, ArchiveSpec};
use nodekiln_build::store::Store;
use nodekiln_words::{Class, Result};

use super::{DATE, Fixture, NOW, Told, package};
use crate::server::Server;

const VALID: &str = "Valid-Until: Thu, 31 Dec 2099 23:59:59 UTC\n";

fn open(
    fixture: &Fixture,
    store: &Store,
    now: u64,
    offline: bool,
) -> (Result<Archive>, std::sync::Arc<Told>) {
    let (fetcher, told) = Fixture::watched(store, offline);
    let spec = ArchiveSpec { now, ..fixture.spec() };
    (Archive::open(&spec, &fetcher, store), told)
}

#[test]
fn what_was_opened_once_is_opened_offline() {
    let fixture = Fixture::with(&package("a", "1", ""));
    let store = fixture.fetcher().1;
    assert_eq!(open(&fixture, &store, NOW, true).0.err().unwrap().class(), Class::Missing);
    let (online, _) = open(&fixture, &store, NOW, false);
    let (offline, _) = open(&fixture, &store, NOW, true);
    assert!(online.unwrap().suites().eq(offline.unwrap().suites()));
    assert_eq!(fixture.server.requests("/dists/test-updates/InRelease").len(), 1);
}

#[test]
fn offline_an_index_that_was_valid_when_it_was_believed_goes_on_being_used() {
    let fixture = Fixture::new();
    fixture.suite("test", &package("a", "1", ""), VALID);
    let store = fixture.fetcher().1;
    open(&fixture, &store, NOW - 1, false).0.unwrap();
    let (archive, told) = open(&fixture, &store, NOW, true);
    archive.unwrap();
    let warnings = told.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("31 Dec 2099"), "{warnings:?}");
    let failure = open(&fixture, &store, NOW, false).0.err().unwrap();
    assert!(failure.help().unwrap().contains("os.mirrors"), "{failure:?}");
}

#[test]
fn offline_an_index_that_was_refused_stays_refused() {
    let fixture = Fixture::new();
    fixture.suite("test", "", VALID);
    let store = fixture.fetcher().1;
    open(&fixture, &store, NOW, false).0.err().unwrap();
    let failure = open(&fixture, &store, NOW, true).0.err().unwrap();
    assert!(failure.to_string().contains("expired"), "{failure}");
    assert!(failure.help().unwrap().contains("offline"), "{failure:?}");
}

#[test]
fn an_index_older_than_the_one_before_it_is_refused() {
    let dated = |day| format!("Suite: test\nDate: {day} Dec 2099 00:00:00 UTC\n");
    let fixture = Fixture::new();
    fixture.publish("test", "", &dated("Wed, 30"));
    let old = fixture.server.file("/dists/test/InRelease");
    fixture.publish("test", &package("a", "1", ""), &dated("Thu, 31"));
    let store = fixture.fetcher().1;
    for _ in 0..2 {
        open(&fixture, &store, NOW, false).0.unwrap();
    }
    let new = fixture.server.file("/dists/test/InRelease");
    fixture.server.put("/dists/test/InRelease", old);
    for offline in [false, true] {
        let failure = open(&fixture, &store, NOW, offline).0.err().unwrap();
        assert!(failure.to_string().contains("24 h older"), "{failure}");
        assert!(failure.help().unwrap().contains("index/suites"), "{failure:?}");
    }
    fixture.server.put("/dists/test/InRelease", new);
    open(&fixture, &store, NOW, false).0.unwrap();
    fs_err::remove_dir_all(store.root().join("index/suites")).unwrap();
    fixture.publish("test", "", &dated("Wed, 30"));
    open(&fixture, &store, NOW, false).0.unwrap();
}

#[test]
fn a_mirror_may_lag_behind_another_one() {
    let fixture = Fixture::new();
    fixture.publish("test", "", "Suite: test\nDate: Wed, 30 Dec 2099 00:00:00 UTC\n");
    let behind = Server::start();
    for path in ["InRelease", "main/binary-amd64/Packages.gz"] {
        let path = format!("/dists/test/{path}");
        behind.put(&path, fixture.server.file(&path));
    }
    fixture.publish("test", "", &format!("Suite: test\nDate: {DATE}\n"));
    let (fetcher, store) = fixture.fetcher();
    for base in [fixture.server.base(), behind.base()] {
        let spec = ArchiveSpec { mirrors: vec![base.to_owned()], ..fixture.spec() };
        Archive::open(&spec, &fetcher, &store).unwrap();
    }
}

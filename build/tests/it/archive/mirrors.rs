//! Mirrors that lack something, and those that are no mirrors of Debian at all.

use nodekiln_build::debian::{Archive, ArchiveSpec, Mirrors};
use nodekiln_build::fetch::Wanted;
use nodekiln_words::{Class, Result};

use super::{DATE, Fixture, Told, package};
use crate::server::Server;

/// The archive of bookworm at the mirrors of an apt that has these sources, and what was told.
fn open_by_apt(fixture: &Fixture, sources: &str) -> (Result<Archive>, std::sync::Arc<Told>) {
    let apt = tempfile::tempdir().unwrap();
    fs_err::write(apt.path().join("sources.list"), sources).unwrap();
    open_at(fixture, &Mirrors::of_apt(apt.path()).unwrap())
}

fn open_at(fixture: &Fixture, mirrors: &Mirrors) -> (Result<Archive>, std::sync::Arc<Told>) {
    let spec =
        ArchiveSpec { release: "bookworm".to_owned(), mirrors: Vec::new(), ..fixture.spec() };
    let store = fixture.fetcher().1;
    let (fetcher, told) = Fixture::watched(&store, false);
    (Archive::open_at(mirrors, &spec, &fetcher, &store), told)
}

/// Sources of apt for the fixture's archive.
fn debian(fixture: &Fixture) -> String {
    let base = fixture.server.base();
    format!("deb {base} bookworm main\ndeb {base} bookworm-security main\n")
}

/// A fixture whose bookworm is this to Debian, with these of its suites beside it.
fn bookworm(suite: &str, others: &[&str]) -> Fixture {
    let fixture = Fixture::new();
    let fields = format!("Suite: {suite}\nDate: {DATE}\n");
    fixture.publish("bookworm", &package("a", "1", ""), &fields);
    for name in others {
        fixture.suite(name, "", "");
    }
    fixture
}

#[test]
fn a_supported_release_without_its_updates_is_refused() {
    let both = ["bookworm-security", "bookworm-updates"];
    for lacking in 0..2 {
        for suite in ["stable", "oldstable", "oldoldstable"] {
            let fixture = bookworm(suite, &[both[1 - lacking]]);
            let failure = open_by_apt(&fixture, &debian(&fixture)).0.err().unwrap();
            assert_eq!(failure.class(), Class::Missing);
            for part in [both[lacking], suite, fixture.server.base()] {
                assert!(failure.to_string().contains(part), "{part} in {failure}");
            }
            assert!(failure.help().unwrap().contains("os.mirrors"), "{failure:?}");
        }
    }
    let fixture = bookworm("stable", &both);
    open_by_apt(&fixture, &debian(&fixture)).0.unwrap();
    let without = format!("deb {} bookworm main\n", fixture.server.base());
    let failure = open_by_apt(&fixture, &without).0.err().unwrap();
    assert!(failure.to_string().contains("apt's sources name no archive"), "{failure}");
}

#[test]
fn a_release_in_development_may_lack_updates() {
    let fixture = bookworm("testing", &[]);
    let (archive, told) = open_by_apt(&fixture, &debian(&fixture));
    assert_eq!(archive.unwrap().suites().count(), 1);
    assert_eq!((told.notes(), told.warnings()), (2, Vec::new()));
}

#[test]
fn a_mirror_that_was_named_may_lack_updates_with_a_warning() {
    let fixture = bookworm("stable", &["bookworm-updates"]);
    let named = Mirrors::find(&[fixture.server.base().to_owned()]).unwrap();
    let (archive, told) = open_at(&fixture, &named);
    assert_eq!(archive.unwrap().suites().count(), 2);
    let warnings = told.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("without bookworm-security"), "{warnings:?}");
}

#[test]
fn other_archives_in_apts_sources_are_not_asked_for_packages() {
    let fixture = bookworm("stable", &["bookworm-security", "bookworm-updates"]);
    let (first, last) = (Server::start(), Server::start());
    let base = fixture.server.base();
    let others = |server: &Server| format!("deb {} stable main\n", server.base());
    let sources = [others(&first), debian(&fixture), others(&last)].concat();
    let archive = open_by_apt(&fixture, &sources).0.unwrap();
    assert_eq!(archive.urls("pool/a.deb"), [format!("{base}/pool/a.deb")]);
    assert_eq!(first.requests("/dists/bookworm/InRelease").len(), 1);
    assert!(last.requests("/dists/bookworm/InRelease").is_empty());
}

#[test]
fn named_mirrors_that_serve_a_suite_come_first_and_those_that_do_not_are_left_out() {
    let fixture = bookworm("stable", &["bookworm-security", "bookworm-updates"]);
    let (empty, unasked) = (Server::start(), Server::start());
    let bases = [&empty, &fixture.server, &unasked].map(|server| server.base().to_owned());
    let archive = open_at(&fixture, &Mirrors::find(&bases).unwrap()).0.unwrap();
    let expected = [format!("{}/pool/a.deb", bases[1]), format!("{}/pool/a.deb", bases[2])];
    assert_eq!(archive.urls("pool/a.deb"), expected);
    assert_eq!(archive.urls("pool/updates/a.deb").len(), 2);
}

#[test]
fn each_archive_of_a_release_is_asked_first_for_what_it_has() {
    let fixture = bookworm("stable", &["bookworm-updates"]);
    let security = Server::start();
    fixture.suite("bookworm-security", "", "");
    for path in ["InRelease", "main/binary-amd64/Packages.gz"] {
        let path = format!("/dists/bookworm-security/{path}");
        security.put(&path, fixture.server.file(&path));
        fixture.server.remove(&path);
    }
    let base = fixture.server.base();
    let bases = [base.to_owned(), security.base().to_owned()];
    let archive = open_at(&fixture, &Mirrors::find(&bases).unwrap()).0.unwrap();
    let url = |base: &str, pool: &str| format!("{base}/{pool}/a.deb");
    let pool = "pool/main";
    assert_eq!(archive.urls("pool/main/a.deb"), [url(base, pool), url(security.base(), pool)]);
    let pool = "pool/updates";
    assert_eq!(archive.urls("pool/updates/a.deb"), [url(security.base(), pool), url(base, pool)]);
}

#[test]
fn an_index_that_the_first_mirror_lacks_comes_from_the_second() {
    let fixture = Fixture::with(&package("a", "1", ""));
    let second = Server::start();
    let path = "/dists/test/main/binary-amd64/Packages.gz";
    second.put(path, fixture.server.file(path));
    fixture.server.remove(path);
    let mirrors = vec![fixture.server.base().to_owned(), second.base().to_owned()];
    let spec = ArchiveSpec { mirrors, ..fixture.spec() };
    assert_eq!(fixture.open_as(&spec).unwrap().package_count(), 1);
    second.put("/pool/a.deb", "a 1");
    let (fetcher, store) = fixture.fetcher();
    let archive = Archive::open(&spec, &fetcher, &store).unwrap();
    let wanted = Wanted {
        what: "a.deb".to_owned(),
        urls: archive.urls("pool/a.deb"),
        sha256: nodekiln_words::Sha256::of("a 1"),
        size: Some(3),
    };
    fetcher.fetch(&[wanted]).unwrap();
}

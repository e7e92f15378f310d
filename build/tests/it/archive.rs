//! A small archive on a loopback server, signed with a key made here, and what can be wrong with it.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nodekiln_build::debian::{Archive, ArchiveSpec, ResolveOptions};
use nodekiln_build::fetch::{FetchSettings, Fetcher, Wanted};
use nodekiln_build::store::Store;
use nodekiln_recipes::lock::LockedPackage;
use nodekiln_words::{Cancel, Class, Event, Failure, Progress, Result, Sha256, Silent};
use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedSecretKey,
};
use pgp::types::Password;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::server::Server;

mod again;
mod mirrors;
mod signatures;

/// 2100-01-01T00:00:00Z: after any signature made by a test, which bears the time of its making.
pub(crate) const NOW: u64 = 4_102_444_800;

const DATE: &str = "Thu, 31 Dec 2099 00:00:00 UTC";

fn key(seed: u64) -> SignedSecretKey {
    SecretKeyParamsBuilder::default()
        .key_type(KeyType::Ed25519Legacy)
        .can_sign(true)
        .can_certify(true)
        .primary_user_id("Test archive <archive@test.invalid>".into())
        .build()
        .unwrap()
        .generate(StdRng::seed_from_u64(seed))
        .unwrap()
}

fn sign(key: &SignedSecretKey, text: &str) -> String {
    let random = StdRng::seed_from_u64(1);
    CleartextSignedMessage::sign(random, text, &key.primary_key, &Password::empty())
        .unwrap()
        .to_armored_string(ArmorOptions::default())
        .unwrap()
}

pub(crate) struct Fixture {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) server: Server,
    key: SignedSecretKey,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = key(7);
        let public = key.to_public_key().to_armored_bytes(ArmorOptions::default()).unwrap();
        fs_err::write(folder.path().join("keyring.asc"), public).unwrap();
        Self { folder, server: Server::start(), key }
    }

    /// An archive whose release `test` has these packages.
    fn with(packages: &str) -> Self {
        let fixture = Self::new();
        fixture.suite("test", packages, "");
        fixture
    }

    /// Publishes a suite with these packages, and these fields in its index.
    pub(crate) fn suite(&self, name: &str, packages: &str, fields: &str) {
        self.publish(name, packages, &format!("Suite: {name}\nDate: {DATE}\n{fields}"));
    }

    /// Publishes the suite of this code name with these fields before the table of its index.
    fn publish(&self, name: &str, packages: &str, fields: &str) {
        let folder = format!("/dists/{name}");
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gz, packages.as_bytes()).unwrap();
        let packed = gz.finish().unwrap();
        let sources = format!(
            "Package: tool\nVersion: 1-1\nDirectory: pool/tool\nChecksums-Sha256:\n {} 3 tool.dsc\n",
            Sha256::of("dsc")
        );
        let mut table = String::new();
        let files = [
            ("main/binary-amd64/Packages.gz", packed),
            ("main/source/Sources", sources.into_bytes()),
        ];
        for (path, bytes) in files {
            writeln!(table, " {} {} {path}", Sha256::of(&bytes), bytes.len()).unwrap();
            self.server.put(&format!("{folder}/{path}"), bytes);
        }
        let text = format!("Codename: {name}\n{fields}SHA256:\n{table}");
        self.server.put(&format!("{folder}/InRelease"), sign(&self.key, &text));
    }

    fn spec(&self) -> ArchiveSpec {
        ArchiveSpec {
            release: "test".to_owned(),
            architecture: "amd64".to_owned(),
            components: vec!["main".to_owned()],
            mirrors: vec![self.server.base().to_owned()],
            keyring: Some(self.folder.path().join("keyring.asc")),
            now: NOW,
        }
    }

    /// A store of its own for each call, so that nothing is known from before.
    fn fetcher(&self) -> (Fetcher, Store) {
        let root = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let store = Store::open(&root).unwrap();
        let settings = FetchSettings {
            attempts: 1,
            stall_timeout: Duration::from_secs(5),
            ..FetchSettings::default()
        };
        let shared = Arc::new(store.clone());
        (Fetcher::new(shared, Arc::new(Silent), Cancel::default(), settings).unwrap(), store)
    }

    /// A fetcher into `store`, and what it tells.
    pub(crate) fn watched(store: &Store, offline: bool) -> (Fetcher, Arc<Told>) {
        let told = Arc::new(Told::default());
        let settings = FetchSettings { attempts: 1, offline, ..FetchSettings::default() };
        let progress: Arc<dyn Progress> = Arc::clone(&told) as _;
        let store = Arc::new(store.clone());
        (Fetcher::new(store, progress, Cancel::default(), settings).unwrap(), told)
    }

    fn open_as(&self, spec: &ArchiveSpec) -> Result<Archive> {
        let (fetcher, store) = self.fetcher();
        Archive::open(spec, &fetcher, &store)
    }

    fn open(&self) -> Result<Archive> {
        self.open_as(&self.spec())
    }

    fn failure(&self) -> Failure {
        self.open().err().expect("the archive must be refused")
    }
}

/// The notes and warnings of a fetcher.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<Event>>);

impl Progress for Told {
    fn event(&self, event: Event) {
        if matches!(event, Event::Note(_) | Event::Warning(_)) {
            self.0.lock().unwrap().push(event);
        }
    }
}

impl Told {
    pub(crate) fn warnings(&self) -> Vec<String> {
        let told = self.0.lock().unwrap();
        let warning = |event: &Event| match event {
            Event::Warning(text) => Some(text.clone()),
            _ => None,
        };
        told.iter().filter_map(warning).collect()
    }

    fn notes(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|event| matches!(event, Event::Note(_))).count()
    }
}

/// An index entry; `fields` are further lines.
pub(crate) fn package(name: &str, version: &str, fields: &str) -> String {
    let deb = format!("{name} {version}");
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\n\
         Size: {}\nSHA256: {}\n{fields}\n\n",
        deb.len(),
        Sha256::of(&deb)
    )
}

fn resolve_with(
    packages: &[String],
    requested: &[&str],
    options: &ResolveOptions,
) -> Result<Vec<LockedPackage>> {
    let requested: Vec<String> = requested.iter().map(ToString::to_string).collect();
    Fixture::with(&packages.concat()).open().unwrap().resolve(&requested, options)
}

/// Names and versions of the packages chosen.
fn resolve(packages: &[String], requested: &[&str]) -> Vec<String> {
    resolve_with(packages, requested, &ResolveOptions::default())
        .unwrap()
        .iter()
        .map(|package| format!("{} {}", package.name, package.version))
        .collect()
}

fn refused(packages: &[String], requested: &[&str]) -> Failure {
    resolve_with(packages, requested, &ResolveOptions::default()).unwrap_err()
}

#[test]
fn packages_of_a_signed_archive_are_locked_and_fetched() {
    let fields = "Depends: b (>= 1)\nSource: src (0.9)\nMulti-Arch: foreign";
    let fixture = Fixture::with(&[package("a", "1", fields), package("b", "2", "")].concat());
    fixture.server.put("/pool/a.deb", "a 1");
    let (fetcher, store) = fixture.fetcher();
    let archive = Archive::open(&fixture.spec(), &fetcher, &store).unwrap();
    let locked = archive.resolve(&["a".to_owned()], &ResolveOptions::default()).unwrap();
    let expected = LockedPackage {
        name: "a".to_owned(),
        version: "1".to_owned(),
        architecture: "amd64".to_owned(),
        sha256: Sha256::of("a 1"),
        size: 3,
        suite: "test".to_owned(),
        component: "main".to_owned(),
        path: "pool/a.deb".to_owned(),
        source: "src".to_owned(),
        source_version: "0.9".to_owned(),
        essential: false,
        requested: true,
    };
    assert_eq!(locked[0], expected);
    assert_eq!((locked[1].name.as_str(), locked[1].requested), ("b", false));
    let wanted = Wanted {
        what: "a.deb".to_owned(),
        urls: archive.mirrors().urls(&locked[0]),
        sha256: locked[0].sha256,
        size: Some(locked[0].size),
    };
    fetcher.fetch(std::slice::from_ref(&wanted)).unwrap();
    assert_eq!(store.read_blob(&wanted.sha256).unwrap(), b"a 1");
    let source = archive.source("tool").unwrap();
    assert_eq!(source[0].1.url, "pool/tool/tool.dsc");
    assert_eq!(archive.source("nothing").unwrap_err().class(), Class::Input);
}

#[test]
fn an_altered_package_is_refused_with_file_and_both_digests() {
    let fixture = Fixture::with(&package("a", "1", ""));
    fixture.server.put("/pool/a.deb", "a 2");
    let (fetcher, store) = fixture.fetcher();
    let archive = Archive::open(&fixture.spec(), &fetcher, &store).unwrap();
    let wanted = Wanted {
        what: "pool/a.deb".to_owned(),
        urls: archive.urls("pool/a.deb"),
        sha256: Sha256::of("a 1"),
        size: Some(3),
    };
    let text = fetcher.fetch(&[wanted]).unwrap_err().to_string();
    for part in ["pool/a.deb", &Sha256::of("a 1").to_string(), &Sha256::of("a 2").to_string()] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn an_altered_package_index_is_refused_with_file_and_both_digests() {
    let path = "/dists/test/main/binary-amd64/Packages.gz";
    let fixture = Fixture::with(&package("a", "1", ""));
    let intact = fixture.server.file(path);
    for at in [0, intact.len() / 2, intact.len() - 1] {
        let mut bytes = intact.clone();
        bytes[at] ^= 0x20;
        fixture.server.put(path, bytes.clone());
        let text = fixture.failure().to_string();
        let (expected, found) = (Sha256::of(&intact), Sha256::of(&bytes));
        for part in ["Packages.gz", &expected.to_string(), &found.to_string()] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    fixture.server.put(path, intact);
    fixture.open().unwrap();
}

#[test]
fn no_altered_byte_of_a_signed_index_changes_what_is_believed() {
    let fixture = Fixture::with(&package("a", "1", ""));
    let intact = fixture.server.file("/dists/test/InRelease");
    let signed = "-----BEGIN PGP SIGNATURE";
    let end = String::from_utf8_lossy(&intact).find(signed).unwrap();
    let start = String::from_utf8_lossy(&intact).find("Suite").unwrap();
    let keyring = fs_err::read(fixture.folder.path().join("keyring.asc")).unwrap();
    let keyring = nodekiln_build::debian::Keyring::read("k", &keyring).unwrap();
    let text = keyring.verify("InRelease", &intact, NOW).unwrap().text;
    for at in 0..intact.len() {
        let mut bytes = intact.clone();
        bytes[at] ^= 1;
        match keyring.verify("InRelease", &bytes, NOW) {
            Ok(signed) => {
                // Blanks at a line's end are not signed, and armor has bytes that mean nothing.
                assert_eq!(signed.text, text, "byte {at}");
                assert!(!(start..end - 1).contains(&at), "byte {at}");
            }
            Err(failure) => assert_eq!(failure.class(), Class::Io),
        }
    }
    let mut bytes = intact;
    bytes[start] ^= 1;
    fixture.server.put("/dists/test/InRelease", bytes);
    let failure = fixture.failure();
    assert!(failure.to_string().contains("/dists/test/InRelease"), "{failure}");
    assert!(failure.help().is_some());
}

#[test]
fn a_signature_by_another_key_is_refused_with_that_keys_id() {
    let mut fixture = Fixture::new();
    fixture.key = key(8);
    fixture.suite("test", &package("a", "1", ""), "");
    let failure = fixture.failure();
    let id = pgp::types::KeyDetails::legacy_key_id(&fixture.key.primary_key).to_string();
    assert!(failure.to_string().contains("no good signature"), "{failure}");
    assert!(failure.to_string().contains(&id.to_uppercase()), "{failure}");
    assert!(failure.to_string().contains("keyring.asc"), "{failure}");
}

#[test]
fn the_key_that_signed_is_told() {
    let fixture = Fixture::with(&package("a", "1", ""));
    let archive = fixture.open().unwrap();
    let suites: Vec<_> = archive.suites().collect();
    let fingerprint = pgp::types::KeyDetails::fingerprint(&fixture.key.primary_key).to_string();
    assert_eq!((suites.len(), suites[0].fingerprint), (1, fingerprint.as_str()));
    assert_eq!(suites[0].name, "test");
}

#[test]
fn an_index_that_has_expired_is_refused_with_a_remedy() {
    let fixture = Fixture::new();
    fixture.suite("test", "", "Valid-Until: Thu, 31 Dec 2099 23:59:59 UTC\n");
    let failure = fixture.failure();
    assert!(failure.to_string().contains("expired"), "{failure}");
    assert!(failure.help().is_some());
    let earlier = ArchiveSpec { now: NOW - 1, ..fixture.spec() };
    fixture.open_as(&earlier).unwrap();
}

#[test]
fn another_suites_index_in_this_place_is_refused() {
    let fixture = Fixture::with("");
    fixture.suite("old", "", "");
    let other = fixture.server.file("/dists/old/InRelease");
    fixture.server.put("/dists/test/InRelease", other);
    assert!(fixture.failure().to_string().contains("is for old, old, not test"));
}

#[test]
fn an_unknown_release_names_the_mirrors_asked() {
    let fixture = Fixture::with("");
    let spec = ArchiveSpec { release: "nonesuch".to_owned(), ..fixture.spec() };
    let failure = fixture.open_as(&spec).err().unwrap();
    assert_eq!(failure.class(), Class::Input);
    assert!(failure.to_string().contains("`nonesuch`"), "{failure}");
    assert!(failure.to_string().contains(fixture.server.base()), "{failure}");
    let spec = ArchiveSpec { release: "../test".to_owned(), ..fixture.spec() };
    assert_eq!(fixture.open_as(&spec).err().unwrap().class(), Class::Input);
}

#[test]
fn an_unknown_component_names_those_that_exist() {
    let fixture = Fixture::with("");
    let spec = ArchiveSpec { components: vec!["mian".to_owned()], ..fixture.spec() };
    let failure = fixture.open_as(&spec).err().unwrap();
    assert!(failure.help().unwrap().contains("main"), "{failure:?}");
}

#[test]
fn the_second_mirror_serves_what_the_first_lacks() {
    let fixture = Fixture::with(&package("a", "1", ""));
    let empty = Server::start();
    let mirrors = vec![empty.base().to_owned(), fixture.server.base().to_owned()];
    let spec = ArchiveSpec { mirrors, ..fixture.spec() };
    assert_eq!(fixture.open_as(&spec).unwrap().package_count(), 1);
}

#[test]
fn updates_and_security_bring_newer_versions() {
    let fixture = Fixture::with(&[package("a", "1", ""), package("b", "1", "")].concat());
    fixture.suite("test-updates", &package("a", "2", ""), "");
    fixture.suite("test-security", &[package("a", "3", ""), package("b", "1", "")].concat(), "");
    let requested = ["a".to_owned(), "b".to_owned()];
    let locked = fixture.open().unwrap().resolve(&requested, &ResolveOptions::default()).unwrap();
    assert_eq!((locked[0].version.as_str(), locked[0].suite.as_str()), ("3", "test-security"));
    assert_eq!(locked[1].suite, "test", "the same version counts for the first suite");
    let older = ["a=2".to_owned()];
    let locked = fixture.open().unwrap().resolve(&older, &ResolveOptions::default()).unwrap();
    assert_eq!((locked[0].version.as_str(), locked[0].suite.as_str()), ("2", "test-updates"));
    let failure = fixture.open().unwrap().resolve(&["a=9".to_owned()], &ResolveOptions::default());
    assert!(failure.unwrap_err().help().unwrap().contains("3, 2, 1"));
}

#[test]
fn a_second_opening_reads_what_the_first_one_kept() {
    let fixture = Fixture::with(&package("a", "1", ""));
    let (fetcher, store) = fixture.fetcher();
    Archive::open(&fixture.spec(), &fetcher, &store).unwrap();
    Archive::open(&fixture.spec(), &fetcher, &store).unwrap();
    assert_eq!(fixture.server.unchanged(), 1);
    assert_eq!(fixture.server.requests("/dists/test/main/binary-amd64/Packages.gz").len(), 1);
}

#[test]
fn a_missing_package_is_told_with_near_names_and_suites() {
    let packages = [package("containerd", "1", ""), package("runc", "1", "Provides: oci-runtime")];
    let failure = refused(&packages, &["contianerd"]);
    assert_eq!(failure.class(), Class::Input);
    assert_eq!(failure.to_string(), "no package `contianerd` in test");
    assert!(failure.help().unwrap().contains("containerd"));
    assert!(refused(&packages, &["oci-runtme"]).help().unwrap().contains("oci-runtime"));
}

/// What is installed stays in its version though the archive has a newer one, fulfils what it can, and is
/// no part of what is added.
#[test]
fn packages_are_chosen_beside_those_that_are_there() {
    let packages = [
        package("agent", "1", "Depends: lib (>= 1), extra, shared"),
        package("extra", "1", ""),
        package("lib", "1", ""),
        package("lib", "2", ""),
        package("needy", "1", "Depends: lib (>= 2)"),
        package("rival", "1", "Conflicts: shared"),
        package("shared", "1", ""),
    ];
    let there = [("lib", "1"), ("shared", "1")];
    let there = there.map(|(name, version)| (name.to_owned(), version.to_owned()));
    let options = ResolveOptions { installed: there.into(), ..ResolveOptions::default() };
    let names = |asked: &[&str]| -> Vec<String> {
        let added = resolve_with(&packages, asked, &options).unwrap();
        added.iter().map(|package| format!("{} {}", package.name, package.version)).collect()
    };
    assert_eq!(names(&["agent"]), ["agent 1", "extra 1"]);
    assert_eq!(names(&["shared"]), Vec::<String>::new());
    for (asked, reason) in [("needy", "lib"), ("rival", "shared"), ("lib=2", "lib")] {
        let failure = resolve_with(&packages, &[asked], &options).unwrap_err();
        assert_eq!(failure.class(), Class::Input, "{asked}");
        assert!(failure.chain().join(" ").contains(reason), "{asked}: {failure:?}");
        assert!(failure.help().unwrap().contains("image's own packages stay"), "{failure:?}");
    }
}

#[test]
fn alternatives_are_taken_in_the_order_written() {
    let packages = [
        package("a", "1", "Depends: z | y"),
        package("b", "1", "Depends: nothing | y"),
        package("y", "1", ""),
        package("z", "1", ""),
    ];
    assert_eq!(resolve(&packages, &["a"]), ["a 1", "z 1"]);
    assert_eq!(resolve(&packages, &["b"]), ["b 1", "y 1"]);
}

#[test]
fn a_real_package_comes_before_those_that_provide_it() {
    let packages = [
        package("a", "1", "Depends: mta"),
        package("exim", "1", "Provides: mta"),
        package("mta", "1", ""),
    ];
    assert_eq!(resolve(&packages, &["a"]), ["a 1", "mta 1"]);
}

#[test]
fn a_virtual_package_is_provided_by_the_most_important_provider() {
    let packages = [
        package("base", "1", "Depends: awk"),
        package("gawk", "1", "Provides: awk\nPriority: optional"),
        package("mawk", "1", "Provides: awk\nPriority: required"),
    ];
    assert_eq!(resolve(&packages, &["base"]), ["base 1", "mawk 1"]);
    let failure = refused(&packages, &["awk"]);
    assert!(failure.help().unwrap().contains("mawk, gawk"), "{failure:?}");
}

#[test]
fn a_versioned_dependency_needs_a_versioned_provision() {
    let packages = [
        package("a", "1", "Depends: lib (>= 2)"),
        package("lib-one", "1", "Provides: lib"),
        package("lib-three", "1", "Provides: lib (= 3)"),
    ];
    assert_eq!(resolve(&packages, &["a"]), ["a 1", "lib-three 1"]);
    let failure = refused(&packages[..2], &["a"]);
    assert!(format!("{failure:?}").contains("lib"), "{failure:?}");
}

#[test]
fn an_older_version_is_taken_where_the_newest_does_not_fit() {
    let packages =
        [package("a", "1", "Depends: b (<< 2)"), package("b", "1", ""), package("b", "2", "")];
    assert_eq!(resolve(&packages, &["a"]), ["a 1", "b 1"]);
    assert_eq!(resolve(&packages, &["b"]), ["b 2"]);
}

#[test]
fn conflicts_and_breaks_are_gone_around_or_explained() {
    let packages = [
        package("a", "1", "Depends: x | y"),
        package("b", "1", "Conflicts: x"),
        package("c", "1", "Breaks: y (<< 2)"),
        package("x", "1", ""),
        package("y", "1", ""),
    ];
    assert_eq!(resolve(&packages, &["a", "b"]), ["a 1", "b 1", "y 1"]);
    assert_eq!(resolve(&packages, &["a", "c"]), ["a 1", "c 1", "x 1"]);
    let failure = refused(&packages, &["a", "b", "c"]);
    assert_eq!(failure.class(), Class::Input);
    let text = failure.chain().join("\n");
    assert!(text.contains("x") && text.contains("y") && text.contains("a"), "{text}");
}

#[test]
fn conflicts_meet_providers_but_not_the_package_itself() {
    let packages = [
        package("exim", "1", "Provides: mta\nConflicts: mta"),
        package("postfix", "1", "Provides: mta\nConflicts: mta"),
        package("user", "1", "Depends: mta"),
    ];
    assert_eq!(resolve(&packages, &["exim", "user"]), ["exim 1", "user 1"]);
    assert_eq!(refused(&packages, &["exim", "postfix"]).class(), Class::Input);
}

#[test]
fn cycles_end() {
    let packages = [package("a", "1", "Depends: b"), package("b", "1", "Depends: a")];
    assert_eq!(resolve(&packages, &["a"]), ["a 1", "b 1"]);
}

#[test]
fn recommendations_and_other_architectures_are_left_out() {
    let foreign = package("x", "9", "").replace("amd64", "arm64");
    let fields = "Recommends: r\nDepends: x [amd64], z [arm64]";
    let packages = [package("a", "1", fields), package("x", "1", ""), foreign];
    assert_eq!(resolve(&packages, &["a"]), ["a 1", "x 1"]);
}

#[test]
fn the_essential_set_and_what_is_needed_early_are_marked() {
    let packages = [
        package("dash", "1", "Essential: yes\nDepends: libc"),
        package("debconf", "1", ""),
        package("libc", "1", ""),
        package("login", "1", "Priority: required"),
        package("service", "1", "Pre-Depends: debconf\nDepends: tail"),
        package("tail", "1", ""),
    ];
    let early = |options: &ResolveOptions| {
        let locked = resolve_with(&packages, &["service"], options).unwrap();
        let mark = |package: &LockedPackage| match package.essential {
            true => format!("{}!", package.name),
            false => package.name.clone(),
        };
        locked.iter().map(mark).collect::<Vec<_>>().join(" ")
    };
    let plain = ResolveOptions::default();
    assert_eq!(early(&plain), "debconf! service tail");
    let essential = ResolveOptions { essential: true, ..plain.clone() };
    assert_eq!(early(&essential), "dash! debconf! libc! service tail");
    let required = ResolveOptions { required: true, ..essential };
    assert_eq!(early(&required), "dash! debconf! libc! login service tail");
}

#[test]
fn a_relation_that_cannot_be_read_names_its_package() {
    let packages = [package("a", "1", "Depends: b (>>> 1"), package("b", "1", "")];
    let failure = refused(&packages, &["a"]);
    assert!(failure.to_string().contains("`a` 1"), "{failure}");
    assert_eq!(resolve(&packages, &["b"]), ["b 1"], "others are not touched");
}

#[test]
fn a_path_out_of_the_archive_is_refused() {
    let packages = [package("a", "1", "").replace("pool/a.deb", "../../etc/passwd")];
    assert!(refused(&packages, &["a"]).to_string().contains("../../etc/passwd"));
}

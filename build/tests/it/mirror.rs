//! Checks against the Debian mirror that this machine's apt uses; they need its network.
//!
//! They are left out of a usual run, which must work offline:
//! `cargo test -p nodekiln-build --test it -- --ignored mirror --nocapture`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use nodekiln_build::debian::{Archive, ArchiveSpec, ResolveOptions, compare_versions};
use nodekiln_build::fetch::{FetchSettings, Fetcher, Wanted};
use nodekiln_build::store::Store;
use nodekiln_recipes::lock::LockedPackage;
use nodekiln_words::{Cancel, Silent};

const NODE: [&str; 14] = [
    "systemd-sysv",
    "linux-image-cloud-amd64",
    "cloud-init",
    "containerd",
    "openssh-server",
    "initramfs-tools",
    "chrony",
    "curl",
    "jq",
    "iptables",
    "ethtool",
    "socat",
    "conntrack",
    "gnupg",
];

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn fetcher(store: &Store) -> Fetcher {
    let store = Arc::new(store.clone());
    Fetcher::new(store, Arc::new(Silent), Cancel::default(), FetchSettings::default()).unwrap()
}

fn spec(release: &str) -> ArchiveSpec {
    ArchiveSpec {
        release: release.to_owned(),
        architecture: "amd64".to_owned(),
        components: vec!["main".to_owned()],
        mirrors: Vec::new(),
        keyring: None,
        now: now(),
    }
}

fn options() -> ResolveOptions {
    ResolveOptions { essential: true, required: true, ..ResolveOptions::default() }
}

fn node() -> Vec<String> {
    NODE.iter().map(ToString::to_string).collect()
}

/// The least versions of packages that tell the releases apart.
const NEWER_THAN: [(&str, [(&str, &str); 2]); 2] = [
    ("bookworm", [("systemd", "252"), ("libc6", "2.36")]),
    ("trixie", [("systemd", "257"), ("libc6", "2.41")]),
];

#[test]
#[ignore = "needs the network"]
fn a_node_of_two_releases_is_resolved_and_fetched() {
    let kept = std::env::var_os("NODEKILN_TEST_CACHE");
    let folder = tempfile::tempdir().unwrap();
    let root = kept.map_or_else(|| folder.path().to_owned(), Into::into);
    for (release, versions) in NEWER_THAN {
        let first = resolved_and_fetched(release, &root);
        let again = resolved_and_fetched(release, &root);
        assert_eq!(first, again);
        let named = |name: &str| first.iter().find(|package| package.name == name);
        for name in NODE {
            assert!(named(name).is_some_and(|package| package.requested), "{name}");
        }
        for (name, least) in versions {
            let package = named(name).unwrap();
            assert!(compare_versions(&package.version, least).is_ge(), "{release}: {package:?}");
        }
        assert!(named("libc6").unwrap().essential && !named("curl").unwrap().essential);
    }
}

/// The packages of a node, which are in the store afterwards.
fn resolved_and_fetched(release: &str, root: &Path) -> Vec<LockedPackage> {
    let store = Store::open(root).unwrap();
    let fetcher = fetcher(&store);
    let start = Instant::now();
    let archive = Archive::open(&spec(release), &fetcher, &store).unwrap();
    let opened = start.elapsed();
    let suites: Vec<String> = archive.suites().map(|suite| suite.name.to_owned()).collect();
    assert_eq!(suites, ["", "-updates", "-security"].map(|ending| format!("{release}{ending}")));
    assert!(archive.package_count() > 60_000);
    let start = Instant::now();
    let packages = archive.resolve(&node(), &options()).unwrap();
    let resolved = start.elapsed();
    let start = Instant::now();
    let wanted: Vec<Wanted> = packages.iter().map(|package| wanted(&archive, package)).collect();
    fetcher.fetch(&wanted).unwrap();
    let bytes: u64 = packages.iter().map(|package| package.size).sum();
    println!(
        "{release}: opened in {opened:?}, {} packages resolved in {resolved:?}, {bytes} bytes \
         fetched in {:?}",
        packages.len(),
        start.elapsed()
    );
    for package in &packages {
        let bytes = store.read_blob(&package.sha256).unwrap();
        assert_eq!(bytes.len() as u64, package.size, "{}", package.path);
    }
    packages
}

fn wanted(archive: &Archive, package: &LockedPackage) -> Wanted {
    Wanted {
        what: package.path.clone(),
        urls: archive.mirrors().urls(package),
        sha256: package.sha256,
        size: Some(package.size),
    }
}

/// What apt would install into an empty system for the same request, by name.
///
/// Needs the program `apt-get` (Debian package `apt`) with the lists of release 12 fetched
/// (`apt-get update`).
fn by_apt() -> BTreeMap<String, String> {
    let output = Command::new("apt-get")
        .args(["--simulate", "--no-install-recommends", "-o", "Dir::State::status=/dev/null"])
        .args(["-o", "APT::Get::AllowUnauthenticated=false", "install"])
        .args([
            "?and(?essential, ?architecture(amd64))",
            "?and(?priority(required), ?architecture(amd64))",
        ])
        .args(NODE)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("apt-get (Debian package `apt`) must be installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let installed = text.lines().filter_map(|line| {
        let mut words = line.strip_prefix("Inst ")?.split_whitespace();
        let name = words.next()?;
        Some((name.to_owned(), words.next()?.trim_start_matches('(').to_owned()))
    });
    installed.collect()
}

#[test]
#[ignore = "needs the network"]
fn apt_chooses_the_same_packages() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let archive = Archive::open(&spec("bookworm"), &fetcher(&store), &store).unwrap();
    let ours: BTreeMap<String, String> = archive
        .resolve(&node(), &options())
        .unwrap()
        .into_iter()
        .map(|package| (package.name, package.version))
        .collect();
    let theirs = by_apt();
    assert!(theirs.len() > 150, "{theirs:?}");
    let only = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| -> Vec<String> {
        let differs = |(name, version): &(&String, &String)| b.get(*name) != Some(*version);
        a.iter().filter(differs).map(|(name, version)| format!("{name} {version}")).collect()
    };
    assert_eq!((only(&ours, &theirs), only(&theirs, &ours)), (Vec::new(), Vec::new()));
}

//! Kubernetes compiled from Debian's own archive, and its images imported: the real thing, which
//! takes its time and a network, so it is asked for by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use nodekiln_build::debian::{Archive, ArchiveSpec, ResolveOptions};
use nodekiln_build::fetch::{FetchSettings, Fetcher, Wanted};
use nodekiln_build::kubernetes::{compile, images};
use nodekiln_build::layer::Root;
use nodekiln_build::sandbox::SandboxCommand;
use nodekiln_build::steps::{
    control_plane_images, kubernetes_compile, kubernetes_install, packages, preload, tools_tree,
};
use nodekiln_build::store::StoredNode;
use nodekiln_recipes::lock::LockedPackage;
use nodekiln_recipes::plan::PlannedPackage;
use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Cancel, Sha256, Silent};

use crate::node::{Bench, source_date};

const VERSION: Version = Version { major: 1, minor: 20, patch: 2 };

fn planned(locked: &[LockedPackage]) -> Vec<PlannedPackage> {
    locked.iter().map(PlannedPackage::from).collect()
}

fn listed() -> Vec<String> {
    let listed = images::listed(VERSION, "k8s.gcr.io").unwrap();
    listed.iter().map(ToString::to_string).collect()
}
const RELEASE: &str = "bookworm";

/// Debian's archive as this machine's apt names it, and a fetcher into the bench's store.
struct Debian {
    archive: Archive,
    fetcher: Fetcher,
}

impl Debian {
    fn open(bench: &Bench) -> Self {
        let store = Arc::new(bench.store.clone());
        let settings = FetchSettings::default();
        let fetcher = Fetcher::new(store, Arc::new(Silent), Cancel::default(), settings).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let spec = ArchiveSpec {
            release: RELEASE.to_owned(),
            architecture: "amd64".to_owned(),
            components: vec!["main".to_owned()],
            mirrors: Vec::new(),
            keyring: None,
            now,
        };
        let archive = Archive::open(&spec, &fetcher, &bench.store).unwrap();
        Self { archive, fetcher }
    }

    fn fetch(&self, what: &str, path: &str, sha256: Sha256, size: Option<u64>) {
        let urls = self.archive.urls(path);
        self.fetcher.fetch(&[Wanted { what: what.to_owned(), urls, sha256, size }]).unwrap();
    }

    /// Resolves and fetches packages with all that they need.
    fn packages(&self, names: &[&str], essential: bool) -> Vec<LockedPackage> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let options =
            ResolveOptions { essential, required: essential, ..ResolveOptions::default() };
        let packages = self.archive.resolve(&names, &options).unwrap();
        for package in &packages {
            self.fetch(&package.name, &package.path, package.sha256, Some(package.size));
        }
        packages
    }
}

/// A configured tree of packages.
fn tree(bench: &Bench, debian: &Debian, name: &str, names: &[&str]) -> PathBuf {
    let locked = debian.packages(names, true);
    let (output, result) = bench.execute(name, &[], &BTreeMap::new(), &[], |execution| {
        packages::run(RELEASE, &planned(&locked), &[], execution)
    });
    result.unwrap();
    output
}

#[test]
#[ignore = "compiles kubeadm twice from Debian's archive: a network and ten minutes"]
fn kubeadm_is_the_same_in_two_folders_and_does_its_work() {
    let bench = Bench::new();
    let debian = Debian::open(&bench);
    let compiler = tree(&bench, &debian, "compiler", &compile::PACKAGES);
    let sources: BTreeMap<_, _> =
        debian.archive.source("kubernetes").unwrap().into_iter().collect();
    for (name, file) in &sources {
        debian.fetch(name, &file.url, file.sha256, file.size);
    }
    let targets: Vec<_> = compile::TARGETS
        .into_iter()
        .filter(|target| ["pause", "kubeadm"].contains(&target.name))
        .collect();
    let make = |name: &str| {
        let begun = Instant::now();
        let (output, result) =
            bench.execute(name, &[&compiler], &BTreeMap::new(), &[], |execution| {
                kubernetes_compile::targets(VERSION, &sources, &targets, execution)
            });
        result.unwrap_or_else(|failure| panic!("{failure:?}"));
        println!("{name}: {:?}", begun.elapsed());
        output
    };
    let (one, two) = (make("one"), make("another-with-a-longer-name"));
    for target in &targets {
        let digest = |output: &Path| {
            Sha256::of(std::fs::read(output.join("bin").join(target.name)).unwrap())
        };
        assert_eq!(digest(&one), digest(&two), "{}", target.name);
    }
    assert!(!bench.path("one/work").exists() && !bench.path("one/tree").exists());

    let scratch = bench.path("run");
    std::fs::create_dir(&scratch).unwrap();
    let root = Root::assemble(&[one], &scratch).unwrap();
    let says = |argv: &[&str]| {
        let log = bench.path("says");
        let command = SandboxCommand::new("the test", root.path(), argv, log, source_date());
        let output = bench.sandbox.run(&command, &Cancel::default()).unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(says(&["/bin/kubeadm", "version", "--output=short"]), "v1.20.2\n");
    // Panics when built with the vendored reflect2.
    assert!(says(&["/bin/kubeadm", "config", "print", "init-defaults"]).contains("apiVersion"));
    assert_eq!(says(&["/bin/pause", "-v"]), "pause.c v3.2-nodekiln\n");
}

#[test]
#[ignore = "wants NODEKILN_KUBERNETES_BIN, a folder with all programs of Kubernetes 1.20.2"]
fn a_whole_control_plane_is_imported_into_a_node() {
    let binaries = PathBuf::from(std::env::var_os("NODEKILN_KUBERNETES_BIN").unwrap());
    let bench = Bench::new();
    let debian = Debian::open(&bench);
    let locked = debian.packages(&images::PACKAGES, false);
    let (tools, result) = bench.execute("tools", &[], &BTreeMap::new(), &[], |execution| {
        tools_tree::run(&planned(&locked), execution)
    });
    result.unwrap();
    let move_in = |name: &str, from: &Path| -> StoredNode {
        bench.stored(name, |output| {
            std::fs::remove_dir(output).unwrap();
            let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(output).status();
            assert!(copied.unwrap().success());
        })
    };
    let tools = move_in("tools-node", &tools);
    let programs = bench.path("programs");
    std::fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(binaries.canonicalize().unwrap(), programs.join("bin")).unwrap();
    let programs = move_in("programs-node", &programs);

    let begun = Instant::now();
    let (archives, result) =
        bench.execute("images", &[], &BTreeMap::new(), &[&programs, &tools], |execution| {
            control_plane_images::run(VERSION, &listed(), execution)
        });
    result.unwrap();
    println!("images made: {:?}", begun.elapsed());
    let archives = move_in("archives-node", &archives);

    let node = ["containerd", "runc", "containernetworking-plugins"];
    let base = tree(&bench, &debian, "base", &node);
    let (kubernetes, result) =
        bench.execute("kubernetes", &[&base], &BTreeMap::new(), &[&programs], |execution| {
            kubernetes_install::run(VERSION, execution)
        });
    result.unwrap();
    let begun = Instant::now();
    let request = preload::Request {
        kubernetes: Some(VERSION),
        source: "source",
        image_repository: "k8s.gcr.io",
        kubeadm_images: &listed(),
        images: &[],
    };
    let (store, facts) = bench.execute(
        "preload",
        &[&base, &kubernetes],
        &BTreeMap::from([(
            "containerd.sandbox-image".to_owned(),
            "k8s.gcr.io/pause:3.2".to_owned(),
        )]),
        &[&archives],
        |execution| preload::run(&request, execution),
    );
    println!("images imported: {:?}", begun.elapsed());
    let facts = facts.unwrap();
    assert!(facts["images"].contains("k8s.gcr.io/etcd:3.4.13-0"), "{facts:?}");
    let size = std::process::Command::new("du").arg("-sh").arg(&store).output().unwrap();
    println!("{}{}", String::from_utf8_lossy(&size.stdout), facts["images.unavailable"]);
}

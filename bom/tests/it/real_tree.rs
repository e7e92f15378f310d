//! A whole Debian tree, made by mmdebstrap from the machine's own package sources.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use nodekiln_bom::{Ownership, attribute, summary};
use nodekiln_recipes::Lock;
use nodekiln_recipes::inventory::TreeReader as _;
use nodekiln_recipes::lock::LockedTree;

use crate::fixture::{Fixture, cyclonedx, locked};
use crate::folder::{Folder, scan};
use crate::peers;

/// A tree named by `NODEKILN_TEST_TREE`, or a new one in `folder`.
fn tree(folder: &Path) -> PathBuf {
    if let Some(ready) = std::env::var_os("NODEKILN_TEST_TREE") {
        return PathBuf::from(ready);
    }
    let root = folder.join("tree");
    let status = Command::new("mmdebstrap").args(["--variant=apt", "bookworm"]).arg(&root).status();
    match status {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            panic!("mmdebstrap is missing: install Debian's package mmdebstrap")
        }
        status => assert!(status.unwrap().success(), "mmdebstrap failed"),
    }
    root
}

/// A lock of what is installed, with made-up digests.
fn lock(status: &str) -> Lock {
    let field = |stanza: &str, name: &str| {
        let line = stanza.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_default().to_owned()
    };
    let packages = status.split("\n\n").filter(|stanza| stanza.contains("ok installed"));
    let packages = packages.map(|stanza| {
        let version = field(stanza, "Version");
        locked(&field(stanza, "Package"), &version, &field(stanza, "Architecture"), false)
    });
    let tree = LockedTree {
        release: "bookworm".to_owned(),
        asked: Vec::new(),
        packages: packages.collect(),
    };
    Lock { trees: [("image".to_owned(), tree)].into(), ..Lock::default() }
}

#[test]
#[ignore = "bootstraps a Debian tree: needs mmdebstrap, a mirror and a minute"]
fn every_file_of_a_debian_tree_has_an_owner() {
    let folder = tempfile::tempdir().unwrap();
    let root = tree(folder.path());
    let tree = Folder(root.clone());
    let status = tree.read("/var/lib/dpkg/status").unwrap().unwrap();
    let mut image = Fixture::small();
    image.inventory = scan(&root);
    image.lock = lock(&String::from_utf8(status).unwrap());
    image.owners = BTreeMap::new();
    let mut input = image.input();
    input.binaries.clear();
    input.images.clear();

    let started = Instant::now();
    let document = cyclonedx(&input, &tree).unwrap();
    println!("{} bytes in {:?}", document.len(), started.elapsed());
    println!("{}: {:#?}", summary(&document).unwrap(), summary(&document).unwrap());
    assert_eq!(peers::document_errors(std::slice::from_ref(&document)), [Vec::<String>::new()]);

    input.verify_files = true;
    let started = Instant::now();
    let attribution = attribute(&input, &tree).unwrap();
    println!("verified in {:?}: {:?}", started.elapsed(), attribution.counts());
    for (path, owned) in &attribution.files {
        if owned.ownership == Ownership::PackageModified {
            println!("changed: {path} of {}", owned.owner);
        }
    }
    println!("missing: {:?}", attribution.missing);
    assert_eq!(attribution.unknown().collect::<Vec<_>>(), Vec::<&str>::new());
}

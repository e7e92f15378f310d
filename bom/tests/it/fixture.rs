//! A small image in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use nodekiln_bom::{Artifact, Binary, BinarySource, BomInput, NodeRole, PreloadedImage, Shipped};
use nodekiln_recipes::inventory::{Entry, EntryKind, TreeReader};
use nodekiln_recipes::lock::{LockedFile, LockedPackage, LockedTree};
use nodekiln_recipes::recipe::Architecture;
use nodekiln_recipes::{Inventory, Lock};
use nodekiln_words::{Bytes, Result, Sha256};
use uuid::Uuid;

/// An image: tree, lock, and who wrote what.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) inventory: Inventory,
    pub(crate) lock: Lock,
    pub(crate) owners: BTreeMap<String, String>,
}

impl TreeReader for Fixture {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files.get(path).cloned())
    }
}

pub(crate) const STATUS: &str = "\
Package: bash
Status: install ok installed
Essential: yes
Section: shells
Maintainer: A Maintainer <a@example.org>
Architecture: amd64
Version: 5.2.15-2+b7
Source: bash (5.2.15-2)
Pre-Depends: libc6 (>= 2.36)
Depends: absent-thing | awk, debconf (>= 0.5) | debconf-2.0
Conffiles:
 /etc/skel/.bashrc 00000000000000000000000000000000
Description: a shell
 with words

Package: debconf-lite
Status: install ok installed
Architecture: all
Version: 1:0.252
Provides: debconf-2.0
Description: questions

Package: libc6
Status: install ok installed
Section: libs
Architecture: amd64
Multi-Arch: same
Source: glibc
Version: 2.36-9
Description: the C library

Package: mawk
Status: hold ok installed
Architecture: amd64
Version: 1.3.4-1
Depends: libc6
Provides: awk
Description: an awk

Package: purged
Status: deinstall ok config-files
Architecture: all
Version: 1
";

pub(crate) const COPYRIGHT: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: somebody
License: GPL-3+
";

impl Fixture {
    /// Four packages, a kubelet, one image, a recipe's file, generated files, and a stray one.
    pub(crate) fn small() -> Self {
        let mut image = Self {
            files: BTreeMap::new(),
            inventory: Inventory::default(),
            lock: lock(),
            owners: BTreeMap::new(),
        };
        for folder in ["/", "/etc", "/usr", "/usr/bin", "/usr/lib"] {
            image.add(folder, EntryKind::Directory { opaque: false }, 0o755, "packages");
        }
        for name in ["bin", "lib"] {
            image.link(&format!("/{name}"), &format!("usr/{name}"), "packages");
        }
        image.packages();
        image.link("/etc/alternatives/awk", "/usr/bin/mawk", "packages");
        image.link("/usr/bin/awk", "/etc/alternatives/awk", "packages");
        image.file("/etc/ld.so.cache", "cache", "packages");
        image.file("/etc/machine-id", "", "sysprep");
        image.file("/etc/motd.d/10-acme", "Acme node\n", "files");
        image.file("/usr/bin/kubelet", "kubelet's bytes", "kubernetes");
        image.file("/opt/stray", "whose?", "packages");
        image.blob("manifest");
        image.blob("layer 1");
        image.file("/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db", "db", "preload");
        image
    }

    fn packages(&mut self) {
        self.file("/var/lib/dpkg/status", STATUS, "packages");
        let listed = [
            (
                "bash",
                "/.\n/bin\n/bin/bash\n/etc\n/etc/skel/.bashrc\n/usr/share/doc/bash/copyright\n/usr/share/man/gone\n",
            ),
            ("debconf-lite", "/.\n/usr/share/debconf.py\n"),
            ("libc6:amd64", "/.\n/lib\n/lib/libc.so.6\n"),
            ("mawk", "/.\n/usr/bin/mawk\n/usr/bin/su\n"),
        ];
        for (name, list) in listed {
            self.file(&format!("/var/lib/dpkg/info/{name}.list"), list, "packages");
        }
        self.file("/usr/bin/bash", "bash", "packages");
        self.file("/etc/skel/.bashrc", "changed", "packages");
        self.file("/usr/share/doc/bash/copyright", COPYRIGHT, "packages");
        self.file("/usr/share/debconf.py", "py", "packages");
        self.file("/usr/share/__pycache__/debconf.cpython-311.pyc", "pyc", "packages");
        self.file("/usr/lib/libc.so.6", "libc", "packages");
        self.file("/usr/bin/mawk", "mawk, edited", "script/post/edit");
        self.add_file("/usr/bin/su", "su", 0o4755, "packages");
        let sums = "1de660ae6ddcc5274579fac8eb36f978  usr/bin/mawk\n";
        self.file("/var/lib/dpkg/info/mawk.md5sums", sums, "packages");
    }

    fn blob(&mut self, content: &str) {
        let digest = Sha256::of(content);
        let folder = "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256";
        self.file(&format!("{folder}/{digest}"), content, "preload");
    }

    pub(crate) fn add(&mut self, path: &str, kind: EntryKind, mode: u32, node: &str) {
        let entry = Entry { kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() };
        self.inventory.entries.insert(path.to_owned(), entry);
        self.owners.insert(path.to_owned(), node.to_owned());
    }

    pub(crate) fn link(&mut self, path: &str, target: &str, node: &str) {
        self.add(path, EntryKind::Link { target: target.to_owned() }, 0o777, node);
    }

    pub(crate) fn file(&mut self, path: &str, content: &str, node: &str) {
        self.add_file(path, content, 0o644, node);
    }

    pub(crate) fn add_file(&mut self, path: &str, content: &str, mode: u32, node: &str) {
        let kind = EntryKind::File { size: content.len() as u64, sha256: Sha256::of(content) };
        self.add(path, kind, mode, node);
        self.files.insert(path.to_owned(), content.as_bytes().to_vec());
    }

    pub(crate) fn remove(&mut self, path: &str) {
        self.inventory.entries.remove(path);
        self.owners.remove(path);
        self.files.remove(path);
    }

    /// The input that describes this image.
    pub(crate) fn input(&self) -> BomInput<'_> {
        BomInput {
            image: "acme".to_owned(),
            recipe: "acme".to_owned(),
            architecture: Architecture::Amd64,
            recipe_digest: Sha256::of("recipe"),
            seed: Uuid::from_u128(7),
            source_date: "2026-11-01T00:00:00Z".parse().unwrap(),
            lock: &self.lock,
            trees: vec!["image".to_owned()],
            removed: BTreeSet::new(),
            inventory: &self.inventory,
            owners: &self.owners,
            roles: roles(),
            binaries: vec![kubelet()],
            images: vec![pause("registry.example/pause:3.2"), pause("registry.example/other:1")],
            with_files: true,
            verify_files: false,
        }
    }
}

/// What was written from the image.
pub(crate) fn shipped() -> Shipped {
    Shipped {
        artifacts: vec![artifact("acme.qcow2", "qcow2"), artifact("acme.raw", "raw")],
        payload: Some(Sha256::of("payload")),
    }
}

/// The document of an image with the usual artifacts.
pub(crate) fn cyclonedx(input: &BomInput<'_>, tree: &dyn TreeReader) -> Result<Vec<u8>> {
    nodekiln_bom::cyclonedx(input, &shipped(), tree)
}

fn roles() -> BTreeMap<String, NodeRole> {
    let roles = [
        ("packages", NodeRole::Packages),
        ("files", NodeRole::Recipe),
        ("script/post/edit", NodeRole::Recipe),
        ("kubernetes", NodeRole::Recipe),
        ("preload", NodeRole::Images),
        ("sysprep", NodeRole::State),
    ];
    roles.map(|(name, role)| (name.to_owned(), role)).into()
}

fn kubelet() -> Binary {
    Binary {
        path: "/usr/bin/kubelet".to_owned(),
        version: "1.20.2".to_owned(),
        origin: "compiled from source package kubernetes".to_owned(),
        source: Some(BinarySource {
            package: "kubernetes".to_owned(),
            version: "1.20.2-1.1".to_owned(),
            release: "bookworm".to_owned(),
            files: vec!["source/kubernetes.orig.tar.gz".to_owned()],
        }),
    }
}

fn pause(reference: &str) -> PreloadedImage {
    PreloadedImage {
        reference: reference.to_owned(),
        manifest: Sha256::of("manifest"),
        config: Sha256::of("config"),
        layers: vec![Sha256::of("layer 2"), Sha256::of("layer 1"), Sha256::of("layer 1")],
        labels: [("note".to_owned(), "stands in for upstream's".to_owned())].into(),
    }
}

fn artifact(name: &str, format: &str) -> Artifact {
    Artifact {
        name: name.to_owned(),
        format: format.to_owned(),
        size: Bytes(1 << 30),
        sha256: Sha256::of(name),
    }
}

fn lock() -> Lock {
    let packages = [
        ("bash", "5.2.15-2+b7", "amd64", true),
        ("debconf-lite", "1:0.252", "all", false),
        ("libc6", "2.36-9", "amd64", false),
        ("mawk", "1.3.4-1", "amd64", true),
    ];
    let packages = packages.map(|(name, version, architecture, requested)| {
        locked(name, version, architecture, requested)
    });
    let tree =
        LockedTree { release: "bookworm".to_owned(), asked: Vec::new(), packages: packages.into() };
    let source = LockedFile {
        url: "pool/main/k/kubernetes/kubernetes.orig.tar.gz".to_owned(),
        sha256: Sha256::of("source"),
        size: None,
    };
    Lock {
        trees: [("image".to_owned(), tree)].into(),
        files: [("source/kubernetes.orig.tar.gz".to_owned(), source)].into(),
        ..Lock::default()
    }
}

/// A lock's entry whose digest is made up from the name.
pub(crate) fn locked(
    name: &str,
    version: &str,
    architecture: &str,
    requested: bool,
) -> LockedPackage {
    LockedPackage {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: architecture.to_owned(),
        sha256: Sha256::of(name),
        size: 1000,
        suite: "bookworm".to_owned(),
        component: "main".to_owned(),
        path: format!("pool/main/{name}.deb"),
        source: name.to_owned(),
        source_version: version.to_owned(),
        essential: false,
        requested,
    }
}

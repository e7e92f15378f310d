//! The lock as a file: read as it was written, and refused where it was touched.

use std::collections::BTreeMap;

use nodekiln_recipes::Lock;
use nodekiln_recipes::lock::{
    LockFile, LockedFile, LockedImage, LockedKubernetes, LockedPackage, LockedSuite, LockedTree,
    moved,
};
use nodekiln_words::{Class, Failure, Sha256, SourceDate};
use proptest::prelude::*;

fn package(name: &str, version: &str, suite: &str) -> LockedPackage {
    LockedPackage {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: "amd64".to_owned(),
        sha256: Sha256::of(format!("{name}{version}")),
        size: 1 << 40,
        suite: suite.to_owned(),
        component: "main".to_owned(),
        path: format!("pool/{name}: #{version}.deb"),
        source: format!("{name}-source"),
        source_version: version.to_owned(),
        essential: false,
        requested: name == "a",
    }
}

fn lock() -> Lock {
    let date = SourceDate::from_unix(1_800_000_000).unwrap();
    let suite = LockedSuite {
        base: "http://mirror.example/debian".to_owned(),
        date,
        sha256: Sha256::of("InRelease"),
        signed_by: "0123".to_owned(),
    };
    let tree = LockedTree {
        release: "bookworm".to_owned(),
        asked: vec!["a".to_owned(), "null".to_owned()],
        packages: vec![package("a", "1:2.0~rc1-1", "bookworm"), package("b", "1e3", "bookworm")],
    };
    let file = LockedFile { url: "x/y".to_owned(), sha256: Sha256::of("f"), size: None };
    let image = LockedImage {
        manifest: Sha256::of("m"),
        index: Some(Sha256::of("i")),
        blobs: BTreeMap::from([(Sha256::of("c"), 3), (Sha256::of("l"), 1 << 33)]),
    };
    Lock {
        archives: BTreeMap::from([("bookworm".to_owned(), suite)]),
        trees: BTreeMap::from([
            ("image".to_owned(), tree),
            ("tools/disk".to_owned(), LockedTree::default()),
        ]),
        files: BTreeMap::from([("source/ä: \"x\"".to_owned(), file)]),
        images: BTreeMap::from([("k8s.example/a:v1".to_owned(), image)]),
        kubernetes: Some(LockedKubernetes {
            version: "1.36.1".parse().unwrap(),
            source: "release".to_owned(),
            image_repository: "k8s.example".to_owned(),
            origin: "https://x.example, images from registry".to_owned(),
        }),
        kubeadm_images: vec!["k8s.example/a:v1".to_owned()],
    }
}

fn file(lock: Lock) -> LockFile {
    LockFile {
        recipe: "quick: start".to_owned(),
        architecture: "amd64".to_owned(),
        nodekiln: "0.1.0".to_owned(),
        lock,
    }
}

fn refused(text: &str) -> Failure {
    LockFile::parse("x.lock.yaml", text).unwrap_err()
}

#[test]
fn a_lock_is_read_as_it_was_written() {
    for lock in [lock(), Lock::default()] {
        let written = file(lock);
        assert_eq!(LockFile::parse("x", &written.text()).unwrap(), written);
    }
}

#[test]
fn a_file_that_is_not_there_is_no_lock_and_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(LockFile::read(&folder.path().join("x.lock.yaml")).unwrap(), None);
    assert_eq!(LockFile::read(folder.path()).unwrap_err().class(), Class::Input);
}

#[test]
fn each_package_stands_on_a_line_of_its_own() {
    let text = file(lock()).text();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("\"version\":\"1e3\"")).collect();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("        - {\"name\":\"b\","), "{lines:?}");
}

#[test]
fn an_edited_lock_is_refused_whatever_was_edited() {
    let text = file(lock()).text();
    let digest = Sha256::of("a1:2.0~rc1-1").to_string();
    let line = text.lines().find(|line| line.contains("\"name\":\"b\"")).unwrap();
    for edited in [
        text.replace(&digest, &Sha256::of("evil").to_string()),
        text.replace(&format!("{line}\n"), ""),
        text.replace("1e3", "1e4"),
        text.replace("architecture: amd64", "architecture: arm64"),
    ] {
        assert_ne!(edited, text);
        let failure = refused(&edited);
        assert_eq!(failure.class(), Class::Input);
        assert!(failure.to_string().contains("x.lock.yaml was edited"), "{failure}");
        assert!(failure.help().unwrap().contains("nodekiln lock"), "{failure:?}");
    }
}

#[test]
fn a_lock_of_another_format_is_not_guessed_at() {
    let text = file(lock()).text().replace("nodekiln lock 1", "nodekiln lock 2");
    let failure = refused(&(text + "more: []\n"));
    assert_eq!(failure.class(), Class::Unsupported);
    assert!(failure.to_string().contains("`nodekiln lock 2` of nodekiln 0.1.0"), "{failure}");
}

#[test]
fn what_is_no_lock_is_refused_with_the_place() {
    for text in ["", "name: x\n", "- 1\n", "format: [", "\0"] {
        let failure = refused(text);
        assert_eq!(failure.class(), Class::Input, "{text:?}: {failure}");
        assert!(failure.to_string().contains("x.lock.yaml is no lock"), "{failure}");
    }
    let unknown = file(lock()).text().replace("kubeadm-images:", "kubelet-images:");
    assert!(refused(&unknown).to_string().contains("kubelet-images"), "{}", refused(&unknown));
}

proptest! {
    /// Whatever a byte is changed to, the file is refused or means the same.
    #[test]
    fn no_changed_byte_changes_what_is_locked(at in any::<prop::sample::Index>(), byte in 32..127_u8) {
        let written = file(lock());
        let mut text = written.text().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        if let Ok(text) = String::from_utf8(text)
            && let Ok(read) = LockFile::parse("x", &text)
        {
            prop_assert_eq!(read, written);
        }
    }
}

#[test]
fn what_moved_is_told_with_the_reason_and_security_updates_by_source() {
    let old = lock();
    let mut new = old.clone();
    let tree = new.trees.get_mut("image").unwrap();
    tree.packages =
        vec![package("a", "1:2.0-2", "bookworm-security"), package("c", "1", "bookworm")];
    new.images.clear();
    new.kubernetes.as_mut().unwrap().version = "1.36.2".parse().unwrap();
    let file = LockedFile { url: "z".to_owned(), sha256: Sha256::of("z"), size: None };
    new.files.insert("kubernetes/bin/kubelet".to_owned(), file);
    let text = moved(&old, &new).to_string();
    let expected = format!(
        "image: a 1:2.0~rc1-1 → 1:2.0-2 (bookworm-security has this version)\n\
         image: b 1e3 → none (no longer a dependency)\n\
         image: c none → 1 (a dependency now)\n\
         kubernetes: version 1.36.1 → 1.36.2 (the recipe says so)\n\
         files: kubernetes/bin/kubelet none → sha256:{} (needed now)\n\
         images: k8s.example/a:v1 sha256:{} → none (no longer needed)\n\
         from security suites, by source:\n  a-source 1:2.0-2\n",
        Sha256::of("z"),
        Sha256::of("m")
    );
    assert_eq!(text, expected);
    assert!(moved(&old, &old).is_empty());
}

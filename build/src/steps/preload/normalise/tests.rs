use std::os::unix::fs::PermissionsExt;

use nodekiln_words::Class;

use super::encoding::{uvarint, varint};
use super::*;
use nodekiln_bolt::Item;

/// A moment at which a store was made.
const THEN: [u8; 15] = [1, 0, 0, 0, 0x0e, 0xe2, 0x93, 0xaa, 0x5a, 2, 10, 9, 0xbb, 0xff, 0xff];

fn date() -> SourceDate {
    SourceDate::from_unix(1_700_000_000).unwrap()
}

fn value(bytes: impl Into<Vec<u8>>) -> Item {
    Item::Value(bytes.into())
}

fn bucket<const N: usize>(entries: [(&str, Item); N]) -> Item {
    let entries = entries.map(|(key, item)| (key.as_bytes().to_vec(), item)).into();
    Item::Bucket(Bucket { sequence: 0, entries })
}

fn root<const N: usize>(entries: [(&str, Item); N]) -> Bucket {
    let Item::Bucket(root) = bucket(entries) else { unreachable!() };
    root
}

/// The bucket at the end of `path`, made where it is missing.
fn at<'a>(root: &'a mut Bucket, path: &[&str]) -> &'a mut Bucket {
    path.iter().fold(root, |bucket, key| {
        let entry = bucket.entries.entry(key.as_bytes().to_vec());
        match entry.or_insert(Item::Bucket(Bucket::default())) {
            Item::Bucket(bucket) => bucket,
            Item::Value(_) => panic!("{key} is a value"),
        }
    })
}

/// containerd's root with one snapshot over another, which have the numbers `base` and `above`.
struct Made {
    folder: tempfile::TempDir,
    metadata: Bucket,
    snapshotter: Bucket,
}

const RECORDS: [&str; 4] = ["v1", "k8s.io", "snapshots", "overlayfs"];
const IMAGE: [&str; 4] = ["v1", "k8s.io", "images", "k8s.gcr.io/pause:3.2"];

fn made(base: u64, above: u64) -> Made {
    let times = || [("createdat", value(THEN)), ("updatedat", value(THEN))];
    let name = |number: u64, key: &str| format!("k8s.io/{}/{key}", number * 2);
    let mut metadata = root([("v1", bucket([("version", value([6]))]))]);
    for path in [&IMAGE[..], &["v1", "k8s.io", "content", "blob", "sha256:00"]] {
        at(&mut metadata, path).entries = root(times()).entries;
    }
    at(&mut metadata, &[&IMAGE[..], &["labels"]].concat()).put("any", *b"label");
    at(&mut metadata, &["v1", "k8s.io", "leases", "left"]).put("createdat", THEN);
    at(&mut metadata, &["v1", "k8s.io", "content", "ingests", "left"])
        .put("ref", *b"k8s.io/1/left");
    at(&mut metadata, &["v1", "k8s.io", "content", "ingests"]).sequence = base;
    let mut snapshotter = Bucket::default();
    at(&mut snapshotter, &["v1", "parents"]);
    // The parent's key sorts behind the child's.
    for (number, key, parent) in [(base, "z", None), (above, "a", Some((base, "z")))] {
        let record = at(&mut metadata, &[&RECORDS[..], &[key]].concat());
        record.entries = root(times()).entries;
        record.put("name", name(number, key));
        let entry = at(&mut snapshotter, &["v1", "snapshots", &name(number, key)]);
        entry.entries = root(times()).entries;
        for (field, bytes) in [
            ("id", uvarint(number)),
            ("kind", vec![3]),
            ("inodes", varint(number as i64)),
            ("size", varint(number as i64 * 512)),
        ] {
            entry.put(field, bytes);
        }
        let Some((above, parent)) = parent else { continue };
        entry.put("parent", name(above, parent));
        at(&mut metadata, &[&RECORDS[..], &[key]].concat()).put("parent", parent);
        at(&mut metadata, &[&RECORDS[..], &[parent, "children"]].concat()).put(key, []);
        let link = [uvarint(above), vec![0], uvarint(number)].concat();
        at(&mut snapshotter, &["v1", "parents"]).entries.insert(link, value(name(number, key)));
    }
    at(&mut metadata, &RECORDS).sequence = above * 2;
    at(&mut snapshotter, &["v1", "snapshots"]).sequence = above;

    let folder = tempfile::tempdir().unwrap();
    for number in [base, above] {
        let files = folder.path().join(SNAPSHOTS).join(number.to_string()).join("fs");
        fs_err::create_dir_all(&files).unwrap();
        fs_err::write(files.join("file"), if number == base { "base" } else { "above" }).unwrap();
    }
    let ingest = folder.path().join(INGESTS).join("left");
    fs_err::create_dir_all(ingest).unwrap();
    fs_err::create_dir_all(folder.path().join("io.containerd.metadata.v1.bolt")).unwrap();
    Made { folder, metadata, snapshotter }
}

impl Made {
    fn normalise(&self) -> Result<(Bucket, Bucket)> {
        for (file, root) in [(METADATA_FILE, &self.metadata), (SNAPSHOTTER_FILE, &self.snapshotter)]
        {
            fs_err::write(self.folder.path().join(file), bolt::write(root).unwrap()).unwrap();
        }
        let private = std::fs::Permissions::from_mode(0o600);
        fs_err::set_permissions(self.folder.path().join(SNAPSHOTTER_FILE), private).unwrap();
        normalise(self.folder.path(), date())?;
        let again = |file| read(self.folder.path(), file).unwrap().unwrap();
        Ok((again(METADATA_FILE), again(SNAPSHOTTER_FILE)))
    }

    fn refused(&self) -> String {
        let failure = self.normalise().unwrap_err();
        assert_eq!(failure.class(), Class::Unsupported);
        failure.to_string()
    }
}

#[test]
fn times_and_numbers_are_those_of_the_images() {
    let made = made(3, 7);
    let (metadata, snapshotter) = made.normalise().unwrap();
    let time = || value(go_time(date()));
    let times = || [("createdat", time()), ("updatedat", time())];
    let with = |more: &[(&str, Item)]| {
        let mut record = root(times());
        for (key, item) in more {
            record.entries.insert(key.as_bytes().to_vec(), item.clone());
        }
        Item::Bucket(record)
    };
    let Item::Bucket(mut records) = bucket([
        ("a", with(&[("name", value("k8s.io/2/a")), ("parent", value("z"))])),
        ("z", with(&[("name", value("k8s.io/1/z")), ("children", bucket([("a", value([]))]))])),
    ]) else {
        unreachable!()
    };
    records.sequence = 2;
    let images =
        bucket([("k8s.gcr.io/pause:3.2", with(&[("labels", bucket([("any", value("label"))]))]))]);
    let namespace = bucket([
        ("images", images),
        ("content", bucket([("blob", bucket([("sha256:00", with(&[]))]))])),
        ("snapshots", bucket([("overlayfs", Item::Bucket(records))])),
    ]);
    let wanted = root([("v1", bucket([("version", value([6])), ("k8s.io", namespace)]))]);
    assert_eq!(metadata, wanted);

    let snapshot = |number: u64, more: &[(&str, Item)]| {
        // A folder and a file of one block each.
        let own = [
            ("id", value(uvarint(number))),
            ("kind", value([3])),
            ("inodes", value(varint(2))),
            ("size", value(varint(8192))),
        ];
        with(&[&own, more].concat())
    };
    let Item::Bucket(mut snapshots) = bucket([
        ("k8s.io/1/z", snapshot(1, &[])),
        ("k8s.io/2/a", snapshot(2, &[("parent", value("k8s.io/1/z"))])),
    ]) else {
        unreachable!()
    };
    snapshots.sequence = 2;
    let parents = bucket([("\u{1}\0\u{2}", value("k8s.io/2/a"))]);
    let wanted =
        root([("v1", bucket([("snapshots", Item::Bucket(snapshots)), ("parents", parents)]))]);
    assert_eq!(snapshotter, wanted);

    let path = |name: &str| made.folder.path().join(name);
    for (number, content) in [(1, "base"), (2, "above")] {
        let file = path(SNAPSHOTS).join(format!("{number}/fs/file"));
        assert_eq!(fs_err::read_to_string(file).unwrap(), content);
    }
    assert_eq!(fs_err::read_dir(path(SNAPSHOTS)).unwrap().count(), 2);
    assert_eq!(fs_err::read_dir(path(INGESTS)).unwrap().count(), 0);
    let mode = fs_err::metadata(path(SNAPSHOTTER_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn numbers_that_were_drawn_in_another_order_come_to_the_same() {
    let bytes = |made: &Made| {
        made.normalise().unwrap();
        let read = |file| fs_err::read(made.folder.path().join(file)).unwrap();
        (read(METADATA_FILE), read(SNAPSHOTTER_FILE))
    };
    let wanted = bytes(&made(1, 2));
    for (base, above) in [(2, 1), (5, 900), (2, 3)] {
        assert!(bytes(&made(base, above)) == wanted, "{base} and {above}");
    }
    // What is normal already stays as it is.
    let made = made(2, 1);
    bytes(&made);
    normalise(made.folder.path(), date()).unwrap();
    assert!(fs_err::read(made.folder.path().join(METADATA_FILE)).unwrap() == wanted.0);
}

#[test]
fn a_store_in_which_nothing_is_unpacked_has_no_snapshots() {
    let mut made = made(1, 2);
    at(&mut made.metadata, &["v1", "k8s.io"]).entries.remove(&b"snapshots"[..]);
    fs_err::write(made.folder.path().join(METADATA_FILE), bolt::write(&made.metadata).unwrap())
        .unwrap();
    fs_err::remove_dir_all(made.folder.path().join(SNAPSHOTS)).unwrap();
    normalise(made.folder.path(), date()).unwrap();
    assert!(!made.folder.path().join(SNAPSHOTTER_FILE).exists());
}

#[test]
fn a_key_that_containerd_did_not_write_so_far_is_refused_with_its_path() {
    let cases: [(&[&str], &str); 7] = [
        (&[], "meta.db/new"),
        (&["v1"], "meta.db/v1/new"),
        (&["v1", "k8s.io"], "meta.db/v1/k8s.io/new"),
        (&IMAGE, "meta.db/v1/k8s.io/images/k8s.gcr.io/pause:3.2/new"),
        (&["v1", "k8s.io", "content", "blob", "sha256:00"], "blob/sha256:00/new"),
        (&["v1", "k8s.io", "snapshots", "overlayfs", "z"], "overlayfs/z/new"),
        (&["v1", "k8s.io", "containers"], "containers/new"),
    ];
    for (path, told) in cases {
        let mut made = made(1, 2);
        at(&mut made.metadata, path).put("new", *b"state");
        let text = made.refused();
        assert!(text.contains(&format!("{told}`")), "{text} does not name {told}");
    }
    for path in [&["v1"][..], &["v1", "snapshots", "k8s.io/2/z"]] {
        let mut made = made(1, 2);
        at(&mut made.snapshotter, path).put("new", *b"state");
        let text = made.refused();
        assert!(text.contains("metadata.db/v1/") && text.contains("/new`"), "{text}");
    }
    let mut made = made(1, 2);
    at(&mut made.metadata, &["v1", "moby", "images"]);
    assert!(made.refused().contains("meta.db/v1/moby`"), "another namespace");
}

#[test]
fn what_stands_under_a_known_key_in_another_shape_is_refused() {
    let mut time = made(1, 2);
    at(&mut time.metadata, &IMAGE).put("updatedat", *b"2026-11-01");
    assert!(time.refused().contains("updatedat` of containerd's store is no time"));
    let mut bucket = made(1, 2);
    at(&mut bucket.metadata, &[&IMAGE[..], &["target", "digest"]].concat());
    assert!(bucket.refused().contains("target/digest` of containerd's store is no value"));
    let mut value = made(1, 2);
    at(&mut value.metadata, &["v1", "k8s.io"]).put("images", []);
    assert!(value.refused().contains("images` of containerd's store is no bucket"));
    let mut sequence = made(1, 2);
    at(&mut sequence.metadata, &["v1", "k8s.io", "images"]).sequence = 4;
    assert!(sequence.refused().contains("images` of containerd's store hands out numbers"));
}

#[test]
fn databases_and_folders_that_do_not_agree_are_refused() {
    let refused = |change: &dyn Fn(&mut Made)| {
        let mut made = made(1, 2);
        change(&mut made);
        made.refused()
    };
    let entry = ["v1", "snapshots", "k8s.io/2/z"];
    let record = [&RECORDS[..], &["a"]].concat();
    let snapshots = |made: &Made| made.folder.path().join(SNAPSHOTS);
    for (change, told) in [
        (
            &|made: &mut Made| at(&mut made.snapshotter, &entry).put("kind", [2]),
            "z is not unpacked whole",
        ),
        (&|made| at(&mut made.snapshotter, &entry).put("id", [9]), "z has no folder"),
        (&|made| at(&mut made.snapshotter, &entry).put("id", []), "z has no folder"),
        (&|made| at(&mut made.snapshotter, &entry).put("parent", *b"other"), "z has two parents"),
        (&|made| at(&mut made.metadata, &record).put("name", *b"other"), "does not have other"),
        (&|made| at(&mut made.metadata, &record).put("parent", *b"none"), "a has no parent"),
        (
            &|made| drop(at(&mut made.metadata, &RECORDS).entries.remove(&b"a"[..])),
            "has k8s.io/4/a, which nobody knows",
        ),
        (&|made| fs_err::create_dir(snapshots(made).join("9")).unwrap(), "snapshots/9 is of no"),
        (&|made| fs_err::create_dir(snapshots(made).join("new-1")).unwrap(), "snapshots/new-1"),
    ] as [(&dyn Fn(&mut Made), &str); 9]
    {
        let text = refused(change);
        assert!(text.contains(told), "{text} does not say {told}");
    }
}

#[test]
fn a_damaged_database_is_refused_with_the_place() {
    let made = made(1, 2);
    made.normalise().unwrap();
    let path = made.folder.path().join(METADATA_FILE);
    let mut bytes = fs_err::read(&path).unwrap();
    bytes[4096 + 30] ^= 1;
    fs_err::write(&path, bytes).unwrap();
    let failure = normalise(made.folder.path(), date()).unwrap_err();
    assert!(failure.to_string().contains("meta.db"), "{failure}");
    assert!(failure.chain()[1].contains("offset 41"), "{failure:?}");
}

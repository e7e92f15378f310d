//! What containerd keeps in its databases, and what becomes of each key.

use nodekiln_words::Result;

use super::encoding::is_go_time;
use super::unknown;
use nodekiln_bolt::{Bucket, Item};

/// What stands under a key, and what becomes of it.
#[derive(Debug)]
pub(super) enum Shape {
    /// A value that depends on the images alone, and stays.
    Value,
    /// A moment, which becomes the source date.
    Time,
    /// A bucket of values by any name, which stay: labels, references.
    Map,
    /// A bucket of these keys, any of which may be missing.
    Record(&'static [(&'static str, Self)]),
    /// A bucket of any keys with the same under each.
    Each(&'static Self),
    /// The same, where the bucket also hands out numbers; they are given anew, see
    /// [`super::snapshots`].
    Numbered(&'static Self),
    /// What is of the run alone, and goes with all that is in it.
    Gone,
    /// A bucket that has nothing, and goes.
    Empty,
}

use Shape::{Each, Empty, Gone, Map, Numbered, Record, Time, Value};

/// `meta.db`: `metadata/buckets.go` of containerd 1.6.20 and 1.7.24, `core/metadata/buckets.go` of
/// 2.1.9; `annotations` from `boltutil/helpers.go`. CRI's namespace is the only one.
pub(super) static METADATA: Shape = Record(&[(
    "v1",
    Record(&[
        ("version", Value),
        (
            "k8s.io",
            Record(&[
                ("labels", Map),
                ("images", Each(&IMAGE)),
                ("content", Record(&[("blob", Each(&BLOB)), ("ingests", Gone)])),
                ("snapshots", Record(&[("overlayfs", Numbered(&SNAPSHOT))])),
                ("leases", Gone),
                ("containers", Empty),
                ("sandboxes", Empty),
            ]),
        ),
    ]),
)]);

static IMAGE: Shape = Record(&[
    ("createdat", Time),
    ("updatedat", Time),
    ("target", Record(&[("digest", Value), ("mediatype", Value), ("size", Value)])),
    ("labels", Map),
    ("annotations", Map),
]);

static BLOB: Shape =
    Record(&[("createdat", Time), ("updatedat", Time), ("size", Value), ("labels", Map)]);

static SNAPSHOT: Shape = Record(&[
    ("createdat", Time),
    ("updatedat", Time),
    ("name", Value),
    ("parent", Value),
    ("children", Map),
    ("labels", Map),
]);

/// `metadata.db`: `snapshots/storage/bolt.go` of containerd 1.6.20 and 1.7.24,
/// `core/snapshots/storage/bolt.go` of 2.1.9.
pub(super) static SNAPSHOTTER: Shape = Record(&[(
    "v1",
    Record(&[
        (
            "snapshots",
            Numbered(&Record(&[
                ("createdat", Time),
                ("updatedat", Time),
                ("id", Value),
                ("kind", Value),
                ("parent", Value),
                ("inodes", Value),
                ("size", Value),
                ("labels", Map),
            ])),
        ),
        ("parents", Map),
    ]),
)]);

/// Makes all of `root` what `shape` says; every moment becomes `time`.
///
/// # Errors
/// When a key is none of the shape's or something else stands under it, with the path of the key in
/// `file`.
pub(super) fn settle(file: &str, root: &mut Bucket, shape: &Shape, time: &[u8]) -> Result<()> {
    bucket(&mut vec![file.to_owned()], root, shape, time)
}

fn bucket(path: &mut Vec<String>, of: &mut Bucket, shape: &Shape, time: &[u8]) -> Result<()> {
    if of.sequence != 0 && !matches!(shape, Numbered(_)) {
        return Err(refused(path, "hands out numbers, which it did not so far"));
    }
    let mut gone = Vec::new();
    for (key, item) in &mut of.entries {
        path.push(key.escape_ascii().to_string());
        let shape = match shape {
            Map => &Value,
            Each(shape) | Numbered(shape) => shape,
            Record(fields) => fields
                .iter()
                .find_map(|(name, shape)| (name.as_bytes() == key).then_some(shape))
                .ok_or_else(|| refused(path, "is not known"))?,
            Empty => return Err(refused(path, "is not expected in a store of images alone")),
            Value | Time | Gone => return Err(refused(path, "lies in what should be a value")),
        };
        match (shape, item) {
            (Gone, _) => gone.push(key.clone()),
            (Value, Item::Value(_)) => {}
            (Time, Item::Value(value)) if is_go_time(value) => *value = time.to_vec(),
            (Time, Item::Value(_)) => return Err(refused(path, "is no time")),
            (Value | Time, Item::Bucket(_)) => return Err(refused(path, "is no value")),
            (_, Item::Value(_)) => return Err(refused(path, "is no bucket")),
            (shape, Item::Bucket(inner)) => {
                bucket(path, inner, shape, time)?;
                if matches!(shape, Empty) {
                    gone.push(key.clone());
                }
            }
        }
        path.pop();
    }
    for key in gone {
        of.entries.remove(&key);
    }
    Ok(())
}

fn refused(path: &[String], what: &str) -> nodekiln_words::Failure {
    unknown(format!("`{}` of containerd's store {what}", path.join("/")))
}

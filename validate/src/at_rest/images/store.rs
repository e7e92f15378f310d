//! containerd's store as it lies in a tree: the images that its records name and the blobs that they lead to.

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_bolt::Bucket;
use nodekiln_words::{Result, Sha256};
use serde::Deserialize;

use crate::tree::containerd::Settings;
use crate::tree::{Kind, Tree};

/// containerd's records, and its blobs of this digest, below its root folder.
const RECORDS: &str = "io.containerd.metadata.v1.bolt/meta.db";
const BLOBS: &str = "io.containerd.content.v1.content/blobs/sha256";
/// The namespace of CRI.
const NAMESPACE: &str = "k8s.io";
/// Largest manifest or configuration that is read (containerd, `images/image.go`: manifests are read up to 8 MiB).
const MOST_DOCUMENT: u64 = 8 << 20;

/// Manifests of one image, and lists of manifests of many platforms.
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// A store.
pub(super) struct Store<'t, 'a> {
    tree: &'t Tree<'a>,
    /// Path of the records.
    pub(super) path: String,
    /// Folder of the blobs.
    blobs: String,
    /// Whether layers are thrown away once they are unpacked.
    discards: bool,
    /// Targets of images by their names.
    images: BTreeMap<String, Target>,
    /// Blobs that the namespace has a record of.
    recorded: BTreeSet<String>,
}

/// What an image's record leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// `sha256:` and the digest.
    pub(super) digest: String,
    media_type: String,
    size: i64,
}

/// Why there is no store to judge.
pub(super) enum Absent {
    /// There are no records.
    Missing(String),
    /// They are there and are damaged.
    Damaged(String),
}

/// A reference within a document (OCI image specification, descriptor).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    size: i64,
    #[serde(default)]
    media_type: String,
}

/// What a manifest or an index names.
#[derive(Deserialize)]
struct Document {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

impl<'t, 'a> Store<'t, 'a> {
    /// The store of the containerd with these `settings` in `tree`.
    pub(super) fn of(
        tree: &'t Tree<'a>,
        settings: &Settings,
    ) -> Result<std::result::Result<Self, Absent>> {
        let root = settings.root.trim_end_matches('/');
        let path = format!("{root}/{RECORDS}");
        let Some(bytes) = tree.read(&path)? else { return Ok(Err(Absent::Missing(path))) };
        let records = match nodekiln_bolt::read(&bytes) {
            Ok(records) => records,
            Err(damaged) => return Ok(Err(Absent::Damaged(format!("{path}: {damaged}")))),
        };
        let namespace = records.bucket("v1").and_then(|version| version.bucket(NAMESPACE));
        let named = |name: &str| namespace.and_then(|namespace| namespace.bucket(name));
        let blobs = named("content").and_then(|content| content.bucket("blob"));
        Ok(Ok(Self {
            tree,
            path,
            blobs: format!("{root}/{BLOBS}"),
            discards: settings.discards_layers,
            images: named("images").map(images).unwrap_or_default(),
            recorded: blobs.map(keys).unwrap_or_default(),
        }))
    }

    /// What the image called `name` leads to.
    pub(super) fn image(&self, name: &str) -> Option<&Target> {
        self.images.get(name)
    }

    /// Images by the names that have a tag, which are those that are asked for.
    pub(super) fn tagged(&self) -> BTreeSet<&str> {
        let names = self.images.keys().map(String::as_str);
        names.filter(|name| !name.contains('@') && !name.starts_with("sha256:")).collect()
    }

    /// Why the image called `name` cannot be started from the store alone; nothing where it can. An image of several
    /// platforms may lack those of others, as containerd's do.
    pub(super) fn lacks(&self, name: &str) -> Result<Option<String>> {
        let Some(target) = self.image(name) else {
            return Ok(Some(format!("{} has no {name}", self.path)));
        };
        let descriptor = Descriptor {
            digest: target.digest.clone(),
            size: target.size,
            media_type: target.media_type.clone(),
        };
        let lack = self.lacks_of(&descriptor, INDEXES.contains(&target.media_type.as_str()))?;
        Ok(lack.map(|lack| format!("{name}: {lack}")))
    }

    fn lacks_of(&self, descriptor: &Descriptor, index: bool) -> Result<Option<String>> {
        let document = match self.document(descriptor)? {
            Ok(document) => document,
            Err(lack) => return Ok(Some(lack)),
        };
        if index {
            let here: Vec<&Descriptor> = document
                .manifests
                .iter()
                .filter(|manifest| !INDEXES.contains(&manifest.media_type.as_str()))
                .filter(|manifest| self.tree.resolve(&self.blob(&manifest.digest)).is_some())
                .collect();
            if here.is_empty() {
                return Ok(Some(format!("no manifest of {} is there", short(&descriptor.digest))));
            }
            for manifest in here {
                if let Some(lack) = self.lacks_of(manifest, false)? {
                    return Ok(Some(lack));
                }
            }
            return Ok(None);
        }
        let Some(config) = &document.config else {
            return Ok(Some(format!("{} names no configuration", self.blob(&descriptor.digest))));
        };
        if let Err(lack) = self.bytes(config)? {
            return Ok(Some(lack));
        }
        let layers = document.layers.iter();
        let unpacked = |layer: &&Descriptor| {
            self.discards && self.tree.resolve(&self.blob(&layer.digest)).is_none()
        };
        Ok(layers.filter(|layer| !unpacked(layer)).find_map(|layer| self.lacks_blob(layer)))
    }

    /// A document that names others.
    fn document(&self, descriptor: &Descriptor) -> Result<std::result::Result<Document, String>> {
        let path = self.blob(&descriptor.digest);
        Ok(self.bytes(descriptor)?.and_then(|bytes| {
            serde_json::from_slice(&bytes).map_err(|_| format!("{path} is no manifest"))
        }))
    }

    /// The bytes of a small blob, which are those of its digest.
    fn bytes(&self, descriptor: &Descriptor) -> Result<std::result::Result<Vec<u8>, String>> {
        let path = self.blob(&descriptor.digest);
        if let Some(lack) = self.lacks_blob(descriptor) {
            return Ok(Err(lack));
        }
        if u64::try_from(descriptor.size).is_ok_and(|size| size > MOST_DOCUMENT) {
            return Ok(Err(format!("{path} is too large for a manifest")));
        }
        let bytes = self.tree.read(&path)?.unwrap_or_default();
        if format!("sha256:{}", Sha256::of(&bytes)) != descriptor.digest {
            return Ok(Err(format!("{path} has other bytes than its name says")));
        }
        Ok(Ok(bytes))
    }

    /// What is wrong with a blob as a file: its record, its presence, its size.
    fn lacks_blob(&self, descriptor: &Descriptor) -> Option<String> {
        let Descriptor { digest, size, .. } = descriptor;
        let path = self.blob(digest);
        if !self.recorded.contains(digest) {
            return Some(format!("{} has no record of the blob {}", self.path, short(digest)));
        }
        match self.tree.resolve(&path) {
            Some((_, entry)) if entry.kind == Kind::File => {
                let same = u64::try_from(*size) == Ok(entry.size);
                (!same).then(|| format!("{path} has {} bytes, not {size}", entry.size))
            }
            _ => Some(format!("{path} is not there")),
        }
    }

    fn blob(&self, digest: &str) -> String {
        format!("{}/{}", self.blobs, digest.strip_prefix("sha256:").unwrap_or(digest))
    }
}

fn images(bucket: &Bucket) -> BTreeMap<String, Target> {
    let target = |name: &String| {
        let target = bucket.bucket(name)?.bucket("target")?;
        let text = |key: &str| String::from_utf8(target.value(key)?.to_vec()).ok();
        Some(Target {
            digest: text("digest")?,
            media_type: text("mediatype").unwrap_or_default(),
            size: varint(target.value("size")?)?,
        })
    };
    keys(bucket).into_iter().filter_map(|name| Some((name.clone(), target(&name)?))).collect()
}

fn keys(bucket: &Bucket) -> BTreeSet<String> {
    bucket.entries.keys().filter_map(|key| String::from_utf8(key.clone()).ok()).collect()
}

/// A number as Go's `binary.PutVarint` writes it: seven bits a byte, the lowest first, the sign in the lowest bit.
fn varint(bytes: &[u8]) -> Option<i64> {
    let mut number = 0_u64;
    for (place, byte) in bytes.iter().enumerate() {
        number |= u64::from(byte & 0x7F).checked_shl(u32::try_from(place).ok()? * 7)?;
        if byte & 0x80 == 0 {
            let sign = (number & 1).wrapping_neg();
            return Some(((number >> 1) ^ sign).cast_signed());
        }
    }
    None
}

/// The first digits of a digest: enough to find it.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_that_go_writes() {
        for (bytes, number) in [
            (&[0][..], 0),
            (&[1], -1),
            (&[2], 1),
            (&[0x82, 0x07], 449),
            (&[0xAC, 0x06], 406),
            (&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], i64::MIN),
        ] {
            assert_eq!(varint(bytes), Some(number), "{bytes:?}");
        }
        assert_eq!(varint(&[0x80]), None);
        assert_eq!(varint(&[0xFF; 30]), None);
    }
}

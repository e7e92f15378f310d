//! What files say about their owner: MD5 of package files, digests of containerd's blobs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use md5::{Digest as _, Md5};
use nodekiln_recipes::inventory::{EntryKind, TreeReader};
use nodekiln_words::{Failure, Result, Sha256};

use super::{Owned, Ownership};
use crate::dpkg::read;
use crate::input::{BomInput, PreloadedImage};
use crate::purl;

/// MD5 in lower-case hexadecimal of a file that the inventory names. dpkg records MD5 only; that a
/// file is the package's own rests on the digest of the `.deb`, this only finds changes.
pub(super) fn digest_of(tree: &dyn TreeReader, path: &str) -> Result<String> {
    let bytes = read(tree, path)?.ok_or_else(|| {
        Failure::io(format!("the inventory names {path}, which the tree does not have"))
    })?;
    let mut text = String::with_capacity(32);
    for byte in Md5::digest(&bytes) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// Where containerd keeps everything.
const STORE: &str = "/var/lib/containerd/";
/// Where it keeps blobs, named by their digest.
pub(crate) const BLOBS: &str = "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/";

/// Owners of the blobs in containerd's store.
pub(super) struct Blobs(BTreeMap<String, String>);

/// References of images in the document: their package URLs, in the order given.
pub(crate) fn image_refs(images: &[PreloadedImage], architecture: &str) -> Vec<String> {
    let purl = |image: &PreloadedImage| purl::oci(&image.reference, &image.manifest, architecture);
    images.iter().map(purl).collect()
}

impl Blobs {
    /// Finds the image of each blob; one that several share is the first one's, by reference.
    ///
    /// Fails on a blob whose content is not what its name says.
    pub(super) fn of(input: &BomInput<'_>) -> Result<Self> {
        let mut owners = BTreeMap::new();
        let mut refs: Vec<_> = image_refs(&input.images, input.architecture.as_str())
            .into_iter()
            .zip(&input.images)
            .collect();
        refs.sort_by(|(_, a), (_, b)| a.reference.cmp(&b.reference));
        for (owner, image) in refs {
            for digest in [&image.manifest, &image.config].into_iter().chain(&image.layers) {
                owners.entry(digest.to_string()).or_insert_with(|| owner.clone());
            }
        }
        let blobs = input.inventory.entries.range(BLOBS.to_owned()..);
        for (path, entry) in blobs.take_while(|(path, _)| path.starts_with(BLOBS)) {
            if let EntryKind::File { sha256, .. } = &entry.kind {
                check_name(path, sha256)?;
            }
        }
        Ok(Self(owners))
    }

    /// The owner of a path in the store; `None` outside of it.
    pub(super) fn owner(&self, path: &str) -> Option<Owned> {
        path.strip_prefix(STORE)?;
        let image = path.strip_prefix(BLOBS).and_then(|digest| self.0.get(digest));
        let owner = image.map_or("generator:containerd", String::as_str);
        Some(Owned::new(Ownership::Image, owner))
    }
}

fn check_name(path: &str, sha256: &Sha256) -> Result<()> {
    if path.strip_prefix(BLOBS) == Some(sha256.to_string().as_str()) {
        return Ok(());
    }
    Err(Failure::io(format!("blob {path} has the digest {sha256}"))
        .with_help("the image store is damaged: build the layer that preloads images again"))
}

//! Container images as components.

use std::collections::BTreeSet;

use nodekiln_recipes::Inventory;
use nodekiln_words::Sha256;

use super::files::Held;
use super::model::{Component, Data, Hash, Kind};
use crate::attribution::BLOBS;
use crate::input::PreloadedImage;
use crate::purl::split_reference;

/// An image with its config, its layers, and the blobs in containerd's store that are its own.
pub(super) fn component(
    image: &PreloadedImage,
    reference: &str,
    held: Held,
    inventory: &Inventory,
) -> Component {
    let (repository, tag) = split_reference(&image.reference);
    let mut parts = vec![part(reference, "config", &image.config)];
    let mut layers: Vec<&Sha256> = image.layers.iter().collect();
    layers.sort();
    layers.dedup();
    parts.extend(layers.into_iter().map(|layer| part(reference, "layer", layer)));
    parts.extend(held.components);
    Component {
        bom_ref: Some(reference.to_owned()),
        components: parts,
        hashes: vec![Hash::from(&image.manifest)],
        kind: Kind::Container,
        name: repository.to_owned(),
        purl: Some(reference.to_owned()),
        version: Some(if tag.is_empty() { digest(&image.manifest) } else { tag.to_owned() }),
        ..Component::default()
    }
    .with_properties(properties(image, held.count))
    .with_properties(missing(image, inventory))
    .with_properties(
        image.labels.iter().map(|(name, value)| ("label", format!("{name}={value}"))).collect(),
    )
}

fn digest(sha256: &Sha256) -> String {
    format!("sha256:{sha256}")
}

/// A blob of the image's own format, known by its digest.
fn part(image: &str, role: &'static str, sha256: &Sha256) -> Component {
    Component {
        bom_ref: Some(format!("{image}#{role}:{sha256}")),
        data: vec![Data { kind: if role == "config" { "configuration" } else { "other" } }],
        hashes: vec![Hash::from(sha256)],
        kind: Kind::Data,
        name: format!("{role} {}", digest(sha256)),
        ..Component::default()
    }
}

/// How many of the image's blobs containerd's store lacks: layers may be dropped once unpacked.
fn missing<'a>(image: &PreloadedImage, inventory: &Inventory) -> Vec<(&'a str, String)> {
    let blobs: BTreeSet<_> =
        [&image.manifest, &image.config].into_iter().chain(&image.layers).collect();
    let lacks = |blob: &&&Sha256| !inventory.entries.contains_key(&format!("{BLOBS}{blob}"));
    let missing = blobs.iter().filter(lacks).count();
    if missing == 0 { Vec::new() } else { vec![("blobs-missing", missing.to_string())] }
}

/// Digests once more as properties, the layers in their order.
fn properties<'a>(image: &PreloadedImage, files: u64) -> Vec<(&'a str, String)> {
    let mut all = vec![
        ("config-digest", digest(&image.config)),
        ("files", files.to_string()),
        ("manifest-digest", digest(&image.manifest)),
        ("reference", image.reference.clone()),
    ];
    let layers = image.layers.iter().map(digest).collect::<Vec<_>>().join(" ");
    all.push(("layer-digests", layers));
    all
}

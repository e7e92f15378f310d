use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use nodekiln_words::{Class, Failure, Result, ResultExt};
use serde::Serialize;

use crate::oci::{Blob, Image, Reference};

/// An image to import.
pub(super) struct Preloaded {
    pub(super) image: Image,
    pub(super) archive: PathBuf,
    /// Never collected by the kubelet.
    pub(super) pinned: bool,
    /// Its layers are unpacked here rather than on the node.
    pub(super) unpack: bool,
}

/// What CRI marks its images with.
const MANAGED: &str = "io.cri-containerd.image=managed";

impl Preloaded {
    /// The names under which the store has it.
    fn names(&self) -> [String; 3] {
        let Image { reference, config, .. } = &self.image;
        [
            reference.to_string(),
            reference.pinned(self.image.target().digest).to_string(),
            format!("sha256:{}", config.digest),
        ]
    }
}

/// Compares the lock's list of images, sorted, with what kubeadm printed.
pub(super) fn same_list(locked: &[Reference], printed: &[Reference]) -> Result<()> {
    if locked == printed {
        return Ok(());
    }
    let texts = |images: &[Reference]| {
        images.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    Err(Failure::new(
        Class::Verdict,
        format!("kubeadm lists {}; the lock has {}", texts(printed), texts(locked)),
    )
    .with_help("this kubeadm is not of the version that its number says, or was changed"))
}

/// Compares `ctr images list` with what was wanted: the same names, each with its digest and label.
pub(super) fn compare(listing: &str, preloads: &[Preloaded]) -> Result<()> {
    let wanted: BTreeMap<String, String> = preloads
        .iter()
        .flat_map(|preload| {
            let digest = format!("sha256:{}", preload.image.target().digest);
            preload.names().map(|name| (name, digest.clone()))
        })
        .collect();
    let found = parse(listing)?;
    for (name, digest) in &wanted {
        match found.get(name) {
            Some((at, labels)) if at == digest && labels.contains(MANAGED) => {}
            Some((at, labels)) => {
                return Err(wrong(&format!(
                    "{name} is {at} with labels {labels}, wanted {digest}"
                )));
            }
            None => return Err(wrong(&format!("{name} is missing"))),
        }
    }
    match found.keys().find(|name| !wanted.contains_key(*name)) {
        Some(extra) => Err(wrong(&format!("{extra} was not wanted"))),
        None => Ok(()),
    }
}

fn wrong(what: &str) -> Failure {
    Failure::new(Class::Verdict, format!("the container store is not as wanted: {what}"))
}

/// Name to digest and labels. Columns are REF, TYPE, DIGEST, SIZE (two words), PLATFORMS, LABELS.
fn parse(listing: &str) -> Result<BTreeMap<String, (String, String)>> {
    let mut lines = listing.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    if header != ["REF", "TYPE", "DIGEST", "SIZE", "PLATFORMS", "LABELS"] {
        return Err(Failure::io(format!("ctr's list has other columns: {}", header.join(" "))));
    }
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [name, _, digest, .., labels] if words.len() >= 6 => {
                Ok((name.to_owned(), (digest.to_owned(), labels.to_owned())))
            }
            _ => Err(Failure::io(format!("ctr's list has a line that is no image: `{line}`"))),
        }
    };
    lines.map(row).collect()
}

#[derive(Serialize)]
struct ImageFact {
    reference: String,
    target: String,
    manifest: String,
    config: String,
    layers: Vec<String>,
    pinned: bool,
}

/// What later nodes, the bill of materials and the validation want to know.
pub(super) fn facts(
    preloads: &[Preloaded],
    missing: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let digest = |blob: &Blob| format!("sha256:{}", blob.digest);
    let facts: Vec<ImageFact> = preloads
        .iter()
        .map(|Preloaded { image, pinned, .. }| ImageFact {
            reference: image.reference.to_string(),
            target: digest(image.target()),
            manifest: digest(&image.manifest),
            config: digest(&image.config),
            layers: image.layers.iter().map(digest).collect(),
            pinned: *pinned,
        })
        .collect();
    let json = |text: serde_json::Result<String>| text.or_io(|| "facts of images".to_owned());
    Ok(BTreeMap::from([
        ("images".to_owned(), json(serde_json::to_string(&facts))?),
        ("images.unavailable".to_owned(), json(serde_json::to_string(missing))?),
    ]))
}

/// Digests of all blobs of all images.
pub(super) fn digests(preloads: &[Preloaded]) -> BTreeSet<String> {
    preloads.iter().flat_map(|p| p.image.blobs()).map(|blob| blob.digest.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "REF TYPE DIGEST SIZE PLATFORMS LABELS\n";

    fn preload() -> Preloaded {
        let blob = |text: &str| Blob::of_bytes("", text.as_bytes().to_vec());
        let image = Image {
            reference: "k8s.gcr.io/pause:3.2".parse().unwrap(),
            index: None,
            manifest: blob("manifest"),
            config: blob("config"),
            layers: vec![blob("layer")],
        };
        Preloaded { image, archive: PathBuf::new(), pinned: true, unpack: true }
    }

    fn listing(preload: &Preloaded, labels: &str) -> String {
        let digest = preload.image.manifest.digest;
        let row = |name: String| {
            format!("{name} application/x sha256:{digest} 1.0 KiB linux/amd64 {labels}\n")
        };
        HEADER.to_owned() + &preload.names().map(row).concat()
    }

    #[test]
    fn a_store_with_all_three_names_is_as_wanted() {
        let preload = preload();
        compare(&listing(&preload, MANAGED), &[preload]).unwrap();
    }

    #[test]
    fn a_missing_name_a_missing_label_and_an_extra_image_are_found() {
        let text = |listing: &str| compare(listing, &[preload()]).unwrap_err().to_string();
        assert!(text(HEADER).contains("is missing"));
        assert!(text(&listing(&preload(), "-")).contains("labels -"));
        let extra = format!(
            "{}docker.io/x/y:1 application/x sha256:00 1.0 KiB linux/amd64 {MANAGED}\n",
            listing(&preload(), MANAGED)
        );
        assert!(text(&extra).contains("docker.io/x/y:1 was not wanted"));
    }

    #[test]
    fn output_that_is_no_list_is_refused() {
        for text in ["", "error", &format!("{HEADER}just words\n")] {
            assert!(compare(text, &[]).is_err(), "{text}");
        }
    }

    #[test]
    fn a_list_that_differs_from_kubeadms_is_told_in_full() {
        let one: Reference = "k8s.gcr.io/pause:3.2".parse().unwrap();
        let other: Reference = "k8s.gcr.io/pause:3.5".parse().unwrap();
        same_list(std::slice::from_ref(&one), std::slice::from_ref(&one)).unwrap();
        let text = same_list(&[one], &[other]).unwrap_err().to_string();
        assert!(text.contains("pause:3.5") && text.contains("pause:3.2"), "{text}");
    }
}

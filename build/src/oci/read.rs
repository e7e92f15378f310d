//! Reads image archives: OCI image layouts and what `docker save` writes.
//!
//! Nothing is unpacked: the archive is scanned once and blobs point into it. Every digest is
//! checked before an image is returned.

use std::collections::BTreeMap;
use std::path::Path;

use nodekiln_words::{Class, Failure, Result, ResultExt, Sha256};
use serde::Deserialize;

use super::archive::{CONTAINERD_NAME, REF_NAME};
use super::blob::DOCUMENT_LIMIT;
use super::build::json;
use super::json::{Descriptor, Index, Manifest, media_type};
use super::{Blob, Content, Image, Reference};

/// Links followed in a row before an archive is called broken.
const LINK_LIMIT: u32 = 8;

/// The images in the archive at `path`, for `linux` on `architecture`, in the archive's order.
///
/// Images of a docker archive are named without the `-ARCHITECTURE` that upstream's release
/// archives put behind the repository, and get a manifest of the OCI kind.
///
/// # Errors
/// When the file is no such archive, an image has no full name, or a blob is missing or damaged.
pub fn archive(path: &Path, architecture: &str) -> Result<Vec<Image>> {
    let within = |failure: Failure| failure.context(format!("image archive {}", path.display()));
    let scan = Scan::of(path).map_err(within)?;
    let images = if scan.places.contains_key("index.json") {
        layout(&scan, architecture)
    } else if scan.places.contains_key("manifest.json") {
        docker(&scan, architecture)
    } else {
        Err(Failure::input("neither index.json nor manifest.json is in it"))
    };
    let images = images.map_err(within)?;
    images.iter().try_for_each(Image::verify).map_err(within)?;
    Ok(images)
}

/// Where each member of an archive lies.
struct Scan<'a> {
    path: &'a Path,
    places: BTreeMap<String, Place>,
}

enum Place {
    File { offset: u64, size: u64 },
    Link(String),
}

impl<'a> Scan<'a> {
    fn of(path: &'a Path) -> Result<Self> {
        let reading = || "no readable tar archive".to_owned();
        let file = fs_err::File::open(path).or_io(reading)?;
        let mut archive = tar::Archive::new(file);
        let mut places = BTreeMap::new();
        for entry in archive.entries_with_seek().or_io(reading)? {
            let entry = entry.or_io(reading)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
            let kind = entry.header().entry_type();
            if kind.is_file() {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                places.insert(name, Place::File { offset, size });
            } else if (kind.is_symlink() || kind.is_hard_link())
                && let Some(target) = entry.link_name_bytes()
            {
                let target = String::from_utf8_lossy(&target).into_owned();
                let target = if kind.is_symlink() { beside(&name, &target) } else { target };
                places.insert(name, Place::Link(target));
            }
        }
        Ok(Self { path, places })
    }

    /// A member as a blob whose digest is still to be known.
    fn member(&self, name: &str) -> Result<(Content, u64)> {
        let mut name = name;
        for _ in 0..LINK_LIMIT {
            match self.places.get(name) {
                Some(Place::File { offset, size }) => {
                    let content = Content::File { path: self.path.to_owned(), offset: *offset };
                    return Ok((content, *size));
                }
                Some(Place::Link(target)) => name = target,
                None => break,
            }
        }
        Err(Failure::input(format!("member {name} is missing")))
    }

    /// The member `name` as a blob with the digest of what is there.
    fn measured(&self, name: &str, media_type: &str) -> Result<Blob> {
        let (content, size) = self.member(name)?;
        let mut digester = nodekiln_words::Digester::default();
        let Content::File { path, offset } = &content else { return Err(Failure::io("no file")) };
        let reading = || format!("member {name}");
        let mut file = fs_err::File::open(path).or_io(reading)?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(*offset)).or_io(reading)?;
        std::io::copy(&mut std::io::Read::take(file, size), &mut digester).or_io(reading)?;
        let digest = digester.finish();
        Ok(Blob { media_type: media_type.to_owned(), digest, size, content })
    }

    fn document<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        let (_, size) = self.member(name)?;
        if size > DOCUMENT_LIMIT {
            return Err(Failure::input(format!("{name} has {size} bytes, which is too many")));
        }
        let bytes = self.measured(name, "")?.document()?;
        serde_json::from_slice(&bytes).or_fail(Class::Input, || format!("{name} is not understood"))
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob> {
        let name = format!("blobs/sha256/{}", descriptor.digest);
        let (content, size) = self.member(&name)?;
        if size != descriptor.size {
            let expected = descriptor.size;
            return Err(Failure::io(format!("{name} has {size} bytes, expected {expected}")));
        }
        let media_type = descriptor.media_type.clone();
        Ok(Blob { media_type, digest: descriptor.digest, size, content })
    }
}

/// The path that a symbolic link at `name` with `target` leads to, within the archive.
fn beside(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn layout(scan: &Scan<'_>, architecture: &str) -> Result<Vec<Image>> {
    let index: Index = scan.document("index.json")?;
    let image = |entry: &Descriptor| {
        let reference = full_name(entry)?;
        Image::follow(&reference, scan.blob(entry)?, architecture, &|wanted| scan.blob(wanted))
    };
    index.manifests.iter().map(image).collect()
}

fn full_name(entry: &Descriptor) -> Result<Reference> {
    let name = |key| entry.annotations.as_ref().and_then(|notes| notes.get(key));
    let text = name(CONTAINERD_NAME).or_else(|| name(REF_NAME)).ok_or_else(|| {
        Failure::input(format!("image sha256:{} has no name", entry.digest))
            .with_help(format!("export it with its full name in the annotation {CONTAINERD_NAME}"))
    })?;
    text.parse()
}

/// One image of a docker archive's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn docker(scan: &Scan<'_>, architecture: &str) -> Result<Vec<Image>> {
    let listed: Vec<DockerImage> = scan.document("manifest.json")?;
    let mut images = Vec::new();
    for entry in &listed {
        let image = docker_image(scan, entry)?;
        let tags = entry.repo_tags.as_deref().unwrap_or_default();
        if tags.is_empty() {
            return Err(Failure::input(format!("image with config {} has no tag", entry.config)));
        }
        for tag in tags {
            let reference = without_architecture(tag.parse()?, architecture);
            let image = Image { reference, ..image.clone() };
            image.agree(architecture).map_err(|failure| failure.context(format!("image {tag}")))?;
            images.push(image);
        }
    }
    Ok(images)
}

fn without_architecture(reference: Reference, architecture: &str) -> Reference {
    match reference.repository.strip_suffix(&format!("-{architecture}")) {
        Some(repository) => Reference { repository: repository.to_owned(), ..reference },
        None => reference,
    }
}

fn docker_image(scan: &Scan<'_>, entry: &DockerImage) -> Result<Image> {
    let config = scan.measured(&entry.config, media_type::CONFIG)?;
    named_by_digest(&entry.config, config.digest)?;
    let layer = |name: &String| {
        let mut layer = scan.measured(name, media_type::LAYER)?;
        if is_gzip(&layer)? {
            media_type::LAYER_GZIP.clone_into(&mut layer.media_type);
        }
        Ok(layer)
    };
    let layers = entry.layers.iter().map(layer).collect::<Result<Vec<_>>>()?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.to_owned()),
        config: config.descriptor(),
        layers: layers.iter().map(Blob::descriptor).collect(),
    };
    let manifest = json(media_type::MANIFEST, &manifest)?;
    let nameless = Reference {
        registry: String::new(),
        repository: String::new(),
        tag: None,
        digest: Some(config.digest),
    };
    let image = Image { reference: nameless, index: None, manifest, config, layers };
    plain_layers_match(&image)?;
    Ok(image)
}

/// `docker save` names the config by its digest; where it does, the digest must be right.
fn named_by_digest(name: &str, found: Sha256) -> Result<()> {
    let stem = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".json");
    match stem.parse::<Sha256>() {
        Ok(expected) if expected != found => {
            Err(Failure::io(format!("{name} is damaged: its digest is {found}")))
        }
        _ => Ok(()),
    }
}

/// A docker archive's layers have no digests of their own: the config's are those of the plain tar.
fn plain_layers_match(image: &Image) -> Result<()> {
    for (layer, expected) in image.layers.iter().zip(image.diff_ids()?) {
        let plain = layer.media_type == media_type::LAYER;
        if plain && layer.digest != expected {
            let found = layer.digest;
            return Err(Failure::io(format!("layer {expected} is damaged: its digest is {found}")));
        }
    }
    Ok(())
}

fn is_gzip(blob: &Blob) -> Result<bool> {
    let Content::File { path, offset } = &blob.content else { return Ok(false) };
    let reading = || format!("{}", path.display());
    let mut file = fs_err::File::open(path).or_io(reading)?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(*offset)).or_io(reading)?;
    let mut magic = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, blob.size.min(2)), &mut magic)
        .or_io(reading)?;
    Ok(magic == [0x1f, 0x8b])
}

//! Writes OCI image layout archives, the form in which containerd imports images.
//!
//! Source: OCI image specification 1.0, image layout; containerd's annotation
//! `io.containerd.image.name` gives the full name that an import stores.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use nodekiln_words::{Cancel, Result, ResultExt, Sha256, SourceDate};

use super::json::{Index, media_type};
use super::{Blob, Image};

/// containerd takes the image's full name from here.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The specification's place for a tag.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes `images` to the new archive `out`, every blob once.
///
/// The same images and source date give the same bytes: `oci-layout`, `index.json`, then the blobs
/// by digest, all owned by 0:0 and dated at the source date. Each blob's digest is checked on the
/// way.
///
/// # Errors
/// On reading a blob, on a damaged blob, and on writing.
pub fn write(images: &[Image], source_date: SourceDate, out: &Path, cancel: &Cancel) -> Result<()> {
    let writing = || format!("writing image archive {}", out.display());
    let file = fs_err::File::create_new(out).or_io(writing)?;
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, file));
    let bytes = |bytes: &[u8]| Blob::of_bytes("", bytes.to_vec());
    append(&mut tar, "oci-layout", &bytes(LAYOUT), source_date)
        .map_err(|e| e.context(writing()))?;
    let index = serde_json::to_vec(&index(images)).or_io(writing)?;
    append(&mut tar, "index.json", &bytes(&index), source_date)
        .map_err(|e| e.context(writing()))?;
    for folder in ["blobs/", "blobs/sha256/"] {
        let mut header = header(source_date, 0o755);
        header.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut header, folder, std::io::empty()).or_io(writing)?;
    }
    let blobs: BTreeMap<Sha256, &Blob> =
        images.iter().flat_map(Image::blobs).map(|blob| (blob.digest, blob)).collect();
    for (digest, blob) in blobs {
        cancel.check()?;
        append(&mut tar, &format!("blobs/sha256/{digest}"), blob, source_date)
            .map_err(|e| e.context(writing()))?;
    }
    tar.into_inner().and_then(|mut file| file.flush()).or_io(writing)
}

fn index(images: &[Image]) -> Index {
    let entry = |image: &Image| {
        let mut descriptor = image.target().descriptor();
        let reference = &image.reference;
        let mut annotations = BTreeMap::from([(CONTAINERD_NAME.to_owned(), reference.to_string())]);
        if let Some(tag) = &reference.tag {
            annotations.insert(REF_NAME.to_owned(), tag.clone());
        }
        descriptor.annotations = Some(annotations);
        descriptor
    };
    Index {
        schema_version: 2,
        media_type: Some(media_type::INDEX.to_owned()),
        manifests: images.iter().map(entry).collect(),
    }
}

fn header(source_date: SourceDate, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(source_date.unix());
    header.set_size(0);
    header
}

/// Header and padding are written by hand so that the blob streams through its own digest check.
fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    blob: &Blob,
    source_date: SourceDate,
) -> Result<()> {
    let mut header = header(source_date, 0o644);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_path(path).or_io(|| format!("entry {path}"))?;
    header.set_size(blob.size);
    header.set_cksum();
    let sink = tar.get_mut();
    sink.write_all(header.as_bytes()).or_io(|| format!("entry {path}"))?;
    blob.copy_to(sink)?;
    let padding = [0; 512];
    let missing = usize::try_from(blob.size.next_multiple_of(512) - blob.size).unwrap_or(0);
    sink.write_all(padding.get(..missing).unwrap_or_default()).or_io(|| format!("entry {path}"))
}

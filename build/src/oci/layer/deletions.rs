//! What a layer deletes of the layers below it: entries named `.wh.NAME`, and `.wh..wh..opq` for all
//! that a directory had (OCI image specification 1.0, image layer filesystem changeset, whiteouts).

use std::io::{self, BufRead as _, BufReader, Read};

use nodekiln_words::{Cancel, Result, ResultExt};

use crate::oci::Blob;

/// How names begin that stand for a deletion.
const WHITEOUT: &[u8] = b".wh.";

/// Bytes read at once.
const PIECE: usize = 256 << 10;

/// First bytes of compressed layers (RFC 1952, RFC 8878). Media types are not relied on: containerd
/// does not either.
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The path of the first entry of `layer` that deletes something of the layers below; `None` when
/// nothing is deleted. A character device 0:0 counts, which is overlayfs's way of saying so.
///
/// # Errors
/// When the layer cannot be read as a tar archive, plain or compressed; on cancellation.
pub fn first_deletion(layer: &Blob, cancel: &Cancel) -> Result<Option<String>> {
    let reading = || format!("layer sha256:{} is no readable tar archive", layer.digest);
    let mut archive = tar::Archive::new(plain(layer)?);
    for entry in archive.entries().or_io(reading)? {
        cancel.check()?;
        let entry = entry.or_io(reading)?;
        let path = entry.path_bytes();
        if is_whiteout(&path) || is_overlays(entry.header()) {
            return Ok(Some(String::from_utf8_lossy(&path).into_owned()));
        }
    }
    Ok(None)
}

fn is_whiteout(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|name| name.starts_with(WHITEOUT))
}

fn is_overlays(header: &tar::Header) -> bool {
    let number = |number: io::Result<Option<u32>>| number.ok().flatten();
    header.entry_type().is_character_special()
        && number(header.device_major()) == Some(0)
        && number(header.device_minor()) == Some(0)
}

/// The bytes of the layer's tar archive.
fn plain(layer: &Blob) -> Result<Box<dyn Read + '_>> {
    let reading = || format!("layer sha256:{}", layer.digest);
    let mut raw = BufReader::with_capacity(PIECE, layer.open()?);
    let begin = raw.fill_buf().or_io(reading)?;
    Ok(if begin.starts_with(GZIP) {
        Box::new(flate2::bufread::MultiGzDecoder::new(raw))
    } else if begin.starts_with(ZSTD) {
        Box::new(zstd::Decoder::with_buffer(raw).or_io(reading)?)
    } else {
        Box::new(raw)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(names: &[&str], kind: tar::EntryType) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_device_major(0).unwrap();
            header.set_device_minor(0).unwrap();
            tar.append_data(&mut header, name, io::empty()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn first(bytes: Vec<u8>) -> Option<String> {
        first_deletion(&Blob::of_bytes("", bytes), &Cancel::default()).unwrap()
    }

    #[test]
    fn deletions_are_found_in_plain_and_compressed_layers() {
        let plain = tar(&["a/x.wh.y", "a/.wh.b", "a/.wh..wh..opq"], tar::EntryType::Regular);
        let mut gzip = flate2::read::GzEncoder::new(&plain[..], flate2::Compression::fast());
        let mut gzipped = Vec::new();
        gzip.read_to_end(&mut gzipped).unwrap();
        let zstd = zstd::encode_all(&plain[..], 1).unwrap();
        for bytes in [plain, gzipped, zstd] {
            assert_eq!(first(bytes).as_deref(), Some("a/.wh.b"));
        }
    }

    #[test]
    fn long_names_devices_and_layers_without_deletions_are_told_apart() {
        let long = format!("{}/.wh..wh..opq", "d".repeat(200));
        assert_eq!(first(tar(&[&long], tar::EntryType::Regular)), Some(long));
        assert_eq!(first(tar(&["dev/x"], tar::EntryType::Char)).as_deref(), Some("dev/x"));
        assert_eq!(first(tar(&["dev/x"], tar::EntryType::Block)), None);
        assert_eq!(first(tar(&["a/wh.b", "a.wh."], tar::EntryType::Regular)), None);
        assert_eq!(first(Vec::new()), None);
    }
}

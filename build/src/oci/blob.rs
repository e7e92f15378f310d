use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use nodekiln_words::{Class, Digester, Failure, Result, ResultExt, Sha256};

use super::json::{Descriptor, media_type};

/// Bytes known by their digest, and where they are.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Their kind.
    pub media_type: String,
    /// Their digest.
    pub digest: Sha256,
    /// Their number.
    pub size: u64,
    /// Where they are.
    pub content: Content,
}

/// Where a blob's bytes are.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Memory(Arc<[u8]>),
    /// In a file, `size` bytes from `offset` (in bytes) on.
    File {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
    },
}

/// Documents (manifests, configs, indexes) above this size in bytes are refused; registries draw
/// the same line at 4 MiB (OCI distribution specification, pushing manifests).
pub(super) const DOCUMENT_LIMIT: u64 = 4 << 20;

/// An index or manifest with these bytes, of the kind that it says it is or else looks like.
///
/// # Errors
/// When it is neither.
pub fn document_blob(bytes: Vec<u8>) -> Result<Blob> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        media_type: Option<String>,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
    }
    let digest = Sha256::of(&bytes);
    let document: Document = serde_json::from_slice(&bytes)
        .or_fail(Class::Input, || format!("sha256:{digest} is no JSON document"))?;
    let guess = if document.manifests.is_some() { media_type::INDEX } else { media_type::MANIFEST };
    let kind = document.media_type.unwrap_or_else(|| guess.to_owned());
    if media_type::is_index(&kind) || media_type::is_manifest(&kind) {
        return Ok(Blob::of_bytes(&kind, bytes));
    }
    Err(Failure::new(
        Class::Unsupported,
        format!("sha256:{digest} is of kind `{kind}`, not an image manifest"),
    ))
}

impl Blob {
    /// A blob of the given bytes.
    #[must_use]
    pub fn of_bytes(media_type: &str, bytes: Vec<u8>) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Sha256::of(&bytes),
            size: bytes.len() as u64,
            content: Content::Memory(bytes.into()),
        }
    }

    /// What points to it.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest,
            size: self.size,
            platform: None,
            annotations: None,
        }
    }

    /// Writes the bytes to `sink`, checking size and digest on the way.
    ///
    /// # Errors
    /// On reading and writing, and when the bytes are not those that the digest names; what was
    /// written until then stays written.
    pub fn copy_to(&self, sink: &mut dyn Write) -> Result<()> {
        let name = || format!("blob sha256:{}", self.digest);
        let mut digester = Digester::default();
        let mut source = self.open()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let got = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).or_io(|| format!("reading {}", name())),
            };
            let piece = buffer.get(..got).unwrap_or_default();
            digester.update(piece);
            sink.write_all(piece).or_io(|| format!("writing {}", name()))?;
        }
        let (length, found) = (digester.length(), digester.finish());
        if found == self.digest && length == self.size {
            return Ok(());
        }
        Err(Failure::io(format!(
            "{} is damaged: {length} bytes with digest sha256:{found}, expected {} bytes",
            name(),
            self.size
        )))
    }

    /// The bytes of a document, checked.
    pub(super) fn document(&self) -> Result<Vec<u8>> {
        if self.size > DOCUMENT_LIMIT {
            return Err(Failure::input(format!(
                "document sha256:{} has {} bytes; more than {DOCUMENT_LIMIT} are not read",
                self.digest, self.size
            )));
        }
        let mut bytes = Vec::new();
        self.copy_to(&mut bytes)?;
        Ok(bytes)
    }

    /// The bytes from their beginning, unchecked.
    pub(super) fn open(&self) -> Result<Box<dyn Read + '_>> {
        match &self.content {
            Content::Memory(bytes) => Ok(Box::new(&bytes[..])),
            Content::File { path, offset } => {
                let whole = || format!("{} at offset {offset}", path.display());
                let mut file = fs_err::File::open(path).or_io(whole)?;
                file.seek(SeekFrom::Start(*offset)).or_io(whole)?;
                Ok(Box::new(file.take(self.size)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_blob_is_reported_with_both_digests() {
        let mut blob = Blob::of_bytes("text/plain", b"good".to_vec());
        blob.content = Content::Memory(b"evil".to_vec().into());
        let text = blob.copy_to(&mut io::sink()).unwrap_err().to_string();
        assert!(text.contains(&blob.digest.to_string()), "{text}");
        assert!(text.contains(&Sha256::of("evil").to_string()), "{text}");
    }

    #[test]
    fn a_blob_inside_a_file_is_read_from_its_offset() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs_err::write(&path, b"....abc....").unwrap();
        let content = Content::File { path, offset: 4 };
        let blob = Blob { content, ..Blob::of_bytes("text/plain", b"abc".to_vec()) };
        assert_eq!(blob.document().unwrap(), b"abc");
    }
}

//! From a provider's writer to what a build knows of its artifact.

use nodekiln_disk::{Disk, FileWriter, Pass, Payload};
use nodekiln_words::{Cancel, Progress, Result, ResultExt as _};
use serde::Serialize;

use crate::{Artifact, ArtifactRequest, Provider};

/// What it takes to register an image where it is to run, in the words of the service that takes it.
pub type Parameters = serde_json::Map<String, serde_json::Value>;

/// A provider's artifact being written.
pub trait ArtifactWriter: Send {
    /// Has `pass` feed the artifact with the bytes of `disk`, for which it was begun.
    fn join<'a>(&'a mut self, disk: &'a Disk, pass: &mut Pass<'a>);

    /// Ends the artifact after the pass, flushes its files and takes their digests. `payload` is the digest
    /// of `disk`.
    ///
    /// # Errors
    /// When a file cannot be written or reads back as something else, or somebody asked to stop.
    fn finish(
        self: Box<Self>,
        disk: &Disk,
        payload: &Payload,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Made>;
}

/// What came of an artifact.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Made {
    /// Its files, in the folder that was asked for.
    pub files: Vec<Artifact>,
    /// Small files that belong beside them, by name; whoever asked for the artifact writes them.
    pub documents: Vec<(String, Vec<u8>)>,
    /// What it takes to register it.
    pub registration: Parameters,
}

/// An artifact that is one file.
pub struct OneFile {
    provider: String,
    format: String,
    file: String,
    writer: Box<dyn FileWriter>,
    documents: Vec<(String, Vec<u8>)>,
    registration: Parameters,
}

impl OneFile {
    /// The first of the files that `provider` says it writes, which `writer` writes.
    ///
    /// # Errors
    /// When `registration` is no JSON object.
    pub fn of(
        provider: &dyn Provider,
        request: &ArtifactRequest,
        writer: impl FileWriter + 'static,
        registration: &impl Serialize,
    ) -> Result<Self> {
        let named = provider.files(&request.name).into_iter().next().unwrap_or_default();
        let registration = serde_json::to_value(registration)
            .and_then(serde_json::from_value)
            .or_io(|| "cannot write the registration as JSON".to_owned())?;
        Ok(Self {
            provider: provider.name().to_owned(),
            format: named.format,
            file: named.file,
            writer: Box::new(writer),
            documents: Vec::new(),
            registration,
        })
    }

    /// The same with a document beside it: `content` as indented JSON.
    ///
    /// # Errors
    /// When `content` cannot be written as JSON.
    pub fn with_document(mut self, name: String, content: &impl Serialize) -> Result<Self> {
        let mut text =
            serde_json::to_vec_pretty(content).or_io(|| format!("cannot write {name}"))?;
        text.push(b'\n');
        self.documents.push((name, text));
        Ok(self)
    }
}

impl ArtifactWriter for OneFile {
    fn join<'a>(&'a mut self, disk: &'a Disk, pass: &mut Pass<'a>) {
        self.writer.join(disk, pass);
    }

    fn finish(
        self: Box<Self>,
        disk: &Disk,
        payload: &Payload,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Made> {
        let Self { provider, format, file, writer, documents, registration } = *self;
        let written = writer.finish(disk, payload, progress, cancel)?;
        let artifact =
            Artifact { provider, format, file, size: written.bytes, sha256: written.sha256 };
        Ok(Made { files: vec![artifact], documents, registration })
    }
}

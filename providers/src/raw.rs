use nodekiln_disk::{Disk, raw};
use nodekiln_words::{Cancel, Result};
use serde::{Deserialize, Serialize};

use crate::{
    ArtifactRequest, ArtifactWriter, COMMON_LAYER, FileName, MachineProfile, OneFile, Provider,
};

/// Bare metal and everything that takes a disk as it is. Its artifact is a sparse raw file.
pub struct Raw;

impl Provider for Raw {
    fn name(&self) -> &str {
        "raw"
    }

    fn description(&self) -> &str {
        "bare metal and importers: the disk as it is, with holes"
    }

    fn layer(&self) -> &str {
        COMMON_LAYER
    }

    fn machine(&self) -> MachineProfile {
        MachineProfile::virtio()
    }

    fn files(&self, image: &str) -> Vec<FileName> {
        vec![FileName::new(format!("{image}.raw"), "raw")]
    }

    fn begin(
        &self,
        disk: &Disk,
        request: &ArtifactRequest,
        _cancel: &Cancel,
    ) -> Result<Box<dyn ArtifactWriter>> {
        let image = MetalImage::of(request);
        let path = request.path_of(&image.file);
        let writer = raw::Writer::create(disk, &path)?;
        Ok(Box::new(OneFile::of(self, request, writer, &image)?))
    }
}

/// An image as Metal3 takes it (`spec.image` of a `Metal3MachineTemplate`), whose URL is where somebody has
/// put the file, and whose checksum is the file's digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MetalImage {
    /// Name under which image-builder publishes such a file: `debian-12-kube-v1.36.1`.
    pub name: String,
    /// The file of which the URL and the checksum are.
    pub file: String,
    /// How the file's checksum is computed.
    pub checksum_type: String,
    /// Format of the file.
    pub disk_format: String,
}

impl MetalImage {
    /// For the image that is asked for.
    #[must_use]
    pub fn of(request: &ArtifactRequest) -> Self {
        let FileName { file, format } =
            Raw.files(&request.name).into_iter().next().unwrap_or_default();
        Self {
            name: request.template_name(),
            file,
            checksum_type: "sha256".to_owned(),
            disk_format: format,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metal3_is_told_the_format_and_the_checksum() {
        let request = ArtifactRequest { name: "node".to_owned(), ..ArtifactRequest::default() };
        let text = serde_json::to_string(&MetalImage::of(&request)).unwrap();
        let expected =
            r#"{"name":"node","file":"node.raw","checksumType":"sha256","diskFormat":"raw"}"#;
        assert_eq!(text, expected);
    }
}

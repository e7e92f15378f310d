//! Google Compute Engine: `disk.raw` of whole GiB as a sparse member of a tar.gz, as an image is imported
//! from a bucket.
//!
//! The layer is in `layer.yaml` beside `Cargo.toml`.

mod machine;
mod registration;

use nodekiln_disk::{Disk, tar_gz};
use nodekiln_providers::{
    ArtifactRequest, ArtifactWriter, FileName, MachineProfile, OneFile, Provider,
};
use nodekiln_words::{Bytes, Cancel, Result};

pub use registration::{GuestFeature, InsertImage, RawDisk};

/// Google's Compute Engine. Its artifact is an archive.
pub struct Gce;

impl Provider for Gce {
    fn name(&self) -> &str {
        "gce"
    }

    fn description(&self) -> &str {
        "Google Compute Engine: a tar.gz with disk.raw for a bucket"
    }

    fn layer(&self) -> &str {
        include_str!("../layer.yaml")
    }

    fn machine(&self) -> MachineProfile {
        machine::machine()
    }

    fn files(&self, image: &str) -> Vec<FileName> {
        vec![file_of(image)]
    }

    fn begin(
        &self,
        disk: &Disk,
        request: &ArtifactRequest,
        cancel: &Cancel,
    ) -> Result<Box<dyn ArtifactWriter>> {
        let FileName { file, .. } = file_of(&request.name);
        let (path, deflate) = (request.path_of(&file), request.compression.of_pieces());
        let writer = tar_gz::Writer::create(disk, &path, deflate, request.created, cancel)?;
        let registration = InsertImage::of(request, Bytes(disk.size()));
        Ok(Box::new(OneFile::of(self, request, writer, &registration)?))
    }
}

fn file_of(image: &str) -> FileName {
    FileName::new(format!("{image}.tar.gz"), "tar.gz")
}

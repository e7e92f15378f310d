//! Google Compute Engine: `disk.raw` of whole GiB as a sparse member of a tar.gz, as an image is imported
//! from a bucket.
//!
//! The layer is in `layer.yaml` beside `Cargo.toml`.

mod machine;

use nodekiln_disk::{Disk, FileWriter, tar_gz};
use nodekiln_providers::{ArtifactRequest, MachineProfile, Provider};
use nodekiln_words::{Cancel, Result};

/// Google's Compute Engine. Its artifact is an archive.
pub struct Gce;

impl Provider for Gce {
    fn name(&self) -> &'static str {
        "gce"
    }

    fn description(&self) -> &'static str {
        "Google Compute Engine: a tar.gz with disk.raw for a bucket"
    }

    fn layer(&self) -> &'static str {
        include_str!("../layer.yaml")
    }

    fn machine(&self) -> MachineProfile {
        machine::machine()
    }

    fn format(&self) -> &'static str {
        "tar.gz"
    }

    fn file_name(&self, image: &str) -> String {
        format!("{image}.tar.gz")
    }

    fn begin(
        &self,
        disk: &Disk,
        request: &ArtifactRequest,
        cancel: &Cancel,
    ) -> Result<Box<dyn FileWriter>> {
        let path = request.path_of(&self.file_name(&request.name));
        let level = request.compression.level();
        Ok(Box::new(tar_gz::Writer::create(disk, &path, level, request.created, cancel)?))
    }
}

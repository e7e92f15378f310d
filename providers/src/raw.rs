use nodekiln_disk::{Disk, FileWriter, raw};
use nodekiln_words::{Cancel, Result};

use crate::{ArtifactRequest, COMMON_LAYER, MachineProfile, Provider};

/// Bare metal and everything that takes a disk as it is. Its artifact is a sparse raw file.
pub struct Raw;

impl Provider for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn description(&self) -> &'static str {
        "bare metal and importers: the disk as it is, with holes"
    }

    fn layer(&self) -> &'static str {
        COMMON_LAYER
    }

    fn machine(&self) -> MachineProfile {
        MachineProfile::virtio()
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn file_name(&self, image: &str) -> String {
        format!("{image}.raw")
    }

    fn begin(
        &self,
        disk: &Disk,
        request: &ArtifactRequest,
        _cancel: &Cancel,
    ) -> Result<Box<dyn FileWriter>> {
        let path = request.path_of(&self.file_name(&request.name));
        Ok(Box::new(raw::Writer::create(disk, &path)?))
    }
}

use nodekiln_disk::{Disk, Payload, raw};
use nodekiln_words::{Cancel, Progress, Result};

use crate::{Artifact, ArtifactRequest, COMMON_LAYER, MachineProfile, Provider};

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

    fn file_name(&self, image: &str) -> String {
        format!("{image}.raw")
    }

    fn write(
        &self,
        disk: &Disk,
        payload: &Payload,
        request: &ArtifactRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Artifact> {
        let file = self.file_name(&request.name);
        let written = raw::write(disk, payload, &request.path_of(&file), progress, cancel)?;
        Ok(Artifact {
            provider: self.name().to_owned(),
            format: "raw".to_owned(),
            file,
            size: written.bytes,
            sha256: written.sha256,
        })
    }
}

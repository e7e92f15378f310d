//! EC2: a raw disk of whole GiB, as `StartSnapshot` and `ImportSnapshot` take it.
//!
//! The layer is in `layer.yaml` beside `Cargo.toml`: the source of instance data and Amazon's time service.
//! The generic and the cloud kernel both have the drivers of all instance types (NVMe, ENA, Xen).

mod machine;

use nodekiln_disk::{Disk, Payload, raw};
use nodekiln_providers::{Artifact, ArtifactRequest, MachineProfile, Provider};
use nodekiln_words::{Cancel, Progress, Result};

/// Amazon's EC2. Its artifact is a sparse raw file.
pub struct Aws;

impl Provider for Aws {
    fn name(&self) -> &'static str {
        "aws"
    }

    fn description(&self) -> &'static str {
        "Amazon EC2: the disk as it is, to become an EBS snapshot"
    }

    fn layer(&self) -> &'static str {
        include_str!("../layer.yaml")
    }

    fn machine(&self) -> MachineProfile {
        machine::machine()
    }

    fn file_name(&self, image: &str) -> String {
        format!("{image}.aws.raw")
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

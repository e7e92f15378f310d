//! EC2: a raw disk of whole GiB, as `StartSnapshot` and `ImportSnapshot` take it.
//!
//! The layer is in `layer.yaml` beside `Cargo.toml`: the source of instance data and Amazon's time service.
//! The generic and the cloud kernel both have the drivers of all instance types (NVMe, ENA, Xen).

mod machine;

use nodekiln_disk::{Disk, FileWriter, raw};
use nodekiln_providers::{ArtifactRequest, MachineProfile, Provider};
use nodekiln_words::{Cancel, Result};

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

    fn format(&self) -> &'static str {
        "raw"
    }

    fn file_name(&self, image: &str) -> String {
        format!("{image}.aws.raw")
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

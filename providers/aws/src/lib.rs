//! EC2: a raw disk of whole GiB, as `StartSnapshot` and `ImportSnapshot` take it.
//!
//! The layer is in `layer.yaml` beside `Cargo.toml`: the source of instance data and Amazon's time service.
//! The generic and the cloud kernel both have the drivers of all instance types (NVMe, ENA, Xen).

mod machine;
mod registration;

use nodekiln_disk::{Disk, raw};
use nodekiln_providers::{
    ArtifactRequest, ArtifactWriter, FileName, MachineProfile, OneFile, Provider,
};
use nodekiln_words::{Bytes, Cancel, Result};

pub use registration::{BlockDevice, Ebs, RegisterImage, Tag, TagSpecification};

/// Amazon's EC2. Its artifact is a sparse raw file.
pub struct Aws;

impl Provider for Aws {
    fn name(&self) -> &str {
        "aws"
    }

    fn description(&self) -> &str {
        "Amazon EC2: the disk as it is, to become an EBS snapshot"
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
        _cancel: &Cancel,
    ) -> Result<Box<dyn ArtifactWriter>> {
        let FileName { file, .. } = file_of(&request.name);
        let writer = raw::Writer::create(disk, &request.path_of(&file))?;
        let registration = RegisterImage::of(request, Bytes(disk.size()));
        Ok(Box::new(OneFile::of(self, request, writer, &registration)?))
    }
}

fn file_of(image: &str) -> FileName {
    FileName::new(format!("{image}.aws.raw"), "raw")
}

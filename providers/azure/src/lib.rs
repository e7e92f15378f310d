//! Azure: a fixed VHD of whole MiB, as a managed disk or page blob takes it.
//!
//! The disk boots by BIOS and by UEFI, so that one file may be registered as an image of either generation.
//! The layer is in `layer.yaml` beside `Cargo.toml`.

mod machine;
mod registration;

use nodekiln_disk::{Disk, vhd};
use nodekiln_providers::{
    ArtifactRequest, ArtifactWriter, FileName, MachineProfile, OneFile, Provider,
};
use nodekiln_words::{Cancel, Result};

pub use registration::{Definition, Feature, Gallery, Identifier, Properties};

/// Microsoft's Azure. Its artifact is a fixed VHD.
pub struct Azure;

impl Provider for Azure {
    fn name(&self) -> &str {
        "azure"
    }

    fn description(&self) -> &str {
        "Microsoft Azure: a fixed VHD for either generation of machines"
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
        let writer = vhd::Writer::create(disk, &request.path_of(&file), request.created)?;
        Ok(Box::new(OneFile::of(self, request, writer, &Gallery::of(request))?))
    }
}

fn file_of(image: &str) -> FileName {
    FileName::new(format!("{image}.vhd"), "vhd")
}

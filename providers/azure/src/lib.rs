//! Azure: a fixed VHD of whole MiB, as a managed disk or page blob takes it.
//!
//! The disk boots by BIOS and by UEFI, so that one file may be registered as an image of either generation.
//! The layer is in `layer.yaml` beside `Cargo.toml`.

mod machine;

use nodekiln_disk::{Disk, FileWriter, vhd};
use nodekiln_providers::{ArtifactRequest, MachineProfile, Provider};
use nodekiln_words::{Cancel, Result};

/// Microsoft's Azure. Its artifact is a fixed VHD.
pub struct Azure;

impl Provider for Azure {
    fn name(&self) -> &'static str {
        "azure"
    }

    fn description(&self) -> &'static str {
        "Microsoft Azure: a fixed VHD for either generation of machines"
    }

    fn layer(&self) -> &'static str {
        include_str!("../layer.yaml")
    }

    fn machine(&self) -> MachineProfile {
        machine::machine()
    }

    fn format(&self) -> &'static str {
        "vhd"
    }

    fn file_name(&self, image: &str) -> String {
        format!("{image}.vhd")
    }

    fn begin(
        &self,
        disk: &Disk,
        request: &ArtifactRequest,
        _cancel: &Cancel,
    ) -> Result<Box<dyn FileWriter>> {
        let path = request.path_of(&self.file_name(&request.name));
        Ok(Box::new(vhd::Writer::create(disk, &path, request.created)?))
    }
}

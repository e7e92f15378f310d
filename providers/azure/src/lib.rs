//! Azure: a fixed VHD of whole MiB, as a managed disk or page blob takes it.
//!
//! The disk boots by BIOS and by UEFI, so that one file may be registered as an image of either generation.
//! The layer is in `layer.yaml` beside `Cargo.toml`.

mod machine;

use nodekiln_disk::{Disk, Pass, Payload, Written, vhd};
use nodekiln_providers::{ArtifactRequest, ArtifactWriter, MachineProfile, Provider};
use nodekiln_words::{Cancel, Progress, Result};

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
    ) -> Result<Box<dyn ArtifactWriter>> {
        let path = request.path_of(&self.file_name(&request.name));
        Ok(Box::new(Writer(vhd::Writer::create(disk, &path, request.created)?)))
    }
}

struct Writer(vhd::Writer);

impl ArtifactWriter for Writer {
    fn join<'a>(&'a mut self, disk: &'a Disk, pass: &mut Pass<'a>) {
        pass.plain(disk, self.0.output());
    }

    fn finish(
        self: Box<Self>,
        disk: &Disk,
        payload: &Payload,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Written> {
        self.0.finish(disk, payload, progress, cancel)
    }
}

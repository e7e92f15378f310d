use nodekiln_disk::{Disk, FileWriter, qcow2};
use nodekiln_words::{Cancel, Result};

use crate::{ArtifactRequest, COMMON_LAYER, MachineProfile, Provider};

/// QEMU and what is built on it: libvirt, Proxmox, KubeVirt. Its artifact is a qcow2 file.
pub struct Qemu;

impl Provider for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn description(&self) -> &'static str {
        "QEMU, libvirt and the like: a compressed qcow2 file"
    }

    fn layer(&self) -> &'static str {
        COMMON_LAYER
    }

    fn machine(&self) -> MachineProfile {
        MachineProfile::virtio()
    }

    fn format(&self) -> &'static str {
        "qcow2"
    }

    fn file_name(&self, image: &str) -> String {
        format!("{image}.qcow2")
    }

    fn begin(
        &self,
        disk: &Disk,
        request: &ArtifactRequest,
        _cancel: &Cancel,
    ) -> Result<Box<dyn FileWriter>> {
        begin_qcow2(&self.file_name(&request.name), disk, request)
    }
}

/// Begins a provider's artifact that is a qcow2 file.
pub(crate) fn begin_qcow2(
    file: &str,
    disk: &Disk,
    request: &ArtifactRequest,
) -> Result<Box<dyn FileWriter>> {
    let options = qcow2::Options { compression: request.compression.of_clusters() };
    let (path, clusters) = (request.path_of(file), request.clusters.clone());
    Ok(Box::new(qcow2::Writer::create(disk, &path, options, clusters)?))
}

use nodekiln_disk::{Disk, Payload, qcow2};
use nodekiln_words::{Cancel, Progress, Result};

use crate::{Artifact, ArtifactRequest, COMMON_LAYER, MachineProfile, Provider};

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

    fn file_name(&self, image: &str) -> String {
        format!("{image}.qcow2")
    }

    fn write(
        &self,
        disk: &Disk,
        _payload: &Payload,
        request: &ArtifactRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Artifact> {
        let file = self.file_name(&request.name);
        write_qcow2(self.name(), file, disk, request, progress, cancel)
    }
}

/// Writes a provider's artifact that is a qcow2 file.
pub(crate) fn write_qcow2(
    provider: &str,
    file: String,
    disk: &Disk,
    request: &ArtifactRequest,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Artifact> {
    let options = qcow2::Options { compression: request.compression.of_clusters() };
    let (path, clusters) = (request.path_of(&file), request.clusters.as_ref());
    let written = qcow2::write_with(disk, &path, options, clusters, progress, cancel)?;
    Ok(Artifact {
        provider: provider.to_owned(),
        format: "qcow2".to_owned(),
        file,
        size: written.bytes,
        sha256: written.sha256,
    })
}

use nodekiln_disk::{Disk, qcow2};
use nodekiln_words::{Bytes, Cancel, Result};

use crate::glance::{GlanceImage, document_names};
use crate::{
    ArtifactRequest, ArtifactWriter, COMMON_LAYER, FileName, MachineProfile, OneFile, Provider,
};

/// QEMU and what is built on it: libvirt, Proxmox, KubeVirt. Its artifact is a qcow2 file.
pub struct Qemu;

impl Provider for Qemu {
    fn name(&self) -> &str {
        "qemu"
    }

    fn description(&self) -> &str {
        "QEMU, libvirt and the like: a compressed qcow2 file"
    }

    fn layer(&self) -> &str {
        COMMON_LAYER
    }

    fn machine(&self) -> MachineProfile {
        MachineProfile::virtio()
    }

    fn files(&self, image: &str) -> Vec<FileName> {
        vec![FileName::new(format!("{image}.qcow2"), "qcow2")]
    }

    fn documents(&self, image: &str) -> Vec<String> {
        document_names(self, image)
    }

    fn begin(
        &self,
        disk: &Disk,
        request: &ArtifactRequest,
        _cancel: &Cancel,
    ) -> Result<Box<dyn ArtifactWriter>> {
        begin_qcow2(self, disk, request)
    }
}

/// Begins the artifact of `provider`, which is a qcow2 file and a document of properties for OpenStack's
/// image service.
pub(crate) fn begin_qcow2(
    provider: &dyn Provider,
    disk: &Disk,
    request: &ArtifactRequest,
) -> Result<Box<dyn ArtifactWriter>> {
    let options = qcow2::Options { compression: request.compression.of_clusters() };
    let FileName { file, .. } =
        provider.files(&request.name).into_iter().next().unwrap_or_default();
    let path = request.path_of(&file);
    let writer = qcow2::Writer::create(disk, &path, options, request.clusters.clone())?;
    let image = GlanceImage::of(request, Bytes(disk.size()), &provider.machine());
    let mut made = OneFile::of(provider, request, writer, &image)?;
    for document in provider.documents(&request.name) {
        made = made.with_document(document, &image)?;
    }
    Ok(Box::new(made))
}

//! An image as OpenStack's image service takes it.

use nodekiln_words::Bytes;
use serde::{Deserialize, Serialize};

use crate::{ArtifactRequest, DiskBus, Firmware, MachineProfile, NetworkCard, Provider};

/// Memory below which kubeadm refuses a control-plane node, in MiB (its preflight check `Mem`).
const LEAST_MEMORY: u64 = 1700;

/// The body of `POST /v2/images` of OpenStack's image service: its own keys, and properties by which the
/// compute service makes the machine (OpenStack Glance, "Useful image properties").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlanceImage {
    /// Name, by which Cluster API's provider finds it: `debian-12-kube-v1.36.1`.
    pub name: String,
    /// Tags, by which it can be found too.
    pub tags: Vec<String>,
    /// Format of the file: `qcow2`.
    pub disk_format: String,
    /// What is around the file: `bare`, nothing.
    pub container_format: String,
    /// The smallest disk that it may be started on, in GiB.
    pub min_disk: u64,
    /// The least memory that it may be started with, in MiB.
    pub min_ram: u64,
    /// Processor, in the words of libvirt: `x86_64`.
    pub architecture: String,
    /// Kind of system.
    pub os_type: String,
    /// Distribution, in the words of libosinfo: `debian`.
    pub os_distro: String,
    /// Version of the distribution.
    pub os_version: String,
    /// `bios` or `uefi`.
    pub hw_firmware_type: String,
    /// Machine type of QEMU.
    pub hw_machine_type: String,
    /// Bus of the disk, in the words of libvirt.
    pub hw_disk_bus: String,
    /// Driver of the disk's controller, for a disk on SCSI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hw_scsi_model: Option<String>,
    /// Network card, in the words of libvirt.
    pub hw_vif_model: String,
    /// Source of random numbers.
    pub hw_rng_model: String,
    /// Version of Kubernetes, with a leading `v`. For people and scripts; no service reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
}

impl GlanceImage {
    /// For an image on a disk of `size` that is started on `machine`.
    #[must_use]
    pub fn of(request: &ArtifactRequest, size: Bytes, machine: &MachineProfile) -> Self {
        let facts = &request.facts;
        let firmware = machine.clone().starting(request.boot).firmware;
        let firmware = firmware.first().copied().unwrap_or(Firmware::Bios);
        let (bus, scsi) = match machine.disk_under(firmware) {
            DiskBus::VirtioBlk => ("virtio", None),
            DiskBus::VirtioScsi => ("scsi", Some("virtio-scsi")),
            DiskBus::Pvscsi => ("scsi", Some("vmpvscsi")),
            DiskBus::Nvme | DiskBus::Ahci => ("sata", None),
            DiskBus::Ide => ("ide", None),
        };
        let tags = [Some(facts.system()), facts.kubernetes.as_ref().map(|v| format!("kube-{v}"))];
        Self {
            name: request.template_name(),
            tags: tags.into_iter().flatten().collect(),
            disk_format: "qcow2".to_owned(),
            container_format: "bare".to_owned(),
            min_disk: size.get().div_ceil(Bytes::GIB),
            min_ram: if facts.kubernetes.is_some() { LEAST_MEMORY } else { 0 },
            architecture: match facts.architecture.as_str() {
                "amd64" => "x86_64".to_owned(),
                "arm64" => "aarch64".to_owned(),
                other => other.to_owned(),
            },
            os_type: "linux".to_owned(),
            os_distro: facts.distribution.clone(),
            os_version: facts.distribution_version.clone(),
            hw_firmware_type: firmware.as_str().to_owned(),
            hw_machine_type: "q35".to_owned(),
            hw_disk_bus: bus.to_owned(),
            hw_scsi_model: scsi.map(str::to_owned),
            hw_vif_model: match machine.network {
                NetworkCard::VirtioNet => "virtio",
                NetworkCard::E1000e => "e1000e",
                NetworkCard::Vmxnet3 => "vmxnet3",
            }
            .to_owned(),
            hw_rng_model: "virtio".to_owned(),
            kubernetes_version: facts.kubernetes.clone(),
        }
    }
}

/// The names of the documents with the properties of the files that `provider` writes for an image of this name.
pub(crate) fn document_names(provider: &dyn Provider, image: &str) -> Vec<String> {
    let name =
        |file: &str| format!("{}.properties.json", file.strip_suffix(".qcow2").unwrap_or(file));
    provider.files(image).iter().map(|named| name(&named.file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BootMode, ImageFacts, OpenStack, Qemu};

    fn request(boot: BootMode) -> ArtifactRequest {
        ArtifactRequest {
            name: "node".to_owned(),
            boot,
            facts: ImageFacts {
                distribution: "debian".to_owned(),
                distribution_version: "12".to_owned(),
                architecture: "amd64".to_owned(),
                kubernetes: Some("v1.36.1".to_owned()),
                ..ImageFacts::default()
            },
            ..ArtifactRequest::default()
        }
    }

    fn of(boot: BootMode) -> GlanceImage {
        let size = Bytes(4 * Bytes::GIB + 1);
        GlanceImage::of(&request(boot), size, &MachineProfile::virtio())
    }

    #[test]
    fn the_document_is_what_the_image_service_takes() {
        let text = serde_json::to_string_pretty(&of(BootMode::Hybrid)).unwrap();
        assert_eq!(text, include_str!("../golden/glance.json").trim_end());
    }

    #[test]
    fn firmware_follows_the_disk_and_else_the_usual_machine() {
        assert_eq!(of(BootMode::Uefi).hw_firmware_type, "uefi");
        assert_eq!(of(BootMode::Bios).hw_firmware_type, "bios");
        let machine = MachineProfile {
            firmware: vec![Firmware::Uefi, Firmware::Bios],
            disk: DiskBus::VirtioScsi,
            ..MachineProfile::virtio()
        };
        let image = GlanceImage::of(&request(BootMode::Hybrid), Bytes(1), &machine);
        assert_eq!(image.hw_firmware_type, "uefi");
        assert_eq!((image.hw_disk_bus.as_str(), image.min_disk), ("scsi", 1));
        assert_eq!(image.hw_scsi_model.as_deref(), Some("virtio-scsi"));
    }

    #[test]
    fn documents_are_called_after_their_file() {
        assert_eq!(OpenStack.documents("node"), ["node.openstack.properties.json"]);
        assert_eq!(Qemu.documents("node"), ["node.properties.json"]);
    }
}

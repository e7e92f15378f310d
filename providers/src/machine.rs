use serde::{Deserialize, Serialize};

/// The machine that a provider boots an image on, as far as QEMU can be made to look like it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineProfile {
    /// Firmware that it may use, the usual one first.
    pub firmware: Vec<Firmware>,
    /// Controller of the boot disk.
    pub disk: DiskBus,
    /// Network card.
    pub network: NetworkCard,
    /// SMBIOS strings that cloud-init's platform detection looks at, as (field, value) of type 1.
    pub system: Vec<(String, String)>,
    /// cloud-init data source that must be chosen.
    pub data_source: String,
    /// Linux name of the serial console.
    pub console: String,
}

/// Firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// A PC BIOS (SeaBIOS under QEMU).
    Bios,
    /// UEFI (OVMF under QEMU).
    Uefi,
}

/// Controllers of the boot disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskBus {
    /// virtio-blk.
    VirtioBlk,
}

/// Network cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkCard {
    /// virtio-net.
    VirtioNet,
}

impl MachineProfile {
    /// A plain QEMU machine with virtio devices, either firmware and a NoCloud seed.
    #[must_use]
    pub fn virtio() -> Self {
        Self {
            firmware: vec![Firmware::Bios, Firmware::Uefi],
            disk: DiskBus::VirtioBlk,
            network: NetworkCard::VirtioNet,
            system: Vec::new(),
            data_source: "NoCloud".to_owned(),
            console: "ttyS0".to_owned(),
        }
    }
}

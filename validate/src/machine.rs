//! The virtual machine that an artifact is booted on, as plain data.

use nodekiln_words::Bytes;
use serde::{Deserialize, Serialize};

/// A machine profile: the hardware a provider's image expects to find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// What starts the boot loader.
    pub firmware: Firmware,
    /// Controller of the root disk.
    pub disk: DiskBus,
    /// Network card.
    pub nic: Nic,
    /// SMBIOS strings, by which a guest recognises its cloud.
    pub dmi: Dmi,
    /// Memory in bytes; kubeadm's preflight wants 1700 MB or more.
    pub memory: Bytes,
    /// Virtual processors; kubeadm's preflight wants 2 or more.
    pub cpus: u32,
}

/// What starts the boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// SeaBIOS, which comes with QEMU.
    Bios,
    /// OVMF, from Debian's package `ovmf`.
    Uefi,
}

impl Firmware {
    /// The name that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        }
    }
}

/// Controllers of the root disk that QEMU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskBus {
    /// `virtio-blk-pci`: `/dev/vda`.
    VirtioBlk,
    /// `virtio-scsi-pci`: `/dev/sda`.
    VirtioScsi,
    /// `nvme`: `/dev/nvme0n1`.
    Nvme,
    /// `pvscsi`: `/dev/sda`.
    Pvscsi,
}

/// Network cards that QEMU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nic {
    /// `virtio-net-pci`.
    VirtioNet,
    /// `vmxnet3`.
    Vmxnet3,
    /// `e1000e`.
    E1000e,
}

impl Nic {
    /// QEMU's device name.
    #[must_use]
    pub const fn device(self) -> &'static str {
        match self {
            Self::VirtioNet => "virtio-net-pci",
            Self::Vmxnet3 => "vmxnet3",
            Self::E1000e => "e1000e",
        }
    }
}

/// SMBIOS strings; empty ones keep QEMU's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dmi {
    /// Type 1 manufacturer.
    pub manufacturer: String,
    /// Type 1 product name.
    pub product: String,
    /// Type 1 serial number.
    pub serial: String,
    /// Type 3 asset tag of the chassis.
    pub asset: String,
}

impl Default for Machine {
    /// A plain virtio machine that no cloud's DMI strings claim: the NoCloud profile.
    fn default() -> Self {
        Self {
            firmware: Firmware::Bios,
            disk: DiskBus::VirtioBlk,
            nic: Nic::VirtioNet,
            dmi: Dmi::default(),
            memory: Bytes(4 * Bytes::GIB),
            cpus: 2,
        }
    }
}

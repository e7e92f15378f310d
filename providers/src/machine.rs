use nodekiln_recipes::provider::DiskRules;
use nodekiln_recipes::recipe::BootMode;
use serde::{Deserialize, Serialize};

use crate::smbios::Smbios;

/// The machine that a provider boots an image on, as far as QEMU can be made to look like it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MachineProfile {
    /// Firmware that it may use, the usual one first.
    pub firmware: Vec<Firmware>,
    /// Controller of the boot disk.
    pub disk: DiskBus,
    /// Controller of the boot disk where a BIOS starts the machine, if that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bios_disk: Option<DiskBus>,
    /// Controller of the boot disk where UEFI starts the machine, if that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uefi_disk: Option<DiskBus>,
    /// Serial number of the boot disk, with placeholders as in [`Smbios`]; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub disk_serial: String,
    /// Network card.
    pub network: NetworkCard,
    /// Modules of Linux that find the boot disk in the cloud itself, whose controllers the emulator may not
    /// have: they belong into the kernel or its initial RAM disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_drivers: Vec<String>,
    /// Modules of Linux that drive the cloud's own network cards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_drivers: Vec<String>,
    /// What the firmware says of the machine, by which cloud-init and others tell where they run.
    #[serde(default, skip_serializing_if = "Smbios::is_silent")]
    pub smbios: Smbios,
    /// cloud-init data source that must be chosen.
    pub data_source: String,
    /// Linux name of the serial console.
    pub console: String,
    /// The disks that it takes.
    pub accepts: DiskRules,
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
    /// A disk behind virtio-scsi.
    VirtioScsi,
    /// NVM Express.
    Nvme,
    /// A disk behind VMware's paravirtual SCSI controller.
    Pvscsi,
    /// Parallel ATA, behind the PIIX of a PC of the nineties.
    Ide,
    /// Serial ATA.
    Ahci,
}

/// Network cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkCard {
    /// virtio-net.
    VirtioNet,
    /// Intel 82574, which e1000e drives.
    E1000e,
    /// VMware's paravirtual card of the third generation.
    Vmxnet3,
}

impl MachineProfile {
    /// Names of modules, for [`MachineProfile::boot_drivers`] and the like.
    #[must_use]
    pub fn drivers(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// A plain QEMU machine with virtio devices, either firmware and a NoCloud seed.
    #[must_use]
    pub fn virtio() -> Self {
        Self {
            firmware: vec![Firmware::Bios, Firmware::Uefi],
            disk: DiskBus::VirtioBlk,
            bios_disk: None,
            uefi_disk: None,
            disk_serial: String::new(),
            network: NetworkCard::VirtioNet,
            boot_drivers: Vec::new(),
            network_drivers: Vec::new(),
            smbios: Smbios::default(),
            data_source: "NoCloud".to_owned(),
            console: "ttyS0".to_owned(),
            accepts: DiskRules::default(),
        }
    }

    /// The same machine with the firmware alone that starts a disk of this `boot`.
    #[must_use]
    pub fn starting(mut self, boot: BootMode) -> Self {
        self.firmware.retain(|firmware| firmware.starts(boot));
        self
    }

    /// Controller of the boot disk of a machine that `firmware` starts.
    #[must_use]
    pub fn disk_under(&self, firmware: Firmware) -> DiskBus {
        match firmware {
            Firmware::Bios => self.bios_disk.unwrap_or(self.disk),
            Firmware::Uefi => self.uefi_disk.unwrap_or(self.disk),
        }
    }
}

impl Firmware {
    /// Whether it starts a disk that is made to boot by `boot`.
    #[must_use]
    pub const fn starts(self, boot: BootMode) -> bool {
        match boot {
            BootMode::Hybrid => true,
            BootMode::Bios => matches!(self, Self::Bios),
            BootMode::Uefi => matches!(self, Self::Uefi),
        }
    }

    /// The word for it on the command line and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        }
    }
}

impl DiskBus {
    /// The word for it in output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VirtioBlk => "virtio-blk",
            Self::VirtioScsi => "virtio-scsi",
            Self::Nvme => "nvme",
            Self::Pvscsi => "pvscsi",
            Self::Ide => "ide",
            Self::Ahci => "ahci",
        }
    }
}

impl NetworkCard {
    /// The word for it in output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VirtioNet => "virtio-net",
            Self::E1000e => "e1000e",
            Self::Vmxnet3 => "vmxnet3",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_no_firmware_that_does_not_start_the_disk() {
        let starting = |boot| MachineProfile::virtio().starting(boot).firmware;
        assert_eq!(starting(BootMode::Hybrid), [Firmware::Bios, Firmware::Uefi]);
        assert_eq!(starting(BootMode::Bios), [Firmware::Bios]);
        assert_eq!(starting(BootMode::Uefi), [Firmware::Uefi]);
    }
}

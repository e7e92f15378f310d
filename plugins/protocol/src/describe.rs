//! What a plugin says of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a plugin is. The same plugin says the same each time: every build asks anew, and goes by the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Description {
    /// The provider's name, that of the executable: `^[a-z][a-z0-9-]{0,31}$`.
    pub name: String,
    /// The plugin's own version, for `manifest.json`.
    pub version: String,
    /// One line for `nodekiln provider list`.
    pub description: String,
    /// What its image has besides everything else: YAML with the keys of `providers.NAME` in a recipe.
    #[serde(default)]
    pub layer: String,
    /// The machine that it boots the image on.
    pub machine: Machine,
    /// The format in which it wants the disk.
    pub input: Format,
    /// The files that it writes, at least one.
    pub artifacts: Vec<ArtifactName>,
    /// The keys of the registration that it tells when it is done, each with a few words about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub registration: BTreeMap<String, String>,
    /// Names of the environment variables that it needs for a write, such as where a tool lies. They may not
    /// change what it writes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
}

/// A file that a plugin writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ArtifactName {
    /// Its name, which begins with `{name}.`; `{name}` stands for the image's.
    pub file: String,
    /// Its format in the field's word: `oci-archive`.
    pub format: String,
}

/// Formats in which nodekiln hands over a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Format {
    /// The bytes of the disk, with holes.
    #[serde(rename = "raw")]
    Raw,
    /// QEMU's format, compressed as the request says.
    #[serde(rename = "qcow2")]
    Qcow2,
    /// A fixed VHD of whole MiB.
    #[serde(rename = "vhd")]
    Vhd,
    /// A stream-optimised VMDK.
    #[serde(rename = "vmdk")]
    Vmdk,
    /// An OVF package in one file.
    #[serde(rename = "ova")]
    Ova,
    /// `disk.raw` as a sparse member of a gzipped archive; disks of whole GiB.
    #[serde(rename = "tar.gz")]
    TarGz,
}

impl Format {
    /// Its word, which is also the ending of its files' names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Vmdk => "vmdk",
            Self::Ova => "ova",
            Self::TarGz => "tar.gz",
        }
    }
}

/// A machine, as `nodekiln provider show --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Machine {
    /// Firmware that it may use, the usual one first.
    pub firmware: Vec<Firmware>,
    /// Controller of the boot disk.
    pub disk: Disk,
    /// Controller of the boot disk where a BIOS starts the machine, if that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bios_disk: Option<Disk>,
    /// Controller of the boot disk where UEFI starts the machine, if that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uefi_disk: Option<Disk>,
    /// Serial number of the boot disk, with placeholders as in SMBIOS strings; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub disk_serial: String,
    /// Network card.
    pub network: Network,
    /// Modules of Linux that find the boot disk there, in the kernel or in its initial RAM disk: besides those of
    /// `disk`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_drivers: Vec<String>,
    /// Modules of Linux that drive network cards there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_drivers: Vec<String>,
    /// What the firmware says of the machine.
    #[serde(default, skip_serializing_if = "Smbios::is_silent")]
    pub smbios: Smbios,
    /// cloud-init data source that must be chosen.
    pub data_source: String,
    /// Linux name of the serial console.
    pub console: String,
    /// The disks that it takes.
    pub accepts: Accepts,
}

/// Which disks a provider takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Accepts {
    /// The size of a disk is a multiple of so many bytes: whole MiB, and whole GiB where the input is `tar.gz`.
    pub multiple: u64,
    /// The largest size in bytes, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest: Option<u64>,
    /// How the disk may be made to boot; firmware of the machine has to start each.
    pub boot: Vec<Boot>,
}

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$doc])* $variant,)+ }
    };
}

words! {
    /// How a disk is made to boot.
    Boot {
        /// By BIOS and UEFI.
        Hybrid,
        /// By BIOS alone.
        Bios,
        /// By UEFI alone.
        Uefi,
    }
}
words! {
    /// Firmware.
    Firmware {
        /// A PC BIOS.
        Bios,
        /// UEFI.
        Uefi,
    }
}
words! {
    /// Controllers of the boot disk.
    Disk {
        /// virtio-blk.
        VirtioBlk,
        /// A disk behind virtio-scsi.
        VirtioScsi,
        /// NVM Express.
        Nvme,
        /// VMware's paravirtual SCSI.
        Pvscsi,
        /// Parallel ATA.
        Ide,
        /// Serial ATA.
        Ahci,
    }
}
words! {
    /// Network cards.
    Network {
        /// virtio-net.
        VirtioNet,
        /// Intel 82574.
        E1000e,
        /// VMware's paravirtual card.
        Vmxnet3,
    }
}

/// SMBIOS strings of a machine; an empty one stays as the emulator has it. `{uuid}`, `{hex}`, `{pairs}` and
/// `{tail}` stand for the machine's own id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Smbios {
    /// How the machine's UUID is found.
    pub uuid: Uuid,
    /// Type 0, the firmware.
    pub bios: Bios,
    /// Type 1, the system.
    pub system: System,
    /// Type 2, the main board.
    pub board: Board,
    /// Type 3, the chassis.
    pub chassis: Chassis,
}

impl Smbios {
    /// Whether everything stays as the emulator has it.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }
}

/// How a machine's UUID is found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Uuid {
    /// The emulator's own.
    #[default]
    Unset,
    /// Derived.
    Derived,
    /// Derived, and then begun with these hexadecimal digits, at most eight.
    BeginsWith(String),
}

macro_rules! strings {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
        pub struct $name { $($(#[$doc])* pub $field: String,)+ }
    };
}

strings! {
    /// Type 0, the firmware.
    Bios {
        /// Vendor.
        vendor,
    }
}
strings! {
    /// Type 1, the system.
    System {
        /// Manufacturer.
        manufacturer,
        /// Product name.
        product,
        /// Version.
        version,
        /// Serial number.
        serial,
    }
}
strings! {
    /// Type 2, the main board.
    Board {
        /// Manufacturer.
        manufacturer,
        /// Product name.
        product,
        /// Serial number.
        serial,
        /// Asset tag.
        asset,
    }
}
strings! {
    /// Type 3, the chassis.
    Chassis {
        /// Manufacturer.
        manufacturer,
        /// Serial number.
        serial,
        /// Asset tag.
        asset,
    }
}

//! The virtual machine that an artifact is booted on: a provider's profile, sized for one run.

use nodekiln_providers::{Firmware, MachineProfile};
use nodekiln_words::Bytes;

/// The machine of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The hardware that the provider's image expects to find.
    pub profile: MachineProfile,
    /// What starts the boot loader.
    pub firmware: Firmware,
    /// Memory in bytes; kubeadm's preflight wants 1700 MB or more.
    pub memory: Bytes,
    /// Virtual processors; kubeadm's preflight wants 2 or more.
    pub cpus: u32,
}

impl Default for Machine {
    /// A plain virtio machine that no cloud's SMBIOS strings claim, started by its BIOS.
    fn default() -> Self {
        Self {
            profile: MachineProfile::virtio(),
            firmware: Firmware::Bios,
            memory: Bytes(4 * Bytes::GIB),
            cpus: 2,
        }
    }
}

/// The name that reports use.
pub(crate) const fn firmware_name(firmware: Firmware) -> &'static str {
    match firmware {
        Firmware::Bios => "bios",
        Firmware::Uefi => "uefi",
    }
}

//! The virtual machine that an artifact is booted on: a provider's profile, sized for one run.

use nodekiln_providers::{DiskBus, Firmware, MachineProfile};
use nodekiln_words::Bytes;
use uuid::Uuid;

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
    /// What its ids are derived from: clones differ in it, and two runs of one do not.
    pub seed: Uuid,
}

impl Machine {
    /// Controller of the boot disk.
    #[must_use]
    pub fn disk(&self) -> DiskBus {
        self.profile.disk_under(self.firmware)
    }
}

impl Default for Machine {
    /// A plain virtio machine that no cloud's SMBIOS strings claim, started by its BIOS.
    fn default() -> Self {
        Self {
            profile: MachineProfile::virtio(),
            firmware: Firmware::Bios,
            memory: Bytes(4 * Bytes::GIB),
            cpus: 2,
            seed: Uuid::new_v5(&Uuid::NAMESPACE_URL, b"https://nodekiln.io/machine"),
        }
    }
}

use nodekiln_providers::{
    Board, Chassis, DiskBus, DiskRules, Firmware, MachineProfile, NetworkCard, Smbios, System,
    UuidRule,
};
use nodekiln_words::Bytes;

/// A virtual machine of ESXi with paravirtual devices, both of which QEMU has.
pub(crate) fn machine() -> MachineProfile {
    MachineProfile {
        // The descriptor names one: the BIOS wherever the disk boots by it.
        firmware: vec![Firmware::Bios, Firmware::Uefi],
        disk: DiskBus::Pvscsi,
        // ESXi has NVMe, too, and OVMF as Debian builds it has no driver for pvscsi.
        uefi_disk: Some(DiskBus::Nvme),
        network: NetworkCard::Vmxnet3,
        boot_drivers: MachineProfile::drivers(&["vmw_pvscsi"]),
        network_drivers: MachineProfile::drivers(&["vmxnet3"]),
        smbios: Smbios {
            uuid: UuidRule::Derived,
            system: System {
                manufacturer: "VMware, Inc.".to_owned(),
                product: "VMware Virtual Platform".to_owned(),
                version: "None".to_owned(),
                serial: "VMware-{pairs}".to_owned(),
            },
            board: Board {
                manufacturer: "Intel Corporation".to_owned(),
                product: "440BX Desktop Reference Platform".to_owned(),
                ..Board::default()
            },
            chassis: Chassis {
                manufacturer: "No Enclosure".to_owned(),
                asset: "No Asset Tag".to_owned(),
                ..Chassis::default()
            },
            ..Smbios::default() // BIOS and UEFI are of different makers
        },
        data_source: "VMware".to_owned(),
        // The largest virtual disk of VMFS is 62 TiB.
        accepts: DiskRules {
            multiple: Bytes(Bytes::MIB),
            largest: Some(Bytes(62 << 40)),
            ..DiskRules::default()
        },
        ..MachineProfile::virtio()
    }
}

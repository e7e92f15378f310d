use nodekiln_providers::{
    Board, Chassis, DiskBus, DiskRules, Firmware, MachineProfile, NetworkCard, Smbios, System,
    UuidRule,
};
use nodekiln_words::Bytes;

/// A machine of Hyper-V, as far as QEMU can look like one: it has neither Hyper-V's disks nor its cards.
/// The second generation has SCSI and UEFI, the first Parallel ATA and a BIOS. Both have SCSI here: on a
/// machine that says it is Hyper-V's, Linux leaves disks behind Parallel ATA to `hv_storvsc` (`ata_piix`,
/// `prefer_ms_hyperv`).
pub(crate) fn machine() -> MachineProfile {
    let vendor = || "Microsoft Corporation".to_owned();
    MachineProfile {
        firmware: vec![Firmware::Uefi, Firmware::Bios],
        disk: DiskBus::VirtioScsi,
        network: NetworkCard::VirtioNet,
        boot_drivers: MachineProfile::drivers(&["hv_storvsc"]),
        network_drivers: MachineProfile::drivers(&["hv_netvsc"]),
        smbios: Smbios {
            uuid: UuidRule::Derived,
            system: System {
                manufacturer: vendor(),
                product: "Virtual Machine".to_owned(),
                ..System::default()
            },
            board: Board {
                manufacturer: vendor(),
                product: "Virtual Machine".to_owned(),
                ..Board::default()
            },
            chassis: Chassis {
                manufacturer: vendor(),
                // By this cloud-init tells Azure from any other Hyper-V.
                asset: "7783-7084-3265-9085-8269-3286-77".to_owned(),
                ..Chassis::default()
            },
            ..Smbios::default() // BIOS and UEFI are of different makers
        },
        data_source: "Azure".to_owned(),
        // A fixed VHD, whose format ends at 2040 GiB.
        accepts: DiskRules {
            multiple: Bytes(Bytes::MIB),
            largest: Some(Bytes(2040 * Bytes::GIB)),
            ..DiskRules::default()
        },
        ..MachineProfile::virtio()
    }
}

use nodekiln_providers::{
    Bios, Board, Chassis, DiskBus, DiskRules, Firmware, MachineProfile, NetworkCard, Smbios,
    System, UuidRule,
};
use nodekiln_words::Bytes;

/// A virtual machine of Google's, which are KVM's, with a persistent disk behind SCSI.
pub(crate) fn machine() -> MachineProfile {
    let (vendor, product) = (|| "Google".to_owned(), || "Google Compute Engine".to_owned());
    MachineProfile {
        // An image with the guest feature UEFI_COMPATIBLE is started by UEFI.
        firmware: vec![Firmware::Uefi, Firmware::Bios],
        disk: DiskBus::VirtioScsi,
        disk_serial: "persistent-disk-0".to_owned(),
        network: NetworkCard::VirtioNet,
        // Machines of the third generation on have NVMe disks and Google's own card.
        boot_drivers: MachineProfile::drivers(&["virtio_scsi", "nvme"]),
        network_drivers: MachineProfile::drivers(&["virtio_net", "gve"]),
        smbios: Smbios {
            uuid: UuidRule::Derived,
            bios: Bios { vendor: vendor() },
            system: System {
                manufacturer: vendor(),
                // By this cloud-init tells the platform, or by the serial number.
                product: product(),
                serial: "GoogleCloud-{hex}".to_owned(),
                ..System::default()
            },
            board: Board { manufacturer: vendor(), product: product(), ..Board::default() },
            chassis: Chassis { manufacturer: vendor(), ..Chassis::default() },
        },
        data_source: "GCE".to_owned(),
        // An image is made from a disk of whole GiB, and a persistent disk ends at 64 TiB.
        accepts: DiskRules {
            multiple: Bytes(Bytes::GIB),
            largest: Some(Bytes(64 << 40)),
            ..DiskRules::default()
        },
        ..MachineProfile::virtio()
    }
}

use nodekiln_providers::{
    Bios, Board, Chassis, DiskBus, DiskRules, Firmware, MachineProfile, NetworkCard, Smbios,
    System, UuidRule,
};
use nodekiln_words::Bytes;

/// An instance on the Nitro system, as far as QEMU can look like one: it has no ENA, so the card is
/// virtio's, which every kernel with a driver for ENA drives too.
pub(crate) fn machine() -> MachineProfile {
    let vendor = || "Amazon EC2".to_owned();
    MachineProfile {
        // `uefi-preferred`: instance types without UEFI use the BIOS.
        firmware: vec![Firmware::Uefi, Firmware::Bios],
        disk: DiskBus::Nvme,
        // NVMe has room for 20 characters: the id of a volume without its dash.
        disk_serial: "vol{tail}".to_owned(),
        network: NetworkCard::VirtioNet,
        boot_drivers: MachineProfile::drivers(&["nvme"]),
        network_drivers: MachineProfile::drivers(&["ena"]),
        smbios: Smbios {
            // By this cloud-init tells the platform, and up to 22.4 by a serial number that is the same.
            uuid: UuidRule::BeginsWith("ec2".to_owned()),
            bios: Bios { vendor: vendor() },
            system: System {
                manufacturer: vendor(),
                product: "m5.large".to_owned(),
                serial: "{uuid}".to_owned(),
                ..System::default()
            },
            board: Board {
                manufacturer: vendor(),
                asset: "i-{tail}".to_owned(),
                ..Board::default()
            },
            chassis: Chassis { manufacturer: vendor(), asset: vendor(), ..Chassis::default() },
        },
        data_source: "Ec2".to_owned(),
        // A snapshot is of whole GiB, and gp3 volumes end at 16 TiB.
        accepts: DiskRules {
            multiple: Bytes(Bytes::GIB),
            largest: Some(Bytes(16 << 40)),
            ..DiskRules::default()
        },
        ..MachineProfile::virtio()
    }
}

#[cfg(test)]
mod tests {
    use nodekiln_providers::Provider as _;
    use uuid::Uuid;

    /// The test of cloud-init up to 22.4 (ds-identify, `dscheck_Ec2`), which later versions relax.
    #[test]
    fn cloud_init_takes_the_machine_for_an_instance() {
        let (machine, seed) = (crate::Aws.machine(), Uuid::from_u128(1));
        let uuid = machine.smbios.uuid_of(seed).unwrap().to_string();
        assert!(uuid.starts_with("ec2"), "{uuid}");
        let [_, (_, system), _, _] = machine.smbios.fields(seed);
        assert!(system.contains(&("serial", uuid)), "{system:?}");
        assert_eq!(machine.smbios.fill(&machine.disk_serial, seed).len(), 20);
    }
}

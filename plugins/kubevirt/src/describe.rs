//! What KubeVirt is to nodekiln.

use nodekiln_plugin_protocol::{
    Accepts, ArtifactName, Boot, Description, Disk, Firmware, Format, Machine, Network, Smbios,
    System, Uuid,
};

/// What stands behind the image's name in the artifact's.
pub(crate) const ENDING: &str = "containerdisk.tar";

/// The answer to `describe`.
pub(crate) fn description() -> Description {
    Description {
        name: "kubevirt".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: "KubeVirt: a container disk, as an OCI archive".to_owned(),
        layer: include_str!("../layer.yaml").to_owned(),
        machine: machine(),
        // The smallest that KubeVirt reads.
        input: Format::Qcow2,
        artifacts: vec![ArtifactName {
            file: format!("{{name}}.{ENDING}"),
            format: "oci-archive".to_owned(),
        }],
        registration: [
            ("image", "name and tag to push the archive under, behind a registry"),
            ("digest", "digest of the image's manifest, by which machines should name it"),
            ("disk", "path of the disk in the image"),
        ]
        .map(|(key, about)| (key.to_owned(), about.to_owned()))
        .into(),
        environment: Vec::new(),
    }
}

/// The machine that KubeVirt's launcher has libvirt make.
fn machine() -> Machine {
    let word = str::to_owned;
    Machine {
        // A machine without a word about firmware has a BIOS.
        firmware: vec![Firmware::Bios, Firmware::Uefi],
        disk: Disk::VirtioBlk,
        bios_disk: None,
        uefi_disk: None,
        boot_drivers: Vec::new(),
        network_drivers: Vec::new(),
        disk_serial: String::new(),
        network: Network::VirtioNet,
        smbios: Smbios {
            uuid: Uuid::Derived,
            system: System {
                manufacturer: word("KubeVirt"),
                product: word("None"),
                ..System::default()
            },
            ..Smbios::default()
        },
        data_source: word("NoCloud"),
        console: word("ttyS0"),
        accepts: Accepts {
            multiple: 1 << 20,
            largest: None,
            boot: vec![Boot::Hybrid, Boot::Bios, Boot::Uefi],
        },
    }
}

//! What an OVF package says of its machine.

use nodekiln_disk::ova;
use nodekiln_providers::Firmware;

/// The machine that vSphere makes of the package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Name of the template.
    pub name: String,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// Firmware; UEFI without Secure Boot.
    pub firmware: Firmware,
    /// Virtual hardware version: 15 for vSphere 6.7 Update 2 and later.
    pub hardware: u32,
    /// The operating system: its number in CIM's `CIM_OperatingSystem.OSType`, vSphere's name, and words.
    pub system: (u32, &'static str, String),
    /// Size of the disk in bytes.
    pub capacity: u64,
    /// What the package is.
    pub product: Product,
}

/// The product that a package is of, and the properties that are looked up on its template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Product {
    /// Its name.
    pub name: String,
    /// Who makes it.
    pub vendor: String,
    /// Its version.
    pub version: String,
    /// Words for the template's notes.
    pub annotation: String,
    /// Properties, in the order in which they are shown.
    pub properties: Vec<Property>,
}

/// A property of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its key: `KUBERNETES_SEMVER`.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Whether whoever deploys it may give another value.
    pub configurable: bool,
}

impl Property {
    /// One that is a fact of the image.
    #[must_use]
    pub fn fact(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), value: value.to_owned(), configurable: false }
    }

    /// One that a machine is given when it is made.
    #[must_use]
    pub fn input(key: &str) -> Self {
        Self { key: key.to_owned(), value: String::new(), configurable: true }
    }
}

impl Machine {
    /// A machine of the usual size, with a BIOS, around a disk of `capacity` bytes, for a system that is told by its
    /// os-release `ID` and pretty name.
    #[must_use]
    pub fn new(name: &str, capacity: u64, id: &str, pretty: &str) -> Self {
        // CIM schema 2.22, CIM_OperatingSystem.OSType; vSphere API, VirtualMachineGuestOsIdentifier, as
        // far as hardware version 15 has them.
        let (cim, guest) = match id {
            "debian" => (96, "debian10_64Guest"),
            "ubuntu" => (94, "ubuntu64Guest"),
            "photon" => (36, "vmwarePhoton64Guest"),
            "rhel" => (80, "rhel8_64Guest"),
            "rocky" | "almalinux" | "centos" => (107, "centos8_64Guest"),
            _ => (101, "other4xLinux64Guest"),
        };
        Self {
            name: name.to_owned(),
            cpus: 2,
            memory: 2048,
            firmware: Firmware::Bios,
            hardware: 15,
            system: (cim, guest, pretty.to_owned()),
            capacity,
            product: Product::default(),
        }
    }
}

/// Names and places of an OVA's members for an image of this name. `room` is the length of the longest
/// descriptor that may come, `created` the members' time in seconds since 1970.
#[must_use]
pub(crate) fn members(name: &str, room: u64, created: u64) -> ova::Members {
    ova::Members {
        descriptor: format!("{name}.ovf"),
        room,
        manifest: format!("{name}.mf"),
        extent: format!("{name}-disk1.vmdk"),
        created,
    }
}

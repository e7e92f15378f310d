//! The OVF descriptor (DMTF DSP0243 1.1, sections in the order of its section 7 to 9) as text.

use nodekiln_disk::ova::{Extent, Members};
use nodekiln_providers::Firmware;
use nodekiln_words::{Result, ResultExt as _};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use crate::descriptor::{Machine, Product};

const NAMESPACES: [(&str, &str); 6] = [
    ("xmlns", "http://schemas.dmtf.org/ovf/envelope/1"),
    ("xmlns:ovf", "http://schemas.dmtf.org/ovf/envelope/1"),
    (
        "xmlns:rasd",
        "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData",
    ),
    (
        "xmlns:vssd",
        "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData",
    ),
    ("xmlns:vmw", "http://www.vmware.com/schema/ovf"),
    ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
];
const STREAM_OPTIMIZED: &str =
    "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";
/// The one network, which whoever deploys the template maps to one of theirs.
const NETWORK: &str = "nic0";
/// How properties reach the guest.
const TRANSPORT: &str = "com.vmware.guestInfo";

/// The descriptor of `machine`, whose disk is `extent`.
///
/// # Errors
/// Never in practice: what is written lies in memory.
pub(crate) fn descriptor(machine: &Machine, members: &Members, extent: &Extent) -> Result<String> {
    let failed = || "cannot write the OVF descriptor".to_owned();
    let mut xml = Xml(Writer::new_with_indent(Vec::new(), b' ', 2));
    xml.envelope(machine, members, extent).or_io(failed)?;
    let mut bytes = xml.0.into_inner();
    bytes.push(b'\n');
    String::from_utf8(bytes).or_io(failed)
}

type Written = std::io::Result<()>;

struct Xml(Writer<Vec<u8>>);

/// A virtual device: elements of the namespace `rasd`, in the alphabetical order that the schema wants.
type Item<'a> = &'a [(&'a str, String)];

impl Xml {
    fn open(&mut self, name: &str, attributes: &[(&str, &str)]) -> Written {
        let element = BytesStart::new(name).with_attributes(attributes.iter().copied());
        self.0.write_event(Event::Start(element))
    }

    fn close(&mut self, name: &str) -> Written {
        self.0.write_event(Event::End(BytesEnd::new(name)))
    }

    fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) -> Written {
        let element = BytesStart::new(name).with_attributes(attributes.iter().copied());
        self.0.write_event(Event::Empty(element))
    }

    fn text(&mut self, name: &str, text: &str) -> Written {
        self.open(name, &[])?;
        self.0.write_event(Event::Text(BytesText::new(text)))?;
        self.close(name)
    }

    fn envelope(&mut self, machine: &Machine, members: &Members, extent: &Extent) -> Written {
        self.0.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        self.open("Envelope", &NAMESPACES)?;
        let size = extent.length.to_string();
        self.open("References", &[])?;
        let file =
            [("ovf:id", "file1"), ("ovf:href", members.extent.as_str()), ("ovf:size", &size)];
        self.empty("File", &file)?;
        self.close("References")?;
        self.disk(machine, extent)?;
        self.open("NetworkSection", &[])?;
        self.text("Info", "The list of logical networks")?;
        self.open("Network", &[("ovf:name", NETWORK)])?;
        self.text("Description", "The network that nodes reach each other by")?;
        self.close("Network")?;
        self.close("NetworkSection")?;
        self.system(machine)?;
        self.close("Envelope")
    }

    fn disk(&mut self, machine: &Machine, extent: &Extent) -> Written {
        const GIB: u64 = 1 << 30;
        let whole = machine.capacity.is_multiple_of(GIB);
        let unit = if whole { "byte * 2^30" } else { "byte" };
        let capacity = if whole { machine.capacity / GIB } else { machine.capacity }.to_string();
        self.open("DiskSection", &[])?;
        self.text("Info", "Virtual disk information")?;
        let disk = [
            ("ovf:diskId", "vmdisk1"),
            ("ovf:fileRef", "file1"),
            ("ovf:capacity", &capacity),
            ("ovf:capacityAllocationUnits", unit),
            ("ovf:format", STREAM_OPTIMIZED),
            ("ovf:populatedSize", &extent.populated.to_string()),
        ];
        self.empty("Disk", &disk)?;
        self.close("DiskSection")
    }

    fn system(&mut self, machine: &Machine) -> Written {
        self.open("VirtualSystem", &[("ovf:id", &machine.name)])?;
        self.text("Info", "A virtual machine")?;
        self.text("Name", &machine.name)?;
        let (cim, guest, words) = &machine.system;
        let cim = cim.to_string();
        self.open("OperatingSystemSection", &[("ovf:id", &cim), ("vmw:osType", guest)])?;
        self.text("Info", "The kind of installed guest operating system")?;
        self.text("Description", words)?;
        self.close("OperatingSystemSection")?;
        self.hardware(machine)?;
        if !machine.product.annotation.is_empty() {
            self.open("AnnotationSection", &[("ovf:required", "false")])?;
            self.text("Info", "A human-readable annotation")?;
            self.text("Annotation", &machine.product.annotation)?;
            self.close("AnnotationSection")?;
        }
        self.product(&machine.product)?;
        self.close("VirtualSystem")
    }

    fn hardware(&mut self, machine: &Machine) -> Written {
        self.open("VirtualHardwareSection", &[("ovf:transport", TRANSPORT)])?;
        self.text("Info", "Virtual hardware requirements")?;
        self.open("System", &[])?;
        self.text("vssd:ElementName", "Virtual Hardware Family")?;
        self.text("vssd:InstanceID", "0")?;
        self.text("vssd:VirtualSystemIdentifier", &machine.name)?;
        self.text("vssd:VirtualSystemType", &format!("vmx-{:02}", machine.hardware))?;
        self.close("System")?;
        for item in items(machine) {
            self.item(&item)?;
        }
        let firmware = match machine.firmware {
            Firmware::Bios => "bios",
            Firmware::Uefi => "efi",
        };
        for (key, value) in [
            ("firmware", firmware),
            ("bootOptions.efiSecureBootEnabled", "false"),
            ("cpuHotAddEnabled", "false"),
            ("memoryHotAddEnabled", "false"),
            ("tools.syncTimeWithHost", "false"),
            ("tools.toolsUpgradePolicy", "manual"),
        ] {
            let config = [("ovf:required", "false"), ("vmw:key", key), ("vmw:value", value)];
            self.empty("vmw:Config", &config)?;
        }
        // vSphere's storage driver for Kubernetes finds disks by their ids.
        let extra =
            [("ovf:required", "false"), ("vmw:key", "disk.EnableUUID"), ("vmw:value", "TRUE")];
        self.empty("vmw:ExtraConfig", &extra)?;
        self.close("VirtualHardwareSection")
    }

    fn item(&mut self, item: Item<'_>) -> Written {
        self.open("Item", &[])?;
        for (name, value) in item {
            self.text(&format!("rasd:{name}"), value)?;
        }
        self.close("Item")
    }

    fn product(&mut self, product: &Product) -> Written {
        self.open("ProductSection", &[])?;
        self.text("Info", "Information about the installed software")?;
        self.text("Product", &product.name)?;
        self.text("Vendor", &product.vendor)?;
        self.text("Version", &product.version)?;
        for property in &product.properties {
            let configurable = if property.configurable { "true" } else { "false" };
            self.empty(
                "Property",
                &[
                    ("ovf:key", property.key.as_str()),
                    ("ovf:type", "string"),
                    ("ovf:userConfigurable", configurable),
                    ("ovf:value", property.value.as_str()),
                ],
            )?;
        }
        self.close("ProductSection")
    }
}

/// The devices (CIM_ResourceAllocationSettingData.ResourceType: 3 processor, 4 memory, 6 SCSI, 10 Ethernet,
/// 17 disk).
fn items(machine: &Machine) -> Vec<Vec<(&'static str, String)>> {
    let text = |text: &str| text.to_owned();
    vec![
        vec![
            ("AllocationUnits", text("hertz * 10^6")),
            ("Description", text("Number of virtual CPUs")),
            ("ElementName", format!("{} virtual CPU(s)", machine.cpus)),
            ("InstanceID", text("1")),
            ("ResourceType", text("3")),
            ("VirtualQuantity", machine.cpus.to_string()),
        ],
        vec![
            ("AllocationUnits", text("byte * 2^20")),
            ("Description", text("Memory size")),
            ("ElementName", format!("{} MB of memory", machine.memory)),
            ("InstanceID", text("2")),
            ("ResourceType", text("4")),
            ("VirtualQuantity", machine.memory.to_string()),
        ],
        vec![
            ("Address", text("0")),
            ("Description", text("SCSI controller")),
            ("ElementName", text("SCSI controller 0")),
            ("InstanceID", text("3")),
            ("ResourceSubType", text("VirtualSCSI")),
            ("ResourceType", text("6")),
        ],
        vec![
            ("AddressOnParent", text("0")),
            ("ElementName", text("Hard disk 1")),
            ("HostResource", text("ovf:/disk/vmdisk1")),
            ("InstanceID", text("4")),
            ("Parent", text("3")),
            ("ResourceType", text("17")),
        ],
        vec![
            ("AddressOnParent", text("7")),
            ("AutomaticAllocation", text("true")),
            ("Connection", text(NETWORK)),
            ("Description", format!("VmxNet3 Ethernet adapter on \"{NETWORK}\"")),
            ("ElementName", text("Network adapter 1")),
            ("InstanceID", text("5")),
            ("ResourceSubType", text("VmxNet3")),
            ("ResourceType", text("10")),
        ],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::{Property, members};

    fn machine() -> Machine {
        let mut machine = Machine::new("node", 4 << 30, "debian", "Debian GNU/Linux 12 (bookworm)");
        machine.product = Product {
            name: "node".to_owned(),
            vendor: "Acme & Co <\"'>".to_owned(),
            version: "v1.36.0".to_owned(),
            annotation: "Cluster API node".to_owned(),
            properties: vec![
                Property::fact("KUBERNETES_SEMVER", "v1.36.0"),
                Property::input("guestinfo.userdata"),
            ],
        };
        machine
    }

    #[test]
    fn the_descriptor_is_the_golden_file() {
        let extent = Extent { length: 1_234_567_680, populated: 2_345_678_848 };
        let text = descriptor(&machine(), &members("node", 0, 0), &extent).unwrap();
        let golden = "golden/node.ovf";
        if std::env::var_os("NODEKILN_BLESS").is_some() {
            std::fs::write(golden, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(golden).unwrap());
    }

    #[test]
    fn firmware_and_odd_sizes_are_told() {
        let mut machine = machine();
        machine.firmware = Firmware::Uefi;
        machine.capacity = (1 << 30) + (1 << 20);
        let extent = Extent { length: 1, populated: 1 };
        let text = descriptor(&machine, &members("node", 0, 0), &extent).unwrap();
        for expected in [
            "vmw:key=\"firmware\" vmw:value=\"efi\"",
            "ovf:capacity=\"1074790400\" ovf:capacityAllocationUnits=\"byte\"",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
}

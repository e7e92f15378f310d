//! An image as vSphere takes it: what its template is called and what machine it is.

use std::collections::BTreeMap;

use nodekiln_providers::{ArtifactRequest, FileName, Firmware, Provider as _};
use serde::{Deserialize, Serialize};

use crate::descriptor::Machine;

/// How an OVA is imported as a template. The machine stands in the OVA as well; here it is told to whoever
/// makes one by hand, or looks for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImportTemplate {
    /// Name of the template, by which Cluster API's provider finds it: `debian-12-kube-v1.36.1`.
    pub template: String,
    /// The OVA.
    pub file: String,
    /// Whether the machine is to be marked as a template after the import: always.
    pub mark_as_template: bool,
    /// Name of a snapshot to be taken before that: linked clones are made from one.
    pub snapshot: String,
    /// The system, in the words of vSphere's `VirtualMachineGuestOsIdentifier`.
    pub guest_id: String,
    /// Hardware version: `vmx-15`.
    pub hardware_version: String,
    /// `bios`, or `efi` without Secure Boot.
    pub firmware: String,
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// Controller of the disk.
    pub disk_controller: String,
    /// Network card.
    pub network_adapter: String,
    /// Facts that the template's properties tell.
    pub properties: BTreeMap<String, String>,
}

impl ImportTemplate {
    /// For the image that is asked for, which `machine` is made of.
    #[must_use]
    pub fn of(request: &ArtifactRequest, machine: &Machine) -> Self {
        let files = crate::Vsphere.files(&request.name);
        let FileName { file, .. } = files.into_iter().next().unwrap_or_default();
        let firmware = match machine.firmware {
            Firmware::Bios => "bios",
            Firmware::Uefi => "efi",
        };
        let facts = machine.product.properties.iter().filter(|property| !property.configurable);
        Self {
            template: request.template_name(),
            file,
            mark_as_template: true,
            snapshot: "nodekiln".to_owned(),
            guest_id: machine.system.1.to_owned(),
            hardware_version: format!("vmx-{}", machine.hardware),
            firmware: firmware.to_owned(),
            cpus: machine.cpus,
            memory: machine.memory,
            disk_controller: "pvscsi".to_owned(),
            network_adapter: "vmxnet3".to_owned(),
            properties: facts.map(|fact| (fact.key.clone(), fact.value.clone())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use nodekiln_providers::ImageFacts;

    use super::*;
    use crate::descriptor::Property;

    #[test]
    fn the_registration_tells_template_and_machine() {
        let request = ArtifactRequest {
            name: "node".to_owned(),
            facts: ImageFacts {
                distribution: "debian".to_owned(),
                distribution_version: "12".to_owned(),
                kubernetes: Some("v1.36.1".to_owned()),
                ..ImageFacts::default()
            },
            ..ArtifactRequest::default()
        };
        let mut machine = Machine::new("node", 4 << 30, "debian", "debian 12");
        machine.firmware = Firmware::Uefi;
        machine.product.properties =
            vec![Property::fact("DISTRO_NAME", "debian"), Property::input("guestinfo.userdata")];
        let text = serde_json::to_string_pretty(&ImportTemplate::of(&request, &machine)).unwrap();
        assert_eq!(text, include_str!("../golden/template.json").trim_end());
    }
}

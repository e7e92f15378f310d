use nodekiln_disk::{Disk, FileWriter};
use nodekiln_words::{Cancel, Result};

use crate::qemu::begin_qcow2;
use crate::{
    ArtifactRequest, COMMON_LAYER, Chassis, MachineProfile, Provider, Smbios, System, UuidRule,
};

/// OpenStack. Its artifact is a qcow2 file, as for QEMU; its machines say who they are.
pub struct OpenStack;

impl Provider for OpenStack {
    fn name(&self) -> &'static str {
        "openstack"
    }

    fn description(&self) -> &'static str {
        "OpenStack: a compressed qcow2 file for its image service"
    }

    fn layer(&self) -> &'static str {
        COMMON_LAYER
    }

    fn machine(&self) -> MachineProfile {
        MachineProfile {
            smbios: Smbios {
                uuid: UuidRule::Derived,
                system: System {
                    manufacturer: "OpenStack Foundation".to_owned(),
                    // The name by which cloud-init tells the platform.
                    product: "OpenStack Nova".to_owned(),
                    version: String::new(),
                    serial: "{uuid}".to_owned(),
                },
                chassis: Chassis {
                    manufacturer: "OpenStack Foundation".to_owned(),
                    ..Chassis::default()
                },
                ..Smbios::default()
            },
            data_source: "OpenStack".to_owned(),
            ..MachineProfile::virtio()
        }
    }

    fn format(&self) -> &'static str {
        "qcow2"
    }

    fn file_name(&self, image: &str) -> String {
        format!("{image}.openstack.qcow2")
    }

    fn begin(
        &self,
        disk: &Disk,
        request: &ArtifactRequest,
        _cancel: &Cancel,
    ) -> Result<Box<dyn FileWriter>> {
        begin_qcow2(&self.file_name(&request.name), disk, request)
    }
}

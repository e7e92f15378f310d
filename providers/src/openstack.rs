use nodekiln_disk::Disk;
use nodekiln_words::{Cancel, Result};

use crate::glance::document_names;
use crate::qemu::begin_qcow2;
use crate::{
    ArtifactRequest, ArtifactWriter, COMMON_LAYER, Chassis, FileName, MachineProfile, Provider,
    Smbios, System, UuidRule,
};

/// OpenStack. Its artifact is a qcow2 file, as for QEMU; its machines say who they are.
pub struct OpenStack;

impl Provider for OpenStack {
    fn name(&self) -> &str {
        "openstack"
    }

    fn description(&self) -> &str {
        "OpenStack: a compressed qcow2 file for its image service"
    }

    fn layer(&self) -> &str {
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

    fn files(&self, image: &str) -> Vec<FileName> {
        vec![FileName::new(format!("{image}.openstack.qcow2"), "qcow2")]
    }

    fn documents(&self, image: &str) -> Vec<String> {
        document_names(self, image)
    }

    fn begin(
        &self,
        disk: &Disk,
        request: &ArtifactRequest,
        _cancel: &Cancel,
    ) -> Result<Box<dyn ArtifactWriter>> {
        begin_qcow2(self, disk, request)
    }
}

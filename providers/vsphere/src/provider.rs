use nodekiln_disk::Disk;
use nodekiln_providers::{
    ArtifactRequest, ArtifactWriter, BootMode, FileName, Firmware, ImageFacts, MachineProfile,
    OneFile, Provider,
};
use nodekiln_words::{Cancel, Result};

use crate::descriptor::{Machine, Product, Property};
use crate::machine;
use crate::registration::ImportTemplate;
use crate::template::Template;

/// VMware's vSphere. Its artifact is an OVA.
pub struct Vsphere;

impl Provider for Vsphere {
    fn name(&self) -> &str {
        "vsphere"
    }

    fn description(&self) -> &str {
        "VMware vSphere: an OVA with the properties that Cluster API looks up"
    }

    fn layer(&self) -> &str {
        include_str!("../layer.yaml")
    }

    fn machine(&self) -> MachineProfile {
        machine::machine()
    }

    fn files(&self, image: &str) -> Vec<FileName> {
        vec![FileName::new(format!("{image}.ova"), "ova")]
    }

    fn begin(
        &self,
        disk: &Disk,
        request: &ArtifactRequest,
        _cancel: &Cancel,
    ) -> Result<Box<dyn ArtifactWriter>> {
        let machine = machine_of(&request.name, disk.size(), request.boot, &request.facts);
        let registration = ImportTemplate::of(request, &machine);
        let (path, deflate) =
            (request.path_of(&registration.file), request.compression.of_pieces());
        let writer = Template::create(disk, &path, machine, request.created, deflate)?;
        Ok(Box::new(OneFile::of(self, request, writer, &registration)?))
    }
}

impl Template {
    /// Creates the file at `path` for the image that is asked for, on a machine of the usual size with the
    /// properties that are looked up on its template.
    ///
    /// # Errors
    /// As [`Template::create`].
    pub fn of(disk: &Disk, path: &std::path::Path, request: &ArtifactRequest) -> Result<Self> {
        let machine = machine_of(&request.name, disk.size(), request.boot, &request.facts);
        Self::create(disk, path, machine, request.created, request.compression.of_pieces())
    }
}

/// The machine of an image, with the properties that image-builder's OVAs have.
fn machine_of(name: &str, capacity: u64, boot: BootMode, facts: &ImageFacts) -> Machine {
    let words = format!("{} {}", facts.distribution, facts.distribution_version);
    let mut machine = Machine::new(name, capacity, &facts.distribution, &words);
    let firmware = machine::machine().starting(boot).firmware;
    machine.firmware = firmware.first().copied().unwrap_or(Firmware::Bios);
    let kubernetes = facts.kubernetes.clone().unwrap_or_default();
    let known = [
        ("CNI_VERSION", facts.cni.clone().map(|version| format!("v{version}"))),
        ("CONTAINERD_VERSION", facts.containerd.clone()),
        ("DISTRO_ARCH", Some(facts.architecture.clone())),
        ("DISTRO_NAME", Some(facts.distribution.clone())),
        ("DISTRO_VERSION", Some(facts.distribution_version.clone())),
        ("KUBERNETES_SEMVER", facts.kubernetes.clone()),
        ("KUBERNETES_SOURCE_TYPE", facts.kubernetes_source.clone()),
    ];
    let facts_of =
        known.iter().filter_map(|(key, value)| Some(Property::fact(key, value.as_ref()?)));
    // What Cluster API's provider hands to the guest.
    let inputs = ["guestinfo.metadata", "guestinfo.userdata"].map(Property::input);
    machine.product = Product {
        name: name.to_owned(),
        vendor: "nodekiln".to_owned(),
        version: kubernetes.clone(),
        annotation: match kubernetes.as_str() {
            "" => format!("{words} node"),
            version => format!("Cluster API node, {words}, Kubernetes {version}"),
        },
        properties: facts_of.chain(inputs).collect(),
    };
    machine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_tells_what_is_known_and_nothing_else() {
        let facts = ImageFacts {
            distribution: "debian".to_owned(),
            distribution_version: "12".to_owned(),
            architecture: "amd64".to_owned(),
            kubernetes: Some("v1.36.0".to_owned()),
            ..ImageFacts::default()
        };
        let machine = machine_of("node", 4 << 30, BootMode::Hybrid, &facts);
        let keys: Vec<_> = machine.product.properties.iter().map(|p| p.key.as_str()).collect();
        let expected = [
            "DISTRO_ARCH",
            "DISTRO_NAME",
            "DISTRO_VERSION",
            "KUBERNETES_SEMVER",
            "guestinfo.metadata",
            "guestinfo.userdata",
        ];
        assert_eq!(keys, expected);
        assert_eq!(machine.product.annotation, "Cluster API node, debian 12, Kubernetes v1.36.0");
        assert_eq!(machine.system.1, "debian10_64Guest");
    }

    #[test]
    fn the_templates_firmware_starts_its_disk() {
        for (boot, firmware) in [
            (BootMode::Hybrid, Firmware::Bios),
            (BootMode::Bios, Firmware::Bios),
            (BootMode::Uefi, Firmware::Uefi),
        ] {
            let machine = machine_of("node", 4 << 30, boot, &ImageFacts::default());
            assert_eq!(machine.firmware, firmware, "{boot:?}");
        }
    }
}

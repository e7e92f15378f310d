use nodekiln_providers::{DiskBus, MachineProfile};
use nodekiln_words::{Class, Failure, Result};
use uuid::Uuid;

use super::machine::{BlockDevice, Dmi, GuestInfo, MachineView};
use crate::metadata::Cloud;
use crate::{Firmware, provisioning};

/// How a provider tells a guest who it is, as far as the guest can see it before there is a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// By a service in the network alone: the machine's SMBIOS strings have to do.
    Service,
    /// By a drive labelled `cidata`.
    NoCloudDrive,
    /// By OpenStack's config drive.
    ConfigDrive,
    /// By Azure's provisioning CD, beside its services.
    ProvisioningCd,
    /// By VMware's tables of the guest.
    GuestInfo,
    /// By an OVF environment on a CD.
    OvfCd,
}

/// One machine of a provider, and the datasource that it has to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The firmware that starts it.
    pub firmware: Firmware,
    /// How it is told who it is.
    pub channel: Channel,
    /// The machine.
    pub machine: MachineView,
    /// The datasource that its cloud needs.
    pub expected: &'static str,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Service,
        Self::NoCloudDrive,
        Self::ConfigDrive,
        Self::ProvisioningCd,
        Self::GuestInfo,
        Self::OvfCd,
    ];

    /// Those that a cloud has, the usual one first. Azure's CD is gone after the first boot.
    #[must_use]
    pub const fn of(cloud: Cloud) -> &'static [Self] {
        match cloud {
            Cloud::Aws | Cloud::Gce => &[Self::Service],
            Cloud::Azure => &[Self::ProvisioningCd, Self::Service],
            Cloud::OpenStack => &[Self::Service, Self::ConfigDrive],
            Cloud::VSphere => &[Self::GuestInfo, Self::OvfCd],
            Cloud::NoCloud => &[Self::NoCloudDrive],
        }
    }

    /// The one that a cloud tells by in one run of `validate`, were it the cloud itself.
    #[must_use]
    pub const fn told_by(cloud: Cloud, way: provisioning::Way) -> Self {
        match (cloud, way) {
            (Cloud::OpenStack, provisioning::Way::ConfigDrive) => Self::ConfigDrive,
            (Cloud::Aws | Cloud::Gce | Cloud::OpenStack, _) => Self::Service,
            (Cloud::Azure, _) => Self::ProvisioningCd,
            (Cloud::VSphere, _) => Self::GuestInfo,
            (Cloud::NoCloud, _) => Self::NoCloudDrive,
        }
    }
}

/// The datasource that an image has to take in a cloud that tells it by that channel; `None` where the cloud has
/// no such channel.
#[must_use]
pub fn expected(cloud: Cloud, channel: Channel) -> Option<&'static str> {
    if !Channel::of(cloud).contains(&channel) {
        return None;
    }
    Some(match (cloud, channel) {
        (Cloud::Aws, _) => "Ec2",
        (Cloud::Azure, _) => "Azure",
        (Cloud::Gce, _) => "GCE",
        (Cloud::OpenStack, Channel::ConfigDrive) => "ConfigDrive",
        (Cloud::OpenStack, _) => "OpenStack",
        (Cloud::VSphere, Channel::OvfCd) => "OVF",
        (Cloud::VSphere, _) => "VMware",
        (Cloud::NoCloud, _) => "NoCloud",
    })
}

/// Every machine of a provider: each firmware with each channel of its cloud. `seed` is what the machine's ids are
/// derived from.
///
/// # Errors
/// As [`MachineView::of_profile`].
pub fn matrix(profile: &MachineProfile, seed: Uuid) -> Result<Vec<Case>> {
    let cloud = cloud_of(profile)?;
    let mut cases = Vec::new();
    for &firmware in &profile.firmware {
        for &channel in Channel::of(cloud) {
            let machine = MachineView::of_profile(profile, firmware, &[channel], seed)?;
            let Some(expected) = expected(cloud, channel) else { continue };
            cases.push(Case { firmware, channel, machine, expected });
        }
    }
    Ok(cases)
}

fn cloud_of(profile: &MachineProfile) -> Result<Cloud> {
    let source = &profile.data_source;
    Cloud::of_data_source(source).ok_or_else(|| {
        let text = format!("nothing is known of machines whose datasource is {source}");
        Failure::new(Class::Unsupported, text)
            .with_help("EC2, Azure, GCE, OpenStack, vSphere and NoCloud are known")
    })
}

impl MachineView {
    /// A machine of a provider, with what its cloud attaches: the x86-64 one that the cloud itself runs, and not
    /// QEMU's picture of it. Several channels at once are what no cloud has.
    ///
    /// # Errors
    /// [`Class::Unsupported`] for a datasource that is none of the known clouds'.
    pub fn of_profile(
        profile: &MachineProfile,
        firmware: Firmware,
        channels: &[Channel],
        seed: Uuid,
    ) -> Result<Self> {
        let cloud = cloud_of(profile)?;
        let bus = profile.disk_under(firmware);
        let mut machine = Self {
            dmi: Some(dmi(profile, firmware, seed)),
            virtualisation: virtualisation(cloud).to_owned(),
            command_line: format!("BOOT_IMAGE=/vmlinuz root=/dev/{} ro", disk(bus, 0)),
            architecture: "x86_64".to_owned(),
            kernel_version: "#1 SMP PREEMPT_DYNAMIC Debian".to_owned(),
            ..Self::default()
        };
        if cloud == Cloud::VSphere {
            machine.guest_info = Some(GuestInfo::default());
        }
        for channel in channels {
            machine.attach(*channel, bus);
        }
        Ok(machine)
    }

    /// Attaches what a channel brings, on a machine whose disks are behind `bus`.
    pub fn attach(&mut self, channel: Channel, bus: DiskBus) {
        let second = || format!("/dev/{}", disk(bus, 1));
        let device = match channel {
            Channel::Service => return,
            // Cluster API's provider writes both.
            Channel::GuestInfo => {
                let info = self.guest_info.get_or_insert_default();
                info.metadata = Some("bG9jYWwtaG9zdG5hbWU6IG5vZGUK".to_owned());
                info.user_data = Some("I2Nsb3VkLWNvbmZpZwo=".to_owned());
                return;
            }
            Channel::NoCloudDrive => BlockDevice::labelled(second(), "CIDATA", "vfat"),
            Channel::ConfigDrive => BlockDevice::labelled(second(), "config-2", "iso9660"),
            Channel::ProvisioningCd => {
                BlockDevice::labelled("/dev/sr0".to_owned(), "rd_rdfe_stable.161212-1209", "udf")
            }
            Channel::OvfCd => BlockDevice {
                ovf_environment: true,
                ..BlockDevice::labelled("/dev/sr0".to_owned(), "OVF ENV", "iso9660")
            },
        };
        self.devices.push(device);
    }
}

impl BlockDevice {
    /// A small device with a file system of that label and kind.
    #[must_use]
    pub fn labelled(path: String, label: &str, kind: &str) -> Self {
        Self {
            path,
            label: Some(label.to_owned()),
            kind: Some(kind.to_owned()),
            // As media of clouds have it: some hundred KiB.
            size: Some(512 << 10),
            ..Self::default()
        }
    }
}

/// What `systemd-detect-virt` says in a cloud itself. systemd believes the SMBIOS strings of Amazon before the
/// processor, and the processor before those of the others (`detect_vm` in systemd 252 and 257).
const fn virtualisation(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Aws => "amazon",
        Cloud::Azure => "microsoft",
        Cloud::VSphere => "vmware",
        Cloud::Gce | Cloud::OpenStack | Cloud::NoCloud => "kvm",
    }
}

/// Linux' name of a disk behind that bus, from 0.
fn disk(bus: DiskBus, number: u8) -> String {
    let letter = char::from(b'a' + number);
    match bus {
        DiskBus::VirtioBlk => format!("vd{letter}"),
        DiskBus::Nvme => format!("nvme{number}n1"),
        DiskBus::VirtioScsi | DiskBus::Pvscsi | DiskBus::Ide | DiskBus::Ahci => {
            format!("sd{letter}")
        }
    }
}

/// SMBIOS strings as Linux tells them. Where a profile says nothing they are QEMU's, which has no board and
/// whose other strings are empty; Linux shows no UUID of zeros.
fn dmi(profile: &MachineProfile, firmware: Firmware, seed: Uuid) -> Dmi {
    let smbios = &profile.smbios;
    let or = |text: &str, other: &str| {
        let text = if text.is_empty() { other.to_owned() } else { smbios.fill(text, seed) };
        Some(text)
    };
    let board = match profile.disk_under(firmware) {
        DiskBus::Ide => "Standard PC (i440FX + PIIX, 1996)",
        _ => "Standard PC (Q35 + ICH9, 2009)",
    };
    Dmi {
        sys_vendor: or(&smbios.system.manufacturer, "QEMU"),
        product_name: or(&smbios.system.product, board),
        product_serial: or(&smbios.system.serial, ""),
        product_uuid: smbios.uuid_of(seed).map(|uuid| uuid.to_string()),
        board_name: (!smbios.board.product.is_empty())
            .then(|| smbios.fill(&smbios.board.product, seed)),
        chassis_asset_tag: or(&smbios.chassis.asset, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ds_identify::has_ovf_environment;
    use crate::metadata::{Description, Instance, media};

    /// What nodekiln attaches under QEMU looks to the script as what the cloud attaches.
    #[test]
    fn media_have_the_labels_of_those_that_are_made() {
        for cloud in [Cloud::Azure, Cloud::OpenStack, Cloud::VSphere, Cloud::NoCloud] {
            let instance = Instance::of(cloud, Description::default()).unwrap();
            let made = media::medium(&instance).unwrap();
            let mut devices = Vec::new();
            for channel in Channel::of(cloud) {
                let mut machine = MachineView::default();
                machine.attach(*channel, DiskBus::VirtioBlk);
                devices.extend(machine.devices);
            }
            let [device] = &devices[..] else { panic!("{devices:?}") };
            let label = device.label.as_deref().unwrap();
            assert_eq!(device.ovf_environment, cloud == Cloud::VSphere);
            match cloud {
                // The cloud's own medium is of another kind, and its label has a date.
                Cloud::Azure => assert!(label.starts_with(made.label), "{label}"),
                // Either label is one of the environment's; the space comes escaped from blkid, so that the
                // content has to tell.
                Cloud::VSphere => {
                    assert_eq!(made.label, label.replace(' ', ""));
                    assert!(has_ovf_environment(&made.bytes));
                }
                _ => assert_eq!(
                    (made.label, Some(made.file_system)),
                    (label, device.kind.as_deref())
                ),
            }
        }
    }

    #[test]
    fn no_cloud_is_told_by_a_channel_that_it_does_not_have() {
        for cloud in Cloud::ALL {
            for channel in Channel::ALL {
                let there = Channel::of(cloud).contains(&channel);
                assert_eq!(expected(cloud, channel).is_some(), there, "{cloud:?} {channel:?}");
            }
            for way in [provisioning::Way::Usual, provisioning::Way::ConfigDrive] {
                assert!(expected(cloud, Channel::told_by(cloud, way)).is_some(), "{cloud:?}");
            }
        }
        let profile = MachineProfile { data_source: "Scaleway".into(), ..MachineProfile::virtio() };
        let failure = matrix(&profile, Uuid::nil()).unwrap_err();
        assert_eq!(failure.class(), Class::Unsupported);
    }
}

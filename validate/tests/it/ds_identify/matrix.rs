//! Each provider's machine with each medium and many configurations: port and script have to agree.

use std::sync::atomic::{AtomicUsize, Ordering};

use nodekiln_validate::ds_identify::{BlockDevice, Channel, Dmi, Edition, MachineView};

use super::oracle::{Files, Oracle, difference, oracles};
use super::{SEED, TOOLS, lay_over, profile, providers};

/// Media that no cloud attaches together are among them.
const MEDIA: [&[Channel]; 9] = [
    &[Channel::Service],
    &[Channel::NoCloudDrive],
    &[Channel::ConfigDrive],
    &[Channel::ProvisioningCd],
    &[Channel::GuestInfo],
    &[Channel::OvfCd],
    &[Channel::NoCloudDrive, Channel::ConfigDrive],
    &[Channel::ConfigDrive, Channel::OvfCd],
    &[Channel::GuestInfo, Channel::OvfCd, Channel::NoCloudDrive],
];

/// Files that are laid over an image, by what they are for.
const CONFIGURATIONS: [(&str, &[(&str, &str)]); 14] = [
    ("nothing", &[]),
    ("one entry", &[("/etc/cloud/cloud.cfg.d/90.cfg", "datasource_list: [Ec2]\n")]),
    ("one entry and None", &[("/etc/cloud/cloud.cfg.d/90.cfg", "datasource_list: [GCE, None]\n")]),
    ("two entries", &[("/etc/cloud/cloud.cfg.d/90.cfg", "datasource_list: [ OVF, 'VMware' ]\n")]),
    ("a list as a block", &[("/etc/cloud/cloud.cfg.d/90.cfg", "datasource_list:\n  - Azure\n")]),
    (
        "a seed of NoCloud's left",
        &[
            ("/var/lib/cloud/seed/nocloud/meta-data", "instance-id: x\n"),
            ("/var/lib/cloud/seed/nocloud/user-data", ""),
        ],
    ),
    (
        "a config drive left",
        &[("/var/lib/cloud/seed/config_drive/openstack/2018-08-27/meta_data.json", "{}")],
    ),
    ("an OVF environment left", &[("/var/lib/cloud/seed/ovf/ovf-env.xml", "<x/>")]),
    ("off", &[("/etc/cloud/ds-identify.cfg", "policy: disabled\n")]),
    ("on", &[("/etc/cloud/ds-identify.cfg", "policy: enabled\n")]),
    ("the first of all", &[("/etc/cloud/ds-identify.cfg", "policy: search,found=first\n")]),
    (
        "a report of what may be",
        &[
            ("/etc/cloud/ds-identify.cfg", "policy: report,maybe=all,notfound=enabled\n"),
            ("/etc/cloud/cloud.cfg.d/10-Ec2.cfg", "datasource:\n  Ec2:\n    strict_id: false\n"),
        ],
    ),
    ("named", &[("/etc/cloud/ds-identify.cfg", "datasource: \"OpenStack\"\n")]),
    ("switched off", &[("/etc/cloud/cloud-init.disabled", "")]),
];

/// Every machine, each with its title.
fn machines() -> Vec<(String, MachineView)> {
    let mut machines: Vec<(String, MachineView)> = Vec::new();
    for provider in providers() {
        let profile = profile(provider.as_ref());
        for &firmware in &profile.firmware {
            for media in MEDIA {
                let machine = MachineView::of_profile(&profile, firmware, media, SEED).unwrap();
                // Firmware that changes nothing the script can see is no machine of its own.
                if machines.iter().all(|(_, known)| *known != machine) {
                    let title = format!("{} {firmware:?} {media:?}", provider.name());
                    machines.push((title, machine));
                }
            }
        }
    }
    machines
}

/// Every image: each provider's layer, and each configuration over the package's own.
fn images(oracle: &Oracle) -> Vec<(String, Files)> {
    let mut images = Vec::new();
    for provider in providers() {
        let mut image = oracle.image();
        lay_over(&mut image, provider.as_ref());
        if images.iter().all(|(_, known)| *known != image) {
            images.push((format!("layer of {}", provider.name()), image));
        }
    }
    for (title, files) in CONFIGURATIONS {
        let mut image = oracle.image();
        for (path, text) in files {
            image.insert((*path).to_owned(), text.as_bytes().to_vec());
        }
        images.push((title.to_owned(), image));
    }
    images
}

/// The pairs of one edition: all of them where `NODEKILN_ALL_PAIRS` is set, as `ci/test` does, and else one of so
/// many, each edition another one.
fn chosen<T>(oracle: &Oracle, pairs: Vec<T>, one_of: usize) -> Vec<T> {
    if std::env::var_os("NODEKILN_ALL_PAIRS").is_some() {
        return pairs;
    }
    let turn = Edition::ALL.iter().position(|edition| *edition == oracle.edition).unwrap();
    pairs.into_iter().skip(turn * one_of / Edition::ALL.len()).step_by(one_of).collect()
}

/// Compares all pairs, on a few threads, and tells of all that differ.
pub(super) fn agree(oracle: &Oracle, pairs: &[(String, MachineView, Files)]) {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut wrong = Vec::new();
        while let Some((title, machine, image)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
            wrong.extend(difference(oracle, machine, image).map(|text| (title.clone(), text)));
        }
        wrong
    };
    let wrong: Vec<(String, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let titles: Vec<&String> = wrong.iter().map(|(title, _)| title).collect();
    let first = wrong.first().map_or("", |(_, text)| text);
    assert!(wrong.is_empty(), "{} of {} differ: {titles:#?}\n{first}", wrong.len(), pairs.len());
}

#[test]
fn port_and_script_agree_on_every_provider_medium_and_configuration() {
    for oracle in oracles() {
        let mut pairs = Vec::new();
        let (machines, images) = (machines(), images(oracle));
        for (machine, view) in &machines {
            for (image, files) in &images {
                pairs.push((format!("{machine}: {image}"), view.clone(), files.clone()));
            }
        }
        let pairs = chosen(oracle, pairs, 13);
        agree(oracle, &pairs);
        eprintln!("{:?}: {} pairs", oracle.edition, pairs.len());
    }
}

/// A machine that only its SMBIOS strings tell from a plain one.
pub(super) fn with_dmi(change: fn(&mut Dmi)) -> MachineView {
    let qemu = profile(&nodekiln_providers::Qemu);
    let machine = MachineView::of_profile(&qemu, qemu.firmware[0], &[], SEED);
    let mut machine = machine.unwrap();
    machine.dmi.iter_mut().for_each(change);
    machine
}

/// A machine that something else tells from a plain one.
fn with(change: fn(&mut MachineView)) -> MachineView {
    let mut machine = with_dmi(|_| {});
    change(&mut machine);
    machine
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Each rule of the checks by the one thing that makes it true, and beside it what almost does.
fn single_things() -> Vec<(&'static str, MachineView)> {
    let drive = |path: &str, label: &str, kind: &str| {
        let mut machine = with_dmi(|_| {});
        machine.devices.push(BlockDevice::labelled(path.to_owned(), label, kind));
        machine
    };
    let ovf = |path: &str, size: Option<u64>| {
        let mut machine = drive(path, "other", "iso9660");
        for device in &mut machine.devices {
            (device.size, device.ovf_environment) = (size, true);
        }
        machine
    };
    let under = |virtualisation: &str, mut machine: MachineView| {
        machine.virtualisation = virtualisation.to_owned();
        machine
    };
    vec![
        ("no strings", with(|machine| machine.dmi = None)),
        ("CloudStack", with_dmi(|dmi| dmi.product_name = text("CloudStack KVM Hypervisor"))),
        ("CloudCIX", with_dmi(|dmi| dmi.product_name = text("CloudCIX"))),
        ("CloudSigma", with_dmi(|dmi| dmi.product_name = text("CloudSigma"))),
        ("Exoscale", with_dmi(|dmi| dmi.product_name = text("Exoscale Compute"))),
        ("AliYun", with_dmi(|dmi| dmi.product_name = text("Alibaba Cloud ECS"))),
        ("SmartOS", with_dmi(|dmi| dmi.product_name = text("SmartDC HVM"))),
        ("Akamai", with_dmi(|dmi| dmi.sys_vendor = text("Akamai"))),
        ("Linode", with_dmi(|dmi| dmi.sys_vendor = text("Linode"))),
        ("DigitalOcean", with_dmi(|dmi| dmi.sys_vendor = text("DigitalOcean"))),
        ("Hetzner", with_dmi(|dmi| dmi.sys_vendor = text("Hetzner"))),
        ("NWCS", with_dmi(|dmi| dmi.sys_vendor = text("NWCS"))),
        ("UpCloud", with_dmi(|dmi| dmi.sys_vendor = text("UpCloud"))),
        ("Scaleway", with_dmi(|dmi| dmi.sys_vendor = text("Scaleway"))),
        ("Vultr", with_dmi(|dmi| dmi.sys_vendor = text("Vultr"))),
        ("Oracle", with_dmi(|dmi| dmi.chassis_asset_tag = text("OracleCloud.com"))),
        ("LXD", with_dmi(|dmi| dmi.board_name = text("LXD"))),
        ("Brightbox", with_dmi(|dmi| dmi.product_serial = text("a.brightbox.com"))),
        ("ZStack", with_dmi(|dmi| dmi.chassis_asset_tag = text("a.zstack.io"))),
        ("e24cloud", with_dmi(|dmi| dmi.sys_vendor = text("e24cloud"))),
        ("Tilaa", with_dmi(|dmi| dmi.sys_vendor = text("Tilaa"))),
        ("Outscale's vendor alone", with_dmi(|dmi| dmi.sys_vendor = text("3DS Outscale"))),
        (
            "Outscale",
            with_dmi(|dmi| {
                dmi.sys_vendor = text("3DS Outscale");
                dmi.product_name = text("3DS Outscale VM");
            }),
        ),
        ("EC2's UUID", with_dmi(|dmi| dmi.product_uuid = text("EC2E1916-9099-7CAF-FD21-01"))),
        (
            "and in the other order",
            with_dmi(|dmi| dmi.product_uuid = text("45e12aec-dcd1-b213-94")),
        ),
        ("but not within", with_dmi(|dmi| dmi.product_uuid = text("45e12gec-dcd1-2aec"))),
        (
            "EC2's UUID and serial",
            with_dmi(|dmi| {
                dmi.product_uuid = text("ec2e1916-9099-7caf");
                dmi.product_serial = text("EC2E1916-9099-7CAF");
            }),
        ),
        (
            "another serial",
            with_dmi(|dmi| {
                dmi.product_uuid = text("ec2e1916-9099-7caf");
                dmi.product_serial = text("ec2e1916-9099-7cae");
            }),
        ),
        ("Xen's UUID", with(|machine| machine.hypervisor_uuid = text("ec2a-b"))),
        ("Xen's UUID in capitals", with(|machine| machine.hypervisor_uuid = text("EC2A-b"))),
        ("Nova", with_dmi(|dmi| dmi.product_name = text("OpenStack Nova"))),
        ("Compute", with_dmi(|dmi| dmi.product_name = text("OpenStack Compute"))),
        ("Nova's tag", with_dmi(|dmi| dmi.chassis_asset_tag = text("OpenStack Nova"))),
        ("Telekom", with_dmi(|dmi| dmi.chassis_asset_tag = text("OpenTelekomCloud"))),
        ("SAP", with_dmi(|dmi| dmi.chassis_asset_tag = text("SAP CCloud VM"))),
        ("Huawei", with_dmi(|dmi| dmi.chassis_asset_tag = text("HUAWEICLOUD"))),
        ("Samsung", with_dmi(|dmi| dmi.chassis_asset_tag = text("Samsung Cloud Platform"))),
        ("process 1", with(|machine| machine.init_product_name = text("OpenStack Nova"))),
        ("arm64", with(|machine| machine.architecture = "aarch64".to_owned())),
        ("i686", with(|machine| machine.architecture = "i686".to_owned())),
        ("GCE's serial", with_dmi(|dmi| dmi.product_serial = text("GoogleCloud-0"))),
        ("NoCloud's serial", with_dmi(|dmi| dmi.product_serial = text("a ds=nocloud-net;s=x"))),
        ("no word of its own", with_dmi(|dmi| dmi.product_serial = text("ads=nocloud"))),
        ("a socket", with(|machine| machine.lxd_socket = true)),
        (
            "a serial port",
            with(|machine| machine.virtio_ports = vec!["x".into(), "com.canonical.lxd".into()]),
        ),
        (
            "its older name",
            with(|machine| machine.virtio_ports = vec!["org.linuxcontainers.lxd".into()]),
        ),
        ("OpenNebula", drive("/dev/sr0", "CONTEXT", "iso9660")),
        ("RbxCloud", drive("/dev/vdb", "cloudmd", "vfat")),
        ("IBM", under("xen", drive("/dev/xvdh", "METADATA", "vfat"))),
        ("IBM's label elsewhere", drive("/dev/xvdh", "METADATA", "vfat")),
        ("a label with a comma", drive("/dev/vdb", "a,cidata", "vfat")),
        ("a label in small letters", drive("/dev/vdb", "cidata", "vfat")),
        ("half a label", drive("/dev/vdb", "cidata2", "vfat")),
        ("a CD by its label", drive("/dev/sr0", "OVF-TRANSPORT", "iso9660")),
        ("no ISO 9660", drive("/dev/sr0", "OVF-TRANSPORT", "udf")),
        ("no CD", drive("/dev/vdb", "OVF-TRANSPORT", "iso9660")),
        ("an old CD", drive("/dev/hdc", "ovfenv", "iso9660")),
        ("a CD of two digits", drive("/dev/sr10", "OVFENV", "iso9660")),
        ("a label with a space", drive("/dev/sr0", "OVF ENV", "iso9660")),
        ("a physical machine's", under("none", drive("/dev/sr0", "OVFENV", "iso9660"))),
        ("a CD by its content", ovf("/dev/sr0", Some(1 << 20))),
        ("the largest", ovf("/dev/sr0", Some((10 << 20) - 512))),
        ("too large", ovf("/dev/sr0", Some(10 << 20))),
        ("of no size", ovf("/dev/sr0", None)),
        ("Azure's label", under("microsoft", drive("/dev/sr0", "rd_rdfe_x", "udf"))),
        ("Azure's label elsewhere", drive("/dev/sr0", "rd_rdfe_x", "udf")),
        ("a container", under("lxc", drive("/dev/vdb", "cidata", "vfat"))),
        (
            "a container with words",
            with(|machine| {
                machine.virtualisation = "systemd-nspawn".to_owned();
                machine.init_command_line = text("/sbin/init ci.ds=Hetzner");
            }),
        ),
        ("ds=", with(|machine| machine.command_line = "a ds=nocloud;s=x/ b".to_owned())),
        ("ci.ds=", with(|machine| machine.command_line = "ci.ds=Ec2;x ci.datasource=".to_owned())),
        (
            "cc:",
            with(|machine| machine.command_line = "cc:{'datasource_list': ['A', None]}".into()),
        ),
        (
            "cc: of two",
            with(|machine| machine.command_line = "cc: datasource_list [OVF,GCE] x".into()),
        ),
        (
            "cc: without an entry",
            with(|machine| machine.command_line = "cc: datasource_list: [,,]".into()),
        ),
        ("a report", with(|machine| machine.command_line = "ci.di.policy=report".to_owned())),
        (
            "a container with strings",
            with(|machine| {
                machine.virtualisation = "lxc".to_owned();
                machine.dmi = Some(Dmi {
                    sys_vendor: text("Hetzner"),
                    product_name: text("OpenStack Nova"),
                    chassis_asset_tag: text("OracleCloud.com"),
                    ..Dmi::default()
                });
            }),
        ),
        ("policy", with(|machine| machine.command_line = "ci.di.policy=enabled".to_owned())),
        ("off", with(|machine| machine.command_line = "cloud-init=disabled".to_owned())),
        (
            "strict",
            with(|machine| {
                machine.command_line =
                    "ci.datasource.ec2.strict_id=warn,5 ci.di.policy=maybe=all".to_owned();
            }),
        ),
        ("scaleway", with(|machine| machine.command_line = "scaleway".to_owned())),
        ("vultr", with(|machine| machine.command_line = "a vultr".to_owned())),
        (
            "MAAS",
            with(|machine| {
                machine.command_line =
                    "root=iqn.2004-05.com.ubuntu:maas:x cloud-config-url=http://x".to_owned();
            }),
        ),
        ("a zone", with(|machine| machine.kernel_version = "BrandZ  virtual linux".to_owned())),
    ]
}

#[test]
fn port_and_script_agree_on_every_single_thing() {
    for oracle in oracles() {
        let mut everything = oracle.image();
        // Names that an edition lacks are passed over.
        let list = Edition::V26_2.default_list().join(", ");
        let list = format!("datasource_list: [{list}, None, Other]\n");
        everything.insert("/etc/cloud/cloud.cfg.d/90.cfg".to_owned(), list.into_bytes());
        everything.insert("/native/.zonecontrol/metadata.sock".to_owned(), Vec::new());
        let own_list = oracle.image();
        let machines = single_things();
        let with = |image: &Files| {
            let pairs = machines
                .iter()
                .map(|(title, machine)| ((*title).to_owned(), machine.clone(), image.clone()));
            pairs.collect::<Vec<_>>()
        };
        let own = chosen(oracle, with(&own_list), 7);
        agree(oracle, &[with(&everything), own].concat());
    }
}

/// Files that make a check true, or almost.
const SEEDS: [&[&str]; 22] = [
    &["/var/lib/cloud/seed/nocloud/meta-data"],
    &["/var/lib/cloud/seed/nocloud-net/meta-data", "/var/lib/cloud/seed/nocloud-net/user-data"],
    &[
        "/writable/system-data/var/lib/cloud/seed/nocloud/meta-data",
        "/writable/system-data/var/lib/cloud/seed/nocloud/user-data",
    ],
    &["/config-drive/openstack/2012-08-10/meta_data.json"],
    &["/config-drive/openstack/latest/meta_data.json"],
    &["/config-drive/openstack/1012-08-10/meta_data.json"],
    &["/config-drive/openstack/2012-08-10/user_data"],
    &["/config-drive/openstack/2012-08-10/meta_data.json/a-folder"],
    &[
        "/config-drive/openstack/2012-08-10/meta_data.json/a-folder",
        "/config-drive/openstack/2013-04-04/meta_data.json",
    ],
    &["/var/lib/cloud/seed/config_drive/openstack/latest/meta_data.json"],
    &["/var/lib/cloud/seed/config_drive/openstack/2x12-08-10/meta_data.json"],
    &["/var/lib/cloud/seed/azure/ovf-env.xml"],
    &["/var/lib/cloud/seed/ec2/meta-data", "/var/lib/cloud/seed/ec2/user-data"],
    &["/var/lib/cloud/seed/opennebula/meta-data"],
    &["/var/lib/cloud/seed/AliYun/meta-data", "/var/lib/cloud/seed/AliYun/user-data"],
    &["/var/lib/cloud/data/seed/bigstep/url"],
    &["/var/lib/cloud/instance/manual-clean"],
    &["/var/run/scaleway"],
    &["/etc/vultr"],
    &["/root/provisioningConfiguration.cfg"],
    &["/root/provisioningConfiguration.cfg", "/root/swinstall.log"],
    &["/etc/sysconfig/cloud-info"],
];

#[test]
fn port_and_script_agree_on_every_file_that_is_left() {
    for oracle in oracles() {
        let mut pairs = Vec::new();
        for files in SEEDS {
            let mut image = oracle.image();
            image.extend(files.iter().map(|path| ((*path).to_owned(), b"x\n".to_vec())));
            for virtualisation in ["kvm", "xen", "docker"] {
                let mut machine = with_dmi(|_| {});
                machine.virtualisation = virtualisation.to_owned();
                pairs.push((format!("{virtualisation} {files:?}"), machine, image.clone()));
            }
        }
        agree(oracle, &chosen(oracle, pairs, 3));
    }
}

#[test]
fn port_and_script_agree_on_vmware() {
    use nodekiln_validate::ds_identify::GuestInfo;
    let vsphere = profile(&nodekiln_vsphere::Vsphere);
    let plain = MachineView::of_profile(&vsphere, vsphere.firmware[0], &[], SEED).unwrap();
    let info = |name: &str, told: &str| {
        let told = Some(told.to_owned());
        match name {
            "ovfEnv" => GuestInfo { ovf_environment: told, ..GuestInfo::default() },
            "metadata" => GuestInfo { metadata: told, ..GuestInfo::default() },
            "userdata" => GuestInfo { user_data: told, ..GuestInfo::default() },
            _ => GuestInfo { vendor_data: told, ..GuestInfo::default() },
        }
    };
    let mut machines =
        vec![("no channel".to_owned(), MachineView { guest_info: None, ..plain.clone() })];
    let texts = ["<?xml version='1.0'?>\n<x/>", "\n---\n<?XML x?>", "x\n<?xml?>", "---", ""];
    for name in ["ovfEnv", "metadata", "userdata", "vendordata"] {
        for text in texts {
            let told = Some(info(name, text));
            let tables = MachineView { guest_info: told.clone(), ..plain.clone() };
            machines.push((format!("{name} {text:?}"), tables));
            let mut environment = MachineView { environment_guest_info: told, ..plain.clone() };
            environment.virtualisation = "kvm".to_owned();
            machines.push((format!("environment {name} {text:?}"), environment));
        }
    }
    let settings = ["", "false", "False", "0", "true", "false # why", "'false'"];
    for oracle in oracles() {
        let mut pairs = Vec::new();
        for tools in [&[][..], &TOOLS[..1], &TOOLS[1..2], &TOOLS[2..], &TOOLS[..]] {
            for setting in settings {
                let mut image = oracle.image();
                image.extend(tools.iter().map(|path| ((*path).to_owned(), b"x".to_vec())));
                let text = format!("disable_vmware_customization: {setting}\n");
                image.insert("/etc/cloud/cloud.cfg.d/50.cfg".to_owned(), text.into_bytes());
                for (title, machine) in &machines {
                    // What the tables say and what is configured are asked one after the other.
                    if setting.is_empty() || title == "no channel" {
                        let title = format!("{title} {tools:?} {setting}");
                        pairs.push((title, machine.clone(), image.clone()));
                    }
                }
            }
        }
        agree(oracle, &chosen(oracle, pairs, 3));
    }
}

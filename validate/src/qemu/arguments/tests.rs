use std::path::Path;

use nodekiln_providers::MachineProfile;

use super::*;
use crate::provisioning::{Way, needs_namespace};

fn text(machine: &Machine, disks: &Disks, engine: Engine) -> String {
    text_with(machine, disks, engine, None)
}

fn text_with(
    machine: &Machine,
    disks: &Disks,
    engine: Engine,
    link: Option<Arc<OwnedFd>>,
) -> String {
    let wires = Wires {
        place: Place::FIRST,
        qmp: "/run/a/qmp".into(),
        console: "/out/console.log".into(),
        frames: Some("/out/a/frames".into()),
        ssh_port: 40022,
        services: needs_namespace(&machine.profile, Way::Usual),
        link,
    };
    let setup = Setup { machine, engine, disks, wires: &wires, kernel: None };
    let mut text = String::new();
    for argument in arguments(&setup) {
        let argument = argument.into_string().unwrap();
        text.push_str(if argument.starts_with('-') { "\n" } else { " " });
        text.push_str(&argument);
    }
    format!("{}\n", text.trim_start())
}

fn disks() -> Disks {
    let seed = Some("/run/a/seed.img".into());
    Disks { overlay: "/run/a/root.qcow2".into(), seed, cd: None, kit: None, uefi: None }
}

/// Compares with the golden file, or rewrites it when `NODEKILN_BLESS` is set.
fn golden(name: &str, actual: &str) {
    let path = Path::new("golden").join(name);
    if std::env::var_os("NODEKILN_BLESS").is_some() {
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, actual).unwrap();
    }
    assert_eq!(
        actual,
        fs_err::read_to_string(&path).unwrap(),
        "{name}; set NODEKILN_BLESS=1 to rewrite"
    );
}

#[test]
fn the_plain_bios_machine_is_as_reviewed() {
    golden("qemu-bios-tcg.txt", &text(&Machine::default(), &disks(), Engine::Tcg));
}

#[test]
fn a_wire_to_another_machine_is_a_card_behind_all_other_devices() {
    let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
    let (machine, disks) = (Machine::default(), disks());
    let without = text(&machine, &disks, Engine::Tcg);
    let with = text_with(&machine, &disks, Engine::Tcg, Some(Arc::new(near.into())));
    let added: Vec<&str> = with.lines().filter(|line| !without.contains(line)).collect();
    let card = "-device virtio-net-pci,netdev=net1,mac=52:54:00:6e:6c:01,romfile=";
    assert_eq!(added, ["-netdev socket,id=net1,fd=0", card]);
    assert_eq!(with.lines().rfind(|line| line.starts_with("-device")), Some(card));
}

/// A machine of this profile in the way that it is usually started, with this run's UEFI if so.
fn machine_of(profile: MachineProfile, firmware: Firmware) -> String {
    let mut disks = disks();
    if profile.data_source != "NoCloud" {
        disks.seed = None;
    }
    if matches!(profile.data_source.as_str(), "Azure" | "VMware") {
        disks.cd = Some("/run/a/medium.iso".into());
    }
    if firmware == Firmware::Uefi {
        disks.uefi = Some(("/usr/share/OVMF/CODE.fd".into(), "/run/a/VARS.fd".into()));
    }
    let seed = uuid::Uuid::from_u128(1);
    let machine = Machine { profile, firmware, seed, ..Machine::default() };
    text(&machine, &disks, Engine::Kvm)
}

#[test]
fn the_machine_of_each_provider_is_as_reviewed() {
    use nodekiln_providers::{OpenStack, Provider as _};
    let machines = [
        ("openstack", OpenStack.machine()),
        ("aws", nodekiln_aws::Aws.machine()),
        ("azure", nodekiln_azure::Azure.machine()),
        ("gce", nodekiln_gce::Gce.machine()),
        ("vsphere", nodekiln_vsphere::Vsphere.machine()),
    ];
    for (name, profile) in machines {
        for firmware in profile.firmware.clone() {
            let file = format!("qemu-{name}-{}.txt", firmware.as_str());
            golden(&file, &machine_of(profile.clone(), firmware));
        }
    }
}

#[test]
fn every_controller_and_card_has_its_device() {
    let machine = |disk, network| {
        let profile = MachineProfile { disk, network, ..MachineProfile::virtio() };
        machine_of(profile, Firmware::Uefi)
    };
    for (bus, board, devices) in [
        (DiskBus::VirtioBlk, "q35", &["-device virtio-blk-pci,drive=root,"][..]),
        (DiskBus::VirtioScsi, "q35", &["-device virtio-scsi-pci,id=scsi0", "-device scsi-hd,"]),
        (DiskBus::Pvscsi, "q35", &["-device pvscsi,id=scsi0", "-device scsi-hd,bus=scsi0.0,"]),
        (DiskBus::Nvme, "q35", &["-device nvme,drive=root,serial=root,bootindex=1\n"]),
        (DiskBus::Ide, "pc", &["-device ide-hd,bus=ide.0,drive=root,"]),
        (DiskBus::Ahci, "q35", &["-device ide-hd,bus=ide.0,drive=root,"]),
    ] {
        let text = machine(bus, NetworkCard::E1000e);
        for device in devices {
            assert!(text.contains(device), "{bus:?}\n{text}");
        }
        assert!(text.contains(&format!("-machine {board}\n")), "{bus:?}\n{text}");
    }
    for (card, device) in [
        (NetworkCard::VirtioNet, "virtio-net-pci"),
        (NetworkCard::E1000e, "e1000e"),
        (NetworkCard::Vmxnet3, "vmxnet3"),
    ] {
        let text = machine(DiskBus::VirtioBlk, card);
        assert!(text.contains(&format!("-device {device},netdev=net0,")), "{text}");
    }
}

#[test]
fn a_cd_is_where_the_boot_disks_controller_takes_one() {
    for (bus, devices) in [
        (DiskBus::VirtioScsi, &["-device scsi-cd,bus=scsi0.0,drive=medium\n"][..]),
        (DiskBus::Pvscsi, &["-device scsi-cd,bus=scsi0.0,drive=medium\n"]),
        (DiskBus::Ide, &["-device ide-cd,bus=ide.1,drive=medium\n"]),
        (DiskBus::Nvme, &["-device virtio-scsi-pci,id=scsi1", "-device scsi-cd,bus=scsi1.0,"]),
    ] {
        let profile =
            MachineProfile { disk: bus, data_source: "VMware".into(), ..MachineProfile::virtio() };
        let text = machine_of(profile, Firmware::Uefi);
        for device in devices {
            assert!(text.contains(device), "{bus:?}\n{text}");
        }
    }
}

#[test]
fn commas_in_what_a_machine_says_are_doubled() {
    let mut profile = MachineProfile::virtio();
    profile.smbios.system.product = "one, two".to_owned();
    let text = machine_of(profile, Firmware::Bios);
    assert!(text.contains("-smbios type=1,product=one,, two\n"), "{text}");
}

#[test]
fn commas_in_paths_are_doubled() {
    let mut disks = disks();
    disks.overlay = "/run/a,b/root.qcow2".into();
    let text = text(&Machine::default(), &disks, Engine::Tcg);
    assert!(text.contains("file.filename=/run/a,,b/root.qcow2"), "{text}");
}

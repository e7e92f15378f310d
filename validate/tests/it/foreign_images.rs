//! Images that others built: what is not known of them is not held against them, and neither is what another machine
//! than this run's would need.

use nodekiln_providers::{Firmware, Provider as _};
use nodekiln_validate::at_rest::{self, Judgement, Subject};
use nodekiln_validate::{Machine, MachineProfile, Way};
use nodekiln_words::Cancel;

use crate::inspect::image_of;

type Files<'a> = &'a [(&'a str, &'a [u8])];

const RELEASE: (&str, &[u8]) = ("etc/os-release", b"ID=other\n");
const BUILT_IN: &[u8] = b"kernel/drivers/scsi/sd_mod.ko\nkernel/drivers/net/vmxnet3/vmxnet3.ko\n";

fn on(profile: MachineProfile, firmware: Firmware) -> Machine {
    Machine { profile, firmware, ..Machine::default() }
}

fn vsphere(firmware: Firmware) -> Machine {
    on(nodekiln_vsphere::Vsphere.machine(), firmware)
}

/// What is told of an image of these partitions before a boot.
fn judged(partitions: &[Files], machine: &Machine, way: Way) -> Judgement {
    let folder = tempfile::tempdir().unwrap();
    let image = nodekiln_disk::open(&image_of(folder.path(), partitions, 0)).unwrap();
    let cancel = Cancel::default();
    at_rest::judge(&Subject::new(&image, machine, way, None, &cancel).unwrap()).unwrap()
}

/// The word of the rule `id`, and what it saw.
fn said(judgement: &Judgement, id: &str) -> (&'static str, String) {
    let rule = judgement.rules.iter().find(|judged| judged.rule.id == id).unwrap();
    let nodekiln_validate::report::Outcome::Judged(verdict) = &rule.outcome else {
        panic!("{rule:?}")
    };
    (verdict.word(), verdict.seen().to_owned())
}

fn archive(names: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in names {
        bytes = cpio::newc::Builder::new(name).write(bytes, 0).finish().unwrap();
    }
    cpio::newc::trailer(bytes).unwrap()
}

const PVSCSI: &str = "usr/lib/modules/6.6/kernel/drivers/scsi/vmw_pvscsi.ko.zst";

#[test]
fn what_is_only_called_like_a_kernels_version_is_named_and_not_judged() {
    let early = archive(&[PVSCSI]);
    let foreign: [(&str, &[u8]); 4] = [
        RELEASE,
        ("boot/vmlinuz-virt", b"MZ"),
        ("boot/vmlinuz-linux", b"MZ"),
        ("boot/vmlinuz-0-rescue-0123", b"MZ"),
    ];
    let own: [(&str, &[u8]); 3] = [
        ("boot/vmlinuz-6.6", b"MZ"),
        ("boot/initramfs-6.6.img", &early),
        ("lib/modules/6.6/modules.builtin", BUILT_IN),
    ];
    let machine = vsphere(Firmware::Bios);
    let judgement = judged(&[&foreign], &machine, Way::Usual);
    for rule in ["boot-drivers", "network-drivers"] {
        let (word, seen) = said(&judgement, rule);
        assert_eq!(word, "not proven", "{rule}: {seen}");
        for name in ["virt", "linux", "0-rescue-0123"] {
            assert!(seen.contains(&format!("/lib/modules/{name}/modules.builtin")), "{seen}");
        }
    }
    let judgement = judged(&[&[&foreign[..], &own[..]].concat()], &machine, Way::Usual);
    for rule in ["boot-drivers", "network-drivers"] {
        let (word, seen) = said(&judgement, rule);
        assert_eq!(word, "pass", "{rule}: {seen}");
        assert!(seen.starts_with("6.6: vm") && seen.contains("0-rescue-0123 (no"), "{seen}");
    }
}

#[test]
fn a_boot_partition_of_its_own_has_the_kernels_and_their_ram_disks() {
    let machine = vsphere(Firmware::Bios);
    let root: [(&str, &[u8]); 2] = [RELEASE, ("lib/modules/6.6/modules.builtin", BUILT_IN)];
    for (module, word) in [(PVSCSI, "pass"), ("usr/bin/other", "FAIL")] {
        let early = archive(&[module]);
        let boot: [(&str, &[u8]); 2] = [("vmlinuz-6.6", b"MZ"), ("initrd.img-6.6", &early)];
        for partitions in [[&boot[..], &root[..]], [&root[..], &boot[..]]] {
            let judgement = judged(&partitions, &machine, Way::Usual);
            let (found, seen) = said(&judgement, "boot-drivers");
            assert_eq!(found, word, "{seen}");
            assert_eq!(said(&judgement, "network-drivers").0, "pass");
        }
    }
}

#[test]
fn what_cannot_be_read_is_not_proven() {
    let machine = vsphere(Firmware::Bios);
    let kernel: [(&str, &[u8]); 3] =
        [RELEASE, ("boot/vmlinuz-6.6", b"MZ"), ("lib/modules/6.6/modules.builtin", BUILT_IN)];
    let lz4: (&str, &[u8]) = ("boot/initrd.img-6.6", b"\x02\x21\x4c\x18rest");
    for (files, rule, words) in [
        (vec![RELEASE], "boot-drivers", "no kernel called"),
        (vec![RELEASE], "network-drivers", "no kernel called"),
        (vec![RELEASE], "datasource-list", "no cloud-init"),
        (kernel.to_vec(), "boot-drivers", "6.6 (no initial RAM disk of that version)"),
        ([&kernel[..], &[lz4]].concat(), "boot-drivers", "compressed with lz4"),
        (vec![("etc/hostname", &b"x"[..])], "boot-drivers", "no file system with an os-release"),
    ] {
        let judgement = judged(&[&files], &machine, Way::Usual);
        let (word, seen) = said(&judgement, rule);
        assert_eq!(word, "not proven", "{rule}: {seen}");
        assert!(seen.contains(words), "{seen}");
        assert!(judgement.obstacles.is_empty(), "{judgement:?}");
    }
}

/// vSphere's machines have an NVMe disk under UEFI alone, as far as QEMU has them.
#[test]
fn a_driver_counts_for_the_firmware_of_this_run_alone() {
    let early = archive(&[PVSCSI]);
    let files: [(&str, &[u8]); 4] = [
        RELEASE,
        ("boot/vmlinuz-6.6", b"MZ"),
        ("boot/initrd.img-6.6", &early),
        ("lib/modules/6.6/modules.builtin", BUILT_IN),
    ];
    let judgement = judged(&[&files], &vsphere(Firmware::Bios), Way::Usual);
    assert_eq!(said(&judgement, "boot-drivers").0, "pass", "{judgement:?}");
    assert!(judgement.obstacles.is_empty());
    let judgement = judged(&[&files], &vsphere(Firmware::Uefi), Way::Usual);
    assert_eq!(said(&judgement, "boot-drivers").0, "not proven");
    assert!(judgement.obstacles[0].contains("boots without nvme"), "{judgement:?}");
    // A provider without a cloud has the controllers of QEMU, and their drivers are its own.
    let judgement = judged(&[&files], &on(MachineProfile::virtio(), Firmware::Bios), Way::Usual);
    let (word, seen) = said(&judgement, "boot-drivers");
    assert_eq!(word, "FAIL", "{seen}");
    assert!(seen.contains("virtio_blk") && judgement.obstacles.is_empty(), "{seen}");
}

#[test]
fn the_datasource_is_the_one_that_this_run_tells_by() {
    let openstack = || on(nodekiln_providers::OpenStack.machine(), Firmware::Bios);
    for (list, machine, way, word, blocked) in [
        ("ConfigDrive", openstack(), Way::ConfigDrive, "pass", false),
        ("OpenStack", openstack(), Way::ConfigDrive, "FAIL", false),
        ("OpenStack", openstack(), Way::Usual, "pass", false),
        ("ConfigDrive", openstack(), Way::Usual, "FAIL", false),
        ("VMware, OVF", vsphere(Firmware::Bios), Way::Usual, "pass", false),
        ("VMware", vsphere(Firmware::Bios), Way::Usual, "not proven", true),
        ("OVF", vsphere(Firmware::Bios), Way::Usual, "FAIL", false),
    ] {
        let text = format!("datasource_list: [{list}]\n");
        let files: [(&str, &[u8]); 2] = [RELEASE, ("etc/cloud/cloud.cfg", text.as_bytes())];
        let judgement = judged(&[&files], &machine, way);
        let (found, seen) = said(&judgement, "datasource-list");
        assert_eq!((found, judgement.obstacles.is_empty()), (word, !blocked), "{list}: {seen}");
    }
    let mut config_drive = openstack();
    config_drive.profile.data_source = "ConfigDrive".to_owned();
    let files: [(&str, &[u8]); 2] =
        [RELEASE, ("etc/cloud/cloud.cfg", b"datasource_list: [ConfigDrive]\n")];
    let judgement = judged(&[&files], &config_drive, Way::Usual);
    assert_eq!(said(&judgement, "datasource-list").0, "pass");
}

//! Images with one wrong piece: each is found before a boot, by the rule that is there for it.

use std::path::{Path, PathBuf};

use nodekiln_disk::qcow2::Backing;
use nodekiln_disk::vhd;
use nodekiln_providers::{DiskRules, Firmware, Provider as _};
use nodekiln_validate::at_rest::{self, Subject};
use nodekiln_validate::report::Outcome;
use nodekiln_validate::{Machine, MachineProfile, Report, Request, Way, validate};
use nodekiln_words::{Cancel, Class, Sha256, Silent};

use crate::formats::in_format;
use crate::inspect::image_with;
use crate::small_guests::request;

pub(crate) const DEP: &str = "\
kernel/drivers/scsi/virtio_scsi.ko:
kernel/drivers/scsi/vmw_pvscsi.ko:
kernel/drivers/nvme/host/nvme.ko: kernel/drivers/nvme/host/nvme-core.ko
kernel/drivers/nvme/host/nvme-core.ko:
kernel/drivers/scsi/hv_storvsc.ko: kernel/drivers/hv/hv_vmbus.ko
kernel/drivers/hv/hv_vmbus.ko:
kernel/drivers/net/ethernet/amazon/ena/ena.ko.xz:
kernel/drivers/net/hyperv/hv_netvsc.ko: kernel/drivers/hv/hv_vmbus.ko
";
pub(crate) const BUILT_IN: &str = "kernel/drivers/scsi/sd_mod.ko\nkernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/ata/ata_piix.ko\n";
/// Modules of the initial RAM disk of a whole image.
const EARLY: [&str; 6] =
    ["nvme", "nvme-core", "hv_storvsc", "hv_vmbus", "virtio_scsi", "vmw_pvscsi"];

/// A piece of an image.
#[derive(Default)]
struct Pieces<'a> {
    sources: &'a str,
    /// A module that its initial RAM disk lacks.
    without: &'a str,
    /// A file that its root file system lacks.
    lost: &'a str,
    /// Bytes behind its last whole MiB.
    more: u64,
}

/// Processor microcode, plain, and a compressed archive with modules.
pub(crate) fn initrd(without: &str) -> Vec<u8> {
    let archive = |names: &[String]| {
        let mut bytes = Vec::new();
        for name in names {
            bytes =
                cpio::newc::Builder::new(name).mode(0o100_644).write(bytes, 0).finish().unwrap();
        }
        cpio::newc::trailer(bytes).unwrap()
    };
    let module = |name: &&str| format!("usr/lib/modules/6.1/kernel/drivers/{name}.ko");
    let names: Vec<String> = EARLY.iter().filter(|name| **name != without).map(module).collect();
    let mut bytes = archive(&["kernel/x86/microcode/AuthenticAMD.bin".to_owned()]);
    bytes.extend(zstd::encode_all(&archive(&names)[..], 1).unwrap());
    bytes
}

fn built(folder: &Path, pieces: &Pieces) -> PathBuf {
    let list = format!("datasource_list: [{}]\n", pieces.sources);
    let initrd = initrd(pieces.without);
    let mut files: Vec<(&str, &[u8])> = vec![
        ("etc/os-release", b"ID=debian\n"),
        ("etc/cloud/cloud.cfg", b"users: []\n"),
        ("etc/cloud/cloud.cfg.d/90_datasource.cfg", list.as_bytes()),
        ("boot/vmlinuz-6.1", b"MZ"),
        ("boot/initrd.img-6.1", &initrd),
        ("lib/modules/6.1/modules.dep", DEP.as_bytes()),
        ("lib/modules/6.1/modules.builtin", BUILT_IN.as_bytes()),
    ];
    let modules: Vec<String> = DEP
        .lines()
        .filter_map(|line| Some(format!("lib/modules/6.1/{}", line.split_once(':')?.0)))
        .collect();
    files.extend(modules.iter().map(|path| (path.as_str(), &b"module"[..])));
    files.retain(|(path, _)| pieces.lost.is_empty() || !path.ends_with(pieces.lost));
    image_with(folder, &files, pieces.more)
}

/// A provider's machine that takes disks of any size, started by a BIOS.
fn machine(profile: MachineProfile) -> Machine {
    let firmware = Firmware::Bios;
    let profile =
        MachineProfile { accepts: DiskRules::default(), firmware: vec![firmware], ..profile };
    Machine { profile, firmware, ..Machine::default() }
}

fn aws() -> Machine {
    machine(nodekiln_aws::Aws.machine())
}

fn azure() -> Machine {
    machine(nodekiln_azure::Azure.machine())
}

/// The report on an image that must not be booted.
fn judged(image: &Path, machine: Machine) -> Report {
    let out = image.with_file_name("evidence");
    let request = Request { machine, ..request(image.to_owned(), &out) };
    let before = Sha256::of(std::fs::read(image).unwrap());
    let report = validate(&request, &Silent, &Cancel::default()).unwrap();
    assert_eq!(report.sha256, Some(before));
    assert!(!out.join("console.log").exists(), "it was booted");
    assert!(report.accelerator.is_none() && report.timeline.is_empty(), "it was booted");
    assert!(out.join("report.json").exists());
    assert!(report.text().contains("not booted"), "{}", report.text());
    assert!(!report.passed());
    report
}

/// The one rule that forbids the boot, with what it saw.
fn only(report: &Report) -> (String, String) {
    let failed: Vec<_> = report.failed().filter(|judged| judged.rule.stops_boot).collect();
    assert_eq!(failed.len(), 1, "{}", report.text());
    (failed[0].rule.id.clone(), failed[0].seen().to_owned())
}

/// Builds an image for `machine` with these pieces; the rule that says no.
fn found(pieces: &Pieces, machine: Machine) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    only(&judged(&built(folder.path(), pieces), machine))
}

#[test]
fn an_image_of_the_right_pieces_is_booted() {
    let folder = tempfile::tempdir().unwrap();
    for (sources, machine) in [("Ec2", aws()), ("Azure", azure())] {
        let raw = built(folder.path(), &Pieces { sources, ..Pieces::default() });
        let image = nodekiln_disk::open(&raw).unwrap();
        let cancel = Cancel::default();
        let subject = Subject::new(&image, &machine, Way::Usual, None, &cancel).unwrap();
        let judgement = at_rest::judge(&subject).unwrap();
        assert!(judgement.obstacles.is_empty(), "{judgement:?}");
        for judged in judgement.rules.iter().filter(|judged| judged.rule.stops_boot) {
            let Outcome::Judged(verdict) = &judged.outcome else { panic!("{judged:?}") };
            let id = &judged.rule.id;
            let passes = verdict.word() == "pass" || id == "payload"; // no manifest, no claim
            assert!(passes, "{id}: {}", judged.seen());
        }
    }
}

#[test]
fn an_image_for_aws_whose_datasource_list_names_azure_is_not_booted() {
    let (id, seen) = found(&Pieces { sources: "Azure", ..Pieces::default() }, aws());
    assert_eq!(id, "datasource-list");
    assert_eq!(seen, "datasource_list is [Azure], without Ec2");
}

#[test]
fn an_initial_ram_disk_without_nvme_is_found() {
    let pieces = Pieces { sources: "Ec2", without: "nvme", ..Pieces::default() };
    let (id, seen) = found(&pieces, aws());
    assert_eq!((id.as_str(), seen.as_str()), ("boot-drivers", "kernel 6.1 boots without nvme"));
}

#[test]
fn an_initial_ram_disk_without_hv_storvsc_or_what_that_needs_is_found() {
    let pieces = |without| Pieces { sources: "Azure", without, ..Pieces::default() };
    let (id, seen) = found(&pieces("hv_storvsc"), azure());
    assert_eq!(
        (id.as_str(), seen.as_str()),
        ("boot-drivers", "kernel 6.1 boots without hv_storvsc")
    );
    let (_, seen) = found(&pieces("hv_vmbus"), azure());
    assert_eq!(seen, "kernel 6.1 boots without hv_vmbus, which hv_storvsc needs");
}

#[test]
fn a_driver_of_the_network_that_is_listed_and_not_there_is_found() {
    let pieces = Pieces { sources: "Ec2", lost: "ena.ko.xz", ..Pieces::default() };
    let (id, seen) = found(&pieces, aws());
    assert_eq!((id.as_str(), seen.as_str()), ("network-drivers", "kernel 6.1 has no ena"));
}

#[test]
fn a_driver_of_the_network_without_what_it_needs_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let pieces = Pieces { sources: "Azure", lost: "hv_vmbus.ko", ..Pieces::default() };
    let report = judged(&built(folder.path(), &pieces), azure());
    let (id, seen) = only(&report);
    assert_eq!(
        (id.as_str(), seen.as_str()),
        ("network-drivers", "kernel 6.1 has no hv_vmbus, which hv_netvsc needs")
    );
}

/// Hyper-V's controller is what Azure needs, and another is what QEMU has.
#[test]
fn an_image_that_only_qemu_lacks_a_driver_for_is_neither_booted_nor_failed() {
    let folder = tempfile::tempdir().unwrap();
    let pieces = Pieces { sources: "Azure", without: "virtio_scsi", ..Pieces::default() };
    let report = judged(&built(folder.path(), &pieces), azure());
    assert!(!report.failed().any(|judged| judged.rule.stops_boot), "{}", report.text());
    let told = "kernel 6.1 boots without virtio_scsi, for the disk's controller in QEMU";
    assert_eq!(report.obstacles, [format!("boot-drivers: {told}")]);
    // Were it sound otherwise, it would not be called bad for that.
    let mut sound = report.clone();
    sound.rules.retain(|judged| judged.rule.stops_boot);
    let failure = sound.result().unwrap_err();
    assert_eq!(failure.class(), Class::Unsupported);
    assert!(failure.to_string().contains(told), "{failure}");
}

#[test]
fn a_vhd_that_is_not_a_whole_number_of_mib_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let pieces = Pieces { sources: "Azure", more: 512, ..Pieces::default() };
    let raw = built(folder.path(), &pieces);
    let mut bytes = std::fs::read(&raw).unwrap();
    let size = bytes.len() as u64;
    bytes.extend(vhd::Footer { size, created: 0, uuid: [1; 16] }.encode());
    let path = raw.with_file_name("node.vhd");
    std::fs::write(&path, bytes).unwrap();
    let report = judged(&path, azure());
    let failed = report.failed().filter(|judged| judged.rule.stops_boot);
    let failed: Vec<_> = failed.map(|judged| (judged.rule.id.as_str(), judged.seen())).collect();
    assert!(
        matches!(failed[..], [("container", seen), ("disk-size", _)] if seen.contains("not a whole number of MiB")),
        "{failed:?}"
    );
    // `inspect` tells it too.
    let image = nodekiln_disk::open(&path).unwrap();
    let problems = image.check(nodekiln_disk::Depth::Tables, &Cancel::default()).unwrap();
    assert!(problems.iter().any(|problem| problem.contains("whole number of MiB")), "{problems:?}");
}

#[test]
fn a_disk_of_a_size_that_the_cloud_does_not_take_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let raw = built(folder.path(), &Pieces { sources: "Ec2", ..Pieces::default() });
    let profile = nodekiln_aws::Aws.machine();
    let profile = MachineProfile { firmware: vec![Firmware::Bios], ..profile };
    let machine = Machine { firmware: Firmware::Bios, profile, ..Machine::default() };
    let (id, seen) = only(&judged(&raw, machine));
    assert_eq!(id, "disk-size");
    assert!(seen.contains("not a multiple of 1 GiB"), "{seen}");
}

#[test]
fn an_ova_whose_manifest_does_not_match_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let raw = built(folder.path(), &Pieces { sources: "Ec2", ..Pieces::default() });
    for (piece, name) in [(&b"<Envelope"[..], "node.ovf"), (b"KDMV", "node-disk1.vmdk")] {
        let path = in_format(&raw, "node.ova");
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(piece.len()).position(|window| window == piece).unwrap();
        // In the extent, a byte that no reader looks at: the first sector's padding.
        let at = if piece == b"KDMV" { at + 500 } else { at + 1 };
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (id, seen) = only(&judged(&path, aws()));
        assert_eq!(id, "container");
        assert!(seen.contains("manifest") && seen.contains(name), "{seen}");
    }
}

#[test]
fn an_overlay_is_found_and_what_it_names_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let raw = built(folder.path(), &Pieces { sources: "Ec2", ..Pieces::default() });
    let size = std::fs::metadata(&raw).unwrap().len();
    let path = raw.with_file_name("node.qcow2");
    nodekiln_disk::qcow2::write_overlay(&path, &Backing::Raw(raw), size).unwrap();
    let report = judged(&path, aws());
    let container = report.failed().find(|judged| judged.rule.id == "container").unwrap();
    assert!(container.seen().contains("disk.raw"), "{}", container.seen());
}

#[test]
fn a_vmdk_that_hints_at_a_parent_is_refused_in_a_package_too() {
    let folder = tempfile::tempdir().unwrap();
    let raw = built(folder.path(), &Pieces { sources: "Ec2", ..Pieces::default() });
    let path = in_format(&raw, "node.ova");
    let mut bytes = std::fs::read(&path).unwrap();
    // In the descriptor within the extent, in place of a line as long as this one.
    let (line, hint) = (&b"ddb.adapterType = \"lsilogic\""[..], b"parentFileNameHint=\"/x.vmdk\"");
    let at = bytes.windows(line.len()).position(|window| window == line).unwrap();
    bytes[at..at + hint.len()].copy_from_slice(hint);
    bytes[at + hint.len()..at + line.len()].fill(b' ');
    std::fs::write(&path, bytes).unwrap();
    let out = path.with_file_name("evidence");
    let request = Request { machine: aws(), ..request(path, &out) };
    let failure = validate(&request, &Silent, &Cancel::default()).unwrap_err();
    assert_eq!(failure.class(), Class::Unsupported);
    assert!(failure.chain().join(": ").contains("needs its parent"), "{failure:?}");
    assert!(!out.exists(), "it was booted");
}

#[test]
fn a_damaged_initial_ram_disk_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let raw = built(folder.path(), &Pieces { sources: "Ec2", ..Pieces::default() });
    let mut bytes = std::fs::read(&raw).unwrap();
    // The first byte of the compressed archive's magic number, behind the microcode.
    let whole = initrd("");
    let magic = whole.windows(4).position(|window| window == b"\x28\xb5\x2f\xfd").unwrap();
    let head = &whole[magic..magic + 32];
    let at = bytes.windows(head.len()).position(|window| window == head).unwrap();
    bytes[at] ^= 0xFF;
    std::fs::write(&raw, bytes).unwrap();
    let (id, seen) = only(&judged(&raw, aws()));
    assert_eq!(id, "boot-drivers");
    assert!(seen.contains("/boot/initrd.img-6.1"), "{seen}");
}

#[test]
fn a_backup_table_that_is_not_at_the_end_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let raw = built(folder.path(), &Pieces { sources: "Ec2", ..Pieces::default() });
    let length = std::fs::metadata(&raw).unwrap().len();
    let file = std::fs::File::options().write(true).open(&raw).unwrap();
    file.set_len(length + (1 << 20)).unwrap();
    let (id, seen) = only(&judged(&raw, aws()));
    assert_eq!(id, "partition-table");
    assert!(seen.contains("the last sector is"), "{seen}");
}

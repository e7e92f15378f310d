//! What is told of image files, from disks made here with e2fsprogs and qemu-img.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nodekiln_disk::gpt::{Entry, TYPE_ROOT_X86_64, Table};
use nodekiln_disk::{Disk, Extent, Payload, Source, raw};
use nodekiln_validate::inspect::{Inspection, Looking, boot_and_system, inspect, text};
use nodekiln_words::{Cancel, Class, Silent};
use uuid::Uuid;

const ROOM: u64 = 64 << 20;
const START: u64 = 1 << 20;
/// A first sector that a BIOS starts: `cli; hlt`.
const BOOT_CODE: &[u8] = &[0xfa, 0xf4];

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A raw disk whose root file system has `files`.
pub(crate) fn image(folder: &Path, files: &[(&str, &str)]) -> PathBuf {
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    image_coded(folder, &[&files], 0, &[])
}

/// The same, with as many bytes more behind the partition.
pub(crate) fn image_with(folder: &Path, files: &[(&str, &[u8])], more: u64) -> PathBuf {
    image_of(folder, &[files], more)
}

/// A raw disk of partitions with these files each, and as many bytes more behind them.
pub(crate) fn image_of(folder: &Path, partitions: &[&[(&str, &[u8])]], more: u64) -> PathBuf {
    image_coded(folder, partitions, more, BOOT_CODE)
}

/// The same with this code in the first sector.
fn image_coded(folder: &Path, partitions: &[&[(&str, &[u8])]], more: u64, code: &[u8]) -> PathBuf {
    let path = folder.join("disk.raw");
    let count = partitions.len() as u64;
    let size = START + count * ROOM + START + more;
    let (mut entries, mut extents) = (Vec::new(), Vec::new());
    for (number, files) in (1..).zip(partitions) {
        let start = START + u64::from(number - 1) * ROOM;
        let file = Arc::new(std::fs::File::open(file_system(folder, number, files)).unwrap());
        entries.push(Entry {
            number,
            kind: TYPE_ROOT_X86_64,
            guid: Uuid::from_u128(u128::from(number) + 1),
            first: start / 512,
            last: (start + ROOM) / 512 - 1,
            attributes: 0,
            name: "root".to_owned(),
        });
        let source = Source::File { file, offset: 0 };
        extents.push(Extent { start, length: ROOM, source });
    }
    let ends = Table { disk: Uuid::from_u128(1), entries }.encode(size / 512, code).unwrap();
    let tail = size - ends.tail.len() as u64;
    extents.insert(0, Extent::memory(0, ends.head));
    extents.push(Extent::memory(tail, ends.tail));
    let disk = Disk::new(size, extents).unwrap();
    raw::write(&disk, &Payload::of(&disk), &path, &Silent, &Cancel::default()).unwrap();
    path
}

/// An ext4 file system with `files`.
fn file_system(folder: &Path, number: u32, files: &[(&str, &[u8])]) -> PathBuf {
    let tree = tempfile::tempdir_in(folder).unwrap();
    for (name, content) in files {
        let file = tree.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
    let path = folder.join(format!("partition-{number}"));
    let _ = std::fs::remove_file(&path);
    succeed(
        Command::new("/usr/sbin/mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-d"])
            .args([tree.path(), &path])
            .arg("64M"),
    );
    path
}

fn look(path: &Path) -> Inspection {
    let (scratch, cancel) = (std::env::temp_dir(), Cancel::default());
    let looking = Looking { digests: true, scratch: &scratch, progress: &Silent, cancel: &cancel };
    inspect(path, looking).unwrap()
}

const RELEASE: &str =
    "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID='12'\n";
const STATUS: &str = "\
Package: containerd
Status: hold ok installed
Version: 1.6.20~ds1-1

Package: gone
Status: deinstall ok config-files
Version: 1

Package: kubelet
Status: install ok installed
Version: 1.33.4-1.1
";

#[test]
fn the_system_is_told_from_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(
        folder.path(),
        &[
            ("etc/os-release", RELEASE),
            ("etc/machine-id", "uninitialized\n"),
            ("etc/cloud/cloud.cfg", "datasource_list: [NoCloud]\n"),
            ("etc/cloud/cloud.cfg.d/90_later.cfg", "datasource_list:\n  - Ec2\n  - 'None'\n"),
            ("etc/cloud/cloud.cfg.d/80_sooner.cfg", "datasource_list: [Azure]\n"),
            ("etc/cloud/cloud.cfg.d/95_other.cfg", "users: []\n"),
            ("boot/vmlinuz-6.1.0-56-amd64", ""),
            ("usr/bin/kubelet", ""),
            ("var/lib/dpkg/status", STATUS),
        ],
    );
    let found = look(&path);
    assert_eq!((found.format.as_str(), found.table, found.problems.len()), ("raw", "gpt", 0));
    assert_eq!(found.sha256, found.payload);
    assert!(found.sha256.is_some());
    assert_eq!(found.partitions[0].content.as_deref(), Some("ext4"));
    let system = found.system.clone().unwrap();
    let names = [system.name.as_str(), system.id.as_str(), system.version.as_str()];
    assert_eq!(names, ["Debian GNU/Linux 12 (bookworm)", "debian", "12"]);
    assert_eq!(system.data_sources, ["Ec2", "None"]);
    assert_eq!(system.kernels, ["6.1.0-56-amd64"]);
    assert_eq!(system.programs, ["/usr/bin/kubelet"]);
    assert_eq!(system.kubernetes.as_deref(), Some("v1.33.4"));
    assert_eq!((system.package_count, system.packages.len()), (Some(2), 2));
    assert_eq!(system.machine_id, "uninitialized");
    let told = text(&found);
    for line in ["boot          nothing that starts", "data sources  Ec2, None"] {
        assert!(told.contains(line), "{told}");
    }
}

#[test]
fn a_disk_without_a_system_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let found = look(&image(folder.path(), &[("data", "1")]));
    assert_eq!(found.system, None);
    assert_eq!(found.partitions.len(), 1);
}

#[test]
fn the_versions_that_an_image_states_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let stated = [
        ("etc/os-release", RELEASE),
        ("etc/image-builder-release", "KUBERNETES_VERSION=\"v1.32.1\"\n"),
        ("var/lib/dpkg/status", STATUS),
    ];
    let system = look(&image(folder.path(), &stated)).system.unwrap();
    assert_eq!(system.kubernetes.as_deref(), Some("v1.32.1"));
    assert_eq!(system.machine_id, "absent");
}

#[test]
fn formats_that_only_qemu_img_reads_tell_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), &[("etc/os-release", RELEASE)]);
    let expected = look(&path);
    for format in ["vhdx", "vdi"] {
        let other = folder.path().join(format);
        succeed(
            Command::new("qemu-img")
                .args(["convert", "-f", "raw", "-O", format])
                .args([&path, &other]),
        );
        let found = look(&other);
        assert_eq!(found.format, format);
        assert_eq!((found.payload, &found.system), (expected.payload, &expected.system));
        assert_ne!(found.sha256, expected.sha256);
    }
}

#[test]
fn damage_is_a_problem_and_the_rest_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), &[("etc/os-release", RELEASE)]);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    std::os::unix::fs::FileExt::write_all_at(&file, b"X", length - 512).unwrap();
    let found = look(&path);
    assert!(!found.problems.is_empty());
    assert!(found.system.is_some());
    // The superblock's checksum.
    std::os::unix::fs::FileExt::write_all_at(&file, b"XXXX", START + 1024 + 1020).unwrap();
    let found = look(&path);
    assert!(found.problems.iter().any(|problem| problem.starts_with("partition 1: ")), "{found:?}");
    assert_eq!(found.system, None);
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, at).unwrap();
}

/// Where the bytes of `needle` begin in the file at `path`.
fn find(path: &Path, needle: &str) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(needle.len()).position(|window| window == needle.as_bytes());
    at.unwrap() as u64
}

/// dpkg's database of more than 300 KiB, whose middle is marked.
fn large_status() -> String {
    let package = |n: u32| format!("Package: p{n}\nStatus: install ok installed\nVersion: {n}\n\n");
    let half = |from: u32| (from..from + 3000).map(package).collect::<String>();
    format!("{}Package: the-middle\nVersion: 1\n\n{}{STATUS}", half(0), half(3000))
}

/// A system in a qcow2 file whose cluster with the `needle` of the disk cannot be read.
fn damaged_qcow2(folder: &Path, needle: Option<&str>) -> PathBuf {
    let status = large_status();
    let files = [("etc/os-release", RELEASE), ("var/lib/dpkg/status", &status)];
    let raw = image(folder, &files);
    let path = folder.join("disk.qcow2");
    succeed(
        Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).args([&raw, &path]),
    );
    let cluster = needle.map_or(0, |needle| find(&raw, needle)) / 65_536;
    let bytes = std::fs::read(&path).unwrap();
    let number = |at: u64| {
        let at = usize::try_from(at).unwrap();
        u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
    };
    let l2 = number(number(40)) & 0x00FF_FFFF_FFFF_FE00;
    assert!(number(l2 + cluster * 8) > 0);
    overwrite(&path, l2 + cluster * 8, &((1_u64 << 63) | (1 << 40)).to_be_bytes());
    path
}

#[test]
fn what_a_damaged_cluster_does_not_hold_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let found = look(&damaged_qcow2(folder.path(), Some("the-middle")));
    let told = |what: &str| found.problems.iter().any(|problem| problem.contains(what));
    assert!(
        told("L2 table 0 entry") && told("partition 1: cannot read /var/lib/dpkg/status"),
        "{found:?}"
    );
    assert_eq!((found.payload, found.table, found.partitions.len()), (None, "gpt", 1));
    let system = found.system.unwrap();
    assert_eq!((system.id.as_str(), system.package_count), ("debian", None));
    assert_eq!(system.machine_id, "absent");
}

#[test]
fn a_table_that_cannot_be_read_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let found = look(&damaged_qcow2(folder.path(), None));
    assert_eq!((found.table, found.partitions.len(), found.system), ("unknown", 0, None));
    assert_eq!((found.payload, found.boot), (None, nodekiln_validate::inspect::Boot::default()));
    assert!(found.problems.iter().any(|problem| problem.contains("L2 table 0 entry 0")));
}

#[test]
fn an_internal_snapshot_is_a_problem_and_the_rest_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let raw = image(folder.path(), &[("etc/os-release", RELEASE)]);
    let path = folder.path().join("disk.qcow2");
    succeed(
        Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).args([&raw, &path]),
    );
    succeed(Command::new("qemu-img").args(["snapshot", "-c", "before"]).arg(&path));
    let found = look(&path);
    assert_eq!(found.problems.len(), 1, "{found:?}");
    assert!(found.problems[0].contains("1 internal snapshots"), "{found:?}");
    assert_eq!(found.payload, look(&raw).payload);
    assert_eq!(found.system.unwrap().id, "debian");
}

#[test]
fn a_folder_that_cannot_be_listed_hides_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let files = [("etc/os-release", RELEASE), ("boot/vmlinuz-6.1.0", ""), ("usr/bin/kubelet", "")];
    let path = image(folder.path(), &files);
    // A name in the folder's block, which has a checksum.
    let at = find(&path, "vmlinuz-6.1.0");
    overwrite(&path, at, b"X");
    let found = look(&path);
    assert!(
        found.problems.iter().any(|p| p.starts_with("partition 1: cannot list /boot")),
        "{found:?}"
    );
    let told = found.system.unwrap();
    assert_eq!((told.kernels.len(), told.programs.len()), (0, 1));
    let disk = nodekiln_disk::open(&path).unwrap();
    assert_eq!(boot_and_system(disk.disk(), &Cancel::default()).unwrap().1, Some(told));
}

#[test]
fn a_file_that_is_not_there_is_named_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let (cancel, place) = (Cancel::default(), folder.path().join("nowhere.raw"));
    let looking =
        Looking { digests: false, scratch: folder.path(), progress: &Silent, cancel: &cancel };
    let failure = inspect(&place, looking).unwrap_err();
    assert_eq!(failure.class(), Class::Input);
    assert_eq!(failure.to_string(), format!("there is no file {}", place.display()));
    assert!(failure.help().is_some());
}

#[test]
fn being_interrupted_is_no_problem_of_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), &[("etc/os-release", RELEASE)]);
    let (scratch, cancel) = (std::env::temp_dir(), Cancel::default());
    cancel.cancel();
    for digests in [true, false] {
        let looking = Looking { digests, scratch: &scratch, progress: &Silent, cancel: &cancel };
        assert_eq!(inspect(&path, looking).unwrap_err().class(), Class::Interrupted);
    }
    let disk = nodekiln_disk::open(&path).unwrap();
    assert_eq!(boot_and_system(disk.disk(), &cancel).unwrap_err().class(), Class::Interrupted);
}

/// What an image calls itself is no command to the terminal that shows it.
#[test]
fn text_from_an_image_stays_on_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let release = "PRETTY_NAME=\"A\u{1b}]0;B\u{7}\u{9b}31mC\"\nID=debian\n";
    let sources = "datasource_list: [\"None\\nproblem       none\"]\n";
    let path =
        image(folder.path(), &[("etc/os-release", release), ("etc/cloud/cloud.cfg", sources)]);
    let found = look(&path);
    let told = text(&found);
    assert!(told.contains("system        A\u{FFFD}]0;B\u{FFFD}\u{FFFD}31mC\n"), "{told:?}");
    assert!(told.contains("None\u{FFFD}problem"), "{told:?}");
    assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "{told:?}");
}

/// What qemu-img writes has no name, so that nothing is left of it however that ends.
#[test]
fn nothing_is_left_of_what_qemu_img_unpacks() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), &[("etc/os-release", RELEASE)]);
    let scratch = folder.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let other = folder.path().join("disk.vdi");
    succeed(
        Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "vdi"]).args([&path, &other]),
    );
    let cancel = Cancel::default();
    let looking = Looking { digests: false, scratch: &scratch, progress: &Silent, cancel: &cancel };
    let image = nodekiln_validate::inspect::open(&other, looking).unwrap();
    let mut bytes = [0; 8];
    image.read_at(512, &mut bytes).unwrap();
    assert_eq!(&bytes, b"EFI PART");
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0, "while it is open");
    // qemu-img's own words tell why it cannot.
    overwrite(&other, 68, &[0xFF; 4]);
    let failure = nodekiln_validate::inspect::open(&other, looking).unwrap_err();
    let told = failure.chain().join(": ");
    assert!(told.contains("qemu-img cannot read it: qemu-img: "), "{told}");
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
}

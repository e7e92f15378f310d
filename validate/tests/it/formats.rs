//! The same small guest in every format of an artifact, and in a network with its cloud's services.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln_disk::{Deflate, Disk, FileWriter, Payload, ova, qcow2, tar_gz, vhd, write_file};
use nodekiln_providers::Provider as _;
use nodekiln_validate::artifact;
use nodekiln_validate::report::Outcome;
use nodekiln_validate::{Firmware, Machine, MachineProfile, Report, Request, validate};
use nodekiln_words::{Bytes, Cancel, Class, Sha256, Silent};

use crate::small_guests::{Then, disk_of, request};

const WORDS: &str = "[    0.0] Linux version 6.1\n[    1.8] Kernel panic - not syncing: spoken\n";

/// The disk of `raw` in another format.
pub(crate) fn in_format(raw: &Path, name: &str) -> PathBuf {
    let path = raw.with_file_name(name);
    let _ = std::fs::remove_file(&path);
    let cancel = Cancel::default();
    let file = Arc::new(std::fs::File::open(raw).unwrap());
    let disk = Disk::over_file(&file, file.metadata().unwrap().len());
    let payload = Payload::of(&disk);
    let writer: Box<dyn FileWriter> = match name.split_once('.').unwrap().1 {
        "qcow2" => {
            let options = qcow2::Options { compression: qcow2::Compression::zlib() };
            Box::new(qcow2::Writer::create(&disk, &path, options, None).unwrap())
        }
        "vhd" => Box::new(vhd::Writer::create(&disk, &path, 0).unwrap()),
        "tar.gz" => {
            Box::new(tar_gz::Writer::create(&disk, &path, Deflate::wide(1), 0, &cancel).unwrap())
        }
        "ova" => {
            package(&disk, &path);
            return path;
        }
        other => panic!("{other}"),
    };
    write_file(&disk, &payload, writer, &path, &Silent, &cancel).unwrap();
    path
}

fn package(disk: &Disk, path: &Path) {
    let members = ova::Members {
        descriptor: "node.ovf".to_owned(),
        room: 2000,
        manifest: "node.mf".to_owned(),
        extent: "node-disk1.vmdk".to_owned(),
        created: 0,
    };
    let cancel = Cancel::default();
    let mut writer = ova::Writer::create(disk, path, members, Deflate::wide(1)).unwrap();
    let mut pass = nodekiln_disk::Pass::new();
    pass.stream(disk, &mut writer.extent);
    pass.run(&|_| {}, &cancel).unwrap();
    let digest = Payload::of(disk).digest(&Silent, &cancel).unwrap();
    writer
        .finish(&digest, |extent| Ok(format!("<Envelope size=\"{}\"/>", extent.length)), &cancel)
        .unwrap();
}

fn digest(path: &Path) -> Sha256 {
    Sha256::of(std::fs::read(path).unwrap())
}

fn run(request: &Request) -> Report {
    validate(request, &Silent, &Cancel::default()).unwrap()
}

#[test]
fn the_same_guest_speaks_from_every_format_and_no_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let raw = disk_of(folder.path(), WORDS, Then::Halt, 1 << 30);
    let payload = digest(&raw);
    for (name, format) in [
        ("node.qcow2", "qcow2"),
        ("node.vhd", "vhd"),
        ("node.ova", "ova"),
        ("node.tar.gz", "tar.gz"),
    ] {
        let image = in_format(&raw, name);
        let before = digest(&image);
        let out = folder.path().join(format!("{format}.evidence"));
        let mut request = request(image.clone(), &out);
        (request.expected_digest, request.expected_payload) = (Some(before), Some(payload));
        let report = run(&request);
        let cause = report.cause.unwrap();
        assert!(cause.text.contains("not syncing: spoken"), "{format}: {cause:?}");
        assert_eq!((report.format.as_str(), report.sha256), (format, Some(before)));
        assert_eq!(digest(&image), before, "{format}");
        let left: Vec<_> =
            std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
        // The disk inside is compared with what was built, whatever the file's own digest says.
        request.expected_payload = Some(Sha256::of("another disk"));
        let report = run(&request);
        assert_eq!(
            report.failed().map(|judged| judged.rule.id.as_str()).collect::<Vec<_>>(),
            ["payload"]
        );
        assert!(report.timeline.is_empty() && report.accelerator.is_none(), "{format}");
    }
}

/// A run that is killed leaves no disk behind.
#[test]
fn the_disk_of_an_archive_has_no_name_and_qemu_reads_it_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let raw = disk_of(folder.path(), WORDS, Then::Halt, 1 << 30);
    let archive = artifact::identify(&in_format(&raw, "node.tar.gz")).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let opened = archive.open(scratch.path(), &Silent, &Cancel::default()).unwrap();
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    let overlay = scratch.path().join("root.qcow2");
    let size = opened.overlay(&overlay).unwrap();
    std::fs::File::options().write(true).open(&raw).unwrap().set_len(size.get()).unwrap();
    let compare = |expected: bool| {
        let mut command = std::process::Command::new("qemu-img");
        command.args(["compare", "-f", "raw", "-F", "qcow2"]).args([&raw, &overlay]);
        assert_eq!(command.output().unwrap().status.success(), expected, "{command:?}");
    };
    compare(true);
    drop(opened);
    compare(false); // nobody has it any more
}

#[test]
fn a_guest_of_a_cloud_runs_where_its_services_are_and_what_it_asks_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let raw = disk_of(folder.path(), WORDS, Then::Halt, 1 << 30);
    let out = folder.path().join("out");
    let machine = |profile: MachineProfile| Machine {
        memory: Bytes(128 << 20),
        cpus: 1,
        firmware: Firmware::Bios,
        profile,
        ..Machine::default()
    };
    for (profile, cloud) in [
        (nodekiln_aws::Aws.machine(), Some("aws")),
        (nodekiln_azure::Azure.machine(), Some("azure")),
        (nodekiln_vsphere::Vsphere.machine(), None),
    ] {
        let request = Request { machine: machine(profile), ..request(raw.clone(), &out) };
        let report = run(&request);
        assert!(report.cause.as_ref().unwrap().text.contains("spoken"), "{:?}", report.cause);
        let told = report.metadata.as_ref().map(|metadata| metadata.cloud.as_str());
        assert_eq!((told, out.join("metadata.jsonl").is_file()), (cloud, cloud.is_some()));
        assert_eq!(report.text().contains("told in"), cloud.is_some());
        let ready = report.rules.iter().find(|judged| judged.rule.id == "azure-ready").unwrap();
        let failed = matches!(&ready.outcome, Outcome::Judged(verdict) if verdict.word() == "FAIL");
        assert_eq!(failed, cloud == Some("azure"), "{ready:?}");
    }
}

#[test]
fn a_datasource_that_nothing_here_feeds_is_refused_before_a_boot() {
    let folder = tempfile::tempdir().unwrap();
    let raw = disk_of(folder.path(), WORDS, Then::Halt, 2 << 20);
    let out = folder.path().join("out");
    let mut request = request(raw, &out);
    request.machine.profile.data_source = "Scaleway".to_owned();
    let failure = validate(&request, &Silent, &Cancel::default()).unwrap_err();
    assert_eq!(failure.class(), Class::Unsupported);
    assert!(failure.to_string().contains("Scaleway") && failure.help().is_some(), "{failure:?}");
    request.machine.profile.data_source = "Ec2".to_owned();
    request.way = nodekiln_validate::Way::ConfigDrive;
    let failure = validate(&request, &Silent, &Cancel::default()).unwrap_err();
    assert!(failure.to_string().contains("no config drive on aws"), "{failure:?}");
    assert!(!out.exists());
}

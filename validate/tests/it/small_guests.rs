//! Guests of one sector that print to the serial port and then hang, reset or go on: enough to see
//! how a boot is handled, in seconds.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nodekiln_disk::gpt::Table;
use nodekiln_validate::deadlines::Stage;
use nodekiln_validate::report::Outcome;
use nodekiln_validate::{
    Accelerator, Expectations, Firmware, Machine, Report, Request, Tier, validate,
};
use nodekiln_words::{Bytes, Cancel, Class, Result, Sha256, Silent};
use uuid::Uuid;

/// What a small guest does after its words.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    /// Halts for ever.
    Halt,
    /// Resets the machine through the keyboard controller.
    Reset,
}

/// A disk of 2 MiB whose boot sector prints `words` on COM1. It has a sound GPT without partitions.
pub(crate) fn disk(folder: &Path, words: &str, then: Then) -> PathBuf {
    disk_of(folder, words, then, 2 << 20)
}

/// The same of `size` bytes.
pub(crate) fn disk_of(folder: &Path, words: &str, then: Then, size: u64) -> PathBuf {
    let mut code = vec![
        0xfa, // cli
        0x31, 0xc0, 0x8e, 0xd8, // ds = 0
        0xbe, 0x40, 0x7c, // si = 0x7c40, the words
        0xac, // next: lodsb
        0x84, 0xc0, 0x74, 0x06, // test al, al; jz done
        0xba, 0xf8, 0x03, // dx = 0x3f8
        0xee, // out dx, al
        0xeb, 0xf5, // jmp next
    ];
    match then {
        Then::Halt => code.extend([0xf4, 0xeb, 0xfd]), // done: hlt; jmp done
        Then::Reset => code.extend([0xb0, 0xfe, 0xe6, 0x64, 0xf4]), // done: al = 0xfe; out 0x64
    }
    code.resize(0x40, 0);
    code.extend_from_slice(words.as_bytes());
    code.push(0);
    let table = Table { disk: Uuid::from_u128(1), entries: Vec::new() };
    let ends = table.encode(size / 512, &code).unwrap();
    let path = folder.join("node.raw");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(&ends.head, 0).unwrap();
    file.write_all_at(&ends.tail, size - ends.tail.len() as u64).unwrap();
    path
}

pub(crate) fn request(image: PathBuf, out: &Path) -> Request {
    Request {
        machine: Machine { memory: Bytes(64 << 20), cpus: 1, ..Machine::default() },
        accelerator: Accelerator::Tcg,
        ..Request::new(image, Tier::Boot, out.to_owned(), "2026-11-01".parse().unwrap())
    }
}

fn run(words: &str, then: Then) -> (Result<Report>, Duration) {
    let folder = tempfile::tempdir().unwrap();
    let image = disk(folder.path(), words, then);
    let started = Instant::now();
    let report = validate(&request(image, &folder.path().join("out")), &Silent, &Cancel::default());
    (report, started.elapsed())
}

#[test]
fn a_panic_is_reported_at_once_with_its_line_and_not_by_time_out() {
    let words = "[    0.0] Linux version 6.1\n[    1.8] Kernel panic - not syncing: no init\n";
    let (report, took) = run(words, Then::Halt);
    let report = report.unwrap();
    assert!(took < Duration::from_secs(30), "{took:?}");
    let cause = report.cause.clone().unwrap();
    assert!(cause.text.contains("Kernel panic - not syncing: no init"), "{cause:?}");
    assert_eq!(cause.console.unwrap().pattern, "kernel-panic");
    assert!(!report.passed());
    assert_eq!(report.result().unwrap_err().class(), Class::Verdict);
    let console = report.rules.iter().find(|judged| judged.rule.id == "console").unwrap();
    assert!(matches!(&console.outcome, Outcome::Judged(verdict) if verdict.word() == "FAIL"));
    assert!(report.text().contains("no init"));
}

#[test]
fn a_boot_loader_that_stops_is_named() {
    let (report, _) = run("GRUB loading.\nEntering rescue mode...\ngrub rescue> ", Then::Halt);
    let cause = report.unwrap().cause.unwrap();
    assert_eq!(cause.stage, Some(Stage::Firmware));
    assert_eq!(cause.console.unwrap().pattern, "grub-rescue");
}

#[test]
fn a_disk_that_uefi_cannot_boot_is_told_by_the_firmware() {
    let folder = tempfile::tempdir().unwrap();
    let image = disk(folder.path(), "never run\n", Then::Halt);
    let mut request = request(image, &folder.path().join("out"));
    request.machine.firmware = Firmware::Uefi;
    request.machine.memory = Bytes(256 << 20);
    let cause = validate(&request, &Silent, &Cancel::default()).unwrap().cause.unwrap();
    assert_eq!(cause.stage, Some(Stage::Firmware), "{cause:?}");
    assert_eq!(cause.console.map(|finding| finding.pattern).as_deref(), Some("uefi-shell"));
}

#[test]
fn a_guest_that_resets_itself_ends_the_run_at_once() {
    let (report, took) = run("[    0.0] Linux version 6.1\n", Then::Reset);
    let cause = report.unwrap().cause.unwrap();
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(cause.text.contains("QEMU ended"), "{cause:?}");
    assert!(cause.tail.iter().any(|line| line.contains("Linux version")), "{cause:?}");
}

#[test]
fn cancelling_ends_the_run_within_two_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let request = request(disk(folder.path(), "waiting\n", Then::Halt), &folder.path().join("out"));
    let cancel = Cancel::default();
    let flag = cancel.clone();
    let run = std::thread::spawn(move || validate(&request, &Silent, &cancel));
    std::thread::sleep(Duration::from_secs(2));
    let asked = Instant::now();
    flag.cancel();
    let failure = run.join().unwrap().unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(failure.class(), Class::Interrupted);
}

#[test]
fn the_artifact_keeps_its_digest_and_nothing_but_the_logs_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let image = disk(folder.path(), "Kernel panic - not syncing: x\n", Then::Halt);
    let before = Sha256::of(std::fs::read(&image).unwrap());
    let out = folder.path().join("out");
    let report = validate(&request(image.clone(), &out), &Silent, &Cancel::default()).unwrap();
    assert_eq!(report.sha256, Some(before));
    assert_eq!(Sha256::of(std::fs::read(&image).unwrap()), before);
    let mut left: Vec<_> =
        std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    let all = [
        "console.log",
        "junit.xml",
        "network.pcap",
        "qemu.log",
        "report.html",
        "report.json",
        "report.txt",
        "screen.png",
        "summary.md",
    ];
    assert_eq!(left, all);
    let text = std::fs::read_to_string(out.join("report.json")).unwrap();
    assert_eq!(text, report.json());
}

#[test]
fn a_file_that_is_no_image_is_refused_before_anything_boots() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "not a disk at all\n").unwrap();
    let out = folder.path().join("out");
    let failure = validate(&request(path, &out), &Silent, &Cancel::default()).unwrap_err();
    assert_eq!(failure.class(), Class::Input);
    assert!(failure.to_string().contains("notes.txt"), "{failure:?}");
    assert!(!out.exists());
}

#[test]
fn a_damaged_qcow2_is_refused_before_anything_boots() {
    let folder = tempfile::tempdir().unwrap();
    let raw = disk(folder.path(), "x", Then::Halt);
    let path = folder.path().join("node.qcow2");
    let status = std::process::Command::new("qemu-img")
        .args(["convert", "-O", "qcow2"])
        .args([&raw, &path])
        .status()
        .expect("qemu-img is missing: install Debian's package qemu-utils");
    assert!(status.success());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40..48].copy_from_slice(&u64::MAX.to_be_bytes()); // the L1 table's offset
    std::fs::write(&path, bytes).unwrap();
    let out = folder.path().join("out");
    let failure = validate(&request(path, &out), &Silent, &Cancel::default()).unwrap_err();
    assert!(failure.chain().join(": ").contains("node.qcow2"), "{failure:?}");
    assert!(!out.exists());
}

#[test]
fn the_kubeadm_tier_needs_to_know_the_version() {
    let folder = tempfile::tempdir().unwrap();
    let mut request = request(disk(folder.path(), "x", Then::Halt), &folder.path().join("out"));
    request.tier = Tier::Kubeadm;
    (request.machine.cpus, request.machine.memory) = (2, Bytes(2 << 30));
    let failure = validate(&request, &Silent, &Cancel::default()).unwrap_err();
    assert_eq!(failure.class(), Class::Input);
    let help = failure.help().unwrap_or_default();
    assert!(help.contains("manifest.json"), "{failure:?}");
}

#[test]
fn a_file_that_the_manifest_does_not_speak_of_is_refused_before_anything_boots() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut request = request(disk(folder.path(), "x", Then::Halt), &out);
    request.expected_digest = Some(Sha256::of("what was built"));
    let failure = validate(&request, &Silent, &Cancel::default()).unwrap_err();
    assert_eq!(failure.class(), Class::Input);
    assert!(
        failure.to_string().contains("not the file that the manifest speaks of"),
        "{failure:?}"
    );
    assert!(!out.join("console.log").exists());
}

#[test]
fn a_run_that_does_not_end_leaves_no_report_of_an_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    std::fs::create_dir_all(out.join("guest")).unwrap();
    for old in ["report.json", "report.txt", "junit.xml", "screen.ppm", "guest/journal.log"] {
        std::fs::write(out.join(old), "passed").unwrap();
    }
    let mut request = request(disk(folder.path(), "x", Then::Halt), &out);
    request.expected_digest = Some(Sha256::of("what was built"));
    validate(&request, &Silent, &Cancel::default()).unwrap_err();
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);
}

#[test]
fn a_second_run_into_the_same_folder_is_refused_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let request = request(disk(folder.path(), "waiting\n", Then::Halt), &out);
    let (first, cancel) = (request.clone(), Cancel::default());
    let flag = cancel.clone();
    let run = std::thread::spawn(move || validate(&first, &Silent, &cancel));
    let started = Instant::now();
    let speaks = || std::fs::read(out.join("console.log")).is_ok_and(|log| !log.is_empty());
    while !speaks() {
        assert!(started.elapsed() < Duration::from_secs(20), "the guest is silent");
        std::thread::sleep(Duration::from_millis(50));
    }
    let failure = validate(&request, &Silent, &Cancel::default()).unwrap_err();
    assert_eq!(failure.class(), Class::Input);
    assert!(failure.to_string().contains("another run"), "{failure:?}");
    assert!(speaks(), "the first run's console is still there");
    flag.cancel();
    assert_eq!(run.join().unwrap().unwrap_err().class(), Class::Interrupted);
}

#[test]
fn the_kubeadm_tier_refuses_a_machine_that_kubeadm_would_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let mut request = request(disk(folder.path(), "x", Then::Halt), &folder.path().join("out"));
    request.tier = Tier::Kubeadm;
    let kubernetes = Some("1.20.2".parse().unwrap());
    request.expect = Some(Expectations { kubernetes, ..Expectations::default() });
    let failure = validate(&request, &Silent, &Cancel::default()).unwrap_err();
    assert_eq!(failure.class(), Class::Input);
    assert!(failure.to_string().contains("too small"), "{failure:?}");
}

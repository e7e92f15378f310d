//! What happens to QEMU when the process that started it is killed.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nodekiln_validate::validate;
use nodekiln_words::{Cancel, Class, Silent};

use crate::small_guests::{Then, disk, request};

/// The second life of this test binary: validates until somebody kills it.
#[test]
#[ignore = "the victim of the test below, which starts it"]
fn victim() {
    let folder = std::path::PathBuf::from(std::env::var_os("NODEKILN_VICTIM").unwrap());
    let request = request(disk(&folder, "waiting\n", Then::Halt), &folder.join("out"));
    let report = validate(&request, &Silent, &Cancel::default());
    panic!("nobody killed the victim: {report:?}");
}

/// Process ids of the QEMUs whose command line names `marker`.
fn qemus(marker: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.starts_with(b"/") && String::from_utf8_lossy(&line).contains(marker) {
            found.push(id);
        }
    }
    found
}

#[test]
fn kill_9_of_the_run_takes_qemu_along() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("out/console.log").display().to_string();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "processes::victim"])
        .env("NODEKILN_VICTIM", folder.path())
        .env("TMPDIR", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("QEMU starts", || !qemus(&marker).is_empty());
    until("the guest speaks", || {
        std::fs::read(folder.path().join("out/console.log")).is_ok_and(|log| !log.is_empty())
    });
    victim.kill().unwrap();
    victim.wait().unwrap();
    until("QEMU is gone", || qemus(&marker).is_empty());
    // The folder is free again, and the next run sweeps what this one left.
    let out = folder.path().join("out");
    let overlays = || {
        let entries = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name());
        entries.filter(|name| name.to_string_lossy().starts_with(".overlay-")).count()
    };
    assert_eq!(overlays(), 1);
    let next = disk(folder.path(), "Kernel panic - not syncing: x\n", Then::Halt);
    validate(&request(next, &out), &Silent, &Cancel::default()).unwrap();
    assert_eq!(overlays(), 0);
}

#[test]
fn a_qemu_that_is_killed_ends_the_run_without_a_word_on_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let request = request(disk(folder.path(), "waiting\n", Then::Halt), &out);
    let marker = out.join("console.log").display().to_string();
    let run = std::thread::spawn(move || validate(&request, &Silent, &Cancel::default()));
    until("the guest speaks", || std::fs::read(&marker).is_ok_and(|log| !log.is_empty()));
    for id in qemus(&marker) {
        Command::new("kill").args(["-9", &id.to_string()]).status().unwrap();
    }
    let failure = run.join().unwrap().unwrap_err();
    assert!(failure.help().is_some(), "{failure:?}");
    assert_eq!(failure.class(), Class::Io, "{failure:?}");
    assert!(!out.join("report.json").exists());
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

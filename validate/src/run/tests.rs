//! Ends of a guest, and of what it runs on.

use std::os::unix::process::ExitStatusExt as _;

use super::*;
use crate::console::Gravity;

#[test]
fn only_a_guest_that_switched_itself_off_without_a_fault_went_off() {
    let (fine, killed) = (ExitStatus::from_raw(0), ExitStatus::from_raw(9));
    let panic = Finding {
        pattern: "kernel-panic".into(),
        gravity: Gravity::Fatal,
        offset: 0,
        line: "Kernel panic - not syncing: on the way down".into(),
    };
    assert!(went_off(fine, Some("guest-shutdown"), None).is_ok());
    assert!(went_off(fine, None, None).is_ok());
    let text = |result: Result<()>| result.unwrap_err().to_string();
    assert!(text(went_off(killed, None, None)).contains("signal: 9"));
    assert!(text(went_off(fine, Some("guest-reset"), None)).contains("guest-reset"));
    assert!(text(went_off(fine, Some("guest-shutdown"), Some(&panic))).contains("way down"));
}

/// A machine with an empty disk: it does nothing, for as long as it is let.
fn idle<T>(test: impl FnOnce(&Running) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let (image, overlay) = (folder.path().join("node.raw"), folder.path().join("root.qcow2"));
    fs_err::File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let backing = nodekiln_disk::qcow2::Backing::Raw(image);
    nodekiln_disk::qcow2::write_overlay(&overlay, &backing, 1 << 20).unwrap();
    let cancel = Cancel::default();
    let machine =
        Machine { memory: nodekiln_words::Bytes(64 << 20), cpus: 1, ..Machine::default() };
    let chosen = crate::accelerator::choose(crate::Accelerator::Tcg, &cancel).unwrap();
    let boot = Boot {
        place: Place::FIRST,
        power_on: PowerOn::First,
        begun: None,
        machine: &machine,
        deadlines: Deadlines::new(chosen.engine, 1),
        chosen: &chosen,
        frames: Some(folder.path().join("frames.pcap")),
        out: folder.path(),
        services: false,
        link: None,
        beside: None,
        kernel: None,
        progress: &nodekiln_words::Silent,
        cancel: &cancel,
    };
    let running =
        Running::power_on(&boot, &Disks { overlay, seed: None, cd: None, kit: None, uefi: None })
            .unwrap();
    test(&running)
}

fn kill(running: &Running) {
    let id = rustix::process::Pid::from_raw(running.process().try_into().unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
    running.qemu.wait(Duration::from_secs(10)).unwrap().unwrap();
}

#[test]
fn a_guest_that_the_host_stopped_is_no_failure_of_the_image() {
    idle(|running| {
        running.host().unwrap();
        running.check().unwrap();
        running.qmp.borrow_mut().execute("stop", &serde_json::json!({})).unwrap();
        let failure = running.host().unwrap_err().failure;
        assert!(failure.to_string().contains("`paused`"), "{failure:?}");
        std::thread::sleep(LOOK + TICK);
        let failure = running.check().unwrap_err(); // as every wait does
        assert!(failure.class() == Class::Io && failure.help().is_some(), "{failure:?}");
    });
}

#[test]
fn a_qemu_that_was_killed_is_no_failure_of_the_image_nor_a_clean_end() {
    idle(|running| {
        kill(running);
        let broken = running.host().unwrap_err();
        assert!(broken.engine && broken.failure.to_string().contains("signal: 9"));
        assert_eq!(running.check().unwrap_err().class(), Class::Io);
        assert!(running.power_off().is_err());
    });
}

#[test]
fn a_qemu_that_is_killed_while_the_guest_powers_off_has_not_ended_well() {
    idle(|running| {
        let id = running.process().to_string();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(1));
            std::process::Command::new("kill").args(["-9", &id]).status()
        });
        let failure = running.power_off().unwrap_err();
        assert!(failure.to_string().contains("signal: 9"), "{failure:?}");
        killer.join().unwrap().unwrap();
    });
}

#[test]
fn a_guest_that_panics_while_it_powers_off_is_not_waited_for() {
    idle(|running| {
        let console = console_path(running.screen.parent().unwrap());
        fs_err::write(console, "Kernel panic - not syncing: on the way down\n").unwrap();
        let failure = running.power_off().unwrap_err();
        assert!(failure.to_string().contains("way down"), "{failure:?}");
    });
}

//! A machine whose power is cut, and two machines of one image at once, with guests of a few bytes.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nodekiln_disk::gpt::Table;
use nodekiln_providers::{DiskBus, MachineProfile};
use nodekiln_validate::Machine;
use nodekiln_validate::accelerator::{self, Accelerator};
use nodekiln_validate::artifact;
use nodekiln_validate::deadlines::Deadlines;
use nodekiln_validate::place::Place;
use nodekiln_validate::power_on::PowerOn;
use nodekiln_validate::qemu::{Disks, Held};
use nodekiln_validate::run::{Boot, Running};
use nodekiln_words::{Bytes, Cancel, Silent};
use uuid::Uuid;

/// Where the words of the boot sector lie in it: on the first start, and where the disk was written before.
const FIRST: (usize, &[u8]) = (0xa0, b"new disk\n");
const AGAIN: (usize, &[u8]) = (0xb0, b"written disk\n");

/// A disk of 2 MiB whose boot sector looks whether sector 2048 was written, writes it if not, has the disk flush
/// it if `flushes`, says on COM1 what it found, and halts.
fn disk(folder: &Path, flushes: bool) -> PathBuf {
    let mut code = vec![
        0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c,
        0xfb, // segments and stack
        0xbe, 0x90, 0x7c, 0xb4, 0x42, 0xb2, 0x80, 0xcd, 0x13, // read the sector
        0x80, 0x3e, 0x00, 0x80, 0x41, 0x74,
        0x23, // does it begin with an A? then go to "again"
        0xc6, 0x06, 0x00, 0x80, 0x41, // put an A there
        0xbe, 0x90, 0x7c, 0xb8, 0x00, 0x43, 0xb2, 0x80, 0xcd, 0x13, // write it
        0xba, 0xf6, 0x01, 0xb0, 0xe0, 0xee, 0x42, 0xb0, 0xe7, 0xee, // ATA: FLUSH CACHE
        0xec, 0xa8, 0x80, 0x75, 0xfb, // until it is no longer busy
        0xbe, 0xa0, 0x7c, 0xeb, 0x03, // si = the first words; go to "print"
        0xbe, 0xb0, 0x7c, // again: si = the other words
        0xba, 0xf8, 0x03, // print: dx = COM1
        0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, // each byte until a zero
        0xf4, 0xeb, 0xfd, // hlt, for ever
    ];
    if !flushes {
        code[0x2a..0x2c].copy_from_slice(&[0xeb, 0x0d]); // jump over the flush
    }
    code.resize(0x90, 0);
    let address = [0x10, 0, 1, 0, 0x00, 0x80, 0, 0, 0x00, 0x08, 0, 0, 0, 0, 0, 0]; // one sector, 2048, to 0x8000
    code.extend(address);
    for (place, words) in [FIRST, AGAIN] {
        code.resize(place, 0);
        code.extend(words);
        code.push(0);
    }
    let (table, size) = (Table { disk: Uuid::from_u128(1), entries: Vec::new() }, 2 << 20);
    let ends = table.encode(size / 512, &code).unwrap();
    let path = folder.join("node.raw");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(&ends.head, 0).unwrap();
    file.write_all_at(&ends.tail, size - ends.tail.len() as u64).unwrap();
    path
}

/// Machines with a disk behind parallel ATA, in a folder that keeps their consoles.
struct Bench {
    folder: tempfile::TempDir,
    image: PathBuf,
    machine: Machine,
    chosen: accelerator::Chosen,
    cancel: Cancel,
}

impl Bench {
    fn new(flushes: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = disk(folder.path(), flushes);
        Self::at(folder, image)
    }

    fn at(folder: tempfile::TempDir, image: PathBuf) -> Self {
        let cancel = Cancel::default();
        let profile = MachineProfile { disk: DiskBus::Ide, ..MachineProfile::virtio() };
        let machine = Machine { profile, memory: Bytes(64 << 20), cpus: 1, ..Machine::default() };
        let chosen = accelerator::choose(Accelerator::Tcg, &cancel).unwrap();
        Self { folder, image, machine, chosen, cancel }
    }

    fn held(&self, name: &str) -> Held {
        let artifact = artifact::identify(&self.image).unwrap();
        let opened = artifact.open(self.folder.path(), &Silent, &self.cancel).unwrap();
        let overlay = self.folder.path().join(name);
        opened.overlay(&overlay).unwrap();
        Held::of(Disks { overlay, seed: None, cd: None, kit: None, uefi: None }).unwrap()
    }

    fn power_on<'a>(&'a self, power_on: PowerOn, place: Place, held: &Held) -> Running<'a> {
        let boot = Boot {
            power_on,
            begun: None,
            place,
            machine: &self.machine,
            chosen: &self.chosen,
            deadlines: Deadlines::new(self.chosen.engine, 1),
            out: self.folder.path(),
            services: false,
            link: None,
            beside: None,
            frames: None,
            kernel: None,
            progress: &Silent,
            cancel: &self.cancel,
        };
        Running::power_on(&boot, held.disks()).unwrap()
    }

    /// What the guest of this power-on says, once it has said a line.
    fn said(&self, power_on: PowerOn) -> Vec<u8> {
        let console = self.folder.path().join(power_on.file("console.log"));
        let started = Instant::now();
        loop {
            let said = std::fs::read(&console).unwrap_or_default();
            if said.ends_with(b"\n") {
                return said;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "the guest is silent");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn what_a_guest_had_flushed_outlives_a_power_cut_and_the_rest_is_lost() {
    for (flushes, found) in [(true, AGAIN.1), (false, FIRST.1)] {
        let bench = Bench::new(flushes);
        let held = bench.held("root.qcow2");
        let running = bench.power_on(PowerOn::First, Place::FIRST, &held);
        assert!(bench.said(PowerOn::First).ends_with(FIRST.1));
        running.cut().unwrap();
        assert!(!Path::new(&format!("/proc/{}", running.process())).exists(), "QEMU is gone");
        let again = bench.power_on(PowerOn::AfterCut, Place::FIRST, &held);
        assert!(bench.said(PowerOn::AfterCut).ends_with(found), "flushes: {flushes}");
        again.host().unwrap();
        assert!(running.laps().iter().any(|lap| lap.stage.as_str() == "power-cut"));
    }
}

#[test]
fn two_machines_of_one_image_run_at_once_and_neither_writes_to_the_others_disk() {
    let bench = Bench::new(true);
    let (one, other) = (bench.held("one.qcow2"), bench.held("other.qcow2"));
    let first = bench.power_on(PowerOn::First, Place::FIRST, &one);
    assert!(bench.said(PowerOn::First).ends_with(FIRST.1));
    let clone = bench.power_on(PowerOn::Clone, Place::CLONE, &other);
    assert!(bench.said(PowerOn::Clone).ends_with(FIRST.1), "the clone's disk is new");
    first.host().unwrap();
    clone.host().unwrap();
    assert_ne!((first.process(), first.port()), (clone.process(), clone.port()));
    bench.cancel.cancel();
    let started = Instant::now();
    for running in [&first, &clone] {
        while Path::new(&format!("/proc/{}/exe", running.process())).read_link().is_ok() {
            assert!(started.elapsed() < Duration::from_secs(5), "a guest outlives the run");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The second life of this test binary: runs two machines, each on a thread of its own as `validate` does, until
/// somebody kills it.
#[test]
#[ignore = "the victim of the test below, which starts it"]
fn victim_with_two() {
    let folder = PathBuf::from(std::env::var_os("NODEKILN_VICTIM").unwrap());
    let image = disk(&folder, true);
    let bench = Bench::at(tempfile::tempdir_in(&folder).unwrap(), image);
    std::thread::scope(|scope| {
        for (power_on, place) in [(PowerOn::First, Place::FIRST), (PowerOn::Clone, Place::CLONE)] {
            let bench = &bench;
            scope.spawn(move || {
                let held = bench.held(&power_on.file("root.qcow2"));
                let running = bench.power_on(power_on, place, &held);
                bench.said(power_on);
                let seen = folder_of(bench).join(power_on.as_str());
                std::fs::write(seen, running.process().to_string()).unwrap();
                std::thread::sleep(Duration::from_secs(600));
            });
        }
    });
}

/// The folder in which the test below looks.
fn folder_of(bench: &Bench) -> &Path {
    bench.folder.path().parent().unwrap()
}

#[test]
fn kill_9_of_the_run_takes_both_machines_along() {
    let folder = tempfile::tempdir().unwrap();
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "power_ons::victim_with_two"])
        .env("NODEKILN_VICTIM", folder.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !done() {
            assert!(started.elapsed() < Duration::from_secs(40), "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let process = |power_on: PowerOn| {
        std::fs::read_to_string(folder.path().join(power_on.as_str())).unwrap_or_default()
    };
    let both = [PowerOn::First, PowerOn::Clone];
    wait("both speak", &|| both.iter().all(|one| !process(*one).is_empty()));
    let processes = both.map(process);
    let alive = |id: &String| Path::new(&format!("/proc/{id}/exe")).read_link().is_ok();
    assert!(processes.iter().all(alive));
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait("both are gone", &|| !processes.iter().any(alive));
}

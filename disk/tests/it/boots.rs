//! Disks with Debian's GRUB booted by SeaBIOS and by OVMF as far as their own configuration.
//!
//! GRUB is taken from the packages grub-common, grub-pc-bin, grub-efi-amd64-signed, shim-signed and
//! shim-helpers-amd64-signed, installed or unpacked into the folder `NODEKILN_GRUB_ROOT`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nodekiln_disk::grub::{
    Menu, SignedLoader, core_image_arguments, environment_block, esp_files, grub_cfg,
};
use nodekiln_disk::qcow2::{self, Compression, Options};
use nodekiln_disk::{
    BiosBoot, BootMode, Disk, Ids, Layout, Parts, Role, assemble, esp, ext4, gpt, open,
};
use nodekiln_words::{Bytes, Cancel, Silent, SourceDate};
use uuid::Uuid;

use crate::tools::{qemu_img, succeed};

const MARKER: &str = "root-configuration-read";
const DEADLINE: Duration = Duration::from_secs(180);

fn grub_root() -> PathBuf {
    std::env::var_os("NODEKILN_GRUB_ROOT").map_or_else(|| "/".into(), PathBuf::from)
}

fn read(path: &str, package: &str) -> Vec<u8> {
    let path = grub_root().join(path);
    match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => panic!("{}: {error}; install Debian's {package}", path.display()),
    }
}

fn source_date() -> SourceDate {
    SourceDate::from_unix(1_793_491_200).unwrap()
}

/// GRUB for BIOS, with the core image made for the layout's root partition.
fn bios(layout: &Layout, folder: &Path) -> BiosBoot {
    let output = folder.join("core.img");
    let modules = grub_root().join("usr/lib/grub/i386-pc");
    let arguments = core_image_arguments(&modules, layout.root().unwrap().number, &output);
    let program = grub_root().join("usr/bin/grub-mkimage");
    succeed(&program.to_string_lossy(), "grub-common", arguments);
    BiosBoot {
        boot_image: read("usr/lib/grub/i386-pc/boot.img", "grub-pc-bin"),
        core_image: std::fs::read(output).unwrap(),
    }
}

fn system_partition(layout: &Layout, ids: &Ids) -> Vec<u8> {
    let loader = SignedLoader {
        shim: read("usr/lib/shim/shimx64.efi.signed", "shim-signed"),
        grub: read("usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "grub-efi-amd64-signed"),
        mok_manager: read("usr/lib/shim/mmx64.efi.signed", "shim-helpers-amd64-signed"),
    };
    let files = esp_files(loader, ids.root).unwrap();
    let size = layout.find(Role::Esp).unwrap().length;
    esp::build(&files, size, ids.fat_serial, source_date()).unwrap()
}

/// A root file system whose boot menu says that it was read, in place of its entries.
fn root(layout: &Layout, ids: &Ids, folder: &Path) -> File {
    let menu = Menu {
        title: "Test".to_owned(),
        kernels: vec!["6.1".to_owned()],
        root: ids.root,
        arguments: Vec::new(),
        serial: Some(0),
        timeout: 0,
    };
    let text = grub_cfg(&menu).unwrap();
    let (head, _entries) = text.split_once("menuentry").unwrap();
    let grub = folder.join("tree/boot/grub");
    std::fs::create_dir_all(&grub).unwrap();
    std::fs::write(grub.join("grub.cfg"), format!("{head}echo {MARKER}\nhalt\n")).unwrap();
    std::fs::write(grub.join("grubenv"), environment_block()).unwrap();
    let image = folder.join("root.img");
    let tree = folder.join("tree");
    let size = layout.root().unwrap().length;
    let request =
        ext4::Request { image: &image, offset: 0, size, tree: Some(&tree), label: "root", ids };
    let arguments = ext4::mke2fs_arguments(&request).unwrap();
    succeed("mke2fs", "e2fsprogs", arguments);
    File::open(image).unwrap()
}

/// Ends the machine with the test.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots `disk` and returns its console up to the marker.
fn console(disk: &Path, firmware: &[String]) -> String {
    let drive = format!("file={},format=qcow2,if=virtio,snapshot=on", disk.display());
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-machine", "q35,accel=tcg", "-m", "256", "-nodefaults", "-display", "none"]);
    command.args(["-serial", "stdio", "-no-reboot", "-drive", &drive]).args(firmware);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command.spawn().expect("qemu-system-x86_64 is in Debian's qemu-system-x86");
    let mut machine = Machine(child);
    let output = machine.0.stdout.take().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let mut lines = BufReader::new(output);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            text.push_str(&String::from_utf8_lossy(&line));
            line.clear();
            if text.contains(MARKER) {
                break;
            }
        }
        let _ = sender.send(text);
    });
    let text = receiver.recv_timeout(DEADLINE);
    drop(machine);
    text.unwrap_or_else(|_| "deadline passed".to_owned())
}

/// OVMF as flash, with a fresh copy of its variables.
fn ovmf(folder: &Path) -> Vec<String> {
    let variables = folder.join("vars.fd");
    let code = "/usr/share/OVMF/OVMF_CODE_4M.fd";
    std::fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &variables).expect("Debian's ovmf");
    let code = format!("if=pflash,format=raw,unit=0,readonly=on,file={code}");
    let variables = format!("if=pflash,format=raw,unit=1,file={}", variables.display());
    ["-drive".to_owned(), code, "-drive".to_owned(), variables].into()
}

fn bootable(boot: BootMode, folder: &Path) -> Disk {
    let layout = Layout::plan(Bytes(256 << 20), boot).unwrap();
    let ids = Ids::derive(Uuid::from_u128(99));
    let parts = Parts {
        bios: boot.bios().then(|| bios(&layout, folder)),
        esp: boot.uefi().then(|| system_partition(&layout, &ids)),
        root: root(&layout, &ids, folder).into(),
        root_offset: 0,
        layout,
        ids,
    };
    assemble(parts).unwrap()
}

#[test]
#[ignore = "boots machines with Debian's GRUB packages; run by ci/test"]
fn one_disk_boots_by_bios_and_by_uefi_and_is_not_changed_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let disk = bootable(BootMode::Hybrid, folder.path());
    assert_eq!(gpt::problems(&disk).unwrap(), Vec::<String>::new());
    let path = folder.path().join("disk.qcow2");
    let options = Options { compression: Compression::zlib() };
    qcow2::write(&disk, &path, options, &Silent, &Cancel::default()).unwrap();
    qemu_img(&["check", "-f", "qcow2"], &[&path]);
    let before = open(&path).unwrap().payload_digest(&Silent, &Cancel::default()).unwrap();
    for firmware in [Vec::new(), ovmf(folder.path())] {
        let console = console(&path, &firmware);
        assert!(console.contains(MARKER), "{firmware:?}: {console}");
    }
    let after = open(&path).unwrap().payload_digest(&Silent, &Cancel::default()).unwrap();
    assert_eq!(before, after);
}

#[test]
#[ignore = "boots machines with Debian's GRUB packages; run by ci/test"]
fn a_disk_for_one_firmware_boots_by_that_firmware() {
    let options = Options { compression: Compression::None };
    for (boot, uefi) in [(BootMode::Bios, false), (BootMode::Uefi, true)] {
        let folder = tempfile::tempdir().unwrap();
        let disk = bootable(boot, folder.path());
        let path = folder.path().join("disk.qcow2");
        qcow2::write(&disk, &path, options, &Silent, &Cancel::default()).unwrap();
        let firmware = if uefi { ovmf(folder.path()) } else { Vec::new() };
        let console = console(&path, &firmware);
        assert!(console.contains(MARKER), "{boot:?}: {console}");
    }
}

//! The argument vector of QEMU for one machine: a pure function, reviewed as a golden file.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use nodekiln_providers::{DiskBus, Firmware, NetworkCard};

use crate::accelerator::Engine;
use crate::conformance;
use crate::machine::Machine;
use crate::place::Place;
use crate::traffic::SNAP_LENGTH;

/// The block devices of one run.
#[derive(Clone, Debug)]
pub struct Disks {
    /// Overlay over the artifact, qcow2.
    pub overlay: PathBuf,
    /// NoCloud seed, raw; attached read-only.
    pub seed: Option<PathBuf>,
    /// The medium of the guest's cloud, ISO 9660; attached as a CD.
    pub cd: Option<PathBuf>,
    /// The kit of node conformance, a tar; attached read-only as a disk.
    pub kit: Option<PathBuf>,
    /// UEFI code and this run's own variable store.
    pub uefi: Option<(PathBuf, PathBuf)>,
}

/// Where QEMU's ends of the wires are.
#[derive(Clone, Debug)]
pub struct Wires {
    /// Which machine of the run it is.
    pub place: Place,
    /// Unix socket that QEMU listens on for QMP.
    pub qmp: PathBuf,
    /// File that receives all that the guest writes to its first serial port.
    pub console: PathBuf,
    /// File that receives each frame that passes the guest's card, as libpcap writes them, where they are kept.
    pub frames: Option<PathBuf>,
    /// TCP port on 127.0.0.1 that reaches the guest's port 22.
    pub ssh_port: u16,
    /// Whether QEMU runs in a network that holds the services of the guest's cloud and leads nowhere else.
    pub services: bool,
    /// The machine's end of a wire to another machine of the run, a stream socket: QEMU has it as its standard input,
    /// and the guest as a second card.
    pub link: Option<Arc<OwnedFd>>,
}

/// A guest's kernel, started without a boot loader; for experiments and tests only.
#[derive(Clone, Debug)]
pub struct DirectKernel {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: PathBuf,
    /// The command line.
    pub arguments: String,
}

/// Everything that decides QEMU's command line.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// What runs its processors.
    pub engine: Engine,
    /// Its disks.
    pub disks: &'a Disks,
    /// Its wires.
    pub wires: &'a Wires,
    /// A kernel that replaces the disk's boot loader.
    pub kernel: Option<&'a DirectKernel>,
}

/// The argument vector, without the program's name.
#[must_use]
pub fn arguments(setup: &Setup) -> Vec<OsString> {
    let mut line = Line::default();
    base(&mut line, setup);
    firmware(&mut line, setup.disks);
    identity(&mut line, setup.machine);
    root_disk(&mut line, setup);
    seed_disk(&mut line, setup.disks);
    cd(&mut line, setup);
    kit(&mut line, setup.disks);
    network(&mut line, setup);
    link(&mut line, setup);
    wires(&mut line, setup.wires);
    if let Some(direct) = setup.kernel {
        line.path("-kernel", "", &direct.kernel);
        line.path("-initrd", "", &direct.initrd);
        line.pair("-append", &direct.arguments);
    }
    line.0
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }

    fn pair(&mut self, flag: &str, value: &str) {
        self.0.push(flag.into());
        self.0.push(value.into());
    }

    /// `value` ends in `key=`, to which the path is added with each comma doubled, as QEMU's option
    /// parser wants it.
    fn path(&mut self, flag: &str, value: &str, path: &std::path::Path) {
        use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
        let mut bytes = value.as_bytes().to_vec();
        for byte in path.as_os_str().as_bytes() {
            bytes.push(*byte);
            if *byte == b',' && !value.is_empty() {
                bytes.push(b',');
            }
        }
        self.0.push(flag.into());
        self.0.push(OsString::from_vec(bytes));
    }
}

fn base(line: &mut Line, setup: &Setup) {
    let machine = setup.machine;
    line.flag("-nodefaults");
    line.flag("-no-user-config");
    line.pair("-machine", board(setup.machine.disk()));
    line.pair("-accel", setup.engine.argument());
    line.pair("-cpu", setup.engine.cpu());
    line.pair("-smp", &machine.cpus.to_string());
    line.pair("-m", &format!("{}k", machine.memory.get() / 1024));
    line.pair("-display", "none");
    line.pair("-vga", "std"); // a screen to dump: boot loaders fail before the serial port works
    line.pair("-rtc", "base=utc");
    line.pair("-object", "rng-random,id=rng0,filename=/dev/urandom");
    line.pair("-device", "virtio-rng-pci,rng=rng0");
    line.flag("-no-reboot"); // a guest that resets itself has failed, unless it was told to
}

/// UEFI code is shared and read-only, the variable store is this run's own.
fn firmware(line: &mut Line, disks: &Disks) {
    if let Some((code, variables)) = &disks.uefi {
        line.path("-drive", "if=pflash,unit=0,format=raw,readonly=on,file=", code);
        line.path("-drive", "if=pflash,unit=1,format=raw,file=", variables);
    }
}

/// The main board: Parallel ATA is there on the older one alone.
fn board(disk: DiskBus) -> &'static str {
    match disk {
        DiskBus::Ide => "pc",
        _ => "q35",
    }
}

/// The machine's UUID and SMBIOS strings; where a profile says nothing, QEMU keeps its own.
fn identity(line: &mut Line, machine: &Machine) {
    let smbios = &machine.profile.smbios;
    if let Some(uuid) = smbios.uuid_of(machine.seed) {
        line.pair("-uuid", &uuid.to_string());
    }
    for (kind, fields) in smbios.fields(machine.seed) {
        if !fields.is_empty() {
            let field =
                |(key, text): &(&str, String)| format!(",{key}={}", text.replace(',', ",,"));
            let fields: String = fields.iter().map(field).collect();
            line.pair("-smbios", &format!("type={kind}{fields}"));
        }
    }
}

/// When the host cannot read or write the overlay QEMU stops the guest, which the run notices: told of
/// it, the guest would fail, and look as if the image were at fault.
const ON_ERROR: &str = "werror=stop,rerror=stop";

/// The disk and, where it does not sit on the board's own, its controller.
fn root_disk(line: &mut Line, setup: &Setup) {
    let file = "driver=qcow2,node-name=root,discard=unmap,cache.direct=off,cache.no-flush=on,file.driver=file,file.filename=";
    line.path("-blockdev", file, &setup.disks.overlay);
    let Machine { profile, seed, .. } = setup.machine;
    let serial = match profile.smbios.fill(&profile.disk_serial, *seed) {
        serial if serial.is_empty() => serial,
        serial => format!(",serial={}", serial.replace(',', ",,")),
    };
    let scsi = |line: &mut Line, controller: &str| {
        line.pair("-device", &format!("{controller},id=scsi0"));
        format!("scsi-hd,bus=scsi0.0,drive=root{serial},bootindex=1,{ON_ERROR}")
    };
    let device = match setup.machine.disk() {
        DiskBus::VirtioBlk => format!("virtio-blk-pci,drive=root{serial},bootindex=1,{ON_ERROR}"),
        DiskBus::VirtioScsi => scsi(line, "virtio-scsi-pci"),
        DiskBus::Pvscsi => scsi(line, "pvscsi"),
        // It has no policy for errors, and must have a serial number.
        DiskBus::Nvme => {
            let serial = if serial.is_empty() { ",serial=root" } else { &serial };
            format!("nvme,drive=root{serial},bootindex=1")
        }
        // On either board, the controller's first bus.
        DiskBus::Ide | DiskBus::Ahci => {
            format!("ide-hd,bus=ide.0,drive=root{serial},bootindex=1,{ON_ERROR}")
        }
    };
    line.pair("-device", &device);
}

/// The seed is a virtio disk on every profile: NoCloud looks at any disk by its label.
fn seed_disk(line: &mut Line, disks: &Disks) {
    if let Some(seed) = &disks.seed {
        line.path(
            "-blockdev",
            "driver=raw,node-name=seed,read-only=on,file.driver=file,file.filename=",
            seed,
        );
        line.pair("-device", "virtio-blk-pci,drive=seed,serial=nodekiln-seed");
    }
}

/// A CD where datasources look for one, at `/dev/sr0`: on the controller of the boot disk where that takes
/// CDs, as in the clouds, since kernels made for clouds have drivers for few others.
fn cd(line: &mut Line, setup: &Setup) {
    let Some(cd) = &setup.disks.cd else { return };
    let file = "driver=raw,node-name=medium,read-only=on,file.driver=file,file.filename=";
    line.path("-blockdev", file, cd);
    let device = match setup.machine.disk() {
        DiskBus::VirtioScsi | DiskBus::Pvscsi => "scsi-cd,bus=scsi0.0,drive=medium",
        DiskBus::Ide | DiskBus::Ahci => "ide-cd,bus=ide.1,drive=medium",
        DiskBus::VirtioBlk | DiskBus::Nvme => {
            line.pair("-device", "virtio-scsi-pci,id=scsi1");
            "scsi-cd,bus=scsi1.0,drive=medium"
        }
    };
    line.pair("-device", device);
}

/// A kit is a virtio disk on every profile, found by its serial number.
fn kit(line: &mut Line, disks: &Disks) {
    if let Some(kit) = &disks.kit {
        let file = "driver=raw,node-name=kit,read-only=on,file.driver=file,file.filename=";
        line.path("-blockdev", file, kit);
        line.pair("-device", &format!("virtio-blk-pci,drive=kit,serial={}", conformance::SERIAL));
    }
}

/// QEMU's user-mode network with no way out: `restrict=on` drops all that the guest sends
/// elsewhere, and only the forwarded port leads in. Where the cloud's services are in QEMU's own network the
/// guest has to get there, and there is nothing else to be reached.
/// QEMU's name for the model of the machine's cards.
fn card(setup: &Setup) -> &'static str {
    match setup.machine.profile.network {
        NetworkCard::VirtioNet => "virtio-net-pci",
        NetworkCard::E1000e => "e1000e",
        NetworkCard::Vmxnet3 => "vmxnet3",
    }
}

/// Behind all other devices, so that their places on the bus, by which a guest names them, stay.
fn link(line: &mut Line, setup: &Setup) {
    if setup.wires.link.is_some() {
        let mac = setup.wires.place.second_mac();
        line.pair("-netdev", "socket,id=net1,fd=0");
        line.pair("-device", &format!("{},netdev=net1,mac={mac},romfile=", card(setup)));
    }
}

fn network(line: &mut Line, setup: &Setup) {
    let Wires { place, ssh_port: port, .. } = setup.wires;
    let own = place.network().map(|network| format!("net={network},")).unwrap_or_default();
    let mac = place.mac();
    let restrict = if setup.wires.services { "" } else { "restrict=on," };
    let device = card(setup);
    line.pair(
        "-netdev",
        &format!("user,id=net0,{own}{restrict}ipv6=off,hostfwd=tcp:127.0.0.1:{port}-:22"),
    );
    line.pair("-device", &format!("{device},netdev=net0,mac={mac},romfile="));
    if let Some(frames) = &setup.wires.frames {
        let dump = format!("filter-dump,id=frames,netdev=net0,maxlen={SNAP_LENGTH},file=");
        line.path("-object", &dump, frames);
    }
}

fn wires(line: &mut Line, wires: &Wires) {
    line.path("-chardev", "file,id=console,path=", &wires.console);
    line.pair("-serial", "chardev:console");
    line.path("-chardev", "socket,id=qmp,server=on,wait=off,path=", &wires.qmp);
    line.pair("-mon", "chardev=qmp,mode=control");
}

/// Whether `machine` needs firmware that is not QEMU's own.
#[must_use]
pub fn needs_ovmf(machine: &Machine) -> bool {
    machine.firmware == Firmware::Uefi
}

#[cfg(test)]
mod tests;

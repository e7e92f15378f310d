//! Drivers without which a machine of the provider finds neither its disk nor its network.

use std::collections::BTreeSet;

use nodekiln_providers::DiskBus;
use nodekiln_words::Result;

use super::kernels::Kernels;
use super::{Said, Subject};
use crate::Machine;
use crate::Tier;
use crate::rules::{Applies, Judge, Rule, Severity, Verdict};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "boot-drivers",
        title: "The initial RAM disk has the disk controller's driver",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/boot/initrd.img-*", "/lib/modules/*/modules.dep"],
        why: "without the driver of its controller the kernel waits for a root file system in vain",
        remedy: "name the driver under `initramfs.modules`, and make the initial RAM disk again",
        source: "the provider's machine; modules.builtin(5), modules.dep(5), initramfs(5)",
        applies: Applies::ALL,
        stops_boot: true,
        judge: Judge::Image(boot_drivers),
    },
    Rule {
        id: "network-drivers",
        title: "The kernel has the network card's driver",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/lib/modules/*/modules.dep"],
        why: "without the driver of its card a node reaches neither metadata nor cluster",
        remedy: "take a kernel package that has the driver; Debian's cloud kernel leaves some out",
        source: "the provider's machine; modules.builtin(5), modules.dep(5)",
        applies: Applies::ALL,
        stops_boot: true,
        judge: Judge::Image(network_drivers),
    },
];

/// The drivers of `machine` that are looked for in its kernels.
pub(super) fn wanted(machine: &Machine) -> BTreeSet<&str> {
    let profile = &machine.profile;
    let own = profile.boot_drivers.iter().chain(&profile.network_drivers).map(String::as_str);
    own.chain(of_bus(machine.disk()).iter().copied()).collect()
}

/// Without these the image finds no disk in its cloud. A provider that names none has the controllers that QEMU
/// has.
fn of_cloud(machine: &Machine) -> BTreeSet<&str> {
    let own: BTreeSet<&str> = machine.profile.boot_drivers.iter().map(String::as_str).collect();
    if own.is_empty() { of_bus(machine.disk()).iter().copied().collect() } else { own }
}

/// Drivers of the controller that QEMU gives this run's machine.
fn of_bus(bus: DiskBus) -> &'static [&'static str] {
    match bus {
        DiskBus::VirtioBlk => &["virtio_pci", "virtio_blk"],
        DiskBus::VirtioScsi => &["virtio_pci", "virtio_scsi", "sd_mod"],
        DiskBus::Nvme => &["nvme"],
        DiskBus::Pvscsi => &["vmw_pvscsi", "sd_mod"],
        DiskBus::Ide => &["ata_piix", "sd_mod"],
        DiskBus::Ahci => &["ahci", "sd_mod"],
    }
}

fn boot_drivers(subject: &Subject) -> Result<Said> {
    let root = match subject.root()? {
        Ok(root) => root,
        Err(verdict) => return Ok(verdict.into()),
    };
    let kernels = subject.kernels(root)?;
    let (own, here) = (of_cloud(subject.machine), of_bus(subject.machine.disk()));
    let (mut found, mut strange) = (Found::of(kernels), Vec::new());
    for kernel in &kernels.known {
        let early = kernel.early(&subject.systems, subject.cancel)?;
        let lacks = |driver: &&str| match &early {
            Some(early) => kernel.lacks_early(driver, early),
            None => kernel.lacks_early(driver, &BTreeSet::new()),
        };
        let lacking: Vec<String> = own.iter().filter_map(lacks).collect();
        let lacking_here: Vec<String> = here.iter().filter_map(lacks).collect();
        let version = &kernel.version;
        match (&early, lacking.is_empty(), lacking_here.is_empty()) {
            // What is not built in may be in an initial RAM disk by another name.
            (None, false, _) | (None, _, false) => {
                found.unknown.push(format!("{version} (no initial RAM disk of that version)"));
            }
            (Some(_), false, _) => found.lack(version, "boots without", &lacking),
            (_, true, false) => {
                strange.push(format!("kernel {version} boots without {}", lacking_here.join("; ")));
            }
            (_, true, true) => found.sound.push(version.clone()),
        }
    }
    if found.wrong.is_empty() && !strange.is_empty() {
        let strange = strange.join("; ");
        return Ok(Said::NotHere(format!("{strange}, for the disk's controller in QEMU")));
    }
    Ok(found.verdict(&own).into())
}

fn network_drivers(subject: &Subject) -> Result<Said> {
    let wanted = subject.machine.profile.network_drivers.iter().map(String::as_str);
    let wanted: BTreeSet<&str> = wanted.collect();
    if wanted.is_empty() {
        let why = "the image's provider names no network card of its own";
        return Ok(Verdict::Skipped(why.into()).into());
    }
    let root = match subject.root()? {
        Ok(root) => root,
        Err(verdict) => return Ok(verdict.into()),
    };
    let kernels = subject.kernels(root)?;
    let mut found = Found::of(kernels);
    for kernel in &kernels.known {
        let lacking: Vec<String> =
            wanted.iter().filter_map(|driver| kernel.lacks(driver)).collect();
        match lacking.is_empty() {
            true => found.sound.push(kernel.version.clone()),
            false => found.lack(&kernel.version, "has no", &lacking),
        }
    }
    Ok(found.verdict(&wanted).into())
}

/// What was found of an image's kernels, by their versions.
#[derive(Default)]
struct Found {
    /// Those that lack a driver, with that.
    wrong: Vec<String>,
    /// Those that lack none.
    sound: Vec<String>,
    /// Those of which nothing can be told, with the reason.
    unknown: Vec<String>,
}

impl Found {
    fn of(kernels: &Kernels) -> Self {
        let why =
            |version: &String| format!("{version} (no /lib/modules/{version}/modules.builtin)");
        Self { unknown: kernels.unknown.iter().map(why).collect(), ..Self::default() }
    }

    fn lack(&mut self, version: &str, words: &str, lacking: &[String]) {
        self.wrong.push(format!("kernel {version} {words} {}", lacking.join("; ")));
    }

    /// A "no" where any kernel lacks one of the drivers, since a boot loader may start any.
    fn verdict(self, wanted: &BTreeSet<&str>) -> Verdict {
        let Self { wrong, sound, unknown } = self;
        let open = format!("nothing is known of the drivers of {}", unknown.join(", "));
        if wrong.is_empty() && sound.is_empty() {
            return Verdict::NotProven(match unknown.is_empty() {
                true => "there is no kernel called /boot/vmlinuz-VERSION".into(),
                false => open,
            });
        }
        let wanted: Vec<&str> = wanted.iter().copied().collect();
        let seen = format!("{}: {}", sound.join(", "), wanted.join(", "));
        Verdict::of(&wrong, if unknown.is_empty() { seen } else { format!("{seen}; {open}") })
    }
}

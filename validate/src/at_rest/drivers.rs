//! Drivers without which a machine of the provider finds neither its disk nor its network.

use std::collections::BTreeSet;

use nodekiln_providers::{DiskBus, MachineProfile};
use nodekiln_words::Result;

use super::kernels::{self, Kernel};
use super::{Rule, Subject};
use crate::checks::{Severity, Verdict};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "boot-drivers",
        severity: Severity::Fatal,
        why: "without the driver of its controller the kernel waits for a root file system in vain",
        source: "the provider's machine; modules.builtin(5), modules.dep(5), initramfs(5)",
        judge: boot_drivers,
    },
    Rule {
        id: "network-drivers",
        severity: Severity::Fatal,
        why: "without the driver of its card a node reaches neither metadata nor cluster",
        source: "the provider's machine; modules.builtin(5), modules.dep(5)",
        judge: network_drivers,
    },
];

/// Drivers of the machine that QEMU gives, and of the cloud's own devices, which it does not have.
fn of_disk(profile: &MachineProfile) -> BTreeSet<&str> {
    let buses = profile.firmware.iter().map(|firmware| profile.disk_under(*firmware));
    let own = profile.boot_drivers.iter().map(String::as_str);
    buses.flat_map(|bus| of_bus(bus).iter().copied()).chain(own).collect()
}

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

fn boot_drivers(subject: &Subject) -> Result<Verdict> {
    let wanted = of_disk(subject.profile);
    let root = match subject.root()? {
        Ok(root) => root,
        Err(verdict) => return Ok(verdict),
    };
    let kernels = kernels::with_early(&subject.systems, root, &wanted)?;
    Ok(verdict(&kernels, &wanted, Kernel::missing_early, "boots without"))
}

fn network_drivers(subject: &Subject) -> Result<Verdict> {
    let wanted = subject.profile.network_drivers.iter().map(String::as_str);
    let wanted: BTreeSet<&str> = wanted.collect();
    if wanted.is_empty() {
        return Ok(Verdict::Skipped(
            "the image's provider names no network card of its own".into(),
        ));
    }
    let root = match subject.root()? {
        Ok(root) => root,
        Err(verdict) => return Ok(verdict),
    };
    let kernels = kernels::of(&subject.systems, root, &wanted)?;
    let missing = |kernel: &Kernel, driver: &str| (!kernel.has(driver)).then(|| driver.to_owned());
    Ok(verdict(&kernels, &wanted, missing, "has no"))
}

/// A "no" where any kernel is `missing` one of the drivers, since a boot loader may start any.
fn verdict(
    kernels: &[Kernel],
    wanted: &BTreeSet<&str>,
    missing: impl Fn(&Kernel, &str) -> Option<String>,
    words: &str,
) -> Verdict {
    if kernels.is_empty() {
        return Verdict::NotProven("there is no kernel called /boot/vmlinuz-VERSION".into());
    }
    let mut wrong = Vec::new();
    for kernel in kernels {
        let lacking = wanted.iter().filter_map(|driver| missing(kernel, driver));
        let lacking: Vec<String> = lacking.collect();
        if !lacking.is_empty() {
            wrong.push(format!("kernel {} {words} {}", kernel.version, lacking.join("; ")));
        }
    }
    let versions: Vec<&str> = kernels.iter().map(|kernel| kernel.version.as_str()).collect();
    let wanted: Vec<&str> = wanted.iter().copied().collect();
    Verdict::of(&wrong, format!("{}: {}", versions.join(", "), wanted.join(", ")))
}

//! Rules on how the disk is laid out and what starts from it.

use nodekiln_disk::{Partitions, gpt};
use nodekiln_providers::Firmware;
use nodekiln_words::{Bytes, Result};

use super::volumes::{Found, Volumes};
use super::{Said, Subject, findings};
use crate::Tier;
use crate::inspect::{self, Boot};
use crate::rules::{Applies, Judge, Rule, Severity, Verdict};
use crate::tree::Files;
use crate::tree::boot_menu::{grub_files, kernel_lines, words};
use crate::tree::fstab::Mount;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "loader-for-firmware",
        title: "The disk has a boot loader for the machine's firmware",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "the first sector",
            "the BIOS boot partition",
            "/EFI/BOOT of the EFI system partition",
        ],
        why: "a firmware that finds no loader of its kind says so to nobody, and the machine stays silent",
        remedy: "build with `disk.boot: hybrid`; for UEFI a loader has to be at /EFI/BOOT/BOOTX64.EFI, since an image \
                 has no boot entry in a machine's own memory",
        source: "UEFI specification 2.10, 3.5.1.1; GRUB manual, BIOS installation; the provider's machine, `firmware`",
        applies: Applies::ALL,
        stops_boot: true,
        judge: Judge::Image(loader_for_firmware),
    },
    Rule {
        id: "partition-alignment",
        title: "Partitions begin at whole MiB",
        tier: Tier::Static,
        severity: Severity::Advisory,
        reads: &["the partition table"],
        why: "a file system across the blocks of the storage below it is written twice as often",
        remedy: "let every partition begin at a multiple of 1 MiB",
        source: "parted(8), --align optimal; vSphere, Azure and Ceph on alignment",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Image(alignment),
    },
    Rule {
        id: "root-by-uuid",
        title: "The root is found by what it is, and can grow",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "GRUB's configuration and boot loader entries of every file system",
            "/etc/fstab",
            "the partition table",
        ],
        why: "a device is called otherwise behind another controller, and a root with a partition behind it keeps its \
              size for ever",
        remedy: "name file systems by UUID in the boot loader's configuration and in /etc/fstab, and make the root the \
                 last partition",
        source: "fstab(5), GRUB manual (search), cloud-init's growpart",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Image(root_by_uuid),
    },
    Rule {
        id: "no-lvm",
        title: "No partition is LVM's",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["the partition table", "the first sectors of every partition"],
        why: "volume groups of clones have one name and one UUID, and what grows a root at first boot does not know them",
        remedy: "put file systems straight into partitions",
        source: "lvm(8); cloud-init's growpart",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Image(no_lvm),
    },
];

/// What partitions are to be aligned to: a multiple of the blocks of all storage.
const ALIGNED: u64 = 1 << 20;
/// Partition types of LVM: by GUID and of an old table.
const LVM: [&str; 2] = ["e6d6d379-f507-44c2-a23c-238f2a3df928", "0x8e"];

fn loader_for_firmware(subject: &Subject) -> Result<Said> {
    if subject.kernel_from_outside {
        return Ok(Verdict::Skipped("a kernel from outside the image is started".into()).into());
    }
    let table = Partitions::read(subject.image.disk())?;
    if table.entries.is_empty() {
        return Ok(Verdict::NotProven("the disk has no partitions".into()).into());
    }
    let (boot, _) = inspect::boot_and_system(subject.image.disk(), subject.cancel)?;
    let machine = subject.machine;
    let own = lacks(machine.firmware, &boot);
    let others = machine.profile.firmware.iter().filter(|other| **other != machine.firmware);
    let others: Vec<String> = others.filter_map(|other| lacks(*other, &boot)).collect();
    Ok(match (own, others.is_empty()) {
        (Some(own), _) => Verdict::Fail([vec![own], others].concat().join("; ")),
        // Another machine of the same provider may be started by it.
        (None, false) => Verdict::Warn(others.join("; ")),
        (None, true) => {
            let names: Vec<&str> =
                machine.profile.firmware.iter().map(|one| one.as_str()).collect();
            Verdict::Pass(names.join(" and "))
        }
    }
    .into())
}

/// What `firmware` misses on a disk that boots like this; nothing where it misses nothing.
fn lacks(firmware: Firmware, boot: &Boot) -> Option<String> {
    match firmware {
        Firmware::Bios if !boot.bios => {
            let what =
                "no boot code in its first sector, or no core image where that looks for one";
            Some(format!("bios: the disk has {what}"))
        }
        Firmware::Uefi if !boot.uefi => {
            Some("uefi: no EFI system partition has a loader at /EFI/BOOT".to_owned())
        }
        Firmware::Bios | Firmware::Uefi => None,
    }
}

fn alignment(subject: &Subject) -> Result<Said> {
    let table = Partitions::read(subject.image.disk())?;
    if table.entries.is_empty() {
        return Ok(Verdict::NotProven("the disk has no partitions".into()).into());
    }
    // The core image is read once, by the firmware, and may fill the room behind the table.
    let bios_boot = gpt::TYPE_BIOS_BOOT.to_string();
    let judged = table.entries.iter().filter(|part| part.kind != bios_boot);
    let astray = judged.filter(|part| !part.start.is_multiple_of(ALIGNED));
    let wrong: Vec<String> = astray
        .map(|part| format!("partition {} begins at byte {}", part.number, part.start))
        .collect();
    let seen = format!("{} partitions at multiples of {}", table.entries.len(), Bytes(ALIGNED));
    Ok(findings::verdict(&wrong, seen).into())
}

fn no_lvm(subject: &Subject) -> Result<Said> {
    let table = Partitions::read(subject.image.disk())?;
    if table.entries.is_empty() {
        return Ok(Verdict::NotProven("the disk has no partitions".into()).into());
    }
    let volumes = Volumes::of(subject);
    let is_lvm = |number: u32, kind: &str| {
        LVM.contains(&kind.to_lowercase().as_str())
            || volumes.content(number) == Some("LVM physical volume")
    };
    let wrong: Vec<String> = table
        .entries
        .iter()
        .filter(|part| is_lvm(part.number, &part.kind))
        .map(|part| format!("partition {} is LVM's", part.number))
        .collect();
    Ok(Verdict::of(&wrong, format!("{} partitions, none of LVM", table.entries.len())).into())
}

fn root_by_uuid(subject: &Subject) -> Result<Said> {
    let place = match subject.root()? {
        Ok(place) => place,
        Err(verdict) => return Ok(verdict.into()),
    };
    let root = subject.systems[place].0;
    let table = Partitions::read(subject.image.disk())?;
    let volumes = Volumes::of(subject);
    let mut judged =
        Named { volumes: &volumes, root, names: 0, wrong: Vec::new(), open: Vec::new() };
    for (number, files) in &subject.systems {
        // /boot may be a file system of its own, and the EFI system partition has files of its own.
        for boot in ["", "/boot"] {
            judged.menu(*number, files, boot)?;
        }
    }
    if judged.names == 0 {
        judged.open.push("no boot loader's entry that names its root can be read".to_owned());
    }
    judged.fstab(&subject.systems[place].1)?;
    let start = |number: u32| {
        table.entries.iter().find(|part| part.number == number).map(|part| part.start)
    };
    let behind =
        table.entries.iter().find(|part| start(root).is_some_and(|start| part.start > start));
    if let Some(behind) = behind {
        judged.wrong.push(format!(
            "partition {root} with the root cannot grow: partition {} is behind it",
            behind.number
        ));
    }
    let Named { names, wrong, open, .. } = judged;
    if wrong.is_empty() && !open.is_empty() {
        return Ok(Verdict::NotProven(findings::some(&open)).into());
    }
    Ok(findings::verdict(&wrong, format!("partition {root}, which is the last, by {names} names"))
        .into())
}

/// Names of file systems being judged.
struct Named<'a> {
    volumes: &'a Volumes,
    /// Number of the root's partition.
    root: u32,
    /// How many of a boot loader were found to lead to the root.
    names: usize,
    wrong: Vec<String>,
    /// What cannot be told.
    open: Vec<String>,
}

impl Named<'_> {
    /// The kernels' roots, and what GRUB itself searches for, on the file system of partition `number`.
    fn menu(&mut self, number: u32, files: &dyn Files, boot: &str) -> Result<()> {
        for line in kernel_lines(files, boot)? {
            if let Some(root) = line.value("root") {
                let place =
                    format!("partition {number}, {}, line {}: root=", line.path, line.number);
                self.name(&place, root, true);
            }
        }
        let mut scripts = grub_files(files, boot)?;
        if boot.is_empty() {
            for folder in files.list("/EFI")? {
                let path = format!("/EFI/{folder}/grub.cfg");
                scripts.extend(files.text(&path)?.map(|text| (path, text)));
            }
        }
        for (path, text) in scripts {
            for (line, text) in (1..).zip(text.lines()) {
                if let Some(name) = searched(text) {
                    self.name(&format!("partition {number}, {path}, line {line}: "), &name, false);
                }
            }
        }
        Ok(())
    }

    /// What /etc/fstab mounts without being asked, and cannot do without.
    fn fstab(&mut self, files: &dyn Files) -> Result<()> {
        let text = files.text("/etc/fstab")?.unwrap_or_default();
        for mount in Mount::of(&text) {
            let is_device = mount.what.starts_with("/dev/") || mount.what.contains('=');
            if is_device && !mount.has("noauto") && !mount.has("nofail") {
                self.name(&format!("/etc/fstab, line {}: ", mount.line), mount.what, false);
            }
        }
        Ok(())
    }

    /// Judges one name, which has to be that of the root where `of_root`.
    fn name(&mut self, place: &str, name: &str, of_root: bool) {
        match self.volumes.find(name) {
            Found::Partition(number) if of_root && number != self.root => {
                let root = self.root;
                self.wrong.push(format!(
                    "{place}{name} is partition {number}, and the system is on {root}"
                ));
            }
            Found::Partition(_) => self.names += usize::from(of_root),
            Found::Device => {
                self.wrong.push(format!("{place}{name} is called otherwise on another machine"));
            }
            Found::Nothing => self.wrong.push(format!("{place}{name} is nothing on this disk")),
            Found::Unknown => {
                self.names += usize::from(of_root);
                self.open.push(format!("{place}{name} may be a file system that is not read here"));
            }
        }
    }
}

/// What a line of GRUB's script looks for, as a name of fstab's.
fn searched(line: &str) -> Option<String> {
    let words = words(line);
    let (verb, rest) = words.split_first()?;
    let last = || rest.iter().rev().find(|word| !word.starts_with('-'));
    let (tag, name) = match verb.as_str() {
        "search.fs_uuid" => ("UUID", rest.first()?),
        "search.fs_label" => ("LABEL", rest.first()?),
        "search" if rest.iter().any(|word| word == "--fs-uuid" || word == "-u") => {
            ("UUID", last()?)
        }
        "search" if rest.iter().any(|word| word == "--label" || word == "-l") => ("LABEL", last()?),
        _ => return None,
    };
    // What a variable holds is known when GRUB runs.
    (!name.contains('$')).then(|| format!("{tag}={name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grub_searches_for_is_read_with_hints_and_in_modules() {
        let uuid = "search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt1 ab-cd";
        assert_eq!(searched(uuid).as_deref(), Some("UUID=ab-cd"));
        assert_eq!(searched("search.fs_uuid ab-cd root hd0,gpt1").as_deref(), Some("UUID=ab-cd"));
        assert_eq!(
            searched("\tsearch --label --set=root cloudimg").as_deref(),
            Some("LABEL=cloudimg")
        );
        assert_eq!(searched("search --fs-uuid --set=root \"$id\""), None);
        assert_eq!(searched("search --file --set=root /boot/x"), None);
        assert_eq!(searched("research --fs-uuid x"), None);
    }

    #[test]
    fn each_firmware_wants_its_own_loader() {
        let boot = |bios, uefi| Boot { bios, uefi, ..Boot::default() };
        assert_eq!(lacks(Firmware::Bios, &boot(true, false)), None);
        assert_eq!(lacks(Firmware::Uefi, &boot(false, true)), None);
        assert!(lacks(Firmware::Bios, &boot(false, true)).unwrap().contains("first sector"));
        assert!(lacks(Firmware::Uefi, &boot(true, false)).unwrap().contains("/EFI/BOOT"));
    }
}

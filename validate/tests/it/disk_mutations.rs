//! The mutation corpus of the rules on disks: a sound disk, and for every rule a change that turns it red, and no
//! other. A rule without one fails the build.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::process::Command;

use nodekiln_disk::gpt::{Entry, TYPE_BIOS_BOOT, TYPE_ESP, TYPE_ROOT_X86_64, Table};
use nodekiln_disk::vhd;
use nodekiln_providers::{DiskRules, Firmware, Provider as _};
use nodekiln_validate::at_rest::{self, Payload, Subject};
use nodekiln_validate::report::Outcome;
use nodekiln_validate::rules::{Judge, Verdict};
use nodekiln_validate::{Machine, MachineProfile, Way};
use nodekiln_words::{Bytes, Cancel, Sha256};
use uuid::{Uuid, uuid};

use crate::wrong_pieces::{BUILT_IN, DEP, initrd};

const MIB: u64 = 1 << 20;
/// Where the EFI system partition and the root begin, and the root's length.
const ESP: u64 = MIB;
const ROOT: u64 = 4 * MIB;
const ROOT_LENGTH: u64 = 16 * MIB;
const ROOT_ID: Uuid = uuid!("fb9bbee3-f56d-5fae-b0e0-6447f03c6d64");
const ESP_ID: u32 = 0x5613_C9DC;
const MENU: &str = "boot/grub/grub.cfg";
const STUB: &str = "EFI/debian/grub.cfg";

/// What a disk is made of.
pub(crate) struct Pieces {
    /// Files of the root, and of the EFI system partition.
    pub(crate) root: BTreeMap<String, Vec<u8>>,
    esp: BTreeMap<String, Vec<u8>>,
    /// Code of the first sector, and the core image behind the table.
    code: Vec<u8>,
    core: Vec<u8>,
    /// What stands behind the root, as a partition of its own.
    behind: Option<Vec<u8>>,
    /// Bytes by which the root begins later.
    astray: u64,
    kind: Uuid,
    /// Bytes behind the last whole MiB.
    more: u64,
    pub(crate) machine: Machine,
    claimed: Option<Sha256>,
    /// What becomes of the file.
    damage: fn(&mut Vec<u8>),
}

/// A sound disk for a machine of EC2, which either firmware starts.
pub(crate) fn sound() -> Pieces {
    let menu = format!(
        "search --no-floppy --fs-uuid --set=root {ROOT_ID}\n\
         menuentry 'Linux' {{\n  linux /boot/vmlinuz-6.1 root=UUID={ROOT_ID} ro console=ttyS0\n}}\n"
    );
    let fstab = format!(
        "# devices\nUUID={ROOT_ID} / ext4 defaults 0 1\nUUID=5613-C9DC /boot/efi vfat noauto 0 0\n/dev/sr0 /cd udf noauto 0 0\n"
    );
    let mut root: BTreeMap<String, Vec<u8>> = [
        ("etc/os-release", &b"ID=debian\n"[..]),
        ("etc/cloud/cloud.cfg", b"datasource_list: [Ec2]\n"),
        ("etc/fstab", fstab.as_bytes()),
        (MENU, menu.as_bytes()),
        ("boot/vmlinuz-6.1", b"MZ"),
        ("boot/initrd.img-6.1", &initrd("")),
        ("lib/modules/6.1/modules.dep", DEP.as_bytes()),
        ("lib/modules/6.1/modules.builtin", BUILT_IN.as_bytes()),
    ]
    .into_iter()
    .map(|(path, bytes)| (path.to_owned(), bytes.to_vec()))
    .collect();
    for path in DEP.lines().filter_map(|line| Some(line.split_once(':')?.0)) {
        root.insert(format!("lib/modules/6.1/{path}"), b"module".to_vec());
    }
    let stub = format!("search.fs_uuid {ROOT_ID} root\nconfigfile ($root)/boot/grub/grub.cfg\n");
    let esp = [
        ("EFI/BOOT/BOOTX64.EFI", b"MZ".to_vec()),
        ("EFI/BOOT/grubx64.efi", b"MZ".to_vec()),
        (STUB, stub.into_bytes()),
    ];
    let profile = nodekiln_aws::Aws.machine();
    let profile = MachineProfile {
        accepts: DiskRules::default(),
        firmware: vec![Firmware::Bios, Firmware::Uefi],
        ..profile
    };
    Pieces {
        root,
        esp: esp.into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect(),
        code: b"\xfa\xf4 GRUB ".to_vec(),
        core: vec![0xC0; 1024],
        behind: None,
        astray: 0,
        kind: TYPE_ROOT_X86_64,
        more: 0,
        machine: Machine { profile, firmware: Firmware::Bios, ..Machine::default() },
        claimed: None,
        damage: |_| (),
    }
}

impl Pieces {
    fn replace(&mut self, path: &str, from: &str, to: &str) {
        let files = if path == STUB { &mut self.esp } else { &mut self.root };
        let text = String::from_utf8(files[path].clone()).unwrap();
        assert!(text.contains(from), "{path} has no `{from}`");
        files.insert(path.to_owned(), text.replace(from, to).into_bytes());
    }

    /// The disk's bytes.
    pub(crate) fn bytes(&self, folder: &Path) -> Vec<u8> {
        let end = ROOT + self.astray + ROOT_LENGTH;
        let behind = self.behind.as_ref().map_or(0, |_| MIB);
        let size = end.next_multiple_of(MIB) + behind + MIB + self.more;
        let entry = |number: u32, kind: Uuid, start: u64, length: u64| Entry {
            number,
            kind,
            guid: Uuid::from_u128(u128::from(number) + 1),
            first: start / 512,
            last: (start + length) / 512 - 1,
            attributes: 0,
            name: format!("part-{number}"),
        };
        let mut entries = vec![
            entry(1, TYPE_BIOS_BOOT, 34 * 512, MIB - 34 * 512),
            entry(2, TYPE_ESP, ESP, ROOT - ESP),
            entry(3, self.kind, ROOT + self.astray, ROOT_LENGTH),
        ];
        let place = end.next_multiple_of(MIB);
        entries.extend(self.behind.iter().map(|_| entry(4, TYPE_ROOT_X86_64, place, MIB)));
        let ends =
            Table { disk: Uuid::from_u128(1), entries }.encode(size / 512, &self.code).unwrap();
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        for (at, part) in [
            (0, &ends.head[..]),
            (34 * 512, &self.core),
            (ESP, &fat(&self.esp)),
            (ROOT + self.astray, &ext4(folder, &self.root, ROOT_ID, ROOT_LENGTH)),
            (place, self.behind.as_deref().unwrap_or_default()),
            (size - ends.tail.len() as u64, &ends.tail),
        ] {
            put(&mut bytes, at, part);
        }
        (self.damage)(&mut bytes);
        bytes
    }

    /// What every rule on disks says.
    fn judged(&self) -> BTreeMap<String, Outcome> {
        let of_disks = of_disks();
        let mut judged = self.judged_by_all();
        judged.retain(|id, _| of_disks.contains(id.as_str()));
        judged
    }

    /// What every rule says that is judged before a boot.
    fn judged_by_all(&self) -> BTreeMap<String, Outcome> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.img");
        std::fs::write(&path, self.bytes(folder.path())).unwrap();
        let image = nodekiln_disk::open(&path).unwrap();
        let cancel = Cancel::default();
        let found = Sha256::of("the disk");
        let payload = Payload { claimed: self.claimed.unwrap_or(found), found };
        let subject =
            Subject::new(&image, &self.machine, Way::Usual, Some(payload), &cancel).unwrap();
        let judgement = at_rest::judge(&subject).unwrap();
        judgement.rules.into_iter().map(|judged| (judged.rule.id, judged.outcome)).collect()
    }
}

fn ext4(folder: &Path, files: &BTreeMap<String, Vec<u8>>, id: Uuid, length: u64) -> Vec<u8> {
    let tree = tempfile::tempdir_in(folder).unwrap();
    for (name, content) in files {
        let file = tree.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
    let path = folder.join("root");
    let made = Command::new("/usr/sbin/mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-U", &id.to_string(), "-d"])
        .args([tree.path(), &path])
        .arg(format!("{}k", length / 1024))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(path).unwrap()
}

fn fat(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut bytes = Cursor::new(vec![0; usize::try_from(ROOT - ESP).unwrap()]);
    let options = fatfs::FormatVolumeOptions::new().volume_id(ESP_ID);
    fatfs::format_volume(&mut bytes, options).unwrap();
    {
        let volume = fatfs::FileSystem::new(&mut bytes, fatfs::FsOptions::new()).unwrap();
        for (path, content) in files {
            let mut folder = volume.root_dir();
            let (above, name) = path.rsplit_once('/').unwrap();
            for part in above.split('/') {
                folder = folder.create_dir(part).unwrap();
            }
            folder.create_file(name).unwrap().write_all(content).unwrap();
        }
    }
    bytes.into_inner()
}

/// A change that rules have to notice.
struct Mutation {
    name: &'static str,
    /// The rules that it turns red, all of them.
    turns: &'static [&'static str],
    /// Words of what they say of it.
    says: &'static str,
    /// The public incident that it stands for, where it does.
    incident: Option<&'static str>,
    change: fn(&mut Pieces),
}

impl Mutation {
    /// The same, as one that happened in public.
    const fn incident(mut self, incident: &'static str) -> Self {
        self.incident = Some(incident);
        self
    }
}

/// The public incidents that mutations stand for.
pub(crate) fn incidents() -> BTreeSet<&'static str> {
    MUTATIONS.iter().filter_map(|mutation| mutation.incident).collect()
}

const fn mutation(
    name: &'static str,
    turns: &'static [&'static str],
    says: &'static str,
    change: fn(&mut Pieces),
) -> Mutation {
    Mutation { name, turns, says, incident: None, change }
}

fn put(bytes: &mut [u8], at: u64, part: &[u8]) {
    let at = usize::try_from(at).unwrap();
    bytes[at..at + part.len()].copy_from_slice(part);
}

/// Makes `driver` the one of the machine's controller, and takes it out of the initial RAM disk.
fn lacks_driver(disk: &mut Pieces, driver: &str) {
    disk.machine.profile.boot_drivers = vec![driver.to_owned()];
    disk.root.insert("boot/initrd.img-6.1".to_owned(), initrd(driver));
}

/// What an LVM physical volume begins with.
fn physical_volume() -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[512..520].copy_from_slice(b"LABELONE");
    bytes[536..544].copy_from_slice(b"LVM2 001");
    bytes
}

const MUTATIONS: &[Mutation] = &[
    mutation("a VHD is 512 bytes too long", &["container"], "not a whole number of MiB", |disk| {
        disk.more = 512;
        disk.machine.profile.accepts.multiple = Bytes(512);
        disk.damage = |bytes| {
            let size = bytes.len() as u64;
            bytes.extend(vhd::Footer { size, created: 0, uuid: [1; 16] }.encode());
        };
    })
    .incident("VHD of no whole MiB"),
    mutation("another disk was built", &["payload"], "not", |disk| {
        disk.claimed = Some(Sha256::of("x"));
    }),
    mutation("the cloud takes whole GiB", &["disk-size"], "not a multiple of 1 GiB", |disk| {
        disk.machine.profile.accepts.multiple = Bytes(Bytes::GIB);
    }),
    mutation("the cloud takes less", &["disk-size"], "more than 4 MiB", |disk| {
        disk.machine.profile.accepts.largest = Some(Bytes(4 * MIB));
    }),
    mutation("the backup table is gone", &["partition-table"], "backup", |disk| {
        disk.damage = |bytes| {
            let at = bytes.len() - 512;
            bytes[at..].fill(0);
        };
    })
    .incident("trivy issue 4082"),
    mutation("an old table alone", &["partition-table"], "table: ", |disk| {
        disk.damage = |bytes| {
            let at = bytes.len() - 512;
            bytes[at..].fill(0);
            bytes[512..1024].fill(0);
            // The EFI system partition and the root, as an old table has them.
            let entries = [(0xEF_u8, ESP, ROOT - ESP), (0x83, ROOT, ROOT_LENGTH)];
            bytes[446..510].fill(0);
            for (slot, (kind, start, length)) in (446..).step_by(16).zip(entries) {
                let [start, length] =
                    [start, length].map(|it| u32::try_from(it / 512).unwrap().to_le_bytes());
                bytes[slot + 4] = kind;
                bytes[slot + 8..slot + 12].copy_from_slice(&start);
                bytes[slot + 12..slot + 16].copy_from_slice(&length);
            }
        };
    })
    .incident("MBR only"),
    mutation(
        "the disk grew and its backup table stayed",
        &["partition-table"],
        "backup header is in sector",
        |disk| {
            disk.damage = |bytes| bytes.resize(bytes.len() + (1 << 20), 0);
        },
    )
    .incident("backup GPT misplaced"),
    mutation("another cloud's datasource", &["datasource-list"], "[Azure], without Ec2", |disk| {
        disk.replace("etc/cloud/cloud.cfg", "Ec2", "Azure");
    })
    .incident("another provider's datasource list"),
    mutation(
        "another cloud's datasource beside the own",
        &["datasource-list"],
        "Azure may answer",
        |disk| {
            disk.replace("etc/cloud/cloud.cfg", "Ec2", "Azure, Ec2");
        },
    ),
    mutation("the initial RAM disk lacks nvme", &["boot-drivers"], "boots without nvme", |disk| {
        disk.root.insert("boot/initrd.img-6.1".to_owned(), initrd("nvme"));
    })
    .incident("missing controller driver"),
    mutation(
        "the initial RAM disk lacks hv_storvsc",
        &["boot-drivers"],
        "boots without hv_storvsc",
        |disk| lacks_driver(disk, "hv_storvsc"),
    )
    .incident("missing controller driver"),
    mutation(
        "the initial RAM disk lacks vmw_pvscsi",
        &["boot-drivers"],
        "boots without vmw_pvscsi",
        |disk| lacks_driver(disk, "vmw_pvscsi"),
    )
    .incident("missing controller driver"),
    mutation(
        "the initial RAM disk lacks virtio_scsi",
        &["boot-drivers"],
        "boots without virtio_scsi",
        |disk| lacks_driver(disk, "virtio_scsi"),
    )
    .incident("missing controller driver"),
    mutation("the network's driver is gone", &["network-drivers"], "has no ena", |disk| {
        disk.root.retain(|path, _| !path.ends_with("ena.ko.xz"));
    }),
    mutation(
        "the root begins between two MiB",
        &["partition-alignment"],
        "partition 3 begins at byte 4194816",
        |disk| {
            disk.astray = 512;
        },
    ),
    mutation("the root is erofs", &["files-read"], "3 is erofs, which is not read", |disk| {
        disk.damage = |bytes| {
            put(bytes, ROOT, &[0; 4096]);
            put(bytes, ROOT + 1024, &[0xE2, 0xE1, 0xF5, 0xE0]);
        };
    }),
    mutation("the root is btrfs", &["files-read"], "partition 3 is btrfs", |disk| {
        disk.damage = |bytes| {
            put(bytes, ROOT, &[0; 4096]);
            put(bytes, ROOT + 0x1_0040, b"_BHRfS_M");
        };
    }),
    mutation("nothing is on the root", &["files-read"], "partition 3 is zeros", |disk| {
        disk.damage = |bytes| {
            let root = usize::try_from(ROOT).unwrap();
            bytes[root..root + usize::try_from(ROOT_LENGTH).unwrap()].fill(0);
        };
    }),
    mutation(
        "a root without an operating system",
        &["files-read"],
        "no file system with an os-release",
        |disk| {
            disk.root.remove("etc/os-release");
        },
    ),
    mutation(
        "a /usr without its root",
        &["files-read"],
        "partition 3 is one to be mounted at /usr",
        |disk| {
            let release = disk.root.remove("etc/os-release").unwrap();
            disk.root.insert("lib/os-release".to_owned(), release);
        },
    ),
    mutation(
        "/var is squashfs, by the name of its partition",
        &["files-read", "root-by-uuid"],
        "partition 4 is",
        |disk| {
            disk.behind = Some(b"hsqs".to_vec());
            disk.replace("etc/fstab", "# devices", "PARTLABEL=part-4 /var squashfs defaults 0 0");
        },
    ),
    mutation(
        "the kernel's root is a device",
        &["root-by-uuid"],
        "root=/dev/vda3 is called otherwise",
        |disk| {
            disk.replace(MENU, &format!("root=UUID={ROOT_ID}"), "root=/dev/vda3");
        },
    ),
    mutation(
        "the kernel's root is on no disk",
        &["root-by-uuid"],
        "line 3: root=UUID=0000",
        |disk| {
            disk.replace(
                MENU,
                &format!("root=UUID={ROOT_ID}"),
                "root=UUID=00000000-0000-0000-0000-000000000001",
            );
        },
    ),
    mutation(
        "the kernel's root is another file system",
        &["root-by-uuid"],
        "is partition 2, and the system is on 3",
        |disk| {
            disk.replace(MENU, &format!("root=UUID={ROOT_ID}"), "root=UUID=5613-C9DC");
        },
    ),
    mutation(
        "GRUB searches for what is not there",
        &["root-by-uuid"],
        "line 1: UUID=00aa",
        |disk| {
            disk.replace(MENU, &format!("--set=root {ROOT_ID}"), "--set=root 00aa");
        },
    ),
    mutation(
        "GRUB's stub searches for what is not there",
        &["root-by-uuid"],
        "/EFI/debian/grub.cfg, line 1",
        |disk| {
            disk.replace(STUB, &ROOT_ID.to_string(), "00aa");
        },
    ),
    mutation("fstab names a device", &["root-by-uuid"], "/etc/fstab, line 2: /dev/sda1", |disk| {
        disk.replace("etc/fstab", &format!("UUID={ROOT_ID}"), "/dev/sda1");
    }),
    mutation(
        "fstab names what is not there",
        &["root-by-uuid"],
        "/etc/fstab, line 2: LABEL=data",
        |disk| {
            disk.replace("etc/fstab", &format!("UUID={ROOT_ID}"), "LABEL=data");
        },
    ),
    mutation(
        "a partition is behind the root",
        &["root-by-uuid"],
        "partition 4 is behind it",
        |disk| {
            disk.behind = Some(Vec::new());
        },
    ),
    mutation(
        "a partition is of LVM by its content",
        &["no-lvm", "root-by-uuid"],
        "partition 4",
        |disk| {
            disk.behind = Some(physical_volume());
        },
    )
    .incident("LVM root"),
    mutation("a partition is of LVM by its type", &["no-lvm"], "partition 3 is LVM's", |disk| {
        disk.kind = uuid!("e6d6d379-f507-44c2-a23c-238f2a3df928");
    }),
    mutation(
        "the first sector has no code",
        &["loader-for-firmware"],
        "bios: the disk has no boot code",
        |disk| {
            disk.code.clear();
        },
    ),
    mutation("the core image is gone", &["loader-for-firmware"], "no core image", |disk| {
        disk.core.clear();
    }),
    mutation(
        "the loader for removable media is gone",
        &["loader-for-firmware"],
        "uefi: no EFI system",
        |disk| {
            disk.machine.firmware = Firmware::Uefi;
            disk.esp.remove("EFI/BOOT/BOOTX64.EFI");
        },
    ),
    mutation(
        "another machine of the provider is started by UEFI",
        &["loader-for-firmware"],
        "uefi: no EFI system",
        |disk| {
            disk.esp.remove("EFI/BOOT/BOOTX64.EFI");
        },
    ),
];

/// Whether it keeps the image from being a sound one: a "no", or that nobody could look.
fn is_red(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Unasked(_) | Outcome::Judged(Verdict::Fail(_) | Verdict::Warn(_)))
}

fn passes(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Judged(Verdict::Pass(_)))
}

fn told(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Judged(verdict) => verdict.seen(),
        Outcome::Unasked(why) => why,
    }
}

fn of_disks() -> BTreeSet<&'static str> {
    let rules = at_rest::rules().filter(|rule| matches!(rule.judge, Judge::Image(_)));
    rules.map(|rule| rule.id).collect()
}

#[test]
fn every_rule_on_disks_passes_the_sound_disk() {
    let verdicts = sound().judged();
    assert_eq!(verdicts.keys().map(String::as_str).collect::<BTreeSet<_>>(), of_disks());
    for (id, verdict) in verdicts {
        assert!(passes(&verdict), "{id}: {verdict:?}");
    }
}

#[test]
fn every_mutation_of_a_disk_turns_its_rules_red_and_no_others() {
    let mut wrong = Vec::new();
    for Mutation { name, turns, says, change, .. } in MUTATIONS {
        let mut disk = sound();
        change(&mut disk);
        let verdicts = disk.judged();
        let red: BTreeMap<&str, &Outcome> = verdicts
            .iter()
            .filter(|(_, verdict)| is_red(verdict))
            .map(|(id, verdict)| (id.as_str(), verdict))
            .collect();
        let as_named = red.keys().copied().eq(turns.iter().copied());
        if !as_named || !red.values().all(|outcome| told(outcome).contains(says)) {
            wrong.push(format!("{name}: not {turns:?} with `{says}`, but {red:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_on_disks_has_a_mutation() {
    let shown: BTreeSet<&str> =
        MUTATIONS.iter().flat_map(|mutation| mutation.turns).copied().collect();
    let without: Vec<&str> = of_disks().into_iter().filter(|id| !shown.contains(id)).collect();
    assert!(without.is_empty(), "without a mutation: {without:?}");
}

/// A small file system with one file, for the partition behind the root.
fn small(path: &str, content: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let files = [(path.to_owned(), content.as_bytes().to_vec())].into();
    ext4(folder.path(), &files, Uuid::from_u128(0xBE), MIB)
}

#[test]
fn what_fstab_mounts_is_in_the_tree_whatever_it_calls_it() {
    for name in [
        "UUID=00000000-0000-0000-0000-0000000000BE",
        "PARTUUID=00000000-0000-0000-0000-000000000005",
        "PARTLABEL=part-4",
        "/dev/disk/by-partuuid/00000000-0000-0000-0000-000000000005",
        "/dev/disk/by-partlabel/part-4",
        "/dev/disk/by-uuid/00000000-0000-0000-0000-0000000000be",
    ] {
        let mut disk = sound();
        disk.behind = Some(small("ssh_host_rsa_key", "secret"));
        let host_keys = |disk: &Pieces| disk.judged_by_all().remove("host-keys").unwrap();
        assert!(passes(&host_keys(&disk)), "{name}");
        disk.replace("etc/fstab", "# devices", &format!("{name} /etc/ssh ext4 defaults 0 2"));
        let outcome = host_keys(&disk);
        let told = told(&outcome);
        assert!(is_red(&outcome) && told.contains("/etc/ssh/ssh_host_rsa_key"), "{name}: {told}");
    }
}

#[test]
fn a_usr_of_its_own_is_found_by_what_is_at_its_top() {
    let mut disk = sound();
    disk.root.remove("etc/os-release");
    disk.behind = Some(small("lib/os-release", "ID=flatcar\n"));
    let outcome = disk.judged().remove("files-read").unwrap();
    assert!(passes(&outcome) && told(&outcome).contains("partition 4 has /usr"), "{outcome:?}");
}

#[test]
fn what_a_disk_may_have_stays_green() {
    let passes = |change: fn(&mut Pieces), id: &str| {
        let mut disk = sound();
        change(&mut disk);
        let outcome = disk.judged().remove(id).unwrap();
        assert!(passes(&outcome), "{id}: {outcome:?}");
    };
    passes(
        |disk| {
            disk.replace(
                MENU,
                &format!("root=UUID={ROOT_ID}"),
                "root=PARTUUID=00000000-0000-0000-0000-000000000004",
            );
        },
        "root-by-uuid",
    );
    passes(
        |disk| disk.replace("etc/fstab", &format!("UUID={ROOT_ID}"), "PARTLABEL=part-3"),
        "root-by-uuid",
    );
    passes(
        |disk| disk.replace("etc/fstab", "UUID=5613-C9DC", "/dev/disk/cloud/azure_resource-part1"),
        "root-by-uuid",
    );
    for driver in ["nvme", "hv_storvsc", "vmw_pvscsi", "virtio_scsi"] {
        let mut disk = sound();
        disk.machine.profile.boot_drivers = vec![driver.to_owned()];
        let outcome = disk.judged().remove("boot-drivers").unwrap();
        assert!(self::passes(&outcome), "{driver}: {outcome:?}");
    }
    // What nobody mounts need not be read, nor what is mounted by a name of its partition where it is.
    passes(|disk| disk.behind = Some(b"hsqs".to_vec()), "files-read");
    passes(|disk| disk.machine.firmware = Firmware::Uefi, "loader-for-firmware");
}

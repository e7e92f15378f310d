//! Files read without mounting, from file systems that e2fsprogs, dosfstools and mtools made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln_disk::files::{Content, FileSystem};
use nodekiln_disk::{Disk, Extent, Part, Partitions, Source, TableKind, gpt};
use nodekiln_words::{Cancel, Class};
use proptest::prelude::*;

use crate::tools::{noise, succeed};

pub(crate) const START: u64 = 1 << 20;

/// A disk with one partition, the content of `image`.
pub(crate) fn around(image: &Path) -> (Disk, Part) {
    let file = Arc::new(std::fs::File::open(image).unwrap());
    let length = file.metadata().unwrap().len();
    let extent = Extent { start: START, length, source: Source::File { file, offset: 0 } };
    let part = Part {
        number: 1,
        start: START,
        length,
        kind: "0x83".to_owned(),
        guid: None,
        name: String::new(),
    };
    (Disk::new(START + length, vec![extent]).unwrap(), part)
}

pub(crate) fn files(image: &Path) -> FileSystem {
    let (disk, part) = around(image);
    match Content::of(&disk, &part, &Cancel::default()).unwrap() {
        Content::Files(files) => files,
        _ => panic!("no file system in {}", image.display()),
    }
}

/// A tree with what file systems store in several ways.
fn tree(folder: &Path) -> PathBuf {
    let tree = folder.join("tree");
    std::fs::create_dir_all(tree.join("etc/many")).unwrap();
    std::fs::write(tree.join("etc/hostname"), "node\n").unwrap();
    std::fs::write(tree.join("etc/empty"), "").unwrap();
    std::fs::write(tree.join("large"), noise(1, 3_000_000)).unwrap();
    for number in 0..700 {
        std::fs::write(tree.join(format!("etc/many/file-{number}")), number.to_string()).unwrap();
    }
    for (target, name) in
        [("hostname", "relative"), ("/etc/hostname", "absolute"), ("/gone", "dead")]
    {
        std::os::unix::fs::symlink(target, tree.join("etc").join(name)).unwrap();
    }
    tree
}

fn make_ext(folder: &Path, kind: &str) -> PathBuf {
    let image = folder.join(kind);
    let arguments =
        ["-q", "-F", "-t", kind, "-L", "root", "-U", "11111111-2222-3333-4444-555555555555", "-d"];
    let arguments = arguments.iter().map(std::ffi::OsStr::new).chain([
        tree(folder).as_os_str().to_owned().leak() as &std::ffi::OsStr,
        image.as_os_str(),
        "64M".as_ref(),
    ]);
    succeed("mke2fs", "e2fsprogs", arguments);
    image
}

#[test]
fn files_of_ext2_to_ext4_are_read() {
    for kind in ["ext2", "ext3", "ext4"] {
        let folder = tempfile::tempdir().unwrap();
        let files = files(&make_ext(folder.path(), kind));
        assert_eq!((files.name(), files.label()), ("ext4", "root"), "{kind}");
        assert_eq!(files.id(), "11111111-2222-3333-4444-555555555555");
        for path in ["/etc/hostname", "/etc/relative", "/etc/absolute"] {
            assert_eq!(files.text(path).unwrap().as_deref(), Some("node\n"), "{kind}: {path}");
        }
        assert_eq!(files.read("/etc/empty").unwrap(), Some(Vec::new()));
        assert!(files.read("/large").unwrap() == Some(noise(1, 3_000_000)));
        for path in ["/none", "/etc/hostname/none", "/etc/dead", "/etc"] {
            assert_eq!(files.read(path).unwrap(), None, "{kind}: {path}");
        }
        assert_eq!(files.list("/etc/many").unwrap().len(), 700);
        let names = ["absolute", "dead", "empty", "hostname", "many", "relative"];
        assert_eq!(files.list("/etc").unwrap(), names);
        assert_eq!(files.list("/none").unwrap(), Vec::<String>::new());
        let there = ["/etc", "/etc/hostname", "/none"].map(|path| files.exists(path).unwrap());
        assert_eq!(there, [true, true, false], "{kind}");
    }
}

#[test]
fn files_of_fat_are_read() {
    for size in ["-F12", "-F16", "-F32"] {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("esp");
        std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let mut arguments = vec![size, "-n", "ESP", "-i", "CAFEF00D"];
        if size == "-F12" {
            arguments.extend(["-s", "64"]);
        }
        let arguments: Vec<&std::ffi::OsStr> =
            arguments.iter().map(AsRef::as_ref).chain([image.as_os_str()]).collect();
        succeed("mkfs.fat", "dosfstools", arguments);
        let long = folder.path().join("A Long Name.cfg");
        std::fs::write(&long, noise(2, 90_000)).unwrap();
        for (program, more) in [("mmd", vec!["::/EFI"]), ("mmd", vec!["::/EFI/BOOT"])] {
            let words = ["-i".as_ref(), image.as_os_str()].into_iter();
            succeed(program, "mtools", words.chain(more.into_iter().map(std::ffi::OsStr::new)));
        }
        let words = ["-i".as_ref(), image.as_os_str(), long.as_os_str(), "::/EFI/BOOT/".as_ref()];
        succeed("mcopy", "mtools", words);
        let files = files(&image);
        assert_eq!((files.name(), files.label(), files.id()), ("vfat", "ESP", "CAFE-F00D"));
        assert_eq!(files.list("/EFI/BOOT").unwrap(), ["A Long Name.cfg"]);
        assert!(files.read("/EFI/BOOT/A Long Name.cfg").unwrap() == Some(noise(2, 90_000)));
        let there = ["/efi/boot", "/EFI/BOOT/a long name.CFG", "/EFI/none", "/none/x"];
        let there = there.map(|path| files.exists(path).unwrap());
        assert_eq!(there, [true, true, false, false]);
    }
}

#[test]
fn what_is_no_file_system_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let content = |bytes: &[u8]| {
        std::fs::write(&image, bytes).unwrap();
        std::fs::File::options().write(true).open(&image).unwrap().set_len(1 << 20).unwrap();
        let (disk, part) = around(&image);
        match Content::of(&disk, &part, &Cancel::default()).unwrap() {
            Content::Files(files) => files.name(),
            Content::Named(name) => name,
            Content::Empty => "empty",
            Content::Unknown => "unknown",
        }
    };
    assert_eq!(content(b""), "empty");
    assert_eq!(content(b"hsqs"), "squashfs");
    assert_eq!(content(&noise(1, 100_000)), "unknown");
    std::fs::write(&image, vec![0; 1 << 20]).unwrap();
    succeed("mkswap", "util-linux", [image.as_os_str()]);
    let swap = std::fs::read(&image).unwrap();
    assert_eq!(content(&swap), "swap");
}

#[test]
fn an_mbr_has_partitions_where_there_is_no_gpt() {
    let mut sector = vec![0; 512];
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    for (slot, kind, first, count) in
        [(0, 0x83, 2048, 4096), (1, 0x82, 6144, 1), (2, 0x05, 7000, 9), (3, 0x83, 8000, u32::MAX)]
    {
        let entry = &mut sector[446 + slot * 16..][..16];
        entry[4] = kind;
        entry[8..12].copy_from_slice(&u32::to_le_bytes(first));
        entry[12..].copy_from_slice(&u32::to_le_bytes(count));
    }
    let disk = Disk::new(8 << 20, vec![Extent::memory(0, sector)]).unwrap();
    let found = Partitions::read(&disk).unwrap();
    assert_eq!((found.table, found.disk), (TableKind::Mbr, None));
    let parts: Vec<_> =
        found.entries.iter().map(|part| (part.number, part.start, part.length)).collect();
    // An extended partition holds none itself, and one that leaves the disk is none.
    assert_eq!(parts, [(1, 1 << 20, 2 << 20), (2, 3 << 20, 512)]);
    assert_eq!(found.entries[0].kind_name(), Some("Linux"));
}

/// A disk of 1 MiB with a partition table of these entries, of first and last sectors, and `bytes` written over
/// it.
fn with_gpt(entries: &[(u64, u64)], bytes: &[(u64, &[u8])]) -> Disk {
    let size = 1 << 20;
    let entry = |(number, (first, last)): (u32, &(u64, u64))| gpt::Entry {
        number,
        kind: gpt::TYPE_ROOT_X86_64,
        guid: uuid::Uuid::from_u128(u128::from(number)),
        first: *first,
        last: *last,
        attributes: 0,
        name: String::new(),
    };
    let places: Vec<_> = entries.iter().map(|_| (34, 34)).collect();
    let entries_of = |places: &[(u64, u64)]| (1..).zip(places).map(entry).collect();
    let table = gpt::Table { disk: uuid::Uuid::from_u128(9), entries: entries_of(&places) };
    let ends = table.encode(size / 512, &[]).unwrap();
    let mut disk = vec![0; usize::try_from(size).unwrap()];
    disk[..ends.head.len()].copy_from_slice(&ends.head);
    let tail = disk.len() - ends.tail.len();
    disk[tail..].copy_from_slice(&ends.tail);
    // Our writer refuses places that leave the disk, so they are put in afterwards, with their checksums.
    let last = disk.len() - 512;
    for (header, array) in [(512, 1024), (last, tail)] {
        for (slot, (first, last)) in entries.iter().enumerate() {
            let at = array + slot * 128 + 32;
            disk[at..at + 8].copy_from_slice(&first.to_le_bytes());
            disk[at + 8..at + 16].copy_from_slice(&last.to_le_bytes());
        }
        let sum = crc32fast::hash(&disk[array..array + 128 * 128]);
        disk[header + 88..header + 92].copy_from_slice(&sum.to_le_bytes());
        disk[header + 16..header + 20].fill(0);
        let sum = crc32fast::hash(&disk[header..header + 92]);
        disk[header + 16..header + 20].copy_from_slice(&sum.to_le_bytes());
    }
    for (at, bytes) in bytes {
        let at = usize::try_from(*at).unwrap();
        disk[at..at + bytes.len()].copy_from_slice(bytes);
    }
    Disk::new(size, vec![Extent::memory(0, disk)]).unwrap()
}

#[test]
fn entries_of_a_gpt_that_leave_the_disk_are_no_partitions() {
    let wild = [
        (34, 99),
        (34, 2047),
        (34, 2048),
        (1 << 55, 1 << 56),
        (34, u64::MAX),
        (u64::MAX, u64::MAX),
        (99, 34),
        (99, 98),
        (100, 100),
    ];
    let disk = with_gpt(&wild, &[]);
    let found = Partitions::read(&disk).unwrap();
    assert_eq!((found.table, found.disk), (TableKind::Gpt, Some(uuid::Uuid::from_u128(9))));
    let parts: Vec<_> = found.entries.iter().map(|p| (p.number, p.start, p.length)).collect();
    assert_eq!(parts, [(1, 34 * 512, 66 * 512), (2, 34 * 512, 2014 * 512), (9, 51_200, 512)]);
    for part in &found.entries {
        assert!(Content::of(&disk, part, &Cancel::default()).is_ok());
    }
    let problems = gpt::problems(&disk).unwrap();
    let told = |what: &str| problems.iter().any(|problem| problem.contains(what));
    for number in [3, 4, 5, 6, 7, 8] {
        assert!(told(&format!("partition {number} in sectors")), "{number}: {problems:?}");
    }
}

#[test]
fn a_damaged_gpt_is_none_of_an_old_disk() {
    let sound = Partitions::read(&with_gpt(&[(34, 99)], &[])).unwrap();
    assert_eq!(sound.entries.len(), 1);
    // The backup tells what the primary does not.
    let primary = with_gpt(&[(34, 99)], &[(512, b"X")]);
    assert_eq!(Partitions::read(&primary).unwrap(), sound);
    let both = with_gpt(&[(34, 99)], &[(512, b"X"), ((1 << 20) - 512, b"X")]);
    let found = Partitions::read(&both).unwrap();
    assert_eq!((found.table, found.entries.len()), (TableKind::Gpt, 0));
    assert!(!gpt::problems(&both).unwrap().is_empty());
}

/// A FAT of one sector a cluster whose folder `/EFI` follows itself, full of names.
fn circle(folder: &Path) -> (Disk, Part) {
    let image = folder.join("esp");
    std::fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    succeed("mkfs.fat", "dosfstools", ["-F16".as_ref(), "-s1".as_ref(), image.as_os_str()]);
    succeed("mmd", "mtools", ["-i".as_ref(), image.as_os_str(), "::/EFI".as_ref()]);
    let mut bytes = std::fs::read(&image).unwrap();
    let number = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let (reserved, fats, roots, length) =
        (number(14), usize::from(bytes[16]), number(17), number(22));
    let root = (reserved + fats * length) * 512;
    let cluster = number(root + 26);
    let data = root + roots * 32 + (cluster - 2) * 512;
    for slot in 2..16 {
        let entry = data + slot * 32;
        bytes[entry..entry + 11].copy_from_slice(format!("FILE{slot:<7}").as_bytes());
        bytes[entry + 11] = 0x20;
    }
    for fat in 0..fats {
        let at = (reserved + fat * length) * 512 + cluster * 2;
        bytes[at..at + 2].copy_from_slice(&u16::try_from(cluster).unwrap().to_le_bytes());
    }
    std::fs::write(&image, bytes).unwrap();
    around(&image)
}

#[test]
fn a_fat_that_leads_in_circles_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, part) = circle(folder.path());
    let Content::Files(files) = Content::of(&disk, &part, &Cancel::default()).unwrap() else {
        panic!("no file system")
    };
    assert_eq!(files.list("/").unwrap(), ["EFI"]);
    let failure = files.list("/EFI").unwrap_err();
    let told = failure.chain().join(": ");
    assert!(told.contains("leads in circles") || told.contains("names"), "{told}");
    assert!(files.exists("/EFI/BOOT/BOOTX64.EFI").is_err());
}

#[test]
fn looking_into_files_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, part) = circle(folder.path());
    let cancel = Cancel::default();
    let Content::Files(files) = Content::of(&disk, &part, &cancel).unwrap() else {
        panic!("no file system")
    };
    cancel.cancel();
    for failure in [
        files.list("/EFI").unwrap_err(),
        files.read("/EFI/X").unwrap_err(),
        files.exists("/EFI").unwrap_err(),
        Content::of(&disk, &part, &cancel).map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(failure.class(), Class::Interrupted);
    }
}

/// A folder of an ext2 whose blocks are its first one, over and over.
#[test]
fn a_folder_without_end_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let image = make_ext(folder.path(), "ext2");
    let debugfs = |arguments: &[&str]| {
        let image = image.as_os_str();
        let arguments = arguments.iter().map(std::ffi::OsStr::new).chain([image]);
        succeed("debugfs", "e2fsprogs", arguments)
    };
    let told = debugfs(&["-R", "stat /etc/many"]);
    let first = told.split("(0").nth(1).and_then(|rest| rest.split_once(':')).unwrap().1;
    let first: u32 = first.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
    let bytes = std::fs::read(&image).unwrap();
    let block = 1024_usize << bytes[1024 + 24];
    let last = u32::try_from(bytes.len() / block).unwrap() - 1;
    let file = std::fs::File::options().write(true).open(&image).unwrap();
    for (place, points_to) in [(last, first), (last - 1, last)] {
        let pointers = points_to.to_le_bytes().repeat(block / 4);
        let at = u64::from(place) * block as u64;
        std::os::unix::fs::FileExt::write_all_at(&file, &pointers, at).unwrap();
    }
    let size = (12 + 60 * block / 4) * block;
    for (field, value) in [("block[IND]", last), ("block[DIND]", last - 1)] {
        debugfs(&["-w", "-R", &format!("sif /etc/many {field} {value}")]);
    }
    for direct in 0..12 {
        debugfs(&["-w", "-R", &format!("sif /etc/many block[{direct}] {first}")]);
    }
    debugfs(&["-w", "-R", &format!("sif /etc/many size {size}")]);
    let failure = files(&image).list("/etc/many").unwrap_err();
    let told = failure.chain().join(": ");
    // Its block map is refused before its names are.
    assert!(told.contains("/etc/many") && told.contains("in circles"), "{told}");
}

/// A superblock without checksum may tell of anything: the descriptors of 2^32 groups take 64 GiB and more.
#[test]
fn an_ext2_that_is_larger_than_its_partition_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let image = make_ext(folder.path(), "ext2");
    let sound = std::fs::read(&image).unwrap();
    let refused = |patches: &[(usize, u32)]| {
        let mut bytes = sound.clone();
        for (at, number) in patches {
            bytes[1024 + at..1028 + at].copy_from_slice(&number.to_le_bytes());
        }
        std::fs::write(&image, bytes).unwrap();
        let (disk, part) = around(&image);
        let content = Content::of(&disk, &part, &Cancel::default());
        content.map(|_| ()).unwrap_err().chain().join(": ")
    };
    let (blocks, per_group) = (0x04, 0x20);
    let told = refused(&[(blocks, u32::MAX), (per_group, 1)]);
    assert!(told.contains("4294967295 blocks") && told.contains("its partition"), "{told}");
    // As many groups as blocks, in a partition that has room for them.
    let told = {
        let mut bytes = sound.clone();
        bytes[1024 + blocks..1028 + blocks].copy_from_slice(&(1_u32 << 22).to_le_bytes());
        bytes[1024 + per_group..1028 + per_group].copy_from_slice(&1_u32.to_le_bytes());
        std::fs::write(&image, bytes).unwrap();
        std::fs::File::options().write(true).open(&image).unwrap().set_len(16 << 30).unwrap();
        let (disk, part) = around(&image);
        let content = Content::of(&disk, &part, &Cancel::default());
        content.map(|_| ()).unwrap_err().chain().join(": ")
    };
    assert!(told.contains("4194303 block groups"), "{told}");
}

/// Sound file systems to be damaged: one with checksums, one without, and FAT.
static SOUND: std::sync::LazyLock<[Vec<u8>; 3]> = std::sync::LazyLock::new(|| {
    let [ext4, ext2] = ["ext4", "ext2"].map(|kind| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::read(make_ext(folder.path(), kind)).unwrap()
    });
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("esp");
    std::fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    succeed("mkfs.fat", "dosfstools", ["-F16".as_ref(), "-s1".as_ref(), image.as_os_str()]);
    let tree = folder.path().join("esp-tree/etc");
    std::fs::create_dir_all(tree.join("many")).unwrap();
    std::fs::write(tree.join("hostname"), noise(3, 5000)).unwrap();
    for number in 0..60 {
        std::fs::write(tree.join(format!("many/a longer name {number}")), "text").unwrap();
    }
    let words = ["-s".as_ref(), "-i".as_ref(), image.as_os_str(), tree.as_os_str(), "::/".as_ref()];
    succeed("mcopy", "mtools", words);
    [ext4, ext2, std::fs::read(&image).unwrap()]
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    /// Damaged file systems fail or read something; they neither panic nor go on for ever.
    #[test]
    fn damaged_file_systems_are_errors_and_no_panic(
        which in 0..3_usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..60),
        near in any::<bool>(),
    ) {
        let mut bytes = SOUND[which].clone();
        // FAT has its tables and folders in front.
        let start = if which == 2 { 200_000 } else { 300_000 };
        for (index, byte) in flips {
            let at = index.index(if near { start } else { bytes.len() });
            bytes[at] = byte;
        }
        let length = bytes.len() as u64;
        let disk = Disk::new(START + length, vec![Extent::memory(START, bytes)]).unwrap();
        let part = Part {
            number: 1,
            start: START,
            length,
            kind: "0x83".to_owned(),
            guid: None,
            name: String::new(),
        };
        if let Ok(Content::Files(files)) = Content::of(&disk, &part, &Cancel::default()) {
            for path in ["/etc/hostname", "/etc/absolute", "/large", "/none"] {
                let _ = files.read(path);
                let _ = files.exists(path);
            }
            let _ = files.list("/etc/many");
            let _ = files.list("/");
            let mut paths = BTreeSet::new();
            let _ = files.walk(&mut |entry| {
                assert!(paths.insert(entry.path.clone()), "{} twice", entry.path.display());
                Ok(())
            });
            for path in paths.iter().take(20) {
                let _ = files.attributes(path);
                let _ = files.link(path);
            }
        }
    }
}

//! Files read without mounting, from file systems that e2fsprogs, dosfstools and mtools made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln_disk::files::{Content, FileSystem};
use nodekiln_disk::{Disk, Extent, Part, Partitions, Source, TableKind};
use proptest::prelude::*;

use crate::tools::{noise, succeed};

const START: u64 = 1 << 20;

/// A disk with one partition, the content of `image`.
fn around(image: &Path) -> (Disk, Part) {
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

fn files(image: &Path) -> FileSystem {
    let (disk, part) = around(image);
    match Content::of(&disk, &part).unwrap() {
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
        match Content::of(&disk, &part).unwrap() {
            Content::Files(files) => files.name(),
            Content::Named(name) => name,
            Content::Empty => "empty",
            Content::Unknown => "unknown",
        }
    };
    assert_eq!(content(b""), "empty");
    assert_eq!(content(b"XFSB"), "xfs");
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

static SOUND: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    std::fs::read(make_ext(folder.path(), "ext4")).unwrap()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Damaged file systems fail or read something; they neither panic nor go on for ever.
    #[test]
    fn damaged_file_systems_are_errors_and_no_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..60),
        near in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        let mut bytes = SOUND.clone();
        for (index, byte) in flips {
            let at = index.index(if near { 300_000 } else { bytes.len() });
            bytes[at] = byte;
        }
        std::fs::write(&image, bytes).unwrap();
        let (disk, part) = around(&image);
        if let Ok(Content::Files(files)) = Content::of(&disk, &part) {
            for path in ["/etc/hostname", "/etc/absolute", "/large", "/none"] {
                let _ = files.read(path);
            }
            let _ = files.list("/etc/many");
        }
    }
}

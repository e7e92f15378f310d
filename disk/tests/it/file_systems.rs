//! FAT and ext4 judged by their own checkers.

use std::io::{Cursor, Read};
use std::path::Path;
use std::process::Command;

use fatfs::{Dir, FileSystem, FsOptions};
use nodekiln_disk::{Ids, esp, ext4};
use nodekiln_words::SourceDate;
use uuid::Uuid;

use crate::tools::{run, succeed};

fn date() -> SourceDate {
    SourceDate::from_unix(1_793_491_200).unwrap()
}

fn mke2fs(request: &ext4::Request<'_>) {
    let arguments = ext4::mke2fs_arguments(request).unwrap();
    let mut command = Command::new("/usr/sbin/mke2fs");
    command.args(arguments).env_clear().envs(ext4::mke2fs_environment(date()));
    let output = command.output().expect("mke2fs is in Debian's e2fsprogs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn superblock(path: &Path) -> ext4::Superblock {
    let mut start = vec![0; ext4::Superblock::END];
    std::fs::File::open(path).unwrap().read_exact(&mut start).unwrap();
    ext4::Superblock::decode(&start).unwrap()
}

type Files = Vec<(String, Vec<u8>)>;

/// The files of a FAT volume as fatfs reads them: path and content, sorted by path.
fn files(volume: Vec<u8>) -> Files {
    fn gather(folder: &str, directory: &Dir<'_, Cursor<Vec<u8>>>, found: &mut Files) {
        for entry in directory.iter().map(Result::unwrap) {
            let name = entry.file_name();
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            match name.as_str() {
                "." | ".." => {}
                _ if entry.is_dir() => gather(&path, &entry.to_dir(), found),
                _ => {
                    let mut content = Vec::new();
                    entry.to_file().read_to_end(&mut content).unwrap();
                    found.push((path, content));
                }
            }
        }
    }
    let options = FsOptions::new().update_accessed_date(false);
    let volume = FileSystem::new(Cursor::new(volume), options).unwrap();
    let mut found = Files::new();
    gather("", &volume.root_dir(), &mut found);
    found.sort();
    found
}

#[test]
fn files_of_the_esp_come_back_and_two_builds_are_equal() {
    let sample = [
        ("EFI/BOOT/BOOTX64.EFI".to_owned(), vec![7; 100_000]),
        ("EFI/BOOT/grubx64.efi".to_owned(), vec![8; 513]),
        ("EFI/debian/empty".to_owned(), Vec::new()),
        ("EFI/debian/grub.cfg".to_owned(), b"configfile\n".to_vec()),
    ];
    let volume = esp::build(&sample, 64 << 20, 0x1234_5678, date()).unwrap();
    assert!(volume == esp::build(&sample, 64 << 20, 0x1234_5678, date()).unwrap());
    assert!(volume != esp::build(&sample, 64 << 20, 0x1234_5679, date()).unwrap());
    assert_eq!(files(volume), sample);
}

#[test]
fn fsck_fat_finds_the_esp_clean() {
    let files = [
        ("EFI/BOOT/BOOTX64.EFI".to_owned(), vec![7; 1_000_000]),
        ("EFI/BOOT/grubx64.efi".to_owned(), vec![8; 1]),
        ("EFI/debian/grub.cfg".to_owned(), Vec::new()),
        ("EFI/debian/a rather long name.txt".to_owned(), vec![9; 5000]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("esp.img");
    let mut files = files.to_vec();
    files.extend((0..40).map(|n| (format!("EFI/many/file number {n}"), vec![n; 700])));
    for size in [34 << 20, 64 << 20, 200 << 20] {
        std::fs::write(&path, esp::build(&files, size, 0xCAFE_F00D, date()).unwrap()).unwrap();
        let arguments = ["-n".as_ref(), "-v".as_ref(), path.as_os_str()];
        let verdict = succeed("fsck.fat", "dosfstools", arguments);
        assert!(verdict.contains("2 FATs, 32 bit entries"), "{verdict}");
    }
    let arguments = ["-i".as_ref(), path.as_os_str(), "::/EFI/BOOT".as_ref()];
    let listing = succeed("mdir", "mtools", arguments);
    assert!(listing.contains("CAFE-F00D") && listing.contains("2026-11-01"), "{listing}");
}

#[test]
fn e2fsck_finds_the_root_clean_with_the_pinned_features_alone() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    std::fs::write(tree.join("etc/hostname"), "node\n").unwrap();
    let image = folder.path().join("root.img");
    let ids = Ids::derive(Uuid::from_u128(7));
    let size = 256 << 20;
    let request = ext4::Request {
        image: &image,
        offset: 0,
        size,
        tree: Some(&tree),
        label: "root",
        ids: &ids,
    };
    mke2fs(&request);
    assert_eq!(std::fs::metadata(&image).unwrap().len(), size);
    succeed("e2fsck", "e2fsprogs", ["-fn".as_ref(), image.as_os_str()]);
    let superblock = superblock(&image);
    assert_eq!(superblock.uuid, ids.root);
    assert_eq!(superblock.hash_seed, ids.hash_seed);
    assert_eq!(superblock.label, "root");
    assert_eq!((superblock.block, superblock.blocks), (4096, size / 4096));
    assert_eq!(u64::from(superblock.inodes), size / 16_384);
    assert!(superblock.clean);
    assert!(superblock.free_blocks > 50_000 && superblock.free_inodes > 16_000);
    let listing = succeed("dumpe2fs", "e2fsprogs", ["-h".as_ref(), image.as_os_str()]);
    let features = listing.lines().find(|line| line.starts_with("Filesystem features:")).unwrap();
    for unwanted in ["orphan_file", "metadata_csum_seed", "inline_data"] {
        assert!(!features.contains(unwanted), "{features}");
    }
    for wanted in ["has_journal", "extent", "64bit", "metadata_csum", "resize_inode"] {
        assert!(features.contains(wanted), "{features}");
    }
}

#[test]
fn a_damaged_superblock_magic_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("root.img");
    let ids = Ids::derive(Uuid::from_u128(7));
    mke2fs(&ext4::Request {
        image: &image,
        offset: 0,
        size: 64 << 20,
        tree: None,
        label: "",
        ids: &ids,
    });
    let mut start = std::fs::read(&image).unwrap();
    start.truncate(ext4::Superblock::END);
    assert!(ext4::Superblock::decode(&start).is_ok());
    start[1080] ^= 1;
    assert!(ext4::Superblock::decode(&start).is_err());
}

#[test]
fn a_file_system_of_the_estimated_size_takes_the_tree_and_is_not_far_too_large() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    let mut totals = ext4::Totals::default();
    for directory in 0..30 {
        let path = tree.join(format!("d{directory}"));
        std::fs::create_dir_all(&path).unwrap();
        totals.directories += 1;
        for file in 0..60_usize {
            let bytes = vec![1_u8; file * 977];
            std::fs::write(path.join(format!("f{file}")), &bytes).unwrap();
            totals.files += 1;
            totals.bytes += bytes.len() as u64;
        }
    }
    let image = folder.path().join("root.img");
    let ids = Ids::derive(Uuid::from_u128(7));
    let size = ext4::estimate_size(totals);
    mke2fs(&ext4::Request {
        image: &image,
        offset: 0,
        size,
        tree: Some(&tree),
        label: "root",
        ids: &ids,
    });
    let output = run("e2fsck", "e2fsprogs", ["-fn".as_ref(), image.as_os_str()]);
    assert!(output.status.success());
    let superblock = superblock(&image);
    assert!(superblock.free_blocks * 4096 < size / 2, "{superblock:?} of {size}");
}

//! Damaged files end in errors that name the place, never in a panic, and no damage goes unseen.

use std::os::unix::fs::FileExt;
use std::path::Path;

use nodekiln_disk::qcow2::{self, Compression, Options, Reader};
use nodekiln_disk::{Disk, Extent, esp, ext4, gpt, open};
use nodekiln_words::{Cancel, Silent};
use proptest::prelude::*;

use crate::tools::{mixed_disk, qemu_img, run};

const CLUSTER: u64 = 65_536;

fn write(path: &Path, compression: Compression) {
    let options = Options { compression };
    qcow2::write(&mixed_disk(), path, options, &Silent, &Cancel::default()).unwrap();
}

/// What our reader makes of a file: the problems of its check, or why it does not open.
fn problems(path: &Path) -> Vec<String> {
    let file = std::fs::File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let report = Reader::new(file.into(), length)
        .and_then(|reader| reader.check(&Cancel::default()).map(|report| report.problems));
    report.unwrap_or_else(|failure| failure.chain())
}

fn number(path: &Path, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    std::fs::File::open(path).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    u64::from_be_bytes(bytes)
}

fn put(path: &Path, offset: u64, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

/// Where the first L2 table of a file that we wrote is.
fn l2(path: &Path) -> u64 {
    number(path, number(path, 40)) & 0x00FF_FFFF_FFFF_FE00
}

/// The offset of the first refcount block.
fn block(path: &Path) -> u64 {
    number(path, number(path, 48))
}

#[test]
fn every_damage_to_tables_and_counts_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 11] = [
        ("leaked", |path| put(path, block(path) + 6, &[0, 9])),
        ("counted too low", |path| put(path, block(path), &[0, 0])),
        ("L1 entry 0", |path| put(path, number(path, 40), &u64::MAX.to_be_bytes())),
        ("copied flag", |path| put(path, number(path, 40), &l2(path).to_be_bytes())),
        ("behind the end", |path| put(path, l2(path), &(1_u64 << 50).to_be_bytes())),
        ("not aligned", |path| put(path, l2(path), &(1_u64 << 63 | 0x200).to_be_bytes())),
        ("references", |path| put(path, l2(path), &(1_u64 << 63 | CLUSTER).to_be_bytes())),
        ("refcount table", |path| put(path, number(path, 48), &77_u64.to_be_bytes())),
        ("dirty", |path| put(path, 79, &[1])),
        ("corrupt", |path| put(path, 79, &[2])),
        ("leaves the file", |path| {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_len(3 * CLUSTER).unwrap();
        }),
    ];
    for (expected, damage) in damages {
        write(&path, Compression::None);
        assert_eq!(problems(&path), Vec::<String>::new());
        damage(&path);
        let found = problems(&path).join("\n");
        assert!(found.contains(expected), "{expected}: {found}");
    }
}

#[test]
fn compressed_data_that_does_not_unpack_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    for compression in [Compression::zlib(), Compression::zstd()] {
        write(&path, compression);
        // The text at 5 MiB is compressed: its entry is that of guest cluster 80.
        let host = number(&path, l2(&path) + 80 * 8) & ((1 << 54) - 1);
        put(&path, host, &[0xFF; 16]);
        let found = problems(&path).join("\n");
        assert!(found.contains(&format!("host offset {host}")), "{found}");
        let reader = open(&path).unwrap();
        let failure = reader.read_at(5 << 20, &mut [0; 100]).unwrap_err();
        assert!(failure.to_string().contains("5242880"), "{failure:?}");
    }
}

#[test]
fn qemu_img_agrees_that_leaks_and_low_counts_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    write(&path, Compression::None);
    qemu_img(&["check", "-f", "qcow2"], &[&path]);
    put(&path, block(&path) + 6, &[0, 9]);
    let words = ["check", "-f", "qcow2"].map(std::ffi::OsStr::new);
    let output = run("qemu-img", "qemu-utils", words.into_iter().chain([path.as_os_str()]));
    assert!(!output.status.success());
}

/// The start of a well-formed file, to be damaged.
fn seed_file() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seed.qcow2");
    let text = b"some text ".repeat(20_000);
    let disk = Disk::new(1 << 20, vec![Extent::memory(70_000, text)]).unwrap();
    let options = Options { compression: Compression::zlib() };
    qcow2::write(&disk, &path, options, &Silent, &Cancel::default()).unwrap();
    std::fs::read(&path).unwrap()
}

/// Reads all that can be read of `bytes` as an image file.
fn read_everything(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    std::fs::write(&path, bytes).unwrap();
    let Ok(image) = open(&path) else { return };
    let _ = image.check(&Cancel::default());
    let mut buffer = vec![0; 65_536];
    let mut at = 0;
    while at < image.size().min(4 << 20) {
        let length = usize::try_from((image.size() - at).min(65_536)).unwrap();
        let _ = image.read_at(at, &mut buffer[..length]);
        at += length as u64;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn arbitrary_bytes_never_panic_a_reader(
        mut bytes in prop::collection::vec(any::<u8>(), 0..8192),
        magic in any::<bool>(),
    ) {
        if magic && bytes.len() > 8 {
            bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        }
        read_everything(&bytes);
        let _ = esp::files(&bytes);
        let _ = ext4::Superblock::decode(&bytes);
        let length = bytes.len() as u64;
        let disk = Disk::new(length, vec![Extent::memory(0, bytes)]).unwrap();
        let _ = gpt::problems(&disk);
        let _ = gpt::Table::read(&disk);
    }

    #[test]
    fn flipped_bytes_in_a_qcow2_never_panic_the_reader(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        header_only in any::<bool>(),
    ) {
        static SEED: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(seed_file);
        let mut bytes = SEED.clone();
        let range = if header_only { 104 } else { bytes.len() };
        for (index, value) in flips {
            bytes[index.index(range)] = value;
        }
        read_everything(&bytes);
    }

    #[test]
    fn flipped_bytes_in_a_fat_volume_never_panic_the_reader(
        flips in prop::collection::vec((0..100_000_usize, any::<u8>()), 1..12),
    ) {
        static SEED: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
            let files = [("EFI/BOOT/BOOTX64.EFI".to_owned(), vec![1; 3000])];
            let date = nodekiln_words::SourceDate::from_unix(1_793_491_200).unwrap();
            esp::build(&files, 34 << 20, 1, date).unwrap()
        });
        let mut bytes = SEED.clone();
        for (index, value) in flips {
            bytes[index] = value;
        }
        let _ = esp::files(&bytes);
    }
}

//! Damaged files end in errors that name the place, never in a panic, and no damage goes unseen.

use std::os::unix::fs::FileExt;
use std::path::Path;

use nodekiln_disk::qcow2::{self, Compression, Options, Reader, Report};
use nodekiln_disk::{Depth, Disk, Extent, ext4, gpt, open};
use nodekiln_words::{Cancel, Class, Result, Silent};
use proptest::prelude::*;
use proptest::sample::select;

use crate::partitions::{Ends, Place, SIZE, Side};
use crate::tools::{mixed_disk, qemu_img, run};

const CLUSTER: u64 = 65_536;

fn write(path: &Path, compression: Compression) {
    let options = Options { compression };
    qcow2::write(&mixed_disk(), path, options, &Silent, &Cancel::default()).unwrap();
}

fn reader(path: &Path) -> Result<Reader> {
    let file = std::fs::File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    Reader::new(file.into(), length)
}

fn report(path: &Path) -> Report {
    reader(path).unwrap().check(&Cancel::default()).unwrap()
}

/// What our reader makes of a file: the problems of its check, or why it does not open.
fn problems(path: &Path) -> Vec<String> {
    let report = reader(path).and_then(|reader| reader.check(&Cancel::default()));
    report.map_or_else(|failure| failure.chain(), |report| report.problems)
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
        ("another entry's", |path| put(path, number(path, 48) + 8, &block(path).to_be_bytes())),
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
fn a_leak_is_told_apart_from_damage_as_qemu_img_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    let verdict = |path: &Path| {
        let words = ["check", "-f", "qcow2"].map(std::ffi::OsStr::new);
        run("qemu-img", "qemu-utils", words.into_iter().chain([path.as_os_str()])).status.code()
    };
    write(&path, Compression::None);
    assert_eq!((verdict(&path), report(&path).leaks.len()), (Some(0), 0));
    // One more cluster that is counted and not used.
    let end = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(end + CLUSTER).unwrap();
    put(&path, block(&path) + end / CLUSTER * 2, &[0, 1]);
    let leaking = report(&path);
    assert_eq!((verdict(&path), leaking.leaks.len()), (Some(3), 1));
    assert!(leaking.problems.is_empty(), "{leaking:?}");
    assert!(leaking.leaks[0].contains(&format!("host cluster {} is leaked", end / CLUSTER)));
    put(&path, block(&path), &[0, 0]);
    assert_eq!((verdict(&path), problems(&path).is_empty()), (Some(2), false));
}

#[test]
fn snapshots_and_bitmaps_are_not_checked_and_the_remedy_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    for (words, noun) in [
        (&["snapshot", "-c", "one"][..], "1 internal snapshots"),
        (&["bitmap", "--add", "-f", "qcow2"], "1 bitmaps"),
    ] {
        write(&path, Compression::None);
        let name = if words[0] == "bitmap" { &[Path::new("dirty")][..] } else { &[] };
        qemu_img(words, &[&[path.as_path()], name].concat());
        let failure = reader(&path).unwrap().check(&Cancel::default()).unwrap_err();
        assert_eq!(failure.class(), Class::Unsupported);
        assert!(failure.to_string().contains(noun), "{failure:?}");
        assert!(failure.help().is_some_and(|help| help.contains("qemu-img convert")));
    }
}

#[test]
fn a_small_file_cannot_map_a_large_disk_by_naming_a_table_often() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    write(&path, Compression::None);
    let tables = 2048_u32;
    put(&path, 24, &(u64::from(tables) << 29).to_be_bytes());
    put(&path, 36, &tables.to_be_bytes());
    let entry = number(&path, number(&path, 40));
    put(&path, number(&path, 40), &entry.to_be_bytes().repeat(tables as usize));
    let failure = open(&path).unwrap_err();
    let text = failure.chain().join(": ");
    assert!(text.contains("L1 entries 0 and 1 share the L2 table"), "{text}");
}

#[test]
fn comparing_refcounts_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    write(&path, Compression::None);
    // Without L1 entries there is nothing to do before.
    put(&path, 24, &0_u64.to_be_bytes());
    put(&path, 36, &0_u32.to_be_bytes());
    let cancel = Cancel::default();
    assert!(reader(&path).unwrap().check(&cancel).is_ok());
    cancel.cancel();
    let failure = reader(&path).unwrap().check(&cancel).unwrap_err();
    assert_eq!(failure.class(), Class::Interrupted);
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
    let _ = image.check(Depth::Bytes, &Cancel::default());
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

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn a_partition_table_that_is_found_sound_keeps_its_promises(
        patches in prop::collection::vec((side(), place(), number_of_a_table()), 1..5),
    ) {
        let mut ends = Ends::sound();
        for (side, (place, width), number) in &patches {
            ends.patch(*side, *place, &number.to_le_bytes()[..*width]);
        }
        let disk = ends.sealed();
        if gpt::problems(&disk).unwrap().is_empty() {
            prop_assert_eq!(broken_promise(&disk), None, "{:?}", patches);
        }
        let _ = gpt::Table::read(&disk);
    }
}

/// Mostly both tables, for otherwise it is always found that they disagree.
fn side() -> impl Strategy<Value = Side> {
    prop_oneof![6 => Just(Side::Both), 1 => Just(Side::Primary), 1 => Just(Side::Backup)]
}

/// A field that says where something is, or any byte, and how many bytes of it are patched.
fn place() -> impl Strategy<Value = (Place, usize)> {
    prop_oneof![
        4 => select(vec![40, 48, 72]).prop_map(|byte| (Place::Header(byte), 8)),
        1 => select(vec![80, 84]).prop_map(|byte| (Place::Header(byte), 4)),
        1 => (8..92_usize).prop_map(|byte| (Place::Header(byte), 1)),
        4 => (0..4_usize, select(vec![32, 40])).prop_map(|(n, byte)| (Place::Entry(n, byte), 8)),
        1 => (0..4_usize, 0..128_usize).prop_map(|(n, byte)| (Place::Entry(n, byte), 1)),
    ]
}

/// Sectors at which something begins or ends, and others.
fn number_of_a_table() -> impl Strategy<Value = u64> {
    const SECTORS: u64 = SIZE / 512;
    let borders =
        vec![0, 1, 2, 33, 34, 128, 2048, 4096, SECTORS / 2, SECTORS - 34, SECTORS, u64::MAX];
    let near =
        (select(borders), 0..3_u64).prop_map(|(at, more)| at.wrapping_add(more).wrapping_sub(1));
    prop_oneof![4 => near, 1 => 0..SECTORS, 1 => any::<u64>()]
}

/// What is wrong with a table that was found sound: something that it names lies where something else
/// does. Reads the disk by the offsets of the specification alone.
fn broken_promise(disk: &Disk) -> Option<String> {
    let number = |offset: u64, width: usize| {
        let mut bytes = [0; 8];
        disk.read_at(offset, &mut bytes[..width]).unwrap();
        u64::from_le_bytes(bytes)
    };
    let sectors = disk.size() / 512;
    for header in [512, disk.size() - 512] {
        let array = number(header + 72, 8);
        let (count, length) = (number(header + 80, 4), number(header + 84, 4));
        let mut taken = vec![(0, 1), (sectors - 1, sectors - 1)];
        taken.push((array, array + (count * length).div_ceil(512) - 1));
        for entry in (0..count).map(|index| array * 512 + index * length) {
            if number(entry, 8) != 0 || number(entry + 8, 8) != 0 {
                taken.push((number(entry + 32, 8), number(entry + 40, 8)));
            }
        }
        taken.sort_unstable();
        let apart = taken.windows(2).all(|pair| pair[0].1 < pair[1].0);
        if !apart || taken.iter().any(|(first, last)| first > last || *last >= sectors) {
            return Some(format!("header at {header}: {taken:?}"));
        }
    }
    None
}

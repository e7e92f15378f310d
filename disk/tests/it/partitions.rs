//! The partition table judged by sgdisk, and the validator judged by damage.

use nodekiln_disk::gpt::{Table, problems};
use nodekiln_disk::{BootMode, Disk, Extent, Ids, Layout};
use nodekiln_words::Bytes;
use uuid::Uuid;

use crate::tools::{content, succeed, write_raw};

const SIZE: u64 = 128 << 20;

fn layout() -> Layout {
    Layout::plan(Bytes(SIZE), BootMode::Hybrid).unwrap()
}

fn table() -> Table {
    Table::of(&layout(), &Ids::derive(Uuid::from_u128(1)))
}

fn disk_of(table: &Table, size: u64) -> Disk {
    let ends = table.encode(size / 512, &[]).unwrap();
    let tail = size - ends.tail.len() as u64;
    let extents = vec![Extent::memory(0, ends.head), Extent::memory(tail, ends.tail)];
    Disk::new(size, extents).unwrap()
}

#[test]
fn sgdisk_finds_no_problem_and_reads_what_we_wrote() {
    let folder = tempfile::tempdir().unwrap();
    for boot in [BootMode::Hybrid, BootMode::Bios, BootMode::Uefi] {
        let layout = Layout::plan(Bytes(SIZE), boot).unwrap();
        let ids = Ids::derive(Uuid::from_u128(1));
        let disk = disk_of(&Table::of(&layout, &ids), SIZE);
        let path = folder.path().join("disk.raw");
        write_raw(&disk, &path);
        let verdict = succeed("sgdisk", "gdisk", ["-v".as_ref(), path.as_os_str()]);
        assert!(verdict.contains("No problems found"), "{verdict}");
        let listing = succeed("sgdisk", "gdisk", ["-p".as_ref(), path.as_os_str()]);
        let guid = ids.disk.to_string().to_uppercase();
        assert!(listing.contains(&guid), "{listing}");
        let root = layout.root().unwrap();
        let (first, last) = (root.first_sector().to_string(), root.last_sector().to_string());
        let line = listing.lines().find(|line| line.ends_with("root")).unwrap();
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(fields[..3], [root.number.to_string().as_str(), &first, &last]);
        assert_eq!(fields[5], "8304");
    }
}

#[test]
fn the_reader_returns_what_was_written_and_the_validator_finds_nothing() {
    let disk = disk_of(&table(), SIZE);
    assert_eq!(Table::read(&disk).unwrap(), table());
    assert_eq!(problems(&disk).unwrap(), Vec::<String>::new());
}

#[test]
fn every_byte_of_headers_and_used_entries_is_watched_over() {
    let sound = content(&disk_of(&table(), SIZE));
    let tail = sound.len() - 33 * 512;
    let used = 3 * 128;
    let places = (512..512 + 92)
        .chain(1024..1024 + used)
        .chain(tail..tail + used)
        .chain(sound.len() - 512..sound.len() - 512 + 92)
        .chain([446 + 4, 510, 511, 1024 + 16_383, tail + 16_383]);
    for place in places.step_by(3) {
        let mut damaged = [sound[..34 * 512].to_vec(), sound[tail..].to_vec()];
        let at = if place < tail { (0, place) } else { (1, place - tail) };
        damaged[at.0][at.1] ^= 0x10;
        let [head, end] = damaged;
        let extents = vec![Extent::memory(0, head), Extent::memory(tail as u64, end)];
        let disk = Disk::new(SIZE, extents).unwrap();
        assert!(!problems(&disk).unwrap().is_empty(), "byte {place}");
    }
}

#[test]
fn a_disk_that_grew_has_its_backup_in_the_wrong_place() {
    let small = disk_of(&table(), SIZE);
    let grown = Disk::new(2 * SIZE, small.extents().to_vec()).unwrap();
    let found = problems(&grown).unwrap().join("\n");
    assert!(found.contains("the last sector is 524287"), "{found}");
}

#[test]
fn overlapping_and_repeated_partitions_are_named() {
    let mut overlap = table();
    overlap.entries[1].last = overlap.entries[2].first;
    let found = problems(&disk_of(&overlap, SIZE)).unwrap().join("\n");
    assert!(found.contains("partitions 2 and 3 overlap"), "{found}");
    let mut twice = table();
    twice.entries[1].guid = twice.entries[0].guid;
    let found = problems(&disk_of(&twice, SIZE)).unwrap().join("\n");
    assert!(found.contains("GUID of another"), "{found}");
}

#[test]
fn entries_that_do_not_fit_are_not_written() {
    let mut outside = table();
    outside.entries[2].last = SIZE / 512 - 33;
    assert!(outside.encode(SIZE / 512, &[]).is_err());
    assert!(table().encode(SIZE / 512, &[0; 441]).is_err());
    assert!(table().encode(10, &[]).is_err());
}

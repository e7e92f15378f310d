//! The partition table judged by sgdisk, and the validator judged by damage.

use nodekiln_disk::gpt::{Table, problems};
use nodekiln_disk::{BootMode, Disk, Extent, Ids, Layout};
use nodekiln_words::Bytes;
use uuid::Uuid;

use crate::tools::{content, run, succeed, write_raw};

pub(crate) const SIZE: u64 = 128 << 20;

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

/// Both ends of a sound disk, to be damaged and sealed with right checksums again.
pub(crate) struct Ends {
    head: Vec<u8>,
    tail: Vec<u8>,
}

/// Which of the two tables is patched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Primary,
    Backup,
    Both,
}

/// A byte of a header, or of an entry by its index.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Header(usize),
    Entry(usize, usize),
}

impl Ends {
    pub(crate) fn sound() -> Self {
        let ends = table().encode(SIZE / 512, &[]).unwrap();
        Self { head: ends.head, tail: ends.tail }
    }

    pub(crate) fn patch(&mut self, side: Side, place: Place, bytes: &[u8]) {
        let (primary, backup) = match place {
            Place::Header(byte) => (512 + byte, 32 * 512 + byte),
            Place::Entry(index, byte) => (1024 + index * 128 + byte, index * 128 + byte),
        };
        if side != Side::Backup {
            self.head[primary..primary + bytes.len()].copy_from_slice(bytes);
        }
        if side != Side::Primary {
            self.tail[backup..backup + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// The disk, with the checksums of both tables made right wherever that is possible.
    pub(crate) fn sealed(mut self) -> Disk {
        for at_head in [true, false] {
            let disk = self.disk();
            let header =
                if at_head { &mut self.head[512..1024] } else { &mut self.tail[32 * 512..] };
            let field = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
            let (array, counts) = (field(72), field(80));
            let length = (counts & 0xFFFF_FFFF) * (counts >> 32);
            let mut entries = vec![0; usize::try_from(length.min(1 << 20)).unwrap()];
            if disk.read_at(array.saturating_mul(512), &mut entries).is_ok() {
                header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
            }
            header[16..20].fill(0);
            let checksum = crc32fast::hash(&header[..92]);
            header[16..20].copy_from_slice(&checksum.to_le_bytes());
        }
        self.disk()
    }

    fn disk(&self) -> Disk {
        let tail = Extent::memory(SIZE - 33 * 512, self.tail.clone());
        Disk::new(SIZE, vec![Extent::memory(0, self.head.clone()), tail]).unwrap()
    }
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
        let verdict = run("sgdisk", "gdisk", ["-v".as_ref(), path.as_os_str()]);
        let text = String::from_utf8_lossy(&[verdict.stdout, verdict.stderr].concat()).into_owned();
        // It finds no problems in what it repairs in memory, after a caution.
        assert!(text.contains("No problems found") && !text.contains("Caution"), "{text}");
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
    for place in places {
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
fn overlapping_and_repeated_partitions_are_named_once() {
    let mut overlap = table();
    overlap.entries[1].last = overlap.entries[2].first;
    let found = problems(&disk_of(&overlap, SIZE)).unwrap();
    assert_eq!(found, ["primary and backup table: partitions 2 and 3 overlap"]);
    let mut ends = Ends::sound();
    ends.patch(Side::Backup, Place::Entry(0, 32), &5_u64.to_le_bytes());
    let found = problems(&ends.sealed()).unwrap();
    let own = "backup table: partition 1 in sectors 5 to 4095 leaves the usable area";
    assert_eq!(found, [own, "primary and backup table disagree"]);
    let mut twice = table();
    twice.entries[1].guid = twice.entries[0].guid;
    let found = problems(&disk_of(&twice, SIZE)).unwrap().join("\n");
    assert!(found.contains("GUID of another"), "{found}");
}

#[test]
fn a_usable_area_that_holds_a_table_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.raw");
    let last = SIZE / 512 - 1;
    for (field, value, expected) in [
        (
            40,
            0,
            "primary table: header in sector 1 and entries in sectors 2 to 33 do not lie before",
        ),
        (
            40,
            33,
            "primary table: header in sector 1 and entries in sectors 2 to 33 do not lie before",
        ),
        (48, last - 32, "backup table: header in sector 262143 and entries"),
        (48, last - 1, "do not lie behind usable sectors 34 to 262142"),
    ] {
        let mut ends = Ends::sound();
        // A partition makes use of what is said to be usable.
        let (entry, bound) = if field == 40 { (0, 32) } else { (2, 40) };
        ends.patch(Side::Both, Place::Header(field), &value.to_le_bytes());
        ends.patch(Side::Both, Place::Entry(entry, bound), &value.to_le_bytes());
        let disk = ends.sealed();
        let found = problems(&disk).unwrap();
        assert!(found.len() == 1 && found[0].contains(expected), "{field} {value}: {found:?}");
        // sgdisk looks at the primary alone in this.
        if field == 40 {
            write_raw(&disk, &path);
            let verdict = run("sgdisk", "gdisk", ["-v".as_ref(), path.as_os_str()]);
            let text = String::from_utf8_lossy(&verdict.stdout).into_owned();
            assert!(text.contains("extends past the first usable LBA"), "{value}: {text}");
        }
    }
}

#[test]
fn entries_that_do_not_fit_are_not_written() {
    let mut outside = table();
    outside.entries[2].last = SIZE / 512 - 33;
    assert!(outside.encode(SIZE / 512, &[]).is_err());
    assert!(table().encode(SIZE / 512, &[0; 441]).is_err());
    assert!(table().encode(10, &[]).is_err());
}

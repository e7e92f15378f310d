//! The partitions of any disk, by its GPT or, where it has none, by the four entries of its MBR.

use nodekiln_words::Result;
use uuid::Uuid;

use crate::disk::Disk;
use crate::fields::le32;
use crate::gpt;
use crate::layout::SECTOR;

/// Kinds of partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// GUID partition table.
    Gpt,
    /// The old table in the first sector.
    Mbr,
}

/// What a disk is divided into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitions {
    /// The table.
    pub table: TableKind,
    /// The disk's GUID, where the table has one.
    pub disk: Option<Uuid>,
    /// The partitions, by number.
    pub entries: Vec<Part>,
}

/// A partition of any disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1.
    pub number: u32,
    /// Where it begins, in bytes.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its type: a GUID, or an MBR's byte as two hexadecimal digits behind `0x`.
    pub kind: String,
    /// Its GUID, where the table has one.
    pub guid: Option<Uuid>,
    /// Its name, empty where it has none.
    pub name: String,
}

/// MBR types that stand for no partition with data: none, extended (three ways), GPT's protection.
const NOT_DATA: [u8; 5] = [0x00, 0x05, 0x0F, 0x85, gpt::PROTECTIVE];

impl Partitions {
    /// Reads the table of `disk`. Partitions that leave the disk are left out.
    ///
    /// # Errors
    /// When the disk cannot be read. A GPT that is damaged is told by [`gpt::problems`]; here the disk then
    /// has the partitions of its backup table, or none.
    pub fn read(disk: &Disk) -> Result<Self> {
        if let Ok(table) = gpt::Table::read(disk) {
            return Ok(Self::of_gpt(disk, &table));
        }
        let mut sector = [0; SECTOR as usize];
        disk.read_at(0, &mut sector)?;
        // The entry that keeps old tools away says that there was a GPT.
        if sector[446..510].chunks_exact(16).any(|entry| entry[4] == gpt::PROTECTIVE) {
            return Ok(match gpt::Table::read_backup(disk) {
                Ok(table) => Self::of_gpt(disk, &table),
                Err(_) => Self { table: TableKind::Gpt, disk: None, entries: Vec::new() },
            });
        }
        let entries = (1..).zip(sector[446..510].chunks_exact(16)).filter_map(|(number, entry)| {
            let start = u64::from(le32(entry, 8)?) * SECTOR;
            let length = u64::from(le32(entry, 12)?) * SECTOR;
            let fits = length > 0 && start.checked_add(length)? <= disk.size();
            (fits && !NOT_DATA.contains(&entry[4])).then(|| Part {
                number,
                start,
                length,
                kind: format!("{:#04x}", entry[4]),
                guid: None,
                name: String::new(),
            })
        });
        Ok(Self { table: TableKind::Mbr, disk: None, entries: entries.collect() })
    }

    fn of_gpt(disk: &Disk, table: &gpt::Table) -> Self {
        let entries = table.entries.iter().filter_map(|entry| {
            let start = entry.first.checked_mul(SECTOR)?;
            let end = entry.last.checked_add(1)?.checked_mul(SECTOR)?;
            (start < end && end <= disk.size()).then(|| Part {
                number: entry.number,
                start,
                length: end - start,
                kind: entry.kind.to_string(),
                guid: Some(entry.guid),
                name: entry.name.clone(),
            })
        });
        Self { table: TableKind::Gpt, disk: Some(table.disk), entries: entries.collect() }
    }
}

impl Part {
    /// What its type is called, where that is known (Discoverable Partitions Specification; UEFI 2.10,
    /// section 5.3.3).
    #[must_use]
    pub fn kind_name(&self) -> Option<&'static str> {
        KINDS.iter().find(|(kind, _)| *kind == self.kind).map(|(_, name)| *name)
    }
}

const KINDS: [(&str, &str); 15] = [
    ("21686148-6449-6e6f-744e-656564454649", "BIOS boot"),
    ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI system"),
    ("0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux data"),
    ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "Linux root x86-64"),
    ("b921b045-1df0-41c3-af44-4c6f280d3fae", "Linux root arm64"),
    ("8484680c-9521-48c6-9c11-b0720656f69e", "Linux /usr x86-64"),
    ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "Linux extended boot"),
    ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap"),
    ("e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM"),
    ("5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6", "ChromeOS root (Flatcar /usr)"),
    ("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "Microsoft basic data"),
    ("0x83", "Linux"),
    ("0x82", "Linux swap"),
    ("0x8e", "Linux LVM"),
    ("0xef", "EFI system"),
];

//! GUID partition table (UEFI specification 2.10, chapter 5): writer, reader and validator.
//!
//! A disk carries a protective MBR in sector 0, a header in sector 1 and 128 entries in sectors 2
//! to 33; the last 33 sectors hold a copy of the entries and then of the header.

use std::collections::BTreeSet;

use nodekiln_words::{Failure, Result};
use uuid::{Uuid, uuid};

use crate::disk::Disk;
use crate::fields::{bytes, le16, le32, le64};
use crate::ids::Ids;
use crate::layout::{Layout, Role, SECTOR};

/// Type of a BIOS boot partition, which GRUB defined.
pub const TYPE_BIOS_BOOT: Uuid = uuid!("21686148-6449-6e6f-744e-656564454649");
/// Type of an EFI system partition.
pub const TYPE_ESP: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
/// Type of an x86-64 root partition (Discoverable Partitions Specification).
pub const TYPE_ROOT_X86_64: Uuid = uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");

const HEADER_LENGTH: u32 = 92;
const REVISION: u32 = 0x0001_0000;
const ENTRIES: u32 = 128;
const ENTRY_LENGTH: u32 = 128;
/// Sectors of the entry array.
const ENTRY_SECTORS: u64 = 32;
/// First sector that a partition may use.
const FIRST_USABLE: u64 = 2 + ENTRY_SECTORS;
/// Boot code fills the MBR up to the disk signature.
const BOOT_CODE: usize = 440;
/// Type of the MBR entry that covers a GPT.
pub(crate) const PROTECTIVE: u8 = 0xEE;
/// Largest entry array that is read, in bytes.
const MAX_ARRAY: u64 = 1 << 20;

/// One entry of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1.
    pub number: u32,
    /// What kind of partition it is.
    pub kind: Uuid,
    /// The partition's own GUID.
    pub guid: Uuid,
    /// First sector.
    pub first: u64,
    /// Last sector, which still belongs to it.
    pub last: u64,
    /// Attribute bits.
    pub attributes: u64,
    /// Its name.
    pub name: String,
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// GUID of the disk.
    pub disk: Uuid,
    /// Entries that are in use, by number.
    pub entries: Vec<Entry>,
}

/// The two ends of a disk that hold its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Sectors 0 to 33.
    pub head: Vec<u8>,
    /// The last 33 sectors.
    pub tail: Vec<u8>,
}

impl Table {
    /// The table of a planned disk.
    #[must_use]
    pub fn of(layout: &Layout, ids: &Ids) -> Self {
        let entries = layout.partitions.iter().map(|partition| {
            let (kind, guid, name) = match partition.role {
                Role::BiosBoot => (TYPE_BIOS_BOOT, ids.bios_boot, "bios-boot"),
                Role::Esp => (TYPE_ESP, ids.esp, "esp"),
                Role::Root => (TYPE_ROOT_X86_64, ids.root_partition, "root"),
            };
            Entry {
                number: partition.number,
                kind,
                guid,
                first: partition.first_sector(),
                last: partition.last_sector(),
                attributes: 0,
                name: name.to_owned(),
            }
        });
        Self { disk: ids.disk, entries: entries.collect() }
    }

    /// The bytes of both ends of a disk of `sectors` sectors, with `boot_code` in the MBR.
    ///
    /// # Errors
    /// When an entry's number, place or name does not fit, or the boot code is longer than 440
    /// bytes.
    pub fn encode(&self, sectors: u64, boot_code: &[u8]) -> Result<Encoded> {
        let last_usable = sectors.checked_sub(FIRST_USABLE).filter(|last| *last >= FIRST_USABLE);
        let last_usable = last_usable
            .ok_or_else(|| Failure::input(format!("{sectors} sectors hold no partition table")))?;
        let array = self.encode_entries(last_usable)?;
        let array_crc = crc32fast::hash(&array);
        let header = |own: u64, other: u64, array_at: u64| {
            let fields = [own, other, FIRST_USABLE, last_usable];
            encode_header(fields, self.disk, array_at, array_crc)
        };
        let mut head = protective_mbr(sectors, boot_code)?;
        head.extend(header(1, sectors - 1, 2));
        head.extend(&array);
        let mut tail = array;
        tail.extend(header(sectors - 1, 1, sectors - 1 - ENTRY_SECTORS));
        Ok(Encoded { head, tail })
    }

    fn encode_entries(&self, last_usable: u64) -> Result<Vec<u8>> {
        let mut array = vec![0; (ENTRIES * ENTRY_LENGTH) as usize];
        let slots = array.chunks_exact_mut(ENTRY_LENGTH as usize);
        for (number, slot) in (1..).zip(slots) {
            let Some(entry) = self.entries.iter().find(|entry| entry.number == number) else {
                continue;
            };
            if entry.first < FIRST_USABLE || entry.last > last_usable || entry.first > entry.last {
                let (first, last) = (entry.first, entry.last);
                let place = format!("sectors {first} to {last}");
                return Err(Failure::input(format!("partition {number} at {place} does not fit")));
            }
            slot.copy_from_slice(&encode_entry(entry)?);
        }
        let misnumbered = self.entries.iter().find(|entry| !(1..=ENTRIES).contains(&entry.number));
        match misnumbered {
            Some(entry) => Err(Failure::input(format!("partition number {}", entry.number))),
            None => Ok(array),
        }
    }

    /// Reads the primary table of `disk` and checks its checksums.
    ///
    /// # Errors
    /// When there is no sound primary table, with what is wrong with it.
    pub fn read(disk: &Disk) -> Result<Self> {
        let primary = Header::read(disk, 1)?;
        primary.table(disk)
    }

    /// Reads the copy at the end of `disk` and checks its checksums.
    ///
    /// # Errors
    /// When there is no sound copy in the last sector, with what is wrong with it.
    pub fn read_backup(disk: &Disk) -> Result<Self> {
        Header::read(disk, (disk.size() / SECTOR).saturating_sub(1))?.table(disk)
    }
}

fn encode_entry(entry: &Entry) -> Result<[u8; ENTRY_LENGTH as usize]> {
    let mut bytes = Vec::with_capacity(ENTRY_LENGTH as usize);
    bytes.extend(entry.kind.to_bytes_le());
    bytes.extend(entry.guid.to_bytes_le());
    bytes.extend(entry.first.to_le_bytes());
    bytes.extend(entry.last.to_le_bytes());
    bytes.extend(entry.attributes.to_le_bytes());
    bytes.extend(entry.name.encode_utf16().flat_map(u16::to_le_bytes));
    let length = bytes.len();
    bytes.resize(length.max(ENTRY_LENGTH as usize), 0);
    let name = &entry.name;
    bytes.try_into().map_err(|_| Failure::input(format!("partition name `{name}` is too long")))
}

/// `fields` are own sector, other header's sector, first and last usable sector.
fn encode_header(fields: [u64; 4], disk: Uuid, array_at: u64, array_crc: u32) -> Vec<u8> {
    let mut bytes = b"EFI PART".to_vec();
    bytes.extend(REVISION.to_le_bytes());
    bytes.extend(HEADER_LENGTH.to_le_bytes());
    bytes.extend([0; 8]); // checksum, filled in below, and reserved
    bytes.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
    bytes.extend(disk.to_bytes_le());
    bytes.extend(array_at.to_le_bytes());
    bytes.extend(ENTRIES.to_le_bytes());
    bytes.extend(ENTRY_LENGTH.to_le_bytes());
    bytes.extend(array_crc.to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes.resize(SECTOR as usize, 0);
    bytes
}

/// Sector 0: boot code, and one entry of type 0xEE that keeps old tools away.
fn protective_mbr(sectors: u64, boot_code: &[u8]) -> Result<Vec<u8>> {
    if boot_code.len() > BOOT_CODE {
        return Err(Failure::input(format!("boot code of {} bytes", boot_code.len())));
    }
    let mut bytes = boot_code.to_vec();
    bytes.resize(446, 0); // with a disk signature of 0
    bytes.extend([0x00, 0x00, 0x02, 0x00, PROTECTIVE, 0xFF, 0xFF, 0xFF]);
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
    bytes.resize(510, 0);
    bytes.extend([0x55, 0xAA]);
    Ok(bytes)
}

/// A header whose own checksum is right.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Header {
    own: u64,
    other: u64,
    first_usable: u64,
    last_usable: u64,
    disk: Uuid,
    array_at: u64,
    entries: u32,
    entry_length: u32,
    array_crc: u32,
}

impl Header {
    fn read(disk: &Disk, sector: u64) -> Result<Self> {
        let bad = |what: &str| Failure::input(format!("GPT header in sector {sector}: {what}"));
        let mut buffer = [0; SECTOR as usize];
        let offset = sector.checked_mul(SECTOR).ok_or_else(|| bad("is behind the end"))?;
        disk.read_at(offset, &mut buffer).map_err(|cause| bad("unreadable").with_source(cause))?;
        if bytes(&buffer, 0) != Some(*b"EFI PART") {
            return Err(bad("no signature"));
        }
        let header = Self::decode(&buffer).ok_or_else(|| bad("checksum or length is wrong"))?;
        if header.own != sector {
            return Err(bad(&format!("says that it is in sector {}", header.own)));
        }
        Ok(header)
    }

    fn decode(buffer: &[u8]) -> Option<Self> {
        let length = usize::try_from(le32(buffer, 12)?).ok()?;
        let mut checked = buffer.get(..length).filter(|_| length >= 92)?.to_vec();
        checked.get_mut(16..20)?.fill(0);
        if crc32fast::hash(&checked) != le32(buffer, 16)? {
            return None;
        }
        Some(Self {
            own: le64(buffer, 24)?,
            other: le64(buffer, 32)?,
            first_usable: le64(buffer, 40)?,
            last_usable: le64(buffer, 48)?,
            disk: Uuid::from_bytes_le(bytes(buffer, 56)?),
            array_at: le64(buffer, 72)?,
            entries: le32(buffer, 80)?,
            entry_length: le32(buffer, 84)?,
            array_crc: le32(buffer, 88)?,
        })
    }

    /// What is wrong with this header, which is sound by itself, and its entries.
    fn problems(&self, disk: &Disk, sectors: u64) -> Vec<String> {
        let mut problems = self.place_problems(sectors);
        match self.table(disk) {
            Ok(table) => problems.extend(entry_problems(self, &table)),
            Err(failure) => problems.push(failure.to_string()),
        }
        problems
    }

    /// What is wrong with where it says that things are. A partition may lie anywhere in the usable
    /// area, so that area must hold neither table: the primary lies before it, the backup behind.
    fn place_problems(&self, sectors: u64) -> Vec<String> {
        let Self { own, first_usable: first, last_usable: last, array_at, .. } = *self;
        let mut problems = Vec::new();
        if last >= sectors || first > last {
            problems.push(format!("usable sectors {first} to {last} leave the disk"));
        }
        let array_end = array_at.saturating_add(self.array_length().div_ceil(SECTOR));
        let (apart, side) = if own == 1 {
            (own < array_at && array_end <= first, "before")
        } else {
            (last < array_at && array_end <= own, "behind")
        };
        if !apart {
            problems.push(format!(
                "header in sector {own} and entries in sectors {array_at} to {} do not lie {side} \
                 usable sectors {first} to {last}",
                array_end.saturating_sub(1)
            ));
        }
        problems
    }

    fn array_length(&self) -> u64 {
        u64::from(self.entries) * u64::from(self.entry_length)
    }

    /// Reads the entries that this header describes.
    fn table(&self, disk: &Disk) -> Result<Table> {
        let bad =
            |what: &str| Failure::input(format!("GPT entries of sector {}: {what}", self.own));
        let length = self.array_length();
        let aligned = self.entry_length.is_multiple_of(8);
        if self.entry_length < 128 || !aligned || !(1..=MAX_ARRAY).contains(&length) {
            return Err(bad(&format!("{} of {} bytes", self.entries, self.entry_length)));
        }
        let mut array = vec![0; usize::try_from(length).map_err(|_| bad("too long"))?];
        let offset = self.array_at.checked_mul(SECTOR).ok_or_else(|| bad("behind the end"))?;
        disk.read_at(offset, &mut array).map_err(|cause| bad("unreadable").with_source(cause))?;
        if crc32fast::hash(&array) != self.array_crc {
            return Err(bad("checksum is wrong"));
        }
        let slots = array.chunks_exact(usize::try_from(self.entry_length).unwrap_or(128));
        let entries = (1..).zip(slots).filter_map(|(number, slot)| decode_entry(number, slot));
        Ok(Table { disk: self.disk, entries: entries.collect() })
    }
}

/// An entry, unless it is unused.
fn decode_entry(number: u32, slot: &[u8]) -> Option<Entry> {
    let kind = Uuid::from_bytes_le(bytes(slot, 0)?);
    if kind.is_nil() {
        return None;
    }
    let units = slot.get(56..128)?.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    Some(Entry {
        number,
        kind,
        guid: Uuid::from_bytes_le(bytes(slot, 16)?),
        first: le64(slot, 32)?,
        last: le64(slot, 40)?,
        attributes: le64(slot, 48)?,
        name: String::from_utf16_lossy(&units),
    })
}

/// What is wrong with the partition table of `disk`; empty when it is sound.
///
/// # Errors
/// When the disk cannot be read.
pub fn problems(disk: &Disk) -> Result<Vec<String>> {
    let sectors = disk.size() / SECTOR;
    let mut problems = mbr_problems(disk, sectors)?;
    if sectors < 2 * FIRST_USABLE {
        problems.push(format!("a disk of {sectors} sectors has no room for a GPT"));
        return Ok(problems);
    }
    let primary = Header::read(disk, 1);
    let backup = Header::read(disk, sectors - 1);
    let found = [&primary, &backup].map(|header| match header {
        Ok(header) => header.problems(disk, sectors),
        Err(failure) => vec![failure.to_string()],
    });
    problems.extend(by_table(&found));
    if let Ok(primary) = &primary {
        if primary.other != sectors - 1 {
            let place = primary.other;
            problems.push(format!(
                "backup header is in sector {place}, the last sector is {}",
                sectors - 1
            ));
        }
        if let Ok(backup) = &backup {
            problems.extend(pair_problems(primary, backup));
        }
    }
    Ok(problems)
}

/// The problems of both tables, each with the table that has it in front; what both have stands once.
fn by_table([primary, backup]: &[Vec<String>; 2]) -> Vec<String> {
    let [of_primary, of_backup] = [primary, backup].map(|all| all.iter().collect::<BTreeSet<_>>());
    let first = primary.iter().map(|problem| match of_backup.contains(problem) {
        true => format!("primary and backup table: {problem}"),
        false => format!("primary table: {problem}"),
    });
    let rest = backup.iter().filter(|problem| !of_primary.contains(problem));
    first.chain(rest.map(|problem| format!("backup table: {problem}"))).collect()
}

fn mbr_problems(disk: &Disk, sectors: u64) -> Result<Vec<String>> {
    let mut mbr = [0; SECTOR as usize];
    if sectors == 0 {
        return Ok(vec!["the disk is empty".to_owned()]);
    }
    disk.read_at(0, &mut mbr)?;
    if le16(&mbr, 510) != Some(0xAA55) {
        return Ok(vec!["protective MBR: no signature at offset 510".to_owned()]);
    }
    let expected = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    let mut problems = Vec::new();
    if mbr[450] != PROTECTIVE || le32(&mbr, 454) != Some(1) {
        problems.push("protective MBR: the first entry does not cover the GPT".to_owned());
    } else if le32(&mbr, 458).is_none_or(|length| length != expected && length != u32::MAX) {
        problems.push("protective MBR: its length is not that of the disk".to_owned());
    }
    Ok(problems)
}

fn pair_problems(primary: &Header, backup: &Header) -> Vec<String> {
    let same = Header {
        own: primary.own,
        other: primary.other,
        array_at: primary.array_at,
        ..backup.clone()
    };
    let mut problems = Vec::new();
    if same != *primary {
        problems.push("primary and backup table disagree".to_owned());
    }
    if backup.other != primary.own {
        problems.push(format!("backup header points to sector {}", backup.other));
    }
    problems
}

fn entry_problems(header: &Header, table: &Table) -> Vec<String> {
    let mut problems = Vec::new();
    let mut sorted: Vec<&Entry> = table.entries.iter().collect();
    sorted.sort_by_key(|entry| (entry.first, entry.number));
    for entry in &sorted {
        let Entry { number, first, last, .. } = entry;
        if first > last || *first < header.first_usable || *last > header.last_usable {
            problems.push(format!(
                "partition {number} in sectors {first} to {last} leaves the usable area"
            ));
        }
    }
    for pair in sorted.windows(2) {
        if let [lower, upper] = pair
            && upper.first <= lower.last
        {
            problems.push(format!("partitions {} and {} overlap", lower.number, upper.number));
        }
    }
    for (index, entry) in sorted.iter().enumerate() {
        if sorted.iter().take(index).any(|other| other.guid == entry.guid) {
            problems.push(format!("partition {} has the GUID of another", entry.number));
        }
    }
    problems
}

//! The header, the descriptor and the markers.

use nodekiln_words::{Class, Failure, Result, Sha256};

use super::{GRAIN, OVERHEAD, SECTOR, TABLE_ENTRIES};
use crate::fields::{bytes, le16, le32, le64};

/// What a sparse extent starts with.
pub(crate) const MAGIC: &[u8; 4] = b"KDMV";
/// The newline test is valid, grains are compressed, markers are present.
const FLAGS: u32 = 0x0003_0001;
/// A grain directory that only the footer tells the place of.
pub(super) const AT_END: u64 = u64::MAX;
/// The bytes that a transfer as text would change.
const NEWLINES: &[u8; 4] = b"\n \r\n";
/// Sectors of the descriptor.
const DESCRIPTOR_SECTORS: u64 = 20;
/// DEFLATE, the one compression there is.
const DEFLATE: u16 = 1;

/// What the header of an extent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Size of the disk in sectors.
    pub capacity: u64,
    /// Sectors of a grain.
    pub grain: u64,
    /// Entries of a grain table.
    pub table_entries: u32,
    /// Where the grain directory stands, in sectors; `u64::MAX` where only the footer knows.
    pub directory: u64,
    /// Whether grains are compressed and stand behind markers.
    pub compressed: bool,
}

/// What stands between grains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Table = 1,
    Directory = 2,
    Footer = 3,
}

impl Header {
    /// For a disk of `capacity` sectors whose grain directory stands at sector `directory`.
    pub(super) fn new(capacity: u64, directory: u64) -> Self {
        let table_entries = u32::try_from(TABLE_ENTRIES).unwrap_or(u32::MAX);
        Self { capacity, grain: GRAIN, table_entries, directory, compressed: true }
    }

    /// The 512 bytes.
    pub(super) fn encode(&self) -> [u8; 512] {
        let mut header = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        put(4, &3_u32.to_le_bytes()); // version
        put(8, &FLAGS.to_le_bytes());
        put(12, &self.capacity.to_le_bytes());
        put(20, &self.grain.to_le_bytes());
        put(28, &1_u64.to_le_bytes()); // the descriptor's place
        put(36, &DESCRIPTOR_SECTORS.to_le_bytes());
        put(44, &self.table_entries.to_le_bytes());
        put(48, &0_u64.to_le_bytes()); // no redundant directory
        put(56, &self.directory.to_le_bytes());
        put(64, &OVERHEAD.to_le_bytes());
        put(73, NEWLINES);
        put(77, &DEFLATE.to_le_bytes());
        header
    }

    /// Reads a header or a footer.
    ///
    /// # Errors
    /// When it is damaged or of a kind that is not read here.
    pub fn decode(header: &[u8]) -> Result<Self> {
        let damaged = |what: &str| Failure::input(format!("VMDK header: {what}"));
        let short = || damaged("it is cut off");
        if bytes::<4>(header, 0) != Some(*MAGIC) {
            return Err(damaged("it does not start with KDMV"));
        }
        let version = le32(header, 4).ok_or_else(short)?;
        if !(1..=3).contains(&version) {
            let message = format!("VMDK version {version}");
            return Err(Failure::new(Class::Unsupported, message));
        }
        let flags = le32(header, 8).ok_or_else(short)?;
        if flags & 1 != 0 && bytes::<4>(header, 73) != Some(*NEWLINES) {
            return Err(damaged("the file was changed by a transfer as text"));
        }
        let compressed = flags & 0x0001_0000 != 0;
        let method = le16(header, 77).ok_or_else(short)?;
        if compressed && method != DEFLATE {
            return Err(Failure::new(Class::Unsupported, format!("VMDK compression {method}")));
        }
        let decoded = Self {
            capacity: le64(header, 12).ok_or_else(short)?,
            grain: le64(header, 20).ok_or_else(short)?,
            table_entries: le32(header, 44).ok_or_else(short)?,
            directory: le64(header, 56).ok_or_else(short)?,
            compressed,
        };
        // Grains are a power of two of more than 8 sectors; tables have 512 entries in every version.
        let grain = decoded.grain.is_power_of_two() && (8..=8192).contains(&decoded.grain);
        if !grain || decoded.table_entries != 512 {
            let message = format!(
                "grains of {} sectors in tables of {}",
                decoded.grain, decoded.table_entries
            );
            return Err(damaged(&message));
        }
        // The header of a descriptor's file: QEMU opens what that lists in place of an extent.
        if decoded.capacity == 0 {
            return Err(damaged("a disk of no sectors"));
        }
        if decoded.capacity > (64 << 40) / SECTOR {
            return Err(damaged(&format!("a disk of {} sectors", decoded.capacity)));
        }
        Ok(decoded)
    }
}

impl Marker {
    /// A sector that says what `sectors` sectors follow.
    pub(super) fn encode(self, sectors: u64) -> [u8; 512] {
        let mut marker = [0; 512];
        marker[..8].copy_from_slice(&sectors.to_le_bytes());
        marker[12..16].copy_from_slice(&(self as u32).to_le_bytes());
        marker
    }
}

/// The descriptor of a disk of `capacity` sectors in the file `name`.
///
/// The content's id follows from the disk's digest: its last 32 bits stand alone as `CID` too.
#[must_use]
pub fn descriptor(capacity: u64, name: &str, payload: &Sha256) -> String {
    let mut id = [0; 16];
    id.copy_from_slice(&payload.as_bytes()[..16]);
    if id[12..16] >= [0xFF, 0xFF, 0xFF, 0xFE][..] {
        id[12] = 0; // all ones mean "no parent", all but the last bit "not set"
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (long, short) = (hex(&id), hex(&id[12..]));
    let cylinders = capacity / (255 * 63);
    format!(
        "# Disk DescriptorFile\n\
         version=1\n\
         CID={short}\n\
         parentCID=ffffffff\n\
         createType=\"streamOptimized\"\n\
         \n\
         # Extent description\n\
         RDONLY {capacity} SPARSE \"{name}\"\n\
         \n\
         # The Disk Data Base\n\
         #DDB\n\
         \n\
         ddb.adapterType = \"lsilogic\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"255\"\n\
         ddb.geometry.sectors = \"63\"\n\
         ddb.longContentID = \"{long}\"\n\
         ddb.toolsInstallType = \"4\"\n\
         ddb.toolsVersion = \"2147483647\"\n\
         ddb.virtualHWVersion = \"13\"\n"
    )
}

/// Bytes that the descriptor may take.
pub(super) const DESCRIPTOR_BYTES: usize = (DESCRIPTOR_SECTORS * SECTOR) as usize;

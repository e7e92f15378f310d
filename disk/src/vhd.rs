//! Fixed VHD (Microsoft, Virtual Hard Disk Image Format Specification 1.0): the bytes of the disk and
//! one footer of 512 bytes, all numbers big-endian.
//!
//! Azure takes this format and no other: a file whose disk is a whole number of MiB.

use std::path::Path;

use nodekiln_words::{Cancel, Class, Failure, Progress, Result, Sha256};

use crate::disk::Disk;
use crate::fields::{be32, be64, bytes};
use crate::file_writer::FileWriter;
use crate::output::{Output, Written};
use crate::pass::Pass;
use crate::payload::Payload;

/// Bytes of the footer.
pub const FOOTER: u64 = 512;
/// What the disk's size must be a multiple of.
pub const ALIGNMENT: u64 = 1 << 20;
/// Where a footer starts, and what a dynamic disk starts with too.
pub(crate) const COOKIE: &[u8; 8] = b"conectix";
/// Seconds from 1970 to 2000, where the format's time begins.
const EPOCH: u64 = 946_684_800;
/// Types of disk.
const FIXED: u32 = 2;
/// Largest disk, by the specification.
const MAX_SIZE: u64 = 2040 << 30;

/// What the footer of a disk says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Size of the disk in bytes.
    pub size: u64,
    /// Seconds since 1970, UTC.
    pub created: u64,
    /// The disk's id.
    pub uuid: [u8; 16],
}

impl Footer {
    /// The 512 bytes.
    ///
    /// The creator is `qem2` and the geometry the largest there is: readers then take the size to the
    /// byte, where others would compute a smaller one from cylinders, heads and sectors.
    #[must_use]
    pub fn encode(&self) -> [u8; 512] {
        let mut footer = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| footer[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, COOKIE);
        put(8, &2_u32.to_be_bytes()); // features: a bit that is always set
        put(12, &0x0001_0000_u32.to_be_bytes());
        put(16, &u64::MAX.to_be_bytes()); // no dynamic header
        let seconds = self.created.saturating_sub(EPOCH);
        put(24, &u32::try_from(seconds).unwrap_or(u32::MAX).to_be_bytes());
        put(28, b"qem2");
        put(32, &0x0005_0003_u32.to_be_bytes());
        put(36, b"Wi2k");
        put(40, &self.size.to_be_bytes());
        put(48, &self.size.to_be_bytes());
        put(56, &u16::MAX.to_be_bytes());
        put(58, &[16, 255]);
        put(60, &FIXED.to_be_bytes());
        put(68, &self.uuid);
        let sum = checksum(&footer);
        footer[64..68].copy_from_slice(&sum.to_be_bytes());
        footer
    }

    /// Reads the last 512 bytes of a file that is `length` bytes long.
    ///
    /// # Errors
    /// When they are no footer of a fixed disk, or do not fit the file.
    pub fn decode(footer: &[u8], length: u64) -> Result<Self> {
        let damaged = |what: &str| Failure::input(format!("VHD footer: {what}"));
        let short = || damaged("it is cut off");
        if bytes::<8>(footer, 0) != Some(*COOKIE) {
            return Err(damaged("there is none at the end of the file"));
        }
        let found = be32(footer, 64).ok_or_else(short)?;
        let expected = checksum(footer);
        if found != expected {
            let message = format!("its checksum is {found:#010x} and should be {expected:#010x}");
            return Err(damaged(&message));
        }
        match be32(footer, 60).ok_or_else(short)? {
            FIXED => {}
            3 | 4 => {
                return Err(Failure::new(Class::Unsupported, "a dynamic or differencing VHD disk")
                    .with_help("`qemu-img convert -O raw` reads it"));
            }
            kind => return Err(damaged(&format!("{kind} is no type of disk"))),
        }
        let size = be64(footer, 48).ok_or_else(short)?;
        if length.checked_sub(FOOTER) != Some(size) {
            let rest = length.saturating_sub(FOOTER);
            return Err(damaged(&format!(
                "it tells of {size} bytes, the file has {rest} before it"
            )));
        }
        let seconds = u64::from(be32(footer, 24).ok_or_else(short)?);
        let uuid = bytes::<16>(footer, 68).ok_or_else(short)?;
        Ok(Self { size, created: EPOCH + seconds, uuid })
    }
}

/// The ones' complement of the sum of all bytes but the checksum's own.
fn checksum(footer: &[u8]) -> u32 {
    let sum = |bytes: Option<&[u8]>| bytes.unwrap_or_default().iter().map(|b| u32::from(*b)).sum();
    let (before, behind): (u32, u32) = (sum(footer.get(..64)), sum(footer.get(68..512)));
    !(before + behind)
}

/// What Azure would refuse in a sound file with a disk of `size` bytes.
pub(crate) fn problems(size: u64) -> Vec<String> {
    if size > 0 && size.is_multiple_of(ALIGNMENT) {
        return Vec::new();
    }
    vec![format!("the VHD's disk of {size} bytes is not a whole number of MiB, as Azure wants it")]
}

/// A fixed VHD being written.
#[derive(Debug)]
pub struct Writer {
    output: Output,
    size: u64,
    created: u64,
}

impl Writer {
    /// Creates the file at `path` for `disk`. `created` is in seconds since 1970.
    ///
    /// # Errors
    /// When the disk is not a whole number of MiB or larger than 2040 GiB, or the file cannot be made.
    pub fn create(disk: &Disk, path: &Path, created: u64) -> Result<Self> {
        let size = disk.size();
        if size == 0 || !size.is_multiple_of(ALIGNMENT) {
            return Err(Failure::input(format!("{size} bytes are not a whole number of MiB"))
                .with_help("Azure takes no other VHD: give the disk a size in MiB or GiB"));
        }
        if size > MAX_SIZE {
            let message = format!("{size} bytes exceed VHD's 2040 GiB");
            return Err(Failure::new(Class::Unsupported, message));
        }
        let output = Output::create(path)?;
        output.set_length(size + FOOTER)?;
        Ok(Self { output, size, created })
    }
}

impl FileWriter for Writer {
    fn join<'a>(&'a mut self, disk: &'a Disk, pass: &mut Pass<'a>) {
        pass.plain(disk, &self.output);
    }

    /// Flushes the file and compares it with the disk while its digest is still being made, then writes the
    /// footer, which has that digest in it. The file's own digest continues the disk's.
    fn finish(
        self: Box<Self>,
        disk: &Disk,
        payload: &Payload,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Written> {
        self.output.sync_and_compare(disk, &[0; FOOTER as usize], cancel)?;
        let mut digester = payload.digester(progress, cancel)?;
        let uuid = uuid(&digester.clone().finish());
        let footer = Footer { size: self.size, created: self.created, uuid }.encode();
        self.output.write_at(self.size, &footer)?;
        self.output.sync_and_compare_end(self.size, &footer)?;
        digester.update(&footer);
        let (sha256, allocated) = (digester.finish(), self.output.written());
        Ok(Written { sha256, bytes: self.size + FOOTER, allocated })
    }
}

/// The disk's id follows from what it holds, in the form of a version 8 UUID (RFC 9562, section 5.8).
fn uuid(payload: &Sha256) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&payload.as_bytes()[..16]);
    uuid[6] = uuid[6] & 0x0F | 0x80;
    uuid[8] = uuid[8] & 0x3F | 0x80;
    uuid
}

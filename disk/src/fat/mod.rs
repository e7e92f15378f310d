//! FAT32 volumes made in memory (Microsoft FAT specification 1.03), with nothing in them that varies.
//!
//! Files lie one after the other in the order given, each in one run of clusters; directories are
//! made as paths need them; every time stamp is the source date. `fatfs`, by which the tests read
//! volumes back, is not used to write them: it gives `.` and `..` long names, which fsck.fat calls
//! damage.

mod names;
mod stamp;
mod write;

use nodekiln_words::SourceDate;

pub use write::build;

/// A volume to make.
#[derive(Clone, Copy, Debug)]
pub struct Volume<'a> {
    /// Path (names with `/` between them) and content of each file, in the order in which they lie.
    pub files: &'a [(String, Vec<u8>)],
    /// Size in bytes: a multiple of 512 between 33 MiB and 1 GiB.
    pub size: u64,
    /// Serial of the volume.
    pub serial: u32,
    /// Label: at most 11 upper-case letters, digits or spaces.
    pub label: &'a str,
    /// Every time stamp, in UTC.
    pub source_date: SourceDate,
}

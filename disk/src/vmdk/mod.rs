//! Stream-optimised VMDK (VMware, Virtual Disk Format 5.0, "Stream-Optimized Compressed Sparse
//! Extents"): writer and reader.
//!
//! ```text
//! sector 0   header, whose grain directory is "at the end"
//! 1..21      descriptor, text
//! 128..      grains in ascending order, each zlib behind 12 bytes of marker; after each 32 MiB of the
//!            disk that have any, a grain table
//! end        grain directory, footer (the header, now with the directory's place), end of stream
//! ```
//!
//! Numbers are little-endian; a sector has 512 bytes.

mod header;
mod read;
mod write;

pub(crate) use header::MAGIC;
pub use header::{Header, descriptor};
pub use read::Reader;
pub use write::{Alone, Writer};

/// Bytes of a sector.
const SECTOR: u64 = 512;
/// Sectors of a grain: 64 KiB.
const GRAIN: u64 = 128;
/// Grains of a grain table: 32 MiB of the disk.
const TABLE_ENTRIES: usize = 512;
/// Where the first grain may stand, in sectors.
const OVERHEAD: u64 = 128;

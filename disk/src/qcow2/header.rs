//! The header of a qcow2 file: written for version 3, read for versions 2 and 3.

use nodekiln_words::{Class, Failure, Result};

use crate::fields::{be32, be64};

/// The first four bytes of every qcow2 file.
pub const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Header extension that names the format of the backing file.
const EXTENSION_BACKING_FORMAT: u32 = 0xE279_2ACA;
/// Header extension that counts persistent bitmaps and says where their directory is.
const EXTENSION_BITMAPS: u32 = 0x2385_2875;
/// Autoclear feature: the bitmaps are those of the data. Without it the extension means nothing.
const AUTOCLEAR_BITMAPS: u64 = 1 << 0;

/// Longest backing file name in bytes.
const MAX_BACKING_NAME: u32 = 1023;
/// Largest L1 table in bytes; QEMU refuses more.
const MAX_L1_BYTES: u64 = 32 << 20;
/// Largest refcount table in bytes; QEMU refuses more.
const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;

/// Incompatible feature: refcounts may be stale.
const INCOMPATIBLE_DIRTY: u64 = 1 << 0;
/// Incompatible feature: the file is known to be damaged.
const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
/// Incompatible feature: another file holds the data.
const INCOMPATIBLE_EXTERNAL_DATA: u64 = 1 << 2;
/// Incompatible feature: the compression type byte is not 0.
const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
/// Incompatible feature: L2 entries of 128 bits.
const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;

/// Header length without and with the compression type byte, in bytes.
const LENGTH_PLAIN: u32 = 104;
const LENGTH_WITH_TYPE: u32 = 112;

/// The fields of a qcow2 header. Offsets and sizes are bytes unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version 2 or 3.
    pub version: u32,
    /// Binary logarithm of the cluster size; 16 where we write.
    pub cluster_bits: u32,
    /// Size of the virtual disk.
    pub size: u64,
    /// Entries of the L1 table.
    pub l1_entries: u32,
    /// Where the L1 table begins.
    pub l1_offset: u64,
    /// Where the refcount table begins.
    pub refcount_offset: u64,
    /// Length of the refcount table in clusters.
    pub refcount_clusters: u32,
    /// Number of internal snapshots.
    pub snapshots: u32,
    /// Number of persistent bitmaps; read, never written.
    pub bitmaps: u32,
    /// Binary logarithm of the width of a refcount in bits; 4 where we write.
    pub refcount_order: u32,
    /// Compression type: 0 zlib, 1 zstd.
    pub compression_type: u8,
    /// Whether the dirty bit is set: refcounts may be stale.
    pub dirty: bool,
    /// Backing file name as it stands in the file.
    pub backing_file: Option<String>,
    /// Format of the backing file.
    pub backing_format: Option<String>,
}

impl Header {
    /// Bytes of a cluster.
    #[must_use]
    pub fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of the virtual disk that one L2 table maps.
    pub(crate) fn l2_span(&self) -> u64 {
        self.cluster() * (self.cluster() / 8)
    }

    /// Length of the L1 table in bytes.
    pub(crate) fn l1_bytes(&self) -> u64 {
        u64::from(self.l1_entries) * 8
    }

    /// The bytes of the header with its extensions and the backing file name, for version 3.
    ///
    /// Without compression type byte it has 104 bytes, which every reader of version 3 knows.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let length = if self.compression_type == 0 { LENGTH_PLAIN } else { LENGTH_WITH_TYPE };
        let extensions = self.encode_extensions();
        let backing = self.backing_file.as_deref().unwrap_or_default();
        let backing_offset =
            if backing.is_empty() { 0 } else { u64::from(length) + extensions.len() as u64 };
        let backing_length = u32::try_from(backing.len()).unwrap_or(u32::MAX);
        let incompatible = if self.compression_type == 0 { 0 } else { INCOMPATIBLE_COMPRESSION };

        let mut bytes = MAGIC.to_vec();
        bytes.extend(3_u32.to_be_bytes());
        bytes.extend(backing_offset.to_be_bytes());
        bytes.extend(backing_length.to_be_bytes());
        bytes.extend(self.cluster_bits.to_be_bytes());
        bytes.extend(self.size.to_be_bytes());
        bytes.extend(0_u32.to_be_bytes()); // no encryption
        bytes.extend(self.l1_entries.to_be_bytes());
        bytes.extend(self.l1_offset.to_be_bytes());
        bytes.extend(self.refcount_offset.to_be_bytes());
        bytes.extend(self.refcount_clusters.to_be_bytes());
        bytes.extend(self.snapshots.to_be_bytes());
        bytes.extend(0_u64.to_be_bytes()); // snapshot table
        bytes.extend(incompatible.to_be_bytes());
        bytes.extend(0_u64.to_be_bytes()); // compatible features
        bytes.extend(0_u64.to_be_bytes()); // autoclear features
        bytes.extend(self.refcount_order.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        if length > LENGTH_PLAIN {
            bytes.extend([self.compression_type, 0, 0, 0, 0, 0, 0, 0]);
        }
        bytes.extend(extensions);
        bytes.extend(backing.as_bytes());
        bytes
    }

    fn encode_extensions(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(format) = &self.backing_format {
            let length = u32::try_from(format.len()).unwrap_or(u32::MAX);
            bytes.extend(EXTENSION_BACKING_FORMAT.to_be_bytes());
            bytes.extend(length.to_be_bytes());
            bytes.extend(format.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes.extend([0; 8]); // end of extensions
        bytes
    }

    /// Reads the header from `start`, the first bytes of a file of `file_length` bytes.
    ///
    /// # Errors
    /// Names the field that is out of bounds, or the feature that is not supported.
    pub fn decode(start: &[u8], file_length: u64) -> Result<Self> {
        if start.get(..4) != Some(&MAGIC) {
            return Err(Failure::input("no qcow2 magic at offset 0"));
        }
        let short = || Failure::input("qcow2 header is cut off");
        let number = |offset| be32(start, offset).ok_or_else(short);
        let long = |offset| be64(start, offset).ok_or_else(short);
        let version = number(4)?;
        if !(2..=3).contains(&version) {
            return Err(unsupported(format!("qcow2 version {version} at offset 4")));
        }
        let features = if version >= 3 { long(72)? } else { 0 };
        let length = if version >= 3 { number(100)? } else { 72 };
        let typed = features & INCOMPATIBLE_COMPRESSION != 0;
        let mut header = Self {
            version,
            cluster_bits: number(20)?,
            size: long(24)?,
            l1_entries: number(36)?,
            l1_offset: long(40)?,
            refcount_offset: long(48)?,
            refcount_clusters: number(56)?,
            snapshots: number(60)?,
            bitmaps: 0,
            refcount_order: if version >= 3 { number(96)? } else { 4 },
            compression_type: if typed { *start.get(104).ok_or_else(short)? } else { 0 },
            dirty: features & INCOMPATIBLE_DIRTY != 0,
            backing_file: None,
            backing_format: None,
        };
        header.check_features(features, number(32)?, length)?;
        header.check_bounds(file_length)?;
        header.backing_file = backing_name(start, long(8)?, number(16)?)?;
        // The backing file's name follows the extensions; old writers mark their end by it alone.
        let end = if header.backing_file.is_some() { long(8)? } else { header.cluster() };
        let extensions = Extensions::read(start, length, end)?;
        header.backing_format = extensions.backing_format;
        if version >= 3 && long(88)? & AUTOCLEAR_BITMAPS != 0 {
            header.bitmaps = extensions.bitmaps;
        }
        Ok(header)
    }

    fn check_features(&self, features: u64, encryption: u32, length: u32) -> Result<()> {
        let known = INCOMPATIBLE_DIRTY | INCOMPATIBLE_COMPRESSION;
        if features & INCOMPATIBLE_CORRUPT != 0 {
            return Err(Failure::input("qcow2 header marks the file as corrupt")
                .with_help("repair it with `qemu-img check -r all`"));
        }
        if features & INCOMPATIBLE_EXTERNAL_DATA != 0 {
            return Err(unsupported("qcow2 with an external data file"));
        }
        if features & INCOMPATIBLE_EXTENDED_L2 != 0 {
            return Err(unsupported("qcow2 with extended L2 entries"));
        }
        if features & !known != 0 {
            return Err(unsupported(format!("qcow2 with unknown features {features:#x}")));
        }
        if encryption != 0 {
            return Err(unsupported("encrypted qcow2"));
        }
        if self.compression_type > 1 {
            let kind = self.compression_type;
            return Err(unsupported(format!("qcow2 compression type {kind} at offset 104")));
        }
        if self.version >= 3 && (length < LENGTH_PLAIN || u64::from(length) > 1 << 16) {
            return Err(Failure::input(format!("qcow2 header length {length} at offset 100")));
        }
        Ok(())
    }

    fn check_bounds(&self, file_length: u64) -> Result<()> {
        let refuse = |what: String| Err(Failure::input(format!("qcow2 header: {what}")));
        if !(9..=21).contains(&self.cluster_bits) {
            return refuse(format!("cluster size 2^{} at offset 20", self.cluster_bits));
        }
        if self.refcount_order > 6 {
            return refuse(format!("refcount order {} at offset 96", self.refcount_order));
        }
        let needed = self.size.div_ceil(self.l2_span());
        if u64::from(self.l1_entries) < needed || self.l1_bytes() > MAX_L1_BYTES {
            let entries = self.l1_entries;
            return refuse(format!("L1 table of {entries} entries for {} bytes", self.size));
        }
        let inside = |offset: u64, length: u64| {
            offset.is_multiple_of(self.cluster())
                && offset.checked_add(length).is_some_and(|end| end <= file_length)
        };
        if self.l1_entries > 0 && !inside(self.l1_offset, self.l1_bytes()) {
            return refuse(format!("L1 table at {} leaves the file", self.l1_offset));
        }
        let refcount_bytes = u64::from(self.refcount_clusters) * self.cluster();
        if refcount_bytes > MAX_REFCOUNT_TABLE_BYTES.max(self.cluster())
            || !inside(self.refcount_offset, refcount_bytes)
        {
            return refuse(format!("refcount table at {} leaves the file", self.refcount_offset));
        }
        Ok(())
    }
}

fn unsupported(what: impl std::fmt::Display) -> Failure {
    Failure::new(Class::Unsupported, format!("{what} is not supported"))
        .with_help("convert it with `qemu-img convert -O qcow2`")
}

fn backing_name(start: &[u8], offset: u64, length: u32) -> Result<Option<String>> {
    if offset == 0 {
        return Ok(None);
    }
    let bad = || Failure::input(format!("qcow2 backing file name of {length} bytes at {offset}"));
    let from = usize::try_from(offset).map_err(|_| bad())?;
    let length = usize::try_from(length.min(MAX_BACKING_NAME + 1)).map_err(|_| bad())?;
    let end = from.checked_add(length).ok_or_else(bad)?;
    let name = start.get(from..end).filter(|name| name.len() <= 1023).ok_or_else(bad)?;
    Ok(Some(String::from_utf8_lossy(name).into_owned()))
}

/// What is taken from the header's extensions.
#[derive(Default)]
struct Extensions {
    backing_format: Option<String>,
    bitmaps: u32,
}

impl Extensions {
    /// Reads the extensions that stand in `start` from the header's end to `end`.
    fn read(start: &[u8], header_length: u32, end: u64) -> Result<Self> {
        let mut at = usize::try_from(header_length).unwrap_or(usize::MAX);
        let area = usize::try_from(end).ok().and_then(|end| start.get(..end)).unwrap_or(start);
        let mut found = Self::default();
        while let (Some(kind), Some(length)) = (be32(area, at), be32(area, at.saturating_add(4))) {
            if kind == 0 {
                break;
            }
            let bad =
                || Failure::input(format!("qcow2 header extension of {length} bytes at {at}"));
            let length = usize::try_from(length).map_err(|_| bad())?;
            let body = area.get(at + 8..).and_then(|rest| rest.get(..length)).ok_or_else(bad)?;
            match kind {
                EXTENSION_BACKING_FORMAT => {
                    found.backing_format = Some(String::from_utf8_lossy(body).into_owned());
                }
                EXTENSION_BITMAPS => found.bitmaps = be32(body, 0).ok_or_else(bad)?,
                _ => {}
            }
            at += 8 + length.next_multiple_of(8);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            version: 3,
            cluster_bits: 16,
            size: 1 << 30,
            l1_entries: 2,
            l1_offset: 1 << 16,
            refcount_offset: 2 << 16,
            refcount_clusters: 1,
            snapshots: 0,
            bitmaps: 0,
            refcount_order: 4,
            compression_type: 0,
            dirty: false,
            backing_file: None,
            backing_format: None,
        }
    }

    #[test]
    fn a_header_with_backing_file_and_compression_type_round_trips() {
        for compression_type in [0, 1] {
            let backing_file = Some("/images/base.raw".to_owned());
            let backing_format = Some("raw".to_owned());
            let header = Header { compression_type, backing_file, backing_format, ..header() };
            let mut bytes = header.encode();
            bytes.resize(1 << 16, 0);
            assert_eq!(Header::decode(&bytes, 4 << 16).unwrap(), header);
        }
    }

    #[test]
    fn a_name_right_behind_an_old_header_is_no_extension() {
        let mut bytes = header().encode();
        bytes.truncate(72);
        bytes[7] = 2;
        bytes[15] = 72;
        bytes[19] = 16;
        bytes.extend(b"/images/base.raw");
        bytes.resize(1 << 16, 0);
        let header = Header::decode(&bytes, 4 << 16).unwrap();
        assert_eq!(header.backing_file.as_deref(), Some("/images/base.raw"));
        assert_eq!((header.version, header.backing_format), (2, None));
    }

    #[test]
    fn the_zlib_header_is_104_bytes_and_has_no_feature_bit() {
        let bytes = header().encode();
        assert_eq!(be32(&bytes, 100), Some(104));
        assert_eq!(be64(&bytes, 72), Some(0));
        assert_eq!(bytes.len(), 112); // with the end of extensions
    }

    #[test]
    fn fields_out_of_bounds_are_refused() {
        let broken: [fn(&mut Header); 6] = [
            |header| header.cluster_bits = 8,
            |header| header.cluster_bits = 63,
            |header| header.l1_entries = 1,
            |header| header.l1_offset = u64::MAX - 4,
            |header| header.refcount_offset = 4 << 16,
            |header| header.refcount_order = 7,
        ];
        for breakage in broken {
            let mut header = header();
            breakage(&mut header);
            let mut bytes = header.encode();
            bytes.resize(1 << 16, 0);
            assert!(Header::decode(&bytes, 4 << 16).is_err(), "{header:?}");
        }
    }
}

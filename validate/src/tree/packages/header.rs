//! Headers of RPM packages, as RPM's databases keep them.
//!
//! A header is an index and a store: two big-endian numbers, how many entries the index has and how many bytes the
//! store; the entries, each of a tag, a type, an offset into the store and a count; the store. The magic number
//! that a header in a package's file has in front is not there. Source: `lib/header.c` and `rpmtag.h` of RPM
//! 4.18, and the format's description in its `docs/manual/format_header.md`.

use super::Package;

/// Length of the numbers in front, and of an entry.
const PREAMBLE: usize = 8;
const ENTRY: usize = 16;
/// Most entries and most bytes of a store (`headerVerifyInfo`: HEADER_TAGS_MAX, HEADER_DATA_MAX).
const MOST_ENTRIES: usize = 0xFFFF;
const MOST_BYTES: usize = 256 << 20;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const ARCHITECTURE: u32 = 1022;

/// Types of values.
const INT32: u32 = 4;
const STRING: u32 = 6;

/// The package of a header; nothing where the bytes are none.
pub(super) fn package(blob: &[u8]) -> Option<Package> {
    let header = Header::of(blob)?;
    let version = format!("{}-{}", header.string(VERSION)?, header.string(RELEASE)?);
    Some(Package {
        name: header.string(NAME)?.to_owned(),
        version: match header.number(EPOCH) {
            Some(epoch) => format!("{epoch}:{version}"),
            None => version,
        },
        architecture: header.string(ARCHITECTURE).unwrap_or_default().to_owned(),
    })
}

struct Header<'a> {
    index: &'a [u8],
    store: &'a [u8],
}

impl<'a> Header<'a> {
    fn of(blob: &'a [u8]) -> Option<Self> {
        let entries = number(blob, 0)? as usize;
        let length = number(blob, 4)? as usize;
        if entries > MOST_ENTRIES || length > MOST_BYTES {
            return None;
        }
        let (index, store) = blob.get(PREAMBLE..)?.split_at_checked(entries * ENTRY)?;
        Some(Self { index, store: store.get(..length)? })
    }

    /// What the store has at the first entry with this tag and type.
    fn value(&self, tag: u32, kind: u32) -> Option<&'a [u8]> {
        let mut entries = self.index.chunks_exact(ENTRY);
        let entry = entries
            .find(|entry| (number(entry, 0), number(entry, 4)) == (Some(tag), Some(kind)))?;
        self.store.get(number(entry, 8)? as usize..)
    }

    fn string(&self, tag: u32) -> Option<&'a str> {
        let bytes = self.value(tag, STRING)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        str::from_utf8(&bytes[..end]).ok()
    }

    fn number(&self, tag: u32) -> Option<u32> {
        number(self.value(tag, INT32)?, 0)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// A header as RPM keeps it.
#[cfg(test)]
pub(crate) fn of_package(name: &str, epoch: Option<u32>, version: &str, release: &str) -> Vec<u8> {
    let mut store: Vec<u8> = Vec::new();
    let mut index: Vec<u8> = Vec::new();
    let mut entries = 0_u32;
    let mut entry = |tag: u32, kind: u32, value: &[u8]| {
        for word in [tag, kind, store.len() as u32, 1] {
            index.extend(word.to_be_bytes());
        }
        store.extend(value);
        entries += 1;
    };
    // Numbers come first, so that they are aligned.
    if let Some(epoch) = epoch {
        entry(EPOCH, INT32, &epoch.to_be_bytes());
    }
    for (tag, text) in
        [(NAME, name), (VERSION, version), (RELEASE, release), (ARCHITECTURE, "x86_64")]
    {
        entry(tag, STRING, format!("{text}\0").as_bytes());
    }
    let mut blob = entries.to_be_bytes().to_vec();
    blob.extend((store.len() as u32).to_be_bytes());
    blob.extend(index);
    blob.extend(store);
    blob
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_epoch_is_told_where_there_is_one() {
        let told = |epoch| package(&of_package("runc", epoch, "1.1.12", "4.el9")).unwrap();
        assert_eq!(told(None).version, "1.1.12-4.el9");
        assert_eq!(told(Some(4)).version, "4:1.1.12-4.el9");
        assert_eq!(
            (told(None).name.as_str(), told(None).architecture.as_str()),
            ("runc", "x86_64")
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_package_or_none(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            at in 0_usize..120,
            flipped in any::<u8>(),
        ) {
            package(&bytes);
            let mut damaged = of_package("kubelet", Some(1), "1.30.2", "150500.1.1");
            let at = at % damaged.len();
            damaged[at] ^= flipped;
            package(&damaged);
            package(&damaged[..at]);
        }
    }
}

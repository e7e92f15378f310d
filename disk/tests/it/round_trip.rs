//! Any disk written and read back is the same disk.

use std::sync::Arc;

use nodekiln_disk::qcow2::{self, Clusters, Compression, Options, Reader};
use nodekiln_disk::{Disk, Extent, ReadAt as _};
use nodekiln_words::{Cancel, Sha256, Silent};
use proptest::prelude::*;

use crate::tools::{content, noise, write_raw};

/// A stretch of bytes of one of several kinds.
fn stretch() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (any::<u64>(), 1..200_000_usize).prop_map(|(seed, length)| noise(seed, length)),
        (any::<u8>(), 1..300_000_usize).prop_map(|(byte, length)| vec![byte; length]),
        (1..100_000_u32).prop_map(|n| (0..n / 4).flat_map(u32::to_le_bytes).collect()),
    ]
}

/// Stretches with gaps between them, and a gap at the end.
pub(crate) fn disk() -> impl Strategy<Value = Disk> {
    let gap = prop_oneof![Just(0), 1..2000_u64, Just(65_536), 1..500_000_u64];
    (prop::collection::vec((gap, stretch()), 0..8), 0..100_000_u64).prop_map(|(parts, tail)| {
        let mut at = 0;
        let mut extents = Vec::new();
        for (gap, bytes) in parts {
            at += gap;
            extents.push(Extent::memory(at, bytes));
            at += extents.last().map_or(0, |extent| extent.length);
        }
        Disk::new(at + tail, extents).unwrap()
    })
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![
        Just(Compression::None),
        (1..=9).prop_map(|level| Compression::Zlib { level }),
        (1..=9).prop_map(|level| Compression::Shared { level }),
        (1..=5).prop_map(|level| Compression::Zstd { level }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_qcow2_reads_as_the_disk_it_was_written_from(
        disk in disk(),
        compression in compression(),
        offset in any::<prop::sample::Index>(),
        length in 0..200_000_usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.qcow2");
        let options = Options { compression };
        let written = qcow2::write(&disk, &path, options, &Silent, &Cancel::default()).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let length_of_file = file.metadata().unwrap().len();
        prop_assert_eq!(written.bytes, length_of_file);
        let reader = Reader::new(file.into(), length_of_file).unwrap();
        prop_assert_eq!(reader.check(&Cancel::default()).unwrap().problems, Vec::<String>::new());
        let expected = content(&disk);
        let mut bytes = vec![0xAA; expected.len()];
        reader.read_at(0, &mut bytes).unwrap();
        prop_assert!(bytes == expected);
        let at = offset.index(expected.len() + 1);
        let end = (at + length).min(expected.len());
        let mut part = vec![0xAA; end - at];
        reader.read_at(at as u64, &mut part).unwrap();
        prop_assert!(part == expected[at..end]);
    }

    /// Whatever earlier files are known, and whatever was done to them since, the bytes are the same.
    #[test]
    fn clusters_of_earlier_files_change_no_byte(
        first in disk(),
        second in disk(),
        compression in compression(),
        flip in any::<prop::sample::Index>(),
        damage in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let write = |disk: &Disk, name: &str, clusters: Option<&Arc<Clusters>>| {
            let (path, options) = (place(name), Options { compression });
            qcow2::write_with(disk, &path, options, clusters, &Silent, &Cancel::default()).unwrap()
        };
        let made = Arc::new(Clusters::new(compression).unwrap());
        let plain = write(&first, "first", Some(&made));
        prop_assert_eq!(plain, write(&first, "plain", None));
        prop_assert_eq!(made.reused(), 0);
        if damage {
            let mut bytes = std::fs::read(place("first")).unwrap();
            let at = flip.index(bytes.len());
            bytes[at] ^= 1;
            std::fs::write(place("first"), bytes).unwrap();
        }
        let mut known = Clusters::new(compression).unwrap();
        prop_assert!(known.learn(&made.index(&place("first")), &place("first")));
        let known = Arc::new(known);
        let again = write(&first, "again", Some(&known));
        prop_assert_eq!(again, plain);
        let bytes = |name: &str| std::fs::read(place(name)).unwrap();
        prop_assert!(bytes("again") == bytes("plain"));
        let data = content(&first).chunks(65_536).filter(|cluster| cluster.iter().any(|b| *b != 0)).count() as u64;
        prop_assert!(known.reused() <= data * 65_536);
        if !damage {
            prop_assert_eq!(known.reused(), data * 65_536);
            prop_assert_eq!(known.index(&place("again")), made.index(&place("first")));
        }
        let other = write(&second, "second", Some(&known));
        prop_assert_eq!(other, write(&second, "second-plain", None));
        prop_assert!(bytes("second") == bytes("second-plain"));
    }

    #[test]
    fn a_raw_file_is_the_disk_and_so_is_a_disk_over_it(disk in disk()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        let written = write_raw(&disk, &path);
        let bytes = std::fs::read(&path).unwrap();
        prop_assert!(bytes == content(&disk));
        prop_assert_eq!(written.sha256, Sha256::of(&bytes));
        let file = std::fs::File::open(&path).unwrap();
        let over = Disk::over_file(&file.into(), disk.size());
        prop_assert!(content(&over) == bytes);
        let digest = over.digest(&Silent, &Cancel::default()).unwrap();
        prop_assert_eq!(digest, written.sha256);
        let (ours, its) = (disk.block_digest(&Cancel::default()), over.block_digest(&Cancel::default()));
        prop_assert_eq!(ours.unwrap(), its.unwrap());
    }

    #[test]
    fn a_block_digest_knows_every_byte_and_the_size(
        disk in disk(),
        at in any::<prop::sample::Index>(),
        by in 1..=u8::MAX,
    ) {
        let digest = |disk: &Disk| disk.block_digest(&Cancel::default()).unwrap();
        let of = |bytes: &[u8]| {
            digest(&Disk::new(bytes.len() as u64, vec![Extent::memory(0, bytes)]).unwrap())
        };
        let mut bytes = content(&disk);
        bytes.push(0);
        let longer = of(&bytes);
        prop_assert_ne!(digest(&disk), longer);
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        prop_assert_ne!(of(&bytes), longer);
        let alone = crate::tools::with_threads(1, || of(&bytes));
        prop_assert_eq!(alone, crate::tools::with_threads(3, || of(&bytes)));
    }
}

/// Zeros are left out of a block digest, so where the data lies has to be in it.
#[test]
fn a_block_digest_knows_where_a_block_lies() {
    let at = |start: u64| {
        let disk = Disk::new(16 << 20, vec![Extent::memory(start, vec![7; 2 << 20])]).unwrap();
        disk.block_digest(&Cancel::default()).unwrap()
    };
    assert_ne!(at(2 << 20), at(4 << 20));
    assert_eq!(at(2 << 20), at(2 << 20));
}

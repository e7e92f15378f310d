//! Damaged file systems, and ones with what is not read: errors, never a panic and never another tree.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use nodekiln_disk::files::{Content, Entry, FileSystem, Kind};
use nodekiln_disk::{Disk, Extent, Part, Source};
use nodekiln_words::{Cancel, Class, Failure, Result};
use proptest::prelude::*;

use super::made::{SHORT, wanted};
use super::{SIZE, make, xfs_db};
use crate::files::START;
use crate::tools::noise;
use crate::trees::{folder, walked};

/// Bytes of a block of the images here.
const BLOCK: u64 = 1024;

/// A file system, what is walked of it, and its blocks that are neither zeros nor the content of files.
struct Sound {
    image: Arc<File>,
    entries: Vec<Entry>,
    blocks: Vec<u64>,
}

impl Sound {
    fn of(options: &[&str]) -> Self {
        let folder = folder();
        let wanted = wanted(folder.path(), 400, SHORT);
        let description = folder.path().join("description");
        std::fs::write(&description, &wanted.text).unwrap();
        let last = ["-b", "size=1024", "-l", "size=10m", "-p", description.to_str().unwrap()];
        let image = make(folder.path(), &[options, &last].concat());
        let mut commands = Vec::new();
        // With a large one first xfs_db 6.1 crashes in version 4.
        for (path, lengths) in [
            ("/etc/hostname", vec![9; 2]),
            ("/etc", vec![50; 60]),
            ("/bin/su", vec![9, 3000, 3000]),
        ] {
            commands.push(format!("path {path}"));
            let set = |(number, length)| format!("attr_set -u -v {length} name-{number}");
            commands.extend(lengths.into_iter().enumerate().map(set));
        }
        xfs_db(&image, &commands, &["-x"]);
        // The file stays until it is closed.
        let image = Arc::new(File::open(image).unwrap());
        let entries = walked(&with(&image, &[]).unwrap());
        let blocks = structures(&image);
        Self { image, entries, blocks }
    }
}

/// The numbers of blocks that are neither zeros nor the content of files.
fn structures(image: &File) -> Vec<u64> {
    let contents = [noise(7, 5000), noise(8, 700_001)];
    let starts = contents.iter().flat_map(|content| content.chunks(1024).map(|part| &part[..8]));
    let starts: BTreeSet<&[u8]> = starts.filter(|start| start.len() == 8).collect();
    let zeros = vec![0; usize::try_from(BLOCK).unwrap()];
    let mut block = zeros.clone();
    let mut found = Vec::new();
    for number in 0..SIZE / BLOCK {
        image.read_exact_at(&mut block, number * BLOCK).unwrap();
        if block != zeros && !starts.contains(&block[..8]) {
            found.push(number);
        }
    }
    found
}

/// The content of a partition that has the bytes of `image`, with others in some blocks.
fn content(image: &Arc<File>, changes: &[(u64, Vec<u8>)]) -> Result<Content> {
    let piece = |from: u64, to: u64| Extent {
        start: START + from,
        length: to - from,
        source: Source::File { file: Arc::clone(image), offset: from },
    };
    let (mut extents, mut at) = (Vec::new(), 0);
    for (number, bytes) in changes {
        let (from, to) = (number * BLOCK, number * BLOCK + bytes.len() as u64);
        extents.extend((at < from).then(|| piece(at, from)));
        extents.push(Extent::memory(START + from, bytes.clone()));
        at = to;
    }
    extents.push(piece(at, SIZE));
    let part = Part {
        number: 1,
        start: START,
        length: SIZE,
        kind: "0x83".to_owned(),
        guid: None,
        name: String::new(),
    };
    Content::of(&Disk::new(START + SIZE, extents).unwrap(), &part, &Cancel::default())
}

fn with(image: &Arc<File>, changes: &[(u64, Vec<u8>)]) -> Result<FileSystem> {
    match content(image, changes)? {
        Content::Files(files) => Ok(files),
        _ => Err(Failure::input("another file system")),
    }
}

fn block(image: &File, number: u64) -> Vec<u8> {
    let mut block = vec![0; usize::try_from(BLOCK).unwrap()];
    image.read_exact_at(&mut block, number * BLOCK).unwrap();
    block
}

/// CRC-32C bit by bit, over bytes in which the sum at `at` counts as zeros; puts it there.
fn seal(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let mut sum = u32::MAX;
    for byte in &*bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    bytes[at..at + 4].copy_from_slice(&(!sum).to_le_bytes());
}

static SEALED: LazyLock<Sound> = LazyLock::new(|| Sound::of(&["-m", "crc=1", "-i", "nrext64=0"]));
static UNSEALED: LazyLock<Sound> = LazyLock::new(|| Sound::of(&["-m", "crc=0"]));

/// Walks all, and reads all files that are not too large to be true.
fn read_all(files: &FileSystem) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    files.walk(&mut |entry| {
        entries.push(entry.clone());
        Ok(())
    })?;
    for entry in &entries {
        let attributes = &entry.attributes;
        if attributes.kind == Kind::File && attributes.size < 16 << 20 {
            files.read(&entry.path)?;
        }
    }
    Ok(entries)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Where structures have checksums, a changed byte is an error or was not one of theirs: never another tree.
    #[test]
    fn a_changed_byte_never_makes_another_tree(
        number in any::<prop::sample::Index>(),
        at in 0..1024_usize,
        change in 1..=255_u8,
    ) {
        let Sound { image, entries, blocks, .. } = &*SEALED;
        let number = blocks[number.index(blocks.len())];
        let mut bytes = block(image, number);
        bytes[at] ^= change;
        if let Ok(Ok(found)) = with(image, &[(number, bytes)]).map(|files| read_all(&files)) {
            prop_assert!(found == *entries, "block {number}, byte {at}");
        }
    }

    /// Without checksums damage may be read as something else, but it is read to an end.
    #[test]
    fn changed_bytes_end_in_a_tree_or_an_error(
        numbers in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        at in prop_oneof![0..40_usize, 0..1024_usize],
        bytes in prop::collection::vec(prop_oneof![Just(0), Just(0xFF), any::<u8>()], 1..9),
    ) {
        let Sound { image, blocks, .. } = &*UNSEALED;
        let numbers: BTreeSet<u64> =
            numbers.iter().map(|number| blocks[number.index(blocks.len())]).collect();
        let changes: Vec<_> = numbers.into_iter().map(|number| {
            let mut block = block(image, number);
            block.iter_mut().skip(at).zip(&bytes).for_each(|(old, new)| *old = *new);
            (number, block)
        }).collect();
        if let Ok(files) = with(image, &changes) {
            let _ = read_all(&files);
        }
    }

    /// The same where every checksum is right: somebody made it so.
    #[test]
    fn inodes_that_were_made_up_end_in_a_tree_or_an_error(
        number in any::<prop::sample::Index>(),
        at in prop_oneof![0..100_usize, 100..512_usize],
        bytes in prop::collection::vec(prop_oneof![Just(0), Just(0xFF), any::<u8>()], 1..9),
    ) {
        let Sound { image, entries, .. } = &*SEALED;
        let inode = entries[number.index(entries.len())].attributes.inode.unwrap();
        let (number, within) = place(image, inode);
        let mut block = block(image, number);
        let inode = &mut block[within..within + 512];
        inode.iter_mut().skip(at).zip(&bytes).for_each(|(old, new)| *old = *new);
        seal(inode, 100);
        if let Ok(files) = with(image, &[(number, block)]) {
            let _ = read_all(&files);
        }
    }
}

/// The block of an inode of 512 bytes, and where in it it is.
fn place(image: &File, inode: u64) -> (u64, usize) {
    let start = block(image, 0);
    let (bits, per_group) = (start[124], u32::from_be_bytes(start[84..88].try_into().unwrap()));
    let number = inode >> 1;
    let (group, within) = (number >> bits, number & ((1 << bits) - 1));
    (group * u64::from(per_group) + within, usize::try_from(inode & 1).unwrap() * 512)
}

fn refusal(image: &Arc<File>, changes: &[(u64, Vec<u8>)]) -> (Class, String) {
    let failure = with(image, changes).map(|_| ()).unwrap_err();
    (failure.class(), failure.chain().join(": "))
}

#[test]
fn features_that_are_not_read_are_refused_by_their_names() {
    let image = &SEALED.image;
    let start = block(image, 0);
    for (bit, class, told) in [
        (0x10_u32, Class::Input, "needs repair"),
        (0x100, Class::Unsupported, "metadir"),
        (0x200, Class::Unsupported, "zoned"),
        (0x4000_0000, Class::Unsupported, "0x40000000"),
    ] {
        let mut changed = start.clone();
        let features = u32::from_be_bytes(start[216..220].try_into().unwrap()) | bit;
        changed[216..220].copy_from_slice(&features.to_be_bytes());
        seal(&mut changed[..512], 224);
        let refused = refusal(image, &[(0, changed)]);
        assert!(refused.0 == class && refused.1.contains(told), "{refused:?}");
    }
    // Features that matter to writers only do not keep readers away.
    let mut changed = start.clone();
    changed[212..216].fill(0xFF);
    seal(&mut changed[..512], 224);
    assert_eq!(walked(&with(image, &[(0, changed)]).unwrap()), SEALED.entries);
}

#[test]
fn a_superblock_that_cannot_be_true_is_refused() {
    let image = &SEALED.image;
    for (at, bytes, told) in [
        (4, &[0, 0, 0x10, 0][..], "cannot be true"),
        (8, &[0xFF; 8], "cannot be true"),
        (48, &[0; 8], "log is on another device"),
        (48, &[0x7F; 8], "the log leaves"),
        (84, &[0; 4], "cannot be true"),
        (88, &[0xFF; 4], "cannot be true"),
        (96, &[0xFF; 4], "the log leaves"),
        (100, &[0, 3], "version 3"),
        (101, &[0xB6], "version 6"),
        (102, &[0, 7], "cannot be true"),
        (104, &[0, 0], "cannot be true"),
        (124, &[63], "cannot be true"),
        (126, &[1], "never finished"),
        (192, &[20], "cannot be true"),
        (192, &[255], "cannot be true"),
    ] {
        let mut changed = block(image, 0);
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        seal(&mut changed[..512], 224);
        let refused = refusal(image, &[(0, changed)]);
        assert!(refused.1.contains(told), "byte {at}: {refused:?}");
    }
    let mut changed = block(image, 0);
    changed[40] ^= 1;
    assert!(refusal(image, &[(0, changed)]).1.contains("superblock has a wrong checksum"));
}

#[test]
fn a_partition_that_is_cut_off_is_told() {
    let file = Arc::clone(&SEALED.image);
    let length = SIZE - (1 << 20);
    let source = Source::File { file, offset: 0 };
    let disk = Disk::new(length, vec![Extent { start: 0, length, source }]).unwrap();
    let part = Part {
        number: 1,
        start: 0,
        length,
        kind: "0x83".to_owned(),
        guid: None,
        name: String::new(),
    };
    let failure = Content::of(&disk, &part, &Cancel::default()).map(|_| ()).unwrap_err();
    assert!(failure.chain().join(": ").contains("larger than its partition"), "{failure:?}");
}

/// The inode of a path, changed and sealed again.
fn changed(path: &str, change: impl Fn(&mut [u8])) -> (u64, Vec<u8>) {
    let Sound { image, entries, .. } = &*SEALED;
    let entry = entries.iter().find(|entry| entry.path == Path::new(path)).unwrap();
    let (number, within) = place(image, entry.attributes.inode.unwrap());
    let mut block = block(image, number);
    let inode = &mut block[within..within + 512];
    change(inode);
    seal(inode, 100);
    (number, block)
}

#[test]
fn what_is_wrong_with_an_inode_is_told_with_its_number() {
    type Change = fn(&mut [u8]);
    let changes: [(&str, Change, &str); 10] = [
        ("/etc/hostname", |inode| inode[0] = b'X', "is none"),
        ("/etc/hostname", |inode| inode[4] = 2, "another version"),
        ("/etc/hostname", |inode| inode[2..4].fill(0), "free and in use"),
        ("/etc/hostname", |inode| inode[159] ^= 1, "says that it is another one"),
        ("/etc/hostname", |inode| inode[82] = 200, "a fork outside of it"),
        ("/etc/hostname", |inode| inode[5] = 9, "no known form"),
        ("/etc/hostname", |inode| inode[5] = 0, "its type cannot have"),
        ("/etc/hostname", |inode| inode[56] = 0x80, "larger than any file"),
        ("/console", |inode| inode[2] = 0x90, "no known type"),
        ("/nothing", |inode| inode[56..64].fill(0), "cut off"),
    ];
    for (path, change, told) in changes {
        let files = with(&SEALED.image, &[changed(path, change)]).unwrap();
        let failure = files.walk(&mut |_| Ok(())).unwrap_err().chain().join(": ");
        assert!(failure.contains(told) && failure.contains("inode "), "{told}: {failure}");
    }
    let files = with(&SEALED.image, &[changed("/bin/large", |inode| inode[91] |= 1)]).unwrap();
    let failure = files.read("/bin/large").unwrap_err();
    assert_eq!(failure.class(), Class::Unsupported);
    assert!(failure.chain().join(": ").contains("realtime"), "{failure:?}");
    assert!(files.walk(&mut |_| Ok(())).is_ok());
    let changes: [(Change, &str); 5] = [
        (|inode| inode[79] = 2, "leave the file system"),
        (|inode| inode[76..80].fill(0x7F), "more extents than room"),
        (|inode| inode[176 + 9..176 + 12].fill(0xFF), "leave the file system"),
        (|inode| inode[5] = 3, "damaged root"),
        (|inode| inode[5] = 1, "has its content in it"),
    ];
    for (change, told) in changes {
        let files = with(&SEALED.image, &[changed("/etc/hostname", change)]).unwrap();
        let failure = files.read("/etc/hostname").unwrap_err().chain().join(": ");
        assert!(failure.contains(told), "{told}: {failure}");
    }
}

#[test]
fn a_folder_in_two_places_is_an_error() {
    // The name of a folder leads to `etc`.
    let Sound { image, entries, blocks, .. } = &*SEALED;
    let inode = |path: &str| {
        let entry = entries.iter().find(|entry| entry.path == Path::new(path)).unwrap();
        entry.attributes.inode.unwrap().to_be_bytes()
    };
    let name = [&inode("/some/below")[..], &[5], b"below"].concat();
    let mut places = blocks.iter().filter_map(|number| {
        let block = block(image, *number);
        Some((*number, block.windows(name.len()).position(|window| window == name)?, block))
    });
    let (number, at, mut changed) = places.next_back().unwrap();
    changed[at..at + 8].copy_from_slice(&inode("/etc"));
    // Folders' blocks are four of the file system's, of which the first has the checksum of all.
    let starts = |number: &u64| block(image, *number).starts_with(b"XD");
    let first = (number - 3..=number).rev().find(starts).unwrap();
    let blocks = first..first + 4;
    let blocks = blocks.map(|one| if one == number { changed.clone() } else { block(image, one) });
    let mut bytes = blocks.collect::<Vec<_>>().concat();
    seal(&mut bytes, 4);
    let files = with(image, &[(first, bytes)]).unwrap();
    let failure = files.walk(&mut |_| Ok(())).unwrap_err().chain().join(": ");
    assert!(failure.contains("in two places"), "{failure}");
    assert!(files.exists("/some/below/hostname").unwrap());
}

/// A record in the log that no unmount wrote.
#[test]
fn an_unfinished_log_is_refused() {
    let Sound { image, .. } = &*SEALED;
    let start = block(image, 0);
    let log = u64::from_be_bytes(start[48..56].try_into().unwrap());
    let per_group = u64::from(u32::from_be_bytes(start[84..88].try_into().unwrap()));
    let log = (log >> start[124]) * per_group + (log & ((1 << start[124]) - 1));
    let mut first = block(image, log);
    assert_eq!((first[..4].to_vec(), first[512 + 9]), (vec![0xFE, 0xED, 0xBA, 0xBE], 0x20));
    first[512 + 9] = 0;
    let refused = refusal(image, &[(log, first)]);
    assert!(refused.0 == Class::Unsupported && refused.1.contains("not unmounted"), "{refused:?}");
    // Nothing was ever written.
    let empty = with(image, &[(log, vec![0; 1024])]).unwrap();
    assert!(empty.exists("/etc/hostname").unwrap());
}

//! Files that were made, or damaged, so that their readers take over what is wrong, or all memory.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nodekiln_disk::{
    Deflate, Depth, Disk, Extent, Image, Payload, Unpacking, open, open_with, ova, tar_gz, vmdk,
    write_file,
};
use nodekiln_words::{Cancel, Class, Result, Silent};

use crate::tools::{content, mixed_disk, noise, qemu_img, write_raw};

fn opened(path: &Path) -> Result<Image> {
    let (folder, cancel) = (std::env::temp_dir(), Cancel::default());
    open_with(path, Some(Unpacking { folder: &folder, progress: &Silent, cancel: &cancel }))
}

/// What is told of a file that cannot be opened.
fn refusal(path: &Path) -> String {
    let failure = opened(path).unwrap_err();
    assert_eq!(failure.class(), Class::Input, "{failure:?}");
    failure.chain().join(": ")
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

/// An archive of a disk with noise, which deflate stores as it is.
fn archive(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("node.tar.gz");
    let disk = Disk::new(1 << 30, vec![Extent::memory(3 << 20, noise(5, 150_000))]).unwrap();
    let cancel = Cancel::default();
    let writer =
        Box::new(tar_gz::Writer::create(&disk, &path, Deflate::wide(4), 0, &cancel).unwrap());
    write_file(&disk, &Payload::of(&disk), writer, &path, &Silent, &cancel).unwrap();
    path
}

/// No structure is hit, so that nothing but the checksum of the whole tells.
#[test]
fn a_flipped_byte_of_an_archives_disk_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = archive(folder.path());
    let whole = std::fs::read(&path).unwrap();
    assert!(opened(&path).is_ok());
    let (needle, inner) = (noise(5, 100_032), 100_000);
    let at = whole.windows(32).position(|window| *window == needle[inner..inner + 32]).unwrap();
    overwrite(&path, at as u64, &[!whole[at]]);
    let told = refusal(&path);
    assert!(told.contains("damaged"), "{told}");
    // Nor is an archive whole whose checksum is missing.
    for rest in [4, 8, 9] {
        std::fs::write(&path, &whole[..whole.len() - rest]).unwrap();
        assert!(opened(&path).is_err(), "{rest} bytes are missing");
    }
}

/// A header as tar has it; the rest is up to the test.
fn header(kind: tar::EntryType, name: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_mode(0o644);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    header
}

fn compressed(path: &Path, pieces: &[&[u8]]) {
    let file = std::fs::File::create(path).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    pieces.iter().for_each(|piece| encoder.write_all(piece).unwrap());
    encoder.finish().unwrap();
}

/// A file of 300 KiB that wants its name to be kept in memory, which is as long as somebody likes.
#[test]
fn names_and_attributes_of_an_archive_take_no_more_than_their_share() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.tar.gz");
    let long = vec![b'a'; 65 << 20];
    for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader]
    {
        let name = header(kind, "name", long.len() as u64);
        compressed(&path, &[name.as_bytes(), &long]);
        let told = refusal(&path);
        assert!(told.contains("more than 64 MiB"), "{told}");
        // Nor behind the disk.
        let disk = header(tar::EntryType::Regular, "disk.raw", 512);
        compressed(&path, &[disk.as_bytes(), &[7; 512], name.as_bytes(), &long]);
        let told = refusal(&path);
        assert!(told.contains("more than 64 MiB"), "{told}");
    }
    let ova = folder.path().join("node.ova");
    let name = header(tar::EntryType::GNULongName, "name", long.len() as u64);
    let first = header(tar::EntryType::Regular, "node.ovf", 0);
    let archive = [first.as_bytes(), name.as_bytes(), &long[..], &[0; 1024]].concat();
    std::fs::write(&ova, archive).unwrap();
    let told = refusal(&ova);
    assert!(told.contains("more than 64 MiB"), "{told}");
}

#[test]
fn an_archive_does_not_ask_for_years_of_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.tar.gz");
    let mut sparse = header(tar::EntryType::GNUSparse, "disk.raw", 0);
    let size = [[0x80, 0, 0, 0].as_slice(), &(1_u64 << 62).to_be_bytes()].concat();
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.sparse[0].offset.copy_from_slice(&size);
    gnu.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
    gnu.realsize.copy_from_slice(&size);
    sparse.set_cksum();
    compressed(&path, &[sparse.as_bytes(), &[0; 1024]]);
    let failure = opened(&path).unwrap_err();
    assert_eq!(failure.class(), Class::Unsupported);
    let told = failure.chain().join(": ");
    assert!(told.contains("a disk of 4611686018427387904 bytes"), "{told}");
}

#[test]
fn what_is_in_an_archive_behind_its_disk_is_told_apart_from_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.tar.gz");
    let disk = header(tar::EntryType::Regular, "disk.raw", 512);
    let more = header(tar::EntryType::Regular, "more", 0);
    compressed(&path, &[disk.as_bytes(), &[7; 512], more.as_bytes(), &[0; 1024]]);
    let told = refusal(&path);
    assert!(told.contains("more members"), "{told}");
    let mut bad = more;
    bad.as_old_mut().cksum[0] ^= 1;
    compressed(&path, &[disk.as_bytes(), &[7; 512], bad.as_bytes(), &[0; 1024]]);
    let told = refusal(&path);
    assert!(told.contains("damaged") && !told.contains("more members"), "{told}");
}

#[test]
fn names_of_members_are_told_without_their_control_characters() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.tar.gz");
    let other = header(tar::EntryType::Regular, "a\u{1b}[31mb", 0);
    compressed(&path, &[other.as_bytes(), &[0; 1024]]);
    let told = refusal(&path);
    assert!(told.contains(r"a\u{1b}[31mb"), "{told}");
}

fn write_vmdk(disk: &Disk, path: &Path) {
    let writer = Box::new(vmdk::Alone::create(disk, path, "node.vmdk", Deflate::wide(4)).unwrap());
    let payload = Payload::of(disk);
    write_file(disk, &payload, writer, path, &Silent, &Cancel::default()).unwrap();
}

#[test]
fn a_vmdk_alone_is_what_qemu_img_reads() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, path) = (mixed_disk(), folder.path().join("node.vmdk"));
    write_vmdk(&disk, &path);
    let raw = folder.path().join("node.raw");
    write_raw(&disk, &raw);
    qemu_img(&["compare", "-f", "raw", "-F", "vmdk"], &[&raw, &path]);
    qemu_img(&["check", "-f", "vmdk"], &[&path]);
    let image = open(&path).unwrap();
    assert!(content(image.disk()) == content(&disk));
    let problems = image.check(Depth::Bytes, &Cancel::default()).unwrap();
    // The mixed disk has no partition table, and nothing else is wrong.
    assert!(problems.iter().all(|problem| !problem.contains("VMDK")), "{problems:?}");
}

#[test]
fn damaged_grains_are_told_by_a_check_of_all_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.vmdk");
    write_vmdk(&mixed_disk(), &path);
    let whole = std::fs::read(&path).unwrap();
    // The grain of text at 5 MiB: its marker, and a byte of its stream.
    let marker = [(5_u64 << 20 >> 9).to_le_bytes().as_slice(), &[]].concat();
    let grain = (128 * 512..whole.len())
        .step_by(512)
        .find(|at| whole[*at..].starts_with(&marker) && whole[at + 12..].starts_with(&[0x78, 1]))
        .unwrap();
    for at in [grain, grain + 500] {
        std::fs::write(&path, &whole).unwrap();
        overwrite(&path, at as u64, &[!whole[at]]);
        let image = open(&path).unwrap();
        let problems = image.check(Depth::Bytes, &Cancel::default()).unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("VMDK grain at 5242880: damaged VMDK"), "{problems:?}");
        let tables = image.check(Depth::Tables, &Cancel::default()).unwrap();
        assert!(tables.iter().all(|problem| !problem.contains("grain")), "{tables:?}");
    }
    let cancel = Cancel::default();
    cancel.cancel();
    let failure = open(&path).unwrap().check(Depth::Bytes, &cancel).unwrap_err();
    assert_eq!(failure.class(), Class::Interrupted);
}

/// An extent of grains of 4 KiB whose directory stands in sector 2.
fn sparse_vmdk(path: &Path, sectors: u64, directory: &[u32]) {
    let mut header = vec![0; 512];
    for (at, bytes) in [
        (0, b"KDMV".to_vec()),
        (4, 1_u32.to_le_bytes().to_vec()),
        (12, sectors.to_le_bytes().to_vec()),
        (20, 8_u64.to_le_bytes().to_vec()),
        (44, 512_u32.to_le_bytes().to_vec()),
        (56, 2_u64.to_le_bytes().to_vec()),
    ] {
        header[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    let file = std::fs::File::create(path).unwrap();
    file.write_all_at(&header, 0).unwrap();
    let directory: Vec<u8> = directory.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    file.write_all_at(&directory, 1024).unwrap();
    file.set_len((256 << 20) + 1024).unwrap();
}

/// A file of two sectors and a hole tells of 64 TiB: a place for each grain would take as many GiB of memory.
#[test]
fn a_small_vmdk_of_a_huge_disk_takes_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.vmdk");
    sparse_vmdk(&path, 1 << 37, &[0, 600_000, 0, 600_004]);
    let table = |sector: u64, entry: u64, place: u32| {
        overwrite(&path, sector * 512 + entry * 4, &place.to_le_bytes());
    };
    table(600_000, 7, 510_000);
    table(600_004, 511, 510_008);
    overwrite(&path, 510_000 * 512, b"data");
    let image = open(&path).unwrap();
    assert_eq!(image.size(), 64 << 40);
    let found: Vec<_> = image.disk().extents().iter().map(|e| (e.start, e.length)).collect();
    // Each table maps 2 MiB.
    assert_eq!(found, [((2 << 20) + 7 * 4096, 4096), ((8 << 20) - 4096, 4096)]);
    let mut bytes = [1; 4];
    image.read_at(found[0].0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"data");
    image.read_at((64 << 40) - 4, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 4]);
}

#[test]
fn tables_of_a_vmdk_that_stand_at_one_place_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.vmdk");
    sparse_vmdk(&path, 1 << 20, &[0, 600, 700, 600]);
    let told = refusal(&path);
    assert!(told.contains("two entries share the grain table at sector 600"), "{told}");
}

/// Names are known before the disk is compressed, and so is whether an archive can have them.
#[test]
fn names_that_no_archive_takes_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.ova");
    let long = "n".repeat(97);
    let members = ova::Members {
        descriptor: format!("{long}.ovf"),
        room: 2000,
        manifest: format!("{long}.mf"),
        extent: "disk.vmdk".to_owned(),
        created: 0,
    };
    let failure = ova::Writer::create(&mixed_disk(), &path, members, Deflate::wide(4)).unwrap_err();
    assert!(failure.to_string().contains("cannot be the name of a member"), "{failure}");
    assert_eq!(failure.class(), Class::Input);
    assert!(!path.exists());
}

/// Other members of an OVA, such as the headers of a POSIX archive, are no disk and no descriptor.
#[test]
fn only_files_of_an_ova_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.ova");
    let descriptor = header(tar::EntryType::Regular, "node.ovf", 0);
    let mut sparse = header(tar::EntryType::GNUSparse, "node.vmdk", 512);
    sparse.as_gnu_mut().unwrap().sparse[0].offset.copy_from_slice(b"00000000000\0");
    sparse.as_gnu_mut().unwrap().sparse[0].numbytes.copy_from_slice(b"00000001000\0");
    sparse.as_gnu_mut().unwrap().realsize.copy_from_slice(b"00000001000\0");
    sparse.set_cksum();
    let archive = [descriptor.as_bytes(), sparse.as_bytes(), &[7; 512][..], &[0; 1024]].concat();
    std::fs::write(&path, archive).unwrap();
    assert!(refusal(&path).contains("it has no VMDK disk"));
}

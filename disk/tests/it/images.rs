//! Writers judged by qemu-img.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use nodekiln_disk::qcow2::{self, Backing, Clusters, Compression, Options};
use nodekiln_disk::{Disk, Extent, Format, Payload, Written, open};
use nodekiln_words::{Cancel, Event, Progress, Sha256, Silent};

use crate::tools::{mixed_disk, noise, qemu_img, with_threads, write_raw};

const ALL: [Compression; 4] = [
    Compression::None,
    Compression::Zlib { level: 5 },
    Compression::Shared { level: 3 },
    Compression::Zstd { level: 3 },
];

fn write(disk: &Disk, path: &Path, compression: Compression) -> Written {
    let options = Options { compression };
    qcow2::write(disk, path, options, &Silent, &Cancel::default()).unwrap()
}

fn info(path: &Path) -> serde_json::Value {
    serde_json::from_str(&qemu_img(&["info", "--output=json"], &[path])).unwrap()
}

fn ours_finds_nothing(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let reader = qcow2::Reader::new(file.into(), length).unwrap();
    let report = reader.check(&Cancel::default()).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

/// A zstd frame in a file of deflate streams would be damage.
#[test]
fn clusters_of_another_compression_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, path) = (mixed_disk(), folder.path().join("disk.qcow2"));
    let write_with = |compression, clusters: &Arc<Clusters>| {
        let options = Options { compression };
        qcow2::write_with(&disk, &path, options, Some(clusters), &Silent, &Cancel::default())
            .unwrap()
    };
    let zstd = Arc::new(Clusters::new(Compression::zstd()).unwrap());
    write_with(Compression::zstd(), &zstd);
    let mut known = Clusters::new(Compression::zstd()).unwrap();
    assert!(known.learn(&zstd.index(&path), &path));
    let known = Arc::new(known);
    std::fs::rename(&path, folder.path().join("zstd")).unwrap();
    let written = write_with(Compression::zlib(), &known);
    assert_eq!((written, known.reused()), (write(&disk, &path, Compression::zlib()), 0));
}

#[test]
fn qemu_img_finds_every_qcow2_clean_and_equal_to_the_raw_file() {
    let folder = tempfile::tempdir().unwrap();
    let disk = mixed_disk();
    let raw = folder.path().join("disk.raw");
    write_raw(&disk, &raw);
    for compression in ALL {
        let path = folder.path().join("disk.qcow2");
        let written = write(&disk, &path, compression);
        qemu_img(&["check", "-f", "qcow2"], &[&path]);
        qemu_img(&["compare", "-f", "raw", "-F", "qcow2"], &[&raw, &path]);
        let info = info(&path);
        assert_eq!(info["format"], "qcow2");
        assert_eq!(info["virtual-size"], 40 << 20);
        assert_eq!(info["cluster-size"], 65_536);
        let kind = if matches!(compression, Compression::Zstd { .. }) { "zstd" } else { "zlib" };
        assert_eq!(info["format-specific"]["data"]["compression-type"], kind);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(written.sha256, Sha256::of(&bytes));
        assert_eq!(written.bytes, bytes.len() as u64);
        ours_finds_nothing(&path);
    }
}

#[test]
fn the_digest_of_a_raw_file_is_that_of_its_bytes_and_its_zeros_are_holes() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.raw");
    let written = write_raw(&mixed_disk(), &path);
    assert_eq!(written.sha256, Sha256::of(std::fs::read(&path).unwrap()));
    assert_eq!(written.bytes, 40 << 20);
    assert!(written.allocated < 5 << 20, "{written:?}");
    assert!(std::fs::metadata(&path).unwrap().blocks() * 512 < 6 << 20);
}

/// Overwrites a byte of the file that is being written, each time that the writer says how far it is.
struct Meddler(PathBuf);

impl Progress for Meddler {
    fn event(&self, event: Event) {
        if matches!(event, Event::Advanced { .. }) {
            let file = std::fs::File::options().write(true).open(&self.0).unwrap();
            file.write_all_at(&[0xEE], 5 << 20).unwrap();
        }
    }
}

#[test]
fn what_changes_while_it_is_written_is_refused_or_digested_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let (disk, cancel, meddler) = (mixed_disk(), Cancel::default(), Meddler(path.clone()));
    let raw = nodekiln_disk::raw::write(&disk, &Payload::of(&disk), &path, &meddler, &cancel)
        .unwrap_err();
    let expected = format!("{} differs from its disk at offset 5242880", path.display());
    assert_eq!(raw.to_string(), expected);
    let options = Options { compression: Compression::None };
    let qcow2 = qcow2::write(&disk, &path, options, &meddler, &cancel).unwrap();
    assert_eq!(qcow2.sha256, Sha256::of(std::fs::read(&path).unwrap()));
}

#[test]
fn bytes_do_not_depend_on_the_number_of_threads_or_on_where_holes_are() {
    let folder = tempfile::tempdir().unwrap();
    let disk = mixed_disk();
    let filled = folder.path().join("filled.raw");
    std::fs::write(&filled, crate::tools::content(&disk)).unwrap();
    let file = std::fs::File::open(&filled).unwrap();
    let filled = Disk::over_file(&file.into(), disk.size());
    for compression in ALL {
        let path = |name: &str| folder.path().join(name);
        let one = with_threads(1, || write(&disk, &path("one"), compression));
        let two = with_threads(2, || write(&disk, &path("two"), compression));
        let again = with_threads(5, || write(&filled, &path("again"), compression));
        assert_eq!(one, two);
        assert_eq!(one, again);
        assert!(std::fs::read(path("one")).unwrap() == std::fs::read(path("again")).unwrap());
    }
    let raw = with_threads(1, || write_raw(&disk, &folder.path().join("raw1")));
    assert_eq!(raw, with_threads(2, || write_raw(&filled, &folder.path().join("raw2"))));
}

#[test]
fn what_qemu_img_writes_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let disk = bootable_looking(&mixed_disk());
    let raw = folder.path().join("disk.raw");
    let written = write_raw(&disk, &raw);
    for words in [
        &["convert", "-f", "raw", "-O", "qcow2"][..],
        &["convert", "-f", "raw", "-O", "qcow2", "-c"],
        &["convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd"],
        &["convert", "-f", "raw", "-O", "qcow2", "-o", "compat=0.10,cluster_size=4096"],
        &["convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "cluster_size=2097152"],
        &["convert", "-f", "raw", "-O", "qcow2", "-o", "refcount_bits=1"],
    ] {
        let path = folder.path().join("theirs.qcow2");
        qemu_img(words, &[&raw, &path]);
        let image = open(&path).unwrap();
        assert_eq!(image.format(), Format::Qcow2);
        let digest = image.payload_digest(&Silent, &Cancel::default()).unwrap();
        assert_eq!(digest, written.sha256, "{words:?}");
        ours_finds_nothing(&path);
    }
    let digest = open(&raw).unwrap().payload_digest(&Silent, &Cancel::default()).unwrap();
    assert_eq!(digest, written.sha256);
}

/// The same disk with the signature and an entry of a partition table in its first sector.
fn bootable_looking(disk: &Disk) -> Disk {
    let mut extents = disk.extents().to_vec();
    let mut sector = vec![0; 512];
    sector[446 + 4] = 0x83;
    sector[446 + 12] = 1;
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    extents[0] = Extent::memory(0, sector);
    Disk::new(disk.size(), extents).unwrap()
}

#[test]
fn a_backing_file_named_right_behind_an_old_header_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (base, overlay) = (folder.path().join("base.raw"), folder.path().join("old.qcow2"));
    std::fs::write(&base, vec![0; 1 << 20]).unwrap();
    let words = ["create", "-q", "-f", "qcow2", "-o", "compat=0.10,backing_fmt=raw", "-b"];
    qemu_img(&words, &[&base, &overlay]);
    let file = std::fs::File::options().write(true).open(&overlay).unwrap();
    file.write_all_at(&72_u64.to_be_bytes(), 8).unwrap();
    file.write_all_at(&8_u32.to_be_bytes(), 16).unwrap();
    file.write_all_at(b"base.raw", 72).unwrap();
    assert_eq!(info(&overlay)["backing-filename"], "base.raw");
    let length = file.metadata().unwrap().len();
    let file = std::fs::File::open(&overlay).unwrap();
    let reader = qcow2::Reader::new(file.into(), length).unwrap();
    assert_eq!(reader.header().backing_file.as_deref(), Some("base.raw"));
}

#[test]
fn an_overlay_shows_its_backing_file_and_may_be_larger() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    write_raw(&mixed_disk(), &raw);
    let overlay = folder.path().join("overlay.qcow2");
    qcow2::write_overlay(&overlay, &Backing::Raw(raw.clone()), 64 << 20).unwrap();
    qemu_img(&["check", "-f", "qcow2"], &[&overlay]);
    let info = info(&overlay);
    assert_eq!(info["virtual-size"], 64 << 20);
    let told = info["backing-filename"].as_str().unwrap();
    assert!(told.starts_with("json:") && told.contains("disk.raw"), "{told}");
    assert_eq!(info["backing-filename-format"], "raw");
    let flat = folder.path().join("flat.raw");
    qemu_img(&["convert", "-f", "qcow2", "-O", "raw"], &[&overlay, &flat]);
    let (raw, flat) = (std::fs::read(&raw).unwrap(), std::fs::read(&flat).unwrap());
    assert!(flat.starts_with(&raw) && flat.len() == 64 << 20);
    let failure = open(&overlay).unwrap().read_at(0, &mut [0; 512]).unwrap_err();
    assert!(format!("{failure:?}").contains("disk.raw"), "{failure:?}");
    for (name, why) in [(format!("/{}", "x".repeat(1000)), "too long"), ("x".into(), "absolute")] {
        let failure =
            qcow2::write_overlay(&overlay, &Backing::Qcow2(name.into()), 1 << 20).unwrap_err();
        assert!(failure.to_string().contains(why), "{failure}");
    }
}

#[test]
fn a_disk_of_more_than_one_l2_table_and_a_sparse_one_are_clean() {
    let folder = tempfile::tempdir().unwrap();
    let extents = vec![
        Extent::memory(0, noise(1, 70_000)),
        Extent::memory((3 << 30) - 1000, noise(2, 2000)),
        Extent::memory((9 << 30) - 512, noise(3, 512)),
    ];
    let disk = Disk::new(9 << 30, extents).unwrap();
    let path = folder.path().join("sparse.qcow2");
    let written = write(&disk, &path, Compression::zlib());
    assert!(written.bytes < 2 << 20);
    qemu_img(&["check", "-f", "qcow2"], &[&path]);
    ours_finds_nothing(&path);
    let image = open(&path).unwrap();
    let mut bytes = [1; 4000];
    image.read_at((3 << 30) - 2000, &mut bytes).unwrap();
    assert!(bytes[..1000] == [0; 1000] && bytes[1000..3000] == noise(2, 2000)[..]);
}

#[test]
fn a_full_disk_is_a_failure_that_names_the_path() {
    let disk = mixed_disk();
    let options = Options { compression: Compression::None };
    let path = Path::new("/dev/full");
    let failure = qcow2::write(&disk, path, options, &Silent, &Cancel::default()).unwrap_err();
    assert!(failure.to_string().contains("/dev/full"), "{failure:?}");
    assert!(failure.help().is_some_and(|help| help.contains("free at least")), "{failure:?}");
}

/// Counts tasks that have begun and not ended.
#[derive(Default)]
struct Open(AtomicI64);

impl Progress for Open {
    fn event(&self, event: Event) {
        let change = match event {
            Event::Started { .. } => 1,
            Event::Finished { .. } | Event::Failed { .. } => -1,
            _ => 0,
        };
        self.0.fetch_add(change, Ordering::Relaxed);
    }
}

#[test]
fn a_writer_that_cannot_begin_leaves_no_task_open() {
    let path = Path::new("/nonexistent/disk");
    let (disk, open, cancel) = (mixed_disk(), Open::default(), Cancel::default());
    let options = Options { compression: Compression::zlib() };
    assert!(qcow2::write(&disk, path, options, &open, &cancel).is_err());
    assert!(nodekiln_disk::raw::write(&disk, &Payload::of(&disk), path, &open, &cancel).is_err());
    assert_eq!(open.0.into_inner(), 0);
}

#[test]
fn cancelling_stops_every_writer() {
    let folder = tempfile::tempdir().unwrap();
    let cancel = Cancel::default();
    cancel.cancel();
    let path = folder.path().join("never");
    let options = Options { compression: Compression::zlib() };
    let disk = mixed_disk();
    let class = nodekiln_words::Class::Interrupted;
    let qcow2 = qcow2::write(&disk, &path, options, &Silent, &cancel).unwrap_err();
    assert_eq!(qcow2.class(), class);
    let raw =
        nodekiln_disk::raw::write(&disk, &Payload::of(&disk), &path, &Silent, &cancel).unwrap_err();
    assert_eq!(raw.class(), class);
}

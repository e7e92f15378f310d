//! Every format from one pass, judged by qemu-img, GNU tar and gzip, and read back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln_disk::qcow2::{self, Backing, Clusters, Compression, Options};
use nodekiln_disk::{
    Deflate, Depth, Disk, Extent, FileWriter, Format, Pass, Payload, Tally, Unpacking, Written,
    open, open_with, ova, tar_gz, vhd,
};
use nodekiln_words::{Cancel, Event, Progress, Sha256, Silent};
use proptest::prelude::*;

use crate::tools::{content, mixed_disk, noise, qemu_img, run, succeed, with_threads, write_raw};

const CREATED: u64 = 1_793_491_200;
const LEVEL: i32 = 4;
const QCOW2: Options = Options { compression: Compression::Zlib { level: 4 } };

fn members() -> ova::Members {
    ova::Members {
        descriptor: "node.ovf".to_owned(),
        room: 2000,
        manifest: "node.mf".to_owned(),
        extent: "node-disk1.vmdk".to_owned(),
        created: CREATED,
    }
}

fn describe(extent: &ova::Extent) -> String {
    format!("<Envelope size=\"{}\" populated=\"{}\"/>\n", extent.length, extent.populated)
}

/// The files of a disk in a folder, all from one pass.
pub(crate) struct Files {
    written: Vec<Written>,
    tally: Tally,
}

pub(crate) const NAMES: [&str; 4] = ["node.qcow2", "node.vhd", "node.ova", "node.tar.gz"];

/// How qcow2 clusters and how all other pieces are compressed.
type Way = (Options, Deflate);

/// In a form for qcow2, and one for the others.
const TWO_FORMS: Way = (QCOW2, Deflate::wide(LEVEL));
/// In one form for all.
const ONE_FORM: Way =
    (Options { compression: Compression::Shared { level: LEVEL } }, Deflate::narrow(LEVEL));

/// Writes qcow2, VHD, OVA and `.tar.gz` of each disk into the folder beside it, in one pass.
pub(crate) fn write_all(disks: &[(&Disk, &Path)]) -> Vec<Files> {
    write_as(TWO_FORMS, disks)
}

/// As [`write_all`], compressed in this way.
fn write_as((options, deflate): Way, disks: &[(&Disk, &Path)]) -> Vec<Files> {
    let cancel = Cancel::default();
    let mut writers: Vec<(Vec<Box<dyn FileWriter>>, ova::Writer)> = disks
        .iter()
        .map(|(disk, folder)| {
            let place = |number: usize| folder.join(NAMES[number]);
            let (qcow2, vhd, ova) = (place(0), place(1), place(2));
            let tar_gz =
                tar_gz::Writer::create(disk, &place(3), deflate, CREATED, &cancel).unwrap();
            let files: Vec<Box<dyn FileWriter>> = vec![
                Box::new(qcow2::Writer::create(disk, &qcow2, options, None).unwrap()),
                Box::new(vhd::Writer::create(disk, &vhd, CREATED).unwrap()),
                Box::new(tar_gz),
            ];
            (files, ova::Writer::create(disk, &ova, members(), deflate).unwrap())
        })
        .collect();
    let mut pass = Pass::new();
    for ((disk, _), (files, ova)) in disks.iter().zip(&mut writers) {
        files.iter_mut().for_each(|file| file.join(disk, &mut pass));
        pass.stream(disk, &mut ova.extent);
    }
    let tally = pass.run(&|_| {}, &cancel).unwrap();
    let mut all = Vec::new();
    for ((disk, _), (files, ova)) in disks.iter().zip(writers) {
        let payload = Payload::of(disk);
        let digest = payload.digest(&Silent, &cancel).unwrap();
        let end =
            |file: Box<dyn FileWriter>| file.finish(disk, &payload, &Silent, &cancel).unwrap();
        let mut written: Vec<_> = files.into_iter().map(end).collect();
        // In the order of the names.
        written.insert(2, ova.finish(&digest, |extent| Ok(describe(extent)), &cancel).unwrap());
        all.push(Files { written, tally });
    }
    all
}

/// `disk` with zeros behind it, up to a whole number of `unit` bytes.
fn rounded(disk: &Disk, unit: u64) -> Disk {
    Disk::new(disk.size().max(1).next_multiple_of(unit), disk.extents().to_vec()).unwrap()
}

/// Opens a file of any format.
pub(crate) fn read(path: &Path) -> nodekiln_disk::Image {
    let folder = std::env::temp_dir();
    let cancel = Cancel::default();
    let unpacking = Unpacking { folder: &folder, progress: &Silent, cancel: &cancel };
    open_with(path, Some(unpacking)).unwrap()
}

/// Whether two disks hold the same bytes, without reading gigabytes of zeros into memory.
fn same(a: &Disk, b: &Disk) -> bool {
    a.first_difference(b, &Cancel::default()).unwrap().is_none()
}

fn extracted(folder: &Path) -> PathBuf {
    let archive = folder.join("node.ova");
    let arguments = ["-xf".as_ref(), archive.as_os_str(), "-C".as_ref(), folder.as_os_str()];
    succeed("tar", "tar", arguments);
    folder.join("node-disk1.vmdk")
}

/// What independent programs say of the files in `folder`, beside the raw file of the same disk.
fn judge(disk: &Disk, folder: &Path) {
    let raw = folder.join("node.raw");
    write_raw(disk, &raw);
    let compare = |format: &str, path: &Path| {
        qemu_img(&["compare", "-f", "raw", "-F", format], &[&raw, path]);
        let info = qemu_img(&["info", "--output=json", "-f", format], &[path]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["virtual-size"], disk.size(), "{format}");
    };
    compare("qcow2", &folder.join("node.qcow2"));
    qemu_img(&["check", "-f", "qcow2"], &[&folder.join("node.qcow2")]);
    compare("vpc", &folder.join("node.vhd"));
    let vmdk = extracted(folder);
    compare("vmdk", &vmdk);
    qemu_img(&["check", "-f", "vmdk"], &[&vmdk]);
    // The manifest is what sha256sum would say.
    let manifest = std::fs::read_to_string(folder.join("node.mf")).unwrap();
    for name in ["node.ovf", "node-disk1.vmdk"] {
        let digest = Sha256::of(std::fs::read(folder.join(name)).unwrap());
        assert!(manifest.contains(&format!("SHA256({name})= {digest}\n")), "{manifest}");
    }
    let archive = folder.join("node.tar.gz");
    succeed("gzip", "gzip", ["-t".as_ref(), archive.as_os_str()]);
    let unpacked = folder.join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let arguments = ["-xSzf".as_ref(), archive.as_os_str(), "-C".as_ref(), unpacked.as_os_str()];
    succeed("tar", "tar", arguments);
    qemu_img(&["compare", "-f", "raw", "-F", "raw"], &[&raw, &unpacked.join("disk.raw")]);
}

#[test]
fn an_overlay_shows_the_disk_inside_a_vhd_and_an_ova() {
    let folder = tempfile::tempdir().unwrap();
    let disk = rounded(&mixed_disk(), 1 << 30);
    write_all(&[(&disk, folder.path())]);
    let (raw, overlay) = (folder.path().join("node.raw"), folder.path().join("overlay.qcow2"));
    write_raw(&disk, &raw);
    let (vhd, ova) = (folder.path().join("node.vhd"), folder.path().join("node.ova"));
    let extent = open(&ova).unwrap().package().unwrap().extent.clone();
    assert!(extent.start > 0);
    for backing in [
        Backing::Raw(raw.clone()),
        Backing::Qcow2(folder.path().join("node.qcow2")),
        Backing::Part { file: vhd, length: disk.size() },
        Backing::Vmdk { file: ova, range: extent },
    ] {
        qcow2::write_overlay(&overlay, &backing, disk.size()).unwrap();
        qemu_img(&["compare", "-f", "raw", "-F", "qcow2"], &[&raw, &overlay]);
        // Behind the disk there is nothing, not even a footer.
        qcow2::write_overlay(&overlay, &backing, disk.size() + (1 << 20)).unwrap();
        let flat = folder.path().join("flat.raw");
        qemu_img(&["convert", "-f", "qcow2", "-O", "raw"], &[&overlay, &flat]);
        let mut end = vec![1; 1 << 20];
        let flat = std::fs::File::open(&flat).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&flat, &mut end, disk.size()).unwrap();
        assert!(nodekiln_disk::is_zero(&end), "{backing:?}");
    }
}

#[test]
fn disks_that_their_clouds_would_refuse_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let disk = mixed_disk();
    let size = disk.size() / (1 << 20) * (1 << 20) + 512;
    let vhd_file = folder.path().join("node.vhd");
    let mut bytes = content(&disk);
    bytes.resize(usize::try_from(size).unwrap(), 0);
    bytes.extend(vhd::Footer { size, created: CREATED, uuid: [7; 16] }.encode());
    std::fs::write(&vhd_file, bytes).unwrap();
    let problems = open(&vhd_file).unwrap().check(Depth::Tables, &Cancel::default()).unwrap();
    assert!(problems[0].contains("whole number of MiB"), "{problems:?}");
    write_raw(&disk, &folder.path().join("disk.raw"));
    let archive = folder.path().join("node.tar.gz");
    let arguments = [
        "-czf".as_ref(),
        archive.as_os_str(),
        "-C".as_ref(),
        folder.path().as_os_str(),
        "disk.raw".as_ref(),
    ];
    succeed("tar", "tar", arguments);
    let problems = read(&archive).check(Depth::Tables, &Cancel::default()).unwrap();
    assert!(problems[0].contains("whole number of GiB"), "{problems:?}");
}

#[test]
fn an_archive_is_unpacked_into_a_file_without_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let disk = rounded(&mixed_disk(), 1 << 30);
    write_all(&[(&disk, folder.path())]);
    let (place, cancel) = (folder.path().join("unpacked"), Cancel::default());
    std::fs::create_dir(&place).unwrap();
    let archive = folder.path().join("node.tar.gz");
    assert!(nodekiln_disk::is_packed(&archive).unwrap());
    assert!(!nodekiln_disk::is_packed(&folder.path().join("node.vhd")).unwrap());
    let unpacking = Unpacking { folder: &place, progress: &Silent, cancel: &cancel };
    let image = open_with(&archive, Some(unpacking)).unwrap();
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
    let file = image.unpacked().unwrap().try_clone().unwrap();
    let stored = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512;
    assert!(stored < disk.size() / 4, "{stored} bytes are stored");
    let unpacked = Disk::over_file(&file.into(), disk.size());
    assert!(same(image.disk(), &disk) && same(&unpacked, &disk));
}

#[test]
fn independent_programs_read_every_format_of_one_pass() {
    let disk = rounded(&mixed_disk(), 1 << 30);
    let two = judge_as(TWO_FORMS, &disk);
    let one = judge_as(ONE_FORM, &disk);
    assert_eq!(two.encoded, 2 * one.encoded);
    assert!(one.encoded > 0 && (two.shared, one.shared) == (0, 0));
}

fn judge_as(way: Way, disk: &Disk) -> Tally {
    let folder = tempfile::tempdir().unwrap();
    let files = write_as(way, &[(disk, folder.path())]).remove(0);
    judge(disk, folder.path());
    for (name, written) in NAMES.iter().zip(&files.written) {
        let bytes = std::fs::read(folder.path().join(name)).unwrap();
        assert_eq!(written.bytes, bytes.len() as u64, "{name}");
        assert_eq!(written.sha256, Sha256::of(&bytes), "{name}");
        assert!(written.allocated < 8 << 20, "{name}: {written:?}");
    }
    let listed =
        succeed("tar", "tar", ["-tvf".as_ref(), folder.path().join("node.ova").as_os_str()]);
    let names: Vec<_> = listed.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(names, ["node.ovf", "node.mf", "node-disk1.vmdk"], "{listed}");
    assert!(listed.lines().all(|line| line.starts_with("-rw-r--r-- 0/0")), "{listed}");
    files.tally
}

/// Numbers of more than 32 and 33 bits: more than 4 GiB between data, members and maps of more than 8.
#[test]
fn disks_of_more_than_8_gib_are_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let size = 9 << 30;
    let many = (0..60).map(|n| Extent::memory(n * (150 << 20) + 70_000, noise(n, 4000)));
    let ends = [Extent::memory(0, noise(99, 512)), Extent::memory(size - 512, noise(98, 512))];
    let disk = Disk::new(size, many.chain(ends).collect()).unwrap();
    write_all(&[(&disk, folder.path())]);
    judge(&disk, folder.path());
    for name in NAMES {
        let image = read(&folder.path().join(name));
        assert_eq!(image.size(), size, "{name}");
        assert!(same(image.disk(), &disk), "{name}");
    }
    let listed =
        succeed("tar", "tar", ["-tvzf".as_ref(), folder.path().join("node.tar.gz").as_os_str()]);
    assert!(listed.contains(&format!(" {size} ")) && listed.contains("disk.raw"), "{listed}");
}

#[test]
fn bytes_depend_neither_on_threads_nor_on_what_else_a_pass_writes() {
    let disk = rounded(&mixed_disk(), 1 << 30);
    let mut extents = disk.extents().to_vec();
    // Five blocks are others, and two are data here only.
    extents[1] = Extent::memory(extents[1].start, noise(8, 300_001));
    extents.push(Extent::memory(60 << 20, noise(9, 100_000)));
    let other = Disk::new(disk.size(), extents).unwrap();
    let alone = tempfile::tempdir().unwrap();
    let first = with_threads(1, || write_all(&[(&disk, alone.path())])).remove(0);
    for threads in [2, 7] {
        let [a, b] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let both = with_threads(threads, || write_all(&[(&other, a.path()), (&disk, b.path())]));
        assert_eq!(both[1].written, first.written, "{threads} threads");
        assert!(both[0].written != first.written);
        for name in NAMES {
            assert!(same(read(&a.path().join(name)).disk(), &other), "{name}");
        }
        // Two forms of each block, and the rest is shared.
        let Tally { encoded, shared } = both[0].tally;
        let alone = first.tally.encoded;
        assert_eq!((encoded, shared), (alone + 2 * 7, alone - 2 * 5));
    }
}

#[test]
fn what_a_format_cannot_hold_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let odd = Disk::new((1 << 20) + 512, Vec::new()).unwrap();
    let failure = vhd::Writer::create(&odd, &path, CREATED).unwrap_err();
    assert_eq!(failure.to_string(), "1049088 bytes are not a whole number of MiB");
    let cancel = Cancel::default();
    let failure =
        tar_gz::Writer::create(&odd, &path, Deflate::wide(4), CREATED, &cancel).unwrap_err();
    assert_eq!(failure.to_string(), "1049088 bytes are not a whole number of GiB");
    let odd = Disk::new(513, Vec::new()).unwrap();
    let failure = ova::Writer::create(&odd, &path, members(), Deflate::wide(4)).unwrap_err();
    assert_eq!(failure.to_string(), "513 bytes are no whole number of sectors");
    let huge = Disk::new(3 << 40, Vec::new()).unwrap();
    let failure = ova::Writer::create(&huge, &path, members(), Deflate::wide(4)).unwrap_err();
    assert!(failure.to_string().contains("2 TiB"), "{failure}");
}

/// The files of another writer: qemu-img's, with the directory in front and without footer.
#[test]
fn files_of_qemu_img_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let disk = rounded(&mixed_disk(), 1 << 20);
    write_raw(&disk, &place("raw"));
    for (options, name, format) in [
        ("vmdk:subformat=streamOptimized", "stream.vmdk", Format::Vmdk),
        ("vmdk:subformat=monolithicSparse", "sparse.vmdk", Format::Vmdk),
        ("vpc:subformat=fixed,force_size", "fixed.vhd", Format::Vhd),
        ("qcow2:compat=0.10", "old.qcow2", Format::Qcow2),
    ] {
        let (kind, options) = options.split_once(':').unwrap();
        let words = ["convert", "-f", "raw", "-O", kind, "-o", options];
        qemu_img(&words, &[&place("raw"), &place(name)]);
        let image = read(&place(name));
        assert_eq!(image.format(), format, "{name}");
        assert!(same(image.disk(), &disk), "{name}");
    }
    // A disk without a partition table in an archive of GNU tar, with and without holes.
    for option in ["-czf", "-cSzf"] {
        let inner = place("inner");
        std::fs::create_dir_all(&inner).unwrap();
        write_raw(&disk, &inner.join("disk.raw"));
        let archive = place("theirs.tar.gz");
        let arguments = [
            "--format=oldgnu".as_ref(),
            option.as_ref(),
            archive.as_os_str(),
            "-C".as_ref(),
            inner.as_os_str(),
            "disk.raw".as_ref(),
        ];
        succeed("tar", "tar", arguments);
        assert!(same(read(&archive).disk(), &disk), "{option}");
    }
}

#[test]
fn a_manifest_that_does_not_match_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let disk = rounded(&mixed_disk(), 1 << 30);
    write_all(&[(&disk, folder.path())]);
    let path = folder.path().join("node.ova");
    let whole = std::fs::read(&path).unwrap();
    let image = open(&path).unwrap();
    let package = image.package().unwrap();
    assert_eq!(package.problems(Depth::Bytes, &Cancel::default()).unwrap(), Vec::<String>::new());
    // A byte of a grain's padding, and one of the descriptor.
    let grain = usize::try_from(package.extent.end).unwrap() - 512;
    for (at, name) in [(grain, "node-disk1.vmdk"), (600, "node.ovf")] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x20;
        std::fs::write(&path, damaged).unwrap();
        let image = open(&path).unwrap();
        let problems = image.package().unwrap().problems(Depth::Bytes, &Cancel::default()).unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(&format!("`{name}`")), "{problems:?}");
    }
}

#[test]
fn a_disk_that_changes_between_its_map_and_its_bytes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.tar.gz");
    let (before, after) =
        (rounded(&mixed_disk(), 1 << 30), Disk::new(1 << 30, Vec::new()).unwrap());
    let cancel = Cancel::default();
    let mut writer =
        tar_gz::Writer::create(&before, &path, Deflate::wide(4), CREATED, &cancel).unwrap();
    let mut pass = Pass::new();
    pass.stream(&after, &mut writer);
    pass.run(&|_| {}, &cancel).unwrap();
    let payload = Payload::of(&after);
    let failure = Box::new(writer).finish(&after, &payload, &Silent, &cancel).unwrap_err();
    assert!(failure.to_string().starts_with("the disk changed"), "{failure}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn every_format_reads_as_the_disk_it_was_written_from(
        disk in crate::round_trip::disk(),
        way in prop_oneof![Just(TWO_FORMS), Just(ONE_FORM)],
    ) {
        let folder = tempfile::tempdir().unwrap();
        // A partition table, or else a raw file would be no disk; the rest as it comes.
        let disk = rounded(&disk, 1 << 30);
        write_as(way, &[(&disk, folder.path())]);
        for name in NAMES {
            let image = read(&folder.path().join(name));
            prop_assert_eq!(image.size(), disk.size());
            prop_assert!(same(image.disk(), &disk), "{}", name);
        }
        let vmdk = extracted(folder.path());
        write_raw(&disk, &folder.path().join("raw"));
        qemu_img(&["compare", "-f", "raw", "-F", "vmdk"], &[&folder.path().join("raw"), &vmdk]);
    }

    /// Readers of damaged files fail or read something; they neither panic nor take all memory.
    #[test]
    fn damage_is_an_error_and_no_panic(
        name in prop::sample::select(&NAMES[1..]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in any::<prop::sample::Index>(),
        near in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let small = Disk::new(1 << 30, vec![Extent::memory(3 << 20, noise(5, 150_000))]).unwrap();
        write_all(&[(&small, folder.path())]);
        let path = folder.path().join(name);
        let image = read(&path);
        let length = std::fs::metadata(&path).unwrap().len();
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let extent = image.package().map_or(0..length, |package| package.extent.clone());
        for (index, byte) in flips {
            // Half of the flips hit the structures at both ends.
            let span = extent.end - extent.start;
            let at = index.index(usize::try_from(span).unwrap()) as u64;
            let at = if near { at % 2048 + if byte & 1 == 0 { 0 } else { span - 2048 } } else { at };
            std::os::unix::fs::FileExt::write_all_at(&file, &[byte], extent.start + at).unwrap();
        }
        if cut.index(4) == 0 {
            file.set_len(cut.index(usize::try_from(length).unwrap()) as u64).unwrap();
        }
        let cancel = Cancel::default();
        let folder = std::env::temp_dir();
        let unpacking = Unpacking { folder: &folder, progress: &Silent, cancel: &cancel };
        if let Ok(image) = open_with(&path, Some(unpacking)) {
            let _ = image.check(Depth::Bytes, &cancel);
            let mut buffer = vec![0; 1 << 20];
            for offset in [0, 3 << 20] {
                let _ = image.read_at(offset, &mut buffer);
            }
        }
    }
}

/// Bytes of small disks are compared whole in other tests; here is that they are told apart at all.
#[test]
fn gzip_data_without_a_disk_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    std::fs::write(place("other.raw"), content(&mixed_disk())).unwrap();
    let archive = place("other.tar.gz");
    let arguments = [
        "-czf".as_ref(),
        archive.as_os_str(),
        "-C".as_ref(),
        folder.path().as_os_str(),
        "other.raw".as_ref(),
    ];
    assert!(run("tar", "tar", arguments).status.success());
    let cancel = Cancel::default();
    let unpacking = Unpacking { folder: folder.path(), progress: &Silent, cancel: &cancel };
    let failure = open_with(&archive, Some(unpacking)).unwrap_err();
    let chain = failure.chain().join(": ");
    assert!(chain.contains("`other.raw` and not `disk.raw`"), "{chain}");
    let failure = open(&archive).unwrap_err();
    assert!(failure.to_string().contains("gzip data"), "{failure}");
}

/// Two qcow2 files of different disks that share clusters: the index of each tells of that file alone.
#[test]
fn each_of_several_qcow2_files_has_an_index_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let first = mixed_disk();
    let mut extents = first.extents().to_vec();
    extents[1] = Extent::memory(extents[1].start, vec![7; 300_001]); // what follows lies elsewhere
    let second = Disk::new(first.size(), extents).unwrap();
    let cancel = Cancel::default();
    let made = Arc::new(Clusters::new(QCOW2.compression).unwrap());
    let create = |disk: &Disk, name: &str| {
        let known = Some(Arc::clone(&made));
        Box::new(qcow2::Writer::create(disk, &place(name), QCOW2, known).unwrap())
    };
    let (mut one, mut two) = (create(&first, "one"), create(&second, "two"));
    let mut pass = Pass::new();
    one.join(&first, &mut pass);
    two.join(&second, &mut pass);
    assert!(pass.run(&|_| {}, &cancel).unwrap().shared > 0);
    for (writer, disk) in [(two, &second), (one, &first)] {
        writer.finish(disk, &Payload::of(disk), &Silent, &cancel).unwrap();
    }
    for (name, disk) in [("one", &first), ("two", &second)] {
        let mut known = Clusters::new(QCOW2.compression).unwrap();
        assert!(known.learn(&made.index(&place(name)), &place(name)));
        let known = Arc::new(known);
        let again = place("again");
        qcow2::write_with(disk, &again, QCOW2, Some(&known), &Silent, &cancel).unwrap();
        let bytes = |path: &Path| std::fs::read(path).unwrap();
        assert!(bytes(&again) == bytes(&place(name)), "{name}");
        let image = open(&again).unwrap();
        let data: u64 = image.disk().extents().iter().map(|extent| extent.length).sum();
        // Every cluster was found where the index says that it is.
        assert_eq!(known.reused(), data, "{name}");
        assert_eq!(known.index(&again), made.index(&place(name)), "{name}");
    }
    assert_eq!(made.index(&place("none")).len(), made.index(Path::new("")).len());
}

/// Where all formats share a form, clusters of an earlier qcow2 file serve all of them, whoever joins first.
#[test]
fn what_a_qcow2_file_knows_serves_all_that_share_its_form() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let (disk, cancel) = (rounded(&mixed_disk(), 1 << 30), Cancel::default());
    let (options, deflate) = ONE_FORM;
    let made = Arc::new(Clusters::new(options.compression).unwrap());
    let before = place("before.qcow2");
    qcow2::write_with(&disk, &before, options, Some(&made), &Silent, &cancel).unwrap();
    let mut known = Clusters::new(options.compression).unwrap();
    assert!(known.learn(&made.index(&before), &before));
    let known = Arc::new(known);
    let write = |name: &str, clusters: Option<Arc<Clusters>>| {
        let tar_gz = place(&format!("{name}.tar.gz"));
        let tar_gz = tar_gz::Writer::create(&disk, &tar_gz, deflate, CREATED, &cancel).unwrap();
        let qcow2 = place(&format!("{name}.qcow2"));
        let qcow2 = qcow2::Writer::create(&disk, &qcow2, options, clusters).unwrap();
        let mut files: [Box<dyn FileWriter>; 2] = [Box::new(tar_gz), Box::new(qcow2)];
        let mut pass = Pass::new();
        files.iter_mut().for_each(|file| file.join(&disk, &mut pass));
        pass.run(&|_| {}, &cancel).unwrap();
        let payload = Payload::of(&disk);
        files.map(|file| file.finish(&disk, &payload, &Silent, &cancel).unwrap().sha256)
    };
    let anew = write("anew", None);
    assert_eq!(write("again", Some(Arc::clone(&known))), anew);
    let data: u64 =
        open(&before).unwrap().disk().extents().iter().map(|extent| extent.length).sum();
    assert!(data > 0);
    assert_eq!(known.reused(), data);
}

/// Lengthens the file that is being written, each time that somebody says how far the digest is.
struct Appender(PathBuf);

impl Progress for Appender {
    fn event(&self, event: Event) {
        if matches!(event, Event::Advanced { .. }) {
            let file = std::fs::File::options().append(true).open(&self.0).unwrap();
            std::io::Write::write_all(&mut &file, b"more").unwrap();
        }
    }
}

/// The footer is written when the rest of a VHD was compared; what goes wrong then is found as well.
#[test]
fn the_end_of_a_vhd_is_compared_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.vhd");
    let disk = rounded(&mixed_disk(), 1 << 20);
    let cancel = Cancel::default();
    let mut writer = Box::new(vhd::Writer::create(&disk, &path, CREATED).unwrap());
    let mut pass = Pass::new();
    writer.join(&disk, &mut pass);
    pass.run(&|_| {}, &cancel).unwrap();
    let meddler = Appender(path.clone());
    let failure = writer.finish(&disk, &Payload::of(&disk), &meddler, &cancel).unwrap_err();
    let expected = format!("{} differs at offset {}", path.display(), disk.size());
    assert!(failure.to_string().starts_with(&expected), "{failure}");
}

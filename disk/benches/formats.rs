//! Five artifacts from one pass against the usual programs one after the other: wall time, sizes, memory.
//!
//! `cargo bench -p nodekiln-disk --bench formats`; a raw file of whole GiB named by `NODEKILN_BENCH_RAW` is
//! used in place of one that is made of this machine's programs. `NODEKILN_BENCH_LEVELS=4,3` sets the
//! levels of qcow2 and of the other compressed formats, with one number that of the form that all share;
//! `NODEKILN_BENCH_OURS=1` leaves the others out.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod source;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nodekiln_disk::qcow2::{self, Compression, Options};
use nodekiln_disk::{Deflate, Disk, FileWriter, Pass, Payload, Written, ova, raw, tar_gz, vhd};
use nodekiln_words::{Cancel, Silent};

use source::{Outcome, mib, ratio, run, timed};

/// Size of the disk that is made, in bytes.
const SIZE: u64 = 8 << 30;
/// The target: a tenth of the time, at most a twentieth more bytes in each file.
const WALL_TARGET: f64 = 0.1;

fn main() -> Outcome<()> {
    let folder = tempfile::tempdir_in(std::env::var_os("TMPDIR").unwrap_or("/var/tmp".into()))?;
    let source = match std::env::var_os("NODEKILN_BENCH_RAW") {
        Some(path) => PathBuf::from(path),
        None => source::make_raw(folder.path(), SIZE)?,
    };
    let levels = std::env::var("NODEKILN_BENCH_LEVELS").unwrap_or_else(|_| "5,5".to_owned());
    let ways = match levels.split_once(',') {
        Some((qcow2, others)) => {
            (Compression::Zlib { level: qcow2.parse()? }, Deflate::wide(others.parse()?))
        }
        None => (Compression::Shared { level: levels.parse()? }, Deflate::narrow(levels.parse()?)),
    };
    let theirs = if std::env::var_os("NODEKILN_BENCH_OURS").is_some() {
        None
    } else {
        Some(usual(&source, folder.path())?)
    };
    run(&mut Command::new("sync"))?;
    let (wall, ours) = timed(|| one_pass(&source, folder.path(), ways))?;
    println!("one pass, levels {levels}  {wall:6.2} s, peak {} MiB", peak()?);
    for (name, written) in &ours {
        let size = mib(written.allocated);
        let theirs = theirs.iter().flat_map(|(_, sizes)| sizes).find(|(other, _)| other == name);
        let beside = theirs.map(|(_, bytes)| {
            let bytes_of_ours =
                if *name == "raw" || *name == "vhd" { written.allocated } else { written.bytes };
            format!("size {:.3}", ratio(bytes_of_ours, *bytes))
        });
        println!("  {name:8} {size:8.1} MiB  {}", beside.unwrap_or_default());
    }
    if let Some((their_wall, _)) = theirs {
        let ratio = wall / their_wall;
        let verdict = if ratio <= WALL_TARGET { "within" } else { "beyond" };
        println!("usual programs {their_wall:6.2} s, ratio {ratio:.3}  {verdict}");
    }
    Ok(())
}

type Sizes = Vec<(&'static str, u64)>;

/// The usual programs, one after the other; sizes of files as they are stored.
fn usual(source: &Path, folder: &Path) -> Outcome<(f64, Sizes)> {
    use std::os::unix::fs::MetadataExt as _;
    let mut sizes = Vec::new();
    let mut total = 0.0;
    let raw = source.to_string_lossy();
    let (dir, name) = (source.parent().ok_or("a folder")?, source.file_name().ok_or("a name")?);
    let tar = format!(
        "tar --format=oldgnu -C '{}' -Scf - '{}' | gzip > \"$0\"",
        dir.display(),
        name.to_string_lossy()
    );
    let steps: [(&str, Vec<&str>); 5] = [
        ("qcow2", vec!["qemu-img", "convert", "-f", "raw", "-c", "-O", "qcow2", &raw]),
        (
            "ova",
            vec![
                "qemu-img",
                "convert",
                "-f",
                "raw",
                "-O",
                "vmdk",
                "-o",
                "subformat=streamOptimized",
                &raw,
            ],
        ),
        (
            "vhd",
            vec![
                "qemu-img",
                "convert",
                "-f",
                "raw",
                "-O",
                "vpc",
                "-o",
                "subformat=fixed,force_size",
                &raw,
            ],
        ),
        ("tar.gz", vec!["sh", "-c", &tar]),
        ("raw", vec!["cp", "--sparse=always", &raw]),
    ];
    for (name, words) in steps {
        let file = folder.join(format!("theirs.{name}"));
        let (wall, ()) = timed(|| run(Command::new(words[0]).args(&words[1..]).arg(&file)))?;
        let bytes = std::fs::metadata(&file)?.blocks() * 512;
        println!("  {name:8} {wall:6.2} s  {:8.1} MiB", mib(bytes));
        total += wall;
        sizes.push((name, bytes));
    }
    Ok((total, sizes))
}

/// All five, and the disk's digest.
fn one_pass(
    source: &Path,
    folder: &Path,
    (compression, deflate): (Compression, Deflate),
) -> Outcome<Vec<(&'static str, Written)>> {
    let file = std::fs::File::open(source)?;
    let size = file.metadata()?.len();
    let disk = Disk::over_file(&Arc::new(file), size);
    let (cancel, place) = (Cancel::default(), |name: &str| folder.join(name));
    let payload = Payload::of(&disk);
    let members = ova::Members {
        descriptor: "node.ovf".to_owned(),
        room: 8192,
        manifest: "node.mf".to_owned(),
        extent: "node-disk1.vmdk".to_owned(),
        created: 0,
    };
    let options = Options { compression };
    let mut files: Vec<(&str, Box<dyn FileWriter>)> = vec![
        ("raw", Box::new(raw::Writer::create(&disk, &place("raw"))?)),
        ("qcow2", Box::new(qcow2::Writer::create(&disk, &place("qcow2"), options, None)?)),
        ("vhd", Box::new(vhd::Writer::create(&disk, &place("vhd"), 0)?)),
    ];
    let tar_gz = tar_gz::Writer::create(&disk, &place("tar.gz"), deflate, 0, &cancel)?;
    files.push(("tar.gz", Box::new(tar_gz)));
    let mut ova = ova::Writer::create(&disk, &place("ova"), members, deflate)?;
    let written = Payload::beside(&[&payload], &Silent, &cancel, || {
        let mut pass = Pass::new();
        files.iter_mut().for_each(|(_, file)| file.join(&disk, &mut pass));
        pass.stream(&disk, &mut ova.extent);
        pass.run(&|_| {}, &cancel)?;
        std::thread::scope(|scope| {
            let end = |file: Box<dyn FileWriter>| file.finish(&disk, &payload, &Silent, &cancel);
            let threads: Vec<_> = files
                .into_iter()
                .map(|(name, file)| (name, scope.spawn(move || end(file))))
                .collect();
            let digest = payload.digest(&Silent, &cancel)?;
            let ova = ova.finish(&digest, |_| Ok(String::new()), &cancel)?;
            let stopped = |_| Err(nodekiln_words::Failure::io("a thread stopped"));
            let join = |(name, thread): (_, std::thread::ScopedJoinHandle<'_, _>)| {
                Ok((name, thread.join().unwrap_or_else(stopped)?))
            };
            let written: nodekiln_words::Result<Vec<_>> = threads.into_iter().map(join).collect();
            Ok([written?, vec![("ova", ova)]].concat())
        })
    })?;
    Ok(written)
}

/// Most memory that this process had, in MiB (proc(5), `VmHWM`).
fn peak() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 =
        line.and_then(|l| l.trim().strip_suffix(" kB")).ok_or("VmHWM")?.trim().parse()?;
    Ok(kib / 1024)
}

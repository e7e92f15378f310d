//! Our compressed qcow2 against `qemu-img convert -c` on the same raw disk: wall time and size.
//!
//! `cargo bench -p nodekiln-disk` makes an ext4 of this machine's programs and libraries; a raw file
//! named by `NODEKILN_BENCH_RAW` is used in its place. `NODEKILN_BENCH_LEVELS=1` tries every level.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use nodekiln_disk::qcow2::{self, Compression, Options};
use nodekiln_disk::{Disk, Ids, Payload, ext4, raw};
use nodekiln_words::{Cancel, Silent};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What is copied into the file system: programs, libraries, Python and compiler parts.
const CONTENT: [&str; 5] = [
    "/usr/bin",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/python3",
    "/usr/lib/python3.11",
    "/usr/lib/gcc",
];
const SIZE: u64 = 2 << 30;
/// The targets: a quarter of the time, at most a twentieth more bytes.
const WALL_TARGET: f64 = 0.25;
const SIZE_TARGET: f64 = 1.05;

fn main() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let source = match std::env::var_os("NODEKILN_BENCH_RAW") {
        Some(path) => PathBuf::from(path),
        None => make_raw(folder.path())?,
    };
    let theirs = folder.path().join("theirs.qcow2");
    let (their_wall, ()) = timed(|| {
        run(Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-c", "-O", "qcow2"])
            .args([&source, &theirs]))
    })?;
    let their_size = std::fs::metadata(&theirs)?.len();
    println!("qemu-img convert -c         {their_wall:6.2} s  {:8.1} MiB", mib(their_size));

    let file = std::fs::File::open(&source)?;
    let size = file.metadata()?.len();
    let disk = Disk::over_file(&Arc::new(file), size);
    let ours = folder.path().join("ours");
    for compression in candidates() {
        let options = Options { compression };
        let write = || qcow2::write(&disk, &ours, options, &Silent, &Cancel::default());
        let (wall, written) = timed(|| Ok(write()?))?;
        let (time, room) = (wall / their_wall, ratio(written.bytes, their_size));
        let verdict = if time <= WALL_TARGET && room <= SIZE_TARGET { "within" } else { "beyond" };
        let name = format!("{compression:?}");
        println!(
            "{name:26}  {wall:6.2} s  {:8.1} MiB  wall {time:.3}  size {room:.3}  {verdict}",
            mib(written.bytes)
        );
    }
    let (wall, written) =
        timed(|| Ok(raw::write(&disk, &Payload::of(&disk), &ours, &Silent, &Cancel::default())?))?;
    println!("raw                         {wall:6.2} s  {:8.1} MiB", mib(written.allocated));
    Ok(())
}

fn candidates() -> Vec<Compression> {
    if std::env::var_os("NODEKILN_BENCH_LEVELS").is_some() {
        (1..=9).map(|level| Compression::Zlib { level }).collect()
    } else {
        vec![Compression::zlib(), Compression::zstd(), Compression::None]
    }
}

/// An ext4 image with the content above.
fn make_raw(folder: &Path) -> Outcome<PathBuf> {
    let tree = folder.join("tree");
    std::fs::create_dir(&tree)?;
    let present = CONTENT.iter().filter(|path| Path::new(path).is_dir());
    run(Command::new("cp").arg("-a").args(present).arg(&tree))?;
    let image = folder.join("disk.raw");
    let ids = Ids::derive(uuid::Uuid::from_u128(1));
    let request = ext4::Request {
        image: &image,
        offset: 0,
        size: SIZE,
        tree: Some(&tree),
        label: "bench",
        ids: &ids,
    };
    run(Command::new("/usr/sbin/mke2fs").args(ext4::mke2fs_arguments(&request)?))?;
    std::fs::remove_dir_all(tree)?;
    Ok(image)
}

fn run(command: &mut Command) -> Outcome<()> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

fn timed<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(f64, T)> {
    let start = Instant::now();
    let result = work()?;
    Ok((start.elapsed().as_secs_f64(), result))
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn ratio(ours: u64, theirs: u64) -> f64 {
    mib(ours) / mib(theirs)
}

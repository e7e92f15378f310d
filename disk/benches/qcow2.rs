//! Our compressed qcow2 against `qemu-img convert -c` on the same raw disk: wall time and size.
//!
//! `cargo bench -p nodekiln-disk` makes an ext4 of this machine's programs and libraries; a raw file
//! named by `NODEKILN_BENCH_RAW` is used in its place. `NODEKILN_BENCH_LEVELS=1` tries every level.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod source;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use nodekiln_disk::qcow2::{self, Compression, Options};
use nodekiln_disk::{Disk, Payload, raw};
use nodekiln_words::{Cancel, Silent};

use source::{Outcome, mib, ratio, run, timed};

/// Size of the disk that is made, in bytes.
const SIZE: u64 = 2 << 30;
/// The targets: a quarter of the time, at most a twentieth more bytes.
const WALL_TARGET: f64 = 0.25;
const SIZE_TARGET: f64 = 1.05;

fn main() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let source = match std::env::var_os("NODEKILN_BENCH_RAW") {
        Some(path) => PathBuf::from(path),
        None => source::make_raw(folder.path(), SIZE)?,
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

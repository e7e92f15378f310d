//! The walk of a whole tree, with all attributes, out of a raw file and out of qcow2 ones, against e2fsck, which
//! reads the same inodes and folders.
//!
//! `cargo bench -p nodekiln-disk --bench walk`; a raw disk with partitions named by `NODEKILN_BENCH_DISK` is used in
//! place of one that is made of this machine's programs.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod source;

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nodekiln_disk::files::{Content, FileSystem, Kind};
use nodekiln_disk::qcow2::{self, Compression, Options};
use nodekiln_disk::{Disk, Part, Partitions, open, raw};
use nodekiln_disk::{Extent, Payload, Source};
use nodekiln_words::{Cancel, Silent};

use source::{Outcome, mib, ratio, run, timed};

/// Size of the file system that is made, in bytes.
const SIZE: u64 = 4 << 30;
/// Where it begins on its disk.
const START: u64 = 1 << 20;
/// How often each walk is timed; the fastest counts.
const ROUNDS: usize = 5;

fn main() -> Outcome<()> {
    let folder = tempfile::tempdir_in(std::env::var_os("TMPDIR").unwrap_or("/var/tmp".into()))?;
    let source = match std::env::var_os("NODEKILN_BENCH_DISK") {
        Some(path) => PathBuf::from(path),
        None => made(folder.path())?,
    };
    let image = open(&source)?;
    let start = files(image.disk())?.1;
    let theirs = check(&source, start)?;
    println!("e2fsck -fn     {:8.1} ms", theirs * 1000.0);
    report("raw", &source, theirs)?;
    for (name, compression) in
        [("qcow2, zlib", Compression::zlib()), ("qcow2, zstd", Compression::zstd())]
    {
        let path = folder.path().join("disk.qcow2");
        let options = Options { compression };
        let written = qcow2::write(image.disk(), &path, options, &Silent, &Cancel::default())?;
        let size = ratio(written.allocated, std::fs::metadata(&source)?.blocks() * 512);
        println!("{name:14} {size:8.2} of the raw disk's size");
        report(name, &path, theirs)?;
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

/// A raw disk with one partition of this machine's programs.
fn made(folder: &Path) -> Outcome<PathBuf> {
    let system = source::make_raw(folder, SIZE)?;
    let mut sector = vec![0; 512];
    sector[446 + 4] = 0x83;
    for (at, sectors) in [(446 + 8, START / 512), (446 + 12, SIZE / 512)] {
        sector[at..at + 4].copy_from_slice(&u32::try_from(sectors)?.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    let file = Arc::new(std::fs::File::open(&system)?);
    let inside = Extent { start: START, length: SIZE, source: Source::File { file, offset: 0 } };
    let disk = Disk::new(START + SIZE, vec![Extent::memory(0, sector), inside])?;
    let path = folder.join("made.raw");
    raw::write(&disk, &Payload::of(&disk), &path, &Silent, &Cancel::default())?;
    std::fs::remove_file(system)?;
    Ok(path)
}

/// The largest file system of a disk that is no FAT, and where it begins.
fn files(disk: &Disk) -> Outcome<(FileSystem, u64)> {
    let mut parts: Vec<Part> = Partitions::read(disk)?.entries;
    parts.sort_by_key(|part| std::cmp::Reverse(part.length));
    for part in parts {
        if let Content::Files(files) = Content::of(disk, &part, &Cancel::default())?
            && files.name() == "ext4"
        {
            return Ok((files, part.start));
        }
    }
    Err("no ext4 on the disk".into())
}

/// Seconds that e2fsck takes.
fn check(raw: &Path, start: u64) -> Outcome<f64> {
    let place = format!("{}?offset={start}", raw.display());
    let mut fastest = f64::INFINITY;
    for _ in 0..ROUNDS {
        let mut command = Command::new("/usr/sbin/e2fsck");
        let command = command.args(["-fn", &place]).stdout(std::process::Stdio::null());
        fastest = fastest.min(timed(|| run(command.stderr(std::process::Stdio::null())))?.0);
    }
    Ok(fastest)
}

/// Walks the tree in the image at `path`, opened anew each time, and reads all of it once.
fn report(name: &str, path: &Path, theirs: f64) -> Outcome<()> {
    let (mut fastest, mut count, mut xattrs) = (f64::INFINITY, 0, 0);
    for _ in 0..ROUNDS {
        (count, xattrs) = (0, 0);
        let (seconds, ()) = timed(|| {
            let image = open(path)?;
            files(image.disk())?.0.walk(&mut |entry| {
                count += 1;
                xattrs += entry.attributes.xattrs.len();
                Ok(())
            })?;
            Ok(())
        })?;
        fastest = fastest.min(seconds);
    }
    let ratio = fastest / theirs;
    let figure = fastest * 1000.0;
    println!("{name:14} {figure:8.1} ms, ratio {ratio:.2}: {count} paths, {xattrs} attributes");
    let (seconds, bytes) = timed(|| read_all(path))?;
    println!("{name:14} {:8.1} ms to read {:.0} MiB of files too", seconds * 1000.0, mib(bytes));
    Ok(())
}

fn read_all(path: &Path) -> Outcome<u64> {
    let image = open(path)?;
    let (files, _) = files(image.disk())?;
    let mut paths = Vec::new();
    files.walk(&mut |entry| {
        if entry.attributes.kind == Kind::File {
            paths.push(entry.path.clone());
        }
        Ok(())
    })?;
    let (mut bytes, mut buffer) = (0, vec![0; 1 << 20]);
    for path in paths {
        let mut file = files.open(&path)?.ok_or("a file")?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                length => bytes += length as u64,
            }
        }
    }
    Ok(bytes)
}

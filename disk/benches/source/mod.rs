//! What the benchmarks of formats have in common: a disk of this machine's programs, and a clock.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use nodekiln_disk::{Ids, ext4};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// What is copied into the file system: programs, libraries, Python and compiler parts.
const CONTENT: [&str; 6] = [
    "/usr/bin",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/python3",
    "/usr/lib/python3.11",
    "/usr/lib/gcc",
    "/usr/lib/go-1.19",
];
/// A file with an ext4 file system of `size` bytes and the content above.
pub(crate) fn make_raw(folder: &Path, size: u64) -> Outcome<PathBuf> {
    let tree = folder.join("tree");
    std::fs::create_dir(&tree)?;
    let present = CONTENT.iter().filter(|path| Path::new(path).is_dir());
    run(Command::new("cp").arg("-a").args(present).arg(&tree))?;
    let image = folder.join("disk.raw");
    let ids = Ids::derive(uuid::Uuid::from_u128(1));
    let request = ext4::Request {
        image: &image,
        offset: 0,
        size,
        tree: Some(&tree),
        label: "bench",
        ids: &ids,
    };
    run(Command::new("/usr/sbin/mke2fs").args(ext4::mke2fs_arguments(&request)?))?;
    std::fs::remove_dir_all(tree)?;
    Ok(image)
}

/// Runs a command; one that fails is an error.
pub(crate) fn run(command: &mut Command) -> Outcome<()> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

/// What `work` gives, and the seconds that it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(f64, T)> {
    let start = Instant::now();
    let result = work()?;
    Ok((start.elapsed().as_secs_f64(), result))
}

/// Bytes in MiB.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// How much larger ours is.
pub(crate) fn ratio(ours: u64, theirs: u64) -> f64 {
    mib(ours) / mib(theirs)
}

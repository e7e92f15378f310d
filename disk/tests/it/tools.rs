//! Running the programs that judge our files.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use nodekiln_disk::{Disk, Extent};
use nodekiln_words::{Cancel, Silent};

/// Runs a program of a Debian package; a missing program fails the test with the package's name.
pub(crate) fn run(
    program: &str,
    package: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Output {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    match Command::new(program).args(arguments).env("PATH", path).env("LC_ALL", "C").output() {
        Ok(output) => output,
        Err(error) => panic!("cannot run {program}, install Debian's {package}: {error}"),
    }
}

/// Runs a program and fails the test unless it succeeds; returns its standard output.
pub(crate) fn succeed(
    program: &str,
    package: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> String {
    let output = run(program, package, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {}\n{text}{errors}", output.status);
    text
}

/// `qemu-img` with words and then paths.
pub(crate) fn qemu_img(words: &[&str], paths: &[&Path]) -> String {
    let arguments = words.iter().map(OsStr::new).chain(paths.iter().map(|path| path.as_os_str()));
    succeed("qemu-img", "qemu-utils", arguments)
}

/// Nobody watches, nobody cancels.
pub(crate) fn write_raw(disk: &Disk, path: &Path) -> nodekiln_disk::Written {
    nodekiln_disk::raw::write(
        disk,
        &nodekiln_disk::Payload::of(disk),
        path,
        &Silent,
        &Cancel::default(),
    )
    .unwrap()
}

/// Bytes of `disk`, all of them.
pub(crate) fn content(disk: &Disk) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(disk.size()).unwrap()];
    disk.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Deterministic noise of `length` bytes.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    };
    (0..length).map(|_| next()).collect()
}

/// A disk of 40 MiB with noise, text, zeros inside extents, and extents at odd places.
pub(crate) fn mixed_disk() -> Disk {
    let text: Vec<u8> = (0..200_000_u32).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    let mut holey = noise(3, 700_000);
    holey[65_536 * 3..65_536 * 8].fill(0);
    let extents = vec![
        Extent::memory(0, noise(1, 512)),
        Extent::memory((1 << 20) + 17, noise(2, 300_001)),
        Extent::memory(5 << 20, text),
        Extent::memory(20 << 20, holey),
        Extent::memory((40 << 20) - 33 * 512, noise(4, 33 * 512)),
    ];
    Disk::new(40 << 20, extents).unwrap()
}

/// Runs `work` in a pool of `threads` threads.
pub(crate) fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

//! XFS read out of file systems that mkfs.xfs filled, against xfs_db, and that Linux filled, against what it tells of
//! them.

mod damage;
mod made;
mod mounted;

use std::path::{Path, PathBuf};

use nodekiln_disk::files::FileSystem;

use crate::tools::{run, succeed};

/// Bytes of the images.
const SIZE: u64 = 320 << 20;
/// What lets mkfs.xfs make a log of less than 64 MiB, which its own authors' tests need too.
const SMALL: [&str; 3] = ["TEST_DIR=/none", "TEST_DEV=/none", "QA_CHECK_FS=1"];

/// An XFS in a new image, made with these options.
fn make(folder: &Path, options: &[&str]) -> PathBuf {
    let image = folder.join("image");
    let _ = std::fs::remove_file(&image);
    std::fs::File::create(&image).unwrap().set_len(SIZE).unwrap();
    let words = SMALL.iter().chain(&["mkfs.xfs", "-q", "-f"]).chain(options);
    succeed("env", "xfsprogs", words.map(std::ffi::OsStr::new).chain([image.as_os_str()]));
    image
}

/// What `xfs_db` says to these commands.
fn xfs_db(image: &Path, commands: &[String], words: &[&str]) -> String {
    let mut arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    arguments.extend(commands.iter().flat_map(|command| ["-c".to_owned(), command.clone()]));
    arguments.push(image.display().to_string());
    succeed("xfs_db", "xfsprogs", arguments)
}

/// Fails the test where `xfs_repair` finds something to repair.
fn assert_sound(image: &Path, what: &str) {
    let checked = run("xfs_repair", "xfsprogs", ["-n".as_ref(), image.as_os_str()]);
    assert!(checked.status.success(), "{what}: {checked:?}");
}

/// The content of a file by its checksum, read piece by piece.
fn digest(mut content: impl std::io::Read) -> (u64, u32) {
    let (mut sum, mut length) = (crc32fast::Hasher::new(), 0);
    let mut piece = vec![0; 1 << 20];
    loop {
        match content.read(&mut piece).unwrap() {
            0 => return (length, sum.finalize()),
            count => {
                length += count as u64;
                sum.update(&piece[..count]);
            }
        }
    }
}

fn digest_at(files: &FileSystem, path: &Path) -> (u64, u32) {
    digest(files.open(path).unwrap().unwrap())
}

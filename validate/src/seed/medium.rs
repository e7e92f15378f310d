//! The seed's file system: FAT, labelled `CIDATA`, the same bytes for the same files.

use std::io::{Cursor, Write as _};

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use nodekiln_words::{Failure, Result, ResultExt as _};

/// 1 MiB holds the usual seed many times over; cloud-init does not care. Larger files get a larger one.
const SIZE: usize = 1 << 20;
/// What does not fit here is no seed.
const LARGEST: usize = 64 << 20;
/// The label by which cloud-init's NoCloud datasource knows its disk.
const LABEL: [u8; 11] = *b"CIDATA     ";
const SERIAL: u32 = 0x6e6b_696c;

/// The disk with these files.
pub(super) fn build(files: &[(&str, impl AsRef<[u8]>)]) -> Result<Vec<u8>> {
    let failed = || "make the seed's file system".to_owned();
    let content: usize = files.iter().map(|(_, content)| content.as_ref().len()).sum();
    let size = (content + SIZE / 2).next_multiple_of(SIZE);
    if size > LARGEST {
        return Err(Failure::input("the seed would be larger than 64 MiB"));
    }
    let mut disk = Cursor::new(vec![0; size]);
    let mut options = FormatVolumeOptions::new().volume_label(LABEL).volume_id(SERIAL);
    if size == SIZE {
        options = options.fat_type(FatType::Fat12);
    }
    fatfs::format_volume(&mut disk, options).or_io(failed)?;
    let volume = FileSystem::new(&mut disk, FsOptions::new()).or_io(failed)?;
    for (name, content) in files {
        let mut file = volume.root_dir().create_file(name).or_io(failed)?;
        file.write_all(content.as_ref()).or_io(failed)?;
        file.flush().or_io(failed)?;
    }
    volume.unmount().or_io(failed)?;
    Ok(disk.into_inner())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn mtools_and_fsck_read_what_was_written() {
        let text = "#cloud-config\n".repeat(2000);
        let image = build(&[("user-data", text.as_str()), ("meta-data", "a: b\n")]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed.img");
        fs_err::write(&path, &image).unwrap();
        let run = |program: &str, package: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).arg(&path).output();
            output.unwrap_or_else(|_| {
                panic!("{program} is missing: install Debian's package {package}")
            })
        };
        let fsck = run("/usr/sbin/fsck.fat", "dosfstools", &["-n", "-v"]);
        assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stdout));
        let label = run("mlabel", "mtools", &["-s", "-i"]);
        assert!(String::from_utf8_lossy(&label.stdout).contains("CIDATA"), "{label:?}");
        let back = Command::new("mtype").arg("-i").arg(&path).arg("::user-data").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&back.stdout), text);
    }

    #[test]
    fn a_large_file_gets_a_larger_disk_and_one_too_large_is_refused() {
        let large = vec![7; 3 << 20];
        let image = build(&[("user-data", &large)]).unwrap();
        let volume = FileSystem::new(Cursor::new(image), FsOptions::new()).unwrap();
        let mut back = Vec::new();
        let mut file = volume.root_dir().open_file("user-data").unwrap();
        std::io::Read::read_to_end(&mut file, &mut back).unwrap();
        assert_eq!(back, large);
        assert!(build(&[("user-data", vec![0; LARGEST])]).is_err());
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let files = [("user-data", "x".to_owned())];
        assert_eq!(build(&files).unwrap(), build(&files).unwrap());
    }
}

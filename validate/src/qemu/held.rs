//! The files of a machine, without names and yet there as long as they are held: it can be powered on several
//! times, and however this process ends nothing is left of them.

use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use nodekiln_words::{Result, ResultExt as _};

use super::Disks;

/// Disks that have no names any more.
#[derive(Debug)]
pub struct Held {
    disks: Disks,
    _files: Vec<fs_err::File>,
}

impl Held {
    /// Opens the files of `disks` and takes their names away. What is only read and not this run's own, the
    /// firmware's code, stays as it is.
    ///
    /// # Errors
    /// When a file cannot be opened or its name cannot be removed.
    pub fn of(disks: Disks) -> Result<Self> {
        let mut files = Vec::new();
        let mut hold = |path: &Path| -> Result<PathBuf> {
            let file = fs_err::File::open(path).or_io(|| "open a disk of the guest".into())?;
            fs_err::remove_file(path).or_io(|| "take the name of a disk of the guest".into())?;
            // QEMU opens it anew by this link, which leads to the file and not to a name.
            let link = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
            files.push(file);
            Ok(link.into())
        };
        let Disks { overlay, seed, cd, kit, uefi } = disks;
        let disks = Disks {
            overlay: hold(&overlay)?,
            seed: seed.map(|seed| hold(&seed)).transpose()?,
            cd: cd.map(|cd| hold(&cd)).transpose()?,
            kit, // its owner's, who keeps it
            uefi: match uefi {
                Some((code, variables)) => Some((code, hold(&variables)?)),
                None => None,
            },
        };
        Ok(Self { disks, _files: files })
    }

    /// The disks, for QEMU to open.
    #[must_use]
    pub fn disks(&self) -> &Disks {
        &self.disks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_has_no_name_and_can_be_opened_again_and_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = folder.path().join(name);
            fs_err::write(&path, name).unwrap();
            path
        };
        let uefi = Some((file("CODE.fd"), file("VARS.fd")));
        let disks =
            Disks { overlay: file("root"), seed: Some(file("seed")), cd: None, kit: None, uefi };
        let held = Held::of(disks).unwrap();
        let left: Vec<_> =
            folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["CODE.fd"]);
        let overlay = &held.disks().overlay;
        assert_eq!(fs_err::read_to_string(overlay).unwrap(), "root");
        fs_err::OpenOptions::new().write(true).open(overlay).unwrap();
        fs_err::write(overlay, "written").unwrap();
        assert_eq!(fs_err::read_to_string(overlay).unwrap(), "written");
        assert_eq!(held.disks().uefi.as_ref().unwrap().0, folder.path().join("CODE.fd"));
    }
}

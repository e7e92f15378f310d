//! The subject: an image file that is only ever read.

use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use nodekiln_disk::qcow2::Backing;
use nodekiln_disk::{Format, Image, Unpacking};
use nodekiln_words::{Bytes, Cancel, Class, Failure, Progress, Result, ResultExt as _, Sha256};

/// How much larger than an artifact of `size` the guest's disk is, so that growth can be judged.
///
/// The rule `root-growth` asks for nine tenths of the disk: a fixed growth would be within the tenth
/// left on a large disk, and a root that did not grow would pass.
#[must_use]
pub fn growth(size: Bytes) -> Bytes {
    Bytes((4 * Bytes::GIB).max(size.get() / 4))
}

/// An image file that was found to be one.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Absolute path.
    pub path: PathBuf,
}

/// An artifact whose disk can be read, by us and by QEMU.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The file and the disk inside, as our own reader has it.
    pub image: Image,
    /// The same disk in QEMU's words, for an overlay.
    backing: Backing,
}

/// Looks whether `path` is an image file, without unpacking any.
///
/// # Errors
/// [`Class::Input`] for a file that is no disk image or whose container cannot be read.
pub fn identify(path: &Path) -> Result<Artifact> {
    if !nodekiln_disk::is_packed(path)? {
        nodekiln_disk::open(path)?;
    }
    let path = fs_err::canonicalize(path).or_io(|| format!("resolve {}", path.display()))?;
    Ok(Artifact { path })
}

impl Opened {
    /// How QEMU reads the disk of each format.
    ///
    /// A VHD's and a raw file's bytes are the disk's own, and QEMU is told how many of them. Clusters of
    /// qcow2 and grains of VMDK, also within an OVA, are decompressed by QEMU's own drivers: a second reader
    /// beside ours, which nobody here wrote. There is none for an archive, so ours unpacks that into a
    /// file without a name, with holes where the disk has zeros; QEMU opens what this process has open.
    fn new(path: &Path, image: Image) -> Result<Self> {
        let file = path.to_owned();
        let backing = match image.format() {
            Format::Raw => Backing::Raw(file),
            Format::Qcow2 => Backing::Qcow2(file),
            Format::Vhd => Backing::Part { file, length: image.size() },
            Format::Vmdk => {
                let length = fs_err::metadata(path).or_io(|| "look at the image".into())?.len();
                Backing::Vmdk { file, range: 0..length }
            }
            Format::Ova => {
                let package =
                    image.package().ok_or_else(|| Failure::input("an OVA without disk"))?;
                Backing::Vmdk { file, range: package.extent.clone() }
            }
            Format::TarGz => {
                let unpacked = image.unpacked();
                let unpacked = unpacked.ok_or_else(|| Failure::input("an archive unread"))?;
                let (process, number) = (std::process::id(), unpacked.as_raw_fd());
                Backing::Raw(format!("/proc/{process}/fd/{number}").into())
            }
        };
        Ok(Self { image, backing })
    }

    /// Size of the disk.
    #[must_use]
    pub fn size(&self) -> Bytes {
        Bytes(self.image.size())
    }

    /// Writes an empty overlay, larger than the disk, to `path`. It can be read as long as this value lives.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn overlay(&self, path: &Path) -> Result<Bytes> {
        let size = (self.size().get() + growth(self.size()).get()).div_ceil(512) * 512;
        nodekiln_disk::qcow2::write_overlay(path, &self.backing, size)?;
        Ok(Bytes(size))
    }
}

impl Artifact {
    /// Opens the disk inside; an archive is unpacked into a nameless file of `folder`, which is gone with the
    /// value, however this process ends.
    ///
    /// # Errors
    /// When the file is damaged, the folder is full, or somebody asked to stop.
    pub fn open(&self, folder: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<Opened> {
        let unpacking = Unpacking { folder, progress, cancel };
        let image = nodekiln_disk::open_with(&self.path, Some(unpacking))?;
        Opened::new(&self.path, image)
    }

    /// SHA-256 of the file's bytes.
    ///
    /// # Errors
    /// When it cannot be read, or somebody asked to stop.
    pub fn digest(&self, progress: &dyn Progress, cancel: &Cancel) -> Result<Sha256> {
        crate::digest::digest_file(&self.path, "digest of the artifact", progress, cancel)
    }
}

/// Fails unless the file is the one whose digest was `claimed`; without a claim any file will do.
///
/// # Errors
/// [`Class::Input`]: what the manifest says of its artifact holds for no other file.
pub fn meant(path: &Path, claimed: Option<Sha256>, found: Option<Sha256>) -> Result<()> {
    let (Some(claimed), Some(found)) = (claimed, found) else { return Ok(()) };
    if claimed == found {
        return Ok(());
    }
    let text = format!(
        "{} is not the file that the manifest speaks of: its sha256 is {found}, not {claimed}",
        path.display()
    );
    Err(Failure::input(text).with_help(
        "build the image again or copy it again; to judge this very file, give its own manifest",
    ))
}

/// Fails unless the artifact is still what it was.
///
/// # Errors
/// [`Class::Io`] when the digests differ: nothing that was seen can be trusted then.
pub fn unchanged(path: &Path, before: Option<Sha256>, after: Option<Sha256>) -> Result<()> {
    let (Some(before), Some(after)) = (before, after) else { return Ok(()) };
    if before == after {
        return Ok(());
    }
    let text =
        format!("{} changed while it was validated: {before} became {after}", path.display());
    Err(Failure::new(Class::Io, text).with_help("something else wrote to it; validate it again"))
}

#[cfg(test)]
mod tests {
    use nodekiln_words::Silent;

    use super::*;

    #[test]
    fn a_root_that_did_not_grow_is_less_than_nine_tenths_of_any_disk() {
        for gib in [1, 4, 36, 40, 200, 2040] {
            let size = Bytes(gib * Bytes::GIB);
            let disk = size.get() + growth(size).get();
            assert!(size.get() * 10 < disk * 9, "{gib} GiB");
        }
    }

    #[test]
    fn the_overlay_is_grown_and_a_whole_number_of_sectors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.raw");
        let mut start = vec![0; 512];
        start[446 + 4] = 0x83;
        start[510..].copy_from_slice(&[0x55, 0xaa]);
        fs_err::write(&path, start).unwrap();
        let file = fs_err::File::options().write(true).open(&path).unwrap();
        file.set_len(40 * Bytes::GIB + 512 * 3).unwrap();
        let artifact = identify(&path).unwrap();
        let opened = artifact.open(folder.path(), &Silent, &Cancel::default()).unwrap();
        let disk = opened.overlay(&folder.path().join("root.qcow2")).unwrap();
        assert_eq!(disk.get() % 512, 0);
        assert!(disk.get() >= 50 * Bytes::GIB, "{disk}");
    }

    #[test]
    fn a_file_with_another_digest_than_claimed_is_refused_with_both() {
        let (path, found, claimed) = (Path::new("a.raw"), Sha256::of("a"), Sha256::of("b"));
        let here = Some(found);
        assert!(meant(path, None, here).is_ok() && meant(path, here, here).is_ok());
        assert!(meant(path, Some(claimed), None).is_ok()); // nobody digested it
        let failure = meant(path, Some(claimed), here).unwrap_err();
        assert_eq!(failure.class(), Class::Input);
        let text = failure.to_string();
        assert!(text.contains(&claimed.to_string()) && text.contains(&found.to_string()), "{text}");
        assert!(failure.help().is_some());
    }
}

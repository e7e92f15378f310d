//! The subject: an image file that is only ever read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln_words::{Bytes, Cancel, Class, Failure, Progress, Result, ResultExt as _, Sha256};

/// How much larger than an artifact of `size` the guest's disk is, so that growth can be judged.
///
/// The rule `root-growth` asks for nine tenths of the disk: a fixed growth would be within the tenth
/// left on a large disk, and a root that did not grow would pass.
#[must_use]
pub fn growth(size: Bytes) -> Bytes {
    Bytes((4 * Bytes::GIB).max(size.get() / 4))
}

/// An image file that was opened and found to be one.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Absolute path.
    pub path: PathBuf,
    /// Its format in QEMU's words.
    pub format: &'static str,
    /// Size of the disk inside.
    pub size: Bytes,
    /// What is wrong with its partition table; empty when it is sound.
    pub table: Vec<String>,
}

/// Opens `path` and checks its container, before anything boots.
///
/// # Errors
/// [`Class::Input`] for a file that is no disk image or whose container is damaged.
pub fn identify(path: &Path, cancel: &Cancel) -> Result<Artifact> {
    let image = nodekiln_disk::open(path)?;
    let format = image.format();
    if format == nodekiln_disk::Format::Qcow2 {
        check_container(path, cancel)?;
    }
    let table = nodekiln_disk::gpt::problems(image.disk()).map_err(|failure| {
        failure.context(format!("read the partition table of {}", path.display()))
    })?;
    let absolute = fs_err::canonicalize(path).or_io(|| format!("resolve {}", path.display()))?;
    Ok(Artifact { path: absolute, format: format.name(), size: Bytes(image.size()), table })
}

/// Refuses a qcow2 file whose tables do not agree: QEMU might read it in another way than a cloud.
fn check_container(path: &Path, cancel: &Cancel) -> Result<()> {
    let failed = || format!("check {}", path.display());
    let file = std::fs::File::open(path).or_io(failed)?;
    let length = file.metadata().or_io(failed)?.len();
    let reader = nodekiln_disk::qcow2::Reader::new(Arc::new(file), length)?;
    let found = reader.check(cancel).map_err(|failure| failure.context(failed()))?;
    if found.problems.is_empty() {
        return Ok(());
    }
    let text = format!("{} is damaged: {}", path.display(), found.problems.join("; "));
    Err(Failure::input(text).with_help("write the image again; it was not booted"))
}

impl Artifact {
    /// Writes an empty overlay, larger than the artifact, to `path`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn overlay(&self, path: &Path) -> Result<Bytes> {
        let size = (self.size.get() + growth(self.size).get()).div_ceil(512) * 512;
        nodekiln_disk::qcow2::write_overlay(path, &self.path, self.format, size)?;
        Ok(Bytes(size))
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
pub fn meant(path: &Path, claimed: Option<Sha256>, found: Sha256) -> Result<()> {
    let Some(claimed) = claimed.filter(|claimed| *claimed != found) else { return Ok(()) };
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
pub fn unchanged(path: &Path, before: Sha256, after: Sha256) -> Result<()> {
    if before == after {
        return Ok(());
    }
    let text =
        format!("{} changed while it was validated: {before} became {after}", path.display());
    Err(Failure::new(Class::Io, text).with_help("something else wrote to it; validate it again"))
}

#[cfg(test)]
mod tests {
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
        fs_err::File::create(&path).unwrap().set_len(40 * Bytes::GIB + 512 * 3).unwrap();
        let size = Bytes(40 * Bytes::GIB + 512 * 3);
        let artifact = Artifact { path, format: "raw", size, table: vec![] };
        let disk = artifact.overlay(&folder.path().join("root.qcow2")).unwrap();
        assert_eq!(disk.get() % 512, 0);
        assert!(disk.get() >= 50 * Bytes::GIB, "{disk}");
    }

    #[test]
    fn a_file_with_another_digest_than_claimed_is_refused_with_both() {
        let (path, found, claimed) = (Path::new("a.raw"), Sha256::of("a"), Sha256::of("b"));
        assert!(meant(path, None, found).is_ok() && meant(path, Some(found), found).is_ok());
        let failure = meant(path, Some(claimed), found).unwrap_err();
        assert_eq!(failure.class(), Class::Input);
        let text = failure.to_string();
        assert!(text.contains(&claimed.to_string()) && text.contains(&found.to_string()), "{text}");
        assert!(failure.help().is_some());
    }
}

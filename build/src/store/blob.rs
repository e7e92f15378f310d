//! Blobs: files named by the SHA-256 of their bytes.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use nodekiln_words::{Class, Digester, Failure, Result, ResultExt, Sha256};

use super::scratch::TempFile;
use super::{FileLock, Store, locked, sync_folder, touch};

impl Store {
    /// Whether a blob of this digest is there; its bytes are not looked at.
    #[must_use]
    pub fn has_blob(&self, digest: &Sha256) -> bool {
        self.place_of(digest).is_file()
    }

    /// Keeps `bytes` as a blob.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Sha256> {
        let digest = Sha256::of(bytes);
        if self.intact_place(&digest)?.is_some() {
            return Ok(digest);
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).map_err(|error| self.failed("write a blob", error))?;
        writer.commit(Some(digest))
    }

    /// Keeps a copy of the file at `path` as a blob. Where the blob is there already, the file is
    /// read once and nothing is written.
    ///
    /// # Errors
    /// When it cannot be read or changes meanwhile, or the copy cannot be written.
    pub fn put_file(&self, path: &Path) -> Result<Sha256> {
        let digest = digest_of(path).or_io(|| "cannot read a file to keep".into())?;
        if self.intact_place(&digest)?.is_some() {
            return Ok(digest);
        }
        let mut file = fs_err::File::open(path).or_io(|| "cannot read a file to keep".into())?;
        let mut writer = self.blob_writer()?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            let length = file.read(&mut buffer).or_io(|| "cannot read a file to keep".into())?;
            let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else {
                break;
            };
            writer.write_all(read).map_err(|error| self.failed("write a blob", error))?;
        }
        let keeping = |failure: Failure| failure.context(format!("cannot keep {}", path.display()));
        writer.commit(Some(digest)).map_err(keeping)
    }

    /// A blob to be written piece by piece.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        let file = TempFile::new(&self.scratch_root())
            .map_err(|error| self.failed("write a blob", error))?;
        Ok(BlobWriter { store: self.clone(), file, digester: Digester::default() })
    }

    /// Where the blob of this digest stands. Its bytes are compared with the digest once per
    /// process; if they differ, the file is moved to `damaged/` and counts as missing.
    ///
    /// # Errors
    /// [`Class::Missing`] when there is no such blob, or no longer.
    pub fn blob_path(&self, digest: &Sha256) -> Result<PathBuf> {
        self.intact_place(digest)?.ok_or_else(|| missing(digest))
    }

    /// The bytes of a blob, compared with the digest each time.
    ///
    /// # Errors
    /// [`Class::Missing`] when there is no such blob; one that differs from its digest is moved to
    /// `damaged/` and counts as missing.
    pub fn read_blob(&self, digest: &Sha256) -> Result<Vec<u8>> {
        let Some(path) = self.used(digest)? else {
            return Err(missing(digest));
        };
        let bytes = fs_err::read(&path).or_io(|| format!("blob {digest}"))?;
        let found = Sha256::of(&bytes);
        if found == *digest {
            locked(&self.0.intact_blobs).insert(*digest);
            return Ok(bytes);
        }
        self.report_damaged_blob(digest, &found);
        Err(missing(digest))
    }

    /// Where the blob stands if it is there and intact.
    pub(crate) fn intact_place(&self, digest: &Sha256) -> Result<Option<PathBuf>> {
        let Some(path) = self.used(digest)? else {
            return Ok(None);
        };
        if locked(&self.0.intact_blobs).contains(digest) {
            return Ok(Some(path));
        }
        let found = digest_of(&path).or_io(|| format!("blob {digest}"))?;
        if found != *digest {
            self.report_damaged_blob(digest, &found);
            return Ok(None);
        }
        locked(&self.0.intact_blobs).insert(*digest);
        Ok(Some(path))
    }

    /// Takes a complete file of the store's file system in as the blob `digest`, which the caller
    /// has just computed over its bytes.
    pub(crate) fn adopt(&self, file: &std::fs::File, path: &Path, digest: &Sha256) -> Result<()> {
        let place = self.place_of(digest);
        self.put_into_place(file, path, &place)
            .map_err(|error| self.failed("keep a blob", error))?;
        locked(&self.0.intact_blobs).insert(*digest);
        Ok(())
    }

    fn put_into_place(&self, file: &std::fs::File, path: &Path, place: &Path) -> io::Result<()> {
        let folder = place.parent().ok_or(io::ErrorKind::InvalidInput)?;
        if !folder.is_dir() {
            fs_err::create_dir_all(folder)?;
            sync_folder(&self.blobs())?;
        }
        file.sync_all()?;
        touch(path)?;
        let _gate = self.use_gate()?;
        fs_err::rename(path, place)?;
        // Not before: a part that nobody may write to could not be taken up again after a kill.
        rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(0o444))?;
        sync_folder(folder)
    }

    pub(super) fn report_damaged_blob(&self, digest: &Sha256, found: &Sha256) {
        locked(&self.0.intact_blobs).remove(digest);
        self.move_aside(
            &self.place_of(digest),
            &format!("blob {digest} is damaged: its digest is {found}"),
        );
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root().join("blobs/sha256")
    }

    pub(super) fn place_of(&self, digest: &Sha256) -> PathBuf {
        let hex = digest.to_string();
        self.blobs().join(hex.get(..2).unwrap_or_default()).join(&hex)
    }

    /// Where the blob stands, if it does; from now on it counts as in use by this process.
    fn used(&self, digest: &Sha256) -> Result<Option<PathBuf>> {
        let path = self.place_of(digest);
        self.note_use(&path).map(|there| there.then_some(path))
    }

    /// Notes the use of a blob or node; `false` if it is not there. Pruning cannot come between.
    pub(super) fn note_use(&self, path: &Path) -> Result<bool> {
        let noted = self.use_gate().and_then(|_gate| touch(path));
        match noted {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed("note the use of a file", error)),
        }
    }

    /// Held while something comes into use; pruning takes it exclusively for each removal.
    pub(super) fn use_gate(&self) -> io::Result<FileLock> {
        FileLock::gate(&self.prune_gate(), false)
    }

    pub(super) fn prune_gate(&self) -> PathBuf {
        self.root().join("locks/prune")
    }
}

/// A blob under way. Dropping it without [`BlobWriter::commit`] leaves nothing behind.
pub struct BlobWriter {
    store: Store,
    file: TempFile,
    digester: Digester,
}

impl BlobWriter {
    /// Puts the blob into place: flushed to the disk, then renamed.
    ///
    /// # Errors
    /// When the bytes are not those that `expected` names, or cannot be written.
    pub fn commit(self, expected: Option<Sha256>) -> Result<Sha256> {
        let found = self.digester.finish();
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(Failure::io(format!("expected sha256 {expected}, found {found}")));
        }
        self.store.adopt(self.file.file(), self.file.path(), &found)?;
        Ok(found)
    }

    /// The digest of the bytes written so far.
    pub(crate) fn digest(&self) -> Sha256 {
        self.digester.clone().finish()
    }

    /// Bytes written so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.digester.length()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.file().write(bytes)?;
        self.digester.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The digest of a file's bytes.
pub(crate) fn digest_of(path: &Path) -> io::Result<Sha256> {
    let mut file = fs_err::File::open(path)?;
    let mut digester = Digester::default();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length = file.read(&mut buffer)?;
        match buffer.get(..length) {
            Some(read) if !read.is_empty() => digester.update(read),
            _ => return Ok(digester.finish()),
        }
    }
}

fn missing(digest: &Sha256) -> Failure {
    Failure::new(Class::Missing, format!("blob {digest} is not in the content store"))
        .with_help("run the command again with a network connection: it is fetched anew")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    fn damage(store: &Store, digest: &Sha256, change: impl FnOnce(&mut Vec<u8>)) {
        let path = store.place_of(digest);
        let mut bytes = fs_err::read(&path).unwrap();
        change(&mut bytes);
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        fs_err::write(&path, bytes).unwrap();
    }

    #[test]
    fn what_was_put_is_read_back() {
        let (folder, store) = store();
        let digest = store.put_bytes(b"abc").unwrap();
        assert_eq!(store.read_blob(&digest).unwrap(), b"abc");
        let file = folder.path().join("file");
        fs_err::write(&file, "abc").unwrap();
        assert_eq!(store.put_file(&file).unwrap(), digest);
        assert_eq!(fs_err::read(store.blob_path(&digest).unwrap()).unwrap(), b"abc");
    }

    #[test]
    fn a_flipped_byte_is_found_on_read_and_the_blob_is_missing_afterwards() {
        let (folder, store) = store();
        let digest = store.put_bytes(b"some bytes").unwrap();
        damage(&store, &digest, |bytes| bytes[3] ^= 1);
        assert_eq!(store.read_blob(&digest).unwrap_err().class(), Class::Missing);
        assert!(!store.has_blob(&digest));
        assert_eq!(fs_err::read_dir(folder.path().join("damaged")).unwrap().count(), 1);
        assert_eq!(store.put_bytes(b"some bytes").unwrap(), digest);
        assert_eq!(store.read_blob(&digest).unwrap(), b"some bytes");
    }

    #[test]
    fn a_truncated_blob_is_found_by_a_process_that_did_not_write_it() {
        let (folder, store) = store();
        let digest = store.put_bytes(b"some bytes").unwrap();
        damage(&store, &digest, |bytes| bytes.truncate(4));
        let later = Store::open(folder.path()).unwrap();
        assert_eq!(later.blob_path(&digest).unwrap_err().class(), Class::Missing);
        assert!(!later.has_blob(&digest));
    }

    #[test]
    fn bytes_that_are_not_the_expected_ones_are_not_kept() {
        let (folder, store) = store();
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"wrong").unwrap();
        let expected = Sha256::of("right");
        let failure = writer.commit(Some(expected)).unwrap_err();
        assert!(failure.to_string().contains(&expected.to_string()), "{failure}");
        assert!(failure.to_string().contains(&Sha256::of("wrong").to_string()), "{failure}");
        assert!(!store.has_blob(&expected));
        assert_eq!(fs_err::read_dir(folder.path().join("scratch")).unwrap().count(), 1);
    }
}

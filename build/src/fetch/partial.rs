//! A file of which a part has arrived, kept in the store under the digest that it should have.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use nodekiln_words::{Cancel, Digester, Event, Progress, Result, Sha256};

use crate::store::{FileLock, Store, failed};

/// The part, locked for this process, with the digest of what is there.
pub(super) struct Partial<'a> {
    store: &'a Store,
    lock: FileLock,
    digester: Digester,
}

impl<'a> Partial<'a> {
    /// Opens the part of the file `digest`, or begins one; waits while another process fetches it.
    pub(super) fn open(
        store: &'a Store,
        digest: &Sha256,
        what: &str,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Self> {
        let path = store.root().join("scratch/partial").join(digest.to_string());
        let waiting = || {
            let text = format!("waiting for another process that fetches {what}");
            progress.event(Event::Note(text));
        };
        let lock = FileLock::exclusive(&path, cancel, waiting, |error| full(store, error))?;
        let mut partial = Self { store, lock, digester: Digester::default() };
        partial.digest_what_is_there().map_err(|error| full(store, error))?;
        Ok(partial)
    }

    /// Bytes that have arrived.
    pub(super) fn length(&self) -> u64 {
        self.digester.length()
    }

    /// The digest of what has arrived.
    pub(super) fn digest(&self) -> Sha256 {
        self.digester.clone().finish()
    }

    /// Takes in what follows.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file().write_all(bytes).map_err(|error| full(self.store, error))?;
        self.digester.update(bytes);
        Ok(())
    }

    /// Throws away what has arrived.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.digester = Digester::default();
        let emptied = self.file().set_len(0).and_then(|()| self.file().rewind());
        emptied.map_err(|error| full(self.store, error))
    }

    /// Puts the file into place as a blob.
    pub(super) fn keep(self) -> Result<()> {
        let digest = self.digest();
        self.store.adopt(self.lock.file(), self.lock.path(), &digest)
    }

    /// Ends an attempt that is not worth going on with: the file goes away.
    pub(super) fn discard(mut self) {
        self.lock.remove_when_done();
    }

    fn digest_what_is_there(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 18];
        loop {
            let length = self.file().read(&mut buffer)?;
            match buffer.get(..length) {
                Some(read) if !read.is_empty() => self.digester.update(read),
                _ => break,
            }
        }
        self.file().seek(SeekFrom::End(0)).map(drop)
    }

    fn file(&self) -> &File {
        self.lock.file()
    }
}

fn full(store: &Store, error: io::Error) -> nodekiln_words::Failure {
    failed(store.root(), "write a fetched file", error)
}

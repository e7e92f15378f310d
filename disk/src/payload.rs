//! A disk's payload digest, which several writers need and which takes one core for seconds.

use std::sync::{Mutex, PoisonError};

use nodekiln_words::{Cancel, Digester, Progress, Result, Sha256};

use crate::disk::Disk;

/// The SHA-256 of all bytes of a disk, computed when it is first asked for, and once however many
/// threads ask: the others wait for it.
#[derive(Debug)]
pub struct Payload<'a> {
    disk: &'a Disk,
    digester: Mutex<Option<Digester>>,
}

impl<'a> Payload<'a> {
    /// Of `disk`; nothing is read yet.
    #[must_use]
    pub fn of(disk: &'a Disk) -> Self {
        Self { disk, digester: Mutex::default() }
    }

    /// The digest.
    ///
    /// # Errors
    /// As [`Disk::digest`]; whoever asks next tries again.
    pub fn digest(&self, progress: &dyn Progress, cancel: &Cancel) -> Result<Sha256> {
        Ok(self.digester(progress, cancel)?.finish())
    }

    /// What has taken in all bytes of the disk, for the digest of a file that has more behind them.
    ///
    /// # Errors
    /// As [`Payload::digest`].
    pub(crate) fn digester(&self, progress: &dyn Progress, cancel: &Cancel) -> Result<Digester> {
        let mut digester = self.digester.lock().unwrap_or_else(PoisonError::into_inner);
        match &*digester {
            Some(known) => Ok(known.clone()),
            None => Ok(digester.insert(self.disk.digester(progress, cancel)?).clone()),
        }
    }

    /// Does `work` while the digests of `payloads` are computed on other threads, which stop where it
    /// fails. A digest that fails does so again for whoever asks for it.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn beside<T>(
        payloads: &[&Self],
        progress: &dyn Progress,
        cancel: &Cancel,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let digesting = cancel.child();
        std::thread::scope(|scope| {
            for payload in payloads {
                scope.spawn(|| payload.digest(progress, &digesting).ok());
            }
            let done = work();
            if done.is_err() {
                digesting.cancel();
            }
            done
        })
    }
}

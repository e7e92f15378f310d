//! A disk's payload digest, which several writers need and which takes one core for seconds.

use std::sync::{Mutex, PoisonError};

use nodekiln_words::{Cancel, Progress, Result, Sha256};

use crate::disk::Disk;

/// The SHA-256 of all bytes of a disk, computed when it is first asked for, and once however many
/// threads ask: the others wait for it.
#[derive(Debug)]
pub struct Payload<'a> {
    disk: &'a Disk,
    digest: Mutex<Option<Sha256>>,
}

impl<'a> Payload<'a> {
    /// Of `disk`; nothing is read yet.
    #[must_use]
    pub fn of(disk: &'a Disk) -> Self {
        Self { disk, digest: Mutex::default() }
    }

    /// The digest.
    ///
    /// # Errors
    /// As [`Disk::digest`]; whoever asks next tries again.
    pub fn digest(&self, progress: &dyn Progress, cancel: &Cancel) -> Result<Sha256> {
        let mut digest = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        match *digest {
            Some(known) => Ok(known),
            None => Ok(*digest.insert(self.disk.digest(progress, cancel)?)),
        }
    }
}

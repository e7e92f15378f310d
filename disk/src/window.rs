//! A part of a disk, of which no more is read than a sound file system has reason to.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nodekiln_words::{Cancel, Failure, Result};

use crate::disk::Disk;
use crate::partitions::Part;

/// Bytes that are read of a file system at most, whatever it holds, after which it is taken for one that leads in
/// circles.
const BUDGET: u64 = 2 << 30;
/// How many times what the disk stores for it may be read besides: all files several times, by all who judge
/// them.
const TIMES: u64 = 16;
/// What a read costs at least: one of a few bytes may mean that a cluster is decompressed.
const LEAST_COST: u64 = 1 << 10;
/// How many times cheaper zeros are that nobody stores.
const CHEAPER_ZEROS: u64 = 64;

/// A part of a disk as bytes that can be read until the budget is spent: 2 GiB and 16 times what the disk stores
/// for it. Holes count for what the disk stores nothing for.
#[derive(Debug)]
pub(crate) struct Window {
    disk: Disk,
    start: u64,
    length: u64,
    /// What may still be read, in bytes.
    left: AtomicU64,
    cancel: Cancel,
}

impl Window {
    /// The bytes of `part`. Reading fails once `cancel` is set.
    pub(crate) fn of(disk: &Disk, part: &Part, cancel: &Cancel) -> Self {
        let end = part.start.saturating_add(part.length);
        let stored = disk.extents().iter().map(|extent| {
            let stop = extent.start.saturating_add(extent.length).min(end);
            stop.saturating_sub(extent.start.max(part.start))
        });
        let stored = stored.fold(0, u64::saturating_add);
        Self {
            disk: disk.clone(),
            start: part.start,
            length: part.length,
            left: AtomicU64::new(BUDGET.saturating_add(stored.saturating_mul(TIMES))),
            cancel: cancel.clone(),
        }
    }

    /// Its length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Fails once somebody asked to stop.
    pub(crate) fn check(&self) -> Result<()> {
        self.cancel.check()
    }

    /// Fills `buffer` with the bytes at `at`.
    ///
    /// # Errors
    /// When they lie behind its end, cannot be read, the budget is spent, or somebody asked to stop.
    pub(crate) fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let length = buffer.len() as u64;
        if at.checked_add(length).is_none_or(|end| end > self.length) {
            let message = format!("{length} bytes at {at} lie behind the end of the partition");
            return Err(Failure::input(message));
        }
        self.pay(length.max(LEAST_COST))?;
        self.disk.read_at(self.start.saturating_add(at), buffer)
    }

    /// Takes what `length` bytes of zeros cost that stand nowhere.
    ///
    /// # Errors
    /// When the budget is spent, or somebody asked to stop.
    pub(crate) fn pay_for_zeros(&self, length: u64) -> Result<()> {
        self.pay(length / CHEAPER_ZEROS)
    }

    fn pay(&self, cost: u64) -> Result<()> {
        self.cancel.check()?;
        let paid = |left: u64| left.checked_sub(cost);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid) {
            Ok(_) => Ok(()),
            Err(_) => {
                let message = "too much was read of it: the file system leads in circles";
                Err(Failure::input(message))
            }
        }
    }
}

/// A window with a position.
pub(crate) struct Cursor {
    window: Arc<Window>,
    at: u64,
}

impl Cursor {
    pub(crate) fn new(window: &Arc<Window>) -> Self {
        Self { window: Arc::clone(window), at: 0 }
    }
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.window.length - self.at).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        self.window.read_at(self.at, &mut buffer[..length]).map_err(io::Error::other)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.window.length.checked_add_signed(by),
        };
        let at = at.filter(|at| *at <= self.window.length);
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// `fatfs` wants to be able to write, and marks a volume that it wrote to; nothing here does.
impl Write for Cursor {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Extent;

    fn window(length: u64, stored: usize) -> Window {
        let disk = Disk::new(length, vec![Extent::memory(0, vec![7; stored])]).unwrap();
        let part = Part {
            number: 1,
            start: 0,
            length,
            kind: String::new(),
            guid: None,
            name: String::new(),
        };
        Window::of(&disk, &part, &Cancel::default())
    }

    #[test]
    fn all_that_is_stored_can_be_read_several_times_and_not_for_ever() {
        let (small, large) = (window(64 << 20, 1), window(64 << 20, 64 << 20));
        let mut buffer = vec![0; 64 << 20];
        let mut times = |window: &Window| {
            (0..99).take_while(|_| window.read_at(0, &mut buffer).is_ok()).count()
        };
        assert_eq!((times(&small), times(&large)), (32, 48));
        // Zeros that stand nowhere are cheaper, and have an end too.
        let zeros = window(1 << 20, 1);
        let paid = (0..999).take_while(|_| zeros.pay_for_zeros(1 << 30).is_ok()).count();
        assert_eq!(paid, 128);
    }

    #[test]
    fn nothing_is_read_behind_the_end() {
        let window = window(4096, 4096);
        assert!(window.read_at(4000, &mut [0; 96]).is_ok());
        assert!(window.read_at(4000, &mut [0; 97]).is_err());
        assert!(window.read_at(u64::MAX, &mut [0; 97]).is_err());
    }
}

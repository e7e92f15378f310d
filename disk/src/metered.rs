//! A reader with a budget, for libraries that take as much into memory as a file tells them to.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

/// Bytes that the headers of an archive may take: names, attributes and the map of a sparse file. The map of
/// a disk of 300 GiB whose every other block is data takes as much.
pub(crate) const HEADERS: u64 = 64 << 20;

/// How many bytes may still be read.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Rc<Cell<u64>>);

/// A reader that fails once its budget is used up.
#[derive(Debug)]
pub(crate) struct Metered<R> {
    inner: R,
    budget: Budget,
}

impl Budget {
    /// Grants `bytes` from now on, whatever was left.
    pub(crate) fn grant(&self, bytes: u64) {
        self.0.set(bytes);
    }
}

impl<R> Metered<R> {
    /// Reads from `inner`, [`HEADERS`] bytes at most until more are granted.
    pub(crate) fn new(inner: R) -> (Self, Budget) {
        let budget = Budget(Rc::new(Cell::new(HEADERS)));
        (Self { inner, budget: budget.clone() }, budget)
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.0.get();
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 && !buffer.is_empty() {
            return Err(io::Error::other("its headers take more than 64 MiB"));
        }
        let length = self.inner.read(&mut buffer[..room])?;
        self.budget.0.set(left - length as u64);
        Ok(length)
    }
}

/// What is passed over costs nothing.
impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

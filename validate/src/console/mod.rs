//! The serial console: what a guest says before anybody can ask it.

mod patterns;
mod scanner;

pub use patterns::{Gravity, Pattern, patterns};
pub use scanner::{Finding, Scanner};

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use nodekiln_words::{Result, ResultExt as _};

/// Follows the file that QEMU writes the console to and scans each new piece once.
#[derive(Debug)]
pub struct Console {
    path: PathBuf,
    scanner: Scanner,
}

/// Marks that tell how far a boot has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The boot loader or firmware wrote something.
    pub anything: bool,
    /// The kernel's first line was seen.
    pub kernel: bool,
    /// The service manager's first line was seen.
    pub manager: bool,
}

impl Console {
    /// Follows `path`, which need not exist yet.
    #[must_use]
    pub fn follow(path: &Path) -> Self {
        Self { path: path.to_owned(), scanner: Scanner::default() }
    }

    /// Reads and scans what has been written since the last call.
    ///
    /// # Errors
    /// When the file exists and cannot be read.
    pub fn poll(&mut self) -> Result<()> {
        let Ok(mut file) = fs_err::File::open(&self.path) else { return Ok(()) };
        let mut piece = Vec::new();
        file.seek(SeekFrom::Start(self.scanner.offset()))
            .and_then(|_| file.read_to_end(&mut piece))
            .or_io(|| "read the console".into())?;
        self.scanner.push(&piece);
        Ok(())
    }

    /// Everything found so far, in order.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        self.scanner.findings()
    }

    /// The first finding after which waiting is useless.
    #[must_use]
    pub fn fatal(&self) -> Option<&Finding> {
        self.findings().iter().find(|finding| finding.gravity == Gravity::Fatal)
    }

    /// How far the boot has come.
    #[must_use]
    pub fn reached(&self) -> Reached {
        self.scanner.reached()
    }

    /// The last `count` lines, without terminal control sequences.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<String> {
        self.scanner.tail(count)
    }

    /// Bytes seen so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.scanner.offset()
    }
}

//! A report and the folder of evidence that it speaks of.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nodekiln_words::{Class, Result, ResultExt as _};

use super::Report;
use crate::evidence;
use crate::power_on::PowerOn;

/// Most bytes of a console or a picture that a page takes in.
const MOST: u64 = 8 << 20;

/// A report as it was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The evidence: the files that the report names lie in it.
    pub folder: PathBuf,
    /// What was found.
    pub report: Report,
}

impl Kept {
    /// Reads the report that a run left in `folder`.
    ///
    /// # Errors
    /// [`Class::Input`] when there is none, or not of this version of nodekiln.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(evidence::REPORT);
        let text = fs_err::read(&path).or_fail(Class::Input, || {
            format!("{} holds no report of `nodekiln validate`", folder.display())
        });
        let text = text.map_err(|failure| {
            failure.with_help("give a folder of evidence: `validate` prints it, `--out` names it")
        })?;
        let report = serde_json::from_slice(&text).or_fail(Class::Input, || {
            format!("{} is no report of this version of nodekiln", path.display())
        });
        let report = report.map_err(|failure| {
            failure.with_help("validate the image again, or read it with the version that wrote it")
        })?;
        Ok(Self { folder: folder.to_owned(), report })
    }

    /// The console's log, where one was kept.
    #[must_use]
    pub fn console(&self) -> Option<Vec<u8>> {
        self.file_of(&self.report.console)
    }

    /// A log that the report names, where there is one.
    pub(super) fn file_of(&self, name: &Path) -> Option<Vec<u8>> {
        self.file(name).filter(|log| !log.is_empty())
    }

    /// The picture of the guest's screen at a power-on as PNG in base64, where one was taken.
    pub(super) fn screen(&self, power_on: PowerOn) -> Option<String> {
        Some(BASE64_STANDARD.encode(self.file(Path::new(&power_on.file(evidence::SCREEN)))?))
    }

    /// A file of the evidence; the first [`MOST`] bytes of a longer one.
    fn file(&self, name: &Path) -> Option<Vec<u8>> {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        let file = fs_err::File::open(self.folder.join(name)).ok()?;
        file.take(MOST).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

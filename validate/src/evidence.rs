//! The evidence folder: it belongs to one run at a time, and nothing of an earlier run is left in it
//! to be taken for this one's.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};

use nodekiln_words::{Failure, Result, ResultExt as _};

use crate::conformance;
use crate::power_on::PowerOn;
use crate::report::{self, Kept, Report};

/// The console's log.
pub(crate) const CONSOLE: &str = "console.log";
/// What QEMU itself said.
pub(crate) const QEMU_LOG: &str = "qemu.log";
/// A picture of the guest's screen.
pub(crate) const SCREEN: &str = "screen.png";
/// The same, as QEMU writes it.
pub(crate) const PICTURE: &str = "screen.ppm";
/// What the guest asked of its cloud's services.
pub(crate) const METADATA: &str = "metadata.jsonl";
/// Frames that passed the guest's network card.
pub(crate) const NETWORK: &str = "network.pcap";
/// Folder of the guest's own logs; its files are called by what they are and end in `.log`.
pub(crate) const GUEST: &str = "guest";
/// Folders of overlay, seed, medium and UEFI variables while a guest runs; random letters follow.
const OVERLAY: &str = ".overlay-";
/// A report while it is being written.
const PARTIAL: &str = ".partial-";
/// What each power-on may leave besides the guest's logs.
const FILES: [&str; 6] = [CONSOLE, QEMU_LOG, PICTURE, SCREEN, METADATA, NETWORK];
/// The report in its forms; who finds the last one finds all.
const REPORTS: [&str; 5] = ["report.txt", "junit.xml", "summary.md", "report.html", REPORT];
/// The report for programs.
pub(crate) const REPORT: &str = "report.json";

/// An evidence folder that this run alone writes to, as long as the value lives.
#[derive(Debug)]
pub(crate) struct Evidence {
    folder: PathBuf,
    _lock: fs_err::File,
}

impl Evidence {
    /// Makes `folder` where it is missing, locks it, and clears it of what earlier runs left, but for what became of
    /// specs where this one goes on with them.
    ///
    /// # Errors
    /// When another run has it, or it cannot be written.
    pub(crate) fn open(folder: &Path, resume: bool) -> Result<Self> {
        fs_err::create_dir_all(folder).or_io(|| "make the output folder".into())?;
        let lock = fs_err::File::open(folder).or_io(|| "open the output folder".into())?;
        match lock.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy(folder)),
            Err(TryLockError::Error(error)) => {
                return Err(error).or_io(|| format!("lock {}", folder.display()));
            }
        }
        clear(folder)?;
        let specs = folder.join(conformance::FOLDER);
        if !resume && specs.exists() {
            conformance::clear(&specs)?;
            let _ = fs_err::remove_dir(&specs); // what else is in it is not ours
        }
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// Writes the report in each of its forms, each whole or not at all, `report.json` last.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn keep(&self, report: &Report) -> Result<()> {
        let kept = [Kept { folder: self.folder.clone(), report: report.clone() }];
        let (summary, page) = (report::summary(&kept), report::page(&kept));
        let forms = [report.text(), report.junit(), summary, page, report.json()];
        for (name, text) in REPORTS.iter().zip(forms) {
            let path = self.folder.join(name);
            let cannot = || format!("cannot write {}", path.display());
            let partial = self.folder.join(format!("{PARTIAL}{name}"));
            fs_err::write(&partial, text).or_io(cannot)?;
            fs_err::File::open(&partial).and_then(|file| file.sync_all()).or_io(cannot)?;
            fs_err::rename(&partial, &path).or_io(cannot)?;
        }
        Ok(())
    }
}

fn busy(folder: &Path) -> Failure {
    Failure::input(format!("another run writes its evidence to {}", folder.display()))
        .with_help("wait until it is through, or name another folder with `--out FOLDER`")
}

/// Removes what a run writes, by name: the folder may hold things of its owner too. Who holds the lock
/// knows that no run lives that the overlays could belong to.
fn clear(folder: &Path) -> Result<()> {
    for name in REPORTS {
        remove(&folder.join(name))?;
    }
    for power_on in PowerOn::ALL {
        for name in FILES {
            remove(&folder.join(power_on.file(name)))?;
        }
        remove_logs(&folder.join(power_on.file(GUEST)))?;
    }
    let entries = fs_err::read_dir(folder).or_io(|| "look into the output folder".into())?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PARTIAL) {
            remove(&entry.path())?;
        } else if name.starts_with(OVERLAY) {
            remove_overlay(&entry.path())?;
        }
    }
    Ok(())
}

/// Names of the files below an overlay's folder.
const OVERLAY_FILES: [&str; 5] = [OVERLAY_DISK, SEED, MEDIUM, VARIABLES, FRAMES];
/// What the guest wrote to its disk.
pub(crate) const OVERLAY_DISK: &str = "root.qcow2";
/// NoCloud's seed.
pub(crate) const SEED: &str = "seed.img";
/// The CD of the guest's cloud.
pub(crate) const MEDIUM: &str = "medium.iso";
/// The frames as QEMU writes them.
pub(crate) const FRAMES: &str = "frames.pcap";
/// UEFI's variables.
pub(crate) const VARIABLES: &str = "VARS.fd";

/// Makes a folder for large files that are gone with the run.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn scratch(out: &Path) -> Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix(OVERLAY).tempdir_in(out);
    made.or_io(|| "make a folder for the overlay".into())
}

fn remove_overlay(folder: &Path) -> Result<()> {
    for name in OVERLAY_FILES {
        remove(&folder.join(name))?;
    }
    let _ = fs_err::remove_dir(folder); // what else is in it is not ours
    Ok(())
}

fn remove_logs(folder: &Path) -> Result<()> {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            remove(&entry.path())?;
        }
    }
    let _ = fs_err::remove_dir(folder);
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if !absent(&error) => {
            Err(error).or_io(|| "clear away an earlier run's evidence".into())
        }
        _ => Ok(()),
    }
}

fn absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use nodekiln_words::Class;

    use super::*;
    use crate::report::testing::sample;

    fn names(folder: &Path) -> Vec<String> {
        let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_of_an_earlier_run_is_left_and_nothing_else_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in [GUEST, ".overlay-abc123", ".overlay-mine", "kept"] {
            fs_err::create_dir(path(name)).unwrap();
        }
        for name in REPORTS.iter().chain(&FILES).chain(&[
            "guest/journal.log",
            "console-after-cut.log",
            "screen-clone.png",
            ".overlay-abc123/root.qcow2",
            ".overlay-abc123/seed.img",
            ".overlay-mine/letter.txt",
            ".partial-report.json",
            "kept/report.json",
            "notes.txt",
        ]) {
            fs_err::write(path(name), "old").unwrap();
        }
        let specs = path(conformance::FOLDER);
        fs_err::create_dir(&specs).unwrap();
        for name in ["batch-1.xml", "batch-1.log", "results.json"] {
            fs_err::write(specs.join(name), "old").unwrap();
        }
        drop(Evidence::open(folder.path(), true).unwrap());
        assert_eq!(names(&specs).len(), 3, "they are gone on with");
        let _evidence = Evidence::open(folder.path(), false).unwrap();
        assert_eq!(names(folder.path()), [".overlay-mine", "kept", "notes.txt"]);
        assert_eq!(names(&path("kept")), ["report.json"]);
        assert_eq!(names(&path(".overlay-mine")), ["letter.txt"]);
    }

    #[test]
    fn a_folder_belongs_to_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Evidence::open(folder.path(), false).unwrap();
        fs_err::write(folder.path().join(CONSOLE), "the first run's").unwrap();
        let failure = Evidence::open(folder.path(), false).unwrap_err();
        assert_eq!(failure.class(), Class::Input);
        assert!(failure.help().is_some_and(|help| help.contains("--out")));
        assert_eq!(names(folder.path()), [CONSOLE]);
        drop(first);
        Evidence::open(folder.path(), false).unwrap();
    }

    #[test]
    fn report_json_is_written_last_and_only_after_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let evidence = Evidence::open(folder.path(), false).unwrap();
        evidence.keep(&sample()).unwrap();
        let all = ["junit.xml", "report.html", "report.json", "report.txt", "summary.md"];
        assert_eq!(names(folder.path()), all);
        fs_err::remove_file(folder.path().join("report.json")).unwrap();
        fs_err::remove_file(folder.path().join("junit.xml")).unwrap();
        fs_err::create_dir(folder.path().join("junit.xml")).unwrap(); // nothing can take its place
        assert_eq!(evidence.keep(&sample()).unwrap_err().class(), Class::Io);
        assert!(!folder.path().join("report.json").exists());
    }
}

//! Formats that are not read here, by way of Debian's qemu-img where it is installed.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nodekiln_disk::Image;
use nodekiln_words::{Class, Failure, Result, ResultExt as _};

use super::Looking;
use crate::program::Program;

const QEMU_IMG: Program = Program { name: "qemu-img", package: "qemu-utils" };

/// The format of the file in qemu-img's word, if it is one of those.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn format(path: &Path) -> Result<Option<&'static str>> {
    let mut start = Vec::new();
    let file = fs_err::File::open(path).or_io(|| "open the image".to_owned())?;
    if file.metadata().or_io(|| "look at the image".to_owned())?.is_dir() {
        return Ok(None);
    }
    file.take(512).read_to_end(&mut start).or_io(|| "read the image".to_owned())?;
    let at =
        |offset: usize, magic: &[u8]| start.get(offset..).is_some_and(|s| s.starts_with(magic));
    Ok(if at(0, b"vhdxfile") {
        Some("vhdx")
    } else if at(64, &[0x7F, 0x10, 0xDA, 0xBE]) {
        Some("vdi")
    } else if at(0, b"conectix") {
        Some("vpc") // a dynamic disk has a copy of its footer in front
    } else {
        None
    })
}

/// Has qemu-img write the disk of `path` to a file in the scratch folder, and opens that.
///
/// # Errors
/// When qemu-img is missing or refuses the file.
pub(super) fn open(path: &Path, format: &str, looking: Looking<'_>) -> Result<Image> {
    let program = QEMU_IMG.find().map_err(|failure| {
        let message = format!("{} is a {format} file, which qemu-img would read", path.display());
        Failure::new(failure.class(), message).with_source(failure)
    })?;
    let raw = tempfile::Builder::new()
        .prefix("nodekiln-")
        .tempfile_in(looking.scratch)
        .or_io(|| format!("make a file in {}", looking.scratch.display()))?;
    let task = looking.progress.start(&format!("qemu-img converts {}", path.display()), None, "");
    let mut child = Command::new(program)
        .args(["convert", "-f", format, "-O", "raw"])
        .args([path, raw.path()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .or_fail(Class::Missing, || "start qemu-img".to_owned())?;
    let ended = loop {
        if looking.cancel.is_cancelled() {
            child.kill().ok();
            child.wait().ok();
            looking.progress.fail(task);
            return Err(Failure::interrupted());
        }
        if let Some(status) = child.try_wait().or_io(|| "wait for qemu-img".to_owned())? {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said).ok();
    }
    if !ended.success() {
        looking.progress.fail(task);
        return Err(Failure::input(format!("qemu-img cannot read it: {}", said.trim())));
    }
    looking.progress.finish(task, "");
    // The open file outlives its name.
    nodekiln_disk::open(raw.path()).map_err(|failure| failure.context(path.display().to_string()))
}

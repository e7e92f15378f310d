//! Formats that are not read here, by way of Debian's qemu-img where it is installed.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nodekiln_disk::Image;
use nodekiln_words::{Cancel, Class, Failure, Result, ResultExt as _};

use super::Looking;
use crate::program::{self, Program};

const QEMU_IMG: Program = Program { name: "qemu-img", package: "qemu-utils" };

/// The format of the file in qemu-img's word, if it is one of those.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn format(path: &Path) -> Result<Option<&'static str>> {
    let mut start = Vec::new();
    let file = match fs_err::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Failure::input(format!("there is no file {}", path.display())).with_help(
                "give the path of an image file; `nodekiln build RECIPE` prints where it puts its artifacts",
            ));
        }
        file => file.or_io(|| "open the image".to_owned())?,
    };
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

/// Has qemu-img write the disk of `path` to a nameless file in the scratch folder, and opens that.
///
/// # Errors
/// When qemu-img is missing or refuses the file.
pub(super) fn open(path: &Path, format: &str, looking: Looking<'_>) -> Result<Image> {
    let qemu_img = QEMU_IMG.find().map_err(|failure| {
        let message = format!("{} is a {format} file, which qemu-img would read", path.display());
        Failure::new(failure.class(), message).with_source(failure)
    })?;
    let folder = looking.scratch;
    let nameless =
        || tempfile::tempfile_in(folder).or_io(|| format!("make a file in {}", folder.display()));
    let (raw, said) = (nameless()?, nameless()?);
    // As an absolute path the name is neither an option nor a protocol: qemu-img takes what stands before a
    // colon for one.
    let source = std::path::absolute(path).or_io(|| format!("resolve {}", path.display()))?;
    let mut command = program::mortal(&qemu_img)?;
    command
        .args(["convert", "-f", format, "-O", "raw"])
        .arg(source)
        .arg(format!("/proc/{}/fd/{}", std::process::id(), raw.as_raw_fd()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said.try_clone().or_io(|| "share a file".to_owned())?);
    let title = format!("qemu-img converts {}", path.display());
    let task = looking.progress.start(&title, None, "");
    match run(&mut command, &said, looking.cancel) {
        Ok(()) => looking.progress.finish(task, ""),
        Err(failure) => {
            looking.progress.fail(task);
            return Err(failure);
        }
    }
    let raw = format!("/proc/self/fd/{}", raw.as_raw_fd());
    nodekiln_disk::open(Path::new(&raw))
        .map_err(|failure| failure.context(path.display().to_string()))
}

/// Runs qemu-img until it ends or somebody asks to stop; what it says stands in `said`.
fn run(command: &mut Command, said: &File, cancel: &Cancel) -> Result<()> {
    let mut child = command.spawn().or_fail(Class::Missing, || "start qemu-img".to_owned())?;
    let ended = loop {
        if cancel.is_cancelled() {
            child.kill().ok();
            child.wait().ok();
            return Err(Failure::interrupted());
        }
        if let Some(status) = child.try_wait().or_io(|| "wait for qemu-img".to_owned())? {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    if ended.success() {
        return Ok(());
    }
    let mut words = [0; 4096];
    let length = said.read_at(&mut words, 0).unwrap_or(0);
    let words = String::from_utf8_lossy(words.get(..length).unwrap_or_default()).into_owned();
    Err(Failure::input(format!("qemu-img cannot read it: {}", words.trim())))
}

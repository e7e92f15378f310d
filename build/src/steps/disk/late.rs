//! Large files of upper layers, written when all else is in the file system.
//!
//! mke2fs fills a file system in the order of names, each file behind the one before it. So another
//! kubelet, a few blocks longer, would move half of the disk, and nothing of what was compressed, sent
//! or compared before could be used again. Large files of the topmost layers therefore come last, layer by
//! layer: mke2fs finds empty files in their places, which debugfs(8) replaces.

use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nodekiln_words::{Class, Failure, Result, ResultExt as _};

use crate::execution::Execution;
use crate::sandbox::Bind;

/// Where debugfs finds its commands.
const SCRIPT: &str = "/mnt/script";

/// Length in bytes from which a file is large. Smaller ones seldom change by whole blocks.
const LARGE: u64 = 1 << 20;

/// Bytes of late files in all: debugfs takes longer for each than mke2fs.
const ROOM: u64 = 256 << 20;

/// A file that comes late.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Late {
    /// Number of its layer, from the bottom.
    layer: usize,
    /// Absolute path in the tree.
    path: String,
    /// Modification time in UTC seconds.
    mtime: i64,
    /// Length in bytes.
    size: u64,
}

/// Whether `path` of the tree, a file with this `metadata` that is seen at `place`, comes late.
///
/// Only what debugfs writes as mke2fs would: a file of root's with one name and no extended
/// attributes, whose path means the same in a line of commands.
///
/// # Errors
/// When the file's attributes cannot be read.
pub(super) fn candidate(
    path: &Path,
    metadata: &Metadata,
    place: &Path,
    layers: &[PathBuf],
) -> io::Result<Option<Late>> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:@=,~".contains(byte);
    let fits = metadata.is_file()
        && metadata.len() >= LARGE
        && metadata.nlink() == 1
        && (metadata.uid(), metadata.gid()) == (0, 0)
        && path.as_os_str().as_bytes().iter().all(plain);
    let (Some(text), true) = (path.to_str(), fits) else { return Ok(None) };
    let inside = path.strip_prefix("/").unwrap_or(path);
    let has = |layer: &PathBuf| layer.join(inside).symlink_metadata().is_ok_and(|m| m.is_file());
    let layer = layers.iter().rposition(has).unwrap_or(0);
    if layer == 0 || xattr::list(place)?.next().is_some() {
        return Ok(None);
    }
    Ok(Some(Late { layer, path: text.to_owned(), mtime: metadata.mtime(), size: metadata.len() }))
}

/// Of `candidates` those of the topmost layers, as many layers as there is room for, in the order in
/// which they are written.
pub(super) fn chosen(mut candidates: Vec<Late>) -> Vec<Late> {
    candidates.sort();
    let mut room = ROOM;
    let mut first = candidates.len();
    for layer in candidates.chunk_by(|a, b| a.layer == b.layer).rev() {
        let size = layer.iter().map(|late| late.size).sum();
        let Some(left) = room.checked_sub(size) else { break };
        (room, first) = (left, first - layer.len());
    }
    candidates.split_off(first)
}

/// An empty file in the place of each, for mke2fs, which sees the tree at `tree`.
///
/// # Errors
/// When the empty file cannot be made.
pub(super) fn covers(late: &[Late], tree: &str, execution: &Execution<'_>) -> Result<Vec<Bind>> {
    let empty = execution.scratch.join("empty");
    fs_err::write(&empty, "").or_io(writing)?;
    let cover = |late: &Late| Bind {
        host: empty.clone(),
        guest: format!("{tree}{}", late.path),
        read_only: true,
    };
    Ok(late.iter().map(cover).collect())
}

/// debugfs and its commands.
pub(super) struct Debugfs {
    /// Program and arguments.
    pub(super) argv: Vec<String>,
    /// The file of commands, and where debugfs sees it.
    pub(super) script: Bind,
    /// Where its output goes, and nothing else.
    pub(super) log: PathBuf,
}

/// What writes the files of `late`, seen below `tree`, into the file system that begins at byte
/// `offset` of `image`.
///
/// # Errors
/// When the commands cannot be written.
pub(super) fn debugfs(
    late: &[Late],
    tree: &str,
    image: &Path,
    offset: u64,
    execution: &Execution<'_>,
) -> Result<Debugfs> {
    let script = execution.scratch.join("debugfs");
    fs_err::write(&script, commands(late, tree)).or_io(writing)?;
    let image = format!("{}?offset={offset}", image.display());
    let argv = ["debugfs", "-w", "-f", SCRIPT, &image].map(str::to_owned).to_vec();
    let script = Bind { host: script, guest: SCRIPT.to_owned(), read_only: true };
    Ok(Debugfs { argv, script, log: execution.scratch.join("debugfs.log") })
}

fn commands(late: &[Late], tree: &str) -> String {
    let mut commands = String::new();
    for Late { path, .. } in late {
        commands.push_str(&format!("rm \"{path}\"\n"));
    }
    for Late { path, mtime, .. } in late {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        commands.push_str(&format!(
            "cd \"{folder}/\"\nwrite \"{tree}{path}\" \"{name}\"\nsif \"{path}\" mtime @{mtime}\n"
        ));
    }
    commands
}

/// Fails unless debugfs wrote every file: it ends well whatever happens, so its output is read. `log`
/// is all that it wrote; what is not known to be good is bad.
///
/// # Errors
/// [`Class::Verdict`] with the line that should not be there, or with the number of missing files.
pub(super) fn check(late: &[Late], log: &str) -> Result<()> {
    let mut written = 0;
    for line in log.lines().skip(1).map(str::trim) {
        written += usize::from(line.starts_with("Allocated inode: "));
        let echo = ["debugfs: ", "debugfs 1.", "Allocated inode: "];
        if !line.is_empty() && !echo.iter().any(|start| line.starts_with(start)) {
            let message = format!("the root file system cannot be completed: {line}");
            return Err(Failure::new(Class::Verdict, message));
        }
    }
    if written != late.len() {
        let message = format!("debugfs wrote {written} files, not {}", late.len());
        return Err(Failure::new(Class::Verdict, message));
    }
    Ok(())
}

fn writing() -> String {
    "cannot write to the scratch folder".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(path: &str) -> Late {
        Late { layer: 1, path: path.to_owned(), mtime: 7, size: LARGE }
    }

    #[test]
    fn the_topmost_layers_are_chosen_whole_while_there_is_room() {
        let of = |layer, path: &str, size| Late { layer, size, ..late(path) };
        let (low, middle) = (of(1, "/low", ROOM / 2 + 1), of(2, "/middle", ROOM / 4));
        let top = [of(3, "/b", ROOM / 8), of(3, "/a", ROOM / 8)];
        let all = vec![top[0].clone(), low.clone(), middle.clone(), top[1].clone()];
        assert_eq!(chosen(all), [middle.clone(), top[1].clone(), top[0].clone()]);
        assert_eq!(chosen(vec![low.clone(), middle.clone()]), [low, middle]);
        assert_eq!(chosen(vec![of(4, "/huge", ROOM + 1), late("/a")]), []);
    }

    #[test]
    fn all_are_removed_before_the_first_is_written() {
        let commands = commands(&[late("/usr/bin/b"), late("/a")], "/mnt/tree");
        let wanted = "rm \"/usr/bin/b\"\nrm \"/a\"\ncd \"/usr/bin/\"\n\
                      write \"/mnt/tree/usr/bin/b\" \"b\"\nsif \"/usr/bin/b\" mtime @7\n\
                      cd \"/\"\nwrite \"/mnt/tree/a\" \"a\"\nsif \"/a\" mtime @7\n";
        assert_eq!(commands, wanted);
    }

    #[test]
    fn only_what_is_known_to_be_good_is_good() {
        let files = [late("/a"), late("/b")];
        let good = "# title\ndebugfs 1.47.2 (1-Jan-2025)\ndebugfs: rm \"/a\"\n\
                    Allocated inode: 12\ndebugfs: cd \"/\"\nAllocated inode: 13\n";
        check(&files, good).unwrap();
        assert!(check(&files[..1], good).unwrap_err().to_string().contains("wrote 2 files"));
        let bad = format!("{good}write: Could not allocate block in ext2 filesystem \n");
        assert!(check(&files, &bad).unwrap_err().to_string().contains("Could not allocate"));
        assert!(check(&files, "# title\n").is_err());
    }
}

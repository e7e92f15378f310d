//! debugfs(8) as the writer of changes: its commands, and what it says of them.

use std::fmt::Display;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nodekiln_words::{Class, Failure, Result, ResultExt as _};

use super::changes::{Change, Item};
use crate::execution::Execution;
use crate::sandbox::{Bind, Output};

/// Where debugfs finds its commands, and the values of extended attributes.
const FOLDER: &str = "/mnt/debugfs";
/// Bytes of a path or of a link's target that surely fit into a line of commands, of which debugfs reads
/// `BUFSIZ` bytes (8192 with glibc) and each may be two, of both and what else stands there.
const LONGEST: usize = 1800;

/// Bytes of the layers below the planned base that debugfs writes too. It takes longer than mke2fs, so there
/// is an end to it.
const ROOM: u64 = 256 << 20;

/// How many of `layers`, bottom first, mke2fs fills in: as many as planned, less the topmost of those for
/// which there is room, because what a recipe's author changes from build to build lies there. The layers
/// above the planned base take none of the room, so that providers, which differ in those, agree.
///
/// # Errors
/// When a layer cannot be read.
pub(super) fn base_of(layers: &[PathBuf], planned: usize) -> io::Result<usize> {
    let mut base = planned.min(layers.len());
    let mut room = ROOM;
    while let Some(layer) = base.checked_sub(1).filter(|below| *below > 0) {
        let Some(layer) = layers.get(layer) else { break };
        let Some(left) = room_beside(layer, room)? else { break };
        (room, base) = (left, base - 1);
    }
    Ok(base)
}

/// What of `room` bytes is left beside all files in `folder`; `None` where they do not fit.
fn room_beside(folder: &Path, mut room: u64) -> io::Result<Option<u64>> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let left = match (metadata.is_dir(), metadata.is_file()) {
            (true, _) => room_beside(&entry.path(), room)?,
            (_, true) => room.checked_sub(metadata.len()),
            _ => Some(room),
        };
        let Some(left) = left else { return Ok(None) };
        room = left;
    }
    Ok(Some(room))
}

/// Whether there are commands for a change: debugfs ends a line at `\n` and at `\r`, even within quotation
/// marks, and makes no sockets.
pub(super) fn can_make(change: &Change) -> bool {
    let fits =
        |text: &[u8]| text.len() <= LONGEST && !text.iter().any(|byte| b"\n\r".contains(byte));
    let path = |path: &Path| fits(path.as_os_str().as_bytes());
    let item = |item: &Item| {
        path(&item.path)
            && item.target.as_deref().is_none_or(path)
            && !item.metadata.file_type().is_socket()
            && item.xattrs.keys().all(|name| fits(name.as_bytes()))
    };
    match change {
        Change::Remove { path: gone, .. } => path(gone),
        Change::Add(added) => item(added),
        Change::Link { path: second, first } => path(second) && path(first),
        Change::Set { item: set, lost } => {
            item(set) && lost.iter().all(|name| fits(name.as_bytes()))
        }
    }
}

/// debugfs and its commands.
pub(super) struct Debugfs {
    /// Program and arguments.
    pub(super) argv: Vec<String>,
    /// The folder of its commands, and where debugfs sees it.
    pub(super) folder: Bind,
    /// The commands, a line each.
    commands: Vec<u8>,
    /// How many inodes it is to tell of.
    inodes: usize,
}

impl Debugfs {
    /// What makes `changes`, whose files are seen below `tree`, in the file system that begins at byte
    /// `offset` of `image`.
    ///
    /// # Errors
    /// When the commands cannot be written.
    pub(super) fn new(
        changes: &[Change],
        tree: &str,
        image: &Path,
        offset: u64,
        execution: &Execution<'_>,
    ) -> Result<Self> {
        let host = execution.scratch.join("debugfs");
        let cannot = || "cannot write to the scratch folder".to_owned();
        fs_err::create_dir_all(&host).or_io(cannot)?;
        let mut commands = Commands::new(tree, &host);
        for change in changes {
            commands.change(change).or_io(cannot)?;
        }
        fs_err::write(host.join("commands"), &commands.text).or_io(cannot)?;
        let image = format!("{}?offset={offset}", image.display());
        let argv = ["debugfs", "-w", "-f", &format!("{FOLDER}/commands"), &image];
        Ok(Self {
            argv: argv.map(str::to_owned).to_vec(),
            inodes: commands.inodes,
            commands: commands.text,
            folder: Bind { host, guest: FOLDER.to_owned(), read_only: true },
        })
    }

    /// Fails unless debugfs did all that was asked: it ends well whatever happens, so its output is
    /// read. What is not known to be good is bad.
    ///
    /// # Errors
    /// [`Class::Verdict`] with the line that should not be there, the command that was not done, or the
    /// number of inodes missing.
    pub(super) fn check(&self, output: &Output) -> Result<()> {
        check(&self.commands, self.inodes, output)
    }
}

/// Its standard error has its version and nothing else; standard output repeats each command, with what
/// it did behind some of them.
fn check(commands: &[u8], inodes: usize, output: &Output) -> Result<()> {
    let bad = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        let message = format!("the root file system cannot be completed: {}", line.trim());
        Failure::new(Class::Verdict, message)
    };
    let lines = |text| <[u8]>::split(text, |byte| *byte == b'\n').filter(|line| !line.is_empty());
    if let Some(line) = lines(&output.stderr).find(|line| !line.starts_with(b"debugfs 1.")) {
        return Err(bad(line));
    }
    let mut made = 0;
    let mut expected = lines(commands);
    for line in lines(&output.stdout) {
        if line.starts_with(b"Allocated inode: ") {
            made += 1;
        } else if line.strip_prefix(b"debugfs: ").is_none_or(|told| expected.next() != Some(told)) {
            return Err(bad(line));
        }
    }
    if let Some(command) = expected.next() {
        return Err(bad(&[b"debugfs did not come to: ", command].concat()));
    }
    if made != inodes {
        let message = format!("debugfs wrote {made} files, not {inodes}");
        return Err(Failure::new(Class::Verdict, message));
    }
    Ok(())
}

/// Commands in the making.
struct Commands<'a> {
    /// Where debugfs sees the tree.
    tree: &'a str,
    /// Folder that takes values of extended attributes.
    folder: &'a Path,
    text: Vec<u8>,
    /// The folder that debugfs is in.
    current: PathBuf,
    /// How often debugfs says `Allocated inode`: for each file and device.
    inodes: usize,
    /// How many values of extended attributes there are.
    values: usize,
}

impl<'a> Commands<'a> {
    fn new(tree: &'a str, folder: &'a Path) -> Self {
        let current = PathBuf::from("/");
        Self { tree, folder, text: Vec::new(), current, inodes: 0, values: 0 }
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        match change {
            Change::Remove { path, directory } => {
                let name = self.enter(path);
                self.line(&[if *directory { b"rmdir" } else { b"rm" }, &name]);
            }
            Change::Link { path, first } => {
                let name = self.enter(path);
                // Of the commands that add a name, `ln` alone does not make the folder larger when it is full
                // (1.47.2, `make_link`); the name of a link that goes again leaves just the room.
                self.line(&[b"symlink", &name, b"x"]);
                self.line(&[b"rm", &name]);
                self.line(&[b"ln", &quoted(first), &name]);
            }
            Change::Add(item) => return self.add(item),
            Change::Set { item, lost } => {
                for name in lost {
                    let name = quoted(Path::new(name));
                    self.line(&[b"ea_rm", &quoted(&item.path), &name]);
                }
                self.field(item, "mode", format_args!("0{:o}", item.metadata.mode()));
                self.field(item, "uid", item.metadata.uid());
                self.field(item, "gid", item.metadata.gid());
                return self.attributes(item);
            }
        }
        Ok(())
    }

    fn add(&mut self, item: &Item) -> io::Result<()> {
        let metadata = &item.metadata;
        let kind = metadata.file_type();
        let device = metadata.rdev();
        let numbers = (rustix::fs::major(device), rustix::fs::minor(device));
        let numbers = format!("{} {}", numbers.0, numbers.1).into_bytes();
        let name = self.enter(&item.path);
        if let Some(target) = &item.target {
            self.line(&[b"symlink", &name, &quoted(target)]);
        } else if kind.is_dir() {
            self.line(&[b"mkdir", &name]);
        } else if kind.is_char_device() {
            self.line(&[b"mknod", &name, b"c", &numbers]);
        } else if kind.is_block_device() {
            self.line(&[b"mknod", &name, b"b", &numbers]);
        } else if kind.is_fifo() {
            self.line(&[b"mknod", &name, b"p"]);
        } else {
            let inside = item.path.strip_prefix("/").unwrap_or(&item.path);
            self.line(&[b"write", &quoted(&Path::new(self.tree).join(inside)), &name]);
        }
        self.inodes += usize::from(!kind.is_dir() && !kind.is_symlink());
        // debugfs takes over a regular file's bits, and a link has none.
        if !kind.is_file() && !kind.is_symlink() {
            self.field(item, "mode", format_args!("0{:o}", metadata.mode()));
        }
        if metadata.uid() != 0 {
            self.field(item, "uid", metadata.uid());
        }
        if metadata.gid() != 0 {
            self.field(item, "gid", metadata.gid());
        }
        if item.names > 1 {
            self.field(item, "links_count", item.names);
        }
        self.attributes(item)
    }

    /// Modification time and extended attributes.
    fn attributes(&mut self, item: &Item) -> io::Result<()> {
        self.field(item, "mtime", format_args!("@{}", item.metadata.mtime()));
        for (name, value) in &item.xattrs {
            let file = format!("value-{}", self.values);
            self.values += 1;
            std::fs::write(self.folder.join(&file), value)?;
            let file = format!("{FOLDER}/{file}");
            let name = quoted(Path::new(name));
            self.line(&[b"ea_set -f", file.as_bytes(), &quoted(&item.path), &name]);
        }
        Ok(())
    }

    /// Goes to the folder of `path`, and gives the name in it: of a path such as `/a` debugfs takes the
    /// folder, which is empty, for the one that it is in (1.47.2, `do_symlink_internal` and others).
    fn enter(&mut self, path: &Path) -> Vec<u8> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        if self.current != folder {
            self.line(&[b"cd", &quoted(folder)]);
            self.current = folder.to_owned();
        }
        quoted(Path::new(path.file_name().unwrap_or_default()))
    }

    /// Sets a field of an inode.
    fn field(&mut self, item: &Item, name: &str, value: impl Display) {
        let value = value.to_string();
        self.line(&[b"sif", &quoted(&item.path), name.as_bytes(), value.as_bytes()]);
    }

    fn line(&mut self, words: &[&[u8]]) {
        self.text.extend_from_slice(&words.join(&b' '));
        self.text.push(b'\n');
    }
}

/// A path between quotation marks, each of its own doubled.
fn quoted(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    let mut text = vec![b'"'];
    for byte in bytes {
        text.push(*byte);
        if *byte == b'"' {
            text.push(b'"');
        }
    }
    text.push(b'"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_good_is_good() {
        let judge = |inodes, stdout: &str, stderr: &str| {
            let output = Output { stdout: stdout.into(), stderr: stderr.into() };
            check(b"rm \"/a\"\ncd \"/\"\nwrite \"b\" \"b\"\n", inodes, &output)
        };
        let bad = |stdout: &str, stderr: &str| judge(1, stdout, stderr).unwrap_err().to_string();
        let told = "debugfs 1.47.2 (1-Jan-2025)\n";
        let good = "debugfs: rm \"/a\"\n\ndebugfs: cd \"/\"\ndebugfs: write \"b\" \"b\"\nAllocated inode: 12\n";
        judge(1, good, told).unwrap();
        assert!(judge(2, good, told).unwrap_err().to_string().contains("wrote 1 files, not 2"));
        let full = format!("{told}write: Could not allocate block in ext2 filesystem \n");
        assert!(bad(good, &full).contains("Could not allocate"));
        let unread = format!("{told}debugfs: Unbalanced quotes in command line\n");
        assert!(bad(good, &unread).contains("Unbalanced"));
        let (half, _) = good.split_once("debugfs: write").unwrap();
        assert!(
            bad(half, told).ends_with("did not come to: write \"b\" \"b\""),
            "{}",
            bad(half, told)
        );
        assert!(bad(&format!("{good}something else\n"), told).contains("something else"));
        let other = good.replace("cd \"/\"", "cd \"/d");
        assert!(bad(&other, told).contains("cd \"/d"), "{}", bad(&other, told));
    }

    #[test]
    fn quotation_marks_are_doubled() {
        assert_eq!(quoted(Path::new("/a b\"c")), b"\"/a b\"\"c\"");
    }

    #[test]
    fn what_stands_in_no_line_cannot_be_made() {
        let remove = |path: &str| Change::Remove { path: path.into(), directory: false };
        let link =
            |path: &str, first: &str| Change::Link { path: path.into(), first: first.into() };
        assert!(can_make(&remove("/a \"quoted\" #name")) && can_make(&link("/a", "/b")));
        for bad in ["/two\nlines", "/Icon\r", &"/x".repeat(LONGEST)] {
            assert!(!can_make(&remove(bad)), "{bad:?}");
            assert!(!can_make(&link("/a", bad)) && !can_make(&link(bad, "/a")), "{bad:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let metadata = folder.path().metadata().unwrap();
        let item = |target: Option<&str>, name: &str| Item {
            path: "/a".into(),
            metadata: metadata.clone(),
            names: 1,
            target: target.map(PathBuf::from),
            xattrs: [(name.to_owned(), Vec::new())].into(),
        };
        assert!(can_make(&Change::Add(item(Some("b"), "user.own"))));
        assert!(!can_make(&Change::Add(item(Some("b\r"), "user.own"))));
        assert!(!can_make(&Change::Add(item(None, "user.o\nwn"))));
        let set =
            |lost: &str| Change::Set { item: item(None, "user.own"), lost: vec![lost.into()] };
        assert!(can_make(&set("user.lost")) && !can_make(&set("user.lo\rst")));
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let metadata = socket.symlink_metadata().unwrap();
        assert!(!can_make(&Change::Add(Item { metadata, ..item(None, "user.own") })));
    }

    #[test]
    fn layers_below_the_planned_base_come_late_while_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let of = |number: usize, size: u64| {
            let layer = folder.path().join(number.to_string());
            std::fs::create_dir_all(layer.join("usr")).unwrap();
            std::fs::File::create(layer.join("usr/file")).unwrap().set_len(size).unwrap();
            layer
        };
        let sizes = [1, ROOM / 2 + 1, ROOM / 2, ROOM / 4, 10 * ROOM];
        let layers: Vec<PathBuf> =
            sizes.into_iter().enumerate().map(|(number, size)| of(number, size)).collect();
        assert_eq!(base_of(&layers, 4).unwrap(), 2, "the second has no room beside two others");
        assert_eq!(base_of(&layers, 2).unwrap(), 1, "the lowest is mke2fs's");
        assert_eq!(base_of(&layers, 5).unwrap(), 5, "the topmost is larger than the room");
    }
}

//! Unpacking: a tree made anew from a pack.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nodekiln_recipes::Inventory;
use nodekiln_recipes::inventory::{Entry, EntryKind};
use nodekiln_words::{Cancel, Sha256};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps};

use super::content::{Links, contents};
use super::frames::FrameReader;
use super::{INVENTORY_LIMIT, MAGIC, PackName, RUN, malformed, paths};
use crate::layer::confined::{Confined, Place};
use crate::layer::{OPAQUE, OVERLAY};

/// Permission bits with set-id and sticky.
const MODE_BITS: u32 = 0o7777;

/// The longest first line of a pack.
const HEAD_LIMIT: u64 = 100;

/// Makes the tree of `pack`, whose bytes were compared with `name`, in the empty folder `output`. Its
/// inventory must have the digest `expected`. The caller lists the tree and compares it with the
/// inventory returned: that is what proves the content of files.
///
/// # Errors
/// `InvalidData` or `UnexpectedEof` where the pack is not as it should be, `Interrupted` on
/// cancellation; else the error of writing the tree.
pub(in crate::remote) fn unpack(
    pack: &File,
    name: &PackName,
    expected: &Sha256,
    output: &Path,
    cancel: &Cancel,
) -> io::Result<Inventory> {
    let frames = FrameReader::new(pack, name.unpacked);
    let mut input = BufReader::with_capacity(RUN, frames);
    let (inventory, links) = head(&mut input, expected)?; // 1. what there is
    paths::refuse_strays(&inventory)?; // 2. nothing outside
    let first_names = links.first_names(&inventory)?;
    let confined = Confined::new(output)?;
    let tree = Tree { inventory: &inventory, first_names: &first_names, confined, output, cancel };
    tree.directories()?; // 3. directories, parents first
    tree.files(&mut input)?; // 4. contents, in the pack's order
    tree.others()?; // 5. what has no content, further names
    tree.dress_directories()?; // 6. attributes, when nothing changes their times any more
    if !input.fill_buf()?.is_empty() {
        return Err(malformed("something follows the last content"));
    }
    input.into_inner().end()?;
    Ok(inventory)
}

/// The first line, inventory and links.
fn head(input: &mut impl io::BufRead, expected: &Sha256) -> io::Result<(Inventory, Links)> {
    let mut line = String::new();
    input.by_ref().take(HEAD_LIMIT).read_line(&mut line)?;
    let lengths = line.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(' '));
    let lengths = lengths.and_then(|rest| rest.strip_suffix('\n'));
    let lengths = lengths.and_then(|rest| rest.split_once(' '));
    let lengths = lengths.and_then(|(one, other)| Some((one.parse().ok()?, other.parse().ok()?)));
    let Some((inventory, links)) = lengths else {
        return Err(malformed(format!("it does not begin with `{MAGIC}`")));
    };
    let inventory = text(input, inventory)?;
    let found = Sha256::of(&inventory);
    if found != *expected {
        return Err(malformed(format!("its inventory is {found}, not {expected}")));
    }
    let links = text(input, links)?;
    let inventory = Inventory::from_lines(&inventory)?;
    Ok((inventory, Links(serde_json::from_str(&links)?)))
}

/// The next `length` bytes, as text.
fn text(input: &mut impl Read, length: u64) -> io::Result<String> {
    if length > INVENTORY_LIMIT {
        return Err(malformed("its inventory is longer than any can be"));
    }
    let mut text = String::new();
    input.by_ref().take(length).read_to_string(&mut text)?;
    if text.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text)
}

/// A tree in the making.
struct Tree<'a> {
    inventory: &'a Inventory,
    /// For each further name of a file the first one.
    first_names: &'a BTreeMap<&'a str, &'a str>,
    confined: Confined,
    output: &'a Path,
    cancel: &'a Cancel,
}

impl Tree<'_> {
    fn check(&self) -> io::Result<()> {
        match self.cancel.is_cancelled() {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }

    fn place(&self, path: &str) -> io::Result<Place> {
        self.confined.place(&paths::place(path)?)
    }

    /// The directories below the root, each its owner's alone until the end.
    fn directories(&self) -> io::Result<()> {
        for (path, entry) in self.inventory.entries.iter().filter(|(path, _)| *path != "/") {
            if let EntryKind::Directory { .. } = entry.kind {
                let place = self.place(path)?;
                rustix::fs::mkdirat(&place.directory, &place.name, Mode::RWXU)?;
            }
        }
        Ok(())
    }

    /// Writes each content to the first of its files, and copies it to the others.
    fn files(&self, input: &mut impl Read) -> io::Result<()> {
        for (_, size, names) in contents(self.inventory) {
            self.check()?;
            let mut files = names.iter().filter(|path| !self.first_names.contains_key(**path));
            let first = files.next().ok_or_else(|| malformed("a content belongs to no file"))?;
            let place = self.place(first)?;
            let mut file = place.create()?;
            file.set_len(size)?;
            self.content(input, &file, size)?;
            for path in files {
                let copy = self.place(path)?;
                self.copy(&mut file, size, &copy)?;
                self.dress(&copy, path)?;
            }
            drop(file);
            self.dress(&place, first)?;
        }
        Ok(())
    }

    /// Reads one content's runs into `file`.
    fn content(&self, input: &mut impl Read, file: &File, size: u64) -> io::Result<()> {
        let mut bytes = vec![0; RUN];
        let mut end = 0;
        loop {
            let (mut offset, mut length) = ([0; 8], [0; 4]);
            input.read_exact(&mut offset)?;
            input.read_exact(&mut length)?;
            let (offset, length) = (u64::from_le_bytes(offset), u32::from_le_bytes(length));
            if length == 0 {
                return if offset == 0 { Ok(()) } else { Err(malformed("a run is empty")) };
            }
            let wrong = || malformed("a run does not lie in its file, or before another");
            let run = usize::try_from(length).ok().and_then(|length| bytes.get_mut(..length));
            let run = run.ok_or_else(wrong)?;
            let behind = offset.checked_add(u64::from(length)).filter(|behind| *behind <= size);
            let behind = behind.filter(|_| offset >= end).ok_or_else(wrong)?;
            input.read_exact(run)?;
            file.write_all_at(run, offset)?;
            end = behind;
            self.check()?;
        }
    }

    /// A second file with the bytes of `file`, whose holes stay holes.
    fn copy(&self, file: &mut File, size: u64, place: &Place) -> io::Result<()> {
        let mut copy = place.create()?;
        copy.set_len(size)?;
        let mut offset = 0;
        while offset < size {
            let data = match rustix::fs::seek(&*file, rustix::fs::SeekFrom::Data(offset)) {
                Ok(data) => data,
                Err(rustix::io::Errno::NXIO) => break,
                Err(rustix::io::Errno::INVAL) => offset,
                Err(error) => return Err(error.into()),
            };
            let hole = rustix::fs::seek(&*file, rustix::fs::SeekFrom::Hole(data)).unwrap_or(size);
            file.seek(SeekFrom::Start(data))?;
            copy.seek(SeekFrom::Start(data))?;
            let length = hole.saturating_sub(data);
            if io::copy(&mut Read::take(&mut *file, length), &mut copy)? != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            offset = hole;
            self.check()?;
        }
        copy.flush()
    }

    /// Links, devices, pipes, sockets, whiteouts, and then the further names of files.
    fn others(&self) -> io::Result<()> {
        for (path, entry) in &self.inventory.entries {
            if self.first_names.contains_key(path.as_str()) {
                continue;
            }
            self.check()?;
            let node = |kind: FileType, major: u32, minor: u32| -> io::Result<()> {
                let (place, device) = (self.place(path)?, rustix::fs::makedev(major, minor));
                let bits = Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(&place.directory, &place.name, kind, bits, device)?;
                match entry.kind {
                    EntryKind::Whiteout => Ok(()), // has no attributes of its own
                    _ => self.dress(&place, path),
                }
            };
            match &entry.kind {
                EntryKind::File { .. } | EntryKind::Disk { .. } | EntryKind::Directory { .. } => {}
                EntryKind::Link { target } => {
                    let place = self.place(path)?;
                    let target = paths::target(target)?;
                    rustix::fs::symlinkat(target, &place.directory, &place.name)?;
                    self.dress(&place, path)?;
                }
                EntryKind::CharDevice { major, minor } => {
                    node(FileType::CharacterDevice, *major, *minor)?;
                }
                EntryKind::BlockDevice { major, minor } => {
                    node(FileType::BlockDevice, *major, *minor)?;
                }
                EntryKind::Fifo => node(FileType::Fifo, 0, 0)?,
                EntryKind::Socket => node(FileType::Socket, 0, 0)?,
                EntryKind::Whiteout => node(FileType::CharacterDevice, 0, 0)?,
            }
        }
        for (name, first) in self.first_names {
            let (new, old) = (self.place(name)?, self.place(first)?);
            let flags = AtFlags::empty(); // a symbolic link is linked itself
            rustix::fs::linkat(&old.directory, &old.name, &new.directory, &new.name, flags)?;
        }
        Ok(())
    }

    /// Gives directories their attributes, those further down first.
    fn dress_directories(&self) -> io::Result<()> {
        let directories = self.inventory.entries.iter().rev();
        for (path, entry) in directories {
            let EntryKind::Directory { opaque } = entry.kind else { continue };
            let place = if path == "/" { self.root()? } else { self.place(path)? };
            if opaque {
                xattr::set(named(&place), OPAQUE, b"y")?;
            }
            self.dress(&place, path)?;
        }
        Ok(())
    }

    /// The tree's root as a name in the folder above it.
    fn root(&self) -> io::Result<Place> {
        let nowhere = || io::Error::from(io::ErrorKind::InvalidInput);
        let above = self.output.parent().ok_or_else(nowhere)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, above, flags, Mode::empty())?;
        Ok(Place { directory, name: self.output.file_name().ok_or_else(nowhere)?.to_owned() })
    }

    /// Gives what stands at `place` the attributes of the entry of `path`, its times last.
    fn dress(&self, place: &Place, path: &str) -> io::Result<()> {
        let nothing = || malformed(format!("`{path}` is not in the inventory"));
        let entry: &Entry = self.inventory.entries.get(path).ok_or_else(nothing)?;
        if entry.mode & !MODE_BITS != 0 {
            return Err(malformed(format!("`{path}` has impossible permissions")));
        }
        place.own(entry.mode, entry.uid, entry.gid)?;
        // After the owner, whose change takes capabilities away.
        for (name, value) in &entry.xattrs {
            if name.starts_with(OVERLAY) {
                return Err(malformed(format!("`{path}` has an attribute of overlayfs")));
            }
            let value = bytes(value).ok_or_else(|| malformed(format!("`{path}`: {name}")))?;
            xattr::set(named(place), name, &value)?;
        }
        let moment = Timespec { tv_sec: entry.mtime, tv_nsec: 0 };
        let times = Timestamps { last_access: moment, last_modification: moment };
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::utimensat(&place.directory, &place.name, &times, nofollow)?)
    }
}

/// A path to what stands at `place`, which is not followed where it is a link.
fn named(place: &Place) -> std::path::PathBuf {
    Path::new(&format!("/proc/self/fd/{}", place.directory.as_raw_fd())).join(&place.name)
}

/// Bytes from hexadecimal digits.
fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let digit =
        |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = hexadecimal.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

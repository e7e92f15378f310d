//! Writing a pack.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nodekiln_disk::is_zero;
use nodekiln_recipes::Inventory;
use nodekiln_words::{Cancel, Digester, Failure, Result, ResultExt as _};
use rustix::fs::SeekFrom;

use super::content::{Content, Links, contents, may_have_names};
use super::frames::FrameWriter;
use super::{BLOCK, MAGIC, PackName, RUN, malformed, paths};

/// Packs the tree in `output`, of which `inventory` is known to be true, into the file `target`.
///
/// # Errors
/// When something cannot be read or written, and on cancellation; `InvalidData` where a file is not
/// what the inventory says.
pub(in crate::remote) fn pack(
    output: &Path,
    inventory: &Inventory,
    target: &File,
    cancel: &Cancel,
) -> Result<PackName> {
    let packing = Packing { output, inventory, cancel };
    let cannot = || format!("cannot pack {}", output.display());
    match packing.write(target) {
        Err(_) if cancel.is_cancelled() => Err(Failure::interrupted()),
        outcome => outcome.or_io(cannot),
    }
}

/// What is written to a file, with its digest.
struct Digested<'a> {
    file: BufWriter<&'a File>,
    digester: Digester,
}

impl Write for Digested<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.digester.update(bytes.get(..length).unwrap_or_default());
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

struct Packing<'a> {
    output: &'a Path,
    inventory: &'a Inventory,
    cancel: &'a Cancel,
}

impl Packing<'_> {
    fn write(&self, target: &File) -> io::Result<PackName> {
        let file = Digested { file: BufWriter::new(target), digester: Digester::default() };
        let mut out = FrameWriter::new(file);
        let inventory =
            self.inventory.lines().fold(String::new(), |text, line| text + &line + "\n");
        let links = serde_json::to_string(&self.links()?.0)?;
        writeln!(out, "{MAGIC} {} {}", inventory.len(), links.len())?;
        out.write_all(inventory.as_bytes())?;
        out.write_all(links.as_bytes())?;
        for (content, size, paths) in contents(self.inventory) {
            let path = paths.first().copied().unwrap_or_default();
            self.content(path, content, size, &mut out)?;
        }
        let (file, unpacked) = out.finish()?;
        let size = file.digester.length();
        Ok(PackName { sha256: file.digester.finish(), size, unpacked })
    }

    fn place(&self, path: &str) -> io::Result<PathBuf> {
        let inside = paths::place(path)?;
        Ok(self.output.join(inside.strip_prefix("/").unwrap_or(&inside)))
    }

    /// The names of files that have several.
    fn links(&self) -> io::Result<Links> {
        let mut names: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
        for (path, entry) in &self.inventory.entries {
            if may_have_names(entry) {
                let metadata = std::fs::symlink_metadata(self.place(path)?)?;
                if metadata.nlink() > 1 {
                    names.entry((metadata.dev(), metadata.ino())).or_default().push(path.clone());
                }
            }
        }
        let mut lists: Vec<_> = names.into_values().filter(|names| names.len() > 1).collect();
        lists.sort_unstable();
        Ok(Links(lists))
    }

    /// Writes the runs of a file, and compares its digest on the way: a tree that was damaged since
    /// it was listed must not be given to others.
    fn content(
        &self,
        path: &str,
        content: Content,
        size: u64,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let differs = || malformed(format!("`{path}` is not what the inventory says"));
        let mut file = File::open(self.place(path)?)?;
        let mut digester = Digester::default();
        let mut piece = vec![0; RUN];
        let mut offset = 0;
        while offset < size {
            if self.cancel.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if let Content::Disk(_) = content {
                offset = next_data(&mut file, offset, size)?;
            }
            let length =
                usize::try_from((size - offset).min(RUN as u64)).map_err(io::Error::other)?;
            let piece = piece.get_mut(..length).unwrap_or_default();
            file.read_exact(piece)?;
            if let Content::File(_) = content {
                digester.update(piece);
            }
            runs(piece, offset, out)?;
            offset += length as u64;
        }
        if let Content::File(expected) = content
            && (digester.finish() != expected || file.read(&mut [0])? != 0)
        {
            return Err(differs());
        }
        run(0, &[], out)
    }
}

/// Where the piece begins in which there is data again, at `offset` or behind it; the file is read
/// from there. Pieces lie on one grid, so that they do not depend on where a file system has holes.
fn next_data(file: &mut File, offset: u64, size: u64) -> io::Result<u64> {
    let start = match rustix::fs::seek(&*file, SeekFrom::Data(offset)) {
        Ok(data) => data / RUN as u64 * RUN as u64,
        // No data until the end.
        Err(rustix::io::Errno::NXIO) => size,
        // A file system that knows no holes.
        Err(rustix::io::Errno::INVAL) => offset,
        Err(error) => return Err(error.into()),
    };
    let start = start.clamp(offset, size);
    rustix::fs::seek(&*file, SeekFrom::Start(start))?;
    Ok(start)
}

/// Writes a piece without its blocks of zeros.
fn runs(piece: &[u8], offset: u64, out: &mut impl Write) -> io::Result<()> {
    let mut begun: Option<usize> = None;
    for (number, block) in piece.chunks(BLOCK).enumerate() {
        let at = number * BLOCK;
        match (is_zero(block), begun) {
            (false, None) => begun = Some(at),
            (true, Some(start)) => {
                run(offset + start as u64, piece.get(start..at).unwrap_or_default(), out)?;
                begun = None;
            }
            _ => {}
        }
    }
    match begun {
        Some(start) => run(offset + start as u64, piece.get(start..).unwrap_or_default(), out),
        None => Ok(()),
    }
}

fn run(offset: u64, bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&offset.to_le_bytes())?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(bytes)
}

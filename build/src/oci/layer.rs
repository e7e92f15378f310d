//! Layers of new images: a tar with one order, one time and one owner, compressed with gzip; and what
//! layers of other images delete.

mod deletions;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::{Compression, GzBuilder};
use nodekiln_words::{Cancel, Digester, Failure, Result, ResultExt, Sha256, SourceDate};

pub use self::deletions::first_deletion;
use super::json::media_type;
use super::{Blob, Content};

/// What stands at a path of a layer.
#[derive(Clone, Debug)]
pub enum Node {
    /// A regular file with these bytes.
    Bytes(Arc<[u8]>),
    /// A regular file with the bytes of this file.
    File(PathBuf),
    /// A symbolic link to this target.
    Link(String),
    /// A directory.
    Directory,
}

/// The entries of a layer: paths without a leading slash, in the bytewise order they are written in.
#[derive(Clone, Debug, Default)]
pub struct Entries(BTreeMap<String, (Node, u32)>);

/// A written layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The compressed layer.
    pub blob: Blob,
    /// Digest of the tar before compression.
    pub diff_id: Sha256,
}

/// Level 1 makes Go programs a third of their size at several times the speed of the default level;
/// an image's layers are written once and read once.
const LEVEL: u32 = 1;

impl Entries {
    /// Adds an entry with permission bits `mode`; directories above it come with 0755. An entry
    /// that is there already is replaced.
    ///
    /// # Errors
    /// When the path is empty or has an empty, `.` or `..` part.
    pub fn add(&mut self, path: &str, node: Node, mode: u32) -> Result<()> {
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Failure::input(format!("`{path}` is no path for an entry of a layer")));
        }
        for (at, _) in path.match_indices('/') {
            let parent = path.get(..at).unwrap_or_default().to_owned();
            self.0.entry(parent).or_insert((Node::Directory, 0o755));
        }
        self.0.insert(path.to_owned(), (node, mode));
        Ok(())
    }

    /// Whether an entry stands at `path`.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.0.contains_key(path.strip_prefix('/').unwrap_or(path))
    }
}

/// Writes the layer of `entries` to the new file `out`.
///
/// The same entries and source date give the same bytes: entries in bytewise order, owner 0:0
/// without names, every time stamp the source date, gzip without time and name.
///
/// # Errors
/// On reading an entry's file and on writing.
pub fn write(
    entries: &Entries,
    source_date: SourceDate,
    out: &Path,
    cancel: &Cancel,
) -> Result<Layer> {
    let file = fs_err::File::create_new(out).or_io(|| format!("layer {}", out.display()))?;
    let compressed = Tee::new(io::BufWriter::new(file));
    let gzip = GzBuilder::new().write(compressed, Compression::new(LEVEL));
    let mut tar = tar::Builder::new(Tee::new(gzip));
    for (path, (node, mode)) in &entries.0 {
        cancel.check()?;
        append(&mut tar, path, node, *mode, source_date)?;
    }
    let writing = || format!("writing layer {}", out.display());
    let (gzip, plain) = tar.into_inner().or_io(writing)?.take_apart();
    let (mut file, packed) = gzip.finish().or_io(writing)?.take_apart();
    file.flush().or_io(writing)?;
    let content = Content::File { path: out.to_owned(), offset: 0 };
    let media_type = media_type::LAYER_GZIP.to_owned();
    let blob = Blob { media_type, size: packed.length(), digest: packed.finish(), content };
    Ok(Layer { blob, diff_id: plain.finish() })
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    node: &Node,
    mode: u32,
    source_date: SourceDate,
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(source_date.unix());
    header.set_size(0);
    let written = match node {
        Node::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, format!("{path}/"), io::empty())
        }
        Node::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, path, target)
        }
        Node::Bytes(bytes) => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, &bytes[..])
        }
        Node::File(from) => return append_file(tar, header, path, from),
    };
    written.or_io(|| format!("adding {path} to a layer"))
}

fn append_file<W: Write>(
    tar: &mut tar::Builder<W>,
    mut header: tar::Header,
    path: &str,
    from: &Path,
) -> Result<()> {
    let adding = || format!("adding {} to a layer as {path}", from.display());
    let file = fs_err::File::open(from).or_io(adding)?;
    let size = file.metadata().or_io(adding)?.len();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    let mut counted = Counted { inner: io::Read::take(file, size), count: 0 };
    tar.append_data(&mut header, path, &mut counted).or_io(adding)?;
    if counted.count == size {
        return Ok(());
    }
    Err(Failure::io(format!("{} shrank while it was read", from.display())))
}

struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: io::Read> io::Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.count += got as u64;
        Ok(got)
    }
}

/// Passes bytes on and digests them.
struct Tee<W> {
    inner: W,
    digester: Digester,
}

impl<W: Write> Tee<W> {
    fn new(inner: W) -> Self {
        Self { inner, digester: Digester::default() }
    }

    fn take_apart(self) -> (W, Digester) {
        (self.inner, self.digester)
    }
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        self.digester.update(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn source_date() -> SourceDate {
        SourceDate::from_unix(1_700_000_000).unwrap()
    }

    fn entries() -> Entries {
        let mut entries = Entries::default();
        let bytes = |text: &str| Node::Bytes(text.as_bytes().into());
        entries.add("/usr/local/bin/tool", bytes("tool"), 0o755).unwrap();
        entries.add("etc/b", bytes("b"), 0o644).unwrap();
        entries.add(&format!("long/{}", "x".repeat(150)), bytes("long"), 0o600).unwrap();
        entries.add("bin", Node::Link("usr/bin".to_owned()), 0o777).unwrap();
        entries
    }

    fn written(folder: &Path, name: &str) -> (Layer, Vec<u8>) {
        let path = folder.join(name);
        let layer = write(&entries(), source_date(), &path, &Cancel::default()).unwrap();
        (layer, fs_err::read(path).unwrap())
    }

    #[test]
    fn a_layer_is_the_same_twice_and_its_digests_are_those_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (layer, bytes) = written(folder.path(), "one");
        assert_eq!(bytes, written(folder.path(), "two").1);
        assert_eq!(layer.blob.digest, Sha256::of(&bytes));
        assert_eq!(layer.blob.size, bytes.len() as u64);
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(layer.diff_id, Sha256::of(&plain));
    }

    #[test]
    fn entries_come_in_order_with_their_parents_first() {
        let folder = tempfile::tempdir().unwrap();
        let (_, bytes) = written(folder.path(), "layer");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
        let mut paths = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.header().mtime().unwrap(), source_date().unix());
            assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (0, 0));
            paths.push(entry.path().unwrap().display().to_string());
        }
        let long = format!("long/{}", "x".repeat(150));
        let expected = [
            "bin",
            "etc/",
            "etc/b",
            "long/",
            &long,
            "usr/",
            "usr/local/",
            "usr/local/bin/",
            "usr/local/bin/tool",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn paths_that_leave_the_layer_are_refused() {
        let mut entries = Entries::default();
        for path in ["", "/", "../x", "a//b", "a/./b", "a/.."] {
            assert!(entries.add(path, Node::Directory, 0o755).is_err(), "{path}");
        }
    }
}

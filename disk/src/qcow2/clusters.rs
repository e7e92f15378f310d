//! Compressed clusters of files that were written earlier, found by what they hold.
//!
//! Compressing takes most of the time that a qcow2 file takes. What a cluster is compressed to follows
//! from its bytes and from the compressor alone, so a cluster that an earlier file has need not be
//! compressed again: an index says where in that file it lies. The compressed bytes are compared with
//! their digest when they are taken over, so that a file that somebody wrote to since costs time and
//! nothing else; the new file has the same bytes either way.
//!
//! ```text
//! index:  magic, 26 bytes │ compressor, 32 │ records of 76 │ SHA-256 of all before, 32
//! record: SHA-256 of the cluster │ offset in the file, 8 │ length, 4 │ SHA-256 of these bytes, 32
//! ```
//!
//! Numbers are little-endian. A length of 0 is a cluster that compressing does not make shorter.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use nodekiln_words::{Digester, Result, Sha256};

use super::codec::{Compression, Compressor};
use crate::disk::CLUSTER_LENGTH;

const MAGIC: &[u8; 26] = b"nodekiln qcow2 clusters 1\n";
const DIGEST: usize = 32;
const RECORD: usize = DIGEST + 8 + 4 + DIGEST;

/// What is known of a cluster's compressed form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    offset: u64,
    /// 0: compressing does not make it shorter.
    length: u32,
    /// Of the compressed bytes.
    digest: Sha256,
}

/// A cluster's compressed form, taken over from an earlier file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// These bytes.
    Compressed(Vec<u8>, Sha256),
    /// None that is shorter.
    Incompressible,
}

/// Clusters by what they hold, in the order of a file.
pub(super) type Made = Vec<(Sha256, Form)>;

/// Clusters that earlier files have, and those of files that were written with them.
#[derive(Debug)]
pub struct Clusters {
    compression: Compression,
    /// What the compressor is known by.
    compressor: Sha256,
    files: Vec<File>,
    /// By content: the file's number, and the form.
    known: HashMap<Sha256, (usize, Form)>,
    /// What new files have, by their paths.
    made: Mutex<BTreeMap<PathBuf, Made>>,
    reused: AtomicU64,
}

impl Clusters {
    /// None yet, for files that are written with `compression`.
    ///
    /// # Errors
    /// When the compressor cannot be set up.
    pub fn new(compression: Compression) -> Result<Self> {
        Ok(Self {
            compression,
            compressor: identity(compression)?,
            files: Vec::new(),
            known: HashMap::new(),
            made: Mutex::default(),
            reused: AtomicU64::new(0),
        })
    }

    /// How they are compressed.
    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// Adds the clusters that `index` tells of the qcow2 file at `path`; whether there are any. An
    /// index that is damaged, or of another compressor, and a file that cannot be read tell nothing.
    pub fn learn(&mut self, index: &[u8], path: &Path) -> bool {
        let Some(records) = self.records(index) else { return false };
        let Ok(file) = File::open(path) else { return false };
        let number = self.files.len();
        self.files.push(file);
        let known = records.into_iter().map(|(content, form)| (content, (number, form)));
        self.known.extend(known);
        true
    }

    /// The records of an index that was written whole, for this compressor.
    fn records(&self, index: &[u8]) -> Option<Vec<(Sha256, Form)>> {
        let (rest, digest) = index.split_at_checked(index.len().checked_sub(DIGEST)?)?;
        let records = rest.strip_prefix(MAGIC)?.strip_prefix(self.compressor.as_bytes())?;
        let whole = Sha256::of(rest).as_bytes() == digest && records.len() % RECORD == 0;
        whole.then(|| records.chunks_exact(RECORD).filter_map(record).collect())
    }

    /// Bytes of clusters that were not compressed again so far.
    #[must_use]
    pub fn reused(&self) -> u64 {
        self.reused.load(Ordering::Relaxed)
    }

    /// The index of the file that was written to `path` with these clusters, for a later
    /// [`Clusters::learn`]. Of a file that was not it tells nothing.
    #[must_use]
    pub fn index(&self, path: &Path) -> Vec<u8> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = MAGIC.to_vec();
        index.extend_from_slice(self.compressor.as_bytes());
        for (content, form) in made.get(path).into_iter().flatten() {
            index.extend_from_slice(content.as_bytes());
            index.extend_from_slice(&form.offset.to_le_bytes());
            index.extend_from_slice(&form.length.to_le_bytes());
            index.extend_from_slice(form.digest.as_bytes());
        }
        let digest = Sha256::of(&index);
        index.extend_from_slice(digest.as_bytes());
        index
    }

    /// Takes what the file at `path` has, once it is written.
    pub(super) fn keep(&self, path: &Path, made: Made) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), made);
    }

    /// What a cluster with this content is compressed to, if an earlier file tells.
    pub(crate) fn find(&self, content: &Sha256) -> Option<Found> {
        let (number, form) = self.known.get(content)?;
        let found = if form.length == 0 {
            Found::Incompressible
        } else {
            let mut bytes = vec![0; usize::try_from(form.length).ok()?];
            self.files.get(*number)?.read_exact_at(&mut bytes, form.offset).ok()?;
            (Sha256::of(&bytes) == form.digest).then_some(())?;
            Found::Compressed(bytes, form.digest)
        };
        self.reused.fetch_add(CLUSTER_LENGTH as u64, Ordering::Relaxed);
        Some(found)
    }
}

impl Form {
    /// A compressed form of `length` bytes at `offset`.
    pub(super) fn new(offset: u64, length: usize, digest: Sha256) -> Self {
        Self { offset, length: u32::try_from(length).unwrap_or(0), digest }
    }

    /// Of a cluster that is not made shorter.
    pub(super) fn incompressible() -> Self {
        Self { offset: 0, length: 0, digest: Sha256::from_bytes([0; DIGEST]) }
    }
}

/// A record; none where its length cannot be that of a compressed cluster.
fn record(bytes: &[u8]) -> Option<(Sha256, Form)> {
    let (content, rest) = bytes.split_first_chunk::<DIGEST>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (offset, length) = (u64::from_le_bytes(*offset), u32::from_le_bytes(*length));
    let digest = Sha256::from_bytes(rest.try_into().ok()?);
    let shorter = usize::try_from(length).is_ok_and(|length| length < CLUSTER_LENGTH);
    shorter.then(|| (Sha256::from_bytes(*content), Form { offset, length, digest }))
}

/// What tells one compressor from another: its settings, and what it makes of a sample, since another
/// version of a library may well find other matches.
fn identity(compression: Compression) -> Result<Sha256> {
    let mut bytes = Vec::new();
    Compressor::new(compression)?.compress(&sample(), &mut bytes)?;
    let mut digester = Digester::default();
    digester.update(format!("{compression:?} {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
    digester.update(&bytes);
    Ok(digester.finish())
}

/// A cluster of words with matches at many distances, by the linear congruence of Numerical Recipes.
fn sample() -> Vec<u8> {
    let mut state = 1_u32;
    let mut bytes = Vec::with_capacity(CLUSTER_LENGTH + 16);
    while bytes.len() < CLUSTER_LENGTH {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend_from_slice(format!("word{} ", state >> 22).as_bytes());
    }
    bytes.truncate(CLUSTER_LENGTH);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"..compressed").unwrap();
        (folder, file)
    }

    fn index() -> Vec<u8> {
        let clusters = Clusters::new(Compression::zlib()).unwrap();
        let made = vec![
            (Sha256::of("content"), Form::new(2, 10, Sha256::of("compressed"))),
            (Sha256::of("noise"), Form::incompressible()),
        ];
        clusters.keep(Path::new("new"), made);
        clusters.index(Path::new("new"))
    }

    #[test]
    fn what_was_noted_is_found_again() {
        let (_folder, file) = place();
        let mut clusters = Clusters::new(Compression::zlib()).unwrap();
        assert!(clusters.learn(&index(), &file));
        let bytes = b"compressed".to_vec();
        let found = Found::Compressed(bytes, Sha256::of("compressed"));
        assert_eq!(clusters.find(&Sha256::of("content")), Some(found));
        assert_eq!(clusters.find(&Sha256::of("noise")), Some(Found::Incompressible));
        assert_eq!(clusters.find(&Sha256::of("other")), None);
        assert_eq!(clusters.reused(), 2 * CLUSTER_LENGTH as u64);
    }

    #[test]
    fn a_file_that_somebody_wrote_to_or_took_away_tells_nothing() {
        let (_folder, file) = place();
        let mut clusters = Clusters::new(Compression::zlib()).unwrap();
        assert!(clusters.learn(&index(), &file));
        for bytes in [&b"..compresseX"[..], b"..compress"] {
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(clusters.find(&Sha256::of("content")), None);
        }
        assert!(!clusters.learn(&index(), Path::new("/nowhere")));
    }

    #[test]
    fn another_compressors_index_and_a_damaged_one_tell_nothing() {
        let (_folder, file) = place();
        for compression in [Compression::zstd(), Compression::Zlib { level: 6 }] {
            assert!(!Clusters::new(compression).unwrap().learn(&index(), &file));
        }
        let whole = index();
        let mut clusters = Clusters::new(Compression::zlib()).unwrap();
        for length in 0..whole.len() {
            assert!(!clusters.learn(&whole[..length], &file), "{length}");
        }
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            assert!(!clusters.learn(&bad, &file), "{at}");
        }
        assert!(clusters.known.is_empty());
    }
}

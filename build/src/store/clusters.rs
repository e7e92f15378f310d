//! Compressed clusters of artifacts: a file and its index for each image, which can be lost.
//!
//! The file is another name of the artifact in the output folder, so that nothing is written twice.
//! Whoever writes to the artifact writes to this one too; readers compare what they take.

use std::io;
use std::path::{Path, PathBuf};

use nodekiln_words::Result;

use super::stats::space;
use super::{Store, touch, unless_gone};

/// The folder in the index.
const KIND: &str = "clusters";
/// What indexes' names end with.
const INDEX: &str = "index";
/// What the files' names end with.
const FILE: &str = "file";

impl Store {
    /// Indexes that [`Store::keep_clusters`] kept, each with the path of its file, which may be gone.
    #[must_use]
    pub fn kept_clusters(&self) -> Vec<(Vec<u8>, PathBuf)> {
        let read = |path: &PathBuf| {
            touch(path).ok()?;
            Some((fs_err::read(path).ok()?, path.with_extension(FILE)))
        };
        self.cluster_indexes().iter().filter_map(read).collect()
    }

    /// Paths of the indexes, sorted.
    pub(super) fn cluster_indexes(&self) -> Vec<PathBuf> {
        let folder = std::fs::read_dir(self.root().join("index").join(KIND));
        let paths = folder.into_iter().flatten().flatten().map(|entry| entry.path());
        let is_index = |path: &PathBuf| path.extension().is_some_and(|end| end == INDEX);
        let mut indexes: Vec<PathBuf> = paths.filter(is_index).collect();
        indexes.sort();
        indexes
    }

    /// Keeps the clusters of the artifact at `path`, of which `index` tells, in place of those that
    /// were kept as `name`, a path component. `false` where the artifact cannot have a second name:
    /// it is on another file system.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn keep_clusters(&self, name: &str, index: &[u8], path: &Path) -> Result<bool> {
        let folder = self.index_dir(KIND)?;
        let scratch = self.scratch_dir("clusters")?;
        let link = || -> io::Result<()> {
            let second = scratch.path().join(FILE);
            std::fs::hard_link(path, &second)?;
            std::fs::rename(second, folder.join(format!("{name}.{FILE}")))
        };
        if link().is_err() {
            return Ok(false);
        }
        self.write_index(KIND, &format!("{name}.{INDEX}"), index)?;
        Ok(true)
    }
}

/// Space that an index and its file take; a file that has a name elsewhere is counted there.
pub(super) fn own_space(index: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let file = index.with_extension(FILE);
    let alone = file.symlink_metadata().is_ok_and(|metadata| metadata.nlink() == 1);
    space(index) + if alone { space(&file) } else { 0 }
}

/// Removes an index and its file.
pub(super) fn remove(index: &Path) -> io::Result<()> {
    for path in [index.to_owned(), index.with_extension(FILE)] {
        unless_gone(std::fs::remove_file(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Keep;
    use nodekiln_words::Bytes;

    #[test]
    fn clusters_are_kept_replaced_and_pruned() {
        let folder = tempfile::tempdir().unwrap();
        let artifact = folder.path().join("artifact");
        let store = Store::open(&folder.path().join("store")).unwrap();
        assert!(store.kept_clusters().is_empty());
        for text in ["one", "two"] {
            let _ = std::fs::remove_file(&artifact);
            std::fs::write(&artifact, text).unwrap();
            assert!(store.keep_clusters("image", text.as_bytes(), &artifact).unwrap());
        }
        assert!(store.keep_clusters("other", b"three", &artifact).unwrap());
        let kept = store.kept_clusters();
        let indexes: Vec<&[u8]> = kept.iter().map(|(index, _)| &index[..]).collect();
        assert_eq!(indexes, [&b"two"[..], b"three"]);
        assert!(kept.iter().all(|(_, file)| std::fs::read(file).unwrap() == b"two"));
        drop(store);
        for (_, file) in &kept {
            let index = std::fs::File::open(file.with_extension(INDEX)).unwrap();
            index.set_modified(std::time::UNIX_EPOCH).unwrap(); // before this session
        }
        let store = Store::open(&folder.path().join("store")).unwrap();
        assert_eq!(store.prune(Keep::Size(Bytes(0)), 0).unwrap().clusters, 2);
        assert!(store.kept_clusters().is_empty());
        assert_eq!(std::fs::read(&artifact).unwrap(), b"two");
        assert!(!kept[0].1.exists());
    }

    #[test]
    fn an_artifact_on_another_file_system_is_not_kept() {
        let store = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
        let artifact = elsewhere.path().join("artifact");
        std::fs::write(&artifact, "x").unwrap();
        let store = Store::open(store.path()).unwrap();
        assert!(!store.keep_clusters("image", b"index", &artifact).unwrap());
        assert!(store.kept_clusters().is_empty());
    }
}

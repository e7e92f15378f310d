//! Compressed clusters of artifacts: a file and its index for each image, which can be lost.
//!
//! The file is another name of the artifact in the output folder, so that nothing is written twice.
//! Whoever writes to the artifact writes to this one too; readers compare what they take.
//!
//! Each build of an image writes its index anew, with what it took from other images' files. So the index
//! is as old as the image's last build, and looking into it keeps nothing alive. It is written before its
//! file is put into place and removed after it: an index without its file, or with an older one, tells
//! nothing that is believed, while a file without index would never be found again.

use std::io;
use std::path::{Path, PathBuf};

use nodekiln_words::Result;

use super::stats::space;
use super::{Store, unless_gone};

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
        let read = |path: &PathBuf| Some((fs_err::read(path).ok()?, path.with_extension(FILE)));
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
    /// When the index cannot be written, or the file not be put into place.
    pub fn keep_clusters(&self, name: &str, index: &[u8], path: &Path) -> Result<bool> {
        let folder = self.index_dir(KIND)?;
        let scratch = self.scratch_dir("clusters")?;
        let second = scratch.path().join(FILE);
        if std::fs::hard_link(path, &second).is_err() {
            return Ok(false);
        }
        let failed = |error| self.failed("keep the compressed clusters", error);
        let _gate = self.use_gate().map_err(failed)?; // nobody prunes between the two
        self.write_index(KIND, &format!("{name}.{INDEX}"), index)?;
        fs_err::rename(second, folder.join(format!("{name}.{FILE}"))).map_err(failed)?;
        Ok(true)
    }
}

/// Space that an index and its file take.
pub(super) fn own_space(index: &Path) -> u64 {
    space(index) + space_in_index(&index.with_extension(FILE))
}

/// Space that a file of the store's index takes; one that has a name elsewhere is counted there.
pub(super) fn space_in_index(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let kept = path.parent().is_some_and(|folder| folder.ends_with(KIND))
        && path.extension().is_some_and(|end| end == FILE);
    let shared = || path.symlink_metadata().is_ok_and(|metadata| metadata.nlink() > 1);
    if kept && shared() { 0 } else { space(path) }
}

/// Removes an index and its file.
pub(super) fn remove(index: &Path) -> io::Result<()> {
    for path in [index.with_extension(FILE), index.to_owned()] {
        unless_gone(std::fs::remove_file(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Keep;
    use nodekiln_words::Bytes;
    use std::time::{Duration, SystemTime};

    /// A store whose clusters of each name were kept so many seconds ago, and their artifact beside it.
    fn kept(ages: &[(&str, u64)]) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let artifact = folder.path().join("artifact");
        std::fs::write(&artifact, "x".repeat(1 << 20)).unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        for (name, age) in ages {
            assert!(store.keep_clusters(name, name.as_bytes(), &artifact).unwrap());
            let index = std::fs::File::open(place(&store, name, INDEX)).unwrap();
            index.set_modified(SystemTime::now() - Duration::from_secs(*age)).unwrap();
        }
        (folder, store)
    }

    fn place(store: &Store, name: &str, ending: &str) -> PathBuf {
        store.root().join("index").join(KIND).join(format!("{name}.{ending}"))
    }

    #[test]
    fn clusters_of_an_image_that_nobody_builds_grow_old_although_others_look_into_them() {
        let (_folder, store) = kept(&[("abandoned", 1000), ("built", 10)]);
        assert_eq!(store.kept_clusters().len(), 2);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let pruned = store.prune(Keep::Age(100), now).unwrap();
        assert_eq!((pruned.clusters, pruned.in_use), (1, 0));
        assert_eq!(store.kept_clusters()[0].0, b"built");
        assert!(!place(&store, "abandoned", FILE).exists());
    }

    #[test]
    fn no_file_is_left_without_its_index() {
        let (folder, store) = kept(&[("image", 10)]);
        let blocked = |name, ending| {
            let path = place(&store, name, ending);
            std::fs::remove_file(&path).ok();
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("in the way"), "").unwrap();
        };
        // The file cannot be removed.
        blocked("image", FILE);
        remove(&place(&store, "image", INDEX)).unwrap_err();
        assert!(place(&store, "image", INDEX).exists());
        // The index cannot be written.
        blocked("other", INDEX);
        store.keep_clusters("other", b"index", &folder.path().join("artifact")).unwrap_err();
        assert!(!place(&store, "other", FILE).exists());
    }

    #[test]
    fn a_file_that_has_a_name_elsewhere_is_counted_there() {
        let (folder, store) = kept(&[("image", 10)]);
        let size = || store.stats().unwrap().index.size.get();
        assert!(size() < 1 << 20, "{}", size());
        std::fs::remove_file(folder.path().join("artifact")).unwrap();
        assert!(size() >= 1 << 20, "{}", size());
    }

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

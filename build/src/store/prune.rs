//! Pruning: the least recently used blobs and nodes go first, and never what is in use.
//!
//! Every use sets the time stamp of the blob or of the node's folder. Every process that has the
//! store open holds a session file whose time stamp is older than all its uses. So whatever was
//! used since the oldest session of a living process began may be in use, and stays.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nodekiln_words::{Bytes, Result, ResultExt};
use serde::Serialize;

use super::stats::{entries_of, space};
use super::{FileLock, Store, clusters, remove_tree, unless_gone};

/// How much to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// At most so much disk space for blobs, nodes, kept folders of failed nodes and compressed
    /// clusters together.
    Size(Bytes),
    /// What was used in the last so many seconds.
    Age(u64),
}

/// What pruning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Blobs removed.
    pub blobs: u64,
    /// Nodes removed.
    pub nodes: u64,
    /// Kept folders of failed nodes removed.
    pub failed: u64,
    /// Files with compressed clusters removed.
    pub clusters: u64,
    /// Disk space freed.
    pub freed: Bytes,
    /// Objects that should have gone and may be in use by a running process.
    pub in_use: u64,
}

struct Object {
    used: Stamp,
    path: PathBuf,
    space: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Blob,
    Node,
    Failed,
    Clusters,
}

/// Seconds and nanoseconds since 1970.
type Stamp = (i64, i64);

impl Store {
    /// Removes blobs, nodes, kept folders of failed nodes and compressed clusters until what remains
    /// fits `keep`; `now` is in seconds since 1970.
    /// Parts of files that nobody fetches any more go by the same rule of age, and damaged objects
    /// always.
    ///
    /// # Errors
    /// When the store cannot be read or something cannot be removed.
    pub fn prune(&self, keep: Keep, now: u64) -> Result<Pruned> {
        let gone = || "cannot prune the content store".to_owned();
        let mut objects = self.objects()?;
        objects.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        let mut held: u64 = objects.iter().map(|object| object.space).sum();
        let mut pruned = Pruned::default();
        for object in &objects {
            let surplus = match keep {
                Keep::Size(size) => held > size.get(),
                Keep::Age(seconds) => too_old(object.used, seconds, now),
            };
            if !surplus {
                break;
            }
            if self.remove_unused(object).or_io(gone)? {
                held = held.saturating_sub(object.space);
                pruned.freed.0 += object.space;
                *pruned.number_of(object.kind) += 1;
            } else {
                pruned.in_use += 1;
            }
        }
        pruned.freed.0 += self.remove_old_parts(keep, now).or_io(gone)?;
        pruned.freed.0 += self.remove_damaged().or_io(gone)?;
        Ok(pruned)
    }

    fn objects(&self) -> Result<Vec<Object>> {
        use rayon::prelude::*;
        let blobs = self.blob_digests()?.into_iter();
        let blobs = blobs.map(|digest| (self.place_of(&digest), Kind::Blob));
        let nodes = self.node_ids()?.into_iter().map(|id| (self.node_folder(id), Kind::Node));
        let failed = entries_of(&[self.failed_root()])?.into_iter();
        let failed = failed.map(|path| (path, Kind::Failed));
        let clusters = self.cluster_indexes().into_iter().map(|path| (path, Kind::Clusters));
        let paths: Vec<_> = blobs.chain(nodes).chain(failed).chain(clusters).collect();
        let object = |(path, kind): &(PathBuf, Kind)| {
            let used = stamp(path).ok()?;
            let space = match kind {
                Kind::Clusters => clusters::own_space(path),
                _ => space(path),
            };
            Some(Object { used, path: path.clone(), space, kind: *kind })
        };
        Ok(paths.par_iter().filter_map(object).collect())
    }

    /// Removes one object unless it was used since the oldest living session began.
    fn remove_unused(&self, object: &Object) -> io::Result<bool> {
        let gate = FileLock::gate(&self.prune_gate(), true)?;
        let Some(used) = unless_gone(stamp(&object.path))? else { return Ok(true) };
        if used >= self.oldest_session()? {
            return Ok(false);
        }
        match object.kind {
            Kind::Blob => return fs_err::remove_file(&object.path).map(|()| true),
            Kind::Clusters => return clusters::remove(&object.path).map(|()| true),
            Kind::Node | Kind::Failed => {}
        }
        let scratch = self.scratch_dir("pruned").map_err(io::Error::other)?;
        fs_err::rename(&object.path, scratch.path().join("folder"))?;
        drop(gate);
        remove_tree(&scratch.path().join("folder"))?;
        Ok(true)
    }

    fn oldest_session(&self) -> io::Result<Stamp> {
        let mut oldest = stamp(self.0.session.path())?;
        for entry in fs_err::read_dir(self.root().join("locks"))? {
            let path = entry?.path();
            let is_session = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"session-"));
            if is_session && FileLock::try_exclusive(&path)?.is_none() {
                // One that ended meanwhile holds nothing any more.
                oldest = oldest.min(unless_gone(stamp(&path))?.unwrap_or(oldest));
            }
        }
        Ok(oldest)
    }

    fn remove_old_parts(&self, keep: Keep, now: u64) -> io::Result<u64> {
        let mut freed = 0;
        for entry in fs_err::read_dir(self.scratch_root().join("partial"))? {
            let path = entry?.path();
            let Some(used) = unless_gone(stamp(&path))? else { continue };
            let old = match keep {
                Keep::Size(_) => true,
                Keep::Age(seconds) => too_old(used, seconds, now),
            };
            if old && let Some(mut part) = FileLock::try_exclusive(&path)? {
                freed += space(&path);
                part.remove_when_done();
            }
        }
        Ok(freed)
    }

    fn remove_damaged(&self) -> io::Result<u64> {
        let mut freed = 0;
        for entry in fs_err::read_dir(self.root().join("damaged"))? {
            let path = entry?.path();
            freed += space(&path);
            remove_tree(&path)?;
        }
        Ok(freed)
    }
}

impl Pruned {
    fn number_of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Blob => &mut self.blobs,
            Kind::Node => &mut self.nodes,
            Kind::Failed => &mut self.failed,
            Kind::Clusters => &mut self.clusters,
        }
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = fs_err::symlink_metadata(path)?;
    Ok((metadata.mtime(), metadata.mtime_nsec()))
}

fn too_old(used: Stamp, seconds: u64, now: u64) -> bool {
    let age = i128::from(now) - i128::from(used.0);
    age > i128::from(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn put(store: &Store, text: &str, age: u64) -> PathBuf {
        let digest = store.put_bytes(text.repeat(1000).as_bytes()).unwrap();
        let path = store.blob_path(&digest).unwrap();
        let then = SystemTime::now() - Duration::from_secs(age);
        std::fs::File::open(&path).unwrap().set_modified(then).unwrap();
        path
    }

    fn now() -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    #[test]
    fn age_removes_what_was_not_used_lately() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (old, new) = (put(&store, "old", 1000), put(&store, "new", 10));
        let pruned = store.prune(Keep::Age(100), now()).unwrap();
        assert_eq!((pruned.blobs, pruned.in_use), (1, 0));
        assert!(!old.exists() && new.exists());
        assert!(pruned.freed.get() > 0);
    }

    #[test]
    fn size_removes_the_least_recently_used_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (a, b, c) = (put(&store, "a", 30), put(&store, "b", 20), put(&store, "c", 10));
        let two = space(&b) + space(&c);
        store.prune(Keep::Size(Bytes(two)), now()).unwrap();
        assert!(!a.exists() && b.exists() && c.exists());
        store.prune(Keep::Size(Bytes(0)), now()).unwrap();
        assert!(!b.exists() && !c.exists());
    }

    #[test]
    fn what_a_living_session_used_stays() {
        let folder = tempfile::tempdir().unwrap();
        let user = Store::open(folder.path()).unwrap();
        let path = put(&user, "in use", 1000);
        let digest = nodekiln_words::Sha256::of("in use".repeat(1000));
        user.blob_path(&digest).unwrap();
        let pruner = Store::open(folder.path()).unwrap();
        let pruned = pruner.prune(Keep::Size(Bytes(0)), now()).unwrap();
        assert_eq!((pruned.blobs, pruned.in_use), (0, 1));
        assert!(path.exists());
        drop((user, pruner));
        let pruner = Store::open(folder.path()).unwrap();
        assert_eq!(pruner.prune(Keep::Size(Bytes(0)), now()).unwrap().blobs, 1);
        assert!(!path.exists());
    }
}

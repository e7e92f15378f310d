//! Reading the whole store and comparing it with its digests.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use nodekiln_recipes::plan::NodeId;
use nodekiln_words::{Cancel, Progress, Result, Sha256};
use rayon::prelude::*;
use serde::Serialize;

use super::blob::digest_of;
use super::{Scan, Store, locked};

/// What [`Store::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Blobs read.
    pub blobs: u64,
    /// Nodes read.
    pub nodes: u64,
    /// What was damaged and has been moved aside.
    pub damaged: Vec<Damage>,
}

/// One damaged blob or node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Damage {
    /// `blob DIGEST` or `node ID`.
    pub what: String,
    /// What is wrong: expected and found.
    pub how: String,
}

impl Store {
    /// Re-reads every blob and node, in parallel, and moves aside what is damaged.
    ///
    /// # Errors
    /// When asked to stop, or when the store cannot be read.
    pub fn verify(
        &self,
        scan: Scan<'_>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Verified> {
        let blobs = self.blob_digests()?;
        let nodes = self.node_ids()?;
        let total = (blobs.len() + nodes.len()) as u64;
        let task = progress.start("verify the content store", Some(total), "objects");
        let done = AtomicU64::new(0);
        let advance = || progress.advance(task, done.fetch_add(1, Ordering::Relaxed) + 1);
        let damaged = Mutex::new(Vec::new());
        let outcome = blobs
            .par_iter()
            .try_for_each(|digest| {
                cancel.check()?;
                locked(&damaged).extend(self.check_blob(digest));
                advance();
                Ok(())
            })
            .and_then(|()| {
                nodes.iter().try_for_each(|id| {
                    cancel.check()?;
                    let damage = self.check_node(*id, scan, cancel)?;
                    locked(&damaged).extend(damage);
                    advance();
                    Ok(())
                })
            });
        if let Err(failure) = outcome {
            progress.fail(task);
            return Err(failure);
        }
        let mut damaged = std::mem::take(&mut *locked(&damaged));
        damaged.sort_unstable();
        progress.finish(task, &format!("{total} objects, {} damaged", damaged.len()));
        Ok(Verified { blobs: blobs.len() as u64, nodes: nodes.len() as u64, damaged })
    }

    fn check_blob(&self, digest: &Sha256) -> Option<Damage> {
        let what = format!("blob {digest}");
        match digest_of(&self.place_of(digest)) {
            Ok(found) if found == *digest => None,
            Ok(found) => {
                self.report_damaged_blob(digest, &found);
                Some(Damage { what, how: format!("expected sha256 {digest}, found {found}") })
            }
            // Pruned by another process meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                self.move_aside(&self.place_of(digest), &format!("{what} cannot be read"));
                Some(Damage { what, how: format!("cannot be read: {error}") })
            }
        }
    }

    fn check_node(&self, id: NodeId, scan: Scan<'_>, cancel: &Cancel) -> Result<Option<Damage>> {
        let what = format!("node {id}");
        let folder = self.node_folder(id);
        if !folder.exists() {
            return Ok(None); // pruned by another process meanwhile
        }
        // Looking at a node is no use of it: what nobody builds upon is pruned all the same.
        let Some(node) = self.read_node(id, folder.clone())? else {
            let how = "its record, inventory or output cannot be read".to_owned();
            return Ok(Some(Damage { what, how }));
        };
        locked(&self.0.intact_nodes).remove(&id);
        match node.verify(scan, cancel) {
            Ok(()) => Ok(None),
            // What is damaged has been moved aside; else it could not be read, by this user for
            // instance, which says nothing about it.
            Err(failure) if !folder.exists() => Ok(Some(Damage { what, how: failure.to_string() })),
            Err(failure) => Err(failure),
        }
    }

    pub(super) fn blob_digests(&self) -> Result<Vec<Sha256>> {
        use nodekiln_words::ResultExt as _;
        let read = |path: &std::path::Path| fs_err::read_dir(path).or_io(|| "the store".into());
        let mut digests = Vec::new();
        for folder in read(&self.blobs())? {
            for blob in read(&folder.or_io(|| "the store".into())?.path())? {
                let name = blob.or_io(|| "the store".into())?.file_name();
                digests.extend(name.to_str().and_then(|name| name.parse::<Sha256>().ok()));
            }
        }
        digests.sort_unstable();
        Ok(digests)
    }
}

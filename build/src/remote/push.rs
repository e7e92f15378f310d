//! Pushing: what a build needed and the remote store lacks, inputs and packs before the records that
//! name them.

use std::collections::BTreeSet;
use std::fs::File;

use nodekiln_words::{Bytes, Class, Result, Sha256};

use super::pack::pack;
use super::parallel::{Meter, parallel};
use super::record::Offer;
use super::trouble::{Tried, Trouble};
use super::{Remote, blob_path, pack_path, record_path};
use crate::layer::scan_as;
use crate::store::{StoredNode, failed};

/// Small objects written at the same time.
const CONNECTIONS: usize = 8;
/// Nodes packed and written at the same time: while one is sent, another is packed.
const NODES_AT_ONCE: usize = 2;

/// A node to share, with the inputs that it was made from.
pub struct Shared {
    /// The node.
    pub node: StoredNode,
    /// Digests of what it took in from the store's blobs.
    pub inputs: BTreeSet<Sha256>,
}

impl Remote {
    /// Pushes what the remote store lacks of `nodes`. Nothing is pushed to one that is read-only.
    ///
    /// # Errors
    /// On cancellation. What cannot be read here, and a remote store that fails, is told of and is no
    /// failure: what the build is for has been written by now.
    pub fn push(&self, nodes: &[Shared]) -> Result<()> {
        if self.read_only || self.is_lost() {
            return Ok(());
        }
        let ids: Vec<_> = nodes.iter().map(|shared| shared.node.id).collect();
        self.offers(&ids)?; // 1. what it has
        let there = parallel(nodes, CONNECTIONS, |shared| self.has(&shared.node))?;
        let lacking: Vec<&Shared> =
            nodes.iter().zip(there).filter(|(_, there)| !there).map(|(shared, _)| shared).collect();
        if lacking.is_empty() || self.is_lost() {
            return Ok(());
        }
        let title = match &lacking[..] {
            [one] => format!("push {}", one.node.record.name),
            many => format!("push {} nodes", many.len()),
        };
        let meter = Meter::new(&*self.progress, &title, None);
        let outcome = self.push_lacking(&lacking, &meter);
        meter.end(&outcome, &Bytes(*outcome.as_ref().unwrap_or(&0)).to_string());
        outcome.map(drop)
    }

    fn push_lacking(&self, lacking: &[&Shared], meter: &Meter<'_>) -> Result<u64> {
        // 2. inputs: from them, whoever trusts nobody can make the nodes anew
        let inputs: BTreeSet<Sha256> =
            lacking.iter().flat_map(|shared| shared.inputs.iter().copied()).collect();
        let inputs: Vec<Sha256> = inputs.into_iter().collect();
        let sizes = parallel(&inputs, CONNECTIONS, |digest| {
            let path = blob_path(digest);
            let outcome = self.unless_lost(|| self.push_input(digest, &path, meter));
            Ok(self.sent(&path, outcome)?.flatten())
        })?;
        let sent: Vec<u64> = sizes.into_iter().flatten().collect();
        {
            let pushed = &mut self.state().traffic.pushed;
            pushed.inputs += sent.len() as u64;
            pushed.bytes += sent.iter().sum::<u64>();
        }
        // 3. packs, and the record of each when its pack is there
        let sizes = parallel(lacking, NODES_AT_ONCE, |shared| {
            let path = record_path(shared.node.id, &self.own_name());
            let outcome = self.unless_lost(|| self.push_node(&shared.node, &path, meter));
            let size = self.sent(&path, outcome)?.flatten();
            if let Some(size) = size {
                let pushed = &mut self.state().traffic.pushed;
                pushed.nodes.insert(shared.node.record.name.clone());
                pushed.bytes += size;
            }
            Ok(size.unwrap_or(0))
        })?;
        Ok(sent.iter().chain(&sizes).sum())
    }

    /// As [`Remote::settled`]; what could not be packed or read here is told and left out too, since
    /// what the build is for has been written by now.
    fn sent<T>(&self, object: &str, outcome: Tried<T>) -> Result<Option<T>> {
        match outcome {
            Err(Trouble::Here(failure)) if failure.class() != Class::Interrupted => {
                self.warn(format!("not pushed: {}", failure.chain().join(": ")));
                Ok(None)
            }
            outcome => self.settled(object, outcome),
        }
    }

    fn unless_lost<T>(&self, work: impl FnOnce() -> Tried<Option<T>>) -> Tried<Option<T>> {
        if self.is_lost() { Ok(None) } else { work() }
    }

    /// The name of the key that signs here.
    fn own_name(&self) -> Sha256 {
        let key = self.keys.signing.as_ref();
        key.map_or_else(|| Sha256::of(""), |key| super::keys::name_of(key.public_key()))
    }

    /// Whether a record that is believed here names a pack that is there, as far as its length tells.
    fn has(&self, node: &StoredNode) -> Result<bool> {
        let offer = self.state().offers.get(&node.id).cloned().flatten();
        let Some(offer) = offer else { return Ok(false) };
        let path = pack_path(&offer.pack.sha256);
        if self.is_lost() || self.state().bad.contains(&path) {
            return Ok(false);
        }
        let length = self.settled(&path, self.length_of(&path))?.flatten();
        Ok(length == Some(offer.pack.size))
    }

    /// Whether an object of this length must be written, and if so, over what is there.
    fn must_write(&self, path: &str, size: u64) -> Tried<Option<bool>> {
        if self.state().bad.contains(path) {
            return Ok(Some(true));
        }
        match self.length_of(path)? {
            None => Ok(Some(false)),
            Some(length) if length != size => Ok(Some(true)),
            Some(_) => Ok(None),
        }
    }

    /// Pushes an input; its length, where it had to be.
    fn push_input(&self, digest: &Sha256, path: &str, meter: &Meter<'_>) -> Tried<Option<u64>> {
        // One that is gone, or damaged, is not given to others.
        let Some(file) = self.store.intact_place(digest)? else { return Ok(None) };
        let cannot = |error| failed(self.store.root(), "read an input", error);
        let size = std::fs::metadata(&file).map_err(cannot)?.len();
        match self.must_write(path, size)? {
            Some(replace) => self.upload(path, &file, replace, meter).map(Some),
            None => Ok(None),
        }
    }

    /// Pushes a node's pack and record; the bytes that were sent.
    fn push_node(&self, node: &StoredNode, path: &str, meter: &Meter<'_>) -> Tried<Option<u64>> {
        let Some(key) = &self.keys.signing else { return Ok(None) };
        let scan = |folder: &std::path::Path, expected: &_, cancel: &_| {
            scan_as(folder, expected, true, cancel)
        };
        node.verify(&scan, &self.cancel)?; // once per process; what was just made is known to be intact
        let scratch = self.store.scratch_dir("push")?;
        let file = scratch.path().join("pack");
        let cannot = |error| failed(self.store.root(), "pack a node", error);
        let target = File::create_new(&file).map_err(cannot)?;
        let packed = pack(&node.output(), &node.inventory()?, &target, &self.cancel)?;
        drop(target);
        let object = pack_path(&packed.sha256);
        let mut sent = 0;
        if let Some(replace) = self.must_write(&object, packed.size)? {
            sent += self.upload(&object, &file, replace, meter)?;
        }
        let offer = Offer { id: node.id, record: node.record.clone(), pack: packed };
        let record = offer.sign(key)?;
        sent += record.len() as u64;
        self.put(path, record).map_err(|trouble| match trouble {
            Trouble::Object(why) => Trouble::Remote(why), // a place that vanishes while it is written
            other => other,
        })?;
        self.state().offers.insert(node.id, Some(offer));
        Ok(Some(sent))
    }
}

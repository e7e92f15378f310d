//! Pulling: nodes by signed records and packs, inputs by their digests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{self, Seek as _, Write as _};

use nodekiln_recipes::plan::NodeId;
use nodekiln_words::{Bytes, Digester, Event, Failure, Result, Sha256};

use super::keys::fingerprint;
use super::pack::unpack;
use super::parallel::{Meter, parallel};
use super::record::{Offer, RECORD_LIMIT};
use super::transfer::{Length, here};
use super::trouble::{Tried, Trouble, reason};
use super::{Remote, blob_path, pack_path, record_path};
use crate::layer::scan_as;
use crate::store::{Begun, failed, first_difference};

/// Small objects asked for at the same time: enough to hide round trips.
const CONNECTIONS: usize = 8;
/// Nodes pulled at the same time. Unpacking one uses all processors already.
const NODES_AT_ONCE: usize = 3;

impl Remote {
    /// Which of these nodes can be had, as far as signed records tell.
    ///
    /// # Errors
    /// On cancellation.
    pub(crate) fn offers(&self, ids: &[NodeId]) -> Result<BTreeSet<NodeId>> {
        let unknown: Vec<NodeId> = {
            let state = self.state();
            ids.iter().filter(|id| !state.offers.contains_key(id)).copied().collect()
        };
        let found = parallel(&unknown, CONNECTIONS, |id| Ok((*id, self.offer(*id)?)))?;
        self.state().offers.extend(found);
        self.tell_foreign();
        let state = self.state();
        let offered = |id: &&NodeId| matches!(state.offers.get(id), Some(Some(_)));
        Ok(ids.iter().filter(offered).copied().collect())
    }

    /// What a trusted key says of a node.
    fn offer(&self, id: NodeId) -> Result<Option<Offer>> {
        for (name, key) in &self.keys.trusted {
            if self.is_lost() {
                return Ok(None);
            }
            let path = record_path(id, name);
            let read = || -> Tried<Option<Offer>> {
                let Some(bytes) = self.get(&path, RECORD_LIMIT)? else { return Ok(None) };
                Offer::verify(&bytes, id, key).map(Some).map_err(Trouble::Object)
            };
            if let Some(offer) = self.settled(&path, read())?.flatten() {
                return Ok(Some(offer));
            }
        }
        self.look_for_foreign(id)?;
        Ok(None)
    }

    /// Notes who else has signed a record of this node. Not being able to list is no matter.
    fn look_for_foreign(&self, id: NodeId) -> Result<()> {
        if self.is_lost() {
            return Ok(());
        }
        let prefix = format!("nodes/{id}").into();
        if let Ok(list) = self.wait(self.objects.list_with_delimiter(Some(&prefix)))? {
            let names = list.objects.iter().filter_map(|meta| meta.location.filename());
            let names = names.filter_map(|name| name.parse::<Sha256>().ok());
            self.state().foreign.extend(names.filter(|name| !self.keys.trusted.contains_key(name)));
        }
        Ok(())
    }

    fn tell_foreign(&self) {
        let mut state = self.state();
        if state.foreign.is_empty() || std::mem::replace(&mut state.told_foreign, true) {
            return;
        }
        let names: Vec<String> = state.foreign.iter().map(fingerprint).collect();
        drop(state);
        self.progress.event(Event::Note(format!(
            "the remote store has some of it signed by keys that are not trusted here: {}; \
             --cache-remote-trust names those to trust",
            names.join(", ")
        )));
    }

    /// Pulls nodes that [`Remote::offers`] named. One that is not what it should be is told and is
    /// not offered again.
    ///
    /// # Errors
    /// Trouble on this machine: a full disk, cancellation.
    pub(crate) fn pull(&self, ids: &[NodeId]) -> Result<()> {
        let offers: Vec<Offer> = {
            let state = self.state();
            ids.iter().filter_map(|id| state.offers.get(id)?.clone()).collect()
        };
        let total = offers.iter().map(|offer| offer.pack.size).sum();
        let title = match &offers[..] {
            [one] => format!("pull {}", one.record.name),
            many => format!("pull {} nodes", many.len()),
        };
        let meter = Meter::new(&*self.progress, &title, Some(total));
        let pulled = parallel(&offers, NODES_AT_ONCE, |offer| self.pull_node(offer, &meter));
        let sum: u64 = pulled.iter().flatten().sum();
        meter.end(&pulled, &Bytes(sum).to_string());
        pulled.map(drop)
    }

    /// Pulls a node; returns the bytes that came.
    fn pull_node(&self, offer: &Offer, meter: &Meter<'_>) -> Result<u64> {
        let path = pack_path(&offer.pack.sha256);
        let outcome = if self.is_lost() { Ok(false) } else { self.try_node(offer, &path, meter) };
        match self.settled(&path, outcome)? {
            Some(true) => {
                let pulled = &mut self.state().traffic.pulled;
                pulled.nodes.insert(offer.record.name.clone());
                pulled.bytes += offer.pack.size;
                Ok(offer.pack.size)
            }
            _ => {
                self.state().offers.insert(offer.id, None);
                Ok(0)
            }
        }
    }

    fn try_node(&self, offer: &Offer, path: &str, meter: &Meter<'_>) -> Tried<bool> {
        let node = match self.store.begin_node(offer.id, &self.cancel)? {
            Begun::AlreadyThere(_) => return Ok(false), // another process was faster
            Begun::Mine(node) => node,
        };
        let cannot = |error| failed(self.store.root(), "pull a node", error);
        // 1. the bytes, whole and as they were signed, before anything in them is looked at
        let file = node.dir().join("pack");
        let mut pack = OpenOptions::new().read(true).write(true).create_new(true).open(&file);
        let pack = pack.as_mut().map_err(|error| Trouble::Here(cannot(copy_of(error))))?;
        let mut digester = Digester::default();
        let there = self.download(path, Length::Is(offer.pack.size), Some(meter), |bytes| {
            digester.update(bytes);
            pack.write_all(bytes).map_err(here(cannot))
        })?;
        if !there {
            return Err(Trouble::Object("it is missing".to_owned()));
        }
        let found = digester.finish();
        if found != offer.pack.sha256 {
            return Err(Trouble::Object(format!("its digest is {found}")));
        }
        pack.rewind().map_err(here(cannot))?;
        // 2. the tree
        let output = node.dir().join("output");
        std::fs::create_dir(&output).map_err(here(cannot))?;
        let expected = &offer.record.output;
        let inventory = unpack(pack, &offer.pack, expected, &output, &self.cancel);
        let inventory = inventory.map_err(|error| match error.kind() {
            _ if self.cancel.is_cancelled() => Trouble::Here(Failure::interrupted()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Trouble::Here(cannot(error))
            }
            _ => Trouble::Object(format!("it cannot be unpacked: {}", reason(&error))),
        })?;
        std::fs::remove_file(&file).map_err(here(cannot))?;
        // 3. the tree as the store sees it
        let seen = scan_as(&output, &inventory, true, &self.cancel)?;
        if let Some(difference) = first_difference(&inventory, &seen) {
            return Err(Trouble::Object(format!("its tree is another: {difference}")));
        }
        node.commit(offer.record.clone(), &inventory)?;
        Ok(true)
    }

    /// Pulls the inputs that the store lacks, as far as they can be had; lengths where they are known.
    ///
    /// # Errors
    /// Trouble on this machine: a full disk, cancellation.
    pub fn pull_inputs(&self, wanted: &BTreeMap<Sha256, Option<u64>>) -> Result<()> {
        let mut lacking = Vec::new();
        for (digest, size) in wanted {
            if self.store.intact_place(digest)?.is_none() {
                lacking.push((*digest, *size));
            }
        }
        if lacking.is_empty() || self.is_lost() {
            return Ok(());
        }
        let title = format!("pull {} inputs", lacking.len());
        let total = lacking.iter().map(|(_, size)| *size).sum();
        let meter = Meter::new(&*self.progress, &title, total);
        let pulled = parallel(&lacking, CONNECTIONS, |(digest, size)| {
            let path = blob_path(digest);
            let outcome = match self.is_lost() {
                true => Ok(None),
                false => self.try_input(digest, *size, &path, &meter),
            };
            Ok(self.settled(&path, outcome)?.flatten())
        });
        let came: Vec<u64> = pulled.iter().flatten().flatten().copied().collect();
        let sum = came.iter().sum();
        meter.end(&pulled, &format!("{} of them, {}", came.len(), Bytes(sum)));
        let moved = &mut self.state().traffic.pulled;
        moved.inputs += came.len() as u64;
        moved.bytes += sum;
        pulled.map(drop)
    }

    /// Pulls an input; its length, where it was there.
    fn try_input(
        &self,
        digest: &Sha256,
        size: Option<u64>,
        path: &str,
        meter: &Meter<'_>,
    ) -> Tried<Option<u64>> {
        let mut writer = self.store.blob_writer()?;
        let length = size.map_or(Length::AtMost(u64::MAX), Length::Is);
        let cannot = |error| failed(self.store.root(), "pull an input", error);
        let there = self.download(path, length, Some(meter), |bytes| {
            writer.write_all(bytes).map_err(here(cannot))
        })?;
        if !there {
            return Ok(None);
        }
        let (found, length) = (writer.digest(), writer.length());
        if found != *digest {
            return Err(Trouble::Object(format!("its digest is {found}")));
        }
        writer.commit(Some(*digest))?;
        Ok(Some(length))
    }
}

/// An error that another one stands for.
fn copy_of(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
